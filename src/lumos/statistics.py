"""Robust statistics that everything shares: sigma68, and how far a PIT is from uniform."""

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import FloatArray
from lumos.errors import LumosValueError

__all__ = ["LEVELS_68", "LEVELS_95", "SUMMARY_LEVELS", "pit_distance", "pit_ks", "sigma68"]

#: Quantiles between which 68 % lie: those of a Gaussian one standard deviation below and above its median.
LEVELS_68 = (0.15865525, 0.84134475)
#: Quantiles between which 95 % lie: of a Gaussian 1.96 standard deviations from its median.
LEVELS_95 = (0.025, 0.975)
#: A median with the ends of the 68 % about it.
SUMMARY_LEVELS = (LEVELS_68[0], 0.5, LEVELS_68[1])


def pit_ks(pit: ArrayLike) -> tuple[float, float]:
    """Compare PIT values with a uniform distribution.

    Parameters
    ----------
    pit : array_like, shape (n,)
        Values from 0 to 1; NaN is left out.

    Returns
    -------
    distance : float
        Kolmogorov-Smirnov distance; above 1.95 / sqrt(n) for 1 in 1000 uniform samples. NaN without values.
    p_value : float
        Probability of a larger distance by chance.

    Raises
    ------
    LumosValueError
        If a value is outside 0 to 1.
    """
    values = np.asarray(pit, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise LumosValueError("PIT", float(values[outside][0]), "0 to 1")
    if not len(values):
        return float("nan"), float("nan")
    from scipy import stats  # noqa: PLC0415 - half a second that a PDF does not need

    result = stats.kstest(values, "uniform")
    return float(result.statistic), float(result.pvalue)


def pit_distance(pit: FloatArray) -> float:
    """Return the Kolmogorov-Smirnov distance of PIT values from uniform.

    Parameters
    ----------
    pit : float array, shape (n,)
        Finite values.

    Returns
    -------
    float
        As of :func:`pit_ks`, without its probability; NaN without values.
    """
    ordered, n = np.sort(pit), len(pit)
    if n == 0:
        return float("nan")
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))


def sigma68(values: FloatArray) -> float:
    """Return half the range of the central 68 %, from the 15.87 % to the 84.13 % quantile.

    Parameters
    ----------
    values : float array, shape (n,)
        Sample; NaN if it is empty.

    Returns
    -------
    float
        Equal to the standard deviation for a Gaussian; the paper (eq. 14) rounds to 16 % and 84 %, 0.9945 of it.
    """
    if len(values) == 0:
        return float("nan")
    low, high = np.quantile(values, LEVELS_68)
    return float(high - low) / 2
