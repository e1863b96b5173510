"""The highest peak of mixtures, found by climbing from the mean of each component."""

from collections.abc import Callable

import numpy as np

from lumos.conventions import FloatArray, IntArray

__all__ = ["highest_peak"]

ComponentLogPdf = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
#: Newton's method needs 4 to 8; saddles that are nearly flat need more.
MAX_STEPS = 60
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
    for _ in range(MAX_STEPS):
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
