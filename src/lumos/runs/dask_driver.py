"""Driver that runs the tasks of a command on a Dask cluster; the only file that knows Dask."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from lumos.errors import LumosConfigError, LumosError, WorkerDiedError
from lumos.runs.driver import Result, Shared, Task, Work

try:
    from dask import config as dask_config
    from dask.distributed import Client, KilledWorker, LocalCluster, as_completed
except ImportError as error:
    raise LumosConfigError(f"--driver dask: {error}; pip install 'lumos-photometry[dask]'") from error

__all__ = ["DaskDriver", "open_dask"]

logger = logging.getLogger(__name__)

#: Tasks in flight for each thread of the cluster: one is measured while the next waits beside it.
_AHEAD = 2


class DaskDriver:
    """Runs tasks on a Dask cluster, whose machines see the same files under the same names.

    Parameters
    ----------
    client : dask.distributed.Client
        Connected.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def is_serial(self, n: int) -> bool:
        """Tell whether so many tasks are run in this process.

        Parameters
        ----------
        n : int
            Number of tasks.

        Returns
        -------
        bool
            Never, unless there is none.
        """
        return n == 0

    def run(
        self, work: Work[Shared, Task, Result], tasks: Sequence[Task], *, ordered: bool = False
    ) -> Generator[tuple[Task, Result | WorkerDiedError], None, None]:
        """Run every task once, see :class:`lumos.runs.driver.Driver`.

        Parameters
        ----------
        work, tasks, ordered : object
            As of :class:`lumos.runs.driver.Driver`. A task whose worker dies is given to others, a few times.

        Yields
        ------
        tuple
            Task and result.

        Raises
        ------
        LumosError
            If the scheduler ends.
        """
        if not tasks:
            return
        width = _AHEAD * max(sum(self._client.nthreads().values()), 1)
        # One task of its own, so that it is sent once and not with each task (a catalogue, a grid of models), and made
        # again from what the scheduler keeps where the worker that holds it dies.
        shared = self._share(work)
        token, numbers = uuid4().hex, iter(range(len(tasks)))
        told, early, running = 0, dict[int, Result | WorkerDiedError](), dict[object, int]()
        completed = as_completed(with_results=False)

        def start() -> None:
            for number in numbers:
                future = self._client.submit(_call, token, shared, tasks[number], pure=False)
                running[future.key] = number
                completed.add(future)
                return

        for _ in range(min(width, len(tasks))):
            start()
        for future in completed:
            number = running.pop(future.key)
            early[number] = _result_of(future)
            if isinstance(early[number], WorkerDiedError):
                # Another task may have killed the workers, or what all share has died with them: once more.
                shared = self._share(work)
                early[number] = _result_of(self._client.submit(_call, token, shared, tasks[number], pure=False))
            # In order, the first task holds back those that would pile up behind it.
            if not ordered or len(early) < width:
                start()
            for number in list(early) if not ordered else _in_a_row(early, told):
                yield tasks[number], early.pop(number)
                told += 1
                if ordered and len(running) < width:
                    start()

    def _share(self, work: Work[Any, Any, Any]) -> Any:  # noqa: ANN401
        """Give the workers what all tasks share."""
        with dask_config.set({"distributed.admin.large-graph-warning-threshold": "100GB"}):
            return self._client.submit(_hold, work, pure=False)


def _in_a_row(early: dict[int, Any], told: int) -> Iterator[int]:
    while told in early:
        yield told
        told += 1


def _result_of(future: Any) -> Any:  # noqa: ANN401
    try:
        return future.result()
    except KilledWorker as error:
        return WorkerDiedError(f"its worker process died, out of memory most likely ({error.last_worker.address})")
    except CancelledError as error:
        raise LumosError("the Dask scheduler has ended; once one runs, the same command does what is left") from error


@contextmanager
def open_dask(workers: int, scheduler: str | None, *, wait: float = 30.0) -> Iterator[DaskDriver]:
    """Connect to a Dask cluster, or start one on this machine that only this machine can reach.

    Parameters
    ----------
    workers : int
        Processes of the cluster that is started.
    scheduler : str or None
        Address of one that runs already, as ``tcp://host:8786``.
    wait : float, optional
        Seconds until a scheduler that does not answer, or has no worker, is given up.

    Yields
    ------
    DaskDriver
        Connected.

    Raises
    ------
    LumosError
        If no scheduler answers there, or none of its workers.
    """
    if scheduler is None:
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                processes=True,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield DaskDriver(client)
        return
    try:
        client = Client(scheduler, timeout=wait)
    except (OSError, ValueError, TimeoutError) as error:
        raise LumosError(f"--driver {scheduler}: no Dask scheduler answers ({error})") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=wait)
        except TimeoutError as error:
            raise LumosError(f"--driver {scheduler}: it has no workers; start `dask worker {scheduler}`") from error
        yield DaskDriver(client)


#: In a worker process: what the tasks of the last commands share, by token.
_SHARED: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
_LOCK = threading.Lock()


def _hold(work: Work[Any, Any, Any]) -> Work[Any, Any, Any]:
    return work


def _call(token: str, work: Work[Any, Any, Any], task: Any) -> Any:  # noqa: ANN401
    with _LOCK:
        if token not in _SHARED:
            # A worker serves one command after the other.
            while _SHARED:
                _, (context, _) = _SHARED.popitem()
                context.__exit__(None, None, None)
            context = work.share(*work.arguments)
            _SHARED[token] = context, context.__enter__()
        shared = _SHARED[token][1]
    return work.function(shared, task)
