"""The columns of a CCD's table: filled batch by batch, made to agree, brought to the schema."""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from lumos.catalogs.schema import Column, measure_schema, to_arrow
from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.estimators import Estimator, Measurement
from lumos.flags import NAN_FLUX, Flag
from lumos.images.psf.models import fwhm_on_pixels
from lumos.pdf import GaussianMixture, TruncatedMixture
from lumos.photometry.ccd import Ccd
from lumos.photometry.network import background_facts, model_facts
from lumos.statistics import SUMMARY_LEVELS

__all__ = ["Columns", "columns_of", "empty_columns", "in_flux_units", "settle", "summarise", "to_table"]

Columns = dict[str, AnyArray]

#: Columns of a flux PDF; each estimator that returns PDFs has its own until it is known which are written.
_COMPONENTS = ("pdf_weights", "pdf_means", "pdf_stds")
#: Nothing that any estimator makes of such an object is a measurement.
_HOPELESS = Flag.TOO_MASKED | Flag.BAD_NOISE


def empty_columns(n: int, estimators: Iterable[Estimator]) -> Columns:
    """Return the columns of n objects before anything is measured.

    Parameters
    ----------
    n : int
        Number of objects.
    estimators : iterable of Estimator
        Those that will fill them.

    Returns
    -------
    dict
        NaN and no flags.
    """
    columns: Columns = {
        name: np.full(n, np.nan) for name in ("background", "background_err", "flux_without_hidden", "ood_score")
    }
    for one in estimators:
        columns |= {f"{one.name}_{part}": np.full(n, np.nan) for part in ("flux", "flux_err")}
        columns |= {column.name: np.full(n, np.nan) for column in one.columns}
        if one.n_components:
            columns |= {f"{one.name}_{part}": np.full((n, one.n_components), np.nan) for part in _COMPONENTS}
            columns[f"{one.name}_is_cut"] = np.zeros(n, dtype=np.bool_)
    return columns | {"flags": np.zeros(n, dtype=np.int64)}


def columns_of(name: str, measured: Measurement, relative_floor: float) -> Columns:
    """Return the columns of one estimator's measurement.

    Parameters
    ----------
    name : str
        Of the estimator.
    measured : Measurement
        Of n objects, correlation of the noise applied.
    relative_floor : float
        Error in units of the flux, added in quadrature.

    Returns
    -------
    dict
        Flux and error, or the components of the PDF, and the estimator's own columns.
    """
    own: Columns = {column: values.numpy() for column, values in measured.columns.items()}
    if measured.pdf is None:
        flux = measured.flux.numpy()
        error = np.hypot(measured.flux_err.numpy(), relative_floor * flux)
        return own | {f"{name}_flux": flux, f"{name}_flux_err": error}
    weights, means, stds = (part.numpy() for part in (measured.pdf.weights, measured.pdf.means, measured.pdf.stds))
    stds = np.hypot(stds, relative_floor * means)
    parts = dict(zip(_COMPONENTS, (weights, means, stds), strict=True))
    return own | {f"{name}_{part}": v for part, v in parts.items()} | {f"{name}_is_cut": measured.pdf.is_cut.numpy()}


def in_flux_units(columns: Mapping[str, AnyArray], estimators: Iterable[Estimator], factor: float) -> Columns:
    """Multiply the columns that carry a flux unit.

    Parameters
    ----------
    columns : mapping
        As :func:`empty_columns` begins them.
    estimators : iterable of Estimator
        Which have filled them.
    factor : float
        Unit of the fluxes in that of the table.

    Returns
    -------
    dict
        All columns.
    """
    carry = {"background", "background_err", "flux_without_hidden"}
    for one in estimators:
        carry |= {f"{one.name}_{part}" for part in ("flux", "flux_err", "pdf_means", "pdf_stds")}
        carry |= {column.name for column in one.columns if "{flux}" in column.unit}
    return {name: values * factor if name in carry else values for name, values in columns.items()}


def settle(columns: Columns, estimators: Iterable[Estimator], default: str) -> None:
    """Make fluxes, PDFs and flags agree, in place, and add flux, PDF and summary of the default estimator.

    Flux and PDF of a row are NaN if and only if its flags hold one of ``NAN_FLUX``; else they and their errors are
    finite in single precision, and the error is greater than 0.

    Parameters
    ----------
    columns : dict
        Filled by all estimators, in the units of the table.
    estimators : iterable of Estimator
        These estimators.
    default : str
        The one whose flux becomes ``flux``.
    """
    flags = columns["flags"]
    hopeless = (flags & int(_HOPELESS)) != 0
    summaries: dict[str, dict[str, FloatArray]] = {}
    for one in estimators:
        if one.n_components:
            names = [f"{one.name}_{part}" for part in _COMPONENTS]
            _blank(columns, names, hopeless)
            summary = summarise(*(columns[name] for name in (*names, f"{one.name}_is_cut")))
            columns[f"{one.name}_flux"] = summary["flux_q50"]
            columns[f"{one.name}_flux_err"] = (summary["flux_q84"] - summary["flux_q16"]) / 2
            summaries[one.name] = summary
        _blank(columns, (f"{one.name}_flux", f"{one.name}_flux_err"), hopeless)
    flux, flux_err = columns[f"{default}_flux"], columns[f"{default}_flux_err"]
    unexplained = ~np.isfinite(flux) & ((flags & int(NAN_FLUX)) == 0)
    flags |= np.where(unexplained, int(Flag.FIT_FAILED), 0)
    dead = (flags & int(NAN_FLUX)) != 0
    _blank(columns, (f"{default}_flux", f"{default}_flux_err"), dead)
    if default in summaries:
        summary = summaries[default]
        columns |= {part: columns[f"{default}_{part}"] for part in _COMPONENTS}
    else:
        flux, flux_err = columns[f"{default}_flux"], columns[f"{default}_flux_err"]
        # A linear estimator's likelihood is a Gaussian: a mixture of one component.
        gaussian = (np.where(dead, np.nan, 1.0)[:, None], flux[:, None], flux_err[:, None])
        columns |= dict(zip(_COMPONENTS, gaussian, strict=True))
        summary = summarise(*gaussian, np.zeros(len(flux), dtype=np.bool_))
    columns |= {"flux": columns[f"{default}_flux"], "flux_err": columns[f"{default}_flux_err"], **summary}
    for name in (*_COMPONENTS, *summary):
        columns[name][dead] = np.nan


def _blank(columns: Columns, names: Iterable[str], where: AnyArray) -> None:
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


def to_table(ccd: Ccd, columns: Columns, estimators: Mapping[str, Estimator], verdict: float | None) -> pa.Table:
    """Bring the columns of a CCD to the output's types and order, with what is known of the objects.

    Parameters
    ----------
    ccd : Ccd
        With a PSF.
    columns : dict
        Settled.
    estimators : mapping
        Estimators by name.
    verdict : float or None
        Of a model on the whole exposure.

    Returns
    -------
    pyarrow.Table
        One row per object.
    """
    exposure, objects, noise = ccd.exposure, ccd.objects, ccd.noise
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
    }
    provenance = {
        **exposure.provenance,
        **({} if verdict is None else {"ood_verdict": round(verdict, 3)}),
        "noise_source": noise.source,
        "noise_correlation": None if noise.correlation is None else noise.correlation.summary(),
        "noise_correlation_larger": {str(size): found.summary() for size, found in noise.larger.items()},
        "default_estimator": ccd.settings.default_estimator,
        "model": model_facts(ccd.settings.model),
        **background_facts(ccd.settings),
    }
    unit_name = "nJy" if np.isfinite(exposure.zeropoint) else "image unit"
    names = objects.catalog.object_name
    if names is not None:
        columns["object_name"] = names
    own: list[Column] = [column for one in estimators.values() for column in one.columns]
    schema = measure_schema(
        list(estimators), unit_name, columns["pdf_weights"].shape[1], provenance, own=own, with_names=names is not None
    )
    return to_arrow(columns, schema)
