"""Small files: guarded reading, digests, and writing whole or not at all."""

import hashlib
import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from lumos.errors import LumosConfigError, LumosDataError, LumosValueError, one_line

__all__ = [
    "MAX_JSON",
    "UNFINISHED",
    "check_parquet_name",
    "file_sha256",
    "file_stamp",
    "json_in_metadata",
    "list_changes",
    "name_code",
    "read_json",
    "read_text",
    "whole_file",
    "write_atomic",
    "write_json",
]

#: Largest settings or survey file, and largest manifest, bytes.
_MAX_SETTINGS, MAX_JSON = 10_000_000, 1_000_000_000
#: What the names of unfinished files and of locks begin with.
UNFINISHED = ".lumos-"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read once per process as long as the file does not change.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Hexadecimal digest.

    Raises
    ------
    LumosDataError
        If the file cannot be read.
    """
    try:
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise LumosDataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 (size and mtime are the cache key)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_stamp(path: Path) -> dict[str, int] | None:
    """Return what tells a changed file from an unchanged one without reading it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict or None
        ``size`` in bytes and ``mtime_ns``; None where there is no such file.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        # A name with a NUL byte is a ValueError.
        return None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def check_parquet_name(path: Path) -> None:
    """Refuse a name that promises another format than the one that is written.

    Parameters
    ----------
    path : Path
        Of a table to write.

    Raises
    ------
    LumosValueError
        If the name does not end in ``.parquet``.
    """
    if path.suffix != ".parquet":
        raise LumosValueError("output table", str(path), "a name that ends in .parquet")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Make a file appear under its name only when it is whole and on disk.

    Parameters
    ----------
    path : Path
        Output file. A symbolic link of that name is replaced, never followed.

    Yields
    ------
    Path
        Empty new file beside it, of a name that nobody can foresee, to be written. When the block ends without an
        error it takes the place of ``path``; else it is removed.
    """
    temporary = path.with_name(f"{UNFINISHED}{name_code(path)}-{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            # Some writers make a file of their own, which only its owner can read.
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def name_code(path: Path) -> str:
    """Return a short code of a file's name, which tells whose unfinished file one is.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Eight hexadecimal digits.
    """
    return f"{zlib.crc32(os.fsencode(path.name)):08x}"


def write_atomic(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Parameters
    ----------
    path : Path
        Output file.
    text : str
        Its content.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write plain data as JSON, whole or not at all.

    Parameters
    ----------
    path : Path
        Output file.
    content : mapping
        Plain data.
    """
    write_atomic(path, json.dumps(content, indent=1, default=str) + "\n")


def read_text(path: Path, limit: int = _MAX_SETTINGS) -> str:
    """Read a small text file.

    Parameters
    ----------
    path : Path
        The file.
    limit : int, optional
        Largest size, bytes.

    Returns
    -------
    str
        Its content.

    Raises
    ------
    LumosConfigError
        If it is missing, no regular file (a pipe would be waited for for ever), too large, or not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LumosConfigError(f"{path}: cannot be read (no regular file)")
        if status.st_size > limit:
            raise LumosConfigError(f"{path}: cannot be read ({status.st_size} bytes, allowed: up to {limit})")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8, byte {error.start}"
        raise LumosConfigError(f"{path}: cannot be read ({reason})") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    LumosDataError
        If it is missing, damaged, or holds something else.
    """
    try:
        content = json.loads(read_text(path, MAX_JSON))
    except LumosConfigError as error:
        raise LumosDataError(str(error).replace("cannot be read", "missing or damaged", 1)) from error
    except (ValueError, RecursionError) as error:
        raise LumosDataError(f"{path}: missing or damaged ({error})") from error
    if not isinstance(content, dict):
        raise LumosDataError(f"{path}: holds {type(content).__name__}, allowed: a mapping")
    return content


def json_in_metadata(path: Path, metadata: Mapping[Any, Any] | None, key: str) -> Any:  # noqa: ANN401
    """Return what the metadata of a table hold under a key, as JSON.

    Parameters
    ----------
    path : Path
        The table's file, for messages.
    metadata : mapping or None
        Texts by key; bytes, as Arrow has them, or text.
    key : str
        Which.

    Returns
    -------
    object
        Plain data; None where there is no such key.

    Raises
    ------
    LumosDataError
        If it is no JSON.
    """
    text = {os.fsdecode(name): value for name, value in (metadata or {}).items()}.get(key)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LumosDataError(f"{path}: damaged metadata, {key} is no JSON ({one_line(error)[:200]})") from error


def list_changes(before: object, after: object, name: str = "") -> list[str]:
    """List what differs between two pieces of plain data.

    Parameters
    ----------
    before, after : object
        Mappings, lists, numbers, text.
    name : str, optional
        Key of both, for the list.

    Returns
    -------
    list of str
        ``key.key: old -> new`` for each value that differs.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        changes = []
        for key in [*after, *(key for key in before if key not in after)]:
            path = f"{name}.{key}" if name else str(key)
            changes += list_changes(before.get(key, "nothing"), after.get(key, "nothing"), path)
        return changes
    if before == after:
        return []
    return [f"{name}: {_brief(before)} -> {_brief(after)}"]


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
