"""Export to a binary table of FITS, rows written as they come."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.units import Unit

from lumos import __version__
from lumos.conventions import AnyArray
from lumos.errors import LumosDataError
from lumos.exports.tables import Export, as_numpy, field_text
from lumos.flags import FLAG_TEXT

__all__ = ["write_fits"]

_BLOCK = 2880
_ELSE = "allowed: another kind of file, as VOTable"


def write_fits(export: Export, path: Path) -> None:
    """Write a table as FITS, with units (TUNITn), UCDs (TUCDn), meanings (TCOMMn) and the bits of flags (FLAGn).

    Parameters
    ----------
    export : Export
        The table.
    path : Path
        File to write.

    Raises
    ------
    LumosDataError
        If a text or the name of a band holds other than ASCII characters, which FITS does not allow.
    """
    for name in export.schema.names:
        if not name.isascii():
            raise LumosDataError(f"{export.source.path}: FITS holds ASCII names only, not {name!r}; {_ELSE}")
    kind = _row_type(export)
    header = _header(export, kind)
    n_rows = 0
    with path.open("wb") as stream:
        stream.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        place = stream.tell()
        stream.write(header.tostring().encode("ascii"))
        for table in export.tables():
            stream.write(_rows(export, table, kind).tobytes())
            n_rows += table.num_rows
        stream.write(b"\0" * (-n_rows * kind.itemsize % _BLOCK))
        # As long as before: only a number in it changes.
        header["NAXIS2"] = n_rows
        stream.seek(place)
        stream.write(header.tostring().encode("ascii"))


def _row_type(export: Export) -> np.dtype[np.void]:
    """Return the layout of a row, big-endian."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for item in export.schema:
        if pa.types.is_fixed_size_list(item.type):
            fields.append((item.name, ">f4", (item.type.list_size,)))
        elif pa.types.is_string(item.type):
            fields.append((item.name, f"S{export.text_width(item.name)}"))
        elif pa.types.is_boolean(item.type):
            fields.append((item.name, "S1"))
        else:
            fields.append((item.name, np.dtype(item.type.to_pandas_dtype()).newbyteorder(">").str))
    return np.dtype(fields)


def _rows(export: Export, table: pa.Table, kind: np.dtype[np.void]) -> AnyArray:
    rows = np.zeros(table.num_rows, dtype=kind)
    for item in table.schema:
        values = as_numpy(table, item.name)
        if pa.types.is_boolean(item.type):
            values = np.where(values, b"T", b"F")
        elif values.dtype.kind == "U":
            try:
                values = values.astype("S")
            except UnicodeEncodeError as error:
                text = f"FITS holds ASCII texts only, {item.name} has {str(error.object)!r}"
                raise LumosDataError(f"{export.source.path}: {text}; {_ELSE}") from error
        rows[item.name] = values
    return rows


def _header(export: Export, kind: np.dtype[np.void]) -> fits.Header:
    columns = []
    for item in export.schema:
        if pa.types.is_fixed_size_list(item.type):
            form = f"{item.type.list_size}E"
        elif pa.types.is_boolean(item.type):
            form = "L"
        elif pa.types.is_string(item.type):
            form = f"{kind[item.name].itemsize}A"
        else:
            form = {"int64": "K", "int32": "J", "float": "E", "double": "D"}[str(item.type)]
        columns.append(fits.Column(item.name, form, unit=_unit(field_text(item, "unit"))))
    header = fits.BinTableHDU.from_columns(columns, nrows=0).header
    header["EXTNAME"] = "COADD" if export.source.is_coadd else "RUN"
    header["CREATOR"] = f"lumos {__version__}"
    header["RADESYS"] = "ICRS"
    for number, item in enumerate(export.schema, start=1):
        for key, name in (("TUCD", "ucd"), ("TCOMM", "text")):
            if field_text(item, name):
                header[f"{key}{number}"] = field_text(item, name)
    for flag in FLAG_TEXT:
        header[f"FLAG{int(flag).bit_length() - 1}"] = (str(flag.name), f"bit {int(flag)} of the flags")
    return header


def _unit(text: str) -> str | None:
    """Return a unit as FITS writes it; None where it knows none."""
    try:
        return str(Unit(text).to_string("fits")) if text else None
    except ValueError:
        return None
