"""Look facts up in the headers of one image through the survey's header map."""

import logging
import math
import re
from dataclasses import dataclass, replace
from datetime import date

from lumos.errors import LumosDataError
from lumos.images.lookup import HeaderLookup, where_tried
from lumos.surveys import Band, HeaderEntry, Survey

__all__ = ["Facts", "identifier", "read_facts"]

logger = logging.getLogger(__name__)

_LOGICAL = {"True": True, "T": True, "False": False, "F": False}
_IDENTIFIER = re.compile(r"[A-Za-z0-9._+-]{1,80}")
_LONGEST_BAND = 40


@dataclass(frozen=True)
class Facts:
    """What the headers of one image say, checked.

    Parameters
    ----------
    exposure_id, detector : str
        Identifiers, safe as file names.
    band, state : str
        Band of the survey and camera state (``""`` where the survey has none).
    exposure_time : float
        Seconds; NaN where unknown.
    gain, read_noise : float
        Electrons per image unit (NaN where unknown) and electrons (0 where unknown).
    psf_fwhm : float
        In the survey's ``psf.unit``; NaN where unknown.
    psf_beta : float
        Moffat exponent; NaN where the header states none.
    saturation, sky_level : float
        Image units; NaN where unknown.
    psf_pixel : bool or None
        Whether FWHM and exponent hold the response of the pixel; None where the header does not say.
    """

    exposure_id: str
    detector: str
    band: str
    state: str
    exposure_time: float
    gain: float
    read_noise: float
    psf_fwhm: float
    psf_beta: float
    saturation: float
    sky_level: float
    psf_pixel: bool | None = None


def read_facts(lookup: HeaderLookup, survey: Survey) -> Facts:
    """Read everything that the headers of one image say.

    Parameters
    ----------
    lookup : HeaderLookup
        Headers of the image.
    survey : Survey
        The header map and the allowed bands and states.

    Returns
    -------
    Facts
        What the header says, in the units of Lumos, checked.

    Raises
    ------
    LumosDataError
        If a required key is missing, an identifier is unsafe as a file name, the band or state is unknown,
        or a number is out of range.
    """
    entries = survey.header
    band = _band(lookup, survey)
    exposure_time = lookup.number("exposure time", entries.exposure_time)
    if math.isnan(exposure_time):
        exposure_time = (survey.band(band) or Band()).exposure_time or math.nan
    facts = Facts(
        exposure_id=identifier(lookup, "exposure_id", entries.exposure_id),
        detector=identifier(lookup, "detector", entries.detector),
        band=band,
        state=_state(lookup, survey),
        exposure_time=exposure_time,
        gain=lookup.number("gain", entries.gain),
        read_noise=lookup.number("read noise", entries.read_noise),
        psf_fwhm=lookup.number("PSF FWHM", entries.psf_fwhm),
        psf_beta=lookup.number("Moffat beta", entries.psf_beta),
        saturation=lookup.number("saturation", entries.saturation),
        sky_level=lookup.number("sky level", entries.sky_level),
        psf_pixel=_psf_pixel(lookup, survey),
    )
    # A value that is not known is NaN, which no comparison below refuses.
    for name, value, is_wrong, allowed in (
        ("exposure time", exposure_time, exposure_time <= 0 or math.isinf(exposure_time), "positive"),
        ("gain", facts.gain, facts.gain <= 0 or math.isinf(facts.gain), "positive"),
        ("read noise", facts.read_noise, facts.read_noise < 0 or math.isinf(facts.read_noise), "0 or more, finite"),
        ("sky level", facts.sky_level, math.isinf(facts.sky_level), "finite"),
    ):
        if is_wrong:
            raise LumosDataError(f"{lookup.path}: {name} is {value}, allowed: {allowed}")
    return replace(facts, read_noise=0.0 if math.isnan(facts.read_noise) else facts.read_noise)


def identifier(lookup: HeaderLookup, name: str, entry: HeaderEntry) -> str:
    """Return an identifier that is safe as a file name.

    Parameters
    ----------
    lookup : HeaderLookup
        Headers of the image.
    name : str
        What it is, for messages.
    entry : HeaderEntry
        Where it stands.

    Returns
    -------
    str
        Letters, digits and ``._+-`` only, at most 80, without ``..``.

    Raises
    ------
    LumosDataError
        If it is missing or unsafe: output files are named after it.
    """
    value = lookup.text(name, entry)
    if value is None:
        raise LumosDataError(f"{lookup.path}: no {name} in the header, keys tried: {', '.join(entry.keys)}")
    if _IDENTIFIER.fullmatch(value) is None or ".." in value or value.startswith("."):
        allowed = "1 to 80 letters, digits or ._+- , no leading dot, no '..'"
        raise LumosDataError(f"{lookup.path}: {name} {value!r} is not safe as a file name, allowed: {allowed}")
    return value


def _psf_pixel(lookup: HeaderLookup, survey: Survey) -> bool | None:
    """Return whether the header's PSF holds the response of the pixel; None where it does not say."""
    found = lookup.text("PSF on pixels", survey.header.psf_pixel)
    if found is None:
        return None
    if found not in _LOGICAL:
        keys = ", ".join(survey.header.psf_pixel.keys)
        raise LumosDataError(f"{lookup.path}: {keys}: {found!r} is not logical, allowed: T or F")
    return _LOGICAL[found]


def _band(lookup: HeaderLookup, survey: Survey) -> str:
    """Return the band, one of the survey's or, where it takes any, made safe as an identifier."""
    entry = survey.header.band
    band = lookup.text("band", entry)
    if band is None:
        raise LumosDataError(f"{lookup.path}: {where_tried('band', entry)}")
    if band in survey.bands:
        return band
    if not survey.other_bands:
        allowed = ", ".join(survey.bands)
        raise LumosDataError(f"{lookup.path}: unknown band {band!r} for survey {survey.name}, allowed: {allowed}")
    safe = re.sub(r"[^A-Za-z0-9_+-]+", "_", band).strip("_")
    if not 0 < len(safe) <= _LONGEST_BAND:
        allowed = f"a name with 1 to {_LONGEST_BAND} letters, digits or _+-"
        raise LumosDataError(f"{lookup.path}: band {band!r}, allowed: {allowed} (shorten it with header.band.aliases)")
    return safe


def _state(lookup: HeaderLookup, survey: Survey) -> str:
    """Return the camera state: the header's own, else by date; empty where the survey has none."""
    rule = survey.states
    if not rule.names:
        return ""
    state = lookup.text("state", survey.header.state)
    if state is None:
        state = _state_by_date(lookup, survey)
    if state not in rule.names:
        raise LumosDataError(f"{lookup.path}: unknown camera state {state!r}, allowed: {', '.join(rule.names)}")
    return state


def _state_by_date(lookup: HeaderLookup, survey: Survey) -> str:
    text = lookup.text("date", survey.header.date)
    keys = ", ".join((*survey.header.state.keys, *survey.header.date.keys))
    if text is None or not survey.states.starts:
        raise LumosDataError(f"{lookup.path}: no camera state in the header, keys tried: {keys}")
    try:
        day = date.fromisoformat(text[:10])
    except ValueError as error:
        raise LumosDataError(f"{lookup.path}: date {text!r} does not begin with YYYY-MM-DD") from error
    begun = {start: state for state, start in survey.states.starts.items() if start <= day}
    first = next(name for name in survey.states.names if name not in survey.states.starts)
    return begun[max(begun)] if begun else first
