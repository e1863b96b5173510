"""Spectra scaled to photometry (eq. 20), and photometry against them."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lumos.errors import LumosShapeError
from lumos.simulate.population import load_population
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.statistics import sigma68
from lumos.validate.studies.spectra import against_spectra, mock_spectra, spectrum_scale

BANDS = [PAUCAM_PASSBANDS[name] for name in ("NB455", "NB545", "NB655", "NB785", "NB845")]


def sample(rng, n=300, signal=10.0):
    truth = rng.uniform(50, 200, (n, 3))
    scale = np.exp(rng.normal(0.5, 0.7, n))
    flux_err, syn_err = truth / signal, truth / scale[:, None] / (2 * signal)
    flux = truth + flux_err * rng.standard_normal(truth.shape)
    return flux, flux_err, truth / scale[:, None] + syn_err * rng.standard_normal(truth.shape), syn_err, scale


def test_the_scale_is_the_minimum_that_scipy_finds(rng):
    flux, flux_err, synthetic, syn_err, _ = sample(rng, 20, 4.0)
    found = spectrum_scale(flux, flux_err, synthetic, syn_err)
    for row in range(20):

        def chi2(z, row=row):
            return np.sum((flux[row] - z * synthetic[row]) ** 2 / (flux_err[row] ** 2 + z**2 * syn_err[row] ** 2))

        best = minimize_scalar(
            chi2, bounds=(found.value[row] / 5, found.value[row] * 5), method="bounded", options={"xatol": 1e-9}
        )
        assert found.value[row] == pytest.approx(best.x, rel=1e-5)
        assert found.chi2[row] == pytest.approx(best.fun, abs=1e-6)


def test_without_errors_of_the_spectrum_it_is_linear_least_squares(rng):
    flux, flux_err, synthetic, _, _ = sample(rng)
    found = spectrum_scale(flux, flux_err, synthetic, np.zeros_like(flux))
    weight = synthetic / flux_err**2
    np.testing.assert_allclose(found.value, (weight * flux).sum(1) / (weight * synthetic).sum(1), rtol=1e-5)
    np.testing.assert_allclose(found.error, (weight * synthetic).sum(1) ** -0.5, rtol=1e-3)


def test_scales_scatter_as_their_errors_say(rng):
    flux, flux_err, synthetic, syn_err, scale = sample(rng, 4000)
    found = spectrum_scale(flux, flux_err, synthetic, syn_err)
    assert sigma68((found.value - scale) / found.error) == pytest.approx(1, abs=0.04)
    assert np.median(found.value / scale) == pytest.approx(1, abs=0.003)
    assert found.chi2.mean() == pytest.approx(2, abs=0.15)  # three bands, one scale


def test_bands_that_are_missing_and_objects_without_a_scale(rng):
    flux, flux_err, synthetic, syn_err, _ = sample(rng, 4)
    two = spectrum_scale(flux[:, 1:], flux_err[:, 1:], synthetic[:, 1:], syn_err[:, 1:])
    flux[0, 0], flux_err[1, 0], synthetic[2, 0] = np.nan, np.inf, np.nan
    flux[3] = -flux[3]
    found = spectrum_scale(flux, flux_err, synthetic, syn_err)
    np.testing.assert_allclose(found.value[:3], two.value[:3], rtol=1e-6)
    assert np.isnan([found.value[3], found.error[3], found.chi2[3]]).all()
    with pytest.raises(LumosShapeError):
        spectrum_scale(flux, flux_err, synthetic, syn_err[:, :2])


def test_figures_are_those_of_the_sample(rng):
    owner = np.repeat(np.arange(500), 20)
    synthetic = rng.uniform(100, 200, 10_000)
    flux = synthetic * (1.05 + 0.1 * rng.standard_normal(10_000))
    flux[:200] = 5 * synthetic[:200]
    flux[-1] = np.nan
    found = against_spectra(flux, 0.1 * synthetic, synthetic, np.zeros(10_000), owner)
    assert (found.n, found.objects) == (9999, 500)
    assert found.bias == pytest.approx(0.05, abs=0.006)
    assert found.scatter == pytest.approx(0.1, abs=0.006)
    assert found.outliers == pytest.approx(200 / 9999)
    assert 0.0005 < found.bias_err < 0.004
    nothing = against_spectra(flux[:0], flux[:0], flux[:0], flux[:0], owner[:0])
    assert nothing.n == 0
    assert np.isnan(nothing.bias)


def test_spectra_of_the_mock_give_the_fluxes_of_its_galaxies(rng):
    galaxies = load_population().draw(400, rng, (17.5, 20.5))
    mock = mock_spectra(galaxies, BANDS, rng)
    truth = galaxies.band_flux(BANDS)
    # What the fibre lost comes back through g, r and i.
    assert sigma68((mock.scale.value - mock.fibre) / mock.scale.error) == pytest.approx(1, abs=0.12)
    owner = np.repeat(np.arange(400), len(BANDS))
    found = against_spectra(truth.ravel(), np.zeros(truth.size), mock.flux.ravel(), mock.flux_err.ravel(), owner)
    assert abs(found.bias) < 3 * found.bias_err + 0.005
    assert found.pull == pytest.approx(1, abs=0.1)
    wrong = against_spectra(1.1 * truth.ravel(), np.zeros(truth.size), mock.flux.ravel(), mock.flux_err.ravel(), owner)
    assert wrong.bias - found.bias == pytest.approx(0.1, abs=0.01)
