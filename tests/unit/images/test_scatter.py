"""Scatter of noise with outliers and with integer steps."""

import numpy as np
import pytest

from lumos.images.scatter import clipped_scatter


def test_gaussian_with_and_without_outliers(rng):
    values = rng.normal(0.0, 3.0, 200_000)
    # Relative error of the scatter of N Gaussians 1 / sqrt(2 N) = 0.16 %, a little more when clipped.
    assert clipped_scatter(values) == pytest.approx(3.0, rel=0.01)
    values[:2000] = 500.0
    # 1 % of outliers leave a little of the clipping's room behind.
    assert clipped_scatter(values) == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize("sigma", [1.5, 4.86, 6.9])
def test_integer_steps_do_not_matter(rng, sigma):
    values = np.rint(rng.normal(0.0, sigma, 200_000))
    assert clipped_scatter(values) == pytest.approx(np.hypot(sigma, np.sqrt(1 / 12)), rel=0.015)


def test_nothing_and_constants():
    assert np.isnan(clipped_scatter(np.empty(0)))
    assert clipped_scatter(np.zeros(10)) == 0.0
