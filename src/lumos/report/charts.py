"""Charts as pictures that a page of any colour can hold."""

from io import StringIO

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lumos.validate.evidence.charts import Chart

__all__ = ["INK", "chart_svg"]

#: Colour of text and axes, which the page replaces by its own.
INK = "#010203"
#: Colours that colour-blind readers can tell apart (Okabe and Ito), readable on white and on black, and their marks.
_COLOURS = ("#2B86C5", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
_MARKS = "osD^vPX"


def chart_svg(chart: Chart) -> str:
    """Draw a chart.

    Parameters
    ----------
    chart : Chart
        Numbers.

    Returns
    -------
    str
        An ``svg`` element without scripts or outside references; text stays text.
    """
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, series in enumerate(chart.series):
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        if chart.steps:
            axes.step(series.x, series.y, where="mid", color=colour, label=series.name, linewidth=1.6)
        else:
            axes.errorbar(
                series.x, series.y, series.error or None, color=colour, marker=mark, markersize=4.5, label=series.name,
                linewidth=1.2, capsize=2,
            )  # fmt: skip
    if chart.guide is not None:
        axes.axhline(chart.guide, color=INK, linewidth=0.8, linestyle="--")
    if chart.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(chart.x_label, color=INK)
    axes.set_ylabel(chart.y_label, color=INK)
    axes.tick_params(colors=INK, which="both")
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    if len(chart.series) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.key, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :].replace(INK, "currentColor")
