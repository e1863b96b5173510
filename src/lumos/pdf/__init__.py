"""Flux PDFs: densities of the flux of many objects at once, one per row."""

from lumos.pdf.base import FluxPdf
from lumos.pdf.grid import GridPdf
from lumos.pdf.mixture import GaussianMixture, TruncatedMixture
from lumos.pdf.reweight import reweighted

__all__ = ["FluxPdf", "GaussianMixture", "GridPdf", "TruncatedMixture", "reweighted"]
