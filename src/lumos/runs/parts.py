"""Parts of a table that is made piece by piece, kept until it is whole."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from lumos.errors import LumosConfigError, LumosDataError
from lumos.files import UNFINISHED, read_json, write_json
from lumos.runs.outputs import describe_changes

__all__ = ["remove_parts", "table_parts"]

_IDENTITY = "identity.json"


@contextmanager
def table_parts(out: Path, identity: Mapping[str, object]) -> Iterator[Path]:
    """Keep the parts of a table until it is whole, so that a killed command continues.

    Parameters
    ----------
    out : Path
        Table to be made; nobody else may make it meanwhile.
    identity : mapping
        What it is made from, plain data.

    Yields
    ------
    Path
        Folder beside the table. It holds the parts that an earlier command with this identity made, and is removed
        when the block ends without an error.

    Raises
    ------
    LumosConfigError
        If the folder is there and was not made by this function, or holds parts of another table; what differs is
        named.
    """
    folder, wanted = out.with_suffix(".parts"), json.loads(json.dumps(identity, default=str))
    if folder.exists():
        try:
            before = read_json(folder / _IDENTITY)
        except LumosDataError as error:
            # A command that is killed before its first part leaves what it was writing.
            if any(not path.name.startswith(UNFINISHED) for path in folder.iterdir()):
                raise LumosConfigError(f"{folder}: not written by lumos; remove it or give a new --out") from error
            before = {}
        if before != wanted:
            if any(folder.glob("*.parquet")):
                changes = describe_changes(before, wanted)
                raise LumosConfigError(
                    f"{folder}: pieces of {out.name} from an earlier command ({changes}); give that command again, or "
                    "remove the folder to begin anew"
                )
            rmtree(folder)
    folder.mkdir(exist_ok=True)
    write_json(folder / _IDENTITY, wanted)
    yield folder
    rmtree(folder)


def remove_parts(out: Path) -> None:
    """Remove parts that a command left which was killed after it had written the whole table.

    Parameters
    ----------
    out : Path
        The table, finished. A folder that holds other files than parts is left alone.
    """
    folder = out.with_suffix(".parts")
    if folder.is_dir() and all(_is_own(path) for path in folder.iterdir()):
        rmtree(folder)


def _is_own(path: Path) -> bool:
    is_part = path.suffix == ".parquet" and path.stem.isdigit()
    return is_part or path.name == _IDENTITY or path.name.startswith(UNFINISHED)
