"""Look facts up in the headers of one image through the survey's header map."""

import logging
import math
import re
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from astropy.io.fits import Header
from astropy.io.fits.card import Undefined

from lumos.errors import LumosDataError
from lumos.images.fitsfile import card_value, file_stem
from lumos.surveys import Band, HeaderCondition, HeaderEntry, Survey

__all__ = ["Facts", "HeaderLookup", "identifier", "read_facts", "where_tried"]

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


@dataclass(frozen=True)
class HeaderLookup:
    """The headers that describe one image.

    Parameters
    ----------
    path : Path
        File, for messages and for the file stem.
    extension : Header
        Header of the image.
    primary : Header
        Primary header of the file.
    """

    path: Path
    extension: Header
    primary: Header

    def find(self, key: str) -> Any:  # noqa: ANN401
        """Return the value of a keyword, the image's own header first.

        Parameters
        ----------
        key : str
            FITS keyword, HIERARCH ones without that word.

        Returns
        -------
        object or None
            None where it is absent or empty.

        Raises
        ------
        LumosDataError
            If the card cannot be read: its value is no string, number or truth value (``EXPTIME = 1.2.3``).
        """
        for header in (self.extension, self.primary):
            if key in header:
                value = card_value(header, key, self.path)
                if value is not None and not isinstance(value, Undefined) and str(value).strip():
                    return value
        return None

    def text(self, name: str, entry: HeaderEntry) -> str | None:
        """Return one fact as text.

        Parameters
        ----------
        name : str
            What it is, for messages.
        entry : HeaderEntry
            Where it stands.

        Returns
        -------
        str or None
            None where nothing is found and nothing is required.

        Raises
        ------
        LumosDataError
            If it is required and not found (the keys tried are named), or has not the survey's form.
        """
        found_values = [(key, value) for key in entry.keys if (value := self.find(key)) is not None]
        values = [(key, value) for key, value in found_values if not _is_missing(value, entry)]
        if not values:
            return self._without_keyword(name, entry)
        if entry.combine == "mean":
            numbers = [self._float(key, value) for key, value in values]
            return repr(sum(numbers) / len(numbers))
        key, value = values[0]
        found = str(value).strip()
        if entry.pattern is not None:
            match = re.search(entry.pattern, found)
            if match is None:
                raise LumosDataError(f"{self.path}: {name}: {key}={found!r} does not match {entry.pattern!r}")
            found = match.group(1) if match.groups() else match.group(0)
        return entry.aliases.get(found, found)

    def number(self, name: str, entry: HeaderEntry) -> float:
        """Return one fact as a number.

        Parameters
        ----------
        name : str
            What it is, for messages.
        entry : HeaderEntry
            Where it stands.

        Returns
        -------
        float
            NaN where nothing is found and nothing is required.

        Raises
        ------
        LumosDataError
            If it is required and not found, or no number.
        """
        found = self.text(name, entry)
        return math.nan if found is None else self._float(name, found)

    def holds(self, condition: HeaderCondition | None) -> bool:
        """Return whether a header condition holds.

        Parameters
        ----------
        condition : HeaderCondition or None
            None always holds.

        Returns
        -------
        bool
            False where the keyword is absent.
        """
        if condition is None:
            return True
        value = self.find(condition.key)
        return value is not None and re.match(condition.pattern, str(value)) is not None

    def _without_keyword(self, name: str, entry: HeaderEntry) -> str | None:
        if entry.file_stem:
            # Coadds of the LSST pipelines have the patch in their names: calexp-HSC-I-9813-4,4.fits.
            return file_stem(self.path).replace(",", "-")
        match = None if entry.file_pattern is None else re.search(entry.file_pattern, file_stem(self.path))
        if match is not None:
            found = match.group(1) if match.groups() else match.group(0)
            return entry.aliases.get(found, found)
        if entry.default is not None:
            return str(entry.default)
        if entry.required:
            raise LumosDataError(f"{self.path}: {where_tried(name, entry)}")
        return None

    def _float(self, name: str, value: object) -> float:
        try:
            return float(str(value))
        except ValueError as error:
            raise LumosDataError(f"{self.path}: {name}: {value!r} is not a number") from error


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


def where_tried(name: str, entry: HeaderEntry) -> str:
    """Say that a fact was not found and where it was looked for.

    Parameters
    ----------
    name : str
        What it is.
    entry : HeaderEntry
        Where it should stand.

    Returns
    -------
    str
        Without the file.
    """
    text = f"no {name} in the header, keys tried: {', '.join(entry.keys)}"
    return text if entry.file_pattern is None else f"{text}; nor in the file name by {entry.file_pattern!r}"


def _is_missing(value: object, entry: HeaderEntry) -> bool:
    """Return whether a value is one of those that mean "unknown", compared as text and as a number."""
    text = str(value).strip()
    for item in entry.missing:
        if str(item) == text:
            return True
        try:
            if float(item) == float(text):
                return True
        except ValueError:
            continue
    return False


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
