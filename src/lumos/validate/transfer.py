"""Is an adapted model better? Agreement of exposures and known fluxes, before and after, on the same stamps.

Agreement is not accuracy: exposures agree best where every flux is the same wrong one. So known fluxes decide.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from lumos.conventions import BoolArray, FloatArray
from lumos.training.held_out import HeldOutRows
from lumos.validate.calibration import pit_ks
from lumos.validate.statistics import sigma68

__all__ = ["compare_held_out", "figures_table", "find_excesses"]

#: Edges of the bins of true signal-to-noise ratio: flux over closed-form error.
_SNR_EDGES = (5.0, 20.0, 100.0, np.inf)
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
    }


def find_excesses(figures: dict[str, Any], max_bias_change: float, max_pit_change: float) -> list[str]:
    """Name the figures of injected galaxies that became worse than is allowed.

    Parameters
    ----------
    figures : dict
        From :func:`compare_held_out`.
    max_bias_change : float
        By this and twice its sampling error the absolute bias of a bin may grow.
    max_pit_change : float
        By this the Kolmogorov-Smirnov distance of the PIT from uniform may grow.

    Returns
    -------
    list of str
        A sentence per figure; none where all is well. A bin without galaxies says nothing.
    """
    change, found = figures["change"], []
    rows = zip(figures["snr_edges"], change["absolute_bias"], change["absolute_bias_err"], strict=True)
    for edge, growth, error in rows:
        limit = max_bias_change + _BY_CHANCE * error
        if growth > limit:
            found.append(
                f"the bias of injected galaxies of S/N above {edge:g} grows by {growth:.4f}, allowed: {limit:.4f}"
            )
    if not change["pit_ks"] <= max_pit_change:
        found.append(f"the PIT-KS of injected galaxies grows by {change['pit_ks']:.4f}, allowed: {max_pit_change:g}")
    return found


def figures_table(figures: dict[str, Any]) -> str:
    """Return the figures before and after as a table.

    Parameters
    ----------
    figures : dict
        From :func:`compare_held_out`.

    Returns
    -------
    str
        Markdown.
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
    rows = zip(figures["snr_edges"], before["bias"], after["bias"], strict=True)
    lines += [f"| bias of injected galaxies, S/N above {edge:g} | {one:+.4f} | {two:+.4f} |" for edge, one, two in rows]
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
