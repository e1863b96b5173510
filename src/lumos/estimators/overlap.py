r"""Exact overlap of ellipses and pixels.

A pixel's share inside an ellipse is found by the affine map that turns the ellipse into the unit disc.
The pixel becomes a parallelogram, and the area of the part of it inside the disc is the sum over its
edges of the signed area between the centre and the edge: a triangle where the edge is inside the disc, a
sector where it is outside. The map changes all areas by the same factor, so the share is unchanged.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EllipseFrame", "boundary_share", "elliptical_overlap"]


@dataclass(frozen=True)
class EllipseFrame:
    """Affine map that sends each ellipse to the unit circle around the origin.

    Parameters
    ----------
    x, y : tensor, shape (n,), float64
        Centres, 0-based pixels.
    px, py, qx, qy : tensor, shape (n,), float64
        Images of the unit steps along x and y: p = px dx + py dy, q = qx dx + qy dy.
    """

    x: Tensor
    y: Tensor
    px: Tensor
    py: Tensor
    qx: Tensor
    qy: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, semi_major: Tensor, semi_minor: Tensor, theta: Tensor) -> "EllipseFrame":
        """Build the frame of ellipses.

        Parameters
        ----------
        x, y, semi_major, semi_minor : tensor, shape (n,)
            Centres and semi-axes, pixels.
        theta : tensor, shape (n,)
            Angle of the major axis from +x towards +y, radians.

        Returns
        -------
        EllipseFrame
            In float64.
        """
        x, y, semi_major, semi_minor, theta = (t.double() for t in (x, y, semi_major, semi_minor, theta))
        cos, sin = torch.cos(theta), torch.sin(theta)
        return cls(x, y, cos / semi_major, sin / semi_major, -sin / semi_minor, cos / semi_minor)

    @property
    def reach(self) -> Tensor:
        """Return the largest distance of a mapped pixel's corner from its centre, shape (n,)."""
        plus = torch.hypot(self.px + self.py, self.qx + self.qy)
        minus = torch.hypot(self.px - self.py, self.qx - self.qy)
        return 0.5 * torch.maximum(plus, minus)

    def radius(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Return the elliptical radius of all pixel centres.

        Parameters
        ----------
        shape : tuple of int
            (height, width) of the stamp.
        dtype : torch.dtype
            Type of the result.

        Returns
        -------
        tensor, shape (n, height, width)
            1 on the ellipse.
        """
        height, width = shape
        dx = torch.arange(width, device=self.x.device) - self.x[:, None]
        dy = torch.arange(height, device=self.x.device) - self.y[:, None]
        along_x = ((self.px**2 + self.qx**2)[:, None] * dx**2).to(dtype)[:, None, :]
        along_y = ((self.py**2 + self.qy**2)[:, None] * dy**2).to(dtype)[:, :, None]
        mixed = (2 * (self.px * self.py + self.qx * self.qy)[:, None] * dx).to(dtype)[:, None, :]
        squares = torch.addcmul(along_x, mixed, dy.to(dtype)[:, :, None])
        return squares.add_(along_y).clamp_(min=0).sqrt_()


def boundary_share(frame: EllipseFrame, scale: Tensor, rows: Tensor, pixels: Tensor, width: int) -> Tensor:
    """Compute the exact share of single pixels inside ellipses.

    Parameters
    ----------
    frame : EllipseFrame
        Frames of n ellipses.
    scale : tensor, shape (n,), float64
        The ellipses are the circles of radius ``scale`` in the frame.
    rows : tensor, shape (m,), int64
        Ellipse of each pixel.
    pixels : tensor, shape (m,), int64
        Flat index ``y * width + x`` of each pixel in its stamp.
    width : int
        Width of the stamps.

    Returns
    -------
    tensor, shape (m,), float64
        Share of each pixel's area, 0 to 1.
    """
    inverse = 1 / scale
    px, py, qx, qy = ((t * inverse)[rows] for t in (frame.px, frame.py, frame.qx, frame.qy))
    dx = pixels % width - frame.x[rows]
    dy = torch.div(pixels, width, rounding_mode="floor") - frame.y[rows]
    corners = [
        (px * (dx + i) + py * (dy + j), qx * (dx + i) + qy * (dy + j))
        for i, j in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
    ]
    area = sum(
        (_area_to_edge(*corners[k], *corners[(k + 1) % 4]) for k in range(4)),
        start=torch.zeros_like(dx),
    )
    return (area / (px * qy - py * qx)).clamp(0, 1)


def _area_to_edge(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    """Return the signed area of the unit disc inside the triangle (origin, point 1, point 2)."""
    dx, dy = x2 - x1, y2 - y1
    length2 = dx * dx + dy * dy
    towards = -(x1 * dx + y1 * dy)
    # The discriminant b^2 - a c, written so that large coordinates do not cancel.
    root = (length2 - (x1 * dy - y1 * dx) ** 2).clamp(min=0).sqrt()
    enter = ((towards - root) / length2).clamp(0, 1)
    leave = ((towards + root) / length2).clamp(0, 1)
    xa, ya = x1 + enter * dx, y1 + enter * dy
    xb, yb = x1 + leave * dx, y1 + leave * dy
    # Outside the disc the area is a sector. Where the edge misses the disc, enter equals leave and the
    # two sectors together are the angle under which the whole edge is seen.
    sectors = torch.atan2(x1 * ya - y1 * xa, x1 * xa + y1 * ya) + torch.atan2(xb * y2 - yb * x2, xb * x2 + yb * y2)
    return 0.5 * (sectors + xa * yb - ya * xb)


def elliptical_overlap(
    x: Tensor,
    y: Tensor,
    semi_major: Tensor,
    semi_minor: Tensor,
    theta: Tensor,
    shape: tuple[int, int],
) -> Tensor:
    """Compute the exact share of each pixel of a stamp that lies inside an ellipse.

    Parameters
    ----------
    x, y : tensor, shape (n,)
        Centres of the ellipses, 0-based pixels; they may lie outside the stamp.
    semi_major, semi_minor : tensor, shape (n,)
        Semi-axes in pixels, greater than 0.
    theta : tensor, shape (n,)
        Angle of the major axis from +x towards +y, radians.
    shape : tuple of int
        (height, width) of the stamps.

    Returns
    -------
    tensor, shape (n, height, width), float64
        Overlap area of each pixel in pixels, 0 to 1; it sums to the area of an ellipse inside the stamp.
    """
    frame = EllipseFrame.of(x, y, semi_major, semi_minor, theta)
    radius = frame.radius(shape, torch.float64)
    reach = frame.reach[:, None, None]
    share = (radius < 1).double()
    rows, pixels = torch.nonzero(((radius - 1).abs() <= reach).flatten(1), as_tuple=True)
    share.flatten(1)[rows, pixels] = boundary_share(frame, torch.ones_like(frame.x), rows, pixels, shape[1])
    return share
