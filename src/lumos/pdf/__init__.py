"""Flux PDFs: densities of the flux of many objects at once, one per row."""

from lumos.pdf.base import FluxPdf
from lumos.pdf.coadd import catalogue_prior, inverse_variance, product
from lumos.pdf.colours import Colours, colour, colour_moments
from lumos.pdf.compact import to_mixture
from lumos.pdf.grid import GridPdf
from lumos.pdf.mixture import GaussianMixture, TruncatedMixture
from lumos.pdf.multiply import LogPrior
from lumos.pdf.outliers import compatibility, reject_outliers
from lumos.pdf.prior import FluxPrior, posterior
from lumos.pdf.reweight import reweighted

__all__ = [
    "Colours",
    "FluxPdf",
    "FluxPrior",
    "GaussianMixture",
    "GridPdf",
    "LogPrior",
    "TruncatedMixture",
    "catalogue_prior",
    "colour",
    "colour_moments",
    "compatibility",
    "inverse_variance",
    "posterior",
    "product",
    "reject_outliers",
    "reweighted",
    "to_mixture",
]
