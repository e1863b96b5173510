"""How well exposures, and estimators, agree with each other: no truth is needed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from lumos.coadds.calibrate import calibrate_run
from lumos.coadds.settings import CalibrateSettings
from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.photometry.measured import MeasuredRun
from lumos.statistics import sigma68
from lumos.validate.comparison import Comparison, compare_estimators
from lumos.validate.differences import Differences, differences
from lumos.validate.evidence.again import FEWEST
from lumos.validate.evidence.chart import Chart, MapChart, Panel, Series
from lumos.validate.evidence.groups import equal_bins
from lumos.validate.evidence.maps import ccd_map
from lumos.validate.evidence.metrics import Metric
from lumos.validate.pairs import all_pairs, read_measurements
from lumos.validate.shards import shards_by_band

__all__ = ["Pairs", "comparison_charts", "read_pairs", "repeat_charts", "repeat_metric", "repeat_table"]

#: Edges of the cells of the histogram of D; the outermost hold all beyond.
_EDGES: FloatArray = np.linspace(-8, 8, 33)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Differences of n pairs of exposures by one estimator.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Objects.
    band : str array, shape (n,)
        Bands.
    ref_mag : float array, shape (n,)
        Catalogue magnitudes.
    difference : float array, shape (n,)
        D = (f1 - f2) / sqrt(s1² + s2²), eq. 19 of the paper.
    x, y : float array, shape (2, n)
        Places of both on their CCDs, pixels.
    """

    object_id: IntArray
    band: AnyArray
    ref_mag: FloatArray
    difference: FloatArray
    x: FloatArray
    y: FloatArray


def read_pairs(run: MeasuredRun, names: Sequence[str]) -> dict[str, Pairs]:
    """Read all pairs of exposures of one object in one band, zero points taken out.

    Parameters
    ----------
    run : MeasuredRun
        A run.
    names : sequence of str
        Estimators.

    Returns
    -------
    dict of Pairs
        By estimator; those without a pair are left out. Exposures that the catalogue was made from take no part: a
        faint object is in the catalogue where noise made it bright there.
    """
    shards = {band: paths for band, paths in shards_by_band(run.path).items() if len(paths) > 1}
    if not shards:
        return {}
    known, magnitudes = run.read_magnitudes()
    found = {}
    for name in names:
        try:
            calibration = calibrate_run([run.path], CalibrateSettings(estimator=name))
        except LumosDataError:
            continue
        parts = []
        for band in sorted(shards):
            rows = read_measurements(shards[band], name, calibration)
            first, second = all_pairs(rows.object_index)
            objects = rows.object_id[first]
            gap = (rows.flux[first] - rows.flux[second]) / np.hypot(rows.flux_err[first], rows.flux_err[second])
            at = np.searchsorted(known, objects).clip(max=len(known) - 1)
            mags = np.where(known[at] == objects, magnitudes[at], np.nan)
            places = (np.array([one[first], one[second]], dtype=np.float64) for one in (rows.x, rows.y))
            parts.append(Pairs(objects, np.full(len(first), band), mags, gap, *places))
        columns = (np.concatenate([getattr(part, one) for part in parts], axis=-1) for one in vars(parts[0]))
        pairs = Pairs(*columns)
        if len(pairs.difference):
            found[name] = pairs
    return found


def repeat_metric(pairs: Pairs, rng: np.random.Generator) -> Metric:
    """Judge whether exposures of one object agree within their errors.

    Parameters
    ----------
    pairs : Pairs
        Of one estimator.
    rng : numpy.random.Generator
        For the error.

    Returns
    -------
    Metric
        Width of D.
    """
    text = "Exposures of one object agree within their errors: width of their differences over the errors"
    n = len(pairs.difference)
    if n < FEWEST:
        return Metric("repeats", text, float("nan"), float("nan"), 0.9, 1.1, n)
    one = differences([(pairs.difference, pairs.object_id)], rng)
    return Metric("repeats", text, float(one.sigma68[0]), float(one.sigma68_err[0]), 0.9, 1.1, n)


def repeat_table(pairs: dict[str, Pairs], rng: np.random.Generator) -> str:
    """Return the figures of all pairs of each estimator.

    Parameters
    ----------
    pairs : dict of Pairs
        By estimator.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    str
        Lines of text.
    """
    wide = max([14, *(len(name) + 1 for name in pairs)])
    lines = [
        f"{'estimator':<{wide}}{'pairs':>9}{'objects':>9}{'median D':>10}{'width':>16}{'s95':>7}{'>3':>8}{'>5':>8}"
    ]
    for name, one in pairs.items():
        row = {key: value[0] for key, value in vars(differences([(one.difference, one.object_id)], rng)).items()}
        start = f"{name:<{wide}}{row['n_pairs']:>9}{row['n_objects']:>9}"
        if row["n_pairs"] < FEWEST:
            lines.append(f"{start}  too few")
            continue
        width = f"{row['sigma68']:.3f} ± {row['sigma68_err']:.3f}"
        lines.append(
            f"{start}{row['median']:>+10.3f}{width:>16}{row['sigma95']:>7.2f}"
            f"{row['beyond_3']:>8.2%}{row['beyond_5']:>8.2%}"
        )
    lines.append(f"{'a Gaussian':<{wide}}{'':>9}{'':>9}{0:>+10.3f}{'1.000':>16}{1.96:>7.2f}{0.0027:>8.2%}{6e-7:>8.2%}")
    return "\n".join(lines)


def repeat_charts(pairs: dict[str, Pairs], bands: Sequence[str], rng: np.random.Generator) -> list[Chart | MapChart]:
    """Draw width and tails of D by magnitude and band, its distribution, and its width on the CCD.

    Parameters
    ----------
    pairs : dict of Pairs
        By estimator, the one that is judged first.
    bands : sequence of str
        Bands in their order.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Chart and MapChart
        Those that the pairs fill.
    """
    first = next(iter(pairs.values()))
    charts: list[Chart | MapChart] = []
    text = "Two exposures of one galaxy: D is the difference of their fluxes over its error (eq. 19, Fig. 12 of the "
    text += "paper). Above, the width of D: 1 where errors are true. Below, the share of pairs that differ by more "
    text += "than 3 errors: 0.27 % (line) for a Gaussian. What all exposures share, such as a wrong shape, does not "
    text += "show. Pairs with the exposure that the catalogue was made from are left out."
    used = [band for band in bands if (first.band == band).sum() >= FEWEST]
    by_band = {name: [np.flatnonzero(one.band == band) for band in used] for name, one in pairs.items()}
    by_mag = {name: equal_bins(one.ref_mag, np.isfinite(one.difference)) for name, one in pairs.items()}
    places = {name: [float(np.median(pairs[name].ref_mag[part])) for part in by_mag[name]] for name in pairs}
    if any(len(parts) > 1 for parts in by_mag.values()):
        label = "catalogue magnitude"
        panels = _width_and_tails(pairs, by_mag, places, rng)
        charts.append(Chart("repeats_magnitude", "Repeats by magnitude", text, label, panels))
    if len(used) > 1:
        numbers = {name: list(map(float, range(len(used)))) for name in pairs}
        panels = _width_and_tails(pairs, by_band, numbers, rng)
        charts.append(Chart("repeats_band", "Repeats by band", text, "band", panels, ticks=tuple(used)))
    charts += _distribution(pairs)
    text = "Width of D by the places of both exposures on the CCD: 1 where errors are true. Where it is above 1 "
    text += "(red), repeats scatter more than their errors say. "
    name, where = next(iter(pairs)), (first.x.ravel(), first.y.ravel())
    values, title = {name: np.concatenate([first.difference] * 2)}, f"Repeats of {name} on the CCD"
    return charts + ccd_map(MapChart("repeats_map", title, text, "width of D", 1.0), where, values, sigma68)


def _width_and_tails(
    pairs: dict[str, Pairs],
    groups: dict[str, list[IntArray]],
    places: dict[str, list[float]],
    rng: np.random.Generator,
) -> tuple[Panel, Panel]:
    width, tails = [], []
    for name, one in pairs.items():
        kept = [number for number, part in enumerate(groups[name]) if len(part) >= FEWEST]
        if not kept:
            continue
        parts = [groups[name][number] for number in kept]
        figures: Differences = differences([(one.difference[part], one.object_id[part]) for part in parts], rng)
        x = tuple(places[name][number] for number in kept)
        width.append(Series(name, x, tuple(figures.sigma68.tolist()), tuple(figures.sigma68_err.tolist())))
        tails.append(Series(name, x, tuple((100 * figures.beyond_3).tolist())))
    return Panel("width of D", tuple(width), (1.0,)), Panel("beyond 3 errors (%)", tuple(tails), (0.27,))


def _distribution(pairs: dict[str, Pairs]) -> list[Chart]:
    middles, cell = (_EDGES[1:] + _EDGES[:-1]) / 2, np.diff(_EDGES)
    series = []
    for name, one in pairs.items():
        n = len(one.difference)
        if n < FEWEST:
            continue
        density = np.histogram(one.difference.clip(_EDGES[0] + 1e-6, _EDGES[-1] - 1e-6), _EDGES)[0] / n / cell
        # None where there is no pair: a logarithm has no 0.
        series.append(Series(name, tuple(middles.tolist()), tuple(np.where(density > 0, density, np.nan).tolist())))
    if not series:
        return []
    gauss = np.diff(ndtr(_EDGES)) / cell
    least = min(np.nanmin(one.y) for one in series)
    shown = np.where(gauss > least / 3, gauss, np.nan)
    series.append(Series("Gaussian", tuple(middles.tolist()), tuple(shown.tolist()), plain=True))
    text = "How often two exposures differ by so many errors (Fig. 13 of the paper), on a logarithmic scale. Tails "
    text += "above the grey Gaussian are fluxes that something spoilt in one exposure, as a cosmic ray. The "
    text += "outermost cells hold all beyond."
    panel = Panel("density of pairs", tuple(series), scale="log")
    return [Chart("repeats_distribution", "Distribution of D", text, "D, errors", (panel,), steps=True)]


def comparison_charts(run: MeasuredRun, names: Sequence[str], bands: Sequence[str]) -> list[Chart]:
    """Draw ratios of fluxes and errors by magnitude, and signal-to-noise ratios by band.

    Parameters
    ----------
    run : MeasuredRun
        A run.
    names : sequence of str
        Estimators: the first over each of the others.
    bands : sequence of str
        Bands in their order.

    Returns
    -------
    list of Chart
        Empty where there is one estimator only.
    """
    found: dict[str, Comparison] = {}
    for name in names[1:]:
        try:
            found[name] = compare_estimators(run.path, names[0], name)
        except LumosDataError:
            continue
    if not found:
        return []
    flux, error = [], []
    for name, one in found.items():
        kept = np.flatnonzero(one.by_magnitude.n >= FEWEST)
        centres = tuple(((one.edges[1:] + one.edges[:-1]) / 2)[kept].tolist())
        if len(kept):
            number = names.index(name)
            ratio = tuple(one.by_magnitude.flux_of_medians[kept].tolist())
            flux.append(Series(name, centres, ratio, number=number))
            ratio = tuple(one.by_magnitude.error[kept, 1].tolist())
            error.append(Series(name, centres, ratio, number=number))
    charts = []
    if flux:
        text = f"{names[0]} over each other estimator (Fig. 10 of the paper). Above, ratio of the median fluxes: 1 "
        text += "where they agree. Below, median ratio of the errors: below 1 those of "
        text += f"{names[0]} are smaller. A smaller error is a gain only where the width of D is 1."
        panels = Panel("flux ratio", tuple(flux), (1.0,)), Panel("error ratio", tuple(error), (1.0,))
        charts.append(Chart("ratios", f"{names[0]} over the others", text, "catalogue magnitude", panels))
    return [*charts, *_signal_chart(names[0], found, bands)]


def _signal_chart(first: str, found: dict[str, Comparison], bands: Sequence[str]) -> list[Chart]:
    whole = next(iter(found.values()))
    used = [band for band in bands if band in whole.bands and whole.n[whole.bands.index(band)] >= FEWEST]
    if not used:
        return []
    x = tuple(map(float, range(len(used))))
    series = [Series(first, x, tuple(float(whole.snr_first[whole.bands.index(band), 1]) for band in used))]
    for name, one in found.items():
        values = [float(one.snr_second[one.bands.index(band), 1]) if band in one.bands else np.nan for band in used]
        series.append(Series(name, x, tuple(values)))
    text = "Median of flux / error of all galaxies in a band (Fig. 14 of the paper). It is what estimators claim, "
    text += "and true only where their errors are."
    panel = Panel("median signal-to-noise ratio", tuple(series))
    return [Chart("signal_band", "Signal-to-noise ratio by band", text, "band", (panel,), ticks=tuple(used))]
