"""Drivers: what runs the tasks of a command, here or in worker processes."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from lumos.errors import LumosValueError, WorkerDiedError
from lumos.runs.workers import Workers

__all__ = ["Driver", "LocalDriver", "Work", "driver_of"]

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Work(Generic[Shared, Task, Result]):
    """What is done to each task; everything in it can be pickled.

    Parameters
    ----------
    function : callable
        Takes what all tasks share and one task. Called twice for one task, it leaves the same files.
    share : callable
        Returns a context that yields what all tasks share; entered once in each process.
    arguments : tuple
        Its arguments.
    """

    function: Callable[[Shared, Task], Result]
    share: Callable[..., AbstractContextManager[Shared]]
    arguments: tuple[Any, ...] = ()


class Driver(Protocol):
    """Runs tasks anywhere."""

    def is_serial(self, n: int) -> bool:
        """Tell whether so many tasks are run in this process.

        Parameters
        ----------
        n : int
            Number of tasks.

        Returns
        -------
        bool
            Whether what they share may stay in its memory.
        """
        ...

    def run(
        self, work: Work[Shared, Task, Result], tasks: Sequence[Task], *, ordered: bool = False
    ) -> Generator[tuple[Task, Result | WorkerDiedError], None, None]:
        """Run every task once.

        Parameters
        ----------
        work : Work
            What is done to each.
        tasks : sequence
            Independent of each other.
        ordered : bool, optional
            Yield in the order of ``tasks``, with few results waiting, and not in the order in which they end.

        Yields
        ------
        tuple
            A task with its result, or with :class:`lumos.errors.WorkerDiedError` if it killed its process. What the
            function raises is raised.
        """
        ...


@dataclass(frozen=True)
class LocalDriver:
    """Runs tasks in this process, or in a pool of processes on this machine that outlives the death of a worker.

    Parameters
    ----------
    workers : int
        Number of processes; 1 runs everything in this one.
    timeout : float, optional
        Seconds after which a task that has not ended is given up, the start of its process included: its process is
        killed, the task tried once more alone, and then lost. One worker too is then a process of its own.

    Raises
    ------
    LumosValueError
        If there is no worker, or no time.
    """

    workers: int
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise LumosValueError("workers", self.workers, ">= 1")
        if self.timeout is not None and not self.timeout > 0:
            raise LumosValueError("timeout", self.timeout, "seconds above 0")

    def is_serial(self, n: int) -> bool:
        """Tell whether so many tasks are run in this process, see :class:`Driver`.

        Parameters
        ----------
        n : int
            Number of tasks.

        Returns
        -------
        bool
            Whether no process is started.
        """
        return n == 0 or (min(n, self.workers) == 1 and self.timeout is None)

    def run(
        self, work: Work[Shared, Task, Result], tasks: Sequence[Task], *, ordered: bool = False
    ) -> Generator[tuple[Task, Result | WorkerDiedError], None, None]:
        """Run every task once, see :class:`Driver`.

        Parameters
        ----------
        work, tasks, ordered : object
            As of :class:`Driver`.

        Yields
        ------
        tuple
            Task and result.
        """
        if self.is_serial(len(tasks)):
            if tasks:
                with work.share(*work.arguments) as shared:
                    for task in tasks:
                        yield task, work.function(shared, task)
            return
        n, told = min(len(tasks), self.workers), 0
        early: dict[int, Result | WorkerDiedError] = {}

        def may_start(number: int) -> bool:
            return not ordered or number <= told + n

        for number, result in _survive(work, tasks, _Pool(n, self.timeout), may_start):
            if not ordered:
                yield tasks[number], result
                continue
            early[number] = result
            while told in early:
                yield tasks[told], early.pop(told)
                told += 1


def driver_of(workers: int | Driver) -> Driver:
    """Return what runs the tasks of a command.

    Parameters
    ----------
    workers : int or Driver
        Processes on this machine, or any driver.

    Returns
    -------
    Driver
        It.

    Raises
    ------
    LumosValueError
        If there is no worker.
    """
    return LocalDriver(workers) if isinstance(workers, int) else workers


@dataclass(frozen=True)
class _Pool:
    """Number of processes, and seconds for each task."""

    n: int
    timeout: float | None


def _survive(
    work: Work[Shared, Task, Result], tasks: Sequence[Task], size: _Pool, may_start: Callable[[int], bool]
) -> Generator[tuple[int, Result | WorkerDiedError], None, None]:
    """Run tasks in pools of processes; yield their numbers and results as they end.

    A worker that dies (no memory for its task, most likely) takes its pool with it, and so does one that is killed
    because its task does not end. Each task in flight then gets a pool of its own, so that only the one that kills
    its worker, or hangs again, is lost.
    """
    waiting, alone = deque(range(len(tasks))), _Pool(1, size.timeout)
    while waiting:
        for number in (yield from _until_broken(work, tasks, waiting, size, may_start)):
            start = monotonic()
            if (yield from _until_broken(work, tasks, deque([number]), alone, lambda _: True)):
                late = size.timeout is not None and monotonic() - start >= size.timeout
                what = f"not done after {size.timeout} s, twice" if late else "its worker process died, out of memory"
                yield number, WorkerDiedError(what if late else f"{what} most likely")


def _until_broken(
    work: Work[Shared, Task, Result],
    tasks: Sequence[Task],
    waiting: deque[int],
    size: _Pool,
    may_start: Callable[[int], bool],
) -> Generator[tuple[int, Result], None, list[int]]:
    """Run waiting tasks in one pool; return the numbers of those in flight when a worker died or was too slow."""
    running: dict[Future[Result], int] = {}
    ends: dict[Future[Result], float] = {}
    try:
        with Workers(size.n, _start, work) as pool:
            while waiting or running:
                while waiting and len(running) < size.n and may_start(waiting[0]):
                    future = pool.submit(_call, tasks[waiting[0]])
                    running[future] = waiting.popleft()
                    ends[future] = monotonic() + (size.timeout or 0)
                left = None if size.timeout is None else max(min(ends[one] for one in running) - monotonic(), 0)
                done = wait(running, left, return_when=FIRST_COMPLETED).done
                if not done:
                    pool.kill()
                    wait(running)
                    return list(running.values())
                for future in done:
                    result = future.result()
                    yield running.pop(future), result
    except BrokenProcessPool:
        return list(running.values())
    return []


#: In a worker process: the function, and what all tasks share.
_here: list[Any] = []


def _start(work: Work[Any, Any, Any]) -> None:
    context = work.share(*work.arguments)
    # The context ends with the process.
    _here[:] = [work.function, context.__enter__(), context]


def _call(task: Any) -> Any:  # noqa: ANN401
    function, shared, _ = _here
    return function(shared, task)
