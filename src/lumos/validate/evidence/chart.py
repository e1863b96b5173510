"""What is drawn on a page of evidence, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = ["Chart", "MapChart", "Panel", "Series"]

#: Rows of cells; None where a cell has too few rows.
Cells = tuple[tuple[float | None, ...], ...]


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
    plain : bool
        A line without marks, to compare with.
    number : int
        Colour and mark, so that an estimator has the same in all charts; -1: the next ones.
    dots : bool
        Points that no line joins.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] = ()
    plain: bool = False
    number: int = -1
    dots: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Parameters
    ----------
    label : str
        Of the y axis, with its unit.
    series : tuple of Series
        What is drawn.
    guides : tuple of float
        Where horizontal lines are drawn: the values that true fluxes and errors have.
    scale : {"linear", "log", "symlog"}
        Of the y axis; ``symlog`` is linear from -10 to 10 and logarithmic beyond.
    """

    label: str
    series: tuple[Series, ...]
    guides: tuple[float, ...] = ()
    scale: Literal["linear", "log", "symlog"] = "linear"


@dataclass(frozen=True)
class Chart:
    """Axes above each other with one x axis.

    Parameters
    ----------
    key, title, text : str
        Name for programs, heading, and what a reader sees in it.
    x_label : str
        Of the common axis, with its unit.
    panels : tuple of Panel
        From the top down.
    log_x : bool
        Logarithmic x axis.
    steps : bool
        Draw outlines of bars instead of points.
    ticks : tuple of str
        Names of the places 0, 1, 2 ... on the x axis; empty for numbers.
    """

    key: str
    title: str
    text: str
    x_label: str
    panels: tuple[Panel, ...]
    log_x: bool = False
    steps: bool = False
    ticks: tuple[str, ...] = ()

    def of_coadd(self) -> "Chart":
        """Return the chart with a key and a heading that say that it is of a coadd.

        Returns
        -------
        Chart
            The same otherwise.
        """
        return replace(self, key=f"coadd_{self.key}", title=f"Coadd: {self.title[0].lower()}{self.title[1:]}")

    @property
    def series(self) -> tuple[Series, ...]:
        """Return what all panels hold."""
        return tuple(series for panel in self.panels for series in panel.series)


@dataclass(frozen=True)
class MapChart:
    """Small maps of the CCD side by side, in one scale.

    Parameters
    ----------
    key, title, text : str
        As of :class:`Chart`.
    label : str
        Of the scale.
    middle : float
        The value that true fluxes have.
    x_edges, y_edges : tuple of float
        Edges of the cells, pixels.
    maps : mapping of tuple
        Values by name of the map: ``ny`` rows, from the bottom, of ``nx`` cells; None where there are too few rows.
    reach : float
        How far the scale goes on either side of the middle.
    """

    key: str
    title: str
    text: str
    label: str
    middle: float
    x_edges: tuple[float, ...] = ()
    y_edges: tuple[float, ...] = ()
    maps: Mapping[str, Cells] = field(default_factory=dict)
    reach: float = 1.0
