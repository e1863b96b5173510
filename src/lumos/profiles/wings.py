r"""Surface brightness of the convolved profiles far from their centres.

Far out, the convolution of two heavy-tailed profiles is the sum of the two: light gets there either in the
galaxy or in the PSF. With this the renderer takes away what its periodic grid folds back into a stamp, and
draws what is too far from its stamp for a grid.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from lumos.profiles.objects import Objects

__all__ = ["folded_light", "light_beyond", "wing_brightness"]

# Nodes per axis of the polynomial through the folded light, which is smooth over a stamp.
_N_NODES = 6
# Directions, over half a turn, in which the light outside a square is summed.
_N_ANGLES = 16
# Radius in pixels that stands for 0: all the light of a point source lies at the centre.
_POINT = 1e-3


def wing_brightness(objects: Objects, dx: Tensor, dy: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the surface brightness far from the centres: galaxy plus PSF, not convolved.

    Parameters
    ----------
    objects : Objects
        n galaxies of unit flux.
    dx, dy : tensor, shape (n, ...)
        Offsets from the centres, in pixels; they broadcast against each other.
    dtype : torch.dtype
        Type to compute in.

    Returns
    -------
    tensor, shape (n, ...)
        Flux per pixel.
    """
    shape = (len(objects), *[1] * (dx.ndim - 1))

    def column(value: Tensor) -> Tensor:
        return value.to(dtype).view(shape)

    along_x, along_y = column(objects.theta.cos()), column(objects.theta.sin())
    dx, dy = dx.to(dtype), dy.to(dtype)
    major = dx * along_x + dy * along_y
    minor = (dy * along_x - dx * along_y) / column(objects.q)
    radius = objects.radius.clamp(min=_POINT)
    n, b = objects.sersic_n, objects.b
    log_norm = 2 * n * b.log() - torch.lgamma(2 * n) - (2 * math.pi * n * radius**2 * objects.q).log()
    scaled = ((major**2 + minor**2).sqrt_() / column(radius)).pow_(column(1 / n))
    galaxy = (column(log_norm) - column(b) * scaled).exp_()
    alpha, beta = objects.alpha.clamp(min=_POINT), objects.beta
    distance = (dx**2 + dy**2) / column(alpha**2)
    psf = column((beta - 1) / (math.pi * alpha**2)) * (1 + distance).pow_(-column(beta))
    return galaxy + psf


def light_beyond(objects: Objects, distance: Tensor) -> Tensor:
    """Return the share of the light further from the centre than a distance, at most.

    Parameters
    ----------
    objects : Objects
        Shapes and positions of n galaxies.
    distance : float64 tensor, shape (n, ...)
        Distance in pixels, along the major axis.

    Returns
    -------
    tensor, shape (n, ...)
        Share in the galaxy's wings plus share in the PSF's wings.
    """
    shape = (len(objects), *[1] * (distance.ndim - 1))
    columns = (objects.sersic_n, objects.b, objects.beta, objects.radius, objects.alpha)
    n, b, beta, radius, alpha = (value.view(shape) for value in columns)
    radius, alpha = radius.clamp(min=_POINT), alpha.clamp(min=_POINT)
    galaxy: Tensor = torch.special.gammaincc(2 * n.expand_as(distance), b * (distance / radius) ** (1 / n))
    return galaxy + (1 + (distance / alpha) ** 2) ** (1 - beta)


@functools.cache
def _interpolation(length: int) -> tuple[Tensor, Tensor]:
    """Chebyshev nodes on a row of pixels, and the matrix from values there to values at the pixels."""
    cosines = np.cos(np.pi * (np.arange(_N_NODES) + 0.5) / _N_NODES)
    pixels = (2 * np.arange(length) - (length - 1)) / length
    matrix = np.polynomial.chebyshev.chebvander(pixels, _N_NODES - 1) @ np.linalg.inv(
        np.polynomial.chebyshev.chebvander(cosines, _N_NODES - 1)
    )
    return torch.from_numpy(cosines * length / 2 + (length - 1) / 2), torch.from_numpy(matrix)


def folded_light(objects: Objects, size: tuple[int, int], period: float, dtype: torch.dtype) -> Tensor:
    """Return the light that a periodic grid folds back into the stamps.

    The eight nearest copies of the galaxy are summed one by one, those further out as a constant.

    Parameters
    ----------
    objects : Objects
        n galaxies of unit flux.
    size : tuple of two int
        Height and width of the stamps.
    period : float
        Distance of the copies along both axes, in pixels.
    dtype : torch.dtype
        Type of the result.

    Returns
    -------
    tensor, shape (n, height, width)
        Flux per pixel.
    """
    device = objects.x.device
    (y_nodes, y_matrix), (x_nodes, x_matrix) = (_interpolation(length) for length in size)
    shift = period * torch.tensor([m for m in np.ndindex(3, 3) if m != (1, 1)], dtype=torch.float64) - period
    shift = shift.to(device)[None, :, :, None, None]
    dx = x_nodes.to(device) - objects.x[:, None, None, None] - shift[:, :, 0]
    dy = y_nodes.to(device)[:, None] - objects.y[:, None, None, None] - shift[:, :, 1]
    near = wing_brightness(objects, dx, dy, dtype).sum(1)
    folded = y_matrix.to(device, dtype) @ near @ x_matrix.to(device, dtype).T
    return folded.add_(_light_outside(objects, 1.5 * period)[:, None, None].to(dtype) / period**2)


def _light_outside(objects: Objects, half_width: float) -> Tensor:
    """Share of the light outside a square around the centre, summed over directions of equal light."""
    angle = (torch.arange(_N_ANGLES, dtype=torch.float64, device=objects.x.device) + 0.5) * math.pi / _N_ANGLES
    major, minor = angle.cos(), objects.q[:, None] * angle.sin()
    along_x, along_y = objects.theta.cos()[:, None], objects.theta.sin()[:, None]
    reach = torch.maximum((major * along_x - minor * along_y).abs(), (major * along_y + minor * along_x).abs())
    n = objects.sersic_n[:, None].expand_as(reach)
    scaled = (half_width / (reach * objects.radius.clamp(min=_POINT)[:, None])) ** (1 / n)
    galaxy: Tensor = torch.special.gammaincc(2 * n, objects.b[:, None] * scaled).mean(1)
    # A circle of the square's area; the PSF's light out there is tiny.
    radius = half_width * 2 / math.sqrt(math.pi)
    return galaxy + (1 + (radius / objects.alpha.clamp(min=_POINT)) ** 2) ** (1 - objects.beta)
