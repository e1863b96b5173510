"""What is known of objects before their stamps are looked at: the joint fit of their scene, errors of their shapes."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lumos.rows import SHARED, Rowwise

__all__ = ["SceneFit", "ShapeErrors"]


@dataclass(frozen=True)
class ShapeErrors(Rowwise):
    """How well the shapes of n objects are known: 1-sigma errors, as far as they matter after the PSF.

    Parameters
    ----------
    size : tensor, shape (n,)
        Error of the half-light radius of the convolved profile, over that radius.
    index : tensor, shape (n,)
        Relative error of the Sérsic index, times the share of the profile in the convolved one's area.
    ratio : tensor, shape (n,)
        Error of the axis ratio times the same share.
    position : tensor, shape (n,)
        Error of the position along each axis, over the half-light radius of the convolved profile.
    """

    size: Tensor
    index: Tensor
    ratio: Tensor
    position: Tensor


@dataclass(frozen=True)
class SceneFit(Rowwise):
    """What the joint fit of a scene tells of n objects; errors are for pixels without correlation.

    Parameters
    ----------
    flux, flux_err : tensor, shape (n,)
        Joint flux and its error with all neighbours free; NaN where no usable pixel tells of it.
    alone_err : tensor, shape (n,)
        Error with the neighbours known.
    neighbour_light : tensor, shape (n,)
        Light of the neighbours that the optimal sum over the stamp would take in.
    others : tensor, shape (n, height, width)
        Light of the neighbours on the stamps: what has been subtracted, or would be.
    explained : tensor, shape (n, height, width), bool
        False on pixels that depart from the scene by far more than their noise.
    is_cleaned : bool
        Whether the stamps are without the neighbours.
    """

    flux: Tensor
    flux_err: Tensor
    alone_err: Tensor
    neighbour_light: Tensor
    others: Tensor
    explained: Tensor
    is_cleaned: bool = field(metadata=SHARED)

    @property
    def widening(self) -> Tensor:
        """Return what the subtraction of the neighbours adds to an error, in quadrature; shape (n,)."""
        if not self.is_cleaned:
            return torch.zeros_like(self.flux_err)
        return (self.flux_err.square() - self.alone_err.square()).clamp(min=0).nan_to_num().sqrt()
