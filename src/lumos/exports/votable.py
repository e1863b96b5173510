"""Export to VOTable 1.4, binary, with units, UCDs and the frame of positions."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from astropy.io.votable import from_table
from astropy.io.votable.tree import CooSys, Info

from lumos import __version__
from lumos.exports.tables import Export
from lumos.exports.text import as_astropy
from lumos.flags import FLAG_TEXT

__all__ = ["write_votable"]


def write_votable(export: Export, path: Path) -> None:
    """Write a table as VOTable.

    Parameters
    ----------
    export : Export
        The table; all of its rows are held in memory.
    path : Path
        File to write.
    """
    table = as_astropy(pa.concat_tables(export.tables()))
    table.meta.clear()
    votable = from_table(table)
    votable.version = "1.4"
    resource = votable.resources[0]
    resource.coordinate_systems.append(CooSys(ID="icrs", system="ICRS"))
    resource.infos.append(Info(name="creator", value=f"lumos {__version__}"))
    for flag, text in FLAG_TEXT.items():
        resource.infos.append(_flag_info(str(flag.name), int(flag), text))
    for item in votable.get_first_table().fields:
        if (item.ucd or "").startswith("pos.eq"):
            item.ref = "icrs"
    votable.to_xml(str(path), tabledata_format="binary2")


def _flag_info(name: str, bit: int, text: str) -> Any:  # noqa: ANN401 (astropy has no types)
    info = Info(name=f"flag_{name}", value=str(bit))
    info.content = text
    return info
