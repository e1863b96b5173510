"""Coadded flux PDFs: the product of the pixel likelihoods of an object's exposures, times the prior once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf.base import FluxPdf, per_row, row_chunks
from lumos.pdf.grid import GridPdf
from lumos.pdf.multiply import N_ADDED, N_FIRST, POWERS, LogPrior, multiply
from lumos.pdf.prior import FluxPrior
from lumos.pdf.prior_fit import log_reference

__all__ = ["catalogue_prior", "inverse_variance", "product"]


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

    mags = np.where(np.isfinite(mags), mags, np.nan)
    # Once for all evaluations, some five for each object.
    density, log_ref = prior._density(mags, bands), log_reference(mags)  # noqa: SLF001

    def log_prior(flux: FloatArray, objects: IntArray) -> FloatArray:
        with np.errstate(all="ignore"):  # logarithms of negative fluxes, NaN rows
            log_flux = np.where(flux > 0, np.log(flux), np.where(np.isnan(flux), np.nan, -np.inf))
        here = density.take(objects).log_pdf(log_flux - log_ref[objects, None])
        return np.asarray(here - np.where(flux > 0, log_flux, 0))

    with np.errstate(invalid="ignore"):
        return log_prior, np.exp(density.nodes + log_ref[:, None])


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
