"""Settings of ``lumos coadd``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, NotNegative, Positive, StageSettings

__all__ = ["CalibrateSettings", "CoaddSettings"]


class CalibrateSettings(StageSettings):
    """How the zero points of a run are fitted."""

    fit: bool = True
    """Fit corrections from the objects that exposures have in common; else the stated zero points are used."""
    estimator: str | None = None
    """Whose fluxes; null: the run's default estimator."""
    min_snr: Positive = 10.0
    """Smallest root-mean-square signal-to-noise ratio of an object that takes part."""
    max_objects: Annotated[int, Field(ge=3)] = 1000
    """Most objects of each CCD, brightest first."""
    assumed_err: Positive = 0.05
    """Error of a zero point for which none is stated, magnitudes."""


class CoaddSettings(StageSettings):
    """Settings of ``lumos coadd``."""

    prior: str = "catalog"
    """catalog: learned from the run; none; or the path of a prior that an earlier coadd wrote."""
    product: Literal["likelihood", "naive"] = "likelihood"
    """The likelihoods times the prior once, or, to show what it does, the naive product of the posteriors."""
    calibrate: CalibrateSettings = CalibrateSettings()
    """Zero points."""
    excluded_flags: tuple[str, ...] = (
        "TOO_MASKED",
        "MASKED_CENTRE",
        "OFF_DATA",
        "SATURATED",
        "COSMIC_RAY",
        "BAD_SHAPE",
    )
    """Rows with one of these flags are left out."""
    outlier_threshold: Annotated[float, Field(ge=0, le=0.01)] = 1e-4
    """An exposure with a smaller p-value against the others of its object is left out; 0: none."""
    repeat_errors: bool = True
    """Find out from the repeats of the run how much of a PDF's width its exposures share, as a neighbour's light; else
    all of it counts as independent."""
    repeat_galaxies: Annotated[int, Field(ge=50)] = 2000
    """Most galaxies of each band from which that is found out."""
    shared_relative_err: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Relative error that all exposures of an object share, beside that of the zero points."""
    shared_flux_err: NotNegative = 0.0
    """Error in nJy that all exposures of an object share and that repeats cannot show: faint sources below it."""
    pdf: Literal["mixture", "grid"] = "mixture"
    """How the PDF is written: as a Gaussian mixture, or as densities on nodes."""
    n_components: Annotated[int, Field(ge=1, le=50)] = 5
    """Components of the mixture."""
    n_nodes: Annotated[int, Field(ge=9, le=1000)] = 65
    """Nodes of the grid."""
    max_fit_err: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """A mixture that misses its PDF by more probability is flagged."""
    prior_galaxies: Annotated[int, Field(ge=50)] = 10_000
    """Most galaxies of each band from which the prior is learned."""
    rows_at_once: Count = 200_000
    """Rows of the run that are held in memory by each process."""
