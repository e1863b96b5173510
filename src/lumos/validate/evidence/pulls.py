"""Figures of fluxes that are known: bias, pulls, coverage, PIT."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lumos.conventions import BoolArray, FloatArray
from lumos.statistics import pit_ks, sigma68
from lumos.validate.evidence.known import KnownFluxes

__all__ = ["FEWEST", "PullFigures", "figures_by_kind", "format_figures", "pull_figures", "sort_known"]

#: Fewer rows than this give no figures.
FEWEST = 30
#: Bins of the true flux over its measured error.
_SIGNALS = (-np.inf, 3.0, 10.0, 30.0, np.inf)


@dataclass(frozen=True)
class PullFigures:
    """Figures of one estimator's fluxes that are known.

    Parameters
    ----------
    n, n_lost : int
        Rows, and those of them without a usable flux.
    bias : float
        Median of (flux - truth) over the error.
    pull : float
        σ68 of the same, 1 where errors are true.
    within68, within95 : float
        Share of rows whose truth lies inside the central 68 and 95 per cent of the PDF.
    ks : float
        Kolmogorov-Smirnov distance of the PIT from uniform.
    beyond5 : float
        Share of rows that are off by more than five errors.

    Notes
    -----
    All but the counts are NaN for fewer than 30 rows.
    """

    n: int
    n_lost: int
    bias: float
    pull: float
    within68: float
    within95: float
    ks: float
    beyond5: float


def pull_figures(pull: FloatArray, pit: FloatArray) -> PullFigures:
    """Summarise pulls and PIT of known fluxes.

    Parameters
    ----------
    pull, pit : float array, shape (n,)
        NaN for rows without a usable flux.

    Returns
    -------
    PullFigures
        Of all rows.
    """
    usable = np.isfinite(pull) & np.isfinite(pit)
    n, lost = len(pull), int((~usable).sum())
    if n - lost < FEWEST:
        return PullFigures(n, lost, *[float("nan")] * 6)
    good, uniform = pull[usable], pit[usable]
    inside = [float(np.mean(np.abs(uniform - 0.5) < share / 2)) for share in (0.6827, 0.95)]
    return PullFigures(
        n=n,
        n_lost=lost,
        bias=float(np.median(good)),
        pull=sigma68(good),
        within68=inside[0],
        within95=inside[1],
        ks=pit_ks(uniform)[0],
        beyond5=float(np.mean(np.abs(good) > 5)),
    )


def figures_by_kind(known: KnownFluxes) -> dict[str, dict[str, PullFigures]]:
    """Summarise known fluxes by estimator and kind of row.

    Parameters
    ----------
    known : KnownFluxes
        Rows.

    Returns
    -------
    dict
        By estimator, then by kind as of :func:`sort_known`.
    """
    figures = {}
    for name, rows in known.estimators.items():
        kinds = sort_known(known, name)
        figures[name] = {kind: pull_figures(rows.pull[some], rows.pit[some]) for kind, some in kinds.items()}
    return figures


def sort_known(known: KnownFluxes, name: str) -> dict[str, BoolArray]:
    """Sort rows by the kind of their place and by their signal-to-noise ratio.

    Parameters
    ----------
    known : KnownFluxes
        n rows.
    name : str
        Estimator whose errors count.

    Returns
    -------
    dict of bool array, each of shape (n,)
        ``all``, then by place where there are places, then by the true flux over the measured error.
    """
    kinds = {"all": np.ones(len(known), dtype=np.bool_)}
    kinds |= {f"place: {one}": known.place == one for one in sorted(set(known.place.tolist()) - {""})}
    signal = known.truth / known.estimators[name].flux_err
    for low, high in pairwise(_SIGNALS):
        text = f"S/N < {high:g}" if low == -np.inf else f"S/N > {low:g}" if high == np.inf else f"S/N {low:g}-{high:g}"
        kinds[text] = (signal >= low) & (signal < high)
    return kinds


def format_figures(results: Mapping[str, Mapping[str, PullFigures]]) -> str:
    """Return figures as a table.

    Parameters
    ----------
    results : mapping
        By estimator and kind of rows.

    Returns
    -------
    str
        Lines of text; ``-`` stands for too few rows.
    """
    heads = f"{'n':>7}{'lost':>6}{'bias/σ':>9}{'pull':>7}{'in 68 %':>9}{'in 95 %':>9}{'PIT-KS':>8}{'> 5σ':>8}"
    lines = [f"{'estimator':<13}{'galaxies':<18}{heads}"]
    for name, by_kind in results.items():
        for kind, one in by_kind.items():
            values = f"{one.bias:>+9.3f}{one.pull:>7.3f}{one.within68:>9.1%}{one.within95:>9.1%}"
            values += f"{one.ks:>8.3f}{one.beyond5:>8.2%}"
            text = values if np.isfinite(one.pull) else "".join(f"{'-':>{width}}" for width in (9, 7, 9, 9, 8, 8))
            lines.append(f"{name:<13}{kind:<18}{one.n:>7}{one.n_lost:>6}{text}")
    return "\n".join(lines)
