"""Fit points with any likelihood: non-negative least squares, repeated with weights of the likelihood's curvature."""

from dataclasses import dataclass

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.photoz.bcnz.likelihood import Light, Parabola
from lumos.photoz.bcnz.points import PointFit, RunFitter, log_volume

__all__ = ["Settled", "Start", "settle"]

#: A point has settled when -2 ln L changes by less than this.
_SETTLED = 0.01
#: Largest amplitude that the prior of the evidence allows, in mean fluxes of the galaxy.
_PRIOR_END = 3.0
#: -2 ln L that is larger by less than this is rounding.
_ROUNDING = 1e-7


@dataclass(frozen=True, eq=False)
class Start:
    """Where the fits of n points begin.

    Parameters
    ----------
    z_index : ndarray of int, shape (n,)
        Redshift of each, ascending.
    galaxy : ndarray of int, shape (n,)
        Galaxy of each.
    scale : ndarray, shape (n,)
        First scale k.
    weights, fluxes : ndarray, shape (n_bands, G)
        Weights and fluxes of all galaxies for the first fit.
    """

    z_index: IntArray
    galaxy: IntArray
    scale: FloatArray
    weights: FloatArray
    fluxes: FloatArray


@dataclass(frozen=True, eq=False)
class Settled:
    """Best fits at n points.

    Parameters
    ----------
    value : ndarray, shape (n,)
        -2 ln L; chi2 where the likelihood is Gaussian.
    scale : ndarray, shape (n,)
        Scale k of the narrow bands.
    amplitudes : ndarray, shape (S, n)
        Amplitudes of the components, at least 0.
    log_volume : ndarray, shape (n,)
        See :func:`lumos.photoz.bcnz.points.log_volume`; 0 where it is not asked for.
    weights, fluxes : ndarray, shape (n_bands, n)
        Of the last fit; empty where the likelihood is Gaussian.
    """

    value: FloatArray
    scale: FloatArray
    amplitudes: FloatArray
    log_volume: FloatArray
    weights: FloatArray
    fluxes: FloatArray


def settle(
    fitter: RunFitter, light: Light, start: Start, steps: tuple[int, int], *, with_volume: bool = False
) -> Settled:
    """Fit the amplitudes and the scale at points.

    Parameters
    ----------
    fitter : RunFitter
        Of one run.
    light : Light
        What was measured of the galaxies.
    start : Start
        Points and where their fits begin.
    steps : tuple of int
        Fits of the amplitudes in the first round (see :meth:`RunFitter.fit`), and rounds after it.
    with_volume : bool, optional
        Whether the volume of the amplitudes is asked for.

    Returns
    -------
    Settled
        The fits. Where likelihoods have several maxima it is that which the first fit leads to.
    """
    z_index, galaxy = start.z_index, start.galaxy
    weights, fluxes = start.weights.take(galaxy, axis=1), start.fluxes.take(galaxy, axis=1)
    fit = fitter.fit(z_index, weights, fluxes, start.scale, steps[0])
    model = fitter.predict(z_index, fit.amplitudes, fit.fitted_scale)
    touching = light.parabola(model, galaxy)
    if touching is None:
        volume = _volume(weights, fluxes, fit) if with_volume else np.zeros(len(galaxy))
        empty = np.empty((len(weights), 0))
        return Settled(fit.chi2, fit.scale, fit.amplitudes, volume, empty, empty)
    state = _State(fit, model, touching)
    rows = np.arange(len(galaxy))
    # Which have failed and get safe weights from now on, and which keep their scale in the next step.
    cautious, kept = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    for _ in range(steps[1]):
        if not len(rows):
            break
        worse, change = _step(fitter, light, start, state, rows, (cautious[rows], kept[rows]))
        cautious[rows[worse]] = True
        was_kept, kept[rows] = kept[rows], worse
        rows = rows[worse | was_kept | (change > _SETTLED)]
    weights = state.touching.weights(cautious)
    fluxes = _target(state.model, state.touching.score, weights)
    volume = np.zeros(len(galaxy))
    if with_volume:
        # Of the parabolas that touch at the maximum.
        last = fitter.fit(z_index, weights, fluxes, state.fitted_scale, 1)
        volume = _volume(weights, fluxes, last)
    return Settled(state.touching.value, state.fitted_scale, state.amplitudes, volume, weights, fluxes)


class _State:
    """Best fits so far, and where their next steps begin."""

    def __init__(self, fit: PointFit, model: FloatArray, touching: Parabola) -> None:
        self.amplitudes, self.fitted_scale, self.next_scale = fit.amplitudes, fit.fitted_scale, fit.scale
        self.model, self.touching = model, touching

    def replace(self, rows: IntArray, fit: PointFit, model: FloatArray, touching: Parabola, better: BoolArray) -> None:
        """Take new fits of some rows where they are better."""
        into = rows[better]
        self.amplitudes[:, into] = fit.amplitudes[:, better]
        self.fitted_scale[into], self.next_scale[into] = fit.fitted_scale[better], fit.scale[better]
        self.model[:, into] = model[:, better]
        mine = self.touching
        mine.value[into] = touching.value[better]
        for old, new in ((mine.score, touching.score), (mine.safe, touching.safe), (mine.bend, touching.bend)):
            old[:, into] = new[:, better]


def _step(
    fitter: RunFitter, light: Light, start: Start, state: _State, rows: IntArray, how: tuple[BoolArray, BoolArray]
) -> tuple[BoolArray, FloatArray]:
    """Do one more fit of some rows; return which became worse, and by how much -2 ln L fell."""
    z_index, galaxy = start.z_index[rows], start.galaxy[rows]
    now = state.touching
    score, model = now.score[:, rows], state.model[:, rows]
    here = Parabola(now.value[rows], score, now.safe[:, rows], now.bend[:, rows])
    cautious, kept = how
    weights = here.weights(cautious)
    scale = np.where(kept, state.fitted_scale[rows], state.next_scale[rows])
    fit = fitter.fit(z_index, weights, _target(model, score, weights), scale, 1)
    after = fitter.predict(z_index, fit.amplitudes, fit.fitted_scale)
    touching = light.parabola(after, galaxy)
    assert touching is not None
    change = here.value - touching.value
    # With safe weights and the same scale a step can only fail by rounding.
    worse = (change < -_ROUNDING) & ~(cautious & kept)
    state.replace(rows, fit, after, touching, change >= 0)
    return worse, change


def _target(model: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    return model + np.divide(score, weights, out=np.zeros_like(score), where=weights > 0)


def _volume(weights: FloatArray, fluxes: FloatArray, fit: PointFit) -> FloatArray:
    """Return the logarithm of the volume of the amplitudes, with priors up to three times the mean flux.

    The largest value of each component is 1, at whatever redshift; the prior must not know where a line is seen.
    """
    total = weights.sum(axis=0)
    light = np.maximum((weights * fluxes).sum(axis=0), np.sqrt(total))
    return log_volume(fit.last, _PRIOR_END * np.divide(light, total, out=np.ones_like(light), where=total > 0))
