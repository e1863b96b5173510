"""Mixture density head: features in, the Gaussian mixture of each object out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

__all__ = ["MixtureHead", "MixtureOutput"]

#: Natural logarithms of the widths, in the network's unit, are kept within this of 0: a factor of 20 000.
_LOG_STD_LIMIT = 10.0


@dataclass(frozen=True)
class MixtureOutput:
    """Gaussian mixtures of n objects with K components, in the network's own flux unit.

    Parameters
    ----------
    log_weights : tensor, shape (n, K)
        Natural logarithms of the weights, which sum to 1.
    means : tensor, shape (n, K)
        Means.
    stds : tensor, shape (n, K)
        Standard deviations, greater than 0.
    """

    log_weights: Tensor
    means: Tensor
    stds: Tensor

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return logarithms of weights, means and standard deviations."""
        return self.log_weights, self.means, self.stds

    def scaled(self, unit: Tensor, centre: Tensor) -> "MixtureOutput":
        """Return the mixtures of ``centre + unit * t`` for a variate t that follows these.

        Parameters
        ----------
        unit, centre : tensor, shape (n,)
            Scale, greater than 0, and shift.

        Returns
        -------
        MixtureOutput
            Of the new variate.
        """
        return MixtureOutput(self.log_weights, centre[:, None] + unit[:, None] * self.means, unit[:, None] * self.stds)

    def widened(self, widening: Tensor) -> "MixtureOutput":
        """Return the mixtures convolved with Gaussians.

        Parameters
        ----------
        widening : tensor, shape (n,)
            Standard deviations of the Gaussians, 0 or more.

        Returns
        -------
        MixtureOutput
            With larger standard deviations.
        """
        return MixtureOutput(self.log_weights, self.means, torch.hypot(self.stds, widening[:, None]))


class MixtureHead(nn.Module):
    """Linear layer to the weights, means and widths of a Gaussian mixture.

    Parameters
    ----------
    n_features : int
        Length of the feature vectors.
    n_components : int
        K.
    """

    def __init__(self, n_features: int, n_components: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, 3 * n_components)

    def forward(self, features: Tensor) -> MixtureOutput:
        """Return the mixtures.

        Parameters
        ----------
        features : tensor, shape (n, n_features)
            Any type; the head computes in single precision.

        Returns
        -------
        MixtureOutput
            Of n objects, float32.
        """
        logits, means, log_stds = self.linear(features).float().chunk(3, dim=1)
        stds = torch.exp(_LOG_STD_LIMIT * torch.tanh(log_stds / _LOG_STD_LIMIT))
        return MixtureOutput(log_softmax(logits, dim=1), means, stds)
