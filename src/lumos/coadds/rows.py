"""The rows of some objects, made ready for their coadds: calibrated, outliers found, shared errors known."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lumos.coadds.calibrate import Calibration
from lumos.coadds.repeat_errors import IndependentShare, repeat_pairs
from lumos.coadds.settings import CoaddSettings
from lumos.coadds.shared_errors import SharedErrors
from lumos.coadds.sky import SkyLevels
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.flags import Flag
from lumos.pdf import (
    FluxPrior,
    GaussianMixture,
    GridPdf,
    LogPrior,
    TruncatedMixture,
    inverse_variance,
    product,
    reject_outliers,
    to_mixture,
)
from lumos.pdf.mixture import Mixture
from lumos.rows import Rowwise
from lumos.statistics import SUMMARY_LEVELS

__all__ = [
    "CoaddContext",
    "Groups",
    "Prepared",
    "Rows",
    "coadd_likelihoods",
    "coadd_pairs",
    "grouped",
    "prepare",
]

#: Objects and bands that are multiplied at once; sets the memory.
_AT_ONCE = 10_000

#: The estimator whose error is that of the noise of the pixels.
_WHITE = "optimal"


@dataclass(frozen=True, eq=False)
class Rows(Rowwise):
    """Rows of a run, one exposure each, sorted by object and unit.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Identifiers of the objects in the catalogue.
    ra, dec : float array, shape (n,)
        Positions of the objects on the sky, degrees.
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

    @property
    def measured(self) -> BoolArray:
        """Return which rows have a PDF, all of its numbers finite and its widths above 0, shape (n,)."""
        finite = np.isfinite(self.weights) & np.isfinite(self.means) & np.isfinite(self.stds) & (self.stds > 0)
        return np.asarray(finite.all(axis=1))


@dataclass(frozen=True, eq=False)
class CoaddContext:
    """What all coadds of a run need.

    Parameters
    ----------
    settings : CoaddSettings
        Settings of ``lumos coadd``.
    calibration : Calibration
        Flux scales of the units.
    share : IndependentShare
        How much of a PDF's variance differs between exposures.
    sky : SkyLevels
        What is measured where there is nothing.
    prior : FluxPrior or None
        Density of the flux given catalogue magnitude and band.
    is_posterior : bool
        Whether the PDFs of the run already hold a prior.
    cut_from : float or None
        Magnitude from which the components of the run's PDFs are cut at flux 0.
    """

    settings: CoaddSettings
    calibration: Calibration
    share: IndependentShare
    sky: SkyLevels
    prior: FluxPrior | None
    is_posterior: bool
    cut_from: float | None

    @property
    def excluded(self) -> int:
        """Return the bits of rows that are left out."""
        return sum(int(Flag[name]) for name in self.settings.excluded_flags)


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows that belong to n groups, one object and band each.

    Parameters
    ----------
    rows : Rows
        Rows, sorted by group.
    index : int array, shape (n_rows,)
        Group of each row.
    starts : int array, shape (n,)
        First row of each group.
    band : int array, shape (n,)
        Index into the sorted bands of the calibration.
    """

    rows: Rows
    index: IntArray
    starts: IntArray
    band: IntArray

    def __len__(self) -> int:
        return len(self.starts)


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
        Catalogue magnitude of each product; NaN where unknown.
    band : int array
        Index into the sorted bands of the calibration.
    """
    fits, mags, bands = [], [], []
    for groups in grouped(rows, context.calibration):
        pdf = prepare(groups, context).multiply(None, None)[0]
        fits.append(to_mixture(pdf, context.settings.n_components)[0])
        mags.append(groups.rows.ref_mag[groups.starts])
        bands.append(groups.band)
    parts = [np.concatenate([getattr(fit, name) for fit in fits]) for name in ("weights", "means", "stds")]
    return GaussianMixture(*parts), np.concatenate(mags), np.concatenate(bands)


def grouped(rows: Rows, calibration: Calibration) -> Iterator["Groups"]:
    """Sort rows by object and unit, which are sorted by band, and yield them some groups at a time.

    Parameters
    ----------
    rows : Rows
        All rows of some objects.
    calibration : Calibration
        Gives the units' bands.

    Yields
    ------
    Groups
        All rows of some objects and bands, never part of one.
    """
    rows = rows.take(np.lexsort((rows.unit, rows.object_id)))
    band = np.unique(np.array(calibration.band), return_inverse=True)[1][rows.unit]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(rows.object_id) != 0) | (np.diff(band) != 0)
    starts = np.append(np.flatnonzero(new), len(rows))
    for first in range(0, len(starts) - 1, _AT_ONCE):
        edges = starts[first : first + _AT_ONCE + 1]
        begin, end = edges[0], edges[-1]
        index = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
        yield Groups(rows.take(slice(begin, end)), index, edges[:-1] - begin, band[edges[:-1]])


@dataclass(frozen=True, eq=False)
class Prepared:
    """Calibrated rows of groups.

    Parameters
    ----------
    groups : Groups
        The rows as they came.
    shared : SharedErrors
        What their errors share.
    pdf : Mixture
        PDFs in nJy; NaN where unusable.
    widened : Mixture
        The same with what zero points and shared errors add, such that their product has the error of the mean.
    powers : float array, shape (n_rows,)
        Powers with which these are multiplied: below 1 where repeats show that exposures share errors.
    is_cut : bool array, shape (n_rows,)
        Whose components are cut at flux 0.
    usable, kept : bool array, shape (n_rows,)
        Rows that are neither flagged nor unmeasured; those of them that are no outliers.
    contradictory : bool array, shape (n,)
        Groups that contradict themselves without a majority.
    own : float array, shape (n_rows,)
        Relative variance of each row's zero point that the other exposures do not share.
    scale_err : float array, shape (n,)
        Relative error of the flux scale.
    """

    groups: Groups
    shared: SharedErrors
    pdf: Mixture
    widened: Mixture
    powers: FloatArray
    is_cut: BoolArray
    usable: BoolArray
    kept: BoolArray
    contradictory: BoolArray
    own: FloatArray
    scale_err: FloatArray

    def multiply(self, log_prior: LogPrior | None, nodes: FloatArray | None) -> tuple[GridPdf, IntArray]:
        """Return the products of the rows that are kept, and how many they are.

        Parameters
        ----------
        log_prior : callable or None
            As of :func:`lumos.pdf.product`.
        nodes : float array, shape (n, p), or None
            Nodes that the prior needs.

        Returns
        -------
        pdf : GridPdf
            Product of each of the n objects and bands.
        n_used : int array, shape (n,)
            Rows of each.
        """
        n, index = len(self.groups), self.groups.index
        if not self.is_cut.any():
            return product(self.widened.take(self.kept), index[self.kept], n, log_prior, nodes, self.powers[self.kept])
        # PDFs of objects beyond a magnitude are cut at 0: two kinds of rows, never in one object.
        cut = TruncatedMixture(self.widened.weights, self.widened.means, self.widened.stds)
        parts = []
        for kind, rows in ((self.widened, self.kept & ~self.is_cut), (cut, self.kept & self.is_cut)):
            parts.append(product(kind.take(rows), index[rows], n, log_prior, nodes, self.powers[rows]))
        (first, n_first), (second, n_second) = parts
        which = (n_second > 0)[:, None]
        nodes = np.where(which, second.nodes, first.nodes)
        return GridPdf(nodes, np.where(which, second.log_density, first.log_density)), n_first + n_second


def prepare(groups: Groups, context: CoaddContext) -> Prepared:
    """Calibrate rows, leave out what is unusable or contradicts the rest, and find what their errors share.

    Parameters
    ----------
    groups : Groups
        Rows of some objects and bands, uncalibrated.
    context : CoaddContext
        Calibration and settings.

    Returns
    -------
    Prepared
        Ready to be multiplied.
    """
    rows, index, n, settings = groups.rows, groups.index, len(groups), context.settings
    scale = context.calibration.log_scale[rows.unit]
    usable = ((rows.flags & context.excluded) == 0) & np.isfinite(scale) & rows.measured
    pdf: Mixture = GaussianMixture(rows.weights, rows.means, rows.stds).scale(np.where(usable, np.exp(scale), np.nan))
    offset, floor = context.sky.of("pdf", groups.band)
    pdf = GaussianMixture(pdf.weights, pdf.means - offset[index][:, None], pdf.stds)
    is_cut = np.zeros(len(rows), dtype=bool)
    if context.cut_from is not None:
        is_cut = ~(rows.ref_mag < context.cut_from)
    low, median, high = pdf.quantile(np.array([SUMMARY_LEVELS])).T
    variance = ((high - low) / 2) ** 2
    share = context.share.at(_excess(rows, scale, variance))
    flux = inverse_variance(median, np.sqrt(share * variance), index, n)[0]
    shared = SharedErrors(context.calibration, rows.unit, index, n, settings.shared_relative_err)
    floor = np.hypot(floor, settings.shared_flux_err)
    relative = shared.own(usable)
    own = relative * np.maximum(flux, 0)[index] ** 2
    keep, contradictory = np.ones(len(rows), dtype=bool), np.zeros(n, dtype=bool)
    if settings.outlier_threshold > 0:
        keep, contradictory = reject_outliers(_widened(pdf, own), index, n, settings.outlier_threshold)
    kept = usable & keep
    common = np.sqrt(np.where(kept, np.maximum(1 - share, 0) * variance, 0))
    weight, apart, error, scale_err = shared.of_mean(share * variance, common, own, flux, floor, kept)
    # A power would lift the tails of a PDF, so it stands only for what repeats show to be shared. Zero points and
    # floors widen: with these powers and widths independent rows have the same weights, and their mean the same error.
    apart, error = (np.where(kept, values[index], 1) ** 2 for values in (apart, error))
    powers = np.where(kept, (variance + own) * weight / apart, 1)
    widened = _widened(pdf, np.where(kept, (variance + own) * error / apart - variance, 0))
    return Prepared(groups, shared, pdf, widened, powers, is_cut, usable, kept, contradictory, relative, scale_err)


def _excess(rows: Rows, scale: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the logarithm of the width of PDFs over the error that the noise of the pixels alone makes."""
    if _WHITE not in rows.fluxes:
        return np.zeros(len(rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(0.5 * np.log(variance) - scale - np.log(rows.fluxes[_WHITE][1]))


def coadd_pairs(rows: Rows, context: CoaddContext) -> tuple[FloatArray, FloatArray]:
    """Return differences between exposures of the same objects, see :func:`lumos.coadds.repeat_errors.repeat_pairs`.

    Parameters
    ----------
    rows : Rows
        All rows of some objects.
    context : CoaddContext
        Calibration and settings.

    Returns
    -------
    difference, excess : float array, shape (m,)
        Of disjoint pairs of exposures that are not outliers; none is the one that the catalogue was made from, which
        differs by more than its errors.
    """
    parts = []
    for groups in grouped(rows, context.calibration):
        made = prepare(groups, context)
        low, median, high = made.pdf.quantile(np.array([SUMMARY_LEVELS])).T
        variance = ((high - low) / 2) ** 2
        scale = context.calibration.log_scale[groups.rows.unit]
        white = variance * np.exp(-2 * _excess(groups.rows, scale, variance))
        fair = made.kept & ((groups.rows.flags & int(Flag.CATALOG_EXPOSURE)) == 0)
        parts.append(repeat_pairs(median, variance, white, groups.index, fair))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _widened(pdf: Mixture, extra: FloatArray) -> GaussianMixture:
    """Return rows with an independent error more."""
    stds = np.sqrt(pdf.stds**2 + np.where(np.isfinite(extra), np.maximum(extra, 0), 0)[:, None])
    return GaussianMixture(pdf.weights, pdf.means, stds)
