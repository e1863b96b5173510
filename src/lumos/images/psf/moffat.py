"""Moffats that are round on the sky, on pixels of any shape."""

from pathlib import Path

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.images.psf.models import MoffatModel, PsfModel, moffat_stamp
from lumos.psfs import moffat_before_pixel

__all__ = ["pixel_side", "round_moffat"]

#: A Moffat wider than this, in pixels, is a mistake.
_WIDEST = 60.0
#: Sides of pixels may differ by this share before a PSF that is round on the sky is drawn as an ellipse.
_SQUARE = 0.03


def pixel_side(jacobian: FloatArray) -> float:
    """Return the root of the area of a pixel.

    Parameters
    ----------
    jacobian : float array, shape (2, 2)
        From pixels to the sky, arcsec per pixel.

    Returns
    -------
    float
        Arcsec.
    """
    return float(np.sqrt(np.abs(np.linalg.det(jacobian))))


def round_moffat(
    path: Path, fwhm: float, beta: float, jacobian: FloatArray, *, on_pixels: bool, beta_on_pixels: bool
) -> PsfModel:
    """Return a Moffat that is round on the sky; an image of it where pixels are far from square.

    Parameters
    ----------
    path : Path
        File of the image or of the PSF, for messages.
    fwhm : float
        In units of the root of a pixel's area.
    beta : float
        Exponent of the Moffat profile, above 1.
    jacobian : float array, shape (2, 2)
        From pixels to the sky, arcsec per pixel.
    on_pixels, beta_on_pixels : bool
        Whether FWHM and exponent are those of stars on pixels; their response is then taken out, as of square ones.

    Returns
    -------
    PsfModel
        Before the response of the pixel.

    Raises
    ------
    LumosDataError
        If there is no such Moffat.
    """
    if not fwhm <= _WIDEST:
        raise LumosDataError(f"{path}: PSF FWHM is {fwhm:.4g} px, allowed: at most {_WIDEST:g} px")
    try:
        if on_pixels:
            fwhm, beta = moffat_before_pixel(fwhm, beta, beta_on_pixels=beta_on_pixels)
        model = MoffatModel(fwhm, beta)
    except LumosValueError as error:
        raise LumosDataError(f"{path}: {error}") from error
    long, short = np.linalg.svd(jacobian, compute_uv=False)
    if long <= (1 + _SQUARE) * short:
        return model
    try:
        return moffat_stamp(model, jacobian / pixel_side(jacobian))
    except LumosDataError as error:
        raise LumosDataError(f"{path}: {error}") from error
