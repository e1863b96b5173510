"""Validation figures of a network during training."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray, IntArray
from lumos.nets.losses import likelihood_nll, mixture_nll, paper_nll
from lumos.nets.mdn import MixtureOutput
from lumos.nets.model import FluxModel
from lumos.pdf import FluxPdf, GaussianMixture, TruncatedMixture, reweighted
from lumos.pdf.mixture import Mixture
from lumos.statistics import SUMMARY_LEVELS, sigma68
from lumos.teahupoo.draws import FluxProposal
from lumos.training.data import LabelledInputs

__all__ = ["ValidationScore", "batch_loss", "score_model", "with_proposal"]


@dataclass(frozen=True)
class ValidationScore:
    """Figures of a network on validation stamps.

    Parameters
    ----------
    loss, loss_err : float
        Mean of minus the logarithm of the PDF at the true flux, and its error; the flux in units of the network.
    pit_ks : float
        Kolmogorov-Smirnov distance of the PIT values from uniform.
    scatter : float
        sigma68 of (median - true flux) / unit.
    pull : float
        The same of (median - true flux) / (sigma68 of the PDF).
    bias : float
        Median of (median - true flux) / unit.
    n : int
        Number of validation stamps.
    """

    loss: float
    loss_err: float
    pit_ks: float
    scatter: float
    pull: float
    bias: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name.

        Returns
        -------
        dict
            The figures by name, as numbers of Python.
        """
        return asdict(self)


def batch_loss(model: FluxModel, batch: LabelledInputs, proposal: FluxProposal) -> Tensor:
    """Return the loss of each object: minus the logarithm of the PDF of (flux - centre) / unit.

    Parameters
    ----------
    model : FluxModel
        Its network in training or evaluation mode.
    batch : LabelledInputs
        n usable objects.
    proposal : FluxProposal
        Density that the fluxes of a likelihood's training were drawn from.

    Returns
    -------
    tensor, shape (n,)
        For a likelihood, of the posterior that it makes with the proposal density.
    """
    return _loss(model, batch, proposal)[0]


def _loss(model: FluxModel, batch: LabelledInputs, proposal: FluxProposal) -> tuple[Tensor, MixtureOutput]:
    inputs = batch.inputs
    mixture = model.network(inputs.images, inputs.scalars, inputs.index).widened(inputs.widening / inputs.unit)
    target = (batch.flux - inputs.centre) / inputs.unit
    if model.config.kind == "likelihood":
        scale, origin = batch.flux_scale / inputs.unit, inputs.centre / inputs.unit
        return likelihood_nll(mixture, target, proposal, scale, origin), mixture
    if model.config.cut_from is None:
        return mixture_nll(mixture, target), mixture
    # Components are cut where the flux is 0, which the paper's network has at 0 of its own unit.
    return paper_nll(mixture, target, batch.ref_mag, model.config.cut_from), mixture


@torch.no_grad()
def score_model(model: FluxModel, batches: Sequence[LabelledInputs], proposal: FluxProposal) -> ValidationScore:
    """Measure a network on labelled stamps.

    Parameters
    ----------
    model : FluxModel
        Network to validate.
    batches : sequence of LabelledInputs
        Stamps; those that cannot be measured are left out.
    proposal : FluxProposal
        Density that the fluxes of a likelihood's stamps were drawn from.

    Returns
    -------
    ValidationScore
        Loss, PIT, pulls and scatter.
    """
    model.network.eval()
    losses, parts = [], []
    for whole in batches:
        batch = whole.take(whole.inputs.usable)
        for start in range(0, len(batch), 256):
            some = batch.take(slice(start, start + 256)).to(next(model.network.parameters()).device)
            loss, mixture = _loss(model, some, proposal)
            losses.append(loss.double().cpu())
            parts.append(_statistics(model, some, mixture, proposal))
    pit, median, half_width, unit, truth = (np.concatenate(values) for values in zip(*parts, strict=True))
    loss = torch.cat(losses)
    rank = np.arange(1, len(pit) + 1) / len(pit)
    pit = np.sort(pit)
    return ValidationScore(
        loss=float(loss.mean()),
        loss_err=float(loss.std() / len(loss) ** 0.5),
        pit_ks=float(np.maximum(rank - pit, pit - rank + 1 / len(pit)).max()),
        scatter=sigma68((median - truth) / unit),
        pull=sigma68((median - truth) / half_width),
        bias=float(np.median((median - truth) / unit)),
        n=len(pit),
    )


def _statistics(
    model: FluxModel, batch: LabelledInputs, mixture: MixtureOutput, proposal: FluxProposal
) -> tuple[FloatArray, ...]:
    """Return PIT value, median and half-width of each posterior, unit and true flux; in image units."""
    weights, means, stds = (
        value.double().cpu().numpy() for value in mixture.scaled(batch.inputs.unit, batch.inputs.centre).parameters
    )
    gaussians = GaussianMixture(np.exp(weights), means, stds)
    truth, unit, scale = (value.double().cpu().numpy() for value in (batch.flux, batch.inputs.unit, batch.flux_scale))
    if model.config.kind == "likelihood":
        pdfs: list[tuple[FluxPdf, IntArray]] = [(with_proposal(gaussians, proposal, scale), np.arange(len(truth)))]
    else:
        cut = model.is_cut(batch.ref_mag.cpu().numpy(), len(truth))
        where = [np.flatnonzero(~cut), np.flatnonzero(cut)]
        pdfs = [(gaussians.take(where[0]), where[0])]
        cut_pdf = TruncatedMixture(np.exp(weights[cut]), means[cut], stds[cut])
        pdfs.append((cut_pdf, where[1]))
    pit, low, median, high = np.empty((4, len(truth)))
    for pdf, rows in pdfs:
        if len(rows):
            pit[rows] = pdf.pit(truth[rows])
            low[rows], median[rows], high[rows] = pdf.quantile(np.array([SUMMARY_LEVELS])).T
    return pit, median, (high - low) / 2, unit, truth


def with_proposal(likelihood: Mixture, proposal: FluxProposal, scale: FloatArray) -> FluxPdf:
    """Return the posterior that a likelihood makes with the proposal density.

    Parameters
    ----------
    likelihood : Mixture, n rows
        Likelihoods of n stamps.
    proposal : FluxProposal
        Broad density that training draws fluxes from.
    scale : float array, shape (n,)
        Its unit in that of the likelihoods.

    Returns
    -------
    FluxPdf, n rows
        Products of likelihood and density, normalised.
    """
    unit = torch.from_numpy(scale)[:, None]
    return reweighted(likelihood, lambda flux: proposal.log_prob(torch.from_numpy(flux), unit).numpy())
