"""What PSF models share whose images are polynomials of the place on the CCD."""

import numpy as np
from scipy.ndimage import shift

from lumos.conventions import BoolArray, FloatArray
from lumos.psfs import PixelPsf

__all__ = ["centred", "near_ccd", "unit_psf"]

#: A polynomial is trusted this far beyond the CCD, pixels; further out it would give images, and wrong ones.
_MARGIN = 10.0
#: Steps in which a PSF is brought to the middle.
_CENTRING_STEPS = 6


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


def centred(terms: FloatArray, width: float) -> FloatArray:
    """Move a PSF that is a polynomial of the place so that its centroid is the middle sample.

    Parameters
    ----------
    terms : float array, shape (n_terms, height, width)
        Images, each multiplied with a term of the polynomial; the first is the mean PSF.
    width : float
        Standard deviation of the Gaussian that weights the centroid, samples.

    Returns
    -------
    float array, shape (n_terms, height, width)
        The mean PSF is moved by cubic splines; what the other terms move is taken off to first order.
    """
    y, x = (axis - (length - 1) / 2 for axis, length in zip(np.indices(terms.shape[1:]), terms.shape[1:], strict=True))
    weight = np.exp(-(x**2 + y**2) / (2 * width**2))
    for _ in range(_CENTRING_STEPS):
        total = (weight * terms[0]).sum()
        offset = [2 * float((weight * axis * terms[0]).sum() / total) for axis in (y, x)]
        terms = np.stack([shift(term, (-offset[0], -offset[1]), order=3) for term in terms])
    slope = np.gradient(terms[0])
    for number in range(1, len(terms)):
        for axis, rise in zip((y, x), slope, strict=True):
            # The weighted centroid moves by this much where the mean PSF moves by one sample.
            response = -float((weight * axis * rise).sum())
            terms[number] += rise * float((weight * axis * terms[number]).sum()) / response
    return np.asarray(terms)
