"""Stamps with known backgrounds: an object is masked that is not there, and the pixels under the mask are the truth."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.background.annulus import annulus_background
from lumos.conventions import IntArray
from lumos.errors import LumosDataError
from lumos.estimators import Ellipses
from lumos.nets.bkgnet import LEAST_HOLE, BackgroundInputs, background_inputs, elliptical_hole
from lumos.nets.bkgnet_model import BackgroundConfig
from lumos.pools.pool import BackgroundPool, BackgroundStamps
from lumos.rows import Rowwise
from lumos.training.settings import BackgroundTraining

__all__ = ["AT_ONCE", "KnownBackgrounds", "draw_known"]

#: Stamps that are cut at once, and at how many places each of a pool's larger ones is cut.
AT_ONCE, _PLACES = 2048, 8
#: Scatter of the clipped mean of 201 Gaussian pixels over that of their mean; measured on 30 000 of them.
_CLIPPED = 1.0104
#: Counts of sources go as their flux to minus this; range of their sigma, pixels.
_COUNT_SLOPE, _SOURCE_SIGMA = 1.9, (1.5, 3.5)
#: Least axis ratio of an object's mask.
_LEAST_RATIO = 0.3


@dataclass(frozen=True)
class KnownBackgrounds(Rowwise):
    """Stamps with known backgrounds.

    Parameters
    ----------
    inputs : BackgroundInputs
        Of n stamps.
    truth, truth_err : tensor, shape (n,), float32
        Level above that of the annulus and its error, in units of the noise of a pixel.
    annulus_err : tensor, shape (n,), float32
        Error of the annulus in that unit.
    """

    inputs: BackgroundInputs
    truth: Tensor
    truth_err: Tensor
    annulus_err: Tensor


def draw_known(
    pool: BackgroundPool, rows: IntArray, config: BackgroundConfig, settings: BackgroundTraining, seed: tuple[int, ...]
) -> KnownBackgrounds:
    """Cut stamps at random places of a pool and mask an object that is not there.

    Parameters
    ----------
    pool : BackgroundPool
        Background stamps; larger ones give more places.
    rows : int array
        Which of them.
    config : BackgroundConfig
        The model that the stamps are for.
    settings : BackgroundTraining
        What is masked, and what no catalogue has.
    seed : tuple of int
        The same one gives the same stamps.

    Returns
    -------
    KnownBackgrounds
        At most 2048 stamps: those with an annulus and a truth.

    Raises
    ------
    LumosDataError
        If the stamps of the pool do not hold stamp and annulus.
    """
    rng = np.random.default_rng(seed)
    side = config.geometry.side
    if pool.side < side:
        raise LumosDataError(f"pool of stamps of side {pool.side} px, stamp and annulus need {side} or more")
    n_places = 1 if pool.side == side else _PLACES
    stamps = pool.sample(rng, AT_ONCE // n_places, rows)
    parts = [stamps.crop(side, rng) for _ in range(n_places)]
    known = [_known(pool, part, config, settings, rng) for part in parts]
    return KnownBackgrounds.concatenate(known)


def _known(
    pool: BackgroundPool,
    stamps: BackgroundStamps,
    config: BackgroundConfig,
    settings: BackgroundTraining,
    rng: np.random.Generator,
) -> KnownBackgrounds:
    """Return what the network shall see of stamps, and the truth."""
    n, middle, geometry = len(stamps), stamps.side // 2, config.geometry
    margin = middle - geometry.size // 2
    inner = slice(margin, margin + geometry.size)
    x, y = (torch.from_numpy(middle + rng.uniform(-0.5, 0.5, n)).float() for _ in range(2))
    data, good = torch.from_numpy(stamps.data), torch.from_numpy(stamps.good)
    variance = torch.from_numpy(stamps.sky_variance).float()[:, None, None]
    data = data + variance.sqrt() * _gradients(n, stamps.side, settings.gradient, rng)
    half = math.ceil(LEAST_HOLE) + 1
    under = slice(middle - half, middle + half + 1)
    at = x - under.start, y - under.start
    truth = annulus_background(data[:, under, under], good[:, under, under], *at, 0.0, LEAST_HOLE)
    # The truth is the sky, without the light of what is added around the mask or under it.
    data = data + variance.sqrt() * _sources(n, stamps.side, settings, rng)
    annulus = annulus_background(data, good, x, y, *geometry.annulus)
    radii = settings.half_light_radius
    major = radii[0] * (radii[1] / radii[0]) ** rng.uniform(size=n)
    ratio, theta = rng.uniform(_LEAST_RATIO, 1.0, n), rng.uniform(0, np.pi, n)
    ellipses = Ellipses(*(torch.from_numpy(v).float() for v in (major, major * ratio, theta)))
    hole = elliptical_hole((geometry.size, geometry.size), x - margin, y - margin, ellipses)
    inputs = background_inputs(
        data[:, inner, inner],
        good[:, inner, inner] & ~hole,
        variance,
        annulus.level,
        annulus.level_err,
        torch.from_numpy(np.stack([stamps.ccd_x_norm, stamps.ccd_y_norm], 1)),
        _index(pool, stamps, config),
    )
    known = KnownBackgrounds(
        inputs,
        ((truth.level - inputs.centre) / inputs.unit).float(),
        # Not by their own scatter, which is that of a star where there is one.
        _CLIPPED * truth.n_pixels.clamp(min=1).float().rsqrt(),
        (annulus.level_err / inputs.unit).float(),
    )
    return known.take(inputs.usable & torch.isfinite(known.truth) & (known.truth_err > 0))


def _gradients(n: int, side: int, scatter: float, rng: np.random.Generator) -> Tensor:
    """Return tilted planes, 0 in the middle, in units of the noise of a pixel."""
    slopes = torch.from_numpy(scatter * rng.uniform(size=(n, 1)) * rng.standard_normal((n, 2))).float()
    v = (torch.arange(side) - side // 2).float()
    return slopes[:, 0, None, None] * v[None, None, :] + slopes[:, 1, None, None] * v[None, :, None]


def _sources(n: int, side: int, settings: BackgroundTraining, rng: np.random.Generator) -> Tensor:
    """Return the light of sources that no catalogue has, round Gaussians, in units of the noise of a pixel."""
    number = rng.poisson(settings.sources * side**2 / 1e6, n)
    most = max(int(number.max()), 1)
    low, high = (limit ** (1 - _COUNT_SLOPE) for limit in settings.source_flux)
    flux = (low + (high - low) * rng.uniform(size=(n, most))) ** (1 / (1 - _COUNT_SLOPE))
    flux *= np.arange(most) < number[:, None]
    sigma = torch.from_numpy(rng.uniform(*_SOURCE_SIGMA, (n, most))).float()[:, :, None]
    waves = []
    for _ in range(2):
        centre = torch.from_numpy(rng.uniform(-0.5, side - 0.5, (n, most))).float()[:, :, None]
        waves.append(
            torch.exp(-0.5 * ((torch.arange(side) - centre) / sigma).square()) / (math.sqrt(2 * math.pi) * sigma)
        )
    along_x, along_y = waves
    return torch.bmm((torch.from_numpy(flux).float()[:, :, None] * along_y).transpose(1, 2), along_x)


def _index(pool: BackgroundPool, stamps: BackgroundStamps, config: BackgroundConfig) -> Tensor:
    """Return the rows of the embedding for stamps of a pool."""
    bands = [config.bands.index(name) if config.bands else 0 for name in pool.bands]
    states = [config.states.index(name) if config.states else 0 for name in pool.states]
    n_states = max(1, len(config.states))
    return torch.from_numpy(np.array(bands)[stamps.band] * n_states + np.array(states)[stamps.state])
