"""Non-negative least squares for very many small problems at once, exact or by multiplicative updates.

Arrays have the problems on their *last* axis: each step of the algorithm is then one operation on long, contiguous
vectors. Of symmetric matrices only the lower triangle is held, row by row: (0, 0), (1, 0), (1, 1), (2, 0), ...
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError

__all__ = ["NonNegativeFit", "solve_multiplicative", "solve_nonnegative", "triangle"]

#: Problems solved at once: their tableaux fit the cache of a core.
_AT_ONCE = 1024
#: A component enters the fit if that lowers chi2 by more than this share of the chi2 of no model at all ...
_GAIN = 1e-15
#: ... and if more than this share of it is not a sum of the components that are in the fit.
_COLLINEAR = 1e-10


@cache
def triangle(size: int) -> IntArray:
    """Return where the elements of a symmetric matrix are in its lower triangle.

    Parameters
    ----------
    size : int
        Rows of the matrix.

    Returns
    -------
    ndarray of int, shape (size, size)
        Place of each element.
    """
    row, column = np.indices((size, size))
    high, low = np.maximum(row, column), np.minimum(row, column)
    places: IntArray = high * (high + 1) // 2 + low
    places.flags.writeable = False
    return places


@dataclass(frozen=True, eq=False)
class NonNegativeFit:
    """Solutions of n problems with S components.

    Parameters
    ----------
    amplitudes : ndarray, shape (S, n)
        Amplitudes of the components, at least 0.
    chi2 : ndarray, shape (n,)
        Smallest value of the problem, norm - 2 v b + v A v.
    positive : ndarray of bool, shape (S, n)
        Components that are in the fit.
    tableau : ndarray, shape ((S + 1) (S + 2) / 2, n)
        What the exact solver leaves, a lower triangle. Rows and columns of components in the fit hold minus the
        inverse of their part of A; on the diagonal of the others is what is left of A when those in the fit are
        projected out; the last row holds the amplitudes of those in the fit, minus half the gradient of chi2 of the
        others, and chi2. Empty after multiplicative updates.
    """

    amplitudes: FloatArray
    chi2: FloatArray
    positive: BoolArray
    tableau: FloatArray


def solve_nonnegative(gram: FloatArray, projection: FloatArray, norm: FloatArray) -> NonNegativeFit:
    r"""Minimise norm - 2 v b + v A v over amplitudes v of at least 0, exactly.

    With A = M^T W M, b = M^T W F and norm = F^T W F that is chi2 of the model M v of fluxes F with weights W. The
    algorithm is the active-set method of Lawson & Hanson (1974, Solving Least Squares Problems, chapter 23), in which
    the component that lowers chi2 most enters first; components enter and leave by sweeps of the tableau
    (Goodnight 1979, The American Statistician 33, 149), each of which costs S^2 / 2 operations.

    Parameters
    ----------
    gram : ndarray, shape (S (S + 1) / 2, n)
        Matrices A, positive semi-definite; lower triangles.
    projection : ndarray, shape (S, n)
        Vectors b.
    norm : ndarray, shape (n,)
        Values at v = 0.

    Returns
    -------
    NonNegativeFit
        The solutions. Components that are collinear with others to 1e-10 stay at 0 where the others suffice.

    Raises
    ------
    LumosShapeError
        If the shapes do not belong together.
    """
    n_components, n = projection.shape
    n_pairs = n_components * (n_components + 1) // 2
    if gram.shape != (n_pairs, n) or norm.shape != (n,):
        shapes = (gram.shape, projection.shape, norm.shape)
        raise LumosShapeError("gram, projection, norm", shapes, "(S (S + 1) / 2, n), (S, n), (n,)")
    tableau = np.concatenate([gram, projection, norm[None]])
    amplitudes, positive = np.zeros((n_components, n)), np.zeros((n_components, n), dtype=bool)
    places = triangle(n_components + 1)
    row, column = np.tril_indices(n_components + 1)
    for start in range(0, n, _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, n))
        scale = np.ones((n_components + 1, part.stop - start))
        np.sqrt(tableau[places.diagonal()[:-1], part], out=scale[:-1])
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        work = tableau[:, part] * inverse[row]
        work *= inverse[column]
        found, inside, done = _active_set(work)
        amplitudes[:, part], positive[:, part] = found * inverse[:-1], inside
        # Back to the units of the components: those in the fit hold an inverse.
        scale[:-1] = np.where(inside, inverse[:-1], scale[:-1])
        done *= scale[row]
        np.multiply(done, scale[column], out=tableau[:, part])
    return NonNegativeFit(amplitudes, np.maximum(tableau[-1], 0), positive, tableau)


def _active_set(work: FloatArray) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Solve problems with unit diagonals; return amplitudes, what is in the fit, and tableaux."""
    size, n = int(np.sqrt(2 * len(work))), work.shape[1]
    amplitudes, positive = np.zeros((size - 1, n)), np.zeros((size - 1, n), dtype=bool)
    done = np.empty_like(work)
    rows, least = np.arange(n), _GAIN * work[-1]
    here, inside = amplitudes.copy(), positive.copy()
    for _ in range(6 * size + 20):
        pivot, enters = _next_pivot(work, here, inside, least)
        finished = pivot < 0
        n_finished = np.count_nonzero(finished)
        if 4 * n_finished > len(rows) or n_finished == len(rows):
            # What is finished is put aside, when that is a good part of what is left.
            which, going = rows[finished], np.flatnonzero(~finished)
            done[:, which] = work[:, finished]
            amplitudes[:, which], positive[:, which] = here[:, finished], inside[:, finished]
            if not len(going):
                return amplitudes, positive, done
            rows, pivot, enters = rows[going], pivot[going], enters[going]
            least, finished = least[going], finished[going]
            # Not by an index, which would turn the order of the axes in memory.
            work, here, inside = (one.take(going, axis=1) for one in (work, here, inside))
        inside[pivot[~finished], np.flatnonzero(~finished)] = enters[~finished]
        _sweep(work, pivot, enters, finished)
    # Rounding made these go round in circles; the amplitudes are allowed, and as good as rounding lets them be.
    done[:, rows], amplitudes[:, rows], positive[:, rows] = work, here, inside
    return amplitudes, positive, done


def _next_pivot(
    work: FloatArray, amplitudes: FloatArray, inside: BoolArray, least: FloatArray
) -> tuple[IntArray, BoolArray]:
    """Move amplitudes as far as they may; return which component enters or leaves, -1 where the fit is done."""
    n_components, n = amplitudes.shape
    solution = work[-n_components - 1 : -1]
    low = solution <= 0
    blocked = inside & low
    leaves = np.asarray(blocked.any(axis=0))
    enters = ~leaves
    np.multiply(solution, inside, out=amplitudes, where=enters)
    diagonal = work[triangle(n_components).diagonal()]
    allowed = ~(inside | low | (diagonal <= _COLLINEAR))
    gain = np.divide(np.square(solution), diagonal, out=np.zeros_like(solution), where=allowed)
    best = gain.max(axis=0)
    pivot = np.full(n, -1)
    for component in range(n_components):  # much faster than argmax along the first axis
        np.copyto(pivot, component, where=(gain[component] == best) & (best > least))
    if leaves.any():
        before, target = amplitudes[:, leaves], solution[:, leaves]
        stop = blocked[:, leaves]
        step = np.divide(before, before - target, out=np.full_like(before, np.inf), where=stop)
        first = step.argmin(axis=0)
        these = np.arange(len(first))
        moved = before + step[first, these] * (inside[:, leaves] * (target - before))
        np.maximum(moved, 0, out=moved)
        moved[first, these] = 0
        amplitudes[:, leaves] = moved
        pivot[leaves] = first
    return pivot, enters


def _sweep(work: FloatArray, pivot: IntArray, forward: BoolArray, skip: BoolArray) -> None:
    """Sweep each tableau on its pivot, or undo that; leave out some."""
    size, n = int(np.sqrt(2 * len(work))), work.shape[1]
    columns, pivot = np.arange(n), np.where(skip, 0, pivot)
    flat, places = work.reshape(-1), triangle(size).take(pivot, axis=1)
    places *= n
    places += columns
    line = flat.take(places)
    before = line.copy() if skip.any() else line
    divisor = flat.take(places.reshape(-1).take(pivot * n + columns))
    divisor[skip] = 1
    line[:, skip] = 0
    scaled = line / divisor
    buffer = np.empty((size, n))
    start = 0
    for row in range(size):
        np.multiply(scaled[: row + 1], line[row], out=buffer[: row + 1])
        work[start : start + row + 1] -= buffer[: row + 1]
        start += row + 1
    scaled *= np.where(forward, 1.0, -1.0)
    scaled.reshape(-1)[pivot * n + columns] = -1 / divisor
    if before is not line:
        np.copyto(scaled, before, where=skip)
    flat[places] = scaled


def solve_multiplicative(
    gram: FloatArray, projection: FloatArray, norm: FloatArray, n_iterations: int = 1000
) -> NonNegativeFit:
    """Minimise norm - 2 v b + v A v over amplitudes v of at least 0, by multiplicative updates.

    The update v <- v max(b, 0) / (A v) of Sha, Saul & Lee (2007, Neural Computation 19, 2004) for A of elements that
    are all at least 0, as BCNz2 does it (Eriksen et al. 2019, MNRAS 484, 4200) from v = 100; unlike there, components
    of negative projections go to 0 instead of changing their sign. It approaches the solution slowly where the
    signal-to-noise ratio is high.

    Parameters
    ----------
    gram : ndarray, shape (S (S + 1) / 2, n)
        Matrices A, all elements at least 0; lower triangles.
    projection : ndarray, shape (S, n)
        Vectors b.
    norm : ndarray, shape (n,)
        Values at v = 0.
    n_iterations : int, optional
        Number of updates.

    Returns
    -------
    NonNegativeFit
        The amplitudes after the last update.
    """
    full = gram[triangle(len(projection))]
    amplitudes = np.full(projection.shape, 100.0)
    positive = np.maximum(projection, 0)
    for _ in range(n_iterations):
        model = np.einsum("stn,tn->sn", full, amplitudes)
        amplitudes = amplitudes * np.divide(positive, model, out=np.zeros_like(model), where=model > 0)
    model = np.einsum("stn,tn->sn", full, amplitudes)
    chi2 = norm + (amplitudes * (model - 2 * projection)).sum(axis=0)
    return NonNegativeFit(amplitudes, chi2, amplitudes > 0, np.empty((0, projection.shape[1])))
