r"""The normal equations of a scene: fluxes of all profiles of an image at once.

.. math:: A_{ij} = \sum_p m_i m_j / v, \qquad b_i = \sum_p m_i d / v, \qquad A f = b

over the pixels p of the image d, its sky subtracted, of variance v.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from lumos.conventions import FloatArray, IntArray
from lumos.scenes.groups import TileGroup

__all__ = ["LocalErrors", "Scaled", "local_errors", "normal_equations"]

#: Share of its own information that each flux is given besides, at 0: without it two profiles alike have no solution.
_RIDGE = 1e-6
#: Accuracy of the fluxes in units of their errors, about, and steps after which the search for them ends.
_ACCURACY, _MOST_STEPS = 1e-4, 1000
#: How many other profiles, those of the closest ties, are let vary for the error of one.
_TIES = 12
#: Ties below this correlation change no error.
_LOOSE = 0.01


@dataclass(frozen=True)
class Scaled:
    """Normal equations scaled to a diagonal of 1: an off-diagonal element is the cosine between two profiles.

    Parameters
    ----------
    matrix : sparse array, shape (n, n)
        Scaled matrix, indices sorted.
    information : float array, shape (n,)
        Diagonal before: the inverse square of the error that each flux had alone; 0 where no pixel tells of it.
    right : float array, shape (n,)
        Scaled right side.
    """

    matrix: sparse.csr_array
    information: FloatArray
    right: FloatArray

    @property
    def errors(self) -> FloatArray:
        """Return the error that each flux had alone; 0 where no pixel tells of it."""
        return np.asarray(np.where(self.information > 0, self.information, np.inf) ** -0.5)

    def solve(self, start: FloatArray) -> FloatArray:
        """Solve for the fluxes, by conjugate gradients.

        Parameters
        ----------
        start : float array, shape (n,)
            Fluxes to begin with.

        Returns
        -------
        float array, shape (n,)
            Fluxes; 0 where no pixel tells of one.
        """
        errors = self.errors
        ridged = LinearOperator(self.matrix.shape, lambda v: self.matrix @ v + _RIDGE * v, dtype=np.float64)
        begin = start * np.sqrt(self.information)
        tolerance = _ACCURACY * np.sqrt(len(begin))
        solution, _ = cg(ridged, self.right, x0=begin, rtol=0.0, atol=tolerance, maxiter=_MOST_STEPS)
        return np.asarray(solution * errors)


def normal_equations(groups: Iterator[TileGroup], weights: Tensor, data: Tensor, n_unknowns: int) -> Scaled:
    """Set up the normal equations.

    Parameters
    ----------
    groups : iterator of TileGroup
        All tiles.
    weights, data : float32 tensor, shape (n_tiles, 256)
        1 / variance of the pixels, 0 where unusable; their values.
    n_unknowns : int
        Number of profiles, and of nodes of the sky where there are any.

    Returns
    -------
    Scaled
        The equations.
    """
    rows, columns = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)]
    products = [torch.zeros(0)]
    right = np.zeros(n_unknowns + 1)
    for group in groups:
        weighted = group.values * weights[group.tiles][:, None]
        gram = weighted @ group.values.transpose(1, 2)
        # Owners ascend along a tile, those that fill up are zero: the upper triangle holds each pair once.
        first, second = torch.triu_indices(*gram.shape[1:])
        pair_products = gram[:, first, second].flatten()
        some = pair_products != 0
        rows.append(group.owner[:, first].flatten()[some])
        columns.append(group.owner[:, second].flatten()[some])
        products.append(pair_products[some])
        sums = (weighted @ data[group.tiles][:, :, None])[:, :, 0]
        right += np.bincount(group.owner.flatten().numpy(), sums.flatten().numpy(), minlength=n_unknowns + 1)
    values = torch.cat(products).double().numpy()
    pairs = (torch.cat(rows).numpy(), torch.cat(columns).numpy())
    upper = sparse.coo_array((values, pairs), shape=(n_unknowns + 1, n_unknowns + 1)).tocsr()[:-1, :-1]
    information = upper.diagonal()
    scale = np.where(information > 0, information, np.inf) ** -0.5
    upper = sparse.diags_array(scale) @ upper @ sparse.diags_array(scale)
    strict = sparse.triu(upper, 1)
    matrix = (strict + strict.T + sparse.eye_array(n_unknowns)).tocsr()
    matrix.sort_indices()
    return Scaled(matrix, information, scale * right[:-1])


@dataclass(frozen=True)
class LocalErrors:
    """Errors of n fluxes, from each one's closest ties.

    Parameters
    ----------
    total : float array, shape (n,)
        With all others free; inf where no pixel tells of the flux.
    alone : float array, shape (n,)
        With the others known.
    ties : int array, shape (n, k)
        The objects of the closest ties, -1 where there are fewer.
    correlation : float array, shape (n, k)
        Correlation of the errors with each of these.
    """

    total: FloatArray
    alone: FloatArray
    ties: IntArray
    correlation: FloatArray


def local_errors(equations: Scaled) -> LocalErrors:
    """Invert the equations around each object.

    Parameters
    ----------
    equations : Scaled
        Of n profiles.

    Returns
    -------
    LocalErrors
        Of all. Others than the twelve of the closest ties are held fixed.
    """
    matrix = equations.matrix
    n = matrix.shape[0]
    strengths = np.abs(matrix.data)
    row = np.repeat(np.arange(n), np.diff(matrix.indptr))
    tied = np.flatnonzero((strengths > _LOOSE) & (row != matrix.indices))
    tied = tied[np.lexsort((-strengths[tied], row[tied]))]
    starts = np.searchsorted(row[tied], np.arange(n + 1))
    place = starts[:-1, None] + np.arange(_TIES)
    there = place < starts[1:, None]
    ties = np.full((n, _TIES), -1)
    ties[there] = matrix.indices[tied[place[there]]]
    block = np.concatenate([np.arange(n)[:, None], ties], axis=1)
    first, second = np.triu_indices(_TIES + 1, 1)
    # Keys of all elements ascend, since rows do and columns within them.
    keys = row * n + matrix.indices
    wanted = block[:, first] * n + block[:, second]
    known = (block[:, first] >= 0) & (block[:, second] >= 0)
    found = np.minimum(np.searchsorted(keys, wanted[known]), len(keys) - 1)
    elements = np.zeros(wanted.shape)
    elements[known] = np.where(keys[found] == wanted[known], matrix.data[found], 0.0)
    local = np.zeros((n, _TIES + 1, _TIES + 1))
    local[:, first, second] = elements
    local += local.swapaxes(1, 2)
    diagonal = np.arange(_TIES + 1)
    local[:, diagonal, diagonal] = 1 + _RIDGE
    inverse = np.linalg.inv(local)
    alone = np.where(equations.information > 0, equations.errors, np.inf)
    spread = np.sqrt(inverse[:, diagonal, diagonal])
    correlation = np.where(ties >= 0, inverse[:, 0, 1:] / (spread[:, :1] * spread[:, 1:]), 0.0)
    return LocalErrors(alone * spread[:, 0], alone, ties, correlation)
