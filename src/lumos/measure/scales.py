"""One flux scale for exposures that share objects: a robust fit with the covariance of its result."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from lumos.conventions import BoolArray, FloatArray, IntArray

__all__ = ["MAGNITUDE", "Scales", "fit_scales"]

#: Magnitudes per unit of the natural logarithm of a flux.
MAGNITUDE = 2.5 / np.log(10)
#: Residuals beyond this many errors lose weight (Huber); of good Gaussian data that costs 1 per cent of the precision.
_HUBER = 2.0
#: Then those beyond this many have next to none (Tukey's bisquare), which costs 5 per cent.
_BISQUARE, _NONE = 4.685, 1e-4
_N_STEPS = 50
#: Steps in which the extra scatter is sought; then it stays.
_N_SCATTER = 12
#: The fit ends when no scale changes by more than this.
_SMALL = 1e-7
#: Half the distance of a Gaussian's 16 and 84 per cent quantiles.
_SIGMA68 = 0.9945
#: Fewer places do not tell how scales differ between them.
_CLUSTERS = 10
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
    """Fit the corrections that bring the units onto one scale, see :func:`lumos.measure.calibrate.calibrate_run`.

    Normal equations, the objects' brightness eliminated, with Huber's weights by turns with the extra scatter, whose
    square is such that residuals scatter as their errors say; then with the bisquare's, which outliers on one side,
    as neighbours that grow with the seeing, do not move.

    Where clusters are given, the covariance is :math:`A^{-1} (M + P) A^{-1}` with the matrix A of the normal equations,
    the inverse variances P of the priors, and M the sum over clusters of the outer products of their pulls: scales
    that differ from place to place on a detector are in it (a sandwich estimate).

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
        Place on the sky of each row; fewer than ten places tell nothing.

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
    units, shape = unit_index[keep], (len(objects), n + 1)
    scale, extra = np.zeros(n + 1), 0.0
    weight, prior_weight = np.ones(len(y)), np.ones(n)
    free = np.flatnonzero(tied)
    data = prior = np.zeros((len(free), len(free)))
    ivar, residual, z = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
    for step in range(_N_STEPS):
        ivar = weight / (variance + extra)
        total = np.bincount(rows, ivar, shape[0])
        table = csr_matrix(coo_matrix((ivar, (rows, units)), shape=shape))
        own = np.bincount(units, ivar, n + 1)
        shared = (table.T @ table.multiply(1 / np.maximum(total, 1e-300)[:, None])).toarray()
        data, prior = (np.diag(own) - shared)[np.ix_(free, free)], np.diag((prior_weight * prior_ivar)[free])
        mean = np.bincount(rows, ivar * y, shape[0]) / total
        right = -np.bincount(units, ivar * (y - mean[rows]), n + 1)[free]
        before = scale.copy()
        scale[free] = np.linalg.solve(data + prior, right)
        brightness = np.bincount(rows, ivar * (y + scale[units]), shape[0]) / total
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
    inverse = np.linalg.inv(data + prior)
    if cluster is not None and len(np.unique(cluster[keep])) >= _CLUSTERS:
        places, place = np.unique(cluster[keep], return_inverse=True)
        pull = coo_matrix((ivar * residual, (place, units)), shape=(len(places), n + 1)).toarray()[:, free]
        meat = pull.T @ pull * len(places) / (len(places) - 1)
        # The pulls grow less with a residual than their weights say: these fall at the same time.
        u = np.square(np.minimum(np.abs(z) / _BISQUARE, 1.0))
        inverse = np.linalg.inv(data * np.sum((1 - u) * (1 - 5 * u)) / np.sum(np.square(1 - u)) + prior)
        inverse = inverse @ (meat + prior) @ inverse
    covariance[np.ix_(free, free)] = inverse
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
        low, high = np.quantile(z[told], [0.16, 0.84])
        return float(high - low) / 2 - _SIGMA68

    most = float(np.square(residual).max(initial=0.0))
    if surplus(0.0) <= 0 or surplus(most) >= 0:
        return 0.0
    return float(brentq(surplus, 0.0, most, xtol=1e-9, rtol=1e-3))


def _huber(z: FloatArray) -> FloatArray:
    return np.asarray(_HUBER / np.maximum(np.abs(z), _HUBER))


def _bisquare(z: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(1 - np.square(z / _BISQUARE), np.sqrt(_NONE)) ** 2)


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
