"""Robust statistics that everything shares: sigma68, and how far a PIT is from uniform."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lumos.conventions import FloatArray
from lumos.errors import LumosValueError

__all__ = ["pit_ks", "sigma68"]


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
    result = stats.kstest(values, "uniform")
    return float(result.statistic), float(result.pvalue)


def sigma68(values: FloatArray) -> float:
    """Return half the distance between the 16 % and 84 % quantiles.

    Parameters
    ----------
    values : float array, shape (n,)
        Sample; NaN if it is empty.

    Returns
    -------
    float
        Equal to the standard deviation for a Gaussian (paper, eq. 14).
    """
    if len(values) == 0:
        return float("nan")
    low, high = np.quantile(values, [0.15865525, 0.84134475])
    return float(high - low) / 2
