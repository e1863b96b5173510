import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from lumos.errors import LumosShapeError, LumosValueError
from lumos.statistics import sigma68
from lumos.validate.limits import grid_posterior, matched_filter_posterior, prior_only

SIZE = 12
LEVELS = np.array([0.02, 0.16, 0.5, 0.84, 0.98])


def flat(flux):
    return np.where(np.isnan(flux), np.nan, 0.0)


def gaussian_prior(mean, std):
    return lambda flux: -0.5 * ((flux - mean) / std) ** 2


def stamps(rng, n, *, flux=200.0, level=0.0, gain=np.inf):
    """Return data, profile, background, variance, gain and mask of Gaussian galaxies on an uneven background."""
    y, x = np.mgrid[:SIZE, :SIZE]
    width = rng.uniform(1.2, 2.5, (n, 1, 1))
    profile = np.exp(-((x - 5.5) ** 2 + (y - 6.1) ** 2) / (2 * width**2)) / (2 * np.pi * width**2)
    background = 50 + rng.normal(0, 20, (n, SIZE, SIZE))
    variance = rng.uniform(20, 60, (n, SIZE, SIZE))
    good = rng.uniform(size=(n, SIZE, SIZE)) > 0.1
    light = np.broadcast_to(flux, n)[:, None, None] * profile
    noise = np.sqrt(variance + light / gain) * rng.standard_normal(variance.shape)
    data = np.where(good, background + light + level + noise, 1e6)
    return data, profile, background, variance, np.full(n, gain), good


def test_a_gaussian_prior_has_its_conjugate_posterior(rng):
    *pixels, good = stamps(rng, 40)
    data, profile, background, variance, _ = pixels
    posterior = grid_posterior(*pixels, gaussian_prior(150.0, 40.0), good=good, lowest=-np.inf)
    weight = good / variance
    precision = (profile**2 * weight).sum((1, 2)) + 1 / 40**2
    mean = ((data - background) * profile * weight).sum((1, 2)) / precision + 150 / 40**2 / precision
    std = precision**-0.5
    # Cells of 0.1 sigma: the density between nodes is off by (0.1)^2 / 12 at most.
    np.testing.assert_allclose(
        posterior.quantile(LEVELS[None]), mean[:, None] + std[:, None] * norm.ppf(LEVELS), atol=0.002 * std.max()
    )
    np.testing.assert_allclose(posterior.std(), std, rtol=2e-3)


def test_a_free_level_is_two_parameter_least_squares(rng):
    *pixels, good = stamps(rng, 10, level=300.0)
    data, profile, background, variance, _ = pixels
    posterior = grid_posterior(*pixels, flat, good=good, free_level=True, lowest=-np.inf)
    for i in range(10):
        design = np.stack([profile[i][good[i]], np.ones(good[i].sum())], axis=1)
        inverse = np.linalg.inv(design.T @ (design / variance[i][good[i]][:, None]))
        best = inverse @ design.T @ ((data - background)[i] / variance[i])[good[i]]
        std = np.sqrt(inverse[0, 0])
        np.testing.assert_allclose(
            posterior.quantile(LEVELS[None])[i], best[0] + std * norm.ppf(LEVELS), atol=2e-3 * std
        )


@pytest.mark.parametrize("free", [False, True])
def test_photon_noise_depends_on_the_flux(rng, free):
    # Electrons of 0.02 units at fluxes of tens: the galaxy's photons are as strong as the sky.
    flux = np.array([5.0, 40.0, 400.0, 3000.0])
    *pixels, good = stamps(rng, 4, flux=flux, gain=0.05)
    data, profile, background, variance, gain = pixels

    def log_prior(nodes):
        return -0.5 * (np.log(np.maximum(nodes, 1e-300) / flux[:, None]) / 0.5) ** 2

    posterior = grid_posterior(*pixels, log_prior, good=good, free_level=free)
    for i in range(4):
        d, m, v = ((values[i][good[i]]) for values in (data - background, profile, variance))

        def log_density(f, d=d, m=m, v=v, i=i):
            total = v + f * m / gain[i]
            if not free:
                return norm.logpdf(d, f * m, np.sqrt(total)).sum() + log_prior(np.full((4, 1), f))[i, 0]
            # The level integrated by brute force over 10 of its errors.
            error = (1 / total).sum() ** -0.5
            levels = ((d - f * m) / total).sum() * error**2 + error * np.linspace(-10, 10, 401)
            log_l = norm.logpdf(d, f * m + levels[:, None], np.sqrt(total)).sum(1)
            top = log_l.max()
            return top + np.log(np.exp(log_l - top).sum() * error) + log_prior(np.full((4, 1), f))[i, 0]

        middle, width = posterior.quantile(0.5)[i], posterior.sigma68()[i]
        top = log_density(middle)
        low, high = max(middle - 9 * width, 1e-9), middle + 12 * width

        def density(f, log_density=log_density, top=top):
            return np.exp(log_density(f) - top)

        below = quad(density, low, middle - width, limit=200)[0]
        above = quad(density, middle - width, high, limit=200)[0]
        # The range left out has less than 1e-6; nodes 0.1 sigma apart are good to 1e-3.
        assert abs(posterior.cdf(posterior.quantile(0.5) - posterior.sigma68())[i] - below / (below + above)) < 1e-3


def test_weights_from_the_sky_alone_would_be_noticed(rng):
    *pixels, good = stamps(rng, 20, flux=3000.0, gain=0.05)
    exact = grid_posterior(*pixels, flat, good=good)
    pixels[-1] = np.full(20, np.inf)
    assert (exact.sigma68() > 1.2 * grid_posterior(*pixels, flat, good=good).sigma68()).all()


@pytest.mark.parametrize("free", [False, True])
def test_pit_is_uniform_when_prior_and_noise_are_right(rng, free):
    n = 1500
    flux = 100 * np.exp(0.6 * rng.standard_normal(n))
    *pixels, good = stamps(rng, n, flux=flux, level=30.0 if free else 0.0, gain=0.2)

    def log_prior(nodes):
        log_flux = np.log(np.where(nodes > 0, nodes, 1.0))
        return np.where(nodes > 0, -0.5 * ((log_flux - np.log(100)) / 0.6) ** 2 - log_flux, -np.inf)

    posterior = grid_posterior(*pixels, log_prior, good=good, free_level=free)
    # The 99.9 % point of the Kolmogorov-Smirnov distance.
    assert kstest(posterior.pit(flux), "uniform").statistic < 1.95 / np.sqrt(n)


def test_no_pdf_has_a_higher_log_score_and_scatter_is_no_bound(rng):
    n = 1500
    # Two kinds of galaxies, which their shapes tell apart: the magnitude alone knows only the mixture.
    kind = rng.integers(2, size=n)
    flux = np.array([60.0, 160.0])[kind] * np.exp(0.3 * rng.standard_normal(n))
    *pixels, good = stamps(rng, n, flux=flux)

    means = np.log([60.0, 160.0])

    def log_prior(nodes, width=0.3, mean=means[kind][:, None]):
        log_flux = np.log(np.where(nodes > 0, nodes, 1.0))
        return np.where(nodes > 0, -0.5 * ((log_flux - mean) / width) ** 2 - np.log(width) - log_flux, -np.inf)

    def mixed(nodes):
        return np.logaddexp(*(log_prior(nodes, mean=mean) for mean in means))

    def score(prior, *, noise=1.0):
        data, profile, background, variance, gain = pixels
        return grid_posterior(data, profile, background, noise * variance, gain, prior, good=good)

    exact = score(log_prior)
    best = exact.log_pdf(flux)
    others = [score(mixed), score(lambda nodes: log_prior(nodes, 0.2)), score(lambda nodes: log_prior(nodes, 0.45))]
    others += [score(log_prior, noise=2.0), score(log_prior, noise=0.5), prior_only(log_prior, flux)]
    for other in others:
        lost = best - other.log_pdf(flux)
        assert lost.mean() > 3 * lost.std() / np.sqrt(n)
    # Points drawn towards 0 scatter less about the truth, relative to it, than those of the exact posterior.
    relative = (exact.quantile(0.5) - flux) / flux
    assert sigma68((0.9 * exact.quantile(0.5) - flux) / flux) < sigma68(relative)


def test_more_nodes_change_nothing(rng):
    *pixels, good = stamps(rng, 20, flux=60.0, gain=0.2)
    few, many = (grid_posterior(*pixels, flat, good=good, n_nodes=n) for n in (129, 1025))
    nodes = many.quantile(LEVELS[None])
    np.testing.assert_allclose(few.cdf(nodes), np.broadcast_to(LEVELS, nodes.shape), atol=1e-3)


@pytest.mark.parametrize("ratio", [1e-3, 0.1, 1.0, 100.0])
def test_gaussian_likelihood_times_gaussian_prior(ratio):
    # A likelihood far narrower and far wider than the prior, and 3 errors away from it.
    std = ratio * np.array([10.0, 10.0])
    flux = 500.0 + np.array([0.0, 3.0]) * np.hypot(std, 10.0)
    pdf = matched_filter_posterior(flux, std, gaussian_prior(500.0, 10.0), lowest=-np.inf)
    precision = std**-2 + 10.0**-2
    mean = (flux / std**2 + 500 / 10.0**2) / precision
    sigma = precision**-0.5
    np.testing.assert_allclose((pdf.quantile(0.5) - mean) / sigma, 0, atol=2e-3)
    np.testing.assert_allclose(pdf.std() / sigma, 1, rtol=2e-3)


@pytest.mark.parametrize("measured", [-300.0, 5.0, 165.0])
def test_a_lognormal_prior_far_below_the_error_is_found(measured):
    # Two thirds of the prior's mass lie within a fifth of 15, and the likelihood's error is 90.
    def log_prior(nodes):
        log_flux = np.log(np.where(nodes > 0, nodes, 1.0))
        return np.where(nodes > 0, -0.5 * ((log_flux - np.log(15)) / 0.2) ** 2 - log_flux, -np.inf)

    pdf = matched_filter_posterior(np.array([measured]), np.array([90.0]), log_prior)

    def density(f):
        return np.exp(log_prior(np.array(f)) - 0.5 * ((f - measured) / 90) ** 2 + 0.5 * ((15 - measured) / 90) ** 2)

    # Eight widths of the logarithm at each side.
    below, above = (quad(density, *ends, limit=200)[0] for ends in ((3.0, 15.0), (15.0, 75.0)))
    assert abs(pdf.cdf(15.0)[0] - below / (below + above)) < 5e-4


def test_the_prior_alone_is_the_prior():
    mean, width = np.array([20.0, 3000.0]), np.array([0.2, 0.5])

    def log_prior(nodes):
        log_flux = np.log(np.where(nodes > 0, nodes, 1.0))
        return np.where(
            nodes > 0, -0.5 * ((log_flux - np.log(mean)[:, None]) / width[:, None]) ** 2 - log_flux, -np.inf
        )

    pdf = prior_only(log_prior, np.array([100.0, 1000.0]))
    expected = mean[:, None] * np.exp(width[:, None] * norm.ppf(LEVELS))
    np.testing.assert_allclose(pdf.quantile(LEVELS[None]), expected, rtol=5e-4)


def test_bad_objects_are_nan_and_leave_the_others_alone(rng):
    *pixels, good = stamps(rng, 4)
    alone = grid_posterior(*pixels, flat, good=good).quantile(0.5)
    pixels[0][1, 4, 4], good[1, 4, 4] = np.nan, True
    good[2] = False
    together = grid_posterior(*pixels, flat, good=good).quantile(0.5)
    assert np.isnan(together[1:3]).all()
    np.testing.assert_array_equal(together[[0, 3]], alone[[0, 3]])
    assert np.isnan(matched_filter_posterior(np.array([np.nan]), np.ones(1), flat).peak()).all()


def test_bad_calls_are_refused(rng):
    data, profile, background, variance, gain, _ = stamps(rng, 3)
    with pytest.raises(LumosShapeError, match="stamps, profiles and masks"):
        grid_posterior(data, profile[:2], background, variance, gain, flat)
    with pytest.raises(LumosShapeError, match="expected background"):
        grid_posterior(data, profile, background[:, 0, 0], variance, gain, flat)
    with pytest.raises(LumosShapeError, match="gain"):
        grid_posterior(data, profile, background, variance, 1.0, flat)
    with pytest.raises(LumosValueError, match="variance"):
        grid_posterior(data, profile, background, -variance, gain, flat)
    with pytest.raises(LumosValueError, match="gain"):
        grid_posterior(data, profile, background, variance, 0 * np.ones(3), flat)
    with pytest.raises(LumosValueError, match="nodes"):
        grid_posterior(data, profile, background, variance, gain, flat, n_nodes=2)
    with pytest.raises(LumosShapeError, match="fluxes and errors"):
        matched_filter_posterior(np.zeros(3), np.ones(2), flat)
    with pytest.raises(LumosShapeError, match="scale"):
        prior_only(flat, np.ones((2, 2)))
