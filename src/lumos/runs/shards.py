"""The shards of a run, one Parquet file for each exposure: read through the manifest, verified."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.schema import SCHEMA_VERSION
from lumos.errors import LumosDataError, foreign_reader
from lumos.files import file_sha256
from lumos.runs.folder import read_manifest

__all__ = ["check_shards", "iterate_shards", "read_shard", "read_shards", "shard_paths"]


def read_shards(run: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read every finished shard of a run into one table.

    Parameters
    ----------
    run : Path or str
        Folder that ``lumos measure`` wrote.
    columns : sequence of str, optional
        Which columns; all by default.

    Returns
    -------
    pyarrow.Table
        The rows of all shards that the manifest names, in its order. As a pandas data frame its flags are
        ``frame["flags"]`` (``frame.flags`` is pandas' own), see :func:`lumos.flags.has_flag`.

    Raises
    ------
    LumosDataError
        If the manifest is missing, names no finished shard, or a shard differs from the manifest.
    """
    tables = [table.replace_schema_metadata(None) for table in iterate_shards(run, columns)]
    return pa.concat_tables(tables, promote_options="permissive")


def iterate_shards(run: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read the finished shards of a run one by one.

    Parameters
    ----------
    run : Path or str
        Folder that ``lumos measure`` wrote.
    columns : sequence of str, optional
        Which columns; all by default.

    Yields
    ------
    pyarrow.Table
        The rows of one shard, in the order of the manifest.

    Raises
    ------
    LumosDataError
        If the manifest is missing, names no finished shard, or a shard differs from the manifest.
    """
    for path in shard_paths(run):
        yield read_shard(path, columns)


def shard_paths(run: Path | str) -> list[Path]:
    """Return the files of the finished shards of a run, verified.

    Parameters
    ----------
    run : Path or str
        Folder that ``lumos measure`` wrote.

    Returns
    -------
    list of Path
        In the order of the manifest.

    Raises
    ------
    LumosDataError
        If the manifest is missing, names no finished shard, or a shard differs from the manifest.
    """
    run = Path(run)
    entries = [entry for entry in read_manifest(run).values() if entry["status"] == "done"]
    if not entries:
        raise LumosDataError(f"{run}: no finished exposure in manifest.json")
    for entry in entries:
        if file_sha256(run / entry["shard"]) != entry["sha256"]:
            raise LumosDataError(f"{run / entry['shard']}: sha256 differs from the manifest's")
    return [run / entry["shard"] for entry in entries]


def read_shard(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard, its page checksums verified.

    Parameters
    ----------
    path : Path or str
        A file that :func:`write_table` wrote.
    columns : sequence of str, optional
        Which columns; all by default.

    Returns
    -------
    pyarrow.Table
        The rows.

    Raises
    ------
    LumosDataError
        If the file is missing, damaged, or of another schema version.
    """
    with foreign_reader(f"{path}: damaged or missing shard"):
        table = pq.read_table(path, columns=None if columns is None else list(columns), page_checksum_verification=True)
        # Names that are no UTF-8 are found out here.
        _ = table.column_names
    version = (table.schema.metadata or {}).get(b"lumos.schema_version", b"none").decode("utf-8", "replace")
    if version != str(SCHEMA_VERSION):
        raise LumosDataError(f"{path}: schema version {version}, this version reads {SCHEMA_VERSION}")
    return table


def check_shards(paths: Sequence[Path], columns: Sequence[str]) -> None:
    """Check that shards have some columns, of the right types, lists as long as those of the first shard, and rows.

    Parameters
    ----------
    paths : sequence of Path
        Shards.
    columns : sequence of str
        What is needed of them; text for exposure, detector and band, lists for PDFs, numbers else.

    Raises
    ------
    LumosDataError
        If a shard is damaged, lacks a column or has another kind, PDFs are of several lengths, or no shard has a row.
    """
    n_rows = 0
    length: dict[str, tuple[int, Path]] = {}
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                schema, n_rows = file.schema_arrow, n_rows + file.metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            raise LumosDataError(f"{path}: damaged or missing shard ({str(error).splitlines()[0]})") from error
        for name in columns:
            if name not in schema.names:
                raise LumosDataError(f"{path}: no column {name!r}; the shard has: {', '.join(schema.names)}")
            kind = schema.field(name).type
            wanted, fits = _wanted(name, kind)
            if not fits:
                raise LumosDataError(f"{path}: column {name!r} holds {kind}, allowed: {wanted}")
            if pa.types.is_fixed_size_list(kind):
                first = length.setdefault(name, (kind.list_size, path))
                if kind.list_size != first[0]:
                    text = f"{name} of {kind.list_size} components, but {first[0]} in {first[1]}"
                    raise LumosDataError(f"{path}: {text}; only runs of one model can be coadded")
    if n_rows == 0:
        raise LumosDataError(f"{paths[0]}: no row in it, nor in any other shard; nothing was measured")


def _wanted(name: str, kind: pa.DataType) -> tuple[str, bool]:
    """Return what a column must hold, and whether it does."""
    types = pa.types
    if name in {"exposure_id", "detector", "band"}:
        return "text", types.is_string(kind) or types.is_large_string(kind)
    if name.startswith("pdf_"):
        return "lists of numbers", types.is_fixed_size_list(kind) and types.is_floating(kind.value_type)
    return "numbers", types.is_floating(kind) or types.is_integer(kind)
