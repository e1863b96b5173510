"""Losses on Gaussian mixtures: eq. 8, 10 and 11 of the Lumos paper, and those of pixel likelihoods.

All are minus natural logarithms of densities per flux unit of the mixture. A Gaussian far below 0 that is cut at 0 is
the small difference of two large logarithms, so cut Gaussians are computed in double precision throughout.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.special import erfcx, log_ndtr

from lumos.errors import LumosShapeError
from lumos.nets.mdn import MixtureOutput
from lumos.teahupoo.draws import FluxProposal

__all__ = ["likelihood_nll", "likelihood_overlap_nll", "mixture_nll", "overlap_nll", "paper_nll", "truncated_nll"]

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
#: Nodes of a narrow component, and of the range of the proposal.
_HERMITE_NODES, _EVEN_NODES = 24, 256
#: Width of a component in the proposal's even variable, asinh(flux / softening), from which it is wide.
_WIDE = 0.15


def mixture_nll(mixture: MixtureOutput, flux: Tensor) -> Tensor:
    r"""Return the negative log-likelihood of the true fluxes, eq. 8 with the sum inside the logarithm.

    .. math:: L = -\log \sum_i \alpha_i N(f; \mu_i, \sigma_i)

    Parameters
    ----------
    mixture : MixtureOutput
        Mixtures of n objects on the real line.
    flux : tensor, shape (n,)
        True fluxes in the unit of the mixture.

    Returns
    -------
    tensor, shape (n,)
        Losses.

    Raises
    ------
    LumosShapeError
        If there is not one flux per mixture.
    """
    _check_rows(mixture, flux, "true fluxes")
    terms = _log_normal(flux[:, None] - mixture.means, mixture.stds)
    return torch.logsumexp(mixture.log_weights + terms, dim=1).neg()


def truncated_nll(mixture: MixtureOutput, flux: Tensor) -> Tensor:
    r"""Return the negative log-likelihood of the true fluxes when each Gaussian is cut at 0, eq. 9-10.

    .. math:: L = -\log \sum_i \alpha_i \frac{N(f; \mu_i, \sigma_i)}{\Phi(\mu_i / \sigma_i)}

    The paper prints the true flux in place of the mean in the denominator; eq. 9 has the mean, through which the
    gradient flows here.

    Parameters
    ----------
    mixture : MixtureOutput
        Mixtures of n objects, of Gaussians before the cut.
    flux : tensor, shape (n,)
        True fluxes in the unit of the mixture, 0 or more.

    Returns
    -------
    tensor, shape (n,)
        Losses; infinite, with no gradient, for a negative flux, whose density is 0.

    Raises
    ------
    LumosShapeError
        If there is not one flux per mixture.
    """
    _check_rows(mixture, flux, "true fluxes")
    log_weights, means, stds = _double(mixture)
    terms = _log_normal(flux.double()[:, None] - means, stds) - _log_share(means / stds)
    loss = torch.logsumexp(log_weights + terms, dim=1).neg()
    return torch.where(flux < 0, torch.inf, loss).to(mixture.means.dtype)


def paper_nll(mixture: MixtureOutput, flux: Tensor, ref_mag: Tensor, split: float = 20.5) -> Tensor:
    """Return the paper's loss: eq. 8 for bright objects, eq. 10 for the rest.

    Parameters
    ----------
    mixture : MixtureOutput
        Mixtures of n objects.
    flux : tensor, shape (n,)
        True fluxes in the unit of the mixture; 0 or more for those that are not bright.
    ref_mag : tensor, shape (n,)
        Magnitudes in the reference band; objects without one (NaN) are not bright.
    split : float
        Bright are magnitudes below this.

    Returns
    -------
    tensor, shape (n,)
        Losses.

    Raises
    ------
    LumosShapeError
        If there is not one flux and one magnitude per mixture.
    """
    _check_rows(mixture, ref_mag, "reference magnitudes")
    return torch.where(ref_mag < split, mixture_nll(mixture, flux), truncated_nll(mixture, flux))


def overlap_nll(a: MixtureOutput, b: MixtureOutput, *, truncated: bool) -> Tensor:
    r"""Return how little the flux PDFs of two exposures of each object overlap, eq. 11.

    .. math:: L = -\log \int p_a(f) p_b(f) \, df

    The product of two Gaussians is :math:`N(\mu_i - \mu_j; 0, \sigma_i^2 + \sigma_j^2)` times a Gaussian in f with the
    precision-weighted mean :math:`\mu_c` and width :math:`\sigma_c`. On the half-line the integral has in addition the
    factor :math:`\Phi(\mu_c / \sigma_c) / [\Phi(\mu_i / \sigma_i) \Phi(\mu_j / \sigma_j)]`.

    Parameters
    ----------
    a, b : MixtureOutput
        Mixtures of the same n objects in the same flux unit; the numbers of components may differ.
    truncated : bool
        Whether each Gaussian is cut at 0, and the integral over fluxes from 0, or over the real line.

    Returns
    -------
    tensor, shape (n,)
        Losses.

    Raises
    ------
    LumosShapeError
        If the numbers of objects differ.
    """
    _check_pairs(a, b)
    log_weights_a, means_a, stds_a = (values[:, :, None] for values in _double(a))
    log_weights_b, means_b, stds_b = (values[:, None, :] for values in _double(b))
    width = torch.hypot(stds_a, stds_b)
    terms = log_weights_a + log_weights_b + _log_normal(means_a - means_b, width)
    if truncated:
        centre = (means_a * stds_b / stds_a + means_b * stds_a / stds_b) / width
        terms = terms + _log_share(centre) - _log_share(means_a / stds_a) - _log_share(means_b / stds_b)
    return torch.logsumexp(terms, dim=(1, 2)).neg().to(a.means.dtype)


def likelihood_nll(
    mixture: MixtureOutput, flux: Tensor, proposal: FluxProposal, flux_scale: Tensor, origin: Tensor | None = None
) -> Tensor:
    r"""Return the loss that makes the mixture the likelihood of the pixels, whatever fluxes the training drew.

    With a mixture :math:`l(f)` and true fluxes from a known density :math:`\pi(f)`, the posterior of the training set
    is :math:`l \pi / Z` and

    .. math:: L = -\log l(f) - \log \pi(f) + \log Z, \qquad Z = \int l(f) \pi(f) \, df .

    It is least where the posterior is right, so where l is the likelihood as a function of f, normalised.

    Parameters
    ----------
    mixture : MixtureOutput
        Likelihoods of n objects, normalised over flux on the real line.
    flux : tensor, shape (n,)
        True fluxes in the unit of the mixture.
    proposal : FluxProposal
        Density from which the fluxes were drawn.
    flux_scale : tensor, shape (n,)
        Unit of the proposal in that of the mixture.
    origin : tensor, shape (n,), optional
        What to add to a flux of the mixture before the proposal sees it; by default 0.

    Returns
    -------
    tensor, shape (n,)
        Losses.

    Raises
    ------
    LumosShapeError
        If there is not one flux per mixture.

    Notes
    -----
    Z is a sum over components, each by one of two rules: Gauss-Hermite nodes where the component is narrow in the
    variable in which the proposal is even, and else equal steps in that variable. log Z is good to 1e-3
    for components of any width with means between the proposal's ends, and to 1e-2 beyond.
    """
    _check_rows(mixture, flux, "true fluxes")
    _check_rows(mixture, flux_scale, "units of the proposal")
    shift = torch.zeros_like(flux) if origin is None else origin
    log_pi = proposal.log_prob(flux + shift, flux_scale)
    evidence = _log_evidence(mixture.scaled(1 / flux_scale, shift / flux_scale), proposal)
    return mixture_nll(mixture, flux) - log_pi + evidence - torch.log(flux_scale)


def likelihood_overlap_nll(
    a: MixtureOutput, b: MixtureOutput, proposal: FluxProposal, flux_scale: Tensor, origin: Tensor | None = None
) -> Tensor:
    r"""Return how little the likelihoods of two exposures of each object speak of one flux: eq. 11 for likelihoods.

    .. math:: L = -\log \frac{\int l_a l_b \pi \, df}{\int l_a \pi \, df \, \int l_b \pi \, df}
        = -\log \frac{p(a, b \mid \text{one flux})}{p(a) \, p(b)}

    A likelihood that is normalised over flux gets higher by shrinking, which eq. 11 would reward; here the broad
    density of fluxes :math:`\pi` is shared out first. The product of two mixtures is one of all pairs of components.

    Parameters
    ----------
    a, b : MixtureOutput
        Likelihoods of the same n objects in one flux unit.
    proposal : FluxProposal
        Density of the fluxes.
    flux_scale : tensor, shape (n,)
        Unit of the proposal in that of the mixtures.
    origin : tensor, shape (n,), optional
        What to add to a flux of the mixtures before the proposal sees it; by default 0.

    Returns
    -------
    tensor, shape (n,)
        Losses; 0 where neither exposure tells anything of the flux.

    Raises
    ------
    LumosShapeError
        If the numbers of objects differ.
    """
    _check_pairs(a, b)
    _check_rows(a, flux_scale, "units of the proposal")
    shift = torch.zeros_like(flux_scale) if origin is None else origin
    unit, start = 1 / flux_scale.double(), shift.double() / flux_scale.double()
    first, second = (MixtureOutput(*_double(mixture)).scaled(unit, start) for mixture in (a, b))
    both = _log_evidence(_product(first, second), proposal)
    return (_log_evidence(first, proposal) + _log_evidence(second, proposal) - both).to(a.means.dtype)


def _product(a: MixtureOutput, b: MixtureOutput) -> MixtureOutput:
    """Return the product of mixtures row by row; its weights do not sum to 1."""
    log_weights_a, means_a, stds_a = (values[:, :, None] for values in a.parameters)
    log_weights_b, means_b, stds_b = (values[:, None, :] for values in b.parameters)
    width = torch.hypot(stds_a, stds_b)
    log_weights = log_weights_a + log_weights_b + _log_normal(means_a - means_b, width)
    means = means_a + (means_b - means_a) * (stds_a / width).square()
    return MixtureOutput(*(values.flatten(1) for values in (log_weights, means, stds_a * stds_b / width)))


def _log_evidence(mixture: MixtureOutput, proposal: FluxProposal) -> Tensor:
    """Return log Z of each object, shape (n,), fluxes in units of the proposal."""
    is_wide = mixture.stds > _WIDE * torch.hypot(mixture.means, mixture.means.new_tensor(proposal.softening))
    shares = torch.empty_like(mixture.means)
    # Each component by its own rule alone: the nodes are most of the work.
    for rule, chosen in ((_wide_shares, is_wide), (_narrow_shares, ~is_wide)):
        shares[chosen] = rule(mixture.means[chosen][:, None], mixture.stds[chosen][:, None], proposal)
    return torch.logsumexp(mixture.log_weights + shares, dim=1)


def _narrow_shares(means: Tensor, stds: Tensor, proposal: FluxProposal) -> Tensor:
    """Return log Z of components, means and widths of shape (n, 1), by Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    at, log_shares = (means.new_tensor(values) for values in (nodes, np.log(weights / weights.sum())))
    return torch.logsumexp(proposal.log_prob(means + stds * at, means.new_ones(())) + log_shares, dim=1)


def _wide_shares(means: Tensor, stds: Tensor, proposal: FluxProposal) -> Tensor:
    """Return log Z of components, means and widths of shape (n, 1), by equal steps over the proposal."""
    flux, log_step = (means.new_tensor(values) for values in proposal.nodes(_EVEN_NODES))
    return torch.logsumexp(_log_normal(flux - means, stds) + log_step, dim=1)


def _log_normal(offset: Tensor, std: Tensor) -> Tensor:
    """Return the logarithm of a Gaussian density at an offset from its mean."""
    return -0.5 * (offset / std).square() - std.log() - _LOG_ROOT_2PI


def _log_share(ratio: Tensor) -> Tensor:
    """Return log Phi, the share of a Gaussian that lies above 0, from its mean over its width.

    The derivative that torch has for log_ndtr errs by the square of a negative ratio in units of the last digit, which
    is more than the pull on a far component; that of erfcx by the ratio itself.
    """
    negative = ratio.clamp(max=0)
    below = torch.log(0.5 * erfcx(-math.sqrt(0.5) * negative)) - 0.5 * negative.square()
    return torch.where(ratio < 0, below, log_ndtr(ratio.clamp(min=0)))


def _double(mixture: MixtureOutput) -> tuple[Tensor, Tensor, Tensor]:
    return mixture.log_weights.double(), mixture.means.double(), mixture.stds.double()


def _check_pairs(a: MixtureOutput, b: MixtureOutput) -> None:
    if len(a.means) != len(b.means):
        raise LumosShapeError("objects of the second exposure", len(b.means), len(a.means))


def _check_rows(mixture: MixtureOutput, values: Tensor, what: str) -> None:
    """Refuse shapes that would broadcast without a word."""
    expected = (len(mixture.means),)
    if values.shape != expected:
        raise LumosShapeError(f"{what} of the mixtures", tuple(values.shape), expected)
