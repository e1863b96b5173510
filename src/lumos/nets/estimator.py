"""A trained model as an estimator: stamps in, flux PDFs out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.errors import LumosDataError, LumosShapeError
from lumos.estimators import Ellipses, StampBatch
from lumos.nets.inputs import NetworkInputs, NoiseFactor, SideInputs
from lumos.nets.model import FluxModel

__all__ = ["NetworkFluxes", "band_and_state", "bin_stamps", "network_fluxes", "prepare_inputs"]


#: Objects whose inputs stay in a processor's cache.
_AT_ONCE = 128


@dataclass(frozen=True)
class NetworkFluxes:
    """Flux PDFs of n objects with K components, image units; NaN for objects that cannot be measured.

    Parameters
    ----------
    weights, means, stds : float array, shape (n, K)
        Gaussian components.
    is_cut : bool array, shape (n,)
        Whether the components are cut at flux 0.
    ood_score : float array, shape (n,)
        Distance from the training domain; above 1 is outside.
    """

    weights: FloatArray
    means: FloatArray
    stds: FloatArray
    is_cut: BoolArray
    ood_score: FloatArray


def band_and_state(model: FluxModel, band: str, state: str, n: int) -> tuple[Tensor | None, Tensor | None]:
    """Return the rows of the model's embeddings for objects of one exposure.

    Parameters
    ----------
    model : FluxModel
        The model.
    band, state : str
        Of the exposure.
    n : int
        Number of objects.

    Returns
    -------
    band, state : tensor, shape (n,), int64, or None
        None where the model takes any.

    Raises
    ------
    LumosDataError
        If the model was not trained on the band or the state.
    """
    rows = []
    for what, name, known in (("band", band, model.config.bands), ("state", state, model.config.states)):
        if known and name not in known:
            raise LumosDataError(
                f"model {model.config.name!r} does not know {what} {name!r}, allowed: {', '.join(known)}"
            )
        rows.append(torch.full((n,), known.index(name)) if known else None)
    return rows[0], rows[1]


def network_fluxes(
    model: FluxModel,
    batch: StampBatch,
    side: SideInputs,
    noise_factor: NoiseFactor | None = None,
    *,
    bfloat16: bool = False,
) -> NetworkFluxes:
    """Measure flux PDFs with a model.

    Parameters
    ----------
    model : FluxModel
        The model.
    batch : StampBatch
        n objects. Stamps of a multiple of the model's size are binned to it.
    side : SideInputs
        What else is known.
    noise_factor : callable, optional
        Correlation of the pixels' noise, as a function of area in the pixels of ``batch``.
    bfloat16 : bool
        Compute the convolutions in bfloat16.

    Returns
    -------
    NetworkFluxes
        Of n objects.

    Raises
    ------
    LumosShapeError
        If the stamps are of another size.
    LumosValueError
        If a side input that the model needs is missing.
    """
    parts = []
    for inputs in prepare_inputs(model, batch, side, noise_factor):
        output = model.predict(inputs, bfloat16=bfloat16)
        parts.append((*output.parameters, model.ood_score(inputs, output)))
    log_weights, means, stds, score = (torch.cat(values).double().numpy() for values in zip(*parts, strict=True))
    ref_mag = None if side.ref_mag is None else side.ref_mag.double().numpy()
    return NetworkFluxes(np.exp(log_weights), means, stds, model.is_cut(ref_mag, len(batch)), score)


def prepare_inputs(
    model: FluxModel, batch: StampBatch, side: SideInputs, noise_factor: NoiseFactor | None = None
) -> Iterator[NetworkInputs]:
    """Prepare stamps for a model, a few at a time.

    Parameters
    ----------
    model : FluxModel
        The model.
    batch : StampBatch
        n objects. Stamps of a multiple of the model's size are binned to it.
    side : SideInputs
        What else is known.
    noise_factor : callable, optional
        Correlation of the pixels' noise, as a function of area in the pixels of ``batch``.

    Yields
    ------
    NetworkInputs
        In order; one without objects where n is 0.

    Raises
    ------
    LumosShapeError
        If the stamps are of another size.
    LumosValueError
        If a side input that the model needs is missing.
    """
    size, wanted = batch.data.shape[1:], model.config.stamp_size
    step = size[0] // wanted
    if step < 1 or tuple(size) != (step * wanted, step * wanted):
        allowed = f"{wanted} x {wanted} px or a multiple, as model {model.config.name!r} has been trained"
        raise LumosShapeError("stamps", tuple(size), allowed)
    factor = noise_factor
    if step > 1:
        batch = bin_stamps(batch, step)
        if noise_factor is not None:

            def factor(area: AnyArray) -> FloatArray:
                return noise_factor(area * step**2)

    for start in range(0, max(1, len(batch)), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        yield model.inputs(batch.take(some), side.take(some), factor)


def bin_stamps(batch: StampBatch, step: int) -> StampBatch:
    """Sum blocks of pixels: stamps of the same sky with larger pixels.

    Parameters
    ----------
    batch : StampBatch
        n objects; the side of their stamps is a multiple of ``step``.
    step : int
        Side of a block in pixels.

    Returns
    -------
    StampBatch
        The same objects and fluxes. A block with an unusable pixel is unusable.
    """
    area = step**2

    def total(images: Tensor) -> Tensor:
        if images.shape[1] == 1:
            return images * area
        return avg_pool2d(images[:, None], step)[:, 0] * area

    return replace(
        batch,
        data=total(batch.data),
        good=avg_pool2d(batch.good.float()[:, None], step)[:, 0] == 1,
        sky_variance=total(batch.sky_variance),
        profile=total(batch.profile),
        x=(batch.x + 0.5) / step - 0.5,
        y=(batch.y + 0.5) / step - 0.5,
        ellipses=Ellipses(batch.ellipses.semi_major / step, batch.ellipses.semi_minor / step, batch.ellipses.theta),
        background=batch.background * area,
        background_err=batch.background_err * area,
        own_light=batch.own_light * area,
        variance=None if batch.variance is None else total(batch.variance),
    )
