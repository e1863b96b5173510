"""`measure` on real exposures: SDSS against the deep coadd, VISTA and DECam against themselves."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from lumos.flags import Flag

pytestmark = pytest.mark.science
EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    return runpy.run_path(str(EXAMPLES / name))


def test_sdss_beats_its_own_fluxes(data_dir, tmp_path):
    script = example("sdss_stripe82.py")
    results = script["compare"](data_dir / "sdss", tmp_path / "own", script["FAINT"])
    deep = script["compare"](data_dir / "sdss", tmp_path / "deep", script["FAINT"], coadd_shapes=True, model="generic")
    for band in "gi":
        own = results[band]["SDSS's own"]
        assert own.pull.n[0] > 190
        for name in ("aperture", "profile_fit", "optimal"):
            ours = results[band][name]
            # About 195 galaxies: a scatter has an error of 5 %. SDSS's own pulls scatter by 1.76 and 2.01.
            assert ours.pull.sigma68[0] < 0.95 * own.pull.sigma68[0]
            # The profile fit's own chi^2 makes it high by 0.3 errors on any faint galaxy.
            assert abs(ours.pull.median[0]) < (0.6 if name == "profile_fit" else 0.3)
            assert ours.relative.sigma68[0] < 1.1 * own.relative.sigma68[0]
            # With shapes that are not themselves noisy the errors nearly hold.
            assert deep[band][name].pull.sigma68[0] < 1.3
            assert deep[band][name].relative.sigma68[0] < 0.9 * own.relative.sigma68[0]
        # A network that has not seen the survey: no worse than optimal weights within the error of two scatters.
        network, optimal = deep[band]["lumos"], deep[band]["optimal"]
        assert network.relative.sigma68[0] < 1.1 * optimal.relative.sigma68[0]
        assert 0.85 < network.pull.sigma68[0] < 1.35
        assert abs(network.pull.median[0]) < 0.3


def test_vista_repeats_agree_with_their_errors(data_dir, tmp_path):
    script = example("vista_repeats.py")
    sides = script["compare"](data_dir / "vista", tmp_path)
    edges = script["EDGES"]
    inside = (edges[:-1] >= 17) & (edges[1:] <= 22)
    spreads = np.mean([side.full.difference.sigma68[inside] for side in sides.values()], axis=0)
    # Six pairs of each object are not independent: 25 objects at 17-18 give an error of 8 %.
    assert (np.abs(spreads[1:] - 1) < 0.1).all()
    assert abs(spreads[0] - 1) < 0.2
    for side in sides.values():
        # The network's errors, which nobody fitted to this camera.
        middle = (edges[:-1] >= 19) & (edges[1:] <= 22)
        assert (np.abs(side.network.difference.sigma68[middle] - 1) < 0.12).all()
        # The exposure that chose the faint objects takes no part: no estimator's repeats are off, nor too wide.
        assert "image_3" not in side.full.exposure_id
        assert set(side.quarters) == {*script["ESTIMATORS"], "generic"}
        for name, repeats in side.quarters.items():
            found = repeats.difference
            assert (np.abs(found.median) < 4 * found.median_err).all(), name
            assert (np.abs(found.sigma68 - 1) < 0.2).all(), name
        assert 0.005 < side.floor < 0.025
        # Errors for independent pixels are wrong by a factor.
        faint = (edges[:-1] >= 19) & (edges[1:] <= 22)
        assert (side.white.difference.sigma68[faint] > 1.5).all()
        # The zero points are known to differ by up to 2 %.
        assert np.abs(side.full.scales - 1).max() < 0.03
        assert side.full.scales_err.max() < 0.01


def test_a_folder_without_the_images_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"no image_1\.fits, needed: image_1\.fits, image_2"):
        example("vista_repeats.py")["compare"](tmp_path, tmp_path / "out")


def test_decam_cutouts(data_dir, tmp_path):
    script = example("decam_cutouts.py")
    data = data_dir / "legacypipe" / "testcase3"
    rows = script["measure"](data, tmp_path).to_pylist()
    zeropoint = script["zeropoints"](data)
    assert len(rows) == 8
    for row in rows:
        # The catalogue was made from one of the z exposures.
        made = int(Flag.CATALOG_EXPOSURE) if row["exposure_id"] == "722778" else 0
        assert row["flags"] == int(Flag.NO_ZEROPOINT) | made
        assert row["flux"] > 50 * row["flux_err"]
    for band, expected in {"g": 3, "r": 2, "z": 3}.items():
        here = [row for row in rows if row["band"] == band]
        assert len(here) == expected
        magnitude = [zeropoint[row["exposure_id"]] - 2.5 * np.log10(row["flux"]) for row in here]
        error = [1.0857 * row["flux_err"] / row["flux"] for row in here]
        # Zero points are known to about 0.01 mag.
        assert np.ptp(magnitude) < 4 * np.hypot(max(error), 0.01)
