"""Training of the networks of backgrounds: deterministic, resumable, and calibrated on pools of known skies."""

import numpy as np
import pytest
import torch

from helpers.background_pools import flat_pool, new_stamps, write_pool
from lumos.errors import LumosConfigError, LumosDataError
from lumos.nets.bkgnet_model import BackgroundConfig
from lumos.pools.pool import BackgroundPool
from lumos.settings import load_training
from lumos.training.background import train_background
from lumos.training.known import AT_ONCE, draw_known
from lumos.training.settings import BackgroundTraining, TrainSettings
from lumos.workflows.train import train_model

SMALL = {"channels": [4, 6, 8], "hidden": 16}
#: Few stamps, which are learnt from often.
SHORT = {
    "n_stamps": 4 * AT_ONCE,
    "n_validation": AT_ONCE,
    "validate_every": 4 * AT_ONCE,
    "optimizer": {"batch_size": 256, "passes": 8, "learning_rate": 4e-3, "average": 0.98},
}


def settings(path, **changes):
    base = {
        "architecture": "bkgnet",
        "name": "small",
        "network": SMALL,
        "pool": {"paths": [path]},
        "n_stamps": 3 * AT_ONCE,
        "n_validation": AT_ONCE,
        "validate_every": AT_ONCE,
    }
    return BackgroundTraining.model_validate({**base, **changes})


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return flat_pool(tmp_path_factory.mktemp("pool") / "pool", np.random.default_rng(5), n=48, side=120)


def weights(report):
    return report.model.network.state_dict()["head.weight"]


def test_the_pixels_under_the_mask_are_the_truth_and_are_not_seen(pool, tmp_path):
    config = BackgroundConfig(name="none")
    run = settings(tmp_path)
    known = draw_known(pool, np.arange(48), config, run, (1, 2))
    assert len(known) > 0.9 * AT_ONCE
    # White noise of 5 on a flat sky: the truth scatters by 1 / sqrt(n), the annulus by its error.
    expected = float(torch.hypot(known.truth_err, known.annulus_err).square().mean().sqrt())
    assert float(known.truth.std()) == pytest.approx(expected, rel=0.1)
    assert float(known.truth_err.median()) == pytest.approx(1 / np.sqrt(np.pi * 8**2), rel=0.02)
    middle = known.inputs.images[:, 1, 9:11, 9:11]
    assert float(middle.max()) == 0.0
    assert torch.equal(draw_known(pool, np.arange(48), config, run, (1, 2)).truth, known.truth)


def test_sources_that_no_catalogue_has_are_light_but_no_truth(pool, tmp_path):
    config, rows = BackgroundConfig(name="none"), np.arange(48)
    changes = {"source_flux": [20.0, 20.001], "sources": 2000}
    none, many = (draw_known(pool, rows, config, settings(tmp_path, **how), (1, 2)) for how in ({}, changes))
    levels = [known.inputs.centre + known.inputs.unit * known.truth for known in (none, many)]
    # The sky is one of 100 with a noise of 5; the sources are 0.04 of it per pixel, of which the clipping takes some.
    for level in levels:
        assert float(level.mean()) == pytest.approx(100.0, abs=0.05)
    light = float((many.inputs.centre - 100.0).mean()) / 5.0
    assert 0.01 < light < 2000 * 20.0 / 1e6


def test_small_stamps_are_refused(tmp_path, rng):
    small = flat_pool(tmp_path / "p", rng, n=4, side=80)
    with pytest.raises(LumosDataError, match="side 80 px, stamp and annulus need 92"):
        draw_known(small, np.arange(4), BackgroundConfig(name="none"), settings(tmp_path), (1,))


def test_a_killed_run_goes_on_to_the_same_weights(pool, tmp_path, monkeypatch):
    run = settings(tmp_path)
    whole = train_background(run, pool, tmp_path / "whole")
    told = []

    def stop(done, n, text):
        told.append((done, n, text))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_background(run, pool, tmp_path / "killed", progress=stop)
    resumed = train_background(run, pool, tmp_path / "killed")
    assert torch.equal(weights(whole), weights(resumed))
    assert [line["n_stamps"] for line in resumed.curve] == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]
    assert resumed.validation == whole.validation
    monkeypatch.setattr("lumos.training.background._learn", None)
    assert torch.equal(weights(train_background(run, pool, tmp_path / "killed")), weights(whole))
    with pytest.raises(LumosConfigError, match="holds the results of other settings"):
        train_background(settings(tmp_path, seed=9), pool, tmp_path / "killed")


def sloping_pool(path, rng, n_exposures=8, n=24, side=200):
    """A pool of white noise on skies with a gradient each, up to 0.02 of the noise per pixel."""
    ccds = []
    for number in range(n_exposures):
        slope_x, slope_y = rng.uniform(-0.02, 0.02, 2)
        v = np.arange(side) - side / 2
        sky = 5.0 * (slope_x * v[None, :] + slope_y * v[:, None])
        data = rng.normal(100.0 + sky, 5.0, (n, side, side)).astype(np.float32)
        ccds.append(({"exposure_id": str(number), "file": f"{number}.fits"}, new_stamps(data)))
    return BackgroundPool.open(write_pool(path, *ccds))


def test_errors_are_true_on_flat_skies_and_gradients(tmp_path, rng):
    """Nothing is better there than the mean of the annulus and of the seen pixels; the error must be its error."""
    pool = sloping_pool(tmp_path / "pool", rng)
    run = settings(tmp_path, **SHORT)
    report = train_background(run, pool, tmp_path / "run")
    figures = report.validation
    assert figures["annulus_pull"] == pytest.approx(1.0, abs=0.05)
    assert figures["pull"] == pytest.approx(1.0, abs=0.05)
    assert figures["scatter"] < 1.1 * figures["annulus_scatter"]
    assert abs(figures["bias"]) < 0.3 * figures["annulus_scatter"]


def edge_pool(path, rng, n_exposures=6, n=400, side=92, shape=(120, 120)):
    """A camera whose every exposure has the same light at one place, as wide as a stamp, and a strength of its own."""
    ccds = []
    v = np.arange(side) - side // 2
    for number in range(n_exposures):
        x, y = rng.uniform(0, shape[1], n), rng.uniform(0, shape[0], n)
        u, w = x[:, None, None] + v[None, None, :] - 60.0, y[:, None, None] + v[None, :, None] - 60.0
        light = 8.0 * np.exp(-(u**2 + w**2) / (2 * 12.0**2))
        stamps = new_stamps(rng.normal(100.0 + light, 5.0), ccd=shape)
        object.__setattr__(stamps, "x", x)
        object.__setattr__(stamps, "y", y)
        ccds.append(({"exposure_id": str(number), "file": f"{number}.fits"}, stamps))
    return BackgroundPool.open(write_pool(path, *ccds))


def test_the_place_on_the_ccd_tells_of_light_that_is_always_there(tmp_path, rng):
    """Light as narrow as the mask cannot be seen around it; only its place is known."""
    pool = edge_pool(tmp_path / "pool", rng)
    scatter = {}
    for position in (False, True):
        run = settings(
            tmp_path,
            network={**SMALL, "hidden": 32, "position": position},
            half_light_radius=[6.0, 8.0],
            **SHORT,
        )
        report = train_background(run, pool, tmp_path / str(position))
        scatter[position] = report.validation["loss"]
    assert scatter[True] < scatter[False] - 0.03


def test_the_command_writes_a_model(tmp_path):
    path = tmp_path / "pool"
    flat_pool(path, np.random.default_rng(5), n=48, side=120)
    said = train_model(settings(path), tmp_path / "model", run="mine.yaml")
    assert "scatter of the background" in said
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: bsd-3-clause")
    for text in ("# small", "annulus_scatter", "| seen |", "Made by `lumos train mine.yaml`"):
        assert text in card


def test_the_shipped_run_is_one_of_backgrounds():
    assert isinstance(load_training("bkgnet"), BackgroundTraining)
    assert isinstance(load_training("generic"), TrainSettings)
    with pytest.raises(LumosConfigError, match=r"unknown key 'stamps', allowed: architecture, gradient"):
        load_training("bkgnet", ["stamps.mag_range=[1, 2]"])
