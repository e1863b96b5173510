"""Fit the amplitudes of one run's components to galaxies at redshifts: points, one galaxy at one redshift each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.photoz.bcnz.nnls import NonNegativeFit, solve_multiplicative, solve_nonnegative, triangle

__all__ = ["SCALE_RANGE", "PointFit", "RunFitter", "log_volume", "segments"]

#: Allowed scales k of the narrow bands.
SCALE_RANGE = (0.1, 10.0)
#: Largest factor by which one step changes k.
_SCALE_STEP = 1.5


@dataclass(frozen=True, eq=False)
class PointFit:
    """Best amplitudes at n points.

    Parameters
    ----------
    chi2 : ndarray, shape (n,)
        Smallest chi2 over amplitudes and scale.
    scale : ndarray, shape (n,)
        Scale k of the narrow bands, of the last step.
    amplitudes : ndarray, shape (S, n)
        Amplitudes of the components, at least 0; best for the scale before that step.
    fitted_scale : ndarray, shape (n,)
        That scale.
    last : NonNegativeFit
        Last solution for the amplitudes.
    """

    chi2: FloatArray
    scale: FloatArray
    amplitudes: FloatArray
    fitted_scale: FloatArray
    last: NonNegativeFit


def segments(z_index: IntArray) -> Iterator[tuple[int, slice]]:
    """Find the points of each redshift.

    Parameters
    ----------
    z_index : ndarray of int, shape (n,)
        Redshifts of points, ascending.

    Yields
    ------
    redshift : int
        One that occurs.
    part : slice
        Its points.
    """
    starts = np.flatnonzero(np.r_[True, z_index[1:] != z_index[:-1]]) if len(z_index) else np.zeros(0, dtype=np.int64)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(z_index)], strict=True):
        yield int(z_index[start]), slice(start, stop)


@dataclass(frozen=True, eq=False)
class RunFitter:
    """Fits the components of one run.

    Parameters
    ----------
    models : ndarray, shape (n_z, S, n_bands)
        Fluxes of the components.
    narrow : ndarray of bool, shape (n_bands,)
        Bands on which the scale k acts.
    free_scale : bool
        Whether k is fitted; else it stays as it is given.
    n_updates : int
        Number of multiplicative updates; 0: amplitudes are exact.
    """

    models: FloatArray
    narrow: BoolArray
    free_scale: bool = True
    n_updates: int = 0

    def predict(self, z_index: IntArray, amplitudes: FloatArray, scale: FloatArray) -> FloatArray:
        """Return model fluxes.

        Parameters
        ----------
        z_index : ndarray of int, shape (n,)
            Redshifts, ascending.
        amplitudes : ndarray, shape (S, n)
            Amplitudes of the components.
        scale : ndarray, shape (n,)
            Scale of the narrow bands.

        Returns
        -------
        ndarray, shape (n_bands, n)
            Fluxes.
        """
        fluxes = np.empty((self.models.shape[2], len(z_index)))
        for z, part in segments(z_index):
            np.matmul(self.models[z].T, amplitudes[:, part], out=fluxes[:, part])
        fluxes[self.narrow] *= scale
        return fluxes

    def fit(
        self, z_index: IntArray, weights: FloatArray, fluxes: FloatArray, scale: FloatArray, n_steps: int
    ) -> PointFit:
        r"""Fit amplitudes and scale.

        chi2(v, k) = SUM_narrow w (F - k M v)^2 + SUM_broad w (F - M v)^2, Eriksen et al. 2019, eq. 3. For each k the
        amplitudes are exact. k takes steps of Newton for f(k) = min_v chi2(v, k), whose derivatives are those of chi2
        at the solution (envelope theorem):
        f' / 2 = k v A v - b v and f'' / 2 = v A v - c H^-1 c, c = 2 k A v - b, where A and b are those of the narrow
        bands and H is the matrix of the components that are above 0. The last step is not followed by a fit, but by
        its own forecast of chi2.

        Parameters
        ----------
        z_index : ndarray of int, shape (n,)
            Redshifts, ascending.
        weights, fluxes : ndarray, shape (n_bands, n)
            Inverse variances, 0 where nothing was measured, and finite fluxes.
        scale : ndarray, shape (n,)
            First k.
        n_steps : int
            Number of fits of the amplitudes.

        Returns
        -------
        PointFit
            The fits.
        """
        norm = np.einsum("bn,bn,bn->n", weights, fluxes, fluxes)
        broad = self._equations(z_index, weights, fluxes, ~self.narrow)
        narrow = self._equations(z_index, weights, fluxes, self.narrow)
        for step in range(n_steps):
            gram = narrow[0] * scale**2
            gram += broad[0]
            fit = self._solve(gram, broad[1] + scale * narrow[1], norm)
            if not self.free_scale:
                break
            slope, bend = _scale_derivatives(fit, scale, *narrow)
            change = np.divide(-slope, bend, out=np.zeros_like(slope), where=bend > 0)
            after = np.clip(scale + change, scale / _SCALE_STEP, scale * _SCALE_STEP).clip(*SCALE_RANGE)
            gain = np.maximum(-(2 * slope + bend * (after - scale)) * (after - scale), 0)
            if step < n_steps - 1:
                scale = after
            else:
                return PointFit(np.maximum(fit.chi2 - gain, 0), after, fit.amplitudes, scale, fit)
        return PointFit(fit.chi2, scale, fit.amplitudes, scale, fit)

    def _solve(self, gram: FloatArray, projection: FloatArray, norm: FloatArray) -> NonNegativeFit:
        if self.n_updates:
            return solve_multiplicative(gram, projection, norm, self.n_updates)
        return solve_nonnegative(gram, projection, norm)

    def _equations(
        self, z_index: IntArray, weights: FloatArray, fluxes: FloatArray, bands: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return A, lower triangles (pairs, n), and b (S, n), of some bands."""
        n_components, n = self.models.shape[1], len(z_index)
        row, column = np.tril_indices(n_components)
        gram, projection = np.zeros((len(row), n)), np.zeros((n_components, n))
        if bands.any():
            inside, models = weights[bands], self.models[:, :, bands]
            light = inside * fluxes[bands]
            for z, part in segments(z_index):
                model = models[z]
                np.matmul(model[row] * model[column], inside[:, part], out=gram[:, part])
                np.matmul(model, light[:, part], out=projection[:, part])
        return gram, projection


def _scale_derivatives(
    fit: NonNegativeFit, scale: FloatArray, gram: FloatArray, projection: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return half the first and second derivative of the best chi2 with respect to the scale."""
    v, n_components = fit.amplitudes, len(projection)
    model = np.einsum("stn,tn->sn", gram[triangle(n_components)], v)
    power = (v * model).sum(axis=0)
    slope = scale * power - (v * projection).sum(axis=0)
    if not len(fit.tableau):  # without the inverse: k that is best for these amplitudes
        return slope, power
    mixed = np.where(fit.positive, 2 * scale * model - projection, 0.0)
    inverse = fit.tableau[triangle(n_components)]
    bend = power + np.einsum("sn,stn,tn->n", mixed, inverse, mixed)
    # Where k hardly matters or chi2 bends down, as far away from the best k, take the step of fixed amplitudes.
    return slope, np.where(bend > 1e-9 * power, bend, power)


def log_volume(fit: NonNegativeFit, largest: FloatArray) -> FloatArray:
    r"""Return the logarithm of the integral of the likelihood over the amplitudes, over its maximum.

    With flat priors of the amplitudes from 0 to V, the integral of exp(-chi2 / 2) over amplitudes of at least 0 is, in
    the Gaussian approximation about the best fit, with C = inverse of A for the components P that are above 0, and T_j
    and g_j the remaining diagonal and half the gradient of the others,

        exp(-chi2 / 2) (2 pi)^(|P| / 2) det(C)^(1/2) PROD_P Phi(v_s / C_ss^(1/2))
        PROD_others (pi / (2 T_j))^(1/2) erfcx(g_j / (2 T_j)^(1/2)) / V^S.

    It is exact for one component and for those that do not overlap.

    Parameters
    ----------
    fit : NonNegativeFit
        Exact solutions.
    largest : ndarray, shape (n,)
        Ends V of the priors. A component without light in any measured band takes all of its prior and costs nothing.

    Returns
    -------
    ndarray, shape (n,)
        The logarithm of all but exp(-chi2 / 2).
    """
    from scipy.special import erfcx, log_ndtr  # noqa: PLC0415 - slow to import

    n_components = len(fit.amplitudes)
    places = triangle(n_components)
    diagonal, inside = fit.tableau[places.diagonal()], fit.positive
    bound = log_ndtr(fit.amplitudes / np.sqrt(np.where(inside, -diagonal, 1.0)))
    rest = np.where(inside, 1.0, np.maximum(diagonal, 1e-12 / largest**2))
    gradient = np.where(inside, 0.0, np.maximum(-fit.tableau[-n_components - 1 : -1], 0.0))
    free = 0.5 * np.log(np.pi / (2 * rest)) + np.log(erfcx(gradient / np.sqrt(2 * rest)))
    prior = np.log(largest)
    # Collinear and unseen components cannot take up more than all of their priors.
    terms = np.where(inside, bound - prior + 0.5 * np.log(2 * np.pi), np.minimum(free - prior, 0.0))
    full = np.moveaxis(fit.tableau[places], 2, 0)
    both = inside.T[:, :, None] & inside.T[:, None, :]
    covariance = np.where(both, -full, np.eye(n_components))
    return np.asarray(terms.sum(axis=0) + 0.5 * np.linalg.slogdet(covariance)[1])
