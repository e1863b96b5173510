"""What a model says of pairs of exposures, and of galaxies of known flux, that it was not adapted with."""

from dataclasses import dataclass

import numpy as np
import torch

from lumos.adaptation.transfer import PairedInputs, pair_loss
from lumos.conventions import AnyArray, FloatArray
from lumos.nets.inputs import NetworkInputs
from lumos.nets.mdn import MixtureOutput
from lumos.nets.model import FluxModel
from lumos.pdf import FluxPdf, GaussianMixture, TruncatedMixture
from lumos.pdf.mixture import Mixture
from lumos.statistics import SUMMARY_LEVELS
from lumos.teahupoo.draws import FluxProposal
from lumos.training.data import LabelledInputs
from lumos.training.score import with_proposal

__all__ = ["HeldOutRows", "measure_held_out"]

#: Stamps at a time.
_AT_ONCE = 256
_LEVELS = np.array([SUMMARY_LEVELS])


@dataclass(frozen=True)
class HeldOutRows:
    """What a model says of each held-out pair and injected galaxy.

    Parameters
    ----------
    difference : float array, shape (n_pairs,)
        D = (f1 - f2) / sqrt(s1^2 + s2^2), medians and half-widths of the PDFs (paper, eq. 19).
    brightness : float array, shape (n_pairs,)
        Mean flux of both exposures.
    loss : float array, shape (n_pairs,)
        Loss of each pair of exposures.
    snr : float array, shape (n_injected,)
        True flux over its closed-form error.
    relative, pull : float array, shape (n_injected,)
        (f - f0) / f0; (f - f0) over half the width of the PDF.
    pit : float array, shape (n_injected,)
        Probability of a smaller flux under the posterior with the density that the fluxes were drawn from.
    """

    difference: FloatArray
    brightness: FloatArray
    loss: FloatArray
    snr: FloatArray
    relative: FloatArray
    pull: FloatArray
    pit: FloatArray


@torch.no_grad()
def measure_held_out(
    model: FluxModel, pairs: PairedInputs, injected: LabelledInputs, proposal: FluxProposal
) -> HeldOutRows:
    """Run a model on held-out stamps.

    Parameters
    ----------
    model : FluxModel
        Tail of a split model.
    pairs : PairedInputs
        Pairs of usable stamps.
    injected : LabelledInputs
        Stamps of injected galaxies, usable ones only.
    proposal : FluxProposal
        Density that the injected fluxes of a likelihood were drawn from.

    Returns
    -------
    HeldOutRows
        Row by row.
    """
    steps = [slice(start, start + _AT_ONCE) for start in range(0, len(pairs), _AT_ONCE)]
    loss = torch.cat([pair_loss(model, pairs.take(step), proposal) for step in steps]).double().numpy()
    low, middle, high = _quantiles(model, pairs.inputs, pairs.ref_mag.numpy())
    width = (high - low) / 2
    a, b = pairs.first.numpy(), pairs.second.numpy()
    truth = injected.flux.double().numpy()
    parts = [
        _injected(model, injected.take(slice(start, start + _AT_ONCE)), proposal)
        for start in range(0, len(injected), _AT_ONCE)
    ]
    pit, low, median, high = np.concatenate(parts, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return HeldOutRows(
            difference=(middle[a] - middle[b]) / np.hypot(width[a], width[b]),
            brightness=(middle[a] + middle[b]) / 2,
            loss=loss,
            snr=truth / injected.flux_scale.double().numpy(),
            relative=(median - truth) / truth,
            pull=(median - truth) / ((high - low) / 2),
            pit=pit,
        )


def _quantiles(model: FluxModel, inputs: NetworkInputs, ref_mag: AnyArray) -> FloatArray:
    """Return the 16, 50 and 84 % quantiles of the PDFs, shape (3, n)."""
    out = np.empty((3, len(inputs)))
    for start in range(0, len(inputs), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        for pdf, some in _pdfs(model, model.predict(inputs.take(rows)), ref_mag[rows]):
            out[:, start + some] = pdf.quantile(_LEVELS).T
    return out


def _injected(model: FluxModel, batch: LabelledInputs, proposal: FluxProposal) -> FloatArray:
    """Return PIT and quantiles of some injected galaxies, shape (4, n)."""
    out = np.empty((4, len(batch)))
    truth, scale = batch.flux.double().numpy(), batch.flux_scale.double().numpy()
    for pdf, rows in _pdfs(model, model.predict(batch.inputs), batch.ref_mag.numpy()):
        out[1:, rows] = pdf.quantile(_LEVELS).T
        known: FluxPdf = pdf
        if model.config.kind == "likelihood":
            known = with_proposal(pdf, proposal, scale[rows])
        out[0, rows] = known.pit(truth[rows])
    return out


def _pdfs(model: FluxModel, output: MixtureOutput, ref_mag: AnyArray) -> list[tuple[Mixture, AnyArray]]:
    """Return the PDFs of a model's answer, with the rows that they are of: those cut at flux 0 and the others."""
    log_weights, means, stds = (part.double().numpy() for part in output.parameters)
    cut = model.is_cut(ref_mag, len(means))
    kinds: tuple[tuple[type[Mixture], AnyArray], ...] = (
        (GaussianMixture, np.flatnonzero(~cut)),
        (TruncatedMixture, np.flatnonzero(cut)),
    )
    return [(kind(np.exp(log_weights[rows]), means[rows], stds[rows]), rows) for kind, rows in kinds if len(rows)]
