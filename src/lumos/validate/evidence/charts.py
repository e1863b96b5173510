"""Charts of a page of evidence, as numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, BoolArray, FloatArray, IntArray
from lumos.statistics import sigma68
from lumos.validate.evidence.known import KnownFluxes, PullRows
from lumos.validate.evidence.metrics import objects_again
from lumos.validate.evidence.pulls import FEWEST

__all__ = ["Chart", "Series", "known_charts"]

#: Bins with equally many rows.
_BINS = 8
#: Light of neighbours that counts, errors of the flux.
_LEAST_LIGHT = 0.05
#: Quantities that figures are sorted by: name, label, whether the axis is logarithmic.
_QUANTITIES: tuple[tuple[str, str, bool], ...] = (
    ("magnitude", "true magnitude (AB)", False),
    ("signal", "true flux over its error", True),
    ("half_light_radius", "half-light radius, arcsec", True),
    ("psf_fwhm", "FWHM of the PSF, arcsec", False),
    ("neighbour", "distance of the next neighbour, FWHM", True),
    ("contamination", "light of the neighbours, errors of the flux", True),
    ("x", "x on the CCD, px", False),
    ("y", "y on the CCD, px", False),
)


@dataclass(frozen=True)
class Series:
    """Points of a chart.

    Parameters
    ----------
    name : str
        For the legend.
    x, y : tuple of float
        Places and values.
    error : tuple of float
        Errors of the values; empty where there are none.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart as numbers.

    Parameters
    ----------
    key, title, text : str
        Name for programs, heading, and what a reader sees in it.
    x_label, y_label : str
        Axes, with units.
    series : tuple of Series
        What is drawn.
    guide : float or None
        Where a horizontal line is drawn: the value that true errors have.
    log_x : bool
        Logarithmic x axis.
    steps : bool
        Draw bars' outlines instead of points.
    """

    key: str
    title: str
    text: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    guide: float | None = None
    log_x: bool = False
    steps: bool = False


def known_charts(known: KnownFluxes, names: Sequence[str], rng: np.random.Generator) -> list[Chart]:
    """Draw known fluxes: PIT, coverage, bias and scatter against magnitude, pulls against everything.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    names : sequence of str
        Estimators, the one that is judged first.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Chart
        As numbers.
    """
    estimators = {name: known.estimators[name] for name in names}
    return [
        *_calibration(estimators),
        *_against_magnitude(known, estimators, rng),
        *_pulls_against(known, names[0], rng),
    ]


def _calibration(estimators: Mapping[str, PullRows]) -> list[Chart]:
    edges = np.linspace(0, 1, 21)
    middles = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    pit, coverage = [], []
    shares = np.linspace(0.05, 0.95, 19)
    for name, rows in estimators.items():
        good = rows.pit[np.isfinite(rows.pit)]
        if len(good) < FEWEST:
            continue
        pit.append(Series(name, middles, tuple((np.histogram(good, edges)[0] / len(good) * 20).tolist())))
        inside = [float(np.mean(np.abs(good - 0.5) < share / 2) - share) for share in shares]
        coverage.append(Series(name, tuple(shares.tolist()), tuple(inside)))
    text = "Where PDFs are true, truths fall evenly from their low to their high end: the line is flat. "
    text += "A valley means that PDFs are too narrow, a hill that they are too wide, a slope that they are biased."
    both = "Truths inside the central part of the PDF, minus those that should be. Below 0 errors are too small."
    return [
        Chart(
            "pit", "PIT", text, "probability of a smaller flux than the truth", "density", tuple(pit), 1.0, steps=True
        ),
        Chart("coverage", "Coverage", both, "central part of the PDF", "found - expected", tuple(coverage), 0.0),
    ]


def _bins(values: FloatArray, usable: BoolArray) -> list[IntArray]:
    """Return rows in bins of equally many."""
    rows = np.flatnonzero(usable & np.isfinite(values))
    n = min(_BINS, len(rows) // FEWEST)
    if n == 0 or len(np.unique(values[rows])) < n:
        return []
    return [part for part in np.array_split(rows[np.argsort(values[rows], kind="stable")], n) if len(part)]


def _in_bins(
    values: FloatArray,
    owner: IntArray,
    parts: Sequence[IntArray],
    figure: Callable[[FloatArray], float],
    rng: np.random.Generator,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a figure in bins, and its errors."""

    def error(part: IntArray) -> float:
        return objects_again(owner[part], lambda drawn: float(figure(values[part[drawn]])), rng)

    return tuple(float(figure(values[part])) for part in parts), tuple(error(part) for part in parts)


def _median(values: FloatArray) -> float:
    return float(np.median(values))


def _against_magnitude(known: KnownFluxes, estimators: Mapping[str, PullRows], rng: np.random.Generator) -> list[Chart]:
    magnitude = _magnitude(known)
    bias: list[Series] = []
    scatter: list[Series] = []
    for name, rows in estimators.items():
        relative = rows.flux / known.truth - 1
        parts = _bins(magnitude, np.isfinite(relative))
        places = tuple(float(np.median(magnitude[part])) for part in parts)
        for kept, figure in ((bias, _median), (scatter, sigma68)):
            kept.append(Series(name, places, *_in_bins(relative, known.object_id, parts, figure, rng)))
    label = "true magnitude (AB)"
    return [
        Chart(
            "flux_bias", "Bias", "Median of flux / truth - 1 (Fig. 7 of the paper).", label, "bias", tuple(bias), 0.0
        ),
        Chart("flux_scatter", "Scatter", "Half the 68 % range of flux / truth - 1.", label, "scatter", tuple(scatter)),
    ]


def _magnitude(known: KnownFluxes) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(AB_ZEROPOINT_NJY - 2.5 * np.log10(known.truth))


def _pulls_against(known: KnownFluxes, name: str, rng: np.random.Generator) -> list[Chart]:
    rows = known.estimators[name]
    values = {**known.by, "magnitude": _magnitude(known), "signal": known.truth / rows.flux_err}
    # Less light than this is none.
    values["contamination"] = np.where(values["contamination"] > _LEAST_LIGHT, values["contamination"], np.nan)
    charts = []
    for key, label, log_x in _QUANTITIES:
        if key not in values:
            continue
        parts = _bins(values[key], np.isfinite(rows.pull) & ((values[key] > 0) | (not log_x)))
        if len(parts) < 2:
            continue
        places = tuple(float(np.median(values[key][part])) for part in parts)
        series = []
        for text, figure in (("median", _median), ("width", sigma68)):
            series.append(Series(text, places, *_in_bins(rows.pull, known.object_id, parts, figure, rng)))
        text = "Of (flux - truth) / error: the median is 0 and the width 1 where fluxes and errors are true."
        charts.append(
            Chart(f"pull_{key}", f"Pulls of {name} by {label}", text, label, "pull", tuple(series), 1.0, log_x)
        )
    return charts
