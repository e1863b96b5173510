"""Unsupervised transfer: train the last layers so that exposures of one object agree, eq. 11-12 of the paper."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from lumos.adaptation.settings import AdaptSettings
from lumos.conventions import BoolArray, IntArray
from lumos.errors import LumosValueError
from lumos.nets.inputs import NetworkInputs
from lumos.nets.losses import likelihood_overlap_nll, overlap_nll
from lumos.nets.mdn import MixtureOutput
from lumos.nets.model import FluxModel
from lumos.rows import SHARED, Rowwise
from lumos.teahupoo.draws import FluxProposal
from lumos.training.data import LabelledInputs
from lumos.training.score import batch_loss

__all__ = ["PairedInputs", "SplitModel", "labelled_inputs", "pair_inputs", "pair_loss", "split_model", "transfer"]

#: What a progress display is told: epochs done, epochs in all, the losses.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PairedInputs(Rowwise):
    """Stamps of objects, and which two show one object.

    Parameters
    ----------
    inputs : NetworkInputs
        m stamps, fluxes in one unit for all.
    flux_scale, ref_mag : tensor, shape (m,), float32
        Unit of the proposal density in that unit; reference magnitudes.
    first, second : tensor, shape (n,), int64
        Stamps of each pair.
    """

    inputs: NetworkInputs = field(metadata=SHARED)
    flux_scale: Tensor = field(metadata=SHARED)
    ref_mag: Tensor = field(metadata=SHARED)
    first: Tensor
    second: Tensor


def pair_inputs(
    inputs: NetworkInputs, flux_scale: Tensor, ref_mag: Tensor, first: IntArray, second: IntArray
) -> tuple[PairedInputs, BoolArray]:
    """Pair stamps, without those that cannot be measured.

    Parameters
    ----------
    inputs : NetworkInputs
        m stamps, fluxes in one unit for all.
    flux_scale, ref_mag : tensor, shape (m,)
        Unit of the proposal density in that unit; reference magnitudes.
    first, second : int array, shape (n,)
        Stamps of each pair.

    Returns
    -------
    pairs : PairedInputs
        Pairs of usable stamps.
    usable : bool array, shape (n,)
        Which of the n these are.
    """
    fine = inputs.usable & torch.isfinite(flux_scale) & (flux_scale > 0)
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    usable = fine[a] & fine[b]
    return PairedInputs(inputs, flux_scale, ref_mag, a[usable], b[usable]), usable.numpy()


def labelled_inputs(
    inputs: NetworkInputs, flux: Tensor, flux_scale: Tensor, ref_mag: Tensor, wanted: BoolArray
) -> LabelledInputs:
    """Return some stamps with their true fluxes, without those that cannot be measured.

    Parameters
    ----------
    inputs : NetworkInputs
        Inputs of the network for n stamps.
    flux, flux_scale, ref_mag : tensor, shape (n,)
        True fluxes and the unit of the proposal density, in the unit of the inputs; reference magnitudes.
    wanted : bool array, shape (n,)
        True for the stamps to return, if they can be measured.

    Returns
    -------
    LabelledInputs
        The usable ones of those.
    """
    fine = inputs.usable & torch.isfinite(flux_scale) & (flux_scale > 0)
    return LabelledInputs(inputs, flux, flux_scale, ref_mag).take(fine & torch.from_numpy(wanted))


class _Tail(nn.Module):
    """The last layers of a network behind the interface of the whole: the images are what enters these layers."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor, scalars: Tensor, index: Tensor) -> MixtureOutput:  # noqa: ARG002 (see above)
        mixture: MixtureOutput = self.layers(images)
        return mixture


@dataclass(frozen=True)
class SplitModel:
    """A copy of a model, split before the layers that are trained.

    Parameters
    ----------
    whole : FluxModel
        The copy; its last layers are those of ``tail``.
    tail : FluxModel
        The trained layers as a model of their own, whose inputs :meth:`reduce` makes.
    """

    whole: FluxModel
    tail: FluxModel

    @torch.no_grad()
    def reduce(self, inputs: NetworkInputs) -> NetworkInputs:
        """Return inputs of the trained layers: what the layers before them make of stamps.

        Parameters
        ----------
        inputs : NetworkInputs
            Inputs of the whole network for n stamps.

        Returns
        -------
        NetworkInputs
            Inputs of ``tail`` for the same stamps.
        """
        if not isinstance(self.tail.network, _Tail):
            return inputs
        caught: list[Tensor] = []
        first = self.tail.network.layers[0]
        handle = first.register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
        try:
            self.whole.network(inputs.images, inputs.scalars, inputs.index)
        finally:
            handle.remove()
        empty = inputs.scalars[:, :0]
        return replace(inputs, images=caught[0].detach().clone(), scalars=empty, index=inputs.index)


def split_model(model: FluxModel, layers: str) -> SplitModel:
    """Copy a model and split it before the layers that shall be trained.

    Parameters
    ----------
    model : FluxModel
        The model; it is not changed.
    layers : {"head", "dense", "all"}
        The last linear layer, all dense layers, or everything.

    Returns
    -------
    SplitModel
        In evaluation mode: with the dropout or the batch statistics of training, features would differ from those of
        the measurement that shall agree.

    Raises
    ------
    LumosValueError
        If ``layers`` is none of these.
    """
    if layers not in ("head", "dense", "all"):
        raise LumosValueError("layers to adapt", layers, "head, dense, all")
    whole = replace(model, network=copy.deepcopy(model.network).eval())
    if layers == "all":
        return SplitModel(whole, replace(whole, domain=None))
    names = ["dense", "head"] if layers == "dense" else ["head"]
    tail = _Tail(nn.Sequential(*(whole.network.get_submodule(name) for name in names)))
    return SplitModel(whole, FluxModel(model.config, tail.eval()))


def pair_loss(model: FluxModel, pairs: PairedInputs, proposal: FluxProposal) -> Tensor:
    """Return the unsupervised loss of pairs: how little the fluxes of two exposures agree.

    Parameters
    ----------
    model : FluxModel
        Tail of a split model.
    pairs : PairedInputs
        n pairs of stamps of one galaxy and band.
    proposal : FluxProposal
        Density that the fluxes of a likelihood's training were drawn from.

    Returns
    -------
    tensor, shape (n,)
        Eq. 11 in units of the first exposure's error for posteriors, its counterpart for likelihoods.
    """
    a, b = pairs.inputs.take(pairs.first), pairs.inputs.take(pairs.second)
    # Fluxes are counted from the first exposure's centre in its unit: bright ones would lose their digits otherwise.
    offset = ((b.centre.double() - a.centre.double()) / a.unit).float()
    first = model.network(a.images, a.scalars, a.index).widened(a.widening / a.unit)
    second = model.network(b.images, b.scalars, b.index).scaled(b.unit / a.unit, offset).widened(b.widening / a.unit)
    origin = a.centre / a.unit
    if model.config.kind == "likelihood":
        # One density for both exposures, between those that the training had for each.
        scale = (pairs.flux_scale[pairs.first] * pairs.flux_scale[pairs.second]).sqrt() / a.unit
        return likelihood_overlap_nll(first, second, proposal, scale, origin)
    return _posterior_loss(model, pairs, first, second, origin)


def _posterior_loss(
    model: FluxModel, pairs: PairedInputs, first: MixtureOutput, second: MixtureOutput, origin: Tensor
) -> Tensor:
    """Return eq. 11, on the half-line for objects whose components are cut at flux 0."""
    cut = torch.from_numpy(model.is_cut(pairs.ref_mag[pairs.first].numpy(), len(pairs)))
    one = torch.ones_like(origin)
    first, second = (mixture.scaled(one, origin) for mixture in (first, second))
    losses = torch.empty_like(origin)
    for truncated, rows in ((True, cut), (False, ~cut)):
        a, b = (MixtureOutput(*(part[rows] for part in mixture.parameters)) for mixture in (first, second))
        losses[rows] = overlap_nll(a, b, truncated=truncated)
    return losses


def transfer(
    split: SplitModel,
    settings: AdaptSettings,
    pairs: PairedInputs,
    injected: LabelledInputs,
    proposal: FluxProposal,
    *,
    progress: Progress | None = None,
) -> tuple[dict[str, float], ...]:
    r"""Train the last layers on pairs of exposures and on injected galaxies, eq. 12.

    .. math:: L = w_s L_\mathrm{supervised} + w_u L_\mathrm{unsupervised}

    Parameters
    ----------
    split : SplitModel
        The model; its last layers are changed.
    settings : AdaptSettings
        Weights of the losses, epochs, rates.
    pairs : PairedInputs
        For the tail; all stamps usable.
    injected : LabelledInputs
        For the tail; all stamps usable.
    proposal : FluxProposal
        Density that the injected fluxes of a likelihood were drawn from.
    progress : callable, optional
        Told after each epoch.

    Returns
    -------
    tuple of dict
        Mean losses of each epoch.

    Raises
    ------
    LumosValueError
        If there are no pairs or no injected galaxies.
    """
    sizes = len(pairs), len(injected)
    if min(sizes) == 0:
        raise LumosValueError("pairs and injected galaxies to train with", sizes, "at least one of each")
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(split.tail.network.parameters(), lr=settings.learning_rate)
    n_steps = math.ceil(max(sizes) / settings.batch_size)
    curve = []
    for epoch in range(settings.epochs):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (0.1 if epoch >= settings.step_at * settings.epochs else 1.0)
        orders = [_order(size, n_steps * settings.batch_size, generator) for size in sizes]
        total = torch.zeros(2)
        for step in range(n_steps):
            rows = [
                order[step * settings.batch_size : (step + 1) * settings.batch_size][:size]
                for order, size in zip(orders, sizes, strict=True)
            ]
            supervised = batch_loss(split.tail, injected.take(rows[1]), proposal).mean()
            unsupervised = pair_loss(split.tail, pairs.take(rows[0]), proposal).mean()
            optimizer.zero_grad()
            loss = settings.supervised_weight * supervised + settings.unsupervised_weight * unsupervised
            torch.autograd.backward(loss)
            optimizer.step()
            total += torch.stack([supervised.detach(), unsupervised.detach()])
        means = (total / n_steps).tolist()
        curve.append({"supervised": means[0], "unsupervised": means[1]})
        if progress is not None:
            progress(epoch + 1, settings.epochs, f"losses: injected {means[0]:.4f}, pairs {means[1]:.4f}")
    return tuple(curve)


def _order(size: int, n: int, generator: torch.Generator) -> Tensor:
    """Return n rows of ``size`` in random order, each as often as the others up to one."""
    return torch.cat([torch.randperm(size, generator=generator) for _ in range(math.ceil(n / size))])[:n]
