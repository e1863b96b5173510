"""What output folders and tables were made from: written, compared, and named where it differs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lumos.config import read_yaml
from lumos.errors import LumosConfigError
from lumos.files import list_changes, write_atomic
from lumos.runs.locks import own_files

__all__ = ["check_settings", "describe_changes", "finished_table", "settle_settings"]


_SETTINGS = "settings.yaml"
#: Most changes of settings that a message names.
_MOST_NAMED = 4


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
        before = dict(provenance[command])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, RecursionError) as error:
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
