"""Settings of the background around an object and of the noise of its pixels."""

import math
from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Seed, StageSettings

__all__ = ["NoiseSettings", "check_annulus"]

#: Pixels of an annulus that leave a level where half of them are masked.
_LEAST_ANNULUS = 200


def check_annulus(inner: float, outer: float) -> None:
    """Refuse an annulus that holds no background.

    Parameters
    ----------
    inner, outer : float
        Radii in pixels.

    Raises
    ------
    ValueError
        If it is empty, or has fewer pixels than a level needs.
    """
    if inner >= outer:
        raise ValueError(f"annulus_inner={inner:g} must be less than annulus_outer={outer:g}")
    area = math.pi * (outer**2 - inner**2)
    if area < _LEAST_ANNULUS:
        what = f"annulus of {inner:g} to {outer:g} px has {area:.0f} pixels"
        raise ValueError(f"{what}, allowed: {_LEAST_ANNULUS} or more")


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
