"""One figure, table or number of the paper beside ours."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.metrics import Metric

__all__ = ["Entry", "Table", "percent"]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Parameters
    ----------
    head : tuple of str
        Names of the columns.
    rows : tuple of tuple of str
        Cells.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table in Markdown.

        Returns
        -------
        str
            Lines.
        """
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Entry:
    """What the paper shows, and the same of ours.

    Parameters
    ----------
    names : tuple of str
        Of the paper: ``Fig. 8``, ``Table 1``.
    title : str
        What it shows.
    galaxies : int
        Galaxies that ours is made from.
    paper : str
        What the paper found.
    ours : str
        How ours was made, and what differs.
    tables : tuple of Table
        Our figures, the paper's beside them where it prints them.
    charts : tuple of Chart
        Our curves.
    metrics : tuple of Metric
        Goals.
    data : mapping
        Numbers behind the tables, for programs.
    """

    names: tuple[str, ...]
    title: str
    galaxies: int
    paper: str
    ours: str
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    metrics: tuple[Metric, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON.

        Returns
        -------
        dict
            None stands for NaN.
        """
        plain: dict[str, object] = _plain(asdict(self))  # type: ignore[assignment]
        return plain

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Entry":
        """Return the entry of plain data.

        Parameters
        ----------
        content : mapping
            As :meth:`as_dict` returns it.

        Returns
        -------
        Entry
            The same.
        """
        tables = tuple(Table(tuple(one["head"]), tuple(map(tuple, one["rows"]))) for one in content["tables"])
        charts = tuple(
            Chart(**{**one, "panels": tuple(map(_panel, one["panels"])), "ticks": tuple(one["ticks"])})
            for one in content["charts"]
        )
        metrics = tuple(Metric(**{key: _number(value) for key, value in one.items()}) for one in content["metrics"])
        names = tuple(content["names"])
        return cls(**{**content, "names": names, "tables": tables, "charts": charts, "metrics": metrics})


def percent(value: float, error: float | None = None, digits: int = 1) -> str:
    """Return a share with its sign in per cent.

    Parameters
    ----------
    value : float
        Share.
    error : float, optional
        Its error.
    digits : int, optional
        After the point.

    Returns
    -------
    str
        A dash for NaN.
    """
    if not np.isfinite(value):
        return "–"
    text = f"{value:+.{digits}%}"
    return text if error is None or not np.isfinite(error) else f"{text} ± {error:.{digits}%}"


def _panel(content: Mapping[str, Any]) -> Panel:
    return Panel(**{**content, "series": tuple(map(_series, content["series"])), "guides": tuple(content["guides"])})


def _series(content: Mapping[str, Any]) -> Series:
    numbers = {key: tuple(_number(v) for v in content[key]) for key in ("x", "y", "error")}
    return Series(**{**content, **numbers})


def _number(value: Any) -> Any:  # noqa: ANN401
    return float("nan") if value is None else value


def _plain(value: object) -> object:
    """Return data that JSON can hold: null for NaN, numbers of numpy as those of Python."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value
