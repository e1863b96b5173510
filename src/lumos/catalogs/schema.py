"""Flux tables on disk: the schema, shards written atomically and verified when read, the manifest."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.config import parse_yaml
from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosDataError
from lumos.files import file_sha256, read_json, whole_file
from lumos.flags import flag_metadata

__all__ = [
    "SCHEMA_VERSION",
    "Entry",
    "coadd_schema",
    "iterate_shards",
    "list_column",
    "measure_schema",
    "read_manifest",
    "read_shard",
    "read_shards",
    "shard_paths",
    "to_arrow",
    "write_shard",
]

#: Raised by one whenever a column changes its name, type or meaning.
SCHEMA_VERSION = 1
#: What the manifest of a run says about one exposure.
Entry = dict[str, Any]


@cache
def _columns(table: str) -> dict[str, dict[str, str]]:
    text = resources.files("lumos.catalogs").joinpath("schema.yaml").read_text(encoding="utf-8")
    columns: dict[str, dict[str, str]] = parse_yaml(text, "schema.yaml")[table]
    return columns


def measure_schema(
    estimators: Sequence[str],
    flux_unit: str,
    n_components: int = 1,
    provenance: Mapping[str, object] | None = None,
    *,
    with_names: bool = False,
) -> pa.Schema:
    """Return the Arrow schema of the table that ``lumos measure`` writes.

    Parameters
    ----------
    estimators : sequence of str
        Names of the estimators of the run, each with its two columns.
    flux_unit : str
        ``"nJy"``, or the image unit where no zero point is known.
    n_components : int, optional
        Number of mixture components of the flux likelihood.
    provenance : mapping, optional
        Plain facts stored in the metadata of the file.
    with_names : bool, optional
        Whether the catalogue has identifiers that are texts, in the column ``object_name``.

    Returns
    -------
    pyarrow.Schema
        Each field with unit, UCD and meaning; the flag registry in the metadata.
    """
    columns = _chosen(_columns("measure"), with_names=with_names)
    return _schema(columns, estimators, flux_unit, n_components, provenance)


def coadd_schema(
    estimators: Sequence[str],
    pdf: Literal["mixture", "grid"],
    n: int,
    provenance: Mapping[str, object] | None = None,
    *,
    with_names: bool = False,
) -> pa.Schema:
    """Return the Arrow schema of the table that ``lumos coadd`` writes, fluxes in nJy.

    Parameters
    ----------
    estimators : sequence of str
        Names of the estimators, each with its two columns.
    pdf : {"mixture", "grid"}
        How the PDFs are written.
    n : int
        Number of mixture components, or of nodes.
    provenance : mapping, optional
        Plain facts stored in the metadata of the file.
    with_names : bool, optional
        Whether the catalogue has identifiers that are texts, in the column ``object_name``.

    Returns
    -------
    pyarrow.Schema
        Each field with unit, UCD and meaning; the flag registry in the metadata.
    """
    columns = {name: spec for name, spec in _columns("coadd").items() if spec.get("form", pdf) == pdf}
    return _schema(_chosen(columns, with_names=with_names), estimators, "nJy", n, provenance)


def _chosen(columns: Mapping[str, dict[str, str]], *, with_names: bool) -> dict[str, dict[str, str]]:
    """Leave out the column of names unless it is wanted."""
    return {name: spec for name, spec in columns.items() if with_names or name != "object_name"}


def _schema(
    columns: Mapping[str, Mapping[str, str]],
    estimators: Sequence[str],
    flux_unit: str,
    n: int,
    provenance: Mapping[str, object] | None,
) -> pa.Schema:
    schema_fields = []
    for template, spec in columns.items():
        for estimator in estimators if "{estimator}" in template else [""]:
            names = {"estimator": estimator, "flux": flux_unit, "n": n}
            metadata = {key: spec[key].format(**names) for key in ("unit", "ucd", "text")}
            schema_fields.append(
                pa.field(template.format(**names), _arrow_type(spec["type"].format(**names)), metadata=metadata)
            )
    metadata = {
        "lumos.schema_version": str(SCHEMA_VERSION),
        "lumos.flags": json.dumps(flag_metadata()),
        "lumos.provenance": json.dumps(provenance or {}, default=str),
    }
    return pa.schema(schema_fields, metadata=metadata)


def to_arrow(columns: Mapping[str, AnyArray], schema: pa.Schema) -> pa.Table:
    """Bring columns to the types and the order of a schema.

    Parameters
    ----------
    columns : mapping
        Array of shape (n,), or (n, k) for lists, of each field.
    schema : pyarrow.Schema
        The schema.

    Returns
    -------
    pyarrow.Table
        With n rows.
    """
    return pa.table([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _array(values: AnyArray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.asarray(values, dtype=np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    if pa.types.is_string(kind):
        return pa.array(values.tolist(), type=kind)
    return pa.array(np.asarray(values), type=kind, from_pandas=False, safe=False)


def _arrow_type(name: str) -> pa.DataType:
    if name.endswith("]"):
        base, length = name[:-1].split("[")
        return pa.list_(_arrow_type(base), int(length))
    types = {"int64": pa.int64(), "int32": pa.int32(), "float32": pa.float32(), "float64": pa.float64()}
    return types.get(name, pa.string())


def write_shard(tables: Iterable[pa.Table], path: Path) -> int:
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
        pq.ParquetWriter(temporary, first.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in chain([first], iterator):
            writer.write_table(table)
            n_rows += table.num_rows
    return n_rows


def read_shard(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard, its page checksums verified.

    Parameters
    ----------
    path : Path or str
        A file that :func:`write_shard` wrote.
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
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise LumosDataError(f"{path}: damaged or missing shard ({str(error).splitlines()[0]})") from error
    version = (table.schema.metadata or {}).get(b"lumos.schema_version", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise LumosDataError(f"{path}: schema version {version}, this version reads {SCHEMA_VERSION}")
    return table


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


def read_manifest(run: Path | str) -> dict[str, Entry]:
    """Read what the manifest of a run says about each exposure.

    Parameters
    ----------
    run : Path or str
        Folder that ``lumos measure`` wrote.

    Returns
    -------
    dict
        By exposure: ``status``, ``done`` or ``failed``, and ``file``. Finished ones have ``shard``, ``sha256``,
        ``n_rows`` and ``inputs``, size and time of every file that was read; failed ones have ``reason`` and, if
        they were finished once, that entry as ``earlier``.

    Raises
    ------
    LumosDataError
        If the manifest is missing or damaged; the message names the entry.
    """
    path = Path(run) / "manifest.json"
    entries = read_json(path).get("exposures")
    if not isinstance(entries, dict):
        raise LumosDataError(f"{path}: damaged, 'exposures' is {type(entries).__name__}, allowed: a mapping")
    for name, entry in entries.items():
        _check_entry(entry, f"{path}: damaged, {name}")
        if entry["status"] == "failed" and "earlier" in entry:
            _check_entry(entry["earlier"], f"{path}: damaged, {name}.earlier")
    return entries


def _check_entry(entry: Any, where: str) -> None:  # noqa: ANN401
    """Refuse an entry of a manifest that was not written by `lumos measure`."""
    if not isinstance(entry, dict) or entry.get("status") not in {"done", "failed"}:
        raise LumosDataError(f"{where}: allowed: a mapping with status done or failed")
    kinds: dict[str, type] = {"file": str, "reason": str, "shard": str, "sha256": str, "n_rows": int, "inputs": dict}
    needed = {"shard", "sha256"} if entry["status"] == "done" else set()
    for key, kind in kinds.items():
        if key in needed | entry.keys() and type(entry.get(key)) is not kind:
            raise LumosDataError(f"{where}.{key}: got {entry.get(key)!r}, allowed: {kind.__name__}")
    if entry["status"] == "done" and (Path(entry["shard"]).is_absolute() or ".." in Path(entry["shard"]).parts):
        raise LumosDataError(f"{where}.shard: got {entry['shard']!r}, allowed: a file in the run's folder")


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


def list_column(table: pa.Table, name: str) -> FloatArray:
    """Return a column of fixed-size lists as an array.

    Parameters
    ----------
    table : pyarrow.Table
        With n rows.
    name : str
        Column.

    Returns
    -------
    float array, shape (n, k)
        Its numbers.
    """
    width = table.schema.field(name).type.list_size
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(table.num_rows, width)
