"""`measure` on real exposures: SDSS against the deep coadd, VISTA and DECam against themselves."""

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from lumos.adaptation.injected import inject_round, training_stamps
from lumos.adaptation.inputs import iterate_ccds
from lumos.flags import Flag
from lumos.nets.checkpoint import load_model
from lumos.pdf.mixture import GaussianMixture
from lumos.photometry.measured import open_run
from lumos.statistics import sigma68

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

    # The network's errors also hold what exposures share and no repeat sees: wrong shapes, light of neighbours.
    pull, pit, signal_to_noise = injected_pulls(tmp_path / "east_network")
    assert len(pull) > 1500
    assert kstest(pit, "uniform").statistic < 0.06
    for low, high in pairwise((-np.inf, 2, 8, np.inf)):
        inside = (signal_to_noise >= low) & (signal_to_noise < high)
        assert abs(sigma68(pull[inside]) - 1) < 0.15, (low, high)
        assert abs(np.median(pull[inside])) < 0.15, (low, high)


def injected_pulls(folder):
    """Return pulls, PIT and true S/N of galaxies of the network's training, injected into the exposures of a run."""
    model, run, rng = load_model("generic"), open_run(folder), np.random.default_rng(3)
    settings, found = training_stamps(model.config.training), []
    for scaled in iterate_ccds(run, model):
        for _ in range(3):
            one = inject_round(model, scaled, settings, 250, 60.0, rng, lambda inputs: inputs)
            good = one.stamps.inputs.usable
            output = model.predict(one.stamps.inputs.take(good))
            log_weights, means, stds = (value.double().numpy() for value in output.parameters)
            pdf, truth = GaussianMixture(np.exp(log_weights), means, stds), one.flux[good].double().numpy()
            low, median, high = pdf.quantile(np.tile([0.16, 0.5, 0.84], (len(truth), 1))).T
            error = one.stamps.flux_scale[good].double().numpy()
            found.append(np.stack([(median - truth) / (high - low) * 2, pdf.cdf(truth), truth / error]))
    return np.concatenate(found, axis=1)


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
