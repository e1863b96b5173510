"""Sky and pixel positions: checks of a WCS, its local Jacobian, and transformations that cannot lie."""

import logging
import re
import warnings
from pathlib import Path

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS, NoConvergence

from lumos.conventions import BoolArray, FloatArray
from lumos.errors import LumosDataError
from lumos.images.fitsfile import card_value
from lumos.images.frames import from_icrs, sky_frame, to_icrs

__all__ = [
    "celestial_wcs",
    "check_wcs",
    "pixel_jacobian",
    "pixel_scale_at",
    "pixel_to_sky",
    "position_angle_to_pixel",
    "sky_to_pixel",
    "unit_vectors",
]

_LOGGER = logging.getLogger(__name__)
_ARCSEC = 3600.0 * 180.0 / np.pi
#: Largest error of pixel -> sky -> pixel, in pixels.
_ROUND_TRIP = 0.1
#: Numerical inversions of distortions are iterated to this, in pixels.
_TOLERANCE = 1e-4
#: Cards of the primary WCS that must be numbers; wcslib counts one that is not as absent, and so as 0.
_NUMBER_CARDS = re.compile(
    r"(WCSAXES|VELREF|EQUINOX|LONPOLE|LATPOLE|MJD-OBS|(CRPIX|CRVAL|CDELT|CROTA)\d+|(CD|PC)\d+_\d+|PC\d{6}"
    r"|PV\d+_\d+|[ABD]P?_(ORDER|DMAX|\d+_\d+))"
)
_TEXT_CARDS = re.compile(r"(CTYPE|CUNIT)\d+|RADESYS|RADECSYS|WCSNAME")


def celestial_wcs(
    header: Header,
    path: Path,
    shape: tuple[int, int],
    pixel_scale: float | None = None,
    tolerance: float = 0.03,
) -> WCS:
    """Build the WCS of an image and check that it can be trusted over the whole image.

    Parameters
    ----------
    header : Header
        Header of the image.
    path : Path
        File, for messages.
    shape : tuple of int
        Shape of the image, (ny, nx).
    pixel_scale : float or None
        Expected scale, arcsec per pixel; None: not checked.
    tolerance : float
        Largest relative difference from it.

    Returns
    -------
    astropy.wcs.WCS
        Two-dimensional, celestial and invertible over the image. Its own methods give coordinates of its own frame;
        :func:`pixel_to_sky` and :func:`sky_to_pixel` give and take ICRS.

    Raises
    ------
    LumosDataError
        If there is no celestial WCS, one of its cards cannot be read, its frame is not one of those of
        :mod:`lumos.images.frames`, the matrix is singular, SIP coefficients stand beside a CTYPE without
        ``-SIP``, the corners do not survive pixel -> sky -> pixel, or the scale is not the survey's.
    """
    _refuse_bad_cards(header, path)
    _refuse_hidden_sip(header, path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # A copy, since astropy mends malformed cards (of other facts) in the header that it is given.
            wcs = WCS(header.copy(), naxis=2)
            celestial = wcs.has_celestial
            _ = wcs.pixel_scale_matrix if celestial else None
        except Exception as error:
            # wcslib reports damaged headers through a dozen exception classes without a common base.
            raise LumosDataError(f"{path}: WCS cannot be read: {' '.join(str(error).split())}") from error
    for warning in caught:
        _LOGGER.debug("%s: %s", path, warning.message)
    if not celestial:
        text = "write one into the header, for example with astrometry.net or SCAMP"
        raise LumosDataError(f"{path}: no celestial WCS in the header (CTYPE1={header.get('CTYPE1')!r}); {text}")
    check_wcs(wcs, path, shape, pixel_scale, tolerance)
    return wcs


def check_wcs(
    wcs: WCS, path: Path, shape: tuple[int, int], pixel_scale: float | None = None, tolerance: float = 0.03
) -> None:
    """Check that a celestial WCS can be trusted over the whole image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Two-dimensional and celestial.
    path : Path
        File, for messages.
    shape : tuple of int
        Shape of the image, (ny, nx).
    pixel_scale : float or None
        Expected scale, arcsec per pixel; None: not checked.
    tolerance : float
        Largest relative difference from it.

    Raises
    ------
    LumosDataError
        As of :func:`celestial_wcs`.
    """
    determinant = float(np.linalg.det(wcs.pixel_scale_matrix))
    size = float(np.max(np.abs(wcs.pixel_scale_matrix)))
    if not np.isfinite(determinant) or abs(determinant) <= 1e-9 * size**2:
        raise LumosDataError(f"{path}: the WCS matrix is singular (determinant {determinant:.3g})")
    try:
        sky_frame(wcs)
    except ValueError as error:
        raise LumosDataError(f"{path}: {error}") from error
    _check_footprint(wcs, path, shape)
    if pixel_scale is not None:
        scale = pixel_scale_at(wcs, shape)
        if not abs(scale / pixel_scale - 1.0) <= tolerance:
            allowed = f"{pixel_scale} within {100 * tolerance:g} %"
            raise LumosDataError(f'{path}: pixel scale of the WCS is {scale:.5g}", allowed: {allowed}')


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
    x, y = _sky_to_pixel_raw(wcs, np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64))
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
        x_near, y_near = _sky_to_pixel_raw(wcs, ra[near], dec[near])
        back = unit_vectors(*pixel_to_sky(wcs, x_near, y_near))
        away = np.linalg.norm(back - unit_vectors(ra[near], dec[near]), axis=-1) * _ARCSEC
        good = away <= _ROUND_TRIP * pixel_scale_at(wcs, shape)
        x[near], y[near] = np.where(good, x_near, np.nan), np.where(good, y_near, np.nan)
    low = -0.5 - margin
    with np.errstate(invalid="ignore"):
        inside = (x >= low) & (x < shape[1] - 0.5 + margin) & (y >= low) & (y < shape[0] - 0.5 + margin)
    return x, y, inside


def _near_image(wcs: WCS, ra: FloatArray, dec: FloatArray, shape: tuple[int, int], margin: float) -> BoolArray:
    """Return which positions lie within the circle around the image and its margin."""
    x, y = _frame(shape, margin)
    frame = unit_vectors(*pixel_to_sky(wcs, x, y))
    frame = frame[np.isfinite(frame).all(axis=1)]
    centre = unit_vectors(*pixel_to_sky(wcs, np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2])))[0]
    radius = float(np.max(np.linalg.norm(frame - centre, axis=1)))
    with np.errstate(invalid="ignore"):
        # Between the points of the frame the image bulges by far less than this.
        near: BoolArray = np.linalg.norm(unit_vectors(ra, dec) - centre, axis=1) <= 1.02 * radius
    return near


def _frame(shape: tuple[int, int], margin: float) -> tuple[FloatArray, FloatArray]:
    """Return points all around an image, its corners among them."""
    t = np.linspace(0.0, 1.0, 9)
    zero, one = np.zeros_like(t), np.ones_like(t)
    u, v = np.concatenate([t, one, t, zero]), np.concatenate([zero, t, one, t])
    low, width, height = -0.5 - margin, shape[1] + 2 * margin, shape[0] + 2 * margin
    return low + u * width, low + v * height


def _check_footprint(wcs: WCS, path: Path, shape: tuple[int, int]) -> None:
    """Refuse a WCS that is not finite and invertible around the image and at its centre."""
    x, y = _frame(shape, 0.0)
    x, y = np.append(x, (shape[1] - 1) / 2), np.append(y, (shape[0] - 1) / 2)
    ra, dec = pixel_to_sky(wcs, x, y)
    if not (np.isfinite(ra) & np.isfinite(dec)).all():
        raise LumosDataError(f"{path}: the WCS gives no sky position at the edge or centre of the image")
    x_back, y_back = _sky_to_pixel_raw(wcs, ra, dec)
    worst = float(np.max(np.hypot(x_back - x, y_back - y)))
    if not worst <= _ROUND_TRIP:
        allowed = f"at most {_ROUND_TRIP}"
        raise LumosDataError(f"{path}: the WCS is not invertible over the image (error {worst:.3g} px, {allowed})")


def _refuse_bad_cards(header: Header, path: Path) -> None:
    """Refuse cards of the WCS whose values are malformed or of the wrong type."""
    for key in dict.fromkeys(header.keys()):
        is_number = _NUMBER_CARDS.fullmatch(key) is not None
        if not is_number and _TEXT_CARDS.fullmatch(key) is None:
            continue
        value = card_value(header, key, path)
        allowed = int | float if is_number else str
        if not isinstance(value, allowed | None) or isinstance(value, bool):
            what = "a number" if is_number else "text"
            raise LumosDataError(f"{path}: {key} is {value!r}, allowed: {what}")
        if is_number and value is not None and not np.isfinite(value):
            raise LumosDataError(f"{path}: {key} is {value}, allowed: finite")


def _refuse_hidden_sip(header: Header, path: Path) -> None:
    """Refuse SIP coefficients that the CTYPE does not announce: programs differ on whether they count."""
    ctypes = [str(header.get(key, "")) for key in ("CTYPE1", "CTYPE2")]
    if all(ctype.strip().endswith("-SIP") for ctype in ctypes):
        return
    hidden = [key for key in header if re.fullmatch(r"[AB]P?_(ORDER|\d+_\d+)", key)]
    if hidden:
        raise LumosDataError(f"{path}: SIP coefficients ({hidden[0]}, ...) but CTYPE {ctypes} without '-SIP'")


def _sky_to_pixel_raw(wcs: WCS, ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return pixel positions; NaN where the sky position is not finite or cannot be inverted."""
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
