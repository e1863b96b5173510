"""Rows of a run for its coadds, read shard by shard; and coadds as they were written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumos.catalogs.schema import list_column
from lumos.coadds.calibrate import Calibration
from lumos.coadds.rows import Rows
from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError, foreign_reader
from lumos.pdf import FluxPdf, GaussianMixture, GridPdf
from lumos.runs.shards import read_shard

__all__ = [
    "READ",
    "ShardReader",
    "flux_columns",
    "has_names",
    "join_rows",
    "object_hash",
    "object_names",
    "read_coadd",
    "sample_objects",
    "table_pdf",
]

#: Columns of a shard that a coadd needs, beside the fluxes.
READ = ("object_id", "exposure_id", "detector", "band", "ra", "dec", "flags", "pdf_weights", "pdf_means", "pdf_stds")


def read_coadd(path: Path | str) -> tuple[pa.Table, FluxPdf]:
    """Read a coadd.

    Parameters
    ----------
    path : Path or str
        Table that ``lumos coadd`` wrote.

    Returns
    -------
    table : pyarrow.Table
        One row per object and band.
    pdf : FluxPdf
        The PDFs of the rows, nJy.

    Raises
    ------
    LumosDataError
        If the file is missing, damaged, of another schema version, or no coadd.
    """
    table = read_shard(path)
    if not {"pdf_nodes", "pdf_fit_err"} & set(table.column_names):
        raise LumosDataError(f"{path}: no column 'pdf_fit_err', this is no coadd")
    with foreign_reader(f"{path}: damaged, its PDFs cannot be read"):
        return table, table_pdf(table)


def table_pdf(table: pa.Table) -> FluxPdf:
    """Return the PDFs that a table of fluxes holds.

    Parameters
    ----------
    table : pyarrow.Table
        Of a run or a coadd, n rows.

    Returns
    -------
    FluxPdf
        Of n rows, in the unit of the table's fluxes.
    """
    if "pdf_nodes" in table.column_names:
        return GridPdf(list_column(table, "pdf_nodes"), list_column(table, "pdf_log_density"))
    return GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))


def has_names(shards: Sequence[Path]) -> bool:
    """Tell whether the objects of shards have texts as identifiers.

    Parameters
    ----------
    shards : sequence of Path
        Of runs of one catalogue.

    Returns
    -------
    bool
        True if the first has the column ``object_name``.
    """
    return "object_name" in pq.read_schema(shards[0]).names


def object_names(shards: Sequence[Path], objects: IntArray) -> AnyArray:
    """Return the texts that identify objects.

    Parameters
    ----------
    shards : sequence of Path
        Where the objects are.
    objects : int array, shape (n,)
        Objects of these shards.

    Returns
    -------
    array of str, shape (n,)
        Text that the catalogue gives each object as its identifier.
    """
    wanted, where = np.unique(objects, return_inverse=True)
    names = np.full(len(wanted), "", dtype=object)
    for path in shards:
        table = read_shard(path, ["object_id", "object_name"])
        table = table.filter(pc.is_in(table["object_id"], pa.array(wanted)))
        place = np.searchsorted(wanted, table["object_id"].to_numpy())
        names[place] = table["object_name"].to_numpy(zero_copy_only=False)
    return names[where]


def flux_columns(estimators: Sequence[str]) -> list[str]:
    """Return the columns of the fluxes of estimators.

    Parameters
    ----------
    estimators : sequence of str
        Names of the estimators of the run.

    Returns
    -------
    list of str
        Fluxes and errors.
    """
    return [f"{name}_{part}" for name in estimators for part in ("flux", "flux_err")]


@dataclass(frozen=True, eq=False)
class ShardReader:
    """Reads rows of shards for coadds.

    Parameters
    ----------
    estimators : tuple of str
        Names of the estimators whose fluxes are read.
    calibration : Calibration
        Names the units.
    object_id : int array, shape (n,)
        Objects of the catalogue, sorted.
    ref_mag : float array, shape (n,)
        Catalogue magnitudes of these objects; NaN where unknown.
    """

    estimators: tuple[str, ...]
    calibration: Calibration
    object_id: IntArray
    ref_mag: FloatArray

    def read(self, path: Path, choose: Callable[[pa.Table], BoolArray]) -> Rows:
        """Return the rows of a shard that ``choose`` marks.

        Parameters
        ----------
        path : Path
            Parquet file of the shard.
        choose : callable
            Takes the shard's table, returns a bool array.

        Returns
        -------
        Rows
            The rows that ``choose`` marks.
        """
        table = read_shard(path, [*READ, *flux_columns(self.estimators)])
        table = table.filter(pa.array(choose(table)))

        def numbers(name: str) -> FloatArray:
            return np.asarray(table[name].to_numpy(), dtype=np.float64)

        objects = table["object_id"].to_numpy()
        return Rows(
            object_id=objects,
            ra=numbers("ra"),
            dec=numbers("dec"),
            unit=self._units(table),
            flags=table["flags"].to_numpy().astype(np.int64),
            ref_mag=self._magnitude(objects),
            weights=list_column(table, "pdf_weights"),
            means=list_column(table, "pdf_means"),
            stds=list_column(table, "pdf_stds"),
            fluxes={name: (numbers(f"{name}_flux"), numbers(f"{name}_flux_err")) for name in self.estimators},
        )

    def _units(self, table: pa.Table) -> IntArray:
        exposures, first = np.unique(table["exposure_id"].to_numpy(zero_copy_only=False), return_inverse=True)
        detectors, second = np.unique(table["detector"].to_numpy(zero_copy_only=False), return_inverse=True)
        pairs, row = np.unique(first * max(len(detectors), 1) + second, return_inverse=True)
        known = self.calibration.index(exposures[pairs // len(detectors)], detectors[pairs % len(detectors)])
        return known[row]

    def _magnitude(self, objects: IntArray) -> FloatArray:
        if not len(self.object_id):
            return np.full(len(objects), np.nan)
        place = np.searchsorted(self.object_id, objects).clip(max=len(self.object_id) - 1)
        return np.where(self.object_id[place] == objects, self.ref_mag[place], np.nan)


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Join rows.

    Parameters
    ----------
    parts : sequence of Rows
        One or more.

    Returns
    -------
    Rows
        All of them.
    """
    names = ("object_id", "ra", "dec", "unit", "flags", "ref_mag", "weights", "means", "stds")
    fluxes = {
        name: (
            np.concatenate([part.fluxes[name][0] for part in parts]),
            np.concatenate([part.fluxes[name][1] for part in parts]),
        )
        for name in parts[0].fluxes
    }
    return Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, fluxes=fluxes)


def object_hash(table: pa.Table) -> AnyArray:
    """Return a number for each object that is as good as random, and always the same.

    Parameters
    ----------
    table : pyarrow.Table
        With ``object_id``, n rows.

    Returns
    -------
    uint64 array, shape (n,)
        A number for each object, spread evenly over all of uint64.
    """
    value = table["object_id"].to_numpy().astype(np.uint64)
    # The finaliser of splitmix64 (Steele, Lea & Flood 2014, OOPSLA).
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def sample_objects(shards: Sequence[Path], most: int) -> tuple[dict[str, int], dict[str, list[Path]]]:
    """Choose objects of each band at random, without holding all of them.

    Parameters
    ----------
    shards : sequence of Path
        Files of a run.
    most : int
        Objects of each band.

    Returns
    -------
    limits : dict
        By band, the largest hash of the chosen: those with the smallest ones are.
    files : dict
        By band, the files with rows of it.
    """
    smallest: dict[str, AnyArray] = {}
    files: dict[str, list[Path]] = {}
    for path in shards:
        table = read_shard(path, ["object_id", "band"])
        for band in table["band"].unique().to_pylist():
            here = table.filter(pc.equal(table["band"], band))
            before = smallest.get(band, np.zeros(0, dtype=np.uint64))
            smallest[band] = np.unique(np.concatenate([before, object_hash(here)]))[:most]
            files.setdefault(band, []).append(path)
    return {band: int(values[-1]) for band, values in smallest.items()}, files
