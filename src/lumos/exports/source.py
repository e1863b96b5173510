"""The run or the coadd that is exported, read a piece at a time."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumos.catalogs.schema import SCHEMA_VERSION
from lumos.coadds.read import table_pdf
from lumos.conventions import BoolArray
from lumos.errors import LumosDataError
from lumos.files import json_in_metadata
from lumos.pdf import FluxPdf
from lumos.photometry.measured import open_run
from lumos.runs.folder import read_manifest, read_waiting
from lumos.runs.shards import shard_paths
from lumos.spectra.passbands import PASSBANDS

__all__ = ["Source", "open_source"]

logger = logging.getLogger(__name__)

#: Rows that are held at once.
ROWS = 100_000
#: Most exposures that a message names.
_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run, one row per object and CCD, or a coadd, one row per object and band.

    Parameters
    ----------
    path : Path
        Folder of the run, or file of the coadd.
    is_coadd : bool
        Which of the two.
    files : tuple of Path
        Parquet files with the rows: the shards of the run, or the coadd.
    schema : pyarrow.Schema
        Columns of all files, with unit, UCD and meaning; the unit of fluxes is that of every file.
    n_rows : int
        Rows in all files.
    """

    path: Path
    is_coadd: bool
    files: tuple[Path, ...]
    schema: pa.Schema
    n_rows: int

    @property
    def flux_unit(self) -> str:
        """Return the unit of fluxes: ``nJy``, or ``image unit`` where no exposure has a zero point."""
        return _unit_of_fluxes(self.schema)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Return what the files say of how they were made."""
        found = json_in_metadata(self.path, self.schema.metadata, "lumos.provenance")
        return found if isinstance(found, dict) else {}

    @property
    def has_pdfs(self) -> bool:
        """Return whether the rows hold PDFs."""
        names = set(self.schema.names)
        return {"pdf_weights", "pdf_means", "pdf_stds"} <= names or {"pdf_nodes", "pdf_log_density"} <= names

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Return the bands, those with a known passband by wavelength, then the others by name."""
        found: set[str] = set()
        for table in self.batches(["band"]):
            found.update(table["band"].unique().to_pylist())

        def place(band: str) -> tuple[float, str]:
            return (PASSBANDS[band].wavelength if band in PASSBANDS else np.inf, band)

        return tuple(sorted(found, key=place))

    def text_width(self, name: str) -> int:
        """Return the bytes of the longest text of a column, at least 1.

        Parameters
        ----------
        name : str
            Column of texts.

        Returns
        -------
        int
            In UTF-8.
        """
        longest = (pc.max(pc.binary_length(table[name])).as_py() for table in self.batches([name]))
        return max(1, *(length or 0 for length in longest), 1)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the rows, some at a time.

        Parameters
        ----------
        columns : sequence of str, optional
            Which columns; all by default.

        Yields
        ------
        pyarrow.Table
            Up to 100 000 rows, in the order of the files.

        Raises
        ------
        LumosDataError
            If a file is damaged.
        """
        for path in self.files:
            try:
                with pq.ParquetFile(path, page_checksum_verification=True) as file:
                    for batch in file.iter_batches(ROWS, columns=None if columns is None else list(columns)):
                        yield pa.Table.from_batches([batch])
            except (OSError, pa.ArrowException) as error:
                raise LumosDataError(f"{path}: damaged or missing ({str(error).splitlines()[0]})") from error

    def pdf_columns(self) -> list[str]:
        """Return the columns that hold PDFs.

        Returns
        -------
        list of str
            Those of a mixture or of a grid.

        Raises
        ------
        LumosDataError
            If there are none, or the file does not say all of them.
        """
        if not self.has_pdfs:
            text = "has no columns of PDFs (pdf_weights, pdf_means, pdf_stds, or pdf_nodes, pdf_log_density)"
            raise LumosDataError(f"{self.path}: {text}; give what `lumos measure` or `lumos coadd` wrote")
        model = self.provenance.get("model") or {}
        if not self.is_coadd and model.get("cut_from") is not None:
            text = f"the PDFs of model {model.get('name')!r} are cut at flux 0 from magnitude {model['cut_from']} on"
            raise LumosDataError(f"{self.path}: {text}, which its rows do not say; export a coadd")
        return [name for name in self.schema.names if name.startswith("pdf_") and name != "pdf_fit_err"]


def measured_pdf(table: pa.Table) -> tuple[FluxPdf, BoolArray]:
    """Return the PDFs of rows, and which rows have one.

    Parameters
    ----------
    table : pyarrow.Table
        n rows of a source.

    Returns
    -------
    pdf : FluxPdf
        Of n rows, NaN where there is none.
    measured : bool array, shape (n,)
        False where a row has no flux and no PDF.
    """
    pdf = table_pdf(table)
    return pdf, np.isfinite(pdf.quantile(0.5))


def open_source(path: Path, *, finished: bool = False) -> Source:
    """Open a run or a coadd.

    Parameters
    ----------
    path : Path
        Folder that ``lumos measure`` wrote, or file that ``lumos coadd`` wrote.
    finished : bool, optional
        Take the finished exposures of a run in which others failed or were never begun.

    Returns
    -------
    Source
        Its rows are not read yet.

    Raises
    ------
    LumosDataError
        If it is neither, is damaged, or of another schema version; if exposures of a run are not finished, unless
        ``finished``; if some of its exposures have a zero point and others have none.
    """
    if path.is_dir():
        open_run(path)
        if not finished:
            _refuse_unfinished(path)
        files, is_coadd = tuple(shard_paths(path)), False
    elif path.is_file():
        files, is_coadd = (path,), True
    else:
        raise LumosDataError(f"{path}: no such run or coadd")
    schemas, n_rows = [], 0
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schemas.append(opened.schema_arrow)
                n_rows += opened.metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise LumosDataError(f"{file}: neither a run nor a coadd, or damaged ({reason})") from error
        _check_schema(file, schemas[-1], schemas[0], is_coadd=is_coadd)
    if n_rows == 0:
        raise LumosDataError(f"{path}: no row in it, nothing was measured")
    _check_units(path, files, schemas)
    return Source(path, is_coadd, files, schemas[0], n_rows)


def _refuse_unfinished(run: Path) -> None:
    """Refuse a run of which exposures failed or were not begun."""
    failed = [name for name, entry in read_manifest(run).items() if entry["status"] != "done"]
    for names, what in ((read_waiting(run), "not measured yet"), (failed, "failed")):
        if names:
            some = ", ".join(sorted(names)[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
            text = f"{len(names)} exposures {what} ({some})"
            raise LumosDataError(f"{run}: {text}; finish it with `lumos measure`, or export the others: --finished")


def _check_schema(path: Path, schema: pa.Schema, first: pa.Schema, *, is_coadd: bool) -> None:
    version = (schema.metadata or {}).get(b"lumos.schema_version", b"none").decode("utf-8", "replace")
    if version != str(SCHEMA_VERSION):
        raise LumosDataError(f"{path}: schema version {version}, this version reads {SCHEMA_VERSION}")
    needed = ("object_id", "band", "ra", "dec", "flux", "flux_err", "flags", "n_exposures" if is_coadd else "detector")
    for name in needed:
        if name not in schema.names:
            kind = "coadd of `lumos coadd`" if is_coadd else "shard of `lumos measure`"
            raise LumosDataError(f"{path}: no column {name!r}, this is no {kind}")
    if schema.names != first.names or schema.types != first.types:
        differ = sorted(set(map(str, schema)) ^ set(map(str, first)))
        raise LumosDataError(f"{path}: other columns than in the first shard ({', '.join(differ) or 'their order'})")


def _unit_of_fluxes(schema: pa.Schema) -> str:
    return str((schema.field("flux").metadata or {}).get(b"unit", b"image unit").decode("utf-8", "replace"))


def _check_units(path: Path, files: Sequence[Path], schemas: Sequence[pa.Schema]) -> None:
    units = [_unit_of_fluxes(schema) for schema in schemas]
    if len(set(units)) > 1:
        bare = [file.stem for file, unit in zip(files, units, strict=True) if unit != "nJy"]
        text = f"{len(bare)} of {len(files)} exposures have no zero point (as {bare[0]}), their fluxes are in image"
        raise LumosDataError(
            f"{path}: {text} units; allowed: all with one, or none; `lumos coadd --zeropoints TABLE` takes zero points"
        )
