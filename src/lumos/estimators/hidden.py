r"""Sources that the catalogue lacks: a point source in what is left of a stamp, and what it adds to the flux.

At each pixel p a point source of flux S is fitted together with the object, the background known. The object has a
free flux, and may differ from its profile m by what is not known better: by a shift and a change of size, templates
:math:`t_k` with Gaussian priors, and by a share of its light on each pixel, which counts as noise. With the weights
w = 1/v, :math:`\langle a, b \rangle = \sum w a b`, the templates' normal matrix G (priors included), what is left r
of the best fit without the source, and the PSF q at p,

.. math:: S = \frac{\langle q, r \rangle}{D}, \qquad \Delta\chi^2 = S^2 D, \qquad
    D = \langle q, q \rangle - \langle q, t \rangle^T G^{-1} \langle q, t \rangle.

Sources are maxima of :math:`\Delta\chi^2`. The optimal sum for the object takes in
:math:`S_0 \langle q, m \rangle / \langle m, m \rangle` of the light of each, with the :math:`S_0` beside an object
that has just its profile.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from lumos.estimators.base import StampBatch
from lumos.estimators.optimal import optimal

__all__ = ["flux_without_hidden"]

#: What no catalogue knows better: the share of an object's light on a pixel; its place over its radius; its size.
_TOLERANCE, _LEAST_SHIFT, _LEAST_GROWTH = 0.1, 0.1, 0.05
#: A point source whose pixels differ from the object's templates by less than this share of itself cannot be told.
_DISTINCT = 0.1
#: Objects at a time: their maps stay in a processor's cache.
_AT_ONCE = 32


def flux_without_hidden(batch: StampBatch, point: Tensor, significance: Tensor) -> Tensor:
    """Measure optimal fluxes without the light of a source that the catalogue lacks.

    Parameters
    ----------
    batch : StampBatch
        n objects; the light of their neighbours counts as known.
    point : tensor, shape (k, k)
        Point source of flux 1 on the middle pixel, as the PSF of the stamps is; k odd, less than their side.
    significance : tensor, shape (n,)
        How many errors of its flux a source must stand out, for pixels without correlation.

    Returns
    -------
    tensor, shape (n,)
        Without the source that adds most, image units; NaN where there is none. None is sought nearer than k / 2 to
        the edge.
    """
    flux = torch.full((len(batch),), torch.nan)
    for start in range(0, len(batch), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        flux[some] = _flux_without_hidden(batch.take(some), point, significance[some])
    return flux


def _flux_without_hidden(batch: StampBatch, point: Tensor, significance: Tensor) -> Tensor:
    profile, scene = batch.profile, batch.scene
    data = batch.data if scene is None or scene.is_cleaned else batch.data - scene.others
    flux = optimal(replace(batch, data=data)).flux.float().nan_to_num()
    rest = data - (batch.background - flux * batch.own_light).nan_to_num()[:, None, None]
    source = flux.clamp(min=0)[:, None, None] * profile.clamp(min=0)
    variance = batch.sky_variance + source / batch.gain[:, None, None]
    weights = batch.good / (variance + (_TOLERANCE * source).square())
    of_point = _sums_with(point, data.shape[1])
    alone = _sums_with(point.square(), data.shape[1])(weights)
    limit = significance.square()[:, None, None]
    own = profile / torch.linalg.vector_norm(profile, dim=(1, 2), keepdim=True)
    source_flux, improvement = _fit_points(weights, own[:, None], rest, alone, of_point)
    without, some = torch.full_like(flux, torch.nan), (improvement > limit).flatten(1).any(1)
    if some.any():
        # Few stamps are left. The flux is that beside a profile that is right: templates take light of bright sources.
        templates = torch.cat([own[some, None], _templates(batch.take(some), flux[some])], dim=1)
        _, improvement = _fit_points(weights[some], templates, rest[some], alone[some], of_point)
        peak = (improvement > limit[some]) & (improvement == max_pool2d(improvement, 3, 1, 1))
        matched = (batch.good / variance * profile)[some]
        share = of_point(matched) / (matched * profile[some]).sum((1, 2), keepdim=True)
        light = torch.where(peak, source_flux[some] * share, 0.0).amax((1, 2))
        left = optimal(batch.take(some)).flux.float() - light
        without[some] = torch.where(peak.flatten(1).any(1), left, torch.nan)
    return without


def _fit_points(
    weights: Tensor, templates: Tensor, rest: Tensor, alone: Tensor, of_point: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Fit a point source on each pixel; return its flux, and how far chi^2 falls where it is positive.

    The first of the templates, of shape (n, k, h, w), has no prior, the others have those of errors of 1.
    """
    weighted = weights[:, None] * templates
    prior = torch.ones(templates.shape[1])
    # A template without any weight is not fitted.
    prior[0] = 1e-12
    inverse = torch.linalg.inv(weighted.flatten(2) @ templates.flatten(2).mT + torch.diag(prior))
    fitted = inverse @ (weighted.flatten(2) @ rest.flatten(1)[:, :, None])
    left = rest - (fitted.mT @ templates.flatten(2)).view_as(rest)
    signal, overlaps = of_point(weights * left), of_point(weighted)
    distinct = alone - (overlaps.flatten(2) * (inverse @ overlaps.flatten(2))).sum(1).view_as(alone)
    flux = signal / torch.where(distinct > _DISTINCT * alone, distinct, torch.inf)
    return flux, flux * signal.clamp(min=0)


def _templates(batch: StampBatch, flux: Tensor) -> Tensor:
    """Return what one error of places and sizes does to the light of objects, shape (n, 3, h, w)."""
    profile, errors = batch.profile, batch.shape_errors
    along_y, along_x = torch.gradient(profile, dim=(1, 2))
    y, x = (torch.arange(n, dtype=profile.dtype) for n in profile.shape[1:])
    y, x = y[None, :, None] - batch.y[:, None, None], x[None, None, :] - batch.x[:, None, None]
    position, size = (torch.zeros_like(flux),) * 2 if errors is None else (errors.position, errors.size)
    radius = (batch.ellipses.semi_major * batch.ellipses.semi_minor).sqrt()
    shift = flux * radius * torch.hypot(position, torch.tensor(_LEAST_SHIFT))
    growth = flux * torch.hypot(size, torch.tensor(_LEAST_GROWTH))
    grown = 2 * profile + x * along_x + y * along_y
    shift, growth = shift[:, None, None], growth[:, None, None]
    return torch.stack([shift * along_x, shift * along_y, growth * grown], dim=1)


def _sums_with(point: Tensor, side: int) -> Callable[[Tensor], Tensor]:
    """Return what sums images, weighted with a point source on each pixel where it lies within them."""
    inner = slice(0, side - 2 * (point.shape[0] // 2))
    transform = torch.fft.rfft2(point, s=(side, side)).conj()
    # The source that begins at the first pixel is centred on the one in the middle of its stamp.
    return lambda images: torch.fft.irfft2(torch.fft.rfft2(images) * transform, s=(side, side))[..., inner, inner]
