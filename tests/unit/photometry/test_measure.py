"""Runs of `measure`: one row per object, NaN and flags for bad ones, errors for bad calls, restarts."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from helpers.measured_runs import SHAPE, catalog_at, run, write_exposure
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError
from lumos.flags import CatalogFlag, Flag
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards

FATAL = Flag.BAD_SHAPE | Flag.TOO_MASKED | Flag.NO_PSF | Flag.BAD_NOISE


def test_one_row_per_object_in_the_footprint(tmp_path, rng):
    # Inside, in a corner, just inside an edge, just outside, far outside, and on the other side of the sky.
    catalog = catalog_at([100, 0, 219.4, 219.6, 100, 100], [100, 0, 50, 50, -300, 100])
    catalog.ra[5] += 180
    report = run(tmp_path, [write_exposure(tmp_path / "a.fits", rng)], catalog)
    table = read_shards(tmp_path / "run")
    assert table["object_id"].to_pylist() == [1, 2, 3]
    assert report.n_rows == 3
    np.testing.assert_allclose(table["x"], [100, 0, 219.4], atol=2e-3)
    np.testing.assert_allclose(table["y"], [100, 0, 50], atol=2e-3)
    flags = table["flags"].to_numpy()
    assert [bool(flag & Flag.EDGE) for flag in flags] == [False, True, True]
    # In the corner a quarter of the light is on the image; the first object has all of it.
    assert flags[1] & Flag.TOO_MASKED
    assert np.isnan(table["flux"][1].as_py())
    assert np.isfinite(table["flux"][0].as_py())


def test_bad_shapes_are_nan_with_a_flag(tmp_path, rng):
    x, y = np.meshgrid([60, 100, 140], [60, 100, 140])
    catalog = catalog_at(x.ravel(), y.ravel())
    catalog.half_light_radius[:3] = [1e300, -1, np.nan]
    catalog.sersic_n[3:5] = [0.1, 9]
    catalog.axis_ratio[5:7] = [0, 1.5]
    catalog.position_angle[7] = np.inf
    run(tmp_path, [write_exposure(tmp_path / "a.fits", rng)], catalog)
    table = read_shards(tmp_path / "run")
    bad = np.arange(9) < 8
    np.testing.assert_array_equal((table["flags"].to_numpy() & Flag.BAD_SHAPE) != 0, bad)
    for name in ("flux", "flux_err", "aperture_flux", "profile_fit_flux", "optimal_flux", "optimal_free_flux"):
        np.testing.assert_array_equal(np.isnan(table[name].to_numpy()), bad)


def test_every_nan_has_a_flag_and_every_fatal_flag_a_nan(tmp_path, rng):
    def spoil(data):
        data[40:44, 40:44] = np.nan
        data[100, 100] = np.inf
        data[150:, 150:] = np.nan

    variance = np.full(SHAPE, 25.0, dtype=np.float32)
    variance[60:70, 150:160] = 0
    variance[20:30, 20:30] = -1
    path = write_exposure(tmp_path / "a.fits", rng, spoil=spoil, extensions={"VAR": variance})
    x, y = np.meshgrid(np.arange(5, 220, 15), np.arange(5, 200, 15))
    run(tmp_path, [path], catalog_at(x.ravel(), y.ravel()))
    table = read_shards(tmp_path / "run")
    flags, flux = table["flags"].to_numpy(), table["flux"].to_numpy()
    assert len(flags) == x.size
    fatal = (flags & int(FATAL | Flag.BAD_BACKGROUND | Flag.FIT_FAILED)) != 0
    np.testing.assert_array_equal(np.isnan(flux), fatal)
    assert np.isnan(flux).sum() > 10
    error = table["flux_err"].to_numpy()
    np.testing.assert_array_equal(np.isnan(error), fatal)
    assert (error[~fatal] > 0).all()
    # No light is invented or lost: blank sky scatters about 0 with the error that is given.
    pull = flux[~fatal] / error[~fatal]
    assert abs(pull.mean()) < 4 / np.sqrt(len(pull))


def test_masked_centre(tmp_path, rng):
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[100, 101] = 1
    path = write_exposure(tmp_path / "a.fits", rng, extensions={"MASK": mask})
    run(tmp_path, [path], catalog_at([100, 150], [100, 150]))
    flags = read_shards(tmp_path / "run")["flags"].to_numpy()
    assert flags[0] & Flag.MASKED_CENTRE
    assert flags[0] & Flag.MASKED
    assert not flags[1]


def test_neighbours_and_large_objects(tmp_path, rng):
    catalog = catalog_at([60, 63, 150, 100], [60, 60, 150, 110])
    catalog.half_light_radius[2:] = [12.0, 50.0]
    run(tmp_path, [write_exposure(tmp_path / "a.fits", rng)], catalog)
    flags = read_shards(tmp_path / "run")["flags"].to_numpy()
    assert [bool(flag & Flag.NEIGHBOUR) for flag in flags[:2]] == [True, True]
    assert [bool(flag & Flag.TRUNCATED_PROFILE) for flag in flags] == [False, False, False, True]


def test_what_the_catalogue_says_of_its_objects_and_exposures_is_flagged(tmp_path, rng, caplog):
    doubts = np.array([0, int(CatalogFlag.POOR_FIT), int(CatalogFlag.BLENDED)])
    catalog = catalog_at([50, 100, 150], [100, 100, 100], flags=doubts, made_from=("a",))
    exposures = [write_exposure(tmp_path / f"{name}.fits", rng) for name in ("a", "b")]
    run(tmp_path, exposures, catalog)
    table = read_shards(tmp_path / "run")
    flags, exposure = table["flags"].to_numpy(), table["exposure_id"].to_numpy()
    assert ((flags & int(Flag.DOUBTFUL_SHAPE)) > 0).tolist() == [False, True, False] * 2
    assert (((flags & int(Flag.CATALOG_EXPOSURE)) > 0) == (exposure == "a")).all()
    assert caplog.text.count("the catalogue was made from this exposure") == 1
    assert "a.fits: the catalogue was made from this exposure" in caplog.text
    # The settings say the same of a catalogue that does not know.
    settings = MeasureSettings(catalog={"made_from": ["b"]})
    run(tmp_path, exposures, replace(catalog, made_from=(), flags=None), out="told", settings=settings)
    table = read_shards(tmp_path / "told")
    flags, exposure = table["flags"].to_numpy(), table["exposure_id"].to_numpy()
    assert (((flags & int(Flag.CATALOG_EXPOSURE)) > 0) == (exposure == "b")).all()
    assert not (flags & int(Flag.DOUBTFUL_SHAPE)).any()


def test_texts_that_identify_objects_come_through(tmp_path, rng):
    names = np.array(["NGC 1", "b", "µ"])
    catalog = catalog_at([150, 100, 5000], [100, 100, 100], object_name=names)
    run(tmp_path, [write_exposure(tmp_path / "a.fits", rng)], catalog)
    table = read_shards(tmp_path / "run")
    assert table["object_name"].to_pylist() == ["NGC 1", "b"]
    assert table.column_names[:2] == ["object_id", "object_name"]


def test_no_zeropoint_gives_image_units(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng, MAGZPT=None)
    run(tmp_path, [path], catalog_at([100], [100]))
    table = read_shards(tmp_path / "run")
    assert table["flags"][0].as_py() & Flag.NO_ZEROPOINT
    assert np.isnan(table["zeropoint"][0].as_py())
    # Noise of 5 image units per pixel: the error is some tens of image units, not thousands of nJy.
    assert 10 < table["flux_err"][0].as_py() < 300


@pytest.mark.parametrize("source", ["auto", "gain", "scatter"])
def test_sources_of_noise_agree_where_all_are_right(tmp_path, rng, source):
    # Sky 100, gain 4, no read noise: variance 25, as drawn.
    path = write_exposure(tmp_path / "a.fits", rng, GAIN=4.0, RDNOISE=0.0)
    settings = MeasureSettings(noise={"source": source, "correlation": "none"})
    run(tmp_path, [path], catalog_at([100], [100]), settings=settings)
    reference = MeasureSettings(noise={"source": "variance", "correlation": "none"})
    other = write_exposure(tmp_path / "b.fits", rng, extensions={"VAR": np.full(SHAPE, 25.0, np.float32)})
    run(tmp_path, [other], catalog_at([100], [100]), settings=reference, out="other")
    ratio = (
        read_shards(tmp_path / "run")["flux_err"][0].as_py() / read_shards(tmp_path / "other")["flux_err"][0].as_py()
    )
    # The scatter of 3500 annulus pixels is known to 1.2 %, the level to 0.1 %.
    assert abs(ratio - 1) < 0.05


def test_wrong_gain_is_noticed(tmp_path, rng, caplog):
    path = write_exposure(tmp_path / "a.fits", rng, GAIN=100.0, RDNOISE=0.0)
    run(tmp_path, [path], catalog_at([100], [100]))
    assert "gain and sky give 0.04" in caplog.text
    with pytest.raises(LumosConfigError, match="other settings"):
        run(tmp_path, [path], catalog_at([100], [100]), settings=MeasureSettings(noise={"source": "gain"}))


def test_relative_floor_adds_to_the_error(tmp_path, rng):
    def star(data):
        data[100, 100] += 1e5

    path = write_exposure(tmp_path / "a.fits", rng, spoil=star)
    run(tmp_path, [path], catalog_at([100], [100]))
    run(
        tmp_path, [path], catalog_at([100], [100]), out="floor", settings=MeasureSettings(noise={"relative_floor": 0.1})
    )
    before, after = (read_shards(tmp_path / name) for name in ("run", "floor"))
    flux = before["flux"][0].as_py()
    assert after["flux"][0].as_py() == flux
    expected = np.hypot(before["flux_err"][0].as_py(), 0.1 * flux)
    assert after["flux_err"][0].as_py() == pytest.approx(expected, rel=1e-5)


def test_a_finished_run_does_nothing_and_a_changed_one_is_refused(tmp_path, rng):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    catalog = catalog_at([100, 50], [100, 50])
    assert run(tmp_path, paths[:1], catalog).done == ("a",)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "shards").iterdir()}
    report = run(tmp_path, paths, catalog)
    assert (report.done, report.skipped, report.n_rows) == (("b",), ("a",), 4)
    assert run(tmp_path, paths, catalog).skipped == ("a", "b")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    with pytest.raises(LumosConfigError, match=r"other settings \(measure\.stamp_size: 60 -> 80\)"):
        run(tmp_path, paths, catalog, settings=MeasureSettings(stamp_size=80))
    with pytest.raises(LumosConfigError, match=r"other settings \(catalog: .*parent\.parquet has changed\)"):
        run(tmp_path, paths, catalog_at([101], [100]))


def test_damaged_shards_and_changed_inputs_are_measured_again(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    catalog = catalog_at([100], [100])
    run(tmp_path, [path], catalog)
    shard = tmp_path / "run" / "shards" / "a.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    assert run(tmp_path, [path], catalog).done == ("a",)
    assert shard.read_bytes() == whole
    os.utime(path, ns=(1, 1))
    assert run(tmp_path, [path], catalog).done == ("a",)


def test_a_failing_exposure_does_not_stop_the_others(tmp_path, rng):
    good = write_exposure(tmp_path / "good.fits", rng)
    paths = [
        tmp_path / "missing.fits",
        write_exposure(tmp_path / "band.fits", rng, FILTER="()"),
        write_exposure(tmp_path / "nopsf.fits", rng, PSF_FWHM=None),
        write_exposure(tmp_path / "evil.fits", rng, EXPID="../../etc/passwd"),
        tmp_path / "cut.fits",
        write_exposure(tmp_path / "singular.fits", rng, CD1_1=0.0),
        good,
    ]
    paths[4].write_bytes(good.read_bytes()[:20_000])
    report = run(tmp_path, paths, catalog_at([100], [100]))
    assert report.done == ("good",)
    reasons = {path.split("/")[-1]: reason for path, reason in report.failed.items()}
    for name, part in {
        "missing.fits": "no such file",
        "band.fits": "band '()', allowed: a name with 1 to 40 letters",
        "nopsf.fits": "PSF",
        "evil.fits": "not safe as a file name",
        "cut.fits": "truncated",
        "singular.fits": "singular",
    }.items():
        assert part in reasons[name], reasons[name]
        assert name in reasons[name]
    assert sorted(path.name for path in (tmp_path / "run" / "shards").iterdir()) == ["good.parquet"]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert sum(entry["status"] == "failed" for entry in manifest["exposures"].values()) == 6
    # Mended, the failed one is measured, and what failed before no longer counts.
    paths[1].unlink()
    write_exposure(paths[1], rng)
    report = run(tmp_path, paths[1:2], catalog_at([100], [100]))
    assert report.done == ("band",)
    entries = json.loads((tmp_path / "run" / "manifest.json").read_text())["exposures"]
    assert {name: entry["status"] for name, entry in entries.items()} == {"good": "done", "band": "done"}
    (tmp_path / "run" / "settings.yaml").write_text("- [")
    with pytest.raises(LumosConfigError, match=r"settings\.yaml: cannot be read, not YAML"):
        run(tmp_path, paths[1:2], catalog_at([100], [100]))


def test_workers_give_the_same_shards(tmp_path, rng):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abc"]
    catalog = catalog_at([100, 50], [100, 50])
    run(tmp_path, paths, catalog)
    seen = []
    run(tmp_path, paths, catalog, out="two", workers=2, progress=lambda *state: seen.append(state))
    one, two = (
        read_shards(tmp_path / name).sort_by([("exposure_id", "ascending"), ("object_id", "ascending")])
        for name in ("run", "two")
    )
    missing = ["ood_score", "zeropoint_err", "neighbour_distance"]
    assert one.drop_columns(missing) == two.drop_columns(missing)
    assert [state[:2] for state in seen] == [(1, 3), (2, 3), (3, 3)]


def test_bad_calls(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    catalog = catalog_at([100], [100])
    with pytest.raises(LumosValueError, match="at least one file"):
        run(tmp_path, [], catalog)
    with pytest.raises(LumosValueError, match=">= 1"):
        run(tmp_path, [path], catalog, workers=0)
    with pytest.raises(LumosConfigError, match=r"unknown estimator 'magic', allowed: aperture"):
        run(tmp_path, [path], catalog, settings=MeasureSettings(estimators=("magic",)))
    with pytest.raises(ValueError, match="is not one of"):
        run(tmp_path, [path], catalog, settings=MeasureSettings(estimators=("aperture",), default="optimal"))
    with pytest.raises(LumosDataError, match="no such parent catalogue"):
        run(tmp_path, [path], tmp_path / "none.csv")
    (tmp_path / "b").mkdir()
    twin = write_exposure(tmp_path / "b" / "a.fits", rng)
    with pytest.raises(LumosDataError, match="both are exposure 'a'"):
        run(tmp_path, [path, twin], catalog)


def test_asked_for_noise_that_does_not_exist(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng, GAIN=None)
    report = run(tmp_path, [path], catalog_at([100], [100]), settings=MeasureSettings(noise={"source": "gain"}))
    assert "noise.source=gain" in report.failed[str(path)]
    report = run(
        tmp_path, [path], catalog_at([100], [100]), settings=MeasureSettings(noise={"source": "variance"}), out="b"
    )
    assert "noise.source=variance" in report.failed[str(path)]


def test_exposure_without_objects_has_an_empty_shard(tmp_path, rng, caplog):
    path = write_exposure(tmp_path / "a.fits", rng)
    report = run(tmp_path, [path], catalog_at([-500], [100]))
    assert (report.n_rows, report.done) == (0, ("a",))
    assert "no object of the catalogue lies on this exposure" in caplog.text
    assert read_shards(tmp_path / "run").num_rows == 0


@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_fluxes_do_not_depend_on_the_image_unit(tmp_path, unit):
    def spoil(data):
        data[100, 100] += 2000

    def scale(data):
        spoil(data)
        data *= unit

    variance = np.full(SHAPE, 25.0, dtype=np.float32)
    plain = write_exposure(tmp_path / "a.fits", np.random.default_rng(1), spoil=spoil, extensions={"VAR": variance})
    # The zero point in the header moves with the unit.
    cards = {"MAGZPT": 27.0 + 2.5 * np.log10(unit), "GAIN": 2.0 / unit}
    other = {"VAR": (variance * unit**2).astype(np.float32)}
    scaled = write_exposure(tmp_path / "b.fits", np.random.default_rng(1), spoil=scale, extensions=other, **cards)
    run(tmp_path, [plain], catalog_at([100], [100]))
    run(tmp_path, [scaled], catalog_at([100], [100]), out="scaled")
    one, two = read_shards(tmp_path / "run"), read_shards(tmp_path / "scaled")
    for name in ("flux", "flux_err", "aperture_flux", "profile_fit_flux", "optimal_free_flux", "background"):
        assert two[name][0].as_py() == pytest.approx(one[name][0].as_py(), rel=1e-3), name
    assert two["zeropoint"][0].as_py() == pytest.approx(27.0 + 2.5 * np.log10(unit), abs=1e-4)


def test_constant_image(tmp_path, rng):
    def spoil(data):
        data[:] = 100.0

    path = write_exposure(tmp_path / "a.fits", rng, spoil=spoil)
    run(tmp_path, [path], catalog_at([100], [100]))
    table = read_shards(tmp_path / "run")
    assert np.isnan(table["flux"][0].as_py())
    assert table["flags"][0].as_py() & int(Flag.BAD_NOISE | Flag.BAD_BACKGROUND)
