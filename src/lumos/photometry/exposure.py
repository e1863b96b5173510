"""Measure one exposure: every object of the catalogue in its footprint becomes one row."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from lumos.background.correlation import apply_correlation
from lumos.catalogs.parent import ParentCatalog
from lumos.config import validated
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, FloatArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.estimators import ESTIMATORS, Estimator, StampBatch
from lumos.estimators.base import ANNULUS
from lumos.flags import NAN_FLUX, Flag, flag_names
from lumos.images.exposure import Exposure
from lumos.images.zeropoint import known_zeropoint
from lumos.nets.domain_box import exposure_verdict
from lumos.nets.estimator import network_estimator
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import Ccd, in_handy_units, object_batches, prepare_ccd
from lumos.photometry.columns import Columns, columns_of, empty_columns, in_flux_units, settle, to_table
from lumos.photometry.hidden import doubtful_fluxes, without_hidden
from lumos.photometry.neighbours import scene_columns, scene_flags, widen
from lumos.photometry.network import background_model_of, model_of, with_background
from lumos.photometry.objects import on_image, place_objects
from lumos.photometry.scene import SCENE_REACH
from lumos.photometry.settings import NETWORK, MeasureSettings

__all__ = ["estimators_of", "measure_exposure"]

logger = logging.getLogger(__name__)

#: Largest share of objects without a flux that is no reason for a warning.
_MANY = 0.5


def measure_exposure(exposure: Exposure, catalog: ParentCatalog, settings: MeasureSettings) -> pa.Table:
    """Measure all catalogue objects inside the footprint of one exposure.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    catalog : ParentCatalog
        All objects, on the exposure or not.
    settings : MeasureSettings
        What to measure and how.

    Returns
    -------
    pyarrow.Table
        One row per object on the exposure, in catalogue order, columns of ``schema.yaml``.

    Raises
    ------
    LumosDataError
        If the exposure has no PSF or not the noise source asked for, or is none for the model.
    LumosConfigError
        If an estimator or the model is unknown.
    """
    estimators = estimators_of(settings)
    zeropoint = known_zeropoint(exposure.zeropoint, exposure.path)
    exposure, unit = in_handy_units(replace(exposure, zeropoint=zeropoint))
    if exposure.psf is None:
        reason = str(exposure.provenance.get("psf", "none: not given")).removeprefix("none: ")
        raise LumosDataError(f"{exposure.path}: no PSF is known: {reason}; `lumos psf` makes one, --psf reads it")
    around = place_objects(exposure, catalog, settings, margin=SCENE_REACH)
    ccd = prepare_ccd(exposure, unit, around, on_image(around, exposure), settings)
    columns = empty_columns(len(ccd.objects), estimators.values())
    columns["flags"][:] = ccd.objects.flags
    for rows in object_batches(ccd.objects, settings):
        for name, values in _measure_batch(ccd, rows, estimators).items():
            if name == "flags":
                columns["flags"][rows] |= values
            else:
                columns[name][rows] = values
    calibrated = np.isfinite(zeropoint)
    factor = unit * (10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)) if calibrated else 1.0)
    columns = in_flux_units(columns, estimators.values(), factor)
    columns["flags"] |= 0 if calibrated else int(Flag.NO_ZEROPOINT)
    judged = any(one.judges_exposures for one in estimators.values())
    verdict = _judge(exposure, columns["ood_score"]) if judged else None
    settle(columns, estimators.values(), settings.default_estimator)
    columns["flags"] |= doubtful_fluxes(columns, ccd.objects.catalog.ref_mag)
    columns |= scene_columns(ccd)
    columns["flags"] |= scene_flags(ccd)
    _warn_of_nan(exposure, columns)
    _warn_of_units_and_catalog(exposure, catalog)
    return to_table(ccd, columns, estimators, verdict)


def estimators_of(settings: MeasureSettings) -> dict[str, Estimator]:
    """Return the estimators that the settings ask for.

    Parameters
    ----------
    settings : MeasureSettings
        Names, options and model.

    Returns
    -------
    dict
        Estimators by name, each with its options.

    Raises
    ------
    LumosConfigError
        If a name or an option is unknown, or the model does not exist or was trained on other stamps or scenes.
    """
    for name in (*settings.estimators, *settings.options):
        if name not in ESTIMATORS:
            raise LumosConfigError(f"unknown estimator {name!r}, allowed: {', '.join(ESTIMATORS)}")
    chosen = [ESTIMATORS[name] for name in settings.estimators]
    model = model_of(settings.model)
    if model is not None:
        model.config.check_geometry(settings.geometry)
        if model.config.input_version == 2 and settings.scene == "off":
            trained = f"model {model.config.name!r} was trained on stamps without their neighbours"
            raise LumosConfigError(f"{trained}: measure.scene=off is not for it, allowed: joint")
        chosen.append(network_estimator(model, NETWORK, bfloat16=settings.precision == "bfloat16"))
    return {one.name: _with_options(one, settings) for one in chosen}


def _with_options(estimator: Estimator, settings: MeasureSettings) -> Estimator:
    given = settings.options.get(estimator.name, {})
    options = validated(estimator.options, given, f"measure.options.{estimator.name}").model_dump()
    background = background_model_of(options.pop("background", ANNULUS))
    chosen = replace(estimator, function=partial(estimator.function, max_masked=settings.max_masked, **options))
    if background is None:
        return chosen
    background.config.check_geometry(settings.geometry)
    return with_background(chosen, background)


def _measure_batch(ccd: Ccd, rows: AnyArray, estimators: Mapping[str, Estimator]) -> Columns:
    """Run every estimator on objects that share a stamp size."""
    settings = ccd.settings
    batch, cutout, flags = stamp_batch(ccd, rows)
    if not estimators[settings.default_estimator].needs_background:
        flags &= ~int(Flag.BAD_BACKGROUND)
    columns: Columns = {
        "background": cutout.background.level.numpy(),
        "background_err": cutout.background.level_err.numpy(),
        "flux_without_hidden": without_hidden(ccd, rows, batch),
    }
    correlation = ccd.noise.correlation_at(batch.data.shape[1])
    factor = 1.0 if correlation is None else torch.from_numpy(correlation.factor_at(_noise_area(batch)))
    for name, estimator in estimators.items():
        try:
            measured = estimator(batch)
        except LumosDataError as error:
            raise LumosDataError(f"{ccd.exposure.path}: {error}") from error
        if correlation is not None:
            measured = apply_correlation(measured, correlation)
        if batch.scene is not None and measured.pdf is None:
            measured = widen(measured, batch.scene.widening * factor)
        columns |= columns_of(name, measured, settings.noise.relative_floor)
        told = measured.flags.numpy()
        flags |= told if name == settings.default_estimator else told & int(estimator.notes)
    columns["flags"] = flags
    return columns


def _noise_area(batch: StampBatch) -> FloatArray:
    """Return the noise-equivalent area of the profiles in pixels, shape (n,)."""
    profile = batch.profile.flatten(1)
    return np.asarray((profile.sum(1).square() / torch.linalg.vecdot(profile, profile)).double().numpy())


def _judge(exposure: Exposure, scores: AnyArray) -> float:
    """Return a model's verdict on an exposure; warn of a suspect one."""
    verdict = exposure_verdict(scores)
    if verdict > 1:
        text = (
            "its stamps share a fault, or are none that the model knows (`lumos models NAME` says what it knows). "
            "Check first the PSF (--psf, or psf in the survey file), then the catalogue's positions and radii, "
            "noise (gain and variance in the survey file, measure.noise.source) and pixel scale"
        )
        logger.warning("%s: verdict of the model %.2f, suspect above 1: %s", exposure.path, verdict, text)
    return verdict


def _warn_of_units_and_catalog(exposure: Exposure, catalog: ParentCatalog) -> None:
    """Warn of fluxes in image units, and of those that the catalogue's choice biases."""
    if not np.isfinite(exposure.zeropoint):
        text = "no zero point: fluxes are in image units, not nJy (NO_ZEROPOINT); a survey file names its keyword"
        logger.warning("%s: %s (header.zeropoint), or `lumos coadd --zeropoints TABLE` gives it", exposure.path, text)
    if exposure.exposure_id in catalog.made_from:
        text = "the catalogue was made from this exposure: fluxes near its limit are biased high (CATALOG_EXPOSURE)"
        logger.warning("%s: %s", exposure.path, text)


def _warn_of_nan(exposure: Exposure, columns: Columns) -> None:
    """Warn of an exposure most of whose fluxes are NaN, with the flags that say why."""
    unmeasured = np.isnan(columns["flux"])
    if not unmeasured.sum() > _MANY * len(unmeasured):
        return
    flags = columns["flags"][unmeasured] & int(NAN_FLUX)
    counts = {name: int(np.sum((flags & int(Flag[name])) != 0)) for name in flag_names(int(NAN_FLUX))}
    reasons = ", ".join(f"{name} {number}" for name, number in counts.items() if number)
    logger.warning("%s: %d of %d fluxes are NaN (%s)", exposure.path, unmeasured.sum(), len(unmeasured), reasons)
