"""Pairs of galaxies on a flat sky, a target and its neighbour.

Seeing of 1 arcsec on the pixels of PAUCam; a target of i = 22 has a signal-to-noise ratio of about 5.
"""

from collections.abc import Iterator

import numpy as np

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import FloatArray
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.images.wcs import pixel_to_sky
from lumos.profiles.scene import draw_light
from lumos.profiles.shapes import Shapes
from lumos.validate.studies.flat import flat_exposure

__all__ = ["FWHM_PX", "ZEROPOINT", "around", "draw_pairs", "pair_flux", "paper_offsets"]

#: Arcsec per pixel, FWHM in arcsec, exponent of the PSF, noise of a pixel.
_SCALE, _FWHM, _BETA, _NOISE = 0.263, 1.0, 4.765, 10.0
#: AB magnitude of one electron, for fluxes in nJy.
ZEROPOINT = 26.0
FWHM_PX = _FWHM / _SCALE
#: Half-light radius in arcsec, index, axis ratio: of the target and of the neighbour.
_TARGET, _NEIGHBOUR = (0.45, 1.0, 0.6), (0.7, 1.5, 0.7)
#: Side of the square that each pair has, and pairs along a side of an image.
_CELL, _ALONG = 128, 10
#: Electrons of i = 22: five times the noise of an aperture.
_FLUX_22 = 5 * _NOISE * 7.6
#: Offsets nearer than this, in FWHM, are drawn more than once.
_NEAR = 4.0


def pair_flux(magnitude: FloatArray | float) -> FloatArray:
    """Return the electrons of galaxies.

    Parameters
    ----------
    magnitude : float or float array
        Of the galaxies, i.

    Returns
    -------
    float array
        Of the same shape.
    """
    return np.asarray(_FLUX_22 * 10 ** (-0.4 * (np.asarray(magnitude) - 22)))


def paper_offsets(side: int = 60, repeats: int = 1) -> FloatArray:
    """Return offsets of the neighbour over the whole stamp, one pixel apart.

    Parameters
    ----------
    side : int
        Offsets along each axis; with an even number one of them is 0.
    repeats : int
        How often those within 4 FWHM occur.

    Returns
    -------
    float array, shape (n, 2)
        Pixels along x and y.
    """
    along = np.arange(side) - side // 2.0
    grid = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    near = np.hypot(*grid.T) <= _NEAR * FWHM_PX
    return np.concatenate([grid, np.tile(grid[near], (repeats - 1, 1))])


def around(distance: FloatArray, pairs: int, rng: np.random.Generator) -> FloatArray:
    """Return offsets at random angles.

    Parameters
    ----------
    distance : float array, shape (n,)
        Pixels.
    pairs : int
        Neighbours at each distance.
    rng : numpy.random.Generator
        Of the angles.

    Returns
    -------
    float array, shape (n pairs, 2)
        Pixels along x and y, those of one distance together.
    """
    angle = rng.uniform(0, 2 * np.pi, (len(distance), pairs))
    offsets = distance[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.asarray(offsets.reshape(-1, 2))


def draw_pairs(
    offsets: FloatArray, target: float, neighbour: FloatArray, rng: np.random.Generator
) -> Iterator[tuple[Exposure, ParentCatalog, int]]:
    """Draw pairs of galaxies on exposures, up to 100 on each.

    Parameters
    ----------
    offsets : float array, shape (n, 2)
        Of the neighbours, pixels.
    target : float
        Magnitude of the targets.
    neighbour : float array, shape (n,)
        Magnitudes of the neighbours.
    rng : numpy.random.Generator
        Of noise, angles and places in the pixel.

    Yields
    ------
    exposure : Exposure
        The image.
    catalog : ParentCatalog
        Targets, then their neighbours.
    n : int
        Pairs.
    """
    side, psf = _CELL * _ALONG, MoffatModel(FWHM_PX, _BETA)
    for start in range(0, len(offsets), _ALONG**2):
        some = offsets[start : start + _ALONG**2]
        n = len(some)
        places = np.arange(n) % _ALONG, np.arange(n) // _ALONG
        x, y = (_CELL * (place + 0.5) + rng.uniform(-0.5, 0.5, n) for place in places)
        shapes = Shapes(
            x=np.concatenate([x, x + some[:, 0]]),
            y=np.concatenate([y, y + some[:, 1]]),
            half_light_radius=np.repeat([_TARGET[0], _NEIGHBOUR[0]], n) / _SCALE,
            sersic_n=np.repeat([_TARGET[1], _NEIGHBOUR[1]], n),
            axis_ratio=np.repeat([_TARGET[2], _NEIGHBOUR[2]], n),
            theta=rng.uniform(0, np.pi, 2 * n),
        )
        magnitude = np.concatenate([np.full(n, target), neighbour[start : start + _ALONG**2]])
        flux = pair_flux(magnitude)
        light = draw_light(shapes, flux, psf.at(x[:1], y[:1]), (side, side), _NOISE)
        # The photons of the galaxies count, beside a sky of 100 electrons.
        data = rng.poisson(light.clip(0) + _NOISE**2) - _NOISE**2
        exposure = flat_exposure(data, psf, variance=_NOISE**2, pixel_scale=_SCALE, zeropoint=ZEROPOINT)
        ra, dec = pixel_to_sky(exposure.wcs, shapes.x, shapes.y)
        # East is towards -x.
        angle = np.rad2deg(shapes.theta) - 90
        shape = shapes.half_light_radius * _SCALE, shapes.sersic_n, shapes.axis_ratio, angle
        yield exposure, ParentCatalog(np.arange(2 * n), ra, dec, *shape, magnitude), n
