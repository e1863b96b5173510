"""The covariance of flux scales: noise, the outliers' weights, and scales that differ from place to place."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from lumos.conventions import FloatArray, IntArray

__all__ = ["ScaleRows", "laplacian", "scale_covariance"]

#: Sums of the slopes of an object's pulls are at least this share of the sum of their sizes.
_LEAST_SLOPE = 0.1
#: With so many places a unit's own scatter between them counts as much as that of all units.
_OWN_PLACES = 50
#: Scatter between places that noise makes by chance, in errors of its sum.
_CHANCE = 1.5


@dataclass(frozen=True, eq=False)
class ScaleRows:
    """Rows of a fit that has ended.

    Parameters
    ----------
    object_index, unit_index : int array, shape (m,)
        Object and unit of each row, from 0.
    place : int array, shape (m,), or None
        Place on the sky of each row; None where scales are the same everywhere.
    ivar, stated : float array, shape (m,)
        Inverse variances, without the weights; and the share of the variance that is of stated errors.
    residual : float array, shape (m,)
        Residuals of the logarithm of the flux.
    weight : float array, shape (m,)
        Weights of a robust fit, 1 for good rows.
    slope : float array, shape (m,)
        Derivative of weight times residual with the residual.
    n_units : int
        Units, the reference included.
    """

    object_index: IntArray
    unit_index: IntArray
    place: IntArray | None
    ivar: FloatArray
    stated: FloatArray
    residual: FloatArray
    weight: FloatArray
    slope: FloatArray
    n_units: int


def laplacian(ivar: FloatArray, rows: IntArray, units: IntArray, n_units: int) -> FloatArray:
    """Return the normal matrix of the scales of units, the brightness of the objects eliminated.

    Parameters
    ----------
    ivar : float array, shape (m,)
        Inverse variances; slopes may be negative.
    rows, units : int array, shape (m,)
        Object and unit of each row.
    n_units : int
        Number of units.

    Returns
    -------
    float array, shape (n_units, n_units)
        Each row sums to 0 where no inverse variance is negative.
    """
    n_objects = int(rows.max(initial=-1)) + 1
    total = np.bincount(rows, ivar, n_objects)
    total = np.maximum(total, _LEAST_SLOPE * np.bincount(rows, np.abs(ivar), n_objects))
    table = csr_matrix(coo_matrix((ivar, (rows, units)), shape=(n_objects, n_units)))
    shared = (table.T @ table.multiply(1 / np.maximum(total, 1e-300)[:, None])).toarray()
    return np.asarray(np.diag(np.bincount(units, ivar, n_units)) - shared)


def scale_covariance(rows: ScaleRows, prior: FloatArray, free: IntArray) -> FloatArray:
    r"""Return the covariance of fitted scales.

    It is :math:`A^{-1} (B + P) A^{-1}`: P are the inverse variances of the priors, A the change of the pulls on the
    units with their scales, and B the covariance of these pulls. B has two parts: the noise, as the weighted residuals
    show it and no less than errors and weights say; and scales that differ between places, an offset of each unit in
    each place. The variances of these offsets are those with which the pulls of places scatter as they do (a
    random-effects model, moments as of DerSimonian & Laird 1986). All units tell one variance, which holds for those
    with few places; a unit with many tells its own.

    Parameters
    ----------
    rows : ScaleRows
        Rows of the fit, with residuals and weights.
    prior : float array, shape (k, k)
        P of the units with a scale.
    free : int array, shape (k,)
        Indices of the units whose scale is fitted.

    Returns
    -------
    float array, shape (k, k)
        Covariance of the logarithms of the fitted scales.
    """
    some = np.ix_(free, free)
    weighted = laplacian(rows.weight * rows.ivar, rows.object_index, rows.unit_index, rows.n_units)
    slope = laplacian(rows.slope * rows.ivar, rows.object_index, rows.unit_index, rows.n_units)
    counts = np.bincount(rows.object_index)[rows.object_index]
    # What is left of a residual about a mean that holds it.
    total = np.bincount(rows.object_index, rows.ivar)[rows.object_index]
    share = np.where(counts > 1, 1 - rows.ivar / total, 0.0)
    pulls = np.sum(np.square(rows.weight * rows.residual) * rows.ivar)
    told = np.sum(rows.weight * share)
    trace, change = np.trace(weighted), np.trace(slope) / max(np.trace(weighted), 1e-300)
    if told <= 0 or trace <= 0 or not change > 0:
        return np.asarray(np.linalg.inv(weighted[some] + prior))
    least = change**2 * np.sum(rows.weight * share * rows.stated) / share.sum()
    noise = max(pulls / told, least)
    middle = noise * weighted
    if rows.place is not None:
        middle += change**2 * _between_places(rows, rows.place, weighted, noise, change)
    inverse = np.linalg.inv(slope[some] + prior)
    return np.asarray(inverse @ (middle[some] + prior) @ inverse)


def _between_places(rows: ScaleRows, place: IntArray, weighted: FloatArray, noise: float, change: float) -> FloatArray:
    """Return the covariance of the pulls by offsets of each unit in each place, over the square of ``change``."""
    n = rows.n_units
    own = np.maximum(np.diag(weighted), 1e-300)
    surplus, degrees, response, squares = np.zeros(n), np.zeros(n), np.zeros((n, n)), 0.0
    for units, part, pull in _places(rows, place):
        diagonal = np.diag(part)
        left = np.maximum(1 - diagonal / own[units], 0.0)
        surplus[units] += np.square(pull) / diagonal - noise * left
        degrees[units] += left
        response[np.ix_(units, units)] += change**2 * left[:, None] * np.square(part) / diagonal[:, None]
        squares += np.sum(np.square(change**2 * left * diagonal))
    if not response.sum() > 0:
        return np.zeros((n, n))
    # Taken for real, chance would widen all errors.
    if surplus.sum() < _CHANCE * noise * np.sqrt(2 * degrees.sum()):
        return np.zeros((n, n))
    # A variance from so few pulls is half the time too small, and pulls about it are wide as Student's.
    few = 1 + 2 * squares / np.trace(response) ** 2
    common = few * surplus.sum() / response.sum()
    prior = np.diag(response) * _OWN_PLACES / np.maximum(degrees, 1e-9)
    variance = np.full(n, common)
    known = np.diag(response) > 0
    system = response[np.ix_(known, known)] + np.diag(prior[known])
    variance[known] = np.linalg.solve(system, surplus[known] + prior[known] * common)
    variance = np.maximum(variance, 0.0)
    out = np.zeros((n, n))
    for units, part, _ in _places(rows, place):
        out[np.ix_(units, units)] += (part * variance[units]) @ part
    return out


def _places(rows: ScaleRows, place: IntArray) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
    """Yield the k units that share objects in each place, their normal matrix (k, k) and the pulls (k,) on them."""
    order = np.argsort(place, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        units, unit = np.unique(rows.unit_index[here], return_inverse=True)
        _, row = np.unique(rows.object_index[here], return_inverse=True)
        ivar = (rows.weight * rows.ivar)[here]
        part = laplacian(ivar, row, unit, len(units))
        pull = np.asarray(np.bincount(unit, ivar * rows.residual[here], len(units)), dtype=np.float64)
        shared = np.flatnonzero(np.diag(part) > 1e-9 * np.bincount(unit, ivar, len(units)))
        yield units[shared], part[np.ix_(shared, shared)], pull[shared]
