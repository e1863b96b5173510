"""Tables that are exported: what their columns are, and their rows, some at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from lumos.catalogs.schema import described_columns, described_field, list_column
from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosDataError
from lumos.exports.points import point_schema, point_tables
from lumos.exports.source import Source
from lumos.exports.wide import Objects, choose_bands, wide_batches
from lumos.pdf import colour, colour_moments
from lumos.statistics import SUMMARY_LEVELS

__all__ = [
    "Export",
    "as_arrow",
    "as_numpy",
    "colours_export",
    "field_text",
    "identity_fields",
    "points_export",
    "wide_of",
]


@dataclass(frozen=True, eq=False)
class Export:
    """A table to be written.

    Parameters
    ----------
    source : Source
        Where it comes from.
    schema : pyarrow.Schema
        Its columns, with unit, UCD and meaning.
    tables : callable
        Returns an iterator over the rows, as tables of that schema.
    texts : mapping
        Column of the source by column of texts.
    """

    source: Source
    schema: pa.Schema
    tables: Callable[[], Iterator[pa.Table]]
    texts: Mapping[str, str] = field(default_factory=dict)

    def text_width(self, name: str) -> int:
        """Return the bytes of the longest text of a column.

        Parameters
        ----------
        name : str
            Column of texts.

        Returns
        -------
        int
            At least 1.
        """
        return self.source.text_width(self.texts[name])


def field_text(item: pa.Field, key: str) -> str:
    """Return what a column says of itself.

    Parameters
    ----------
    item : pyarrow.Field
        The column.
    key : str
        ``unit``, ``ucd`` or ``text``.

    Returns
    -------
    str
        Empty where it says nothing.
    """
    return str((item.metadata or {}).get(key.encode(), b"").decode())


def as_numpy(table: pa.Table, name: str) -> AnyArray:
    """Return a column as an array.

    Parameters
    ----------
    table : pyarrow.Table
        With n rows.
    name : str
        One of its columns.

    Returns
    -------
    array, shape (n,), or (n, k) of float32 for lists
        Texts as ``str``.
    """
    kind = table.schema.field(name).type
    if pa.types.is_fixed_size_list(kind):
        return list_column(table, name).astype(np.float32)
    values = table[name].to_numpy(zero_copy_only=False)
    return values.astype(np.str_) if pa.types.is_string(kind) else np.asarray(values)


def as_arrow(columns: Mapping[str, AnyArray | pa.Array], schema: pa.Schema) -> pa.Table:
    """Return columns as a table of a schema.

    Parameters
    ----------
    columns : mapping
        Arrays of shape (n,), or (n, k) for lists.
    schema : pyarrow.Schema
        Columns, in order.

    Returns
    -------
    pyarrow.Table
        With n rows.
    """
    arrays = []
    for item in schema:
        values = columns[item.name]
        if pa.types.is_fixed_size_list(item.type):
            flat = pa.array(np.asarray(values, dtype=np.float32).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, item.type.list_size))
        else:
            arrays.append((values if isinstance(values, pa.Array) else pa.array(values)).cast(item.type))
    return pa.table(arrays, schema=schema)


def points_export(source: Source) -> Export:
    """Return the table of a run or a coadd as it is, with magnitudes and limits.

    Parameters
    ----------
    source : Source
        What is exported.

    Returns
    -------
    Export
        One row for each of the source.
    """
    schema = point_schema(source)
    texts = {item.name: item.name for item in schema if pa.types.is_string(item.type)}
    return Export(source, schema, lambda: point_tables(source), texts)


def wide_of(source: Source, bands: Sequence[str] | None, what: str) -> tuple[str, ...]:
    """Return the bands of a table with one row per object, of a calibrated coadd.

    Parameters
    ----------
    source : Source
        What is exported.
    bands : sequence of str or None
        Which bands; None: all.
    what : str
        Name of the format, for messages.

    Returns
    -------
    tuple of str
        At least one.

    Raises
    ------
    LumosDataError
        If the source is a run.
    LumosValueError
        If it lacks a band.
    """
    if not source.is_coadd:
        text = f"{what} has one row per object and one flux per band, a run has one per exposure"
        raise LumosDataError(f"{source.path}: {text}; make a coadd: lumos coadd {source.path} --out COADD.parquet")
    return choose_bands(source, bands)


def identity_fields(source: Source, names: Mapping[str, str]) -> list[tuple[str, pa.Field]]:
    """Return the columns that say which object a row is.

    Parameters
    ----------
    source : Source
        What is exported.
    names : mapping
        New name by column of the source.

    Returns
    -------
    list of tuple
        Column of the source and field of the export, without ``object_name`` where the source has none.
    """
    fields = source.schema
    return [(own, fields.field(own).with_name(new)) for own, new in names.items() if own in fields.names]


def colours_export(source: Source, bands: Sequence[str] | None) -> Export:
    """Return the colours of objects with their covariance.

    Parameters
    ----------
    source : Source
        A coadd.
    bands : sequence of str or None
        Two or more; each colour is the magnitude in one minus that in the next. None: all.

    Returns
    -------
    Export
        One row per object.

    Raises
    ------
    LumosDataError
        If the source is a run, has no PDFs, or fewer than two bands.
    """
    bands = wide_of(source, bands, "a table of colours")
    if len(bands) < 2:
        raise LumosDataError(f"{source.path}: colours need 2 bands or more, got {', '.join(bands)}")
    pdf_columns = source.pdf_columns()
    pairs = [{"pair": f"{first}_{second}", "first": first, "second": second} for first, second in pairwise(bands)]
    fields = []
    for column in described_columns("colours"):
        if column == "object_name" and column not in source.schema.names:
            continue
        repeated = pairs if "{pair}" in column else [{"n": len(pairs) ** 2}]
        fields += [described_field("colours", column, **names) for names in repeated]
    schema = pa.schema(fields, metadata=source.schema.metadata)

    def tables() -> Iterator[pa.Table]:
        for objects in wide_batches(source, bands, pdf_columns):
            identity = {name: objects.identity(name) for name in schema.names[:4] if name in source.schema.names}
            yield as_arrow(identity | _colours(objects, [one["pair"] for one in pairs]), schema)

    return Export(source, schema, tables, {"object_name": "object_name"})


def _colours(objects: Objects, pairs: Sequence[str]) -> dict[str, AnyArray]:
    """Return the columns of colours."""
    fluxes = [objects.pdf(band) for band in range(len(pairs) + 1)]
    mean, covariance = colour_moments(fluxes)
    columns: dict[str, AnyArray] = {"covariance": covariance.reshape(len(objects), -1)}
    for number, pair in enumerate(pairs):
        found = colour(fluxes[number], fluxes[number + 1])
        low, median, high = found.pdf.quantile(np.array([SUMMARY_LEVELS])).T
        columns |= _numbered(pair, mean[:, number], median, low, high, found.without)
    return columns


def _numbered(pair: str, *values: FloatArray) -> dict[str, AnyArray]:
    endings = ("colour", "colour_median", "colour_q16", "colour_q84", "without")
    return {f"{pair}_{ending}": one for ending, one in zip(endings, values, strict=True)}
