"""From p(z) on a grid to numbers: best and mean redshift, quantiles, odds, quality."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosShapeError

__all__ = ["RedshiftPdf", "cell_edges", "quality"]


def cell_edges(redshifts: FloatArray) -> FloatArray:
    """Return the edges of the cells of a grid.

    Parameters
    ----------
    redshifts : ndarray, shape (n_z,)
        Increasing, two or more.

    Returns
    -------
    ndarray, shape (n_z + 1,)
        Middles between neighbours; the outer cells are symmetric.
    """
    middle = (redshifts[1:] + redshifts[:-1]) / 2
    return np.concatenate([[2 * redshifts[0] - middle[0]], middle, [2 * redshifts[-1] - middle[-1]]])


@dataclass(frozen=True, eq=False)
class RedshiftPdf:
    """p(z) of n galaxies, constant within the cells of a grid.

    Parameters
    ----------
    redshifts : ndarray, shape (n_z,)
        The grid, increasing.
    density : ndarray, shape (n, n_z)
        Probability per unit redshift, as it integrates to 1; NaN for a galaxy without a redshift.
    """

    redshifts: FloatArray
    density: FloatArray

    def __post_init__(self) -> None:
        if self.density.ndim != 2 or self.density.shape[1:] != self.redshifts.shape or len(self.redshifts) < 2:
            raise LumosShapeError("p(z)", self.density.shape, f"(n, {len(self.redshifts)}), at least two redshifts")

    @classmethod
    def of(cls, redshifts: FloatArray, log_density: FloatArray) -> "RedshiftPdf":
        """Normalise densities.

        Parameters
        ----------
        redshifts : ndarray, shape (n_z,)
            The grid.
        log_density : ndarray, shape (n_z, n)
            Logarithms of densities, up to a constant for each galaxy.

        Returns
        -------
        RedshiftPdf
            Of the n galaxies; values below 1e-9 of the largest are 0.
        """
        density = np.exp(log_density - log_density.max(axis=0)).T
        density[density < 1e-9] = 0
        width = np.diff(cell_edges(redshifts))
        return cls(redshifts, density / (density @ width)[:, None])

    def _cumulative(self) -> FloatArray:
        """Return the probability below each edge, shape (n, n_z + 1)."""
        mass = self.density * np.diff(cell_edges(self.redshifts))
        below = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
        return np.asarray(below / below[:, -1:])

    def cdf(self, redshift: ArrayLike) -> FloatArray:
        """Return the probability below one redshift of each galaxy; at the true one it is the PIT.

        Parameters
        ----------
        redshift : array_like, shape (n,)
            Redshifts.

        Returns
        -------
        ndarray, shape (n,)
            Probabilities.
        """
        edges, below = cell_edges(self.redshifts), self._cumulative()
        at = np.asarray(redshift, dtype=np.float64).clip(edges[0], edges[-1])
        cell = np.searchsorted(edges, at, side="right").clip(1, len(edges) - 1) - 1
        rows = np.arange(len(below))
        part = (at - edges[cell]) / (edges[cell + 1] - edges[cell])
        low, high = below[rows, cell], below[rows, cell + 1]
        return np.asarray(np.where(np.isfinite(at), low + part * (high - low), np.nan))

    def quantiles(self, levels: ArrayLike) -> FloatArray:
        """Return quantiles.

        Parameters
        ----------
        levels : array_like, shape (m,)
            Probabilities above 0 and below 1.

        Returns
        -------
        ndarray, shape (n, m)
            Redshifts; NaN for a galaxy without.
        """
        edges, wanted = cell_edges(self.redshifts), np.asarray(levels, dtype=np.float64)
        found = np.full((len(self.density), len(wanted)), np.nan)
        for row, below in enumerate(self._cumulative()):
            if np.isfinite(below[-1]):
                # Of cells without probability only the first edge, so that steps are not turned into ramps.
                first = np.concatenate([[True], np.diff(below) > 0])
                first[:-1] |= first[1:]
                found[row] = np.interp(wanted, below[first], edges[first])
        return found

    def mean(self) -> FloatArray:
        """Return the mean redshift.

        Returns
        -------
        ndarray, shape (n,)
            Means.
        """
        edges = cell_edges(self.redshifts)
        return np.asarray(self.density @ (np.diff(edges) * (edges[1:] + edges[:-1]) / 2))

    def best(self) -> tuple[FloatArray, IntArray]:
        """Return the redshift of the largest density, between the points of the grid.

        Returns
        -------
        redshift : ndarray, shape (n,)
            Top of the parabola through the logarithm of the density at the largest value and its neighbours.
        place : ndarray of int, shape (n,)
            Place of the largest value on the grid.
        """
        finite = np.nan_to_num(self.density, nan=0.0)
        place, rows = finite.argmax(axis=1), np.arange(len(finite))
        inside = place.clip(1, len(self.redshifts) - 2)
        found = self.redshifts[place]
        with np.errstate(divide="ignore", invalid="ignore"):
            left, middle, right = (np.log(finite[rows, inside + step]) for step in (-1, 0, 1))
            shift = 0.5 * (left - right) / (left - 2 * middle + right)
        even = np.isclose(
            self.redshifts[inside + 1] - self.redshifts[inside], self.redshifts[inside] - self.redshifts[inside - 1]
        )
        good = (inside == place) & even & (np.abs(shift) <= 0.5)
        step = (self.redshifts[inside + 1] - self.redshifts[inside - 1]) / 2
        found = np.where(good, found + np.where(good, shift, 0) * step, found)
        return np.where(np.isfinite(self.density[:, 0]), found, np.nan), place

    def odds(self, redshift: FloatArray, window: float) -> FloatArray:
        """Return the probability within window times 1 + z of a redshift.

        Parameters
        ----------
        redshift : ndarray, shape (n,)
            Of each galaxy.
        window : float
            Half-width over 1 + z.

        Returns
        -------
        ndarray, shape (n,)
            Probabilities.
        """
        reach = window * (1 + redshift)
        return self.cdf(redshift + reach) - self.cdf(redshift - reach)

    def crps(self, redshift: FloatArray) -> FloatArray:
        """Return the continuous ranked probability score, the integral of (CDF - step at the true redshift)^2.

        Parameters
        ----------
        redshift : ndarray, shape (n,)
            True redshifts.

        Returns
        -------
        ndarray, shape (n,)
            Scores, in units of redshift; 0 is perfect. Beyond the grid the distance to it adds.
        """
        edges, below = cell_edges(self.redshifts), self._cumulative()
        at = redshift.clip(edges[0], edges[-1])
        low, high, width = below[:, :-1], below[:, 1:], np.diff(edges)
        middle = np.clip((at[:, None] - edges[:-1]) / width, 0, 1)
        cross = low + middle * (high - low)
        # The CDF is straight in each cell: the integral of its square, and of (CDF - 1)^2 beyond the redshift.
        before = middle * (low**2 + low * cross + cross**2) / 3
        after = (1 - middle) * ((1 - cross) ** 2 + (1 - cross) * (1 - high) + (1 - high) ** 2) / 3
        return np.asarray(((before + after) * width).sum(axis=1) + np.abs(redshift - at))


def quality(chi2: FloatArray, width: FloatArray, odds: FloatArray, n_bands: IntArray) -> FloatArray:
    """Return the quality Qz = chi2 / (N - 3) (z99 - z01) / odds (Brammer et al. 2008, eq. 8); smaller is better.

    Parameters
    ----------
    chi2 : ndarray, shape (n,)
        chi2 of the best fit.
    width : ndarray, shape (n,)
        pz_width, half of z99 - z01.
    odds : ndarray, shape (n,)
        Probability near the best redshift.
    n_bands : ndarray of int, shape (n,)
        Usable fluxes N; N - 3 is at least 1.

    Returns
    -------
    ndarray, shape (n,)
        Qz.
    """
    return np.asarray(chi2 / np.maximum(n_bands - 3, 1) * 2 * width / np.maximum(odds, 1e-12))
