"""The keywords and names by which FITS files of many cameras tell the same facts."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from lumos.conventions import ZEROPOINT_RANGE

__all__ = [
    "FACTS",
    "FILE_BANDS",
    "is_band_name",
    "keys_with_values",
    "number_of",
    "yaml_list",
]

#: Keywords of each fact, the usual ones first.
FACTS: dict[str, tuple[str, ...]] = {
    "band": (
        "ARCHIVE BAND",
        "BAND",
        "FILTER",
        "FILTBAND",
        "FILTNAM",
        "FILTER1",
        "FILTER2",
        "FILTERS",
        "FILT",
        "ESO INS FILT1 NAME",
    ),
    "exposure_time": ("EXPTIME", "EXPOSURE", "XPOSURE", "EFFEXPT", "TEXPTIME", "ITIME", "TEXP", "EXP_TIME"),
    "gain": ("GAIN", "EGAIN", "CCDGAIN", "AVGGAIN", "ARAWGAIN", "GAINEFF", "ATODGAIN"),
    "read_noise": ("RDNOISE", "READNOIS", "READNOISE", "ENOISE", "RON", "AVGRDN"),
    "zeropoint": (
        "MAGZPT",
        "MAGZERO",
        "MAGZP",
        "ZEROPT",
        "ZP",
        "ZPT",
        "PHOTZP",
        "ZEROPNT",
        "MAG_ZP",
        "ABMAGZP",
        "MAGZPT1",
    ),
    "zeropoint_err": ("MAGZERR", "MAGZRR", "ZPERR", "MAGZPERR", "MAGZPRMS", "MAGZSIG", "MAGZUNC"),
    "saturation": ("SATURATE", "SATURAT", "SATLEVEL", "SATUR", "SATVALUE", "MAXLIN"),
    "psf_fwhm": ("PSF_FWHM", "SEEING", "FWHM", "PSFFWHM", "IQ", "AVGSEE"),
    "pivot": ("PHOTPLAM",),
    "pixel_area": ("PIXAR_SR",),
}
#: Bands in file names: one letter or a filter of a space telescope, between separators.
FILE_BANDS = (r"(?:^|[._-])([ugrizyYJHK])(?=[._-]|$)", r"(?i)(?:^|[._-])(f\d{3,4}[a-z]{1,2})(?=[._-]|$)")


def number_of(value: object) -> float:
    """Return a header's value as a number.

    Parameters
    ----------
    value : object
        Value of a card.

    Returns
    -------
    float
        NaN where it is none.
    """
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def keys_with_values(headers: Sequence[Mapping[str, object]], fact: str) -> dict[str, list[object]]:
    """Return the keywords of a fact that every image has, each with its values.

    Parameters
    ----------
    headers : sequence of mapping
        Cards of each image, those of the file included.
    fact : str
        One of :data:`FACTS`.

    Returns
    -------
    dict
        In the order of :data:`FACTS`; numbers that can not be one (a gain of 0, a zero point of 99) count as absent.
    """
    found = {}
    for key in FACTS[fact]:
        values = [header.get(key) for header in headers]
        if values and all(_is_told(value, fact) for value in values):
            found[key] = values
    return found


def is_band_name(values: Iterable[object]) -> bool:
    """Return whether all values can be names of bands: words of letters and digits, not ``CLEAR`` or numbers.

    Parameters
    ----------
    values : iterable of object
        Values of a keyword.

    Returns
    -------
    bool
        True where they can.
    """
    return all(
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]{0,15}", str(value).strip()) is not None
        and not re.match(r"(?i)clear|none|open|unknown|n/a|imaging|mirror", str(value))
        for value in values
    )


def _is_told(value: object, fact: str) -> bool:
    if value is None or value == "":
        return False
    if fact == "band":
        return True
    number = number_of(value)
    if fact == "zeropoint":
        return ZEROPOINT_RANGE[0] <= number <= ZEROPOINT_RANGE[1]
    return math.isfinite(number) and number > 0


def yaml_list(keys: Sequence[str]) -> str:
    """Return keywords as a list of YAML.

    Parameters
    ----------
    keys : sequence of str
        Keywords.

    Returns
    -------
    str
        In brackets.
    """
    return f"[{', '.join(json.dumps(key) if ' ' in key else key for key in keys)}]"
