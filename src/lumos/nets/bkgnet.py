r"""BKGnet: the background under an object, and its error, from the pixels around it.

What lies under the object is masked. The network sees the rest of the stamp as it departs from the level of the
annulus, in units of the pixel noise :math:`\sigma`, and answers in that unit: nothing depends on the flux unit, the
gain or the exposure time.

References
----------
Cabayol-Garcia et al. (2020), "The PAU Survey: background light estimation with deep learning techniques",
arXiv:1910.02075. There stamps of 120 px are seen pixel by pixel; here those of 60 px in blocks of 3 x 3, and the
annulus around them as one number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lumos.errors import LumosShapeError
from lumos.estimators import Ellipses
from lumos.nets.settings import BkgnetSettings
from lumos.rows import Rowwise

__all__ = ["LEAST_HOLE", "BackgroundInputs", "BackgroundNetwork", "background_inputs", "elliptical_hole"]

#: Side of a block of pixels, and blocks along a stamp.
_BLOCK, _BLOCKS = 3, 20
#: The mask reaches this many half-light radii of the convolved profile from the centre; at least, at most so many px.
HOLE_RADII, LEAST_HOLE, _LARGEST_HOLE = 3.0, 8.0, 24.0
#: Waves along each axis of the CCD by which its places are told apart.
_WAVES = 4
#: A stamp with less of it to be seen tells nothing.
_LEAST_SEEN = 0.1
_LOG_STD_LIMIT = 7.0


@dataclass(frozen=True)
class BackgroundInputs(Rowwise):
    """Inputs of the network for n objects, and the unit of its output.

    Parameters
    ----------
    images : tensor, shape (n, 2, 20, 20), float32
        Mean of arsinh of the pixels' departure from the annulus in each block, and the share of its pixels seen.
    scalars : tensor, shape (n, 2), float32
        Logarithm of the annulus' error in units of the pixel noise; share of the stamp that is seen.
    place : tensor, shape (n, 2), float32
        Place on the CCD, 0 to 1.
    index : tensor, shape (n,), int64
        Row of the embedding of band and camera state.
    centre, unit : tensor, shape (n,), float32
        Level of the annulus and noise of a pixel, image units.
    usable : tensor, shape (n,), bool
        False for objects of which the network cannot tell; their inputs are 0.
    """

    images: Tensor
    scalars: Tensor
    place: Tensor
    index: Tensor
    centre: Tensor
    unit: Tensor
    usable: Tensor

    def properties(self) -> dict[str, Tensor]:
        """Return what tells stamps that are unlike the training ones.

        Returns
        -------
        dict
            Share of the stamp seen, error of the annulus in the pixel noise, root mean square of blocks; shape (n,).
        """
        seen = self.images[:, 1]
        power = (self.images[:, 0].square() * seen).sum((1, 2)) / seen.sum((1, 2)).clamp(min=_LEAST_SEEN)
        return {"seen": self.scalars[:, 1], "annulus_err": self.scalars[:, 0].exp(), "structure": power.sqrt()}


def elliptical_hole(shape: tuple[int, int], x: Tensor, y: Tensor, ellipses: Ellipses) -> Tensor:
    """Return the pixels under objects: inside 3 half-light radii, and 8 px from the centre at least.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the stamps.
    x, y : tensor, shape (n,)
        Centres, 0-based pixels.
    ellipses : Ellipses
        Half-light ellipses of the convolved profiles.

    Returns
    -------
    tensor, shape (n, height, width), bool
        True on pixels whose centre is inside.
    """
    dx = (torch.arange(shape[1], device=x.device) - x[:, None])[:, None, :]
    dy = (torch.arange(shape[0], device=x.device) - y[:, None])[:, :, None]
    major, minor = (
        (HOLE_RADII * axis.nan_to_num()).clamp(LEAST_HOLE, _LARGEST_HOLE)[:, None, None]
        for axis in (ellipses.semi_major, ellipses.semi_minor)
    )
    cos, sin = (wave(ellipses.theta.nan_to_num())[:, None, None] for wave in (torch.cos, torch.sin))
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    return (along / major).square() + (across / minor).square() < 1


def background_inputs(
    data: Tensor, seen: Tensor, variance: Tensor, level: Tensor, level_err: Tensor, place: Tensor, index: Tensor
) -> BackgroundInputs:
    """Prepare stamps for the network; pixels that are not seen do not count.

    Parameters
    ----------
    data : tensor, shape (n, 60, 60)
        Pixels, image units.
    seen : tensor, shape (n, 60, 60), bool
        Usable pixels that do not lie under the object.
    variance : tensor, shape (n, 60, 60) or (n, 1, 1)
        Of a pixel of the sky.
    level, level_err : tensor, shape (n,)
        Background of the annulus and its error; NaN where there is none.
    place : tensor, shape (n, 2)
        Place on the CCD, 0 to 1.
    index : tensor, shape (n,), int64
        Row of the embedding.

    Returns
    -------
    BackgroundInputs
        Of n objects.

    Raises
    ------
    LumosShapeError
        If the stamps are of another size.
    """
    side = _BLOCK * _BLOCKS
    if data.shape[1:] != (side, side) or data.shape != seen.shape:
        raise LumosShapeError("stamps for bkgnet", tuple(data.shape), f"(n, {side}, {side})")
    number = seen.sum((1, 2))
    typical = torch.where(seen, variance, torch.nan).flatten(1).nanmedian(1).values.to(data.dtype)
    unit = typical.sqrt()
    share = number / side**2
    usable = torch.isfinite(level) & torch.isfinite(level_err) & (level_err > 0)
    usable &= torch.isfinite(unit) & (unit > 0) & (share >= _LEAST_SEEN)
    unit, centre, error = (torch.where(usable, v, 1.0).to(data.dtype) for v in (unit, level, level_err))
    departure = torch.where(seen, data - centre[:, None, None], 0.0) / unit[:, None, None]
    weight = avg_pool2d(seen.to(data.dtype)[:, None], _BLOCK)
    values = avg_pool2d(torch.asinh(departure)[:, None], _BLOCK) / weight.clamp(min=1 / _BLOCK**2)
    images = torch.cat([values, weight], 1)
    usable &= torch.isfinite(images).all(dim=(1, 2, 3))
    scalars = torch.stack([(error / unit).log(), share], 1)
    return BackgroundInputs(
        images=torch.where(usable[:, None, None, None], images, 0.0).float(),
        scalars=torch.where(usable[:, None], scalars, 0.0).float(),
        place=place.float(),
        index=index,
        centre=centre.float(),
        unit=unit.float(),
        usable=usable,
    )


class BackgroundNetwork(nn.Module):
    """Blocks of a stamp in; the departure of the background from the annulus and its error out.

    Parameters
    ----------
    settings : BkgnetSettings
        Sizes, and whether the place on the CCD is an input.
    n_states : int
        Rows of the embedding: bands times camera states; with 1 there is none.
    """

    def __init__(self, settings: BkgnetSettings, n_states: int = 1) -> None:
        super().__init__()
        first, second, third = settings.channels
        self.trunk = nn.Sequential(
            nn.Conv2d(2, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(third * (_BLOCKS // 4) ** 2, settings.hidden),
        )
        self.embedding = nn.Embedding(n_states, settings.embedding_dim) if n_states > 1 else None
        self.position = settings.position
        n_numbers = 2 + (n_states > 1) * settings.embedding_dim + settings.position * 4 * _WAVES
        self.dense = nn.Sequential(
            nn.Linear(settings.hidden + n_numbers, settings.hidden),
            nn.SiLU(),
            nn.Linear(settings.hidden, settings.hidden),
            nn.SiLU(),
        )
        self.head = nn.Linear(settings.hidden, 2)
        with torch.no_grad():
            # At first the level is the annulus', and its error a tenth of the noise of a pixel.
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(torch.tensor([0.0, -2.3]))

    def forward(self, inputs: BackgroundInputs) -> tuple[Tensor, Tensor]:
        """Return levels above the annulus and logarithms of their errors, in units of the pixel noise.

        Parameters
        ----------
        inputs : BackgroundInputs
            Of n objects.

        Returns
        -------
        level, log_err : tensor, shape (n,)
            Float32.
        """
        numbers = [self.trunk(inputs.images), inputs.scalars]
        if self.embedding is not None:
            numbers.append(self.embedding(inputs.index))
        if self.position:
            # Half waves: both edges of the CCD differ.
            phase = torch.pi * torch.arange(1, _WAVES + 1, device=inputs.place.device) * inputs.place[:, :, None]
            numbers += [phase.cos().flatten(1), phase.sin().flatten(1)]
        level, log_err = self.head(self.dense(torch.cat(numbers, 1))).unbind(1)
        return level, _LOG_STD_LIMIT * torch.tanh(log_err / _LOG_STD_LIMIT)
