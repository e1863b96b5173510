"""Columns of a table file in any of the usual formats, with their units and what is missing."""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lumos.catalogs.votable import refuse_streams
from lumos.conventions import AnyArray, BoolArray
from lumos.errors import LumosDataError, LumosValueError, foreign_reader
from lumos.scan import open_bytes, scan

__all__ = ["Column", "TableFile", "open_table", "read_columns", "table_at_hand"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Table formats of astropy by suffix.
_FORMATS = {".fits": "fits", ".fit": "fits", ".ecsv": "ascii.ecsv", ".xml": "votable", ".vot": "votable"}


@dataclass(frozen=True)
class Column:
    """A column of a table file.

    Parameters
    ----------
    values : array, shape (n,)
        What the file holds, in native byte order; NaN where a number with a decimal point is missing.
    missing : bool array, shape (n,)
        True where the file has no value: null, masked or the format's own mark; not where it holds NaN.
    """

    values: AnyArray
    missing: BoolArray


@dataclass(frozen=True)
class TableFile:
    """A table file that was opened: what columns it has, and how to read one of them.

    Parameters
    ----------
    path : Path
        File of the table; its suffix tells the format.
    names : tuple of str
        Columns of one value per row, in the order of the file.
    n_rows : int
        Number of rows.
    load : callable
        Reads the column of a name.
    units : mapping, optional
        Unit by column as the file writes it, without those that have none.
    metadata : mapping, optional
        Texts that the file holds beside its columns.
    """

    path: Path
    names: tuple[str, ...]
    n_rows: int
    load: Callable[[str], Column]
    units: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str) -> Column:
        """Read one column.

        Parameters
        ----------
        name : str
            One of ``names``.

        Returns
        -------
        Column
            Values of all rows.

        Raises
        ------
        LumosDataError
            If the column is damaged.
        """
        column = _guarded(self.path, lambda: self.load(name))
        if column.values.shape != (self.n_rows,):
            text = f"column {name!r} of shape {column.values.shape}, allowed: one value for each of {self.n_rows} rows"
            raise LumosDataError(f"{self.path}: damaged: {text}")
        return column


def open_table(path: Path, what: str = "table") -> TableFile:
    """Open a table file; of Parquet and FITS only the columns that are asked for are read later.

    Parameters
    ----------
    path : Path
        Parquet, CSV, FITS, ECSV or VOTable file; the suffix decides.
    what : str, optional
        What the table is, for messages.

    Returns
    -------
    TableFile
        Its columns, not yet read.

    Raises
    ------
    LumosDataError
        If the file is missing, cannot be read, or is a VOTable that keeps its rows in another file.

    Notes
    -----
    CHECKSUM and DATASUM of a FITS table are verified; where they do not match, a warning is logged.
    """
    if not path.is_file():
        raise LumosDataError(f"{path}: no such {what}")
    suffix = path.suffixes[-2] if path.suffix in {".gz", ".bz2"} and len(path.suffixes) > 1 else path.suffix
    if suffix in {".parquet", ".pq"}:
        return _guarded(path, lambda: _open_parquet(path))
    if suffix == ".csv":
        return _guarded(path, lambda: _open_csv(path))
    if suffix not in _FORMATS:
        raise LumosDataError(f"{path}: unknown table format {suffix!r}, allowed: .parquet .csv {' '.join(_FORMATS)}")
    if _FORMATS[suffix] == "fits":
        return _guarded(path, lambda: _open_fits(path))
    return _guarded(path, lambda: _open_astropy(path, _FORMATS[suffix]))


def table_at_hand(table: object, name: str) -> TableFile:
    """Return a table in memory in the form of a table file.

    Parameters
    ----------
    table : astropy Table, astropy QTable or pyarrow.Table
        Units and masked values count as in a file; columns that are no plain arrays (coordinates, lists) are left out.
    name : str
        What it is, for messages; stands for the path of the file.

    Returns
    -------
    TableFile
        Columns of the table, by name.

    Raises
    ------
    LumosValueError
        If it is no such table.
    """
    if isinstance(table, pa.Table):
        names = tuple(item.name for item in table.schema if not pa.types.is_nested(item.type))
        stated = {item.name: (item.metadata or {}).get(b"unit") for item in table.schema}
        units = {key: unit.decode() for key, unit in stated.items() if unit is not None}
        metadata = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
        return TableFile(Path(name), names, table.num_rows, lambda key: _from_arrow(table.column(key)), units, metadata)
    from astropy.table import Table  # noqa: PLC0415 - a second to import, needed by tables of astropy alone

    if not isinstance(table, Table):
        raise LumosValueError(name, type(table).__name__, "a path, an astropy Table or QTable, or a pyarrow Table")
    return _from_astropy(table, Path(name))


def read_columns(path: Path, what: str = "table") -> dict[str, AnyArray]:
    """Read the columns of a table file as arrays.

    Parameters
    ----------
    path : Path
        Parquet, CSV, FITS, ECSV or VOTable file; the suffix decides.
    what : str, optional
        What the table is, for messages.

    Returns
    -------
    dict
        Array of shape (n,) by name; missing numbers are NaN, missing texts are None.

    Raises
    ------
    LumosDataError
        If the file is missing or cannot be read.
    """
    table = open_table(path, what)
    columns: dict[str, AnyArray] = {}
    for name in table.names:
        column = table.read(name)
        values = column.values
        if column.missing.any():
            filler: Any = np.nan if values.dtype.kind in "iubf" else None
            values = np.where(column.missing, filler, values)
        columns[name] = values
    return columns


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """Return what a reader returns; whatever it raises becomes an error that names the file."""
    with foreign_reader(f"{path}: cannot be read as a table"):
        return read()


def _open_parquet(path: Path) -> TableFile:
    stored = pq.ParquetFile(path, page_checksum_verification=True)
    schema = stored.schema_arrow
    metadata = {key.decode(): text.decode("utf-8", "replace") for key, text in (schema.metadata or {}).items()}
    units = {item.name: item.metadata[b"unit"].decode() for item in schema if b"unit" in (item.metadata or {})}
    if "table_meta_yaml" in metadata:
        from astropy.table.meta import get_header_from_yaml  # noqa: PLC0415 - only for Parquet that astropy wrote

        header = get_header_from_yaml(metadata["table_meta_yaml"].splitlines())
        units |= {item["name"]: str(item["unit"]) for item in header["datatype"] if "unit" in item}
    names = tuple(item.name for item in schema if not pa.types.is_nested(item.type))

    def load(name: str) -> Column:
        column = _from_arrow(stored.read(columns=[name]).column(name))
        # How astropy stores masked columns.
        mask = f"{name}.mask"
        if "table_meta_yaml" in metadata and mask in names:
            return Column(column.values, stored.read(columns=[mask]).column(mask).to_numpy().astype(np.bool_))
        return column

    return TableFile(path, names, stored.metadata.num_rows, load, units, metadata)


def _open_csv(path: Path) -> TableFile:
    table = pyarrow.csv.read_csv(path)
    return TableFile(path, tuple(table.column_names), table.num_rows, lambda name: _from_arrow(table.column(name)))


def _from_arrow(column: pa.ChunkedArray) -> Column:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        # What is no UTF-8 in a CSV file, or text without its type in Parquet.
        texts = [None if one is None else one.decode("utf-8", "replace") for one in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, type=pa.string())])
    missing = np.zeros(len(column), dtype=np.bool_)
    if column.null_count:
        missing = column.is_null().to_numpy()
        if pa.types.is_integer(column.type):
            # Through a float the digits of long identifiers would be lost.
            column = column.fill_null(0)
    return Column(column.to_numpy(), missing)


def _open_fits(path: Path) -> TableFile:
    """Open the first table of a FITS file; the columns stay on disk until they are read."""
    from astropy.io import fits  # noqa: PLC0415 - a second to import, needed by these formats alone

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_bytes(path) as (stream, unpacked):
            # The bytes tell the size before anything is allocated; only then does astropy see the file.
            scan(stream, path)
            with fits.open(stream if unpacked else path, memmap=not unpacked, checksum=True) as hdul:
                tables = [hdu for hdu in hdul if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
                if not tables:
                    raise LumosDataError(f"{path}: holds no table")
                hdu = tables[0]
                # The memory map outlives the file object.
                rows = hdu.data
    for text in sorted({" ".join(str(item.message).split()) for item in caught}):
        if "verification failed" in text:
            logger.warning("%s: %s: the file was changed after it was written, or is damaged", path, text.rstrip("."))
        elif "truncated" in text.lower():
            raise LumosDataError(f"{path}: damaged file: {text}")
    if len(tables) > 1:
        logger.warning("%s: holds %d tables, the first (%r) is read", path, len(tables), hdu.name)
    columns = {item.name: item for item in hdu.columns if item.dim is None and np.dtype(item.dtype).shape == ()}
    units = {name: item.unit for name, item in columns.items() if item.unit}

    def load(name: str) -> Column:
        values = np.asarray(rows[name])
        null = columns[name].null
        if values.dtype.kind in "iu" and null is not None:
            missing = values == int(null) + int(columns[name].bzero or 0)
        elif values.dtype.kind == "O":
            raise LumosDataError(f"{path}: column {name!r} holds arrays, allowed: one value per row")
        else:
            missing = np.zeros(len(rows), dtype=np.bool_)
        return Column(_native(values), missing)

    frame = " ".join(str(hdu.header[key]) for key in ("RADESYS", "RADECSYS", "EQUINOX") if key in hdu.header)
    return TableFile(path, tuple(columns), len(rows), load, units, {"frame": frame} if frame else {})


def _open_astropy(path: Path, kind: str) -> TableFile:
    """Read an ECSV or VOTable file; columns that are no plain arrays (times, coordinates) are left out."""
    from astropy.table import Table  # noqa: PLC0415

    frame = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "votable":
            frame = refuse_streams(path)
        table = Table.read(path, format=kind)
    return _from_astropy(table, path, frame)


def _from_astropy(table: Any, path: Path, frame: str = "") -> TableFile:  # noqa: ANN401
    """Return a table of astropy in the form of a table file; the frame of its positions is in ``meta`` or given."""
    from astropy.table import Column as AstropyColumn  # noqa: PLC0415
    from astropy.table import Table  # noqa: PLC0415

    # Columns of quantities become plain columns with a unit.
    table = Table(table, copy=False)
    columns = {name: table[name] for name in table.colnames}
    columns = {name: item for name, item in columns.items() if isinstance(item, AstropyColumn) and item.ndim == 1}
    columns = {name: item for name, item in columns.items() if item.dtype.names is None and item.dtype.kind != "V"}
    units = {name: str(item.unit) for name, item in columns.items() if item.unit is not None}
    meta = {str(key).lower(): str(value) for key, value in table.meta.items()}
    frame = frame or " ".join(meta[key] for key in ("radesys", "radecsys", "equinox") if key in meta)

    def load(name: str) -> Column:
        values: Any = np.ma.asarray(columns[name])
        missing = np.ma.getmaskarray(values)
        plain = values.filled(np.nan) if values.dtype.kind == "f" else values.data
        return Column(_native(np.asarray(plain)), missing)

    told = {key: text for key, text in table.meta.items() if key.startswith("lumos.") and isinstance(text, str)}
    return TableFile(path, tuple(columns), len(table), load, units, told | ({"frame": frame} if frame else {}))


def _native(values: AnyArray) -> AnyArray:
    """Return an array of its own in native byte order; bytes become text."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    return np.array(values, dtype=values.dtype.newbyteorder("="))
