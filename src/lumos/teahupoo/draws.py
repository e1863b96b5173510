"""A known broad density of fluxes, from which training draws and which is divided out again."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray
from lumos.errors import LumosValueError

__all__ = ["FluxProposal"]


@dataclass(frozen=True)
class FluxProposal:
    r"""Density of the flux F in units of its closed-form error: even in asinh, with soft ends.

    With :math:`s = F / \sigma` and :math:`t = \mathrm{arsinh}(s / a)`, t is the sum of a uniform variate on
    :math:`[t_0, t_1] = \mathrm{arsinh}([s_0, s_1] / a)` and a Gaussian one of width w, so that

    .. math:: p(F) = \frac{1}{\sigma \sqrt{a^2 + s^2}} \cdot
        \frac{\Phi((t - t_0) / w) - \Phi((t - t_1) / w)}{t_1 - t_0}:

    constant for fluxes of a few errors, as 1/F above, positive and smooth everywhere.

    Parameters
    ----------
    low, high : float
        Ends of the plateau, s0 and s1.
    softening : float
        a.
    edge : float
        w.

    Raises
    ------
    LumosValueError
        If the ends are not finite and increasing, or a width is not positive.
    """

    low: float = -10.0
    high: float = 2000.0
    softening: float = 5.0
    edge: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise LumosValueError("ends of the flux proposal", (self.low, self.high), "two finite increasing numbers")
        if not (self.softening > 0 and self.edge > 0):
            raise LumosValueError("softening and edge of the flux proposal", (self.softening, self.edge), "> 0")

    @property
    def _ends(self) -> tuple[float, float]:
        return math.asinh(self.low / self.softening), math.asinh(self.high / self.softening)

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw fluxes over their errors.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator
            The same state gives the same values.

        Returns
        -------
        float array, shape (n,)
            Values of s.
        """
        t = rng.uniform(*self._ends, n) + self.edge * rng.standard_normal(n)
        return np.asarray(self.softening * np.sinh(t))

    def nodes(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Return nodes for integrals over the density: even in t, to eight widths beyond the ends.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        s, log_weights : float array, shape (n,)
            The integral of g(s) p(s) ds is the sum of g(s) exp(log_weights).
        """
        low, high = self._ends
        t = np.linspace(low - 8 * self.edge, high + 8 * self.edge, n)
        s = self.softening * np.sinh(t)
        density = self.log_prob(torch.from_numpy(s), torch.ones(1, dtype=torch.float64)).numpy()
        return s, density + np.log(np.hypot(self.softening, s)) + np.log(t[1] - t[0])

    def log_prob(self, flux: Tensor, flux_scale: Tensor) -> Tensor:
        """Return the logarithm of the density.

        Parameters
        ----------
        flux : tensor
            Fluxes in any unit.
        flux_scale : tensor, broadcastable to ``flux``
            Closed-form errors in the same unit.

        Returns
        -------
        tensor of the broadcast shape
            Natural logarithm of p(F) per that unit; finite at any flux.
        """
        s = flux.double() / flux_scale
        t = torch.asinh(s / self.softening)
        low, high = self._ends
        # About the middle of the plateau the density is even: in the lower half no digits are lost.
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        t = -(t - middle).abs()
        rise, fall = (torch.special.log_ndtr((t + end) / self.edge) for end in (half, -half))
        plateau = rise + torch.log1p(-torch.exp(fall - rise))
        jacobian = 0.5 * torch.log(self.softening**2 + s.square()) + torch.log(torch.as_tensor(flux_scale).double())
        density: Tensor = plateau - math.log(2 * half) - jacobian
        return density.to(flux.dtype)
