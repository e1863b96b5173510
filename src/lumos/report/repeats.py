"""Figures of repeats: scatter and tails of the differences between exposures; two estimators side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtr

from lumos.conventions import FloatArray
from lumos.validate.comparison import Comparison, Ratios
from lumos.validate.repeats import HISTOGRAM_EDGES, Repeats
from lumos.validate.repeats_table import mean_over_bands

__all__ = ["draw_comparison", "draw_repeats", "plot_differences", "plot_scatter"]


def draw_repeats(path: Path, results: Sequence[Repeats]) -> None:
    """Draw scatter and distribution of the differences between exposures (the paper's Fig. 12 and 13).

    Parameters
    ----------
    path : Path
        PNG file to write.
    results : sequence of Repeats
        Of one or more estimators and bands, in the same bins.
    """
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    scatter, bands, distribution = figure.subplots(1, 3)
    plot_scatter(results, scatter)
    _plot_bands(results, bands)
    plot_differences(results, distribution)
    figure.savefig(path, dpi=110)


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Draw ratios of fluxes and errors against magnitude, and signal-to-noise ratios by band (Fig. 10 and 14).

    Parameters
    ----------
    path : Path
        PNG file to write.
    comparison : Comparison
        Ratios of two estimators of one run.
    """
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    flux, error, snr = figure.subplots(1, 3)
    names = f"{comparison.first} / {comparison.second}"
    ratios = comparison.by_magnitude
    _plot_ratio(flux, comparison.edges, ratios.flux, ratios)
    centres = (comparison.edges[1:] + comparison.edges[:-1]) / 2
    flux.plot(centres, ratios.flux_of_medians, "x", color="tab:orange", label="of median fluxes")
    flux.legend(frameon=False, fontsize="small", loc="upper left")
    flux.set(ylabel=f"flux, {names}")
    _plot_ratio(error, comparison.edges, ratios.error, ratios)
    error.set(ylabel=f"error, {names}", ylim=(0, None))
    error.set_title(f"lower for {comparison.overall.lower_error[0]:.0%}", fontsize="medium")
    _plot_snr(comparison, snr)
    figure.savefig(path, dpi=110)


def plot_scatter(results: Sequence[Repeats], axes: Axes) -> Axes:
    """Draw sigma68 of D against magnitude, averaged over bands.

    Parameters
    ----------
    results : sequence of Repeats
        Of one or more estimators and bands, in the same bins.
    axes : matplotlib Axes
        Where to draw.

    Returns
    -------
    matplotlib Axes
        The same axes.
    """
    names = _estimators(results)
    for shift, name in zip(_shifts(len(names)), names, strict=True):
        own = [result for result in results if result.estimator == name]
        spread, error = mean_over_bands(own)
        centres = (own[0].edges[1:] + own[0].edges[:-1]) / 2
        axes.errorbar(centres + shift, spread, error, fmt="o-", ms=4, lw=1, capsize=2, label=name)
    axes.axhline(1, color="0.5", lw=0.8)
    axes.set(xlabel="AB magnitude of the mean flux", ylabel="σ68 of D, mean of the bands", ylim=(0, None))
    axes.legend(frameon=False, fontsize="small")
    return axes


def plot_differences(results: Sequence[Repeats], axes: Axes) -> Axes:
    """Draw the distribution of D with a unit Gaussian, tails on a logarithmic scale.

    Parameters
    ----------
    results : sequence of Repeats
        Of one or more estimators and bands; the pairs of all bands are counted together.
    axes : matplotlib Axes
        Where to draw.

    Returns
    -------
    matplotlib Axes
        The same axes.
    """
    width = np.diff(HISTOGRAM_EDGES)
    least = np.inf
    for name in _estimators(results):
        counts = np.sum([result.histogram for result in results if result.estimator == name], axis=0)
        # The outermost cells hold all that lies beyond them.
        axes.stairs(counts / counts.sum() / width, HISTOGRAM_EDGES, lw=1.2, label=name)
        least = min(least, 1 / counts.sum() / width[0])
    gaussian = np.diff(ndtr(HISTOGRAM_EDGES)) / width
    axes.stairs(gaussian, HISTOGRAM_EDGES, color="0.5", lw=0.8, ls="--", label="Gaussian")
    axes.set(xlabel="D = (f₁ − f₂) / √(σ₁² + σ₂²)", ylabel="density of pairs", yscale="log", ylim=(least / 2, 1))
    axes.legend(frameon=False, fontsize="small")
    return axes


def _plot_bands(results: Sequence[Repeats], axes: Axes) -> None:
    """Draw sigma68 of all pairs of each band."""
    bands = sorted({result.band for result in results})
    names = _estimators(results)
    for shift, name in zip(_shifts(len(names), 0.12), names, strict=True):
        own = [result for result in results if result.estimator == name]
        places = np.array([bands.index(result.band) for result in own])
        spread, error = (
            np.array([getattr(result.overall, part)[0] for result in own]) for part in ("sigma68", "sigma68_err")
        )
        axes.errorbar(places + shift, spread, error, fmt="o", ms=4, lw=1, capsize=2, label=name)
    axes.axhline(1, color="0.5", lw=0.8)
    axes.margins(y=0.2)
    axes.set(ylabel="σ68 of D, all magnitudes", ylim=(0, None))
    _name_bands(axes, bands)


def _plot_ratio(axes: Axes, edges: FloatArray, quantiles: FloatArray, ratios: Ratios) -> None:
    """Draw medians of a ratio with the 16-84 % range, and bins as horizontal bars."""
    filled = ratios.n > 0
    low, middle, high = quantiles[filled].T
    centres = ((edges[1:] + edges[:-1]) / 2)[filled]
    axes.fill_between(centres, low, high, color="tab:blue", alpha=0.2, lw=0, label="16–84 %")
    axes.errorbar(centres, middle, xerr=np.diff(edges)[filled] / 2, fmt="o", ms=4, lw=1, label="median")
    axes.axhline(1, color="0.5", lw=0.8)
    axes.set(xlabel="magnitude of the catalogue")
    axes.legend(frameon=False, fontsize="small", loc="lower left")


def _plot_snr(comparison: Comparison, axes: Axes) -> None:
    """Draw median signal-to-noise ratios by band with the 16-84 % range."""
    places = np.arange(len(comparison.bands))
    pairs = ((comparison.first, comparison.snr_first), (comparison.second, comparison.snr_second))
    for shift, (name, quantiles) in zip(_shifts(2, 0.16), pairs, strict=True):
        low, middle, high = quantiles.T
        axes.errorbar(places + shift, middle, [middle - low, high - middle], fmt="o", ms=4, lw=1, capsize=2, label=name)
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set(ylabel="signal-to-noise ratio, median and 16–84 %")
    axes.set_title("×: ratio of the medians", fontsize="medium")
    for place, gain, top in zip(
        places,
        comparison.gain_of_medians,
        np.fmax(comparison.snr_first[:, 2], comparison.snr_second[:, 2]),
        strict=True,
    ):
        if np.isfinite(gain) and len(places) <= 12:
            axes.annotate(f"×{gain:.2f}", (place, top), (0, 5), textcoords="offset points", ha="center")
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    _name_bands(axes, comparison.bands)


def _name_bands(axes: Axes, bands: Sequence[str]) -> None:
    """Write the names of bands below the axis, upright where they are many."""
    many = len(bands) > 8
    axes.set_xticks(range(len(bands)), bands, rotation=90 if many else 0, fontsize="x-small" if many else "medium")
    axes.set_xlim(-0.6, len(bands) - 0.4)


def _estimators(results: Sequence[Repeats]) -> list[str]:
    return list(dict.fromkeys(result.estimator for result in results))


def _shifts(n: int, step: float = 0.04) -> list[float]:
    """Return small shifts along the axis, so that error bars do not hide each other."""
    return [step * (number - (n - 1) / 2) for number in range(n)]
