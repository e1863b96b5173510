"""What PSF models share whose images are polynomials of the place on the CCD."""

import numpy as np

from lumos.conventions import BoolArray, FloatArray
from lumos.psfs import PixelPsf

__all__ = ["near_ccd", "unit_psf"]

#: A polynomial is trusted this far beyond the CCD, pixels; further out it would give images, and wrong ones.
_MARGIN = 10.0


def near_ccd(x: FloatArray, y: FloatArray, shape: tuple[int, int]) -> BoolArray:
    """Tell which places are on a CCD or within 10 pixels of it.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Positions in 0-based pixels.
    shape : tuple of int
        Height and width of the CCD.

    Returns
    -------
    bool array, shape (n,)
        False also where a position is not finite.
    """
    with np.errstate(invalid="ignore"):
        inside = [
            np.abs(place - (length - 1) / 2) <= length / 2 + _MARGIN
            for place, length in zip((x, y), shape[::-1], strict=True)
        ]
    return np.asarray(inside[0] & inside[1])


def unit_psf(images: FloatArray, known: BoolArray, sampling: float) -> PixelPsf:
    """Normalise PSF images to the sum 1.

    Parameters
    ----------
    images : float array, shape (n, height, width)
        Any sums.
    known : bool array, shape (n,)
        Whether an image is to be trusted.
    sampling : float
        Size of a sample in image pixels.

    Returns
    -------
    PixelPsf
        The pixel's response included; NaN where an image is not to be trusted or its sum is not positive.
    """
    total = images.sum(axis=(1, 2))
    total[~known | (total <= 0)] = np.nan
    return PixelPsf((images / total[:, None, None]).astype(np.float32), sampling, includes_pixel=True)
