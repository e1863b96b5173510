"""Tables on disk: Parquet files that are whole or not there, and whose pages can be verified."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lumos.errors import LumosDataError
from lumos.files import whole_file

__all__ = ["check_pages", "write_table"]


def write_table(tables: Iterable[pa.Table], path: Path) -> int:
    """Write tables of one schema as one Parquet file, whole or not at all.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        One or more, each becomes a row group; taken one at a time, so memory holds only one.
    path : Path
        Output file; it appears only when it is complete and on disk.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    LumosDataError
        If there is no table at all.
    """
    iterator = iter(tables)
    first = next(iterator, None)
    if first is None:
        raise LumosDataError(f"{path}: nothing to write")
    n_rows = 0
    with (
        whole_file(path) as temporary,
        pq.ParquetWriter(
            temporary, first.schema, compression="zstd", write_page_checksum=True, **_encodings(first.schema)
        ) as writer,
    ):
        for table in chain([first], iterator):
            writer.write_table(table)
            n_rows += table.num_rows
    return n_rows


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Return how columns are encoded: measured numbers hardly repeat, but their first bytes do."""
    split: dict[str, str] = {}
    repeated: list[str] = []
    for field in schema:
        is_list = pa.types.is_fixed_size_list(field.type)
        kind, path = (field.type.value_type, f"{field.name}.list.element") if is_list else (field.type, field.name)
        if pa.types.is_floating(kind):
            split[path] = "BYTE_STREAM_SPLIT"
        else:
            repeated.append(path)
    return {"use_dictionary": repeated, "column_encoding": split}


def check_pages(path: Path) -> None:
    """Verify the page checksums of a table, with little memory.

    Parameters
    ----------
    path : Path
        Parquet file whose page checksums are verified.

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
