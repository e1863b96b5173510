"""Photometric redshifts by sums of templates, after BCNz2 (Eriksen et al. 2019, MNRAS 484, 4200)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.photoz.bcnz.likelihood import Light
from lumos.photoz.bcnz.points import RunFitter
from lumos.photoz.bcnz.settle import Settled, Start, settle
from lumos.photoz.models import ModelGrid
from lumos.photoz.settings import PhotozSettings

__all__ = ["BestModel", "RedshiftFits", "fit_at", "fit_redshifts"]

#: Points fitted at once.
_AT_ONCE = 4096
#: Fits of the amplitudes while the scale is found: for the first run, for the others, and where it counts.
_FIRST, _COARSE, _FINE = 4, 2, 3
#: Further looks at likelihoods that are not Gaussian: rounds, and the margin of the points that get them.
_COARSE_LOOKS = ((2, 3.0), (1, 1.0))


@dataclass(frozen=True, eq=False)
class RedshiftFits:
    """Fits of G galaxies at all redshifts.

    Parameters
    ----------
    log_density : ndarray, shape (n_z, G)
        Logarithm of the sum over runs of exp(-chi2 / 2), times the volume of the amplitudes if runs are weighed by
        evidence; -inf where it is negligible.
    chi2 : ndarray, shape (n_z, G)
        chi2 (or -2 ln L) of the run that counts most; inf where it is negligible.
    run : ndarray of int, shape (n_z, G)
        That run.
    scale : ndarray, shape (n_z, G)
        Its scale k of the narrow bands.
    """

    log_density: FloatArray
    chi2: FloatArray
    run: IntArray
    scale: FloatArray

    def peak(self) -> IntArray:
        """Return the redshift of the largest density.

        Returns
        -------
        ndarray of int, shape (G,)
            Its place on the grid.
        """
        return np.asarray(self.log_density.argmax(axis=0))


@dataclass(frozen=True, eq=False)
class BestModel:
    """The best model of G galaxies at one redshift each.

    Parameters
    ----------
    chi2 : ndarray, shape (G,)
        chi2, or -2 ln L.
    run : ndarray of int, shape (G,)
        Run.
    scale : ndarray, shape (G,)
        Scale k of the narrow bands.
    fluxes : ndarray, shape (n_bands, G)
        Model fluxes.
    """

    chi2: FloatArray
    run: IntArray
    scale: FloatArray
    fluxes: FloatArray


def fit_redshifts(grid: ModelGrid, light: Light, settings: PhotozSettings) -> RedshiftFits:
    """Fit galaxies at all redshifts: first in coarse steps, then everywhere where a first look has not ruled it out.

    Parameters
    ----------
    grid : ModelGrid
        Model fluxes.
    light : Light
        What was measured of some hundred galaxies, bands as in the grid.
    settings : PhotozSettings
        Settings.

    Returns
    -------
    RedshiftFits
        The fits.
    """
    n_galaxies, n_z = light.fluxes.shape[1], len(grid.redshifts)
    coarse = np.arange(min(settings.coarse - 1, n_z - 1) // 2, n_z, settings.coarse)
    value, scale, seed = _look(grid, light, settings, coarse)
    near = np.abs(np.arange(n_z)[:, None] - coarse[None]).argmin(axis=1)
    smallest = value.min(axis=(0, 1))
    # A poor best fit of a bright galaxy may be a narrow minimum between two steps.
    poor = np.maximum(smallest - np.count_nonzero(light.weights, axis=0), 0)
    kept = value < smallest + settings.margin + poor
    log_density = np.full((n_z, n_galaxies), -np.inf)
    best, best_chi2 = log_density.copy(), np.full((n_z, n_galaxies), np.inf)
    best_run, best_scale = np.zeros((n_z, n_galaxies), dtype=np.int64), np.ones((n_z, n_galaxies))
    for run, fitter in enumerate(_fitters(grid, settings)):
        z_index, galaxy = np.nonzero(kept[run][near])
        first = scale[run, near[z_index], galaxy]
        start = Start(z_index, galaxy, first, seed.weights, seed.fluxes)
        for part, fit in _in_parts(fitter, light, start, (_FINE, settings.rounds), settings.weighing == "evidence"):
            place = z_index[part], galaxy[part]
            density = fit.log_volume - fit.value / 2
            log_density[place] = np.logaddexp(log_density[place], density)
            better = density > best[place]
            place = z_index[part][better], galaxy[part][better]
            best[place], best_chi2[place], best_run[place] = density[better], fit.value[better], run
            best_scale[place] = fit.scale[better]
    return RedshiftFits(log_density, best_chi2, best_run, best_scale)


def fit_at(grid: ModelGrid, light: Light, z_index: IntArray, settings: PhotozSettings) -> BestModel:
    """Fit each galaxy at one redshift with every run, and keep the best.

    Parameters
    ----------
    grid : ModelGrid
        Model fluxes.
    light : Light
        What was measured of G galaxies.
    z_index : ndarray of int, shape (G,)
        Redshift of each, its place on the grid.
    settings : PhotozSettings
        Settings.

    Returns
    -------
    BestModel
        Of the run with the smallest chi2.
    """
    n = len(z_index)
    order = np.argsort(z_index, kind="stable")
    start = Start(z_index[order], order, np.ones(n), light.weights, light.fluxes)
    chi2, run, scale = np.full(n, np.inf), np.zeros(n, dtype=np.int64), np.ones(n)
    fluxes = np.zeros(light.fluxes.shape)
    for number, fitter in enumerate(_fitters(grid, settings)):
        for part, fit in _in_parts(fitter, light, start, (2 * _FINE, 2 * settings.rounds)):
            model = fitter.predict(start.z_index[part], fit.amplitudes, fit.scale)
            better = fit.value < chi2[order[part]]
            into = order[part][better]
            chi2[into], run[into], scale[into] = fit.value[better], number, fit.scale[better]
            fluxes[:, into] = model[:, better]
    return BestModel(chi2, run, scale, fluxes)


def _fitters(grid: ModelGrid, settings: PhotozSettings) -> Iterator[RunFitter]:
    """Yield what fits each run; a scale needs bands of both kinds."""
    free = settings.free_scale and bool(grid.narrow.any() and not grid.narrow.all())
    n_updates = settings.n_updates if settings.solver == "multiplicative" else 0
    for models in grid.fluxes:
        yield RunFitter(models, grid.narrow, free, n_updates)


def _look(
    grid: ModelGrid, light: Light, settings: PhotozSettings, coarse: IntArray
) -> tuple[FloatArray, FloatArray, "_Seed"]:
    """Return chi2 and scale, shape (n_runs, n_coarse, G), at coarse steps of redshift, and where fits begin."""
    n_galaxies = light.fluxes.shape[1]
    shape = (len(grid.runs), len(coarse), n_galaxies)
    value, scale = np.empty(shape), np.empty(shape)
    z_index, galaxy = np.repeat(coarse, n_galaxies), np.tile(np.arange(n_galaxies), len(coarse))
    known, smallest = np.ones(n_galaxies), np.full(n_galaxies, np.inf)
    for run, fitter in enumerate(_fitters(grid, settings)):
        # Each run begins with the best scale of those before it.
        start = Start(z_index, galaxy, known[galaxy], light.weights, light.fluxes)
        for part, fit in _in_parts(fitter, light, start, (_COARSE if run else _FIRST, 0)):
            value[run].reshape(-1)[part], scale[run].reshape(-1)[part] = fit.value, fit.scale
        best = value[run].argmin(axis=0), np.arange(n_galaxies)
        better = value[run][best] < smallest
        smallest = np.minimum(smallest, value[run][best])
        known = np.where(better, scale[run][best], known)
    seed = _Seed(light)
    if seed.is_needed:
        for rounds, margin in _COARSE_LOOKS:
            _look_again(grid, light, settings, coarse, (value, scale), (seed, rounds, margin))
    return value, scale, seed


class _Seed:
    """Weights and fluxes of each galaxy at the best point so far, where the next fits of its other points begin.

    Likelihoods that are no Gaussians have several maxima: which fluxes count as outliers depends on where a fit
    begins. The best point of a galaxy knows them best.
    """

    def __init__(self, light: Light) -> None:
        n_bands, n_galaxies = light.fluxes.shape
        self.is_needed = light.parabola(np.ones((n_bands, 0)), np.zeros(0, dtype=np.int64)) is not None
        self.weights, self.fluxes = light.weights, light.fluxes
        self._smallest = np.full(n_galaxies, np.inf)
        if self.is_needed:
            self.weights, self.fluxes = self.weights.copy(), self.fluxes.copy()

    def learn(self, galaxy: IntArray, fit: Settled) -> None:
        """Take weights and fluxes of points that are better than those before."""
        if not self.is_needed:
            return
        order = np.argsort(fit.value, kind="stable")
        which, first = np.unique(galaxy[order], return_index=True)
        best = order[first]
        better = fit.value[best] < self._smallest[which]
        which, best = which[better], best[better]
        self._smallest[which] = fit.value[best]
        self.weights[:, which], self.fluxes[:, which] = fit.weights[:, best], fit.fluxes[:, best]


def _look_again(
    grid: ModelGrid,
    light: Light,
    settings: PhotozSettings,
    coarse: IntArray,
    known: tuple[FloatArray, FloatArray],
    how: tuple[_Seed, int, float],
) -> None:
    """Lower values at promising points by a few rounds, from the seed; that learns only afterwards."""
    (value, scale), (seed, rounds, margin) = known, how
    promising = value < value.min(axis=(0, 1)) + margin * settings.margin
    weights, fluxes = seed.weights.copy(), seed.fluxes.copy()
    for run, fitter in enumerate(_fitters(grid, settings)):
        place, which = np.nonzero(promising[run])
        start = Start(coarse[place], which, scale[run][place, which], weights, fluxes)
        for part, fit in _in_parts(fitter, light, start, (1, rounds)):
            at = place[part], which[part]
            better = fit.value < value[run][at]
            at = at[0][better], at[1][better]
            value[run][at], scale[run][at] = fit.value[better], fit.scale[better]
            seed.learn(which[part], fit)


def _in_parts(
    fitter: RunFitter, light: Light, start: Start, steps: tuple[int, int], with_volume: bool = False
) -> Iterator[tuple[slice, Settled]]:
    """Fit points, not too many at once."""
    for first in range(0, len(start.z_index), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        some = Start(start.z_index[part], start.galaxy[part], start.scale[part], start.weights, start.fluxes)
        yield part, settle(fitter, light, some, steps, with_volume=with_volume)
