"""Figures of fluxes that are known: bias, pulls, coverage, PIT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lumos.conventions import BoolArray, FloatArray
from lumos.pdf import inverse_variance
from lumos.statistics import pit_ks, sigma68
from lumos.validate.evidence.again import FEWEST
from lumos.validate.evidence.known import KnownFluxes

__all__ = ["PullFigures", "figures_by_kind", "format_figures", "pull_figures", "sky_table", "sort_known"]

#: Bins of the true flux over the error of optimal weights.
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
    kinds = sort_known(known)
    return {
        name: {kind: pull_figures(rows.pull[some], rows.pit[some]) for kind, some in kinds.items()}
        for name, rows in known.estimators.items()
    }


def sort_known(known: KnownFluxes) -> dict[str, BoolArray]:
    """Sort rows by the kind of their place and by their signal-to-noise ratio.

    Parameters
    ----------
    known : KnownFluxes
        n rows.

    Returns
    -------
    dict of bool array, each of shape (n,)
        ``all``, then by place where there are places, then places where nothing is, then by the true flux over the
        error of optimal weights.
    """
    kinds = {"all": np.ones(len(known), dtype=np.bool_)}
    something = known.truth != 0
    places = set(known.place[something].tolist()) - {""}
    kinds |= {f"place: {one}": something & (known.place == one) for one in sorted(places)}
    if not something.all():
        kinds["true flux 0"] = ~something
    signal = np.where(something, known.by["signal"], np.nan)
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
    wide = max([13, *(len(name) + 1 for name in results)])
    lines = [f"{'estimator':<{wide}}{'galaxies':<18}{heads}"]
    for name, by_kind in results.items():
        for kind, one in by_kind.items():
            values = f"{one.bias:>+9.3f}{one.pull:>7.3f}{one.within68:>9.1%}{one.within95:>9.1%}"
            values += f"{one.ks:>8.3f}{one.beyond5:>8.2%}"
            text = values if np.isfinite(one.pull) else "".join(f"{'-':>{width}}" for width in (9, 7, 9, 9, 8, 8))
            lines.append(f"{name:<{wide}}{kind:<18}{one.n:>7}{one.n_lost:>6}{text}")
    return "\n".join(lines)


def sky_table(known: KnownFluxes, names: Sequence[str]) -> str:
    """Return what was measured where nothing is.

    Parameters
    ----------
    known : KnownFluxes
        Rows; those whose true flux is 0 count.
    names : sequence of str
        Estimators.

    Returns
    -------
    str
        Lines of text: inverse-variance mean of the fluxes with its error, mean of flux / error, and its width; empty
        where no true flux is 0.
    """
    if (known.truth != 0).all():
        return ""
    wide = max([14, *(len(name) + 1 for name in names)])
    lines = [f"{'estimator':<{wide}}{'n':>6}{'mean flux':>24}{'mean of flux/error':>22}{'width':>8}"]
    for name in names:
        rows = known.estimators[name].take((known.truth == 0) & np.isfinite(known.estimators[name].pull))
        n = len(rows)
        if n < FEWEST:
            lines.append(f"{name:<{wide}}{n:>6}  too few")
            continue
        mean, error = (float(one[0]) for one in inverse_variance(rows.flux, rows.flux_err, np.zeros(n, int), 1)[:2])
        flux, pull = f"{mean:+.4g} ± {error:.2g}", f"{np.mean(rows.pull):+.3f} ± {np.std(rows.pull) / np.sqrt(n):.3f}"
        lines.append(f"{name:<{wide}}{n:>6}{flux:>24}{pull:>22}{sigma68(rows.pull):>8.3f}")
    return "\n".join(lines)
