r"""Optimal weighted sums: the linear estimators with the least variance.

With the background known, :math:`w_i \propto m_i / v_i` (the paper's eq. 5-6 and appendix A, where
:math:`v = m + b` in photons); with a free constant background, the two-parameter weighted least-squares
solution. Here :math:`v_i = v_{\mathrm{sky},i} + F m_i / g` holds the object's own photons.
"""

import torch
from torch import Tensor

from lumos.conventions import DEFAULT_MAX_MASKED
from lumos.estimators.base import BackgroundOptions, Estimator, Measurement, StampBatch
from lumos.estimators.light import finish, flag_where, masked_light_flags, propagate_error
from lumos.flags import Flag

__all__ = ["OPTIMAL", "OPTIMAL_FREE", "optimal", "optimal_flux", "optimal_flux_free", "optimal_free"]

#: A free background is hopeless where the profile is this close to flat over the stamp.
_LEAST_CONTRAST = 1e-6


def optimal_flux(
    data: Tensor, profile: Tensor, variance: Tensor, good: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Compute the optimal flux with a known background.

    .. math:: \hat F = \frac{\sum m (d - b) / v}{\sum m^2 / v}, \qquad \sigma^2 = 1 / \sum m^2 / v

    Parameters
    ----------
    data, profile : tensor, shape (n, height, width)
        Pixels in image units, and the unit-flux convolved profile m.
    variance : tensor, shape (n, height, width) or (n, 1, 1)
        Variance v of the pixels, greater than 0.
    good : tensor, shape (n, height, width), bool
        True where a pixel is usable.
    background : tensor, shape (n,)
        Level per pixel b.

    Returns
    -------
    flux, flux_err : tensor, shape (n,)
        Flux and its error; infinite or NaN where no light falls on usable pixels.
    """
    weights = (profile * good / variance).flatten(1)
    information = torch.linalg.vecdot(weights, profile.flatten(1))
    residual = data.flatten(1) - background[:, None]
    return torch.linalg.vecdot(weights, residual) / information, information.rsqrt()


def optimal_flux_free(
    data: Tensor, profile: Tensor, variance: Tensor, good: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Compute the optimal flux together with a constant background.

    The weighted least-squares solution for :math:`d = F m + b`: errors are the roots of the diagonal of the
    inverse of the normal matrix

    .. math:: \begin{pmatrix} \sum m^2/v & \sum m/v \\ \sum m/v & \sum 1/v \end{pmatrix}.

    Parameters
    ----------
    data, profile : tensor, shape (n, height, width)
        Pixels in image units, and the unit-flux convolved profile m.
    variance : tensor, shape (n, height, width) or (n, 1, 1)
        Variance v of the pixels, greater than 0.
    good : tensor, shape (n, height, width), bool
        True where a pixel is usable.

    Returns
    -------
    flux, flux_err, background, background_err : tensor, shape (n,)
        Flux and level per pixel with their errors, each marginal over the other; NaN where the profile does
        not differ from a constant over the usable pixels.
    """
    inverse = (good / variance).flatten(1)
    weights, total, mean_profile, information = _free_weights(profile.flatten(1), inverse)
    pivot = torch.linalg.vecdot(inverse, data.flatten(1)) / total
    residual = data.flatten(1) - pivot[:, None]
    flux = torch.linalg.vecdot(weights, residual) / information
    # The first pivot is rounded to the size of the sky; the residual's own mean repairs that.
    background = pivot + torch.linalg.vecdot(inverse, residual) / total - flux * mean_profile
    background_err = torch.sqrt(1 / total + mean_profile**2 / information)
    return flux, information.rsqrt(), background, background_err


def _free_weights(profile: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights (m - <m>) / v of a free background and sum 1/v, <m>, sum (m - <m>)^2 / v.

    This is the 2 x 2 solution after taking the weighted mean <m> off the profile, which makes the normal
    matrix diagonal and avoids the difference of two large products in its determinant.
    """
    total = inverse.sum(1)
    mean = torch.linalg.vecdot(inverse, profile) / total
    contrast = profile - mean[:, None]
    weights = contrast * inverse
    information = torch.linalg.vecdot(weights, contrast)
    flat = information <= _LEAST_CONTRAST**2 * total * profile.amax(1) ** 2
    return weights, total, mean, information.masked_fill(flat, torch.nan)


def optimal(batch: StampBatch, *, n_iter: int = 2, max_masked: float = DEFAULT_MAX_MASKED) -> Measurement:
    """Measure fluxes with optimal weights, the annulus background subtracted.

    Parameters
    ----------
    batch : StampBatch
        The stamps, n objects.
    n_iter : int
        How often the object's own photons in the weights are updated with the measured flux, after a first
        estimate with the weights of the sky alone.
    max_masked : float
        Largest share of the light that may be masked; above it the flux is NaN.

    Returns
    -------
    Measurement
        Fluxes, the object's own light in the annulus corrected. The weights use ``sky_variance`` and ``gain``
        only: weights from a variance map that holds the sources would follow their noise and bias the flux.

    Notes
    -----
    Weights that hold the measured flux depend on the data; the bias of that was measured on 40 000 galaxies
    each, for signal-to-noise ratios of 1 to 100 on skies of 10 and 100 photons per pixel. Against fixed weights
    (``n_iter`` 0) two updates move the mean flux by less than 0.002 of its error at any of them, and the scatter
    stays within 0.4 % of the Fisher bound. One update moves it by 0.002. Weights of the sky alone lose nothing
    below a ratio of 10, but 1.4 % at 30 and 6 % at 100 (6 % and 12 % on the fainter sky).

    The error is evaluated at the measured flux, at least 0, so a low flux has a small error: the mean pull is
    -1/(2 s), s the error in photons.

    Source: paper, eq. 5-6.
    """
    profile = batch.profile.flatten(1)
    seen = profile * batch.good.flatten(1)
    sky = batch.sky_variance.flatten(1)
    residual = batch.data.flatten(1) - batch.background[:, None]
    variance = sky
    flux = torch.zeros_like(batch.background)
    for step in range(n_iter + 1):
        if step:
            variance = torch.addcmul(sky, (flux.clamp(min=0) / batch.gain)[:, None], profile.clamp(min=0))
        weights = seen / variance
        response = torch.linalg.vecdot(weights, profile) - weights.sum(1) * batch.own_light
        flux = torch.linalg.vecdot(weights, residual) / response
    flux_err, noise_area, sky_share = propagate_error(
        batch, weights.view_as(batch.data), response, flux.clamp(min=0), batch.background_err
    )
    flags = masked_light_flags(batch, 1 - seen.sum(1) / profile.sum(1), max_masked)
    flags |= flag_where(~torch.isfinite(batch.background), Flag.BAD_BACKGROUND)
    return finish(flux, flux_err, noise_area, sky_share, flags)


def optimal_free(batch: StampBatch, *, n_iter: int = 2, max_masked: float = DEFAULT_MAX_MASKED) -> Measurement:
    """Measure fluxes with optimal weights and a free constant background in the stamp.

    Parameters
    ----------
    batch : StampBatch
        The stamps, n objects; their annulus background is not used.
    n_iter : int
        How often the object's own photons in the weights are updated with the measured flux, after a first
        estimate with the weights of the sky alone.
    max_masked : float
        Largest share of the light that may be masked; above it the flux is NaN.

    Returns
    -------
    Measurement
        Fluxes that are unbiased for any constant sky. ``noise_area`` is that of the weights without
        the free background, whose sum is not 0.

    Notes
    -----
    Source: paper, appendix A with a second parameter.
    """
    profile = batch.profile.flatten(1)
    good = batch.good.flatten(1).to(profile.dtype)
    sky = batch.sky_variance.flatten(1)
    # Weights sum to 0, so any constant may be taken off; without it a bright sky would cost digits.
    level = torch.linalg.vecdot(batch.data.flatten(1), good) / good.sum(1)
    residual = batch.data.flatten(1) - level[:, None]
    variance = sky
    flux = torch.zeros_like(level)
    for step in range(n_iter + 1):
        if step:
            variance = torch.addcmul(sky, (flux.clamp(min=0) / batch.gain)[:, None], profile.clamp(min=0))
        inverse = good / variance
        weights, _, _, response = _free_weights(profile, inverse)
        flux = torch.linalg.vecdot(weights, residual) / response
    flux_err, _, sky_share = propagate_error(batch, weights.view_as(batch.data), response, flux.clamp(min=0), None)
    matched = profile * inverse
    noise_area = matched.sum(1) ** 2 / torch.linalg.vecdot(matched, matched)
    lost = 1 - torch.linalg.vecdot(profile, good) / profile.sum(1)
    return finish(flux, flux_err, noise_area, sky_share, masked_light_flags(batch, lost, max_masked))


OPTIMAL = Estimator("optimal", optimal, BackgroundOptions)
OPTIMAL_FREE = Estimator("optimal_free", optimal_free, needs_background=False)
