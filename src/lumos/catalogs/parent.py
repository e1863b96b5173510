"""Read the parent catalogue: positions and shapes of the objects to measure, in any table format."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.formats import read_columns
from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError

__all__ = ["COLUMNS", "ParentCatalog", "read_parent", "write_parent"]

logger = logging.getLogger(__name__)

#: Columns of a parent catalogue with their units; all are needed except ``ref_mag``.
COLUMNS: dict[str, str] = {
    "object_id": "integer, unique",
    "ra": "deg",
    "dec": "deg",
    "half_light_radius": "arcsec, along the major axis",
    "sersic_n": "Sérsic index",
    "axis_ratio": "minor over major axis",
    "position_angle": "deg, east of north",
    "ref_mag": "AB magnitude",
}


@dataclass(frozen=True)
class ParentCatalog:
    """Positions and shapes of the objects to measure, one entry per object.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Unique identifiers.
    ra, dec : float array, shape (n,)
        Position in degrees.
    half_light_radius : float array, shape (n,)
        Arcsec, along the major axis; 0 for a point source, whose other shape parameters do not count.
    sersic_n, axis_ratio, position_angle : float array, shape (n,)
        Sérsic index; minor over major axis; degrees east of north.
    ref_mag : float array, shape (n,)
        Reference AB magnitude; NaN where unknown.
    object_name : array of str, shape (n,), or None
        Identifiers of the file where these are text; ``object_id`` is then a digest of them.
    flags : int array, shape (n,), or None
        What the catalogue itself says of its objects; None where it says nothing.
    made_from : tuple of str
        Identifiers of the exposures in whose pixels the objects were found; empty where unknown.
    """

    object_id: IntArray
    ra: FloatArray
    dec: FloatArray
    half_light_radius: FloatArray
    sersic_n: FloatArray
    axis_ratio: FloatArray
    position_angle: FloatArray
    ref_mag: FloatArray
    object_name: AnyArray | None = None
    flags: IntArray | None = None
    made_from: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.object_id)

    def __getitem__(self, rows: AnyArray) -> "ParentCatalog":
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {
            name: values[rows] for name, values in arrays.items() if isinstance(values, np.ndarray)
        }
        return replace(self, **chosen)

    @property
    def is_point(self) -> BoolArray:
        """Return which objects are point sources, of radius 0 whatever the rest of their shape; shape (n,)."""
        return np.asarray(self.half_light_radius == 0)

    @property
    def shape_ok(self) -> BoolArray:
        """Return which objects have a shape that can be drawn, bool array of shape (n,): points, and galaxies."""
        numbers = np.stack([self.half_light_radius, self.sersic_n, self.axis_ratio, self.position_angle])
        with np.errstate(invalid="ignore"):
            return self.is_point | (
                np.isfinite(numbers).all(axis=0)
                & (self.half_light_radius > 0)
                & (self.sersic_n >= SERSIC_N_RANGE[0])
                & (self.sersic_n <= SERSIC_N_RANGE[1])
                & (self.axis_ratio >= AXIS_RATIO_RANGE[0])
                & (self.axis_ratio <= AXIS_RATIO_RANGE[1])
            )


def read_parent(
    path: Path,
    columns: Mapping[str, str | float] | None = None,
    radius: Literal["major", "circularised"] = "major",
) -> ParentCatalog:
    """Read a parent catalogue.

    Parameters
    ----------
    path : Path
        Parquet, CSV, FITS, ECSV or VOTable file; the suffix decides.
    columns : mapping, optional
        Name of each column in the file, or a number for a constant, where it differs from ``COLUMNS``.
    radius : {"major", "circularised"}, optional
        Whether the file's radius runs along the major axis or is ``sqrt(a b)``.

    Returns
    -------
    ParentCatalog
        One entry per row of the file, in its order.

    Raises
    ------
    LumosDataError
        If the file is missing or unreadable, has no rows, lacks a column, or has identifiers that
        repeat or are not integers.
    LumosConfigError
        If ``columns`` names a column that a parent catalogue does not have.
    """
    mapping: dict[str, str | float] = dict(columns or {})
    unknown = sorted(set(mapping) - set(COLUMNS))
    if unknown:
        raise LumosConfigError(f"column map: unknown column {unknown[0]!r}, allowed: {', '.join(COLUMNS)}")
    if radius not in {"major", "circularised"}:
        raise LumosValueError("radius of the parent catalogue", radius, "'major' or 'circularised'")
    table = read_columns(path, "parent catalogue")
    if len(next(iter(table.values()), [])) == 0:
        raise LumosDataError(f"{path}: the parent catalogue has no rows")
    arrays: dict[str, Any] = {
        name: _column(table, name, mapping.get(name, name), path) for name in COLUMNS if name != "object_id"
    }
    object_id = _object_ids(table, mapping.get("object_id", "object_id"), path)
    if radius == "circularised":
        circularised = arrays["half_light_radius"]
        with np.errstate(invalid="ignore", divide="ignore"):
            # A point source needs no axis ratio.
            major = circularised / np.sqrt(arrays["axis_ratio"])
        arrays["half_light_radius"] = np.where(circularised == 0, 0.0, major)
    catalog = ParentCatalog(object_id=object_id, **arrays)
    n_lost = int(np.sum(~np.isfinite(catalog.ra) | ~np.isfinite(catalog.dec)))
    if n_lost:
        logger.warning("%s: %d objects without a finite position lie on no exposure", path, n_lost)
    return catalog


def write_parent(catalog: ParentCatalog, path: Path) -> None:
    """Write a parent catalogue as Parquet.

    Parameters
    ----------
    catalog : ParentCatalog
        What to write.
    path : Path
        Output file.
    """
    schema = pa.schema(
        [
            pa.field(name, pa.int64() if name == "object_id" else pa.float64(), metadata={"unit": unit})
            for name, unit in COLUMNS.items()
        ]
    )
    table = pa.table({name: getattr(catalog, name) for name in COLUMNS}, schema=schema)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def _column(table: Mapping[str, AnyArray], name: str, source: str | float, path: Path) -> FloatArray:
    """Return one column as float64, from the file or from a constant."""
    n_rows = len(next(iter(table.values())))
    if not isinstance(source, str):
        return np.full(n_rows, float(source))
    if source not in table:
        if name == "ref_mag" and source == name:
            return np.full(n_rows, np.nan)
        raise LumosDataError(f"{path}: no column {source!r} for {name!r}; the file has: {', '.join(table)}")
    values = table[source]
    if values.dtype.kind not in "fiub":
        raise LumosDataError(f"{path}: column {source!r} holds {values.dtype}, allowed: numbers")
    return np.ascontiguousarray(values, dtype=np.float64)


def _object_ids(table: Mapping[str, AnyArray], source: str | float, path: Path) -> IntArray:
    """Return the identifiers as int64, checked to be unique."""
    if not isinstance(source, str):
        raise LumosConfigError(f"column map: object_id must name a column, got the number {source}")
    if source not in table:
        raise LumosDataError(f"{path}: no column {source!r} for 'object_id'; the file has: {', '.join(table)}")
    values = table[source]
    if values.dtype.kind not in "iu":
        raise LumosDataError(f"{path}: column {source!r} holds {values.dtype}, allowed: integers")
    identifiers = np.ascontiguousarray(values, dtype=np.int64)
    unique, counts = np.unique(identifiers, return_counts=True)
    if len(unique) < len(identifiers):
        repeated = unique[counts > 1]
        raise LumosDataError(f"{path}: {len(repeated)} values of {source!r} repeat, the first is {repeated[0]}")
    return identifiers
