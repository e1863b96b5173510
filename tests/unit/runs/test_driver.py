"""Drivers: every task once, in order where asked, and a worker that dies takes only its own task with it."""

import os
import signal
from contextlib import contextmanager

import pytest

from lumos.errors import LumosDataError, LumosValueError, WorkerDiedError
from lumos.runs.driver import LocalDriver, Work


@contextmanager
def folder_and_factor(folder, factor):
    yield folder, factor


def work_on(shared, task):
    """Multiply; task -1 kills its process, -2 only the first time, -3 raises."""
    folder, factor = shared
    if task == -1 or (task == -2 and not (folder / "died").exists()):
        (folder / "died").touch()
        os._exit(9)
    if task == -3:
        raise LumosDataError("a.fits: damaged")
    return factor * task


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_task_is_done_once(tmp_path, workers, ordered):
    work = Work(work_on, folder_and_factor, (tmp_path, 10))
    results = list(LocalDriver(workers).run(work, range(7), ordered=ordered))
    assert sorted(results) == [(task, 10 * task) for task in range(7)]
    if ordered:
        assert results == sorted(results)
    assert list(LocalDriver(workers).run(work, [])) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_dead_worker_takes_only_its_task_with_it(tmp_path, ordered):
    work = Work(work_on, folder_and_factor, (tmp_path, 10))
    tasks = [0, 1, -1, 3, 4, 5]
    results = list(LocalDriver(2).run(work, tasks, ordered=ordered))
    if ordered:
        assert [task for task, _ in results] == tasks
    found = dict(results)
    died = found.pop(-1)
    assert isinstance(died, WorkerDiedError)
    assert "out of memory" in str(died)
    assert found == {task: 10 * task for task in tasks if task >= 0}


def test_what_killed_a_worker_once_is_tried_alone(tmp_path):
    work = Work(work_on, folder_and_factor, (tmp_path, 10))
    assert dict(LocalDriver(2).run(work, [0, 1, -2, 3])) == {0: 0, 1: 10, -2: -20, 3: 30}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_are_raised(tmp_path, workers):
    work = Work(work_on, folder_and_factor, (tmp_path, 10))
    with pytest.raises(LumosDataError, match=r"a\.fits: damaged"):
        list(LocalDriver(workers).run(work, [0, -3, 2]))


def test_no_worker():
    with pytest.raises(LumosValueError, match="workers: got 0, allowed: >= 1"):
        LocalDriver(0)


@contextmanager
def folder_of(folder):
    yield folder


def hang_on(folder, task):
    """Stop the own process where the task says so: each time (-1) or only the first time (-2)."""
    if task == -1 or (task == -2 and not (folder / "stopped").exists()):
        (folder / "stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return task


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_hangs_takes_only_its_task_with_it(tmp_path, workers):
    results = dict(LocalDriver(workers, timeout=4.0).run(Work(hang_on, folder_of, (tmp_path,)), [0, -2, 1, -1, 2]))
    lost = results.pop(-1)
    assert isinstance(lost, WorkerDiedError)
    assert str(lost) == "not done after 4.0 s, twice"
    assert results == {0: 0, -2: -2, 1: 1, 2: 2}


def test_no_time():
    with pytest.raises(LumosValueError, match="timeout: got 0, allowed: seconds above 0"):
        LocalDriver(2, timeout=0)
