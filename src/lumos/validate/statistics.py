"""Robust statistics in bins, with their own sampling errors."""

from dataclasses import dataclass

import numpy as np

from lumos.conventions import AnyArray, FloatArray
from lumos.statistics import sigma68

__all__ = ["BinnedStatistics", "binned_statistics"]


@dataclass(frozen=True)
class BinnedStatistics:
    """Robust location and scatter of a quantity in bins of another.

    Parameters
    ----------
    edges : float array, shape (n_bins + 1,)
        Edges of the bins.
    n : int array, shape (n_bins,)
        Finite values in each bin.
    n_lost : int array, shape (n_bins,)
        Values in each bin that are not finite.
    median, sigma68 : float array, shape (n_bins,)
        Median, and half the 16-84 % range; NaN in empty bins.
    median_err : float array, shape (n_bins,)
        Sampling error of the median, 1.2533 sigma68 / sqrt(n).
    """

    edges: FloatArray
    n: AnyArray
    n_lost: AnyArray
    median: FloatArray
    sigma68: FloatArray
    median_err: FloatArray

    @property
    def centres(self) -> FloatArray:
        """Return the middle of each bin."""
        return np.asarray((self.edges[1:] + self.edges[:-1]) / 2)


def binned_statistics(values: FloatArray, by: FloatArray, edges: FloatArray) -> BinnedStatistics:
    """Compute robust statistics of a quantity in bins of another.

    Parameters
    ----------
    values : float array, shape (n,)
        The quantity; values that are not finite are counted as lost.
    by : float array, shape (n,)
        What to bin by.
    edges : float array, shape (n_bins + 1,)
        Edges of the bins, increasing; a bin holds its lower edge.

    Returns
    -------
    BinnedStatistics
        One entry per bin.
    """
    edges = np.asarray(edges, dtype=np.float64)
    which = np.digitize(by, edges) - 1
    finite = np.isfinite(values)
    groups = [values[(which == number) & finite] for number in range(len(edges) - 1)]
    counts = np.array([len(group) for group in groups])
    scatter = np.array([sigma68(group) for group in groups])
    with np.errstate(divide="ignore", invalid="ignore"):
        error = 1.2533 * scatter / np.sqrt(counts)
    return BinnedStatistics(
        edges=edges,
        n=counts,
        n_lost=np.array([int(np.sum((which == number) & ~finite)) for number in range(len(edges) - 1)]),
        median=np.array([np.median(group) if len(group) else np.nan for group in groups]),
        sigma68=scatter,
        median_err=error,
    )
