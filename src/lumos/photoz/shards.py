"""The shards of ``lumos photoz``: some hundred galaxies each, a manifest, resumable, by any method."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lumos.catalogs.schema import photoz_schema, to_arrow
from lumos.catalogs.tables import write_table
from lumos.conventions import AnyArray, FloatArray
from lumos.errors import WorkerDiedError, one_line
from lumos.files import file_sha256, file_stamp
from lumos.photoz.fluxes import Photometry
from lumos.runs.driver import Driver, Work
from lumos.runs.folder import Entry, begin_folder

__all__ = ["PhotozJob", "PhotozReport", "Progress", "Rows", "write_shards"]

#: What a progress display is told: shards finished, shards in all, the last one's name.
Progress = Callable[[int, int, str], None]
#: Makes the columns of the rows of galaxies; can be pickled.
Rows = Callable[[Photometry], dict[str, AnyArray]]


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


@dataclass(frozen=True, eq=False)
class PhotozJob:
    """What is to be done.

    Parameters
    ----------
    source : Path
        Table of fluxes.
    photometry : Photometry
        What is in it.
    redshifts : ndarray, shape (n_z,)
        At which p(z) is given.
    identity : mapping
        What the rows depend on, as plain data.
    shard : int
        Galaxies of a shard.
    prepare : callable
        Called once if there is anything to do, when the folder is locked: takes the photometry, returns what the rows
        are made of and what makes them.
    begun : bool, optional
        Whether the folder holds results that the manifest does not name.
    """

    source: Path
    photometry: Photometry
    redshifts: FloatArray
    identity: Mapping[str, object]
    shard: int
    prepare: Callable[[Photometry], tuple[Photometry, Rows]]
    begun: bool = False


@dataclass(frozen=True)
class _Task:
    """Some galaxies, and the shard that they become."""

    name: str
    source: Path
    shard: Path
    photometry: Photometry


def write_shards(job: PhotozJob, out: Path, driver: Driver, *, progress: Progress | None = None) -> PhotozReport:
    """Make the rows of all galaxies; a run that was stopped is continued.

    Parameters
    ----------
    job : PhotozJob
        What is to be done.
    out : Path
        Folder of the run.
    driver : Driver
        Works on the shards.
    progress : callable, optional
        Told after each shard.

    Returns
    -------
    PhotozReport
        What was done.

    Raises
    ------
    LumosConfigError
        If ``out`` holds a run of something else.
    LumosError
        If it cannot be prepared.
    """
    source, photometry = job.source.absolute(), job.photometry
    with begin_folder(out, "photoz", job.identity, "shards", begun=job.begun) as folder:
        names = [f"galaxies-{number:06d}" for number in range(-(-len(photometry) // job.shard))]
        finished = {name for name in names if folder.is_finished(name, source)}
        todo = [name for name in names if name not in finished]
        folder.begin(finished, dict.fromkeys(todo, source), {})
        if not todo:
            return PhotozReport(folder.n_rows, 0, ())
        photometry, rows = job.prepare(photometry)
        tasks = [
            _Task(name, source, out / "shards" / f"{name}.parquet", photometry.take(_part(name, job.shard)))
            for name in todo
        ]
        schema = photoz_schema(job.redshifts, job.identity, with_names=photometry.object_name is not None)
        failed: list[str] = []
        with closing(driver.run(Work(_make_shard, _share, ((rows, schema),)), tasks)) as results:
            for number, (task, result) in enumerate(results):
                entry = _failure(task, str(result)) if isinstance(result, WorkerDiedError) else result
                folder.enter(task.name, entry)
                failed += [entry["reason"]] if entry["status"] == "failed" else []
                if progress is not None:
                    progress(len(finished) + number + 1, len(names), task.name)
        return PhotozReport(folder.n_rows, len(tasks) - len(failed), tuple(failed))


def _part(name: str, size: int) -> slice:
    first = int(name.rpartition("-")[2]) * size
    return slice(first, first + size)


@contextmanager
def _share(shared: tuple[Rows, pa.Schema]) -> Iterator[tuple[Rows, pa.Schema]]:
    yield shared


def _make_shard(shared: tuple[Rows, pa.Schema], task: _Task) -> Entry:
    """Make the rows of some galaxies, write their shard and return its entry in the manifest; never raise."""
    rows, schema = shared
    stamp = file_stamp(task.source)
    try:
        n_rows = write_table([to_arrow(rows(task.photometry), schema)], task.shard)
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
