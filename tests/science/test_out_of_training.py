"""The out-of-training score of a shipped model on exposures of another seed: faults are caught, good stamps are not."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lumos.nets.checkpoint import load_model
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey
from lumos.teahupoo.settings import StampSettings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from out_of_training import flagged, scores_of, suspect_exposures

pytestmark = pytest.mark.science
N = 200


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    out = tmp_path_factory.mktemp("survey")
    overrides = ["fields=separate", "bands=[NB785]", "exposures_per_band=6", "camera.shape=[768, 768]", "seed=77"]
    simulation = load_simulation("paucam-mini", overrides)
    exposures = simulate_survey(simulation, out).exposures
    make_backgrounds(exposures, out / "pool", load_survey(simulation.survey), BackgroundSettings(n_per_exposure=100))
    return BackgroundPool.open(out / "pool")


def test_faults_are_caught_and_good_stamps_are_not(pool):
    model = load_model("paucam-mock")
    settings = StampSettings(**model.config.training["settings"]["stamps"])
    rng = np.random.default_rng(4)

    def scores(low, high, n, fault=None, strength=None):
        snr = np.exp(np.random.default_rng(1).uniform(np.log(low), np.log(high), n))
        return scores_of(model, pool, settings, snr, np.random.default_rng(3), fault=fault, strength=strength)

    good = scores(5, 300, 4 * N)
    # 2 % is the goal; six exposures, of which one may be rarer than the training's, and 800 stamps: 1.5 %.
    assert flagged(good) < 0.04
    assert suspect_exposures(good, rng) < 0.02
    for fault, strength in (("scale too small", 0.5), ("scale too large", 2.0), ("PSF too narrow", 0.5)):
        # 90 % is the goal.
        assert flagged(scores(100, 300, N, fault, strength)) > 0.9
        # Single faint stamps do not tell, fifty of them do.
        assert suspect_exposures(scores(30, 100, N, fault, strength), rng) > 0.95
    assert flagged(scores(30, 300, N, "saturated star")) > 0.9
