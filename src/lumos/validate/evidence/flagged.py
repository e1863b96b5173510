"""Flags: how many fluxes have one, and, where fluxes are known, whether they find the wrong ones."""

from collections.abc import Mapping, Sequence

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.flags import UNUSABLE, Flag, flag_names
from lumos.validate.evidence.again import FEWEST
from lumos.validate.evidence.known import KnownFluxes
from lumos.validate.evidence.metrics import Metric

__all__ = ["flag_metrics", "flag_table", "recall_metrics", "recall_table"]

#: Fluxes that are off by more errors are wrong, by fewer are good.
_WRONG, _GOOD = 5.0, 3.0
#: Good ones count above this true signal-to-noise ratio.
_BRIGHT = 10.0
#: Flags that say something of the flux, beside those that forbid its use.
_DOUBTS = UNUSABLE | Flag.EDGE | Flag.MASKED | Flag.NEIGHBOUR | Flag.OUT_OF_DOMAIN | Flag.DOUBTFUL_SHAPE
_DOUBTS |= Flag.TRUNCATED_PROFILE | Flag.INSEPARABLE
_SETS: Mapping[str, int] = {"forbids the use": int(UNUSABLE), "any doubt": int(_DOUBTS)}


def flag_metrics(flags: IntArray, flux: FloatArray) -> list[Metric]:
    """Count flags and lost fluxes, for which no truth is needed.

    Parameters
    ----------
    flags : int array, shape (n,)
        Bits of :class:`lumos.flags.Flag`.
    flux : float array, shape (n,)
        Default flux.

    Returns
    -------
    list of Metric
        Lost fluxes, flagged ones (§6.1.4 of the paper), and stamps unlike the training.
    """
    n = len(flags)
    lost, forbidden, outside = (
        float(np.mean(some)) if n else float("nan")
        for some in (~np.isfinite(flux), (flags & int(UNUSABLE)) > 0, (flags & int(Flag.OUT_OF_DOMAIN)) > 0)
    )
    return [
        Metric("lost", "Objects without a flux", lost, 0.0, 0.0, 0.05, n),
        Metric("flagged", "Fluxes whose flags forbid their use", forbidden, 0.0, 0.0, 0.1, n),
        Metric("outside", "Stamps unlike those of the network's training", outside, 0.0, 0.0, 0.05, n),
    ]


def flag_table(flags: IntArray) -> str:
    """Return the share of rows with each flag.

    Parameters
    ----------
    flags : int array, shape (n,)
        Bits of :class:`lumos.flags.Flag`.

    Returns
    -------
    str
        Lines of text; flags that no row has are left out.
    """
    if not len(flags):
        return "no rows"
    counts = {name: int(((flags & int(Flag[name])) > 0).sum()) for name in flag_names(~0)}
    counts["none"] = int((flags == 0).sum())
    lines = [f"{'flag':<20}{'rows':>9}{'share':>9}"]
    lines += [f"{name:<20}{count:>9}{count / len(flags):>9.2%}" for name, count in counts.items() if count]
    return "\n".join(lines)


def recall_metrics(known: KnownFluxes, name: str) -> list[Metric]:
    """Judge whether flags leave good fluxes alone.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    name : str
        Estimator.

    Returns
    -------
    list of Metric
        The share of good, bright fluxes that must not be used.
    """
    flagged, n = _counts(known, name, int(UNUSABLE))[1]
    text = f"Good fluxes (within {_GOOD:g} errors, true S/N > {_BRIGHT:g}) that flags forbid to use"
    if n < FEWEST:
        return [Metric("false_alarms", text, float("nan"), float("nan"), 0.0, 0.1, n)]
    share = flagged / n
    return [Metric("false_alarms", text, share, float(np.sqrt(share * (1 - share) / n)), 0.0, 0.1, n)]


def recall_table(known: KnownFluxes, names: Sequence[str]) -> str:
    """Return what flags find, by estimator.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    names : sequence of str
        Estimators.

    Returns
    -------
    str
        Lines of text: of wrong fluxes, and of good bright ones, how many are flagged.
    """
    wide = max([14, *(len(name) + 1 for name in names)])
    lines = [
        f"wrong: off by more than {_WRONG:g} errors; good: within {_GOOD:g} errors, true S/N above {_BRIGHT:g}",
        f"{'estimator':<{wide}}{'flags':<17}{'wrong':>7}{'of them flagged':>17}{'good':>8}{'of them flagged':>17}",
    ]
    for name in names:
        for text, bits in _SETS.items():
            (found, wrong), (false, good) = _counts(known, name, bits)
            lines.append(f"{name:<{wide}}{text:<17}{wrong:>7}{_share(found, wrong)}{good:>8}{_share(false, good)}")
    return "\n".join(lines)


def _counts(known: KnownFluxes, name: str, bits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return flagged and all of the wrong fluxes, flagged and all of the good, bright ones."""
    off, flagged = np.abs(known.estimators[name].any_pull), (known.flags & bits) > 0
    good = (off < _GOOD) & (known.by["signal"] > _BRIGHT)
    return tuple((int((flagged & some).sum()), int(some.sum())) for some in (off > _WRONG, good))  # type: ignore[return-value]


def _share(part: int, whole: int) -> str:
    """Return a count and its share; no share of fewer than 10."""
    share = f"{part / whole:.1%}" if whole >= 10 else "too few"
    return f"{part:>7} {f'({share})':>9}"
