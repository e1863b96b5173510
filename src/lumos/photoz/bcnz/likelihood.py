r"""Likelihoods of a galaxy's model fluxes: Gaussians, Student's t, or the flux PDFs themselves.

Each answers for any model flux M with -2 ln L(M) and with the weight w and the flux F of the parabola w (F - M)^2 that
touches it there. Fits repeat non-negative least squares with these weights and fluxes until they settle: for mixtures
of Gaussians that is expectation-maximisation (Dempster, Laird & Rubin 1977, JRSS B 39, 1), for Student's t iteratively
reweighted least squares. Both lower -2 ln L in each step but are slow where components overlap, so that the first
choice is the true curvature of -2 ln L where that is at least a quarter of theirs (a Newton step).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray

__all__ = ["GaussianLight", "Light", "MixtureLight", "Parabola", "StudentLight"]

#: Smallest weight, in units of that which never fails to lower -2 ln L.
_LEAST_WEIGHT = 0.25


@dataclass(frozen=True, eq=False)
class Parabola:
    """Parabolas that touch -2 ln L at model fluxes.

    Parameters
    ----------
    value : ndarray, shape (n,)
        -2 ln L, 0 where every band is at its maximum.
    score : ndarray, shape (n_bands, n)
        Derivative of ln L.
    safe : ndarray, shape (n_bands, n)
        Weights of parabolas that lie above -2 ln L everywhere; 0 where nothing was measured.
    bend : ndarray, shape (n_bands, n)
        Minus the second derivative of ln L.
    """

    value: FloatArray
    score: FloatArray
    safe: FloatArray
    bend: FloatArray

    def weights(self, cautious: BoolArray) -> FloatArray:
        """Return the weights of the next fit.

        Parameters
        ----------
        cautious : ndarray of bool, shape (n,)
            Points whose last step did not lower -2 ln L.

        Returns
        -------
        ndarray, shape (n_bands, n)
            Weights; the fluxes are model + score / weight.
        """
        return np.where(cautious, self.safe, np.maximum(self.bend, _LEAST_WEIGHT * self.safe))


class Light(Protocol):
    """What was measured of G galaxies."""

    @property
    def weights(self) -> FloatArray:
        """Inverse variances, shape (n_bands, G), 0 where nothing was measured."""
        ...

    @property
    def fluxes(self) -> FloatArray:
        """Fluxes, shape (n_bands, G), finite."""
        ...

    def parabola(self, model: FloatArray, galaxy: IntArray) -> Parabola | None:
        """Return the parabolas that touch -2 ln L, or None where it is one for all model fluxes.

        Parameters
        ----------
        model : ndarray, shape (n_bands, n)
            Model fluxes.
        galaxy : ndarray of int, shape (n,)
            Galaxy of each point.

        Returns
        -------
        Parabola or None
            At the points.
        """
        ...

    def take(self, galaxies: IntArray) -> "Light":
        """Return some of the galaxies.

        Parameters
        ----------
        galaxies : ndarray of int, shape (m,)
            Which.

        Returns
        -------
        Light
            Of them.
        """
        ...


@dataclass(frozen=True, eq=False)
class GaussianLight:
    """Fluxes with Gaussian errors.

    Parameters
    ----------
    weights : ndarray, shape (n_bands, G)
        Inverse variances; 0 where nothing was measured.
    fluxes : ndarray, shape (n_bands, G)
        Finite.
    """

    weights: FloatArray
    fluxes: FloatArray

    def parabola(self, model: FloatArray, galaxy: IntArray) -> Parabola | None:  # noqa: ARG002
        """Return None: chi2 is a parabola.

        Parameters
        ----------
        model, galaxy : ndarray
            As of :class:`Light`.

        Returns
        -------
        None
            Always.
        """
        return None

    def take(self, galaxies: IntArray) -> "GaussianLight":
        """Return some of the galaxies.

        Parameters
        ----------
        galaxies : ndarray of int, shape (m,)
            Which.

        Returns
        -------
        GaussianLight
            Of them.
        """
        return GaussianLight(self.weights[:, galaxies], self.fluxes[:, galaxies])


@dataclass(frozen=True, eq=False)
class StudentLight:
    """Fluxes with errors after Student's t distribution: outliers hardly count.

    Parameters
    ----------
    weights, fluxes : ndarray, shape (n_bands, G)
        As of :class:`GaussianLight`.
    freedom : float
        Degrees of freedom nu; -2 ln L = (nu + 1) ln(1 + w (F - M)^2 / nu).
    """

    weights: FloatArray
    fluxes: FloatArray
    freedom: float

    def parabola(self, model: FloatArray, galaxy: IntArray) -> Parabola:
        """Return the parabolas that touch -2 ln L.

        Parameters
        ----------
        model, galaxy : ndarray
            As of :class:`Light`.

        Returns
        -------
        Parabola
            At the points.
        """
        nu, weights = self.freedom, self.weights[:, galaxy]
        residual = self.fluxes[:, galaxy] - model
        square = weights * residual**2
        safe = weights * (nu + 1) / (nu + square)
        bend = safe * (nu - square) / (nu + square)
        return Parabola((nu + 1) * np.log1p(square / nu).sum(axis=0), safe * residual, safe, bend)

    def take(self, galaxies: IntArray) -> "StudentLight":
        """Return some of the galaxies.

        Parameters
        ----------
        galaxies : ndarray of int, shape (m,)
            Which.

        Returns
        -------
        StudentLight
            Of them.
        """
        return StudentLight(self.weights[:, galaxies], self.fluxes[:, galaxies], self.freedom)


class MixtureLight:
    """Fluxes whose likelihoods are mixtures of K Gaussians.

    Parameters
    ----------
    shares, means, stds : ndarray, shape (K, n_bands, G)
        Weights, means and standard deviations of the components; NaN where nothing was measured.
    """

    def __init__(self, shares: FloatArray, means: FloatArray, stds: FloatArray) -> None:
        self._mixture = shares, means, stds
        self._measured: BoolArray = np.asarray(np.isfinite(shares + means + stds).all(axis=0))
        shares = np.where(self._measured, shares, 1.0 / len(shares))
        self._means = np.where(self._measured, means, 0.0)
        self._inverse = np.where(self._measured, 1 / np.where(self._measured, stds, 1.0), 1.0)
        with np.errstate(divide="ignore"):  # components without weight
            self._log = np.log(shares * self._inverse)
        mean = (shares * self._means).sum(axis=0)
        variance = (shares * (self._inverse**-2.0 + (self._means - mean) ** 2)).sum(axis=0)
        self.fluxes: FloatArray = mean
        self.weights: FloatArray = np.where(self._measured, 1 / variance, 0.0)
        self._peak = self._highest()

    def _highest(self) -> FloatArray:
        """Return the logarithm of the largest density at the mean or the mean of a component."""
        best = np.full(self.fluxes.shape, -np.inf)
        for flux in (self.fluxes, *self._means):
            terms = self._log - 0.5 * ((flux - self._means) * self._inverse) ** 2
            best = np.maximum(best, np.logaddexp.reduce(terms, axis=0))
        return best

    def parabola(self, model: FloatArray, galaxy: IntArray) -> Parabola:
        """Return the parabolas that touch -2 ln L.

        Parameters
        ----------
        model, galaxy : ndarray
            As of :class:`Light`.

        Returns
        -------
        Parabola
            At the points.
        """
        shape = model.shape
        inverse = self._inverse.take(galaxy, axis=2)
        pull = self._means.take(galaxy, axis=2)
        pull -= model
        pull *= inverse
        terms = np.square(pull)
        terms *= -0.5
        terms += self._log.take(galaxy, axis=2)
        largest = terms.max(axis=0)
        terms -= largest
        np.exp(terms, out=terms)
        total = terms.sum(axis=0)
        terms /= total
        pull *= inverse  # (mu - M) / sigma^2
        np.square(inverse, out=inverse)
        safe, score, second = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for share, one, precision in zip(terms, pull, inverse, strict=True):
            safe += share * precision
            gain = share * one
            score += gain
            second += gain * one
        bend = safe - second + score**2
        value = self._peak[:, galaxy] - largest - np.log(total)
        measured = self._measured[:, galaxy]
        safe, score, bend = (np.where(measured, one, 0.0) for one in (safe, score, bend))
        return Parabola(2 * np.where(measured, value, 0.0).sum(axis=0), score, safe, bend)

    def take(self, galaxies: IntArray) -> "MixtureLight":
        """Return some of the galaxies.

        Parameters
        ----------
        galaxies : ndarray of int, shape (m,)
            Which.

        Returns
        -------
        MixtureLight
            Of them.
        """
        shares, means, stds = (part[:, :, galaxies] for part in self._mixture)
        return MixtureLight(shares, means, stds)
