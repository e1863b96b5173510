"""Repeat observations: do the errors cover the differences between exposures? No truth is needed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from lumos.coadds.calibrate import Calibration, calibrate_run
from lumos.coadds.settings import CalibrateSettings
from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.validate.differences import Differences, differences
from lumos.validate.pairs import Measurements, all_pairs, catalog_exposures, read_measurements
from lumos.validate.shards import run_estimators, shards_by_band
from lumos.validate.statistics import binned_statistics

__all__ = ["HISTOGRAM_EDGES", "Repeats", "check_edges", "repeat_table", "run_repeats"]

logger = logging.getLogger(__name__)

#: Edges of the cells in which values of D are counted; the outermost cells hold all beyond.
HISTOGRAM_EDGES: FloatArray = np.linspace(-10, 10, 81)


@dataclass(frozen=True, eq=False)
class Repeats:
    """Differences between exposures of the same objects, for one estimator in one band.

    Parameters
    ----------
    estimator, band : str
        Whose fluxes, and of which band.
    edges : float array, shape (n_bins + 1,)
        Bins of the AB magnitude of the mean flux.
    difference : Differences
        One entry per bin.
    overall : Differences
        One entry: all pairs, whatever their magnitude, those of objects with a mean flux below 0 too.
    relative_scatter : float array, shape (n_bins,)
        sigma68 of (f1 - f2) / mean flux / sqrt(2): the scatter of one measurement.
    histogram : int array, shape (80,)
        Pairs by D in the cells of ``HISTOGRAM_EDGES``.
    n_negative : int
        Objects with repeats whose mean flux is not above 0; they have no magnitude.
    n_unusable : int
        Measurements left out: flagged, without flux or error, of a CCD that nothing calibrates, or of the exposure that
        the catalogue was made from.
    exposure_id, detector : tuple of str, length n_units
        CCDs of exposures that were compared.
    scales, scales_err : float array, shape (n_units,)
        Factor that each one's fluxes were multiplied with, and its relative error without what all have in common,
        which drops out of the differences. D does not hold that error.
    """

    estimator: str
    band: str
    edges: FloatArray
    difference: Differences
    overall: Differences
    relative_scatter: FloatArray
    histogram: IntArray
    n_negative: int
    n_unusable: int
    exposure_id: tuple[str, ...]
    detector: tuple[str, ...]
    scales: FloatArray
    scales_err: FloatArray


def run_repeats(
    run: Path, estimator: str, band: str, edges: FloatArray, *, zeropoints: Path | None = None, seed: int = 0
) -> Repeats:
    """Compare the exposures of one band of a run with each other.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    estimator : str
        Name of the estimator whose fluxes are compared.
    band : str
        Name of the band whose exposures are compared.
    edges : float array, shape (n_bins + 1,)
        Bins of the AB magnitude of the inverse-variance mean flux of an object's exposures.
    zeropoints : Path, optional
        Table of zero points, see :func:`lumos.coadds.calibrate.calibrate_run`; needed where the images have none.
    seed : int, optional
        Of the resampling of objects.

    Returns
    -------
    Repeats
        Zero points are fitted first, on the fluxes of this estimator, and taken out.

    Raises
    ------
    LumosValueError
        If the run has no such estimator or band, or the edges do not increase.
    LumosDataError
        If no object of the band has two usable measurements.

    Notes
    -----
    The noise of an inverse-variance mean is uncorrelated with that of the differences it is made of, whatever the
    errors and the number of exposures. Bins of this mean, faint ones and those below 0 included, thus do not select
    D. There are two limits to this. Errors that hold the photon noise of the *measured* flux are larger where it
    scatters high: bins of faint means then have D above 1 and bright ones below, not all objects together. And an
    object that was detected because one of these very exposures scatters high differs from its repeats by more than
    the errors: an exposure that the catalogue was made from, where the run knows it, takes no part.
    """
    return repeat_table(run, edges, estimators=[estimator], bands=[band], zeropoints=zeropoints, seed=seed)[0]


def repeat_table(
    run: Path,
    edges: FloatArray,
    *,
    estimators: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    zeropoints: Path | None = None,
    seed: int = 0,
) -> tuple[Repeats, ...]:
    """Compare exposures for several estimators and bands of a run, see :func:`run_repeats`.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    edges : float array, shape (n_bins + 1,)
        Bins of the AB magnitude of the mean flux.
    estimators, bands : sequence of str, optional
        Which; by default all estimators of the run, and all bands in which an object has two usable measurements.
    zeropoints : Path, optional
        Table of zero points; needed where the images have none.
    seed : int, optional
        Of the resampling of objects.

    Returns
    -------
    tuple of Repeats
        Estimator by estimator, in it band by band.

    Raises
    ------
    LumosValueError
        If the run has no such estimator or band, or the edges do not increase.
    LumosDataError
        If a band that was asked for, or every band, lacks objects with two usable measurements.
    """
    edges = check_edges(edges)
    shards = shards_by_band(run)
    known = run_estimators(shards)
    for what, asked, allowed in (("estimator", estimators, known), ("band", bands, sorted(shards))):
        wrong = next((name for name in asked or () if name not in allowed), None)
        if wrong is not None:
            raise LumosValueError(f"{run}: {what}", wrong, ", ".join(allowed))
    for name in sorted({name for band in bands or shards for name in catalog_exposures(shards[band])}):
        text = (
            "exposure %s: the catalogue was made from it, so its pairs are left out: its noise chose the faint objects"
        )
        logger.warning(text, name)
    results = []
    for estimator in estimators or known:
        calibration = calibrate_run([run], CalibrateSettings(estimator=estimator), zeropoints=zeropoints)
        for band in bands or sorted(shards):
            rows = read_measurements(shards[band], estimator, calibration)
            first, second = all_pairs(rows.object_index)
            if len(first):
                results.append(_compare(rows, (first, second), calibration, (estimator, band), edges, seed))
            elif bands is not None:
                raise LumosDataError(f"{run}: band {band!r}: no object has two usable measurements by {estimator!r}")
            else:
                logger.warning("band %s: no object has two usable measurements by %s, left out", band, estimator)
    if not results:
        raise LumosDataError(f"{run}: no object has two usable measurements in any band")
    return tuple(results)


def check_edges(edges: FloatArray) -> FloatArray:
    """Return edges of bins, checked.

    Parameters
    ----------
    edges : float array, shape (n_bins + 1,)
        Two or more.

    Returns
    -------
    float array, shape (n_bins + 1,)
        The edges, finite and increasing.

    Raises
    ------
    LumosValueError
        If they are fewer than two or do not increase.
    """
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise LumosValueError("edges of magnitude bins", edges.tolist(), "two or more, increasing")
    return edges


def _compare(
    rows: Measurements,
    pairs: tuple[IntArray, IntArray],
    calibration: Calibration,
    name: tuple[str, str],
    edges: FloatArray,
    seed: int,
) -> Repeats:
    """Return the figures of the pairs of one estimator and band."""
    first, second = pairs
    ivar = rows.flux_err**-2.0
    mean = np.bincount(rows.object_index, ivar * rows.flux) / np.bincount(rows.object_index, ivar)
    owner, gap = rows.object_index[first], rows.flux[first] - rows.flux[second]
    difference = gap / np.hypot(rows.flux_err[first], rows.flux_err[second])
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = (AB_ZEROPOINT_NJY - 2.5 * np.log10(np.where(mean > 0, mean, np.nan)))[owner]
        relative = binned_statistics(gap / mean[owner] / np.sqrt(2), magnitude, edges).sigma68
    bins = [np.flatnonzero((magnitude >= low) & (magnitude < high)) for low, high in pairwise(edges)]
    rng = np.random.default_rng(seed)
    units = np.unique(rows.unit[np.concatenate([first, second])])
    covariance = calibration.covariance(units)
    # Of the departures from the units' mean: the common part drops out of all differences.
    apart = covariance - covariance.mean(axis=0) - covariance.mean(axis=1)[:, None] + covariance.mean()
    return Repeats(
        estimator=name[0],
        band=name[1],
        edges=edges,
        difference=differences([(difference[group], owner[group]) for group in bins], rng),
        overall=differences([(difference, owner)], rng),
        relative_scatter=relative,
        histogram=np.histogram(np.clip(difference, *HISTOGRAM_EDGES[[0, -1]]), HISTOGRAM_EDGES)[0],
        n_negative=int((mean[np.unique(owner)] <= 0).sum()),
        n_unusable=rows.n_unusable,
        exposure_id=tuple(calibration.exposure_id[unit] for unit in units),
        detector=tuple(calibration.detector[unit] for unit in units),
        scales=np.exp(calibration.log_scale[units]),
        scales_err=np.sqrt(np.maximum(np.diag(apart), 0)),
    )
