"""Pairs of exposures of one object in one band."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.coadds.calibrate import Calibration
from lumos.conventions import FloatArray, IntArray
from lumos.flags import UNUSABLE, Flag
from lumos.runs.shards import read_shard

__all__ = ["Measurements", "all_pairs", "catalog_exposures", "read_measurements"]


@dataclass(frozen=True, eq=False)
class Measurements:
    """Usable, calibrated fluxes of one estimator in one band, m rows.

    Parameters
    ----------
    object_id, object_index : int array, shape (m,)
        Objects, and their numbers from 0 on.
    unit : int array, shape (m,)
        CCDs of exposures, as of the calibration.
    flux, flux_err : float array, shape (m,)
        Calibrated.
    x, y : float array, shape (m,)
        Place on the CCD, pixels.
    n_unusable : int
        Rows that were left out.
    """

    object_id: IntArray
    object_index: IntArray
    unit: IntArray
    flux: FloatArray
    flux_err: FloatArray
    x: FloatArray
    y: FloatArray
    n_unusable: int


def read_measurements(paths: Sequence[Path], estimator: str, calibration: Calibration) -> Measurements:
    """Read what one estimator measured in one band.

    Parameters
    ----------
    paths : sequence of Path
        Shards.
    estimator : str
        Whose fluxes.
    calibration : Calibration
        Scales them.

    Returns
    -------
    Measurements
        Rows without a flag that forbids their use, and not of an exposure that the catalogue was made from.
    """
    names = ["object_id", "exposure_id", "detector", "flags", "x", "y", f"{estimator}_flux", f"{estimator}_flux_err"]
    tables = [read_shard(path, names) for path in paths]
    object_id, exposure, detector, flags, x, y, flux, error = (
        np.concatenate([table[name].to_numpy(zero_copy_only=False) for table in tables]) for name in names
    )
    unit = calibration.index(exposure, detector)
    scale = np.exp(calibration.log_scale[unit])
    flux, error = flux * scale, error * scale
    good = ((flags & int(UNUSABLE | Flag.CATALOG_EXPOSURE)) == 0) & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    _, index = np.unique(object_id[good], return_inverse=True)
    unit, flux, error, x, y = (values[good] for values in (unit, flux, error, x, y))
    return Measurements(object_id[good], index, unit, flux, error, x, y, int((~good).sum()))


def catalog_exposures(paths: Sequence[Path]) -> set[str]:
    """Return the exposures that the catalogue was made from.

    Parameters
    ----------
    paths : sequence of Path
        Shards.

    Returns
    -------
    set of str
        Their names.
    """
    found: set[str] = set()
    for path in paths:
        table = read_shard(path, ["exposure_id", "flags"])
        marked = (table["flags"].to_numpy() & int(Flag.CATALOG_EXPOSURE)) > 0
        found |= set(table["exposure_id"].to_numpy(zero_copy_only=False)[marked].tolist())
    return found


def all_pairs(object_index: IntArray) -> tuple[IntArray, IntArray]:
    """Return all pairs of rows of one object, the earlier row first.

    Parameters
    ----------
    object_index : int array, shape (m,)
        Object of each row.

    Returns
    -------
    first, second : int array, shape (n_pairs,)
        Numbers of rows.
    """
    order = np.argsort(object_index, kind="stable")
    ordered = object_index[order]
    first, second = [order[:0]], [order[:0]]
    for lag in range(1, len(order)):
        same = ordered[lag:] == ordered[:-lag]
        if not same.any():
            break
        first.append(order[:-lag][same])
        second.append(order[lag:][same])
    return np.concatenate(first), np.concatenate(second)
