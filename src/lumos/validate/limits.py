r"""Exact flux posteriors under the true noise, and posteriors to compare with.

With the prior from which the fluxes were drawn, given all that an estimator is told (magnitude, band, shape), the exact
posterior has the highest expected log score that is possible: nobody's mean of ln p(f0) is above it but by chance. With
a prior that knows less it is no bound. It bounds nothing else: the scatter of its peaks or medians about the truth is
not the smallest that is possible.

Pixels :math:`d_i = b_i + F m_i + \mathrm{noise}` are Gaussian with the variance
:math:`V_i(F) = v_i + \max(F m_i, 0) / g` in image units: sky and detector v, photons of the galaxy itself with a gain
of g electrons per unit. With the background b and the profile m known,

.. math:: \log L(F) = -\tfrac12 \sum_i \left[ \frac{(d_i - b_i - F m_i)^2}{V_i(F)} + \log V_i(F) \right].

Where only the shape of the background is known, its level c is integrated out under a flat prior: with
:math:`r = d - b - F m` the first sum loses :math:`(\sum r/V)^2 / \sum 1/V`, and :math:`\log \sum 1/V` is added.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import ndtr

from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf.base import row_chunks
from lumos.pdf.grid import GridPdf

__all__ = ["LogDensity", "grid_posterior", "matched_filter_posterior", "prior_only"]

#: Logarithm of a density, up to a constant per row: fluxes of shape (n, m) in, the same shape out.
LogDensity = Callable[[FloatArray], FloatArray]

#: First nodes: in errors, dense around the measured flux; and around 0, where a prior in the logarithm has structure
#: on ever smaller scales. From there on steps of a sixth and a quarter of the distance.
_AROUND = np.sinh(np.linspace(-np.arcsinh(1e4), np.arcsinh(1e4), 129))
_AROUND_ZERO = 1e-2 * np.sinh(np.linspace(-np.arcsinh(1e6), np.arcsinh(1e6), 129))
#: Further nodes that only serve to place better ones, and how often they do.
_N_PLACING, _PLACINGS = 65, 3
#: Fluxes whose sums over the pixels are taken at once, so that temporary arrays fit into the cache.
_BLOCK = 32
#: Nodes are placed within this many sigma of a Gaussian, beyond which it has a probability of 2e-9.
_OUTER = 6.0
#: Errors of the density that places the first nodes of an exact one over the true errors, so that no tail is missed.
_WIDER = 1.3


@dataclass(frozen=True)
class _Table:
    """A density that is known at nodes, up to a constant per row."""

    nodes: FloatArray
    values: FloatArray

    @classmethod
    def around(cls, centre: FloatArray, scale: FloatArray, log_density: LogDensity, lowest: float) -> Self:
        """Return what varies on a scale near a centre and, further out, on that of the distance; well placed."""
        nodes = np.concatenate([centre[:, None] + scale[:, None] * _AROUND, scale[:, None] * _AROUND_ZERO], axis=1)
        nodes = np.sort(np.maximum(nodes, lowest), axis=1)
        table = cls(nodes, log_density(nodes))
        for _ in range(_PLACINGS):
            table = table.refined(log_density, _N_PLACING)
        return table

    def quantiles(self, n_nodes: int) -> FloatArray:
        """Return nodes where the probability lies, in equal steps of the normal deviate."""
        return GridPdf(self.nodes, self.values).quantile(ndtr(np.linspace(-_OUTER, _OUTER, n_nodes))[None])

    def refined(self, log_density: LogDensity, n_nodes: int) -> Self:
        """Return the density with more nodes; the old ones stay, since more may lie between them than they say."""
        if n_nodes < 3:
            raise LumosValueError("nodes of a posterior", n_nodes, "3 or more")
        more = self.quantiles(n_nodes)
        nodes = np.concatenate([self.nodes, more], axis=1)
        values = np.concatenate([self.values, log_density(more)], axis=1)
        order = np.argsort(nodes, axis=1, kind="stable")
        return type(self)(np.take_along_axis(nodes, order, axis=1), np.take_along_axis(values, order, axis=1))

    def pdf(self) -> GridPdf:
        """Return it normalised."""
        return GridPdf(self.nodes, self.values)


@dataclass(frozen=True)
class _Pixels:
    """Pixels of n stamps with what is known of them; ``weight`` is good / v, ``photons`` is m / (g v)."""

    residual: FloatArray
    profile: FloatArray
    weight: FloatArray
    photons: FloatArray

    def sums(self, level: FloatArray, *, free: bool) -> tuple[FloatArray, FloatArray]:
        """Return sums over the pixels with the weights 1/V at fluxes of shape (n, m), and the sum of log V / v.

        The sums, shape (n, m, 3 or 6), are those of r^2, r m and m^2 for the residual r; then of r, m and 1.
        """
        r, m = self.residual, self.profile
        features = [r * r, r * m, m * m]
        if free:
            features += [r, m, np.ones_like(m)]
        share = 1 + level[:, :, None] * self.photons[:, None, :]
        log_share = np.log(share).sum(axis=2)
        np.divide(self.weight[:, None, :], share, out=share)
        return share @ np.stack(features, axis=2), log_share

    def log_likelihood(self, flux: FloatArray, *, free: bool) -> FloatArray:
        """Return the exact log likelihood at fluxes of shape (n, m), up to a constant per row."""
        # Without photon noise one set of sums serves all fluxes.
        level = np.maximum(flux, 0) if self.photons.any() else np.zeros((len(flux), 1))
        sums, log_share = self.sums(level, free=free)
        chi2 = sums[:, :, 0] - 2 * flux * sums[:, :, 1] + flux**2 * sums[:, :, 2]
        if free:
            total = sums[:, :, 5]
            chi2 -= (sums[:, :, 3] - flux * sums[:, :, 4]) ** 2 / total
            log_share = log_share + np.log(total)
        return -0.5 * (chi2 + log_share)


@dataclass(frozen=True)
class _Stamps:
    """The stamps as they were given, and how the level of the background is treated."""

    data: AnyArray
    profile: AnyArray
    background: AnyArray
    variance: AnyArray
    gain: FloatArray
    good: AnyArray
    free: bool

    def pixels(self, rows: slice) -> _Pixels:
        """Return rows as flat arrays in double precision; bad pixels weigh nothing."""
        good = self.good[rows]
        shape = (len(good), -1)
        variance = np.broadcast_to(np.where(good, self.variance[rows], 1.0), good.shape)
        profile = np.asarray(self.profile[rows], dtype=np.float64)
        residual = np.where(good, np.asarray(self.data[rows], dtype=np.float64) - self.background[rows], 0.0)
        photons = np.where(good, np.maximum(profile, 0) / (self.gain[rows, None, None] * variance), 0.0)
        return _Pixels(
            residual.reshape(shape), profile.reshape(shape), (good / variance).reshape(shape), photons.reshape(shape)
        )

    def log_likelihood(self, flux: FloatArray) -> FloatArray:
        """Return the exact log likelihood at fluxes of shape (n, m), up to a constant per row."""
        value = np.empty(flux.shape)
        for rows in row_chunks(len(flux), _BLOCK * self.data[0].size):
            pixels = self.pixels(rows)
            for start in range(0, flux.shape[1], _BLOCK):
                block = slice(start, start + _BLOCK)
                value[rows, block] = pixels.log_likelihood(flux[rows, block], free=self.free)
        return value

    def best_flux(self, n_iter: int = 3) -> tuple[FloatArray, FloatArray]:
        """Return the flux of least squares and its error, shape (n,); the weights follow the flux."""
        flux, error = (np.empty(len(self.data)) for _ in range(2))
        for rows in row_chunks(len(flux), self.data[0].size):
            pixels = self.pixels(rows)
            best = np.zeros((len(pixels.profile), 1))
            for _ in range(n_iter + 1):
                sums, _ = pixels.sums(np.maximum(best, 0), free=self.free)
                signal, information = sums[:, :, 1], sums[:, :, 2]
                if self.free:
                    signal = signal - sums[:, :, 3] * sums[:, :, 4] / sums[:, :, 5]
                    information = information - sums[:, :, 4] ** 2 / sums[:, :, 5]
                best = signal / information
            flux[rows], error[rows] = best[:, 0], information[:, 0] ** -0.5
        return flux, error


def grid_posterior(
    data: AnyArray,
    profile: AnyArray,
    expected_background: AnyArray,
    variance: AnyArray,
    gain: AnyArray,
    log_prior: LogDensity,
    *,
    good: AnyArray | None = None,
    free_level: bool = False,
    lowest: float = 0.0,
    n_nodes: int = 129,
) -> GridPdf:
    """Return the exact posterior of the flux: true noise, background known, or known up to a constant.

    Parameters
    ----------
    data, profile : array, shape (n, height, width)
        Pixels in image units; the unit-flux convolved profile.
    expected_background : array, shape (n, height, width) or (n, 1, 1)
        Background without its noise, contaminants included.
    variance : array, shape (n, height, width) or (n, 1, 1)
        Variance of the noise without the galaxy's own photons, greater than 0.
    gain : array, shape (n,)
        Electrons per image unit, greater than 0; ``inf`` for no photon noise of the galaxy.
    log_prior : callable
        Logarithm of the prior's density at fluxes of shape (n, m), any constant per row.
    good : bool array, shape (n, height, width), optional
        False where a pixel is not used.
    free_level : bool
        Whether an unknown constant, of flat prior, is added to the background.
    lowest : float
        Least possible flux; -inf for a prior that does not end at 0. There must be no edge of the prior above it.
    n_nodes : int
        Nodes that are added last, where the probability lies; there are some more.

    Returns
    -------
    GridPdf
        Posteriors; NaN where a good pixel, the profile or the prior is not finite.

    Raises
    ------
    LumosShapeError
        If shapes do not go together.
    LumosValueError
        If a variance of a good pixel or a gain is not positive, or there are fewer than 3 nodes.

    Notes
    -----
    The last nodes stand at equal steps of the normal deviate of the cumulative probability, 12/128 of a sigma. On 300
    stamps of all brightnesses cumulative probabilities differed by less than 0.0009 from those with 1025 nodes, and
    medians by less than 0.002 of the width. Fluxes beyond a cumulative probability of 1e-9 have density 0.
    """
    stamps = _check(data, profile, expected_background, (variance, gain), good)
    stamps = replace(stamps, free=free_level)
    with np.errstate(all="ignore"):  # bad objects are NaN
        centre, error = stamps.best_flux()
        nodes = _Table.around(centre, error, _gaussian(centre, _WIDER * error, log_prior), lowest).quantiles(_N_PLACING)

        def log_density(flux: FloatArray) -> FloatArray:
            return stamps.log_likelihood(flux) + log_prior(flux)

        # Gaussian errors have placed these nodes; the density itself places the final ones.
        return _Table(nodes, log_density(nodes)).refined(log_density, n_nodes).pdf()


def matched_filter_posterior(
    flux: AnyArray, flux_err: AnyArray, log_prior: LogDensity, *, lowest: float = 0.0, n_nodes: int = 257
) -> GridPdf:
    """Return the posterior from an estimator's flux and error: a Gaussian likelihood times the prior.

    Parameters
    ----------
    flux, flux_err : array, shape (n,)
        Measured flux and its error, greater than 0.
    log_prior : callable
        Logarithm of the prior's density at fluxes of shape (n, m), any constant per row.
    lowest : float
        Least possible flux; -inf for a prior that does not end at 0. There must be no edge of the prior above it.
    n_nodes : int
        Nodes that are added last, where the probability lies; there are some more.

    Returns
    -------
    GridPdf
        Posteriors; NaN where flux, error or prior is not finite.

    Raises
    ------
    LumosShapeError
        If the shapes differ.
    LumosValueError
        If there are fewer than 3 nodes.
    """
    centre, error = (np.asarray(values, dtype=np.float64) for values in (flux, flux_err))
    if centre.ndim != 1 or centre.shape != error.shape:
        raise LumosShapeError("fluxes and errors", (centre.shape, error.shape), "two equal shapes (n,)")
    with np.errstate(all="ignore"):  # bad objects are NaN
        log_density = _gaussian(centre, error, log_prior)
        return _Table.around(centre, error, log_density, lowest).refined(log_density, n_nodes).pdf()


def prior_only(log_prior: LogDensity, scale: AnyArray, *, lowest: float = 0.0, n_nodes: int = 257) -> GridPdf:
    """Return the prior itself as PDFs: what is known without pixels.

    Parameters
    ----------
    log_prior : callable
        Logarithm of the prior's density at fluxes of shape (n, m), any constant per row.
    scale : array, shape (n,)
        A typical flux of each row, right within a factor of 30; greater than 0.
    lowest : float
        Least possible flux; -inf for a prior that does not end at 0. There must be no edge of the prior above it.
    n_nodes : int
        Nodes that are added last, where the probability lies; there are some more.

    Returns
    -------
    GridPdf
        Priors; NaN where scale or prior is not finite.

    Raises
    ------
    LumosShapeError
        If ``scale`` is not of shape (n,).
    LumosValueError
        If there are fewer than 3 nodes.
    """
    unit = np.asarray(scale, dtype=np.float64)
    if unit.ndim != 1:
        raise LumosShapeError("scale of the prior", unit.shape, "(n,)")
    with np.errstate(all="ignore"):  # bad objects are NaN
        table = _Table.around(unit, unit, log_prior, lowest)
        return table.refined(log_prior, n_nodes).pdf()


def _gaussian(centre: FloatArray, error: FloatArray, log_prior: LogDensity) -> LogDensity:
    """Return a prior times a Gaussian likelihood."""
    return lambda flux: log_prior(flux) - 0.5 * ((flux - centre[:, None]) / error[:, None]) ** 2


def _check(
    data: AnyArray,
    profile: AnyArray,
    background: AnyArray,
    noise: tuple[AnyArray, AnyArray],
    good: AnyArray | None,
) -> _Stamps:
    """Refuse arrays that do not go together; ``noise`` is variance and gain."""
    variance, gain = noise
    shape = np.shape(data)
    usable = np.ones(shape, dtype=np.bool_) if good is None else np.asarray(good, dtype=np.bool_)
    if len(shape) != 3 or np.shape(profile) != shape or usable.shape != shape:
        shapes = (shape, np.shape(profile), usable.shape)
        raise LumosShapeError("stamps, profiles and masks", shapes, "three equal shapes (n, height, width)")
    for name, values in (("expected background", background), ("variance", variance)):
        if np.shape(values) not in (shape, (shape[0], 1, 1)):
            raise LumosShapeError(name, np.shape(values), f"{shape} or {(shape[0], 1, 1)}")
    if np.shape(gain) != shape[:1]:
        raise LumosShapeError("gain", np.shape(gain), shape[:1])
    electrons = np.asarray(gain, dtype=np.float64)
    for name, values, where in (("variance", np.asarray(variance), usable), ("gain", electrons, True)):
        wrong = (values <= 0) & where
        if np.any(wrong):
            raise LumosValueError(name, float(np.min(values)), "greater than 0")
    return _Stamps(
        data=np.asarray(data),
        profile=np.asarray(profile),
        background=np.asarray(background),
        variance=np.asarray(variance),
        gain=electrons,
        good=usable,
        free=False,
    )
