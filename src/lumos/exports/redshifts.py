"""Export of p(z): ensembles of qp."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.conventions import AnyArray
from lumos.errors import LumosDataError
from lumos.exports.packages import optional
from lumos.photoz.run import read_redshifts

__all__ = ["write_redshifts"]

logger = logging.getLogger(__name__)


def write_redshifts(run: Path, path: Path) -> int:
    """Write p(z) as an ensemble of qp, ``interp``, with all other columns beside it.

    Parameters
    ----------
    run : Path
        Folder that ``lumos photoz`` wrote.
    path : Path
        HDF5 file to write.

    Returns
    -------
    int
        Galaxies that were written: those with a redshift. How many have none is logged.

    Raises
    ------
    LumosDataError
        If the run is damaged, or no galaxy has a redshift.
    LumosError
        If qp is not installed.

    Notes
    -----
    qp joins the densities at the redshifts by straight lines, where they are constant in each cell in the run; it
    normalises that. ``zmode`` is ``zb``, by the name that RAIL has for it.
    """
    qp = optional("qp", "qp", "the format qp")
    table, pdf = read_redshifts(run)
    good = np.asarray(np.isfinite(pdf.density).all(axis=1))
    n = int(good.sum())
    if n == 0:
        raise LumosDataError(f"{run}: no galaxy has a redshift")
    if n < len(good):
        logger.warning("%s: %d of %d galaxies have no redshift and are left out", run, len(good) - n, len(good))
    names = [name for name in table.column_names if name != "pz"]
    widths = {
        name: max((len(text.encode()) for text in table[name].to_pylist()), default=1)
        for name in names
        if pa.types.is_string(table.schema.field(name).type)
    }
    some = table.filter(pa.array(good))
    ancillary = {name: _ancillary(some, name, widths) for name in names} | {"zmode": some["zb"].to_numpy()}
    ensemble = qp.Ensemble(
        qp.interp, data={"xvals": pdf.redshifts, "yvals": pdf.density[good].astype(np.float64)}, ancil=ancillary
    )
    # Not write_to, which takes the format from the suffix.
    groups, file = ensemble.initializeHdf5Write(str(path), n)
    ensemble.writeHdf5Chunk(groups, 0, n)
    ensemble.finalizeHdf5Write(file)
    return n


def _ancillary(table: pa.Table, name: str, widths: dict[str, int]) -> AnyArray:
    values = table[name].to_numpy(zero_copy_only=False)
    if name in widths:
        return np.array([text.encode() for text in values.tolist()], dtype=f"S{max(widths[name], 1)}")
    return np.asarray(values)
