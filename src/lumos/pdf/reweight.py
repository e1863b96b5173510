"""Importance correction: a PDF made with one prior, as it is with another."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from lumos.conventions import FloatArray
from lumos.errors import LumosShapeError
from lumos.pdf.grid import GridPdf
from lumos.pdf.mixture import Mixture

__all__ = ["reweighted"]

#: Nodes around each component, in its standard deviations: 0.2 apart in the middle, out to 20 at both sides.
AROUND = 3 * np.sinh(np.linspace(-np.arcsinh(20 / 3), np.arcsinh(20 / 3), 81))
#: Nodes where the first answer's probability lies: those of a Gaussian would be 0.044 standard deviations apart.
LEVELS = ndtr(np.linspace(-7, 7, 321))


def reweighted(pdf: Mixture, log_ratio: Callable[[FloatArray], FloatArray]) -> GridPdf:
    """Return p(f) r(f), normalised, where r is the wanted prior over the prior that p was made with.

    The product is taken on nodes of its own for each row: 81 around every component, then those and 321 quantiles of
    the first answer, so that narrow and broad parts, structure of r within a component and shifts of many standard
    deviations all get nodes. Where r is smooth, probabilities are good to 1e-3 and moments to 1e-3 standard
    deviations. No mixture is fitted to the product: matched moments of components would be off wherever r
    bends within one.

    Parameters
    ----------
    pdf : Mixture
        n PDFs. Memory is n (81 k + 321) numbers a few times over: take rows in parts where n is large.
    log_ratio : callable
        ``log_ratio(flux)`` of fluxes (n, g), row by row, returns the logarithm of r up to a constant per row, same
        shape; ``-inf`` forbids a flux, NaN makes the row NaN.

    Returns
    -------
    GridPdf
        n normalised products of PDF and ratio.

    Raises
    ------
    LumosShapeError
        If ``log_ratio`` returns another shape.
    """
    means, variances = pdf.component_moments()
    first = means[:, :, None] + np.sqrt(variances)[:, :, None] * AROUND
    first = np.maximum(first, pdf.support[0]).reshape(len(pdf), -1)
    first.sort(axis=1)
    where = _product(pdf, log_ratio, first).quantile(LEVELS[None])
    # A row whose first answer is NaN stays NaN.
    return _product(pdf, log_ratio, np.sort(np.concatenate([first, where], axis=1), axis=1))


def _product(pdf: Mixture, log_ratio: Callable[[FloatArray], FloatArray], nodes: FloatArray) -> GridPdf:
    ratio = np.asarray(log_ratio(nodes), dtype=np.float64)
    if ratio.shape != nodes.shape:
        raise LumosShapeError("values of log_ratio", ratio.shape, nodes.shape)
    return GridPdf(nodes, pdf.log_pdf(nodes) + ratio)
