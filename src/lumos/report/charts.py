"""Charts as pictures that a page of any colour can hold."""

from io import StringIO

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lumos.validate.evidence.chart import Chart, MapChart, Panel

__all__ = ["INK", "chart_svg"]

#: Colour of text and axes, which the page replaces by its own.
INK = "#010203"
#: Colours that colour-blind readers can tell apart (Okabe and Ito), readable on white and on black, and their marks.
_COLOURS = ("#2B86C5", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
_MARKS = "osD^vPX"
_DASHES = ("-", "--", "-.", ":")
#: Heights of a figure with one, two, three panels, inches; its width.
_HEIGHTS, _WIDTH = (3.5, 5.0, 6.2), 5.6
#: Maps side by side, and the colour of cells with too few rows.
_MAPS, _EMPTY = 3, "#9a9a9a"
#: Colours of a map: few enough to be told apart on its scale.
_LEVELS = 15
#: A line of more points is a curve: marks would hide it.
_MANY_POINTS = 60
#: Names on an axis that stand upright.
_UPRIGHT = 9
_SYMLOG = 10.0


def chart_svg(chart: Chart | MapChart) -> str:
    """Draw a chart.

    Parameters
    ----------
    chart : Chart or MapChart
        Numbers.

    Returns
    -------
    str
        An ``svg`` element without scripts or outside references; text stays text.
    """
    figure = _draw_maps(chart) if isinstance(chart, MapChart) else _draw_chart(chart)
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.key, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :].replace(INK, "currentColor")


def _draw_chart(chart: Chart) -> Figure:
    n = len(chart.panels)
    figure = Figure(figsize=(_WIDTH, _HEIGHTS[n - 1]), layout="constrained")
    rows = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    before: list[str] = []
    for axes, panel in zip(rows, chart.panels, strict=True):
        _draw_panel(axes, panel, steps=chart.steps)
        names = [_plain(series.name) for series in panel.series]
        if len(names) > 1 and names != before:
            _add_legend(axes, panel)
        before = names
    last = rows[-1]
    if chart.log_x:
        last.set_xscale("log")
        last.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        last.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        last.xaxis.set_minor_formatter(NullFormatter())
    if chart.ticks:
        many = len(chart.ticks) > _UPRIGHT or sum(map(len, chart.ticks)) > 60
        names = [_plain(name) for name in chart.ticks]
        last.set_xticks(range(len(names)), names, rotation=90 if many else 0, fontsize=7 if many else 9)
        last.set_xlim(-0.5, len(names) - 0.5)
    last.set_xlabel(_plain(chart.x_label), color=INK)
    return figure


def _draw_panel(axes: Axes, panel: Panel, *, steps: bool) -> None:
    number = 0
    for series in panel.series:
        label = _plain(series.name)
        if series.plain:
            line = axes.plot(series.x, series.y, color=INK, alpha=0.6, linestyle=":", linewidth=1.4, label=label)[0]
            line.set_drawstyle("steps-mid" if steps else "default")
            continue
        number = number if series.number < 0 else series.number
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        number += 1
        if series.dots:
            axes.plot(series.x, series.y, ".", color=colour, label=label, markersize=2.5, alpha=0.7)
        elif steps or len(series.x) > _MANY_POINTS:
            # Dashes tell lines apart where colours do not.
            dashes = _DASHES[(number - 1) % len(_DASHES)]
            line = axes.plot(series.x, series.y, color=colour, label=label, linewidth=1.6, linestyle=dashes)[0]
            line.set_drawstyle("steps-mid" if steps else "default")
        else:
            axes.errorbar(
                series.x, series.y, series.error or None, color=colour, marker=mark, markersize=4.5, label=label,
                linewidth=1.2, capsize=2,
            )  # fmt: skip
    for guide in panel.guides:
        axes.axhline(guide, color=INK, linewidth=0.8, linestyle="--")
    if panel.scale == "symlog":
        axes.set_yscale("symlog", linthresh=_SYMLOG, linscale=1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif panel.scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(_plain(panel.label), color=INK)
    _ink(axes)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)


def _add_legend(axes: Axes, panel: Panel) -> None:
    """Put the names above the axes, what is only compared with last."""
    handles, names = axes.get_legend_handles_labels()
    by_name = dict(zip(names, handles, strict=True))
    order = [_plain(series.name) for series in sorted(panel.series, key=lambda one: one.plain)]
    axes.legend(
        [by_name[name] for name in order], order, frameon=False, labelcolor=INK, fontsize=8, loc="lower left",
        bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1, columnspacing=1.2, handlelength=1.8,
    )  # fmt: skip


def _draw_maps(chart: MapChart) -> Figure:
    columns = min(_MAPS, len(chart.maps))
    rows = -(-len(chart.maps) // columns)
    # Pixels are square; a wide or tall CCD keeps its shape as far as a page allows.
    tall = (chart.y_edges[-1] - chart.y_edges[0]) / (chart.x_edges[-1] - chart.x_edges[0])
    height = float(np.clip(rows * ((_WIDTH - 1.4) / columns * tall + 0.3) + 0.5, 2.0, 7.5))
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colours = colormaps["RdBu_r"].resampled(_LEVELS).with_extremes(bad=_EMPTY)
    scale = Normalize(chart.middle - chart.reach, chart.middle + chart.reach)
    drawn = None
    for axes in grid.flat[len(chart.maps) :]:
        axes.set_visible(False)
    for axes, (name, cells) in zip(grid.flat, chart.maps.items(), strict=False):
        values = np.ma.masked_invalid(np.array(cells, dtype=np.float64))
        drawn = axes.pcolormesh(chart.x_edges, chart.y_edges, values, cmap=colours, norm=scale, edgecolors="none")
        axes.set_facecolor(_EMPTY)
        axes.set_title(_plain(name), fontsize=9, color=INK)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=4)
        _ink(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("y (px)", color=INK, fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("x (px)", color=INK, fontsize=8)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=grid, shrink=0.9, aspect=25, extend="both")
    bar.set_label(_plain(chart.label), color=INK)
    _ink(bar.ax)
    bar.outline.set_edgecolor(INK)
    return figure


def _ink(axes: Axes) -> None:
    axes.tick_params(colors=INK, which="both")
    for spine in axes.spines.values():
        spine.set_color(INK)


def _plain(text: str) -> str:
    """Return text in which a dollar is a dollar, not the start of a formula, and no label hides by its underscore."""
    return text.replace("$", r"\$").lstrip("_") or "-"
