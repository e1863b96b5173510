"""Where a survey's headers state what: keywords, file names, camera states."""

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from lumos.config import StageSettings

__all__ = ["HeaderCondition", "HeaderEntry", "HeaderMap", "StateRule", "Substitution"]


class HeaderEntry(StageSettings):
    """Where one fact about an exposure stands: header keywords, the file name or a constant.

    In YAML a plain list of keywords stands for ``{keys: [...]}``.
    """

    keys: tuple[str, ...] = ()
    """Keywords tried in order, each in the image extension and then in the primary header."""
    default: str | float | None = None
    """Value where no keyword is found."""
    missing: tuple[str | float, ...] = ()
    """Values that mean "unknown" (``0``, ``-99``, ``CLEAR``): the keyword counts as absent."""
    file_stem: bool = False
    """Take the file name without its suffixes, ``,`` as ``-``, where no keyword is found."""
    file_pattern: str | None = None
    """Regular expression searched in the file name without its suffixes where no keyword is found; its first group
    (or the whole match) is the value."""
    pattern: str | None = None
    """Regular expression searched in the value; its first group (or the whole match) is the result."""
    aliases: dict[str, str] = {}
    """Values that mean another value."""
    combine: Literal["first", "mean"] = "first"
    """``first`` keyword found, or the ``mean`` of all that are (one value per amplifier)."""
    required: bool = False
    """Refuse a file in which nothing is found."""

    @field_validator("pattern", "file_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        return _checked_regex(value)


def _as_entry(value: Any) -> Any:  # noqa: ANN401
    """Take a list of keywords for the entry that holds only them."""
    return {"keys": value} if isinstance(value, list | tuple) else value


Entry = Annotated[HeaderEntry, BeforeValidator(_as_entry, json_schema_input_type=HeaderEntry | list[str])]


class HeaderMap(StageSettings):
    """The facts read from headers, by name."""

    band: Entry
    """Name of a band of the survey."""
    exposure_id: Entry = HeaderEntry(file_stem=True)
    """Identifier of the exposure; the file stem unless the survey says otherwise."""
    detector: Entry = HeaderEntry(default="0")
    """Identifier of the CCD, different for each image of a file. Needed: give a ``default`` where no keyword tells."""
    exposure_time: Entry = HeaderEntry()
    """Length of the exposure, seconds."""
    gain: Entry = HeaderEntry()
    """Gain, electrons per image unit."""
    read_noise: Entry = HeaderEntry()
    """Read noise, electrons per pixel."""
    zeropoint: Entry = HeaderEntry()
    """The number that ``zeropoint.kind`` turns into a zero point: a magnitude unless the survey says otherwise."""
    unit: Entry = HeaderEntry()
    """Unit of the pixels (BUNIT); one of flux or surface brightness gives the zero point where no number does."""
    zeropoint_err: Entry = HeaderEntry()
    """Error of the zero point, magnitudes (kind ``fluxmag0``: in the unit of FLUXMAG0)."""
    pivot: Entry = HeaderEntry()
    """Pivot wavelength of the band, Angstrom (zero-point kind ``photflam``)."""
    pixel_area: Entry = HeaderEntry()
    """Solid angle of a pixel, sr (zero-point kind ``mjysr``); the WCS's own where no keyword is found."""
    psf_beta: Entry = HeaderEntry()
    """Moffat exponent of the PSF; ``psf.beta`` where no keyword is found."""
    psf_fwhm: Entry = HeaderEntry()
    """FWHM of the PSF in the unit of ``psf.unit``."""
    psf_pixel: Entry = HeaderEntry()
    """T where FWHM and exponent are those of stars on pixels, F where they are those before the response of the pixel;
    ``psf.includes_pixel`` where no keyword is found."""
    state: Entry = HeaderEntry()
    """Camera state, for surveys whose camera changed."""
    date: Entry = HeaderEntry()
    """Date of observation, beginning with YYYY-MM-DD."""
    saturation: Entry = HeaderEntry()
    """Level, in image units, from which a pixel is masked as saturated."""
    sky_level: Entry = HeaderEntry()
    """Level, in image units, of the sky that was subtracted."""


class StateRule(StageSettings):
    """The camera states of a survey and how an exposure tells its own."""

    names: tuple[str, ...] = ()
    """States, empty where the camera never changed."""
    starts: dict[str, date] = {}
    """First day of each state but the earliest; used where no header keyword tells."""

    @model_validator(mode="after")
    def _known(self) -> "StateRule":
        unknown = sorted(set(self.starts) - set(self.names))
        if unknown:
            raise ValueError(f"starts names the states {unknown}, names has {list(self.names)}")
        if self.starts and len(self.starts) != len(self.names) - 1:
            raise ValueError(f"starts must date every state but the earliest of {list(self.names)}")
        return self


class Substitution(StageSettings):
    """A file name made from another: ``re.sub(find, replace, name)``."""

    find: str
    """Regular expression; a file name without a match has no such companion."""
    replace: str
    """Replacement, with groups as ``\\1``."""

    @field_validator("find")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return str(_checked_regex(value))


class HeaderCondition(StageSettings):
    """A test on one header keyword."""

    key: str | tuple[str, ...]
    """Keyword, in the image extension or the primary header; of several, the first that is there."""
    pattern: str
    """Regular expression that the value must match from its beginning."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keywords to try."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return str(_checked_regex(value))


def _checked_regex(value: str | None) -> str | None:
    """Refuse a regular expression that does not compile."""
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
    return value
