"""Metrics of a page of evidence: figures with errors and requirements."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lumos.conventions import BoolArray, IntArray
from lumos.statistics import pit_distance, sigma68
from lumos.validate.evidence.again import FEWEST, objects_again
from lumos.validate.evidence.known import KnownFluxes

__all__ = ["Metric", "format_metrics", "known_metrics"]

#: Errors by which a value may miss its requirement.
_ERRORS = 2.0


@dataclass(frozen=True)
class Metric:
    """One figure that is judged.

    Parameters
    ----------
    key : str
        Name for programs.
    text : str
        What it is, in words.
    value, error : float
        The figure and its error from objects drawn again; NaN where there are too few.
    low, high : float
        Range that is required.
    n : int
        Rows that count.
    """

    key: str
    text: str
    value: float
    error: float
    low: float
    high: float
    n: int

    @property
    def passed(self) -> bool | None:
        """Return whether the requirement is met within two errors; None where there are too few rows."""
        if not np.isfinite(self.value):
            return None
        slack = _ERRORS * self.error if np.isfinite(self.error) else 0.0
        return bool(self.low - slack <= self.value <= self.high + slack)

    def as_dict(self) -> dict[str, object]:
        """Return plain data.

        Returns
        -------
        dict
            With ``passed``; None stands for NaN.
        """
        plain = {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in asdict(self).items()}
        return plain | {"passed": self.passed}


def format_metrics(metrics: Sequence[Metric]) -> str:
    """Return metrics as lines of text.

    Parameters
    ----------
    metrics : sequence of Metric
        What was judged.

    Returns
    -------
    str
        Verdict, value, words and range of each.
    """
    words = {None: "too few", True: "met", False: "NOT MET"}
    return "\n".join(
        f"{words[one.passed]:<8} {'-' if one.passed is None else f'{one.value:.3g}':>9}  {one.text} "
        f"({one.low:g} to {one.high:g})"
        for one in metrics
    )


def known_metrics(known: KnownFluxes, name: str, rng: np.random.Generator, of: str = "") -> list[Metric]:
    """Judge an estimator on known fluxes.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    name : str
        Estimator.
    rng : numpy.random.Generator
        For errors.
    of : str, optional
        Stands before the keys and texts, as in ``coadd``.

    Returns
    -------
    list of Metric
        Bias, pulls, coverage, PIT and outliers; bright galaxies, those with a near neighbour, and places where nothing
        is, by themselves, where there are any.
    """
    rows = known.estimators[name]
    good = np.isfinite(rows.pull) & np.isfinite(rows.pit)

    def median_pull(i: IntArray) -> float:
        return float(np.median(rows.pull[i]))

    def width(i: IntArray) -> float:
        return sigma68(rows.pull[i])

    def inside(share: float) -> Callable[[IntArray], float]:
        return lambda i: float(np.mean(np.abs(rows.pit[i] - 0.5) < share / 2))

    def beyond(i: IntArray) -> float:
        return float(np.mean(np.abs(rows.pull[i]) > 5))

    def relative(i: IntArray) -> float:
        return float(np.median(rows.flux[i] / known.truth[i] - 1))

    bright = good & (known.by["signal"] > 20)
    demands = [
        _Demand("bias", "Fluxes are right on average: median of (flux - truth) / error", -0.1, 0.1, good, median_pull),
        _Demand("pull", "Errors are as large as they say: width of (flux - truth) / error", 0.95, 1.05, good, width),
        _Demand("within50", "Half of the truths lie in the central 50 % of the PDF", 0.47, 0.53, good, inside(0.5)),
        _Demand("within68", "68 % of the truths lie in the central 68 %", 0.653, 0.713, good, inside(0.6827)),
        _Demand("within95", "95 % of the truths lie in the central 95 %", 0.935, 0.965, good, inside(0.95)),
        _Demand("pit_ks", "The PIT is uniform: largest distance", 0, 0.03, good, lambda i: pit_distance(rows.pit[i])),
        _Demand("beyond5", "Few are off by more than five errors", 0, 0.001, good, beyond),
        _Demand(
            "bright_bias",
            "Bright fluxes (S/N > 20) are right: median of flux / truth - 1",
            -0.01,
            0.01,
            bright,
            relative,
        ),
    ]
    for key, where, some in _special(known, good):
        text = f"{where}, fluxes are right on average: the same median"
        demands.append(_Demand(f"{key}_bias", text, -0.1, 0.1, some, median_pull))
        text = f"{where}, errors are as large as they say: the same width"
        demands.append(_Demand(f"{key}_pull", text, 0.9, 1.1, some, width))
    return [_judge(demand, known.object_id, rng, of) for demand in demands]


@dataclass(frozen=True, eq=False)
class _Demand:
    """A figure of some rows and the range that is required of it."""

    key: str
    text: str
    low: float
    high: float
    rows: BoolArray
    figure: Callable[[IntArray], float]


def _special(known: KnownFluxes, good: BoolArray) -> list[tuple[str, str, BoolArray]]:
    """Return rows that are judged by themselves: beside neighbours, and where nothing is."""
    found = []
    if "neighbour" in known.by:
        near = (known.by["neighbour"] < 2) | (np.abs(known.by["contamination"]) > 1)
        found.append(("near", "Beside neighbours", good & near))
    if (known.truth == 0).any():
        found.append(("sky", "Where nothing is", good & (known.truth == 0)))
    return found


def _judge(demand: _Demand, owner: IntArray, rng: np.random.Generator, of: str) -> Metric:
    """Return a metric; without a value where fewer than 30 rows count."""
    key, text, index = demand.key, demand.text, np.flatnonzero(demand.rows)
    if of:
        key, text = f"{of}_{key}", f"{of.capitalize()}: {text[0].lower()}{text[1:]}"
    if len(index) < FEWEST:
        return Metric(key, text, float("nan"), float("nan"), demand.low, demand.high, len(index))
    error = float(objects_again(owner[index], lambda drawn: [demand.figure(index[drawn])], rng)[0])
    # Rows of fewer than ten objects tell no error: they judge nothing.
    value = demand.figure(index) if np.isfinite(error) else float("nan")
    return Metric(key, text, value, error, demand.low, demand.high, len(index))
