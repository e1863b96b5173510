"""Metrics of a page of evidence: figures with errors and requirements."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.flags import Flag, flag_names
from lumos.statistics import pit_ks, sigma68
from lumos.validate.evidence.known import KnownFluxes
from lumos.validate.evidence.pulls import FEWEST

__all__ = ["Metric", "flag_metrics", "format_metrics", "known_metrics", "objects_again"]

#: Times that objects are drawn again for an error.
_AGAIN = 100
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
        f"{words[one.passed]:<8} {one.value:>9.3g}  {one.text} ({one.low:g} to {one.high:g})" for one in metrics
    )


def objects_again(
    owner: IntArray, figure: Callable[[IntArray], float], rng: np.random.Generator, n: int = _AGAIN
) -> float:
    """Return the error of a figure, from objects that are drawn again with replacement.

    Parameters
    ----------
    owner : int array, shape (m,)
        Object of each row.
    figure : callable
        Takes numbers of rows.
    rng : numpy.random.Generator
        Draws.
    n : int, optional
        Draws.

    Returns
    -------
    float
        Standard deviation of the figure over the draws; NaN for fewer than 10 objects.
    """
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=np.nan) != 0)
    rows = np.split(order, starts[1:])
    if len(rows) < 10:
        return float("nan")
    values = []
    for _ in range(n):
        drawn = rng.integers(len(rows), size=len(rows))
        values.append(figure(np.concatenate([rows[i] for i in drawn])))
    return float(np.nanstd(values))


def known_metrics(known: KnownFluxes, name: str, rng: np.random.Generator) -> list[Metric]:
    """Judge an estimator on known fluxes.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    name : str
        Estimator.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Metric
        Bias, pulls, coverage, PIT and outliers; bright galaxies, and those with a near neighbour, by themselves.
    """
    rows = known.estimators[name]
    good = np.isfinite(rows.pull) & np.isfinite(rows.pit)
    near = good & ((known.by["neighbour"] < 2) | (np.abs(known.by["contamination"]) > 1))
    bright = good & (known.truth > 20 * np.where(good, rows.flux_err, np.inf))

    def metric(
        key: str, text: str, limits: tuple[float, float], some: BoolArray, figure: Callable[[IntArray], float]
    ) -> Metric:
        index = np.flatnonzero(some)
        if len(index) < FEWEST:
            return Metric(key, text, float("nan"), float("nan"), *limits, len(index))
        error = objects_again(known.object_id[index], lambda drawn: figure(index[drawn]), rng)
        return Metric(key, text, figure(index), error, *limits, len(index))

    def median_pull(i: IntArray) -> float:
        return float(np.median(rows.pull[i]))

    def width(i: IntArray) -> float:
        return sigma68(rows.pull[i])

    def inside(share: float) -> Callable[[IntArray], float]:
        return lambda i: float(np.mean(np.abs(rows.pit[i] - 0.5) < share / 2))

    def relative(i: IntArray) -> float:
        return float(np.median(rows.flux[i] / known.truth[i] - 1))

    return [
        metric("bias", "Fluxes are right on average: median of (flux - truth) / error", (-0.1, 0.1), good, median_pull),
        metric("pull", "Errors are as large as they say: width of (flux - truth) / error", (0.95, 1.05), good, width),
        metric("within50", "Half of the truths lie in the central 50 % of the PDF", (0.47, 0.53), good, inside(0.5)),
        metric("within68", "68 % of the truths lie in the central 68 %", (0.653, 0.713), good, inside(0.6827)),
        metric("within95", "95 % of the truths lie in the central 95 %", (0.935, 0.965), good, inside(0.95)),
        metric("pit_ks", "The PIT is uniform: largest distance", (0, 0.03), good, lambda i: pit_ks(rows.pit[i])[0]),
        metric(
            "beyond5",
            "Few are off by more than five errors",
            (0, 0.001),
            good,
            lambda i: float(np.mean(np.abs(rows.pull[i]) > 5)),
        ),
        metric(
            "bright_bias",
            "Bright fluxes (S/N > 20) are right: median of flux / truth - 1",
            (-0.01, 0.01),
            bright,
            relative,
        ),
        metric(
            "near_bias",
            "Beside neighbours fluxes are right on average: the same median",
            (-0.1, 0.1),
            near,
            median_pull,
        ),
        metric(
            "near_pull", "Beside neighbours errors are as large as they say: the same width", (0.9, 1.1), near, width
        ),
    ]


def flag_metrics(flags: IntArray, flux: FloatArray) -> tuple[list[Metric], dict[str, float]]:
    """Count flags and lost fluxes, for which no truth is needed.

    Parameters
    ----------
    flags : int array, shape (n,)
        Bits of :class:`lumos.flags.Flag`.
    flux : float array, shape (n,)
        Default flux.

    Returns
    -------
    metrics : list of Metric
        Lost fluxes, and stamps unlike the training.
    shares : dict
        Share of rows by flag.
    """
    n = len(flags)
    shares = {name: float(np.mean((flags & int(Flag[name])) > 0)) for name in flag_names(~0)} if n else {}
    lost = float(np.mean(~np.isfinite(flux))) if n else float("nan")
    outside = shares.get("OUT_OF_DOMAIN", float("nan"))
    metrics = [
        Metric("lost", "Objects without a flux", lost, 0.0, 0.0, 0.05, n),
        Metric("outside", "Stamps unlike those of the network's training", outside, 0.0, 0.0, 0.05, n),
    ]
    return metrics, {name: share for name, share in shares.items() if share > 0}
