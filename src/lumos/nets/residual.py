"""The residual network: a small convolutional network that corrects the optimal flux."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lumos.errors import LumosShapeError
from lumos.nets.inputs import N_CHANNELS, SCENE_CHANNELS, scalar_names
from lumos.nets.mdn import MixtureHead, MixtureOutput
from lumos.nets.settings import ResidualSettings

__all__ = ["ResidualNetwork"]

#: Weights of the head start this much smaller, so that an untrained network returns the optimal flux, with error 1.
_HEAD_GAIN = 0.05
#: Side of the stamps; of their middle, and of the blocks of pixels, that a network with a fovea sees.
_SIDE, _FOVEA, _BLOCK = 60, 32, 3


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


def _strides(n_images: int, channels: tuple[int, ...], blocks: tuple[int, ...]) -> list[nn.Module]:
    """Return convolutions that halve the maps as often as there are channels, each with its blocks behind it."""
    layers: list[nn.Module] = [nn.Conv2d(n_images, channels[0], 5, stride=2, padding=2)]
    layers += [_Block(channels[0]) for _ in range(blocks[0])]
    for (before, after), n_blocks in zip(pairwise(channels), blocks[1:], strict=True):
        layers += [nn.SiLU(), nn.Conv2d(before, after, 3, stride=2, padding=1)]
        layers += [_Block(after) for _ in range(n_blocks)]
    return layers


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
        hidden = settings.hidden
        #: Number of images of each object.
        self.n_channels = N_CHANNELS + SCENE_CHANNELS * settings.scene
        self.fovea = settings.fovea
        side = _FOVEA if settings.fovea else _SIDE
        self.trunk = nn.Sequential(
            *_strides(self.n_channels, settings.channels, settings.blocks),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(settings.channels[2] * math.ceil(side / 8) ** 2, hidden),
        )
        if settings.fovea:
            wide = (settings.channels[0], settings.channels[1])
            last = wide[1] * math.ceil(_SIDE / _BLOCK / 4) ** 2
            self.surroundings = nn.Sequential(
                *_strides(self.n_channels, wide, (0, 0)), nn.SiLU(), nn.Flatten(), nn.Linear(last, hidden)
            )
        self.bands = nn.Embedding(n_bands, settings.embedding_dim) if n_bands > 1 else None
        self.states = nn.Embedding(n_states, settings.embedding_dim) if n_states > 1 else None
        scalars = scalar_names(position=settings.position, reference=settings.reference, scene=settings.scene)
        #: Length of the vectors of numbers that it takes.
        self.n_scalars = len(scalars)
        embedded = [(name, n) for name, n in (("band", n_bands), ("state", n_states)) if n > 1]
        #: All that the dense layers see beside the images' features.
        self.numbers = scalars + tuple(f"{name}_{i}" for name, _ in embedded for i in range(settings.embedding_dim))
        self.dense = nn.Sequential(
            nn.Linear(hidden + len(self.numbers), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.head = MixtureHead(hidden, settings.n_components, shares=settings.scene)
        with torch.no_grad():
            self.head.linear.weight.mul_(_HEAD_GAIN)
            # Components start with widths from 1 to 50 errors of the optimal flux: neighbours can do that to it.
            # All of the neighbours' errors counts.
            n = settings.n_components
            self.head.linear.weight[3 * n :] = 0.0
            self.head.linear.bias.zero_()
            self.head.linear.bias[2 * n : 3 * n] = torch.linspace(0.0, 4.0, n)

    @torch.no_grad()
    def take_weights(self, other: "ResidualNetwork") -> None:
        """Take the weights of another network; what only this one is given does not count at first.

        Parameters
        ----------
        other : ResidualNetwork
            Of the same sizes, and given the same or less.
        """
        columns = [self.numbers.index(name) for name in other.numbers]
        hidden = self.head.linear.in_features
        weights = other.state_dict()
        first = torch.zeros_like(self.state_dict()["dense.0.weight"])
        first[:, [*range(hidden), *(hidden + column for column in columns)]] = weights["dense.0.weight"]
        self.load_state_dict(self.state_dict() | weights | {"dense.0.weight": first})

    def forward(self, images: Tensor, scalars: Tensor, index: Tensor) -> MixtureOutput:
        """Return the mixtures.

        Parameters
        ----------
        images : tensor, shape (n, n_channels, 60, 60)
            Images.
        scalars : tensor, shape (n, n_scalars)
            Numbers.
        index : tensor, shape (n, 2), int64
            Band and state.

        Returns
        -------
        MixtureOutput
            Of (flux - optimal flux) / error; on scenes, where it is to be widened by the neighbours' errors, with
            the share of these that counts.

        Raises
        ------
        LumosShapeError
            If the images are of another size.
        """
        if images.shape[1:] != (self.n_channels, _SIDE, _SIDE):
            allowed = f"(n, {self.n_channels}, {_SIDE}, {_SIDE})"
            raise LumosShapeError("images of the residual network", tuple(images.shape), allowed)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.fovea:
            low = (_SIDE - _FOVEA) // 2
            middle = images[:, :, low : low + _FOVEA, low : low + _FOVEA]
            features = (self.trunk(middle) + self.surroundings(avg_pool2d(images, _BLOCK))).float()
        else:
            features = self.trunk(images).float()
        with torch.autocast(images.device.type, enabled=False):
            numbers = [scalars.float()]
            for column, table in enumerate((self.bands, self.states)):
                if table is not None:
                    numbers.append(table(index[:, column]))
            mixture: MixtureOutput = self.head(self.dense(torch.cat([features, *numbers], dim=1)))
        return mixture
