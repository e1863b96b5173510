"""The residual network: a small convolutional network that corrects the optimal flux."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lumos.errors import LumosShapeError
from lumos.nets.inputs import N_CHANNELS, POSITION_SCALARS, REFERENCE_SCALARS, SCALARS
from lumos.nets.mdn import MixtureHead, MixtureOutput
from lumos.nets.settings import ResidualSettings

__all__ = ["ResidualNetwork"]

#: Weights of the head start this much smaller, so that an untrained network returns the optimal flux, with error 1.
_HEAD_GAIN = 0.05
#: Side of the stamps, and of the maps that three strides of 2 leave.
_SIDE, _LAST_SIDE = 60, 8


class _Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.second = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.activation = nn.SiLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.first(self.activation(maps))
        return torch.add(maps, self.second(self.activation(inner)))


class ResidualNetwork(nn.Module):
    """Flux relative to the optimal estimate, in units of its error, as a Gaussian mixture.

    Parameters
    ----------
    settings : ResidualSettings
        Sizes, and what is given beside the stamps.
    n_bands, n_states : int, optional
        Rows of the embeddings of band and camera state; 1 for none.

    Notes
    -----
    Inputs are those of :func:`lumos.nets.inputs.residual_inputs`. The convolutions may run in bfloat16 (autocast);
    numbers and dense layers stay in single precision, since signal-to-noise ratios do not fit into 8 bits.
    """

    def __init__(self, settings: ResidualSettings, *, n_bands: int = 1, n_states: int = 1) -> None:
        super().__init__()
        channels, blocks, hidden = settings.channels, settings.blocks, settings.hidden
        layers: list[nn.Module] = [nn.Conv2d(N_CHANNELS, channels[0], 5, stride=2, padding=2)]
        layers += [_Block(channels[0]) for _ in range(blocks[0])]
        for (before, after), n_blocks in zip(pairwise(channels), blocks[1:], strict=True):
            layers += [nn.SiLU(), nn.Conv2d(before, after, 3, stride=2, padding=1)]
            layers += [_Block(after) for _ in range(n_blocks)]
        layers += [nn.SiLU(), nn.Flatten(), nn.Linear(channels[2] * _LAST_SIDE**2, hidden)]
        self.trunk = nn.Sequential(*layers)
        self.bands = nn.Embedding(n_bands, settings.embedding_dim) if n_bands > 1 else None
        self.states = nn.Embedding(n_states, settings.embedding_dim) if n_states > 1 else None
        #: Length of the vectors of numbers that it takes.
        self.n_scalars = len(SCALARS) + len(POSITION_SCALARS) * settings.position
        self.n_scalars += len(REFERENCE_SCALARS) * settings.reference
        n_numbers = self.n_scalars + settings.embedding_dim * ((n_bands > 1) + (n_states > 1))
        self.dense = nn.Sequential(
            nn.Linear(hidden + n_numbers, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.head = MixtureHead(hidden, settings.n_components)
        with torch.no_grad():
            self.head.linear.weight.mul_(_HEAD_GAIN)
            # Components start with widths from 1 to 50 errors of the optimal flux: neighbours can do that to it.
            bias = torch.zeros(3, settings.n_components)
            bias[2] = torch.linspace(0.0, 4.0, settings.n_components)
            self.head.linear.bias.copy_(bias.flatten())

    def forward(self, images: Tensor, scalars: Tensor, index: Tensor) -> MixtureOutput:
        """Return the mixtures.

        Parameters
        ----------
        images : tensor, shape (n, 4, 60, 60)
            Images.
        scalars : tensor, shape (n, n_scalars)
            Numbers.
        index : tensor, shape (n, 2), int64
            Band and state.

        Returns
        -------
        MixtureOutput
            Of (flux - optimal flux) / error.

        Raises
        ------
        LumosShapeError
            If the images are of another size.
        """
        if images.shape[1:] != (N_CHANNELS, _SIDE, _SIDE):
            raise LumosShapeError("images of the residual network", tuple(images.shape), f"(n, {N_CHANNELS}, 60, 60)")
        features = self.trunk(images.contiguous(memory_format=torch.channels_last)).float()
        with torch.autocast(images.device.type, enabled=False):
            numbers = [scalars.float()]
            for column, table in enumerate((self.bands, self.states)):
                if table is not None:
                    numbers.append(table(index[:, column]))
            mixture: MixtureOutput = self.head(self.dense(torch.cat([features, *numbers], dim=1)))
        return mixture
