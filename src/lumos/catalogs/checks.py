"""Check tables before they are used: damage, columns, types."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lumos.errors import LumosDataError

__all__ = ["check_pages", "check_shards"]


def check_pages(path: Path) -> None:
    """Verify the page checksums of a table, with little memory.

    Parameters
    ----------
    path : Path
        Table.

    Raises
    ------
    LumosDataError
        If the file is damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                file.read_row_group(number)
    except (OSError, pa.ArrowException) as error:
        raise LumosDataError(f"{path}: damaged ({str(error).splitlines()[0]})") from error


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
