"""Export to a HATS catalogue: Parquet files by HEALPix pixel, as lsdb reads them."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from lumos import __version__
from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.exports.packages import optional
from lumos.exports.source import Source
from lumos.exports.tables import Export

__all__ = ["partition_pixels", "write_hats"]

#: Order of the pixels in which rows are counted, and of the index that orders them.
_FINEST, _INDEX = 8, 29
#: Most rows of a partition.
_MOST_ROWS = 1_000_000
_SPATIAL = "_healpix_29"


def write_hats(export: Export, path: Path, name: str) -> None:
    """Write a table as a HATS catalogue.

    Parameters
    ----------
    export : Export
        The table, with ``ra`` and ``dec``.
    path : Path
        Folder to write, empty.
    name : str
        Of the catalogue.

    Raises
    ------
    LumosDataError
        If a row has no position.
    LumosError
        If the package hats is not installed.

    Notes
    -----
    Rows are first shared out among partitions of up to a million rows, then each partition is sorted: memory holds one
    at a time. Partitions are the coarsest pixels that hold no more.
    """
    order, pixel = _partitions(export.source)
    target, shared = path / "dataset", path / "unsorted"
    schema = pa.schema([pa.field(_SPATIAL, pa.int64()), *export.schema], metadata=export.schema.metadata)
    parts = pa.schema([*schema, pa.field("Norder", pa.int32()), pa.field("Npix", pa.int64())])
    ds.write_dataset(
        _shared_out(export, order, pixel, parts),
        shared,
        schema=parts,
        format="parquet",
        partitioning=ds.partitioning(pa.schema([parts.field("Norder"), parts.field("Npix")]), flavor="hive"),
        max_open_files=256,
        use_threads=False,
    )
    pixels = []
    for folder in sorted(shared.glob("Norder=*/Npix=*")):
        number = (int(folder.parent.name.removeprefix("Norder=")), int(folder.name.removeprefix("Npix=")))
        _write_partition(sorted(folder.iterdir()), target, number, schema)
        rmtree(folder)
        pixels.append(number)
    rmtree(shared)
    _write_properties(path, name, pixels)


def _partitions(source: Source) -> tuple[IntArray, IntArray]:
    """Return order and number of the partition of each of the finest pixels."""
    counts = np.zeros(12 * 4**_FINEST, dtype=np.int64)
    for table in source.batches(["ra", "dec"]):
        ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
        if not (np.isfinite(ra) & np.isfinite(dec)).all():
            raise LumosDataError(f"{source.path}: a row has no position, hats needs one of each")
        counts += np.bincount(_index(ra, dec) >> (2 * (_INDEX - _FINEST)), minlength=len(counts))
    return partition_pixels(counts, _MOST_ROWS)


def partition_pixels(counts: IntArray, most: int) -> tuple[IntArray, IntArray]:
    """Choose the coarsest pixels that hold few enough rows.

    Parameters
    ----------
    counts : int array, shape (12 * 4**k,)
        Rows in each pixel of order k, nested numbering.
    most : int
        Largest number of rows of a partition; a pixel of order k that holds more is one all the same.

    Returns
    -------
    order, pixel : int array, shape (12 * 4**k,)
        Partition of each pixel of order k.
    """
    finest = int(np.log2(len(counts) // 12)) // 2
    pixels = np.arange(len(counts))
    order, pixel = np.full(len(counts), finest), pixels.copy()
    for coarser in range(finest - 1, -1, -1):
        parent = pixels >> (2 * (finest - coarser))
        fits = np.bincount(parent, weights=counts)[parent] <= most
        order[fits], pixel[fits] = coarser, parent[fits]
    return order, pixel


def _index(ra: FloatArray, dec: FloatArray) -> IntArray:
    """Return the HEALPix pixels of order 29 in nested numbering."""
    index = optional("hats.pixel_math.spatial_index", "hats", "the format hats")
    return np.asarray(index.compute_spatial_index(ra, dec), dtype=np.int64)


def _shared_out(export: Export, order: IntArray, pixel: IntArray, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for table in export.tables():
        index = _index(table["ra"].to_numpy(), table["dec"].to_numpy())
        finest = index >> (2 * (_INDEX - _FINEST))
        arrays = [pa.array(index), *(column.combine_chunks() for column in table.columns)]
        arrays += [pa.array(order[finest], pa.int32()), pa.array(pixel[finest])]
        yield from pa.table(arrays, schema=schema).to_batches()


def _write_partition(files: list[Path], target: Path, number: tuple[int, int], schema: pa.Schema) -> None:
    """Write the rows of one partition, sorted by position."""
    order, pixel = number
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    table = table.take(pc.sort_indices(table, sort_keys=[(_SPATIAL, "ascending")]))
    folder = target / f"Norder={order}" / f"Dir={pixel // 10_000 * 10_000}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.select(schema.names).cast(schema), folder / f"Npix={pixel}.parquet", compression="zstd")


def _write_properties(path: Path, name: str, pixels: list[tuple[int, int]]) -> None:
    """Write what HATS says of a catalogue as a whole."""
    catalog, pixel_math, metadata = (
        optional(f"hats.{name}", "hats", "the format hats") for name in ("catalog", "pixel_math", "io.parquet_metadata")
    )
    n_rows = metadata.write_parquet_metadata(path)
    partitions = catalog.PartitionInfo.from_healpix([pixel_math.HealpixPixel(*one) for one in pixels])
    partitions.write_to_file(catalog_path=path)
    properties = catalog.TableProperties(
        catalog_name=name,
        catalog_type="source",
        total_rows=n_rows,
        ra_column="ra",
        dec_column="dec",
        healpix_column=_SPATIAL,
        healpix_order=_INDEX,
        hats_max_rows=_MOST_ROWS,
        **catalog.TableProperties.new_provenance_dict(path, builder=f"lumos v{__version__}"),
    )
    properties.to_properties_file(path)
