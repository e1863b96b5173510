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
    "DEFAULT_MOFFAT_BETA",
    "FWHM_PER_SIGMA",
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
#: FWHM of a Gaussian in units of its sigma.
FWHM_PER_SIGMA = 2.3548200450309493
