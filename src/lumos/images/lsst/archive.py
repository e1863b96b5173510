"""The archive of an ExposureF file: objects of the LSST pipelines, stored as rows of tables."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import Header

from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosDataError
from lumos.images.fits.file import fits_context

__all__ = ["Archive", "Record", "archive_facts", "pixel_origin", "read_archive"]

logger = logging.getLogger(__name__)

#: Classes whose objects tell something of the exposure, and what the header calls the one that counts.
_ROLES = {"FilterLabel": "FILTER", "PhotoCalib": "PHOTOCALIB"}


@dataclass(frozen=True)
class Record:
    """One row of a table of an archive.

    Parameters
    ----------
    values : dict
        Columns by name, ``.`` in names as ``_``.
    path : Path
        File, for messages.
    """

    values: dict[str, Any]
    path: Path

    def array(self, name: str) -> FloatArray:
        """Return a column of numbers.

        Parameters
        ----------
        name : str
            Of the column; a point may also be two columns, ``NAME_x`` and ``NAME_y``.

        Returns
        -------
        float array, shape (n,)
            One number too is an array.

        Raises
        ------
        LumosDataError
            If there is no such column, or it holds what is not finite.
        """
        names = [name] if name in self.values else [f"{name}_x", f"{name}_y"]
        if any(one not in self.values for one in names):
            raise LumosDataError(f"{self.path}: archive: no column {name!r}, there are {sorted(self.values)}")
        numbers = np.concatenate([np.atleast_1d(np.asarray(self.values[one], dtype=np.float64)) for one in names])
        if not np.isfinite(numbers).all():
            raise LumosDataError(f"{self.path}: archive: column {name!r} holds what is not finite")
        return numbers

    def numbers(self, name: str) -> list[int]:
        """Return a column of whole numbers, as of :meth:`array`.

        Parameters
        ----------
        name : str
            Of the column.

        Returns
        -------
        list of int
            One number too is a list.
        """
        return [int(value) for value in self.array(name)]


@dataclass(frozen=True)
class Archive:
    """The objects of an ExposureF file, as long as the file is open.

    Parameters
    ----------
    names : dict
        Class of each object, by its number.
    places : dict
        Table and first row of each of its parts; the parts of lists have more rows, which nothing here needs.
    roles : dict
        Number of the object that is the file's ``PSF``, ``PHOTOCALIB``, ``FILTER``, ...
    path : Path
        The file, for messages.
    """

    names: dict[int, str]
    places: dict[int, list[tuple[Any, int]]]
    roles: dict[str, int]
    path: Path

    def records(self, number: int) -> list[Record]:
        """Return the rows of an object.

        Parameters
        ----------
        number : int
            Of the object.

        Returns
        -------
        list of Record
            One for each of its tables, at least one.

        Raises
        ------
        LumosDataError
            If it has none, or the table is damaged.
        """
        if number not in self.places:
            raise LumosDataError(f"{self.path}: archive: object {number} has no rows")
        with fits_context(self.path):
            return [_record(table, row, self.path) for table, row in self.places[number]]


def read_archive(hdul: Any, path: Path) -> Archive | None:  # noqa: ANN401
    """Read the archive of an ExposureF file.

    The index has one row for each table of each object; the header tells which object is what (``PSF_ID`` or
    ``ARCHIVE_ID_PSF``).

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        The open file.
    path : Path
        Its name, for messages.

    Returns
    -------
    Archive or None
        None where the file has none.

    Raises
    ------
    LumosDataError
        If the index names tables or rows that are not there.
    """
    with fits_context(path):
        at = next((i for i, hdu in enumerate(hdul) if hdu.header.get("EXTTYPE") == "ARCHIVE_INDEX"), None)
    if at is None:
        return None
    names: dict[int, str] = {}
    found: dict[int, dict[int, tuple[Any, int]]] = {}
    with fits_context(path):
        tables = {hdu.header["AR_CATN"]: hdu for hdu in hdul[at + 1 :] if hdu.header.get("EXTTYPE") == "ARCHIVE_DATA"}
        for row in range(len(hdul[at].data)):
            entry = _record(hdul[at], row, path)
            number, table, order = (entry.numbers(key)[0] for key in ("id", "cat_archive", "cat_persistable"))
            first, length = entry.numbers("row0")[0], entry.numbers("nrows")[0]
            names[number] = str(entry.values["name"]).strip()
            if length > 0 and (table not in tables or first + length > len(tables[table].data)):
                text = f"{path}: archive: object {number} ({names[number]})"
                raise LumosDataError(f"{text}: no row {first + length - 1} in table {table}")
            if length > 0:
                found.setdefault(number, {})[order] = (tables[table], first)
        roles = _roles(hdul)
    places = {number: [of_order[order] for order in sorted(of_order)] for number, of_order in found.items()}
    return Archive(names, places, roles, path)


def _record(hdu: Any, row: int, path: Path) -> Record:  # noqa: ANN401
    return Record({name.replace(".", "_"): hdu.data[name][row] for name in hdu.columns.names}, path)


def _roles(hdul: Any) -> dict[str, int]:  # noqa: ANN401
    roles: dict[str, int] = {}
    for header in (hdul[0].header, *(hdu.header for hdu in hdul[1:2])):
        for key in header:
            value = header[key] if key.endswith("_ID") or key.startswith("ARCHIVE_ID_") else None
            if isinstance(value, int) and not isinstance(value, bool):
                roles.setdefault(key.removeprefix("ARCHIVE_ID_").removesuffix("_ID"), value)
    return roles


def archive_facts(hdul: Any, path: Path) -> dict[str, object]:  # noqa: ANN401
    """Return what an archive tells of an exposure, as keywords that a survey file can name.

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        The open file.
    path : Path
        Its name, for messages.

    Returns
    -------
    dict
        ``ARCHIVE BAND`` and ``ARCHIVE FILTER`` (of the FilterLabel), ``ARCHIVE FLUXMAG0``, ``ARCHIVE FLUXMAG0ERR`` and
        ``ARCHIVE ZEROPOINT`` (of the PhotoCalib, whose mean is nJy per count); what is not there is left out.

    Raises
    ------
    LumosDataError
        If the archive is damaged.
    """
    archive = read_archive(hdul, path)
    facts: dict[str, object] = {}
    if archive is None:
        return facts
    for number, name in archive.names.items():
        role = _ROLES.get(name)
        if role is None or number != archive.roles.get(role, number):
            continue
        record = archive.records(number)[0]
        if name == "FilterLabel":
            told = {"ARCHIVE BAND": record.values.get("band"), "ARCHIVE FILTER": record.values.get("physical")}
            facts |= {key: str(value).strip() for key, value in told.items() if str(value or "").strip()}
        else:
            facts |= _calibration(record, path)
    return facts


def _calibration(record: Record, path: Path) -> dict[str, object]:
    """Return zero point and counts of magnitude 0 of a PhotoCalib."""
    if int(record.values.get("version", 0)) < 1:
        logger.warning("%s: PhotoCalib of version 0 (maggies per count) is not read", path)
        return {}
    mean, error = (float(record.array(key)[0]) for key in ("calibrationMean", "calibrationErr"))
    if mean <= 0:
        logger.warning("%s: PhotoCalib is %g nJy per count, which counts as unknown", path, mean)
        return {}
    if int(record.values.get("field", 0)):
        logger.warning("%s: PhotoCalib varies over the image; its mean, %g nJy per count, is used", path, mean)
    flux = 10 ** (0.4 * AB_ZEROPOINT_NJY) / mean
    return {
        "ARCHIVE FLUXMAG0": flux,
        "ARCHIVE FLUXMAG0ERR": flux * error / mean,
        "ARCHIVE ZEROPOINT": 2.5 * math.log10(flux),
    }


def pixel_origin(header: Header, path: Path) -> tuple[float, float]:
    """Return where the first pixel of an image lies in the image that it is part of.

    Parameters
    ----------
    header : Header
        Of the image: its linear WCS ``A``, or else ``LTV1`` and ``LTV2``.
    path : Path
        Its file, for messages.

    Returns
    -------
    x, y : float
        Pixels; positions of PSFs and cells are those of the whole image. 0 where the header does not tell.

    Raises
    ------
    LumosDataError
        If one of these cards is no number.
    """

    def number(key: str, default: float) -> float:
        value = header.get(key, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise LumosDataError(f"{path}: {key} is {value!r:.100}, allowed: a finite number")
        return float(value)

    origin = []
    for axis in "12":
        if str(header.get(f"CTYPE{axis}A", "")).strip() == "LINEAR":
            origin.append(number(f"CRVAL{axis}A", 0) + 1 - number(f"CRPIX{axis}A", 1))
        else:
            origin.append(-number(f"LTV{axis}", 0))
    return origin[0], origin[1]
