"""Figures of measurements: bias and scatter, repeats."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lumos.validate.accuracy import Accuracy
from lumos.validate.twins import Twins, central_rows

__all__ = ["draw_accuracy", "draw_twins", "plot_accuracy", "plot_pulls"]


def draw_accuracy(path: Path, results: Mapping[str, Accuracy]) -> None:
    """Draw bias, scatter and pulls side by side.

    Parameters
    ----------
    path : Path
        PNG file to write.
    results : mapping
        Accuracy by estimator.
    """
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    bias, scatter, pulls = figure.subplots(1, 3)
    plot_accuracy(results, bias, scatter)
    plot_pulls(results, pulls)
    figure.savefig(path, dpi=110)


def draw_twins(path: Path, twins: Mapping[str, Twins], n_pairs: int = 4) -> None:
    """Draw the central rows of real galaxies and their twins (the paper's Fig. 3).

    Parameters
    ----------
    path : Path
        PNG file to write.
    twins : mapping
        Pairs by the name of their images.
    n_pairs : int, optional
        Pairs of each that are drawn, evenly spaced in brightness.
    """
    figure = Figure(figsize=(3.4 * n_pairs, 2.6 * len(twins)), layout="constrained")
    grid = figure.subplots(len(twins), n_pairs, squeeze=False, sharex=True)
    for line, (name, pairs) in zip(grid, twins.items(), strict=True):
        real, twin = central_rows(pairs)
        order = np.argsort(-real[:, real.shape[1] // 2])
        chosen = order[np.linspace(0, len(order) - 1, n_pairs + 1).astype(int)[:-1]]
        for axes, number in zip(line, chosen, strict=True):
            axes.plot(real[number], drawstyle="steps-mid", lw=1.2, color="black", label="real")
            axes.plot(twin[number], drawstyle="steps-mid", lw=1.2, color="tab:red", label="twin")
            # Hot pixels and neighbours must not set the scale.
            middle = slice(real.shape[1] // 2 - 3, real.shape[1] // 2 + 4)
            peak = max(real[number, middle].max(), twin[number, middle].max())
            axes.set(xlabel="x (px)", ylim=(-0.15 * peak - 3, 1.2 * peak + 1))
        line[0].set(ylabel="row / sky scatter", title=name)
        line[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


def plot_accuracy(results: Mapping[str, Accuracy], bias_axes: Axes, scatter_axes: Axes) -> None:
    """Draw median and scatter of (f - f0) / f0 against magnitude.

    Parameters
    ----------
    results : mapping
        Accuracy by estimator.
    bias_axes, scatter_axes : matplotlib Axes
        Where the median and sigma68 go.
    """
    for shift, (name, result) in zip(_shifts(len(results)), results.items(), strict=True):
        relative = result.relative
        bias_axes.errorbar(
            relative.centres + shift, relative.median, relative.median_err, fmt="o-", ms=4, lw=1, capsize=2, label=name
        )
        scatter_axes.plot(relative.centres, relative.sigma68, "o-", ms=4, lw=1, label=name)
    bias_axes.axhline(0, color="0.5", lw=0.8)
    bias_axes.set(xlabel="true AB magnitude", ylabel="median of (f − f₀) / f₀")
    scatter_axes.set(xlabel="true AB magnitude", ylabel="σ68 of (f − f₀) / f₀", yscale="log")
    bias_axes.legend(frameon=False, fontsize="small")


def plot_pulls(results: Mapping[str, Accuracy], axes: Axes) -> Axes:
    """Draw the scatter of the pulls against magnitude.

    Parameters
    ----------
    results : mapping
        Accuracy by estimator.
    axes : matplotlib Axes
        Where to draw.

    Returns
    -------
    matplotlib Axes
        The same axes.
    """
    for shift, (name, result) in zip(_shifts(len(results)), results.items(), strict=True):
        error = result.pull.sigma68 / np.sqrt(np.maximum(result.pull.n, 1))
        axes.errorbar(
            result.pull.centres + shift, result.pull.sigma68, error, fmt="o-", ms=4, lw=1, capsize=2, label=name
        )
    axes.axhline(1, color="0.5", lw=0.8)
    axes.set(xlabel="true AB magnitude", ylabel="σ68 of (f − f₀) / σ", ylim=(0, None))
    return axes


def _shifts(n: int) -> list[float]:
    """Return small shifts along the axis, so that error bars do not hide each other."""
    return [0.04 * (number - (n - 1) / 2) for number in range(n)]
