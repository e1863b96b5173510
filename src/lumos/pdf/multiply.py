"""Products of PDFs on nodes that follow them."""

from collections.abc import Callable, Sequence

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosShapeError
from lumos.pdf.base import FluxPdf
from lumos.pdf.mixture import Mixture

__all__ = ["N_ADDED", "N_FIRST", "POWERS", "LogPrior", "multiply"]

#: ``log_prior(flux, objects)`` of fluxes (m, g) of m objects, and the indices (m,) of these.
LogPrior = Callable[[FloatArray, IntArray], FloatArray]

#: First nodes around each component, in its standard deviations.
AROUND = np.array([-8, -5, -3.5, -2.2, -1.2, -0.4, 0, 0.4, 1.2, 2.2, 3.5, 5, 8])
#: So many of an object's first nodes are used, and so many are added where the product turns out to be, each time with
#: another power of the product: a small one finds the bulk.
N_FIRST, N_ADDED, POWERS = 48, 40, (0.5, 1.0, 1.0, 1.0)
#: What may hide in a cell, as a share of the higher of the densities at its ends: a maximum between two equal ones.
HIDDEN = 0.15
#: Sums over cells from above and from below may differ by this share of the probability, else the search begins anew.
LARGEST_GAP, AGAIN = 0.1, (1.0, 1.0)
MAX_SEARCHES = 6


def multiply(
    likelihoods: FluxPdf,
    rows: IntArray,
    objects: IntArray,
    log_prior: LogPrior | None = None,
    extra: FloatArray | None = None,
    powers: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Find nodes and values of the products of some rows, see :func:`product`.

    Parameters
    ----------
    likelihoods : FluxPdf
        PDFs of all rows, of which ``rows`` names some.
    rows : ndarray of int, shape (m, count)
        Rows that belong together, all finite.
    objects : ndarray of int, shape (m,)
        What ``log_prior`` is to be called with.
    log_prior : callable, optional
        Logarithm of the prior.
    extra : ndarray, shape (m, p), optional
        More first nodes.
    powers : ndarray, shape (m, count), optional
        Exponents of the rows.

    Returns
    -------
    nodes, values : ndarray, shape (m, g)
        Fluxes, never falling, and logarithms of the products there, up to a constant per row.
    """
    part = likelihoods.take(rows.ravel())

    def evaluate(which: IntArray, flux: FloatArray) -> FloatArray:
        count = rows.shape[1]
        some = part if len(which) == len(rows) else part.take((which[:, None] * count + np.arange(count)).ravel())
        values = some.log_pdf(np.repeat(flux, count, axis=0)).reshape(len(which), count, -1)
        values = values.sum(axis=1) if powers is None else (powers[which, :, None] * values).sum(axis=1)
        if log_prior is not None:
            prior = np.asarray(log_prior(flux, objects[which]), dtype=np.float64)
            if prior.shape != flux.shape:
                raise LumosShapeError("values of log_prior", prior.shape, flux.shape)
            # Where a likelihood is 0 the product is, also if the prior is raised to a negative power.
            values = np.where(np.isneginf(values), -np.inf, values + prior)
        return np.asarray(values)

    wider = np.ones(len(part)) if powers is None else powers.ravel() ** -0.5
    nodes = _thinned(_first_nodes(part, wider).reshape(len(rows), -1), N_FIRST)
    if extra is not None:
        nodes = np.sort(np.concatenate([nodes, extra], axis=1), axis=1)
    nodes, values = _search(nodes, POWERS, evaluate, np.arange(len(rows)))
    left = np.flatnonzero(_gap(nodes, values) > LARGEST_GAP)
    for _ in range(MAX_SEARCHES):
        if not len(left):
            break
        best = _spread(nodes[left], values[left], 1, nodes.shape[1] - N_ADDED * len(AGAIN))
        # A support that ends there must not lose its end.
        best[:, 0], best[:, -1] = nodes[left, 0], nodes[left, -1]
        nodes[left], values[left] = _search(best, AGAIN, evaluate, left)
        left = left[_gap(nodes[left], values[left]) > LARGEST_GAP]
    return nodes, values


def _first_nodes(part: FluxPdf, wider: FloatArray) -> FloatArray:
    """Return fluxes (n_rows, b) where the rows, wider by a factor, have probability."""
    if not isinstance(part, Mixture):
        return part.quantile(np.linspace(0, 1, N_FIRST)[None])
    means, variances = part.component_moments()
    nodes = means[:, :, None] + (wider[:, None] * np.sqrt(variances))[:, :, None] * AROUND
    return np.asarray(np.maximum(nodes, part.support[0]).reshape(len(part), -1))


def _thinned(nodes: FloatArray, n: int) -> FloatArray:
    """Return n nodes of each row, by rank."""
    ranks = np.linspace(0, nodes.shape[1] - 1, n).round().astype(np.int64)
    return np.sort(nodes, axis=1)[:, ranks]


def _search(
    nodes: FloatArray,
    powers: Sequence[float],
    evaluate: Callable[[IntArray, FloatArray], FloatArray],
    which: IntArray,
) -> tuple[FloatArray, FloatArray]:
    """Return the nodes and those that are added where the product is, with the values there."""
    values = evaluate(which, nodes)
    for power in powers:
        added = _spread(nodes, values, power, N_ADDED)
        values = np.concatenate([values, evaluate(which, added)], axis=1)
        nodes = np.concatenate([nodes, added], axis=1)
        order = np.argsort(nodes, axis=1, kind="stable")
        nodes, values = np.take_along_axis(nodes, order, axis=1), np.take_along_axis(values, order, axis=1)
    return nodes, values


def _relative(values: FloatArray) -> FloatArray:
    """Return logarithms of the density over its maximum; 0 everywhere where there is no maximum."""
    top = values.max(axis=1, keepdims=True)
    return np.where(np.isfinite(top), values - np.where(np.isfinite(top), top, 0), 0)


def _spread(nodes: FloatArray, values: FloatArray, power: float, n: int) -> FloatArray:
    """Return n new nodes per row, at equal steps of a sum over cells.

    Roots of what a cell holds grow in proportion to its length: nodes end where all cells are equally uncertain.
    """
    density = np.exp(power * _relative(values))
    upper = np.maximum(density[:, 1:], density[:, :-1])
    lower = np.minimum(density[:, 1:], density[:, :-1])
    content = np.sqrt(np.diff(nodes, axis=1) * (upper - lower + HIDDEN * upper))
    # NaN rows must not get in the way of the search along all rows.
    content = np.where(np.isfinite(content), content, 0)
    total: FloatArray = np.concatenate([np.zeros((len(nodes), 1)), np.cumsum(content, axis=1)], axis=1)
    total /= np.maximum(total[:, -1:], np.finfo(np.float64).tiny)
    levels = (np.arange(n) + 0.5) / n
    # Rows one after the other on one axis: one call finds all cells.
    offset = 2.0 * np.arange(len(nodes))[:, None]
    cells = np.searchsorted((total + offset).ravel(), (levels + offset).ravel(), side="right").reshape(len(nodes), n)
    cells = (cells - 1 - np.arange(len(nodes))[:, None] * nodes.shape[1]).clip(0, nodes.shape[1] - 2)
    begin, end = np.take_along_axis(total, cells, axis=1), np.take_along_axis(total, cells + 1, axis=1)
    left, right = np.take_along_axis(nodes, cells, axis=1), np.take_along_axis(nodes, cells + 1, axis=1)
    share = np.where(end > begin, (levels - begin) / np.where(end > begin, end - begin, 1), 0.5).clip(0, 1)
    return np.asarray(left + share * (right - left))


def _gap(nodes: FloatArray, values: FloatArray) -> FloatArray:
    """Return how much the sums over cells from above and below differ, as a share of that from above."""
    density, width = np.exp(_relative(values)), np.diff(nodes, axis=1)
    upper = (width * np.maximum(density[:, 1:], density[:, :-1])).sum(axis=1)
    lower = (width * np.minimum(density[:, 1:], density[:, :-1])).sum(axis=1)
    return np.asarray((upper - lower) / np.maximum(upper, np.finfo(np.float64).tiny))
