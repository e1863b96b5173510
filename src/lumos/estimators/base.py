"""The one interface of the flux estimators: a batch of stamps in, fluxes out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lumos.errors import LumosShapeError
from lumos.rows import Rowwise

__all__ = ["Ellipses", "Estimator", "FluxResult", "StampBatch"]


@dataclass(frozen=True)
class Ellipses(Rowwise):
    """Shape of the PSF-convolved profile of each object: concentric similar ellipses.

    Parameters
    ----------
    semi_major, semi_minor : tensor, shape (n,)
        Half-light ellipse of the convolved profile, in pixels (approximate: it sets the shape only).
    theta : tensor, shape (n,)
        Angle of the major axis from +x towards +y, in radians.
    """

    semi_major: Tensor
    semi_minor: Tensor
    theta: Tensor


@dataclass(frozen=True)
class StampBatch(Rowwise):
    """Everything that an estimator may use, for n objects of one exposure (or of many).

    Fluxes are in image units throughout; no pixel of ``data`` or ``sky_variance`` is NaN or infinite
    (unusable pixels have ``good`` False and any finite value).

    Parameters
    ----------
    data : tensor, shape (n, height, width), float32
        Pixels, background included.
    good : tensor, shape (n, height, width), bool
        True where a pixel is usable.
    sky_variance : tensor, shape (n, height, width) or (n, 1, 1), float32
        Variance of a pixel without the object's own photons, in image units squared, greater than 0.
    gain : tensor, shape (n,), float32
        Electrons per image unit for the object's own Poisson noise; ``inf`` where that noise is
        unknown or already inside ``variance``.
    profile : tensor, shape (n, height, width), float32
        PSF-convolved, pixel-integrated model of the object with unit total flux over the whole plane.
    x, y : tensor, shape (n,), float32
        Position of the object in the stamp, 0-based pixel centres.
    ellipses : Ellipses
        Shape of the convolved profile.
    background, background_err : tensor, shape (n,), float32
        Level per pixel in an annulus around the object and its error; NaN where it could not be measured.
    own_light : tensor, shape (n,), float32
        Share of the object's light per annulus pixel, so that ``background`` holds
        ``flux * own_light`` of the object itself.
    variance : tensor of the shape of ``sky_variance`` or None
        Full variance, sources included, where the exposure ships one that holds them; errors use it.
    """

    data: Tensor
    good: Tensor
    sky_variance: Tensor
    gain: Tensor
    profile: Tensor
    x: Tensor
    y: Tensor
    ellipses: Ellipses
    background: Tensor
    background_err: Tensor
    own_light: Tensor
    variance: Tensor | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.shape != self.profile.shape or self.data.shape != self.good.shape:
            shapes = (tuple(self.data.shape), tuple(self.good.shape), tuple(self.profile.shape))
            raise LumosShapeError("stamps, masks and profiles", shapes, "three equal shapes (n, height, width)")


@dataclass(frozen=True)
class FluxResult:
    """What an estimator returns, one entry per object.

    Parameters
    ----------
    flux, flux_err : tensor, shape (n,)
        Total flux and its 1-sigma error in image units, for pixel noise without correlation; NaN where
        it could not be measured.
    noise_area : tensor, shape (n,)
        Noise-equivalent area of the weights, (sum w)^2 / sum w^2 in pixels: at which scale the
        correlation of the noise acts on the error.
    flags : tensor, shape (n,), int32
        Bits of :class:`lumos.flags.Flag`.
    sky_share : tensor, shape (n,)
        Share of ``flux_err``^2 that comes from the sky (and is multiplied by the correlation factor
        squared), the rest being the object's own photons.
    """

    flux: Tensor
    flux_err: Tensor
    noise_area: Tensor
    flags: Tensor
    sky_share: Tensor


#: An estimator: a function of a batch, with options by keyword. Registered by name in ``ESTIMATORS``.
Estimator = Callable[..., FluxResult]


def nan_like(reference: Tensor) -> Tensor:
    """Return a tensor of NaN with the shape and type of ``reference``.

    Parameters
    ----------
    reference : tensor
        Any floating-point tensor.

    Returns
    -------
    tensor
        Filled with NaN.
    """
    return torch.full_like(reference, torch.nan)
