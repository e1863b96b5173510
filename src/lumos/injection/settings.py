"""Settings of ``lumos inject``."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lumos.config import Count, Positive, Seed, StageSettings
from lumos.teahupoo.settings import CatalogScatter

__all__ = ["InjectSettings"]

Share = Annotated[float, Field(ge=0, le=1)]


class InjectSettings(StageSettings):
    """Which galaxies are put into exposures, and where."""

    rounds: Count = 4
    """How often galaxies are put into each CCD, each time at new places."""
    n_per_ccd: Count = 300
    """Galaxies and places of sky in a CCD at a time, as far as it has room."""
    distance: Positive = 40.0
    """Least distance between them, pixels."""
    empty: Share = 0.3
    """Share of them that are put where no object of the catalogue is within ``clearance``."""
    beside: Share = 0.3
    """Share of them that are put beside an object of the catalogue; the others lie anywhere."""
    sky: Share = 0.1
    """Share that are such empty places where nothing is put: the catalogue lists a galaxy, its true flux is 0."""
    clearance: Positive = 4.0
    """Distance of empty places from objects of the catalogue, FWHM of the PSF."""
    beside_range: tuple[Positive, Positive] = (0.5, 3.0)
    """Least and largest distance from the object that a galaxy is put beside, FWHM of the PSF."""
    snr_range: tuple[Positive, Positive] = (1.0, 100.0)
    """Signal-to-noise ratios, even in the logarithm: flux over its closed-form error in a band's first exposure."""
    mag_range: tuple[float, float] = (18.0, 23.5)
    """Reference magnitudes whose sizes and shapes the galaxies have."""
    errors: CatalogScatter = CatalogScatter(half_light_radius=0.05, sersic_n=0.1, axis_ratio=0.03, angle=2, centre=0.05)
    """Errors of the catalogue that is measured with, which states them."""
    seed: Seed = 1
    """Seed of places, galaxies and photons."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.empty + self.beside + self.sky > 1:
            shares = f"empty={self.empty:g}, beside={self.beside:g} and sky={self.sky:g}"
            raise ValueError(f"{shares} are shares of one whole")
        for name in ("beside_range", "snr_range", "mag_range"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name}=[{low:g}, {high:g}], allowed: the smaller first")
        if self.errors.psf_fwhm > 0:
            raise ValueError("errors.psf_fwhm: the PSF is the exposure's, allowed: 0")
        return self
