"""Two columns of a file: a wavelength, and what is known at it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy import units
from astropy.table import Column, Table

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosValueError, foreign_reader
from lumos.scan import open_bytes, scan
from lumos.spectra.wavelengths import NANOMETRES, as_vacuum_nm

__all__ = ["read_columns"]

#: Endings of tables whose columns have names; all other files are text of two columns.
TABLES = (".ecsv", ".csv", ".fits", ".fit", ".fits.gz", ".xml", ".vot", ".votable")
WAVELENGTHS = ("wavelength", "wave", "lambda", "lam", "loglam")
#: How astropy's units are called here.
_UNITS = {"nm": units.nm, "Angstrom": units.AA, "um": units.um}


def read_columns(
    path: Path, unit: str | None, medium: str, names: Sequence[str] = ("k",)
) -> tuple[FloatArray, FloatArray]:
    """Read wavelengths and the values at them.

    Parameters
    ----------
    path : Path
        Text of two columns, ``#`` before comments; or, by its ending, an ECSV, CSV, FITS or VOTable table with a column
        ``wavelength`` (or wave, lambda, lam; or loglam, log₁₀ of Å) and one of ``names``, in capitals or not.
    unit : str or None
        Of the wavelengths: ``nm``, ``Angstrom`` or ``um``. None: the file must say.
    medium : str
        ``vacuum`` or ``air``: what the wavelengths are in.
    names : sequence of str, optional
        Allowed names of the second column.

    Returns
    -------
    wavelength, value : float array, shape (m,)
        In vacuum, nm; neither sorted nor checked.

    Raises
    ------
    LumosDataError
        If the file cannot be read, lacks a column, says no unit and none is given, or says another.
    """
    if not path.is_file():
        raise LumosDataError(f"{path}: missing or no regular file")
    try:
        if path.name.lower().endswith(TABLES):
            wavelength, value, unit = _from_table(path, unit, names)
        else:
            wavelength, value = _from_text(path)
        if unit is None:
            raise LumosDataError(
                f"{path}: does not say the unit of its wavelengths; say unit: {' or '.join(NANOMETRES)}"
            )
        return as_vacuum_nm(wavelength, unit, medium), value
    except LumosValueError as error:
        raise LumosDataError(f"{path}: {error}") from error


def _from_text(path: Path) -> tuple[FloatArray, FloatArray]:
    with foreign_reader(f"{path}: no text of two columns of numbers"), warnings.catch_warnings():
        # An empty file; the number of columns tells.
        warnings.simplefilter("ignore", UserWarning)
        content = np.loadtxt(path, usecols=(0, 1), ndmin=2, encoding="utf-8")
    if not len(content):
        raise LumosDataError(f"{path}: no numbers in it")
    return content[:, 0], content[:, 1]


def _from_table(path: Path, unit: str | None, names: Sequence[str]) -> tuple[FloatArray, FloatArray, str | None]:
    with foreign_reader(f"{path}: no table"), warnings.catch_warnings():
        # Units that astropy does not know, several tables in a FITS file: the columns tell.
        warnings.simplefilter("ignore")
        if ".fit" in path.name.lower():
            with open_bytes(path) as (stream, _):
                scan(stream, path)
        table = Table.read(path)
    wavelength, value = _column(path, table, WAVELENGTHS), _column(path, table, names)
    if wavelength.name.lower() == "loglam":
        if unit not in {None, "Angstrom"}:
            raise LumosDataError(f"{path}: its loglam is that of Angstrom, unit: {unit} was given")
        return 10.0 ** _numbers(path, wavelength), _numbers(path, value), "Angstrom"
    stated = next((name for name, one in _UNITS.items() if wavelength.unit == one), None)
    if wavelength.unit is not None and stated is None:
        raise LumosDataError(f"{path}: unit of wavelengths {str(wavelength.unit)!r}, allowed: {', '.join(NANOMETRES)}")
    if stated is not None and unit not in {None, stated}:
        raise LumosDataError(f"{path}: its wavelengths are in {stated}, unit: {unit} was given")
    return _numbers(path, wavelength), _numbers(path, value), stated or unit


def _column(path: Path, table: Table, names: Sequence[str]) -> Column:
    for name in table.colnames:
        if name.lower() in names:
            return table[name]
    raise LumosDataError(f"{path}: has columns {', '.join(table.colnames)}, allowed: {' or '.join(names)}")


def _numbers(path: Path, column: Column) -> FloatArray:
    try:
        values = np.ma.asarray(column).astype(np.float64)
        return np.asarray(np.ma.filled(values, np.nan)).reshape(-1)
    except (TypeError, ValueError) as error:
        raise LumosDataError(f"{path}: column {column.name!r} holds no numbers") from error
