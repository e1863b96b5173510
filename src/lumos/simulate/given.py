"""Fluxes of simulated galaxies that are given in place of those of their own spectra."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lumos.catalogs.formats import open_table
from lumos.catalogs.identifiers import read_identifiers
from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosDataError

__all__ = ["read_fluxes"]


def read_fluxes(path: Path, objects: IntArray, bands: Sequence[str]) -> dict[str, FloatArray]:
    """Read the fluxes of galaxies by band.

    Parameters
    ----------
    path : Path
        Table with a row per galaxy: ``object_id``, and for each band ``flux_BAND`` in nJy.
    objects : int array, shape (n,)
        Identifiers of the galaxies; other rows are left out.
    bands : sequence of str
        Bands; other columns are left out.

    Returns
    -------
    dict of float array, shape (n,)
        By band, nJy.

    Raises
    ------
    LumosDataError
        If the table cannot be read, lacks a galaxy or a band, or a flux is negative, not finite or no number.
    """
    table = open_table(path, "table of fluxes (sky.fluxes)")
    missing = [name for name in ("object_id", *(f"flux_{band}" for band in bands)) if name not in table.names]
    if missing:
        raise LumosDataError(f"{path}: no column {missing[0]!r}; the table has: {', '.join(table.names)}")
    found, _ = read_identifiers(table, "object_id")
    order = np.argsort(found)
    place = order[np.searchsorted(found, objects, sorter=order).clip(max=len(found) - 1)] if len(found) else order
    lost = np.ones(len(objects), dtype=bool) if not len(found) else found[place] != objects
    if lost.any():
        raise LumosDataError(f"{path}: no row of galaxy {objects[lost][0]}, nor of {lost.sum() - 1} others")
    fluxes = {}
    for band in bands:
        column = table.read(f"flux_{band}")
        if column.values.dtype.kind not in "iuf":
            raise LumosDataError(f"{path}: column 'flux_{band}' holds {column.values.dtype}, allowed: numbers")
        flux = np.where(column.missing, np.nan, column.values)[place]
        bad = ~(np.isfinite(flux) & (flux >= 0))
        if bad.any():
            text = f"flux_{band} of galaxy {objects[bad][0]} is {flux[bad][0]:g}, allowed: finite, at least 0, nJy"
            raise LumosDataError(f"{path}: {text}")
        fluxes[band] = flux
    return fluxes
