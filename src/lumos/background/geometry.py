"""The stamp that an object is measured on, and the annulus around it that its background comes from."""

import math
from dataclasses import dataclass

from lumos.errors import LumosConfigError

__all__ = ["STANDARD_GEOMETRY", "StampGeometry"]

#: Pixels of an annulus that leave a level where half of them are masked.
_LEAST_ANNULUS = 200
#: Side of the smallest stamp that an object is measured on, pixels.
_LEAST_SIZE = 20


@dataclass(frozen=True)
class StampGeometry:
    """Side of a stamp and radii of its background annulus.

    Parameters
    ----------
    size : int
        Side of the stamp, pixels.
    inner, outer : float
        Radii of the annulus around the object, pixels; it may reach beyond the stamp.

    Raises
    ------
    LumosConfigError
        If the side is odd or smaller than 20 pixels; the annulus is empty, or has fewer than the 200 pixels that a
        level needs.
    """

    size: int = 60
    inner: float = 30.0
    outer: float = 45.0

    def __post_init__(self) -> None:
        if self.size < _LEAST_SIZE or self.size % 2:
            raise LumosConfigError(f"stamp_size={self.size} must be even, and at least {_LEAST_SIZE}")
        if not self.inner < self.outer:
            raise LumosConfigError(f"annulus_inner={self.inner:g} must be less than annulus_outer={self.outer:g}")
        area = math.pi * (self.outer**2 - self.inner**2)
        if area < _LEAST_ANNULUS:
            what = f"annulus of {self.inner:g} to {self.outer:g} px has {area:.0f} pixels"
            raise LumosConfigError(f"{what}, allowed: {_LEAST_ANNULUS} or more")

    def __str__(self) -> str:
        return f"stamps of {self.size} px with an annulus of {self.inner:g} to {self.outer:g} px"

    @property
    def annulus(self) -> tuple[float, float]:
        """Return the radii of the annulus, pixels."""
        return self.inner, self.outer

    @property
    def side(self) -> int:
        """Return the side of the smallest even stamp that holds stamp and annulus, pixels."""
        return max(self.size, 2 * math.ceil(self.outer + 1))

    def grown(self, size: int) -> "StampGeometry":
        """Return the geometry of larger or smaller stamps: the annulus grows with the stamp.

        Parameters
        ----------
        size : int
            Side of these stamps, pixels.

        Returns
        -------
        StampGeometry
            With the radii times the same factor.
        """
        growth = size / self.size
        return StampGeometry(size, self.inner * growth, self.outer * growth)

    def is_multiple_of(self, other: "StampGeometry") -> bool:
        """Tell whether these stamps become those of another geometry when blocks of pixels are summed.

        Parameters
        ----------
        other : StampGeometry
            Geometry that this one may be a multiple of.

        Returns
        -------
        bool
            Whether side and radii are one whole number of times those of the other.
        """
        if self.size % other.size:
            return False
        same = other.grown(self.size)
        return math.isclose(self.inner, same.inner) and math.isclose(self.outer, same.outer)


#: The paper's: stamps of 60 pixels, annulus of 30 to 45.
STANDARD_GEOMETRY = StampGeometry()
