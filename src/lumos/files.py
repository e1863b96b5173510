"""Small files: digests, and writing whole or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lumos.errors import LumosDataError

__all__ = ["file_sha256", "read_json", "write_atomic", "write_json"]


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
    except OSError as error:
        raise LumosDataError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 (size and mtime are the cache key)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Parameters
    ----------
    path : Path
        Output file.
    text : str
        Its content.
    """
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


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
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LumosDataError(f"{path}: missing or damaged ({error})") from error
    if not isinstance(content, dict):
        raise LumosDataError(f"{path}: holds {type(content).__name__}, allowed: a mapping")
    return content
