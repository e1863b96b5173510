"""Coadds of the rows of some objects: the product of their PDFs, inverse-variance means, what was left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.flags import Flag
from lumos.measure.calibrate import Calibration
from lumos.measure.repeat_errors import IndependentShare, repeat_pairs
from lumos.measure.settings import CoaddSettings
from lumos.measure.shared_errors import SharedErrors
from lumos.pdf import (
    FluxPrior,
    GaussianMixture,
    GridPdf,
    LogPrior,
    TruncatedMixture,
    catalogue_prior,
    inverse_variance,
    product,
    reject_outliers,
    to_mixture,
)
from lumos.pdf.base import LEVELS_68, LEVELS_95
from lumos.pdf.mixture import Mixture

__all__ = ["CoaddContext", "Rows", "coadd_likelihoods", "coadd_pairs", "coadd_rows"]

#: Objects and bands that are multiplied at once; sets the memory.
_AT_ONCE = 10_000
#: Levels of a PDF's summary.
_LEVELS = np.array([[LEVELS_95[0], LEVELS_68[0], 0.5, LEVELS_68[1], LEVELS_95[1]]])

#: The estimator whose error is that of the noise of the pixels.
_WHITE = "optimal"

Columns = dict[str, AnyArray]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a run, one exposure each, sorted by object and unit.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Objects.
    ra, dec : float array, shape (n,)
        Degrees.
    unit : int array, shape (n,)
        Units of the calibration.
    flags : int array, shape (n,)
        Bits of :class:`lumos.flags.Flag`.
    ref_mag : float array, shape (n,)
        Catalogue magnitudes; NaN where unknown.
    weights, means, stds : float array, shape (n, K)
        Components of the flux PDF, as in the run.
    fluxes : mapping
        Flux and error, each (n,), of every estimator by name.
    """

    object_id: IntArray
    ra: FloatArray
    dec: FloatArray
    unit: IntArray
    flags: IntArray
    ref_mag: FloatArray
    weights: FloatArray
    means: FloatArray
    stds: FloatArray
    fluxes: dict[str, tuple[FloatArray, FloatArray]]

    def __len__(self) -> int:
        return len(self.object_id)

    def take(self, rows: AnyArray | slice) -> "Rows":
        """Return some of the rows.

        Parameters
        ----------
        rows : int array or slice
            Which.

        Returns
        -------
        Rows
            These.
        """
        names = ("object_id", "ra", "dec", "unit", "flags", "ref_mag", "weights", "means", "stds")
        fluxes = {name: (flux[rows], error[rows]) for name, (flux, error) in self.fluxes.items()}
        return Rows(**{name: getattr(self, name)[rows] for name in names}, fluxes=fluxes)


@dataclass(frozen=True, eq=False)
class CoaddContext:
    """What all coadds of a run need.

    Parameters
    ----------
    settings : CoaddSettings
        How.
    calibration : Calibration
        Flux scales of the units.
    share : IndependentShare
        How much of a PDF's variance differs between exposures.
    prior : FluxPrior or None
        Catalogue prior.
    is_posterior : bool
        Whether the PDFs of the run already hold a prior.
    cut_from : float or None
        Magnitude from which the components of the run's PDFs are cut at flux 0.
    """

    settings: CoaddSettings
    calibration: Calibration
    share: IndependentShare
    prior: FluxPrior | None
    is_posterior: bool
    cut_from: float | None

    @property
    def excluded(self) -> int:
        """Return the bits of rows that are left out."""
        return sum(int(Flag[name]) for name in self.settings.excluded_flags)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Rows that belong to one object and band each; group g has the rows from ``starts[g]`` on."""

    rows: Rows
    index: IntArray
    starts: IntArray
    band: IntArray

    def __len__(self) -> int:
        return len(self.starts)


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
    for groups in _groups(rows, context.calibration):
        columns = _coadd(groups, context)
        columns["band"] = bands[groups.band].astype(object)
        parts.append(columns)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def coadd_likelihoods(rows: Rows, context: CoaddContext) -> tuple[GaussianMixture, FloatArray, IntArray]:
    """Return the coadded likelihoods of each object and band, to learn a prior from.

    Parameters
    ----------
    rows : Rows
        All rows of some objects.
    context : CoaddContext
        Calibration and settings; its prior is not used.

    Returns
    -------
    likelihoods : GaussianMixture
        Products without a prior, fitted with the components of the settings; NaN where no exposure is usable.
    ref_mag : float array
        Catalogue magnitudes.
    band : int array
        Index into the sorted bands of the calibration.
    """
    fits, mags, bands = [], [], []
    for groups in _groups(rows, context.calibration):
        pdf = _prepare(groups, context).multiply(None, None)[0]
        fits.append(to_mixture(pdf, context.settings.n_components)[0])
        mags.append(groups.rows.ref_mag[groups.starts])
        bands.append(groups.band)
    parts = [np.concatenate([getattr(fit, name) for fit in fits]) for name in ("weights", "means", "stds")]
    return GaussianMixture(*parts), np.concatenate(mags), np.concatenate(bands)


def _groups(rows: Rows, calibration: Calibration) -> Iterator[_Groups]:
    """Sort rows by object and unit, which are sorted by band, and yield them some groups at a time."""
    rows = rows.take(np.lexsort((rows.unit, rows.object_id)))
    band = np.unique(np.array(calibration.band), return_inverse=True)[1][rows.unit]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(rows.object_id) != 0) | (np.diff(band) != 0)
    starts = np.append(np.flatnonzero(new), len(rows))
    for first in range(0, len(starts) - 1, _AT_ONCE):
        edges = starts[first : first + _AT_ONCE + 1]
        begin, end = edges[0], edges[-1]
        index = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
        yield _Groups(rows.take(slice(begin, end)), index, edges[:-1] - begin, band[edges[:-1]])


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Calibrated rows of groups, outliers found."""

    groups: _Groups
    shared: SharedErrors
    pdf: Mixture
    powers: FloatArray
    is_cut: BoolArray
    usable: BoolArray
    kept: BoolArray
    contradictory: BoolArray
    scale_err: FloatArray

    def multiply(self, log_prior: LogPrior | None, nodes: FloatArray | None) -> tuple[GridPdf, IntArray]:
        """Return the products of the rows that are kept, and how many they are."""
        n, index = len(self.groups), self.groups.index
        if not self.is_cut.any():
            return product(self.pdf.take(self.kept), index[self.kept], n, log_prior, nodes, self.powers[self.kept])
        # PDFs of objects beyond a magnitude are cut at 0: two kinds of rows, never in one object.
        cut = TruncatedMixture(self.pdf.weights, self.pdf.means, self.pdf.stds)
        parts = []
        for kind, rows in ((self.pdf, self.kept & ~self.is_cut), (cut, self.kept & self.is_cut)):
            parts.append(product(kind.take(rows), index[rows], n, log_prior, nodes, self.powers[rows]))
        (first, n_first), (second, n_second) = parts
        which = (n_second > 0)[:, None]
        nodes = np.where(which, second.nodes, first.nodes)
        return GridPdf(nodes, np.where(which, second.log_density, first.log_density)), n_first + n_second


def _prepare(groups: _Groups, context: CoaddContext) -> _Prepared:
    """Calibrate rows, leave out what is unusable or contradicts the rest, and put shared errors in."""
    rows, index, n, settings = groups.rows, groups.index, len(groups), context.settings
    scale = context.calibration.log_scale[rows.unit]
    usable = ((rows.flags & context.excluded) == 0) & np.isfinite(scale) & np.isfinite(rows.means[:, 0])
    pdf: Mixture = GaussianMixture(rows.weights, rows.means, rows.stds).scale(np.where(usable, np.exp(scale), np.nan))
    is_cut = np.zeros(len(rows), dtype=bool)
    if context.cut_from is not None:
        is_cut = ~(rows.ref_mag < context.cut_from)
    low, median, high = pdf.quantile(np.array([[LEVELS_68[0], 0.5, LEVELS_68[1]]])).T
    variance = ((high - low) / 2) ** 2
    share = context.share.at(_excess(rows, scale, variance))
    flux = inverse_variance(median, np.sqrt(share * variance), index, n)[0]
    shared = SharedErrors(
        context.calibration, rows.unit, index, n, settings.shared_relative_err, settings.shared_flux_err
    )
    own = shared.own(usable) * np.maximum(flux, 0)[index] ** 2
    keep, contradictory = np.ones(len(rows), dtype=bool), np.zeros(n, dtype=bool)
    if settings.outlier_threshold > 0:
        keep, contradictory = reject_outliers(_widened(pdf, own), index, n, settings.outlier_threshold)
    kept = usable & keep
    common = np.sqrt(np.where(kept, np.maximum(1 - share, 0) * variance, 0))
    weight, error, scale_err = shared.of_mean(share * variance, common, own, flux, kept)
    # Independent rows with these powers have the same weights, and their mean has the same error.
    powers = np.where(kept, variance * weight / np.where(kept, error[index], 1) ** 2, 1)
    return _Prepared(groups, shared, pdf, powers, is_cut, usable, kept, contradictory, scale_err)


def _excess(rows: Rows, scale: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the logarithm of the width of PDFs over the error that the noise of the pixels alone makes."""
    if _WHITE not in rows.fluxes:
        return np.zeros(len(rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(0.5 * np.log(variance) - scale - np.log(rows.fluxes[_WHITE][1]))


def coadd_pairs(rows: Rows, context: CoaddContext) -> tuple[FloatArray, FloatArray]:
    """Return differences between exposures of the same objects, see :func:`lumos.measure.repeat_errors.repeat_pairs`.

    Parameters
    ----------
    rows : Rows
        All rows of some objects.
    context : CoaddContext
        Calibration and settings.

    Returns
    -------
    difference, excess : float array, shape (m,)
        Of disjoint pairs of exposures that are not outliers.
    """
    parts = []
    for groups in _groups(rows, context.calibration):
        made = _prepare(groups, context)
        low, median, high = made.pdf.quantile(np.array([[LEVELS_68[0], 0.5, LEVELS_68[1]]])).T
        variance = ((high - low) / 2) ** 2
        scale = context.calibration.log_scale[groups.rows.unit]
        white = variance * np.exp(-2 * _excess(groups.rows, scale, variance))
        parts.append(repeat_pairs(median, variance, white, groups.index, made.kept))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _widened(pdf: Mixture, extra: FloatArray) -> GaussianMixture:
    """Return rows with an independent error more."""
    stds = np.sqrt(pdf.stds**2 + np.where(np.isfinite(extra), extra, 0)[:, None])
    return GaussianMixture(pdf.weights, pdf.means, stds)


def _coadd(groups: _Groups, context: CoaddContext) -> Columns:
    """Return the columns of groups, all but the band."""
    rows, settings, starts = groups.rows, context.settings, groups.starts
    made = _prepare(groups, context)
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
    name: str, flux: FloatArray, error: FloatArray, groups: _Groups, made: _Prepared, context: CoaddContext
) -> Columns:
    """Return the inverse-variance coadd of an estimator, eq. 21, of the same exposures as the PDF."""
    factor = np.exp(context.calibration.log_scale[groups.rows.unit])
    kept = made.kept & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    values, errors = np.where(kept, flux * factor, np.nan), np.where(kept, error * factor, np.nan)
    mean, _, _ = inverse_variance(values, errors, groups.index, len(groups))
    none = np.zeros(len(kept))
    _, mean_err, _ = made.shared.of_mean(np.where(kept, errors**2, 0), none, none, mean, kept)
    return {f"{name}_flux": mean, f"{name}_flux_err": mean_err}


def _flags(groups: _Groups, made: _Prepared, columns: Columns, context: CoaddContext) -> IntArray:
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
