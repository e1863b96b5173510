"""Exposures that contradict the others of their object."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosValueError
from lumos.pdf.base import FluxPdf
from lumos.pdf.coadd import check_index, same_count
from lumos.pdf.grid import GridPdf
from lumos.pdf.multiply import multiply
from lumos.statistics import SUMMARY_LEVELS

__all__ = ["compatibility", "reject_outliers"]

#: p-value of Gaussian summaries below which all rows of the object are compared exactly.
SUSPECT = 0.01
#: Numbers per pair of rows in an exact comparison.
WIDTH = 256


def compatibility(likelihoods: FluxPdf, object_index: ArrayLike, n_objects: int) -> FloatArray:
    r"""Return how well each exposure agrees with the other exposures of its object.

    .. math:: p_e = 2 \min(P, 1 - P), \quad
        P = \int q_e(f) \int_{-\infty}^f L_e(f') \, df' \, df, \quad q_e \propto \prod_{j \ne e} L_j

    is the probability of a larger difference between the flux of row e and that of the others. For Gaussians it
    is the p-value of (f_e - f_others) / sqrt(sigma_e^2 + sigma_others^2), uniform where fluxes and errors are right;
    a mixture's wings count, in the row and in the others. No prior enters.

    Where medians and sigma68 in place of the PDFs give no p-value below 0.01 in an object, those are returned, so
    that the products without one row are made only for objects that may need them.

    Parameters
    ----------
    likelihoods : FluxPdf, n_rows rows
        One exposure each, in one unit of flux.
    object_index : array_like of int, shape (n_rows,)
        Object of each row, 0 to ``n_objects`` - 1.
    n_objects : int
        Number of objects.

    Returns
    -------
    ndarray, shape (n_rows,)
        Two-sided p-values; NaN for NaN rows and for rows that are alone. Of two rows both have the same.
    """
    index = check_index(object_index, len(likelihoods), n_objects)
    return _compare(likelihoods, index, n_objects)[0]


def reject_outliers(
    likelihoods: FluxPdf, object_index: ArrayLike, n_objects: int, threshold: float = 1e-4
) -> tuple[BoolArray, BoolArray]:
    """Find the exposures that contradict the others of their object.

    The row with the smallest p-value of :func:`compatibility` is taken out if that is below the threshold, and the
    others are compared again, as long as more than half of the object's rows are left. If the rest still
    contradicts itself, as two rows do that contradict each other, nobody knows which row is wrong: all are kept, and
    the object is marked. Of good exposures a share of about ``threshold`` is lost.

    Parameters
    ----------
    likelihoods : FluxPdf, n_rows rows
        One exposure each, in one unit of flux.
    object_index : array_like of int, shape (n_rows,)
        Object of each row, 0 to ``n_objects`` - 1.
    n_objects : int
        Number of objects.
    threshold : float, optional
        p-value, 0 to 0.01.

    Returns
    -------
    keep : ndarray of bool, shape (n_rows,)
        False for outliers only; True for NaN rows, which a product leaves out anyway.
    contradictory : ndarray of bool, shape (n_objects,)
        Objects whose rows contradict each other without a majority.

    Raises
    ------
    LumosValueError
        If the threshold is out of range.
    """
    if not 0 <= threshold <= SUSPECT:
        raise LumosValueError("threshold of outliers", threshold, f"0 to {SUSPECT}")
    index = check_index(object_index, len(likelihoods), n_objects)
    keep, contradictory = np.ones(len(index), dtype=bool), np.zeros(n_objects, dtype=bool)
    active = np.flatnonzero(np.isfinite(likelihoods.mean()))
    spare = (np.bincount(index[active], minlength=n_objects) - 1) // 2
    while len(active):
        p_value, distance = _compare(likelihoods.take(active), index[active], n_objects)
        # The worst row of each object comes first; beyond all tails (p = 0) the distance decides.
        order = np.lexsort((-distance, p_value, index[active]))
        worst = order[np.unique(index[active][order], return_index=True)[1]]
        worst = worst[p_value[worst] < threshold]
        objects = index[active[worst]]
        removed, stuck = spare[objects] > 0, objects[spare[objects] == 0]
        contradictory[stuck] = True
        keep[np.isin(index, stuck)] = True
        keep[active[worst[removed]]] = False
        spare[objects[removed]] -= 1
        active = active[np.isin(index[active], objects[removed]) & keep[active]]
    return keep, contradictory


def _compare(likelihoods: FluxPdf, index: IntArray, n_objects: int) -> tuple[FloatArray, FloatArray]:
    """Return p-values, and absolute distances of Gaussian summaries in standard deviations."""
    low, median, high = likelihoods.quantile(np.array([SUMMARY_LEVELS])).T
    usable = np.isfinite(median)
    distance = np.full(len(index), np.nan)
    distance[usable] = _distance(median[usable], (high - low)[usable] / 2, index[usable], n_objects)
    p_value = 2 * ndtr(-distance)
    suspect = np.zeros(n_objects, dtype=bool)
    suspect[index[p_value < SUSPECT]] = True
    for objects, rows in same_count(index, n_objects, usable & suspect[index], WIDTH * 5):
        p_value[rows] = _exact(likelihoods, rows, objects)
    return p_value, distance


def _distance(flux: FloatArray, flux_err: FloatArray, index: IntArray, n_objects: int) -> FloatArray:
    """Return the distance of each row from the inverse-variance mean of the others; NaN for rows that are alone."""
    ivar = flux_err**-2.0
    # From a flux of the object itself, or differences of large fluxes would lose their digits.
    origin = np.zeros(n_objects)
    origin[index] = flux
    flux = flux - origin[index]
    others = np.bincount(index, ivar, n_objects)[index] - ivar
    others[np.bincount(index, minlength=n_objects)[index] < 2] = np.nan
    mean = (np.bincount(index, ivar * flux, n_objects)[index] - ivar * flux) / others
    return np.asarray(np.abs(flux - mean) / np.sqrt(flux_err**2 + 1 / others))


def _exact(likelihoods: FluxPdf, rows: IntArray, objects: IntArray) -> FloatArray:
    """Return the p-values of rows (m, count)."""
    count = rows.shape[1]
    other = np.array([[row for row in range(count) if row != left] for left in range(count)])
    others = GridPdf(*multiply(likelihoods, rows[:, other].reshape(-1, count - 1), np.repeat(objects, count)))
    below = likelihoods.take(rows.ravel()).cdf(others.nodes)
    mass = np.diff(others.cumulative, axis=1)
    larger = (mass * (below[:, 1:] + below[:, :-1])).sum(axis=1)
    smaller = (mass * ((1 - below[:, 1:]) + (1 - below[:, :-1]))).sum(axis=1)
    return np.asarray(np.minimum(np.minimum(larger, smaller), 1).reshape(rows.shape))
