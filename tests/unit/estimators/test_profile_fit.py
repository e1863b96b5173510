"""Profile fit: the same minimum as Nelder-Mead, closed forms, robustness of the Newton iteration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from helpers.estimator_batches import gaussian_batch
from lumos.estimators import optimal, profile_fit
from lumos.flags import Flag


def chi_square(flux, data, model, profile, sky, gain):
    """The paper's eq. 3 in image units, written independently: chi^2(I)."""
    denominator = sky + flux * profile / gain
    if np.any(denominator <= 0):
        return np.inf
    return float(np.sum((data - flux * model) ** 2 / denominator))


def nelder_mead(batch, i):
    """Minimise as the paper does, with tight tolerances, in units of a first flux."""
    good = batch.good[i].numpy()
    profile = batch.profile[i].double().numpy()[good]
    data = batch.data[i].double().numpy()[good] - float(batch.background[i])
    model = profile - float(batch.own_light[i])
    sky = np.broadcast_to(batch.sky_variance[i].double().numpy(), good.shape)[good]
    gain = float(batch.gain[i])
    scale = max(abs(float(np.sum(model * data / sky) / np.sum(model**2 / sky))), 1.0)
    # Without this constant the value near the minimum is known to 1e-16 of ~3600 only, the place to 1e-6.
    start = np.sum(data**2 / sky)

    def value(x):
        return chi_square(x[0] * scale, data, model, profile, sky, gain) - start

    found = minimize(value, [1.0], method="Nelder-Mead", options={"xatol": 1e-12, "fatol": 1e-12, "maxiter": 2000})
    return found.x[0] * scale


@pytest.mark.parametrize("flux", [300.0, 3e3, 1e5])
@pytest.mark.parametrize(("sky", "gain"), [(100.0, 1.0), (20.0, 3.0), (1000.0, np.inf)])
def test_minimum_is_that_of_nelder_mead(flux, sky, gain):
    batch, _ = gaussian_batch(6, flux=flux, sky=sky, gain=gain, own_light=1e-4)
    result = profile_fit(batch)
    reference = np.array([nelder_mead(batch, i) for i in range(6)])
    # 1e-6 of the flux; below an SNR of 1 the yardstick is the error. chi^2 itself is known to 1e-16 x 3600, so
    # that Nelder-Mead finds the minimum to sqrt(4e-13) = 6e-7 errors at best.
    allowed = 1e-6 * np.maximum(np.abs(reference), 3 * result.flux_err.numpy())
    assert np.all(np.abs(result.flux.numpy() - reference) < allowed)


def test_minimum_in_float64_is_exact():
    batch, _ = gaussian_batch(8, flux=2000.0, dtype=torch.float64)
    flux = profile_fit(batch).flux
    # chi^2 is convex: its derivative changes sign across the minimum.
    for i in range(8):
        arguments = (
            (batch.data[i] - batch.background[i]).numpy(),
            batch.profile[i].numpy(),
            batch.profile[i].numpy(),
            float(batch.sky_variance[i, 0, 0]),
            1.0,
        )
        lower, middle, upper = (chi_square(float(flux[i]) + step, *arguments) for step in (-0.05, 0.0, 0.05))
        assert lower > middle < upper
        # The parabola through the three points has its minimum within 1e-5 of the step's 0.05.
        offset = 0.05 * (lower - upper) / (2 * (lower - 2 * middle + upper))
        assert abs(offset) < 1e-3


def test_masked_and_varying_pixels_agree_with_nelder_mead():
    batch, _ = gaussian_batch(4, flux=2000.0, per_pixel=True, seed=4)
    rng = np.random.default_rng(1)
    good = torch.tensor(rng.uniform(size=batch.good.shape) > 0.05)
    variance = batch.sky_variance * torch.tensor(rng.uniform(0.5, 2.0, batch.data.shape), dtype=torch.float32)
    data = torch.where(good, batch.data, torch.full_like(batch.data, 1e8))
    batch = replace(batch, good=good, sky_variance=variance, data=data)
    reference = np.array([nelder_mead(batch, i) for i in range(4)])
    np.testing.assert_allclose(profile_fit(batch).flux.numpy(), reference, rtol=1e-6)


def test_without_photon_noise_it_is_the_optimal_sum():
    batch, _ = gaussian_batch(16, gain=np.inf)
    batch = replace(batch, background_err=torch.full((16,), 0.2))
    fit, linear = profile_fit(batch), optimal(batch)
    torch.testing.assert_close(fit.flux, linear.flux, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(fit.flux_err, linear.flux_err, rtol=1e-5, atol=0)
    torch.testing.assert_close(fit.noise.area, linear.noise.area, rtol=1e-4, atol=0)
    torch.testing.assert_close(fit.noise.sky, torch.ones(16))


def test_own_light_in_the_annulus_is_corrected():
    batch, truth = gaussian_batch(16, flux=5000.0, own_light=2e-5, noise=False)
    # Noiseless data: the minimum is at the truth. float32 pixels of 100 + 5000 m: 1e-5 of the flux.
    np.testing.assert_allclose(profile_fit(batch).flux.numpy(), truth, rtol=1e-5)


def test_error_is_that_of_the_curvature():
    batch, _ = gaussian_batch(4, flux=3000.0, dtype=torch.float64)
    result = profile_fit(batch)
    for i in range(4):
        arguments = (
            (batch.data[i] - batch.background[i]).numpy(),
            batch.profile[i].numpy(),
            batch.profile[i].numpy(),
            100.0,
            1.0,
        )
        flux, step = float(result.flux[i]), 2.0
        lower, middle, upper = (chi_square(flux + k * step, *arguments) for k in (-1, 0, 1))
        curvature = (lower - 2 * middle + upper) / step**2
        # Third-order terms of chi^2 over a step of 2 out of an error of ~90: below 1e-3.
        assert float(result.flux_err[i]) == pytest.approx(np.sqrt(2 / curvature), rel=1e-3)


@pytest.mark.parametrize("outlier", [-1e5, 1e6, 1e9])
def test_wild_pixels_do_not_break_the_iteration(outlier):
    batch, _ = gaussian_batch(8, flux=500.0)
    data = batch.data.clone()
    data[:, 31, 31] = outlier
    batch = replace(batch, data=data)
    result = profile_fit(batch)
    assert torch.isfinite(result.flux).all()
    reference = np.array([nelder_mead(batch, i) for i in range(8)])
    np.testing.assert_allclose(result.flux.numpy(), reference, rtol=1e-4)


def test_too_few_iterations_is_a_failed_fit():
    batch, _ = gaussian_batch(8, flux=3000.0)
    result = profile_fit(batch, max_iter=1)
    failed = (result.flags & int(Flag.FIT_FAILED)) != 0
    assert failed.any()
    assert torch.equal(failed, torch.isnan(result.flux))
