"""Deepz: random coadds, folds, networks, their folders, rows, and what is refused."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import norm

from helpers.flux_runs import exposure, write_run
from helpers.redshift_models import small_galaxies, small_grid
from lumos.errors import LumosConfigError, LumosDataError
from lumos.flags import PhotozFlag
from lumos.nets.checkpoint import load_model
from lumos.photoz.deepz import train as train_module
from lumos.photoz.deepz.inputs import Exposures, flux_ratios, random_coadds, read_exposures
from lumos.photoz.deepz.model import load_deepz, save_deepz
from lumos.photoz.deepz.network import DeepzNetwork
from lumos.photoz.deepz.pretrain import draw_mixtures, pretrain
from lumos.photoz.deepz.rows import DeepzRows, predict_density
from lumos.photoz.deepz.run import deepz_run
from lumos.photoz.deepz.settings import DeepzSettings, DeepzSizes, PretrainSettings
from lumos.photoz.deepz.train import fold_of, make_sample, train_network
from lumos.photoz.estimates import cell_edges
from lumos.photoz.fluxes import Photometry
from lumos.photoz.run import Tables, match_redshifts, read_redshifts
from lumos.photoz.settings import PhotozSettings

GRID = small_grid()
SIZES = DeepzSizes(hidden=32, features=4, coder_depth=1, first=48, depth=1, plain_depth=1, components=3)
PRETRAIN = PretrainSettings(reference="B2", galaxies=3000, epochs=6, network=SIZES)
DEEPZ = DeepzSettings(pretrain=PRETRAIN, folds=3, splits=1, batch_size=50, epochs=(40, 20), rates=(2e-3, 2e-4))
SETTINGS = PhotozSettings(method="deepz", deepz=DEEPZ, shard=50)
N = 120


@pytest.fixture(scope="module")
def start():
    return pretrain(GRID, ["line"], DEEPZ, "small")


@pytest.fixture(scope="module")
def galaxies():
    """Galaxies with their redshifts, and three exposures of each narrow band."""
    photometry, place = small_galaxies(GRID, N, 30, seed=2)
    rng = np.random.default_rng(8)
    shape = (N, len(GRID.bands), 3)
    error = np.where(GRID.narrow, photometry.flux_err * np.sqrt(3), np.nan)[..., None] * rng.uniform(0.7, 1.5, shape)
    flux = photometry.flux[..., None] + error * rng.normal(size=shape)
    exposures = Exposures(flux, error, GRID.bands)
    means = exposures.means()
    errors = np.where(GRID.narrow, exposures.weights().sum(axis=2).clip(1e-30) ** -0.5, photometry.flux_err)
    flux = np.where(GRID.narrow, means, photometry.flux)
    return Photometry(photometry.object_id, flux, errors, bands=GRID.bands), GRID.redshifts[place], exposures


@pytest.fixture
def files(tmp_path, galaxies, start):
    photometry, known, exposures = galaxies
    columns = {"object_id": photometry.object_id}
    for number, band in enumerate(GRID.bands):
        columns |= {f"flux_{band}": photometry.flux[:, number], f"flux_{band}_err": photometry.flux_err[:, number]}
    pq.write_table(pa.table(columns), tmp_path / "fluxes.parquet")
    spectra = pa.table({"object_id": photometry.object_id[:90], "redshift": known[:90]})
    pq.write_table(spectra, tmp_path / "spectra.parquet")
    row, band, _ = np.nonzero(np.isfinite(exposures.flux))
    good = np.isfinite(exposures.flux)
    single = {"object_id": photometry.object_id[row], "band": np.array(GRID.bands)[band]}
    single |= {"flux": exposures.flux[good], "flux_err": exposures.flux_err[good]}
    pq.write_table(pa.table(single), tmp_path / "exposures.parquet")
    save_deepz(start, tmp_path / "network")
    return tmp_path


def scatter(zb, known):
    return np.median(np.abs(zb - known) / (1 + known))


def test_sizes_are_those_of_the_paper():
    """46 bands: layer by layer as published, three heads of ten counted as one."""

    def linear(n_in, n_out):
        return n_in * n_out + n_out

    def block(n_in, n_out):
        return 2 * n_in + linear(n_in, n_out)

    coder = linear(46, 250) + 5 * block(250, 250) + linear(250, 10)
    decoder = linear(10, 250) + 5 * block(250, 250) + linear(250, 46)
    density = block(56, 400) + block(400, 250) + 13 * block(250, 250) + 2 * 250 + 3 * linear(250, 10)
    network = DeepzNetwork(46, DeepzSizes())
    assert sum(one.numel() for one in network.parameters()) == coder + decoder + density
    assert [m.p for m in network.density if isinstance(m, torch.nn.Dropout)] == [0.02] * 12
    assert [m.p for m in network.encoder if isinstance(m, torch.nn.Dropout)] == [0.01] * 5


def test_random_coadds_are_inverse_variance_means():
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=(400, 3, 4)), rng.uniform(0.5, 2, (400, 3, 4))
    weights[:, :, 3] *= rng.random((400, 3)) < 0.5
    weights[:, 2] = 0  # no exposures: the coadd stays
    coadds = np.full((400, 3), 7.0)
    tensors = [(torch.from_numpy(coadds), torch.from_numpy(coadds / 10)), *map(torch.from_numpy, (values, weights))]
    found, errors = (one.numpy() for one in random_coadds(*tensors, 0.8, torch.Generator().manual_seed(1)))
    assert (found[:, 2] == 7).all()
    assert (errors[:, 2] == 0.7).all()
    subsets = np.array([[bool(number >> bit & 1) for bit in range(4)] for number in range(1, 16)])
    counts = []
    for row in range(400):
        w = np.where(subsets, weights[row, 0], 0)
        with np.errstate(invalid="ignore"):
            means = (w * values[row, 0]).sum(axis=1) / w.sum(axis=1)
        match = np.isclose(means, found[row, 0], atol=1e-9)
        assert match.any()
        assert errors[row, 0] == pytest.approx(w[match].sum(axis=1)[0] ** -0.5)
        counts.append((w[match] > 0).sum(axis=1)[0] / (weights[row, 0] > 0).sum())
    # One is kept always, which makes 0.8 a little more.
    assert np.mean(counts) == pytest.approx(0.8, abs=0.03)
    all_kept = random_coadds(*tensors, 1.0, torch.Generator())[0].numpy()[:, 0]
    np.testing.assert_allclose(all_kept, (weights * values).sum(axis=2)[:, 0] / weights.sum(axis=2)[:, 0])
    rare = random_coadds(*tensors, 1e-9, torch.Generator())[0].numpy()[:, 0]
    nearest = np.abs(rare[:, None] - values[:, 0]).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-12)


def test_mixtures_are_of_the_models():
    """Without lines, each is a sum of the templates of a run at its redshift, with shares that add up to 1."""
    fluxes, redshifts = draw_mixtures(GRID, ["line"], 200, np.random.default_rng(0))
    assert (redshifts >= GRID.redshifts[0]).all()
    assert (redshifts <= GRID.redshifts[-1]).all()
    from scipy.optimize import nnls  # noqa: PLC0415

    for flux, z in zip(fluxes[:40], redshifts[:40], strict=True):
        rest = []
        for models in GRID.fluxes:
            components = models.transpose(1, 2, 0)
            at = np.stack([[np.interp(z, GRID.redshifts, band) for band in one] for one in components])
            amplitudes, residual = nnls(at.T, flux)
            rest.append((residual, amplitudes[:2].sum()))
        residual, total = min(rest)
        assert residual < 1e-10
        assert total == pytest.approx(1, abs=1e-6)


def test_pdfs_are_normalised_and_those_of_the_mixture(start, galaxies):
    ratios, errors, _ = flux_ratios(galaxies[0], "B2")
    density = predict_density(start, ratios, errors)
    width = np.diff(cell_edges(start.redshifts))
    np.testing.assert_allclose(density @ width, 1, rtol=1e-9)
    with torch.no_grad():
        mixture = start.network(*(torch.from_numpy(one[:5]).float() for one in (ratios, errors)))
    step = np.diff(start.redshifts).mean()
    for row in range(5):
        weights = mixture.log_weights[row].exp().double().numpy()
        stds = np.sqrt(mixture.stds[row].double().numpy() ** 2 + step**2 / 12)
        wanted = norm.pdf(start.redshifts[:, None], mixture.means[row].numpy(), stds) @ weights
        np.testing.assert_allclose(density[row], wanted / (wanted @ width), rtol=1e-5, atol=1e-6 * wanted.max())


def test_pretraining_learns_redshifts(start, galaxies):
    photometry, known, _ = galaxies
    zb = DeepzRows((start,), SETTINGS)(photometry)["zb"]
    untrained = pretrain(
        GRID, ["line"], DEEPZ.model_copy(update={"pretrain": PRETRAIN.model_copy(update={"epochs": 1})}), "x"
    )
    assert scatter(zb, known) < 0.06
    assert start.config.training["held_nll"] < untrained.config.training["held_nll"]


def test_a_network_learns_a_few_galaxies_by_heart(start, galaxies):
    photometry, known, _ = galaxies
    some = photometry.take(slice(0, 20))
    settings = DEEPZ.model_copy(update={"epochs": (300,), "rates": (3e-3,), "weight_decay": 0.0})
    wrong = np.random.default_rng(0).permutation(known[:20])  # redshifts that nothing but memory can give
    model = train_network(start, make_sample(some, wrong, None, start, SETTINGS), settings, 3)
    zb = DeepzRows((model,), SETTINGS)(some)["zb"]
    assert scatter(zb, wrong) < 0.01
    assert scatter(DeepzRows((start,), SETTINGS)(some)["zb"], wrong) > 0.05


def test_folds_are_of_identifiers_alone():
    objects = np.random.default_rng(4).permutation(np.arange(1000, 1103))
    folds = fold_of(objects, 5, (0, 1))
    assert np.bincount(folds).tolist() == [21, 21, 21, 20, 20]
    order = np.random.default_rng(5).permutation(103)
    assert (fold_of(objects[order], 5, (0, 1)) == folds[order]).all()
    assert (fold_of(objects, 5, (0, 2)) != folds).any()
    twice = fold_of(np.r_[objects, objects], 5, (0, 1))
    assert (twice[:103] == twice[103:]).all()


def test_a_run_trains_and_predicts(files, galaxies):
    """Networks never see the galaxies that they predict; the order of rows changes nothing."""
    photometry, known, _ = galaxies
    told = []
    tables = Tables(files / "fluxes.parquet", files / "spectra.parquet", files / "exposures.parquet")
    _, report, text = deepz_run(
        tables, files / "network", files / "pz", SETTINGS, progress=lambda *one: told.append(one)
    )
    assert (report.n_rows, report.n_new, report.failed) == (N, 3, ())
    assert "1 x 3 networks trained on 90 galaxies (random coadds of exposures)" in text
    assert [one[2] for one in told[:3]] == [f"network split-00-fold-{number:02d}" for number in range(3)]
    models = load_deepz(files / "pz")
    seen = [set(model.trained_on.tolist()) for model in models]
    assert all(sum(one in some for some in seen) == 2 for one in photometry.object_id[:90].tolist())
    assert not any(one in some for some in seen for one in photometry.object_id[90:].tolist())
    assert all(model.config.stage == "trained" for model in models)
    table, pdf = read_redshifts(files / "pz")
    assert scatter(table["zb"].to_numpy(), known) < 0.05
    ratios, errors, _ = flux_ratios(photometry, "B2")
    row = 11
    (own,) = [model for model, some in zip(models, seen, strict=True) if photometry.object_id[row] not in some]
    np.testing.assert_allclose(
        pdf.density[row], predict_density(own, ratios[[row]], errors[[row]])[0], rtol=1e-4, atol=1e-4
    )
    mean = np.mean([predict_density(model, ratios[[100]], errors[[100]])[0] for model in models], axis=0)
    np.testing.assert_allclose(pdf.density[100], mean, rtol=1e-4, atol=1e-4)
    assert not (table["flags"].to_numpy() & PhotozFlag.SEEN_IN_TRAINING).any()
    # Again, with rows in another order.
    order = np.random.default_rng(6).permutation(N)
    pq.write_table(pq.read_table(files / "fluxes.parquet").take(order), files / "mixed.parquet")
    other = Tables(files / "mixed.parquet", files / "spectra.parquet", files / "exposures.parquet")
    deepz_run(other, files / "network", files / "again", SETTINGS)
    again = read_redshifts(files / "again")[0].sort_by("object_id")
    np.testing.assert_allclose(again["zb_mean"].to_numpy(), table.sort_by("object_id")["zb_mean"].to_numpy(), atol=1e-5)
    # A finished run is left alone; networks of other settings are not taken for these.
    assert deepz_run(tables, files / "network", files / "pz", SETTINGS)[1].n_new == 0
    longer = SETTINGS.model_copy(update={"deepz": DEEPZ.model_copy(update={"keep": 0.5})})
    with pytest.raises(LumosConfigError, match="keep"):
        deepz_run(tables, files / "network", files / "pz", longer)
    # Networks of an earlier run are used as they are, and say so of galaxies that all of them saw.
    _, _, text = deepz_run(Tables(files / "fluxes.parquet"), files / "pz", files / "later", SETTINGS)
    assert "3 networks of an earlier run, trained on 90 galaxies" in text
    np.testing.assert_allclose(read_redshifts(files / "later")[1].density, pdf.density, rtol=1e-5)
    rows = DeepzRows(models[:1], SETTINGS)(photometry)
    assert (
        (rows["flags"] & PhotozFlag.SEEN_IN_TRAINING > 0) == np.isin(photometry.object_id, models[0].trained_on)
    ).all()


def test_a_stopped_training_keeps_the_networks_that_are_finished(files, monkeypatch):
    tables, calls, real = Tables(files / "fluxes.parquet", files / "spectra.parquet"), [], train_module.train_network
    short = DEEPZ.model_copy(update={"epochs": (1,), "rates": (1e-3,)})
    settings = SETTINGS.model_copy(update={"deepz": short})

    def stop_at_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train_module, "train_network", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        deepz_run(tables, files / "network", files / "pz", settings)
    other = settings.model_copy(update={"deepz": short.model_copy(update={"keep": 0.5})})
    with pytest.raises(LumosConfigError, match="keep"):  # of other settings: not taken for these
        deepz_run(tables, files / "network", files / "pz", other)
    assert deepz_run(tables, files / "network", files / "pz", settings)[1].n_rows == N
    assert len(calls) == 4
    deepz_run(tables, files / "network", files / "whole", settings)
    stopped, whole = (read_redshifts(files / name)[1].density for name in ("pz", "whole"))
    np.testing.assert_array_equal(stopped, whole)


def test_without_redshifts_it_is_pretrained_only_and_says_so(files, start, galaxies):
    _, _, text = deepz_run(Tables(files / "fluxes.parquet"), files / "network", files / "pz", SETTINGS)
    assert text == "Deepz: pretrained on mixtures of templates only; no known redshift was learned from"
    assert not (files / "pz" / "networks").exists()
    # As another process would get it.
    rows = pickle.loads(pickle.dumps(DeepzRows((start,), SETTINGS)))
    wanted = rows(galaxies[0])["zb"]
    np.testing.assert_allclose(read_redshifts(files / "pz")[0]["zb"].to_numpy(), wanted, atol=1e-6)


def test_networks_survive_their_folder(files, start, galaxies):
    (again,) = load_deepz(files / "network")
    ratios, errors, _ = flux_ratios(galaxies[0], "B2")
    assert (predict_density(again, ratios, errors) == predict_density(start, ratios, errors)).all()
    assert again.config.model_copy(update={"sha256": ""}) == start.config
    assert not list((files / "network").glob("*.pkl"))
    weights = files / "network" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(LumosDataError, match="sha256"):
        load_deepz(files / "network")
    with pytest.raises(LumosConfigError, match="no network in it"):
        load_deepz(files / "nothing")
    with pytest.raises(LumosConfigError, match="predicts a redshift, for `lumos photoz"):
        load_model(str(files / "network"))


def test_bands_that_it_was_not_trained_on_are_refused(files):
    fluxes = pq.read_table(files / "fluxes.parquet")
    renamed = fluxes.rename_columns([name.replace("_N3", "_X3") for name in fluxes.column_names])
    pq.write_table(renamed, files / "other.parquet")
    with pytest.raises(LumosDataError, match=r"other.parquet: band 'X3' is none of the models, allowed: N0"):
        deepz_run(Tables(files / "other.parquet"), files / "network", files / "pz", SETTINGS)
    pq.write_table(fluxes.drop(["flux_N3", "flux_N3_err"]), files / "fewer.parquet")
    with pytest.raises(LumosDataError, match=r"fewer.parquet: no band 'N3', which the network 'small' was trained on"):
        deepz_run(Tables(files / "fewer.parquet"), files / "network", files / "pz", SETTINGS)
    assert not (files / "pz").exists()


def test_fluxes_in_another_unit(files, start, galaxies):
    """In all bands it does not matter; in some, or in the exposures alone, it is found."""
    photometry, _, _ = galaxies
    rows, scaled = (DeepzRows((start,), SETTINGS)(one) for one in (photometry, photometry.scaled(np.full(24, 1e-9))))
    np.testing.assert_allclose(scaled["zb"], rows["zb"], atol=1e-5)
    fluxes = pq.read_table(files / "fluxes.parquet").to_pydict()
    for factor in (1e3, 1e-3):
        wrong = fluxes | {name: (factor * np.array(fluxes[name])).tolist() for name in ("flux_N5", "flux_N5_err")}
        pq.write_table(pa.table(wrong), files / "wrong.parquet")
        with pytest.raises(LumosDataError, match=r"wrong.parquet: band 'N5': fluxes over those in 'B2' are"):
            deepz_run(Tables(files / "wrong.parquet"), files / "network", files / "pz", SETTINGS)
    single = pq.read_table(files / "exposures.parquet").to_pydict()
    single |= {name: (1e3 * np.array(single[name])).tolist() for name in ("flux", "flux_err")}
    pq.write_table(pa.table(single), files / "single.parquet")
    tables = Tables(files / "fluxes.parquet", files / "spectra.parquet", files / "single.parquet")
    with pytest.raises(LumosDataError, match=r"band 'N0': mean flux of the exposures is 1e\+03 times"):
        deepz_run(tables, files / "network", files / "pz", SETTINGS)


def test_folds_without_objects_are_refused(files):
    spectra = pq.read_table(files / "spectra.parquet")
    pq.write_table(spectra.slice(0, 5), files / "few.parquet")
    tables = Tables(files / "fluxes.parquet", files / "few.parquet")
    with pytest.raises(LumosDataError, match=r"5 galaxies with a redshift.*folds without objects; 3 folds need 6"):
        deepz_run(tables, files / "network", files / "pz", SETTINGS)
    assert not (files / "pz").exists()
    # Redshifts beyond those of the network do not count.
    far = pa.table({"object_id": spectra["object_id"], "redshift": np.full(90, 3.0)})
    pq.write_table(far, files / "far.parquet")
    with pytest.raises(LumosDataError, match=r"0 galaxies with a redshift of 0.1 to"):
        deepz_run(Tables(files / "fluxes.parquet", files / "far.parquet"), files / "network", files / "pz", SETTINGS)


def test_bad_galaxies_are_flagged(start, galaxies):
    photometry, _, _ = galaxies
    flux, error = photometry.flux[:5].copy(), photometry.flux_err[:5].copy()
    flux[1, 3] = np.nan
    error[2, 4] = 0
    flux[3, GRID.bands.index("B2")] = -1
    bad = Photometry(photometry.object_id[:5], flux, error, bands=GRID.bands)
    rows = DeepzRows((start,), SETTINGS)(bad)
    names = [{flag.name for flag in PhotozFlag if value & flag} for value in rows["flags"].tolist()]
    missing = {"MISSING_BANDS", "TOO_FEW_BANDS"}
    assert names == [set(), missing, missing, {"NO_LIGHT"}, set()]
    assert np.isnan(rows["zb"]).tolist() == [False, True, True, True, False]
    assert np.isnan(rows["pz"][1:4]).all()
    alone = DeepzRows((start,), SETTINGS)(photometry.take(slice(0, 1)))
    np.testing.assert_allclose(rows["pz"][0], alone["pz"][0], rtol=1e-4)
    one_fold = SETTINGS.model_copy(update={"deepz": DEEPZ.model_copy(update={"folds": 1})})
    assert make_sample(bad, np.full(5, 0.3), None, start, one_fold).n_left_out == 3


def test_the_compact_network_takes_errors_and_missing_bands(galaxies, tmp_path):
    photometry, known, exposures = galaxies
    sizes = DeepzSizes(kind="compact", hidden=96, depth=2, components=3)
    how = PRETRAIN.model_copy(update={"network": sizes, "galaxies": 8000, "epochs": 12, "rate": 3e-3})
    deepz = DEEPZ.model_copy(update={"pretrain": how})
    compact = pretrain(GRID, ["line"], deepz, "compact")
    rows = DeepzRows((compact,), SETTINGS)(photometry)
    assert scatter(rows["zb"], known) < 0.5 * scatter(np.median(known), known)
    flux = photometry.flux.copy()
    flux[:, :6] = np.nan
    flux[0, 2:22] = np.nan  # two bands are left
    flux[1, GRID.bands.index("B2")] = np.nan
    flux[2, GRID.bands.index("B2")] = -1.0
    fewer = DeepzRows((compact,), SETTINGS)(
        Photometry(photometry.object_id, flux, photometry.flux_err, bands=GRID.bands)
    )
    names = [{flag.name for flag in PhotozFlag if value & flag} for value in fewer["flags"][:4].tolist()]
    missing = {"MISSING_BANDS", "TOO_FEW_BANDS"}
    assert [one - {"AT_END"} for one in names] == [missing, missing, {"MISSING_BANDS", "NO_LIGHT"}, {"MISSING_BANDS"}]
    assert np.isfinite(fewer["zb"]).tolist() == [False] * 3 + [True] * (N - 3)
    assert scatter(fewer["zb"][3:], known[3:]) < 0.7 * scatter(np.median(known), known)
    # What is missing is not looked at, and larger errors make p(z) wider.
    noisy = Photometry(photometry.object_id, photometry.flux, 10 * photometry.flux_err, bands=GRID.bands)
    assert np.median(DeepzRows((compact,), SETTINGS)(noisy)["pz_width"]) > 1.3 * np.median(rows["pz_width"])
    sample = make_sample(photometry, known, exposures, compact, SETTINGS)
    trained = train_network(compact, sample, deepz, 1)
    save_deepz(trained, tmp_path / "compact")
    (again,) = load_deepz(tmp_path / "compact")
    ratios, errors, _ = flux_ratios(photometry, "B2")
    assert (predict_density(again, ratios, errors) == predict_density(trained, ratios, errors)).all()


def test_exposures_are_read_into_their_places(files, galaxies):
    photometry, _, exposures = galaxies
    found = read_exposures(files / "exposures.parquet", photometry, SETTINGS)
    np.testing.assert_array_equal(found.flux, exposures.flux)
    np.testing.assert_array_equal(found.flux_err, exposures.flux_err)
    other = Photometry(photometry.object_id + 10_000, photometry.flux, photometry.flux_err, bands=GRID.bands)
    with pytest.raises(LumosDataError, match="exposures of none of the 120 galaxies"):
        read_exposures(files / "exposures.parquet", other, SETTINGS)
    with pytest.raises(LumosDataError, match="no column 'band'"):
        read_exposures(files / "fluxes.parquet", photometry, SETTINGS)
    with pytest.raises(LumosDataError, match="no run in it"):
        read_exposures(files, photometry, SETTINGS)
    # A run of `lumos measure`, of bands with other names.
    shards = [
        exposure(
            f"e{number}",
            photometry.object_id,
            exposures.flux[:, 4, number],
            exposures.flux_err[:, 4, number],
            band="n4",
        )
        for number in range(3)
    ]
    write_run(files / "run", shards)
    renamed = SETTINGS.model_copy(update={"bands": {"n4": "N4"}})
    of_run = read_exposures(files / "run", photometry, renamed)
    np.testing.assert_allclose(of_run.flux[:, 4], exposures.flux[:, 4], rtol=1e-6)
    assert np.isnan(of_run.flux[:, :4]).all()
    with pytest.raises(LumosDataError, match="no column 'best_flux' in the run, needed: object_id, band"):
        read_exposures(files / "run", photometry, renamed.model_copy(update={"flux": "best_flux"}))
    assert len(match_redshifts(files / "spectra.parquet", photometry.object_id)) == N


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match="as many epochs as rates"):
        DeepzSettings(epochs=(1, 2))
    settings = DEEPZ.model_copy(update={"pretrain": PRETRAIN.model_copy(update={"reference": "i"})})
    with pytest.raises(LumosConfigError, match=r"photoz.deepz.pretrain.reference: got 'i', allowed: N0"):
        pretrain(GRID, ["line"], settings, "small")
