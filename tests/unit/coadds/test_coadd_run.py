"""Coadds of finished runs: closed forms, laws, the learned prior, shared errors, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from helpers.flux_runs import exposure, write_catalog, write_run
from lumos.catalogs.schema import list_column
from lumos.catalogs.tables import write_table
from lumos.coadds.calibrate import Calibration
from lumos.coadds.partition import partition_sky, sky_cell
from lumos.coadds.read import read_coadd
from lumos.coadds.repeat_errors import NO_REPEATS
from lumos.coadds.rows import CoaddContext, Rows, coadd_likelihoods
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.coadds.sky import SkyLevels
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError
from lumos.files import file_sha256, name_code, read_json, write_json
from lumos.flags import Flag
from lumos.pdf import FluxPrior, GaussianMixture, GridPdf, posterior, to_mixture
from lumos.runs.shards import read_shard
from lumos.validate.calibration import pdf_metrics

N = 400
OBJECTS = np.arange(N)
#: Gaussian rows as they are: no prior, stated zero points without error to speak of.
PLAIN = {"prior": "none", "calibrate": {"fit": False}, "repeat_errors": False, "outlier_threshold": 0.0}


def settings(**changes):
    return CoaddSettings.model_validate(PLAIN | changes)


def gaussian_exposures(rng, truth, errors, **facts):
    """Exposures with Gaussian noise of the given errors and perfect zero points."""
    facts = {"zeropoint_err": 1e-6} | facts
    return [
        exposure(f"e{number:02d}", OBJECTS, truth + error * rng.standard_normal(N), error, **facts)
        for number, error in enumerate(errors)
    ]


def coadd(tmp_path, exposures, name="coadd", **options):
    run = write_run(tmp_path / f"run_{name}", exposures)
    out = tmp_path / f"{name}.parquet"
    coadd_run([run], out, options.pop("settings", settings()), **options)
    return read_shard(out)


def numbers(table, name):
    return table[name].to_numpy().astype(np.float64)


@pytest.fixture
def truth(rng):
    return 10 ** rng.uniform(2.5, 4, N)


def test_gaussian_rows_have_the_closed_form(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0, 200.0, 50.0])
    table = coadd(tmp_path, made)
    ivar = np.array([100.0, 200.0, 50.0]) ** -2
    mean = (np.array([columns["flux"] for columns in made]) * ivar[:, None]).sum(axis=0) / ivar.sum()
    error = ivar.sum() ** -0.5
    assert numbers(table, "object_id").tolist() == OBJECTS.tolist()
    # Within 1 % of an error: nodes.
    for name in ("flux", "flux_peak", "flux_median", "flux_mean", "optimal_flux"):
        np.testing.assert_allclose(numbers(table, name), mean, atol=0.02 * error)
    np.testing.assert_allclose(numbers(table, "flux_std"), error, rtol=0.01)
    np.testing.assert_allclose(numbers(table, "flux_err"), error, rtol=0.01)
    np.testing.assert_allclose(numbers(table, "flux_sigma95"), 1.95996 * error, rtol=0.01)
    np.testing.assert_allclose(numbers(table, "eta"), 0.95996, atol=0.02)
    np.testing.assert_allclose(numbers(table, "optimal_flux_err"), error, rtol=1e-4)
    assert set(table["n_exposures"].to_pylist()) == {3}
    assert not np.any(numbers(table, "flags"))
    assert numbers(table, "pdf_fit_err").max() < 0.005
    assert table.schema.field("flux").metadata[b"unit"] == b"nJy"


def test_errors_fall_with_the_root_of_the_exposures(rng, tmp_path, truth):
    widths = [
        np.median(numbers(coadd(tmp_path, gaussian_exposures(rng, truth, [100.0] * n), f"n{n}"), "flux_err"))
        for n in (1, 4, 16)
    ]
    np.testing.assert_allclose(widths, 99.446 / np.array([1, 2, 4]), rtol=0.01)


def test_order_splitting_and_merging_change_nothing(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0, 200.0, 50.0, 80.0])
    # An outlier, flags, missing objects: nothing may depend on what comes first.
    made[2]["flux"][5] += 5000
    made[2]["pdf_means"][5] += 5000
    made[1]["flags"] = np.where(OBJECTS % 7 == 0, int(Flag.SATURATED), 0)
    made[3] = {name: values[20:] for name, values in made[3].items()}
    options = {"settings": settings(outlier_threshold=1e-4, calibrate={"fit": True})}
    whole = coadd(tmp_path, made, **options)
    turned = coadd(tmp_path, made[::-1], "turned", **options)
    parts = [write_run(tmp_path / "a", made[1:3]), write_run(tmp_path / "b", [made[3], made[0]])]
    coadd_run(parts, tmp_path / "split.parquet", options["settings"])
    small = coadd(tmp_path, made, "small", settings=options["settings"].model_copy(update={"rows_at_once": 100}))
    assert whole["n_rejected"].to_pylist().count(1) == 1
    assert turned.equals(whole)
    assert read_shard(tmp_path / "split.parquet").equals(whole)
    assert small.num_rows == whole.num_rows
    order = np.argsort(small["object_id"].to_numpy())
    assert small.take(pa.array(order)).equals(whole)


def test_workers_change_nothing(rng, tmp_path, truth):
    made = [
        exposure(
            f"{band}{error}", OBJECTS, truth + error * rng.standard_normal(N), error, band=band, zeropoint_err=1e-6
        )
        for band in "iz"
        for error in (100.0, 200.0)
    ]
    # Repeats and the prior are learned band by band, by the workers too.
    some = settings(rows_at_once=200, prior="catalog", repeat_errors=True)
    one = coadd(tmp_path, made, settings=some)
    told = []
    two = coadd(tmp_path, made, "two", settings=some, workers=2, progress=lambda *step: told.append(step))
    assert two.equals(one)
    assert [step[0] for step in told] == list(range(1, told[0][1] + 1))
    assert len(told) > 2


def test_partitions_hold_every_row_once_and_whole_objects(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [1.0, 1.0]))
    shards = sorted((run / "shards").iterdir())
    made = partition_sky(shards, 100)
    cells = np.concatenate([partition.cells for partition in made])
    assert len(np.unique(cells)) == len(cells)
    assert sum(partition.n_rows for partition in made) == 2 * N
    table = read_shard(shards[0])
    where = sky_cell(table["ra"].to_numpy(), table["dec"].to_numpy())
    assert set(where.tolist()) == set(cells.tolist())
    # The poles, and both sides of right ascension 0, are cells like others.
    assert len(set(sky_cell(np.array([0.0, 359.999, 10.0, 10.0]), np.array([0.0, 0.0, 90.0, -90.0])).tolist())) == 4


def test_flagged_exposures_are_left_out_and_counted(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0, 100.0, 100.0])
    made[0]["flags"] = np.where(OBJECTS < 10, int(Flag.COSMIC_RAY), 0)
    made[1]["flags"] = np.where(OBJECTS < 5, int(Flag.TOO_MASKED), int(Flag.NEIGHBOUR))
    made[2]["flags"] = np.where(OBJECTS < 5, int(Flag.SATURATED), 0)
    made[2]["pdf_means"][20] = np.nan
    table = coadd(tmp_path, made)
    assert table["n_exposures"].to_pylist()[:11] == [0] * 5 + [2] * 5 + [3]
    assert table["n_excluded"].to_pylist()[:11] == [3] * 5 + [1] * 5 + [0]
    assert table["n_exposures"].to_pylist()[20] == 2
    flags = table["flags"].to_numpy()
    assert (flags[:5] == int(Flag.NO_EXPOSURE | Flag.COSMIC_RAY | Flag.TOO_MASKED | Flag.SATURATED)).all()
    assert (flags[5:] == int(Flag.NEIGHBOUR)).all()
    for name in ("flux", "flux_err", "optimal_flux", "optimal_flux_err", "zeropoint_err"):
        values = numbers(table, name)
        assert np.isnan(values[:5]).all()
        assert np.isfinite(values[5:]).all()


@pytest.mark.parametrize("name", ["pdf_weights", "pdf_means", "pdf_stds"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_without_a_pdf_are_excluded_whatever_their_flags(rng, tmp_path, truth, name, value):
    made = gaussian_exposures(rng, truth, [100.0] * 3)
    for columns in made:
        for part, weight in (("weights", 0.5), ("means", 1.0), ("stds", 1.0)):
            columns[f"pdf_{part}"] = np.repeat(columns[f"pdf_{part}"] * weight, 2, axis=1)
    without = [dict(columns) for columns in made]
    without[2] = {key: values[10:] for key, values in made[2].items()}
    made[2][name] = np.where((OBJECTS < 10)[:, None] & np.array([False, True]), value, made[2][name])
    table, expected = coadd(tmp_path, made), coadd(tmp_path, without, "without")
    assert table["n_excluded"].to_pylist()[:11] == [1] * 10 + [0]
    np.testing.assert_array_equal(numbers(table, "flux"), numbers(expected, "flux"))
    np.testing.assert_array_equal(numbers(table, "flux_err"), numbers(expected, "flux_err"))


def test_one_exposure_is_its_own_coadd(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0])
    table = coadd(tmp_path, made, settings=settings(repeat_errors=True, outlier_threshold=1e-4))
    np.testing.assert_allclose(numbers(table, "flux_median"), made[0]["flux"], atol=2)
    np.testing.assert_allclose(numbers(table, "flux_std"), 100, rtol=0.01)


def test_outliers_are_rejected_and_contradictions_marked(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0] * 4)
    for columns in (made[1],):
        columns["flux"][:3] += 2000
        columns["pdf_means"][:3] += 2000
        columns["optimal_flux"] = columns["flux"]
    pair = [{name: values[3:6] for name, values in columns.items()} for columns in made[:2]]
    pair[0]["pdf_means"] = pair[0]["pdf_means"] + 2000
    table = coadd(tmp_path, made, settings=settings(outlier_threshold=1e-4))
    assert table["n_rejected"].to_pylist()[:5] == [1, 1, 1, 0, 0]
    assert (table["flags"].to_numpy()[:3] == int(Flag.OUTLIER_REJECTED)).all()
    good = np.mean([made[number]["flux"][:3] for number in (0, 2, 3)], axis=0)
    np.testing.assert_allclose(numbers(table, "flux_median")[:3], good, atol=2)
    np.testing.assert_allclose(numbers(table, "optimal_flux")[:3], good, atol=0.1)
    two = coadd(tmp_path, pair, "pair", settings=settings(outlier_threshold=1e-4))
    assert two["n_rejected"].to_pylist() == [0, 0, 0]
    assert (two["flags"].to_numpy() == int(Flag.CONTRADICTORY)).all()


def test_zero_point_errors_are_shared_by_the_objects_and_do_not_average_when_common(rng, tmp_path):
    bright = np.full(N, 1e6)
    made = gaussian_exposures(rng, bright, [100.0] * 4, zeropoint_err=0.02)
    table = coadd(tmp_path, made)
    relative = 0.02 / 1.085736
    # Independent zero points average to half; their error is the object's, and is stated as shared.
    np.testing.assert_allclose(numbers(table, "flux_std"), np.hypot(50, 1e6 * relative / 2), rtol=0.01)
    np.testing.assert_allclose(numbers(table, "optimal_flux_err"), np.hypot(50, 1e6 * relative / 2), rtol=1e-3)
    np.testing.assert_allclose(numbers(table, "zeropoint_err"), 0.01, rtol=1e-3)
    # What all exposures share does not average at all.
    common = settings(shared_relative_err=0.03, shared_flux_err=5000.0)
    table = coadd(tmp_path, made, "common", settings=common)
    expected = np.sqrt(50**2 + (1e6 * relative / 2) ** 2 + 3e4**2 + 5000**2)
    np.testing.assert_allclose(numbers(table, "flux_std"), expected, rtol=0.01)
    np.testing.assert_allclose(numbers(table, "optimal_flux_err"), expected, rtol=1e-3)


@pytest.mark.parametrize("tail", [0.0, 0.03])
def test_zero_points_without_a_stated_error_widen_once(tmp_path, tail, caplog):
    flux, width = np.array([19_777.0, 19_798.0]), np.array([181.0, 268.0])
    made = []
    for number in range(2):
        columns = exposure(f"e{number}", OBJECTS, np.full(N, flux[number]), width[number], zeropoint_err=np.nan)
        # A tail as networks have it: powers far below 1 would make it the whole PDF.
        columns["pdf_weights"] = np.tile([1 - tail, tail], (N, 1))
        columns["pdf_means"] = np.full((N, 2), flux[number])
        columns["pdf_stds"] = np.tile([width[number], 30 * width[number]], (N, 1))
        made.append(columns)
    table = coadd(tmp_path, made)
    # Independent zero points of 0.05 mag are errors of each exposure alone.
    total = np.hypot(width, 0.05 / 1.085736 * flux.mean())
    error = np.sum(total**-2.0) ** -0.5
    assert error < np.hypot(np.sum(width**-2.0) ** -0.5, 0.05 / 1.085736 * 19_800 * np.sqrt(0.5)) * 1.01
    np.testing.assert_allclose(numbers(table, "flux_err"), error, rtol=0.01 if tail == 0 else 0.08)
    np.testing.assert_allclose(numbers(table, "optimal_flux_err"), error, rtol=2e-3)
    mean = np.sum(flux / total**2) * error**2
    np.testing.assert_allclose(numbers(table, "flux_median"), mean, atol=0.03 * error)
    np.testing.assert_allclose(numbers(table, "optimal_flux"), mean, atol=0.5)
    text = "band i: 2 of 2 zero points lack an error, 0.05 mag is assumed (--set coadd.calibrate.assumed_err)"
    assert text in caplog.text


def test_errors_of_zero_points_that_are_known_together_widen_by_what_they_share():
    # A calibration whose exposures share 0.03 and have 0.01 and 0.04 of their own, in ln(flux).
    flux, width = np.array([1e5, 1e5]), np.array([800.0, 500.0])
    common, own = 0.03, np.array([0.01, 0.04])
    calibration = Calibration(
        *(
            ("e0", "e1"),
            ("1", "1"),
            ("i", "i"),
            np.full(2, 25.0),
            np.full(2, 0.05),
            np.zeros(2),
            np.full(2, 25.0),
            np.zeros(2),
        ),
        {"i": common**2 + np.diag(own**2)},
        *(np.full(2, 9), np.zeros(2, dtype=bool), {"i": 0.0}),
    )
    zero, gauss = np.zeros(2), {"weights": np.ones((2, 1)), "means": flux[:, None], "stds": width[:, None]}
    rows = Rows(np.zeros(2, int), zero, zero, np.arange(2), np.zeros(2, int), zero, **gauss, fluxes={})
    some = settings(shared_relative_err=0.02, shared_flux_err=700.0)
    context = CoaddContext(some, calibration, NO_REPEATS, SkyLevels(), None, is_posterior=False, cut_from=None)
    pdf = coadd_likelihoods(rows, context)[0]
    apart = np.sum(1 / (width**2 + (own * 1e5) ** 2)) ** -0.5
    assert pdf.std()[0] == pytest.approx(np.sqrt(apart**2 + (common**2 + 0.02**2) * 1e10 + 700**2), rel=5e-3)
    assert pdf.mean()[0] == pytest.approx(1e5, abs=20)


def test_fitted_zero_points_bring_exposures_together(rng, tmp_path):
    bright = 10 ** rng.uniform(4, 5, N)
    made = gaussian_exposures(rng, bright, [100.0] * 4, zeropoint_err=0.03)
    for columns, factor in zip(made, (1.0, 1.03, 0.97, 1.0), strict=True):
        for name in ("flux", "pdf_means", "optimal_flux"):
            columns[name] = columns[name] * factor
    table = coadd(tmp_path, made, settings=settings(calibrate={"fit": True}))
    # Relative scales are known to 1e-4, the common one to 0.03 / 2 mag.
    off = numbers(table, "flux_median") / bright - 1
    np.testing.assert_allclose(numbers(table, "zeropoint_err"), 0.015, rtol=0.05)
    pulls = (numbers(table, "flux_median") - bright * (1 + np.median(off))) / 50
    assert 0.9 < np.std(pulls) < 1.1
    zeropoints = pq.read_table(tmp_path / "coadd.zeropoints.parquet")
    correction = zeropoints["zeropoint"].to_numpy() - zeropoints["zeropoint_stated"].to_numpy()
    np.testing.assert_allclose(correction - correction.mean(), [0.0, 0.0321, -0.0331, 0.0], atol=1.5e-3)


def confused(rng, truth, n, white=30.0, shared=120.0):
    """Exposures of which every second object has an error that all its exposures share, and a PDF that knows."""
    alike = np.where(OBJECTS % 2 == 0, shared, 0.0) * rng.standard_normal(N)
    width = np.where(OBJECTS % 2 == 0, np.hypot(white, shared), white)
    made = []
    for number in range(n):
        flux = truth + alike + white * rng.standard_normal(N)
        columns = exposure(f"e{number}", OBJECTS, flux, width, zeropoint_err=1e-6)
        columns["optimal_flux_err"] = np.full(N, white)
        made.append(columns)
    return made


def test_what_exposures_share_is_found_from_repeats(rng, tmp_path, truth):
    made = confused(rng, truth, 9)
    table = coadd(tmp_path, made, settings=settings(repeat_errors=True))
    even = OBJECTS % 2 == 0
    pulls = (numbers(table, "flux_median") - truth) / numbers(table, "flux_err")
    # 200 objects: to 5 per cent each, three of these; as independent rows the first would be 2.9.
    assert np.std(pulls[even]) == pytest.approx(1, abs=0.15)
    assert np.std(pulls[~even]) == pytest.approx(1, abs=0.15)
    naive = coadd(tmp_path, made, "naive")
    assert np.std((numbers(naive, "flux_median") - truth)[even] / numbers(naive, "flux_err")[even]) > 2.5


def lognormal_survey(rng, n, n_objects=4000):
    """Faint and bright galaxies about the flux of their magnitude, many of them below the noise."""
    mags = rng.uniform(21, 24, n_objects)
    truth = 10 ** (0.4 * (31.4 - mags)) * np.exp(0.4 * rng.standard_normal(n_objects))
    objects = np.arange(n_objects)
    noise = 1500.0
    made = [
        exposure(f"e{i}", objects, truth + noise * rng.standard_normal(n_objects), noise, zeropoint_err=1e-6)
        for i in range(n)
    ]
    return mags, truth, made


def test_posteriors_with_the_learned_prior_are_true_and_naive_ones_are_not(rng, tmp_path):
    mags, truth, made = lognormal_survey(rng, 5)
    run = write_run(tmp_path / "run", made, mags)
    found = {}
    for name, changes in (("ours", {}), ("naive", {"product": "naive"})):
        out = tmp_path / f"{name}.parquet"
        coadd_run([run], out, settings(prior="catalog", prior_galaxies=4000, **changes))
        table = read_shard(out)
        pdf = GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
        found[name] = pdf_metrics(pdf, truth[table["object_id"].to_numpy()], "median")
    # 1.95 / sqrt(4000) for 1 in 1000; and a prior with some tens of parameters learned from the same galaxies.
    assert found["ours"].pit_ks < 0.031
    assert 0.95 < found["ours"].pull_sigma68 < 1.05
    assert found["naive"].pit_ks > 0.1
    assert found["naive"].log_score < found["ours"].log_score - 0.1
    # The prior that was learned is written, and can be given.
    again = tmp_path / "again.parquet"
    coadd_run([run], again, settings(prior=str(tmp_path / "ours.prior.json")))
    assert read_shard(again).drop_columns([]).equals(read_shard(tmp_path / "ours.parquet"))


def test_the_prior_is_learned_from_galaxies_without_a_neighbour(rng, tmp_path):
    n, n_blended = 1300, 200
    mag = rng.uniform(20, 23, n)
    flux = 10 ** (0.4 * (31.4 - mag)) * np.exp(0.1 * rng.standard_normal(n))
    flux[:n_blended] *= 4
    flags = np.where(np.arange(n) < n_blended, int(Flag.NEIGHBOUR), 0)
    learned = {}
    for name, rows, bits in (
        ("all", slice(None), flags),
        ("alone", slice(n_blended, None), flags),
        ("plain", slice(None), 0),
    ):
        chosen, marked = np.arange(n)[rows], np.broadcast_to(bits, n)[rows]
        # The flag stands in one of two exposures.
        made = [exposure(f"e{k}", chosen, flux[rows], 300.0, flags=marked * k) for k in range(2)]
        run = write_run(tmp_path / name, made, mag)
        coadd_run([run], tmp_path / f"{name}.parquet", settings(prior="catalog"))
        learned[name] = read_json(tmp_path / f"{name}.prior.json")
    assert learned["all"] == learned["alone"]
    assert learned["all"] != learned["plain"]


def test_objects_without_a_magnitude_have_no_posterior(rng, tmp_path, truth):
    mags = np.where(OBJECTS == 3, np.nan, 31.4 - 2.5 * np.log10(truth))
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0, 100.0]), mags)
    coadd_run([run], tmp_path / "c.parquet", settings(prior="catalog"))
    table = read_shard(tmp_path / "c.parquet")
    assert table["flags"].to_numpy()[3] == int(Flag.NO_REFERENCE)
    assert np.isnan(numbers(table, "flux")[3])
    assert np.isfinite(numbers(table, "optimal_flux")).all()
    assert np.isfinite(np.delete(numbers(table, "flux"), 3)).all()


def test_posteriors_of_a_model_have_their_prior_divided_out(rng, tmp_path):
    mags, truth, made = lognormal_survey(rng, 4, 600)
    prior = FluxPrior.fit(truth, mags, np.zeros(600, dtype=int), ["i"])
    write_json(tmp_path / "prior.json", prior.to_dict())
    likelihoods = write_run(tmp_path / "run", made, mags)
    coadd_run([likelihoods], tmp_path / "right.parquet", settings(prior=str(tmp_path / "prior.json")))
    for columns in made:
        # Each row as a posterior: the Gaussian's product with the prior, fitted with ten Gaussians.
        pdf = GaussianMixture(columns["pdf_weights"], columns["pdf_means"], columns["pdf_stds"])
        fit = to_mixture(posterior(pdf, prior, mags, np.zeros(600, dtype=int)), 10)[0]
        columns.update(pdf_weights=fit.weights, pdf_means=fit.means, pdf_stds=fit.stds)
    model = {"name": "m", "kind": "posterior", "sha256": "0", "cut_from": None}
    run = write_run(tmp_path / "posteriors", made, mags, model=model)
    for asked in ("none", "catalog"):
        with pytest.raises(LumosConfigError, match="the PDFs of this run are posteriors"):
            coadd_run([run], tmp_path / "no.parquet", settings(prior=asked))
    coadd_run([run], tmp_path / "again.parquet", settings(prior=str(tmp_path / "prior.json")))
    coadd_run([run], tmp_path / "naive.parquet", settings(product="naive"))
    right, again, naive = (read_shard(tmp_path / f"{name}.parquet") for name in ("right", "again", "naive"))
    width = numbers(right, "flux_err")
    off = (numbers(again, "flux_median") - numbers(right, "flux_median")) / width
    # Fits of the rows are good to some per cent of their width, four times.
    assert np.quantile(np.abs(off), 0.9) < 0.15
    assert np.median(numbers(again, "flux_err") / width) == pytest.approx(1, abs=0.05)
    # At magnitude 23.5 the prior is as wide as 580 nJy and the likelihood as 750: four priors for one make it 0.6.
    faint = np.abs(mags - 23.5) < 0.25
    assert np.median((numbers(naive, "flux_err") / width)[faint]) == pytest.approx(0.6, abs=0.08)


def test_components_cut_at_zero_stay_above_zero(rng, tmp_path):
    faint = np.full(N, 50.0)
    model = {"name": "m", "kind": "posterior", "sha256": "0", "cut_from": 20.5}
    mags = np.where(OBJECTS % 2 == 0, 20.0, 23.0)
    run = write_run(tmp_path / "run", gaussian_exposures(rng, faint, [100.0] * 3), mags, model=model)
    coadd_run([run], tmp_path / "c.parquet", settings(product="naive", pdf="grid"))
    table = read_shard(tmp_path / "c.parquet")
    nodes = list_column(table, "pdf_nodes")
    lowest = nodes.min(axis=1)
    assert (lowest[1::2] >= 0).all()
    assert (lowest[::2] < 0).any()


def test_the_grid_holds_what_the_mixture_holds(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0, 70.0])
    mixture = coadd(tmp_path, made)
    grid = coadd(tmp_path, made, "grid", settings=settings(pdf="grid"))
    (_, first), (_, pdf) = (read_coadd(tmp_path / f"{name}.parquet") for name in ("coadd", "grid"))
    assert isinstance(first, GaussianMixture)
    assert isinstance(pdf, GridPdf)
    levels = np.array([[0.025, 0.16, 0.5, 0.84, 0.975]])
    np.testing.assert_allclose(pdf.quantile(levels), first.quantile(levels), atol=1.5)
    assert "pdf_means" not in grid.column_names
    assert "pdf_nodes" not in mixture.column_names
    # A shard of `lumos measure` has PDFs too, of exposures.
    shard = next((tmp_path / "run_grid" / "shards").glob("*.parquet"))
    with pytest.raises(LumosDataError, match=f"{shard}: .* no coadd"):
        read_coadd(shard)


def test_a_poor_mixture_is_flagged(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0])
    # Two narrow peaks, and one Gaussian to fit them.
    made[0]["pdf_weights"] = np.full((N, 2), 0.5)
    made[0]["pdf_means"] = np.column_stack([truth, truth + 1000])
    made[0]["pdf_stds"] = np.full((N, 2), 20.0)
    table = coadd(tmp_path, made, settings=settings(n_components=1))
    assert (table["flags"].to_numpy() == int(Flag.POOR_MIXTURE)).all()
    assert numbers(table, "pdf_fit_err").min() > 0.1
    table = coadd(tmp_path, made, "two", settings=settings(n_components=2))
    assert not table["flags"].to_numpy().any()


def test_a_finished_coadd_is_kept_and_another_refused(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0, 100.0]))
    out = tmp_path / "c.parquet"
    assert not coadd_run([run], out, settings()).was_finished
    before = out.stat().st_mtime_ns
    report = coadd_run([run], out, settings())
    assert (report.was_finished, report.n_rows) == (True, N)
    assert out.stat().st_mtime_ns == before
    with pytest.raises(LumosConfigError, match=r"holds another result of `lumos coadd` \(settings differ\)"):
        coadd_run([run], out, settings(n_components=3))
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(LumosConfigError, match="was not made by `lumos coadd`"):
        coadd_run([run], tmp_path / "text.parquet", settings())


def test_an_interrupted_coadd_continues_where_it_was(rng, tmp_path, truth):
    run, some = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0, 100.0])), settings(rows_at_once=100)
    coadd_run([run], tmp_path / "whole.parquet", some)
    out, parts = tmp_path / "c.parquet", tmp_path / "c.parts"

    def stop(done, _all, _name):
        if done == 2:
            raise KeyboardInterrupt

    def interrupt(how):
        with pytest.raises(KeyboardInterrupt):
            coadd_run([run], out, how, progress=stop)

    interrupt(some)
    made = {path: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert len(made) == 2
    assert not out.exists()
    seen = []
    coadd_run([run], out, some, progress=lambda *_: seen.append({path: path.stat().st_mtime_ns for path in made}))
    assert all(one == made for one in seen)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts.exists()
    # Killed after the table was written, while it removed the parts or wrote the zero points.
    parts.mkdir()
    (parts / "3.parquet").touch()
    left = out.with_name(f".lumos-{name_code(tmp_path / 'c.zeropoints.parquet')}-0123456789abcdef.part")
    left.touch()
    assert coadd_run([run], out, some).was_finished
    assert not parts.exists()
    assert not left.exists()
    # Killed while it wrote down what the parts are made from.
    out.unlink()
    parts.mkdir()
    (parts / ".lumos-0a1b2c3d-0123456789abcdef.part").touch()
    coadd_run([run], out, some)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts.exists()
    # Parts of other settings are not thrown away; a folder of somebody else is not touched.
    out.unlink()
    interrupt(some)
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    with pytest.raises(LumosConfigError, match=r"c\.parts: pieces of c\.parquet .*\(settings\.n_components: 5 -> 3\)"):
        coadd_run([run], out, settings(rows_at_once=100, n_components=3))
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == before
    (parts / "identity.json").unlink()
    with pytest.raises(LumosConfigError, match=r"c.parts: not written by lumos; remove it"):
        coadd_run([run], out, some)


def flip(path, place=0.5):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(bytes(content))


def test_a_lost_or_damaged_part_of_a_finished_coadd_is_noticed(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0, 100.0]))
    out, zeropoints = tmp_path / "c.parquet", tmp_path / "c.zeropoints.parquet"
    coadd_run([run], out, settings())
    before = pq.read_table(zeropoints)
    zeropoints.unlink()
    assert coadd_run([run], out, settings()).was_finished
    assert pq.read_table(zeropoints).equals(before)
    good = out.read_bytes()
    flip(out)
    with pytest.raises(LumosDataError, match=r"c\.parquet: changed since it was written; remove it"):
        coadd_run([run], out, settings())
    with pytest.raises(LumosDataError, match=r"c\.parquet: damaged"):
        read_coadd(out)
    zeropoints.unlink()
    with pytest.raises(LumosDataError, match=r"c\.parquet: damaged"):
        coadd_run([run], out, settings())
    out.write_bytes(good)
    zeropoints.write_bytes(b"PAR1")
    with pytest.raises(LumosDataError, match=r"c\.zeropoints\.parquet: damaged; remove it, then it is made again"):
        coadd_run([run], out, settings())


def replaced(run, name, change):
    """Change the table of a shard, and its digest."""
    path = run / "shards" / f"{name}.parquet"
    write_table([change(pq.read_table(path))], path)
    manifest = read_json(run / "manifest.json")
    manifest["exposures"][name]["sha256"] = file_sha256(path)
    write_json(run / "manifest.json", manifest)


def test_a_shard_without_rows_is_as_if_it_were_not_there(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0] * 3)
    run = write_run(tmp_path / "run", made)
    replaced(run, "e02", lambda table: table.slice(0, 0))
    coadd_run([run], tmp_path / "c.parquet", settings())
    assert read_shard(tmp_path / "c.parquet").equals(coadd(tmp_path, made[:2], "two"))
    for name in ("e00", "e01"):
        replaced(run, name, lambda table: table.slice(0, 0))
    with pytest.raises(LumosDataError, match=r"e00\.parquet: no row in it, nor in any other shard"):
        coadd_run([run], tmp_path / "d.parquet", settings())


def text_of(table, name):
    place = table.column_names.index(name)
    return table.set_column(place, name, table[name].cast(pa.string()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda table: table.drop_columns(["pdf_stds"]), r"no column 'pdf_stds'; the shard has: object_id, "),
        (lambda table: table.drop_columns(["zeropoint"]), r"no column 'zeropoint'"),
        (lambda table: text_of(table, "ra"), r"column 'ra' holds string, allowed: numbers"),
        (lambda table: text_of(table, "optimal_flux"), r"column 'optimal_flux' holds string, allowed: numbers"),
    ],
)
def test_a_shard_of_another_form_is_named(rng, tmp_path, truth, change, match):
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0] * 2))
    replaced(run, "e01", change)
    with pytest.raises(LumosDataError, match=r"e01\.parquet: " + match):
        coadd_run([run], tmp_path / "c.parquet", settings())


def test_pdfs_of_several_lengths_are_refused(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0] * 2)
    for part, factor in (("weights", 0.5), ("means", 1.0), ("stds", 1.0)):
        made[1][f"pdf_{part}"] = np.repeat(factor * made[1][f"pdf_{part}"], 2, axis=1)
    with pytest.raises(LumosDataError, match=r"e01\.parquet: pdf_weights of 2 components, but 1 in .*e00\.parquet"):
        coadd(tmp_path, made)


def test_the_exposure_of_the_catalogue_is_told_and_takes_no_part_in_repeats(rng, tmp_path, caplog):
    # What noise made bright came into the catalogue: the errors of one exposure are selected above their mean.
    made = gaussian_exposures(rng, np.full(N, 100.0), [100.0] * 4)
    made[0]["flux"] = 100 + 100 * np.abs(rng.standard_normal(N))
    made[0]["pdf_means"] = made[0]["flux"][:, None]
    share = {}
    for name, flags in (("marked", int(Flag.CATALOG_EXPOSURE)), ("unmarked", 0)):
        made[0]["flags"] = np.full(N, flags)
        table = coadd(tmp_path, made, name, settings=settings(repeat_errors=True))
        share[name] = json.loads(table.schema.metadata[b"lumos.provenance"])["independent_share"]
        assert len(caplog.records) == 1
    # The median of |z| is 0.67; its error that of one in 400, with those of the others' mean.
    text = caplog.records[0].message
    assert text.startswith("exposure e00: the catalogue was made from it")
    assert float(text.split("differ by ")[1].split()[0]) == pytest.approx(0.67, abs=0.25)
    # Of the three that are left one pair of each object; without the mark two.
    assert share["marked"]["n"] == [N]
    assert share["marked"]["share"][0] == pytest.approx(1, abs=0.25)
    assert sum(share["unmarked"]["n"]) == 2 * N
    made[0]["flags"] = np.full(N, int(Flag.CATALOG_EXPOSURE))
    without = coadd(tmp_path, made, "without", settings=settings(excluded_flags=("CATALOG_EXPOSURE",)))
    assert len(caplog.records) == 1
    assert set(without["n_exposures"].to_pylist()) == {3}


def test_runs_that_do_not_belong_together_are_refused(rng, tmp_path, truth):
    made = gaussian_exposures(rng, truth, [100.0, 100.0])
    first, second = write_run(tmp_path / "a", made[:1]), write_run(tmp_path / "b", made[1:])
    out = tmp_path / "c.parquet"
    path = second / "settings.yaml"
    content = yaml.safe_load(path.read_text())
    model = {"name": "other", "kind": "likelihood", "sha256": "1", "cut_from": None}
    path.write_text(yaml.safe_dump(content | {"model": model}))
    with pytest.raises(LumosDataError, match=r"b: differs from .*a \(model: none -> other\); only runs"):
        coadd_run([first, second], out, settings())
    path.write_text(yaml.safe_dump(content | {"schema_version": 99}))
    with pytest.raises(LumosDataError, match="schema version 99, this version reads 1"):
        coadd_run([second], out, settings())
    path.unlink()
    with pytest.raises(LumosDataError, match=r"b: not a run of `lumos measure`, or damaged"):
        coadd_run([second], out, settings())
    with pytest.raises(LumosDataError, match="measured in two of the runs"):
        coadd_run([first, first], out, settings())
    with pytest.raises(LumosValueError, match="runs: got 0, allowed: at least one"):
        coadd_run([], out, settings())
    with pytest.raises(LumosValueError, match=r"c\.fits', allowed: a name that ends in \.parquet"):
        coadd_run([first], out.with_suffix(".fits"), settings())
    assert not out.exists()


def test_a_changed_or_missing_catalogue_is_refused(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0, 100.0]))
    catalog = tmp_path / "parent.parquet"
    moved = catalog.rename(tmp_path / "moved.parquet")
    asked = settings(prior="catalog")
    with pytest.raises(LumosDataError, match="no such parent catalogue, which"):
        coadd_run([run], tmp_path / "c.parquet", asked)
    write_catalog(catalog, np.full(10, 20.0))
    with pytest.raises(LumosDataError, match=r"changed since .*run was measured, its sha256 differs"):
        coadd_run([run], tmp_path / "c.parquet", asked)
    assert coadd_run([run], tmp_path / "c.parquet", asked, catalog=moved).n_rows == N


def test_few_galaxies_teach_no_prior_or_an_uncertain_one(rng, tmp_path, truth, caplog):
    made = gaussian_exposures(rng, truth, [100.0] * 2)
    few = [{name: values[:150] for name, values in columns.items()} for columns in made]
    table = coadd(tmp_path, few, settings=settings(prior="catalog"))
    assert "prior: 150 usable galaxies in band i, needed to learn one: 200; the coadds have no prior" in caplog.text
    assert table.equals(coadd(tmp_path, few, "none"))
    assert not (tmp_path / "coadd.prior.json").exists()
    assert json.loads(table.schema.metadata[b"lumos.provenance"])["prior"] == "none"
    naive = settings(prior="catalog", product="naive")
    with pytest.raises(
        LumosDataError, match="prior: 150 usable galaxies in band i, needed to learn one: 200; give the"
    ):
        coadd(tmp_path, few, "naive", settings=naive)
    table = coadd(tmp_path, made, "some", settings=settings(prior="catalog"))
    assert "prior: learned from 400 usable galaxies in band i, fewer than 1500 make it uncertain" in caplog.text
    assert json.loads(table.schema.metadata[b"lumos.provenance"])["prior"] == "catalog"


def test_a_prior_that_cannot_be_had_is_refused(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", gaussian_exposures(rng, truth, [100.0] * 2))
    with pytest.raises(LumosConfigError, match="multiplies posteriors and needs a prior"):
        coadd_run([run], tmp_path / "c.parquet", settings(product="naive"))
    other = FluxPrior.fit(truth, np.full(N, 22.0), np.zeros(N, dtype=int), ["z"])
    write_json(tmp_path / "z.json", other.to_dict())
    with pytest.raises(LumosDataError, match="no prior of band 'i'; it has: z"):
        coadd_run([run], tmp_path / "c.parquet", settings(prior=str(tmp_path / "z.json")))
    with pytest.raises(LumosConfigError, match="unknown flag 'BAD', allowed: EDGE"):
        coadd_run([run], tmp_path / "c.parquet", settings(excluded_flags=("BAD",)))


def test_provenance_says_what_was_made_of_what(rng, tmp_path, truth):
    coadd(tmp_path, gaussian_exposures(rng, truth, [100.0] * 3), settings=settings(repeat_errors=True))
    metadata = pq.read_metadata(tmp_path / "coadd.parquet").metadata
    facts = json.loads(metadata[b"lumos.provenance"])
    assert facts["coadd"]["settings"]["outlier_threshold"] == 0
    assert facts["independent_share"]["share"][0] == pytest.approx(1, abs=0.3)
    assert json.loads(metadata[b"lumos.flags"])["NO_EXPOSURE"]["bit"] == int(Flag.NO_EXPOSURE)
    assert read_json(tmp_path / "run_coadd" / "manifest.json")["exposures"].keys() == {"e00", "e01", "e02"}


def test_texts_that_identify_objects_come_through(rng, tmp_path, truth):
    exposures = gaussian_exposures(rng, truth, [50.0, 70.0])
    for columns in exposures:
        columns["object_name"] = np.array([f"galaxy {number}" for number in columns["object_id"]])
    table = coadd(tmp_path, exposures, settings=settings(rows_at_once=500))
    assert table["object_name"].to_pylist() == [f"galaxy {number}" for number in table["object_id"].to_pylist()]
    assert len(table) == len(truth)
