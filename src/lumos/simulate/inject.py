"""Galaxies of known flux put into real exposures."""

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.profiles.scene import add_stamps, draw_stamps, rows_by_size
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT

__all__ = ["draw_positions", "far_apart", "inject"]

#: Sides of the images that galaxies are drawn on; each gets the smallest that holds eight half-light radii.
_SIZES = (128, 256, 512)
_RADII = 8.0
#: Galaxies drawn at once.
_AT_ONCE = 64
#: Positions tried for each that is wanted.
_TRIES = 20
#: Widths of the PSF that an injected galaxy keeps from the objects of the catalogue, as a rule.
_CLEARANCE = 2.0


def inject(exposure: Exposure, shapes: Shapes, flux: FloatArray, rng: np.random.Generator) -> Exposure:
    r"""Add Sérsic galaxies to an exposure, drawn with its own PSF.

    Each adds :math:`F m` to the pixels, and where the gain g is known the Poisson noise of its light, of variance
    :math:`F m / g`. The noise of everything else is in the exposure already.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    shapes : Shapes
        n galaxies.
    flux : float array, shape (n,)
        Total fluxes, image units; negative ones have no Poisson noise.
    rng : numpy.random.Generator
        For the photons.

    Returns
    -------
    Exposure
        With new pixels, and a larger variance where the map of the variance holds the sources' noise. The mask is the
        same.

    Raises
    ------
    LumosDataError
        If the exposure has no PSF, or none at the place of a galaxy.
    LumosShapeError
        If there is not one flux per galaxy.
    LumosValueError
        If a flux is not finite, or a shape is out of the renderer's range.
    """
    if exposure.psf is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known, galaxies cannot be drawn")
    if flux.shape != shapes.x.shape:
        raise LumosShapeError("fluxes to inject", flux.shape, shapes.x.shape)
    if not np.isfinite(flux).all():
        raise LumosValueError("flux to inject", float(flux[~np.isfinite(flux)][0]), "finite")
    fwhm = exposure.psf.fwhm_at(shapes.x, shapes.y)
    if not np.isfinite(fwhm).all():
        row = int(np.flatnonzero(~np.isfinite(fwhm))[0])
        raise LumosDataError(f"{exposure.path}: no PSF at x={shapes.x[row]:.1f}, y={shapes.y[row]:.1f}")
    # In double precision, or faint galaxies would be rounded to the last digit of a bright sky.
    data = exposure.data.astype(np.float64)
    light = np.zeros(exposure.shape)
    sizes = _sizes(shapes.half_light_radius, fwhm)
    for size, members in rows_by_size(sizes):
        for start in range(0, len(members), _AT_ONCE):
            rows = members[start : start + _AT_ONCE]
            some = shapes.take(rows)
            stamps, corners = draw_stamps(some, exposure.psf.at(some.x, some.y), size)
            # One by one: the few galaxies that need large stamps would fill the memory.
            for stamp, total, corner in zip(stamps, flux[rows], corners[:, None], strict=True):
                own = total * stamp[None]
                expected = np.maximum(own, 0.0)
                if np.isfinite(exposure.gain):
                    own += rng.poisson(expected * exposure.gain) / exposure.gain - expected
                add_stamps(data, own, corner)
                add_stamps(light, expected, corner)
    variance = exposure.variance
    if variance is not None and exposure.variance_includes_sources and np.isfinite(exposure.gain):
        variance = (variance + light / exposure.gain).astype(np.float32)
    return replace(exposure, data=data.astype(np.float32), variance=variance)


def draw_positions(
    exposure: Exposure,
    n: int,
    rng: np.random.Generator,
    avoid: tuple[FloatArray, FloatArray],
    *,
    distance: float = 60.0,
    clearance: float = _CLEARANCE,
) -> tuple[FloatArray, FloatArray]:
    """Draw places for galaxies: usable pixels, far from each other, on no object of the catalogue.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    n : int
        How many are wanted.
    rng : numpy.random.Generator
        The same state gives the same places.
    avoid : tuple of float array, each of shape (m,)
        x and y of the catalogue's objects.
    distance : float, optional
        Least distance between places, pixels.
    clearance : float, optional
        Least distance from the objects to avoid, FWHM of the PSF.

    Returns
    -------
    x, y : float array, shape (k,)
        Places in 0-based pixels, k at most n: fewer where the exposure has no room.

    Raises
    ------
    LumosDataError
        If the exposure has no PSF.
    LumosValueError
        If the number is negative or the distance not positive.
    """
    if exposure.psf is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known, galaxies cannot be drawn")
    if n < 0 or not distance > 0:
        raise LumosValueError("number and distance of galaxies to inject", (n, distance), "0 or more, and > 0")
    good = np.flatnonzero(good_pixels(exposure.mask))
    if n == 0 or len(good) == 0:
        return np.zeros(0), np.zeros(0)
    rows, columns = np.unravel_index(rng.choice(good, _TRIES * n), exposure.shape)
    x, y = np.array([columns, rows]) + rng.uniform(-0.5, 0.5, (2, _TRIES * n))
    free = _is_free(exposure, x, y, avoid, clearance)
    x, y = x[free], y[free]
    chosen = far_apart(x, y, distance)[:n]
    return x[chosen], y[chosen]


def _is_free(
    exposure: Exposure, x: FloatArray, y: FloatArray, avoid: tuple[FloatArray, FloatArray], clearance: float
) -> BoolArray:
    """Return which places have a PSF and no object to avoid near them."""
    assert exposure.psf is not None
    fwhm = exposure.psf.fwhm_at(x, y)
    nearest = np.full(len(x), np.inf)
    if len(avoid[0]):
        nearest = np.asarray(cKDTree(np.column_stack(avoid)).query(np.column_stack([x, y]))[0])
    return np.isfinite(fwhm) & (nearest > clearance * fwhm)


def far_apart(x: FloatArray, y: FloatArray, distance: float) -> IntArray:
    """Choose places that are not near each other.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Places, the most wanted first.
    distance : float
        Least distance between those chosen.

    Returns
    -------
    int array
        Their numbers, ascending: each lies no nearer than ``distance`` to an earlier one.
    """
    points = np.column_stack([x, y])
    tree = cKDTree(points)
    free = np.ones(len(points), dtype=np.bool_)
    chosen = []
    for row, point in enumerate(points):
        if free[row]:
            chosen.append(row)
            free[tree.query_ball_point(point, distance)] = False
    return np.array(chosen, dtype=np.int64)


def _sizes(radius: FloatArray, fwhm: FloatArray) -> AnyArray:
    """Return the side of the image that each galaxy is drawn on."""
    reach = 2 * _RADII * np.hypot(radius, PSF_HALF_LIGHT * fwhm)
    return np.asarray(_SIZES)[np.minimum(np.searchsorted(_SIZES, reach), len(_SIZES) - 1)]
