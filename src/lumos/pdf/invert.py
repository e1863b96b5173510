"""Quantiles of mixtures: one monotone equation per pair of row and level, all solved together."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from lumos.conventions import BoolArray, FloatArray, IntArray

__all__ = ["invert"]

#: Bisection alone needs 60 steps from a bracket of 1e8 tolerances; Newton's method usually needs 4 to 8.
MAX_STEPS = 200


def invert(
    tail: Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray]],
    target: FloatArray,
    upper: BoolArray,
    bracket: tuple[FloatArray, FloatArray, FloatArray],
    tolerance: FloatArray,
) -> FloatArray:
    """Find the fluxes at which tail probabilities have given values.

    Newton's method on the normal score of the probability (a straight line for a Gaussian), inside a bracket that
    shrinks at each step; where a step leaves the bracket or does not halve the one before, the bracket is halved. Pairs
    that have converged are no longer evaluated.

    Parameters
    ----------
    tail : callable
        ``tail(flux, pairs)`` returns the probability of the chosen tail and the density at ``flux`` of some pairs.
    target : ndarray, shape (p,)
        Tail probability wanted, above 0.
    upper : ndarray of bool, shape (p,)
        True where the tail is the probability above.
    bracket : tuple of ndarray, shape (p,)
        Fluxes between which the answer lies, and a first guess: (low, guess, high).
    tolerance : ndarray, shape (p,)
        Length of the last step.

    Returns
    -------
    ndarray, shape (p,)
        Fluxes; NaN where the bracket is NaN.
    """
    low, flux, high = (side.copy() for side in bracket)
    score = ndtri(target)
    sign = np.where(upper, -1.0, 1.0)
    last = high - low
    left = np.flatnonzero(np.isfinite(flux))
    for _ in range(MAX_STEPS):
        if not len(left):
            break
        at = flux[left]
        probability, density = tail(at, left)
        above = sign[left] * (probability - target[left]) > 0
        high[left] = np.where(above, at, high[left])
        low[left] = np.where(above, low[left], at)
        here = ndtri(probability)
        slope = np.exp(-(here**2) / 2) / np.sqrt(2 * np.pi) / density
        new = at + sign[left] * (score[left] - here) * slope
        small = tolerance[left] + 2e-16 * np.abs(at)
        step = np.abs(new - at)
        # A step below the tolerance has arrived, wherever the rounding of the bracket's end lies.
        good = (step <= small) | ((new > low[left]) & (new < high[left]) & (step < 0.5 * last[left]))
        new = np.where(good, new, (low[left] + high[left]) / 2)
        # After halving, the whole bracket bounds the next step, or Newton's method would never come back.
        last[left] = np.where(good, step, high[left] - low[left])
        done = (good & (step <= small)) | (high[left] - low[left] <= small)
        flux[left] = new
        left = left[~done]
    return flux
