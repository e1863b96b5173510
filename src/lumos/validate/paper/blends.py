"""Fig. 8 and 9: blends."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

import numpy as np

from lumos.conventions import FloatArray
from lumos.validate.evidence.again import FEWEST
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.metrics import Metric
from lumos.validate.paper.entry import Entry, Table, percent
from lumos.validate.studies.blends import CASES, DISTANCES, Bin, Blends, Targets, by_distance

__all__ = ["blend_entries"]

#: Edges of the points of the chart of Fig. 8, FWHM.
_CHART = tuple(np.linspace(0, 8, 17))
#: What is judged: pairs further apart than this, in FWHM; bias and width of pulls that are asked for.
_APART, _BIAS, _PULL = 1.0, 0.02, (0.95, 1.05)
_EIGHT = (
    "A target of i = 22 and a neighbour of i = 20 at 3600 offsets, one pixel apart. Lumos is off by 2–10 % at all "
    "distances, apertures catastrophically below 15 px and biased beyond."
)
_EIGHT_OURS = (
    "The same grid of offsets, in seeing of 1″ (3.8 px), the target with S/N 5. The paper's network sees the neighbour "
    "in the stamp and no catalogue tells it; here a neighbour that the catalogue lists is fitted with its target and "
    "taken out before any estimator measures. *Not listed* is the paper's case: the networks of this package were "
    "trained on cleaned stamps and are not made for it. Cells: median of (f − f₀)/f₀ with its error; σ68 of the pulls."
)
_NINE = (
    "Top: i = 21 beside a neighbour 5 px away of twenty magnitudes. Bottom: i = 21 beside i = 22 at ten distances. "
    "One stamp each. Lumos is robust in both, and much better than the aperture."
)
_NINE_OURS = (
    "Median of (f − f₀)/f₀ over {pairs} pairs at each point, where the paper has one. Profiles and PSF as in Fig. 8."
)


def blend_entries(found: Blends, models: Sequence[str]) -> list[Entry]:
    """Return Fig. 8 and both panels of Fig. 9.

    Parameters
    ----------
    found : Blends
        The study.
    models : sequence of str
        Models that are judged, beside the joint fit of the scene.

    Returns
    -------
    list of Entry
        Two.
    """
    judged = [name for name in ("scene", *models) if name in found.offsets["neighbour listed"]]
    return [_eight(found, judged), _nine(found, judged)]


def _eight(found: Blends, judged: Sequence[str]) -> Entry:
    head = (
        "estimator",
        "neighbour",
        *(f"{low:g}–{high:g} FWHM" for low, high in pairwise(DISTANCES)),
        "> 1 FWHM",
        "lost",
    )
    rows, data, metrics = [], {}, []
    for case, results in found.offsets.items():
        for name, targets in results.items():
            bins = by_distance(targets, found.distance)
            apart = by_distance(targets, found.distance, (_APART, np.inf))[0]
            lost = sum(one.lost for one in bins)
            rows.append((name, case.removeprefix("neighbour "), *map(_cell, (*bins, apart)), str(lost)))
            data[f"{name}, {case}"] = [asdict(one) for one in bins]
            if case == "neighbour listed" and name in judged:
                metrics += _goals(name, [*bins, apart])
    series = [
        _distance_series(f"{name}, {case}", found.offsets[case][name], found.distance)
        for case, name in (("neighbour listed", "aperture"), *(("neighbour listed", one) for one in judged))
    ]
    series += [
        _distance_series(f"{name}, not listed", found.offsets["not listed"][name], found.distance)
        for name in ("aperture",)
    ]
    chart = Chart(
        "fig08",
        "Fig. 8: i = 22 beside i = 20",
        "Median of (f - f0) / f0.",
        "distance, FWHM",
        (Panel("bias", tuple(series), (0.0,)),),
    )
    return Entry(
        ("Fig. 8",), "blends by distance", len(found.distance), _EIGHT, _EIGHT_OURS,
        (Table(head, tuple(rows)),), (chart,), tuple(metrics), {"bins": data},
    )  # fmt: skip


def _goals(name: str, bins: Sequence[Bin]) -> list[Metric]:
    """Return the goals beyond 1 FWHM, of all distances and of each."""
    goals = []
    for one in bins:
        if one.low < _APART or not np.isfinite(one.bias):
            continue
        where = f"beyond {one.low:g} FWHM" if np.isinf(one.high) else f"{one.low:g}–{one.high:g} FWHM"
        key = f"blends_{name}_{one.low:g}_{one.high:g}"
        few = one.n < FEWEST
        bias, pull = (
            (np.nan, np.nan) if few else pair for pair in ((one.bias, one.bias_err), (one.pull, one.pull_err))
        )
        goals.append(Metric(f"{key}_bias", f"{name}, {where}: bias", *bias, -_BIAS, _BIAS, one.n))
        goals.append(Metric(f"{key}_pull", f"{name}, {where}: width of pulls", *pull, *_PULL, one.n))
    return goals


def _cell(one: Bin) -> str:
    return "–" if not np.isfinite(one.bias) else f"{percent(one.bias, one.bias_err)}, {one.pull:.2f}"


def _distance_series(name: str, targets: Targets, distance: FloatArray) -> Series:
    bins = [one for one in by_distance(targets, distance, _CHART) if np.isfinite(one.bias)]
    columns = zip(*(((one.low + one.high) / 2, one.bias, one.bias_err) for one in bins), strict=True)
    x, y, error = (tuple(map(float, column)) for column in columns)
    return Series(name, x, y, error)


def _nine(found: Blends, judged: Sequence[str]) -> Entry:
    tables, charts = [], []
    panels = (
        (
            "fig09_top",
            "Fig. 9, top: i = 21, neighbour at 5 px",
            "magnitude of the neighbour",
            found.magnitudes,
            found.by_magnitude,
        ),
        ("fig09_bottom", "Fig. 9, bottom: i = 21 beside i = 22", "distance, px", found.steps, found.by_step),
    )
    for key, title, label, places, curves in panels:
        # Ten columns are enough for a page; the data hold all points.
        shown = np.unique(np.linspace(0, len(places) - 1, min(10, len(places))).round().astype(int))
        rows = tuple(
            (name, case.removeprefix("neighbour "), *(percent(*curves[case][name][i]) for i in shown))
            for case in CASES
            for name in curves[case]
        )
        tables.append(Table(("estimator", f"neighbour; {label}", *(f"{places[i]:.3g}" for i in shown)), rows))
        chosen = [
            ("aperture", "not listed"),
            ("aperture", "neighbour listed"),
            *((one, "neighbour listed") for one in judged),
        ]
        series = tuple(_curve(f"{name}, {case}", places, curves[case][name]) for name, case in chosen)
        charts.append(Chart(key, title, "Median of (f - f0) / f0.", label, (Panel("bias", series, (0.0,)),)))
    galaxies = found.pairs * (len(found.magnitudes) + len(found.steps))
    data = {
        "magnitudes": found.magnitudes,
        "by_magnitude": found.by_magnitude,
        "px": found.steps,
        "by_px": found.by_step,
    }
    text = _NINE_OURS.format(pairs=found.pairs)
    return Entry(
        ("Fig. 9",), "blends by magnitude and distance", galaxies, _NINE, text, tuple(tables), tuple(charts), (), data
    )


def _curve(name: str, places: FloatArray, curve: FloatArray) -> Series:
    x, y, error = (tuple(map(float, column)) for column in (places, curve[:, 0], curve[:, 1]))
    return Series(name, x, y, error)
