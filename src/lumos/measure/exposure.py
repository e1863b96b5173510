"""Measure one exposure: every object of the catalogue in its footprint becomes one row."""

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.tables import measure_schema, to_arrow
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.estimators import ESTIMATORS, Estimator, StampBatch
from lumos.estimators.noise import apply_correlation
from lumos.flags import Flag
from lumos.images.exposure import Exposure
from lumos.measure.batches import in_handy_units, object_batches, stamp_batch
from lumos.measure.network import check_model, measure_network, model_facts, model_of, summarise
from lumos.measure.noise import ExposureNoise, exposure_noise
from lumos.measure.objects import PlacedObjects, place_objects
from lumos.measure.settings import NETWORK, MeasureSettings
from lumos.nets.domain import exposure_verdict
from lumos.nets.estimator import NetworkFluxes
from lumos.nets.model import FluxModel

__all__ = ["estimators_of", "measure_exposure"]

logger = logging.getLogger(__name__)

#: Columns of the flux PDF, and those that carry no flux unit.
_COMPONENTS = ("pdf_weights", "pdf_means", "pdf_stds")
_UNITLESS = frozenset({"flags", "pdf_weights", "ood_score", "is_cut"})

Columns = dict[str, AnyArray]


def estimators_of(settings: MeasureSettings) -> dict[str, Estimator]:
    """Return the estimators that the settings ask for.

    Parameters
    ----------
    settings : MeasureSettings
        Their names, and the aperture's share of light.

    Returns
    -------
    dict
        Functions by name.

    Raises
    ------
    LumosConfigError
        If a name is unknown.
    """
    for name in settings.estimators:
        if name not in ESTIMATORS:
            raise LumosConfigError(f"unknown estimator {name!r}, allowed: {', '.join(ESTIMATORS)}")
    fraction = {"aperture": {"fraction": settings.aperture_fraction}}
    return {
        name: partial(ESTIMATORS[name], max_masked=settings.max_masked, **fraction.get(name, {}))
        for name in settings.estimators
    }


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
    model = model_of(settings.model)
    if model is not None:
        check_model(model, exposure)
    zeropoint = exposure.zeropoint
    exposure, unit = in_handy_units(exposure)
    if exposure.psf is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known (the survey names none; `lumos psf` makes one)")
    objects = place_objects(exposure, catalog, settings)
    noise = exposure_noise(exposure, settings.noise)
    columns = _empty_columns(len(objects), settings, model)
    columns["flags"][:] = objects.flags
    for rows in object_batches(objects, settings):
        batch, measured = _measure_batch(exposure, noise, objects, rows, estimators, settings)
        if model is not None:
            bfloat16 = settings.precision == "bfloat16"
            pdfs = measure_network(model, exposure, noise, objects, rows, batch, unit=unit, bfloat16=bfloat16)
            measured |= _network_columns(pdfs, measured["flags"], settings)
        for name, values in measured.items():
            if name == "flags":
                columns["flags"][rows] |= values
            else:
                columns[name][rows] = values
    columns = {name: values if name in _UNITLESS else values * unit for name, values in columns.items()}
    if model is not None and model.domain is not None:
        verdict = exposure_verdict(columns["ood_score"])
        exposure = replace(exposure, provenance={**exposure.provenance, "ood_verdict": round(verdict, 3)})
        if verdict > 1:
            text = (
                "its stamps share a fault, or are none that the model knows (`lumos models NAME` says what it knows). "
                "Check first the PSF (--psf, or psf in the survey file), then the catalogue's positions and radii, "
                "noise (gain and variance in the survey file, measure.noise.source) and pixel scale"
            )
            logger.warning("%s: verdict of the model %.2f, suspect above 1: %s", exposure.path, verdict, text)
    return _table(replace(exposure, zeropoint=zeropoint), noise, objects, columns, settings)


def _empty_columns(n: int, settings: MeasureSettings, model: FluxModel | None) -> Columns:
    names = ["background", "background_err"]
    names += [f"{estimator}_{part}" for estimator in settings.estimators for part in ("flux", "flux_err")]
    columns: Columns = {name: np.full(n, np.nan) for name in names}
    if model is not None:
        columns |= {name: np.full((n, model.n_components), np.nan) for name in _COMPONENTS}
        columns |= {"ood_score": np.full(n, np.nan), "is_cut": np.zeros(n, dtype=np.bool_)}
    return {**columns, "flags": np.zeros(n, dtype=np.int64)}


def _network_columns(pdfs: NetworkFluxes, flags: AnyArray, settings: MeasureSettings) -> Columns:
    """Return the columns of a model's PDFs, with what the exposure's noise makes of them."""
    bad = ((flags & int(Flag.BAD_NOISE)) != 0)[:, None]
    stds = np.hypot(pdfs.stds, settings.noise.relative_floor * pdfs.means)
    values = (pdfs.weights, pdfs.means, stds)
    columns: Columns = {name: np.where(bad, np.nan, part) for name, part in zip(_COMPONENTS, values, strict=True)}
    flags = flags | np.where(pdfs.ood_score > 1, int(Flag.OUT_OF_DOMAIN), 0)
    return columns | {"is_cut": pdfs.is_cut, "ood_score": pdfs.ood_score, "flags": flags}


def _measure_batch(
    exposure: Exposure,
    noise: ExposureNoise,
    objects: PlacedObjects,
    rows: AnyArray,
    estimators: dict[str, Estimator],
    settings: MeasureSettings,
) -> tuple[StampBatch, Columns]:
    """Run every classical estimator on objects that share a stamp size; return their stamps too."""
    batch, cutout, flags = stamp_batch(exposure, noise, objects, rows, settings)
    bad_noise = (flags & int(Flag.BAD_NOISE)) != 0
    columns: Columns = {
        "background": cutout.background.level.numpy(),
        "background_err": cutout.background.level_err.numpy(),
    }
    for name, estimator in estimators.items():
        result = estimator(batch)
        if noise.correlation is not None:
            result = apply_correlation(result, noise.correlation)
        flux = np.where(bad_noise, np.nan, result.flux.numpy())
        columns[f"{name}_flux"] = flux
        columns[f"{name}_flux_err"] = np.hypot(result.flux_err.numpy(), settings.noise.relative_floor * flux)
        if name == settings.default_estimator:
            flags |= result.flags.numpy()
    columns["flags"] = flags
    return batch, columns


def _table(
    exposure: Exposure, noise: ExposureNoise, objects: PlacedObjects, columns: Columns, settings: MeasureSettings
) -> pa.Table:
    """Bring the columns to the output's units, types and order."""
    n = len(objects)
    calibrated = np.isfinite(exposure.zeropoint)
    unit_flux = 10 ** (0.4 * (AB_ZEROPOINT_NJY - exposure.zeropoint)) if calibrated else 1.0
    flags = columns.pop("flags") | (0 if calibrated else int(Flag.NO_ZEROPOINT))
    columns = {name: values if name in _UNITLESS else values * unit_flux for name, values in columns.items()}
    default = settings.default_estimator
    if settings.model is not None:
        summary = summarise(*(columns[name] for name in (*_COMPONENTS, "is_cut")))
        columns[f"{NETWORK}_flux"] = summary["flux_q50"]
        columns[f"{NETWORK}_flux_err"] = (summary["flux_q84"] - summary["flux_q16"]) / 2
    flux, flux_err = columns[f"{default}_flux"], columns[f"{default}_flux_err"]
    if default != NETWORK:
        # A linear estimator's likelihood is a Gaussian: a mixture of one component.
        one = (np.where(np.isfinite(flux), 1.0, np.nan)[:, None], flux[:, None], flux_err[:, None])
        columns |= dict(zip(_COMPONENTS, one, strict=True))
        summary = summarise(*one, np.zeros(n, dtype=np.bool_))
    columns |= {
        "object_id": objects.catalog.object_id,
        "exposure_id": np.full(n, exposure.exposure_id, dtype=object),
        "detector": np.full(n, exposure.detector, dtype=object),
        "band": np.full(n, exposure.band, dtype=object),
        "state": np.full(n, exposure.state, dtype=object),
        "ra": objects.catalog.ra,
        "dec": objects.catalog.dec,
        "x": objects.x,
        "y": objects.y,
        "zeropoint": np.full(n, exposure.zeropoint),
        "zeropoint_err": np.full(n, exposure.zeropoint_err),
        "flux": flux,
        "flux_err": flux_err,
        **summary,
        "psf_fwhm": objects.psf_fwhm * exposure.pixel_scale,
        "ood_score": columns.get("ood_score", np.full(n, np.nan)),
        "flags": flags,
    }
    provenance = {
        **exposure.provenance,
        "noise_source": noise.source,
        "noise_correlation": None if noise.correlation is None else noise.correlation.summary(),
        "default_estimator": default,
        "model": model_facts(settings.model),
    }
    n_components = columns["pdf_weights"].shape[1]
    unit_name = "nJy" if calibrated else "image unit"
    schema = measure_schema(settings.all_estimators, unit_name, n_components, provenance)
    return to_arrow(columns, schema)
