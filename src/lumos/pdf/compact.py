"""Densities on a grid as mixtures of a few Gaussians."""

import numpy as np
from scipy.special import ndtr

from lumos.conventions import FloatArray
from lumos.errors import LumosValueError
from lumos.pdf.base import row_chunks
from lumos.pdf.grid import GridPdf
from lumos.pdf.mixture import GaussianMixture
from lumos.statistics import SUMMARY_LEVELS

__all__ = ["to_mixture"]

#: Edges of the cells that stand for a density, as normal scores of its levels.
SCORES = np.linspace(-4.5, 4.5, 65)
EDGES = np.concatenate([[0.0], ndtr(SCORES[1:-1]), [1.0]])
CENTRES = ndtr((SCORES[1:] + SCORES[:-1]) / 2)
#: Fluxes are counted from the median in these widths, so that the sums keep their digits.
UNIT = np.array([SUMMARY_LEVELS])
#: Cycles of three steps; a cycle may go so many times as far as two steps do.
N_CYCLES, LONGEST = 7, 4.0
#: A fit that misses by less probability needs no other.
GOOD = 0.005


def to_mixture(pdf: GridPdf, n_components: int) -> tuple[GaussianMixture, FloatArray]:
    """Fit a mixture of Gaussians to each density, and say how good it is.

    Expectation and maximisation on 64 cells of each density: from components side by side, and, where that misses by
    more than 0.005, from components about the median that are as wide as growing shares of the density; the fit with
    the smaller error is returned. Seven cycles that go on along the line of two steps (SQUAREM, Varadhan & Roland 2008,
    Scand. J. Statist. 35, 335, scheme S3) come as far as sixty plain steps. Mean and variance are kept as well as the
    cells do, except for tails beyond 3e-6.

    Parameters
    ----------
    pdf : GridPdf
        n densities at nodes, to be fitted.
    n_components : int
        Components of each mixture, at least 1.

    Returns
    -------
    mixture : GaussianMixture
        n mixtures; NaN where the density is.
    error : ndarray, shape (n,)
        Largest difference of the cumulative probabilities on the nodes of the grid. What a fit is worth is for the
        caller to say: a row with too large an error can stay on its grid.

    Raises
    ------
    LumosValueError
        If ``n_components`` is below 1.
    """
    if n_components < 1:
        raise LumosValueError("components of a mixture", n_components, "at least 1")
    n = len(pdf)
    parameters, error = np.full((3, n, n_components), np.nan), np.full(n, np.nan)
    good = np.flatnonzero(np.isfinite(pdf.nodes[:, 0]))
    for part in row_chunks(len(good), len(CENTRES) * n_components):
        rows = good[part]
        parameters[:, rows], error[rows] = _fit(pdf.take(rows), n_components)
    return GaussianMixture(*parameters), error


def _fit(pdf: GridPdf, k: int) -> tuple[FloatArray, FloatArray]:
    """Return parameters (3, n, k) and errors."""
    low, median, high = (values[:, None] for values in pdf.quantile(UNIT).T)
    unit = (high - low) / 2
    flux = (pdf.quantile(CENTRES[None]) - median) / unit
    # No component may be narrower than the cells show.
    floor = np.maximum((flux[:, 3:] - flux[:, :-3]).min(axis=1) / 4, 1e-9)
    best, error = np.empty((3, len(pdf), k)), np.full(len(pdf), np.inf)
    for begin in (_side_by_side, _nested):
        rows = np.flatnonzero(error > GOOD)
        if not len(rows):
            break
        some = pdf.take(rows)
        weights, means, stds = _improve(flux[rows], begin(flux[rows], k), floor[rows])
        fit = np.stack([weights, median[rows] + unit[rows] * means, unit[rows] * stds])
        here = np.abs(GaussianMixture(*fit).cdf(some.nodes) - some.cumulative).max(axis=1)
        better = here < error[rows]
        best[:, rows[better]], error[rows[better]] = fit[:, better], here[better]
    return best, error


def _side_by_side(flux: FloatArray, k: int) -> FloatArray:
    """Return the shares (n, k, cells) of components that follow each other."""
    level = k * CENTRES - 0.5
    share = np.maximum(1 - np.abs(level.clip(0, k - 1) - np.arange(k)[:, None]), 0)
    return np.broadcast_to(share, (len(flux), *share.shape))


def _nested(flux: FloatArray, k: int) -> FloatArray:
    """Return the shares (n, k, cells) of components about the median, as wide as growing shares of the density."""
    cell = np.searchsorted(CENTRES, 0.5 - np.linspace(0.2, 0.99, k) / 2)
    width = np.maximum((flux[:, -1 - cell] - flux[:, cell]) / 2, 1e-9)[..., None]
    log_density = -0.5 * (flux[:, None] / width) ** 2 - np.log(width)
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    return np.asarray(density / density.sum(axis=1, keepdims=True))


def _improve(flux: FloatArray, share: FloatArray, floor: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return weights, means and standard deviations (n, k) after the steps."""
    moments = np.stack([np.ones_like(flux), flux, flux**2], axis=-1)
    here = _maximise(share, moments, floor)

    def step(parameters: FloatArray) -> FloatArray:
        return _maximise(_expect(flux, parameters), moments, floor)

    for _ in range(N_CYCLES):
        first = step(here)
        change = first - here
        bend = step(first) - first - change
        with np.errstate(all="ignore"):  # a fit that has arrived
            length = np.sqrt((change**2).sum(axis=(0, 2)) / (bend**2).sum(axis=(0, 2)))
        length = np.nan_to_num(length, nan=1.0).clip(1, LONGEST)[:, None]
        here += 2 * length * change + length**2 * bend
        here[2] = np.maximum(here[2], np.log(floor)[:, None])
        # It also gives the mixture the mean and the variance of the cells.
        here = step(here)
    weights = np.exp(here[0])
    return weights / weights.sum(axis=1, keepdims=True), here[1], np.exp(here[2])


def _expect(flux: FloatArray, parameters: FloatArray) -> FloatArray:
    """Return the shares (n, k, cells) of components, from log weights, means and log standard deviations (3, n, k)."""
    log_weight, mean, log_std = parameters
    share = flux[:, None] - mean[..., None]
    share *= np.exp(-log_std)[..., None]
    share *= share
    share *= -0.5
    share += (log_weight - log_std)[..., None]
    share -= share.max(axis=1, keepdims=True)
    np.exp(share, out=share)
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def _maximise(share: FloatArray, moments: FloatArray, floor: FloatArray) -> FloatArray:
    """Return log weights, means and log standard deviations (3, n, k) of the cells that components have."""
    sums = (share * np.diff(EDGES)) @ moments
    weights = np.maximum(sums[..., 0], 1e-12)
    means = sums[..., 1] / weights
    variances = np.maximum(sums[..., 2] / weights - means**2, floor[:, None] ** 2)
    return np.stack([np.log(weights), means, 0.5 * np.log(variances)])
