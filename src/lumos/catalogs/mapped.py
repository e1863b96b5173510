"""A parent catalogue that processes share: plain arrays on disk, of which each holds only what it looks at."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from lumos.catalogs.parent import ParentCatalog

__all__ = ["map_catalog", "write_mapped"]


def write_mapped(catalog: ParentCatalog, folder: Path) -> None:
    """Write the columns of a catalogue as one array file each.

    Parameters
    ----------
    catalog : ParentCatalog
        What to write.
    folder : Path
        New or empty folder; whoever asks for it removes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for item in fields(catalog):
        values = getattr(catalog, item.name)
        if isinstance(values, np.ndarray):
            np.save(folder / f"{item.name}.npy", values)
    (folder / "made_from.json").write_text(json.dumps(catalog.made_from), encoding="utf-8")


def map_catalog(folder: Path) -> ParentCatalog:
    """Return a catalogue that :func:`write_mapped` wrote, without reading it.

    Parameters
    ----------
    folder : Path
        Folder that :func:`write_mapped` wrote.

    Returns
    -------
    ParentCatalog
        Its arrays are read-only and lie on disk; :meth:`ParentCatalog.near` reads few of them.
    """
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    made_from = json.loads((folder / "made_from.json").read_text(encoding="utf-8"))
    return ParentCatalog(**arrays, made_from=tuple(made_from))
