"""What a folder of many parts looks like from outside: how far it is, and whether all in it is whole."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.tables import check_pages
from lumos.errors import LumosDataError, one_line
from lumos.files import file_sha256, file_stamp, read_json
from lumos.runs.folder import JOURNAL, MANIFEST, Entry, read_manifest
from lumos.runs.locks import holder_of

__all__ = ["Progress", "check_run", "look_at_run"]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    asked : int
        Exposures that the last command was given; those of earlier commands count if the folder knows more.
    done : int
        Exposures with a whole shard.
    n_rows : int
        Rows in them.
    failed : dict
        Reason by exposure.
    holder : str or None
        Process that works in the folder now; None: none does.
    seconds : float
        Since the last command began, up to the last exposure that it ended where none works now.
    ended : int
        Exposures that it ended.
    """

    asked: int
    done: int
    n_rows: int
    failed: dict[str, str]
    holder: str | None
    seconds: float
    ended: int

    @property
    def seconds_left(self) -> float:
        """Return how long the rest takes at the rate so far; NaN before the first exposure has ended."""
        left = max(self.asked - self.done - len(self.failed), 0)
        return left * self.seconds / self.ended if self.ended else float("nan")


def look_at_run(run: Path) -> Progress:
    """Tell how far a run is, from its folder alone, while it runs or afterwards.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` or ``lumos simulate`` writes.

    Returns
    -------
    Progress
        As the manifest has it.

    Raises
    ------
    LumosDataError
        If it is no such folder, or its manifest is damaged.
    """
    entries = read_manifest(run)
    asked, begun = _asked(run)
    done = [entry for entry in entries.values() if entry["status"] == "done"]
    failed = {name: str(entry.get("reason", "")) for name, entry in entries.items() if entry["status"] == "failed"}
    holder, seconds = holder_of(run), 0.0
    journal = run / JOURNAL
    ended = journal.read_bytes().count(b"\n") if journal.exists() else 0 if holder else asked.get("todo", 0)
    if begun is not None:
        last = datetime.now(UTC) if holder else datetime.fromtimestamp(_last_change(run), UTC)
        seconds = max((last - begun).total_seconds(), 0.0)
    n_rows = sum(entry.get("n_rows", 0) for entry in done)
    return Progress(max(asked.get("exposures", 0), len(entries)), len(done), n_rows, failed, holder, seconds, ended)


def _asked(run: Path) -> tuple[dict[str, int], datetime | None]:
    """Return how many exposures the last command was given and had to work on, and when it began."""
    path = run / MANIFEST
    asked = read_json(path).get("asked") or {}
    if not isinstance(asked, dict):
        raise LumosDataError(f"{path}: damaged, 'asked' is {asked!r:.100}, allowed: a mapping")
    counts = {key: asked[key] for key in ("exposures", "todo") if key in asked}
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        raise LumosDataError(f"{path}: damaged, 'asked' counts {counts!r:.100}, allowed: whole numbers")
    try:
        begun = datetime.fromisoformat(asked["begun"]) if "begun" in asked else None
    except (ValueError, TypeError) as error:
        raise LumosDataError(f"{path}: damaged, 'asked' began at {asked['begun']!r:.100}, allowed: a date") from error
    return counts, begun if begun is None or begun.tzinfo is not None else begun.replace(tzinfo=UTC)


def check_run(run: Path, progress: Callable[[int, int, str], None] | None = None) -> dict[str, str]:
    """Verify the shards of a run against its manifest, page by page.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    progress : callable, optional
        Called after each exposure.

    Returns
    -------
    dict
        What is wrong, by file; empty where all is whole. The command that made the folder mends it.

    Raises
    ------
    LumosDataError
        If it is no such folder, or its manifest is damaged.
    """
    entries = read_manifest(run)
    wrong: dict[str, str] = {}
    known = set()
    for number, (name, entry) in enumerate(entries.items(), 1):
        if entry["status"] == "done":
            known.add((run / entry["shard"]).resolve())
            wrong |= _faults(run / entry["shard"], entry)
        else:
            wrong[str(entry.get("file", name))] = f"failed: {entry.get('reason', 'no reason known')}"
        if progress is not None:
            progress(number, len(entries), name)
    folders = {path.parent for path in known} | {run / "shards"}
    for path in sorted(path for folder in folders for path in folder.glob("*.parquet")):
        if path.resolve() not in known:
            wrong[str(path)] = "not in the manifest; it is not read, and may be removed"
    return wrong


def _faults(shard: Path, entry: Entry) -> dict[str, str]:
    """Return what is wrong with one shard or with the files that it was made from."""
    try:
        if file_sha256(shard) != entry["sha256"]:
            return {str(shard): "sha256 differs from the manifest's"}
        if shard.suffix == ".parquet":
            check_pages(shard)
            n_rows = pq.read_metadata(shard).num_rows
            if n_rows != entry.get("n_rows", n_rows):
                return {str(shard): f"{n_rows} rows, the manifest has {entry['n_rows']}"}
    except (LumosDataError, OSError, pa.ArrowException) as error:
        return {str(shard): one_line(error)}
    changed = [file for file, stamp in entry.get("inputs", {}).items() if file_stamp(Path(file)) != stamp]
    return dict.fromkeys(changed, f"changed or gone since {shard.name} was made from it")


def _last_change(run: Path) -> float:
    return max(path.stat().st_mtime for path in run.glob("manifest.json*"))
