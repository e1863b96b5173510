"""Twins: real galaxies beside simulated copies on blank sky of the same exposure (the paper's Fig. 3)."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import ks_2samp

from lumos.background.geometry import STANDARD_GEOMETRY
from lumos.conventions import AnyArray, Float32Array, FloatArray
from lumos.errors import LumosDataError
from lumos.images.exposure import Exposure
from lumos.images.stamps import cut_stamps
from lumos.photometry.objects import PlacedObjects
from lumos.pools.pool import BackgroundPool
from lumos.rows import Rowwise
from lumos.statistics import SUMMARY_LEVELS, sigma68
from lumos.teahupoo.simulated import simulate_stamps

__all__ = ["TwinTest", "Twins", "central_rows", "compare_twins", "make_twins"]

#: Radii in pixels of the sums that are compared, and of the ring whose median is the level of the sky.
_CORE, _WHOLE, _RING = 2.5, 7.0, (18.0, 28.0)


@dataclass(frozen=True)
class Twins(Rowwise):
    """n pairs of stamps.

    Parameters
    ----------
    real, twin : float32 array, shape (n, size, size)
        Cutouts of the exposure, and simulated copies, image units.
    x, y : float array, shape (n,)
        Centre of the galaxy in both stamps, 0-based pixels.
    rows : int array, shape (n,)
        Which of the objects these are.
    """

    real: Float32Array
    twin: Float32Array
    x: FloatArray
    y: FloatArray
    rows: AnyArray


@dataclass(frozen=True)
class TwinTest:
    """Two-sample test of one statistic.

    Parameters
    ----------
    name : str
        What is compared.
    distance, p_value : float
        Of the Kolmogorov-Smirnov test between the real galaxies and their twins.
    shift : float
        Median of (real - twin) over the scatter of the difference.
    """

    name: str
    distance: float
    p_value: float
    shift: float


def make_twins(
    exposure: Exposure,
    objects: PlacedObjects,
    flux: FloatArray,
    pool: BackgroundPool,
    rng: np.random.Generator,
    *,
    size: int = 60,
) -> Twins:
    """Simulate a copy of each object, with its shape, flux and place between the pixels, on blank sky.

    Parameters
    ----------
    exposure : Exposure
        Where the real galaxies are.
    objects : PlacedObjects
        The galaxies, n of them, in the exposure's pixels.
    flux : float array, shape (n,)
        Their fluxes in image units; objects without a finite, positive flux or a shape have no twin.
    pool : BackgroundPool
        Source-free stamps of the same exposure.
    rng : numpy.random.Generator
        Draws the backgrounds and the photons.
    size : int, optional
        Side of the stamps.

    Returns
    -------
    Twins
        One pair per usable object.

    Raises
    ------
    LumosDataError
        If the pool has no stamp of the exposure.
    """
    names = [item.exposure_id for item in pool.exposures]
    if exposure.exposure_id not in names:
        raise LumosDataError(f"{exposure.path}: the pool has no background of this exposure, it has: {names[:10]}")
    stamps_here = np.flatnonzero(np.asarray(pool.exposure) == names.index(exposure.exposure_id))
    rows = np.flatnonzero(objects.usable & np.isfinite(flux) & (flux > 0))
    backgrounds = pool.sample(rng, len(rows), stamps_here)
    real = cut_stamps(exposure.data, objects.x[rows], objects.y[rows], size)
    profiles = objects.take(rows).at(real.x, real.y)
    twin = simulate_stamps(backgrounds, profiles, flux[rows], rng, geometry=replace(STANDARD_GEOMETRY, size=size))
    return Twins(real.data, twin.stamps.numpy(), real.x, real.y, rows)


def central_rows(twins: Twins) -> tuple[FloatArray, FloatArray]:
    """Return the row of pixels through the centre of each stamp, over the scatter of its sky.

    Parameters
    ----------
    twins : Twins
        Pairs of galaxies and their simulated copies.

    Returns
    -------
    real, twin : float array, shape (n, size)
        The level of the sky is taken off; the unit is the robust scatter of a sky pixel.
    """
    row = np.rint(twins.y).astype(int)
    parts = []
    for stamps in (twins.real, twins.twin):
        level, scatter = _sky(stamps, twins)
        parts.append((stamps[np.arange(len(twins)), row] - level[:, None]) / scatter[:, None])
    return parts[0], parts[1]


def compare_twins(twins: Twins) -> list[TwinTest]:
    """Compare real galaxies with their twins by simple statistics of the stamps.

    Parameters
    ----------
    twins : Twins
        Pairs of galaxies and their simulated copies.

    Returns
    -------
    list of TwinTest
        Light in the core, light in all, concentration, second moment, scatter and level of the sky.
    """
    real, twin = _statistics(twins.real, twins), _statistics(twins.twin, twins)
    tests = []
    for name in real:
        both = np.isfinite(real[name]) & np.isfinite(twin[name])
        result = ks_2samp(real[name][both], twin[name][both])
        difference = real[name][both] - twin[name][both]
        shift = float(np.median(difference)) / sigma68(difference)
        tests.append(TwinTest(name, float(result.statistic), float(result.pvalue), shift))
    return tests


def _radius(twins: Twins) -> FloatArray:
    step = np.arange(twins.real.shape[1])
    return np.hypot(step - twins.x[:, None, None], step[:, None] - twins.y[:, None, None])


def _sky(stamps: AnyArray, twins: Twins) -> tuple[FloatArray, FloatArray]:
    """Return median and robust scatter of the pixels in a ring."""
    radius = _radius(twins)
    ring = np.where((radius > _RING[0]) & (radius < _RING[1]), stamps, np.nan)
    low, middle, high = np.nanquantile(ring, SUMMARY_LEVELS, axis=(1, 2))
    return middle, (high - low) / 2


def _statistics(stamps: AnyArray, twins: Twins) -> dict[str, FloatArray]:
    """Return statistics of each stamp, free of units."""
    radius = _radius(twins)
    level, scatter = _sky(stamps, twins)
    light = (stamps - level[:, None, None]) / scatter[:, None, None]
    core = (light * (radius < _CORE)).sum(axis=(1, 2))
    whole = (light * (radius < _WHOLE)).sum(axis=(1, 2))
    moment = (light * radius**2 * (radius < _WHOLE)).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "light within 2.5 px": core,
            "light within 7 px": whole,
            "concentration": np.where(whole > 0, core / whole, np.nan),
            "second moment": np.where(whole > 0, moment / whole, np.nan),
            "sky scatter": scatter,
            "sky level": level,
        }
