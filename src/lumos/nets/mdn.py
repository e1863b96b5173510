"""Mixture density head: features in, the Gaussian mixture of each object out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

__all__ = ["MixtureHead", "MixtureOutput"]

#: Natural logarithms of the widths, in the network's unit, are kept within this of 0: a factor of 20 000.
_LOG_STD_LIMIT = 10.0
#: Range of the share of the neighbours' errors, natural logarithms.
_LOG_SHARE = (-3.0, 0.5)


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
    share : tensor, shape (n,), optional
        How much of a widening counts, greater than 0: what the network has found out of the neighbours' errors by
        itself. None: all of it.
    """

    log_weights: Tensor
    means: Tensor
    stds: Tensor
    share: Tensor | None = None

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
        means, stds = centre[:, None] + unit[:, None] * self.means, unit[:, None] * self.stds
        return MixtureOutput(self.log_weights, means, stds, self.share)

    def widened(self, widening: Tensor) -> "MixtureOutput":
        """Return the mixtures convolved with Gaussians: their share of these.

        Parameters
        ----------
        widening : tensor, shape (n,)
            Standard deviations of the Gaussians, 0 or more, in the unit of the means.

        Returns
        -------
        MixtureOutput
            With larger standard deviations.
        """
        if self.share is not None:
            widening = self.share * widening
        return MixtureOutput(self.log_weights, self.means, torch.hypot(self.stds, widening[:, None]))


class MixtureHead(nn.Module):
    """Linear layer to the weights, means and widths of a Gaussian mixture.

    Parameters
    ----------
    n_features : int
        Length of the feature vectors.
    n_components : int
        K.
    shares : bool
        Whether it also says how much of the neighbours' errors counts.
    """

    def __init__(self, n_features: int, n_components: int = 5, *, shares: bool = False) -> None:
        super().__init__()
        self.n_components = n_components
        self.linear = nn.Linear(n_features, 3 * n_components + shares)

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
        answers = self.linear(features).float()
        logits, means, log_stds = answers[:, : 3 * self.n_components].chunk(3, dim=1)
        stds = torch.exp(_LOG_STD_LIMIT * torch.tanh(log_stds / _LOG_STD_LIMIT))
        share = answers[:, -1].clamp(*_LOG_SHARE).exp() if answers.shape[1] > 3 * self.n_components else None
        return MixtureOutput(log_softmax(logits, dim=1), means, stds, share)
