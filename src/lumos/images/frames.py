"""Frames of celestial coordinates: those of an image's WCS, and ICRS, in which catalogues are.

The frame follows the FITS standard: CTYPE tells equatorial or Galactic; RADESYS tells ICRS, FK5, FK4 or FK4-NO-E, and
where it is absent, EQUINOX does (before 1984 FK4, after it FK5; without EQUINOX it is ICRS). FK5 of equinox 2000 is
taken as ICRS: the two differ by at most 0.032 arcsec, and images that say FK5 are as a rule tied to catalogues in ICRS.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import FK4, FK5, ICRS, FK4NoETerms, Galactic, SkyCoord
from astropy.time import Time
from astropy.wcs import WCS

from lumos.conventions import FloatArray

__all__ = ["from_icrs", "sky_frame", "to_icrs"]

#: Without RADESYS, an equinox before this year means FK4.
_FIRST_FK5 = 1984.0
_ALLOWED = "equatorial (RA, DEC in ICRS, FK5, FK4, FK4-NO-E) or Galactic (GLON, GLAT)"


def sky_frame(wcs: WCS) -> Any:  # noqa: ANN401
    """Return the frame of a celestial WCS.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        WCS with two celestial axes.

    Returns
    -------
    astropy frame or None
        None for ICRS and for FK5 of equinox 2000.

    Raises
    ------
    ValueError
        If it is another frame (ecliptic, supergalactic, terrestrial, geocentric apparent, ...).
    """
    longitude = wcs.wcs.lngtyp.strip()
    return _frame(longitude, wcs.wcs.radesys.strip().upper(), float(wcs.wcs.equinox), float(wcs.wcs.mjdobs))


@lru_cache(maxsize=256)
def _frame(longitude: str, radesys: str, equinox: float, mjd: float) -> Any:  # noqa: ANN401
    """Return the frame of coordinates of one type; NaN for an equinox or date that is not given."""
    if longitude == "GLON":
        return Galactic()
    if longitude != "RA":
        raise ValueError(f"the WCS has coordinates {longitude!r}, allowed: {_ALLOWED}")
    if not radesys:
        radesys = "ICRS" if np.isnan(equinox) else "FK4" if equinox < _FIRST_FK5 else "FK5"
    if radesys == "ICRS":
        return None
    if radesys == "FK5":
        return None if np.isnan(equinox) or equinox == 2000.0 else FK5(equinox=Time(equinox, format="jyear"))
    if radesys in {"FK4", "FK4-NO-E"}:
        of = Time(1950.0 if np.isnan(equinox) else equinox, format="byear")
        # FK4 turns against the sky by 0.0085 arcsec a year: positions are those of the day of observation.
        day = of if np.isnan(mjd) or mjd == 0 else Time(mjd, format="mjd")
        return FK4(equinox=of, obstime=day) if radesys == "FK4" else FK4NoETerms(equinox=of, obstime=day)
    raise ValueError(f"the WCS has RADESYS {radesys!r}, allowed: {_ALLOWED}")


def to_icrs(frame: Any, lon_lat: FloatArray) -> FloatArray:  # noqa: ANN401
    """Transform positions of a frame to ICRS.

    Parameters
    ----------
    frame : astropy frame or None
        Frame of the positions from :func:`sky_frame`; None is ICRS.
    lon_lat : float array, shape (2, n)
        Longitude and latitude in degrees.

    Returns
    -------
    float array, shape (2, n)
        Right ascension and declination in degrees; NaN where the position is not finite.
    """
    return lon_lat if frame is None else _transform(lon_lat, frame, ICRS())


def from_icrs(frame: Any, ra_dec: FloatArray) -> FloatArray:  # noqa: ANN401
    """Transform ICRS positions to a frame.

    Parameters
    ----------
    frame : astropy frame or None
        Frame to return, from :func:`sky_frame`; None is ICRS.
    ra_dec : float array, shape (2, n)
        Right ascension and declination in degrees.

    Returns
    -------
    float array, shape (2, n)
        Longitude and latitude in degrees; NaN where the position is not finite.
    """
    return ra_dec if frame is None else _transform(ra_dec, ICRS(), frame)


def _transform(position: FloatArray, source: Any, target: Any) -> FloatArray:  # noqa: ANN401
    out = np.full(position.shape, np.nan)
    finite = np.isfinite(position).all(axis=0)
    if finite.any():
        # SkyCoord gives FK4 its date of observation in the transformation both ways.
        there = SkyCoord(*(position[:, finite] * units.deg), frame=source).transform_to(target)
        out[:, finite] = there.spherical.lon.deg, there.spherical.lat.deg
    return out
