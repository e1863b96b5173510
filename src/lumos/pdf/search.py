"""Quantiles and highest peaks of mixtures: equations of many rows, solved together."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from lumos.conventions import BoolArray, FloatArray, IntArray

__all__ = ["highest_peak", "invert"]

ComponentLogPdf = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
#: Bisection alone needs 60 steps from a bracket of 1e8 tolerances; Newton's method usually needs 4 to 8.
INVERT_STEPS = 200
#: Newton's method needs 4 to 8; saddles that are nearly flat need more.
PEAK_STEPS = 60
#: Last step, in standard deviations of the row's narrowest component.
PEAK_STEP = 1e-9


def _local(
    flux: FloatArray, parameters: tuple[FloatArray, FloatArray, FloatArray], component_log_pdf: ComponentLogPdf
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return log density, its first two derivatives, and the next point of the mean-shift method."""
    weights, means, stds = parameters
    terms = np.log(weights) + component_log_pdf(flux[:, None], means, stds)
    largest = terms.max(axis=1, keepdims=True)
    share = np.exp(terms - largest)
    total = share.sum(axis=1)
    share /= total[:, None]
    precision = 1 / stds**2
    pull = (means - flux[:, None]) * precision
    slope = (share * pull).sum(axis=1)
    weight = (share * precision).sum(axis=1)
    curvature = (share * pull**2).sum(axis=1) - weight - slope**2
    return np.log(total) + largest[:, 0], slope, curvature, flux + slope / weight


def highest_peak(
    weights: FloatArray, means: FloatArray, stds: FloatArray, component_log_pdf: ComponentLogPdf, lowest: float
) -> FloatArray:
    """Return the flux of highest density.

    Each climb takes Newton's step on the log density where that is concave and the step goes up, and else the
    mean-shift step, which always goes up: it is the top of a parabola that touches the log density from below, and
    still goes up where it is stopped at the edge.

    Parameters
    ----------
    weights, means, stds : ndarray, shape (n, k)
        Parameters; a row of NaN gives NaN.
    component_log_pdf : callable
        ``component_log_pdf(flux, means, stds)``: a Gaussian's up to a constant, for fluxes above ``lowest``.
    lowest : float
        Lower edge of the support.

    Returns
    -------
    ndarray, shape (n,)
        Flux at which each mixture is highest.
    """
    n, k = weights.shape
    row = np.repeat(np.arange(n), k)
    flux = np.maximum(means, lowest).ravel()
    tolerance = np.repeat(PEAK_STEP * np.where(weights > 0, stds, np.inf).min(axis=1), k)
    climbs = np.flatnonzero(np.isfinite(flux) & (weights.ravel() > 0))
    height = np.full(n * k, -np.inf)

    def look(at: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        rows = row[which]
        return _local(at, (weights[rows], means[rows], stds[rows]), component_log_pdf)

    state = look(flux[climbs], climbs)
    height[climbs] = state[0]
    for _ in range(PEAK_STEPS):
        if not len(climbs):
            break
        level, slope, curvature, shifted = state
        at = flux[climbs]
        new = np.maximum(np.where(curvature < 0, at - slope / curvature, shifted), lowest)
        state = look(new, climbs)
        # Near the top both levels agree to the rounding; such a step is not a step down.
        down = ~(state[0] >= level - 1e-14 * np.abs(level))
        if down.any():
            new[down] = np.maximum(shifted[down], lowest)
            again = look(new[down], climbs[down])
            for values, better in zip(state, again, strict=True):
                values[down] = better
        flux[climbs], height[climbs] = new, state[0]
        left = np.abs(new - at) > tolerance[climbs] + 2e-16 * np.abs(at)
        climbs, state = climbs[left], tuple(values[left] for values in state)
    best = height.reshape(n, k).argmax(axis=1)
    return np.asarray(flux.reshape(n, k)[np.arange(n), best])


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
    for _ in range(INVERT_STEPS):
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
