"""The network among the estimators of an exposure, and the summary of flux PDFs."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from lumos.background.noise import ExposureNoise
from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.errors import LumosDataError
from lumos.estimators import StampBatch
from lumos.images.exposure import Exposure
from lumos.nets.checkpoint import find_model, load_model
from lumos.nets.domain import psf_score
from lumos.nets.estimator import NetworkFluxes, band_and_state, network_fluxes
from lumos.nets.inputs import NoiseFactor, SideInputs
from lumos.nets.model import FluxModel
from lumos.pdf import GaussianMixture, TruncatedMixture
from lumos.photometry.objects import PlacedObjects
from lumos.statistics import SUMMARY_LEVELS

__all__ = [
    "check_model",
    "measure_network",
    "model_facts",
    "model_of",
    "noise_factor",
    "side_inputs",
    "summarise",
]


def model_of(name: str | None) -> FluxModel | None:
    """Return a model, read once per process as long as it does not change.

    Parameters
    ----------
    name : str or None
        Name of a shipped model, or a folder.

    Returns
    -------
    FluxModel or None
        None for None.
    """
    return None if name is None else _load(name, (find_model(name) / "config.json").stat().st_mtime_ns)


@cache
def _load(name: str, mtime_ns: int) -> FluxModel:  # noqa: ARG001 (the time is part of the cache's key)
    return load_model(name)


def model_facts(name: str | None) -> dict[str, object] | None:
    """Return what an output file must say of the model behind it.

    Parameters
    ----------
    name : str or None
        As of :func:`model_of`.

    Returns
    -------
    dict or None
        Name, kind of its PDFs, digest of its weights, magnitude from which components are cut at 0.
    """
    model = model_of(name)
    return None if model is None else model.config.model_dump(include={"name", "kind", "sha256", "cut_from"})


def check_model(model: FluxModel, exposure: Exposure) -> None:
    """Refuse an exposure that a model cannot measure.

    Parameters
    ----------
    model : FluxModel
        The model.
    exposure : Exposure
        The exposure.

    Raises
    ------
    LumosDataError
        If the model was not trained on the band or camera state, or the exposure lacks what it needs.
    """
    try:
        band_and_state(model, exposure.band, exposure.state, 0)
    except LumosDataError as error:
        raise LumosDataError(f"{exposure.path}: {error}") from error
    needed = ["zeropoint"] if model.config.reference else []
    needed += ["gain", "exposure_time"] if model.config.architecture == "paper" else []
    missing = [name for name in needed if not np.isfinite(getattr(exposure, name))]
    if missing:
        text = f"no {', '.join(missing)}, which model {model.config.name!r} needs"
        raise LumosDataError(f"{exposure.path}: {text}")


def side_inputs(
    model: FluxModel, exposure: Exposure, objects: PlacedObjects, rows: AnyArray, *, unit: float
) -> SideInputs:
    """Return what a model takes of objects beside their stamps.

    Parameters
    ----------
    model : FluxModel
        The model.
    exposure : Exposure
        The exposure, its pixels and gain in units of ``unit`` image units.
    objects : PlacedObjects
        All objects on the exposure.
    rows : int array, shape (n,)
        Which of them.
    unit : float
        Image units.

    Returns
    -------
    SideInputs
        Of n objects.
    """
    ny, nx = exposure.shape
    band, state = band_and_state(model, exposure.band, exposure.state, len(rows))
    ref_mag = objects.catalog.ref_mag[rows]
    return SideInputs(
        band=band,
        state=state,
        ccd_x=torch.from_numpy((objects.x[rows] + 0.5) / nx),
        ccd_y=torch.from_numpy((objects.y[rows] + 0.5) / ny),
        ref_mag=torch.from_numpy(ref_mag),
        ref_flux=torch.from_numpy(10 ** (-0.4 * (ref_mag - exposure.zeropoint)) / unit),
        rate=torch.full((len(rows),), exposure.gain / exposure.exposure_time),
    )


def measure_network(
    model: FluxModel,
    exposure: Exposure,
    noise: ExposureNoise,
    objects: PlacedObjects,
    rows: AnyArray,
    batch: StampBatch,
    *,
    unit: float,
    bfloat16: bool,
) -> NetworkFluxes:
    """Run a model on objects of one exposure.

    Parameters
    ----------
    model : FluxModel
        The model.
    exposure : Exposure
        The exposure, its pixels and gain in units of ``unit`` image units.
    noise : ExposureNoise
        Correlation of the noise.
    objects : PlacedObjects
        All objects on the exposure.
    rows : int array, shape (n,)
        Which of them are in ``batch``.
    batch : StampBatch
        Their stamps.
    unit : float
        Image units.
    bfloat16 : bool
        Compute the convolutions in bfloat16.

    Returns
    -------
    NetworkFluxes
        PDFs in the unit of the batch.
    """
    side = side_inputs(model, exposure, objects, rows, unit=unit)
    pdfs = network_fluxes(model, batch, side, noise_factor(noise, batch), bfloat16=bfloat16)
    step = batch.data.shape[1] // model.config.stamp_size
    score = psf_score(objects.psf_fwhm[rows], step, model.config.domain)
    return replace(pdfs, ood_score=np.maximum(pdfs.ood_score, score))


def noise_factor(noise: ExposureNoise, batch: StampBatch) -> NoiseFactor | None:
    """Return the correlation of the noise of stamps, as a function of area.

    Parameters
    ----------
    noise : ExposureNoise
        Of their exposure.
    batch : StampBatch
        The stamps.

    Returns
    -------
    callable or None
        None where errors are for independent pixels.
    """
    correlation = noise.correlation_at(batch.data.shape[1])
    return None if correlation is None else correlation.factor_at


def summarise(weights: FloatArray, means: FloatArray, stds: FloatArray, is_cut: BoolArray) -> dict[str, FloatArray]:
    """Summarise flux PDFs.

    Parameters
    ----------
    weights, means, stds : float array, shape (n, K)
        Gaussian components; NaN for objects without a PDF.
    is_cut : bool array, shape (n,)
        Whether the components are cut at flux 0.

    Returns
    -------
    dict of float array, shape (n,)
        ``flux_q16``, ``flux_q50``, ``flux_q84``, ``flux_peak``.
    """
    names = ("flux_q16", "flux_q50", "flux_q84", "flux_peak")
    values = np.full((len(names), len(weights)), np.nan)
    for kind, rows in ((GaussianMixture, np.flatnonzero(~is_cut)), (TruncatedMixture, np.flatnonzero(is_cut))):
        if len(rows):
            pdf = kind(weights[rows], means[rows], stds[rows])
            values[:3, rows] = pdf.quantile(np.array([SUMMARY_LEVELS])).T
            values[3, rows] = pdf.peak()
    return dict(zip(names, values, strict=True))
