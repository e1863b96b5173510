"""What goes wrong on frames: pixels that are struck, and stamps with a fault for the out-of-training score."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray, IntArray
from lumos.estimators import StampBatch
from lumos.photometry.ccd import Ccd
from lumos.profiles.sersic import render
from lumos.psfs import MoffatPsf
from lumos.simulate.pixels import add_cosmic_rays, add_defects, saturate
from lumos.teahupoo.faults import spoil_batch

__all__ = ["spoil_pixels", "spoil_stamps"]

#: Electrons of a full pixel, cosmic rays per million pixels, hot pixels, dead columns.
_SATURATION, _RAYS, _HOT, _DEAD = (4e4, 2e5), 30.0, 40.0, 0.2
#: PSFs of wrong width are drawn in such steps, of the natural logarithm.
_WIDTH_STEP = 0.1


def spoil_pixels(image: FloatArray, rng: np.random.Generator) -> IntArray:
    """Add what strikes pixels, in place.

    Parameters
    ----------
    image : float array, shape (ny, nx)
        Electrons; changed.
    rng : numpy.random.Generator
        The same state does the same.

    Returns
    -------
    int array, shape (ny, nx)
        Mask of what a reduction finds of it.
    """
    mask = np.zeros(image.shape, dtype=np.uint8)
    add_cosmic_rays(image, mask, _RAYS * image.size / 1e6, 0.3 * rng.uniform(), rng)
    add_defects(image, mask, _HOT, _DEAD, rng)
    saturate(image, mask, float(np.exp(rng.uniform(*np.log(_SATURATION)))), 300)
    return mask.astype(np.int64)


def spoil_stamps(
    ccd: Ccd, rows: IntArray, batch: StampBatch, fault: str, flux: FloatArray, rng: np.random.Generator
) -> StampBatch:
    """Give stamps of a CCD a fault.

    Parameters
    ----------
    ccd : Ccd
        Where they come from.
    rows : int array, shape (n,)
        Which of its objects they are.
    batch : StampBatch
        The stamps.
    fault : str
        One of :data:`lumos.teahupoo.faults.FAULTS`.
    flux : float array, shape (n,)
        True fluxes.
    rng : numpy.random.Generator
        Draws strengths.

    Returns
    -------
    StampBatch
        With the fault.
    """
    objects = ccd.objects.take(rows)

    def redraw(radius: FloatArray, width: FloatArray) -> Tensor:
        assert ccd.exposure.psf is not None
        shapes = replace(
            objects.at(batch.x.double().numpy(), batch.y.double().numpy()),
            half_light_radius=objects.half_light_radius * radius,
        )
        stamps = torch.empty_like(batch.profile)
        # An image is one PSF for all: objects of like factors share one.
        steps = np.exp(np.round(np.log(width) / _WIDTH_STEP) * _WIDTH_STEP)
        for factor in np.unique(steps):
            some = np.flatnonzero(steps == factor)
            psf = ccd.exposure.psf.at(objects.x[some], objects.y[some])
            if isinstance(psf, MoffatPsf):
                psf = MoffatPsf(psf.fwhm * factor, psf.beta)
            else:
                psf = replace(psf, sampling=psf.sampling * factor)
            stamps[some] = render(shapes.take(some), psf, size=batch.profile.shape[1])
        return stamps

    return spoil_batch(batch, fault, flux, objects.psf_fwhm, redraw, rng)
