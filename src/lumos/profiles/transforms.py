"""Fourier transforms and surface brightnesses of the radial profiles, tabulated once per process.

A :class:`RadialTable` holds one row per value of a shape parameter and one column per knot of
``log(k)``. All transforms are 1 at k = 0.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from lumos.conventions import MOFFAT_BETA_MIN, FloatArray

__all__ = [
    "RadialTable",
    "lookup",
    "moffat_alpha",
    "moffat_cutoff",
    "moffat_table",
    "sersic_b",
    "sersic_table",
]

# The abscissa is log(k^2 + K_SOFT^2) / 2: finite at k = 0, logarithmic where the profiles fall.
_K_SOFT = 0.02
_K_MAX = 4000.0
_N_KNOTS = 1536
_U_MIN = float(np.log(_K_SOFT))
_U_STEP = (float(np.log(_K_MAX)) - _U_MIN) / (_N_KNOTS - 1)
# Past these the transform of a Moffat is below 1e-30 and Bessel K underflows.
_BESSEL_MAX = 600.0


def _knots() -> FloatArray:
    u = _U_MIN + _U_STEP * np.arange(_N_KNOTS)
    k: FloatArray = np.sqrt(np.maximum(np.exp(2 * u) - _K_SOFT**2, 0.0))
    return k


@dataclass(frozen=True)
class RadialTable:
    """Radial transforms on a regular grid of a shape parameter.

    Parameters
    ----------
    start, step : float
        First value and spacing of the shape parameter's grid.
    values : float64 tensor, shape (n_rows, n_knots)
        Transform at each knot.
    """

    start: float
    step: float
    values: Tensor

    def rows(self, parameter: Tensor) -> Tensor:
        """Interpolate the table in its shape parameter, by cubic Lagrange polynomials.

        Parameters
        ----------
        parameter : float64 tensor, shape (n,)
            Shape parameters, at least one step inside the grid.

        Returns
        -------
        tensor, shape (n, n_knots)
            One radial transform per object, of the table's type.
        """
        position = (parameter - self.start) / self.step
        cell = position.floor().clamp(1, len(self.values) - 3)
        f = position - cell
        weights = torch.stack(
            [
                -f * (f - 1) * (f - 2) / 6,
                (f + 1) * (f - 1) * (f - 2) / 2,
                -(f + 1) * f * (f - 2) / 2,
                (f + 1) * f * (f - 1) / 6,
            ],
            dim=-1,
        ).to(self.values.dtype)
        index = cell.to(torch.int64)[:, None] + torch.arange(-1, 3, device=cell.device)
        return torch.einsum("nj,njk->nk", weights, self.values[index])

    def to(self, device: torch.device, dtype: torch.dtype) -> "RadialTable":
        """Return the table on a device, in a floating-point type.

        Parameters
        ----------
        device : torch.device
            Where the values shall lie.
        dtype : torch.dtype
            Floating-point type that the values shall have.

        Returns
        -------
        RadialTable
            With the same grid.
        """
        return RadialTable(self.start, self.step, self.values.to(device, dtype))


def lookup(rows: Tensor, k_squared: Tensor) -> Tensor:
    """Evaluate radial transforms by linear interpolation between the knots.

    Parameters
    ----------
    rows : tensor, shape (n, n_knots)
        Rows of a :class:`RadialTable`.
    k_squared : tensor, shape (n, n_points)
        Squared wavenumber times the squared unit of length of the table; overwritten.

    Returns
    -------
    tensor, shape (n, n_points)
        Transforms; beyond the last knot that of the last knot.
    """
    position = k_squared.clamp_(min=0).add_(_K_SOFT**2).log_().mul_(0.5 / _U_STEP).sub_(_U_MIN / _U_STEP)
    # Rounding may put k = 0 just below the first knot.
    position.clamp_(0, _N_KNOTS - 1.001)
    cell = position.to(torch.int64)
    # Value and slope travel as one complex number, so that one gather fetches both.
    pairs = torch.complex(rows[:, :-1].contiguous(), torch.diff(rows, dim=1))
    found = torch.view_as_real(pairs.gather(1, cell))
    return torch.addcmul(found[..., 0], found[..., 1], position.sub_(cell))


def sersic_b(sersic_n: FloatArray) -> FloatArray:
    r"""Return the b of each Sérsic index, exactly: half the light lies within the half-light radius.

    .. math:: \gamma(2n, b) = \Gamma(2n) / 2

    Parameters
    ----------
    sersic_n : float array
        Sérsic indices n of any shape.

    Returns
    -------
    float array
        The coefficient b of the same shape.
    """
    b: FloatArray = special.gammaincinv(2 * sersic_n, 0.5)
    return b


def _sersic_transform(sersic_n: FloatArray, k: FloatArray) -> FloatArray:
    r"""Fourier transforms of circular Sérsic profiles of unit half-light radius, shape (n, k).

    With t = b r^(1/n) the Mellin transform of the profile is a Gamma function, so that the Hankel
    transform is a Mellin-Barnes integral along Re s = 1:

    .. math:: F(k) = \frac{1}{2\pi i}\int 2^{s-1}\frac{\Gamma(s/2)}{\Gamma(1-s/2)}
              \frac{b^{ns}\,\Gamma(n(2-s))}{\Gamma(2n)}\,k^{-s}\,ds

    The integrand decays as exp(-pi n |Im s| / 2), so the trapezoid rule converges exponentially: the
    errors are below 1e-11.
    """
    n = sersic_n[:, None]
    step = 0.1
    tau = step * np.arange(900)
    s = 1 + 1j * tau
    log_bessel = (s - 1) * np.log(2) + special.loggamma(s / 2) - special.loggamma(1 - s / 2)
    log_profile = n * s * np.log(sersic_b(n)) + special.loggamma(n * (2 - s)) - special.gammaln(2 * n)
    amplitude = np.exp(log_bessel + log_profile)
    amplitude[:, 0] *= 0.5
    transform: FloatArray = step / np.pi * (amplitude @ np.exp(-1j * np.outer(tau, np.log(k)))).real / k
    return transform


@functools.cache
def sersic_table() -> RadialTable:
    """Return the transforms of Sérsic profiles, over log(n), in units of the half-light radius.

    Returns
    -------
    RadialTable
        Built in about 0.1 s at the first call; interpolation errors are below 1e-5.
    """
    log_n, step = np.linspace(np.log(0.26), np.log(7.2), 64, retstep=True)
    values = np.ones((len(log_n), _N_KNOTS))
    values[:, 1:] = _sersic_transform(np.exp(log_n), _knots()[1:])
    return RadialTable(float(log_n[0]), float(step), torch.from_numpy(values))


def moffat_alpha(beta: FloatArray) -> FloatArray:
    """Return the scale radius of Moffat profiles in units of their FWHM.

    Parameters
    ----------
    beta : float array
        Exponents of the Moffat profiles, above 1.

    Returns
    -------
    float array
        Scale radius over FWHM.
    """
    alpha: FloatArray = 0.5 / np.sqrt(np.expm1(np.log(2) / beta))
    return alpha


def _moffat_transform(beta: float, k: FloatArray) -> FloatArray:
    r"""Fourier transform of a Moffat of unit FWHM, :math:`2 (x/2)^{β-1} K_{β-1}(x) / Γ(β-1)`, x = k alpha."""
    order = beta - 1
    x = np.clip(k * moffat_alpha(np.array(beta)), 1e-12, _BESSEL_MAX)
    with np.errstate(over="ignore"):
        bessel = special.kve(order, x)
    transform = np.exp(np.log(2) + order * np.log(x / 2) + np.log(bessel) - x - special.gammaln(order))
    # Bessel K overflows at small x and large order, where two terms of the series are exact to 1e-12.
    return np.where(np.isfinite(bessel), transform, 1 - x**2 / (4 * max(order - 1, 1)))


@functools.cache
def moffat_table() -> RadialTable:
    """Return the transforms of Moffat profiles, over 1 / beta, in units of the FWHM.

    Returns
    -------
    RadialTable
        The row 1 / beta = 0 is the Gaussian; one row below it serves the interpolation only.
    """
    step = 0.02
    n_rows = int(np.ceil(1 / MOFFAT_BETA_MIN / step)) + 3
    k = _knots()
    gaussian = np.exp(-(k**2) / (16 * np.log(2)))
    values = np.array([gaussian, *(_moffat_transform(1 / (step * i), k) for i in range(1, n_rows))])
    # Linear continuation past the Gaussian, whose neighbourhood in 1 / beta is regular.
    values = np.concatenate([3 * values[:1] - 3 * values[1:2] + values[2:3], values])
    return RadialTable(-step, step, torch.from_numpy(values))


@functools.cache
def _cutoffs(share: float) -> tuple[FloatArray, FloatArray]:
    table = moffat_table()
    k = _knots()
    # The step of k is proportional to (k^2 + K_SOFT^2) / k on this grid.
    light = np.maximum(table.values.numpy()[1:], 0) * (k**2 + _K_SOFT**2)
    beyond = np.cumsum(light[:, ::-1], axis=1)[:, ::-1]
    first = np.argmax(beyond < share * beyond[:, :1], axis=1)
    inverse_beta: FloatArray = table.step * np.arange(len(first), dtype=np.float64)
    return inverse_beta, k[first]


def moffat_cutoff(beta: FloatArray, share: float) -> FloatArray:
    """Return the wavenumber beyond which a Moffat's transform holds a given share of its central brightness.

    Parameters
    ----------
    beta : float array, shape (n,)
        Exponents of the Moffat profiles, above 1.
    share : float
        Share of the integral of the transform over the plane that may be cut off.

    Returns
    -------
    float array, shape (n,)
        Wavenumber times FWHM.
    """
    cutoff: FloatArray = np.interp(1 / beta, *_cutoffs(share))
    return cutoff
