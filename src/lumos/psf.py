"""What a point-spread function is at given positions: the two forms that the renderer accepts.

Readers of PSF files (:mod:`lumos.images.psf`) evaluate to one of these; the renderer
(:mod:`lumos.profiles.sersic`) draws with them.
"""

from dataclasses import dataclass

import numpy as np

from lumos.conventions import MOFFAT_BETA_MIN, AnyArray, FloatArray
from lumos.errors import LumosShapeError, LumosValueError

__all__ = ["PSF_HALF_LIGHT", "MoffatPsf", "PixelPsf", "Psf"]

#: Half-light radius of a Moffat profile of beta 4.765 in units of its FWHM; good enough to shape apertures.
PSF_HALF_LIGHT = 0.57


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
