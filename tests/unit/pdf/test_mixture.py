"""Gaussian mixtures against closed forms and scipy, and what they refuse."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, optimize, stats

from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf import GaussianMixture, GridPdf, TruncatedMixture, reweighted

MIXTURES = [GaussianMixture, TruncatedMixture]


def one(cls, weights, means, stds):
    return cls(*(np.array([row], dtype=float) for row in (weights, means, stds)))


def cut_moments(a):
    """Integrate mean and variance of the unit normal cut at a, measured from a, in units of its decay length."""
    unit = 1 / max(1, a)

    def density(u):
        return np.exp(-u * unit * (a + u * unit / 2)) if a > 0 else np.exp(-((u + a) ** 2) / 2)

    top = 60 if a > 0 else -a + 12
    middle = top / 2 if a > 0 else -a
    raw = [
        sum(
            integrate.quad(lambda u, p=p: u**p * density(u), low, high, epsabs=0, epsrel=1e-12, limit=200)[0]
            for low, high in ((0, middle), (middle, top))
            if high > low
        )
        for p in range(3)
    ]
    mean = raw[1] / raw[0]
    return mean * unit, (raw[2] / raw[0] - mean**2) * unit**2


def test_single_gaussian_is_scipys():
    pdf, law = one(GaussianMixture, [1], [3], [2]), stats.norm(3, 2)
    flux = np.array([[-40.0, -5, 0, 3, 4, 80]])
    assert_allclose(pdf.log_pdf(flux)[0], law.logpdf(flux[0]), rtol=1e-14)
    assert_allclose(pdf.cdf(flux)[0], law.cdf(flux[0]), rtol=1e-13)
    levels = np.array([[1e-300, 1e-12, 0.3, 0.5, 0.9, 1 - 1e-12]])
    assert_allclose(pdf.quantile(levels)[0], law.ppf(levels[0]), rtol=1e-12)
    assert_allclose([pdf.mean()[0], pdf.peak()[0], pdf.variance()[0]], [3, 3, 4], rtol=1e-14)
    # 1, 1.9600 and their ratio: what eq. 22 gives for a Gaussian is not exactly 1.
    assert_allclose(pdf.sigma68(), 2, rtol=1e-7)
    assert_allclose(pdf.sigma95(), 2 * stats.norm.ppf(0.975), rtol=1e-12)
    assert_allclose(pdf.eta(), 0.959964, atol=1e-6)


@pytest.mark.parametrize("a", [-40.0, -8, -1, 0, 0.7, 3, 6])
def test_single_cut_gaussian_is_scipys(a):
    sigma = 2.5
    pdf, law = one(TruncatedMixture, [1], [-a * sigma], [sigma]), stats.truncnorm(a, np.inf, -a * sigma, sigma)
    levels = np.array([[1e-6, 0.01, 0.3, 0.5, 0.84, 0.999]])
    flux = law.ppf(levels)
    # scipy's own quantiles agree with its cdf to some 1e-10 in the cut tail.
    assert_allclose(pdf.quantile(levels), flux, rtol=1e-8)
    assert_allclose(pdf.log_pdf(flux), law.logpdf(flux), rtol=1e-10, atol=1e-11)
    assert_allclose(pdf.cdf(flux), law.cdf(flux), rtol=1e-8)
    assert_allclose(pdf.peak(), max(-a * sigma, 0), rtol=1e-12)
    assert pdf.log_pdf(-1e-9)[0] == -np.inf
    assert pdf.cdf(-1.0)[0] == 0


@pytest.mark.parametrize("a", [-30.0, -5, -0.3, 0, 2, 3.99, 4.01, 7, 30, 300, 1e4, 1e8])
def test_moments_of_cut_components_keep_their_digits(a):
    mean, variance = cut_moments(a)
    pdf = one(TruncatedMixture, [1], [-a], [1])
    # Below the continued fraction, at a = 4, differences cost 1 - h (h - a) = 0.05: no more than 100 roundings.
    assert_allclose(pdf.mean()[0], mean, rtol=1e-11)
    assert_allclose(pdf.variance()[0], variance, rtol=1e-11)


@pytest.mark.parametrize("a", [30.0, 1e4, 1e8])
def test_far_cut_components_are_exponential(a):
    pdf, levels = one(TruncatedMixture, [1], [-2 * a], [2]), np.array([[1e-3, 0.16, 0.5, 0.84, 1 - 1e-3]])
    law = stats.expon(scale=2 / a)
    # P(> t) = exp(-t a - t^2 / 2 - ln(1 + t / a) ...): corrections of (1 + x + x^2 / 2) / a^2 with x up to 7.
    assert_allclose(pdf.quantile(levels)[0], law.ppf(levels[0]), rtol=10 / a**2 + 1e-10)
    flux = law.ppf(levels)
    assert_allclose(pdf.log_pdf(flux), law.logpdf(flux), atol=40 / a**2 + 1e-10)
    assert_allclose(pdf.cdf(flux), levels, atol=10 / a**2 + 1e-10)


def test_log_pdf_is_finite_far_in_the_tails():
    pdf = one(GaussianMixture, [0.5, 0.5], [0, 1], [1, 2])
    # The broad component alone counts there: ((1e5 - 1) / 2)^2 / 2.
    assert_allclose(pdf.log_pdf(1e5)[0], np.log(0.5) + stats.norm(1, 2).logpdf(1e5), rtol=1e-14)
    assert pdf.pdf(1e5)[0] == 0
    assert pdf.log_pdf(np.inf)[0] == -np.inf
    assert_allclose(pdf.cdf(np.array([[-np.inf, np.inf]])), [[0, 1]])
    cut = one(TruncatedMixture, [0.5, 0.5], [2, -1], [1, 2])
    assert cut.log_pdf(np.inf)[0] == -np.inf
    assert cut.cdf(np.inf)[0] == 1


def test_two_gaussians_between_component_variance():
    pdf = one(GaussianMixture, [0.25, 0.75], [0, 4], [1, 2])
    assert_allclose([pdf.mean()[0], pdf.variance()[0]], [3, 0.25 * (1 + 9) + 0.75 * (4 + 1)], rtol=1e-14)


def test_quantiles_are_those_of_brentq(rng):
    n = 30
    weights, means, stds = rng.dirichlet(np.ones(5), n), rng.normal(0, 5, (n, 5)), 10 ** rng.uniform(-3, 1, (n, 5))
    pdf = GaussianMixture(weights, means, stds)
    for level in (1e-9, 0.16, 0.5, 0.975):
        expected = [
            optimize.brentq(
                lambda f, i=i, level=level: np.sum(weights[i] * stats.norm.cdf(f, means[i], stds[i])) - level,
                -200,
                200,
                xtol=1e-13,
                rtol=1e-14,
            )
            for i in range(n)
        ]
        assert_allclose(pdf.quantile(level), expected, rtol=1e-9, atol=1e-9)


def test_quantiles_where_narrow_meets_broad():
    # Ratio 1e4: the cdf jumps by a half within 1e-4 of the width.
    pdf = one(GaussianMixture, [0.5, 0.5], [0, 0], [1e-4, 1])
    levels = np.array([[0.2, 0.26, 0.5, 0.7, 0.7499, 0.7501, 0.8]])
    flux = pdf.quantile(levels)
    assert_allclose(pdf.cdf(flux), levels, atol=1e-12)
    assert_allclose(flux[0, 0], stats.norm.ppf(0.4), rtol=1e-12)


def test_levels_0_and_1_are_the_ends_and_nan_stays():
    levels = np.array([[0, 1, np.nan]])
    assert_allclose(one(GaussianMixture, [1], [0], [1]).quantile(levels), [[-np.inf, np.inf, np.nan]])
    assert_allclose(one(TruncatedMixture, [1], [0], [1]).quantile(levels), [[0, np.inf, np.nan]])


def test_peak_of_overlapping_components_is_none_of_their_means():
    pdf = one(GaussianMixture, [0.5, 0.5], [-0.9, 0.9], [1, 1])  # closer than 2 sigma: one peak in between
    assert_allclose(pdf.peak(), 0, atol=1e-8)
    # A spike of little weight is higher than the hill.
    assert_allclose(one(GaussianMixture, [0.99, 0.01], [0, 3], [1, 1e-3]).peak(), 3, atol=1e-5)
    # Cut: the pile at 0 is higher than the hill at 3.
    assert one(TruncatedMixture, [0.5, 0.5], [-1, 3], [0.5, 1]).peak()[0] == 0


def test_scale_with_error_has_the_moments_of_the_product(rng):
    for cls in MIXTURES:
        pdf = one(cls, [0.4, 0.6], [3, 10], [2, 1])
        scaled = pdf.scale(2.0, 0.1)
        assert_allclose(scaled.mean(), 2 * pdf.mean(), rtol=1e-9)
        expected = 4 * (pdf.variance() * 1.01 + 0.01 * pdf.mean() ** 2)
        assert_allclose(scaled.variance(), expected, rtol=1e-9)
        # Against draws of the true product: the skewness left out, at most 0.23, moves the cdf by some 0.23 / 6 phi(0).
        draws = pdf.sample(rng, 20_000)[0] * rng.normal(2, 0.2, 20_000)
        assert stats.kstest(draws, lambda flux, law=scaled: law.cdf(flux[None])[0]).statistic < 0.02
    far = one(TruncatedMixture, [1], [-100], [1])
    assert_allclose(far.scale(3, 0.05).mean(), 3 * far.mean(), rtol=1e-9)
    assert_allclose(far.scale(3, 0.05).variance(), 9 * far.variance(), rtol=2 * 0.05**2)


def test_scale_without_error_of_the_factor_is_exact_in_the_general_branch():
    pdf = TruncatedMixture(np.ones((4, 1)), [[-50.0], [-3], [0], [200]], np.ones((4, 1)))
    scaled = pdf.scale(2, [0, 0, 0, 1e-300])
    assert_allclose(scaled.mean(), 2 * pdf.mean(), rtol=1e-10)
    assert_allclose(scaled.std(), 2 * pdf.std(), rtol=1e-6)


def test_scale_of_unknown_factor_is_nan():
    for cls in MIXTURES:
        pdf = cls(np.ones((3, 1)), np.ones((3, 1)), np.ones((3, 1)))
        assert np.isnan(pdf.scale([1, np.nan, 1]).mean()).tolist() == [False, True, False]
        assert np.isnan(pdf.scale(2, [0.1, np.nan, 0]).mean()).tolist() == [False, True, False]


def test_reweighting_by_gaussians_is_a_gaussian():
    # Likelihood N(3, 2) times the prior N(1, 1) over the proposal N(0, 10), in closed form.
    pdf = GaussianMixture([[1], [1]], [[3], [-40]], [[2], [2]])
    answer = reweighted(pdf, lambda f: stats.norm(1, 1).logpdf(f) - stats.norm(0, 10).logpdf(f))
    precision = 1 / 4 + 1 - 1 / 100
    mean, std = (np.array([3, -40]) / 4 + 1) / precision, precision**-0.5
    # The second is moved by 16 standard deviations.
    assert_allclose(answer.mean(), mean, atol=1e-3 * std)
    assert_allclose(answer.std(), std, rtol=1e-3)
    assert_allclose(answer.peak(), mean, atol=1e-3 * std)
    levels = np.array([[0.001, 0.16, 0.5, 0.84, 0.999]])
    assert_allclose(answer.quantile(levels), mean[:, None] + std * stats.norm.ppf(levels), atol=2e-3 * std)
    assert_allclose(answer.eta(), 0.9600, atol=2e-3)


@pytest.mark.parametrize("cls", MIXTURES)
def test_reweighting_by_one_changes_nothing(cls, rng):
    weights, means, stds = (
        rng.dirichlet(np.ones(5), 100),
        rng.normal(2, 3, (100, 5)),
        10 ** rng.uniform(-2, 1, (100, 5)),
    )
    pdf = cls(weights, means, stds)
    answer, levels = reweighted(pdf, np.zeros_like), np.array([[0.025, 0.16, 0.5, 0.84, 0.975]])
    std = pdf.std()
    # What the docstring promises. (Quantiles in gaps between components may differ by the gap.)
    assert_allclose(answer.cdf(pdf.quantile(levels)) - levels, 0, atol=1e-3)
    assert_allclose(answer.mean() / std, pdf.mean() / std, atol=1e-3)
    assert_allclose(answer.std(), std, rtol=1e-3)


def test_reweighting_can_forbid_fluxes():
    pdf = one(GaussianMixture, [1], [0], [1])
    answer = reweighted(pdf, lambda f: np.where(f < 0, -np.inf, 0.0))
    # The edge falls within one of the cells, 7 / 128 of a standard deviation at most.
    assert_allclose(answer.mean(), np.sqrt(2 / np.pi), atol=0.06)
    assert answer.cdf(-0.06)[0] == 0
    nothing = reweighted(pdf, lambda f: np.full_like(f, -np.inf))
    assert np.isnan(nothing.mean()).all()


def test_grid_of_an_exponential_is_exact():
    nodes = np.array([[0.0, 0.5, 3, 40]])
    pdf, law = GridPdf(nodes, -nodes), stats.expon()
    levels = np.array([[0.01, 0.3, 0.9, 0.999]])
    assert_allclose(pdf.quantile(levels)[0], law.ppf(levels[0]), rtol=1e-10)
    assert_allclose(pdf.cdf(law.ppf(levels)), levels, rtol=1e-12)
    assert_allclose([pdf.mean()[0], pdf.variance()[0], pdf.peak()[0]], [1, 1, 0], rtol=1e-12)


@pytest.mark.parametrize("cls", MIXTURES)
@pytest.mark.parametrize(
    ("weights", "means", "stds", "text"),
    [
        ([0.5, 0.6], [1, 2], [1, 1], "sum of the weights"),
        ([-0.5, 1.5], [1, 2], [1, 1], "weight of a component"),
        ([0.5, 0.5], [1, 2], [1, 0], "standard deviation"),
        ([0.5, 0.5], [1, 2], [1, -1], "standard deviation"),
        ([0, 0], [1, 2], [1, 1], "sum of the weights"),
    ],
)
def test_bad_parameters_are_refused(cls, weights, means, stds, text):
    with pytest.raises(LumosValueError, match=text):
        one(cls, weights, means, stds)


@pytest.mark.parametrize("cls", MIXTURES)
def test_bad_shapes_and_calls_are_refused(cls):
    with pytest.raises(LumosShapeError, match="three equal shapes"):
        cls([0.5, 0.5], [1, 2], [1, 1])
    with pytest.raises(LumosShapeError, match="three equal shapes"):
        cls([[0.5, 0.5]], [[1, 2]], [[1]])
    pdf = cls([[0.5, 0.5]] * 3, [[1, 2]] * 3, [[1, 1]] * 3)
    with pytest.raises(LumosShapeError, match="flux"):
        pdf.cdf([1.0, 2])
    with pytest.raises(LumosShapeError, match="flux"):
        pdf.pdf(np.ones((2, 3)))
    with pytest.raises(LumosValueError, match=r"level of a quantile.*1.5"):
        pdf.quantile(1.5)
    for factor in (0, -1, np.inf):
        with pytest.raises(LumosValueError, match="factor of the flux"):
            pdf.scale(factor)
    with pytest.raises(LumosValueError, match="relative error"):
        pdf.scale(1, -0.1)
    with pytest.raises(LumosShapeError, match="factor"):
        pdf.scale([1, 2])
    with pytest.raises(LumosShapeError, match="log_ratio"):
        reweighted(pdf, lambda flux: flux[:, :1])


def test_bad_grids_are_refused():
    with pytest.raises(LumosValueError, match="do not fall"):
        GridPdf([[0, 2, 1]], [[0, 0, 0]])
    with pytest.raises(LumosShapeError, match="two equal shapes"):
        GridPdf([[0, 1, 2]], [[0, 0]])


def test_weights_as_float32_are_made_to_sum_to_1_and_arrays_are_read_only():
    pdf = GaussianMixture(np.array([[0.3333, 0.6665]], dtype=np.float32), [[1, 2]], [[1, 1]])
    assert_allclose(pdf.weights.sum(), 1, rtol=1e-15)
    assert_allclose(pdf.cdf(np.inf), 1, rtol=1e-15)
    with pytest.raises(ValueError, match="read-only"):
        pdf.means[0, 0] = 3


@pytest.mark.parametrize("cls", MIXTURES)
def test_no_rows_give_no_answers(cls):
    pdf = cls(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3)))
    for answer in (pdf.mean(), pdf.peak(), pdf.quantile(0.5), pdf.sigma68(), pdf.cdf(1.0)):
        assert answer.shape == (0,)


@pytest.mark.parametrize("cls", MIXTURES)
def test_no_flux_is_denser_than_the_peak(cls, rng):
    n = 5000
    weights, means, stds = rng.dirichlet(np.ones(5), n), rng.normal(1, 3, (n, 5)), 10 ** rng.uniform(-1, 0.5, (n, 5))
    pdf = cls(weights, means, stds)
    peak = pdf.peak()
    flux = np.concatenate([means, pdf.quantile(np.linspace(0.01, 0.99, 99)[None])], axis=1)
    assert (pdf.log_pdf(flux).max(axis=1) <= pdf.log_pdf(peak) + 1e-12).all()
    # And it is the top of a hill, or at the edge of a cut: 1e-3 of the narrowest width to each side is lower.
    step = 1e-3 * stds.min(axis=1)
    assert (pdf.log_pdf(peak + step) < pdf.log_pdf(peak)).all()
    assert (pdf.log_pdf(peak - step) < pdf.log_pdf(peak)).all()
