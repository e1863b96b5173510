"""PDFs of colours from PDFs of fluxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf.base import FluxPdf, row_chunks
from lumos.pdf.grid import GridPdf

__all__ = ["Colours", "colour", "colour_moments"]

#: Normal scores of the fluxes that are summed over, of the nodes of the result, and of the fluxes whose ratios are the
#: first nodes.
_SUMMED, _NODES, _FIRST = np.linspace(-5, 5, 61), np.linspace(-5, 5, 193), np.linspace(-5, 5, 8)
_WEIGHTS = np.exp(-0.5 * _SUMMED**2) / np.exp(-0.5 * _SUMMED**2).sum()
#: Levels between which the width of the logarithm of a flux is taken.
_WIDTH = np.array([[0.16, 0.84]])
_PER_LOG_FLUX = -2.5 / np.log(10)


@dataclass(frozen=True)
class Colours:
    """Colours of n objects.

    Parameters
    ----------
    pdf : GridPdf
        Densities of the magnitude difference, given that both fluxes are above 0; NaN where they cannot be. Minus 0.4
        times it is the logarithm (base 10) of the ratio of the fluxes.
    without : float array, shape (n,)
        Probability that one of the fluxes is 0 or less, so that there is no colour: it is in no part of ``pdf``.
    """

    pdf: GridPdf
    without: FloatArray

    def __len__(self) -> int:
        return len(self.pdf)


def colour(first: FluxPdf, second: FluxPdf) -> Colours:
    r"""Return the PDFs of the colours of two bands, magnitude of the first minus that of the second.

    .. math:: p(c) = \frac{\ln 10}{2.5 P_1 P_2} \int_0^\infty p_1(r f)\, p_2(f)\, r f\, df, \quad r = 10^{-0.4 c},

    with the probabilities P that a flux is above 0.

    Parameters
    ----------
    first, second : FluxPdf
        Fluxes of the same n objects in two bands, in one unit.

    Returns
    -------
    Colours
        Densities, and the probability without a colour. A row that is bad in one band is NaN.

    Raises
    ------
    LumosShapeError
        If the numbers of objects differ.

    Notes
    -----
    The errors of both bands are taken as independent. What they share makes colours better than these PDFs say: a wrong
    shape in the catalogue and, above all, a prior of each band by itself, as in coadds, where a galaxy that departs
    from it in one band does so in the next. For colours take likelihoods (``prior="none"``): they allow fluxes below 0,
    of which ``without`` says how likely they are.

    Cumulative probabilities are good to 0.0005 for Gaussians, and for mixtures whose components are as wide as the
    whole; to 0.02 for those with components of a thirtieth of it. A row takes some milliseconds.

    Examples
    --------
    Two and one magnitudes: a bright galaxy, and one that is hardly seen in the first band.

    >>> from lumos.pdf import GaussianMixture, colour
    >>> blue = GaussianMixture([[1.0], [1.0]], [[100.0], [10.0]], [[2.0], [10.0]])
    >>> red = GaussianMixture([[1.0], [1.0]], [[200.0], [100.0]], [[2.0], [2.0]])
    >>> colours = colour(blue, red)
    >>> colours.pdf.quantile([[0.16, 0.5, 0.84]]).round(2)
    array([[0.73, 0.75, 0.78],
           [1.69, 2.3 , 3.35]])
    >>> colours.without.round(2)
    array([0.  , 0.16])
    """
    if len(first) != len(second):
        raise LumosShapeError("fluxes of the second band", len(second), f"{len(first)} rows, as the first")
    n = len(first)
    nodes, log_density, without = np.empty((n, len(_NODES))), np.empty((n, len(_NODES))), np.empty(n)
    for rows in row_chunks(n, len(_NODES) * len(_SUMMED)):
        with np.errstate(all="ignore"):  # bad rows are NaN
            parts = (_Positive(one.take(rows)) for one in (first, second))
            nodes[rows], log_density[rows], without[rows] = _colour(*parts)
    return Colours(GridPdf(nodes, log_density), without)


def colour_moments(fluxes: Sequence[FluxPdf]) -> tuple[FloatArray, FloatArray]:
    r"""Return means and covariances of the colours of bands that follow each other.

    Colour i is the magnitude in band i minus that in band i + 1. With the variances :math:`v_i` of the magnitudes,

    .. math:: C_{ii} = v_i + v_{i+1}, \quad C_{i,i+1} = -v_{i+1},

    and 0 elsewhere: two colours share at most one band.

    Parameters
    ----------
    fluxes : sequence of FluxPdf
        Fluxes of the same n objects in b bands, in one unit.

    Returns
    -------
    mean : float array, shape (n, b - 1)
        Means, magnitudes.
    covariance : float array, shape (n, b - 1, b - 1)
        Squared magnitudes.

    Raises
    ------
    LumosValueError
        If there are fewer than two bands.
    LumosShapeError
        If the numbers of objects differ.

    Notes
    -----
    Both are given that all fluxes are above 0; a colour with a bad band is NaN, with its row and column of the matrix.
    Errors of different bands are taken as independent, see :func:`colour`. Moments of the magnitude are sums over 61
    quantiles that are even in normal scores; where a flux may be 0 the magnitude has a long tail to faint, and its
    variance is large but finite.

    Examples
    --------
    >>> from lumos.pdf import GaussianMixture
    >>> bands = [GaussianMixture([[1.0]], [[flux]], [[err]]) for flux, err in ((100, 1), (200, 4), (250, 10))]
    >>> mean, covariance = colour_moments(bands)
    >>> mean.round(2)
    array([[0.75, 0.24]])
    >>> covariance.round(5)
    array([[[ 0.00059, -0.00047],
            [-0.00047,  0.00237]]])
    """
    if len(fluxes) < 2:
        raise LumosValueError("bands of colours", len(fluxes), "2 or more")
    n, b = len(fluxes[0]), len(fluxes)
    mean, variance = np.empty((n, b)), np.empty((n, b))
    for band, pdf in enumerate(fluxes):
        if len(pdf) != n:
            raise LumosShapeError(f"fluxes of band {band + 1}", len(pdf), f"{n} rows, as the first")
        for rows in row_chunks(n, len(_SUMMED)):
            with np.errstate(all="ignore"):  # bad rows are NaN
                magnitude = _PER_LOG_FLUX * _Positive(pdf.take(rows)).quantile(ndtr(_SUMMED)[None])
            mean[rows, band] = magnitude @ _WEIGHTS
            variance[rows, band] = (magnitude - mean[rows, band, None]) ** 2 @ _WEIGHTS
    covariance, numbers = np.zeros((n, b - 1, b - 1)), np.arange(b - 1)
    covariance[:, numbers, numbers] = variance[:, :-1] + variance[:, 1:]
    covariance[:, numbers[1:], numbers[:-1]] = covariance[:, numbers[:-1], numbers[1:]] = -variance[:, 1:-1]
    colours = -np.diff(mean, axis=1)
    bad = np.isnan(colours)
    covariance[bad[:, :, None] | bad[:, None, :]] = np.nan
    return colours, covariance


class _Positive:
    """Logarithms of fluxes, of those above 0."""

    def __init__(self, pdf: FluxPdf) -> None:
        self.pdf = pdf
        self.below = pdf.cdf(0.0)
        self.probability = np.where(self.below < 1, 1 - self.below, np.nan)

    def quantile(self, level: FloatArray) -> FloatArray:
        """Return quantiles of the logarithm, shape (n, m), for levels of shape (1, m)."""
        inside = self.below[:, None] + level * self.probability[:, None]
        return np.asarray(np.log(self.pdf.quantile(np.minimum(inside, 1.0))))

    def density(self, rows: IntArray, log_flux: FloatArray) -> FloatArray:
        """Return the density of the logarithm for some rows, shape (k, m)."""
        log_density = self.pdf.take(rows).log_pdf(np.exp(log_flux)) + log_flux
        return np.asarray(np.exp(log_density) / self.probability[rows, None])


def _colour(first: _Positive, second: _Positive) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return nodes, logarithms of the density there, and the probability without a colour."""
    log_1, log_2 = (one.quantile(ndtr(_SUMMED)[None]) for one in (first, second))
    width_1, width_2 = (np.diff(one.quantile(_WIDTH))[:, 0] for one in (first, second))
    narrow_1, narrow_2 = np.flatnonzero(width_1 <= width_2), np.flatnonzero(width_1 > width_2)

    def density(log_ratio: FloatArray) -> FloatArray:
        # Summed over the narrower of the two, so that no step of the sum is wider than the density it meets.
        values = np.full(log_ratio.shape, np.nan)
        for rows, other, log_other in (
            (narrow_1, second, log_1[narrow_1, None] - log_ratio[narrow_1, :, None]),
            (narrow_2, first, log_2[narrow_2, None] + log_ratio[narrow_2, :, None]),
        ):
            if len(rows):
                found = other.density(rows, log_other.reshape(len(rows), -1))
                values[rows] = found.reshape(log_other.shape) @ _WEIGHTS
        return values

    few = ndtr(_FIRST)[None]
    pairs = first.quantile(few)[:, :, None] - second.quantile(few)[:, None, :]
    ratio = np.sort(pairs.reshape(len(pairs), -1), axis=1)
    ratio = GridPdf(ratio, np.log(density(ratio))).quantile(ndtr(_NODES)[None])
    without = 1 - (1 - first.below) * (1 - second.below)
    # Magnitudes fall as the ratio grows.
    return _PER_LOG_FLUX * ratio[:, ::-1], np.log(density(ratio))[:, ::-1], without
