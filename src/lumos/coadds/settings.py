"""Settings of ``lumos coadd``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, NotNegative, Positive, StageSettings

__all__ = ["CalibrateSettings", "CoaddSettings"]


class CalibrateSettings(StageSettings):
    """How the zero points of a run are fitted."""

    fit: bool = True
    """Correct zero points with the objects that exposures have in common; if false, the stated ones are used."""
    estimator: str | None = None
    """Estimator whose fluxes are compared; null: the run's default estimator."""
    min_snr: Positive = 10.0
    """Smallest root-mean-square signal-to-noise ratio of an object that takes part."""
    max_objects: Annotated[int, Field(ge=3)] = 1000
    """Largest number of objects of each CCD that take part, brightest first."""
    assumed_err: Positive = 0.05
    """Error of a zero point, magnitudes, if none is stated."""


class CoaddSettings(StageSettings):
    """Settings of ``lumos coadd``."""

    prior: str = "catalog"
    """catalog (learned from the run), none, or the path of a prior that an earlier coadd wrote."""
    product: Literal["likelihood", "naive"] = "likelihood"
    """likelihood: the likelihoods times the prior once. naive: the product of the posteriors, as in the paper."""
    calibrate: CalibrateSettings = CalibrateSettings()
    """How zero points are fitted."""
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
    """An exposure is left out if its p-value against the others of its object is smaller; 0: none is left out."""
    repeat_errors: bool = True
    """Find out from the repeats of the run how much of a PDF's width its exposures share, as a neighbour's light; else
    all of it counts as independent."""
    repeat_galaxies: Annotated[int, Field(ge=50)] = 2000
    """Largest number of galaxies of each band from which ``repeat_errors`` is found."""
    shared_relative_err: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Relative error that all exposures of an object share, beside that of the zero points."""
    shared_flux_err: NotNegative = 0.0
    """Error in nJy that all exposures of an object share: faint sources below it, which repeats cannot show."""
    pdf: Literal["mixture", "grid"] = "mixture"
    """How the PDF is written: as a Gaussian mixture, or as densities on nodes."""
    n_components: Annotated[int, Field(ge=1, le=50)] = 5
    """Components of the mixture."""
    n_nodes: Annotated[int, Field(ge=9, le=1000)] = 65
    """Nodes of the grid."""
    max_fit_err: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """A mixture is flagged if it differs from its PDF by more than this probability."""
    prior_galaxies: Annotated[int, Field(ge=50)] = 10_000
    """Largest number of galaxies of each band from which the prior is learned."""
    rows_at_once: Count = 200_000
    """Rows of the run that are held in memory by each process."""
