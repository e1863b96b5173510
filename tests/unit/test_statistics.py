"""Robust statistics against closed forms."""

import numpy as np
import pytest
from scipy import stats

from lumos.pdf import GaussianMixture
from lumos.statistics import sigma68
from lumos.validate.accuracy import accuracy, accuracy_table
from lumos.validate.statistics import binned_statistics


def test_sigma68_of_a_gaussian(rng):
    # The ends of the central 68 % of 1e5 normal deviates each have an error of 0.005.
    assert abs(sigma68(rng.normal(3, 2, 100_000)) - 2) < 0.03
    assert np.isnan(sigma68(np.array([])))


def test_one_sigma68_of_samples_and_of_pdfs():
    # A perfect Gaussian is 1 wide in both; levels of 0.16 and 0.84 would make it 0.9945.
    levels = (np.arange(100_000) + 0.5) / 100_000
    assert sigma68(stats.norm.ppf(levels)) == pytest.approx(1, abs=1e-4)
    assert GaussianMixture([[1.0]], [[0.0]], [[1.0]]).sigma68()[0] == pytest.approx(1, abs=1e-7)


def test_bins_count_lost_values():
    values = np.array([1.0, 2.0, 3.0, np.nan, 10.0, np.inf])
    by = np.array([0.0, 0.5, 0.9, 0.1, 1.0, 5.0])
    result = binned_statistics(values, by, np.array([0.0, 1.0, 2.0, 3.0]))
    assert result.n.tolist() == [3, 1, 0]
    assert result.n_lost.tolist() == [1, 0, 0]
    assert result.median[:2].tolist() == [2.0, 10.0]
    assert np.isnan(result.median[2])
    np.testing.assert_allclose(result.centres, [0.5, 1.5, 2.5])


def test_accuracy_of_known_errors(rng):
    truth = np.full(40_000, 100.0)
    flux = truth * 1.02 + rng.normal(0, 5, len(truth))
    result = accuracy(flux, np.full(len(truth), 5.0), truth, np.full(len(truth), 20.5), np.array([20.0, 21.0]))
    # The median has an error of 1.25 * 0.05 / sqrt(4e4) = 3e-4 in relative flux, 0.006 in pull.
    assert abs(result.relative.median[0] - 0.02) < 0.0015
    assert abs(result.relative.sigma68[0] - 0.05) < 0.001
    assert abs(result.pull.median[0] - 0.4) < 0.03
    assert abs(result.pull.sigma68[0] - 1) < 0.02
    assert "20.0-21.0" in accuracy_table({"mine": result})
