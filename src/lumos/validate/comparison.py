"""Two estimators on the same exposures: ratios of fluxes and errors, signal-to-noise ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.flags import UNUSABLE
from lumos.photometry.measured import open_run
from lumos.runs.shards import read_shard
from lumos.statistics import SUMMARY_LEVELS
from lumos.validate.repeats import check_edges
from lumos.validate.shards import run_estimators, shards_by_band

__all__ = ["Comparison", "Ratios", "compare_estimators", "format_comparison"]


@dataclass(frozen=True, eq=False)
class Ratios:
    """Ratios of two estimators, first over second, in k groups of measurements.

    Parameters
    ----------
    n : int array, shape (k,)
        Measurements in each group.
    flux, error : float array, shape (k, 3)
        16, 50 and 84 % quantiles of the ratios of fluxes and of errors; NaN in empty groups.
    flux_of_medians : float array, shape (k,)
        Ratio of the median fluxes. Where noise makes fluxes negative the median of the ratios is low, this is not.
    lower_error : float array, shape (k,)
        Share of measurements for which the first has the lower error.
    """

    n: IntArray
    flux: FloatArray
    error: FloatArray
    flux_of_medians: FloatArray
    lower_error: FloatArray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two estimators of one run (paper, Fig. 10 and 14); measurements usable in both only.

    Parameters
    ----------
    first, second : str
        Names of the estimators.
    edges : float array, shape (n_bins + 1,)
        Bins of the catalogue's magnitude, which has no part in the noise of the fluxes.
    by_magnitude, overall : Ratios
        One entry per bin, and one of all measurements with a flux, whatever their magnitude.
    bands : tuple of str, length n_bands
        Names of the bands that have measurements.
    n : int array, shape (n_bands,)
        Measurements of each band.
    snr_first, snr_second : float array, shape (n_bands, 3)
        16, 50 and 84 % quantiles of flux over error.
    gain_of_medians, median_gain : float array, shape (n_bands,)
        Ratio of the median signal-to-noise ratios, first over second, and median of the ratios of each measurement,
        which is low where noise makes fluxes negative.
    n_flagged, n_only_first, n_only_second, n_neither : int
        Measurements left out: for a flag, or because only one of the estimators, or neither, has a flux and an error.
    n_negative : int
        Measurements used of which a flux is not above 0: leaving them out would select by noise.
    """

    first: str
    second: str
    edges: FloatArray
    by_magnitude: Ratios
    overall: Ratios
    bands: tuple[str, ...]
    n: IntArray
    snr_first: FloatArray
    snr_second: FloatArray
    gain_of_medians: FloatArray
    median_gain: FloatArray
    n_flagged: int
    n_only_first: int
    n_only_second: int
    n_neither: int
    n_negative: int


def compare_estimators(
    run: Path,
    first: str,
    second: str,
    *,
    edges: FloatArray | None = None,
    n_bins: int = 8,
    catalog: Path | None = None,
) -> Comparison:
    """Compare the fluxes and errors of two estimators of a run.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    first, second : str
        Estimators; ratios are first over second.
    edges : float array, shape (n_bins + 1,), optional
        Bins of the catalogue's magnitude; equally populated by default.
    n_bins : int, optional
        Number of those bins; fewer where many magnitudes are equal.
    catalog : Path, optional
        Parent catalogue, where it is no longer where the run found it.

    Returns
    -------
    Comparison
        Zero points drop out of every ratio.

    Raises
    ------
    LumosValueError
        If the run lacks an estimator, both are the same, or the bins are none.
    LumosDataError
        If the catalogue is missing, is another one, has no magnitudes or lacks an object of the run, or if no
        measurement is usable in both.

    Notes
    -----
    A gain in signal-to-noise ratio is that of the errors the estimators *claim*. It is a gain in truth only where the
    scatter of D = (f1 - f2) / sqrt(s1^2 + s2^2) stays 1, see :func:`lumos.validate.repeats.run_repeats`; nor do
    repeats show what all exposures share, as the light of a neighbour.
    """
    shards = shards_by_band(run)
    known = run_estimators(shards)
    for name in (first, second):
        if name not in known:
            raise LumosValueError(f"{run}: estimator", name, ", ".join(known))
    if first == second:
        raise LumosValueError("second estimator", second, f"another than {first!r}")
    if edges is None and n_bins < 1:
        raise LumosValueError("number of bins", n_bins, "at least 1")
    magnitudes = open_run(run).read_magnitudes(catalog)
    bands = sorted(shards)
    parts = [_band(shards[band], (first, second), magnitudes) for band in bands]
    magnitude, flux_first, flux_second, error_ratio = (
        np.concatenate([part[name] for part in parts]) for name in ("magnitude", "flux_first", "flux_second", "error")
    )
    if not len(magnitude):
        raise LumosDataError(f"{run}: no measurement is usable in both {first!r} and {second!r}")
    edges = _equally_populated(magnitude, n_bins) if edges is None else check_edges(edges)
    which = np.digitize(magnitude, edges) - 1
    groups = [np.flatnonzero(which == number) for number in range(len(edges) - 1)]
    snr_first, snr_second = (np.array([part[name] for part in parts]) for name in ("snr_first", "snr_second"))
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = snr_first[:, 1] / snr_second[:, 1]
    counts = ("n_flagged", "n_only_first", "n_only_second", "n_neither", "n_negative")
    return Comparison(
        first=first,
        second=second,
        edges=edges,
        by_magnitude=_ratios([(flux_first[group], flux_second[group], error_ratio[group]) for group in groups]),
        overall=_ratios([(flux_first, flux_second, error_ratio)]),
        bands=tuple(bands),
        n=np.array([len(part["error"]) for part in parts]),
        snr_first=snr_first,
        snr_second=snr_second,
        gain_of_medians=gain,
        median_gain=np.array([part["gain"] for part in parts]),
        **{name: sum(part[name] for part in parts) for name in counts},
    )


def _band(paths: Sequence[Path], names: tuple[str, str], magnitudes: tuple[IntArray, FloatArray]) -> dict[str, Any]:
    """Return ratios of the measurements of one band, and its figures."""
    columns = ["object_id", "flags", *(f"{name}_{part}" for name in names for part in ("flux", "flux_err"))]
    tables = [read_shard(path, columns) for path in paths]
    object_id, flags, *values = (
        np.concatenate([table[name].to_numpy(zero_copy_only=False) for table in tables]) for name in columns
    )
    flux_1, error_1, flux_2, error_2 = (column.astype(np.float64) for column in values)
    clean = (flags & int(UNUSABLE)) == 0
    has_1 = np.isfinite(flux_1) & np.isfinite(error_1) & (error_1 > 0)
    has_2 = np.isfinite(flux_2) & np.isfinite(error_2) & (error_2 > 0)
    both = clean & has_1 & has_2
    flux_1, error_1, flux_2, error_2 = (column[both] for column in (flux_1, error_1, flux_2, error_2))
    snr_1, snr_2 = flux_1 / error_1, flux_2 / error_2
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = snr_1 / snr_2
    return {
        "magnitude": _look_up(object_id[both], magnitudes),
        "flux_first": flux_1,
        "flux_second": flux_2,
        "error": error_1 / error_2,
        "snr_first": _quantiles(snr_1),
        "snr_second": _quantiles(snr_2),
        "gain": _quantiles(gain)[1],
        "n_flagged": int((~clean).sum()),
        "n_only_first": int((clean & has_1 & ~has_2).sum()),
        "n_only_second": int((clean & ~has_1 & has_2).sum()),
        "n_neither": int((clean & ~has_1 & ~has_2).sum()),
        "n_negative": int(((flux_1 <= 0) | (flux_2 <= 0)).sum()),
    }


def _look_up(object_id: IntArray, magnitudes: tuple[IntArray, FloatArray]) -> FloatArray:
    known, values = magnitudes
    place = np.minimum(np.searchsorted(known, object_id), len(known) - 1)
    lost = np.flatnonzero(known[place] != object_id)
    if len(lost):
        raise LumosDataError(f"parent catalogue: lacks object_id {object_id[lost[0]]}, which was measured")
    return values[place]


def _equally_populated(magnitude: FloatArray, n_bins: int) -> FloatArray:
    """Return edges of bins that hold equal numbers; the last bin holds the faintest."""
    magnitude = magnitude[np.isfinite(magnitude)]
    if not len(magnitude):
        raise LumosDataError("parent catalogue: no object has a magnitude to bin by")
    edges = np.quantile(magnitude, np.linspace(0, 1, n_bins + 1))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return np.unique(edges)


def _ratios(groups: Sequence[tuple[FloatArray, FloatArray, FloatArray]]) -> Ratios:
    """Return the figures of groups of first flux, second flux, and ratio of errors."""
    medians = np.array([[_quantiles(first)[1], _quantiles(second)[1]] for first, second, _ in groups])
    with np.errstate(invalid="ignore", divide="ignore"):
        return Ratios(
            n=np.array([len(error) for *_, error in groups]),
            flux=np.array([_quantiles(first / second) for first, second, _ in groups]),
            error=np.array([_quantiles(error) for *_, error in groups]),
            flux_of_medians=medians[:, 0] / medians[:, 1],
            lower_error=np.array([np.mean(error < 1) if len(error) else np.nan for *_, error in groups]),
        )


def _quantiles(values: FloatArray) -> FloatArray:
    """Return the 16, 50 and 84 % quantiles; 0 / 0, where there is no ratio, does not count."""
    values = values[~np.isnan(values)]
    return np.quantile(values, SUMMARY_LEVELS) if len(values) else np.full(3, np.nan)


def format_comparison(comparison: Comparison) -> str:
    """Return the figures as a text table.

    Parameters
    ----------
    comparison : Comparison
        As :func:`compare_estimators` returns it.

    Returns
    -------
    str
        One line per bin of magnitude, one for all measurements, one per band, and the measurements left out.
    """
    c = comparison
    ratios = c.by_magnitude
    lines = [
        f"{c.first} / {c.second}: medians, in brackets 16 and 84 % quantiles",
        f"{'magnitude':>12}{'n':>8}{'flux ratio':>24}{'of medians':>12}{'error ratio':>24}{'lower error':>13}",
    ]
    names = [f"{low:.2f}-{high:.2f}" for low, high in zip(c.edges[:-1], c.edges[1:], strict=True)]
    for name, group, number in [*((name, ratios, k) for k, name in enumerate(names)), ("all", c.overall, 0)]:
        flux, error = _text(group.flux[number]), _text(group.error[number])
        of_medians, share = group.flux_of_medians[number], group.lower_error[number]
        lines.append(f"{name:>12}{group.n[number]:>8}{flux:>24}{of_medians:>12.3f}{error:>24}{share:>13.1%}")
    lines.append(
        f"{'band':>12}{'n':>8}{f'SNR {c.first}':>24}{f'SNR {c.second}':>24}{'gain of medians':>17}{'median gain':>13}"
    )
    for k, band in enumerate(c.bands):
        first, second = _text(c.snr_first[k]), _text(c.snr_second[k])
        lines.append(
            f"{band:>12}{c.n[k]:>8}{first:>24}{second:>24}{c.gain_of_medians[k]:>17.3f}{c.median_gain[k]:>13.3f}"
        )
    lines.append(
        f"left out: {c.n_flagged} flagged, {c.n_only_first} by {c.first} only, {c.n_only_second} by {c.second} only, "
        f"{c.n_neither} by neither; {c.n_negative} used have a flux <= 0"
    )
    return "\n".join(lines)


def _text(quantiles: FloatArray) -> str:
    low, middle, high = quantiles
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"
