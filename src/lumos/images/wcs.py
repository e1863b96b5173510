"""Sky and pixel positions: checks of a WCS, its local Jacobian, and transformations that cannot lie."""

import logging

import numpy as np
from astropy.wcs import WCS, NoConvergence

from lumos.conventions import BoolArray, FloatArray
from lumos.images.frames import from_icrs, sky_frame, to_icrs

__all__ = [
    "ROUND_TRIP",
    "footprint_frame",
    "pixel_jacobian",
    "pixel_scale_at",
    "pixel_to_sky",
    "position_angle_to_pixel",
    "sky_to_pixel",
    "sky_to_pixel_raw",
    "unit_vectors",
]

#: Largest error of pixel -> sky -> pixel, in pixels.
ROUND_TRIP = 0.1

_LOGGER = logging.getLogger(__name__)
_ARCSEC = 3600.0 * 180.0 / np.pi
#: Numerical inversions of distortions are iterated to this, in pixels.
_TOLERANCE = 1e-4


def pixel_scale_at(wcs: WCS, shape: tuple[int, int]) -> float:
    """Return the pixel scale at the centre of an image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        WCS with two celestial axes.
    shape : tuple of int
        Shape of the image, (ny, nx).

    Returns
    -------
    float
        Square root of the area of a pixel, arcsec.
    """
    centre = np.array([(shape[1] - 1) / 2.0]), np.array([(shape[0] - 1) / 2.0])
    return float(np.sqrt(np.abs(np.linalg.det(pixel_jacobian(wcs, *centre))[0])))


def pixel_to_sky(wcs: WCS, x: FloatArray, y: FloatArray) -> FloatArray:
    """Find the ICRS positions of pixels.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        WCS from :func:`celestial_wcs`, of any frame.
    x, y : float array, shape (n,)
        Positions in 0-based pixels.

    Returns
    -------
    float array, shape (2, n)
        Right ascension and declination in degrees; NaN where there are none.
    """
    if np.size(x) == 0:
        return np.empty((2, 0))
    lon_lat = np.array(wcs.all_pix2world(x, y, 0), dtype=np.float64)
    if wcs.wcs.lng == 1:
        lon_lat = lon_lat[::-1]
    return to_icrs(sky_frame(wcs), lon_lat)


def pixel_jacobian(wcs: WCS, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the local linear map from pixels to the sky, from central differences over one pixel.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        WCS with two celestial axes.
    x, y : float array, shape (n,)
        Positions in 0-based pixels.

    Returns
    -------
    float array, shape (n, 2, 2)
        ``[[dE/dx, dE/dy], [dN/dx, dN/dy]]`` in arcsec per pixel, E east and N north at the position, both of
        ICRS; NaN where the position has no sky coordinates.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    ra, dec = np.deg2rad(pixel_to_sky(wcs, x, y))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    columns = []
    for step_x, step_y in ((0.5, 0.0), (0.0, 0.5)):
        ahead = unit_vectors(*pixel_to_sky(wcs, x + step_x, y + step_y))
        behind = unit_vectors(*pixel_to_sky(wcs, x - step_x, y - step_y))
        step = (ahead - behind) * _ARCSEC
        columns.append(np.stack([np.sum(step * east, axis=-1), np.sum(step * north, axis=-1)], axis=-1))
    return np.stack(columns, axis=-1)


def position_angle_to_pixel(wcs: WCS, ra: FloatArray, dec: FloatArray, pa_deg: FloatArray) -> FloatArray:
    """Turn position angles on the sky into angles on the pixel grid, at each object's own position.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        WCS with two celestial axes.
    ra, dec : float array, shape (n,)
        ICRS positions in degrees.
    pa_deg : float array, shape (n,)
        Position angles in degrees, from ICRS north towards east.

    Returns
    -------
    float array, shape (n,)
        Angles in radians from +x towards +y; NaN where the position is not on the image plane.
    """
    pa = np.deg2rad(np.asarray(pa_deg, dtype=np.float64))
    x, y = sky_to_pixel_raw(wcs, np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64))
    jacobian = pixel_jacobian(wcs, x, y)
    # The inverse of a 2 x 2 matrix up to its determinant, of which only the sign matters for an angle.
    sign = np.sign(np.linalg.det(jacobian))
    dx = sign * (jacobian[:, 1, 1] * np.sin(pa) - jacobian[:, 0, 1] * np.cos(pa))
    dy = sign * (-jacobian[:, 1, 0] * np.sin(pa) + jacobian[:, 0, 0] * np.cos(pa))
    theta: FloatArray = np.arctan2(dy, dx)
    return theta


def sky_to_pixel(
    wcs: WCS, ra: FloatArray, dec: FloatArray, shape: tuple[int, int], margin: float = 0.0
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Find the pixel positions of objects, and which of them lie on the image.

    A projection has solutions far from the image too (a tangent plane shows the whole sphere twice), so that
    only objects within the image's circumscribed circle are transformed, and each must survive the way back.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        WCS from :func:`celestial_wcs`.
    ra, dec : float array, shape (n,)
        ICRS positions in degrees.
    shape : tuple of int
        Shape of the image, (ny, nx).
    margin : float
        Pixels by which an object may lie outside the image.

    Returns
    -------
    x, y : float array, shape (n,)
        0-based pixels; NaN where the object is nowhere near the image.
    inside : bool array, shape (n,)
        True where the object lies on the image or within ``margin`` of it.
    """
    ra, dec = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
    x, y = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    near = _near_image(wcs, ra, dec, shape, margin)
    if near.any():
        x_near, y_near = sky_to_pixel_raw(wcs, ra[near], dec[near])
        back = unit_vectors(*pixel_to_sky(wcs, x_near, y_near))
        away = np.linalg.norm(back - unit_vectors(ra[near], dec[near]), axis=-1) * _ARCSEC
        good = away <= ROUND_TRIP * pixel_scale_at(wcs, shape)
        x[near], y[near] = np.where(good, x_near, np.nan), np.where(good, y_near, np.nan)
    low = -0.5 - margin
    with np.errstate(invalid="ignore"):
        inside = (x >= low) & (x < shape[1] - 0.5 + margin) & (y >= low) & (y < shape[0] - 0.5 + margin)
    return x, y, inside


def _near_image(wcs: WCS, ra: FloatArray, dec: FloatArray, shape: tuple[int, int], margin: float) -> BoolArray:
    """Return which positions lie within the circle around the image and its margin."""
    x, y = footprint_frame(shape, margin)
    frame = unit_vectors(*pixel_to_sky(wcs, x, y))
    frame = frame[np.isfinite(frame).all(axis=1)]
    centre = unit_vectors(*pixel_to_sky(wcs, np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2])))[0]
    radius = float(np.max(np.linalg.norm(frame - centre, axis=1)))
    with np.errstate(invalid="ignore"):
        # Between the points of the frame the image bulges by far less than this.
        near: BoolArray = np.linalg.norm(unit_vectors(ra, dec) - centre, axis=1) <= 1.02 * radius
    return near


def footprint_frame(shape: tuple[int, int], margin: float) -> tuple[FloatArray, FloatArray]:
    """Return points all around an image, its corners among them.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    margin : float
        Distance of the points from the image, pixels.

    Returns
    -------
    x, y : float array, shape (36,)
        0-based pixels.
    """
    t = np.linspace(0.0, 1.0, 9)
    zero, one = np.zeros_like(t), np.ones_like(t)
    u, v = np.concatenate([t, one, t, zero]), np.concatenate([zero, t, one, t])
    low, width, height = -0.5 - margin, shape[1] + 2 * margin, shape[0] + 2 * margin
    return low + u * width, low + v * height


def sky_to_pixel_raw(wcs: WCS, ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return pixel positions, wherever they lie.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        World coordinates.
    ra, dec : float array, shape (n,)
        ICRS, degrees.

    Returns
    -------
    x, y : float array, shape (n,)
        0-based pixels; NaN where the sky position is not finite or cannot be inverted.
    """
    x, y = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    finite = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90.0)
    if finite.any():
        lon, lat = from_icrs(sky_frame(wcs), np.stack([ra[finite], dec[finite]]))
        world = (lon, lat) if wcs.wcs.lng == 0 else (lat, lon)
        try:
            x[finite], y[finite] = wcs.all_world2pix(*world, 0, tolerance=_TOLERANCE, quiet=True)
        except (NoConvergence, ValueError) as error:
            _LOGGER.debug("sky to pixel: %s", error)
    return x, y


def unit_vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Return the directions of sky positions.

    Parameters
    ----------
    ra, dec : float array, shape (n,)
        Positions on the sky, degrees.

    Returns
    -------
    float array, shape (n, 3)
        Unit vectors; their differences are angles in radians, where these are small.
    """
    ra, dec = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
