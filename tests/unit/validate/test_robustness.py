"""The study of wrong catalogues: the forecast agrees with the trial, and with what is known of weights."""

import numpy as np
import pytest

from lumos.validate.studies.robustness import PARAMETERS, format_robustness, robustness


@pytest.fixture(scope="module")
def results():
    return robustness()


def test_forecast_and_trial_agree(results):
    for one in results.values():
        for name in PARAMETERS:
            slope = 10 / one.for_ten_per_cent[name]
            wrong = 0.01 if name == "background" else 0.1
            # The trial is the middle of the galaxies; in the mean of the forecast a few with steep slopes count most.
            assert 0.25 * slope * wrong < one.tried[name] < 1.1 * slope * wrong, name


def test_what_is_known_of_weights(results):
    optimal, aperture = results["optimal"], results["aperture"]
    # An ellipse of fixed light loses what the wrong profile says that it loses; the weights' sum does so half as much.
    assert aperture.for_ten_per_cent["r50"] < optimal.for_ten_per_cent["r50"]
    assert optimal.for_ten_per_cent["r50"] < optimal.for_ten_per_cent["n"]
    # A background that is too high is light that is taken away: with a prior on it the flux goes with it.
    assert all(one.correlation["background"] > 0.5 for one in results.values())
    assert all(np.isfinite(one.for_ten_per_cent[name]) for one in results.values() for name in PARAMETERS)
    assert "(59)" in format_robustness(results).splitlines()[1]
