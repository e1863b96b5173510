"""Settings of ``lumos backgrounds``."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lumos.background.geometry import StampGeometry
from lumos.background.settings import NoiseSettings
from lumos.config import Count, NotNegative, Positive, Seed, StageSettings

__all__ = ["BackgroundSettings"]

Share = Annotated[float, Field(ge=0, le=1)]


class BackgroundSettings(StageSettings):
    """Settings of ``lumos backgrounds``: which stamps a pool gets, and which CCDs are refused."""

    n_per_exposure: Count = 200
    """Number of stamps cut from each CCD."""
    side: Annotated[int, Field(ge=20, le=1000, multiple_of=2)] = 96
    """Side of the stored stamps in pixels; holds the annulus."""
    stamp_size: Annotated[int, Field(ge=20, le=1000, multiple_of=2)] = 60
    """Side in pixels of the middle part, on which galaxies are drawn and whose masked pixels count."""
    annulus_inner: Positive = 30.0
    """Inner radius of the background annulus in pixels."""
    annulus_outer: Positive = 45.0
    """Outer radius of the background annulus in pixels."""
    max_masked: Share = 0.2
    """Largest share of masked pixels of a stamp's middle part; a stamp with more is drawn again."""
    source_free_radius: NotNegative = 0.0
    """No source is detected within this many pixels of a stamp's middle; 0: sources may lie anywhere."""
    max_masked_exposure: Share = 0.5
    """A CCD with a larger share of masked pixels is refused."""
    max_scatter_ratio: Annotated[float, Field(gt=1)] = 3.0
    """A CCD whose pixel scatter is this many times above or below the median of its band is refused; compared in nJy
    where the zero point is known."""
    min_psf_fwhm: NotNegative = 0.1
    """A CCD with a narrower PSF is refused; arcsec."""
    max_psf_fwhm: Positive = 4.0
    """A CCD with a wider PSF is refused; arcsec."""
    noise: NoiseSettings = NoiseSettings()
    """Where the noise comes from."""
    seed: Seed = 0
    """Seed of the random positions."""

    @property
    def geometry(self) -> StampGeometry:
        """Return stamp and annulus as one."""
        return StampGeometry(self.stamp_size, self.annulus_inner, self.annulus_outer)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = self.geometry.side
        if self.side < needed:
            raise ValueError(f"side={self.side} does not hold stamp and annulus, allowed: {needed} or more")
        if self.min_psf_fwhm >= self.max_psf_fwhm:
            raise ValueError(f"min_psf_fwhm={self.min_psf_fwhm:g} must be less than max_psf_fwhm")
        return self
