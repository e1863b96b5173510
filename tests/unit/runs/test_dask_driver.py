"""The Dask driver: the same results as here, in order where asked, and workers that die."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import pytest

from helpers.measured_runs import catalog_at, run, write_exposure
from helpers.shell import run_lumos
from lumos.errors import LumosDataError, LumosError, WorkerDiedError
from lumos.photometry.settings import MeasureSettings
from lumos.runs.dask_driver import open_dask
from lumos.runs.driver import Work

FAST = MeasureSettings(estimators=("aperture",), noise={"correlation": "none"})

# What Dask does when its processes are killed.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@contextmanager
def in_folder(folder, more=None):  # noqa: ARG001 (only sent)
    with (folder / f"entered-{os.getpid()}").open("a") as file:
        file.write("once\n")
    yield folder


def square(folder, task):
    """Square; later tasks end first, -1 kills its process every time, -2 only the first time, -3 raises."""
    if task == -1 or (task == -2 and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task == -3:
        raise LumosDataError("a.fits: damaged")
    time.sleep(0.02 * (task % 3 == 0))
    return task**2


@pytest.fixture(scope="module")
def driver():
    with open_dask(2, None) as opened:
        yield opened


@pytest.mark.parametrize("ordered", [True, False])
def test_every_task_is_done_once_and_what_is_shared_is_entered_once_a_process(tmp_path, driver, ordered):
    results = list(driver.run(Work(square, in_folder, (tmp_path,)), range(20), ordered=ordered))
    assert sorted(results) == [(task, task**2) for task in range(20)]
    if ordered:
        assert results == sorted(results)
    entered = [path.read_text() for path in tmp_path.iterdir()]
    assert 1 <= len(entered) <= 2
    assert set(entered) == {"once\n"}
    assert list(driver.run(Work(square, in_folder, (tmp_path,)), [])) == []


def test_what_a_function_raises_is_raised(tmp_path, driver):
    with pytest.raises(LumosDataError, match=r"a\.fits: damaged"):
        list(driver.run(Work(square, in_folder, (tmp_path,)), [0, -3, 2]))


def test_a_dead_worker_takes_only_its_task_with_it(tmp_path):
    with open_dask(2, None) as driver:
        found = dict(driver.run(Work(square, in_folder, (tmp_path,)), [0, 1, -2, 3]))
        assert found == {0: 0, 1: 1, -2: 4, 3: 9}
        found = dict(driver.run(Work(square, in_folder, (tmp_path,)), [0, 1, -1, 3, 4, 5]))
    assert isinstance(found.pop(-1), WorkerDiedError)
    assert found == {task: task**2 for task in (0, 1, 3, 4, 5)}


def test_a_run_is_the_same_as_without_dask(tmp_path, rng, driver):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abcd"]
    paths[2].write_bytes(b"nothing")
    objects = catalog_at([100, 50], [100, 50])
    here = run(tmp_path, paths, objects, settings=FAST)
    there = run(tmp_path, paths, objects, settings=FAST, out="dask", workers=driver)
    assert sorted(there.done) == sorted(here.done) == ["a", "b", "d"]
    assert there.failed == here.failed
    for name in here.done:
        shards = [(tmp_path / out / "shards" / f"{name}.parquet").read_bytes() for out in ("run", "dask")]
        assert shards[0] == shards[1]


class Counted:
    """Counts how often it is pickled here."""

    n = 0

    def __reduce__(self):
        Counted.n += 1
        return list, ()


def test_what_is_shared_is_sent_once_and_not_with_each_task(tmp_path, driver):
    work = Work(square, partial(in_folder, more=Counted()), (tmp_path,))
    assert len(list(driver.run(work, range(20)))) == 20
    assert Counted.n == 1


@contextmanager
def own_scheduler(folder):
    """Start a scheduler and a worker in processes of their own; yield the scheduler's address and process."""
    file, log = folder / "scheduler.json", (folder / "dask.log").open("a")
    file.unlink(missing_ok=True)
    words = ("--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard")
    more = {"scheduler": ("--port", "0"), "worker": ("--nthreads", "1", "--no-nanny", "--death-timeout", "20")}
    started = [
        subprocess.Popen([sys.executable, "-m", "dask", name, *words, *options], stdout=log, stderr=log)
        for name, options in more.items()
    ]
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"], started[0]
    finally:
        for process in started:
            process.kill()
            process.wait()
        log.close()


def test_a_run_goes_on_with_another_scheduler_after_one_was_killed(tmp_path, rng):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abcdefgh"]
    objects = catalog_at([100, 50], [100, 50])
    whole = run(tmp_path, paths, objects, settings=FAST)
    with own_scheduler(tmp_path) as (address, scheduler), open_dask(1, address, wait=60) as driver:
        kill = lambda *_: scheduler.kill()  # noqa: E731
        with pytest.raises(LumosError, match="scheduler has ended; once one runs, the same command does what is left"):
            run(tmp_path, paths, objects, settings=FAST, out="dask", workers=driver, progress=kill)
    with own_scheduler(tmp_path) as (address, _), open_dask(1, address, wait=60) as driver:
        again = run(tmp_path, paths, objects, settings=FAST, out="dask", workers=driver)
    assert 1 <= len(again.skipped) < len(paths)
    assert len(again.skipped) + len(again.done) == len(paths)
    for name in whole.done:
        shards = [(tmp_path / out / "shards" / f"{name}.parquet").read_bytes() for out in ("run", "dask")]
        assert shards[0] == shards[1]


def test_only_this_machine_reaches_a_cluster_that_is_started(driver):
    address = driver._client.scheduler.address
    assert address.startswith("tcp://127.0.0.1:")
    assert all(worker.startswith("tcp://127.0.0.1:") for worker in driver._client.scheduler_info()["workers"])


def test_schedulers_that_are_not_there_are_refused(tmp_path, rng, monkeypatch, capsys):
    with pytest.raises(LumosError, match=r"--driver tcp://127.0.0.1:1: no Dask scheduler answers"):
        open_dask(1, "tcp://127.0.0.1:1", wait=0.5).__enter__()
    write_exposure(tmp_path / "a.fits", rng)
    (tmp_path / "parent.parquet").touch()
    words = ("measure", tmp_path / "a.fits", "--catalog", tmp_path / "parent.parquet", "--out", tmp_path / "run")
    assert run_lumos(monkeypatch, *words, "--driver", "somewhere") == 1
    assert (
        "--driver: got 'somewhere', allowed: local, dask, or an address as tcp://host:8786" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
