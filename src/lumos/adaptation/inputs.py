"""The CCDs of a finished run, and stamps cut from them as inputs of a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumos.coadds.calibrate import Calibration, calibrate_run
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosDataError
from lumos.estimators import StampBatch
from lumos.flags import UNUSABLE, Flag
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.nets.estimator import band_and_state, prepare_inputs, side_inputs
from lumos.nets.inputs import NetworkInputs
from lumos.nets.model import FluxModel
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import Ccd, in_handy_units, object_batches, prepare_ccd
from lumos.photometry.measured import MeasuredRun
from lumos.photometry.objects import on_image, place_objects
from lumos.photometry.scene import SCENE_REACH
from lumos.rows import Rowwise

__all__ = ["PreparedStamps", "Reduce", "ScaledCcd", "closed_form_error", "iterate_ccds", "prepare"]

#: Stamps that no model has been trained on: beside those that nobody would use, those that leave the image.
_UNFIT = UNUSABLE | Flag.EDGE

#: What becomes of inputs as soon as they are made: images of many exposures do not fit into memory.
Reduce = Callable[[NetworkInputs], NetworkInputs]


@dataclass(frozen=True)
class ScaledCcd:
    """One CCD of a run, with its unit.

    Parameters
    ----------
    ccd : Ccd
        With all catalogue objects on it.
    scale : float
        Factor from image units to those that all exposures share.
    """

    ccd: Ccd
    scale: float


@dataclass(frozen=True)
class PreparedStamps(Rowwise):
    """Inputs of a model for n objects of any exposures, fluxes in the unit that all exposures share.

    Parameters
    ----------
    inputs : NetworkInputs
        For n objects.
    flux_scale : tensor, shape (n,), float32
        Closed-form error of the flux for white sky noise, the unit of the density that training draws fluxes from.
    ref_mag : tensor, shape (n,), float32
        Reference magnitudes of the catalogue.
    """

    inputs: NetworkInputs
    flux_scale: Tensor
    ref_mag: Tensor


def iterate_ccds(run: MeasuredRun, model: FluxModel) -> Iterator[ScaledCcd]:
    """Read the CCDs of a run one after the other.

    Parameters
    ----------
    run : MeasuredRun
        Run whose CCDs are read.
    model : FluxModel
        The model that they are for.

    Yields
    ------
    ScaledCcd
        In the order of the exposures' names; CCDs that nothing calibrates are left out where others are calibrated.

    Raises
    ------
    LumosDataError
        If a file is missing, or an exposure is none for the model.
    """
    calibration, catalog = calibrate_run([run.path]), run.read_catalog()
    for entry in run.finished.values():
        for exposure in read_exposure(Path(entry["file"]), run.survey, psf_dir=run.psf_dir):
            try:
                band_and_state(model, exposure.band, exposure.state, 0)
            except LumosDataError as error:
                raise LumosDataError(f"{exposure.path}: {error}") from error
            scale = _scale(calibration, exposure)
            if not np.isfinite(scale):
                continue
            around = place_objects(exposure, catalog, run.settings, margin=SCENE_REACH)
            handy, unit = in_handy_units(exposure)
            yield ScaledCcd(prepare_ccd(handy, unit, around, on_image(around, exposure), run.settings), scale)


def _scale(calibration: Calibration, exposure: Exposure) -> float:
    """Return the factor from image units to nJy; 1 where no exposure of the run has a zero point."""
    if not np.isfinite(calibration.log_scale).any():
        return 1.0
    known = set(zip(calibration.exposure_id, calibration.detector, strict=True))
    if (exposure.exposure_id, exposure.detector) not in known:
        return float("nan")  # a CCD without objects
    unit = calibration.index(np.array([exposure.exposure_id]), np.array([exposure.detector]))[0]
    # The run's fluxes are in nJy by the stated zero point where there is one.
    stated = 10 ** (0.4 * (AB_ZEROPOINT_NJY - exposure.zeropoint)) if np.isfinite(exposure.zeropoint) else 1.0
    return float(stated * np.exp(calibration.log_scale[unit]))


def prepare(model: FluxModel, scaled: ScaledCcd, reduce: Reduce) -> PreparedStamps:
    """Prepare stamps of a CCD for a model.

    Parameters
    ----------
    model : FluxModel
        Model that the inputs are for.
    scaled : ScaledCcd
        A CCD with n objects, each with a shape and a PSF.
    reduce : callable
        What is kept of the inputs.

    Returns
    -------
    PreparedStamps
        Of n objects, in order; those on bad pixels or whose stamp leaves the image are not usable.

    Raises
    ------
    LumosDataError
        If an object lacks a shape or a PSF.
    LumosShapeError
        If the run's stamps are not of the model's size.
    """
    ccd, objects = scaled.ccd, scaled.ccd.objects
    if not objects.usable.all() or len(objects) == 0:
        raise LumosDataError(f"{ccd.exposure.path}: an object has no shape or no PSF; measure again")
    parts, scales, order, fine = [], [], [], []
    for rows in object_batches(objects, ccd.settings):
        batch, _, flags = stamp_batch(ccd, rows)
        assert batch.context is not None
        try:
            side = side_inputs(model, batch.context)
        except LumosDataError as error:
            raise LumosDataError(f"{ccd.exposure.path}: {error}") from error
        parts += [reduce(inputs) for inputs in prepare_inputs(model, batch, side, batch.context.noise_factor)]
        scales.append(closed_form_error(batch))
        fine.append(torch.from_numpy((flags & int(_UNFIT)) == 0))
        order.append(rows)
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    inputs, scale = NetworkInputs.concatenate(parts), ccd.unit * scaled.scale
    usable = inputs.usable & torch.cat(fine)
    inputs = replace(inputs, centre=inputs.centre * scale, unit=inputs.unit * scale, usable=usable)
    return PreparedStamps(
        inputs=inputs.take(back),
        flux_scale=torch.cat(scales)[back] * scale,
        ref_mag=torch.from_numpy(objects.catalog.ref_mag).float(),
    )


def closed_form_error(batch: StampBatch) -> Tensor:
    """Return the error of the flux for white sky noise and no mask, the unit of the density of training fluxes.

    Parameters
    ----------
    batch : StampBatch
        Stamps of n objects.

    Returns
    -------
    tensor, shape (n,)
        (v / sum m^2)^(1/2) with the profile m and the median v of the sky's variance, in the batch's unit.
    """
    sky = batch.sky_variance.flatten(1).median(dim=1).values
    return (sky / batch.profile.square().sum((1, 2))).sqrt()
