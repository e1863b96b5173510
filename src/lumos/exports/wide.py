"""One row per object in place of one per object and band, of coadds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lumos.coadds.read import table_pdf
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.exports.source import Source
from lumos.pdf import FluxPdf

__all__ = ["Objects", "choose_bands", "wide_batches"]

_IDENTITY = ("object_id", "object_name", "ra", "dec")


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects with their rows in each band.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of a coadd.
    first : int array, shape (n,)
        A row of each object.
    row : int array, shape (n, n_bands)
        The row of each object and band; -1 where there is none.
    """

    table: pa.Table
    first: IntArray
    row: IntArray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def present(self) -> BoolArray:
        """Return which objects have a row in a band, shape (n, n_bands)."""
        return np.asarray(self.row >= 0)

    def identity(self, name: str) -> pa.Array:
        """Return what is the same in all bands.

        Parameters
        ----------
        name : str
            ``object_id``, ``object_name``, ``ra`` or ``dec``.

        Returns
        -------
        pyarrow.Array
            With n entries.
        """
        return self.table[name].combine_chunks().take(pa.array(self.first))

    def numbers(self, name: str) -> FloatArray:
        """Return a column of numbers by band.

        Parameters
        ----------
        name : str
            Column of the coadd.

        Returns
        -------
        float array, shape (n, n_bands)
            NaN where there is no row.
        """
        values = np.append(np.asarray(self.table[name].to_numpy(), dtype=np.float64), np.nan)
        return np.asarray(values[self.row])

    def pdf(self, band: int) -> FluxPdf:
        """Return the PDFs of a band.

        Parameters
        ----------
        band : int
            Which of the bands.

        Returns
        -------
        FluxPdf
            Of n rows, NaN where there is no row.
        """
        columns = []
        for item in self.table.schema:
            if item.name.startswith("pdf_") and pa.types.is_fixed_size_list(item.type):
                width = item.type.list_size
                flat = self.table[item.name].combine_chunks().flatten().to_numpy().reshape(-1, width)
                values = np.vstack([flat, np.full((1, width), np.nan, dtype=flat.dtype)])[self.row[:, band]]
                columns.append((item, pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)))
        return table_pdf(pa.table([values for _, values in columns], schema=pa.schema([item for item, _ in columns])))


def choose_bands(source: Source, bands: Sequence[str] | None) -> tuple[str, ...]:
    """Return the bands to be exported.

    Parameters
    ----------
    source : Source
        A coadd.
    bands : sequence of str or None
        Which, in which order; None: all.

    Returns
    -------
    tuple of str
        At least one.

    Raises
    ------
    LumosValueError
        If the source lacks one, or one is given twice.
    """
    if bands is None:
        return source.bands
    unknown = [band for band in bands if band not in source.bands]
    if unknown or len(set(bands)) < len(bands) or not bands:
        raise LumosValueError("bands", ",".join(bands), f"each once, of {', '.join(source.bands)}")
    return tuple(bands)


def wide_batches(source: Source, bands: Sequence[str], columns: Sequence[str]) -> Iterator[Objects]:
    """Gather the rows of each object.

    Parameters
    ----------
    source : Source
        A coadd; the rows of one object follow each other, as `lumos coadd` writes them.
    bands : sequence of str
        The bands to be taken.
    columns : sequence of str
        Columns that are needed beside identifier, position and band.

    Yields
    ------
    Objects
        Some at a time. Objects without a row in any of these bands are there too.

    Raises
    ------
    LumosDataError
        If an object has two rows in one band, or its rows do not follow each other.
    """
    names = [name for name in _IDENTITY if name in source.schema.names]
    left: pa.Table | None = None
    seen: list[IntArray] = []
    for batch in source.batches([*names, "band", *columns]):
        table = batch if left is None else pa.concat_tables([left, batch])
        objects = table["object_id"].to_numpy()
        # The rows of the last object may go on in the next batch.
        last = int(np.flatnonzero(np.append(True, objects[1:] != objects[:-1]))[-1])
        left = table.slice(last)
        if last:
            found = _gathered(source, table.slice(0, last), bands)
            seen.append(found.identity("object_id").to_numpy())
            yield found
    if left is not None:
        found = _gathered(source, left, bands)
        seen.append(found.identity("object_id").to_numpy())
        yield found
    every = np.sort(np.concatenate(seen))
    if (again := every[1:][every[1:] == every[:-1]]).size:
        raise LumosDataError(f"{source.path}: the rows of object {again[0]} do not follow each other; sort the table")


def _gathered(source: Source, table: pa.Table, bands: Sequence[str]) -> Objects:
    identifiers = table["object_id"].to_numpy()
    new = np.append(True, identifiers[1:] != identifiers[:-1])
    first, which = np.flatnonzero(new), np.cumsum(new) - 1
    names = table["band"].to_numpy(zero_copy_only=False)
    row = np.full((len(first), len(bands)), -1, dtype=np.int64)
    for number, band in enumerate(bands):
        rows = np.flatnonzero(names == band)
        row[which[rows], number] = rows
        if len(np.unique(which[rows])) < len(rows):
            twice = identifiers[first[np.argmax(np.bincount(which[rows]) > 1)]]
            raise LumosDataError(f"{source.path}: object {twice} has two rows in band {band!r}, allowed: one")
    return Objects(table, first, row)
