import numpy as np
import pytest

from helpers.redshift_models import small_galaxies, small_grid
from lumos.errors import LumosConfigError, LumosDataError
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.zeropoints import fit_factors

GRID = small_grid()
SETTINGS = PhotozSettings(floor=0)


def spoilt(n, seed, scatter=0.05):
    """Galaxies whose fluxes must be multiplied by known factors; what cannot be known is 1."""
    photometry, place = small_galaxies(GRID, n, 40, seed)
    wrong = np.exp(scatter * np.random.default_rng(seed).normal(size=len(GRID.bands)))
    for bands in (GRID.narrow, ~GRID.narrow):
        wrong[bands] /= np.median(wrong[bands])
    return photometry.scaled(1 / wrong), wrong, GRID.redshifts[place]


def test_injected_factors_are_found_with_spectra():
    photometry, wrong, redshift = spoilt(300, seed=1)
    redshift[::10] = np.nan
    found = fit_factors(photometry, GRID, SETTINGS, redshift)
    # 270 galaxies with errors of 2.5 % know a factor to 0.002, less what amplitudes and medians take away.
    error = np.log(found.factor / wrong)
    assert np.std(error) < 0.006
    assert np.std(np.log(wrong)) > 0.025
    assert found.last_step.max() < 1e-3
    assert (found.n_galaxies == 270).all()


def test_injected_factors_are_found_without_spectra():
    photometry, wrong, _ = spoilt(150, seed=2, scatter=0.03)
    found = fit_factors(photometry, GRID, SETTINGS.model_copy(update={"calibrate_rounds": 8}))
    assert np.std(np.log(found.factor / wrong)) < 0.4 * np.std(np.log(wrong))


def test_the_reference_band_keeps_its_zero_point():
    photometry, wrong, redshift = spoilt(100, seed=3)
    settings = SETTINGS.model_copy(update={"reference_band": "B2"})
    found = fit_factors(photometry, GRID, settings, redshift)
    assert found.factor[22] == pytest.approx(1)
    assert found.factor[23] == pytest.approx(wrong[23] / wrong[22], rel=0.02)
    for name in ("N3", "K"):
        with pytest.raises(LumosConfigError, match=f"got '{name}', allowed: broad bands of the models: B0"):
            fit_factors(photometry, GRID, SETTINGS.model_copy(update={"reference_band": name}), redshift)


def test_outliers_hardly_move_medians():
    photometry, wrong, redshift = spoilt(200, seed=4)
    flux = photometry.flux.copy()
    flux[::12, 5] *= 4
    spoilt_more = type(photometry)(photometry.object_id, flux, photometry.flux_err, bands=photometry.bands)
    found = fit_factors(spoilt_more, GRID, SETTINGS, redshift)
    assert found.factor[5] == pytest.approx(wrong[5], rel=0.03)


def test_too_few_galaxies_are_refused():
    photometry, _, redshift = spoilt(30, seed=5)
    redshift[5:] = 3.0
    with pytest.raises(LumosDataError, match=r"zero points: 5 galaxies with a redshift from 0.1 to .*at least 10"):
        fit_factors(photometry, GRID, SETTINGS, redshift)
    with pytest.raises(LumosDataError, match="zero points: 5 galaxies, needed"):
        fit_factors(photometry.take(slice(0, 5)), GRID, SETTINGS)


def test_a_band_of_few_fluxes_keeps_its_zero_point():
    photometry, _, redshift = spoilt(60, seed=6)
    flux = photometry.flux.copy()
    flux[5:, 3] = np.nan
    less = type(photometry)(photometry.object_id, flux, photometry.flux_err, bands=photometry.bands)
    found = fit_factors(less, GRID, SETTINGS, redshift)
    others = np.median(found.factor[:20])
    assert found.factor[3] == pytest.approx(others, rel=0.02)
    assert found.n_galaxies[3] == 5
