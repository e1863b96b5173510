"""Settings of the stages that work on exposures."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "CalibrateSettings",
    "CatalogColumns",
    "CatalogSettings",
    "CoaddSettings",
    "MeasureSettings",
    "NoiseSettings",
    "PsfSettings",
]

Positive = Annotated[float, Field(gt=0)]

#: Name of the network among the estimators.
NETWORK = "lumos"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class CatalogColumns(_Settings):
    """How the parent catalogue's file names its columns."""

    columns: dict[str, str | float] = {}
    """Name in the file, or a number for a constant, of each column that differs from the standard."""
    radius: Literal["major", "circularised"] = "major"
    """Whether the half-light radius runs along the major axis or is sqrt(a b)."""


class NoiseSettings(_Settings):
    """Where the noise of a pixel comes from."""

    source: Literal["auto", "variance", "gain", "scatter"] = "auto"
    """Variance map, gain and sky, or the robust scatter around the object; auto takes the first that exists."""
    correlation: Literal["measured", "none"] = "measured"
    """Multiply errors by the excess scatter of blank apertures over that of independent pixels."""
    relative_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Error in units of the flux, added in quadrature: flat field, PSF model, and whatever repeats show."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the positions of the blank apertures."""


class MeasureSettings(_Settings):
    """Settings of ``lumos measure``."""

    estimators: tuple[str, ...] = ("aperture", "profile_fit", "optimal", "optimal_free")
    """Classical estimators to run."""
    model: str | None = None
    """Shipped model, or model folder, that runs beside them under the name ``lumos``."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the model's convolutions."""
    default: str | None = None
    """The estimator whose result becomes ``flux``, ``flux_err`` and the PDF; null: ``lumos`` if there is a model,
    else ``optimal``, else the first."""
    stamp_size: Annotated[int, Field(ge=20, le=200, multiple_of=2)] = 60
    """Side of a stamp in pixels."""
    max_stamp_size: Annotated[int, Field(ge=20, le=1000)] = 240
    """Stamps are doubled for large objects, up to this side."""
    annulus_inner: Positive = 30.0
    """Inner radius of the background annulus in pixels; grows with the stamp."""
    annulus_outer: Positive = 45.0
    """Outer radius of the background annulus in pixels; grows with the stamp."""
    aperture_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.625
    """Share of the light inside the aperture."""
    max_masked: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest share of an object's light on masked pixels that is corrected."""
    noise: NoiseSettings = NoiseSettings()
    """Where the noise comes from."""
    catalog: CatalogColumns = CatalogColumns()
    """How to read the parent catalogue."""

    @property
    def all_estimators(self) -> tuple[str, ...]:
        """Return the names of all estimators of the run."""
        return (*self.estimators, *(() if self.model is None else (NETWORK,)))

    @property
    def default_estimator(self) -> str:
        """Return the name of the default estimator."""
        if self.default is not None:
            return self.default
        names = self.all_estimators
        return next((name for name in (NETWORK, "optimal") if name in names), names[0])

    @model_validator(mode="after")
    def _has_default(self) -> Self:
        if not self.all_estimators:
            raise ValueError("estimators: give at least one, or a model")
        if self.default is not None and self.default not in self.all_estimators:
            raise ValueError(f"default={self.default!r} is not one of {', '.join(self.all_estimators)}")
        return self


class CatalogSettings(_Settings):
    """Settings of ``lumos catalog``."""

    threshold: Positive = 1.5
    """Detection threshold in units of the pixel scatter."""
    min_area: Annotated[int, Field(ge=1)] = 5
    """Fewest connected pixels of a detection."""
    sersic_n: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Sérsic indices that the quick fit chooses from."""
    min_snr: Positive = 20.0
    """Below this signal-to-noise ratio the index is not fitted but ``default_n``."""
    default_n: Annotated[float, Field(ge=0.3, le=6.2)] = 1.0
    """Sérsic index of faint objects."""


class PsfSettings(_Settings):
    """Settings of ``lumos psf``."""

    min_stars: Annotated[int, Field(ge=1)] = 5
    """Fewest stars of an exposure from which a PSF is made."""
    max_stars: Annotated[int, Field(ge=1)] = 100
    """Most stars that are fitted, brightest first."""
    min_snr: Positive = 30.0
    """Lowest signal-to-noise ratio of a star."""
    stamp_size: Annotated[int, Field(ge=11)] = 31
    """Side in pixels of the stamps that are fitted."""


class CalibrateSettings(_Settings):
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


class CoaddSettings(_Settings):
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
    shared_flux_err: Annotated[float, Field(ge=0)] = 0.0
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
    rows_at_once: Annotated[int, Field(ge=1)] = 200_000
    """Rows of the run that are held in memory by each process."""
