"""Errors of figures, from objects that are drawn again."""

from collections.abc import Callable, Sequence

import numpy as np

from lumos.conventions import FloatArray, IntArray

__all__ = ["FEWEST", "Figure", "objects_again"]

#: Fewer rows than this give no figures.
FEWEST = 30
#: Times that objects are drawn again: the error is known to 7 per cent.
_AGAIN = 100
#: Fewer objects do not tell their own scatter.
_FEWEST_OBJECTS = 10

Figure = Callable[[IntArray], Sequence[float]]


def objects_again(owner: IntArray, figures: Figure, rng: np.random.Generator, n: int = _AGAIN) -> FloatArray:
    """Return the errors of figures, from objects that are drawn again with replacement.

    Parameters
    ----------
    owner : int array, shape (m,)
        Object of each row.
    figures : callable
        Takes numbers of rows, returns k figures.
    rng : numpy.random.Generator
        Draws.
    n : int, optional
        Draws.

    Returns
    -------
    float array, shape (k,)
        Standard deviations of the figures over the draws; NaN for fewer than 10 objects.
    """
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=owner[order][:1] - 1) != 0)
    n_rows = np.diff(starts, append=len(order))
    if len(starts) < _FEWEST_OBJECTS:
        return np.full(len(figures(np.arange(len(owner)))), np.nan)
    values = []
    for _ in range(n):
        drawn = rng.integers(len(starts), size=len(starts))
        many = n_rows[drawn]
        # The rows of each drawn object, one after the other.
        ends = np.cumsum(many)
        rows = np.arange(ends[-1]) + np.repeat(starts[drawn] - (ends - many), many)
        values.append(figures(order[rows]))
    return np.asarray(np.nanstd(np.array(values), axis=0))
