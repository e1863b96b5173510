"""Output folders: locks, so that two commands never write into one at once, and the settings they were made with."""

import fcntl
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lumos.config import read_yaml
from lumos.errors import LumosConfigError, LumosError
from lumos.files import UNFINISHED, list_changes, name_code, write_atomic

__all__ = [
    "check_settings",
    "describe_changes",
    "finished_table",
    "lock_file",
    "lock_folder",
    "locked",
    "own_files",
    "settle_settings",
]

Function = TypeVar("Function", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

#: Name of the lock of a folder.
_LOCK = f"{UNFINISHED}lock"
_SETTINGS = "settings.yaml"
#: Most changes of settings that a message names.
_MOST_NAMED = 4


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
            for place in (folder, *(folder / name for name in below)):
                _clear(place, f"{UNFINISHED}*.part")
            yield
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
        _clear(path.parent, f"{UNFINISHED}{name_code(path)}-*.part")
        yield


def _clear(folder: Path, pattern: str) -> None:
    for leftover in folder.glob(pattern):
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


def settle_settings(
    out: Path, command: str, content: Mapping[str, object], *, begun: bool, alone: bool = False
) -> None:
    """Write the resolved settings of an output folder, or check that those of an earlier start are the same.

    Parameters
    ----------
    out, command, content, begun, alone : object
        As of :func:`check_settings`.

    Raises
    ------
    LumosConfigError
        As of :func:`check_settings`.
    """
    if not check_settings(out, command, content, begun=begun, alone=alone):
        header = f"# The resolved settings of this run, written by `lumos {command}`.\n"
        text = header + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
        write_atomic(out / _SETTINGS, text)


def check_settings(out: Path, command: str, content: Mapping[str, object], *, begun: bool, alone: bool = False) -> bool:
    """Compare settings with those of an earlier start.

    Parameters
    ----------
    out : Path
        Output folder; its settings stand in ``settings.yaml``.
    command : str
        That writes the folder; a key of its settings.
    content : mapping
        Resolved settings, plain data. Sections with ``sha256`` are the same where these agree.
    begun : bool
        Whether anything was finished with the settings that the folder holds; else they may be replaced.
    alone : bool, optional
        Refuse a folder without settings that holds anything.

    Returns
    -------
    bool
        Whether they are the same.

    Raises
    ------
    LumosConfigError
        If the folder's settings are damaged, of another command, or others than these, or it holds something else.
    """
    path = out / _SETTINGS
    if not path.exists():
        if alone and own_files(out):
            raise LumosConfigError(f"{out}: holds something else; give a new --out")
        return False
    try:
        before = read_yaml(path)
    except LumosConfigError as error:
        raise LumosConfigError(f"{error}; remove it or give a new --out") from error
    changes = describe_changes(before, content)
    if changes and command not in before:
        raise LumosConfigError(f"{path}: not written by `lumos {command}`; give a new --out")
    if changes and begun:
        raise LumosConfigError(f"{out}: holds the results of other settings ({changes}); give a new --out")
    return not changes


def finished_table(
    out: Path, command: str, identity: Mapping[str, object], way_out: str = "give a new --out"
) -> tuple[int, dict[str, Any]] | None:
    """Find out whether an output table is there already.

    Parameters
    ----------
    out : Path
        Parquet file; the provenance in its metadata says what it was made from.
    command : str
        That makes it; the key of its provenance.
    identity : mapping
        What it is to be made from, plain data.
    way_out : str, optional
        What to do where it is made from something else, for the message.

    Returns
    -------
    tuple or None
        Number of rows and provenance; None where there is no such file.

    Raises
    ------
    LumosConfigError
        If it is no table of that command, or one that was made from something else.
    """
    if not out.exists():
        return None
    try:
        metadata = pq.read_metadata(out)
        provenance = json.loads((metadata.metadata or {})[b"lumos.provenance"])
        before = provenance[command]
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise LumosConfigError(f"{out}: was not made by `lumos {command}`; give a new --out") from error
    changed = sorted(key for key in identity if before.get(key) != identity[key])
    if changed:
        text = f"holds another result of `lumos {command}` ({', '.join(changed)} differ)"
        raise LumosConfigError(f"{out}: {text}; {way_out}")
    return metadata.num_rows, provenance


def describe_changes(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Name the settings that differ, with their old and new values.

    Parameters
    ----------
    before, after : mapping
        Plain data; only keys of ``after`` count. Sections with ``sha256`` are the same where these agree.

    Returns
    -------
    str
        Empty where nothing differs.
    """
    changes: list[str] = []
    for key, new in after.items():
        old = before.get(key, "nothing")
        digests = [section.get("sha256") if isinstance(section, dict) else None for section in (old, new)]
        if digests == [None, None]:
            changes += list_changes(old, new, key)
        elif digests[0] != digests[1]:
            names = [_name_of(section) for section in (old, new)]
            changes.append(f"{key}: {names[1]} has changed" if names[0] == names[1] else f"{key}: {' -> '.join(names)}")
    rest = len(changes) - _MOST_NAMED
    return ", ".join(changes[:_MOST_NAMED]) + (f", and {rest} more" if rest > 0 else "")


def _name_of(section: object) -> str:
    """Return the name of a file or model, never its digest."""
    if not isinstance(section, dict):
        return "none" if section is None else str(section)
    return str(section.get("name") or section.get("path") or "another")
