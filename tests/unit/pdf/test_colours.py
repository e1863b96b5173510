"""Colours of two flux PDFs against the closed form of Gaussians, and against draws."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from lumos.errors import LumosShapeError
from lumos.pdf import GaussianMixture, GridPdf, TruncatedMixture, colour


def gaussians(means, stds):
    means, stds = (np.asarray(values, dtype=float)[:, None] for values in (means, stds))
    return GaussianMixture(np.ones_like(means), means, stds)


#: Mean and error in both bands: bright, one much wider, faint, hardly seen, below 0.
MEANS = np.array([[100.0, 200.0], [1000.0, 1000.0], [10.0, 100.0], [5.0, 5.0], [-3.0, 6.0]])
STDS = np.array([[2.0, 2.0], [1.0, 300.0], [10.0, 2.0], [5.0, 5.0], [10.0, 3.0]])


def below(ratio, means, stds):
    """P(0 < f1 < ratio f2) of two Gaussians: a bivariate normal probability."""
    (x, y), (a, b) = means, stds
    covariance = [[a**2, -(a**2)], [-(a**2), a**2 + (ratio * b) ** 2]]
    return multivariate_normal([-x, x - ratio * y], covariance).cdf([0, 0])


def test_gaussians_have_the_closed_form():
    colours = colour(gaussians(MEANS[:, 0], STDS[:, 0]), gaussians(MEANS[:, 1], STDS[:, 1]))
    levels = np.array([[0.001, 0.02, 0.16, 0.5, 0.84, 0.98, 0.999]])
    for row, magnitudes in enumerate(colours.pdf.quantile(levels)):
        both = 1 - colours.without[row]
        # A larger magnitude is a smaller ratio.
        found = [1 - below(10 ** (-0.4 * m), MEANS[row], STDS[row]) / both for m in magnitudes]
        np.testing.assert_allclose(found, levels[0], atol=5e-4)


def test_the_probability_without_a_colour():
    colours = colour(gaussians([0.0, 30.0, 30.0], [1.0, 10.0, 10.0]), gaussians([0.0, 500.0, -1e4], [7.0, 10.0, 1.0]))
    # A quarter of two signs; the tail beyond 3 sigma; never.
    np.testing.assert_allclose(colours.without, [0.75, 0.0013499, 1.0], atol=1e-7)
    assert np.isnan(colours.pdf.quantile(0.5)).tolist() == [False, False, True]
    assert len(colours) == 3


def mixture(rng, n, narrowest, kind=GaussianMixture):
    """Components about 40 with a scatter of 15, as narrow as asked for."""
    return kind(rng.dirichlet(np.ones(5), n), rng.normal(40, 15, (n, 5)), rng.uniform(narrowest, 20, (n, 5)))


@pytest.mark.parametrize(("narrowest", "worst"), [(8.0, 0.004), (0.5, 0.02)])
def test_mixtures_agree_with_draws(rng, narrowest, worst):
    n = 12
    first, second = mixture(rng, n, narrowest), mixture(rng, n, narrowest, TruncatedMixture)
    colours = colour(first, second)
    # 0.004 is what 200 000 draws can tell.
    x, y = (pdf.sample(rng, 200_000) for pdf in (first, second))
    levels = np.linspace(0.01, 0.99, 50)
    for row in range(n):
        good = (x[row] > 0) & (y[row] > 0)
        drawn = -2.5 * np.log10(x[row, good] / y[row, good])
        assert colours.without[row] == pytest.approx(1 - good.mean(), abs=0.004)
        found = colours.pdf.take([row]).cdf(np.quantile(drawn, levels)[None])[0]
        np.testing.assert_allclose(found, levels, atol=worst)


def test_bands_change_places():
    first, second = gaussians(MEANS[:, 0], STDS[:, 0]), gaussians(MEANS[:, 1], STDS[:, 1])
    there, back = colour(first, second), colour(second, first)
    levels = np.array([[0.1, 0.5, 0.9]])
    np.testing.assert_allclose(there.pdf.quantile(levels), -back.pdf.quantile(1 - levels), atol=2e-3)
    np.testing.assert_allclose(there.without, back.without, atol=1e-15)


def test_a_zero_point_shifts_the_colour():
    first, second = gaussians(MEANS[:, 0], STDS[:, 0]), gaussians(MEANS[:, 1], STDS[:, 1])
    shift = colour(first.scale(100.0), second).pdf.quantile(0.5) - colour(first, second).pdf.quantile(0.5)
    np.testing.assert_allclose(shift, -5.0, atol=1e-9)


def test_grids_do_as_well():
    nodes = np.linspace(20.0, 180.0, 801)[None]
    grid = GridPdf(nodes, -0.5 * ((nodes - 100) / 10) ** 2)
    levels = np.array([[0.05, 0.5, 0.95]])
    ours, exact = (colour(one, gaussians([50.0], [5.0])).pdf.quantile(levels) for one in (grid, gaussians([100], [10])))
    np.testing.assert_allclose(ours, exact, atol=5e-4)


def test_bad_objects_and_bad_calls():
    bad = colour(gaussians([np.nan, 1.0], [1.0, 1.0]), gaussians([1.0, 1.0], [1.0, 1.0]))
    assert np.isnan(bad.without).tolist() == [True, False]
    assert np.isnan(bad.pdf.cdf(0.0)).tolist() == [True, False]
    assert len(colour(gaussians([], []), gaussians([], []))) == 0
    with pytest.raises(LumosShapeError, match="2 rows"):
        colour(gaussians([1.0, 2.0], [1.0, 1.0]), gaussians([1.0], [1.0]))
