"""How much of a PDF's width differs from exposure to exposure, found from the repeats of a run.

A neighbour, a wrong shape or a faint companion spoils every exposure alike. A PDF that knows of it is wide, but the
widths of an object's exposures are then not independent: their product would be too narrow.
"""

import logging
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.statistics import sigma68

__all__ = ["NO_REPEATS", "IndependentShare", "fit_independent_share", "repeat_pairs"]

logger = logging.getLogger(__name__)

#: Shares of the pairs, by excess, that end the bins: the widest PDFs matter and are few.
_LEVELS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
#: Fewest pairs of a bin: the square of their width is known to 18 per cent.
_FEWEST = 100
#: Excesses that differ by less are the same.
_EQUAL = 1e-6


@dataclass(frozen=True, eq=False)
class IndependentShare:
    """The share of the variance of a PDF that differs between exposures, as a function of the PDF's excess.

    Parameters
    ----------
    excess : float array, shape (m,)
        Logarithms of the width of a PDF over the error that the noise of its pixels alone makes, increasing.
    share : float array, shape (m,)
        Variance of the differences between exposures over the sum of the PDFs' variances; above 1 where the PDFs are
        too narrow. Linear between, constant beyond.
    n : int array, shape (m,)
        Pairs of exposures that each was found from.
    """

    excess: FloatArray
    share: FloatArray
    n: IntArray

    def at(self, excess: FloatArray) -> FloatArray:
        """Return the share at some excess.

        Parameters
        ----------
        excess : float array, shape (k,)
            Logarithms; NaN counts as 0.

        Returns
        -------
        float array, shape (k,)
            Shares, above 0; 1 where nothing was found out.
        """
        if not len(self.excess):
            return np.ones(len(excess))
        return np.interp(np.where(np.isfinite(excess), excess, 0.0), self.excess, self.share)


#: Nothing is known: all of the variance counts as independent.
NO_REPEATS = IndependentShare(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))


def repeat_pairs(
    flux: FloatArray, variance: FloatArray, white: FloatArray, index: IntArray, rows: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Return the differences of pairs of exposures in their errors, and the pairs' excess.

    Parameters
    ----------
    flux, variance : float array, shape (n,)
        Of the PDFs, one exposure each.
    white : float array, shape (n,)
        Variance that the noise of the pixels alone makes; NaN where unknown.
    index : int array, shape (n,)
        Object of each row, never falling.
    rows : bool array, shape (n,)
        Rows to use.

    Returns
    -------
    difference : float array, shape (m,)
        (f1 - f2) / sqrt(V1 + V2) of disjoint pairs: first and second exposure of an object, third and fourth, ...
    excess : float array, shape (m,)
        Logarithm of sqrt((V1 + V2) / (W1 + W2)).
    """
    which = np.flatnonzero(rows)
    group = index[which]
    new = np.ones(len(which), dtype=bool)
    new[1:] = np.diff(group) != 0
    place = np.arange(len(which)) - np.flatnonzero(new)[np.cumsum(new) - 1]
    # The second of each pair: an odd place within its object.
    second = np.flatnonzero(place % 2 == 1)
    a, b = which[second - 1], which[second]
    total, noise = variance[a] + variance[b], white[a] + white[b]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (flux[a] - flux[b]) / np.sqrt(total), 0.5 * np.log(total / noise)


def fit_independent_share(difference: FloatArray, excess: FloatArray) -> IndependentShare:
    """Find the share of the variance that is independent from the differences between exposures.

    Parameters
    ----------
    difference, excess : float array, shape (m,)
        Of pairs, see :func:`repeat_pairs`.

    Returns
    -------
    IndependentShare
        Squares of the widths of the differences in bins of the excess, made to fall with it.
    """
    good = np.isfinite(difference)
    difference, excess = difference[good], np.where(np.isfinite(excess[good]), excess[good], 0.0)
    order = np.argsort(excess, kind="stable")
    edges = np.unique((np.array(_LEVELS) * len(order)).astype(np.int64))
    # From the widest down: a bin that is too small joins the next.
    ends = [len(order)]
    for edge in edges[::-1][1:]:
        # Equal excess, as that of a classical estimator, is not cut.
        is_step = edge == 0 or excess[order[edge]] > excess[order[edge - 1]] + _EQUAL
        if ends[-1] - edge >= _FEWEST and is_step:
            ends.append(int(edge))
    ends[-1] = 0
    parts = [order[low:high] for high, low in pairwise(ends)][::-1]
    if not parts:
        logger.info("repeats: %d pairs of exposures do not tell how independent their errors are", len(order))
        return NO_REPEATS
    n = np.array([len(part) for part in parts])
    share = np.array([sigma68(difference[part]) for part in parts]) ** 2
    share = isotonic_regression(share, weights=n, increasing=False).x
    middle = np.array([np.median(excess[part]) for part in parts])
    return IndependentShare(middle, np.asarray(share), n)
