"""What is to be drawn, checked at the door: one float64 value per object and quantity."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, AnyArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.profiles.shapes import Shapes
from lumos.profiles.transforms import moffat_alpha, sersic_b
from lumos.psfs import MoffatPsf, Psf
from lumos.rows import Rowwise

__all__ = ["Objects", "check_objects", "check_size"]

# Float32 catalogues hold 0.05 and 6.2 a little to the wrong side.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Objects(Rowwise):
    """Shapes and positions of n galaxies, float64 tensors of shape (n,).

    Parameters
    ----------
    radius : tensor
        Half-light radius along the major axis, in pixels; 0 for a point source.
    sersic_n : tensor
        Sérsic index; 1 for a point source.
    b : tensor
        Exact b of the index.
    q : tensor
        Axis ratio, minor over major, above 0 and at most 1.
    theta : tensor
        Angle of the major axis from +x towards +y, in radians.
    x, y : tensor
        Centre in the stamp, 0-based pixel centres.
    fwhm, alpha, beta : tensor
        Moffat PSF: FWHM and scale radius in pixels, exponent; 0, 0 and 2 where the PSF is an image, which
        has no wings.
    """

    radius: Tensor
    sersic_n: Tensor
    b: Tensor
    q: Tensor
    theta: Tensor
    x: Tensor
    y: Tensor
    fwhm: Tensor
    alpha: Tensor
    beta: Tensor


def check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return the size of the stamps as (height, width).

    Parameters
    ----------
    size : int or tuple of two int
        Side of square stamps, or height and width.

    Returns
    -------
    tuple of two int
        Height and width.

    Raises
    ------
    LumosValueError
        If a side is smaller than 1 pixel.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise LumosValueError("stamp size", size, "at least 1 pixel on each side")
    return height, width


def check_objects(shapes: Shapes, psf: Psf) -> Objects:
    """Check the arguments of the renderer and bring them to one form.

    Parameters
    ----------
    shapes : Shapes
        Shapes of n galaxies, in pixels.
    psf : MoffatPsf or PixelPsf
        PSFs of n objects, or one for all.

    Returns
    -------
    Objects
        On the CPU.

    Raises
    ------
    LumosShapeError
        If the number of PSFs is neither 1 nor n.
    LumosValueError
        If a value is not finite or out of range.
    """
    radius = _column("half-light radius in pixels", shapes.half_light_radius, 0.0, np.inf)
    index = np.where(radius > 0, np.asarray(shapes.sersic_n, dtype=np.float64), 1.0)
    _check_range("Sérsic index", index, *SERSIC_N_RANGE)
    # Galaxies at the ends of the range stay inside the table's grid, which is wider.
    values = {
        "radius": radius,
        "sersic_n": index,
        "b": sersic_b(index),
        "q": _column("axis ratio", shapes.axis_ratio, *AXIS_RATIO_RANGE),
        "theta": _column("angle of the major axis", shapes.theta, -np.inf, np.inf),
        "x": _column("x of the centre", shapes.x, -np.inf, np.inf),
        "y": _column("y of the centre", shapes.y, -np.inf, np.inf),
    }
    _check_psf(psf, len(radius))
    fwhm, beta = (psf.fwhm, psf.beta) if isinstance(psf, MoffatPsf) else (0.0, 2.0)
    values["fwhm"] = np.zeros(len(radius)) + fwhm
    values["beta"] = np.zeros(len(radius)) + beta
    values["alpha"] = values["fwhm"] * moffat_alpha(values["beta"])
    return Objects(**{name: torch.from_numpy(value) for name, value in values.items()})


def _check_psf(psf: Psf, n_objects: int) -> None:
    n_psf = len(psf.fwhm) if isinstance(psf, MoffatPsf) else len(psf.images)
    if n_psf not in (1, n_objects):
        raise LumosShapeError("number of PSFs", n_psf, f"1 or the number of objects, {n_objects}")


def _column(what: str, values: AnyArray, low: float, high: float) -> AnyArray:
    array = np.array(values, dtype=np.float64)
    _check_range(what, array, low, high)
    return array


def _check_range(what: str, array: AnyArray, low: float, high: float) -> None:
    bad = ~np.isfinite(array) | (array < low - _ROUNDING) | (array > high + _ROUNDING)
    if bad.any():
        allowed = f"finite, {low} to {high}" if np.isfinite([low, high]).any() else "finite"
        raise LumosValueError(what, float(array[bad][0]), allowed)
