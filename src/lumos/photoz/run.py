"""Photometric redshifts of a table of fluxes by fits of templates; tables of known redshifts; finished runs."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.catalogs.formats import Column, TableFile, open_table
from lumos.catalogs.identifiers import read_identifiers
from lumos.catalogs.schema import list_column
from lumos.catalogs.tables import write_table
from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.files import file_sha256, json_in_metadata
from lumos.photoz.columns import read_numbers
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry, read_photometry
from lumos.photoz.models import ModelGrid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.shards import PhotozJob, PhotozReport, Progress, Rows, write_shards
from lumos.photoz.zeropoints import fit_factors
from lumos.runs.driver import Driver, driver_of
from lumos.runs.shards import iterate_shards

__all__ = ["Tables", "is_redshift_run", "match_column", "match_redshifts", "photoz_run", "read_redshifts"]

#: Names of the column of known redshifts, in the order in which they are looked for.
_REDSHIFT = ("redshift", "z_spec", "zspec", "spec_z", "z")


@dataclass(frozen=True)
class Tables:
    """Tables that redshifts come from.

    Parameters
    ----------
    fluxes : Path
        Coadd or table of fluxes, see :func:`lumos.photoz.fluxes.read_photometry`.
    spectra : Path, optional
        Table of known redshifts, ``object_id`` and ``redshift``; needed to calibrate with spectra, or to train.
    exposures : Path, optional
        Fluxes of single exposures, to train Deepz: a run of ``lumos measure``, or a table with a row per object, band
        and exposure.
    """

    fluxes: Path
    spectra: Path | None = None
    exposures: Path | None = None


def photoz_run(
    tables: Tables,
    grid: ModelGrid,
    out: Path,
    settings: PhotozSettings,
    *,
    workers: int | Driver = 1,
    progress: Progress | None = None,
) -> PhotozReport:
    """Find the redshifts of all galaxies of a table; a run that was stopped is continued.

    Parameters
    ----------
    tables : Tables
        Fluxes and, if any are, known redshifts.
    grid : ModelGrid
        Model fluxes.
    out : Path
        Folder of the run; gets shards, a manifest, the settings and, if zero points are corrected,
        ``zeropoints.parquet``.
    settings : PhotozSettings
        Settings.
    workers : int or Driver, optional
        Number of processes; rows do not depend on it.
    progress : callable, optional
        Told after each shard.

    Returns
    -------
    PhotozReport
        What was done.

    Raises
    ------
    LumosDataError
        If a table cannot be used, or too few galaxies have redshifts.
    LumosConfigError
        If ``out`` holds a run of something else, or a setting names a band that is not there.
    LumosValueError
        If there is no worker.
    """
    driver, source, spectra = driver_of(workers), tables.fluxes, tables.spectra
    photometry = read_photometry(source, grid.bands, settings)
    if not len(photometry):
        raise LumosDataError(f"{source}: no row in it")
    if settings.calibrate == "spectra" and spectra is None:
        raise LumosDataError("photoz.calibrate: got spectra, which needs a table of known redshifts (--spec-z)")
    grid = grid.in_bands(photometry.bands)
    identity = {
        "photoz": settings.model_dump(mode="json", exclude={"method", "deepz"}),
        "table": {"path": str(source.resolve()), "sha256": file_sha256(source)},
        "models": _digest(grid),
        "spectra": None if spectra is None else {"path": str(spectra.resolve()), "sha256": file_sha256(spectra)},
        "others": None if settings.others is None else file_sha256(Path(settings.others)),
    }

    def prepare(fluxes: Photometry) -> tuple[Photometry, Rows]:
        calibrated = fluxes.scaled(_calibrated(fluxes, grid, settings, spectra, out))
        return calibrated, partial(_fit, grid=grid, settings=settings)

    job = PhotozJob(source, photometry, grid.redshifts, identity, settings.shard, prepare)
    return write_shards(job, out, driver, progress=progress)


def _fit(photometry: Photometry, grid: ModelGrid, settings: PhotozSettings) -> dict[str, AnyArray]:
    return redshift_rows(photometry, grid, settings)


def _digest(grid: ModelGrid) -> str:
    """Return a digest of all that models are."""
    digest = hashlib.sha256(json.dumps([grid.bands, grid.runs, grid.components, grid.narrow.tolist()]).encode())
    for values in (grid.redshifts, *grid.fluxes):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _calibrated(
    photometry: Photometry, grid: ModelGrid, settings: PhotozSettings, spectra: Path | None, out: Path
) -> FloatArray:
    """Return the factors of the bands, and write them."""
    if settings.calibrate == "none":
        return np.ones(len(grid.bands))
    known = None
    if settings.calibrate == "spectra":
        assert spectra is not None
        known = match_redshifts(spectra, photometry.object_id)
    found = fit_factors(photometry, grid, settings, known)
    columns = {
        "band": list(grid.bands),
        "factor": found.factor,
        "zeropoint_correction": -2.5 * np.log10(found.factor),
        "n_galaxies": found.n_galaxies,
        "last_step": found.last_step,
    }
    write_table([pa.table(columns)], out / "zeropoints.parquet")
    return found.factor


def match_redshifts(path: Path, object_id: IntArray) -> FloatArray:
    """Return the known redshifts of galaxies.

    Parameters
    ----------
    path : Path
        Table with ``object_id`` and ``redshift`` (or z_spec, zspec, spec_z, z). With a column ``band``, as the true
        fluxes of a simulation have it, the first row of each object counts.
    object_id : int array, shape (n,)
        Galaxies.

    Returns
    -------
    ndarray, shape (n,)
        Redshifts; NaN where the table has none above -1.

    Raises
    ------
    LumosDataError
        If the table cannot be read, has no rows, lacks a column or holds no numbers in it, or has none of the galaxies.
    """
    table = open_table(path, "table of known redshifts")
    name = next((name for name in _REDSHIFT if name in table.names), None)
    if name is None or "object_id" not in table.names:
        text = f"needed: object_id and one of {', '.join(_REDSHIFT)}; the table has: {', '.join(table.names)}"
        raise LumosDataError(f"{path}: {text}")
    if not table.n_rows:
        raise LumosDataError(f"{path}: no row in it")
    found = match_column(table, name, object_id)
    if not np.isfinite(found).any():
        raise LumosDataError(f"{path}: has a redshift of none of the {len(object_id)} galaxies")
    return np.where(found > -1, found, np.nan)


def match_column(table: TableFile, name: str, object_id: IntArray) -> FloatArray:
    """Return what a table says of objects.

    Parameters
    ----------
    table : TableFile
        With ``object_id``, of one row for each object, or one for each object and ``band``.
    name : str
        Column of numbers.
    object_id : int array, shape (n,)
        Objects.

    Returns
    -------
    ndarray, shape (n,)
        NaN where the table lacks an object or its number.

    Raises
    ------
    LumosDataError
        If identifiers are unusable or repeat, or the column holds no numbers.
    """
    if "band" in table.names:
        _, first = np.unique(table.read("object_id").values.astype(str), return_index=True)
        table = _some_rows(table, first)
    objects, _ = read_identifiers(table, "object_id")
    values, order = read_numbers(table, name), np.argsort(objects)
    place = np.searchsorted(objects[order], object_id).clip(max=len(objects) - 1)
    return np.where(objects[order][place] == object_id, values[order][place], np.nan)


def _some_rows(table: TableFile, rows: IntArray) -> TableFile:
    """Return a table of some rows of another."""

    def load(name: str) -> Column:
        whole = table.read(name)
        return Column(whole.values[rows], whole.missing[rows])

    return replace(table, n_rows=len(rows), load=load)


def is_redshift_run(path: Path) -> bool:
    """Tell whether a folder is one that ``lumos photoz`` wrote.

    Parameters
    ----------
    path : Path
        A folder.

    Returns
    -------
    bool
        Whether its settings begin as those of ``lumos photoz`` do.
    """
    settings = path / "settings.yaml"
    return settings.is_file() and "written by `lumos photoz`" in settings.read_text(encoding="utf-8").partition("\n")[0]


def read_redshifts(run: Path | str) -> tuple[pa.Table, RedshiftPdf]:
    """Read what ``lumos photoz`` wrote.

    Parameters
    ----------
    run : Path or str
        Its folder.

    Returns
    -------
    table : pyarrow.Table
        One row per galaxy, in the order of the table of fluxes.
    pdf : RedshiftPdf
        p(z) of the rows.

    Raises
    ------
    LumosDataError
        If the folder is no such run, or a shard is damaged.
    """
    tables = list(iterate_shards(run))
    metadata = tables[0].schema.metadata or {}
    if b"lumos.redshifts" not in metadata:
        raise LumosDataError(f"{run}: not written by `lumos photoz`")
    table = pa.concat_tables(tables)
    found = json_in_metadata(Path(run), metadata, "lumos.redshifts")
    if not isinstance(found, list) or not all(isinstance(one, int | float) for one in found):
        raise LumosDataError(f"{run}: damaged metadata, lumos.redshifts is no list of numbers")
    redshifts = np.array(found, dtype=np.float64)
    return table, RedshiftPdf(redshifts, list_column(table, "pz"))
