"""Galaxies of a table put into an exposure before it is measured."""

import zlib
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosDataError
from lumos.images.exposure import Exposure
from lumos.images.zeropoint import known_zeropoint
from lumos.photometry.objects import place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.simulate.inject import inject

__all__ = ["inject_table"]

#: How far outside an exposure a galaxy still leaves light on it, pixels.
_MARGIN = 60.0


def inject_table(exposure: Exposure, path: Path, settings: MeasureSettings) -> Exposure:
    """Put the galaxies of a table into an exposure, with the noise of their photons.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    path : Path
        Parquet with ``object_id``, ``band``, ``flux``, ``calibrated`` (nJy, else image units), and ``ra``, ``dec``,
        ``half_light_radius``, ``sersic_n``, ``axis_ratio`` and ``position_angle`` as in a parent catalogue.
    settings : MeasureSettings
        Of the run.

    Returns
    -------
    Exposure
        With those of its band; the same galaxies have the same photons whenever this is called.

    Raises
    ------
    LumosDataError
        If fluxes are in nJy and the exposure has no zero point, or it has no PSF.
    """
    if exposure.psf is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known, galaxies cannot be drawn")
    table = pq.read_table(path)
    table = table.filter(pc.equal(table["band"], exposure.band))
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("band", "place")}
    zeropoint = known_zeropoint(exposure.zeropoint, exposure.path)
    if columns["calibrated"].any() and not np.isfinite(zeropoint):
        raise LumosDataError(f"{exposure.path}: no zero point, which injected fluxes in nJy need")
    unit = 10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)) if np.isfinite(zeropoint) else 1.0
    n = table.num_rows
    names = ("ra", "dec", "half_light_radius", "sersic_n", "axis_ratio", "position_angle")
    shapes = {name: columns[name] for name in names}
    catalog = ParentCatalog(object_id=np.arange(n), ref_mag=np.full(n, np.nan), **shapes)
    placed = place_objects(exposure, catalog, settings, margin=_MARGIN)
    placed = placed.take(np.isfinite(placed.psf_fwhm))
    flux = (columns["flux"] / np.where(columns["calibrated"], unit, 1.0))[placed.catalog.object_id]
    seed = zlib.crc32(f"{exposure.exposure_id} {exposure.detector}".encode())
    return inject(exposure, placed.at(placed.x, placed.y), flux, np.random.default_rng([seed, n]))
