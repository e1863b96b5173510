"""The networks of Deepz: an autoencoder and a mixture density network (Eriksen et al. 2020, MNRAS 497, 4565)."""

import torch
from torch import Tensor, nn

from lumos.nets.mdn import MixtureHead, MixtureOutput
from lumos.photoz.deepz.settings import DeepzSizes

__all__ = ["DeepzNetwork"]

#: Dropout of the autoencoder and of the mixture density network.
_DROPOUT, _MDN_DROPOUT = 0.01, 0.02


def _block(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    return [nn.BatchNorm1d(n_in), nn.Linear(n_in, n_out), nn.Dropout(dropout), nn.ReLU()]


def _coder(n_in: int, n_out: int, sizes: DeepzSizes) -> nn.Sequential:
    """Return an encoder or a decoder."""
    blocks = [layer for _ in range(sizes.coder_depth) for layer in _block(sizes.hidden, sizes.hidden, _DROPOUT)]
    return nn.Sequential(nn.Linear(n_in, sizes.hidden), *blocks, nn.Linear(sizes.hidden, n_out))


class DeepzNetwork(nn.Module):
    """From flux ratios to the mixture of Gaussians of p(z).

    The encoder finds features, and the mixture density network sees them beside the ratios. The decoder makes ratios of
    features again; pretraining alone uses it.

    Parameters
    ----------
    n_bands : int
        Bands, the reference band among them.
    sizes : DeepzSizes
        Sizes of the layers.
    """

    def __init__(self, n_bands: int, sizes: DeepzSizes) -> None:
        super().__init__()
        self.encoder = _coder(n_bands, sizes.features, sizes)
        self.decoder = _coder(sizes.features, n_bands, sizes)
        n_inputs, hidden = n_bands + sizes.features, sizes.hidden
        layers = [nn.BatchNorm1d(n_inputs), nn.Linear(n_inputs, sizes.first), nn.Dropout(_MDN_DROPOUT), nn.ReLU()]
        layers += _block(sizes.first, hidden, _MDN_DROPOUT)
        for _ in range(sizes.depth):
            layers += _block(hidden, hidden, _MDN_DROPOUT)
        for _ in range(sizes.plain_depth):
            layers += [nn.BatchNorm1d(hidden), nn.Linear(hidden, hidden), nn.ReLU()]
        self.density = nn.Sequential(*layers, nn.BatchNorm1d(hidden), nn.ReLU())
        self.head = MixtureHead(hidden, sizes.components)

    def forward(self, ratios: Tensor) -> MixtureOutput:
        """Return p(z).

        Parameters
        ----------
        ratios : tensor, shape (n, n_bands)
            Fluxes over the flux in the reference band.

        Returns
        -------
        MixtureOutput
            Of n galaxies, in redshift.
        """
        mixture, _ = self.with_features(ratios)
        return mixture

    def with_features(self, ratios: Tensor) -> tuple[MixtureOutput, Tensor]:
        """Return p(z) and the features of the encoder.

        Parameters
        ----------
        ratios : tensor, shape (n, n_bands)
            Fluxes over the flux in the reference band.

        Returns
        -------
        mixture : MixtureOutput
            Of n galaxies, in redshift.
        features : tensor, shape (n, n_features)
            What the decoder takes.
        """
        features = self.encoder(ratios)
        mixture: MixtureOutput = self.head(self.density(torch.cat([ratios, features], dim=1)))
        return mixture, features
