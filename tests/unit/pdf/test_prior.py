"""The catalogue prior against known densities, scipy and closed forms."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.pdf import FluxPrior, GaussianMixture, posterior
from lumos.simulate.population import load_population
from lumos.spectra.passbands import PAUCAM_PASSBANDS

BANDS = ("blue", "red")
N_TRAIN, N_TEST = 8000, 4000


def reference(mag):
    return 10 ** (0.4 * (31.4 - np.asarray(mag)))


class Truth:
    """Two populations in ln(f / f_ref); centres and widths change with magnitude and band."""

    SHARE = 0.3

    def __init__(self, mag, band):
        self.main = np.where(band == 0, -0.4 - 0.1 * (mag - 21), 0.1 + 0.03 * (mag - 21))
        self.std = np.where(band == 0, 0.3 + 0.03 * (mag - 21), 0.08)
        self.other = self.main - 2 * self.std
        self.ref = reference(mag)

    def draw(self, rng):
        other = rng.random(len(self.ref)) < self.SHARE
        return self.ref * np.exp(np.where(other, self.other, self.main) + self.std * rng.standard_normal(len(self.ref)))

    def log_pdf(self, flux):
        x = np.log(flux / self.ref)
        parts = (self.SHARE, self.other), (1 - self.SHARE, self.main)
        return np.log(sum(share * stats.norm.pdf(x, mean, self.std) for share, mean in parts)) - np.log(flux)

    def cdf(self, flux):
        x = np.log(flux / self.ref)
        parts = (self.SHARE, self.other), (1 - self.SHARE, self.main)
        return sum(share * stats.norm.cdf(x, mean, self.std) for share, mean in parts)


def draw_truth(n, seed):
    rng = np.random.default_rng(seed)
    mag, band = rng.uniform(19, 23, n), rng.integers(0, 2, n)
    truth = Truth(mag, band)
    return truth.draw(rng), mag, band, truth, rng


def gaussian(mean, std):
    return GaussianMixture(np.ones((len(mean), 1)), np.asarray(mean)[:, None], np.asarray(std)[:, None])


@pytest.fixture(scope="module")
def prior():
    flux, mag, band, _, _ = draw_truth(2 * N_TRAIN, 1)
    return FluxPrior.fit(flux, mag, band, BANDS)


def two_sample_bound(n, n_train):
    """Return the 99.9 % bound of a Kolmogorov distance where the law itself was learned from n_train draws."""
    return 1.95 * np.sqrt(1 / n + 1 / n_train)


@pytest.mark.parametrize("band", [0, 1])
def test_density_in_flux_integrates_to_1(prior, band):
    mags = np.array([15.0, 19, 19.37, 20, 21.2, 22.99, 25])
    ref = reference(mags)

    def density(u):
        flux = ref * np.exp(u)
        return np.exp(prior.log_pdf(flux, mags, band)) * flux

    nodes = prior.nodes[band]
    # Between nodes it is a power law of the flux: 21 points are exact; the ends are within one rounding of 0.
    total = sum(integrate.quad_vec(density, low, high, epsrel=1e-8)[0] for low, high in pairwise(nodes))
    assert_allclose(total, 1, rtol=1e-8)


def test_samples_follow_the_cdf_and_the_moments(prior, rng):
    mag, band = rng.uniform(18, 24, N_TEST), rng.integers(0, 2, N_TEST)
    flux = prior.sample(mag, band, rng)
    assert stats.kstest(prior.cdf(flux, mag, band), "uniform").statistic < 1.95 / np.sqrt(N_TEST)
    one = np.full(N_TEST, 21.3)
    draws = prior.sample(one, "blue", rng)
    assert abs(draws.mean() - prior.mean(one, 0)[0]) < 4 * draws.std() / np.sqrt(N_TEST)
    levels = np.array([[0.0, 1e-4, 0.16, 0.5, 0.9, 1.0]])
    assert_allclose(prior.cdf(prior.quantile(levels, mag, band), mag, band), np.tile(levels, (N_TEST, 1)), atol=1e-9)


def test_mean_is_the_integral(prior):
    u = np.linspace(prior.nodes[0, 0], prior.nodes[0, -1], 400_001)
    flux = reference(20.4) * np.exp(u)
    integral = np.trapezoid(np.exp(prior.log_pdf(flux[None], [20.4], 0)[0]) * flux**2, u)
    # Steps of 5e-5, slopes of at most 100 per unit.
    assert_allclose(prior.mean([20.4], 0), integral, rtol=1e-4)


def test_fit_recovers_a_known_density(prior):
    flux, mag, band, truth, _ = draw_truth(N_TEST, 2)
    loss = truth.log_pdf(flux) - prior.log_pdf(flux, mag, band)
    # Half a unit of ln(likelihood) per parameter, with at most 15 for each of 5 knots; 0.001 for the floor.
    expected = 0.5 * 5 * 15 / N_TRAIN + 1e-3
    error = loss.std() / np.sqrt(N_TEST)
    assert -4 * error < loss.mean() < expected + 4 * error
    pit = prior.cdf(flux, mag, band)
    for rows in (band == 0, band == 1, mag < 20, (mag > 20) & (mag < 22), mag > 22):
        n = int(rows.sum())
        assert stats.kstest(pit[rows], "uniform").statistic < two_sample_bound(n, n * 4)


def test_fit_noisy_undoes_the_noise():
    n = 10_000
    flux, mag, _, _, rng = draw_truth(2 * n, 3)
    truth = Truth(mag, 0)
    flux = truth.draw(rng)
    std = reference(mag) * rng.uniform(0.2, 0.6, 2 * n)
    noisy = rng.normal(flux, std)
    assert (noisy[:n] < 0).mean() > 0.03
    assert 1 < np.median(flux / std) < 3
    prior = FluxPrior.fit_noisy(gaussian(noisy[:n], std[:n]), mag[:n], 0, ("blue",))
    levels = np.array([0.05, 0.16, 0.5, 0.84, 0.95])
    for low in (19, 20, 21, 22):
        near = (mag >= low) & (mag < low + 1)
        centre, ref = np.array([low + 0.5]), reference(low + 0.5)
        grid = ref * np.exp(np.linspace(-4, 3, 4001))
        right = np.interp(levels, Truth(centre, 0).cdf(grid), grid)
        learned = prior.quantile(levels[None], centre, 0)[0]
        naive = np.quantile(noisy[near] / reference(mag[near]), levels) * ref
        assert np.abs(learned - right).max() < 0.3 * np.abs(naive - right).max()
    answer = posterior(gaussian(noisy[n:], std[n:]), prior, mag[n:], 0)
    assert stats.kstest(answer.pit(flux[n:]), "uniform").statistic < two_sample_bound(n, n)
    # With the prior the fluxes are nearer to the truth.
    assert np.std(answer.mean() - flux[n:]) < 0.75 * np.std(noisy[n:] - flux[n:])


def test_realistic_galaxies():
    bands = ("NB455", "NB755")
    population = load_population()

    def draw(n, seed):
        galaxies = population.draw(n, np.random.default_rng(seed), (19.0, 23.0))
        flux = galaxies.band_flux([PAUCAM_PASSBANDS[name] for name in bands])
        return flux.ravel(), np.repeat(galaxies.ref_mag, 2), np.tile(bands, n)

    flux, mag, band = draw(6000, 4)
    prior = FluxPrior.fit(flux, mag, band, bands)
    flux, mag, band = draw(3000, 5)
    pit, score = prior.cdf(flux, mag, band), prior.log_pdf(flux, mag, band) + np.log(flux)
    for name in bands:
        rows = band == name
        assert stats.kstest(pit[rows], "uniform").statistic < two_sample_bound(3000, 6000)
        # Better than the lognormal that fits these very fluxes best: the density has tails.
        x = np.log(flux[rows] / reference(mag[rows]))
        line = np.polyval(np.polyfit(mag[rows], x, 1), mag[rows])
        assert score[rows].mean() > stats.norm.logpdf(x, line, np.std(x - line)).mean() + 0.02


def gaussian_prior(centre, std):
    """Return a prior that is a Gaussian in flux, whatever the magnitude 21; nodes 0.02 std apart."""
    nodes = np.log((centre + std * np.linspace(-12, 12, 1201)) / reference(21))
    flux = reference(21) * np.exp(nodes)
    log_density = stats.norm.logpdf(flux, centre, std) + np.log(flux)
    return FluxPrior(("g",), np.array([21.0]), nodes[None], log_density[None, None])


@pytest.mark.parametrize("ratio", [1e-4, 0.03, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("offset", [-9.0, 0.0, 0.3, 4.0, 9.0])
def test_posterior_is_conjugate(ratio, offset):
    centre, std = 1e4, 300.0
    sigma = ratio * std
    measured = centre + offset * np.hypot(sigma, std)
    answer = posterior(gaussian([measured], [sigma]), gaussian_prior(centre, std), [21.0], "g")
    variance = 1 / (1 / std**2 + 1 / sigma**2)
    mean, width = variance * (centre / std**2 + measured / sigma**2), np.sqrt(variance)
    # Straight lines between quantiles 0.055 widths apart: 0.055^2 / 12 of the variance.
    assert abs(answer.mean()[0] - mean) < 1e-3 * width
    assert_allclose(answer.std(), width, rtol=1e-3)
    levels = np.array([[0.001, 0.16, 0.5, 0.84, 0.999]])
    assert_allclose(answer.cdf(mean + width * stats.norm.ppf(levels)), levels, atol=5e-4)


def test_posterior_equals_integration(prior):
    mag = np.full(8, 20.5)
    ref = reference(20.5)
    # Noise of the prior's size; narrow; wide; far below 0; out of reach of the bulk on both sides; two parts.
    means = np.array([[0.5, 0.5], [0.4, 0.4], [2, -9], [-4, -4], [-40, -40], [9, 9], [0.02, 0.02], [0.3, 1.2]]) * ref
    stds = (
        np.array([[0.3, 0.6], [1e-4, 1e-4], [20, 50], [0.8, 0.8], [0.5, 0.5], [0.1, 0.1], [1e-3, 1e-3], [0.01, 3]])
        * ref
    )
    likelihood = GaussianMixture(np.tile([0.7, 0.3], (8, 1)), means, stds)
    answer = posterior(likelihood, prior, mag, "blue")
    bounds = np.tile(ref * np.exp(prior.nodes[0, [0, -1]] + [1e-9, -1e-9]), (8, 1))
    for _ in range(5):  # close in on what is not negligible
        u = np.linspace(*np.log(bounds).T, 20_001, axis=1)
        value = likelihood.log_pdf(np.exp(u)) + prior.log_pdf(np.exp(u), mag, 0) + u
        inside = value > value.max(axis=1, keepdims=True) - 40
        ends = inside.argmax(axis=1) - 1, 20_001 - inside[:, ::-1].argmax(axis=1)
        bounds = np.stack([np.exp(u[np.arange(8), end.clip(0, 20_000)]) for end in ends], axis=1)
    density = np.exp(value - value.max(axis=1, keepdims=True))
    cumulative = integrate.cumulative_trapezoid(density, u, axis=1, initial=0)
    cumulative /= cumulative[:, -1:]
    levels = np.array([0.001, 0.16, 0.5, 0.84, 0.999])
    flux = np.exp(np.array([np.interp(levels, *pair) for pair in zip(cumulative, u, strict=True)]))
    assert_allclose(answer.cdf(flux), np.tile(levels, (8, 1)), atol=1e-3)
    mean = np.trapezoid(density * np.exp(u), u, axis=1) / np.trapezoid(density, u, axis=1)
    assert np.abs((answer.mean() - mean) / answer.std()).max() < 2e-3


def test_any_flux_and_bad_rows_are_accepted(prior):
    mag = np.array([20.0, np.nan, np.inf, 21])
    flux = np.array([[-1e9, 0.0, np.nan, np.inf, 1e30, reference(20)]])
    value = prior.log_pdf(flux, mag, 0)
    assert np.isnan(value[1:3]).all()
    assert_array_equal(value[0, [0, 1, 3, 4]], -np.inf)
    assert np.isnan(value[0, 2])
    assert np.isfinite(value[0, 5])
    assert_array_equal(prior.cdf(flux, mag, 0)[0, [0, 1, 3, 4]], [0, 0, 1, 1])
    assert_array_equal(np.isnan(prior.mean(mag, 1)), [False, True, True, False])
    assert_array_equal(np.isnan(prior.sample(mag, 1, np.random.default_rng(1))), [False, True, True, False])
    likelihood = gaussian([1e4, 1e4, 1e4, np.nan], [1e3, 1e3, 1e3, 1e3])
    assert_array_equal(np.isnan(posterior(likelihood, prior, mag, 0).mean()), [False, True, True, True])
    assert len(posterior(likelihood.take(slice(0, 0)), prior, mag[:0], 0)) == 0


def test_bands_by_name_and_shapes(prior):
    mag, names = np.array([20.0, 22.5]), np.array(["red", "blue"])
    flux = reference(mag)
    value = prior.log_pdf(flux, mag, names)
    assert value.shape == (2,)
    assert_array_equal(value, prior.log_pdf(flux, mag, [1, 0]))
    assert_array_equal(value, prior.log_pdf(flux[:, None], mag, names)[:, 0])
    # Beyond the outer knots the density of flux over reference flux stays as it is.
    near, far = (prior.quantile(0.3, [mag], 0) / reference(mag) for mag in (prior.knots[-1], 27.0))
    assert_allclose(near, far, rtol=1e-12)


def test_dict_round_trip_is_exact(prior):
    again = FluxPrior.from_dict(json.loads(json.dumps(prior.to_dict())))
    assert again.bands == prior.bands
    for name in ("knots", "nodes", "log_density"):
        assert_array_equal(getattr(again, name), getattr(prior, name))
        assert not getattr(again, name).flags.writeable


def test_one_magnitude_and_outliers():
    rng = np.random.default_rng(6)
    flux = np.append(reference(21) * np.exp(0.1 * rng.standard_normal(2000)), [1.0, 1e6])
    prior = FluxPrior.fit(flux, np.full(2002, 21.0), 0, ("a",))
    assert prior.knots.tolist() == [21]
    spread = np.log(prior.quantile([[0.16, 0.84]], [21.0], 0)[0] / reference(21))
    # Quantiles of 2000 draws: 1.5 / sqrt(2000) of the std, times 4.
    assert_allclose(spread, 0.1 * stats.norm.ppf([0.16, 0.84]), atol=0.014)


def test_few_galaxies_that_leave_magnitudes_empty_give_a_prior(rng):
    # 60 galaxies of four magnitudes, none between 20.6 and 22.9.
    mags = np.concatenate([rng.uniform(19, 20.5, 30), rng.uniform(23, 23.5, 30)])
    truth = 10 ** (0.4 * (31.4 - mags)) * np.exp(0.3 * rng.standard_normal(60))
    flux = truth + 300 * rng.standard_normal(60)
    rows = GaussianMixture(np.ones((60, 1)), flux[:, None], np.full((60, 1), 300.0))
    prior = FluxPrior.fit_noisy(rows, mags, np.zeros(60, dtype=int), ["i"])
    assert np.isfinite(prior.mean(np.array([19.5, 21.5, 23.2]), 0)).all()


def test_noise_alone_gives_a_broad_prior(rng):
    ref = reference(21)
    prior = FluxPrior.fit_noisy(
        gaussian(20 * ref * rng.standard_normal(60), np.full(60, 20 * ref)), np.full(60, 21.0), 0, "a"
    )
    width = np.diff(np.log(prior.quantile([[0.16, 0.84]], [21.0], 0)))[0, 0]
    # Errors of 20 reference fluxes, 60 times, say no more than that galaxies are not far brighter: what is left is the
    # assumed spread of a factor of e either way (these levels of exp(-|x|) are 2.3 apart), about the reference.
    assert width > 1
    assert ref / 10 < prior.quantile(0.5, [21.0], 0)[0] < 10 * ref


def test_bad_input_is_refused(prior):
    mag, flux = np.full(200, 21.0), np.full(200, 5e3)
    with pytest.raises(LumosValueError, match=r"flux without noise: got -1\.0"):
        FluxPrior.fit(np.where(np.arange(200) == 3, -1, flux), mag, 0, BANDS)
    with pytest.raises(LumosDataError, match="0 usable galaxies in band red, needed: 50"):
        FluxPrior.fit(flux * np.exp(0.1 * np.sin(np.arange(200))), mag, 0, BANDS)
    with pytest.raises(LumosDataError, match="band blue has 100% of the fluxes out of any reach"):
        FluxPrior.fit(flux * 1e-9, mag, np.arange(200) % 2, BANDS)
    with pytest.raises(LumosDataError, match="0 usable galaxies of 200"):
        FluxPrior.fit(flux, np.full(200, np.nan), 0, BANDS)
    with pytest.raises(LumosShapeError, match="ref_mag"):
        FluxPrior.fit(flux, mag[:3], 0, BANDS)
    with pytest.raises(LumosShapeError, match="flux"):
        FluxPrior.fit(flux[None], mag, 0, BANDS)
    with pytest.raises(LumosValueError, match="band: got 'green'"):
        prior.log_pdf(flux, mag, "green")
    with pytest.raises(LumosValueError, match="band: got 2, allowed: 0 to 1"):
        prior.mean(mag, 2)
    with pytest.raises(LumosShapeError, match="band"):
        prior.mean(mag, [0, 1])
    with pytest.raises(LumosShapeError, match="flux"):
        prior.log_pdf(flux[:3], mag, 0)
    with pytest.raises(LumosShapeError, match="ref_mag"):
        prior.mean(21.0, 0)
    with pytest.raises(LumosDataError, match="prior: got the entries"):
        FluxPrior.from_dict({"bands": ["a"]})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"knots": np.arange(3.0)}, LumosShapeError, "knots, nodes and log densities"),
        ({"bands": ("a", "b", "c")}, LumosShapeError, "knots, nodes and log densities"),
        ({"bands": ("a", "a")}, LumosValueError, "every band once"),
        ({"nodes": -1.0}, LumosValueError, "knots and nodes"),
        ({"log_density": np.nan}, LumosValueError, "log_density of a prior"),
    ],
)
def test_inconsistent_priors_are_refused(prior, change, error, message):
    change = {key: getattr(prior, key) * value if isinstance(value, float) else value for key, value in change.items()}
    with pytest.raises(error, match=message):
        replace(prior, **change)
