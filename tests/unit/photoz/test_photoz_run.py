"""The run folder of ``lumos photoz``: rows, flags, continuation; and the command."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.redshift_models import small_galaxies, small_grid
from lumos.errors import LumosConfigError, LumosDataError
from lumos.flags import PhotozFlag
from lumos.photoz import run as run_module
from lumos.photoz.fluxes import Photometry
from lumos.photoz.rows import redshift_rows
from lumos.photoz.run import Tables, match_redshifts, photoz_run, read_redshifts
from lumos.photoz.settings import PhotozSettings

GRID = small_grid()
SETTINGS = PhotozSettings(floor=0, shard=10, galaxies_at_once=8)
N = 25


@pytest.fixture(scope="module")
def photometry():
    return small_galaxies(GRID, N, 30, seed=1)


@pytest.fixture
def tables(tmp_path, photometry):
    galaxies, place = photometry
    columns = {"object_id": galaxies.object_id}
    for number, band in enumerate(GRID.bands):
        columns |= {f"flux_{band}": galaxies.flux[:, number], f"flux_{band}_err": galaxies.flux_err[:, number]}
    fluxes, spectra = tmp_path / "fluxes.parquet", tmp_path / "spectra.csv"
    pq.write_table(pa.table(columns), fluxes)
    rows = [f"{o},{GRID.redshifts[p]:.4f}" for o, p in zip(galaxies.object_id[::-1], place[::-1], strict=True)]
    spectra.write_text("\n".join(["object_id,z_spec", *rows, "999,0.5"]) + "\n")
    return Tables(fluxes, spectra)


def test_rows_and_pdfs(tmp_path, tables, photometry):
    galaxies, place = photometry
    told = []
    report = photoz_run(tables, GRID, tmp_path / "pz", SETTINGS, progress=lambda *one: told.append(one[:2]))
    assert (report.n_rows, report.n_new, report.failed) == (N, 3, ())
    assert told == [(1, 3), (2, 3), (3, 3)]
    table, pdf = read_redshifts(tmp_path / "pz")
    assert table["object_id"].to_pylist() == galaxies.object_id.tolist()
    known = match_redshifts(tables.spectra, galaxies.object_id)
    np.testing.assert_allclose(known, GRID.redshifts[place], atol=1e-4)
    zb = table["zb"].to_numpy()
    assert np.median(np.abs(zb - known) / (1 + known)) < 0.004
    np.testing.assert_allclose(pdf.mean(), table["zb_mean"].to_numpy(), atol=1e-5)
    np.testing.assert_allclose(pdf.redshifts, GRID.redshifts)
    assert set(table["best_run"].to_pylist()) == set(GRID.runs)
    field = table.schema.field("pz")
    assert b"per unit redshift" in field.metadata[b"text"]
    assert "POOR_FIT" in json.loads(table.schema.metadata[b"lumos.flags"])
    # As many galaxies at once as there are: the same rows.
    whole = redshift_rows(galaxies, GRID, SETTINGS.model_copy(update={"galaxies_at_once": 100}))
    np.testing.assert_allclose(whole["zb"], zb, atol=1e-9)


def test_a_stopped_run_is_continued_and_a_finished_one_left_alone(tmp_path, tables, monkeypatch):
    out, calls = tmp_path / "pz", []
    real = run_module.redshift_rows

    def stop_at_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(run_module, "redshift_rows", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        photoz_run(tables, GRID, out, SETTINGS)
    assert photoz_run(tables, GRID, out, SETTINGS).n_new == 1
    assert photoz_run(tables, GRID, out, SETTINGS).n_new == 0
    assert len(calls) == 4
    shard = out / "shards" / "galaxies-000001.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(LumosDataError, match="sha256"):
        read_redshifts(out)
    assert photoz_run(tables, GRID, out, SETTINGS).n_new == 1
    assert len(read_redshifts(out)[0]) == N
    for settings, grid, text in (
        (SETTINGS.model_copy(update={"floor": 0.1}), GRID, r"floor"),
        (SETTINGS, GRID.take(slice(0, 60)), "models"),
    ):
        with pytest.raises(LumosConfigError, match=text):
            photoz_run(tables, grid, out, settings)


def test_processes_do_not_change_rows(tmp_path, tables):
    for name, workers in (("one", 1), ("two", 2)):
        photoz_run(tables, GRID, tmp_path / name, SETTINGS, workers=workers)
    one, two = (read_redshifts(tmp_path / name)[0].sort_by("object_id") for name in ("one", "two"))
    np.testing.assert_allclose(one["zb"].to_numpy(), two["zb"].to_numpy(), atol=1e-9)
    assert one["flags"] == two["flags"]


def test_galaxies_that_cannot_be_fitted_do_not_stop_the_others(tmp_path, tables, monkeypatch):
    real = run_module.redshift_rows

    def fail(photometry, *others):
        if photometry.object_id[0] == 17:
            raise ValueError("no idea")
        return real(photometry, *others)

    monkeypatch.setattr(run_module, "redshift_rows", fail)
    report = photoz_run(tables, GRID, tmp_path / "pz", SETTINGS)
    assert report.n_rows == N - 10
    assert report.failed == ("galaxies-000001: ValueError: no idea",)


def test_bad_galaxies_are_flagged(photometry):
    galaxies, _ = photometry
    flux, error = galaxies.flux[:8].copy(), galaxies.flux_err[:8].copy()
    flux[1] = -np.abs(flux[1])  # every flux negative, and with errors so large that none is left out
    error[1] = np.abs(flux[1])
    flux[2] = np.nan  # nothing measured
    error[3] = 0  # no error known
    flux[4, 3:9] = np.nan  # some bands missing
    flux[5, ::2] *= 3  # no galaxy looks like this
    flux[6, 2:] = np.nan  # two bands
    rows = redshift_rows(Photometry(galaxies.object_id[:8], flux, error, bands=GRID.bands), GRID, SETTINGS)
    names = [{flag.name for flag in PhotozFlag if value & flag} for value in rows["flags"].tolist()]
    assert names[0] == names[7] == set()
    assert names[1] == {"NO_LIGHT"}
    assert names[2] == names[3] == names[6] == {"TOO_FEW_BANDS", "MISSING_BANDS"}
    assert names[4] == {"MISSING_BANDS"}
    assert "POOR_FIT" in names[5]
    without = np.isnan(rows["zb"])
    assert without.tolist() == [False, True, True, True, False, False, True, False]
    for name in ("zb_mean", "z_q50", "odds", "qz", "pz_width", "scale"):
        assert (np.isnan(rows[name]) == without).all(), name
    assert rows["n_bands"].tolist() == [24, 24, 0, 0, 18, 24, 2, 24]
    assert np.isnan(rows["pz"][without]).all()
    assert (rows["best_run"][without] == "").all()


def test_poor_fits_have_wider_pdfs(photometry):
    """A galaxy that no template fits has p(z) as wide as errors that explain it make it."""
    galaxies, _ = photometry
    flux = galaxies.flux[:12] * np.random.default_rng(5).normal(1, 0.2, (12, 24))
    bad = Photometry(galaxies.object_id[:12], flux, galaxies.flux_err[:12], bands=GRID.bands)
    hard = redshift_rows(bad, GRID, SETTINGS.model_copy(update={"soften": False}))
    soft = redshift_rows(bad, GRID, SETTINGS)
    factor = np.sqrt(hard["chi2"].mean() / 21)
    wide = redshift_rows(Photometry(bad.object_id, flux, factor * bad.flux_err, bands=GRID.bands), GRID, SETTINGS)
    assert np.median(hard["chi2"]) > 100
    np.testing.assert_allclose(soft["zb"], hard["zb"], atol=0.003)
    assert (soft["pz_width"] > hard["pz_width"]).all()
    assert np.median(soft["pz_width"]) == pytest.approx(np.median(wide["pz_width"]), rel=0.4)
    good = redshift_rows(galaxies, GRID, SETTINGS)
    assert np.median(good["chi2"]) < 24


def test_the_ends_of_the_grid_and_of_the_scale_are_flagged(photometry):
    galaxies, place = photometry
    below = GRID.take(slice(int(place[0]) + 12, None))
    assert redshift_rows(galaxies.take([0]), below, SETTINGS)["flags"][0] & PhotozFlag.AT_END
    factors = np.where(GRID.narrow, 15.0, 1.0)
    rows = redshift_rows(galaxies.take(slice(0, 4)).scaled(factors), GRID, SETTINGS)
    assert (rows["flags"] & PhotozFlag.SCALE_AT_LIMIT > 0).all()


def test_calibration_is_written_and_needs_spectra(tmp_path, tables):
    settings = SETTINGS.model_copy(update={"calibrate": "spectra", "calibrate_rounds": 3})
    photoz_run(tables, GRID, tmp_path / "pz", settings)
    found = pq.read_table(tmp_path / "pz" / "zeropoints.parquet")
    assert found["band"].to_pylist() == list(GRID.bands)
    np.testing.assert_allclose(found["factor"].to_numpy(), 1, atol=0.05)
    with pytest.raises(LumosDataError, match=r"photoz.calibrate: got spectra.*--spec-z"):
        photoz_run(Tables(tables.fluxes), GRID, tmp_path / "other", settings)


def test_bad_tables_of_redshifts_are_named(tmp_path, photometry):
    galaxies, _ = photometry
    for text, message in (
        ("object_id,velocity\n7,1\n", "needed: object_id and one of redshift"),
        ("object_id,z\n", "bad.csv: no row in it"),
        ("object_id,z\n7,secure\n", "column 'z' holds .*, allowed: numbers"),
        ("object_id,z_spec\n1,0.5\n", "has a redshift of none of the 25 galaxies"),
    ):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        with pytest.raises(LumosDataError, match=message):
            match_redshifts(path, galaxies.object_id)


def test_a_folder_of_another_command_is_no_run_of_redshifts(tmp_path):
    with pytest.raises(LumosDataError):
        read_redshifts(tmp_path)


@pytest.mark.parametrize("likelihood", ["gaussian", "student", "pdf"])
def test_galaxies_of_which_none_can_be_fitted(likelihood):
    flux = np.full((3, len(GRID.bands)), np.nan)
    mixture = np.full((3, len(GRID.bands), 3, 2), np.nan)
    rows = redshift_rows(
        Photometry(np.arange(3), flux, flux, mixture, bands=GRID.bands),
        GRID,
        SETTINGS.model_copy(update={"likelihood": likelihood}),
    )
    assert np.isnan(rows["zb"]).all()
    assert (rows["flags"] & PhotozFlag.TOO_FEW_BANDS > 0).all()
