"""Fits at points and at all redshifts, against brute force."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import nquad
from scipy.optimize import minimize, minimize_scalar, nnls

from helpers.redshift_models import small_galaxies, small_grid
from lumos.photoz.bcnz.likelihood import GaussianLight, MixtureLight, StudentLight
from lumos.photoz.bcnz.nnls import solve_nonnegative
from lumos.photoz.bcnz.points import RunFitter, log_volume
from lumos.photoz.bcnz.search import fit_at, fit_redshifts
from lumos.photoz.bcnz.settle import Start, settle
from lumos.photoz.fluxes import light_of
from lumos.photoz.settings import PhotozSettings

GRID = small_grid()


def light_and_places(n, snr, seed, scale=1.0, **settings):
    photometry, place = small_galaxies(GRID, n, snr, seed, scale)
    light, _, _ = light_of(photometry, PhotozSettings(floor=0, **settings))
    return light, place


def brute_force(models, narrow, weights, flux):
    """chi2 minimised over k by search, over amplitudes by scipy."""

    def chi2(log_k):
        scaled = models * np.where(narrow, np.exp(log_k), 1)
        return nnls((scaled * np.sqrt(weights)).T, flux * np.sqrt(weights))[1] ** 2

    grid = np.linspace(np.log(0.1), np.log(10), 150)
    values = [chi2(k) for k in grid]
    best = int(np.argmin(values))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return min(minimize_scalar(chi2, bounds=around, method="bounded", options={"xatol": 1e-9}).fun, values[best])


def test_scale_and_amplitudes_are_those_of_brute_force():
    light, place = light_and_places(8, 30, seed=1, scale=1.3)
    z_index = np.sort(np.r_[place, (place + 40) % len(GRID.redshifts)])
    galaxy = np.arange(len(z_index)) % 8
    weights, fluxes = light.weights[:, galaxy], light.fluxes[:, galaxy]
    for models in GRID.fluxes:
        fit = RunFitter(models, GRID.narrow).fit(z_index, weights, fluxes, np.ones(len(z_index)), 8)
        wanted = [
            brute_force(models[z], GRID.narrow, weights[:, n], fluxes[:, n]) for n, z in enumerate(z_index.tolist())
        ]
        np.testing.assert_allclose(fit.chi2, wanted, rtol=1e-6, atol=1e-5)


def test_the_scale_is_found_and_without_it_the_fit_is_poor():
    settings = PhotozSettings(floor=0)
    light, place = light_and_places(40, 50, seed=2, scale=1.25)
    free = fit_at(GRID, light, place, settings)
    assert np.median(free.scale) == pytest.approx(1.25, abs=0.01)
    fixed = fit_at(GRID, light, place, settings.model_copy(update={"free_scale": False}))
    assert (fixed.scale == 1).all()
    assert np.median(fixed.chi2) > 2 * np.median(free.chi2)
    # 24 fluxes less up to three amplitudes and the scale.
    assert 16 < np.median(free.chi2) < 26


def probabilities(fits):
    density = np.exp(fits.log_density - fits.log_density.max(axis=0))
    return density / density.sum(axis=0)


@pytest.mark.parametrize("snr", [8, 40])
@pytest.mark.parametrize("weighing", ["likelihood", "evidence"])
def test_coarse_to_fine_finds_what_the_full_grid_does(snr, weighing):
    light, place = light_and_places(40, snr, seed=3, scale=0.9)
    settings = PhotozSettings(floor=0, weighing=weighing)
    quick = fit_redshifts(GRID, light, settings)
    full = fit_redshifts(GRID, light, settings.model_copy(update={"coarse": 1, "margin": 1e9}))
    assert np.isfinite(full.log_density).all()
    assert not np.isfinite(quick.log_density).all()
    assert 0.5 * np.abs(probabilities(quick) - probabilities(full)).sum(axis=0).max() < 1e-3
    error = (GRID.redshifts[quick.peak()] - GRID.redshifts[place]) / (1 + GRID.redshifts[place])
    assert np.median(np.abs(error)) < (0.03 if snr == 8 else 0.004)


def test_multiplicative_updates_give_nearly_the_same_redshifts():
    light, _ = light_and_places(6, 8, seed=4)
    exact = fit_redshifts(GRID, light, PhotozSettings(floor=0))
    slow = fit_redshifts(GRID, light, PhotozSettings(floor=0, solver="multiplicative", n_updates=2000))
    np.testing.assert_allclose(slow.chi2.min(axis=0), exact.chi2.min(axis=0), rtol=0.06)
    assert (slow.chi2.min(axis=0) >= exact.chi2.min(axis=0) - 1e-3).all()


def test_missing_bands_count_for_nothing():
    light, place = light_and_places(5, 30, seed=5)
    weights = light.weights.copy()
    weights[::3] = 0
    fluxes = np.where(weights > 0, light.fluxes, 0)
    keep = [band for number, band in enumerate(GRID.bands) if number % 3]
    less = GaussianLight(np.delete(weights, slice(None, None, 3), 0), np.delete(fluxes, slice(None, None, 3), 0))
    settings = PhotozSettings(floor=0)
    one = fit_at(GRID, GaussianLight(weights, fluxes), place, settings)
    other = fit_at(GRID.in_bands(keep), less, place, settings)
    np.testing.assert_allclose(one.chi2, other.chi2, rtol=1e-9)


def test_volume_is_the_integral_over_amplitudes():
    rng = np.random.default_rng(6)
    models = np.array([[1.0, 0.8, 0.1, 0.0, 0.2], [0.0, 0.1, 0.9, 1.0, 0.3]])
    row, column = np.tril_indices(2)
    largest = np.array([40.0])
    for flux in ([5.0, 4, 6, 6, 2], [5.0, 4, -1, -0.5, 1.0]):
        weights = rng.uniform(0.5, 2, 5)
        gram = (weights * models[row] * models[column]).sum(axis=1)[:, None]
        projection = (models @ (weights * flux))[:, None]
        norm = np.array([(weights * np.square(flux)).sum()])
        fit = solve_nonnegative(gram, projection, norm)
        found = log_volume(fit, largest)[0] - fit.chi2[0] / 2

        def likelihood(a, b, weights=weights, flux=flux):
            return np.exp(-0.5 * (weights * (np.array(flux) - a * models[0] - b * models[1]) ** 2).sum())

        integral = nquad(likelihood, [(0, 40), (0, 40)], opts={"limit": 200, "points": [5, 6]})[0]
        assert found == pytest.approx(np.log(integral / 40**2), abs=0.05)


def test_evidence_makes_freedom_pay():
    """A run that is another with one more component never fits worse, but has the smaller evidence."""
    light, place = light_and_places(20, 20, seed=7)
    start = Start(np.sort(place), np.argsort(place), np.ones(20), light.weights, light.fluxes)
    quiet, lines = GRID.fluxes
    more = np.concatenate([quiet, lines[:, 2:]], axis=1)
    small, large = (
        settle(RunFitter(models, GRID.narrow, free_scale=False), light, start, (1, 0), with_volume=True)
        for models in (quiet, more)
    )
    assert (large.value <= small.value + 1e-9).all()
    of_quiet = np.argsort(place) % 2 == 0
    gain = (large.log_volume - large.value / 2) - (small.log_volume - small.value / 2)
    assert np.median(gain[of_quiet]) < -0.5


def mixture_light(photometry, seed):
    """Flux PDFs of three components, one of them wide, about fluxes of which some are outliers."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.3, 0.1])
    offset, width = np.array([-0.2, 0.5, -0.3]), np.array([0.9, 1.1, 8.0])
    flux, error = photometry.flux.T, photometry.flux_err.T
    flux = flux + error * 8 * rng.normal(size=flux.shape) * (rng.random(flux.shape) < 0.08)
    size = np.abs(flux).max(axis=0)
    parts = [np.broadcast_to(one[:, None, None], (3, *flux.shape)) for one in (shares, offset, width)]
    return MixtureLight(parts[0], (flux + parts[1] * error) / size, parts[2] * error / size), (
        flux / size,
        error / size,
    )


@pytest.mark.parametrize("kind", ["mixture", "student"])
def test_fits_of_other_likelihoods_are_those_of_brute_force(kind):
    """With an outlier or two in each galaxy, the best point is that of many starts of a search, but for few."""
    n_galaxies = 12
    photometry, place = small_galaxies(GRID, n_galaxies, 20, seed=8, scale=1.1)
    light, (flux, error) = mixture_light(photometry, seed=9)
    if kind == "student":
        light = StudentLight(error**-2.0, flux, 3.0)
    fits = fit_redshifts(GRID, light, PhotozSettings(floor=0))
    rng = np.random.default_rng(10)
    excess = []
    for n in range(n_galaxies):

        def value(parameters, models, n=n):
            scaled = parameters[:-1] @ (models * np.where(GRID.narrow, parameters[-1], 1))
            return light.parabola(scaled[:, None], np.array([n])).value[0]

        best = np.inf
        for z, fluxes in ((z, fluxes) for z in {place[n], fits.peak()[n]} for fluxes in GRID.fluxes):
            starts = np.c_[rng.exponential(0.5, size=(5, fluxes.shape[1])), np.full(5, 1.1)]
            bounds = [(0, None)] * fluxes.shape[1] + [(0.1, 10)]
            best = min(best, *(minimize(value, one, (fluxes[z],), "L-BFGS-B", bounds=bounds).fun for one in starts))
        excess.append(fits.chi2[:, n].min() - best)
    assert np.mean(np.array(excess) < 0.1) > 0.9
    assert np.median(excess) < 0.01


@pytest.mark.parametrize("kind", ["mixture", "student"])
def test_a_round_of_reweighting_never_raises_the_value(kind):
    photometry, place = small_galaxies(GRID, 30, 20, seed=8, scale=1.1)
    light, (flux, error) = mixture_light(photometry, seed=9)
    if kind == "student":
        light = StudentLight(error**-2.0, flux, 3.0)
    order = np.argsort(place)
    start = Start(place[order], order, np.ones(30), light.weights, light.fluxes)
    fitter = RunFitter(GRID.fluxes[1], GRID.narrow)
    values = [settle(fitter, light, start, (3, rounds)) for rounds in (0, 1, 2, 5, 30)]
    for one, more in pairwise(values):
        assert (more.value <= one.value + 1e-9).all()
    model = fitter.predict(start.z_index, values[-1].amplitudes, values[-1].scale)
    np.testing.assert_allclose(light.parabola(model, order).value, values[-1].value, atol=1e-9)
    # The weighted fit that the last one would be followed by finds the same model.
    again = fitter.fit(start.z_index, values[-1].weights, values[-1].fluxes, values[-1].scale, 6)
    after = light.parabola(fitter.predict(start.z_index, again.amplitudes, again.scale), order).value
    assert (np.abs(after - values[-1].value) < 0.05).mean() > 0.9


@pytest.mark.parametrize("kind", ["mixture", "student"])
def test_parabolas_touch_the_likelihood(kind):
    photometry, _ = small_galaxies(GRID, 4, 5, seed=11)
    light, (flux, error) = mixture_light(photometry, seed=12)
    if kind == "student":
        light = StudentLight(error**-2.0, flux, 3.0)
    galaxy = np.arange(4)
    model = flux + 1.5 * error * np.random.default_rng(13).normal(size=flux.shape)
    here = light.parabola(model, galaxy)
    step = 1e-4 * error
    for band in range(0, len(flux), 5):
        move = np.where(np.arange(len(flux)) == band, 1, 0)[:, None] * step
        up, down = (light.parabola(model + sign * move, galaxy) for sign in (1, -1))
        np.testing.assert_allclose((down.value - up.value) / 4 / step[band], here.score[band], rtol=1e-3, atol=1e-3)
        bend = -(up.score[band] - down.score[band]) / 2 / step[band]
        np.testing.assert_allclose(bend, here.bend[band], rtol=1e-3, atol=1e-2)
    # The safe parabola lies above -2 ln L everywhere.
    for shift in (-4, -1, 0.5, 3):
        moved = light.parabola(model + shift * error, galaxy)
        above = here.value + (here.safe * (shift * error) ** 2 - 2 * here.score * shift * error).sum(axis=0)
        assert (moved.value <= above + 1e-9).all()


def test_a_mixture_of_one_gaussian_is_that_gaussian():
    photometry, _ = small_galaxies(GRID, 20, 15, seed=14)
    settings = PhotozSettings(floor=0)
    light, _, unit = light_of(photometry, settings)
    one = MixtureLight(
        np.ones((1, *light.fluxes.shape)), light.fluxes[None], (photometry.flux_err / unit[:, None]).T[None]
    )
    gauss, mixed = fit_redshifts(GRID, light, settings), fit_redshifts(GRID, one, settings)
    assert 0.5 * np.abs(probabilities(gauss) - probabilities(mixed)).sum(axis=0).max() < 0.01
    np.testing.assert_allclose(gauss.chi2.min(axis=0), mixed.chi2.min(axis=0), atol=0.02)


def test_outliers_hurt_gaussians_more_than_pdfs():
    photometry, place = small_galaxies(GRID, 60, 30, seed=15)
    light, (flux, error) = mixture_light(photometry, seed=16)
    settings = PhotozSettings(floor=0)
    wrong = {}
    for name, one in (
        ("gaussian", GaussianLight(error**-2.0, flux)),
        ("student", StudentLight(error**-2.0, flux, 3.0)),
        ("pdf", light),
    ):
        zb = GRID.redshifts[fit_redshifts(GRID, one, settings).peak()]
        wrong[name] = np.mean(np.abs(zb - GRID.redshifts[place]) > 0.02 * (1 + zb))
    assert wrong["pdf"] < 0.6 * wrong["gaussian"]
    assert wrong["student"] < 0.8 * wrong["gaussian"]
