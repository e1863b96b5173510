"""A trained model as an estimator: stamps in, flux PDFs out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.estimators import Ellipses, Estimator, Measurement, Mixture, StampBatch, StampContext
from lumos.estimators.base import NoiseFactor
from lumos.flags import Flag
from lumos.nets.domain_box import psf_score
from lumos.nets.inputs import NetworkInputs, SideInputs
from lumos.nets.model import FluxModel

__all__ = ["band_and_state", "bin_stamps", "network_estimator", "network_fluxes", "prepare_inputs", "side_inputs"]


#: Objects whose inputs stay in a processor's cache.
_AT_ONCE = 128


def network_estimator(model: FluxModel, name: str, *, bfloat16: bool = False) -> Estimator:
    """Return a model as an estimator.

    Parameters
    ----------
    model : FluxModel
        The model.
    name : str
        Of the estimator.
    bfloat16 : bool, optional
        Compute the convolutions in bfloat16.

    Returns
    -------
    Estimator
        Its batches need a context. Its PDFs have ``model.n_components`` components; it fills the column
        ``ood_score`` and flags objects unlike the training's with ``OUT_OF_DOMAIN``.
    """

    def measure(batch: StampBatch, *, max_masked: float = 0.0) -> Measurement:  # noqa: ARG001 (flags of the stamps say it)
        if batch.context is None:
            raise LumosValueError("context of the stamps", None, "band, state and place of each object")
        side = side_inputs(model, batch.context)
        measured = network_fluxes(model, batch, side, batch.context.noise_factor, bfloat16=bfloat16)
        step = batch.data.shape[1] // model.config.stamp_size
        of_psf = torch.from_numpy(psf_score(batch.context.psf_fwhm.numpy(), step, model.config.domain))
        score = torch.maximum(measured.columns["ood_score"], of_psf)
        flags = torch.where(score > 1, int(Flag.OUT_OF_DOMAIN), 0).int()
        return replace(measured, flags=flags, columns={"ood_score": score})

    return Estimator(
        name,
        measure,
        n_components=model.n_components,
        notes=Flag.OUT_OF_DOMAIN,
        judges_exposures=model.domain is not None,
    )


def side_inputs(model: FluxModel, context: StampContext) -> SideInputs:
    """Return what a model takes of objects beside their stamps.

    Parameters
    ----------
    model : FluxModel
        The model.
    context : StampContext
        Of n objects.

    Returns
    -------
    SideInputs
        Of n objects.

    Raises
    ------
    LumosDataError
        If the model was not trained on the band or camera state, or the exposure lacks what it needs.
    """
    band, state = band_and_state(model, context.band, context.state, len(context))
    needed = {"zeropoint": context.ref_flux} if model.config.reference else {}
    needed |= {"gain or exposure time": context.rate} if model.config.architecture == "paper" else {}
    # A catalogue without magnitudes is another matter.
    known = torch.isfinite(context.ref_mag)
    missing = [name for name, values in needed.items() if len(values) and not values[known].isfinite().all()]
    if missing:
        raise LumosDataError(f"no {', '.join(missing)}, which model {model.config.name!r} needs")
    return SideInputs(
        band=band,
        state=state,
        ccd_x=context.ccd_x,
        ccd_y=context.ccd_y,
        ref_mag=context.ref_mag,
        ref_flux=context.ref_flux,
        rate=context.rate,
    )


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
    rows = [None if row is None else torch.full((n,), row) for row in model.config.rows_of(band, state)]
    return rows[0], rows[1]


def network_fluxes(
    model: FluxModel,
    batch: StampBatch,
    side: SideInputs,
    noise_factor: NoiseFactor | None = None,
    *,
    bfloat16: bool = False,
) -> Measurement:
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
    Measurement
        Of n objects; flux and error are the moments of the components, before any cut at 0. NaN where an object
        cannot be measured. ``ood_score`` is the distance from the training domain, above 1 outside.

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
    log_weights, means, stds, score = (torch.cat(values).double() for values in zip(*parts, strict=True))
    ref_mag = None if side.ref_mag is None else side.ref_mag.double().numpy()
    # As numpy has it: the last digit of another exponential is another.
    weights = torch.from_numpy(np.exp(log_weights.numpy()))
    pdf = Mixture(weights, means, stds, torch.from_numpy(model.is_cut(ref_mag, len(batch))))
    mean = (weights * means).sum(1)
    std = ((weights * (stds.square() + means.square())).sum(1) - mean.square()).clamp(min=0).sqrt()
    flags = torch.zeros(len(batch), dtype=torch.int32)
    return Measurement(mean, std, flags, pdf=pdf, columns={"ood_score": score})


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

    scene = batch.scene
    if scene is not None:
        explained = avg_pool2d(scene.explained.float()[:, None], step)[:, 0] == 1
        scene = replace(scene, others=total(scene.others), explained=explained)
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
        scene=scene,
    )
