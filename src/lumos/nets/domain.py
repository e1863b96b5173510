r"""How far a stamp lies from those that a model was trained on.

Training stamps hold neighbours, gradients and cosmic rays, so that no plain distance tells a fault from a blend.
A small network does: it sees the residual of the measured flux in the frame of the object, where every galaxy has the
same size, and was fitted to tell good stamps from faulty ones. Its answer is turned into the share p of good stamps of
that signal-to-noise ratio, size and blend which look as bad; the score is :math:`\log p / \log 0.01`, so that one good
stamp of a hundred has a score above 1. A box of simple properties catches what lies beyond the training stamps.
"""

import math

import torch
from torch import Tensor, nn

from lumos.nets.domain_box import FLAGGED, LARGEST
from lumos.nets.inputs import SCALARS, NetworkInputs, named_scalar
from lumos.nets.mdn import MixtureOutput

__all__ = ["NUMBERS", "TAIL", "DomainNetwork", "object_frames", "object_places"]

#: Shares of good stamps with a higher answer, for the table that turns answers into scores.
TAIL = (0.999, 0.9, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.025, 0.01, 0.004)
#: Cells along a side of the object's frame; its cells are this share of the profile's radius.
_SIDE, _CELLS_PER_RADIUS = 24, 4
#: Numbers of the frames: those of every residual network, and what the network's answer adds.
NUMBERS = (*SCALARS, "asinh_found_ratio", "asinh_shift", "log_width", "log_step")
#: Beyond this growth of the error by neighbours, of its natural logarithm, blends are alike.
_WIDEST = 2.0


def object_frames(inputs: NetworkInputs, output: MixtureOutput) -> tuple[Tensor, Tensor]:
    r"""Bring residuals into the frame of the object.

    With the flux F that the network found and the catalogue's profile m, the images are of the residual
    :math:`(d - b - F m) / \sqrt v`, of the object :math:`F m / \sqrt v`, and the share of usable pixels, in cells
    of a quarter of the profile's radius :math:`(\pi \sum m^2)^{-1/2}`. Weights of a cell have squares that sum to 1,
    so that white noise keeps its variance.

    Parameters
    ----------
    inputs : NetworkInputs
        Of n objects, as :func:`lumos.nets.inputs.residual_inputs` makes them.
    output : MixtureOutput
        What the residual network makes of them, in image units.

    Returns
    -------
    frames : tensor, shape (n, 3, 24, 24), float32
        The first two through asinh; finite.
    numbers : tensor, shape (n, 18), float32
        The inputs' own, and asinh of the signal-to-noise ratio, asinh of the shift from the optimal flux, logarithm
        of the width of the PDF, logarithm of the cell's side in pixels; finite.
    """
    weights = output.log_weights.exp()
    means = (output.means - inputs.centre[:, None]) / inputs.unit[:, None]
    shift = (weights * means).sum(1)
    spread = weights * ((means - shift[:, None]).square() + (output.stds / inputs.unit[:, None]).square())
    ratio = inputs.centre / inputs.unit + shift
    chi, shape, good = torch.sinh(inputs.images[:, 0]), inputs.images[:, 1], 1 - inputs.images[:, 3]
    # The third image holds the residual times the matched filter; where the residual is 0 that cannot be undone.
    filtered = torch.where(chi.abs() > 0.02, torch.sinh(inputs.images[:, 2]) / chi, shape).clamp(0, 1.5) * good
    norm = filtered.square().sum((1, 2)).sqrt().clamp(min=1e-6)
    log_amplitude = named_scalar(inputs, "log_noise_factor") - named_scalar(inputs, "log_white_err")
    unit_object = filtered * (torch.exp(log_amplitude) / norm)[:, None, None]
    rows, columns, step = _cells(shape)

    def in_frame(images: Tensor) -> Tensor:
        return rows @ images @ columns.mT

    frames = torch.stack(
        [
            torch.asinh(in_frame((chi - shift[:, None, None] * unit_object) * good)),
            torch.asinh(in_frame(unit_object) * ratio[:, None, None]),
            in_frame(good) / in_frame(torch.ones_like(good)).clamp(min=1e-6),
        ],
        dim=1,
    )
    named = {name: named_scalar(inputs, name) for name in SCALARS} | {
        "asinh_found_ratio": torch.asinh(ratio),
        "asinh_shift": torch.asinh(shift),
        "log_width": spread.sum(1).clamp(min=1e-9).log() / 2,
        "log_step": step.log(),
    }
    numbers = torch.stack([named[name] for name in NUMBERS], dim=1)
    return frames.nan_to_num(0.0, 0.0, 0.0), numbers.nan_to_num(0.0, 0.0, 0.0)


def object_places(inputs: NetworkInputs, numbers: Tensor) -> Tensor:
    """Return what answers are compared at: among good stamps of like places.

    Parameters
    ----------
    inputs : NetworkInputs
        n objects.
    numbers : tensor, shape (n, 18)
        Of :func:`object_frames`.

    Returns
    -------
    tensor, shape (n, 3)
        Asinh of the signal-to-noise ratio, logarithm of the noise-equivalent area, growth of the error by neighbours.
    """
    growth = 0.5 * torch.log1p((inputs.widening / inputs.unit).square()).nan_to_num(0.0)
    ratio, area = (numbers[:, NUMBERS.index(name)] for name in ("asinh_found_ratio", "log_noise_area"))
    return torch.stack([ratio, area, growth.clamp(max=_WIDEST)], dim=1)


def _cells(shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights of the pixels' rows and columns for the cells' about each profile, and the cells' sides."""
    side = shape.shape[1]
    pixel = torch.arange(side, dtype=shape.dtype, device=shape.device)
    total = shape.sum((1, 2)).clamp(min=1e-6)
    radius = total / (torch.pi * shape.square().sum((1, 2)).clamp(min=1e-6)).sqrt()
    step = (radius / _CELLS_PER_RADIUS).clamp(min=0.1)
    offset = (torch.arange(_SIDE, dtype=shape.dtype, device=shape.device) - (_SIDE - 1) / 2) * step[:, None]
    weights = []
    for axis in (2, 1):
        centre = shape.sum(axis) @ pixel / total
        distance = (pixel - centre[:, None, None] - offset[:, :, None]).abs()
        near = (1 - distance / step.clamp(min=1)[:, None, None]).clamp(min=0)
        weights.append(near / near.square().sum(2, keepdim=True).sqrt().clamp(min=1e-6))
    return weights[0], weights[1], step


def _between(knots: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the knots next to values, which the outermost limit, and the share of the upper one, shape (n, 1)."""
    if len(knots) == 1:
        only = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        return only, only, torch.zeros_like(values)[:, None]
    place = values.clamp(float(knots[0]), float(knots[-1])).contiguous()
    above = torch.searchsorted(knots, place).clamp(1, len(knots) - 1)
    low, high = knots[above - 1], knots[above]
    return above - 1, above, ((place - low) / (high - low))[:, None]


class DomainNetwork(nn.Module):
    """Tell good stamps from faulty ones, and say how rare such an answer is for good ones.

    Parameters
    ----------
    n_knots : int
        Signal-to-noise ratios of the table of answers.
    n_areas : int, optional
        Noise-equivalent areas of the table.

    Notes
    -----
    The buffers ``mean`` and ``std`` bring the numbers to one scale; ``knots`` are asinh of signal-to-noise ratios,
    ``areas`` logarithms of noise-equivalent areas, and ``table``, of shape (n_areas, n_knots, m), the answers that the
    shares ``TAIL`` of good stamps exceed there. 40 000 weights.
    """

    mean: Tensor
    std: Tensor
    knots: Tensor
    areas: Tensor
    table: Tensor

    def __init__(self, n_knots: int, n_areas: int = 1) -> None:
        super().__init__()
        last = _SIDE // 4
        self.maps = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(24, 24, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(24 * last**2, 32),
            nn.SiLU(),
        )
        self.dense = nn.Sequential(nn.Linear(32 + len(NUMBERS), 32), nn.SiLU(), nn.Linear(32, 1))
        # Mean and logarithm of the scatter of the answers of good stamps, by place; 0 until they are fitted.
        self.norm = nn.Sequential(nn.Linear(3, 24), nn.SiLU(), nn.Linear(24, 2))
        for parameter in self.norm[2].parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("mean", torch.zeros(len(NUMBERS)))
        self.register_buffer("std", torch.ones(len(NUMBERS)))
        self.register_buffer("knots", torch.arange(n_knots, dtype=torch.float32))
        self.register_buffer("areas", torch.arange(n_areas, dtype=torch.float32))
        self.register_buffer("table", torch.linspace(-1, 1, len(TAIL)).repeat(n_areas, n_knots, 1))

    def forward(self, frames: Tensor, numbers: Tensor) -> Tensor:
        """Return the logarithm of the odds that a stamp is faulty.

        Parameters
        ----------
        frames : tensor, shape (n, 3, 24, 24)
            Images of :func:`object_frames`.
        numbers : tensor, shape (n, 18)
            Its numbers.

        Returns
        -------
        tensor, shape (n,)
            Under equal shares of both.
        """
        # Beyond six standard deviations numbers say no more.
        scaled = ((numbers - self.mean) / self.std).clamp(-6, 6)
        answer: Tensor = self.dense(torch.cat([self.maps(frames), scaled], dim=1))
        return answer[:, 0]

    def score(self, inputs: NetworkInputs, output: MixtureOutput, batch_size: int = 256) -> Tensor:
        """Return the distance of stamps from good ones.

        Parameters
        ----------
        inputs : NetworkInputs
            n objects.
        output : MixtureOutput
            Their PDFs in image units.
        batch_size : int
            Objects at a time.

        Returns
        -------
        tensor, shape (n,)
            log p / log 0.01 with the share p of good stamps that look as bad.
        """
        parts = []
        for start in range(0, max(1, len(inputs)), batch_size):
            rows = slice(start, start + batch_size)
            some = MixtureOutput(*(value[rows] for value in output.parameters))
            frames, numbers = object_frames(inputs.take(rows), some)
            places = object_places(inputs.take(rows), numbers)
            parts.append(self.calibrated(self.normalised(self(frames, numbers), places), places))
        return torch.cat(parts)

    def normalised(self, answer: Tensor, places: Tensor) -> Tensor:
        """Compare answers with those of good stamps of the same place.

        Parameters
        ----------
        answer : tensor, shape (n,)
            Of the network.
        places : tensor, shape (n, 3)
            As of :func:`object_places`.

        Returns
        -------
        tensor, shape (n,)
            In units of the scatter of good stamps, about their mean.
        """
        mean, log_scatter = self.norm(places).unbind(1)
        scaled: Tensor = (answer - mean) * torch.exp(-log_scatter)
        return scaled

    def calibrated(self, answer: Tensor, places: Tensor) -> Tensor:
        """Turn answers into scores.

        Parameters
        ----------
        answer : tensor, shape (n,)
            Normalised answers.
        places : tensor, shape (n, 3)
            As of :func:`object_places`.

        Returns
        -------
        tensor, shape (n,)
            Scores, 0 to 10. Beyond the table they go on as straight lines: exponential tails.
        """
        lower, upper, share = _between(self.knots, places[:, 0])
        small, large, portion = _between(self.areas, places[:, 1])
        levels = torch.zeros(len(answer), len(TAIL), device=answer.device)
        for area, weight in ((small, 1 - portion), (large, portion)):
            levels += weight * ((1 - share) * self.table[area, lower] + share * self.table[area, upper])
        scores = torch.log(torch.tensor(TAIL, device=answer.device)) / math.log(FLAGGED)
        cell = torch.searchsorted(levels.contiguous(), answer[:, None].contiguous()).clamp(1, len(TAIL) - 1)
        start, end = levels.gather(1, cell - 1)[:, 0], levels.gather(1, cell)[:, 0]
        before, after = scores[cell[:, 0] - 1], scores[cell[:, 0]]
        score = before + (after - before) * (answer - start) / (end - start).clamp(min=1e-6)
        limited: Tensor = score.clamp(0, LARGEST)
        return limited
