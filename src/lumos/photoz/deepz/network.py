"""Networks of redshifts: that of Deepz (Eriksen et al. 2020, MNRAS 497, 4565), and a smaller one."""

import torch
from torch import Tensor, nn

from lumos.nets.mdn import MixtureHead, MixtureOutput
from lumos.photoz.deepz.settings import DeepzSizes

__all__ = ["CompactNetwork", "DeepzNetwork"]

#: Dropout of the autoencoder and of the mixture density network.
_DROPOUT, _MDN_DROPOUT = 0.01, 0.02
#: Flux ratios above 1 over this are compressed; errors are seen as logarithms within this range.
_STRETCH, _ERROR_RANGE = 3.0, (1e-4, 1e2)


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

    def forward(self, ratios: Tensor, errors: Tensor) -> MixtureOutput:  # noqa: ARG002 (as the compact network)
        """Return p(z).

        Parameters
        ----------
        ratios, errors : tensor, shape (n, n_bands)
            Fluxes over the flux in the reference band; errors are not used.

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


class CompactNetwork(nn.Module):
    """From flux ratios and their errors to the mixture of Gaussians of p(z); bands may be missing.

    Parameters
    ----------
    n_bands : int
        Bands, the reference band among them.
    sizes : DeepzSizes
        Sizes of the layers.
    """

    def __init__(self, n_bands: int, sizes: DeepzSizes) -> None:
        super().__init__()
        self.first = nn.Linear(3 * n_bands, sizes.hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(sizes.hidden),
                nn.Linear(sizes.hidden, sizes.hidden),
                nn.SiLU(),
                nn.Linear(sizes.hidden, sizes.hidden),
            )
            for _ in range(sizes.depth)
        )
        self.last = nn.LayerNorm(sizes.hidden)
        self.head = MixtureHead(sizes.hidden, sizes.components)

    def forward(self, ratios: Tensor, errors: Tensor) -> MixtureOutput:
        """Return p(z).

        Parameters
        ----------
        ratios, errors : tensor, shape (n, n_bands)
            Fluxes over the flux in the reference band, and errors; NaN where a band is missing.

        Returns
        -------
        MixtureOutput
            Of n galaxies, in redshift.
        """
        seen = torch.isfinite(ratios) & torch.isfinite(errors)
        values = torch.where(seen, torch.asinh(_STRETCH * ratios.nan_to_num()), 0.0)
        widths = torch.where(seen, errors.nan_to_num(nan=1.0).clamp(*_ERROR_RANGE).log(), 0.0)
        hidden = self.first(torch.cat([values, widths, seen.to(values.dtype)], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        mixture: MixtureOutput = self.head(torch.nn.functional.silu(self.last(hidden)))
        return mixture
