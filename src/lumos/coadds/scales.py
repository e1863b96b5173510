"""One flux scale for exposures that share objects: a robust fit with the covariance of its result."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lumos.coadds.scale_errors import ScaleRows, laplacian, scale_covariance
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.statistics import sigma68

__all__ = ["MAGNITUDE", "Scales", "fit_scales"]

#: Magnitudes per unit of the natural logarithm of a flux.
MAGNITUDE = 2.5 / np.log(10)
#: Residuals beyond this many errors lose weight (Huber); of good Gaussian data that costs 1 per cent of the precision.
_HUBER = 2.0
#: Then those beyond this many have next to none (Tukey's bisquare), which costs 3 per cent.
_BISQUARE, _NONE = 6.0, 1e-4
_N_STEPS = 50
#: Steps in which the extra scatter is sought; then it stays.
_N_SCATTER = 12
#: The fit ends when no scale changes by more than this.
_SMALL = 1e-7
#: Fewer residuals do not tell a scatter, nor do those of which less than this share of the noise is left.
_FEWEST, _LEAST = 20, 0.1


@dataclass(frozen=True, eq=False)
class Scales:
    """Corrections of the logarithm of the fluxes of n units.

    Parameters
    ----------
    log_scale : float array, shape (n,)
        What to add to ln(flux); NaN for units that nothing calibrates.
    covariance : float array, shape (n, n)
        Its covariance; NaN in the rows and columns of those units.
    n_objects : int array, shape (n,)
        Objects in common with another unit.
    scatter : float
        Scatter of ln(flux) beyond the given errors.
    """

    log_scale: FloatArray
    covariance: FloatArray
    n_objects: IntArray
    scatter: float


def fit_scales(
    log_flux: FloatArray,
    log_err: FloatArray,
    object_index: IntArray,
    unit_index: IntArray,
    prior_err: FloatArray,
    cluster: IntArray | None = None,
) -> Scales:
    """Fit the corrections that bring the units onto one scale, see :func:`lumos.coadds.calibrate.calibrate_run`.

    Normal equations, the objects' brightness eliminated, with Huber's weights by turns with the extra scatter, whose
    square is such that residuals scatter as their errors say; then with the bisquare's, which outliers on one side,
    as neighbours that grow with the seeing, do not move.

    The covariance holds scales that differ from place to place, see
    :func:`lumos.coadds.scale_errors.scale_covariance`.

    Parameters
    ----------
    log_flux, log_err : float array, shape (m,)
        Logarithms of fluxes, finite, and their errors, above 0.
    object_index : int array, shape (m,)
        Object of each row.
    unit_index : int array, shape (m,)
        Unit of each row, at most one row for each pair of object and unit; n stands for a reference whose scale is
        right.
    prior_err : float array, shape (n,)
        Errors of the corrections, expected to be 0, before the fit; NaN where nothing is known.
    cluster : int array, shape (m,), optional
        Place on the sky of each row; by default scales are taken to be the same everywhere.

    Returns
    -------
    Scales
        Of the n units.
    """
    n = len(prior_err)
    prior_ivar = np.where(np.isfinite(prior_err), np.nan_to_num(prior_err, nan=1.0) ** -2.0, 0.0)
    tied = _tied(object_index, unit_index, prior_ivar)
    keep = np.append(tied, True)[unit_index] if len(unit_index) else np.zeros(0, dtype=bool)
    y, variance = log_flux[keep], log_err[keep] ** 2
    objects, rows = np.unique(object_index[keep], return_inverse=True)
    units = unit_index[keep]
    scale, extra = np.zeros(n + 1), 0.0
    weight, prior_weight = np.ones(len(y)), np.ones(n)
    free = np.flatnonzero(tied)
    prior, residual = np.zeros((len(free), len(free))), np.zeros(len(y))
    for step in range(_N_STEPS):
        ivar = weight / (variance + extra)
        total = np.bincount(rows, ivar, len(objects))
        data = laplacian(ivar, rows, units, n + 1)[np.ix_(free, free)]
        prior = np.diag((prior_weight * prior_ivar)[free])
        mean = np.bincount(rows, ivar * y, len(objects)) / total
        right = -np.bincount(units, ivar * (y - mean[rows]), n + 1)[free]
        before = scale.copy()
        scale[free] = np.linalg.solve(data + prior, right)
        brightness = np.bincount(rows, ivar * (y + scale[units]), len(objects)) / total
        residual = y + scale[units] - brightness[rows]
        if step < _N_SCATTER:
            # Half of the way: scales and weights follow.
            extra = (extra + _extra_variance(residual, variance, rows)) / 2
        z, _ = _standardised(residual, variance + extra, rows)
        weight = _huber(z) if step < _N_SCATTER else _bisquare(z)
        prior_weight = _huber(scale[:n] * np.sqrt(prior_ivar))
        if step > _N_SCATTER and np.abs(scale - before).max(initial=0) < _SMALL:
            break
    covariance = np.full((n, n), np.nan)
    z, _ = _standardised(residual, variance + extra, rows)
    place = None if cluster is None else cluster[keep]
    ivar = 1 / (variance + extra)
    told = ScaleRows(rows, units, place, ivar, variance * ivar, residual, _bisquare(z), _slope(z), n + 1)
    covariance[np.ix_(free, free)] = scale_covariance(told, prior, free)
    counts = np.bincount(units, minlength=n + 1)[:n]
    return Scales(np.where(tied, scale[:n], np.nan), covariance, counts, float(np.sqrt(extra)))


def _standardised(residual: FloatArray, variance: FloatArray, rows: IntArray) -> tuple[FloatArray, BoolArray]:
    """Return residuals over what they are expected to be, and which of them tell anything.

    A residual about a mean that holds it scatters less; one that makes the mean tells nothing.
    """
    share = 1 - 1 / (np.bincount(rows, 1 / variance)[rows] * variance)
    return residual / np.sqrt(variance * np.maximum(share, _LEAST)), share > _LEAST


def _extra_variance(residual: FloatArray, variance: FloatArray, rows: IntArray) -> float:
    """Return the variance with which residuals scatter as their errors say; 0 where they do so without, or are few."""

    def surplus(extra: float) -> float:
        z, told = _standardised(residual, variance + extra, rows)
        if told.sum() < _FEWEST:
            return 0.0
        return sigma68(z[told]) - 1

    most = float(np.square(residual).max(initial=0.0))
    if surplus(0.0) <= 0 or surplus(most) >= 0:
        return 0.0
    return float(brentq(surplus, 0.0, most, xtol=1e-9, rtol=1e-3))


def _huber(z: FloatArray) -> FloatArray:
    return np.asarray(_HUBER / np.maximum(np.abs(z), _HUBER))


def _bisquare(z: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(1 - np.square(z / _BISQUARE), np.sqrt(_NONE)) ** 2)


def _slope(z: FloatArray) -> FloatArray:
    """Return the derivative of z times its bisquare weight."""
    u = np.square(np.minimum(np.abs(z) / _BISQUARE, 1.0))
    return np.asarray((1 - u) * (1 - 5 * u))


def _tied(object_index: IntArray, unit_index: IntArray, prior_ivar: FloatArray) -> BoolArray:
    """Return which units have a scale: by a prior, or by objects through others that have one."""
    n = len(prior_ivar)
    n_objects = int(object_index.max(initial=-1)) + 1
    # Units 0 to n - 1, the reference n, then the objects.
    nodes = n + 1 + n_objects
    links = coo_matrix((np.ones(len(unit_index)), (unit_index, n + 1 + object_index)), shape=(nodes, nodes))
    part = connected_components(links, directed=False)[1]
    anchors = part[np.append(np.flatnonzero(prior_ivar > 0), n)]
    return np.asarray(np.isin(part[:n], anchors))
