"""Colours between neighbouring bands: their widths by estimator, and, where fluxes are known, their errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from lumos.conventions import FloatArray, IntArray
from lumos.flags import UNUSABLE, Flag
from lumos.pdf import inverse_variance
from lumos.statistics import LEVELS_68, LEVELS_95, sigma68
from lumos.validate.evidence.again import FEWEST
from lumos.validate.evidence.chart import Chart, Panel, Series

__all__ = ["ObjectFluxes", "colour_charts", "object_fluxes"]

#: Pairs of bands that have a histogram, evenly spaced in wavelength.
_SHOWN = 3
_CELLS = 40


@dataclass(frozen=True, eq=False)
class ObjectFluxes:
    """Fluxes of n objects in m bands; NaN where there is none.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Objects, sorted.
    bands : tuple of str, length m
        By wavelength.
    fluxes : mapping of two float array, each of shape (n, m)
        Flux and error by estimator.
    truth : float array, shape (n, m)
        True fluxes; NaN where unknown.
    """

    object_id: IntArray
    bands: tuple[str, ...]
    fluxes: Mapping[str, tuple[FloatArray, FloatArray]]
    truth: FloatArray


def object_fluxes(
    table: pa.Table, names: Mapping[str, tuple[str, str]], bands: Sequence[str], truth: FloatArray | None = None
) -> ObjectFluxes:
    """Average the exposures of each object and band with inverse variances.

    Parameters
    ----------
    table : pyarrow.Table
        n rows of runs or of a coadd.
    names : mapping of two str
        Columns of flux and error, by estimator.
    bands : sequence of str
        Bands by wavelength.
    truth : float array, shape (n,), optional
        True flux of each row.

    Returns
    -------
    ObjectFluxes
        Of rows with a zero point whose flags do not forbid their use.
    """
    objects, row = np.unique(table["object_id"].to_numpy(), return_inverse=True)
    number = {band: k for k, band in enumerate(bands)}
    column = np.array([number.get(band, -1) for band in table["band"].to_pylist()], dtype=np.int64)
    flags = table["flags"].to_numpy()
    good = (column >= 0) & ((flags & int(UNUSABLE | Flag.CATALOG_EXPOSURE | Flag.NO_ZEROPOINT)) == 0)
    shape, cell = (len(objects), len(bands)), row * len(bands) + column
    size = shape[0] * shape[1]
    fluxes = {}
    for name, columns in names.items():
        flux, error = (table[one].to_numpy().astype(np.float64) for one in columns)
        kept = good & np.isfinite(flux) & (error > 0)
        mean, mean_err, _ = inverse_variance(flux[kept], error[kept], cell[kept], size)
        fluxes[name] = mean.reshape(shape), mean_err.reshape(shape)
    known = np.full(size, np.nan)
    if truth is not None:
        known[cell[column >= 0]] = truth[column >= 0]
    return ObjectFluxes(objects, tuple(bands), fluxes, known.reshape(shape))


def colour_charts(fluxes: ObjectFluxes, ref_mag: FloatArray) -> list[Chart]:
    """Draw colours between neighbouring bands.

    Parameters
    ----------
    fluxes : ObjectFluxes
        Fluxes of n objects.
    ref_mag : float array, shape (n,)
        Catalogue magnitudes: the brighter half is drawn, where they are known.

    Returns
    -------
    list of Chart
        Widths by pair of bands, histograms of some, and errors of colours where truths are known; empty where no
        estimator has a colour of 30 objects.
    """
    known = np.isfinite(ref_mag)
    bright = ref_mag <= np.median(ref_mag[known]) if known.any() else np.ones(len(ref_mag), dtype=np.bool_)
    who = "the brighter half by catalogue magnitude" if known.any() else "all"
    labels = tuple(f"{blue}-{red}" for blue, red in pairwise(fluxes.bands))
    width68: list[Series] = []
    width95: list[Series] = []
    pulls = []
    colours: dict[str, list[FloatArray]] = {}
    for name, (flux, error) in fluxes.fluxes.items():
        colours[name] = [_colour(flux[bright, k], flux[bright, k + 1]) for k in range(len(labels))]
        kept = [k for k, one in enumerate(colours[name]) if len(one) >= FEWEST]
        if not kept:
            continue
        x = tuple(map(float, kept))
        for levels, series in ((LEVELS_68, width68), (LEVELS_95, width95)):
            series.append(Series(name, x, tuple(_width(colours[name][k], levels) for k in kept)))
        off = {k: _pull(flux[:, k : k + 2], error[:, k : k + 2], fluxes.truth[:, k : k + 2]) for k in kept}
        off = {k: one for k, one in off.items() if len(one) >= FEWEST}
        if off:
            pulls.append((name, off))
    if not width68:
        return []
    text = f"Colours of galaxies between neighbouring bands, {who} (Fig. 11, 22 and 23 of the paper): half "
    text += "the 68 % range above, half the 95 % range below. Galaxies' own colours are the same for all estimators; "
    text += "what is wider is noise. Colours without a flux above 0 in one band count as endless; where the range "
    text += "reaches them there is no point."
    panels = (Panel("width, 68 % (mag)", tuple(width68)), Panel("width, 95 % (mag)", tuple(width95)))
    charts = [Chart("colours", "Widths of colours", text, "colour", panels, ticks=labels)]
    if pulls:
        median = [Series(name, tuple(map(float, off)), tuple(map(_median, off.values()))) for name, off in pulls]
        width = [Series(name, tuple(map(float, off)), tuple(map(sigma68, off.values()))) for name, off in pulls]
        text = "Errors of colours: f1 - R f2 with the true ratio R of both fluxes, over its error. The median should "
        text += "be 0 and the width 1. Errors that both bands share, such as a wrong shape, cancel."
        panels = (Panel("median", tuple(median), (0.0,)), Panel("width", tuple(width), (1.0,)))
        charts.append(Chart("colour_pulls", "Errors of colours", text, "colour", panels, ticks=labels))
    return charts + _histograms(colours, labels, who)


def _histograms(colours: Mapping[str, Sequence[FloatArray]], labels: Sequence[str], who: str) -> list[Chart]:
    charts = []
    first = next(iter(colours))
    filled = [k for k in range(len(labels)) if len(colours[first][k]) >= FEWEST]
    for k in sorted({filled[int(i)] for i in np.linspace(0, len(filled) - 1, _SHOWN)}) if filled else []:
        finite = colours[first][k][np.isfinite(colours[first][k])]
        if len(finite) < FEWEST:
            continue
        middle, reach = _median(finite), max(4 * sigma68(finite), 0.05)
        edges = np.linspace(middle - reach, middle + reach, min(_CELLS, max(8, len(finite) // 15)) + 1)
        places = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
        series = []
        for name, values in colours.items():
            counts = np.histogram(values[k], edges)[0] / max(len(values[k]), 1) / np.diff(edges)
            if len(values[k]) >= FEWEST:
                series.append(Series(name, places, tuple(counts.tolist())))
        text = f"Distribution of the colour, {who}. The narrower, the less noise; galaxies' own colours are in it."
        panel = (Panel("density (1/mag)", tuple(series)),)
        charts.append(
            Chart(f"colour_{labels[k]}", f"Colour {labels[k]}", text, f"{labels[k]} (mag)", panel, steps=True)
        )
    return charts


def _colour(blue: FloatArray, red: FloatArray) -> FloatArray:
    """Return colours; infinite where one flux is not above 0, without objects where both are not, or one is missing."""
    kept = np.isfinite(blue) & np.isfinite(red) & ((blue > 0) | (red > 0))
    with np.errstate(divide="ignore"):
        return np.asarray(-2.5 * (np.log10(np.maximum(blue[kept], 0)) - np.log10(np.maximum(red[kept], 0))))


def _width(colour: FloatArray, levels: tuple[float, float]) -> float:
    # Without interpolation, which would make infinity minus infinity.
    low, high = np.quantile(colour, levels, method="nearest")
    return float(high - low) / 2 if np.isfinite(low) and np.isfinite(high) else float("nan")


def _pull(flux: FloatArray, error: FloatArray, truth: FloatArray) -> FloatArray:
    """Return (f1 - R f2) over its error, with the true ratio R: linear, so that no faint flux is left out."""
    known = (truth > 0).all(axis=1) & np.isfinite(flux).all(axis=1) & np.isfinite(error).all(axis=1)
    (first, second), (one, two) = flux[known].T, error[known].T
    ratio = truth[known, 0] / truth[known, 1]
    return np.asarray((first - ratio * second) / np.hypot(one, ratio * two))


def _median(values: FloatArray) -> float:
    return float(np.median(values))
