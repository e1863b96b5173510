"""Laws that every flux PDF obeys, checked on every class over ordinary and extreme parameters."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from lumos.pdf import FluxPdf, GaussianMixture, GridPdf, TruncatedMixture, reweighted

#: name: weights, means, standard deviations of one row.
CASES = {
    "single": ([1], [3], [2]),
    "five": ([0.1, 0.2, 0.3, 0.25, 0.15], [1, 2, 3, 5, 9], [0.3, 1, 0.5, 2, 4]),
    "near_zero": ([0.5, 0.5], [-0.5, 0.3], [1, 0.4]),
    "narrow_and_broad": ([0.5, 0.5], [100, 120], [0.01, 100]),
    "far_apart": ([0.3, 0.7], [10, 1000], [1, 1]),
    "zero_weight": ([0.6, 0, 0.4], [1, 50, 2], [0.5, 1e-3, 0.5]),
    "far_below_zero": ([1], [-30], [1]),
    "mixed_cuts": ([0.5, 0.3, 0.2], [-30, 1, -3], [1, 0.5, 4]),
    "tiny_unit": ([0.5, 0.5], [1e-8, 2e-8], [3e-9, 1e-8]),
}
MIXTURES = [GaussianMixture, TruncatedMixture]
LEVELS = np.array([1e-6, 0.003, 0.025, 0.16, 0.31, 0.5, 0.77, 0.84, 0.975, 0.9999])


def make(kind, case) -> FluxPdf:
    mixture = (TruncatedMixture if kind == "truncated" else GaussianMixture)(*(np.array([row]) for row in CASES[case]))
    if kind != "grid":
        return mixture
    return reweighted(mixture, lambda flux: -0.3 * flux / mixture.std()[:, None])


@pytest.fixture(params=[(kind, case) for kind in ("gaussian", "truncated", "grid") for case in CASES], ids=str)
def density(request) -> FluxPdf:
    return make(*request.param)


def breaks(density: FluxPdf) -> np.ndarray:
    """Return fluxes between which the density is smooth enough for one quadrature, from end to end."""
    if isinstance(density, GridPdf):
        return density.nodes[0]
    # Down to levels of 1e-12: with every component's own steps, however narrow.
    parts = type(density)(np.ones_like(density.weights.T), density.means.T, density.stds.T)
    levels = np.concatenate([[1e-12, 1e-8, 1e-4], np.linspace(0.01, 0.99, 25), [1 - 1e-4, 1 - 1e-8, 1 - 1e-12]])
    points = parts.quantile(levels[None]).ravel()
    edges = density.quantile(np.array([[1e-12, 1 - 1e-12]])).ravel()
    return np.unique(np.concatenate([edges, points[(points > edges[0]) & (points < edges[1])]]))


def integral(density: FluxPdf, function) -> float:
    """Integrate function(f) p(f) by adaptive quadrature, piece by piece."""
    edges = breaks(density)
    if isinstance(density, GridPdf):  # 257 pieces without any structure inside: 12 points each are exact
        x, w = np.polynomial.legendre.leggauss(12)
        half, centre = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
        at = (centre + half * x).ravel()
        return float(((half * w).ravel() * function(at) * density.pdf(at[None])[0]).sum())
    pieces = [
        integrate.quad(lambda f: function(f) * density.pdf(f)[0], low, high, epsrel=1e-9, limit=200)[0]
        for low, high in itertools.pairwise(edges)
    ]
    return float(np.sum(pieces))


def check_integrates_to_one(density):
    # The tails beyond 1e-12 are left out; the quadrature asks for 1e-9.
    assert_allclose(integral(density, np.ones_like), 1, rtol=3e-9)


def check_moments(density):
    mean, std = density.mean()[0], density.std()[0]
    assert_allclose(integral(density, lambda f: f), mean, rtol=1e-8, atol=1e-8 * std)
    assert_allclose(integral(density, lambda f: (f - mean) ** 2), density.variance()[0], rtol=1e-7)


def check_cdf_slope_is_pdf(density):
    flux = density.quantile(LEVELS[None, 1:-1])
    if isinstance(density, GridPdf):  # stay inside the cells: the slope of the density jumps at the nodes
        cells = np.searchsorted(density.nodes[0], flux[0])
        flux = (density.nodes[:, cells] + density.nodes[:, cells - 1]) / 2
    flux = flux[density.pdf(flux) * density.std()[0] > 1e-4][None]
    assert flux.size >= 6
    # Central differences over a probability of 2e-6: 1e-10 from rounding, and the third derivative's part is
    # (1e-6)^2 / 6 over the square of the least probability, 0.003 here, within which the density changes.
    step = 1e-6 / density.pdf(flux)
    slope = (density.cdf(flux + step) - density.cdf(flux - step)) / (2 * step)
    assert_allclose(slope, density.pdf(flux), rtol=2e-5)


def check_quantile_and_cdf_invert(density):
    flux = density.quantile(LEVELS[None])
    # 1e-9 of a narrowest standard deviation moves the probability by less than 4e-10.
    assert_allclose(density.cdf(flux), LEVELS[None], atol=1e-9)
    assert (np.diff(flux) > 0).all()
    # Back to the flux: rounding of the cdf, 1e-16, is divided by the density, at least 1e-6 of its usual size here
    # except in empty gaps, where any flux has the same cdf.
    again = density.quantile(density.cdf(flux))
    std = density.std()[0]
    firm = density.pdf(flux) * std > 1e-7
    assert firm.sum() >= 6
    assert_allclose(again[firm], flux[firm], rtol=1e-12, atol=1e-6 * std)


def check_scaling(density):
    factor = 37.5
    scaled = density.scale(factor)
    flux = density.quantile(LEVELS[None])
    assert_allclose(scaled.pdf(factor * flux), density.pdf(flux) / factor, rtol=1e-9)
    assert_allclose(scaled.cdf(factor * flux), density.cdf(flux), atol=1e-12)
    # 1e-7 of the width: a peak is flat, and heights agree to rounding within 1e-8 of it.
    for name in ("mean", "std", "peak", "sigma68", "sigma95"):
        here, there = getattr(density, name)(), getattr(scaled, name)()
        assert_allclose(there, factor * here, rtol=1e-9, atol=factor * 1e-7 * density.std()[0], err_msg=name)
    assert_allclose(scaled.eta(), density.eta(), rtol=1e-6)


def check_peak_is_highest(density):
    peak = density.peak()
    flux = np.concatenate([breaks(density), density.quantile(np.linspace(0.001, 0.999, 999)[None])[0]])
    # A grid's peak is the top of a smooth curve through its nodes: below the highest node by O(spacing^2) at most.
    slack = 1e-3 if isinstance(density, GridPdf) else 1e-12
    assert density.log_pdf(flux[None]).max() <= density.log_pdf(peak)[0] + slack


def check_samples_follow_cdf(density, rng):
    draws = density.sample(rng, 4000)[0]
    # Seeded; a true law gives a p-value below 1e-3 once in a thousand seeds.
    assert stats.kstest(draws, lambda flux: density.cdf(flux[None])[0]).pvalue > 1e-3


@pytest.mark.parametrize(
    "check",
    [
        check_integrates_to_one,
        check_moments,
        check_cdf_slope_is_pdf,
        check_quantile_and_cdf_invert,
        check_scaling,
        check_peak_is_highest,
    ],
)
def test_law(density, check):
    check(density)


def test_samples_follow_cdf(density, rng):
    check_samples_follow_cdf(density, rng)


@pytest.mark.parametrize("cls", MIXTURES)
def test_order_of_components_does_not_matter(cls, rng):
    weights, means, stds = rng.dirichlet(np.ones(5), 50), rng.normal(1, 3, (50, 5)), np.exp(rng.normal(0, 1, (50, 5)))
    one = cls(weights, means, stds)
    order = rng.permutation(5)
    other = cls(weights[:, order], means[:, order], stds[:, order])
    flux = one.quantile(LEVELS[None])
    assert_allclose(other.log_pdf(flux), one.log_pdf(flux), rtol=1e-11, atol=1e-12)
    assert_allclose(other.quantile(LEVELS[None]), flux, atol=1e-8)
    for name in ("mean", "variance", "peak"):
        assert_allclose(getattr(other, name)(), getattr(one, name)(), rtol=1e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("cls", MIXTURES)
def test_many_rows_equal_single_rows(cls, rng):
    n = 40_000  # more than one chunk
    weights, means, stds = rng.dirichlet(np.ones(5), n), rng.normal(1, 3, (n, 5)), np.exp(rng.normal(0, 1, (n, 5)))
    many = cls(weights, means, stds)
    answers = many.quantile(0.3), many.peak(), many.log_pdf(1.0), many.cdf(means[:, :2]), many.scale(2, 0.1).mean()
    some = np.array([0, 17, 26_213, 26_214, 26_215, n - 1])
    few = many.take(some)
    again = few.quantile(0.3), few.peak(), few.log_pdf(1.0), few.cdf(means[some, :2]), few.scale(2, 0.1).mean()
    for whole, part in zip(answers, again, strict=True):
        assert_allclose(whole[some], part, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "truncated", "grid"])
@pytest.mark.parametrize("column", ["weights", "means", "stds"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_rows_are_nan_and_leave_others_alone(kind, column, value):
    values = {
        "weights": np.full((3, 2), 0.5),
        "means": np.array([[1.0, 2], [3, 4], [5, 6]]),
        "stds": np.full((3, 2), 1.5),
    }
    cls = TruncatedMixture if kind == "truncated" else GaussianMixture
    bad = values | {column: values[column].copy()}
    bad[column][1, 0] = value
    clean, spoiled = cls(**values), cls(**bad)
    if kind == "grid":
        clean, spoiled = (reweighted(pdf, lambda flux: -0.1 * flux) for pdf in (clean, spoiled))
    answers = {
        name: [getattr(pdf, name)() for pdf in (clean, spoiled)]
        for name in ("mean", "variance", "std", "peak", "sigma68", "sigma95", "eta")
    }
    for name, argument in (("pdf", 2.0), ("log_pdf", 2.0), ("cdf", 2.0), ("pit", np.inf), ("quantile", 0.3)):
        answers[name] = [getattr(pdf, name)(argument) for pdf in (clean, spoiled)]
    for name in ("quantile", "cdf"):
        answers[name + " at 0"] = [getattr(pdf, name)(0.0) for pdf in (clean, spoiled)]
    answers["scale"] = [pdf.scale(2.0).mean() for pdf in (clean, spoiled)]
    answers["sample"] = [pdf.sample(np.random.default_rng(1), 3) for pdf in (clean, spoiled)]
    for name, (right, seen) in answers.items():
        assert np.isnan(seen[1]).all(), name
        assert not np.isnan(right).any(), name
        assert_allclose(seen[[0, 2]], right[[0, 2]], err_msg=name)
