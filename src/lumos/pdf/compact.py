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
N_STEPS = 60
#: A fit that misses by less probability needs no other.
GOOD = 0.005


def to_mixture(pdf: GridPdf, n_components: int) -> tuple[GaussianMixture, FloatArray]:
    """Fit a mixture of Gaussians to each density, and say how good it is.

    Sixty steps of expectation and maximisation on 64 cells of each density: from components side by side, and, where
    that misses by more than 0.005, from components about the median that are as wide as growing shares of the density;
    the fit with the smaller error is returned. Mean and variance are kept as well as the cells do, except for tails
    beyond 3e-6.

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
    mass = np.diff(EDGES)
    moments = np.stack([np.ones_like(flux), flux, flux**2], axis=-1)
    for step in range(N_STEPS):
        sums = (share * mass) @ moments
        weights = np.maximum(sums[..., 0], 1e-12)
        means = sums[..., 1] / weights
        stds = np.sqrt(np.maximum(sums[..., 2] / weights - means**2, floor[:, None] ** 2))
        if step < N_STEPS - 1:
            z = (flux[:, None] - means[..., None]) / stds[..., None]
            log_density = np.log(weights / stds)[..., None] - 0.5 * z * z
            density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
            share = density / density.sum(axis=1, keepdims=True)
    return weights / weights.sum(axis=1, keepdims=True), means, stds
