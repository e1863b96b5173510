"""Tables of fluxes as the Python API hands them out: numpy columns, PDFs, astropy with units, Arrow, pandas."""

import html
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from lumos.catalogs.schema import list_column
from lumos.coadds.read import table_pdf
from lumos.conventions import AnyArray
from lumos.errors import LumosDataError, LumosError, LumosShapeError, LumosValueError
from lumos.flags import flag_names
from lumos.pdf import FluxPdf

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["FluxTable", "join_tables", "to_qtable"]

logger = logging.getLogger(__name__)

#: Rows and columns that a notebook shows.
_SHOWN = 5
_COLUMNS = ("object_id", "exposure_id", "band", "n_exposures", "flux", "flux_err", "flags")
#: Metadata of a table: what is known of it as a whole.
_PROVENANCE = b"lumos.provenance"


@dataclass(frozen=True, eq=False, repr=False)
class FluxTable:
    """A table of fluxes: of a run, one row per object and CCD, or of a coadd, one row per object and band.

    Parameters
    ----------
    table : pyarrow.Table
        n rows, the columns of ``docs/reference/columns.md``, each with its unit.
    path : Path, optional
        Folder of the run, or file of the coadd, that it was read from; None where it is in memory alone.
    failed : mapping, optional
        Reason by file, of exposures that could not be measured.

    Examples
    --------
    In a folder with a simulated survey (``lumos simulate``):

    >>> import lumos
    >>> table = lumos.measure("exposures/r_001.fits", "parent.parquet", estimators=["optimal"])
    >>> table["flux"].shape == (len(table),)
    True
    >>> table.unit("flux")
    'nJy'
    >>> bright = table.select(table["flux"] > 20 * table["flux_err"])
    >>> magnitude, plus, minus = bright.pdf.magnitude()
    >>> bool((plus > minus).all())
    True
    >>> bright.to_qtable()["flux"].unit
    Unit("nJy")
    """

    table: pa.Table
    path: Path | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, name: object) -> bool:
        return name in self.table.column_names

    def __getitem__(self, name: str) -> AnyArray:
        self._refuse_unknown(name)
        if pa.types.is_fixed_size_list(self.table.schema.field(name).type):
            return list_column(self.table, name)
        return np.asarray(self.table[name].to_numpy(zero_copy_only=False))

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns, in order."""
        return list(self.table.column_names)

    def unit(self, name: str) -> str:
        """Return the unit of a column.

        Parameters
        ----------
        name : str
            One of ``column_names``.

        Returns
        -------
        str
            ``"nJy"``, ``"image unit"`` where there is no zero point, empty where there is none.

        Raises
        ------
        LumosValueError
            If there is no such column.
        """
        self._refuse_unknown(name)
        return _unit(self.table.schema.field(name))

    @cached_property
    def pdf(self) -> FluxPdf:
        """Return the flux PDFs of all rows, in the unit of ``flux``; NaN where a row has none."""
        missing = [name for name in ("pdf_weights", "pdf_means", "pdf_stds") if name not in self]
        if missing and "pdf_nodes" not in self:
            raise LumosDataError(f"no column {missing[0]!r}: read the table with its PDFs, {', '.join(missing)}")
        model = _provenance(self.table).get("model") or {}
        if "exposure_id" in self and model.get("cut_from") is not None:
            text = f"the PDFs of model {model.get('name')!r} are cut at flux 0 from magnitude {model['cut_from']}"
            raise LumosDataError(
                f"{text}, which a table of a run does not hold; allowed: a coadd, or flux_q16 to flux_q84"
            )
        unit = self.unit("pdf_nodes" if "pdf_nodes" in self else "pdf_means")
        if unit != "nJy":
            text = "the PDFs of these rows are in %r: without a zero point (NO_ZEROPOINT) a magnitude is not one of AB"
            logger.warning(text, unit)
        return table_pdf(self.table)

    def select(self, rows: ArrayLike) -> "FluxTable":
        """Return some of the rows.

        Parameters
        ----------
        rows : array_like, shape (n,) of bool, or (m,) of int
            Which.

        Returns
        -------
        FluxTable
            In memory alone: it has no path.

        Raises
        ------
        LumosShapeError
            If a mask has another length than the table.
        LumosValueError
            If they are neither truth values nor numbers of rows.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_ and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        elif chosen.dtype == np.bool_ or chosen.ndim != 1:
            raise LumosShapeError("rows", chosen.shape, f"({len(self)},), or a list of row numbers")
        elif not chosen.size:
            chosen = chosen.astype(np.int64)
        if chosen.dtype.kind not in "iu":
            raise LumosValueError("rows", str(chosen.dtype), "truth values or row numbers")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise LumosValueError("rows", int(chosen.max()), f"0 to {len(self) - 1}")
        return FluxTable(self.table.take(pa.array(chosen)))

    def to_arrow(self) -> pa.Table:
        """Return the Arrow table itself, units and meaning of the columns in its metadata.

        Returns
        -------
        pyarrow.Table
            With n rows.
        """
        return self.table

    def to_qtable(self) -> "QTable":
        """Return an astropy table with units; what is in image units has none.

        Returns
        -------
        astropy.table.QTable
            With n rows; components of PDFs are columns of shape (n, k).
        """
        return to_qtable(self.table)

    def to_pandas(self) -> Any:  # noqa: ANN401 (pandas need not be installed)
        """Return a pandas data frame; its flags are ``frame["flags"]``.

        Returns
        -------
        pandas.DataFrame
            With n rows, without units.

        Raises
        ------
        LumosError
            If pandas is not installed.
        """
        try:
            import_module("pandas")
        except ModuleNotFoundError as error:
            raise LumosError("to_pandas needs pandas: pip install pandas") from error
        return self.table.to_pandas()

    def _refuse_unknown(self, name: object) -> None:
        if name not in self.table.column_names:
            raise LumosValueError("column", name, ", ".join(self.table.column_names))

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        failed = f", {len(self.failed)} exposures failed" if self.failed else ""
        return f"FluxTable of {len(self)} rows and {len(self.column_names)} columns, {where}{failed}"

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks."""
        names = [name for name in _COLUMNS if name in self] or self.column_names[: len(_COLUMNS)]
        part = self.table.select(names).slice(0, _SHOWN).to_pydict()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        units = "".join(f"<td><i>{html.escape(self.unit(name))}</i></td>" for name in names)
        lines = [
            "".join(f"<td>{html.escape(_text(name, value))}</td>" for name, value in zip(names, row, strict=True))
            for row in zip(*part.values(), strict=True)
        ]
        body = "".join(f"<tr>{line}</tr>" for line in (units, *lines))
        return f"<p>{html.escape(repr(self))}</p><table><tr>{head}</tr>{body}</table>"


def _text(name: str, value: Any) -> str:  # noqa: ANN401
    """Return a cell as text."""
    if name == "flags":
        return " ".join(flag_names(value)) or "0"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _unit(item: pa.Field) -> str:
    return str((item.metadata or {}).get(b"unit", b"").decode())


def _provenance(table: pa.Table) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_PROVENANCE, b"{}"))
    return found


def to_qtable(table: pa.Table, units: Mapping[str, str] | None = None) -> "QTable":
    """Return an Arrow table as one of astropy, with the units that its columns state.

    Parameters
    ----------
    table : pyarrow.Table
        n rows.
    units : mapping, optional
        Units of columns that state none.

    Returns
    -------
    astropy.table.QTable
        With n rows; units that astropy does not know (``image unit``) are left out.
    """
    from astropy.table import Column, QTable  # noqa: PLC0415 - half a second, needed here alone
    from astropy.units import Unit  # noqa: PLC0415

    columns = []
    for item in table.schema:
        if pa.types.is_fixed_size_list(item.type):
            values = list_column(table, item.name)
        else:
            values = np.array(table[item.name].to_numpy(zero_copy_only=False))
            values = values.astype(np.str_) if values.dtype == object else values
        try:
            unit = Unit(_unit(item) or (units or {}).get(item.name, ""))
        except ValueError:
            unit = None
        text = (item.metadata or {}).get(b"text", b"").decode()
        columns.append(Column(values, item.name, unit=unit if str(unit) else None, description=text or None))
    return QTable(columns, copy=False)


def join_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables of fluxes; where their units differ, the joined column says so in place of a unit.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        One or more, of the same columns.

    Returns
    -------
    pyarrow.Table
        All rows; the facts that all tables share stay in its metadata.
    """
    parts = list(tables)
    first = parts[0].schema
    facts = [_provenance(part) for part in parts]
    common = {key: value for key, value in facts[0].items() if all(other.get(key) == value for other in facts)}
    metadata = {**(first.metadata or {}), _PROVENANCE: json.dumps(common).encode()}
    joined = pa.concat_tables([part.replace_schema_metadata(None) for part in parts], promote_options="permissive")
    fields = []
    for item in joined.schema:
        units = sorted({_unit(part.schema.field(item.name)) for part in parts})
        if len(units) > 1:
            item = item.with_metadata({**(item.metadata or {}), b"unit": " or ".join(units).encode()})  # noqa: PLW2901
        fields.append(item)
    return joined.cast(pa.schema(fields, metadata=metadata))
