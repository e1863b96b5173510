"""Measure many exposures: one shard each, a manifest, and the promise that a second run does nothing."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from time import monotonic

import pyarrow as pa

from lumos.catalogs.mapped import map_catalog, write_mapped
from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.schema import SCHEMA_VERSION
from lumos.catalogs.tables import write_table
from lumos.errors import LumosDataError, LumosError, LumosValueError, WorkerDiedError, one_line
from lumos.files import UNFINISHED, file_sha256, file_stamp
from lumos.images.reader import read_exposure, read_exposure_id
from lumos.photometry.exposure import estimators_of, measure_exposure
from lumos.photometry.injected import inject_table
from lumos.photometry.network import background_facts, model_facts
from lumos.photometry.objects import catalog_near
from lumos.photometry.settings import MeasureSettings
from lumos.runs.driver import Driver, Work, driver_of
from lumos.runs.folder import Entry, begin_folder
from lumos.surveys import Survey
from lumos.threads import one_thread

__all__ = ["RunReport", "identify_exposures", "measure_run"]

logger = logging.getLogger(__name__)

#: What the names of catalogues that processes share begin with.
_MAPPED = f"{UNFINISHED}catalog-"
#: What a progress display is told: exposures finished, exposures in all, the last one's name.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    Parameters
    ----------
    n_rows : int
        Rows in all shards of the run.
    done, skipped : tuple of str
        Exposures measured now, and those that were finished before.
    failed : mapping
        Reason by file, of the exposures that could not be measured.
    """

    n_rows: int
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class _Task:
    """All that a worker needs to measure one file."""

    exposure_id: str
    path: Path
    shard: Path
    survey: Survey
    psf_dir: Path | None
    settings: MeasureSettings
    injected: Path | None


def measure_run(
    exposures: Sequence[Path],
    catalog_path: Path,
    out: Path,
    survey: Survey,
    settings: MeasureSettings,
    *,
    psf_dir: Path | None = None,
    injected: Path | None = None,
    workers: int | Driver = 1,
    progress: Progress | None = None,
) -> RunReport:
    """Measure exposures into ``out/shards``, with a manifest and the resolved settings.

    Parameters
    ----------
    exposures : sequence of Path
        FITS files; each becomes one shard, whatever number of CCDs it holds.
    catalog_path : Path
        Parent catalogue.
    out : Path
        Folder of the run; made if needed. A run of the same settings is continued.
    survey : Survey
        How to read the exposures.
    settings : MeasureSettings
        What to measure.
    psf_dir : Path, optional
        Folder with PSF models, where they do not lie beside the exposures.
    injected : Path, optional
        Galaxies that are put into the exposures, as :func:`lumos.photometry.injected.inject_table` takes them.
    workers : int or Driver, optional
        Number of processes.
    progress : callable, optional
        Called after each exposure with the number finished, the number in all, and the name.

    Returns
    -------
    RunReport
        What was done, skipped and what failed; one failing exposure does not stop the others.

    Raises
    ------
    LumosDataError
        If the catalogue cannot be read or two files have one exposure identifier.
    LumosConfigError
        If ``out`` holds a run of other settings, or the settings name an unknown estimator or model.
    LumosValueError
        If there is no exposure or no worker.
    """
    if not exposures:
        raise LumosValueError("exposures", 0, "at least one file")
    driver = driver_of(workers)
    estimators_of(settings)
    if psf_dir is not None and not psf_dir.is_dir():
        raise LumosDataError(f"{psf_dir}: no such folder (PSF files)")
    model = model_facts(settings.model)
    parent = settings.catalog.read(catalog_path)
    content = {
        "schema_version": SCHEMA_VERSION,
        "survey": survey.model_dump(mode="json"),
        "catalog": {"path": str(catalog_path.resolve()), "sha256": file_sha256(catalog_path)},
        "psf": None if psf_dir is None else str(psf_dir.resolve()),
        "model": model,
        **background_facts(settings),
        "measure": settings.model_dump(mode="json"),
    }
    if injected is not None:
        content["injected"] = {"path": str(injected.resolve()), "sha256": file_sha256(injected)}
    with begin_folder(out, "measure", content, "shards") as folder:
        tasks, failed = _tasks(exposures, out, _Task("", Path(), Path(), survey, psf_dir, settings, injected))
        finished = {task.exposure_id for task in tasks if folder.is_finished(task.exposure_id, task.path)}
        todo = [task for task in tasks if task.exposure_id not in finished]
        folder.begin(finished, {task.exposure_id: task.path for task in todo}, failed)
        done: list[str] = []
        with _shared(parent, out, in_memory=driver.is_serial(len(todo))) as shared:
            # What the processes share lies on disk.
            del parent
            with closing(driver.run(Work(_measure_file, _open_catalog, (shared,)), todo)) as results:
                for task, result in results:
                    entry = _failure(task, f"{task.path}: {result}") if isinstance(result, WorkerDiedError) else result
                    folder.enter(task.exposure_id, entry)
                    if entry["status"] == "done":
                        done.append(task.exposure_id)
                    else:
                        failed[str(task.path)] = entry["reason"]
                    if progress is not None:
                        progress(len(done) + len(finished) + len(failed), len(exposures), task.exposure_id)
        skipped = tuple(task.exposure_id for task in tasks if task.exposure_id in finished)
        return RunReport(folder.n_rows, tuple(done), skipped, failed)


@contextmanager
def _shared(catalog: ParentCatalog, out: Path, *, in_memory: bool) -> Iterator[ParentCatalog | Path]:
    """Yield a catalogue in memory for one process, the folder of one on disk for several."""
    for leftover in out.glob(f"{_MAPPED}*"):
        # A killed run's; a symbolic link of that name is nobody's here, and is left alone.
        if leftover.is_dir() and not leftover.is_symlink():
            rmtree(leftover)
    if in_memory:
        yield catalog
        return
    with TemporaryDirectory(prefix=_MAPPED, dir=out) as folder:
        write_mapped(catalog, Path(folder))
        del catalog
        yield Path(folder)


def identify_exposures(exposures: Sequence[Path], survey: Survey) -> tuple[dict[str, Path], dict[str, str]]:
    """Find the identifiers of exposures.

    Parameters
    ----------
    exposures : sequence of Path
        FITS files.
    survey : Survey
        Where identifiers stand.

    Returns
    -------
    files : dict
        Absolute path of each exposure, by identifier.
    failed : dict
        Why a file cannot even be identified, by its absolute path.

    Raises
    ------
    LumosDataError
        If two exposures have the same identifier.
    """
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for path in map(Path.absolute, exposures):
        try:
            name = read_exposure_id(path, survey)
        except Exception as error:  # noqa: BLE001 (one bad file does not stop the others)
            failed[str(path)] = _reason(path, error)
            continue
        if name in files:
            advice = "identifiers must differ: rename a file, or set header.exposure_id in the survey file"
            raise LumosDataError(f"{files[name]} and {path}: both are exposure {name!r}; {advice}")
        files[name] = path
    return files, failed


def _tasks(exposures: Sequence[Path], out: Path, like: _Task) -> tuple[list[_Task], dict[str, str]]:
    """Return a task like one for each file, and the reason for each file that cannot even be identified."""
    files, failed = identify_exposures(exposures, like.survey)
    shards = out / "shards"
    tasks = [
        replace(like, exposure_id=name, path=path, shard=shards / f"{name}.parquet") for name, path in files.items()
    ]
    return tasks, failed


@contextmanager
def _open_catalog(catalog: ParentCatalog | Path) -> Iterator[ParentCatalog]:
    """Yield the catalogue of this process, in memory or mapped from disk."""
    with one_thread():
        yield catalog if isinstance(catalog, ParentCatalog) else map_catalog(catalog)


def _measure_file(catalog: ParentCatalog, task: _Task) -> Entry:
    """Measure all CCDs of one file into its shard and return its manifest entry; never raise."""
    start = monotonic()
    detectors: list[str] = []
    # The image as it was before it was read; its companions are known only when they have been.
    inputs = {str(task.path): file_stamp(task.path)}

    def tables() -> Iterator[pa.Table]:
        for exposure in read_exposure(task.path, task.survey, psf_dir=task.psf_dir):
            detectors.append(exposure.detector)
            for path in map(Path.absolute, exposure.files):
                inputs.setdefault(str(path), file_stamp(path))
            if task.injected is not None:
                exposure = inject_table(exposure, task.injected, task.settings)  # noqa: PLW2901
            yield measure_exposure(exposure, catalog_near(exposure, catalog), task.settings)

    try:
        n_rows = write_table(tables(), task.shard)
    except Exception as error:
        logger.debug("%s: failed", task.path, exc_info=True)
        return _failure(task, _reason(task.path, error))
    if n_rows == 0:
        logger.warning("%s: no object of the catalogue lies on this exposure", task.path)
    return {
        "status": "done",
        "file": str(task.path),
        "inputs": inputs,
        "shard": f"shards/{task.shard.name}",
        "sha256": file_sha256(task.shard),
        "n_rows": n_rows,
        "detectors": detectors,
        "seconds": round(monotonic() - start, 3),
    }


def _failure(task: _Task, reason: str) -> Entry:
    return {"status": "failed", "file": str(task.path), "reason": reason}


def _reason(path: Path, error: Exception) -> str:
    """Return one line: a foreseen error as it is, another one with the file and its type."""
    return one_line(error) if isinstance(error, LumosError) else f"{path}: {one_line(error)}"
