"""Coadded PDFs against closed forms, quadrature and toys with known truth."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf import (
    FluxPrior,
    GaussianMixture,
    GridPdf,
    TruncatedMixture,
    catalogue_prior,
    compatibility,
    inverse_variance,
    posterior,
    product,
    reject_outliers,
    to_mixture,
)

LEVELS = np.linspace(0.001, 0.999, 333)[None]
#: What the docstring of product promises for probabilities.
CDF_ERROR = 1e-3


def gaussian(mean, std):
    return GaussianMixture(np.ones((np.size(mean), 1)), np.reshape(mean, (-1, 1)), np.reshape(std, (-1, 1)))


def winged(centre, std, share=0.1, width=10.0):
    """Return rows with a core and a broad component about the same centre."""
    centre, std = np.ravel(centre), np.broadcast_to(std, np.shape(centre)).ravel()
    weights = np.tile([1 - share, share], (len(centre), 1))
    return GaussianMixture(weights, np.stack([centre, centre], axis=1), np.stack([std, width * std], axis=1))


def repeats(n, count):
    return np.repeat(np.arange(n), count)


def ks_bound(n):
    """Return the distance that uniform numbers exceed once in 1000 times."""
    return 1.95 / np.sqrt(n)


def test_product_of_gaussians_is_the_closed_form(rng):
    n, count = 300, 5
    std = np.exp(rng.normal(0, 1, (n, count)))
    mean = 50 + std * rng.standard_normal((n, count))
    index = repeats(n, count)
    pdf, n_used = product(gaussian(mean, std), index, n)
    flux, err, n_mean = inverse_variance(mean.ravel(), std.ravel(), index, n)
    assert_array_equal(n_used, count)
    assert_array_equal(n_mean, count)
    assert_allclose(err, 1 / np.sqrt((1 / std**2).sum(axis=1)), rtol=1e-12)
    assert_allclose(flux, (mean / std**2).sum(axis=1) * err**2, rtol=1e-12)
    points = stats.norm.ppf(LEVELS) * err[:, None] + flux[:, None]
    assert np.abs(pdf.cdf(points) - LEVELS).max() < CDF_ERROR
    # 1e-3 of probability is 0.0025 standard deviations in the middle; straight lines below the curve of spacing up to
    # 0.2 widen by 0.2^2 / 12.
    assert_allclose((pdf.mean() - flux) / err, 0, atol=3e-3)
    assert_allclose(pdf.std() / err, 1, atol=5e-3)


@pytest.mark.parametrize("distance", [0, 5, 100, 3000])
def test_exposures_that_hardly_overlap(distance):
    pdf, _ = product(gaussian([0.0, distance], [1.0, 1.0]), [0, 0], 1)
    assert_allclose(
        pdf.quantile(stats.norm.cdf([[-2, -1, 0, 1, 2]]))[0], distance / 2 + np.arange(-2, 3) / np.sqrt(2), atol=5e-3
    )


@pytest.mark.parametrize("narrow", [1e-2, 1e-4])
@pytest.mark.parametrize("at", [0, 3, 30])
def test_one_exposure_much_narrower(narrow, at):
    pdf, _ = product(gaussian([0.0, 0.3, at], [1.0, 2.0, narrow]), [0, 0, 0], 1)
    flux, err, _ = inverse_variance([0.0, 0.3, at], [1.0, 2.0, narrow], [0, 0, 0], 1)
    points = stats.norm.ppf(LEVELS) * err[:, None] + flux[:, None]
    assert np.abs(pdf.cdf(points) - LEVELS).max() < CDF_ERROR


def mixtures_with_wings(rng, n, count, cls):
    shape = (n, count, 4)
    weights = rng.dirichlet(np.ones(4), (n, count))
    means = 3 + rng.normal(0, 1.5, (n, count, 1)) + rng.normal(0, 0.4, shape)
    stds = np.array([0.3, 1.0, 3.0, 15.0]) * np.exp(rng.normal(0, 0.2, shape))
    return cls(*(values.reshape(-1, 4) for values in (weights, means, stds)))


@pytest.mark.parametrize("cls", [GaussianMixture, TruncatedMixture])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_products_with_wings_against_quadrature(cls, count, rng):
    n = 8
    rows = mixtures_with_wings(rng, n, count, cls)
    pdf, _ = product(rows, repeats(n, count), n)
    for number in range(n):
        part = rows.take(np.arange(number * count, (number + 1) * count))
        top = part.log_pdf(np.broadcast_to(pdf.peak()[number], count)).sum()

        def density(f, part=part, top=top):
            return np.exp(part.log_pdf(float(f)).sum() - top)

        low = 0 if cls is TruncatedMixture else -200
        edges = np.concatenate([[low], pdf.quantile(np.linspace(0.05, 0.95, 10)[None])[number], [200]])
        masses = [integrate.quad(density, a, b, limit=300, epsrel=1e-7)[0] for a, b in pairwise(edges)]
        right = np.cumsum(masses)[:-1] / np.sum(masses)
        assert np.abs(right - np.linspace(0.05, 0.95, 10)).max() < CDF_ERROR


def test_rows_that_are_nan_are_left_out_and_objects_without_rows_are_nan():
    means, stds = np.array([1.0, np.nan, 3.0, np.nan, 5.0, 2.0]), np.array([1.0, 1, 1, 1, np.inf, 1])
    index = np.array([2, 2, 2, 0, 3, 4])
    pdf, n_used = product(gaussian(means, stds), index, 5)
    flux, err, n_mean = inverse_variance(means, stds, index, 5)
    for used in (n_used, n_mean):
        assert_array_equal(used, [0, 0, 2, 0, 1])
    assert_array_equal(np.isfinite(pdf.mean()), [False, False, True, False, True])
    assert_allclose(flux, [np.nan, np.nan, 2, np.nan, 2])
    assert_allclose(err, [np.nan, np.nan, np.sqrt(0.5), np.nan, 1])
    assert_allclose(pdf.mean()[[2, 4]], 2, atol=2e-3)
    p_value = compatibility(gaussian(means, stds), index, 5)
    assert_allclose(p_value[[0, 2]], 2 * stats.norm.sf(2 / np.sqrt(2)), rtol=1e-3)
    assert np.isnan(p_value[[1, 3, 4, 5]]).all()
    keep, contradictory = reject_outliers(gaussian(means, stds), index, 5)
    assert keep.all()
    assert not contradictory.any()


def toy(n, count, seed, prior_std=0.3):
    """Return true fluxes from a narrow prior about 2, and the centres of noisy exposures of unit error."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(2, prior_std, n)
    return flux, rng.normal(flux[:, None], 1, (n, count))


def test_prior_counts_once():
    n, count, width = 4000, 5, 0.3
    flux, centre = toy(n, count, 5, width)
    index, ones = repeats(n, count), np.ones(n * count)

    def log_prior(at, objects):
        assert len(at) == len(objects)
        return -0.5 * ((at - 2) / width) ** 2

    nodes = 2 + width * np.linspace(-5, 5, 15)[None]
    right, _ = product(gaussian(centre, ones), index, n, log_prior, nodes)
    assert stats.kstest(right.pit(flux), "uniform").statistic < ks_bound(n)

    precision = 1 + width**-2
    posteriors = gaussian((centre + 2 * width**-2) / precision, ones / np.sqrt(precision))
    naive, _ = product(posteriors, index, n)
    # The naive width is sqrt(16.1 / 60.6) = 0.52 of the right one.
    assert stats.kstest(naive.pit(flux), "uniform").statistic > 0.1
    mended, _ = product(posteriors, index, n, lambda at, objects: (1 - count) * log_prior(at, objects), nodes)
    assert np.abs(mended.pit(flux) - right.pit(flux)).max() < 2 * CDF_ERROR


@pytest.mark.parametrize(("place", "width"), [(0, 1e-3), (0, 0.3), (0, 1e3), (12, 0.2), (12, 5), (200, 1)])
def test_prior_much_narrower_or_wider_or_in_the_fringe(place, width):
    pdf, _ = product(
        gaussian([-0.5, 0.5], [1.0, 1.0]),
        [0, 0],
        1,
        lambda at, _: -0.5 * ((at - place) / width) ** 2,
        place + width * np.linspace(-4, 4, 9)[None],
    )
    flux, err, _ = inverse_variance([0, place], [np.sqrt(0.5), width], [0, 0], 1)
    points = stats.norm.ppf(LEVELS) * err[:, None] + flux[:, None]
    assert np.abs(pdf.cdf(points) - LEVELS).max() < CDF_ERROR


@pytest.fixture(scope="module")
def learned():
    """Return a prior learned from 2000 lognormal fluxes, 0.4 wide about the reference flux."""
    rng = np.random.default_rng(11)
    mag = rng.uniform(20, 22, 2000)
    flux = 10 ** (0.4 * (31.4 - mag)) * np.exp(rng.normal(0, 0.4, 2000))
    return FluxPrior.fit(flux, mag, 0, ("g",))


def test_learned_prior_with_five_exposures(learned, rng):
    n, count = 3000, 5
    mag = rng.uniform(20, 22, n)
    ref = 10 ** (0.4 * (31.4 - mag))
    flux = ref * np.exp(rng.normal(0, 0.4, n))
    std = (ref * 0.8)[:, None] * np.exp(rng.normal(0, 0.3, (n, count)))
    pdf, _ = product(
        gaussian(rng.normal(flux[:, None], std), std), repeats(n, count), n, *catalogue_prior(learned, mag, 0)
    )
    assert pdf.nodes.min() < 0 < pdf.quantile(1e-9).min()
    # The prior itself was learned from 2000.
    assert stats.kstest(pdf.pit(flux), "uniform").statistic < 1.95 * np.sqrt(1 / n + 1 / 2000)


def test_one_row_with_prior_is_the_posterior(learned, rng):
    n = 200
    mag = rng.uniform(20, 22, n)
    mag[77] = np.nan
    ref = np.nan_to_num(10 ** (0.4 * (31.4 - mag)), nan=1)
    rows = gaussian(ref * rng.normal(1, 1, n), ref * np.exp(rng.normal(0, 2, n)))
    one, _ = product(rows, np.arange(n), n, *catalogue_prior(learned, mag, 0))
    other = posterior(rows, learned, mag, 0)
    points = other.quantile(LEVELS)
    assert_array_equal(np.isnan(one.mean()), np.isnan(mag))
    assert np.abs(one.cdf(points) - LEVELS)[np.isfinite(mag)].max() < CDF_ERROR


def test_compatibility_of_gaussians(rng):
    n, count = 2000, 4
    std = np.exp(rng.normal(0, 0.5, (n, count)))
    mean = std * rng.standard_normal((n, count))
    mean[:20, 0] += 5 * std[:20, 0]
    p_value = compatibility(gaussian(mean, std), repeats(n, count), n).reshape(n, count)
    right = np.empty_like(mean)
    for left in range(count):
        other = np.delete(np.arange(count), left)
        ivar = std[:, other] ** -2
        gap = mean[:, left] - (mean[:, other] * ivar).sum(axis=1) / ivar.sum(axis=1)
        right[:, left] = 2 * stats.norm.sf(np.abs(gap) / np.sqrt(std[:, left] ** 2 + 1 / ivar.sum(axis=1)))
    # Below 0.01 straight lines between nodes far out in the tails make p larger.
    ratio = p_value / right
    assert_allclose(ratio[right.min(axis=1) > 0.011], 1, rtol=1e-6)
    assert_allclose(ratio[right > 0.001], 1, atol=0.1)
    assert (ratio > 0.95).all()
    assert (p_value[right < 1e-5] < 1e-4).all()
    assert (right < 1e-5).sum() >= 3
    assert (p_value[:20, 0] < 1e-3).sum() > 10
    assert stats.kstest(p_value[20:, 2], "uniform").statistic < ks_bound(n - 20)


def outlier_bound(n, threshold):
    return n * threshold + 4 * np.sqrt(n * threshold)


@pytest.mark.parametrize("kind", ["gaussian", "winged", "one of five winged"])
def test_false_rejections_stay_below_the_threshold(kind, rng):
    n, count, threshold = 1500, 5, 0.01
    std = np.exp(rng.normal(0, 0.4, (n, count)))
    share = np.zeros(count)
    share[: {"gaussian": 0, "winged": 5, "one of five winged": 1}[kind]] = 0.2
    wide = rng.random((n, count)) < share
    mean = 7 + std * rng.standard_normal((n, count)) * np.where(wide, 30, 1)
    weights = np.stack([1 - share, share], axis=-1)
    rows = GaussianMixture(
        np.tile(weights, (n, 1)), np.repeat(mean.reshape(-1, 1), 2, axis=1), std.reshape(-1, 1) * [1, 30]
    )
    keep, contradictory = reject_outliers(rows, repeats(n, count), n, threshold)
    assert (~keep).sum() < outlier_bound(n * count, threshold)
    if kind == "gaussian":  # the rule is not idle
        assert (~keep).sum() > 0.5 * n * count * threshold
    assert contradictory.mean() < 0.01


def test_outliers_are_found(rng):
    n, count = 400, 5
    mean = rng.standard_normal((n, count))
    mean[:, 3] += 10
    mean[::2, 1] -= 12
    keep, contradictory = reject_outliers(gaussian(mean, np.ones_like(mean)), repeats(n, count), n)
    expected = np.ones((n, count), dtype=bool)
    expected[:, 3] = False
    expected[::2, 1] = False
    # Of 1600 good rows 0.16 fall below 1e-4.
    assert (keep.reshape(n, count) != expected).sum() <= 1
    assert not contradictory.any()


def test_an_outlier_far_beyond_all_tails_is_the_one_that_goes():
    mean = np.array([0.1, -0.3, 1e6, 0.4])
    keep, contradictory = reject_outliers(gaussian(mean, [0.5, 0.5, 0.01, 0.5]), np.zeros(4, int), 1)
    assert_array_equal(keep, [True, True, False, True])
    assert not contradictory.any()


def test_without_a_majority_all_are_kept_and_marked():
    mean = np.array([0.0, 50.0, 0, 0.2, 50, 50.1, 3, 0, 50, 100])
    index = np.array([0, 0, 1, 1, 1, 1, 2, 3, 3, 3])
    keep, contradictory = reject_outliers(gaussian(mean, np.ones(10)), index, 4)
    assert keep.all()
    assert_array_equal(contradictory, [True, True, False, True])


def test_a_row_with_a_broad_component_is_no_outlier():
    mean = np.array([0.0, 0.5, -0.4, 15.0])
    keep, _ = reject_outliers(gaussian(mean, np.ones(4)), np.zeros(4, int), 1)
    assert_array_equal(keep, [True, True, True, False])
    keep, _ = reject_outliers(winged(mean, 1.0), np.zeros(4, int), 1)
    assert keep.all()


def test_compact_mixture(rng):
    n, count = 300, 3
    rows = mixtures_with_wings(rng, n, count, GaussianMixture)
    pdf, _ = product(rows, repeats(n, count), n)
    mixture, error = to_mixture(pdf, 5)
    levels = np.array([[0.025, 0.16, 0.5, 0.84, 0.975]])
    seen = np.abs(pdf.cdf(mixture.quantile(levels)) - levels).max(axis=1)
    # Between nodes a cdf strays from that on the nodes by no more than a cell's curvature.
    assert (seen < error + 1e-3).all()
    assert np.median(error) < 5e-3
    assert error.max() < 0.05
    assert_allclose((mixture.mean() - pdf.mean()) / pdf.std(), 0, atol=0.01)
    assert_allclose(np.median(mixture.std() / pdf.std()), 1, atol=5e-3)


def plain_steps(cells, levels, k, n_steps):
    """Expectation and maximisation of one density, step by step, from components side by side."""
    mass = np.full(len(cells), 1 / len(cells))
    share = np.maximum(1 - np.abs((k * levels - 0.5).clip(0, k - 1) - np.arange(k)[:, None]), 0)
    for _ in range(n_steps):
        weights = (share * mass).sum(axis=1)
        means = (share * mass * cells).sum(axis=1) / weights
        stds = np.sqrt((share * mass * (cells - means[:, None]) ** 2).sum(axis=1) / weights)
        density = weights[:, None] * stats.norm.pdf(cells, means[:, None], stds[:, None])
        share = density / density.sum(axis=0)
    return GaussianMixture(weights[None], means[None], stds[None])


def test_compact_mixtures_are_as_good_as_many_plain_steps(rng):
    rows = mixtures_with_wings(rng, 40, 3, GaussianMixture)
    pdf, _ = product(rows, repeats(40, 3), 40)
    _, error = to_mixture(pdf, 5)
    levels = (np.arange(2000) + 0.5) / 2000
    cells = pdf.quantile(levels[None])
    plain = [plain_steps(row, levels, 5, 60).cdf(pdf.nodes[number : number + 1])[0] for number, row in enumerate(cells)]
    few = [plain_steps(row, levels, 5, 20).cdf(pdf.nodes[number : number + 1])[0] for number, row in enumerate(cells)]
    many, short = (np.abs(np.array(each) - pdf.cumulative).max(axis=1) for each in (plain, few))
    assert np.median(error) < 1.2 * np.median(many)
    assert np.median(error) < 0.7 * np.median(short)


def test_compact_mixture_of_positive_fluxes():
    x = np.linspace(-6, 6, 801)
    widths = np.array([0.1, 0.3, 0.6])[:, None]
    pdf = GridPdf(np.exp(x * widths), -0.5 * x**2 - x * widths)
    for k, bound in ((1, 0.15), (3, 0.015), (5, 0.006)):
        mixture, error = to_mixture(pdf, k)
        assert error.max() < bound
        points = np.exp(stats.norm.ppf(LEVELS) * widths)
        assert np.abs(mixture.cdf(points) - LEVELS).max() < error.max() + 1e-3
    # A wider lognormal is less like a Gaussian.
    assert (np.diff(to_mixture(pdf, 1)[1]) > 0).all()


def test_compact_mixture_of_bad_rows_and_of_a_gaussian():
    pdf, _ = product(gaussian([1e6, np.nan], [0.1, 1]), [0, 1], 2)
    mixture, error = to_mixture(pdf, 3)
    assert error[0] < 3e-3
    assert_allclose(mixture.std()[0], 0.1, rtol=5e-3)
    assert np.isnan(error[1])
    assert np.isnan(mixture.means[1]).all()


def test_bad_calls():
    rows = gaussian([1.0, 2.0], [1.0, 1.0])
    with pytest.raises(LumosShapeError, match="object_index"):
        product(rows, [0], 1)
    with pytest.raises(LumosValueError, match="allowed: 0 to 1"):
        product(rows, [0, 2], 2)
    with pytest.raises(LumosValueError, match="object_index"):
        compatibility(rows, [-1, 0], 2)
    with pytest.raises(LumosValueError, match="integers"):
        product(rows, [0.0, 1.0], 2)
    with pytest.raises(LumosShapeError, match="prior_nodes"):
        product(rows, [0, 1], 2, lambda flux, _: flux, np.zeros((3, 2)))
    with pytest.raises(LumosShapeError, match="log_prior"):
        product(rows, [0, 1], 2, lambda flux, _: flux[:, :1])
    with pytest.raises(LumosValueError, match="error of a flux"):
        inverse_variance([1.0, 2.0], [1.0, 0.0], [0, 0], 1)
    with pytest.raises(LumosShapeError, match="error of the flux"):
        inverse_variance([1.0, 2.0], [1.0, 1.0, 1.0], [0, 0], 1)
    with pytest.raises(LumosValueError, match="threshold"):
        reject_outliers(rows, [0, 0], 1, 0.5)
    with pytest.raises(LumosValueError, match="components"):
        to_mixture(product(rows, [0, 1], 2)[0], 0)


def test_no_rows_at_all():
    pdf, n_used = product(gaussian([], []), np.empty(0), 2)
    assert np.isnan(pdf.mean()).all()
    assert_array_equal(n_used, 0)
    keep, contradictory = reject_outliers(gaussian([], []), np.empty(0, int), 2)
    assert keep.shape == (0,)
    assert_array_equal(contradictory, False)


def test_powers_of_rows_are_those_of_gaussians(rng):
    flux, error = rng.normal(50, 5, 6), np.array([3.0, 4.0, 5.0] * 2)
    rows = GaussianMixture(np.ones((6, 1)), flux[:, None], error[:, None])
    index, powers = np.array([0, 0, 0, 1, 1, 1]), np.array([1.0, 0.25, 0.5, 0.01, 0.01, 0.01])
    pdf, n_used = product(rows, index, 2, powers=powers)
    ivar = powers / error**2
    mean = np.bincount(index, ivar * flux) / np.bincount(index, ivar)
    width = np.bincount(index, ivar) ** -0.5
    # Nodes are good to 1e-3 of the width.
    np.testing.assert_allclose(pdf.mean(), mean, atol=2e-3 * width.max())
    np.testing.assert_allclose(pdf.std(), width, rtol=3e-3)
    assert n_used.tolist() == [3, 3]


def test_rows_that_share_everything_are_worth_one():
    row = GaussianMixture(np.array([[0.7, 0.3]]), np.array([[0.0, 6.0]]), np.array([[1.0, 2.0]]))
    pdf, _ = product(row.take(np.zeros(5, dtype=int)), np.zeros(5, dtype=int), 1, powers=np.full(5, 0.2))
    flux = np.linspace(-3, 12, 50)[None]
    np.testing.assert_allclose(pdf.cdf(flux), row.cdf(flux), atol=2e-3)


@pytest.mark.parametrize("power", [0.0, -1.0, np.nan])
def test_powers_must_be_positive(power):
    row = GaussianMixture(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    with pytest.raises(LumosValueError, match="power of a row"):
        product(row, np.zeros(1, dtype=int), 1, powers=power)
