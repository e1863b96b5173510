"""Blends (Fig. 8 and 9 of the paper): what one neighbour does to the flux of a galaxy.

Shapes, positions and PSF of the catalogue are the true ones.
Where the neighbour is listed, it is fitted together with the target; where not, the catalogue holds the target alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lumos.catalogs.schema import list_column
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, FloatArray
from lumos.errors import LumosValueError
from lumos.pdf import GaussianMixture
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import NETWORK, MeasureSettings
from lumos.statistics import pit_ks, sigma68
from lumos.validate.studies.pairs import FWHM_PX, ZEROPOINT, around, draw_pairs, pair_flux, paper_offsets

__all__ = [
    "CASES",
    "DISTANCES",
    "Bin",
    "Blends",
    "Targets",
    "blends",
    "by_distance",
    "measure_pairs",
]

#: Whether the catalogue lists the neighbour.
CASES = {"neighbour listed": True, "not listed": False}
#: Edges of the bins of distance, FWHM.
DISTANCES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 12.0)
_CLASSICAL = ("aperture", "profile_fit", "optimal", "scene")
#: Magnitudes of Fig. 9, top, at 5 px, and distances in pixels of Fig. 9, bottom.
_MAGNITUDES, _STEPS = np.linspace(18.0, 24.0, 20), np.arange(1.0, 11.0)


@dataclass(frozen=True)
class Targets:
    """What one estimator said of n targets.

    Parameters
    ----------
    relative : float array, shape (n,)
        (f - f0) / f0; NaN where there is no flux.
    pull : float array, shape (n,)
        (f - f0) / σ.
    pit : float array, shape (n,)
        Probability of a smaller flux than the true one.
    """

    relative: FloatArray
    pull: FloatArray
    pit: FloatArray


@dataclass(frozen=True)
class Bin:
    """Figures of some targets.

    Parameters
    ----------
    low, high : float
        Range of the distance, FWHM.
    n, lost : int
        Targets, and those without a flux.
    bias, bias_err : float
        Median of (f - f0) / f0 and its error.
    pull, pull_err : float
        σ68 of (f - f0) / σ, 1 where errors are true, and its error.
    pit_ks : float
        How far the PIT is from uniform.
    """

    low: float
    high: float
    n: int
    lost: int
    bias: float
    bias_err: float
    pull: float
    pull_err: float
    pit_ks: float


@dataclass(frozen=True)
class Blends:
    """The blends of the paper.

    Parameters
    ----------
    distance : float array, shape (n,)
        Of the neighbour in Fig. 8, FWHM.
    offsets : dict
        Fig. 8: by case, in it by estimator, the n targets.
    magnitudes, steps : float array
        Neighbours of Fig. 9: magnitudes at 5 px (top), pixels for i = 22 (bottom).
    by_magnitude, by_step : dict
        Fig. 9: by case, in it by estimator, median (f - f0) / f0 and its error, shape (n_points, 2).
    pairs : int
        Pairs at each point of Fig. 9.
    """

    distance: FloatArray
    offsets: Mapping[str, Mapping[str, Targets]]
    magnitudes: FloatArray
    steps: FloatArray
    by_magnitude: Mapping[str, Mapping[str, FloatArray]]
    by_step: Mapping[str, Mapping[str, FloatArray]]
    pairs: int

    @property
    def galaxies(self) -> int:
        """Return the number of targets, each measured with and without its neighbour in the catalogue."""
        return len(self.distance) + self.pairs * (len(self.magnitudes) + len(self.steps))


def blends(
    models: Sequence[str] = ("generic",),
    *,
    side: int = 60,
    repeats: int = 6,
    pairs: int = 100,
    points: int = len(_MAGNITUDES),
    seed: int = 8,
) -> Blends:
    """Measure the blends of Fig. 8 and 9.

    Parameters
    ----------
    models : sequence of str
        Names or folders of models to measure with, beside the classical estimators.
    side : int
        Offsets along each axis, in steps of one pixel about the target: 60 in the paper.
    repeats : int
        How often offsets within 4 FWHM are drawn.
    pairs : int
        Pairs at each point of Fig. 9, at random angles.
    points : int
        Magnitudes of Fig. 9: 20 in the paper.
    seed : int
        Of noise, angles and places in the pixel.

    Returns
    -------
    Blends
        For all estimators, with the neighbour in the catalogue and without.

    Raises
    ------
    LumosConfigError
        If there is no such model.
    LumosValueError
        If a number is below 1.
    """
    for what, number in (("side", side), ("repeats", repeats), ("pairs", pairs), ("points", points)):
        if number < 1:
            raise LumosValueError(f"{what} of the blends", number, "1 or more")
    offsets = paper_offsets(side, repeats)
    rng = np.random.default_rng(seed)
    magnitudes = np.linspace(_MAGNITUDES[0], _MAGNITUDES[-1], points)
    curves = [around(np.repeat(5.0, points), pairs, rng), around(_STEPS, pairs, rng)]
    neighbours = [np.repeat(magnitudes, pairs), np.full(pairs * len(_STEPS), 22.0)]
    eight: dict[str, dict[str, Targets]] = {}
    top: dict[str, dict[str, FloatArray]] = {}
    bottom: dict[str, dict[str, FloatArray]] = {}
    for case, listed in CASES.items():
        eight[case] = measure_pairs(offsets, 22.0, np.full(len(offsets), 20.0), models, listed=listed, seed=seed)
        for panel, some, mags in zip((top, bottom), curves, neighbours, strict=True):
            found = measure_pairs(some, 21.0, mags, models, listed=listed, seed=seed + 1)
            panel[case] = {name: _medians(one.relative.reshape(-1, pairs)) for name, one in found.items()}
    return Blends(np.hypot(*offsets.T) / FWHM_PX, eight, magnitudes, _STEPS, top, bottom, pairs)


def measure_pairs(
    offsets: FloatArray,
    target: float,
    neighbour: FloatArray,
    models: Sequence[str] = (),
    *,
    listed: bool = True,
    seed: int = 0,
) -> dict[str, Targets]:
    """Draw pairs and measure their targets with all estimators.

    Parameters
    ----------
    offsets : float array, shape (n, 2)
        Of the neighbours, pixels.
    target : float
        Magnitude of the targets.
    neighbour : float array, shape (n,)
        Magnitudes of the neighbours.
    models : sequence of str
        Names or folders of models; results have the names.
    listed : bool
        Whether the catalogue lists the neighbours.
    seed : int
        Of noise, angles and places in the pixel.

    Returns
    -------
    dict
        By estimator.
    """
    names = {NETWORK: models[0]} if models else {}
    runs = [(MeasureSettings(estimators=_CLASSICAL, model=models[0] if models else None), names)]
    runs += [(MeasureSettings(estimators=(), model=model), {NETWORK: model}) for model in models[1:]]
    truth = float(pair_flux(target)) * 10 ** (0.4 * (AB_ZEROPOINT_NJY - ZEROPOINT))
    found: dict[str, list[FloatArray]] = {}
    for exposure, catalog, n in draw_pairs(offsets, target, neighbour, np.random.default_rng(seed)):
        known = catalog if listed else catalog.take(np.arange(n))
        for settings, called in runs:
            table = measure_exposure(exposure, known, settings).slice(0, n)
            for name in settings.all_estimators:
                flux, error = (table[f"{name}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
                pdf = (
                    GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
                    if name == NETWORK
                    else GaussianMixture(np.ones((n, 1)), flux[:, None], error[:, None])
                )
                values = np.stack([flux / truth - 1, (flux - truth) / error, pdf.cdf(truth)])
                found.setdefault(called.get(name, name), []).append(values)
    return {name: Targets(*np.concatenate(parts, axis=1)) for name, parts in found.items()}


def by_distance(targets: Targets, distance: FloatArray, edges: Sequence[float] = DISTANCES) -> list[Bin]:
    """Return the figures of targets in bins of distance.

    Parameters
    ----------
    targets : Targets
        What an estimator said of n targets.
    distance : float array, shape (n,)
        Of the neighbour, FWHM.
    edges : sequence of float
        Of the bins; one holds its lower edge.

    Returns
    -------
    list of Bin
        One per bin, NaN where it has no flux.
    """
    return [_bin(targets, (distance >= low) & (distance < high), low, high) for low, high in pairwise(edges)]


def _bin(targets: Targets, some: AnyArray, low: float, high: float) -> Bin:
    good = some & np.isfinite(targets.relative) & np.isfinite(targets.pull)
    n = int(good.sum())
    if n == 0:
        return Bin(low, high, int(some.sum()), int(some.sum()), *(np.nan,) * 5)
    relative, pull = targets.relative[good], targets.pull[good]
    scatter, width = sigma68(relative), sigma68(pull)
    # Of a Gaussian: the error of a median, and of half the range between the quantiles.
    errors = 1.2533 * scatter / np.sqrt(n), 1.0727 * width / np.sqrt(n)
    distance, _ = pit_ks(targets.pit[good])
    lost = int(some.sum()) - n
    return Bin(low, high, int(some.sum()), lost, float(np.median(relative)), errors[0], width, errors[1], distance)


def _medians(relative: FloatArray) -> FloatArray:
    """Return the median of each row without NaN, and its error."""
    rows = [row[np.isfinite(row)] for row in relative]
    return np.array(
        [(np.median(row), 1.2533 * sigma68(row) / np.sqrt(len(row))) if len(row) else (np.nan,) * 2 for row in rows]
    )
