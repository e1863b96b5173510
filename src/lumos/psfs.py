"""What a point-spread function is at given positions: the two forms that the renderer accepts.

Readers of PSF files (:mod:`lumos.images.psf.models`) evaluate to one of these; the renderer
(:mod:`lumos.profiles.sersic`) draws with them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import least_squares

from lumos.conventions import MOFFAT_BETA_MIN, AnyArray, FloatArray
from lumos.errors import LumosShapeError, LumosValueError

__all__ = ["PSF_HALF_LIGHT", "MoffatPsf", "PixelPsf", "Psf", "moffat_before_pixel", "moffat_on_pixels"]

#: Half-light radius of a Moffat profile of beta 4.765 in units of its FWHM; good enough to shape apertures.
PSF_HALF_LIGHT = 0.57
#: Narrowest Moffat before the pixel, in pixels, whose FWHM can be told from that of the pixel alone.
_NARROWEST = 0.8
#: Points along each side of the pixel, directions in the eighth of a turn that is like all others, radii, and how far
#: these reach, in FWHM.
_SIDE_POINTS, _DIRECTIONS, _RADII, _EXTENT = 16, 3, 40, 4.0
#: Beyond this exponent a Moffat is a Gaussian.
_HIGHEST_BETA = 100.0
#: A Moffat before the pixel is found to this many pixels, after so many steps at most.
_EXACT, _MOST_STEPS = 1e-6, 60


@dataclass(frozen=True)
class MoffatPsf:
    """Circular Moffat PSFs, before the response of the pixel.

    Parameters
    ----------
    fwhm : float array, shape (n,) or (1,)
        Full width at half maximum, in pixels; NaN where the PSF is unknown.
    beta : float array, shape (n,) or (1,)
        Moffat exponent, at least ``MOFFAT_BETA_MIN``.
    """

    fwhm: FloatArray
    beta: FloatArray

    def __post_init__(self) -> None:
        if self.fwhm.ndim != 1 or self.fwhm.shape != self.beta.shape:
            raise LumosShapeError("Moffat fwhm and beta", (self.fwhm.shape, self.beta.shape), "two equal 1-D shapes")
        if np.any(self.fwhm <= 0):
            raise LumosValueError("PSF FWHM in pixels", float(np.nanmin(self.fwhm)), "> 0")
        if np.any(self.beta < MOFFAT_BETA_MIN):
            raise LumosValueError("Moffat beta", float(np.nanmin(self.beta)), f">= {MOFFAT_BETA_MIN}")


@dataclass(frozen=True)
class PixelPsf:
    """PSFs given as images.

    Parameters
    ----------
    images : float array, shape (m, height, width)
        Odd height and width, the PSF centred on the middle sample, each image summing to 1;
        NaN where the PSF is unknown. ``m`` is the number of objects, or 1 for a PSF shared by all.
    sampling : float
        Size of one sample in image pixels (1 for a stamp on the image's own grid).
    includes_pixel : bool
        True where the images already hold the response of the image pixel, as measured
        (effective) PSFs do: PSFEx models and stamps of stars.
    """

    images: AnyArray
    sampling: float = 1.0
    includes_pixel: bool = True

    def __post_init__(self) -> None:
        if self.images.ndim != 3 or self.images.shape[1] % 2 == 0 or self.images.shape[2] % 2 == 0:
            raise LumosShapeError("PSF images", self.images.shape, "(m, odd height, odd width)")
        if not self.sampling > 0:
            raise LumosValueError("PSF sampling", self.sampling, "> 0")


Psf = MoffatPsf | PixelPsf


@lru_cache(maxsize=4096)
def moffat_on_pixels(fwhm: float, beta: float) -> tuple[float, float]:
    """Return the Moffat that fits stars on pixels best, as seeing programs fit it to the values of the pixels.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum before the response of the pixel, in pixels.
    beta : float
        Moffat exponent before the response of the pixel.

    Returns
    -------
    fwhm, beta : float
        Of the Moffat with the least squared distance from the convolution with a square pixel, the mean over
        directions.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_RADII)
    radius = 0.5 * (nodes + 1) * _EXTENT * (fwhm + 1)
    root = np.sqrt(weights * radius)
    light = _brightness_on_pixels(radius, fwhm, beta) * root

    def rest(point: FloatArray) -> FloatArray:
        model = _moffat(radius**2, *np.exp(point)) * root
        return np.asarray(light - model * (light @ model) / (model @ model))

    start = np.log([np.hypot(fwhm, 0.7), min(beta, _HIGHEST_BETA)])
    found = least_squares(rest, start, bounds=([-np.inf, 0.0], [np.inf, np.log(_HIGHEST_BETA)]), xtol=1e-10, ftol=1e-14)
    return float(np.exp(found.x[0])), float(np.exp(found.x[1]))


@lru_cache(maxsize=4096)
def moffat_before_pixel(fwhm: float, beta: float, *, beta_on_pixels: bool = False) -> tuple[float, float]:
    """Return the Moffat PSF before the response of the pixel that is seen as a given one on pixels.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum of the Moffat that fits stars on pixels, in pixels.
    beta : float
        Moffat exponent before the response of the pixel.
    beta_on_pixels : bool
        True where the exponent is that of the fit to stars on pixels too.

    Returns
    -------
    fwhm, beta : float
        In pixels; :func:`moffat_on_pixels` leads back.

    Raises
    ------
    LumosValueError
        If the FWHM is too small to hold the pixel.
    """
    before, exponent = fwhm, beta
    for _ in range(_MOST_STEPS):
        seen, seen_beta = moffat_on_pixels(before, exponent)
        step = before * (fwhm / seen) ** 2 if before < 1 else before + fwhm - seen
        beta_step = float(np.clip(exponent * beta / seen_beta, MOFFAT_BETA_MIN, _HIGHEST_BETA))
        if not step >= _NARROWEST:
            least = moffat_on_pixels(_NARROWEST, exponent)[0]
            raise LumosValueError("PSF FWHM in pixels, the pixel included", fwhm, f">= {least:.3g}")
        done = abs(step - before) < _EXACT and (not beta_on_pixels or abs(beta_step - exponent) < _EXACT)
        before, exponent = step, beta_step if beta_on_pixels else exponent
        if done:
            break
    return before, exponent


def _moffat(radius2: FloatArray, fwhm: float, beta: float) -> FloatArray:
    """Return a Moffat of peak 1 at squared radii."""
    return np.asarray((1 + radius2 * 4 * (2 ** (1 / beta) - 1) / fwhm**2) ** -beta)


def _brightness_on_pixels(radius: FloatArray, fwhm: float, beta: float) -> FloatArray:
    """Return a Moffat averaged over pixels whose centres lie at radii, the mean over directions; shape (n,)."""
    nodes, weights = np.polynomial.legendre.leggauss(_SIDE_POINTS)
    angle = (np.arange(_DIRECTIONS) + 0.5) * np.pi / 4 / _DIRECTIONS
    x, y = (radius[:, None] * wave(angle) for wave in (np.cos, np.sin))
    dx, dy = x[..., None, None] + nodes[:, None] / 2, y[..., None, None] + nodes / 2
    mean = weights @ _moffat(dx**2 + dy**2, fwhm, beta) @ weights / 4
    return np.asarray(mean.mean(axis=1))
