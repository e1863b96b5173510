"""Columns of fluxes or magnitudes, as tables have them, in one unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumos.catalogs.columns import flux_zeropoint, is_magnitude
from lumos.catalogs.formats import TableFile
from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosDataError

__all__ = ["FluxColumns", "read_fluxes", "read_numbers"]

#: No AB magnitude is fainter: larger ones, as 99, say that nothing was seen.
_FAINTEST = 40.0


@dataclass(frozen=True)
class FluxColumns:
    """The columns of one band.

    Parameters
    ----------
    value, error : str
        Names of the columns of values and of errors.
    magnitudes : bool, optional
        Whether they are AB magnitudes.
    """

    value: str
    error: str
    magnitudes: bool = False


def read_numbers(table: TableFile, name: str) -> FloatArray:
    """Read a column of numbers.

    Parameters
    ----------
    table : TableFile
        A table.
    name : str
        Column.

    Returns
    -------
    ndarray, shape (n,)
        As they are; NaN where the table has none.

    Raises
    ------
    LumosDataError
        If there is no such column, or it holds no numbers.
    """
    if name not in table.names:
        raise LumosDataError(f"{table.path}: no column {name!r}; the table has: {', '.join(table.names)}")
    column = table.read(name)
    if column.values.dtype.kind not in "iuf":
        raise LumosDataError(f"{table.path}: column {name!r} holds {column.values.dtype}, allowed: numbers")
    return np.where(column.missing, np.nan, column.values.astype(np.float64))


def read_fluxes(table: TableFile, columns: Sequence[FluxColumns]) -> list[tuple[FloatArray, FloatArray]]:
    """Read fluxes and errors, all in one unit.

    Parameters
    ----------
    table : TableFile
        A table.
    columns : sequence of FluxColumns
        One for each band.

    Returns
    -------
    list of tuple of ndarray, shape (n,)
        Fluxes and errors of each band: nJy where they are magnitudes or the table says their unit, else as they are.

    Raises
    ------
    LumosDataError
        If a column is missing or holds no numbers, or columns have different units that cannot be converted.
    """
    kinds: dict[str, str] = {}
    factors = []
    for one in columns:
        if one.magnitudes:
            _check_magnitudes(table, one)
            kinds[one.value] = "nJy"
            factors.append((1.0, 1.0))
            continue
        kinds[one.value], factor = _kind(table, one.value)
        kinds[one.error], error_factor = _kind(table, one.error)
        if not _unit(table, one.error):
            kinds[one.error], error_factor = kinds[one.value], factor
        factors.append((factor, error_factor))
    _check_kinds(table, kinds)
    return [
        _of_magnitudes(table, one)
        if one.magnitudes
        else (factor[0] * read_numbers(table, one.value), factor[1] * read_numbers(table, one.error))
        for one, factor in zip(columns, factors, strict=True)
    ]


def _unit(table: TableFile, name: str) -> str:
    # Files of earlier versions say what is meant after a comma.
    return table.units.get(name, "").split(",")[0].strip()


def _kind(table: TableFile, name: str) -> tuple[str, float]:
    """Return ``nJy`` and the factor to it where a column is in a unit of flux, else its unit and 1."""
    text = _unit(table, name)
    if text == "nJy" or not text:
        return text, 1.0
    if is_magnitude(text):
        raise LumosDataError(f"{table.path}: column {name!r} is in {text!r}, allowed: fluxes; mag_BAND is a magnitude")
    zeropoint = flux_zeropoint(text)
    return (text, 1.0) if zeropoint is None else ("nJy", 10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)))


def _check_magnitudes(table: TableFile, one: FluxColumns) -> None:
    for name in (one.value, one.error):
        text = _unit(table, name)
        if text and not is_magnitude(text):
            raise LumosDataError(f"{table.path}: column {name!r} is in {text!r}, allowed: AB magnitudes")


def _check_kinds(table: TableFile, kinds: dict[str, str]) -> None:
    if len(set(kinds.values())) > 1:
        (first, kind), *others = kinds.items()
        name, other = next(item for item in others if item[1] != kind)
        text = f"{first!r} gives {kind or 'fluxes without a unit'}, {name!r} {other or 'fluxes without a unit'}"
        raise LumosDataError(f"{table.path}: {text}; allowed: one unit, or the unit of each (magnitudes give nJy)")


def _of_magnitudes(table: TableFile, one: FluxColumns) -> tuple[FloatArray, FloatArray]:
    value, error = read_numbers(table, one.value), read_numbers(table, one.error)
    flux = 10 ** (-0.4 * (np.where(np.abs(value) < _FAINTEST, value, np.nan) - AB_ZEROPOINT_NJY))
    return flux, flux * error * np.log(10) / 2.5
