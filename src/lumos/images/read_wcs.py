"""World coordinates of images: read from headers, checked."""

import logging
import re
import warnings
from pathlib import Path

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS

from lumos.errors import LumosDataError
from lumos.images.fits.file import card_value
from lumos.images.frames import sky_frame
from lumos.images.wcs import ROUND_TRIP, footprint_frame, pixel_scale_at, pixel_to_sky, sky_to_pixel_raw

__all__ = ["celestial_wcs", "check_wcs"]

_LOGGER = logging.getLogger(__name__)

#: Cards of the primary WCS that must be numbers; wcslib counts one that is not as absent, and so as 0.
_NUMBER_CARDS = re.compile(
    r"(WCSAXES|VELREF|EQUINOX|LONPOLE|LATPOLE|MJD-OBS|(CRPIX|CRVAL|CDELT|CROTA)\d+|(CD|PC)\d+_\d+|PC\d{6}"
    r"|PV\d+_\d+|[ABD]P?_(ORDER|DMAX|\d+_\d+))"
)
#: More than the number of any card, and within what a float holds.
_LARGEST = 1e300
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


def _check_footprint(wcs: WCS, path: Path, shape: tuple[int, int]) -> None:
    """Refuse a WCS that is not finite and invertible around the image and at its centre."""
    x, y = footprint_frame(shape, 0.0)
    x, y = np.append(x, (shape[1] - 1) / 2), np.append(y, (shape[0] - 1) / 2)
    ra, dec = pixel_to_sky(wcs, x, y)
    if not (np.isfinite(ra) & np.isfinite(dec)).all():
        raise LumosDataError(f"{path}: the WCS gives no sky position at the edge or centre of the image")
    x_back, y_back = sky_to_pixel_raw(wcs, ra, dec)
    worst = float(np.max(np.hypot(x_back - x, y_back - y)))
    if not worst <= ROUND_TRIP:
        allowed = f"at most {ROUND_TRIP}"
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
        if isinstance(value, int | float) and not abs(value) < _LARGEST:
            raise LumosDataError(f"{path}: {key} is {value}, allowed: finite")


def _refuse_hidden_sip(header: Header, path: Path) -> None:
    """Refuse SIP coefficients that the CTYPE does not announce: programs differ on whether they count."""
    ctypes = [str(header.get(key, "")) for key in ("CTYPE1", "CTYPE2")]
    if all(ctype.strip().endswith("-SIP") for ctype in ctypes):
        return
    hidden = [key for key in header if re.fullmatch(r"[AB]P?_(ORDER|\d+_\d+)", key)]
    if hidden:
        raise LumosDataError(f"{path}: SIP coefficients ({hidden[0]}, ...) but CTYPE {ctypes} without '-SIP'")
