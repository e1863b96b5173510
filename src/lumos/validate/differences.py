"""Differences between repeat observations in units of their errors: scatter, tails, and the errors of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.statistics import LEVELS_95, SUMMARY_LEVELS, sigma68

__all__ = ["Differences", "differences"]

#: Resamplings of the objects: their scatter is known to 7 per cent.
_N_RESAMPLES = 100
#: Fewer objects do not tell their own scatter.
_FEWEST = 10


@dataclass(frozen=True, eq=False)
class Differences:
    r"""D = (f1 - f2) / sqrt(s1^2 + s2^2) of pairs of exposures (paper, eq. 19), in k groups.

    Pairs of one object share exposures and are not independent: errors are from resampled objects.

    Parameters
    ----------
    n_pairs, n_objects : int array, shape (k,)
        Pairs, and objects that they are of.
    median, median_err : float array, shape (k,)
        Median of D and its error; errors are NaN for fewer than 10 objects.
    sigma68, sigma68_err : float array, shape (k,)
        Half the 16-84 % range of D, 1 where errors are true, and its error.
    sigma95 : float array, shape (k,)
        Half the 2.5-97.5 % range of D, 1.96 for a Gaussian.
    beyond_3, beyond_5 : float array, shape (k,)
        Share of pairs with \|D\| above 3 and 5; 0.0027 and 6e-7 for a Gaussian.
    """

    n_pairs: IntArray
    n_objects: IntArray
    median: FloatArray
    median_err: FloatArray
    sigma68: FloatArray
    sigma68_err: FloatArray
    sigma95: FloatArray
    beyond_3: FloatArray
    beyond_5: FloatArray


def differences(groups: Sequence[tuple[FloatArray, IntArray]], rng: np.random.Generator) -> Differences:
    """Compute the figures of groups of differences.

    Parameters
    ----------
    groups : sequence of (float array, int array), each of shape (n_pairs,)
        D of each group's pairs, finite, and the object that each pair is of.
    rng : Generator
        Draws the objects again for the errors.

    Returns
    -------
    Differences
        One entry per group.
    """
    rows = [_figures(values, owner, rng) for values, owner in groups]
    return Differences(*(np.array(column) for column in zip(*rows, strict=True)))


def _figures(values: FloatArray, owner: IntArray, rng: np.random.Generator) -> tuple[float, ...]:
    """Return the figures of one group, in the order of ``Differences``."""
    n_objects = len(np.unique(owner))
    if not len(values):
        return 0, 0, *[np.nan] * 7
    median_err, sigma68_err = _errors(values, owner, rng) if n_objects >= _FEWEST else (np.nan, np.nan)
    low, high = np.quantile(values, LEVELS_95)
    beyond_3, beyond_5 = (float(np.mean(np.abs(values) > limit)) for limit in (3, 5))
    median = float(np.median(values))
    sigma95 = float(high - low) / 2
    return len(values), n_objects, median, median_err, sigma68(values), sigma68_err, sigma95, beyond_3, beyond_5


def _errors(values: FloatArray, owner: IntArray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the errors of median and sigma68 from resampled objects."""
    order = np.argsort(values)
    values = values[order]
    objects, index = np.unique(owner[order], return_inverse=True)
    n = len(objects)
    quantiles = np.empty((_N_RESAMPLES, 3))
    for row in quantiles:
        # An object that is drawn twice counts twice with all its pairs.
        total = np.cumsum(np.bincount(rng.integers(n, size=n), minlength=n)[index])
        row[:] = values[np.searchsorted(total, np.array(SUMMARY_LEVELS) * total[-1])]
    return float(quantiles[:, 1].std()), float(np.std(quantiles[:, 2] - quantiles[:, 0]) / 2)
