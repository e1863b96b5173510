"""Where galaxies lie on the pixels of an image, and what they look like there."""

from dataclasses import dataclass, fields

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosShapeError
from lumos.rows import Rowwise

__all__ = ["Shapes"]


@dataclass(frozen=True)
class Shapes(Rowwise):
    """Centres and shapes of n galaxies on pixels; a galaxy of radius 0 is a point source.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Centres in 0-based pixels, on the image or not.
    half_light_radius : float array, shape (n,)
        Along the major axis, pixels.
    sersic_n, axis_ratio : float array, shape (n,)
        Sérsic index, which does not matter for a point source; minor over major axis.
    theta : float array, shape (n,)
        Angle of the major axis from +x towards +y, radians.

    Raises
    ------
    LumosShapeError
        If these are not one number per galaxy each.
    """

    x: FloatArray
    y: FloatArray
    half_light_radius: FloatArray
    sersic_n: FloatArray
    axis_ratio: FloatArray
    theta: FloatArray

    def __post_init__(self) -> None:
        lengths = {item.name: np.shape(getattr(self, item.name)) for item in fields(Shapes)}
        if len(set(lengths.values())) > 1 or len(lengths["x"]) != 1:
            raise LumosShapeError("shapes of galaxies", lengths, "equal shapes (n,)")

    @staticmethod
    def points(x: FloatArray, y: FloatArray) -> "Shapes":
        """Return point sources.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Centres in 0-based pixels.

        Returns
        -------
        Shapes
            Of radius 0, index 1, round.
        """
        zero, one = np.zeros(len(x)), np.ones(len(x))
        return Shapes(x, y, zero, one, one, zero)

    def at(self, x: FloatArray, y: FloatArray) -> "Shapes":
        """Return the same shapes elsewhere.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Their centres there: in a stamp, if the shapes are those on an image.

        Returns
        -------
        Shapes
            With these centres.
        """
        return Shapes(x, y, self.half_light_radius, self.sersic_n, self.axis_ratio, self.theta)
