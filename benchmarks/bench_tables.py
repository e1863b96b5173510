"""Bytes per row of shards and coadds, and queries of a large coadd by object and by cone.

A coadd is repeated with other objects at other places until it has ``--rows`` rows. It is written as ``lumos coadd``
writes it (a row group for each piece of the sky), and asked for one object, whose identifier says nothing of its place,
and for all objects within an arcminute. Every answer is compared with what was written.

Run: ``python benchmarks/bench_tables.py COADD.parquet --shard RUN/shards/ONE.parquet --folder OUT --rows 100000000``
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from lumos.catalogs.tables import write_table

#: Rows of a piece, its side in degrees, pieces in a row of the sky.
PIECE, SIDE, ACROSS = 50_000, 0.5, 200
RADIUS = 1 / 60
SCRAMBLE, MODULUS = 6364136223846793005, 2**62


def object_ids(piece: int) -> np.ndarray:
    """Return identifiers of the objects of a piece: all different, and spread over all of the numbers."""
    numbers = (piece * PIECE + np.arange(PIECE)).astype(np.uint64)
    return (numbers * np.uint64(SCRAMBLE) % np.uint64(MODULUS)).astype(np.int64)


def places(piece: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the objects of a piece, degrees."""
    rng = np.random.default_rng(piece)
    across, along = piece % ACROSS, piece // ACROSS
    return SIDE * (across + rng.random(PIECE)), SIDE * (along + rng.random(PIECE)) - 10


def pieces(template: pa.Table, n_rows: int) -> Iterator[pa.Table]:
    """Yield the pieces of the large coadd."""
    rows = template.take(np.arange(PIECE) % len(template)).combine_chunks()
    for piece in range(n_rows // PIECE):
        ra, dec = places(piece)
        table = rows
        for name, values in (("object_id", object_ids(piece)), ("ra", ra), ("dec", dec)):
            number = table.schema.get_field_index(name)
            table = table.set_column(number, table.schema.field(name), pa.array(values))
        yield table


def print_bytes(path: Path, what: str) -> None:
    """Print what a row of a table takes on disk, PDF and all."""
    metadata = pq.read_metadata(path)
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            kind = "PDF" if column.path_in_schema.startswith("pdf_") else "rest"
            sizes[kind] = sizes.get(kind, 0) + column.total_compressed_size
    each = {kind: size / metadata.num_rows for kind, size in sizes.items()}
    text = ", ".join(f"{kind} {size:.1f}" for kind, size in each.items())
    print(f"{what}: {sum(each.values()):.1f} bytes per row ({text}), {metadata.num_rows} rows", flush=True)


def in_cone(table: pa.Table, ra: float, dec: float) -> int:
    """Return how many rows of a table lie within the radius of a place."""
    east = (table["ra"].to_numpy() - ra) * np.cos(np.deg2rad(dec))
    return int((np.hypot(east, table["dec"].to_numpy() - dec) < RADIUS).sum())


def find_object(path: Path, wanted: int) -> int:
    """Return how many rows an object has: first only identifiers are read, then the pieces that have the object."""
    found = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            if pc.any(pc.equal(file.read_row_group(group, ["object_id"])["object_id"], wanted)).as_py():
                found += len(file.read_row_group(group).filter(pc.field("object_id") == wanted))
    return found


def ask(name: str, question: Callable[[], int], expected: int) -> None:
    """Print how long an answer takes, first and again; refuse a wrong one."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        found = question()
        times.append(time.perf_counter() - start)
        if found != expected:
            raise SystemExit(f"{name}: {found} rows, expected {expected}")
    print(f"{name:<28}{expected:>6} rows{times[0]:>9.2f} s, again{times[1]:>8.2f} s", flush=True)


def main() -> None:
    """Print sizes and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coadd", type=Path)
    parser.add_argument("--shard", type=Path, default=None)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000_000)
    options = parser.parse_args()
    if options.shard is not None:
        print_bytes(options.shard, "shard")
    print_bytes(options.coadd, "coadd")
    path = options.folder / f"coadd_{options.rows}.parquet"
    if not path.exists():
        start = time.perf_counter()
        write_table(pieces(pq.read_table(options.coadd), options.rows), path)
        print(f"{path.stat().st_size / 1e9:.2f} GB written in {time.perf_counter() - start:.0f} s", flush=True)
    piece = options.rows // PIECE // 2
    (ra, dec), wanted = places(piece), int(object_ids(piece)[17])
    ra0, dec0 = SIDE * (piece % ACROSS + 0.5), SIDE * (piece // ACROSS + 0.5) - 10
    expected = in_cone(pa.table({"ra": ra, "dec": dec}), ra0, dec0)
    width = RADIUS / np.cos(np.deg2rad(dec0))
    here, field = ds.dataset(path), pc.field
    box = (field("ra") > ra0 - width) & (field("ra") < ra0 + width)
    box &= (field("dec") > dec0 - RADIUS) & (field("dec") < dec0 + RADIUS)
    ask("pyarrow, one object", lambda: find_object(path, wanted), 1)
    ask("pyarrow, cone of 1 arcmin", lambda: in_cone(here.to_table(filter=box), ra0, dec0), expected)
    try:
        import duckdb  # noqa: PLC0415
    except ImportError:
        print("duckdb is not installed: pip install duckdb")
        return
    base = duckdb.connect()
    base.execute("set threads = 2")
    corner = f"ra between {ra0 - width} and {ra0 + width} and dec between {dec0 - RADIUS} and {dec0 + RADIUS}"

    def select(where: str) -> pa.Table:
        return base.sql(f"select * from '{path}' where {where}").to_arrow_table()  # noqa: S608

    ask("duckdb, one object", lambda: len(select(f"object_id = {wanted}")), 1)
    ask("duckdb, cone of 1 arcmin", lambda: in_cone(select(corner), ra0, dec0), expected)


if __name__ == "__main__":
    main()
