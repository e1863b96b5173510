"""What the pixels themselves say: noise and what a weight means, sky, gain, saturation, width of the stars."""

from dataclasses import dataclass

import numpy as np
import sep

from lumos.conventions import AnyArray, BoolArray, Float32Array
from lumos.images.scatter import clipped_scatter

__all__ = ["PixelStatistics", "WeightKind", "measure_pixels", "tell_weight"]

#: Cells in which level and scatter are taken, pixels along a side; at most so many.
_CELL, _MOST_CELLS = 32, 400
#: Ratios of a stated to the measured variance within which a kind of weight is believed.
_AGREES = (0.5, 2.0)
#: Light of pixels that tell whether a variance holds the sources' photons, in scatters of the sky, and their number.
_BRIGHT, _LEAST_BRIGHT = 20.0, 30
#: A plateau of equal or nearly equal highest values is saturation.
_PLATEAU, _LEAST_PLATEAU = 2e-3, 6


@dataclass(frozen=True)
class PixelStatistics:
    """What the pixels of an image say.

    Parameters
    ----------
    sky : float
        Median level, image units.
    scatter : float
        Standard deviation of a sky pixel, image units.
    plateau : float
        Level that several of the highest pixels share; NaN where there is none.
    fwhm : float
        FWHM of the most compact bright sources, pixels; NaN where there are too few.
    finite : float
        Share of finite pixels.
    """

    sky: float
    scatter: float
    plateau: float
    fwhm: float
    finite: float

    @property
    def sky_subtracted(self) -> bool:
        """Return whether the sky is nearly 0."""
        return abs(self.sky) < self.scatter


@dataclass(frozen=True)
class WeightKind:
    """What a weight image holds.

    Parameters
    ----------
    kind : str
        As in a survey file; empty where nothing fits.
    ratio : float
        Variance that it states over that of the pixels; NaN where only its relative size counts.
    includes_sources : bool
        Whether it grows under bright sources.
    """

    kind: str
    ratio: float
    includes_sources: bool


def measure_pixels(data: Float32Array) -> PixelStatistics:
    """Measure the pixels of an image.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Image units; what is not finite counts as missing.

    Returns
    -------
    PixelStatistics
        Sky, scatter, saturation and width of the stars.
    """
    finite = np.isfinite(data)
    levels, scatters = _cells(data, finite)
    if len(scatters) == 0:
        return PixelStatistics(np.nan, np.nan, np.nan, np.nan, float(finite.mean()))
    sky, scatter = float(np.median(levels)), float(np.median(scatters))
    return PixelStatistics(
        sky, scatter, _plateau(data[finite], sky, scatter), _width(data, finite), float(finite.mean())
    )


def tell_weight(data: Float32Array, weight: Float32Array, name: str) -> WeightKind:
    """Tell what a weight image holds by comparing it with the scatter of the pixels.

    Parameters
    ----------
    data, weight : float32 array, shape (ny, nx)
        Image and weight.
    name : str
        What the weight's name makes it: ``variance``, ``ivar``, ``rms`` or ``weight``; decides between kinds that
        agree as well.

    Returns
    -------
    WeightKind
        The kind whose variance is that of the pixels within a factor of 2. ``relative_weight`` where the weight only
        falls as the variance grows.
    """
    usable = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    values = np.unique(weight[np.isfinite(weight)][:100_000])
    if len(values) <= 2 and set(values.tolist()) <= {0.0, 1.0}:
        return WeightKind("mask01", np.nan, includes_sources=False)
    _, scatters, weights = _cells(data, usable, weight)
    if len(scatters) == 0:
        return WeightKind("", np.nan, includes_sources=False)
    stated = {"variance": weights, "ivar": 1 / weights, "rms": weights**2}
    ratios = {kind: float(np.median(variance / scatters**2)) for kind, variance in stated.items()}
    agree = {kind: ratio for kind, ratio in ratios.items() if _AGREES[0] < ratio < _AGREES[1]}
    if agree:
        named = "ivar" if name == "weight" else name
        kind = named if named in agree else min(agree, key=lambda one: abs(np.log(agree[one])))
        return WeightKind(kind, ratios[kind], _includes_sources(data, stated_map(weight, kind), usable))
    if name in {"weight", "ivar"}:
        return WeightKind("relative_weight", np.nan, includes_sources=False)
    return WeightKind("", ratios.get(name, np.nan), includes_sources=False)


def stated_map(weight: Float32Array, kind: str) -> Float32Array:
    """Return the variance that a weight image of a kind states.

    Parameters
    ----------
    weight : float32 array
        Weight image.
    kind : str
        ``variance``, ``ivar`` or ``rms``.

    Returns
    -------
    float32 array of the same shape
        Variance; inf where an inverse variance is 0.
    """
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray({"variance": weight, "ivar": 1 / weight, "rms": weight**2}[kind])


def _cells(data: AnyArray, usable: BoolArray, *others: AnyArray) -> tuple[AnyArray, ...]:
    """Return level and clipped scatter of the pixels in cells, and medians of other images there."""
    found = []
    corners = [(y, x) for y in range(0, data.shape[0], _CELL) for x in range(0, data.shape[1], _CELL)]
    for y, x in corners[:: -(-len(corners) // _MOST_CELLS)]:
        cell = (slice(y, y + _CELL), slice(x, x + _CELL))
        good = usable[cell]
        if good.sum() < 0.5 * _CELL**2:
            continue
        values = data[cell][good].astype(np.float64)
        level = float(np.median(values))
        scatter = clipped_scatter(values - level)
        if scatter > 0:
            found.append((level, scatter, *(float(np.median(other[cell][good])) for other in others)))
    return tuple(np.array(found).reshape(len(found), 2 + len(others)).T)


def _includes_sources(data: Float32Array, variance: Float32Array, usable: BoolArray) -> bool:
    """Return whether a variance grows under the light of sources."""
    level = np.median(data[usable])
    sky = np.median(variance[usable])
    bright = usable & (data - level > _BRIGHT * np.sqrt(sky)) & np.isfinite(variance)
    return bool(bright.sum() >= _LEAST_BRIGHT and np.median(variance[bright]) > 1.1 * sky)


def _plateau(values: Float32Array, sky: float, scatter: float) -> float:
    """Return the level at which the brightest pixels pile up; NaN where they do not."""
    top = np.sort(values)[-2000:]
    if len(top) < _LEAST_PLATEAU or top[-1] < sky + 100 * scatter:
        return np.nan
    level = float(top[-1])
    close = top > level - _PLATEAU * (level - sky)
    return level - _PLATEAU * (level - sky) if close.sum() >= _LEAST_PLATEAU else np.nan


def _width(data: Float32Array, finite: BoolArray) -> float:
    """Return the FWHM of the most compact bright sources, pixels."""
    image, bad = np.where(finite, data, 0).astype(np.float32), ~finite
    try:
        background = sep.Background(image, mask=bad)
        found = sep.extract(image - background.back(), 20.0, err=background.globalrms, mask=bad)
    except Exception:  # noqa: BLE001 (sep raises bare exceptions: too many sources for its buffer)
        return np.nan
    found = found[(found["flag"] == 0) & (found["npix"] > 4)]
    if len(found) < 5:
        return np.nan
    radius, flag = sep.flux_radius(
        image - background.back(), found["x"], found["y"], 6 * found["a"], 0.5, normflux=None, subpix=5
    )
    # A Gaussian holds half of its light within half of its FWHM.
    return float(2 * np.percentile(radius[(flag == 0) & (radius > 0)], 20))
