"""The CCDs of a finished run, and stamps cut from them as inputs of a model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lumos.adaptation.pairs import MeasuredRun
from lumos.background.noise import ExposureNoise
from lumos.coadds.calibrate import Calibration, calibrate_run
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosDataError
from lumos.estimators import StampBatch
from lumos.flags import UNUSABLE, Flag
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.nets.estimator import prepare_inputs
from lumos.nets.inputs import NetworkInputs
from lumos.nets.model import FluxModel
from lumos.photometry.batches import in_handy_units, object_batches, object_noise, stamp_batch
from lumos.photometry.network import check_model, noise_factor, side_inputs
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.photometry.settings import MeasureSettings

__all__ = ["Ccd", "PreparedStamps", "Reduce", "closed_form_error", "iterate_ccds", "prepare"]

#: Stamps that no model has been trained on: beside those that nobody would use, those that leave the image.
_UNFIT = UNUSABLE | Flag.EDGE

#: What becomes of inputs as soon as they are made: images of many exposures do not fit into memory.
Reduce = Callable[[NetworkInputs], NetworkInputs]


@dataclass(frozen=True)
class Ccd:
    """One CCD of one exposure of a run, ready for a model.

    Parameters
    ----------
    exposure : Exposure
        In units of ``unit`` image units.
    unit : float
        Image units.
    noise : ExposureNoise
        Of the exposure.
    objects : PlacedObjects
        All catalogue objects on it.
    scale : float
        Factor from image units to those that all exposures share.
    settings : MeasureSettings
        Of the run.
    """

    exposure: Exposure
    unit: float
    noise: ExposureNoise
    objects: PlacedObjects
    scale: float
    settings: MeasureSettings


@dataclass(frozen=True)
class PreparedStamps:
    """Inputs of a model for n objects of any exposures, fluxes in the unit that all exposures share.

    Parameters
    ----------
    inputs : NetworkInputs
        For n objects.
    flux_scale : tensor, shape (n,), float32
        Closed-form error of the flux for white sky noise, the unit of the density that training draws fluxes from.
    ref_mag : tensor, shape (n,), float32
        Reference magnitudes.
    """

    inputs: NetworkInputs
    flux_scale: Tensor
    ref_mag: Tensor

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join stamps.

        Parameters
        ----------
        parts : sequence of PreparedStamps
            One or more, of one model.

        Returns
        -------
        PreparedStamps
            All objects, in order.
        """
        inputs = NetworkInputs.concatenate(part.inputs for part in parts)
        rest = (torch.cat([getattr(part, name) for part in parts]) for name in ("flux_scale", "ref_mag"))
        return cls(inputs, *rest)


def iterate_ccds(run: MeasuredRun, model: FluxModel) -> Iterator[Ccd]:
    """Read the CCDs of a run one after the other.

    Parameters
    ----------
    run : MeasuredRun
        The run.
    model : FluxModel
        The model that they are for.

    Yields
    ------
    Ccd
        In the order of the exposures' names; CCDs that nothing calibrates are left out where others are calibrated.

    Raises
    ------
    LumosDataError
        If a file is missing, or an exposure is none for the model.
    """
    calibration = calibrate_run([run.path])
    for path in run.files.values():
        for exposure in read_exposure(path, run.survey, psf_dir=run.psf_dir):
            check_model(model, exposure)
            scale = _scale(calibration, exposure)
            if not np.isfinite(scale):
                continue
            objects = place_objects(exposure, run.catalog, run.settings)
            handy, unit = in_handy_units(exposure)
            noise = object_noise(handy, objects, run.settings)
            yield Ccd(handy, unit, noise, objects, scale, run.settings)


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


def prepare(model: FluxModel, ccd: Ccd, objects: PlacedObjects, reduce: Reduce) -> PreparedStamps:
    """Prepare stamps of a CCD for a model.

    Parameters
    ----------
    model : FluxModel
        The model.
    ccd : Ccd
        Where to cut.
    objects : PlacedObjects
        n objects on it, each with a shape and a PSF.
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
    if not objects.usable.all() or len(objects) == 0:
        raise LumosDataError(f"{ccd.exposure.path}: an object has no shape or no PSF; measure again")
    parts, scales, order, fine = [], [], [], []
    for rows in object_batches(objects, ccd.settings):
        batch, _, flags = stamp_batch(ccd.exposure, ccd.noise, objects, rows, ccd.settings)
        side = side_inputs(model, ccd.exposure, objects, rows, unit=ccd.unit)
        factor = noise_factor(ccd.noise, batch)
        parts += [reduce(inputs) for inputs in prepare_inputs(model, batch, side, factor)]
        scales.append(closed_form_error(batch))
        fine.append(torch.from_numpy((flags & int(_UNFIT)) == 0))
        order.append(rows)
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    inputs, scale = NetworkInputs.concatenate(parts), ccd.unit * ccd.scale
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
        n objects.

    Returns
    -------
    tensor, shape (n,)
        (v / sum m^2)^(1/2) with the profile m and the median v of the sky's variance, in the batch's unit.
    """
    sky = batch.sky_variance.flatten(1).median(dim=1).values
    return (sky / batch.profile.square().sum((1, 2))).sqrt()
