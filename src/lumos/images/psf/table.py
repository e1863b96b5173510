"""Read tables of Moffat PSFs, one for each CCD of each exposure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy.table import Table

from lumos.errors import LumosDataError, foreign_reader

__all__ = ["TableRow", "psf_rows", "read_psf_table"]


@dataclass(frozen=True)
class TableRow:
    """PSF of one CCD in a table.

    Parameters
    ----------
    fwhm, beta : float
        Arcsec, and Moffat exponent; NaN where missing.
    includes_pixel : bool or None
        Whether they are those of stars on pixels; None where the table does not say.
    file : str
        PSFEx file of the same folder that is used instead; empty where there is none.
    """

    fwhm: float
    beta: float
    includes_pixel: bool | None = None
    file: str = ""


def read_psf_table(path: Path) -> dict[tuple[str, str], TableRow]:
    """Read a table of Moffat PSFs (Parquet or ECSV).

    Parameters
    ----------
    path : Path
        Table with the columns ``exposure_id``, ``detector``, ``fwhm_arcsec``, ``beta`` and, if it is to say so itself,
        ``includes_pixel``; ``file`` where the PSF is an image instead.

    Returns
    -------
    dict
        Row by exposure and detector.

    Raises
    ------
    LumosDataError
        If the table cannot be read, lacks a column, has two rows for one CCD, or a value that is none.
    """
    with foreign_reader(f"{path}: cannot read the PSF table"):
        if path.suffix == ".parquet":
            table = pq.read_table(path, page_checksum_verification=True)  # type: ignore[no-untyped-call,unused-ignore]
            columns: dict[str, Any] = table.to_pydict()
        else:
            table = Table.read(path, format="ascii.ecsv")
            columns = {name: table[name].tolist() for name in table.colnames}
    return psf_rows(columns, path)


def psf_rows(columns: Mapping[str, Sequence[Any]], path: Path) -> dict[tuple[str, str], TableRow]:
    """Return the rows of a table of Moffat PSFs.

    Parameters
    ----------
    columns : mapping
        Values of each column, as of :func:`read_psf_table`.
    path : Path
        Its file, for messages.

    Returns
    -------
    dict
        Row by exposure and detector.

    Raises
    ------
    LumosDataError
        If the table lacks a column, has two rows for one CCD, or a value that is none.
    """
    names = ("exposure_id", "detector", "fwhm_arcsec", "beta")
    missing = [name for name in names if name not in columns]
    if missing:
        raise LumosDataError(f"{path}: PSF table lacks {missing}, it has {sorted(columns)}")
    on_pixels = columns.get("includes_pixel", [None] * len(columns["beta"]))
    files = columns.get("file", [None] * len(columns["beta"]))
    rows: dict[tuple[str, str], TableRow] = {}
    values = zip(*(columns[name] for name in names), on_pixels, files, strict=True)
    for exposure_id, detector, fwhm, beta, pixel, file in values:
        key = str(exposure_id), str(detector)
        if key in rows:
            raise LumosDataError(f"{path}: two rows for exposure {key[0]}, detector {key[1]}")
        if pixel is not None and not isinstance(pixel, bool):
            raise LumosDataError(f"{path}: includes_pixel is {pixel!r}, allowed: true or false")
        try:
            rows[key] = TableRow(_number(fwhm), _number(beta), pixel, "" if file is None else str(file))
        except ValueError as error:
            raise LumosDataError(f"{path}: exposure {key[0]}, detector {key[1]}: {error}") from error
    return rows


def _number(value: object) -> float:
    """Return a number; NaN for a missing one."""
    return np.nan if value is None else float(str(value))
