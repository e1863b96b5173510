"""The schema of flux tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import pyarrow as pa

from lumos.config import parse_yaml
from lumos.conventions import AnyArray, FloatArray
from lumos.flags import flag_metadata, photoz_flag_metadata

__all__ = [
    "SCHEMA_VERSION",
    "Column",
    "coadd_schema",
    "described_columns",
    "described_field",
    "list_column",
    "measure_schema",
    "photoz_schema",
    "to_arrow",
]

#: Raised by one whenever a column changes its name, type or meaning.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Column:
    """A column of a table, as ``schema.yaml`` describes its own.

    Parameters
    ----------
    name : str
        Of the column.
    type : str
        ``float32``, ``float64``, ``int32`` or ``int64``.
    unit : str
        With ``{flux}`` for the flux unit of the run; empty where there is none.
    ucd : str
        Unified content descriptor of the IVOA.
    text : str
        What it is, in a sentence.
    """

    name: str
    type: str
    unit: str
    ucd: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return the description as ``schema.yaml`` has it.

        Returns
        -------
        dict
            All but the name.
        """
        return {"type": self.type, "unit": self.unit, "ucd": self.ucd, "text": self.text}


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
    own: Sequence[Column] = (),
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
    own : sequence of Column, optional
        Columns that single estimators add.
    with_names : bool, optional
        Whether the catalogue has identifiers that are texts, in the column ``object_name``.

    Returns
    -------
    pyarrow.Schema
        Each field with unit, UCD and meaning; the flag registry in the metadata.
    """
    columns = _chosen(_columns("measure"), with_names=with_names)
    flags = {"flags": columns.pop("flags")}
    columns |= {column.name: column.as_dict() for column in own} | flags
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


def described_columns(table: str) -> list[str]:
    """Return the columns of a table as ``schema.yaml`` names them.

    Parameters
    ----------
    table : str
        Table of ``schema.yaml``.

    Returns
    -------
    list of str
        Names, perhaps with places in braces.
    """
    return list(_columns(table))


def described_field(table: str, column: str, **names: object) -> pa.Field:
    """Return a column as ``schema.yaml`` describes it.

    Parameters
    ----------
    table : str
        Table of ``schema.yaml``.
    column : str
        Column of that table, as :func:`described_columns` names it.
    **names : object
        What stands in its places in braces.

    Returns
    -------
    pyarrow.Field
        With unit, UCD and meaning.
    """
    return _field(column, _columns(table)[column], names)


def _field(column: str, spec: Mapping[str, str], names: Mapping[str, object]) -> pa.Field:
    metadata = {key: spec[key].format(**names) for key in ("unit", "ucd", "text")}
    return pa.field(column.format(**names), _arrow_type(spec["type"].format(**names)), metadata=metadata)


def photoz_schema(
    redshifts: FloatArray, provenance: Mapping[str, object] | None = None, *, with_names: bool = False
) -> pa.Schema:
    """Return the Arrow schema of the table that ``lumos photoz`` writes.

    Parameters
    ----------
    redshifts : float array, shape (n_z,)
        At which p(z) is given.
    provenance : mapping, optional
        Plain facts stored in the metadata of the file.
    with_names : bool, optional
        Whether the table of fluxes has identifiers that are texts, in the column ``object_name``.

    Returns
    -------
    pyarrow.Schema
        Each field with unit, UCD and meaning; the redshifts and the flag registry in the metadata.
    """
    schema = _schema(_chosen(_columns("photoz"), with_names=with_names), (), "nJy", len(redshifts), provenance)
    own = {b"lumos.flags": json.dumps(photoz_flag_metadata()), b"lumos.redshifts": json.dumps(redshifts.tolist())}
    return schema.with_metadata({**(schema.metadata or {}), **own})


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
    schema_fields = [
        _field(template, spec, {"estimator": estimator, "flux": flux_unit, "n": n})
        for template, spec in columns.items()
        for estimator in (estimators if "{estimator}" in template else [""])
    ]
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
        Names, types and metadata of the columns.

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


def list_column(table: pa.Table, name: str) -> FloatArray:
    """Return a column of fixed-size lists as an array.

    Parameters
    ----------
    table : pyarrow.Table
        With n rows.
    name : str
        Name of a column whose entries are lists of k numbers.

    Returns
    -------
    float array, shape (n, k)
        The lists of the rows; NaN where a list is missing.
    """
    width = table.schema.field(name).type.list_size
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(table.num_rows, width)
