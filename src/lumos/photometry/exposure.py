"""Measure one exposure: every object of the catalogue in its footprint becomes one row."""

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from lumos.background.correlation import apply_correlation
from lumos.background.noise import ExposureNoise
from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.schema import measure_schema, to_arrow
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.estimators import ESTIMATORS, Estimator, StampBatch
from lumos.flags import NAN_FLUX, Flag, flag_names
from lumos.images.exposure import Exposure
from lumos.images.psf_models import fwhm_on_pixels
from lumos.images.zeropoint import known_zeropoint
from lumos.nets.domain import exposure_verdict
from lumos.nets.estimator import NetworkFluxes
from lumos.nets.model import FluxModel
from lumos.photometry.batches import in_handy_units, object_batches, object_noise, stamp_batch
from lumos.photometry.neighbours import NEIGHBOUR_REACH, has_neighbour
from lumos.photometry.network import check_model, measure_network, model_facts, model_of, summarise
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.photometry.settings import NETWORK, MeasureSettings

__all__ = ["estimators_of", "measure_exposure"]

logger = logging.getLogger(__name__)

#: Columns of the flux PDF, and those that carry no flux unit.
_COMPONENTS = ("pdf_weights", "pdf_means", "pdf_stds")
_UNITLESS = frozenset({"flags", "pdf_weights", "ood_score", "is_cut"})
#: Nothing that any estimator makes of such an object is a measurement.
_HOPELESS = Flag.TOO_MASKED | Flag.BAD_NOISE
#: The default estimator that needs no annulus.
_FREE = "optimal_free"
#: Largest share of objects without a flux that is no reason for a warning.
_MANY = 0.5

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
        If a name is unknown, or the model was trained on other stamps.
    """
    for name in settings.estimators:
        if name not in ESTIMATORS:
            raise LumosConfigError(f"unknown estimator {name!r}, allowed: {', '.join(ESTIMATORS)}")
    model = model_of(settings.model)
    if model is not None:
        model.config.check_geometry(settings.geometry)
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
    zeropoint = known_zeropoint(exposure.zeropoint, exposure.path)
    exposure = replace(exposure, zeropoint=zeropoint)
    if model is not None:
        check_model(model, exposure)
    exposure, unit = in_handy_units(exposure)
    model_psf = exposure.psf
    if model_psf is None:
        reason = str(exposure.provenance.get("psf", "none: not given")).removeprefix("none: ")
        raise LumosDataError(f"{exposure.path}: no PSF is known: {reason}; `lumos psf` makes one, --psf reads it")
    around = place_objects(exposure, catalog, settings, margin=NEIGHBOUR_REACH)
    inside = np.flatnonzero(_on_image(around, exposure))
    objects = around.take(inside)
    noise = object_noise(exposure, objects, settings)
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
    calibrated = np.isfinite(zeropoint)
    factor = unit * (10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)) if calibrated else 1.0)
    columns = {name: values if name in _UNITLESS else values * factor for name, values in columns.items()}
    columns["flags"] |= 0 if calibrated else int(Flag.NO_ZEROPOINT)
    if model is not None and model.domain is not None:
        exposure = _judge(exposure, columns["ood_score"])
    _settle(columns, settings)
    psf = model_psf.at(*(np.full(1, (length - 1) / 2) for length in exposure.shape[::-1]))
    crowded = has_neighbour(around, inside, columns["flux"], columns["flux_err"], psf, in_njy=calibrated)
    columns["flags"] |= np.where(crowded, int(Flag.NEIGHBOUR), 0)
    _warn_of_nan(exposure, columns)
    _warn_of_units_and_catalog(exposure, catalog)
    return _table(exposure, noise, objects, columns, settings)


def _on_image(objects: PlacedObjects, exposure: Exposure) -> AnyArray:
    """Return which objects have their centre on a pixel of the image, bool array of shape (n,)."""
    height, width = exposure.shape
    return (objects.x >= -0.5) & (objects.x < width - 0.5) & (objects.y >= -0.5) & (objects.y < height - 0.5)


def _empty_columns(n: int, settings: MeasureSettings, model: FluxModel | None) -> Columns:
    names = ["background", "background_err"]
    names += [f"{estimator}_{part}" for estimator in settings.estimators for part in ("flux", "flux_err")]
    columns: Columns = {name: np.full(n, np.nan) for name in names}
    if model is not None:
        columns |= {name: np.full((n, model.n_components), np.nan) for name in _COMPONENTS}
        columns |= {"ood_score": np.full(n, np.nan), "is_cut": np.zeros(n, dtype=np.bool_)}
    return {**columns, "flags": np.zeros(n, dtype=np.int64)}


def _network_columns(pdfs: NetworkFluxes, flags: AnyArray, settings: MeasureSettings) -> Columns:
    """Return the columns of a model's PDFs."""
    stds = np.hypot(pdfs.stds, settings.noise.relative_floor * pdfs.means)
    columns: Columns = dict(zip(_COMPONENTS, (pdfs.weights, pdfs.means, stds), strict=True))
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
    if settings.default_estimator == _FREE:
        flags &= ~int(Flag.BAD_BACKGROUND)
    columns: Columns = {
        "background": cutout.background.level.numpy(),
        "background_err": cutout.background.level_err.numpy(),
    }
    correlation = noise.correlation_at(batch.data.shape[1])
    for name, estimator in estimators.items():
        result = estimator(batch)
        if correlation is not None:
            result = apply_correlation(result, correlation)
        flux = result.flux.numpy()
        columns[f"{name}_flux"] = flux
        columns[f"{name}_flux_err"] = np.hypot(result.flux_err.numpy(), settings.noise.relative_floor * flux)
        if name == settings.default_estimator:
            flags |= result.flags.numpy()
    columns["flags"] = flags
    return batch, columns


def _settle(columns: Columns, settings: MeasureSettings) -> None:
    """Make fluxes, PDFs and flags agree, in place, and add flux, PDF and summary of the default estimator.

    Flux and PDF of a row are NaN if and only if its flags hold one of ``NAN_FLUX``; else they and their errors are
    finite in single precision, and the error is greater than 0.
    """
    default, flags = settings.default_estimator, columns["flags"]
    hopeless = (flags & int(_HOPELESS)) != 0
    if settings.model is not None:
        _blank(columns, _COMPONENTS, hopeless)
        summary = summarise(*(columns[name] for name in (*_COMPONENTS, "is_cut")))
        columns[f"{NETWORK}_flux"] = summary["flux_q50"]
        columns[f"{NETWORK}_flux_err"] = (summary["flux_q84"] - summary["flux_q16"]) / 2
    for name in settings.all_estimators:
        _blank(columns, (f"{name}_flux", f"{name}_flux_err"), hopeless)
    flux, flux_err = columns[f"{default}_flux"], columns[f"{default}_flux_err"]
    unexplained = ~np.isfinite(flux) & ((flags & int(NAN_FLUX)) == 0)
    flags |= np.where(unexplained, int(Flag.FIT_FAILED), 0)
    dead = (flags & int(NAN_FLUX)) != 0
    _blank(columns, (f"{default}_flux", f"{default}_flux_err"), dead)
    if default != NETWORK:
        flux, flux_err = columns[f"{default}_flux"], columns[f"{default}_flux_err"]
        # A linear estimator's likelihood is a Gaussian: a mixture of one component.
        one = (np.where(dead, np.nan, 1.0)[:, None], flux[:, None], flux_err[:, None])
        columns |= dict(zip(_COMPONENTS, one, strict=True))
        summary = summarise(*one, np.zeros(len(flux), dtype=np.bool_))
    columns |= {"flux": columns[f"{default}_flux"], "flux_err": columns[f"{default}_flux_err"], **summary}
    for name in (*_COMPONENTS, *summary):
        columns[name][dead] = np.nan


def _blank(columns: Columns, names: tuple[str, ...], where: AnyArray) -> None:
    """Put NaN into columns, in place, where it is asked for and where one of them is none in single precision."""
    limits = np.finfo(np.float32)
    bad = where.copy()
    for name in names:
        values = columns[name] if columns[name].ndim == 2 else columns[name][:, None]
        # Quantiles lie a few errors away from the flux.
        bad |= ~(np.abs(values) < limits.max / 100).all(axis=1)
        if name.endswith(("_err", "_stds")):
            bad |= ~(values >= limits.tiny).all(axis=1)
    for name in names:
        columns[name][bad] = np.nan


def _judge(exposure: Exposure, scores: AnyArray) -> Exposure:
    """Return an exposure with the model's verdict in its provenance; a suspect one is told."""
    verdict = exposure_verdict(scores)
    if verdict > 1:
        text = (
            "its stamps share a fault, or are none that the model knows (`lumos models NAME` says what it knows). "
            "Check first the PSF (--psf, or psf in the survey file), then the catalogue's positions and radii, "
            "noise (gain and variance in the survey file, measure.noise.source) and pixel scale"
        )
        logger.warning("%s: verdict of the model %.2f, suspect above 1: %s", exposure.path, verdict, text)
    return replace(exposure, provenance={**exposure.provenance, "ood_verdict": round(verdict, 3)})


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


def _table(
    exposure: Exposure, noise: ExposureNoise, objects: PlacedObjects, columns: Columns, settings: MeasureSettings
) -> pa.Table:
    """Bring the columns to the output's types and order, with what is known of the objects."""
    n = len(objects)
    assert exposure.psf is not None  # refused before
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
        "psf_fwhm": fwhm_on_pixels(exposure.psf, objects.psf_fwhm) * exposure.pixel_scale,
        "ood_score": columns.get("ood_score", np.full(n, np.nan)),
    }
    provenance = {
        **exposure.provenance,
        "noise_source": noise.source,
        "noise_correlation": None if noise.correlation is None else noise.correlation.summary(),
        "noise_correlation_larger": {str(size): found.summary() for size, found in noise.larger.items()},
        "default_estimator": settings.default_estimator,
        "model": model_facts(settings.model),
    }
    n_components = columns["pdf_weights"].shape[1]
    unit_name = "nJy" if np.isfinite(exposure.zeropoint) else "image unit"
    names = objects.catalog.object_name
    if names is not None:
        columns["object_name"] = names
    with_names = names is not None
    schema = measure_schema(settings.all_estimators, unit_name, n_components, provenance, with_names=with_names)
    return to_arrow(columns, schema)
