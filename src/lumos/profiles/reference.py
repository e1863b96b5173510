"""The same images drawn by GalSim, one at a time: the reference of the tests and the benchmark."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lumos.errors import LumosError
from lumos.profiles.objects import check_objects, check_size
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf, Psf

try:
    import galsim
except ImportError:  # GalSim is an optional dependency
    galsim = None

__all__ = ["render_galsim"]


def render_galsim(
    shapes: Shapes,
    psf: Psf,
    *,
    size: int | tuple[int, int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw galaxies with GalSim; arguments and result are those of :func:`lumos.profiles.render`.

    Parameters
    ----------
    shapes : Shapes
        Shapes of n galaxies, in pixels.
    psf : MoffatPsf or PixelPsf
        PSFs of the n objects, or one for all, all known.
    size : int or tuple of two int
        Side of the stamps, or their height and width.
    device : torch.device or str, optional
        Where the result shall lie.
    dtype : torch.dtype
        Type of the result.

    Returns
    -------
    tensor, shape (n, height, width)
        Flux per pixel of galaxies of unit flux.

    Raises
    ------
    LumosError
        If GalSim is not installed.
    LumosValueError
        As :func:`lumos.profiles.render`.

    Notes
    -----
    GalSim's accuracy parameters are tightened until its own errors are of the order of 1e-5 of the peak;
    in exchange its grids grow to 2500 pixels a side for large galaxies of high index. PSF images are
    interpolated with a Lanczos kernel of order 20: GalSim's usual order 3 is itself wrong by 0.3 % of the peak.
    """
    if galsim is None:
        raise LumosError("GalSim is not installed; it comes with: pip install lumos-photometry[sim]")
    height, width = check_size(size)
    objects = check_objects(shapes, psf)
    params = galsim.GSParams(
        folding_threshold=2e-3, stepk_minimum_hlr=8, maxk_threshold=1e-4, kvalue_accuracy=1e-5, maximum_fft_size=16384
    )
    stamps = np.empty((len(objects), height, width))
    columns = (objects.radius, objects.sersic_n, objects.q, objects.theta, objects.x, objects.y)
    for i, (radius, index, q, angle, x0, y0) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        profile, method = _galsim_psf(psf, i, params)
        if radius > 0:
            galaxy = galsim.Sersic(index, half_light_radius=radius * np.sqrt(q), gsparams=params)
            galaxy = galaxy.shear(q=min(q, 1.0), beta=angle * galsim.radians)
            profile = galsim.Convolve([galaxy, profile], gsparams=params)
        image = galsim.ImageD(stamps[i], scale=1.0)
        # GalSim counts pixels from 1.
        profile.drawImage(image, center=galsim.PositionD(x0 + 1, y0 + 1), method=method)
    return torch.from_numpy(stamps).to(device, dtype)


def _galsim_psf(psf: Psf, i: int, params: Any) -> tuple[Any, str]:  # noqa: ANN401 (GalSim is untyped)
    """One PSF as a GalSim object, and the drawing method that applies the pixel once."""
    if isinstance(psf, MoffatPsf):
        fwhm, beta = (float(np.broadcast_to(value, (max(len(value), i + 1),))[i]) for value in (psf.fwhm, psf.beta))
        return galsim.Moffat(beta, fwhm=fwhm, gsparams=params), "auto"
    pixels = np.ascontiguousarray(psf.images[i if len(psf.images) > 1 else 0], dtype=np.float64)
    image = galsim.Image(pixels, scale=psf.sampling)
    model = galsim.InterpolatedImage(image, x_interpolant=galsim.Lanczos(20), gsparams=params)
    return model, "no_pixel" if psf.includes_pixel else "auto"
