"""Settings of ``lumos validate --suite paper``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, StageSettings

__all__ = ["STUDIES", "PaperSettings", "Study"]

Study = Literal["fluxes", "exposures", "colours", "spectra", "blends", "robustness", "artefacts"]
#: In the order in which they are made; those from ``fluxes`` to ``spectra`` share one simulated survey.
STUDIES: tuple[Study, ...] = ("robustness", "fluxes", "exposures", "colours", "spectra", "artefacts", "blends")


class PaperSettings(StageSettings):
    """Settings of ``lumos validate --suite paper``."""

    studies: tuple[Study, ...] = STUDIES
    """Which to make; those that were made before stay in the page."""
    models: Annotated[tuple[str, ...], Field(min_length=1)] = ("generic",)
    """Shipped models, or model folders. The first stands for the paper's network; the others are tried on blends."""
    survey_side: Annotated[int, Field(ge=256, le=4096)] = 768
    """Side in pixels of the exposures of the simulated survey."""
    survey_exposures: Annotated[int, Field(ge=2)] = 4
    """Exposures of each of its bands."""
    survey_bands: tuple[str, ...] | None = None
    """Its bands; null: all forty of PAUCam."""
    blend_side: Annotated[int, Field(ge=2)] = 60
    """Offsets of the neighbour along each axis: 60, as in the paper, make 3600."""
    blend_repeats: Count = 4
    """How often the offsets within 4 FWHM are drawn."""
    blend_pairs: Count = 100
    """Pairs at each magnitude and distance of Fig. 9."""
    artefact_side: Annotated[int, Field(ge=256, le=4096)] = 768
    """Side in pixels of the exposures with artefacts."""
