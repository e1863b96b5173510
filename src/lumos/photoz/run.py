"""Photometric redshifts of a table of fluxes by fits of templates; tables of known redshifts; finished runs."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.catalogs.formats import open_table
from lumos.catalogs.identifiers import read_identifiers
from lumos.catalogs.schema import list_column
from lumos.catalogs.tables import write_table
from lumos.conventions import AnyArray, FloatArray
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
from lumos.runs.driver import LocalDriver
from lumos.runs.shards import iterate_shards

__all__ = ["Tables", "match_redshifts", "photoz_run", "read_redshifts"]

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
    workers: int = 1,
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
    workers : int, optional
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
    driver, source, spectra = LocalDriver(workers), tables.fluxes, tables.spectra
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
        known = match_redshifts(spectra, photometry)
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


def match_redshifts(path: Path, photometry: Photometry) -> FloatArray:
    """Return the known redshifts of galaxies.

    Parameters
    ----------
    path : Path
        Table with ``object_id`` and ``redshift`` (or z_spec, zspec, spec_z, z).
    photometry : Photometry
        Fluxes of n galaxies.

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
    objects, _ = read_identifiers(table, "object_id")
    values = read_numbers(table, name)
    order = np.argsort(objects)
    place = np.searchsorted(objects[order], photometry.object_id).clip(max=len(objects) - 1)
    found = np.where(objects[order][place] == photometry.object_id, values[order][place], np.nan)
    if not np.isfinite(found).any():
        raise LumosDataError(f"{path}: has a redshift of none of the {len(photometry)} galaxies")
    return np.where(found > -1, found, np.nan)


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
