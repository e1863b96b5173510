"""Sources that the catalogue lacks: found where they are, and none where a profile is a little wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.estimator_batches import gaussian_batch, gaussian_profiles
from lumos.estimators import optimal
from lumos.estimators.hidden import flux_without_hidden
from lumos.estimators.scene_fit import SceneFit

SIGMA = 1.6
POINT = torch.tensor(gaussian_profiles([12.0], [12.0], [SIGMA], [SIGMA], [0.0], 25)[0]).float()


def with_stars(batch, dx, dy, flux, seed=1):
    """Return stamps with a star beside each object, with the noise of its photons."""
    n, size = len(batch), batch.data.shape[1]
    x, y = (np.rint(v.numpy()) + d for v, d in ((batch.x, dx), (batch.y, dy)))
    sigma = np.full(n, SIGMA)
    star = gaussian_profiles(x, y, sigma, sigma, np.zeros(n), size) * np.broadcast_to(flux, n)[:, None, None]
    noise = np.random.default_rng(seed).normal(size=star.shape) * np.sqrt(star)
    return replace(batch, data=batch.data + torch.tensor(star + noise).float())


def significance(batch, value=5.0):
    return torch.full((len(batch),), value)


@pytest.mark.parametrize("distance", [3.0, 5.0, 8.0])
def test_flux_without_a_star_is_that_of_the_object(distance):
    n, rng = 60, np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, n)
    batch, truth = gaussian_batch(n, flux=3000.0, seed=3)
    spoiled = with_stars(batch, np.rint(distance * np.cos(angle)), np.rint(distance * np.sin(angle)), 6000.0)
    after, error = flux_without_hidden(spoiled, POINT, significance(batch)), optimal(batch).flux_err.median()
    assert torch.isfinite(after).all()
    before, after = ((flux - torch.tensor(truth)) / error for flux in (optimal(spoiled).flux, after))
    # A star of twice the flux adds 46, 17 and 1.6 errors at these distances.
    assert before.median() > {3.0: 30, 5.0: 10, 8.0: 1}[distance]
    # What is left is the noise of fitting both; the profile's tolerance counts as noise, which costs some.
    assert after.median().abs() < 0.7
    assert after.abs().quantile(0.9) < 3.5


def test_no_source_is_seen_in_noise():
    batch, _ = gaussian_batch(400, flux=np.exp(np.linspace(np.log(50), np.log(30000), 400)), seed=7)
    # 36 x 36 places, each as many tries as areas of the PSF: 5 errors by chance once in 20000 stamps.
    assert torch.isfinite(flux_without_hidden(batch, POINT, significance(batch))).sum() <= 1
    # The threshold counts.
    assert torch.isfinite(flux_without_hidden(batch, POINT, significance(batch, 2.0))).float().mean() > 0.9


def test_a_wrong_place_and_size_are_no_source():
    n = 100
    rng = np.random.default_rng(9)
    x, y = 30 + rng.uniform(-0.5, 0.5, (2, n))
    sigma, ratio, theta = rng.uniform(1.7, 3.5, n), rng.uniform(0.6, 1, n), rng.uniform(-1.5, 1.5, n)
    true = gaussian_profiles(x, y, sigma, sigma * ratio, theta, 60)
    angle = rng.uniform(0, 2 * np.pi, n)
    x, y, sigma = x + 0.12 * sigma * np.cos(angle), y + 0.12 * sigma * np.sin(angle), sigma * rng.normal(1, 0.04, n)
    believed = gaussian_profiles(x, y, sigma, sigma * ratio, theta, 60)
    batch, _ = gaussian_batch(n)
    mean = 100 + 20000 * true
    batch = replace(
        batch,
        data=torch.tensor(rng.poisson(mean)).float(),
        profile=torch.tensor(believed).float(),
        x=torch.tensor(x).float(),
        y=torch.tensor(y).float(),
        background=torch.full((n,), 100.0),
    )
    # A hundred errors bright, these profiles leave dipoles of tens of errors in every other stamp.
    assert (optimal(batch).flux / optimal(batch).flux_err).median() > 70
    assert torch.isfinite(flux_without_hidden(batch, POINT, significance(batch))).float().mean() < 0.03


def test_a_catalogued_neighbour_is_none():
    batch, _ = gaussian_batch(20, flux=3000.0, seed=3)
    beside = with_stars(batch, 6, 0, 6000.0)
    others = (with_stars(replace(batch, data=torch.zeros_like(batch.data)), 6, 0, 6000.0, seed=1).data).clamp(min=0)
    nothing = torch.zeros(20)
    scene = SceneFit(
        flux=nothing,
        flux_err=nothing,
        alone_err=nothing,
        neighbour_light=nothing,
        others=others,
        explained=torch.ones_like(batch.good),
        is_cleaned=False,
    )
    assert torch.isfinite(flux_without_hidden(beside, POINT, significance(batch))).all()
    known = flux_without_hidden(replace(beside, scene=scene), POINT, significance(batch))
    assert torch.isnan(known).float().mean() > 0.9


def test_nothing_is_seen_of_what_cannot_be_measured():
    batch, _ = gaussian_batch(4, flux=3000.0)
    assert torch.isnan(
        flux_without_hidden(replace(batch, good=torch.zeros_like(batch.good)), POINT, torch.full((4,), 5.0))
    ).all()
    assert len(flux_without_hidden(batch.take(slice(0, 0)), POINT, torch.zeros(0))) == 0
