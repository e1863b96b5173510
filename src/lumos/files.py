"""Small files: digests, and writing whole or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lumos.errors import LumosConfigError, LumosDataError, LumosValueError

__all__ = [
    "check_parquet_name",
    "file_sha256",
    "read_json",
    "read_shipped_yaml",
    "shipped_yaml",
    "write_atomic",
    "write_json",
]


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


def shipped_yaml(package: str, folder: str) -> tuple[str, ...]:
    """Return the names of the YAML files of a folder that comes with the package.

    Parameters
    ----------
    package, folder : str
        Where.

    Returns
    -------
    tuple of str
        Sorted names, without ending.
    """
    names = (item.name for item in resources.files(package).joinpath(folder).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read_shipped_yaml(package: str, folder: str, what: str, name_or_path: str) -> dict[str, Any]:
    """Read a mapping from a YAML file that comes with the package, or from the user's own.

    Parameters
    ----------
    package, folder : str
        Where the shipped files are.
    what : str
        What one is, for messages.
    name_or_path : str
        Name of a shipped one, or the path of a file (ending in ``.yaml`` or ``.yml``).

    Returns
    -------
    dict
        Content of the file.

    Raises
    ------
    LumosConfigError
        If there is none of that name (the shipped ones are listed), or the file cannot be read or holds no mapping.
    """
    names = shipped_yaml(package, folder)
    if name_or_path in names:
        source: Any = resources.files(package).joinpath(folder, f"{name_or_path}.yaml")
    elif name_or_path.endswith((".yaml", ".yml")):
        source = Path(name_or_path)
    else:
        allowed = ", ".join(names)
        raise LumosConfigError(f"unknown {what} {name_or_path!r}, allowed: {allowed}, or the path of a YAML file")
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LumosConfigError(f"{name_or_path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise LumosConfigError(f"{name_or_path}: holds {type(content).__name__}, allowed: a mapping")
    return content
