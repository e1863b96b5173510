"""Look a fact up in the headers of an image and its file."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astropy.io.fits import Header
from astropy.io.fits.card import Undefined

from lumos.errors import LumosDataError
from lumos.images.fits.file import card_value, file_stem
from lumos.surveys import HeaderCondition, HeaderEntry

__all__ = ["HeaderLookup", "where_tried"]


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
    tables : mapping
        What tables of the file tell, under keywords of their own.
    """

    path: Path
    extension: Header
    primary: Header
    tables: Mapping[str, object] = field(default_factory=dict)

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
        return self.tables.get(key)

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
        value = next((value for key in condition.keys if (value := self.find(key)) is not None), None)
        return value is not None and re.match(condition.pattern, str(value)) is not None

    def _without_keyword(self, name: str, entry: HeaderEntry) -> str | None:
        if entry.file_stem:
            # Coadds of the LSST pipelines have the patch in their names: calexp-HSC-I-9813-4,4.fits.
            # Other characters that an output file must not have in its name are replaced too.
            return re.sub(r"[^A-Za-z0-9._+-]+", "_", file_stem(self.path).replace(",", "-"))
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
