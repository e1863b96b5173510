"""Identifiers of a parent catalogue: numbers as they are, texts by a digest."""

import hashlib

import numpy as np

from lumos.catalogs.columns import find_column
from lumos.catalogs.formats import TableFile
from lumos.conventions import AnyArray, IntArray
from lumos.errors import LumosDataError

__all__ = ["digest_names", "read_identifiers"]


def read_identifiers(table: TableFile, source: str | float | None) -> tuple[IntArray, AnyArray | None]:
    """Read the identifiers of a table, checked to be unique.

    Parameters
    ----------
    table : TableFile
        A parent catalogue.
    source : str or float or None
        Column that holds them; None numbers the rows from 1.

    Returns
    -------
    object_id : int array, shape (n,)
        Numbers, or digests of texts.
    object_name : array of str, shape (n,), or None
        The texts, where the file has such.

    Raises
    ------
    LumosDataError
        If identifiers are missing, no whole numbers, or given twice.
    """
    own_name = find_column(table.names, "object_name", table.path)
    names = None if own_name is None else _texts(table.read(own_name).values)
    if source is None:
        return np.arange(1, table.n_rows + 1), names
    column = table.read(str(source))
    values, path = column.values, table.path
    if values.dtype.kind in "OU":
        values = _texts(values)
        missing = column.missing | (values == "")
    else:
        missing = column.missing
    if missing.any():
        row = int(np.argmax(missing)) + 1
        raise LumosDataError(f"{path}: row {row} has no {source!r} (object_id), {int(missing.sum())} rows in all")
    if values.dtype.kind == "U":
        return digest_names(values, f"{path}: column {source!r}"), values
    if values.dtype.kind not in "iu":
        raise LumosDataError(f"{path}: column {source!r} holds {values.dtype}, allowed: integers or text")
    too_large = values > np.iinfo(np.int64).max if values.dtype.kind == "u" else np.zeros(0, dtype=np.bool_)
    if too_large.any():
        row = int(np.argmax(too_large))
        raise LumosDataError(
            f"{path}: row {row + 1}: {source!r} is {values[row]}, allowed: up to 2^63 - 1; store longer ones as text"
        )
    identifiers = np.ascontiguousarray(values, dtype=np.int64)
    _refuse_repeats(identifiers, f"{path}: column {source!r}")
    return identifiers, names


def _texts(values: AnyArray) -> AnyArray:
    """Return texts as a string array without blanks around them; what is missing becomes empty."""
    if values.dtype.kind == "O":
        values = np.array(["" if value is None else str(value) for value in values.tolist()], dtype=np.str_)
    return np.char.strip(values.astype(np.str_))


def digest_names(names: AnyArray, where: str) -> IntArray:
    """Return a 63-bit number for each text, the same on every machine: the first bits of its SHA-256.

    Parameters
    ----------
    names : array of str, shape (n,)
        Identifiers of the objects as the catalogue's text.
    where : str
        File and column, for messages.

    Returns
    -------
    int array, shape (n,)
        From 0 to 2^63 - 1.

    Raises
    ------
    LumosDataError
        If a text repeats, or two texts have one number.
    """
    _refuse_repeats(names, where)
    digests = np.array(
        [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1 for name in names.tolist()],
        dtype=np.int64,
    )
    if len(np.unique(digests)) < len(digests):
        raise LumosDataError(f"{where}: two texts have the same 63-bit digest; give integers")
    return digests


def _refuse_repeats(values: AnyArray, where: str) -> None:
    ordered = np.sort(values)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise LumosDataError(f"{where}: {len(np.unique(repeated))} values repeat, the first is {repeated[0]}")
