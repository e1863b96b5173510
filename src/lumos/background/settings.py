"""Settings of the noise of pixels."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Seed, StageSettings

__all__ = ["NoiseSettings"]


class NoiseSettings(StageSettings):
    """Where the noise of a pixel comes from."""

    source: Literal["auto", "variance", "gain", "scatter"] = "auto"
    """Variance map, gain and sky, or the robust scatter around the object; auto takes the first that exists."""
    correlation: Literal["measured", "none"] = "measured"
    """Multiply errors by the excess scatter of blank apertures over that of independent pixels."""
    relative_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Error in units of the flux, added in quadrature: flat field, PSF model, and whatever repeats show."""
    seed: Seed = 0
    """Seed of the positions of the blank apertures."""
