"""Settings of simulated stamps."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lumos.background.geometry import StampGeometry
from lumos.config import Count, NotNegative, Positive, StageSettings

__all__ = ["CatalogScatter", "ProposalSettings", "StampSettings"]


class CatalogScatter(StageSettings):
    """Gaussian scatter of the catalogue's parameters about the true ones."""

    half_light_radius: NotNegative = 0.0
    """Scatter of the natural logarithm of the half-light radius."""
    sersic_n: NotNegative = 0.0
    """Scatter of the natural logarithm of the Sérsic index."""
    axis_ratio: NotNegative = 0.0
    """Scatter of the axis ratio."""
    angle: NotNegative = 0.0
    """Of the position angle, degrees."""
    centre: NotNegative = 0.0
    """Scatter of the centre along each axis, pixels."""
    psf_fwhm: NotNegative = 0.0
    """Scatter of the natural logarithm of the FWHM of the PSF."""
    spread: NotNegative = 0.0
    """Scatter of the natural logarithm of a factor that multiplies all errors of a galaxy: in real catalogues a few
    galaxies are far off."""


class ProposalSettings(StageSettings):
    """Density of the flux over its closed-form error, see :class:`lumos.teahupoo.draws.FluxProposal`."""

    low: float = -10.0
    """Lower end of the plateau."""
    high: float = 2000.0
    """Upper end of the plateau."""
    softening: Positive = 5.0
    """Flux at which the density turns from constant to 1/flux."""
    edge: Positive = 0.1
    """Width of the ends, in asinh(flux / softening)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low:g} must be less than high={self.high:g}")
        return self


class StampSettings(StageSettings):
    """Settings of simulated stamps."""

    batch_size: Count = 1024
    """Number of stamps drawn at once; 1024 are drawn at 1.5 times the rate of 512."""
    stamp_size: Annotated[int, Field(ge=20, le=1000, multiple_of=2)] = 60
    """Side of a stamp in pixels."""
    annulus_inner: Positive = 30.0
    """Inner radius of the background annulus in pixels."""
    annulus_outer: Positive = 45.0
    """Outer radius of the background annulus in pixels."""
    mag_range: tuple[float, float] = (17.5, 23.0)
    """Reference magnitudes of the galaxies."""
    flux_from: Literal["population", "proposal"] = "population"
    """Fluxes of the galaxies' spectra in the stamp's band, or of a broad density that knows no magnitude."""
    flux_clip: tuple[float, float] | None = None
    """Electrons per second: fluxes of the population outside are set to the limit. The paper has 0 and 1000."""
    proposal: ProposalSettings = ProposalSettings()
    """The broad density."""
    catalog_scatter: CatalogScatter = CatalogScatter()
    """Errors of the catalogue that estimators and networks see."""
    passbands: dict[str, tuple[float, float]] = {}
    """Centre and width in nm of bands, where the common ones of that name do not fit."""

    @property
    def geometry(self) -> StampGeometry:
        """Return stamp and annulus as one."""
        return StampGeometry(self.stamp_size, self.annulus_inner, self.annulus_outer)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _ = self.geometry  # refuses an annulus that cannot be
        if self.flux_clip is not None and not 0 <= self.flux_clip[0] < self.flux_clip[1]:
            raise ValueError(f"flux_clip={self.flux_clip} must be two increasing numbers, the first 0 or more")
        return self
