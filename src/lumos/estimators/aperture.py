r"""Forced aperture photometry: the light inside an ellipse, divided by the share that it holds.

.. math:: \hat F = \frac{\sum_i o_i (d_i - b)}{\sum_i o_i (m_i - \ell)},

with :math:`o_i` the exact overlap of pixel and ellipse, :math:`m_i` the convolved profile, :math:`b` the
level in the annulus, which holds the object's own light :math:`F \ell` per pixel (the paper's eq. 4, where
the denominator is the constant 0.625).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lumos.conventions import DEFAULT_MAX_MASKED
from lumos.estimators.base import BackgroundOptions, Estimator, Measurement, StampBatch
from lumos.estimators.light import finish, flag_where, masked_light_flags, propagate_error
from lumos.estimators.overlap import EllipseFrame, boundary_share
from lumos.flags import Flag

__all__ = ["APERTURE", "ApertureOptions", "aperture"]

#: The search for the ellipse's size bins the light by radius, this many bins per half-light radius.
_BINS_PER_RADIUS = 16
_N_BINS = 128
#: The size is then refined within this share around the binned value, in so many steps.
_REFINE = 0.2
_STEPS = 3


class ApertureOptions(BackgroundOptions):
    """Options of the estimator ``aperture``."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.625
    """Share of the light inside the aperture."""


def aperture(batch: StampBatch, *, fraction: float = 0.625, max_masked: float = DEFAULT_MAX_MASKED) -> Measurement:
    """Measure fluxes in the ellipse of the convolved profile that holds a given share of the light.

    Parameters
    ----------
    batch : StampBatch
        The stamps, n objects.
    fraction : float
        Share of the total light inside the ellipse, 0 to 1.
    max_masked : float
        Largest share of the aperture's light that may be masked; above it the flux is NaN.

    Returns
    -------
    Measurement
        Fluxes divided by the light actually enclosed on usable pixels, which corrects masked pixels and
        ellipses that leave the stamp (``TRUNCATED_PROFILE``).

    Notes
    -----
    The error is sqrt(sum o^2 v + A^2 background_err^2) over the enclosed share, A the aperture's area and v
    the pixel variance with the object's own photons at its measured flux, at least 0. Source: paper, eq. 4.
    """
    weights, truncated = _aperture_weights(batch, fraction)
    enclosed = torch.linalg.vecdot(weights, batch.profile.flatten(1))
    weights *= batch.good.flatten(1)
    share = torch.linalg.vecdot(weights, batch.profile.flatten(1))
    area = weights.sum(1)
    # The level is subtracted pixel by pixel: a bright sky would cancel badly in the sum.
    light = torch.linalg.vecdot(weights, batch.data.flatten(1) - batch.background[:, None])
    response = share - area * batch.own_light
    flux = light / response
    flux_err, noise_area, sky_share = propagate_error(
        batch, weights.view_as(batch.data), response, flux.clamp(min=0), batch.background_err
    )
    flags = masked_light_flags(batch, 1 - share / enclosed, max_masked)
    flags |= flag_where(truncated, Flag.TRUNCATED_PROFILE)
    flags |= flag_where(~torch.isfinite(batch.background), Flag.BAD_BACKGROUND)
    return finish(flux, flux_err, noise_area, sky_share, flags)


@dataclass(frozen=True)
class _Plane:
    """The stamps in elliptical coordinates.

    Parameters
    ----------
    frame : EllipseFrame
        In which radii are in pixels along the major axis.
    radius, profile : tensor, shape (n, pixels)
        Radius of the pixel centres and the convolved profile, 0 where it is NaN.
    width : int
        Width of the stamps.
    """

    frame: EllipseFrame
    radius: Tensor
    profile: Tensor
    width: int

    @property
    def reach(self) -> Tensor:
        """Return the largest distance of a pixel's corner from its centre, shape (n,)."""
        return self.frame.reach.to(self.radius.dtype)


def _aperture_weights(batch: StampBatch, fraction: float) -> tuple[Tensor, Tensor]:
    """Return the exact overlaps of the apertures, shape (n, pixels), and where they leave the stamp, shape (n,)."""
    shapes = batch.ellipses
    # Objects without a shape are NaN in their profile; any ellipse serves to get them through.
    semi_major = torch.where(shapes.semi_major > 0, shapes.semi_major, 1.0)
    ratio = torch.where(shapes.semi_minor > 0, shapes.semi_minor / semi_major, 1.0).clamp(1e-3, 1.0)
    x, y = (torch.nan_to_num(t, nan=-1.0).clamp(-1e4, 1e4) for t in (batch.x, batch.y))
    frame = EllipseFrame.of(x, y, torch.ones_like(ratio), ratio, torch.nan_to_num(shapes.theta))
    height, width = batch.data.shape[1:]
    radius = frame.radius((height, width), batch.data.dtype).flatten(1)
    plane = _Plane(frame, radius, torch.nan_to_num(batch.profile.flatten(1)), width)
    # A stamp that holds less than the fraction gets the largest ellipse that its light can define.
    target = torch.clamp(0.95 * plane.profile.sum(1), 0.0, fraction)
    guess = _binned_size(plane, target, semi_major)

    band = (radius - guess[:, None]).abs_() <= (_REFINE * guess + plane.reach)[:, None]
    rows, pixels = torch.nonzero(band, as_tuple=True)
    size, share = _refined_size(plane, guess, target, rows, pixels)
    weights = (radius < guess[:, None]).to(radius.dtype)
    weights[rows, pixels] = share
    return weights, _leaves_stamp(frame, size, ratio, (height, width))


def _binned_size(plane: _Plane, target: Tensor, semi_major: Tensor) -> Tensor:
    """Return the radius that encloses the target light, from a histogram of the light, shape (n,)."""
    per_pixel = _BINS_PER_RADIUS / semi_major
    bins = (plane.radius * per_pixel[:, None]).clamp_(max=_N_BINS - 1).long()
    light = plane.profile.new_zeros(len(bins), _N_BINS).scatter_add_(1, bins, plane.profile)
    cumulative = light.cumsum(1)
    last = torch.searchsorted(cumulative, target[:, None]).clamp(max=_N_BINS - 1)
    above = cumulative.gather(1, last)
    below = above - light.gather(1, last)
    part = torch.nan_to_num((target[:, None] - below) / (above - below), nan=0.5, posinf=0.5).clamp(0, 1)
    return (last + part)[:, 0].clamp(min=0.5) / per_pixel


def _refined_size(plane: _Plane, guess: Tensor, target: Tensor, rows: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Refine the size until the exact overlap encloses the target.

    Parameters
    ----------
    plane : _Plane
        The stamps.
    guess, target : tensor, shape (n,)
        First size and the light to enclose.
    rows, pixels : tensor, shape (m,)
        The pixels of a band around the guess, wide enough for every size in reach; only their share changes.

    Returns
    -------
    size : tensor, shape (n,)
        Semi-major axis, pixels.
    share : tensor, shape (m,)
        Exact share of the band's pixels inside the ellipse of that size.
    """
    inside = plane.radius < (guess * (1 - _REFINE) - plane.reach)[:, None]
    light_inside = torch.linalg.vecdot(inside.to(guess.dtype), plane.profile)
    radius, light = plane.radius[rows, pixels], plane.profile[rows, pixels]
    # The light per unit of size, from the pixels whose centres are within half a pixel of the guess.
    width = plane.frame.reach.to(guess.dtype)
    near = (radius - guess[rows]).abs() < 0.5 * width[rows]
    gradient = torch.zeros_like(guess).index_add_(0, rows, light * near) / width
    size = guess
    share = boundary_share(plane.frame, size.double(), rows, pixels, plane.width).to(guess.dtype)
    for _ in range(_STEPS):
        enclosed = torch.index_add(light_inside, 0, rows, light * share)
        change = torch.nan_to_num((target - enclosed) / gradient, posinf=0.0, neginf=0.0)
        size = torch.clamp(size + change, guess * (1 - _REFINE), guess * (1 + _REFINE))
        share = boundary_share(plane.frame, size.double(), rows, pixels, plane.width).to(guess.dtype)
    return size, share


def _leaves_stamp(frame: EllipseFrame, size: Tensor, ratio: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return True where an ellipse reaches beyond the outer edge of the stamp, shape (n,)."""
    height, width = shape
    # Half-width along x: a sqrt(cos^2 + q^2 sin^2); px and py are the cosine and sine.
    half_x = size * torch.sqrt(frame.px**2 + (ratio * frame.py) ** 2)
    half_y = size * torch.sqrt(frame.py**2 + (ratio * frame.px) ** 2)
    outside_x = (frame.x - half_x < -0.5) | (frame.x + half_x > width - 0.5)
    return outside_x | (frame.y - half_y < -0.5) | (frame.y + half_y > height - 0.5)


APERTURE = Estimator("aperture", aperture, ApertureOptions)
