"""Batches for the tests of the estimators: elliptical Gaussians, integrated over pixels by oversampling."""

import math

import numpy as np
import torch

from lumos.estimators.base import Ellipses, StampBatch

#: Half of the light of a two-dimensional Gaussian lies within this many sigma.
HALF_LIGHT = math.sqrt(2 * math.log(2))


def gaussian_profiles(x, y, sigma_major, sigma_minor, theta, size):
    """Return unit-flux elliptical Gaussians integrated over pixels, shape (n, size, size), float64."""
    fine = 9
    offsets = (np.arange(size * fine) - (fine - 1) / 2) / fine
    profiles = []
    for cx, cy, a, b, t in zip(x, y, sigma_major, sigma_minor, theta, strict=True):
        dx, dy = offsets[None, :] - cx, offsets[:, None] - cy
        u, v = dx * np.cos(t) + dy * np.sin(t), dy * np.cos(t) - dx * np.sin(t)
        image = np.exp(-0.5 * ((u / a) ** 2 + (v / b) ** 2)) / (2 * np.pi * a * b)
        profiles.append(image.reshape(size, fine, size, fine).sum((1, 3)) / fine**2)
    return np.array(profiles)


def gaussian_batch(
    n=16, *, size=60, flux=1000.0, sky=100.0, gain=1.0, seed=0, noise=True, own_light=0.0, per_pixel=False, dtype=None
):
    """Return a batch of Gaussians on a flat sky and its true fluxes, shape (n,)."""
    rng = np.random.default_rng(seed)
    x, y = size / 2 + rng.uniform(-0.5, 0.5, (2, n))
    sigma = rng.uniform(1.5, 3.5, n)
    ratio = rng.uniform(0.5, 1.0, n)
    theta = rng.uniform(-np.pi / 2, np.pi / 2, n)
    profile = gaussian_profiles(x, y, sigma, sigma * ratio, theta, size)
    truth = np.full(n, flux) if np.isscalar(flux) else np.asarray(flux)
    mean = sky + truth[:, None, None] * profile
    electrons = mean * (gain if np.isfinite(gain) else 1.0)
    data = rng.poisson(electrons) / (electrons / mean) if noise else mean
    variance = np.full((n, size, size) if per_pixel else (n, 1, 1), sky / (gain if np.isfinite(gain) else 1.0))

    def tensor(values):
        return torch.tensor(np.broadcast_to(values, (n,)) if np.ndim(values) < 2 else values).to(dtype or torch.float32)

    batch = StampBatch(
        data=tensor(data),
        good=torch.ones((n, size, size), dtype=torch.bool),
        sky_variance=tensor(variance),
        gain=tensor(gain),
        profile=tensor(profile),
        x=tensor(x),
        y=tensor(y),
        ellipses=Ellipses(tensor(HALF_LIGHT * sigma), tensor(HALF_LIGHT * sigma * ratio), tensor(theta)),
        background=tensor(sky + truth * own_light),
        background_err=tensor(0.0),
        own_light=tensor(own_light),
    )
    return batch, truth
