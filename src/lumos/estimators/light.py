"""What all flux estimators share: error propagation for weighted sums, and flags for masked light."""

import torch
from torch import Tensor

from lumos.estimators.base import Measurement, NoiseShare, StampBatch
from lumos.flags import Flag

__all__ = ["finish", "flag_where", "masked_light_flags", "propagate_error"]

#: Masked light below this share changes no flux by more than a small part of its error; not worth a flag.
_NOTICEABLE = 1e-3


def masked_light_flags(batch: StampBatch, lost: Tensor, max_masked: float) -> Tensor:
    """Flag the objects whose light falls on unusable pixels.

    Parameters
    ----------
    batch : StampBatch
        The stamps, n objects.
    lost : tensor, shape (n,)
        Share of the object's light that is masked, of the light that the estimator would have used.
    max_masked : float
        Largest share that is still corrected, 0 to 1.

    Returns
    -------
    tensor, shape (n,), int32
        ``MASKED``, ``TOO_MASKED`` and ``MASKED_CENTRE`` bits of :class:`lumos.flags.Flag`.
    """
    flags = flag_where(lost > _NOTICEABLE, Flag.MASKED) | flag_where(lost > max_masked, Flag.TOO_MASKED)
    return flags | flag_where(_centre_is_masked(batch), Flag.MASKED_CENTRE)


def flag_where(condition: Tensor, flag: Flag) -> Tensor:
    """Return a flag's bit where a condition holds.

    Parameters
    ----------
    condition : tensor of bool
        Any shape.
    flag : Flag
        The flag to set.

    Returns
    -------
    tensor of int32
        The bit or 0.
    """
    return condition.to(torch.int32) * int(flag)


def _centre_is_masked(batch: StampBatch) -> Tensor:
    """Return True where one of the central 3 x 3 pixels is unusable or outside the stamp, shape (n,)."""
    _, height, width = batch.good.shape
    step = torch.arange(-1, 2, device=batch.data.device)
    # A centre that is not finite is sent off the stamp, which counts as masked.
    columns = torch.nan_to_num(batch.x, nan=-9.0).clamp(-9, width + 9).round().long()[:, None, None] + step
    rows = torch.nan_to_num(batch.y, nan=-9.0).clamp(-9, height + 9).round().long()[:, None, None] + step[:, None]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    good = batch.good.flatten(1).gather(1, index.flatten(1)) & inside.flatten(1)
    return ~good.all(1)


def propagate_error(
    batch: StampBatch,
    weights: Tensor,
    response: Tensor,
    source_flux: Tensor,
    background_err: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Propagate the noise of the pixels through a weighted sum.

    .. math:: \sigma^2 = \frac{\sum w^2 v + (\sum w)^2 \sigma_b^2}{r^2},
        \qquad v = v_\mathrm{sky} + F m / g

    Parameters
    ----------
    batch : StampBatch
        The stamps, n objects. Where it has a full ``variance``, that one is v.
    weights : tensor, shape (n, height, width)
        Weights w of the pixels, 0 where a pixel is unusable.
    response : tensor, shape (n,)
        Response r of the sum to a unit flux: flux = sum w (data - background) / r.
    source_flux : tensor, shape (n,)
        Flux F whose own photons add to the noise, image units.
    background_err : tensor, shape (n,), or None
        Error of a background level that was subtracted from each pixel; None where there is none.

    Returns
    -------
    flux_err : tensor, shape (n,)
        Error of the flux, image units.
    noise_area : tensor, shape (n,)
        (sum w)^2 / sum w^2, pixels.
    sky_share : tensor, shape (n,)
        Share of the sky and of the background level in ``flux_err``^2.
    """
    weights = weights.flatten(1)
    squares = weights * weights
    total = weights.sum(1)
    sky = _weighted_variance(squares, batch.sky_variance)
    if batch.variance is None:
        source = source_flux / batch.gain * torch.linalg.vecdot(squares, batch.profile.flatten(1))
    else:
        source = (_weighted_variance(squares, batch.variance) - sky).clamp(min=0)
    if background_err is not None:
        sky = sky + (total * background_err) ** 2
    variance = sky + source
    return (variance.sqrt() / response.abs(), total**2 / squares.sum(1), sky / variance)


def _weighted_variance(squares: Tensor, variance: Tensor) -> Tensor:
    """Return the sum over pixels of squared weights times a variance of shape (n, h, w) or (n, 1, 1)."""
    if variance.shape[1:] == (1, 1):
        return squares.sum(1) * variance[:, 0, 0]
    total: Tensor = torch.linalg.vecdot(squares, variance.flatten(1))
    return total


def finish(flux: Tensor, flux_err: Tensor, noise_area: Tensor, sky_share: Tensor, flags: Tensor) -> Measurement:
    """Put NaN where an object could not be measured, and say why.

    Parameters
    ----------
    flux, flux_err, noise_area, sky_share : tensor, shape (n,)
        As in :class:`~lumos.estimators.base.Measurement` and its noise.
    flags : tensor, shape (n,), int32
        Bits known so far; ``TOO_MASKED``, ``BAD_BACKGROUND`` and ``FIT_FAILED`` make the object NaN.

    Returns
    -------
    Measurement
        All four NaN together, with ``FIT_FAILED`` where nothing else explains it.
    """
    fatal = int(Flag.TOO_MASKED | Flag.BAD_BACKGROUND | Flag.FIT_FAILED)
    explained = (flags & fatal) != 0
    failed = ~(torch.isfinite(flux) & torch.isfinite(flux_err) & (flux_err > 0))
    flags = flags | flag_where(failed & ~explained, Flag.FIT_FAILED)
    bad = failed | explained
    columns = (column.masked_fill(bad, torch.nan) for column in (flux, flux_err, noise_area, sky_share))
    flux, flux_err, noise_area, sky_share = columns
    return Measurement(flux, flux_err, flags, NoiseShare(noise_area, sky_share))
