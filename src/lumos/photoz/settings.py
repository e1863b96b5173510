"""Settings of ``lumos photoz``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, NotNegative, Positive, StageSettings

__all__ = ["PhotozSettings"]


class PhotozSettings(StageSettings):
    """Settings of ``lumos photoz``."""

    likelihood: Literal["gaussian", "student", "pdf"] = "gaussian"
    """gaussian: flux and error. student: the same with Student's t, so that outliers hardly count. pdf: the flux PDFs
    of a coadd, made with ``--prior none``."""
    freedom: Positive = 3.0
    """Degrees of freedom of Student's t."""
    flux: str = "flux"
    """Column of the fluxes of a long table; its errors are in the column of that name with ``_err``."""
    floor: NotNegative = 0.03
    """Magnitudes that are added in quadrature to the error of each flux, for what templates and zero points lack."""
    min_snr: float = -2.0
    """A flux whose signal-to-noise ratio is smaller is left out."""
    min_bands: Count = 3
    """An object with fewer usable fluxes gets no redshift."""
    free_scale: bool = True
    """Fit a scale between narrow and broad bands for each galaxy, template set and redshift."""
    solver: Literal["nnls", "multiplicative"] = "nnls"
    """nnls: exact amplitudes. multiplicative: the updates of BCNz2, slower and less exact."""
    n_updates: Count = 1000
    """Number of multiplicative updates."""
    weighing: Literal["likelihood", "evidence"] = "likelihood"
    """How template sets are combined. likelihood: by their best fits. evidence: by the integral over all amplitudes,
    so that a set with many components pays for its freedom."""
    coarse: Count = 5
    """All redshifts are first looked at in steps of so many places of the grid; 1: everywhere."""
    margin: Positive = 40.0
    """Redshifts and template sets whose chi2 in that first look is larger than the smallest by more than this, and by
    more than the smallest is above the number of bands, are not looked at again."""
    rounds: Count = 6
    """Largest number of reweighted fits at a redshift, if likelihoods are not Gaussian."""
    odds_window: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """odds is the probability within so much times 1 + z of the best redshift."""
    galaxies_at_once: Count = 128
    """Galaxies that are fitted together; sets the memory."""
