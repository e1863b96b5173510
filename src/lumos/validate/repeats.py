"""Repeat observations: do the errors cover the differences between exposures? No truth is needed."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.catalogs.tables import read_shards
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, BoolArray, FloatArray
from lumos.errors import LumosDataError
from lumos.validate.accuracy import UNUSABLE
from lumos.validate.statistics import BinnedStatistics, binned_statistics, sigma68

__all__ = ["Repeats", "fit_relative_floor", "relative_scales", "run_repeats"]


@dataclass(frozen=True)
class Repeats:
    """Differences between exposures of the same objects.

    Parameters
    ----------
    difference : BinnedStatistics
        Of D = (f1 - f2) / sqrt(s1^2 + s2^2) over all pairs of exposures, in bins of magnitude (paper, eq. 19).
    relative : BinnedStatistics
        Of (f1 - f2) / mean flux / sqrt(2): the scatter of one measurement.
    exposures : tuple of str
        Exposures compared.
    scales, scales_err : float array, shape (n_exposures,)
        Factor that each exposure's fluxes were multiplied with, mean 1 in the logarithm, and its error.
    """

    difference: BinnedStatistics
    relative: BinnedStatistics
    exposures: tuple[str, ...]
    scales: FloatArray
    scales_err: FloatArray


def run_repeats(run: Path, estimator: str, band: str, edges: FloatArray) -> Repeats:
    """Compare the exposures of one band of a run with each other.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    estimator : str
        Whose fluxes.
    band : str
        Which band.
    edges : float array, shape (n_bins + 1,)
        Bins of the AB magnitude of the mean flux (of the zero point 31.4 where fluxes are in image units).

    Returns
    -------
    Repeats
        Relative zero points are fitted first and taken out.

    Raises
    ------
    LumosDataError
        If fewer than two exposures of the band have objects in common.
    """
    table = read_shards(
        run, ["object_id", "exposure_id", "band", "flags", f"{estimator}_flux", f"{estimator}_flux_err"]
    )
    exposures, flux, error = _pivot(table, estimator, band)
    if len(exposures) < 2:
        raise LumosDataError(f"{run}: {len(exposures)} exposures of band {band!r}, allowed: at least 2")
    scales, scales_err = relative_scales(flux, error)
    flux, error = flux * scales, error * scales
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(np.isfinite(flux), 1 / error**2, 0)
        mean = np.nansum(np.where(weight > 0, flux, 0) * weight, axis=1) / weight.sum(axis=1)
        magnitude = AB_ZEROPOINT_NJY - 2.5 * np.log10(np.where(mean > 0, mean, np.nan))
    differences, relatives, magnitudes = [], [], []
    for first, second in combinations(range(len(exposures)), 2):
        both = np.isfinite(flux[:, first]) & np.isfinite(flux[:, second]) & np.isfinite(magnitude)
        gap = flux[both, first] - flux[both, second]
        differences.append(gap / np.hypot(error[both, first], error[both, second]))
        relatives.append(gap / mean[both] / np.sqrt(2))
        magnitudes.append(magnitude[both])
    by = np.concatenate(magnitudes)
    return Repeats(
        binned_statistics(np.concatenate(differences), by, edges),
        binned_statistics(np.concatenate(relatives), by, edges),
        exposures,
        scales,
        scales_err,
    )


def _pivot(table: pa.Table, estimator: str, band: str) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Return exposures, and fluxes and errors of shape (n_objects, n_exposures); NaN where unusable."""
    in_band = np.array(table["band"].to_pylist()) == band
    names = np.array(table["exposure_id"].to_pylist())[in_band]
    identifiers = table["object_id"].to_numpy()[in_band]
    usable: BoolArray = (table["flags"].to_numpy()[in_band] & int(UNUSABLE)) == 0
    exposures, column = np.unique(names, return_inverse=True)
    objects, row = np.unique(identifiers, return_inverse=True)
    arrays = []
    for part in ("flux", "flux_err"):
        values = table[f"{estimator}_{part}"].to_numpy()[in_band]
        grid = np.full((len(objects), len(exposures)), np.nan)
        grid[row[usable], column[usable]] = values[usable]
        arrays.append(grid)
    return tuple(exposures.tolist()), arrays[0], arrays[1]


def relative_scales(flux: FloatArray, flux_err: FloatArray, min_snr: float = 20.0) -> tuple[FloatArray, FloatArray]:
    """Find the factors that bring exposures onto one flux scale.

    Parameters
    ----------
    flux, flux_err : float array, shape (n_objects, n_exposures)
        NaN where an object was not measured.
    min_snr : float, optional
        Only objects above this signal-to-noise ratio in every exposure that has them are used.

    Returns
    -------
    scales, scales_err : float array, shape (n_exposures,)
        Factors, and their errors from the scatter of the objects.

    Raises
    ------
    LumosDataError
        If an exposure shares fewer than three bright objects with the others.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(np.isfinite(flux), flux / flux_err, np.inf)
        bright: BoolArray = np.all(snr > min_snr, axis=1)
        logs = np.log(np.where(bright[:, None] & (flux > 0), flux, np.nan))
    logs = logs[np.isfinite(logs).sum(axis=1) >= 2]
    counts: AnyArray = np.isfinite(logs).sum(axis=0)
    if len(logs) == 0 or counts.min() < 3:
        raise LumosDataError(f"relative zero points: {int(counts.min(initial=0))} bright objects in common, allowed: 3")
    offsets = np.zeros(logs.shape[1])
    # Objects' own brightness and exposures' offsets by turns, with medians: outliers have no say.
    for _ in range(20):
        residual = logs - np.nanmedian(logs - offsets, axis=1, keepdims=True)
        offsets = np.nanmedian(residual, axis=0)
        offsets -= offsets.mean()
    scatter = np.array([sigma68(column[np.isfinite(column)]) for column in (residual - offsets).T])
    return np.exp(-offsets), 1.2533 * scatter / np.sqrt(counts)


def fit_relative_floor(repeats: Repeats, faint_limit: float) -> float:
    r"""Find the relative error that brings the differences of bright objects to unit scatter.

    .. math:: \epsilon^2 = \mathrm{median}_\mathrm{bins}\left[ s^2 \left( 1 - 1 / \sigma_{68}^2[D] \right) \right]

    with s the relative scatter of a bin. The bins' own noise is taken off, so what remains is common to
    all bright objects: flat field, PSF model, interpolation.

    Parameters
    ----------
    repeats : Repeats
        Differences with errors that do not yet hold such a term.
    faint_limit : float
        Bins whose fainter edge is beyond this magnitude are not used: there the sky dominates.

    Returns
    -------
    float
        To be used as ``measure.noise.relative_floor``; 0 where the errors suffice.
    """
    usable = (repeats.difference.edges[1:] <= faint_limit) & (repeats.difference.n > 0)
    scatter, spread = repeats.relative.sigma68[usable], repeats.difference.sigma68[usable]
    excess = scatter**2 * (1 - 1 / spread**2)
    return float(np.sqrt(max(np.median(excess), 0.0))) if len(excess) else 0.0
