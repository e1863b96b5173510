"""Photometric redshifts of a table of fluxes: one shard for some hundred galaxies, a manifest, resumable."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.catalogs.formats import open_table
from lumos.catalogs.identifiers import read_identifiers
from lumos.catalogs.schema import list_column, photoz_schema, to_arrow
from lumos.catalogs.tables import write_table
from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, WorkerDiedError, one_line
from lumos.files import file_sha256, file_stamp
from lumos.photoz.columns import read_numbers
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry, read_photometry
from lumos.photoz.models import ModelGrid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.zeropoints import fit_factors
from lumos.runs.driver import LocalDriver, Work
from lumos.runs.folder import Entry, begin_folder
from lumos.runs.shards import iterate_shards

__all__ = ["PhotozReport", "Tables", "match_redshifts", "photoz_run", "read_redshifts"]

#: Names of the column of known redshifts, in the order in which they are looked for.
_REDSHIFT = ("redshift", "z_spec", "zspec", "spec_z", "z")
#: What a progress display is told: shards finished, shards in all, the last one's name.
Progress = Callable[[int, int, str], None]
#: What processes share: models, settings, schema of the shards.
_Shared = tuple[ModelGrid, PhotozSettings, pa.Schema]


@dataclass(frozen=True)
class PhotozReport:
    """What a run did.

    Parameters
    ----------
    n_rows : int
        Galaxies in all shards.
    n_new : int
        Shards that were made now.
    failed : tuple of str
        Reason for each shard that could not be made.
    """

    n_rows: int
    n_new: int
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """Tables that redshifts come from.

    Parameters
    ----------
    fluxes : Path
        Coadd or table of fluxes, see :func:`lumos.photoz.fluxes.read_photometry`.
    spectra : Path, optional
        Table of known redshifts, ``object_id`` and ``redshift``; needed to calibrate with spectra.
    """

    fluxes: Path
    spectra: Path | None = None


@dataclass(frozen=True)
class _Task:
    """Some galaxies, and the shard that they become."""

    name: str
    source: Path
    shard: Path
    photometry: Photometry


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
        "photoz": settings.model_dump(mode="json"),
        "table": {"path": str(source.resolve()), "sha256": file_sha256(source)},
        "models": _digest(grid),
        "spectra": None if spectra is None else {"path": str(spectra.resolve()), "sha256": file_sha256(spectra)},
    }
    with begin_folder(out, "photoz", identity, "shards") as folder:
        names = [f"galaxies-{number:06d}" for number in range(-(-len(photometry) // settings.shard))]
        finished = {name for name in names if folder.is_finished(name, source.absolute())}
        todo = [name for name in names if name not in finished]
        folder.begin(finished, dict.fromkeys(todo, source.absolute()), {})
        if todo:
            photometry = photometry.scaled(_calibrated(photometry, grid, settings, spectra, out))
        tasks = [
            _Task(name, source.absolute(), out / "shards" / f"{name}.parquet", photometry.take(_part(name, settings)))
            for name in todo
        ]
        schema = photoz_schema(grid.redshifts, identity, with_names=photometry.object_name is not None)
        failed: list[str] = []
        with closing(driver.run(Work(_make_shard, _share, ((grid, settings, schema),)), tasks)) as results:
            for number, (task, result) in enumerate(results):
                entry = _failure(task, str(result)) if isinstance(result, WorkerDiedError) else result
                folder.enter(task.name, entry)
                failed += [entry["reason"]] if entry["status"] == "failed" else []
                if progress is not None:
                    progress(len(finished) + number + 1, len(names), task.name)
        return PhotozReport(folder.n_rows, len(tasks) - len(failed), tuple(failed))


def _part(name: str, settings: PhotozSettings) -> slice:
    first = int(name.rpartition("-")[2]) * settings.shard
    return slice(first, first + settings.shard)


def _digest(grid: ModelGrid) -> str:
    """Return a digest of all that models are."""
    digest = hashlib.sha256(json.dumps([grid.bands, grid.runs, grid.components, grid.narrow.tolist()]).encode())
    for values in (grid.redshifts, *grid.fluxes):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


@contextmanager
def _share(shared: _Shared) -> Iterator[_Shared]:
    yield shared


def _make_shard(shared: _Shared, task: _Task) -> Entry:
    """Fit some galaxies, write their shard and return its entry in the manifest; never raise."""
    grid, settings, schema = shared
    stamp = file_stamp(task.source)
    try:
        rows = redshift_rows(task.photometry, grid, settings)
        n_rows = write_table([to_arrow(rows, schema)], task.shard)
    except Exception as error:  # noqa: BLE001 (some bad galaxies do not stop the others)
        return _failure(task, one_line(error))
    return {
        "status": "done",
        "file": str(task.source),
        "inputs": {str(task.source): stamp},
        "shard": f"shards/{task.shard.name}",
        "sha256": file_sha256(task.shard),
        "n_rows": n_rows,
    }


def _failure(task: _Task, reason: str) -> Entry:
    return {"status": "failed", "file": str(task.source), "reason": f"{task.name}: {reason}"}


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
    redshifts = np.array(json.loads(metadata[b"lumos.redshifts"]))
    return table, RedshiftPdf(redshifts, list_column(table, "pz"))
