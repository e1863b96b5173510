"""Coadded flux PDFs: the product of the pixel likelihoods of an object's exposures, times the prior once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf.base import FluxPdf, per_row, row_chunks
from lumos.pdf.grid import GridPdf
from lumos.pdf.mixture import Mixture
from lumos.pdf.prior import FluxPrior
from lumos.pdf.prior_fit import log_reference

__all__ = ["LogPrior", "catalogue_prior", "inverse_variance", "product"]

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


def product(
    likelihoods: FluxPdf,
    object_index: ArrayLike,
    n_objects: int,
    log_prior: LogPrior | None = None,
    prior_nodes: FloatArray | None = None,
    powers: ArrayLike | None = None,
) -> tuple[GridPdf, IntArray]:
    r"""Multiply the pixel likelihoods of each object's exposures, and the prior once.

    .. math:: \ln p(f) = \ln \pi(f) + \sum_e \beta_e \ln L_e(f) + C

    Each object has nodes of its own: first around the components of its exposures, then four times more of them where
    the product is large or changes (a cell counts with the densities at its ends, so that a maximum that hides
    between two nodes is found). Where that does not suffice, because the exposures hardly overlap or narrow and broad
    parts are mixed, it begins anew on the best nodes, up to six times. Probabilities are good to 1e-3, and to 5e-3
    where widths differ by a factor of 1000 within a row. If twenty such rows all contradict each other, a maximum
    may be missed in a few per cent of the objects.

    Rows whose errors are independent have the power 1. What they share lowers the powers: where all of it is shared, as
    that of a neighbour which is there in each exposure, N rows are worth one, and the powers are 1 / N. For Gaussian
    rows of variance S, powers S w / V make the variance of the product V and the weights of its rows w.

    Rows that are posteriors, without a prior here, give the naive product, which holds the prior of each row; with
    ``log_prior`` 1 - N times the logarithm of that prior it becomes right again where the prior is not 0.

    Parameters
    ----------
    likelihoods : FluxPdf, n_rows rows
        One exposure each, all of one object in one unit of flux; NaN rows are left out.
    object_index : array_like of int, shape (n_rows,)
        Object of each row, 0 to ``n_objects`` - 1, in any order.
    n_objects : int
        Number of objects.
    log_prior : callable, optional
        ``log_prior(flux, objects)`` returns the logarithm of the prior at fluxes (m, g) of the objects (m,), same
        shape, up to a constant per row; ``-inf`` forbids a flux, NaN makes the row NaN. Without it the prior is flat.
    prior_nodes : ndarray, shape (n_objects, p) or (1, p), optional
        Fluxes that show where the prior is and how it bends. Needed where that is far from all exposures or narrower
        than the distance of some 3 nodes per component.
    powers : array_like, shape (n_rows,), optional
        Exponents beta of the rows, above 0; by default 1.

    Returns
    -------
    pdf : GridPdf
        ``n_objects`` products on 208 + p nodes each; NaN for objects without a row, or without probability.
    n_used : ndarray of int, shape (n_objects,)
        Rows that each product is made of.

    Raises
    ------
    LumosShapeError
        If the shapes do not belong together.
    LumosValueError
        If an index is out of range, or a power of a finite row is not above 0.
    """
    index = check_index(object_index, len(likelihoods), n_objects)
    beta = None if powers is None else per_row(powers, len(likelihoods), "powers")
    extra = np.empty((1, 0)) if prior_nodes is None else np.asarray(prior_nodes, dtype=np.float64)
    if extra.ndim != 2 or len(extra) not in {1, n_objects}:
        raise LumosShapeError("prior_nodes", extra.shape, f"({n_objects}, p) or (1, p)")
    extra = np.broadcast_to(extra, (n_objects, extra.shape[1]))
    usable = np.isfinite(likelihoods.mean())
    if beta is not None and not (beta[usable] > 0).all():
        raise LumosValueError("power of a row", float(beta[usable][~(beta[usable] > 0)][0]), "above 0")
    shape = (n_objects, N_FIRST + extra.shape[1] + N_ADDED * len(POWERS))
    nodes, values = np.full(shape, np.nan), np.full(shape, np.nan)
    for objects, rows in same_count(index, n_objects, usable, 4 * N_ADDED):
        some = None if beta is None else beta[rows]
        nodes[objects], values[objects] = multiply(likelihoods, rows, objects, log_prior, extra[objects], some)
    return GridPdf(nodes, values), np.bincount(index[usable], minlength=n_objects)


def catalogue_prior(prior: FluxPrior, ref_mag: ArrayLike, band: ArrayLike) -> tuple[LogPrior, FloatArray]:
    """Return a catalogue prior as the last two arguments of :func:`product`.

    Parameters
    ----------
    prior : FluxPrior
        Density of the flux given magnitude and band.
    ref_mag : array_like, shape (n_objects,)
        Catalogue magnitude of each object, AB; one that is not finite makes its product NaN.
    band : array_like of int, shape () or (n_objects,)
        Index into the bands of the prior.

    Returns
    -------
    log_prior : callable
        Logarithm of the prior, fluxes in nJy.
    prior_nodes : ndarray, shape (n_objects, p)
        The prior's own nodes as fluxes in nJy.
    """
    mags = np.asarray(ref_mag, dtype=np.float64)
    bands = np.broadcast_to(np.asarray(band), mags.shape)

    def log_prior(flux: FloatArray, objects: IntArray) -> FloatArray:
        return prior.log_pdf(flux, mags[objects], bands[objects])

    with np.errstate(invalid="ignore"):
        return log_prior, np.exp(prior.nodes[bands] + log_reference(mags)[:, None])


def inverse_variance(
    flux: ArrayLike, flux_err: ArrayLike, object_index: ArrayLike, n_objects: int
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return the inverse-variance mean of the fluxes of each object, eq. 21, and its error.

    It is the closed form of :func:`product` where each row is one Gaussian and there is no prior.

    Parameters
    ----------
    flux, flux_err : array_like, shape (n_rows,)
        Fluxes and their independent errors; rows where one is not finite are left out.
    object_index : array_like of int, shape (n_rows,)
        Object of each row, 0 to ``n_objects`` - 1.
    n_objects : int
        Number of objects.

    Returns
    -------
    flux, flux_err : ndarray, shape (n_objects,)
        Means and errors; NaN for objects without a row.
    n_used : ndarray of int, shape (n_objects,)
        Rows that each mean is made of.

    Raises
    ------
    LumosValueError
        If an error is not above 0, or an index is out of range.
    """
    n = np.size(flux)
    values, errors = per_row(flux, n, "flux"), per_row(flux_err, n, "error of the flux")
    index = check_index(object_index, n, n_objects)
    if (errors <= 0).any():
        raise LumosValueError("error of a flux", float(errors[errors <= 0][0]), "above 0")
    good = np.isfinite(values) & np.isfinite(errors)
    index, ivar = index[good], errors[good] ** -2.0
    total = np.bincount(index, ivar, n_objects)
    n_used = np.bincount(index, minlength=n_objects)
    with np.errstate(invalid="ignore", divide="ignore"):  # objects without a row
        mean = np.bincount(index, ivar * values[good], n_objects) / total
        return mean, np.where(n_used > 0, total**-0.5, np.nan), n_used


def check_index(object_index: ArrayLike, n_rows: int, n_objects: int) -> IntArray:
    """Return checked indices of objects.

    Parameters
    ----------
    object_index : array_like of int, shape (n_rows,)
        Object of each row.
    n_rows, n_objects : int
        Numbers of rows and of objects.

    Returns
    -------
    ndarray of int, shape (n_rows,)
        The same indices.

    Raises
    ------
    LumosShapeError
        If there is not one per row.
    LumosValueError
        If one is no integer from 0 to ``n_objects`` - 1.
    """
    index = np.asarray(object_index)
    if index.shape != (n_rows,):
        raise LumosShapeError("object_index", index.shape, f"({n_rows},)")
    if n_rows and index.dtype.kind not in "iu":
        raise LumosValueError("type of object_index", index.dtype, "integers")
    bad = (index < 0) | (index >= n_objects)
    if bad.any():
        raise LumosValueError("object_index", int(index[bad][0]), f"0 to {n_objects - 1}")
    return index.astype(np.int64)


def same_count(
    object_index: IntArray, n_objects: int, usable: BoolArray, width: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Put the objects that have equally many usable rows together, in pieces that fit the cache.

    Parameters
    ----------
    object_index : ndarray of int, shape (n_rows,)
        Object of each row.
    n_objects : int
        Number of objects.
    usable : ndarray of bool, shape (n_rows,)
        Rows to use; objects without any are left out.
    width : int
        Numbers that a row needs.

    Yields
    ------
    objects : ndarray of int, shape (m,)
        Objects of one piece.
    rows : ndarray of int, shape (m, count)
        Rows of each of these objects, all with the same count.
    """
    order = np.flatnonzero(usable)
    order = order[np.argsort(object_index[order], kind="stable")]
    counts = np.bincount(object_index[order], minlength=n_objects)
    starts = np.cumsum(counts) - counts
    for count in np.unique(counts[counts > 0]):
        objects = np.flatnonzero(counts == count)
        for part in row_chunks(len(objects), int(count) * width):
            yield objects[part], order[starts[objects[part], None] + np.arange(count)]


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
