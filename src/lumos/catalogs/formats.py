"""Columns of a table file in any of the usual formats."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lumos.conventions import AnyArray
from lumos.errors import LumosDataError

__all__ = ["read_columns"]


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
        Array of shape (n,) by name; missing numbers are NaN.

    Raises
    ------
    LumosDataError
        If the file is missing or cannot be read.
    """
    if not path.is_file():
        raise LumosDataError(f"{path}: no such {what}")
    suffix = path.suffixes[-2] if path.suffix in {".gz", ".bz2"} and len(path.suffixes) > 1 else path.suffix
    try:
        if suffix in {".parquet", ".pq"}:
            return _arrow_columns(pq.read_table(path, page_checksum_verification=True))
        if suffix == ".csv":
            return _arrow_columns(pyarrow.csv.read_csv(path))
        return _astropy_columns(path, suffix)
    except LumosDataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LumosDataError(f"{path}: cannot be read as a table ({reason})") from error


def _arrow_columns(table: pa.Table) -> dict[str, AnyArray]:
    """Return the columns of an Arrow table; a null number becomes NaN."""
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _astropy_columns(path: Path, suffix: str) -> dict[str, AnyArray]:
    """Return the one-dimensional columns of a FITS, ECSV or VOTable file; a masked number becomes NaN."""
    formats = {".fits": "fits", ".fit": "fits", ".ecsv": "ascii.ecsv", ".xml": "votable", ".vot": "votable"}
    if suffix not in formats:
        raise LumosDataError(f"{path}: unknown table format {suffix!r}, allowed: .parquet .csv {' '.join(formats)}")
    from astropy.table import Table  # noqa: PLC0415 - a second to import, needed by these formats alone

    table = Table.read(path, format=formats[suffix])
    columns: dict[str, AnyArray] = {}
    for name in table.colnames:
        values = np.ma.asarray(table[name])
        if values.ndim == 1:
            columns[name] = np.asarray(values.filled(np.nan) if values.dtype.kind == "f" else values)
    return columns
