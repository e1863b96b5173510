"""Widths of PSF images."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import spline_filter1d
from scipy.sparse import csr_matrix

from lumos.conventions import BoolArray, FloatArray
from lumos.psfs import PixelPsf

__all__ = ["image_fwhm"]

#: Steps of the radial profile, in samples, and points on each ring.
_RING_STEP, _RING_POINTS = 0.1, 32


def image_fwhm(psf: PixelPsf) -> FloatArray:
    """Measure the full width at half maximum of PSF images.

    Twice the radius at which the azimuthal mean around the middle sample, of the image interpolated with
    cubic splines, falls to half its central value.

    Parameters
    ----------
    psf : PixelPsf
        PSF images, m of them.

    Returns
    -------
    float array, shape (m,)
        In image pixels; NaN where the image is NaN or never falls to half.
    """
    height, width = psf.images.shape[1:]
    finite: BoolArray = np.asarray(np.isfinite(psf.images).all(axis=(1, 2)), dtype=np.bool_)
    images = np.where(finite[:, None, None], psf.images, 0.0).astype(np.float64)
    coefficients = spline_filter1d(spline_filter1d(images, axis=1), axis=2).reshape(len(images), height * width)
    profile = np.asarray((_ring_means(height, width) @ coefficients.T).T)
    half = profile[:, :1] / 2.0
    below = profile < half
    index = np.argmax(below, axis=1)
    rows = np.arange(len(profile))
    before, after = profile[rows, index - 1], profile[rows, index]
    with np.errstate(invalid="ignore", divide="ignore"):
        radius = index - 1 + (before - half[:, 0]) / (before - after)
    valid = finite & below.any(axis=1) & (half[:, 0] > 0)
    return np.where(valid, 2.0 * _RING_STEP * radius * psf.sampling, np.nan)


@lru_cache(maxsize=8)
def _ring_means(height: int, width: int) -> csr_matrix:
    """Return the operator from spline coefficients to means on rings around the middle sample.

    One matrix for all images makes the measurement a product, however many objects there are.
    """
    # Two samples of margin keep the four taps of a cubic spline inside the image.
    largest = (min(height, width) - 1) / 2 - 2
    radii = np.arange(0.0, max(largest, 0.0) + 1e-9, _RING_STEP)
    angles = 2 * np.pi * np.arange(_RING_POINTS) / _RING_POINTS
    x = (width - 1) / 2 + radii[:, None] * np.cos(angles)
    y = (height - 1) / 2 + radii[:, None] * np.sin(angles)
    ring = np.broadcast_to(np.arange(len(radii))[:, None], x.shape)
    taps = np.arange(-1, 3)
    column = np.floor(x).astype(np.int64)[..., None] + taps
    row = np.floor(y).astype(np.int64)[..., None] + taps
    weight = _cubic_b_spline(row - y[..., None])[..., :, None] * _cubic_b_spline(column - x[..., None])[..., None, :]
    # At the outermost radius a tap of weight 0 may fall outside.
    pixel = np.clip(row, 0, height - 1)[..., :, None] * width + np.clip(column, 0, width - 1)[..., None, :]
    ring = np.broadcast_to(ring[..., None, None], weight.shape)
    entries = (weight.ravel() / _RING_POINTS, (ring.ravel(), pixel.ravel()))
    return csr_matrix(entries, shape=(len(radii), height * width))


def _cubic_b_spline(t: FloatArray) -> FloatArray:
    """Return the cubic B-spline, which is 0 for abs(t) >= 2."""
    t = np.abs(t)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
