"""Metrics and charts of photometric redshifts whose true values are known."""

from collections.abc import Callable

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.statistics import pit_distance, sigma68
from lumos.validate.evidence.again import FEWEST, Figure, objects_again
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.groups import equal_bins
from lumos.validate.evidence.metrics import Metric
from lumos.validate.known_redshifts import KnownRedshifts
from lumos.validate.redshifts import OUTLIER

__all__ = ["group_charts", "judge_redshifts", "pdf_charts", "redshift_charts"]

#: Quantities that galaxies are sorted by: name, label, whether the axis is logarithmic.
_QUANTITIES: tuple[tuple[str, str, bool], ...] = (
    ("ref_mag", "reference magnitude", False),
    ("half_light_radius", "half-light radius (arcsec)", True),
    ("sersic_n", "Sérsic index n", True),
    ("redshift", "known redshift", False),
)
#: Most galaxies of the chart of redshifts.
_DOTS = 2000
#: Times that galaxies are drawn again for a point of a chart.
_AGAIN = 50
#: A Kolmogorov-Smirnov distance times the root of the number is larger by chance in 1 of 20 cases.
_CHANCE = 1.358
#: Shares of galaxies that quality cuts keep, per cent.
_KEPT = tuple(range(10, 101, 10))
_DX = "dz is (zb - z) / (1 + z)"

#: Figures of galaxies, from their numbers.
_Figures = Callable[[IntArray], tuple[float, ...]]


def judge_redshifts(known: KnownRedshifts, rng: np.random.Generator) -> list[Metric]:
    """Judge redshifts and p(z) by what any survey can ask of them.

    Parameters
    ----------
    known : KnownRedshifts
        Galaxies.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Metric
        How good redshifts are depends on the fluxes and is not judged; whether p(z) says so is.
    """

    def inside(share: float) -> Callable[[IntArray], float]:
        return lambda i: float(np.mean(np.abs(known.pit[i] - 0.5) < share / 2))

    def bias(i: IntArray) -> float:
        width = sigma68(known.dx[i])
        return float(np.median(known.dx[i])) / width if width > 0 else np.nan

    def beyond_promise(i: IntArray) -> float:
        return float(np.mean(np.abs(known.dx[i]) > OUTLIER) - np.mean(known.doubt[i]))

    def of_better(i: IntArray) -> float:
        return sigma68(known.dx[i][_better(known.qz[i])]) / sigma68(known.dx[i])

    demands: list[tuple[str, str, float, float, Callable[[IntArray], float]]] = [
        ("bias", "Redshifts are right on average: median of dz over its width", -0.1, 0.1, bias),
        ("within50", "Half of the redshifts lie in the central 50 % of p(z)", 0.47, 0.53, inside(0.5)),
        ("within68", "68 % of the redshifts lie in the central 68 %", 0.653, 0.713, inside(0.6827)),
        ("within95", "95 % of the redshifts lie in the central 95 %", 0.935, 0.965, inside(0.95)),
        ("pit_ks", "The PIT is uniform: largest distance", 0, 0.05, lambda i: pit_distance(known.pit[i])),
        ("outliers", "Outliers are as many as p(z) promises: share, less that", -0.03, 0.03, beyond_promise),
        ("quality", "Qz finds good redshifts: width of dz of the better half over that of all", 0, 0.8, of_better),
    ]
    found, every = [], np.arange(len(known))
    for key, text, low, high, figure in demands:
        value = error = np.nan
        if len(known) >= FEWEST:
            value = figure(every)
            error = float(objects_again(known.object_id, _listed(figure), rng)[0])
        found.append(Metric(key, text, value, error, low, high, len(known)))
    return found


def redshift_charts(known: KnownRedshifts, rng: np.random.Generator) -> list[Chart]:
    """Draw photometric against known redshifts, and what quality cuts do.

    Parameters
    ----------
    known : KnownRedshifts
        Galaxies.
    rng : numpy.random.Generator
        For errors and the choice of galaxies.

    Returns
    -------
    list of Chart
        Empty for fewer than 30 galaxies.
    """
    if len(known) < FEWEST:
        return []
    some = np.sort(rng.permutation(len(known))[:_DOTS])
    better = known.better_half
    dots = [
        Series(name, tuple(known.redshift[rows].tolist()), tuple(known.zb[rows].tolist()), number=number, dots=True)
        for number, (name, rows) in enumerate(
            (("worse half by Qz", some[~better[some]]), ("better half by Qz", some[better[some]]))
        )
        if len(rows)
    ]
    ends = float(known.redshift.min()), float(known.redshift.max())
    line = Series("equal", ends, ends, plain=True)
    text = f"Each dot is a galaxy, {len(some)} of {len(known)}. The better half has the smaller Qz."
    places = Chart("redshifts", "Photometric redshifts", text, "known redshift", (Panel("zb", (*dots, line)),))
    order = np.argsort(known.qz, kind="stable")
    cuts = [order[: max(len(order) * kept // 100, 1)] for kept in _KEPT]
    kept = [(float(share), rows) for share, rows in zip(_KEPT, cuts, strict=True) if len(rows) >= FEWEST]
    text = "Galaxies are kept from the best Qz on. From the top: width of dz, share of outliers "
    text += f"(|dz| > {OUTLIER:g}, eq. 23 of the paper), and median of dz. {_DX}."
    panels = _accuracy({"kept": kept}, known, rng)
    return [places, Chart("redshift_quality", "Quality cuts", text, "galaxies that are kept (%)", panels)]


def pdf_charts(known: KnownRedshifts) -> list[Chart]:
    """Draw PIT and coverage of p(z).

    Parameters
    ----------
    known : KnownRedshifts
        Galaxies.

    Returns
    -------
    list of Chart
        Empty for fewer than 30 galaxies.
    """
    if len(known) < FEWEST:
        return []
    edges, shares = np.linspace(0, 1, 21), np.linspace(0.05, 0.95, 19)
    pit, inside = [], []
    for name, rows in (("all", known), ("best half by Qz", known.take(known.better_half))):
        density = np.histogram(rows.pit, edges)[0] / len(rows) * 20
        pit.append(Series(name, tuple(((edges[1:] + edges[:-1]) / 2).tolist()), tuple(density.tolist())))
        found = [100 * float(np.mean(np.abs(rows.pit - 0.5) < share / 2) - share) for share in shares]
        inside.append(Series(name, tuple((100 * shares).tolist()), tuple(found)))
    text = "Probability that p(z) gives to smaller redshifts than the known one, in 20 bins. Where p(z) is true the "
    text += "line is flat at 1. A valley means that p(z) is too narrow, a hill too wide, a slope biased; bars at the "
    text += "ends are redshifts where p(z) sees nothing."
    both = "Of the known redshifts, the percentage inside the central part of p(z), minus what that part promises. "
    both += "0 is right; below it p(z) is too narrow."
    label = "probability of a smaller redshift"
    return [
        Chart("redshift_pit", "PIT", text, label, (Panel("density", tuple(pit), (1.0,)),), steps=True),
        Chart(
            "redshift_coverage", "Coverage", both, "central part of p(z) (%)",
            (Panel("found - promised (percentage points)", tuple(inside), (0.0,)),),
        ),
    ]  # fmt: skip


def group_charts(known: KnownRedshifts, rng: np.random.Generator) -> list[Chart]:
    """Draw accuracy and PIT by magnitude, radius, Sérsic index and redshift.

    Parameters
    ----------
    known : KnownRedshifts
        Galaxies.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Chart
        Two for each quantity that fills two bins of 30 galaxies.
    """
    charts = []
    for key, label, log in _QUANTITIES:
        if key not in known.by:
            continue
        values = known.by[key]
        usable = np.isfinite(values) & ((values > 0) | (not log))
        groups = {
            name: [(float(np.median(values[rows])), rows) for rows in equal_bins(values, usable & chosen)]
            for name, chosen in (("all", np.ones(len(known), dtype=bool)), ("best half by Qz", known.better_half))
        }
        if len(groups["all"]) < 2:
            continue
        name = label.split(" (")[0]
        text = f"From the top: width of dz, share of outliers (|dz| > {OUTLIER:g}, eq. 23 of the paper), and median "
        text += f"of dz. {_DX}. Bins hold equally many galaxies; bars are errors from galaxies drawn again."
        panels = _accuracy(groups, known, rng)
        charts.append(Chart(f"redshift_by_{key}", f"Redshifts by {name}", text, label, panels, log_x=log))
        text = "Above, how far the PIT is from uniform: 0 is right. Below, the mean CRPS, the distance of p(z) from "
        text += "the known redshift: the smaller the better."
        charts.append(Chart(f"pz_by_{key}", f"p(z) by {name}", text, label, _honesty(groups, known, rng), log_x=log))
    return charts


_Groups = dict[str, list[tuple[float, IntArray]]]


def _accuracy(groups: _Groups, known: KnownRedshifts, rng: np.random.Generator) -> tuple[Panel, Panel, Panel]:
    def figures(rows: IntArray) -> tuple[float, ...]:
        dx = known.dx[rows]
        return sigma68(dx), 100 * float(np.mean(np.abs(dx) > OUTLIER)), float(np.median(dx))

    width, outliers, bias = _drawn(groups, known, figures, rng)
    return Panel("width of dz", width, scale="log"), Panel("outliers (%)", outliers), Panel("median dz", bias, (0.0,))


def _honesty(groups: _Groups, known: KnownRedshifts, rng: np.random.Generator) -> tuple[Panel, Panel]:
    def figures(rows: IntArray) -> tuple[float, ...]:
        return pit_distance(known.pit[rows]), float(np.mean(known.crps[rows]))

    distance, score = _drawn(groups, known, figures, rng)
    places = tuple(place for place, _ in groups["all"])
    chance = tuple(_CHANCE / float(np.sqrt(len(rows))) for _, rows in groups["all"])
    line = Series("larger by chance in 1 of 20", places, chance, plain=True)
    return Panel("PIT distance", (*distance, line)), Panel("CRPS", score, scale="log")


def _drawn(
    groups: _Groups, known: KnownRedshifts, figures: _Figures, rng: np.random.Generator
) -> list[tuple[Series, ...]]:
    """Return a series of each group, for each figure."""
    found: list[list[Series]] = []
    for name, parts in groups.items():
        if not parts:
            continue
        values = np.array([figures(rows) for _, rows in parts])
        errors = [objects_again(known.object_id[rows], _of_rows(figures, rows), rng, _AGAIN) for _, rows in parts]
        places = tuple(place for place, _ in parts)
        found.append([
            Series(name, places, tuple(value.tolist()), tuple(error.tolist()))
            for value, error in zip(values.T, np.array(errors).T, strict=True)
        ])  # fmt: skip
    return [tuple(series) for series in zip(*found, strict=True)]


def _better(qz: FloatArray) -> BoolArray:
    return np.asarray(qz <= np.median(qz))


def _listed(figure: Callable[[IntArray], float]) -> Figure:
    return lambda drawn: [figure(drawn)]


def _of_rows(figures: _Figures, rows: IntArray) -> Figure:
    return lambda drawn: figures(rows[drawn])
