"""Locks of output folders and files, so that two commands never write into one at once."""

import fcntl
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar, cast

from lumos.errors import LumosError
from lumos.files import UNFINISHED, name_code

__all__ = ["clear_unfinished", "holder_of", "lock_file", "lock_folder", "locked", "own_files"]

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])
#: Name of the lock of a folder.
_LOCK = f"{UNFINISHED}lock"


@contextmanager
def lock_folder(folder: Path, *below: str) -> Iterator[None]:
    """Keep other processes from writing into a folder, and remove what a killed one left unfinished.

    Parameters
    ----------
    folder : Path
        Output folder; made if needed, and removed at the end if it was made here and is still empty.
    *below : str
        Folders in it that are cleared of unfinished files too.

    Yields
    ------
    None
        While the lock is held.

    Raises
    ------
    LumosError
        If another process writes into the folder.

    Notes
    -----
    The lock dies with its process. On file systems without locks there is a warning instead; over NFS locks between
    machines work as far as the server supports them.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder / _LOCK, folder):
            places = [folder, *(folder / name for name in below)]
            _clear(places, f"{UNFINISHED}*.part")
            try:
                yield
            finally:
                # What a worker was writing when it was interrupted, or killed.
                _clear(places, f"{UNFINISHED}*.part")
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Keep other processes from making an output file, and remove what a killed one left unfinished.

    Parameters
    ----------
    path : Path
        Output file; its folder is made if needed.

    Yields
    ------
    None
        While the lock is held, see :func:`lock_folder`.

    Raises
    ------
    LumosError
        If another process makes the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.with_name(f"{_LOCK}-{name_code(path)}"), path):
        clear_unfinished(path)
        yield


def clear_unfinished(path: Path) -> None:
    """Remove what a killed command left of a file that it was writing; the caller holds the lock of all that it writes.

    Parameters
    ----------
    path : Path
        The file.
    """
    _clear([path.parent], f"{UNFINISHED}{name_code(path)}-*.part")


def _clear(folders: Sequence[Path], pattern: str) -> None:
    for folder in folders:
        for leftover in folder.glob(pattern):
            if leftover.is_dir() and not leftover.is_symlink():
                rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path, what: Path) -> Iterator[None]:
    """Hold a lock file; it is removed at the end, and one that a killed process left does not block."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            text = f"{what}: another lumos command writes here ({holder or 'it does not say which'})"
            raise LumosError(f"{text}; wait for its end or give another --out") from error
        except OSError as error:
            logger.warning("%s: no locks here (%s), run one command at a time", what, error.strerror)
            break
        # Whoever held it before may have removed the file that was just opened.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def holder_of(folder: Path) -> str | None:
    """Tell who writes into a folder now.

    Parameters
    ----------
    folder : Path
        Output folder.

    Returns
    -------
    str or None
        Process and machine; None where no process holds the lock.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "a process that does not say which"
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def locked(lock: Callable[[Path], AbstractContextManager[None]]) -> Callable[[Function], Function]:
    """Make a function hold the lock of its argument ``out`` while it runs.

    Parameters
    ----------
    lock : callable
        :func:`lock_folder` or :func:`lock_file`.

    Returns
    -------
    callable
        Decorator.
    """

    def decorate(function: Function) -> Function:
        parameters = signature(function)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with lock(parameters.bind(*args, **kwargs).arguments["out"]):
                return function(*args, **kwargs)

        return cast("Function", run)

    return decorate


def own_files(folder: Path) -> list[Path]:
    """List what a folder holds beside locks and unfinished files.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    list of Path
        Empty too where there is no such folder.
    """
    return [path for path in folder.glob("*") if not path.name.startswith(UNFINISHED)]
