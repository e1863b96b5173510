"""The zero point of an image, by the arithmetic that its survey asks for."""

import logging
import math
from pathlib import Path

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, ZEROPOINT_RANGE
from lumos.errors import LumosDataError
from lumos.images.header import Facts
from lumos.images.lookup import HeaderLookup, where_tried
from lumos.surveys import HeaderEntry, Survey
from lumos.surveys.units import unit_of

__all__ = ["find_zeropoint", "known_zeropoint"]

logger = logging.getLogger(__name__)

#: AB magnitude of 1 Jy in the package's convention, where 1 nJy has 31.4.
_AB_JY = AB_ZEROPOINT_NJY - 22.5
#: Speed of light, Angstrom per second, and AB magnitude of 1 erg/s/cm2/Hz.
_LIGHT_SPEED = 2.99792458e18
_AB_CGS = _AB_JY - 57.5
_ARCSEC = math.pi / (180.0 * 3600.0)
#: Largest relative difference between the header's solid angle of a pixel and the WCS's.
_AREA_TOLERANCE = 0.1


def find_zeropoint(lookup: HeaderLookup, survey: Survey, facts: Facts, pixel_scale: float) -> tuple[float, float]:
    """Return the AB magnitude of 1 image unit and its error.

    Parameters
    ----------
    lookup : HeaderLookup
        Headers of the image.
    survey : Survey
        Its ``zeropoint``, ``zeropoint_per_second`` and header map.
    facts : Facts
        Band and exposure time.
    pixel_scale : float
        Of the WCS, arcsec per pixel.

    Returns
    -------
    tuple of float
        Magnitudes; NaN where unknown.

    Raises
    ------
    LumosDataError
        If the pixels are in another unit than the survey's, a number is out of range, the exposure time or pivot
        wavelength is needed and unknown, or the header's solid angle of a pixel is not the WCS's.
    """
    rule, entries = survey.zeropoint, survey.header
    _check_unit(lookup, survey)
    error = lookup.number("zero-point error", entries.zeropoint_err)
    if error < 0 or math.isinf(error):
        logger.warning("%s: zero-point error %g counts as unknown, allowed: 0 or more, finite", lookup.path, error)
        error = math.nan
    if rule.kind == "mjysr":
        value = 1e6 * _pixel_area(lookup, survey, pixel_scale)
    else:
        value = lookup.number("zero point", entries.zeropoint)
    if math.isnan(value):
        return _of_unit(lookup, survey, pixel_scale), math.nan
    if rule.kind != "magnitude" and (value <= 0 or math.isinf(value)):
        raise LumosDataError(f"{lookup.path}: zero point ({rule.kind}) is {value}, allowed: positive")
    if rule.kind == "fluxmag0":
        error *= 2.5 / math.log(10.0) / value
    zeropoint = known_zeropoint(_magnitude(lookup, survey, value), lookup.path)
    zeropoint += rule.offset.get(facts.band, 0.0) if isinstance(rule.offset, dict) else rule.offset
    if survey.zeropoint_per_second:
        # m = zp - 2.5 log10(f / t)
        if math.isnan(facts.exposure_time):
            text = where_tried("exposure time", entries.exposure_time)
            raise LumosDataError(f"{lookup.path}: the zero point is per second, but {text}")
        zeropoint += 2.5 * math.log10(facts.exposure_time)
    return zeropoint, error


def _check_unit(lookup: HeaderLookup, survey: Survey) -> None:
    """Refuse pixels in another unit than the survey's, as counts for counts per second."""
    text = lookup.text("unit", survey.header.unit)
    there, wanted = unit_of(text)[1], unit_of(survey.flux_unit)[1]
    if "unknown" not in (there, wanted) and there != wanted:
        allowed = f"{survey.flux_unit} (survey {survey.name}); other units need a survey file of their own"
        raise LumosDataError(f"{lookup.path}: its pixels are in {text}, allowed: {allowed} (`lumos init --name`)")


def _of_unit(lookup: HeaderLookup, survey: Survey, pixel_scale: float) -> float:
    """Return the zero point that the unit of the pixels stands for; NaN where it is none of flux."""
    rule = unit_of(lookup.text("unit", survey.header.unit))[1]
    if rule == "mjysr":
        return _AB_JY - 2.5 * math.log10(1e6 * _pixel_area(lookup, survey, pixel_scale))
    return rule if isinstance(rule, float) else math.nan


def known_zeropoint(zeropoint: float, path: Path) -> float:
    """Return a zero point that can be one: 99, -99 and -999 are ways to say that it is unknown.

    Parameters
    ----------
    zeropoint : float
        AB magnitude of 1 image unit, or of 1 image unit per second.
    path : Path
        File, for the warning.

    Returns
    -------
    float
        NaN where it lies outside ``ZEROPOINT_RANGE``.
    """
    low, high = ZEROPOINT_RANGE
    if math.isnan(zeropoint) or low <= zeropoint <= high:
        return zeropoint
    logger.warning("%s: zero point %g counts as unknown, allowed: %g to %g", path, zeropoint, low, high)
    return math.nan


def _magnitude(lookup: HeaderLookup, survey: Survey, value: float) -> float:
    """Return the zero point that the number of the header stands for."""
    kind, entry = survey.zeropoint.kind, survey.header.pivot
    if kind == "magnitude":
        return value
    if kind == "fluxmag0":
        return 2.5 * math.log10(value)
    if kind != "photflam":
        return _AB_JY - 2.5 * math.log10(value)
    pivot = _positive(lookup, "pivot wavelength", entry)
    if math.isnan(pivot):
        raise LumosDataError(f"{lookup.path}: {where_tried('pivot wavelength', entry)}")
    return _AB_CGS - 2.5 * math.log10(value * pivot**2 / _LIGHT_SPEED)


def _pixel_area(lookup: HeaderLookup, survey: Survey, pixel_scale: float) -> float:
    """Return the solid angle of a pixel in sr: the header's, which must be the WCS's, or else that one."""
    of_wcs = (pixel_scale * _ARCSEC) ** 2
    of_header = _positive(lookup, "solid angle of a pixel", survey.header.pixel_area)
    if math.isnan(of_header):
        return of_wcs
    if not np.isclose(of_header, of_wcs, rtol=_AREA_TOLERANCE, atol=0.0):
        allowed = f"{of_wcs:.6g} (the WCS's) within {100 * _AREA_TOLERANCE:g} %"
        raise LumosDataError(f"{lookup.path}: solid angle of a pixel is {of_header:.6g} sr, allowed: {allowed}")
    return of_header


def _positive(lookup: HeaderLookup, name: str, entry: HeaderEntry) -> float:
    value = lookup.number(name, entry)
    if value <= 0 or math.isinf(value):
        raise LumosDataError(f"{lookup.path}: {name} is {value}, allowed: positive")
    return value
