"""Laws of coadding, over exposures of every kind."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lumos.pdf import GaussianMixture, TruncatedMixture, inverse_variance, product, reject_outliers

N, COUNT = 60, 6
LEVELS = np.linspace(0.001, 0.999, 201)[None]
#: What the docstring of product promises for probabilities.
CDF_ERROR = 1e-3


def make(kind, rng, n=N, count=COUNT):
    """Return exposures (n * count rows, object by object) of fluxes about 4."""
    cls = TruncatedMixture if kind == "truncated" else GaussianMixture
    k = 1 if kind == "single" else 3
    std = np.exp(rng.normal(0, 0.5, (n, count, 1)))
    centre = 4 + std * rng.standard_normal((n, count, 1))
    shape = (n, count, k)
    means = centre + std * rng.normal(0, 0.5, shape)
    stds = std * np.exp(rng.normal(0, 0.3, shape)) * (np.array([1, 1, 8]) if kind == "winged" else 1)
    weights = rng.dirichlet(np.ones(k), (n, count))
    return cls(*(values.reshape(-1, k) for values in (weights, means, stds)))


@pytest.fixture(params=["single", "mixed", "winged", "truncated"])
def rows(request, rng):
    return make(request.param, rng)


def check_same(one, other, atol=2 * CDF_ERROR):
    """Check that two rows of answers, each right within CDF_ERROR, agree."""
    assert np.abs(one.cdf(other.quantile(LEVELS)) - LEVELS).max() < atol


def test_order_of_exposures_does_not_matter(rows, rng):
    index = np.repeat(np.arange(N), COUNT)
    order = rng.permutation(len(index))
    one, _ = product(rows, index, N)
    other, _ = product(rows.take(order), index[order], N)
    # The same nodes, but for the rounding of sums.
    check_same(one, other, 1e-9)
    keep, marked = reject_outliers(rows, index, N, 0.01)
    keep_again, marked_again = reject_outliers(rows.take(order), index[order], N, 0.01)
    assert (keep[order] == keep_again).all()
    assert (marked == marked_again).all()


def test_products_of_products(rows):
    index = np.repeat(np.arange(N), COUNT)
    whole, _ = product(rows, index, N)
    first = np.tile(np.arange(COUNT) < 2, N)
    parts = [product(rows.take(mask), index[mask], N)[0] for mask in (first, ~first)]
    both = type(parts[0])(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("nodes", "log_density"))
    )
    merged, _ = product(both, np.tile(np.arange(N), 2), N)
    difference = np.abs(merged.cdf(whole.quantile(LEVELS)) - LEVELS).max(axis=1)
    # Parts that agree meet where both have many nodes; parts that differ by 4 standard deviations do so in their tails,
    # where straight lines over half a standard deviation are off by up to 0.5^2 / 8 = 3 % of the density.
    assert np.median(difference) < CDF_ERROR
    assert difference.max() < 0.01


def test_one_exposure_is_itself(rows):
    answer, _ = product(rows, np.arange(len(rows)), len(rows))
    points = rows.quantile(LEVELS)
    assert np.abs(answer.cdf(points) - LEVELS).max() < CDF_ERROR


def test_unit_of_flux_does_not_matter(rows):
    index = np.repeat(np.arange(N), COUNT)
    one, _ = product(rows, index, N)
    other, _ = product(rows.scale(1e7), index, N)
    check_same(one.scale(1e7), other, 1e-6)


def test_differing_numbers_of_exposures(rows):
    index = np.sort(np.arange(len(rows)) ** 2 % N)
    together, n_used = product(rows, index, N)
    assert len(np.unique(n_used)) > 3
    for number in np.flatnonzero(n_used)[:8]:
        alone, _ = product(rows.take(index == number), np.zeros(n_used[number], dtype=int), 1)
        check_same(together.take([number]), alone, 1e-9)
    assert np.isnan(together.mean()[n_used == 0]).all()


@pytest.mark.parametrize("count", [1, 2, 5, 10, 100])
def test_width_falls_as_the_root_of_the_number(count, rng):
    n = 20
    mean = rng.normal(0, 1, (n * count, 1))
    rows = GaussianMixture(np.ones_like(mean), mean, np.ones_like(mean))
    index = np.repeat(np.arange(n), count)
    pdf, _ = product(rows, index, n)
    assert_allclose(inverse_variance(mean[:, 0], 1.0, index, n)[1], count**-0.5, rtol=1e-12)
    # sigma68 moves by the error of the levels over the density there, 0.243: 2 * 1e-3 / 0.243 / 2.
    assert_allclose(pdf.sigma68() * np.sqrt(count), 1, atol=CDF_ERROR / 0.243)
