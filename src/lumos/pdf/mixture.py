"""Gaussian mixtures on the real line, and with each component cut at zero (eq. 7, 9 and 10 of the Lumos paper)."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf import truncated
from lumos.pdf.base import FluxPdf, check_factor, per_row, row_chunks
from lumos.pdf.search import highest_peak, invert
from lumos.rows import Rowwise

__all__ = ["GaussianMixture", "Mixture", "TruncatedMixture"]

#: How far the sum of a row's weights may be from 1 (they come as float32); it is then made 1.
SUM_TOLERANCE = 1e-3
#: Last step of a quantile, in standard deviations of the row's narrowest component.
QUANTILE_STEP = 1e-9
LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True, eq=False, repr=False)
class Mixture(Rowwise, FluxPdf):
    """What mixtures of a two-parameter family on the line or the half-line share.

    The formulae of a single component are the underscored methods that end in ``component``; they take arrays that
    broadcast with the parameters.

    Parameters
    ----------
    weights, means, stds : array_like, shape (n, k)
        Parameters of k components of n PDFs. Weights are at least 0 and sum to 1 within 1e-3 (and are made to sum
        to 1); standard deviations are above 0. Kept as read-only float64. A row with any value that is not finite
        is a bad object: all of it becomes NaN.

    Raises
    ------
    LumosShapeError
        If the shapes differ or are not (n, k) with k at least 1.
    LumosValueError
        If a weight is negative, a sum of weights is not 1, or a standard deviation is not above 0.
    """

    weights: FloatArray
    means: FloatArray
    stds: FloatArray

    def __post_init__(self) -> None:
        arrays = [np.array(values, dtype=np.float64) for values in (self.weights, self.means, self.stds)]
        weights, means, stds = arrays
        shapes = tuple(array.shape for array in arrays)
        if weights.ndim != 2 or weights.shape[1] < 1 or len(set(shapes)) > 1:
            raise LumosShapeError("weights, means and standard deviations", shapes, "three equal shapes (n, k)")
        good = np.asarray(np.isfinite(weights + means + stds).all(axis=1))
        if (weights < 0).any():
            raise LumosValueError("weight of a component", float(weights[weights < 0][0]), "at least 0")
        if (stds <= 0).any():
            raise LumosValueError("standard deviation of a component", float(stds[stds <= 0][0]), "above 0")
        total = weights.sum(axis=1, keepdims=True)
        wrong = good & (np.abs(total[:, 0] - 1) > SUM_TOLERANCE)
        if wrong.any():
            raise LumosValueError("sum of the weights of a row", float(total[wrong][0, 0]), "1 within 0.001")
        weights /= np.where(good[:, None], total, 1)
        for name, array in zip(("weights", "means", "stds"), arrays, strict=True):
            array[~good] = np.nan
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def take(self, rows: Any) -> Self:  # noqa: ANN401 (as of Rowwise, without its import of torch)
        """Return the PDFs of some rows, which are not checked again.

        Parameters
        ----------
        rows : slice, or list, array or tensor of int or bool, shape (m,)
            Numbers of the rows, or whether each is taken.

        Returns
        -------
        Mixture
            Of the same class.
        """
        which = rows if isinstance(rows, slice | np.ndarray) else np.array(rows, dtype=None if len(rows) else np.int64)
        taken = object.__new__(type(self))  # checked before
        for name in ("weights", "means", "stds"):
            array = getattr(self, name)[which]
            array.flags.writeable = False
            object.__setattr__(taken, name, array)
        return taken

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Smallest and largest flux."""

    @abstractmethod
    def _log_pdf_component(self, flux: FloatArray, means: FloatArray, stds: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _tail_component(
        self, flux: FloatArray, means: FloatArray, stds: FloatArray, upper: BoolArray
    ) -> FloatArray: ...

    @abstractmethod
    def _quantile_component(self, probability: FloatArray, upper: BoolArray) -> FloatArray: ...

    @abstractmethod
    def component_moments(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of each component, of what is left of it where it is cut.

        Returns
        -------
        means, variances : ndarray, shape (n, k)
            Mean and variance of each component, after its cut if it has one.
        """

    @property
    def _width(self) -> int:
        return int(self.weights.shape[1])

    def _log_pdf(self, flux: FloatArray) -> FloatArray:
        # Components on the middle axis: sums along it are over long rows.
        terms = self._log_pdf_component(flux[:, None], self.means[..., None], self.stds[..., None])
        terms += np.log(self.weights)[..., None]
        largest = terms.max(axis=1)
        largest[np.isneginf(largest)] = 0
        terms -= largest[:, None]
        return np.asarray(np.log(np.exp(terms, out=terms).sum(axis=1)) + largest)

    def _cdf(self, flux: FloatArray) -> FloatArray:
        below = self._tail_component(flux[:, None], self.means[..., None], self.stds[..., None], np.array(False))
        return np.asarray((self.weights[..., None] * below).sum(axis=1).clip(0, 1))

    def _quantile(self, level: FloatArray) -> FloatArray:
        n, m = level.shape
        row, flat = np.repeat(np.arange(n), m), level.ravel()
        upper = flat > 0.5
        target = np.where(upper, 1 - flat, flat)
        pairs = self if m == 1 else self.take(row)
        weights = pairs.weights
        # Components first: sums over them are of long rows.
        parameters = np.stack([weights.T, pairs.means.T, pairs.stds.T])

        def tail(flux: FloatArray, left: IntArray) -> tuple[FloatArray, FloatArray]:
            alpha, mu, sigma = parameters[..., left]
            probability = self._tail_component(flux, mu, sigma, upper[left])
            density = np.exp(self._log_pdf_component(flux, mu, sigma))
            return (alpha * probability).sum(axis=0), (alpha * density).sum(axis=0)

        # A mixture's quantile lies between those of its components.
        single = pairs._quantile_component(target[:, None], upper[:, None])  # noqa: SLF001
        empty = weights == 0
        low = np.where(empty, np.inf, single).min(axis=1)
        high = np.where(empty, -np.inf, single).max(axis=1)
        guess = np.where(empty, 0, weights * single).sum(axis=1)
        spread = np.sqrt(pairs.component_moments()[1])
        narrow = QUANTILE_STEP * np.where(empty, np.inf, spread).min(axis=1)
        # Room for the rounding of the components' own quantiles.
        start, end = self.support
        bracket = (np.maximum(low - narrow, start), guess.clip(low, high), np.minimum(high + narrow, end))
        flux = invert(tail, target, upper, bracket, narrow)
        ends = np.where(flat == 0, start, end)
        return np.where((target == 0) & np.isfinite(weights[:, 0]), ends, flux).reshape(n, m)

    def mean(self) -> FloatArray:
        """Return the mean flux, eq. 15, of cut components where they are cut.

        Returns
        -------
        ndarray, shape (n,)
            Mean flux of each PDF.
        """
        means, _ = self.component_moments()
        return np.asarray((self.weights * means).sum(axis=1))

    def variance(self) -> FloatArray:
        """Return the variance of the flux, eq. 16: that within the components and that between them.

        Returns
        -------
        ndarray, shape (n,)
            Variance of each PDF, flux squared.
        """
        means, variances = self.component_moments()
        centre = (self.weights * means).sum(axis=1, keepdims=True)
        return np.asarray((self.weights * (variances + (means - centre) ** 2)).sum(axis=1))

    def peak(self) -> FloatArray:
        """Return the flux of highest density: the best end of climbs from the mean of each component.

        Returns
        -------
        ndarray, shape (n,)
            Modes; 0 where a cut PDF falls from 0 on.
        """
        out = np.empty(len(self))
        with np.errstate(all="ignore"):  # zero weights and NaN rows are legal
            for rows in row_chunks(len(self), self._width**2):
                part = (self.weights[rows], self.means[rows], self.stds[rows])
                out[rows] = highest_peak(*part, self._log_pdf_component, self.support[0])
        return out

    def sample(self, rng: np.random.Generator, m: int) -> FloatArray:
        """Draw fluxes: a component by its weight, then from that component.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        m : int
            Number of draws per row.

        Returns
        -------
        ndarray, shape (n, m)
            m independent fluxes drawn from each PDF.
        """
        out = np.empty((len(self), m))
        for rows in row_chunks(len(self), m * self._width):
            bounds = np.cumsum(self.weights[rows], axis=1)[:, None, :-1]
            which = (rng.random((*out[rows].shape, 1)) >= bounds).sum(axis=-1)
            means, stds = (np.take_along_axis(table[rows], which, axis=1) for table in (self.means, self.stds))
            drawn = type(self)(np.ones((means.size, 1)), means.reshape(-1, 1), stds.reshape(-1, 1))
            # A draw of exactly 0 would be an infinite flux.
            levels = np.maximum(rng.random((means.size, 1)), np.finfo(np.float64).tiny)
            with np.errstate(all="ignore"):
                out[rows] = drawn._quantile_component(levels, np.array(False)).reshape(means.shape)  # noqa: SLF001
        return out

    def _factors(self, factor: ArrayLike, factor_err: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return checked factors and relative errors as (n, 1)."""
        scale, error = per_row(factor, len(self), "factor"), per_row(factor_err, len(self), "error of the factor")
        check_factor(scale)
        bad = (error < 0) | np.isinf(error)
        if bad.any():
            raise LumosValueError("relative error of the factor", float(error[bad][0]), "finite and at least 0")
        return np.where(np.isnan(error), np.nan, scale)[:, None], error[:, None]


@dataclass(frozen=True, eq=False, repr=False)
class GaussianMixture(Mixture):
    """Mixtures of Gaussians on the real line, eq. 7; negative fluxes are legal.

    Parameters
    ----------
    weights, means, stds : array_like, shape (n, k)
        Components of the n PDFs, as of :class:`Mixture`.
    """

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest flux."""
        return -np.inf, np.inf

    def _log_pdf_component(self, flux: FloatArray, means: FloatArray, stds: FloatArray) -> FloatArray:
        z = (flux - means) / stds
        z *= z
        z *= -0.5
        z -= np.log(stds) + LOG_ROOT_2PI
        return np.asarray(z)

    def _tail_component(self, flux: FloatArray, means: FloatArray, stds: FloatArray, upper: BoolArray) -> FloatArray:
        return np.asarray(ndtr(np.where(upper, -1.0, 1.0) * (flux - means) / stds))

    def _quantile_component(self, probability: FloatArray, upper: BoolArray) -> FloatArray:
        return np.asarray(self.means + np.where(upper, -1.0, 1.0) * self.stds * ndtri(probability))

    def component_moments(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of each component.

        Returns
        -------
        means, variances : ndarray, shape (n, k)
            Mean and variance of each component, after its cut if it has one.
        """
        return self.means, self.stds**2

    def scale(self, factor: ArrayLike, factor_err: ArrayLike = 0.0) -> "GaussianMixture":
        """Return the PDFs of the fluxes times a factor (a zero point) that may have an error.

        Without error this is exact. With a relative Gaussian error e each component becomes the Gaussian with the
        mean and variance of the product, s mu and s^2 (sigma^2 + e^2 (mu^2 + sigma^2)); mean and variance of the
        mixture are exact. Left out is the skewness of the product, 6 e^2 mu sigma^2 / std^3, at most 2.3 e
        (where mu / sigma = 0.7 / e).

        Parameters
        ----------
        factor : array_like, shape () or (n,)
            Factor s above 0; NaN makes the row NaN.
        factor_err : array_like, shape () or (n,)
            Error of the factor over the factor, at least 0.

        Returns
        -------
        GaussianMixture
            PDFs of the scaled fluxes.

        Raises
        ------
        LumosValueError
            If a factor is not above 0 or an error negative.
        """
        s, e = self._factors(factor, factor_err)
        stds = np.hypot(self.stds, e * np.hypot(self.means, self.stds))
        return GaussianMixture(self.weights, s * self.means, s * stds)


@dataclass(frozen=True, eq=False, repr=False)
class TruncatedMixture(Mixture):
    """Mixtures of Gaussians that are each cut at 0 and renormalised, eq. 9-10.

    p(f) = sum_i alpha_i N(f; mu_i, sigma_i) / Phi(mu_i / sigma_i) for f at least 0. A mean may lie far below 0: the
    component is then nearly exponential with the scale ``sigma^2 / |mu|``.

    Parameters
    ----------
    weights, means, stds : array_like, shape (n, k)
        See :class:`Mixture`; those of the Gaussians before the cut.
    """

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest flux."""
        return 0.0, np.inf

    def _log_pdf_component(self, flux: FloatArray, means: FloatArray, stds: FloatArray) -> FloatArray:
        return truncated.log_density(flux / stds, -means / stds) - np.log(stds)

    def _tail_component(self, flux: FloatArray, means: FloatArray, stds: FloatArray, upper: BoolArray) -> FloatArray:
        return truncated.tail(flux / stds, -means / stds, upper)

    def _quantile_component(self, probability: FloatArray, upper: BoolArray) -> FloatArray:
        return self.stds * truncated.quantile(probability, -self.means / self.stds, upper)

    def component_moments(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of what is left of each component.

        Returns
        -------
        means, variances : ndarray, shape (n, k)
            Mean and variance of each component, after its cut if it has one.
        """
        mean, variance = truncated.mean_variance(-self.means / self.stds)
        return self.stds * mean, self.stds**2 * variance

    def scale(self, factor: ArrayLike, factor_err: ArrayLike = 0.0) -> "TruncatedMixture":
        """Return the PDFs of the fluxes times a factor (a zero point) that may have an error.

        Without error this is exact. With a relative Gaussian error e each component becomes the cut Gaussian with
        the mean m and variance v of the product, s m and s^2 (v + e^2 (m^2 + v)), where there is one: a cut
        Gaussian's standard deviation is below its mean. Nearly exponential components (mean of the Gaussian below
        -30 standard deviations) keep their shape, which leaves out a share of up to 2 e^2 of their variance.

        Parameters
        ----------
        factor : array_like, shape () or (n,)
            Factor s above 0; NaN makes the row NaN.
        factor_err : array_like, shape () or (n,)
            Error of the factor over the factor, at least 0.

        Returns
        -------
        TruncatedMixture
            PDFs of the scaled fluxes.

        Raises
        ------
        LumosValueError
            If a factor is not above 0 or an error negative.
        """
        s, e = self._factors(factor, factor_err)
        if not e.any():
            return TruncatedMixture(self.weights, s * self.means, s * self.stds)
        means, stds = np.empty_like(self.means), np.empty_like(self.stds)
        for rows in row_chunks(len(self), self._width):
            part = self.take(rows)
            mean, variance = part.component_moments()
            variation = variance / mean**2
            cut = truncated.cut_from_variation(variation + e[rows] ** 2 * (1 + variation), -part.means / part.stds)
            stds[rows] = mean / truncated.mean_variance(cut)[0]
            means[rows] = -cut * stds[rows]
        return TruncatedMixture(self.weights, s * means, s * stds)
