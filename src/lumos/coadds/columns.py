"""The columns of a coadd: what is written of each object and band."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from lumos.coadds.rows import CoaddContext, Groups, Prepared, Rows, grouped, prepare
from lumos.coadds.settings import CoaddSettings
from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.flags import Flag
from lumos.pdf import GridPdf, LogPrior, catalogue_prior, inverse_variance, to_mixture
from lumos.statistics import LEVELS_95, SUMMARY_LEVELS

__all__ = ["coadd_rows"]

#: Levels of a PDF's summary.
_LEVELS = np.array([[LEVELS_95[0], *SUMMARY_LEVELS, LEVELS_95[1]]])

Columns = dict[str, AnyArray]


def coadd_rows(rows: Rows, context: CoaddContext) -> Columns:
    """Coadd the exposures of each object and band.

    Parameters
    ----------
    rows : Rows
        All rows of some objects, in any order.
    context : CoaddContext
        Calibration, prior, settings.

    Returns
    -------
    dict
        Columns of the coadd, one row per object and band, sorted by these.
    """
    bands = np.unique(np.array(context.calibration.band))
    parts = []
    for groups in grouped(rows, context.calibration):
        columns = _coadd(groups, context)
        columns["band"] = bands[groups.band].astype(object)
        parts.append(columns)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _coadd(groups: Groups, context: CoaddContext) -> Columns:
    """Return the columns of groups, all but the band."""
    rows, settings, starts = groups.rows, context.settings, groups.starts
    made = prepare(groups, context)
    n_kept = np.bincount(groups.index[made.kept], minlength=len(groups))
    mags = rows.ref_mag[starts]
    log_prior, nodes = _prior_of(groups.band, mags, n_kept, context)
    pdf, n_used = made.multiply(log_prior, nodes)
    columns = {name: getattr(rows, name)[starts] for name in ("object_id", "ra", "dec")}
    columns |= _summary(pdf) | _written(pdf, settings)
    columns["zeropoint_err"] = 2.5 / np.log(10) * made.scale_err
    for name, (flux, error) in rows.fluxes.items():
        columns |= _classical(name, flux, error, groups, made, context)
    columns["n_exposures"] = n_used
    columns["n_excluded"] = np.bincount(groups.index[~made.usable], minlength=len(groups))
    columns["n_rejected"] = np.bincount(groups.index[made.usable & ~made.kept], minlength=len(groups))
    columns["flags"] = _flags(groups, made, columns, context)
    if log_prior is not None:
        columns["flags"] |= np.where(np.isfinite(mags), 0, int(Flag.NO_REFERENCE))
    return columns


def _prior_of(
    band: IntArray, mags: FloatArray, n_kept: IntArray, context: CoaddContext
) -> tuple[LogPrior | None, FloatArray | None]:
    """Return the logarithm of what the product of the rows is to be multiplied with, and nodes for it."""
    naive = context.settings.product == "naive"
    if context.prior is None or (context.is_posterior and naive):
        return None, None
    names = np.unique(np.array(context.calibration.band))
    number = np.array([context.prior.bands.index(str(name)) for name in names])[band]
    log_prior, nodes = catalogue_prior(context.prior, mags, number)
    if not naive and not context.is_posterior:
        return log_prior, nodes
    # The naive product has the prior of every row; a product of posteriors, all but one too many.
    power = n_kept if naive else 1 - n_kept
    return _power(log_prior, power.astype(np.float64)), nodes


def _power(log_prior: LogPrior, power: FloatArray) -> Callable[[FloatArray, IntArray], FloatArray]:
    def raised(flux: FloatArray, objects: IntArray) -> FloatArray:
        values = log_prior(flux, objects)
        # Also to a negative power: what the prior forbids stays forbidden.
        return np.where(np.isneginf(values), -np.inf, power[objects][:, None] * values)

    return raised


def _summary(pdf: GridPdf) -> Columns:
    """Return point estimates and widths."""
    low95, low, median, high, high95 = pdf.quantile(_LEVELS).T
    sigma68, sigma95, peak = (high - low) / 2, (high95 - low95) / 2, pdf.peak()
    with np.errstate(invalid="ignore", divide="ignore"):
        eta = sigma95 / sigma68 - 1
    return {
        "flux": peak,
        "flux_err": sigma68,
        "flux_mean": pdf.mean(),
        "flux_median": median,
        "flux_peak": peak,
        "flux_std": pdf.std(),
        "flux_sigma68": sigma68,
        "flux_sigma95": sigma95,
        "eta": eta,
    }


def _written(pdf: GridPdf, settings: CoaddSettings) -> Columns:
    """Return the PDF as it is written."""
    if settings.pdf == "mixture":
        fit, error = to_mixture(pdf, settings.n_components)
        return {"pdf_weights": fit.weights, "pdf_means": fit.means, "pdf_stds": fit.stds, "pdf_fit_err": error}
    levels = np.concatenate([[0.0], ndtr(np.linspace(-4.5, 4.5, settings.n_nodes - 2)), [1.0]])
    nodes = pdf.quantile(levels[None])
    # As they are read: a density belongs to the flux that is written.
    nodes = nodes.astype(np.float32).astype(np.float64).clip(pdf.nodes[:, :1], pdf.nodes[:, -1:])
    return {"pdf_nodes": nodes, "pdf_log_density": pdf.log_pdf(nodes)}


def _classical(
    name: str, flux: FloatArray, error: FloatArray, groups: Groups, made: Prepared, context: CoaddContext
) -> Columns:
    """Return the inverse-variance coadd of an estimator, eq. 21, of the same exposures as the PDF.

    The variances are those of the fluxes and of the zero points as far as these are of each exposure alone.
    """
    factor = np.exp(context.calibration.log_scale[groups.rows.unit])
    offset, floor = context.sky.of(name, groups.band)
    kept = made.kept & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    values = np.where(kept, flux * factor - offset[groups.index], np.nan)
    errors = np.where(kept, error * factor, np.nan)
    mean, _, _ = inverse_variance(values, errors, groups.index, len(groups))
    own = np.where(kept, made.own * np.maximum(np.nan_to_num(mean), 0)[groups.index] ** 2, 0)
    mean, _, _ = inverse_variance(values, np.sqrt(errors**2 + own), groups.index, len(groups))
    floor, none = np.hypot(floor, context.settings.shared_flux_err), np.zeros(len(kept))
    _, _, mean_err, _ = made.shared.of_mean(np.where(kept, errors**2, 0), none, own, mean, floor, kept)
    return {f"{name}_flux": mean, f"{name}_flux_err": mean_err}


def _flags(groups: Groups, made: Prepared, columns: Columns, context: CoaddContext) -> IntArray:
    """Return the bits of the rows that were used (of all rows where none was) and those of the coadd."""
    rows = groups.rows
    none = columns["n_exposures"] == 0
    calibrated = np.isfinite(context.calibration.log_scale)[rows.unit]
    bits = np.where(calibrated, rows.flags & ~int(Flag.NO_ZEROPOINT), rows.flags)
    bits = bits | np.where(context.calibration.doubtful[rows.unit], int(Flag.DOUBTFUL_ZEROPOINT), 0)
    flags = np.bitwise_or.reduceat(np.where(made.kept | none[groups.index], bits, 0), groups.starts)
    for flag, condition in (
        (Flag.NO_EXPOSURE, none),
        (Flag.OUTLIER_REJECTED, columns["n_rejected"] > 0),
        (Flag.CONTRADICTORY, made.contradictory),
        (Flag.POOR_MIXTURE, columns.get("pdf_fit_err", np.zeros(len(none))) > context.settings.max_fit_err),
    ):
        flags |= np.where(condition, int(flag), 0)
    return np.asarray(flags)
