"""VOTables are text that may send its reader elsewhere; here they are looked at before they are read."""

import bz2
import gzip
from pathlib import Path
from typing import IO
from xml.parsers import expat

from lumos.errors import LumosDataError

__all__ = ["refuse_streams"]


def refuse_streams(path: Path) -> str:
    """Refuse a VOTable that keeps its rows in another file or behind an address; nothing is opened but the file.

    Parameters
    ----------
    path : Path
        VOTable, perhaps compressed with gzip or bzip2.

    Returns
    -------
    str
        The celestial frames that it names (``COOSYS``), with semicolons between.

    Raises
    ------
    LumosDataError
        If a ``STREAM`` has an ``href``.
    """
    frames: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        local = name.rsplit(":", 1)[-1].upper()
        if local == "STREAM":
            for key, value in attributes.items():
                if key.rsplit(":", 1)[-1].lower() == "href":
                    raise LumosDataError(
                        f"{path}: its rows lie in {value!r}, which is not opened; allowed: rows in the file itself"
                    )
        elif local == "COOSYS":
            frames.append(f"{attributes.get('system', '')} {attributes.get('equinox', '')}".strip())

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with _unpacked(path) as stream:
        while chunk := stream.read(1 << 20):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    return "; ".join(frames)


def _unpacked(path: Path) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File:
    if path.suffix == ".gz":
        return gzip.GzipFile(path)
    return bz2.BZ2File(path) if path.suffix == ".bz2" else path.open("rb")
