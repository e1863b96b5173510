"""Read the parent catalogue: positions and shapes of the objects to measure, in any table format."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from lumos.catalogs.columns import (
    COLUMN_TEXT,
    COLUMNS,
    ERROR_COLUMNS,
    candidates,
    check_frame,
    find_column,
    to_standard_unit,
)
from lumos.catalogs.formats import TableFile, open_table
from lumos.catalogs.identifiers import read_identifiers
from lumos.catalogs.tables import write_table
from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError
from lumos.files import json_in_metadata
from lumos.flags import catalog_flag_metadata
from lumos.rows import SHARED, Rowwise

__all__ = ["COLUMNS", "ParentCatalog", "parent_table", "read_parent", "write_parent"]

logger = logging.getLogger(__name__)

#: Rows whose distances are computed at once.
_AT_ONCE = 1_000_000
#: No magnitude is fainter.
_FAINTEST = 40.0
_SHAPES = ("half_light_radius", "sersic_n", "axis_ratio", "position_angle")
#: Metadata of a Parquet file: exposures that it was made from, registry of the bits of its column ``flags``.
_MADE_FROM, _FLAGS = "lumos.made_from", "lumos.catalog_flags"


@dataclass(frozen=True)
class ParentCatalog(Rowwise):
    """Positions and shapes of the objects to measure, one entry per object.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Identifiers, each of which occurs once.
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
    position_err, half_light_radius_err, sersic_n_err, axis_ratio_err : float array, shape (n,), or None
        1-sigma errors in the units of these (arcsec for the position, along each axis); None where the catalogue has
        none, NaN where a row has none.
    flags : int array, shape (n,), or None
        What the catalogue itself says of its objects; None where it says nothing.
    made_from : tuple of str
        Identifiers of the exposures in whose pixels the objects were found; empty where unknown.

    Notes
    -----
    The rules of the columns (units, what happens where one is missing) stand in
    :data:`lumos.catalogs.columns.COLUMN_TEXT`.
    """

    object_id: IntArray
    ra: FloatArray
    dec: FloatArray
    half_light_radius: FloatArray
    sersic_n: FloatArray
    axis_ratio: FloatArray
    position_angle: FloatArray
    ref_mag: FloatArray
    position_err: FloatArray | None = None
    half_light_radius_err: FloatArray | None = None
    sersic_n_err: FloatArray | None = None
    axis_ratio_err: FloatArray | None = None
    object_name: AnyArray | None = None
    flags: IntArray | None = None
    made_from: tuple[str, ...] = field(default=(), metadata=SHARED)

    def near(self, ra: float, dec: float, radius: float) -> "ParentCatalog":
        """Return the objects within a circle, read into memory.

        Parameters
        ----------
        ra, dec : float
            Centre in degrees.
        radius : float
            Largest distance on the sky, degrees.

        Returns
        -------
        ParentCatalog
            In catalogue order. A million rows are looked at at once, most of them at their declination alone.
        """
        found = []
        for start in range(0, len(self), _AT_ONCE):
            rows = start + np.flatnonzero(np.abs(self.dec[start : start + _AT_ONCE] - dec) <= radius)
            first, second = np.deg2rad(self.dec[rows]), np.deg2rad(dec)
            half = np.sin((first - second) / 2) ** 2
            half += np.cos(first) * np.cos(second) * np.sin(np.deg2rad(self.ra[rows] - ra) / 2) ** 2
            found.append(rows[half <= np.sin(np.deg2rad(min(radius, 180.0)) / 2) ** 2])
        return self.take(np.concatenate(found) if found else np.zeros(0, dtype=np.int64))

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
    path: Path | TableFile,
    columns: Mapping[str, str | float] | None = None,
    radius: Literal["major", "circularised"] = "major",
    made_from: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
) -> ParentCatalog:
    """Read a parent catalogue.

    Parameters
    ----------
    path : Path or TableFile
        Parquet, CSV, FITS, ECSV or VOTable file; the suffix decides. Or a table that is open, or in memory.
    columns : mapping, optional
        Name of each column in the file, or a number for a constant, where it differs from ``COLUMNS``.
    radius : {"major", "circularised"}, optional
        Whether the file's radius runs along the major axis or is ``sqrt(a b)``.
    made_from : sequence of str, optional
        Identifiers of exposures that the catalogue was made from, beside those that the file names.
    units : mapping, optional
        Unit of columns of ``COLUMNS``, in place of what the file states: ``0.2 arcsec`` for a radius in pixels of that
        size, a unit of flux or ``zp 26`` for a ``ref_mag`` that is a flux.

    Returns
    -------
    ParentCatalog
        One entry per row of the file, in its order.

    Raises
    ------
    LumosDataError
        If the file is missing or unreadable, has no rows, lacks a column, or states a unit or a frame that cannot be
        used; if identifiers repeat, are missing, or are neither integers of 64 bits nor text.
    LumosConfigError
        If ``columns`` or ``units`` names a column that a parent catalogue does not have.

    Notes
    -----
    Names are matched exactly, else without regard to upper and lower case. Numbers are converted from the unit that
    the file states to that of ``COLUMNS``; without one, that of ``COLUMNS`` is taken. Without any column of shapes
    all objects are point sources; without axis ratio and position angle they are round; without identifiers the
    rows are numbered from 1. Each of these is logged.
    """
    mapping: dict[str, str | float] = dict(columns or {})
    for what, names in (("column map", mapping), ("units of columns", units or {})):
        unknown = sorted(set(names) - set(COLUMNS) - set(ERROR_COLUMNS))
        if unknown:
            allowed = ", ".join([*COLUMNS, *ERROR_COLUMNS])
            raise LumosConfigError(f"{what}: unknown column {unknown[0]!r}, allowed: {allowed}")
    if radius not in {"major", "circularised"}:
        raise LumosValueError("radius of the parent catalogue", radius, "'major' or 'circularised'")
    if not isinstance(mapping.get("object_id", ""), str):
        raise LumosConfigError(f"column map: object_id must name a column, got the number {mapping['object_id']}")
    table = open_table(path, "parent catalogue") if isinstance(path, Path) else path
    stated = {name: unit for name, unit in (units or {}).items() if unit}
    path = table.path
    if table.n_rows == 0:
        raise LumosDataError(f"{path}: the parent catalogue has no rows")
    check_frame(table.metadata.get("frame", ""), path)
    sources = _sources(table, mapping)
    object_id, object_name = read_identifiers(table, sources["object_id"])
    arrays = {name: _numbers(table, name, sources[name], stated) for name in COLUMNS if name != "object_id"}
    arrays["ref_mag"] = _known_magnitudes(arrays["ref_mag"], path)
    arrays |= _errors(table, mapping, stated)
    if radius == "circularised":
        circularised = arrays["half_light_radius"]
        with np.errstate(invalid="ignore", divide="ignore"):
            # A point source needs no axis ratio.
            factor = np.where(circularised == 0, 1.0, 1 / np.sqrt(arrays["axis_ratio"]))
        for name in ("half_light_radius", "half_light_radius_err"):
            if name in arrays:
                arrays[name] = arrays[name] * factor
    catalog = ParentCatalog(
        object_id=object_id,
        object_name=object_name,
        flags=_catalog_flags(table),
        made_from=tuple(dict.fromkeys([*_made_from(table), *made_from])),
        **arrays,
    )
    n_lost = int(np.sum(~np.isfinite(catalog.ra) | ~np.isfinite(catalog.dec)))
    if n_lost:
        logger.warning("%s: %d objects without a finite position lie on no exposure", path, n_lost)
    return catalog


def write_parent(catalog: ParentCatalog, path: Path, provenance: Mapping[str, object] | None = None) -> None:
    """Write a parent catalogue as Parquet, whole or not at all.

    Parameters
    ----------
    catalog : ParentCatalog
        What to write.
    path : Path
        Parquet file to write.
    provenance : mapping, optional
        Plain facts stored in the metadata of the file.
    """
    write_table([parent_table(catalog, provenance)], path)


def parent_table(catalog: ParentCatalog, provenance: Mapping[str, object] | None = None) -> pa.Table:
    """Return a parent catalogue as an Arrow table.

    Parameters
    ----------
    catalog : ParentCatalog
        With n objects.
    provenance : mapping, optional
        Plain facts stored in the metadata.

    Returns
    -------
    pyarrow.Table
        With n rows; units and meaning of each column in its metadata.
    """
    columns: dict[str, pa.Array] = {}
    fields_: list[pa.Field] = []
    for name, unit in COLUMNS.items():
        kind = pa.int64() if name == "object_id" else pa.float64()
        columns[name] = pa.array(getattr(catalog, name), type=kind)
        fields_.append(pa.field(name, kind, metadata={"unit": unit, "text": COLUMN_TEXT[name]}))
    for name, unit in ERROR_COLUMNS.items():
        if getattr(catalog, name) is not None:
            columns[name] = pa.array(getattr(catalog, name), type=pa.float64())
            fields_.append(pa.field(name, pa.float64(), metadata={"unit": unit, "text": COLUMN_TEXT[name]}))
    metadata = {_MADE_FROM: json.dumps(list(catalog.made_from)), "lumos.provenance": json.dumps(provenance or {})}
    if catalog.object_name is not None:
        columns["object_name"] = pa.array(catalog.object_name.tolist(), type=pa.string())
        fields_.append(pa.field("object_name", pa.string(), metadata={"unit": "", "text": "identifier as text"}))
    if catalog.flags is not None:
        columns["flags"] = pa.array(catalog.flags, type=pa.int32())
        fields_.append(pa.field("flags", pa.int32(), metadata={"unit": "", "text": "bits of lumos.catalog_flags"}))
        metadata[_FLAGS] = json.dumps(catalog_flag_metadata())
    return pa.table(columns, schema=pa.schema(fields_, metadata=metadata))


def _sources(table: TableFile, mapping: Mapping[str, str | float]) -> dict[str, str | float | None]:
    """Return where each column comes from: a column of the file, a number for all rows, or None: row numbers."""
    sources: dict[str, str | float | None] = {}
    for name in COLUMNS:
        wanted = mapping.get(name, name)
        sources[name] = wanted if not isinstance(wanted, str) else find_column(table.names, wanted, table.path)
        if sources[name] is None and name in mapping:
            there = ", ".join(table.names)
            raise LumosDataError(f"{table.path}: no column {wanted!r} for {name!r}; the file has: {there}")
    absent = [name for name in _SHAPES if sources[name] is None]
    if absent == list(_SHAPES):
        sources |= {"half_light_radius": 0.0, "sersic_n": 1.0, "axis_ratio": 1.0, "position_angle": 0.0}
        _tell(table, "no column of shapes: all objects are measured as point sources", absent)
    elif {"axis_ratio", "position_angle"} <= set(absent):
        sources |= {"axis_ratio": 1.0, "position_angle": 0.0}
        _tell(table, "no axis_ratio and position_angle: all objects are taken to be round", absent)
    if sources["object_id"] is None:
        _tell(table, "no object_id: rows are numbered from 1", ["object_id"])
    if sources["ref_mag"] is None:
        sources["ref_mag"] = np.nan
    missing = [name for name in COLUMNS if name != "object_id" and sources[name] is None]
    if missing:
        advice = f"{_advice(table, missing)}; " if any(candidates(table.names, name) for name in missing) else ""
        names = ", ".join(map(repr, missing))
        raise LumosDataError(
            f"{table.path}: no column {names}; {advice}columns of other names, or one number for all rows, are given "
            f"in measure.catalog.columns; the file has: {', '.join(table.names)}"
        )
    return sources


def _errors(table: TableFile, mapping: Mapping[str, str | float], units: Mapping[str, str]) -> dict[str, FloatArray]:
    """Return the columns of errors that a file has, NaN where a row has none that is one."""
    found = {}
    for name in ERROR_COLUMNS:
        wanted = mapping.get(name, name)
        source = wanted if not isinstance(wanted, str) else find_column(table.names, wanted, table.path)
        if source is None and name in mapping:
            there = ", ".join(table.names)
            raise LumosDataError(f"{table.path}: no column {wanted!r} for {name!r}; the file has: {there}")
        if source is not None:
            values = _numbers(table, name, source, units)
            found[name] = np.where(values >= 0, values, np.nan)
            n_bad = int(np.sum(values < 0))
            if n_bad:
                logger.warning("%s: %d values of %s are negative and count as unknown", table.path, n_bad, name)
    return found


def _tell(table: TableFile, text: str, absent: Sequence[str]) -> None:
    """Log what is assumed for absent columns, and which columns of the file might be meant."""
    advice = _advice(table, absent)
    logger.warning("%s: %s%s", table.path, text, f" ({advice})" if advice else "")


def _advice(table: TableFile, absent: Sequence[str]) -> str:
    """Return a proposal of what to write into the column map, empty if no column of the file looks like it."""
    found = {name: candidates(table.names, name) for name in absent}
    entries = [f"{name}: {' or '.join(names)}" for name, names in found.items() if names]
    return f"perhaps --set 'measure.catalog.columns={{{', '.join(entries)}}}'" if entries else ""


def _numbers(table: TableFile, name: str, source: str | float | None, units: Mapping[str, str]) -> FloatArray:
    """Return one column as float64 in its standard unit, NaN where missing, from the file or from a constant."""
    if not isinstance(source, str):
        assert source is not None  # checked by _sources
        constant = np.full(table.n_rows, float(source))
        return to_standard_unit(constant, name, str(source), units.get(name), table.path)
    column = table.read(source)
    if column.values.dtype.kind not in "fiub":
        kind = "text" if column.values.dtype.kind in "OU" else column.values.dtype
        raise LumosDataError(f"{table.path}: column {source!r} holds {kind}, allowed: numbers")
    values = to_standard_unit(column.values, name, source, units.get(name, table.units.get(source)), table.path)
    if column.missing.any():
        values = np.where(column.missing, np.nan, values)
    return values


def _known_magnitudes(magnitudes: FloatArray, path: Path) -> FloatArray:
    """Return magnitudes, NaN where they are ways to say that one is unknown, as 99, -99 and 0."""
    with np.errstate(invalid="ignore"):
        unknown = ~np.isnan(magnitudes) & ~((magnitudes > 0) & (magnitudes < _FAINTEST))
    if unknown.any():
        first = magnitudes[np.argmax(unknown)]
        text = "%s: ref_mag of %d objects, the first %g, counts as unknown, allowed: above 0 and below %g"
        logger.warning(text, path, int(unknown.sum()), first, _FAINTEST)
    return np.where(unknown, np.nan, magnitudes)


def _made_from(table: TableFile) -> list[str]:
    """Return the exposures that the file says it was made from."""
    found = json_in_metadata(table.path, table.metadata, _MADE_FROM) or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise LumosDataError(f"{table.path}: damaged metadata, {_MADE_FROM} is no list of names")
    return found


def _catalog_flags(table: TableFile) -> IntArray | None:
    """Return the flags of a catalogue that ``lumos catalog`` wrote; another's column of that name means other bits."""
    if _FLAGS not in table.metadata or "flags" not in table.names:
        return None
    return table.read("flags").values.astype(np.int64)
