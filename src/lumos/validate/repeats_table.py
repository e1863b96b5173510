"""Figures of repeats: means over bands, the table, the relative floor."""

from collections.abc import Sequence

import numpy as np

from lumos.conventions import FloatArray
from lumos.validate.differences import Differences
from lumos.validate.repeats import Repeats

__all__ = ["fit_relative_floor", "format_repeats", "mean_over_bands"]


def mean_over_bands(results: Sequence[Repeats]) -> tuple[FloatArray, FloatArray]:
    """Average sigma68 of D over bands.

    Parameters
    ----------
    results : sequence of Repeats
        Of one estimator, in the same bins.

    Returns
    -------
    sigma68, sigma68_err : float array, shape (n_bins,)
        Mean over the bands with enough objects for an error, each weighted with its pairs, and its error (the noise
        of bands is independent); NaN where no band has enough.
    """
    n, spread, error = (
        np.array([getattr(result.difference, name) for result in results])
        for name in ("n_pairs", "sigma68", "sigma68_err")
    )
    known = np.isfinite(error)
    with np.errstate(invalid="ignore"):
        weight = np.where(known, n, 0) / np.where(known, n, 0).sum(axis=0)
    mean = np.sum(weight * np.where(known, spread, 0), axis=0)
    return mean, np.sqrt(np.sum((weight * np.where(known, error, 0)) ** 2, axis=0))


def format_repeats(results: Sequence[Repeats]) -> str:
    """Return the figures as a text table.

    Parameters
    ----------
    results : sequence of Repeats
        As :func:`repeat_table` returns them.

    Returns
    -------
    str
        One line per estimator, band and bin with pairs, and one for all magnitudes, those without one counted.
    """
    header = (
        f"{'estimator':<14}{'band':<9}{'magnitude':>12}{'pairs':>9}{'objects':>9}{'scatter':>9}"
        f"{'median D':>10}{'s68 of D':>10}{'error':>7}{'s95':>7}{'>3':>8}{'>5':>8}"
    )
    lines = [header]
    for result in results:
        start = f"{result.estimator:<14}{result.band:<9}"
        for number in np.flatnonzero(result.difference.n_pairs):
            low, high = result.edges[number : number + 2]
            scatter = f"{result.relative_scatter[number]:.3f}"
            lines.append(f"{start}{f'{low:.1f}-{high:.1f}':>12}" + _columns(result.difference, int(number), scatter))
        lines.append(f"{start}{'all':>12}{_columns(result.overall, 0, '')}  ({result.n_negative} with mean flux <= 0)")
    return "\n".join(lines)


def _columns(figures: Differences, number: int, scatter: str) -> str:
    row = {name: values[number] for name, values in vars(figures).items()}
    return (
        f"{row['n_pairs']:>9.0f}{row['n_objects']:>9.0f}{scatter:>9}{row['median']:>+10.3f}{row['sigma68']:>10.3f}"
        f"{row['sigma68_err']:>7.3f}{row['sigma95']:>7.2f}{row['beyond_3']:>8.2%}{row['beyond_5']:>8.2%}"
    )


def fit_relative_floor(repeats: Repeats, faint_limit: float) -> float:
    r"""Find the relative error that brings the differences of bright objects to unit scatter.

    .. math:: \epsilon^2 = \mathrm{median}_\mathrm{bins}\left[ s^2 \left( 1 - 1 / \sigma_{68}^2[D] \right) \right]

    with s the relative scatter of a bin. The bins' own noise is taken off, so what remains is common to
    all bright objects: flat field, PSF model, interpolation.

    Parameters
    ----------
    repeats : Repeats
        Differences with errors that do not yet hold such a term.
    faint_limit : float
        Bins whose fainter edge is beyond this magnitude are not used: there the sky dominates.

    Returns
    -------
    float
        To be used as ``measure.noise.relative_floor``; 0 where the errors suffice.
    """
    usable = (repeats.edges[1:] <= faint_limit) & (repeats.difference.n_pairs > 0)
    scatter, spread = repeats.relative_scatter[usable], repeats.difference.sigma68[usable]
    excess = scatter**2 * (1 - 1 / spread**2)
    return float(np.sqrt(max(np.median(excess), 0.0))) if len(excess) else 0.0
