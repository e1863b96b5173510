"""Worker processes that leave ctrl-C to their parent and never outlive it."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

__all__ = ["Workers"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
#: Level, level at the terminal, format and files of the log.
LogSetup = tuple[int, int, str, tuple[str, ...]]


class Workers:
    """A pool of processes, to be used as a context.

    Parameters
    ----------
    n : int
        Number of processes.
    start : callable
        Called first in each process.
    *arguments : object
        Its arguments.

    Notes
    -----
    When the context is left by an error or an interruption, the processes are ended at once. When this process dies,
    they end by themselves. They log as this process does.
    """

    def __init__(self, n: int, start: Callable[..., object], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(n, context, _start, (_log_setup(), start, arguments))

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Let a process call a function.

        Parameters
        ----------
        function : callable
            Can be pickled, as its arguments and its result.
        *args, **kwargs : object
            Its arguments.

        Returns
        -------
        Future
            The result; ``BrokenProcessPool`` if a process died.
        """
        with _interrupts_blocked():
            return self._pool.submit(function, *args, **kwargs)

    def kill(self) -> None:
        """End the processes at once, also those that are stopped or do not react; what they do is lost."""
        for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 (no public way before 3.14)
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 (no public way before 3.14)
                process.terminate()
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes in which ctrl-C does nothing, not even while they import; here it only waits a moment.

    The processes inherit the mask of the thread that starts them. In this process another thread may still take the
    signal, and Python would then interrupt the start in its midst: a handler holds it back until all have started.
    """
    held: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread() and handler is not None
    if here:
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if here:
            signal.signal(signal.SIGINT, handler)
    if held:
        signal.raise_signal(signal.SIGINT)


def _start(log: LogSetup | None, start: Callable[..., object], arguments: tuple[object, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log is not None:
        level, console, form, files = log
        handlers: list[logging.Handler] = [logging.StreamHandler()]
        handlers[0].setLevel(console)
        handlers += [logging.FileHandler(name, encoding="utf-8") for name in files]
        logging.basicConfig(level=level, format=form, handlers=handlers)
    start(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _log_setup() -> LogSetup | None:
    """Return how the log is set up; None where it is not."""
    handlers = logging.getLogger().handlers
    if not handlers:
        return None
    form = next((one.formatter._fmt for one in handlers if one.formatter is not None), None)  # noqa: SLF001
    files = tuple(one.baseFilename for one in handlers if isinstance(one, logging.FileHandler))
    return logging.getLogger().level, handlers[0].level, form or logging.BASIC_FORMAT, files
