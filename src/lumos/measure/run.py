"""Measure many exposures: one shard each, a manifest, and the promise that a second run does nothing."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import torch
import yaml

from lumos import __version__
from lumos.catalogs.parent import ParentCatalog, read_parent
from lumos.catalogs.tables import SCHEMA_VERSION, write_shard
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError
from lumos.files import file_sha256, read_json, write_atomic, write_json
from lumos.images.reader import read_exposure, read_exposure_id
from lumos.measure.exposure import estimators_of, measure_exposure
from lumos.measure.network import model_facts
from lumos.measure.settings import MeasureSettings
from lumos.surveys import Survey

__all__ = ["RunReport", "measure_run"]

logger = logging.getLogger(__name__)

#: What a progress display is told: exposures finished, exposures in all, the last one's name.
Progress = Callable[[int, int, str], None]
Entry = dict[str, Any]


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
    model = model_facts(settings.model)
    catalog = read_parent(catalog_path, settings.catalog.columns, settings.catalog.radius, settings.catalog.made_from)
    (out / "shards").mkdir(parents=True, exist_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "survey": survey.model_dump(mode="json"),
        "catalog": {"path": str(catalog_path.resolve()), "sha256": file_sha256(catalog_path)},
        "psf": None if psf_dir is None else str(psf_dir.resolve()),
        "model": model,
        "measure": settings.model_dump(mode="json"),
    }
    _settle_settings(out, content)
    manifest = _read_manifest(out)
    tasks, failed = _tasks(exposures, out, survey, psf_dir, settings)
    todo = [task for task in tasks if not _is_finished(manifest["exposures"].get(task.exposure_id), task, out)]
    skipped = tuple(task.exposure_id for task in tasks if task not in todo)
    for path, reason in failed.items():
        logger.error("%s", reason)
        manifest["exposures"][Path(path).name] = {"status": "failed", "file": path, "reason": reason}
    done: list[str] = []
    for task, result in _execute(todo, catalog, workers):
        manifest["exposures"][task.exposure_id] = result
        write_json(out / "manifest.json", manifest)
        if result["status"] == "done":
            done.append(task.exposure_id)
        else:
            failed[str(task.path)] = result["reason"]
            logger.error("%s", result["reason"])
        if progress is not None:
            progress(len(done) + len(skipped) + len(failed), len(exposures), task.exposure_id)
    if failed and not todo:
        write_json(out / "manifest.json", manifest)
    n_rows = sum(entry.get("n_rows", 0) for entry in manifest["exposures"].values())
    return RunReport(n_rows, tuple(done), skipped, failed)


def _settle_settings(out: Path, content: Mapping[str, object]) -> None:
    """Write the resolved settings, or check that those of an earlier start are the same."""
    path = out / "settings.yaml"
    if path.exists():
        try:
            before = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise LumosConfigError(f"{path}: damaged; remove it or give a new --out") from error
        changed = sorted(key for key in content if _identity(before.get(key)) != _identity(content[key]))
        if changed:
            raise LumosConfigError(
                f"{out}: holds a run of other settings ({', '.join(changed)} differ); give a new --out"
            )
    else:
        header = "# The resolved settings of this run, written by `lumos measure`.\n"
        write_atomic(path, header + yaml.safe_dump(dict(content), sort_keys=False))


def _identity(section: object) -> object:
    """Return what must agree between two starts of a run: a catalogue is the same wherever it lies."""
    return section["sha256"] if isinstance(section, dict) and "sha256" in section else section


def _read_manifest(out: Path) -> dict[str, Any]:
    path = out / "manifest.json"
    manifest: dict[str, Any] = read_json(path) if path.exists() else {"version": __version__, "exposures": {}}
    # What failed before is tried again; if it fails again it is entered again.
    manifest["exposures"] = {key: entry for key, entry in manifest["exposures"].items() if entry["status"] == "done"}
    return manifest


def _tasks(
    exposures: Sequence[Path], out: Path, survey: Survey, psf_dir: Path | None, settings: MeasureSettings
) -> tuple[list[_Task], dict[str, str]]:
    """Return a task for each file, and the reason for each file that cannot even be identified."""
    tasks: dict[str, _Task] = {}
    failed: dict[str, str] = {}
    for path in exposures:
        try:
            name = read_exposure_id(path, survey)
        except LumosError as error:
            failed[str(path)] = str(error)
            continue
        if name in tasks:
            raise LumosDataError(f"{tasks[name].path} and {path}: both are exposure {name!r}; identifiers must differ")
        tasks[name] = _Task(name, path, out / "shards" / f"{name}.parquet", survey, psf_dir, settings)
    return list(tasks.values()), failed


def _is_finished(entry: Entry | None, task: _Task, out: Path) -> bool:
    """Tell whether an exposure was measured before, from the same file, and its shard is whole."""
    if entry is None or entry["status"] != "done" or entry["input"] != _stamp_of(task.path):
        return False
    shard = out / entry["shard"]
    return shard.is_file() and file_sha256(shard) == str(entry["sha256"])


def _stamp_of(path: Path) -> dict[str, int]:
    """Return what tells a changed input file from an unchanged one without reading it."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _execute(tasks: Sequence[_Task], catalog: ParentCatalog, workers: int) -> Iterator[tuple[_Task, Entry]]:
    """Run the tasks here or in worker processes, yielding each as it ends."""
    if workers == 1 or len(tasks) <= 1:
        # Batches this small lose by threads, and lose badly on a busy machine.
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for task in tasks:
                yield task, _measure_file(task, catalog)
        finally:
            torch.set_num_threads(n_threads)
        return
    waiting = list(reversed(tasks))
    while waiting:
        yield from _pool_until_broken(waiting, catalog, min(workers, len(waiting)))


def _pool_until_broken(waiting: list[_Task], catalog: ParentCatalog, workers: int) -> Iterator[tuple[_Task, Entry]]:
    """Run waiting tasks in a pool; if a worker dies, settle those in flight and leave the rest waiting."""
    running: dict[Future[Entry], _Task] = {}
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (catalog,))
    try:
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
    finally:
        pool.shutdown(cancel_futures=True)


_worker_catalog: list[ParentCatalog] = []


def _start_worker(catalog: ParentCatalog) -> None:
    torch.set_num_threads(1)
    _worker_catalog[:] = [catalog]


def _measure_in_worker(task: _Task) -> Entry:
    return _measure_file(task, _worker_catalog[0])


def _measure_file(task: _Task, catalog: ParentCatalog) -> Entry:
    """Measure all CCDs of one file into its shard and return its manifest entry; never raise."""
    start = monotonic()
    detectors: list[str] = []

    def tables() -> Iterator[pa.Table]:
        for exposure in read_exposure(task.path, task.survey, psf_dir=task.psf_dir):
            detectors.append(exposure.detector)
            yield measure_exposure(exposure, catalog, task.settings)

    try:
        n_rows = write_shard(tables(), task.shard)
    except LumosError as error:
        return _failure(task, str(error))
    except (OSError, MemoryError) as error:
        return _failure(task, f"{task.path}: {type(error).__name__}: {error}")
    if n_rows == 0:
        logger.warning("%s: no object of the catalogue lies on this exposure", task.path)
    return {
        "status": "done",
        "file": str(task.path),
        "input": _stamp_of(task.path),
        "shard": f"shards/{task.shard.name}",
        "sha256": file_sha256(task.shard),
        "n_rows": n_rows,
        "detectors": detectors,
        "seconds": round(monotonic() - start, 3),
    }


def _failure(task: _Task, reason: str) -> Entry:
    return {"status": "failed", "file": str(task.path), "reason": reason}
