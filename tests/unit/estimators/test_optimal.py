"""Optimal weighted sums: closed forms, unbiasedness, errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.estimator_batches import gaussian_batch
from lumos.estimators import optimal, optimal_flux, optimal_flux_free, optimal_free


def test_weights_are_those_of_the_paper():
    batch, _ = gaussian_batch(8, flux=4000.0, sky=80.0, dtype=torch.float64)
    m = batch.profile * 4000.0
    # Eq. 6 with the true profile in photons and the true sky: sum w m = sum m, w ~ m / (m + b).
    w = m / (m + 80.0)
    w = w * m.sum((1, 2), keepdim=True) / (w * m).sum((1, 2), keepdim=True)
    paper = (w * (batch.data - 80.0)).sum((1, 2)) / batch.profile.sum((1, 2))
    flux, flux_err = optimal_flux(batch.data, batch.profile, m + 80.0, batch.good, torch.full((8,), 80.0))
    torch.testing.assert_close(flux, paper)
    bound = (batch.profile**2 / (m + 80.0)).sum((1, 2)).rsqrt()
    torch.testing.assert_close(flux_err, bound)
    # The estimator's flux in the weights is within its error of the truth, and has no first-order effect.
    result = optimal(batch)
    torch.testing.assert_close(result.flux, flux, rtol=2e-3, atol=0)
    torch.testing.assert_close(result.flux_err, bound, rtol=0.02, atol=0)


def test_free_background_is_the_least_squares_solution():
    batch, _ = gaussian_batch(6, per_pixel=True, flux=2000.0, dtype=torch.float64)
    rng = np.random.default_rng(2)
    good = torch.tensor(rng.uniform(size=batch.good.shape) > 0.1)
    variance = batch.sky_variance * torch.tensor(rng.uniform(0.5, 2.0, batch.data.shape))
    flux, flux_err, background, background_err = optimal_flux_free(batch.data, batch.profile, variance, good)
    for i in range(6):
        use = good[i].numpy()
        inverse = 1 / variance[i].numpy()[use]
        design = np.stack([batch.profile[i].numpy()[use], np.ones(use.sum())])
        normal = (design * inverse) @ design.T
        solution = np.linalg.solve(normal, (design * inverse) @ batch.data[i].numpy()[use])
        errors = np.sqrt(np.diag(np.linalg.inv(normal)))
        assert float(flux[i]) == pytest.approx(solution[0], rel=1e-9)
        assert float(background[i]) == pytest.approx(solution[1], rel=1e-9)
        assert float(flux_err[i]) == pytest.approx(errors[0], rel=1e-9)
        assert float(background_err[i]) == pytest.approx(errors[1], rel=1e-9)


@pytest.mark.parametrize("sky", [0.0, 5e3, -1e5])
def test_free_background_does_not_see_the_sky(sky):
    batch, _ = gaussian_batch(8, flux=1000.0)
    expected = optimal_free(batch)
    result = optimal_free(replace(batch, data=batch.data + sky, background=torch.full((8,), torch.nan)))
    # float32 pixels of 1e5 are rounded to 4e-3: over the ~60 pixels that count, 0.1 of an error of 85.
    torch.testing.assert_close(result.flux, expected.flux, rtol=0, atol=0.2)
    assert (result.flags == 0).all()


def test_free_background_returns_the_sky():
    batch, _ = gaussian_batch(8, noise=False, flux=1000.0)
    flux, _, background, background_err = optimal_flux_free(
        batch.data + 1e4, batch.profile, batch.sky_variance, batch.good
    )
    np.testing.assert_allclose(background.numpy(), 10100.0, rtol=1e-7)
    np.testing.assert_allclose(flux.numpy(), 1000.0, atol=0.5)
    # 3600 pixels of scatter 10, a few of them lost to the object.
    np.testing.assert_allclose(background_err.numpy(), 10 / 60, rtol=0.02)


def test_flat_profile_has_no_free_background():
    batch, _ = gaussian_batch(4)
    flat = replace(batch, profile=torch.full_like(batch.profile, 1 / 3600))
    assert torch.isnan(optimal_free(flat).flux).all()


def test_own_light_is_corrected():
    batch, truth = gaussian_batch(16, flux=5000.0, own_light=5e-5, noise=False)
    np.testing.assert_allclose(optimal(batch).flux.numpy(), truth, rtol=1e-5)


def test_error_of_the_background_is_propagated():
    batch, _ = gaussian_batch(64, noise=False)
    level_err = 0.5
    result = optimal(replace(batch, background_err=torch.full((64,), level_err)))
    shifted = optimal(replace(batch, background=batch.background + level_err))
    bare = optimal(batch)
    # One background error moves the flux by exactly the extra error; the weights hardly change with the flux.
    moved = (shifted.flux - bare.flux) ** 2
    torch.testing.assert_close(result.flux_err**2 - bare.flux_err**2, moved, rtol=5e-3, atol=0)


def test_weights_ignore_a_variance_that_holds_the_sources():
    batch, _ = gaussian_batch(16, per_pixel=True)
    noisy = replace(batch, variance=batch.data.clamp(min=1.0), gain=torch.full((16,), torch.inf))
    sky_limited = optimal(batch, n_iter=0)
    torch.testing.assert_close(optimal(noisy).flux, sky_limited.flux)
    # The map is the data: its noise averages out in the error.
    torch.testing.assert_close(optimal(noisy).flux_err, sky_limited.flux_err, rtol=0.05, atol=0)


def test_noise_area_of_a_gaussian():
    batch, _ = gaussian_batch(1, noise=False, gain=np.inf)
    sigma2 = float(batch.ellipses.semi_major * batch.ellipses.semi_minor) / (2 * np.log(2)) + 1 / 12
    # (sum m)^2 / sum m^2 = 4 pi sigma_x sigma_y for a Gaussian; the pixel widens both axes.
    assert float(optimal(batch).noise.area) == pytest.approx(4 * np.pi * sigma2, rel=0.02)
