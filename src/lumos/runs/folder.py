"""Output folders of many parts: begun, continued and finished in one way.

A folder says in ``settings.yaml`` what it is made from, and in ``manifest.json`` what became of each part (of each
exposure). Whoever begins it again with the same settings finds what is finished; with others it is refused.

While a command works in the folder, each part that ends adds one line to ``manifest.jsonl``, so that a folder of many
parts is not written anew for each; at the end, or when the command begins again, the lines go into ``manifest.json``.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lumos import __version__
from lumos.errors import LumosConfigError, LumosDataError
from lumos.files import MAX_JSON, file_sha256, file_stamp, read_json, read_text, write_json
from lumos.runs.locks import lock_folder
from lumos.runs.outputs import settle_settings

__all__ = ["JOURNAL", "MANIFEST", "Entry", "RunFolder", "begin_folder", "read_manifest", "read_waiting"]

#: Names of the manifest, and of the file of what was entered since it was written.
MANIFEST, JOURNAL = "manifest.json", "manifest.jsonl"
#: What the manifest says about one exposure.
Entry = dict[str, Any]


class RunFolder:
    """The manifest of an output folder: what became of each exposure.

    A failed exposure that was finished before keeps that entry under ``earlier``: if the files that it was made from
    come back as they were, it counts again.

    Parameters
    ----------
    path : Path
        The folder.

    Raises
    ------
    LumosDataError
        If its manifest is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        begun = (path / MANIFEST).exists()
        self._entries: dict[str, Entry] = read_manifest(path) if begun else {}
        self._waiting = set(read_waiting(path)) if begun else set()
        # Lines of the journal count for one writing of the manifest only.
        self._generation = _generation(path / MANIFEST) if begun else 0
        self._asked: dict[str, Any] = {}
        earlier = {
            name: entry if entry["status"] == "done" else entry.get("earlier") for name, entry in self._entries.items()
        }
        self._finished = {name: entry for name, entry in earlier.items() if entry and "file" in entry}

    @property
    def is_begun(self) -> bool:
        """Return whether anything was ever finished in the folder."""
        return bool(self._finished)

    @property
    def n_rows(self) -> int:
        """Return the rows in all shards."""
        return sum(entry.get("n_rows", 0) for entry in self._entries.values() if entry["status"] == "done")

    def is_finished(self, name: str, path: Path) -> bool:
        """Tell whether an exposure was finished before, from the same files, and its shard is whole.

        Parameters
        ----------
        name : str
            Of the exposure.
        path : Path
            Its file, which may have moved together with what lies beside it.

        Returns
        -------
        bool
            Whether nothing needs to be done.
        """
        if "inputs" not in self._finished.get(name, {}):
            return False
        entry = self._finished[name] = _moved(self._finished[name], path)
        if any(file_stamp(Path(file)) != stamp for file, stamp in entry["inputs"].items()):
            return False
        shard = self.path / entry["shard"]
        return shard.is_file() and file_sha256(shard) == str(entry["sha256"])

    def begin(self, finished: set[str], todo: Mapping[str, Path], failed: Mapping[str, str]) -> None:
        """Enter what is known before the first exposure is worked on.

        What must be done again does not count any longer: whoever stops now leaves no mixture behind.

        Parameters
        ----------
        finished : set of str
            Exposures for which :meth:`is_finished` holds.
        todo : mapping
            Files of the exposures to be worked on, by name.
        failed : mapping
            Reasons, by file, of those that cannot even be identified.
        """
        entries = {name: entry for name, entry in self._entries.items() if entry["status"] == "done"}
        entries |= {name: self._finished[name] for name in finished}
        changed = "its files, or its shard, changed since it was finished"
        for name in todo.keys() & self._finished.keys():
            entries[name] = self._failure(name, str(todo[name]), f"{todo[name]}: {changed}")
        for file, reason in failed.items():
            names = [name for name, entry in self._finished.items() if entry["file"] == file] or [Path(file).name]
            entries |= {name: self._failure(name, file, reason) for name in names}
        if entries == self._entries and not todo and not self._waiting and (self.path / MANIFEST).exists():
            return
        self._entries, self._waiting = entries, set(todo)
        self._asked = {"exposures": len(finished) + len(todo) + len(failed), "todo": len(todo)}
        self._asked["begun"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._write()

    def enter(self, name: str, entry: Entry) -> None:
        """Enter what became of an exposure, when its shard is on disk.

        Parameters
        ----------
        name : str
            Of the exposure.
        entry : dict
            As :func:`read_manifest` returns it.
        """
        failed = entry["status"] == "failed"
        self._waiting.discard(name)
        self._entries[name] = self._failure(name, entry["file"], entry["reason"]) if failed else entry
        line = {"generation": self._generation, "name": name, "entry": self._entries[name]}
        with (self.path / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line, default=str) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def close(self) -> None:
        """Write the manifest with all that was entered."""
        if (self.path / JOURNAL).exists():
            self._write()

    def _failure(self, name: str, file: str, reason: str) -> Entry:
        earlier = {"earlier": self._finished[name]} if name in self._finished else {}
        return {"status": "failed", "file": file, "reason": reason, **earlier}

    def _write(self) -> None:
        self._generation += 1
        content = {"version": __version__, "generation": self._generation, "asked": self._asked}
        waiting = {"waiting": sorted(self._waiting)} if self._waiting else {}
        write_json(self.path / MANIFEST, {**content, "exposures": self._entries, **waiting})
        (self.path / JOURNAL).unlink(missing_ok=True)


@contextmanager
def begin_folder(
    out: Path, command: str, identity: Mapping[str, object], *below: str, begun: bool = False
) -> Iterator[RunFolder]:
    """Begin or continue an output folder, alone.

    Parameters
    ----------
    out : Path
        The folder; made if needed.
    command : str
        That writes it.
    identity : mapping
        What its content depends on, as plain data; written into ``settings.yaml``.
    *below : str
        Folders in it, made if needed and cleared of unfinished files.
    begun : bool, optional
        Whether it holds results that the manifest does not name.

    Yields
    ------
    RunFolder
        Locked.

    Raises
    ------
    LumosError
        If another process writes into the folder.
    LumosConfigError
        If it holds results of another identity (what differs is named) or of another command.
    LumosDataError
        If its manifest is damaged.
    """
    with lock_folder(out, *below):
        for name in below:
            (out / name).mkdir(exist_ok=True)
        folder = RunFolder(out)
        settle_settings(out, command, identity, begun=begun or folder.is_begun)
        try:
            yield folder
        finally:
            folder.close()


def _generation(path: Path) -> int:
    """Return how often a manifest was written."""
    found = read_json(path).get("generation", 0)
    if type(found) is not int:
        raise LumosDataError(f"{path}: damaged, 'generation' is {found!r:.100}, allowed: a whole number")
    return found


def _moved(entry: Entry, path: Path) -> Entry:
    """Return an entry whose image, with what lies beside and below it, is now at ``path``."""
    before, now = Path(entry["file"]).parent, path.parent
    files = {Path(file): stamp for file, stamp in entry["inputs"].items()}
    inputs = {
        str(now / file.relative_to(before) if file.is_relative_to(before) else file): stamp
        for file, stamp in files.items()
    }
    return {**entry, "file": str(path), "inputs": inputs}


def read_manifest(run: Path | str) -> dict[str, Entry]:
    """Read what the manifest of a run says about each exposure.

    Parameters
    ----------
    run : Path or str
        Folder that ``lumos measure`` wrote.

    Returns
    -------
    dict
        By exposure: ``status``, ``done`` or ``failed``, and ``file``. Finished ones have ``shard``, ``sha256``,
        ``n_rows`` and ``inputs``, size and time of every file that was read; failed ones have ``reason`` and, if
        they were finished once, that entry as ``earlier``.

    Raises
    ------
    LumosDataError
        If the manifest is missing or damaged; the message names the entry.
    """
    path = Path(run) / MANIFEST
    content = read_json(path)
    entries = content.get("exposures")
    if not isinstance(entries, dict):
        raise LumosDataError(f"{path}: damaged, 'exposures' is {type(entries).__name__}, allowed: a mapping")
    entries |= _read_journal(path.with_name(JOURNAL), content.get("generation", 0))
    for name, entry in entries.items():
        _check_entry(entry, f"{path}: damaged, {name}")
        if entry["status"] == "failed" and "earlier" in entry:
            _check_entry(entry["earlier"], f"{path}: damaged, {name}.earlier")
    return entries


def _read_journal(path: Path, generation: object) -> dict[str, Entry]:
    """Return what was entered since the manifest was written; a last line that a kill cut off counts for nothing."""
    if not path.exists():
        return {}
    entries = {}
    try:
        lines = read_text(path, MAX_JSON).split("\n")
    except LumosConfigError as error:
        raise LumosDataError(str(error)) from error
    for number, text in enumerate(lines[:-1], 1):
        try:
            line = json.loads(text)
            if line["generation"] == generation:
                entries[str(line["name"])] = line["entry"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise LumosDataError(f"{path}: damaged, line {number}") from error
    return entries


def read_waiting(run: Path | str) -> list[str]:
    """Read which exposures of a run were to be worked on and are neither finished nor failed.

    Parameters
    ----------
    run : Path or str
        Folder that ``lumos measure`` wrote, perhaps interrupted or still at work.

    Returns
    -------
    list of str
        Their names; empty when the run has come to its end.

    Raises
    ------
    LumosDataError
        If the manifest is missing or damaged.
    """
    path = Path(run) / MANIFEST
    waiting = read_json(path).get("waiting", [])
    if not isinstance(waiting, list) or not all(isinstance(name, str) for name in waiting):
        raise LumosDataError(f"{path}: damaged, 'waiting' is {waiting!r}, allowed: a list of names")
    entered = _read_journal(path.with_name(JOURNAL), read_json(path).get("generation", 0))
    return [name for name in waiting if name not in entered]


def _check_entry(entry: Any, where: str) -> None:  # noqa: ANN401
    """Refuse an entry of a manifest that was not written by `lumos measure`."""
    if not isinstance(entry, dict) or entry.get("status") not in ("done", "failed"):
        raise LumosDataError(f"{where}: allowed: a mapping with status done or failed")
    kinds: dict[str, type] = {"file": str, "reason": str, "shard": str, "sha256": str, "n_rows": int, "inputs": dict}
    needed = {"shard", "sha256"} if entry["status"] == "done" else set()
    for key, kind in kinds.items():
        if key in needed | entry.keys() and type(entry.get(key)) is not kind:
            raise LumosDataError(f"{where}.{key}: got {entry.get(key)!r}, allowed: {kind.__name__}")
    if entry["status"] == "done" and (Path(entry["shard"]).is_absolute() or ".." in Path(entry["shard"]).parts):
        raise LumosDataError(f"{where}.shard: got {entry['shard']!r}, allowed: a file in the run's folder")
