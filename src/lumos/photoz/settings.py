"""Settings of ``lumos photoz``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, NotNegative, Positive, StageSettings
from lumos.photoz.deepz.settings import DeepzSettings

__all__ = ["PhotozSettings"]


class PhotozSettings(StageSettings):
    """Settings of ``lumos photoz``."""

    method: Literal["bcnz", "deepz"] = "bcnz"
    """bcnz: fits of templates. deepz: networks, with the settings ``bands``, ``flux``, ``others``, ``odds_window``,
    ``shard`` and ``deepz`` of these."""
    deepz: DeepzSettings = DeepzSettings()
    """Networks of `--method deepz`, and how they are trained."""
    likelihood: Literal["gaussian", "student", "pdf"] = "gaussian"
    """gaussian: flux and error. student: the same with Student's t, so that outliers hardly count. pdf: the flux PDFs
    of a coadd, made with ``--prior none``."""
    freedom: Positive = 3.0
    """Degrees of freedom of Student's t."""
    bands: dict[str, str] = {}
    """Bands that are used, and the name of each in the models, as {u_lsst: u}; without any, all bands of the table, by
    the same names."""
    flux: str = "flux"
    """Column of the fluxes of a long table; its errors are in the column of that name with ``_err``."""
    others: str | None = None
    """Table with the fluxes of the same galaxies in other bands, such as deep broad ones, by the names of the models
    and in the same unit; the option `--other-bands`."""
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
    soften: bool = True
    """Widen p(z) where no template fits well: its logarithm is multiplied by (N - 3) / chi2 of the best fit of N
    fluxes, if that is below 1, as if all errors were larger."""
    coarse: Count = 5
    """All redshifts are first looked at in steps of so many places of the grid; 1: everywhere."""
    margin: Positive = 40.0
    """Redshifts and template sets whose chi2 in that first look is larger than the smallest by more than this, and by
    more than the smallest is above the number of bands, are not looked at again."""
    rounds: Count = 6
    """Largest number of reweighted fits at a redshift, if likelihoods are not Gaussian."""
    odds_window: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """odds is the probability within so much times 1 + z of the best redshift."""
    calibrate: Literal["none", "spectra", "photometry"] = "none"
    """Correct the zero points of bands. spectra: so that the median pull of the best models at known redshifts is 0.
    photometry: the same at the redshifts that the fluxes give."""
    calibrate_rounds: Count = 20
    """Rounds of that correction."""
    calibrate_min_snr: float = -5.0
    """Smallest signal-to-noise ratio of a flux that takes part."""
    calibrate_galaxies: Count = 1000
    """Largest number of galaxies that take part, those with the most signal."""
    reference_band: str | None = None
    """Broad band whose zero point stays; null: the median of all stays. Narrow bands count on their own, if the scale
    is free."""
    shard: Count = 500
    """Galaxies of one file of the output, which is what a run that was stopped loses at most."""
    galaxies_at_once: Annotated[int, Field(ge=1, le=256)] = 128
    """Galaxies that are fitted together; sets the memory."""
