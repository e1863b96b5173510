"""Units, array aliases and constants that every layer shares.

Pixels are 0-based, the centre of the first pixel is (0, 0), arrays are indexed ``[y, x]`` and
positions are written ``(x, y)``. A mask is an integer image, 0 where the pixel is good. Fluxes are in
*image units* until a zero point turns them into nJy.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AB_ZEROPOINT_NJY",
    "AXIS_RATIO_RANGE",
    "DEFAULT_MAX_MASKED",
    "DEFAULT_MOFFAT_BETA",
    "MOFFAT_BETA_MIN",
    "SERSIC_N_RANGE",
    "ZEROPOINT_RANGE",
    "AnyArray",
    "BoolArray",
    "Float32Array",
    "FloatArray",
    "IntArray",
]

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]

#: AB magnitude of 1 nJy: m = 31.4 - 2.5 log10(f / nJy).
AB_ZEROPOINT_NJY = 31.4
#: Moffat beta of a Kolmogorov-like ground-based PSF, used where a survey states none.
DEFAULT_MOFFAT_BETA = 4.765
#: Largest share of an object's light that may be masked; it is corrected with the profile below this.
DEFAULT_MAX_MASKED = 0.25
#: Smallest Moffat beta that can be drawn; nearer to 1 the total flux lies in the far wings.
MOFFAT_BETA_MIN = 1.2
#: Sérsic indices and axis ratios that can be drawn; an object outside is flagged ``BAD_SHAPE``.
SERSIC_N_RANGE = (0.3, 6.2)
AXIS_RATIO_RANGE = (0.05, 1.0)
#: Zero points, AB magnitudes; one outside counts as unknown.
ZEROPOINT_RANGE = (-10.0, 50.0)
