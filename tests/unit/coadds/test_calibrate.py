"""Zero points of finished runs: what is stated, fitted, given in tables; and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.flux_runs import exposure, positions, write_run
from lumos.coadds.calibrate import calibrate_run
from lumos.coadds.settings import CalibrateSettings
from lumos.errors import LumosDataError
from lumos.flags import Flag

N = 300
OBJECTS = np.arange(N)


@pytest.fixture
def truth(rng):
    return 10 ** rng.uniform(3, 5, N)


def noisy(rng, truth, snr=50.0):
    return truth * (1 + rng.standard_normal(N) / snr), truth / snr


def shifted(rng, truth, shifts, **facts):
    """Exposures whose zero points are off by shifts in magnitudes: fluxes come out larger by as much."""
    made = []
    for number, shift in enumerate(shifts):
        flux, error = noisy(rng, truth)
        factor = 10 ** (-0.4 * shift)
        made.append(exposure(f"e{number}", OBJECTS, flux * factor, error * factor, **facts))
    return made


def test_relative_zero_points_are_found_with_their_errors(rng, tmp_path, truth):
    shifts = np.array([0.02, -0.03, 0.0, 0.01])
    made = calibrate_run([write_run(tmp_path / "run", shifted(rng, truth, shifts, zeropoint_err=0.05))])
    off = -made.correction - (shifts - shifts.mean())
    # Against each other to 1.0857 / 50 / sqrt(300) = 0.0013 mag; the common scale to 0.05 / 2.
    contrast = off - off.mean()
    assert np.abs(contrast).max() < 4 * 0.0013
    np.testing.assert_allclose(made.log_scale, -made.correction / 1.085736, rtol=1e-6)
    covariance = 1.085736**2 * made.covariance(np.arange(4))
    assert np.sqrt(covariance.mean()) == pytest.approx(0.025, rel=0.02)
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # Errors come from 42 places on the sky: three times 1 / sqrt(2 * 42).
    assert np.sqrt(difference) == pytest.approx(np.sqrt(2) * 0.0013, rel=0.15)
    assert made.log_scale_err == pytest.approx(0.025 / 1.085736, rel=0.1)
    assert (made.n_objects == N).all()
    assert not made.doubtful.any()
    assert made.scatter["i"] < 0.005
    assert made.table().num_rows == 4


def test_without_a_fit_the_stated_values_hold(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", shifted(rng, truth, [0.02, -0.03], zeropoint_err=0.05))
    made = calibrate_run([run], CalibrateSettings(fit=False))
    np.testing.assert_array_equal(made.log_scale, 0)
    np.testing.assert_allclose(made.covariance(np.array([0, 1])), np.diag([0.05 / 1.085736] * 2) ** 2, rtol=1e-6)


def test_exposures_without_overlap_keep_what_is_stated(rng, tmp_path, truth):
    (first, second) = shifted(rng, truth, [0.0, 0.3], zeropoint_err=0.02)
    second["object_id"] = second["object_id"] + 1000
    made = calibrate_run([write_run(tmp_path / "run", [first, second])])
    np.testing.assert_array_equal(made.log_scale, 0)
    assert made.covariance(np.array([0, 1]))[0, 1] == 0
    assert (made.n_objects == 0).all()


def test_bands_are_independent(rng, tmp_path, truth):
    blue = [dict(made, band=np.full(N, "g", dtype=object)) for made in shifted(rng, truth, [0.1, -0.1])]
    for number, columns in enumerate(blue):
        columns["exposure_id"] = np.full(N, f"g{number}", dtype=object)
    red = shifted(rng, truth, [0.0, 0.0])
    made = calibrate_run([write_run(tmp_path / "run", [red[0], *blue, red[1]])], CalibrateSettings(assumed_err=0.05))
    assert made.band == ("g", "g", "i", "i")
    assert made.exposure_id == ("g0", "g1", "e0", "e1")
    assert made.index(np.array(["e1", "g0"]), np.array(["1", "1"])).tolist() == [3, 0]
    assert made.covariance(np.array([[0, 1], [2, 3]])).shape == (2, 2, 2)
    with pytest.raises(LumosDataError, match="'e9'"):
        made.index(np.array(["e9"]), np.array(["1"]))


def test_a_table_replaces_the_headers(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", shifted(rng, truth, [0.0, 0.5], zeropoint_err=0.01))
    table = tmp_path / "zp.csv"
    table.write_text("exposure_id,zeropoint,zeropoint_err\ne1,24.5,0.01\n")
    made = calibrate_run([run], zeropoints=table)
    # With 24.5 in place of 25 the same pixels are fluxes 0.5 mag brighter, which the exposure's were fainter by.
    assert made.log_scale[1] - made.log_scale[0] == pytest.approx(0.5 / 1.085736, abs=0.01)
    assert not made.doubtful.any()
    assert made.zeropoint.tolist() == [25.0, 24.5]


def test_exposures_in_image_units_need_a_table_or_common_objects(rng, tmp_path, truth):
    calibrated, bare = shifted(rng, truth, [0.0, 0.0])
    bare["zeropoint"][:] = np.nan
    for name in ("flux", "flux_err", "pdf_means", "pdf_stds"):
        bare[name] = bare[name] / 360.0
    made = calibrate_run([write_run(tmp_path / "run", [calibrated, bare])])
    assert made.log_scale[1] - made.log_scale[0] == pytest.approx(np.log(360), abs=0.01)
    # 360 times as many nJy for a unit of the image: its zero point is that of the other exposure's, 1 nJy, less that.
    zeropoints = made.table()["zeropoint"].to_numpy()
    assert zeropoints[1] == pytest.approx(31.4 - 2.5 * np.log10(360), abs=0.01)
    assert zeropoints[0] == pytest.approx(25.0, abs=0.01)
    assert np.isnan(made.table()["zeropoint_stated"].to_numpy()[1])
    alone = write_run(tmp_path / "alone", [bare])
    with pytest.raises(LumosDataError, match="band i: none of its 1 exposures has a zero point"):
        calibrate_run([alone])
    table = tmp_path / "zp.csv"
    table.write_text("exposure_id,zeropoint\ne1,25.0\n")
    made = calibrate_run([alone], zeropoints=table)
    # 1 image unit at 25.0 is 10^(0.4 (31.4 - 25)) nJy.
    assert made.log_scale[0] == pytest.approx(0.4 * np.log(10) * 6.4)


def test_a_zero_point_that_contradicts_the_others_is_doubtful(rng, tmp_path, truth):
    made = calibrate_run([write_run(tmp_path / "run", shifted(rng, truth, [0.0, 0.0, 0.0, 0.2], zeropoint_err=0.01))])
    assert made.doubtful.tolist() == [False, False, False, True]
    # The others move by Huber's limit, two errors in three: 0.007.
    assert np.abs(made.correction[:3]).max() < 0.01
    assert made.correction[3] == pytest.approx(-0.2, abs=0.012)


def test_a_zero_point_of_zero_is_refused(rng, tmp_path, truth):
    made = shifted(rng, truth, [0.0, 0.0, 0.0])
    made[1]["zeropoint"][:] = 0.0
    run = write_run(tmp_path / "run", made)
    with pytest.raises(LumosDataError, match=r"exposure .e1.: zero point 0, allowed: within 7\.5 mag"):
        calibrate_run([run])


def test_missing_errors_are_assumed(rng, tmp_path, truth):
    made = shifted(rng, truth, [0.0, 0.0])
    made[0]["zeropoint_err"][:] = np.nan
    made[1]["zeropoint_err"][:] = 0.0
    result = calibrate_run([write_run(tmp_path / "run", made)], CalibrateSettings(assumed_err=0.07))
    assert result.zeropoint_err.tolist() == [0.07, 0.07]


@pytest.mark.parametrize("by", ["object_id", "position"])
def test_a_reference_gives_the_absolute_scale(rng, tmp_path, truth, by):
    run = write_run(tmp_path / "run", shifted(rng, truth, [0.10, 0.12], zeropoint_err=0.2))
    ra, dec = positions(OBJECTS)
    known = {"object_id": OBJECTS} if by == "object_id" else {"ra": ra + 0.3 / 3600, "dec": dec}
    flux = truth * (1 + 0.03 * rng.standard_normal(N))
    pq.write_table(
        pa.table(known | {"band": ["i"] * N, "flux": flux, "flux_err": 0.03 * truth}), tmp_path / "r.parquet"
    )
    made = calibrate_run([run], reference=tmp_path / "r.parquet")
    # 1.0857 x 0.03 / sqrt(300) = 0.0019 mag.
    np.testing.assert_allclose(made.correction, [-0.10, -0.12], atol=4 * 0.0025)
    assert made.log_scale_err.max() < 0.004


def test_flagged_and_faint_objects_take_no_part(rng, tmp_path, truth):
    first, second = shifted(rng, truth, [0.0, 0.0], zeropoint_err=0.05)
    spoilt = rng.random(N) < 0.5
    second["flux"] = np.where(spoilt, 3 * second["flux"], second["flux"])
    second["flags"] = np.where(spoilt, int(Flag.SATURATED), 0)
    made = calibrate_run([write_run(tmp_path / "run", [first, second])])
    assert abs(made.log_scale[1] - made.log_scale[0]) < 4 * np.sqrt(2) / 50 / np.sqrt(150)
    faint = write_run(tmp_path / "faint", shifted(rng, truth, [0.0, 0.1]))
    assert (calibrate_run([faint], CalibrateSettings(min_snr=200)).n_objects == 0).all()


@pytest.mark.parametrize(("n_alone", "n_used"), [(200, 200), (20, N)])
def test_objects_with_a_neighbour_take_part_only_where_others_are_few(rng, tmp_path, truth, n_alone, n_used):
    flags = np.where(np.arange(N) < n_alone, 0, int(Flag.NEIGHBOUR))
    made = calibrate_run([write_run(tmp_path / "run", shifted(rng, truth, [0.0, 0.01], flags=flags))])
    assert (made.n_objects == n_used).all()


def test_runs_are_merged_and_an_exposure_is_taken_once(rng, tmp_path, truth):
    made = shifted(rng, truth, [0.0, 0.02, 0.04])
    whole = calibrate_run([write_run(tmp_path / "whole", made)])
    parts = [write_run(tmp_path / "a", made[1:]), write_run(tmp_path / "b", made[:1])]
    split = calibrate_run(parts)
    assert split.exposure_id == whole.exposure_id
    np.testing.assert_array_equal(split.log_scale, whole.log_scale)
    with pytest.raises(LumosDataError, match="'e0', detector '1': measured in two of the runs"):
        calibrate_run([tmp_path / "whole", tmp_path / "b"])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("exposure,zeropoint\ne0,25\n", "no column 'exposure_id'"),
        ("exposure_id,zeropoint\ne0,25\ne0,26\n", "exposure 'e0' has the zero points 25 and 26"),
    ],
)
def test_bad_tables_of_zero_points(rng, tmp_path, truth, text, match):
    run = write_run(tmp_path / "run", shifted(rng, truth, [0.0, 0.0]))
    table = tmp_path / "zp.csv"
    table.write_text(text)
    with pytest.raises(LumosDataError, match=match):
        calibrate_run([run], zeropoints=table)
    with pytest.raises(LumosDataError, match="no such table of zero points"):
        calibrate_run([run], zeropoints=tmp_path / "none.csv")


def test_bad_references(rng, tmp_path, truth):
    run = write_run(tmp_path / "run", shifted(rng, truth, [0.0, 0.0]))
    pq.write_table(pa.table({"object_id": [1], "flux": [1.0], "flux_err": [0.1]}), tmp_path / "r.parquet")
    with pytest.raises(LumosDataError, match="no column 'band'"):
        calibrate_run([run], reference=tmp_path / "r.parquet")
    bad = pa.table({"object_id": [1], "band": ["i"], "flux": [-1.0], "flux_err": [0.1]})
    pq.write_table(bad, tmp_path / "r.parquet")
    with pytest.raises(LumosDataError, match="no flux with an error"):
        calibrate_run([run], reference=tmp_path / "r.parquet")
