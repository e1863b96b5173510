"""The normal law cut at zero, in units of its standard deviation, accurate however far out the cut is.

With t = f / sigma >= 0 and a = -mu / sigma (where the cut lies in the normal's own units), the density of t is
phi(t + a) / Phi(-a), eq. 9-10. For a > 0 the ratios of tails are taken with the scaled complementary error function,
in which exp(-a^2 / 2) cancels: nothing underflows, and no large logarithms are subtracted.
"""

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr, ndtri

from lumos.conventions import BoolArray, FloatArray

__all__ = ["cut_from_variation", "log_density", "mean_variance", "quantile", "tail"]

ROOT2 = np.sqrt(2.0)
LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)
#: From here on the continued fraction of the hazard; below it, differences lose less than two digits.
FRACTION_FROM = 4.0
#: 60 terms give all digits at a = 4 (30 give 1e-13); fewer are needed further out.
FRACTION_TERMS = 60
#: A component cut further out than this is exponential to 2 / a^2 = 0.2 %.
LARGEST_CUT = 30.0


def log_density(t: FloatArray, a: FloatArray) -> FloatArray:
    """Return the logarithm of the density of t.

    Parameters
    ----------
    t : ndarray
        Flux over standard deviation; ``-inf`` is returned below 0.
    a : ndarray
        Place of the cut.

    Returns
    -------
    ndarray
        Logarithms, of the broadcast shape.
    """
    hard = a > 0
    far = np.log(erfcx(np.where(hard, a, 0) / ROOT2) / 2) + t * (a + t / 2)
    near = log_ndtr(-np.minimum(a, 0)) + (t + a) ** 2 / 2
    result: FloatArray = np.where(t < 0, -np.inf, -LOG_ROOT_2PI - np.where(hard, far, near))
    # An infinite flux: inf - inf above where a < 0.
    return np.where(np.isposinf(t) & np.isfinite(a), -np.inf, result)


def tail(t: FloatArray, a: FloatArray, upper: BoolArray) -> FloatArray:
    """Return the probability above t where ``upper``, else below t.

    Parameters
    ----------
    t : ndarray
        Flux over standard deviation; below 0 it counts as 0.
    a : ndarray
        Place of the cut.
    upper : ndarray of bool
        True for the probability above t, False for that below.

    Returns
    -------
    ndarray
        Probabilities, of the broadcast shape.
    """
    t = np.maximum(t, 0)
    z = t + a
    inside = ndtr(-np.minimum(a, 0))
    near = np.where(upper, ndtr(-z), ndtr(z) - ndtr(a)) / inside
    if not (a > 0).any():
        return np.asarray(near)
    cut = np.maximum(a, 0)
    above = erfcx((cut + t) / ROOT2) / erfcx(cut / ROOT2) * np.exp(-t * (cut + t / 2))
    return np.asarray(np.where(a > 0, np.where(upper, above, 1 - above), near))


def quantile(probability: FloatArray, a: FloatArray, upper: BoolArray) -> FloatArray:
    """Return t with the given probability above it where ``upper``, else below it.

    Parameters
    ----------
    probability : ndarray
        Probability of the tail.
    a : ndarray
        Place of the cut.
    upper : ndarray of bool
        True if the probability is that above t, False if below.

    Returns
    -------
    ndarray
        Flux over standard deviation, at least 0.
    """
    probability, a, upper = np.broadcast_arrays(probability, a, upper)
    inside = ndtr(-a)
    t = np.maximum(np.where(upper, -ndtri(probability * inside), ndtri(ndtr(a) + probability * inside)) - a, 0)
    hard = a > 0
    if hard.any():
        exponent = -np.where(upper, np.log(probability), np.log1p(-probability))[hard]
        t[hard] = _quantile_hard(exponent, a[hard])
    return np.asarray(t)


def _quantile_hard(exponent: FloatArray, a: FloatArray) -> FloatArray:
    """Solve -log P(> t) = exponent for a > 0.

    The left side is the integrated hazard, convex in t, and at least t a + t^2 / 2: Newton's method comes down from
    the root of that without overshooting.
    """
    base = erfcx(a / ROOT2)
    t = 2 * exponent / (np.sqrt(a**2 + 2 * exponent) + a)
    finite = np.isfinite(t)
    for _ in range(6):
        scaled = erfcx((a + t) / ROOT2)
        excess = t * (a + t / 2) - np.log(scaled / base) - exponent
        t = np.where(finite, np.maximum(t - excess * scaled * np.sqrt(np.pi / 2), 0), t)
    return np.asarray(t)


def mean_variance(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of t.

    With the hazard h = phi(a) / Phi(-a): mean h - a, variance 1 - h (h - a). Far out both are small differences of
    large numbers, so there h - a = 1 / (a + e), e = 2 / (a + 3 / (a + ...)), and the variance is
    (e - (h - a)) / (a + e).

    Parameters
    ----------
    a : ndarray
        Place of the cut.

    Returns
    -------
    mean, variance : ndarray
        In units of sigma and sigma^2.
    """
    hazard = np.sqrt(2 / np.pi) / erfcx(a / ROOT2)
    mean = hazard - a
    variance = 1 - hazard * mean
    far = a > FRACTION_FROM
    if far.any():
        x = a[far]
        e = np.zeros_like(x)
        for term in range(FRACTION_TERMS, 1, -1):
            e = term / (x + e)
        mean[far] = 1 / (x + e)
        variance[far] = (e - mean[far]) * mean[far]
    return mean, variance


def cut_from_variation(variation: FloatArray, start: FloatArray) -> FloatArray:
    """Return the place of the cut at which variance / mean^2 has a given value.

    Parameters
    ----------
    variation : ndarray
        Variance over squared mean, not below that at ``start``.
    start : ndarray
        A cut that is too low or right.

    Returns
    -------
    ndarray
        Cuts, at most the larger of ``start`` and ``LARGEST_CUT`` (the variation never exceeds 1, an exponential's).
    """
    low, high = start.copy(), np.maximum(start, LARGEST_CUT)
    for _ in range(80):
        middle = (low + high) / 2
        mean, variance = mean_variance(middle)
        below = variance < variation * mean**2
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
