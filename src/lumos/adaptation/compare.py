"""Is an adapted model better? Agreement of exposures and known fluxes, before and after, on the same stamps.

Agreement is not accuracy: exposures agree best where every flux is the same wrong one. So known fluxes decide.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from lumos.adaptation.held_out import HeldOutRows
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.statistics import pit_ks, sigma68

__all__ = ["compare_held_out", "figures_table", "find_excesses"]

#: Edges of the bins of true signal-to-noise ratio: flux over closed-form error.
_SNR_EDGES = (5.0, 20.0, 100.0, np.inf)
#: Bins in which errors must stay true: the faint ones too, where a relative bias means nothing.
_ERROR_EDGES = (-np.inf, *_SNR_EDGES)
_ERROR_BINS = ("below 5", "5-20", "20-100", "above 100")
#: Fewer galaxies of a bin tell nothing of its errors.
_FEWEST = 30
_N_RESAMPLES = 100
#: Bins of brightness, with equal numbers of pairs.
_N_BRIGHTNESS = 4
#: Sampling error of a median in units of that of a mean.
_MEDIAN_ERR = 1.2533
#: Sampling errors by which a bias may grow by chance.
_BY_CHANCE = 2.0


def compare_held_out(before: HeldOutRows, after: HeldOutRows) -> dict[str, Any]:
    """Compare what a model says before and after it was adapted.

    Parameters
    ----------
    before, after : HeldOutRows
        Of the same stamps.

    Returns
    -------
    dict
        ``before``, ``after`` and ``change``, plain numbers. Bins of brightness are those of the fluxes before.
    """
    edges = np.quantile(before.brightness, np.linspace(0, 1, _N_BRIGHTNESS + 1))
    brightness = [(before.brightness >= low) & (before.brightness <= high) for low, high in pairwise(edges)]
    snr = [(before.snr >= low) & (before.snr < high) for low, high in pairwise(_SNR_EDGES)]
    first, last = (_figures(rows, brightness, snr) for rows in (before, after))
    changes = [np.abs(one) - np.abs(other) for one, other in zip(last["bias"], first["bias"], strict=True)]
    errors = [_median_err((after.relative - before.relative)[rows]) for rows in snr]
    groups = [(before.snr >= low) & (before.snr < high) for low, high in pairwise(_ERROR_EDGES)]
    told = [_error_bin(before, after, rows, name) for rows, name in zip(groups, _ERROR_BINS, strict=True)]
    return {
        "brightness_edges": edges.tolist(),
        "snr_edges": [edge for edge in _SNR_EDGES if np.isfinite(edge)],
        "n_pairs": len(before.loss),
        "n_injected": [int(rows.sum()) for rows in snr],
        "before": first,
        "after": last,
        "change": {
            "absolute_bias": [float(change) for change in changes],
            "absolute_bias_err": errors,
            "pit_ks": last["pit_ks"] - first["pit_ks"],
        },
        "errors": [figures for figures in told if figures is not None],
    }


def _error_bin(before: HeldOutRows, after: HeldOutRows, rows: BoolArray, name: str) -> dict[str, Any] | None:
    """Return how true errors are in one bin of signal-to-noise ratio, and how sure their changes are; None if few."""
    which = np.flatnonzero(rows & np.isfinite(before.pull + after.pull + before.pit + after.pit))
    if len(which) < _FEWEST:
        return None

    def figures(some: IntArray) -> FloatArray:
        return np.array([_error_figures(moment.pull[some], moment.pit[some]) for moment in (before, after)])

    rng = np.random.default_rng(0)
    change = np.array([np.diff(np.abs(figures(rng.choice(which, len(which)))), axis=0)[0] for _ in range(_N_RESAMPLES)])
    first, last = figures(which)
    names = ("bias", "width", "pit_ks")
    return {
        "snr": name,
        "n": len(which),
        "before": dict(zip(names, first.tolist(), strict=True)),
        "after": dict(zip(names, last.tolist(), strict=True)),
        "change": dict(zip(names, (np.abs(last) - np.abs(first)).tolist(), strict=True)),
        "change_err": dict(zip(names, change.std(axis=0).tolist(), strict=True)),
    }


def _error_figures(pull: FloatArray, pit: FloatArray) -> tuple[float, float, float]:
    """Return the bias in units of the error, by how much pulls are wider than 1, and the distance of the PIT."""
    return float(np.median(pull)), sigma68(pull) - 1, pit_ks(pit)[0]


def find_excesses(
    figures: dict[str, Any], max_bias_change: float, max_pit_change: float, max_pull_change: float
) -> list[str]:
    """Name the figures of injected galaxies that became worse than is allowed.

    Parameters
    ----------
    figures : dict
        Figures before and after, from :func:`compare_held_out`.
    max_bias_change : float
        By this and twice its sampling error the absolute bias of a bin may grow.
    max_pit_change : float
        By this the Kolmogorov-Smirnov distance of the PIT from uniform may grow, in bins by twice its error more.
    max_pull_change : float
        By this and twice its sampling error, in every bin of signal-to-noise ratio, the bias in units of the error may
        grow, and the departure of the width of pulls from 1.

    Returns
    -------
    list of str
        A sentence per figure; none where all is well. A bin without galaxies says nothing.
    """
    change, found = figures["change"], []
    rows = zip(_ERROR_BINS[1:], change["absolute_bias"], change["absolute_bias_err"], strict=True)
    for name, growth, error in rows:
        limit = max_bias_change + _BY_CHANCE * error
        if growth > limit:
            found.append(f"the bias of injected galaxies of S/N {name} grows by {growth:.4f}, allowed: {limit:.4f}")
    if not change["pit_ks"] <= max_pit_change:
        found.append(f"the PIT-KS of injected galaxies grows by {change['pit_ks']:.4f}, allowed: {max_pit_change:g}")
    names = {
        "bias": ("bias in units of the error", max_pull_change),
        "width": ("departure of the width of pulls from 1", max_pull_change),
        "pit_ks": ("PIT-KS", max_pit_change),
    }
    for one in figures["errors"]:
        for name, (text, most) in names.items():
            growth, limit = one["change"][name], most + _BY_CHANCE * one["change_err"][name]
            if not growth <= limit:
                where = f"{one['n']} injected galaxies of S/N {one['snr']}"
                found.append(f"the {text} of {where} grows by {growth:.4f}, allowed: {limit:.4f}")
    return found


def figures_table(figures: dict[str, Any]) -> str:
    """Return the figures before and after as a table.

    Parameters
    ----------
    figures : dict
        Figures before and after, from :func:`compare_held_out`.

    Returns
    -------
    str
        Table in Markdown, one figure per line.
    """
    before, after = figures["before"], figures["after"]
    names = {
        "unsupervised_loss": "mean loss of pairs",
        "difference_sigma68": "sigma68 of differences of pairs, in units of their errors",
        "pull_sigma68": "sigma68 of pulls of injected galaxies",
        "pit_ks": "PIT-KS of injected galaxies",
    }
    lines = ["| figure | before | after |", "| --- | --- | --- |"]
    lines += [f"| {text} | {before[name]:.4f} | {after[name]:.4f} |" for name, text in names.items()]
    rows = zip(_ERROR_BINS[1:], before["bias"], after["bias"], strict=True)
    lines += [f"| bias of injected galaxies, S/N {name} | {one:+.4f} | {two:+.4f} |" for name, one, two in rows]
    names = {"bias": "bias in units of the error", "width": "width of pulls less 1", "pit_ks": "PIT-KS"}
    for one in figures["errors"]:
        lines += [
            f"| {text}, S/N {one['snr']} | {one['before'][name]:+.4f} | {one['after'][name]:+.4f} |"
            for name, text in names.items()
        ]
    return "\n".join(lines)


def _figures(rows: HeldOutRows, brightness: list[BoolArray], snr: list[BoolArray]) -> dict[str, Any]:
    return {
        "unsupervised_loss": float(rows.loss.mean()),
        "difference_sigma68": sigma68(rows.difference),
        "difference_sigma68_bins": [sigma68(rows.difference[some]) for some in brightness],
        "bias": [float(np.median(rows.relative[some])) if some.any() else float("nan") for some in snr],
        "pull_sigma68": sigma68(rows.pull),
        "pit_ks": pit_ks(rows.pit)[0],
    }


def _median_err(values: FloatArray) -> float:
    return float(_MEDIAN_ERR * sigma68(values) / max(len(values), 1) ** 0.5)
