"""Measure many exposures: one shard each, a manifest, and the promise that a second run does nothing."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from time import monotonic

import pyarrow as pa
import torch

from lumos import __version__
from lumos.catalogs.mapped import map_catalog, write_mapped
from lumos.catalogs.parent import ParentCatalog, read_parent
from lumos.catalogs.schema import SCHEMA_VERSION, Entry, read_manifest, write_shard
from lumos.errors import LumosDataError, LumosError, LumosValueError, one_line
from lumos.files import UNFINISHED, file_sha256, file_stamp, write_json
from lumos.images.reader import read_exposure, read_exposure_id
from lumos.photometry.exposure import estimators_of, measure_exposure
from lumos.photometry.network import model_facts
from lumos.photometry.objects import catalog_near
from lumos.photometry.settings import MeasureSettings
from lumos.runs.outputs import lock_folder, settle_settings
from lumos.runs.workers import Workers
from lumos.surveys import Survey

__all__ = ["RunReport", "measure_run", "one_thread"]

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


def measure_run(
    exposures: Sequence[Path],
    catalog_path: Path,
    out: Path,
    survey: Survey,
    settings: MeasureSettings,
    *,
    psf_dir: Path | None = None,
    workers: int = 1,
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
    workers : int, optional
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
    if workers < 1:
        raise LumosValueError("workers", workers, ">= 1")
    estimators_of(settings)
    if psf_dir is not None and not psf_dir.is_dir():
        raise LumosDataError(f"{psf_dir}: no such folder (PSF files)")
    model = model_facts(settings.model)
    parent = read_parent(catalog_path, settings.catalog.columns, settings.catalog.radius, settings.catalog.made_from)
    content = {
        "schema_version": SCHEMA_VERSION,
        "survey": survey.model_dump(mode="json"),
        "catalog": {"path": str(catalog_path.resolve()), "sha256": file_sha256(catalog_path)},
        "psf": None if psf_dir is None else str(psf_dir.resolve()),
        "model": model,
        "measure": settings.model_dump(mode="json"),
    }
    with lock_folder(out, "shards"):
        (out / "shards").mkdir(exist_ok=True)
        manifest = _Manifest(out)
        settle_settings(out, "measure", content, begun=bool(manifest.finished))
        tasks, failed = _tasks(exposures, out, survey, psf_dir, settings)
        finished = {task.exposure_id for task in tasks if manifest.is_finished(task.exposure_id, task.path)}
        todo = [task for task in tasks if task.exposure_id not in finished]
        manifest.begin(finished, {task.exposure_id: task.path for task in todo}, failed)
        done: list[str] = []
        with _shared(parent, out, len(todo), workers) as shared, closing(_execute(todo, shared, workers)) as results:
            # What the processes share lies on disk.
            del parent
            for task, result in results:
                manifest.enter(task.exposure_id, result)
                if result["status"] == "done":
                    done.append(task.exposure_id)
                else:
                    failed[str(task.path)] = result["reason"]
                if progress is not None:
                    progress(len(done) + len(finished) + len(failed), len(exposures), task.exposure_id)
        skipped = tuple(task.exposure_id for task in tasks if task.exposure_id in finished)
        return RunReport(manifest.n_rows, tuple(done), skipped, failed)


@contextmanager
def _shared(catalog: ParentCatalog, out: Path, n: int, workers: int) -> Iterator[ParentCatalog | Path]:
    """Yield a catalogue in memory for one process, the folder of one on disk for several."""
    for leftover in out.glob(f"{_MAPPED}*"):
        # A killed run's; a symbolic link of that name is nobody's here, and is left alone.
        if leftover.is_dir() and not leftover.is_symlink():
            rmtree(leftover)
    if min(n, workers) <= 1:
        yield catalog
        return
    with TemporaryDirectory(prefix=_MAPPED, dir=out) as folder:
        write_mapped(catalog, Path(folder))
        del catalog
        yield Path(folder)


class _Manifest:
    """The manifest of a run: what became of each exposure.

    A failed exposure that was measured before keeps that entry under ``earlier``: if the files that it was measured
    from come back as they were, it counts again.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        known: Mapping[str, Entry] = read_manifest(out) if (out / "manifest.json").exists() else {}
        self._entries = dict(known)
        earlier = {name: entry if entry["status"] == "done" else entry.get("earlier") for name, entry in known.items()}
        #: Entries of the exposures that were measured once, by name.
        self.finished = {name: entry for name, entry in earlier.items() if entry and "file" in entry}

    @property
    def n_rows(self) -> int:
        """Return the rows in all shards."""
        return sum(entry.get("n_rows", 0) for entry in self._entries.values() if entry["status"] == "done")

    def is_finished(self, name: str, path: Path) -> bool:
        """Tell whether an exposure was measured before, from the same files, and its shard is whole."""
        if not self.finished.get(name, {}).get("inputs"):
            return False
        entry = self.finished[name] = _moved(self.finished[name], path)
        if any(file_stamp(Path(file)) != stamp for file, stamp in entry["inputs"].items()):
            return False
        shard = self._out / entry["shard"]
        return shard.is_file() and file_sha256(shard) == str(entry["sha256"])

    def begin(self, finished: set[str], todo: Mapping[str, Path], failed: Mapping[str, str]) -> None:
        """Enter what is known before the first exposure is measured.

        What must be measured again does not count any longer: whoever stops now leaves no mixture behind.
        """
        entries = {name: entry for name, entry in self._entries.items() if entry["status"] == "done"}
        entries |= {name: self.finished[name] for name in finished}
        changed = "its files, or its shard, changed since it was measured"
        for name in todo.keys() & self.finished.keys():
            entries[name] = self._failure(name, str(todo[name]), f"{todo[name]}: {changed}")
        for file, reason in failed.items():
            names = [name for name, entry in self.finished.items() if entry["file"] == file] or [Path(file).name]
            entries |= {name: self._failure(name, file, reason) for name in names}
        if entries != self._entries:
            self._entries = entries
            self._write()

    def enter(self, name: str, entry: Entry) -> None:
        """Enter what became of an exposure."""
        failed = entry["status"] == "failed"
        self._entries[name] = self._failure(name, entry["file"], entry["reason"]) if failed else entry
        self._write()

    def _failure(self, name: str, file: str, reason: str) -> Entry:
        earlier = {"earlier": self.finished[name]} if name in self.finished else {}
        return {"status": "failed", "file": file, "reason": reason, **earlier}

    def _write(self) -> None:
        write_json(self._out / "manifest.json", {"version": __version__, "exposures": self._entries})


def _moved(entry: Entry, path: Path) -> Entry:
    """Return an entry whose image, with what lies beside and below it, is now at ``path``."""
    before, now = Path(entry["file"]).parent, path.parent
    files = {Path(file): stamp for file, stamp in entry["inputs"].items()}
    inputs = {
        str(now / file.relative_to(before) if file.is_relative_to(before) else file): stamp
        for file, stamp in files.items()
    }
    return {**entry, "file": str(path), "inputs": inputs}


def _tasks(
    exposures: Sequence[Path], out: Path, survey: Survey, psf_dir: Path | None, settings: MeasureSettings
) -> tuple[list[_Task], dict[str, str]]:
    """Return a task for each file, and the reason for each file that cannot even be identified."""
    tasks: dict[str, _Task] = {}
    failed: dict[str, str] = {}
    for path in map(Path.absolute, exposures):
        try:
            name = read_exposure_id(path, survey)
        except Exception as error:  # noqa: BLE001 (one bad file does not stop the others)
            failed[str(path)] = _reason(path, error)
            continue
        if name in tasks:
            raise LumosDataError(f"{tasks[name].path} and {path}: both are exposure {name!r}; identifiers must differ")
        tasks[name] = _Task(name, path, out / "shards" / f"{name}.parquet", survey, psf_dir, settings)
    return list(tasks.values()), failed


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread of torch: batches as small as those of stamps lose by threads, and lose badly on a busy machine.

    Yields
    ------
    None
        While it holds.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _execute(
    tasks: Sequence[_Task], catalog: ParentCatalog | Path, workers: int
) -> Generator[tuple[_Task, Entry], None, None]:
    """Run the tasks here or in worker processes, yielding each as it ends."""
    if isinstance(catalog, ParentCatalog):
        with one_thread():
            for task in tasks:
                yield task, _measure_file(task, catalog)
        return
    waiting = list(reversed(tasks))
    while waiting:
        yield from _pool_until_broken(waiting, catalog, min(workers, len(waiting)))


def _pool_until_broken(waiting: list[_Task], catalog: Path, workers: int) -> Iterator[tuple[_Task, Entry]]:
    """Run waiting tasks in a pool; if a worker dies, settle those in flight and leave the rest waiting."""
    running: dict[Future[Entry], _Task] = {}
    try:
        with Workers(workers, _start_worker, catalog) as pool:
            while waiting or running:
                while waiting and len(running) < workers:
                    running[pool.submit(_measure_in_worker, waiting[-1])] = waiting[-1]
                    waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    entry = future.result()
                    yield running.pop(future), entry
    except BrokenProcessPool:
        # A worker died (no memory for its exposure, most likely) and took the pool with it. Each
        # exposure in flight gets a pool of its own, so that only the one that kills its worker fails.
        for task in running.values():
            if workers == 1:
                yield task, _failure(task, f"{task.path}: its worker process died")
            else:
                yield from _pool_until_broken([task], catalog, 1)


_worker_catalog: list[ParentCatalog] = []


def _start_worker(folder: Path) -> None:
    torch.set_num_threads(1)
    _worker_catalog[:] = [map_catalog(folder)]


def _measure_in_worker(task: _Task) -> Entry:
    return _measure_file(task, _worker_catalog[0])


def _measure_file(task: _Task, catalog: ParentCatalog) -> Entry:
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
            yield measure_exposure(exposure, catalog_near(exposure, catalog), task.settings)

    try:
        n_rows = write_shard(tables(), task.shard)
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
