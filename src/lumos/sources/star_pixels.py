"""Pixels of stars, and fits of their fluxes, centres and backgrounds with a given PSF."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lumos.conventions import FloatArray
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import PixelPsf, Psf
from lumos.rows import Rowwise
from lumos.sources.fitting import ModelFit, Parameters, fit_models

__all__ = ["StarPixels", "fit_at_stars"]

#: A star's centre may move this far from where it was detected, pixels.
_MOST_SHIFT = 2.0


@dataclass(frozen=True)
class StarPixels(Rowwise):
    """Pixels of n stars, the smooth background taken off.

    Parameters
    ----------
    data, ivar : float array, shape (n, size, size)
        Pixels and their inverse variance, 0 where a pixel is not used.
    x, y : float array, shape (n,)
        Centres within the stamps, 0-based pixels.
    image_x, image_y : float array, shape (n,)
        The same on the CCD.
    """

    data: FloatArray
    ivar: FloatArray
    x: FloatArray
    y: FloatArray
    image_x: FloatArray
    image_y: FloatArray


def fit_at_stars(stars: StarPixels, psf: Psf, n_iterations: int = 6) -> ModelFit:
    """Fit flux, centre and background of every star with a given PSF.

    Parameters
    ----------
    stars : StarPixels
        n stars.
    psf : MoffatPsf or PixelPsf
        PSF at each of them, or one for all.
    n_iterations : int, optional
        Steps of every fit.

    Returns
    -------
    ModelFit
        The parameters are the shifts of the centre along x and y, pixels.
    """
    size = stars.data.shape[1]

    def model(point: Tensor, which: Tensor) -> Tensor:
        rows = which.numpy()
        moved = point.numpy()
        here = PixelPsf(psf.images[rows], psf.sampling) if isinstance(psf, PixelPsf) and len(psf.images) > 1 else psf
        return render(Shapes.points(stars.x[rows] + moved[:, 0], stars.y[rows] + moved[:, 1]), here, size=size)

    n = len(stars)
    zero, limit = torch.zeros((n, 2), dtype=torch.float64), torch.full((2,), _MOST_SHIFT, dtype=torch.float64)
    parameters = Parameters(
        start=zero,
        steps=torch.full((2,), 0.02, dtype=torch.float64),
        lower=-limit,
        upper=limit,
        prior_std=torch.full((n, 2), torch.inf, dtype=torch.float64),
    )
    return fit_models(torch.from_numpy(stars.data), torch.from_numpy(stars.ivar), model, parameters, n_iterations)
