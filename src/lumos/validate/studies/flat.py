"""Exposures of studies: objects on a flat sky, of which everything is known."""

import numpy as np
from astropy.wcs import WCS

from lumos.conventions import AnyArray
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel

__all__ = ["flat_exposure"]


def flat_exposure(
    data: AnyArray, psf: MoffatModel, *, variance: float, pixel_scale: float, zeropoint: float
) -> Exposure:
    """Return an image as an exposure with a flat sky, north up and east to the left, one electron per unit.

    Parameters
    ----------
    data : array, shape (ny, nx)
        Pixels, electrons.
    psf : MoffatModel
        One for all places.
    variance : float
        Of the sky and the read noise, electrons squared.
    pixel_scale : float
        Arcsec per pixel.
    zeropoint : float
        AB magnitude of one electron.

    Returns
    -------
    Exposure
        Without masked pixels.
    """
    ny, nx = data.shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [nx / 2, ny / 2]
    wcs.wcs.cdelt = [-pixel_scale / 3600, pixel_scale / 3600]
    return Exposure(
        exposure_id="study",
        detector="",
        survey="",
        band="",
        state="",
        data=data.astype(np.float32),
        mask=np.zeros(data.shape, dtype=np.int32),
        wcs=wcs,
        pixel_scale=pixel_scale,
        psf=psf,
        variance=np.full(data.shape, variance, dtype=np.float32),
        gain=1.0,
        zeropoint=zeropoint,
    )
