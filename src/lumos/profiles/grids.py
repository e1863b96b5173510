"""Which grid of wavenumbers each object needs: how fine (against copies) and how far (against blur)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray
from lumos.profiles.objects import Objects
from lumos.profiles.transforms import moffat_cutoff
from lumos.profiles.wings import wing_brightness
from lumos.psfs import MoffatPsf, PixelPsf

__all__ = ["Grid", "Plan", "plan_grids"]

# Share of the PSF's peak that may be lost beyond the largest wavenumber.
_CUTOFF_SHARE = 1e-4
# Wavenumber per pixel that is never passed: a Moffat of FWHM 0.6 px is still drawn exactly.
_K_LIMIT = 8 * math.pi
# Periods of the grids are _SHORTEST * _RATIO**j pixels.
_SHORTEST = 32.0
_RATIO = 2 ** (1 / 3)
_N_PERIODS = 18
# Wavenumbers per axis come in multiples of this, so that objects share grids.
_ROUND = 4
# Brightness of the nearest copies, over the peak, up to which they can be taken away well enough.
_COPY_LIMIT = 1e-4
# Distance, in FWHM, at which the core of a Moffat has ended and its wings are a power law.
_CORE = 5.0
# Objects further than this from their stamp, in pixels, are all wings.
_DISTANT = 160.0
# Share for PSF images, and steps up to the largest wavenumber of their samples.
_IMAGE_SHARE = 2e-4
_N_RINGS = 17


@dataclass(frozen=True)
class Grid:
    """A square grid of wavenumbers k = 2 pi i / period, i = 0 ... n_waves - 1 (and mirrored).

    Parameters
    ----------
    period : float
        Distance in pixels at which the drawn image repeats itself.
    n_waves : int
        Wavenumbers per axis.
    """

    period: float
    n_waves: int

    def wavenumbers(self) -> FloatArray:
        """Return the wavenumbers along an axis.

        Returns
        -------
        float array, shape (n_waves,)
            In radians per pixel.
        """
        return np.arange(self.n_waves, dtype=np.float64) * (2 * np.pi / self.period)


@dataclass(frozen=True)
class Plan:
    """How each object is drawn.

    Parameters
    ----------
    distant : int64 tensor
        Objects too far from their stamps for a grid.
    grid : int64 tensor, shape (n, 2)
        For each object the number of its period and its number of wavenumbers, 0 for those without a grid.
    """

    distant: Tensor
    grid: Tensor

    def groups(self) -> Iterator[tuple[Grid, Tensor]]:
        """Yield each grid with the objects that use it.

        Yields
        ------
        tuple of Grid and int64 tensor
            Grid and indices of its objects, in ascending order.
        """
        drawn = torch.nonzero(self.grid[:, 1])[:, 0]
        keys, which = torch.unique(self.grid[drawn], dim=0, return_inverse=True)
        for number, (period, n_waves) in enumerate(keys.tolist()):
            yield Grid(_SHORTEST * _RATIO**period, n_waves), drawn[which == number]


def plan_grids(objects: Objects, psf: MoffatPsf | PixelPsf, size: tuple[int, int]) -> Plan:
    """Choose a grid for each object; the choice depends on that object alone.

    Parameters
    ----------
    objects : Objects
        Shapes and positions of n galaxies.
    psf : MoffatPsf or PixelPsf
        Their PSFs; objects whose PSF is NaN get no grid.
    size : tuple of two int
        Height and width of the stamps.

    Returns
    -------
    Plan
        For the n objects.
    """
    height, width = size
    reach_x = torch.maximum(objects.x, width - 1 - objects.x)
    reach_y = torch.maximum(objects.y, height - 1 - objects.y)
    gap_x = (objects.x - objects.x.clamp(0, width - 1)).abs()
    gap_y = (objects.y - objects.y.clamp(0, height - 1)).abs()
    cutoff, extent = _psf_ranges(psf, len(objects))
    known = torch.isfinite(cutoff)
    distant = known & (torch.hypot(gap_x, gap_y) > _DISTANT + 2 * extent)
    drawn = torch.nonzero(known & ~distant)[:, 0]
    grid = torch.zeros((len(objects), 2), dtype=torch.int64)
    reach = torch.maximum(reach_x, reach_y)[drawn]
    number = _choose_period(objects.take(drawn), reach, extent[drawn])
    waves = cutoff[drawn] * _SHORTEST * _RATIO**number / (2 * math.pi)
    grid[drawn, 0] = number
    grid[drawn, 1] = _ROUND * torch.ceil(waves / _ROUND).to(torch.int64)
    return Plan(torch.nonzero(distant)[:, 0], grid)


def _choose_period(objects: Objects, reach: Tensor, extent: Tensor) -> Tensor:
    """Find the number of the shortest period whose copies are far and faint enough to be taken away."""
    periods = _SHORTEST * _RATIO ** torch.arange(_N_PERIODS, dtype=torch.float64)
    distance = (periods - reach[:, None]).clamp(min=1.0)
    along_x, along_y = objects.theta.cos()[:, None], objects.theta.sin()[:, None]
    copies = wing_brightness(objects, distance * along_x, distance * along_y, torch.float64)
    good = (distance > extent[:, None]) & (copies < _COPY_LIMIT * _peak_estimate(objects, extent)[:, None])
    good[:, -1] = True
    return good.to(torch.int8).argmax(1)


def _peak_estimate(objects: Objects, extent: Tensor) -> Tensor:
    """Estimate the peak surface brightness: the light within some ellipses over their blurred areas."""
    blur = 0.7 * torch.where(objects.fwhm > 0, objects.fwhm, extent / 5)
    trial = torch.stack([0.5 * blur, blur, 2 * blur, objects.radius], dim=1)
    n, b = objects.sersic_n[:, None].expand_as(trial), objects.b[:, None]
    share: Tensor = torch.special.gammainc(2 * n, b * (trial / objects.radius.clamp(min=1e-3)[:, None]) ** (1 / n))
    area = math.pi * (trial + blur[:, None]) * (objects.q[:, None] * trial + blur[:, None])
    return (0.7 * share / area).amax(1)


def _psf_ranges(psf: MoffatPsf | PixelPsf, n_objects: int) -> tuple[Tensor, Tensor]:
    """Largest wavenumber that each object's PSF passes, and the distance at which its core has ended."""
    if isinstance(psf, MoffatPsf):
        cutoff = moffat_cutoff(psf.beta, _CUTOFF_SHARE) / psf.fwhm
        extent = _CORE * psf.fwhm
    else:
        cutoff = _image_cutoff(psf)
        extent = np.full(len(psf.images), psf.sampling * (max(psf.images.shape[1:]) + 1) / 2)
    cutoff = np.minimum(cutoff, _K_LIMIT)
    return torch.from_numpy(cutoff).expand(n_objects), torch.from_numpy(extent).expand(n_objects)


def _image_cutoff(psf: PixelPsf) -> FloatArray:
    """Largest wavenumber that counts in each PSF image, NaN for images with NaN."""
    k = torch.linspace(0, math.pi, _N_RINGS, dtype=torch.float64)
    both = torch.cat([-k[1:].flip(0), k])
    height, width = psf.images.shape[1:]
    along_y = torch.exp(1j * both[:, None] * torch.arange(height))
    along_x = torch.exp(1j * k * torch.arange(width)[:, None])
    ring = torch.maximum(both.abs()[:, None], k).div(k[1]).round().to(torch.int64).ravel()
    cutoff = []
    for images in torch.split(torch.from_numpy(np.ascontiguousarray(psf.images)), 256):
        spectrum = (along_y.to(torch.complex64) @ images.to(torch.complex64) @ along_x.to(torch.complex64)).abs()
        rings = torch.zeros(len(images), _N_RINGS).index_add_(1, ring, spectrum.flatten(1)).double()
        beyond = rings.flip(1).cumsum(1).flip(1)
        first = (beyond < _IMAGE_SHARE * beyond[:, :1]).to(torch.int8)
        last = torch.where(first.any(1), first.argmax(1), _N_RINGS - 1)
        cutoff.append(torch.where(torch.isfinite(beyond[:, 0]), k[last], torch.nan))
    return torch.cat(cutoff).numpy() / psf.sampling
