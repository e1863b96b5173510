"""Settings of ``lumos catalog`` and ``lumos psf``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, Positive, StageSettings

__all__ = ["CatalogSettings", "PsfSettings"]


class CatalogSettings(StageSettings):
    """Settings of ``lumos catalog``."""

    threshold: Positive = 3.5
    """Detection threshold of the image convolved with 3 x 3 pixels, in units of the scatter of that image."""
    min_area: Count = 5
    """Smallest number of connected pixels of a detection."""
    min_snr: Positive = 20.0
    """Below this signal-to-noise ratio the Sérsic index is not fitted but set to ``default_n``."""
    default_n: Annotated[float, Field(ge=0.3, le=6.2)] = 1.0
    """Sérsic index of faint objects."""


class PsfSettings(StageSettings):
    """Settings of ``lumos psf``."""

    min_stars: Count = 5
    """Smallest number of stars of an exposure from which a PSF is made."""
    max_stars: Count = 100
    """Largest number of stars that are fitted, brightest first."""
    min_snr: Positive = 30.0
    """Lowest signal-to-noise ratio of a star."""
    stamp_size: Annotated[int, Field(ge=11)] = 31
    """Side in pixels of the stamps that are fitted."""
    model: Literal["auto", "moffat", "empirical"] = "auto"
    """``moffat``; ``empirical``: a Moffat corrected by what the stars show; or ``auto``: empirical where it describes
    stars better that took no part in its fit."""
    max_degree: Annotated[int, Field(ge=0, le=3)] = 2
    """Highest degree of the polynomial in x and y of an empirical PSF; the stars decide which."""
