"""Sizes and shapes of galaxies given their magnitude."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal

from lumos.conventions import FloatArray

__all__ = ["PIVOT_MAG", "SHAPE_LIMITS", "Morphology"]

#: Magnitude at which the parameters' intercepts are stated.
PIVOT_MAG = 21.5
#: Shapes outside are drawn again. Arcsec; Sérsic index; minor over major axis.
SHAPE_LIMITS = np.array([[0.05, 8.0], [0.3, 6.2], [0.05, 1.0]])


@dataclass(frozen=True)
class Morphology:
    """Sizes, shapes and colours of one component, spheroids or discs.

    Parameters
    ----------
    mean, slope : float array, shape (3,)
        Mean of (ln half-light radius in arcsec, ln n, logit of the axis ratio) at ``PIVOT_MAG``, and its change per
        magnitude.
    covariance : float array, shape (3, 3)
        Covariance of the three about the mean.
    colour_mean, colour_slope, colour_std : float
        Mean of the spectra's colour at ``PIVOT_MAG``, its change per magnitude, and its scatter.
    """

    mean: FloatArray
    slope: FloatArray
    covariance: FloatArray
    colour_mean: float
    colour_slope: float
    colour_std: float

    def share_within_limits(self, above: FloatArray) -> FloatArray:
        """Return the share of shapes that are not drawn again, at magnitudes above ``PIVOT_MAG``, shape (n,)."""
        low, high = np.log(SHAPE_LIMITS).T
        # The axis ratio's logit has no upper limit; 50 is as good.
        low[2], high[2] = low[2] - np.log1p(-SHAPE_LIMITS[2, 0]), 50.0
        means = self.mean + self.slope * above[:, None]
        return np.array(
            [multivariate_normal(mean, self.covariance, seed=1).cdf(high, lower_limit=low) for mean in means]
        )
