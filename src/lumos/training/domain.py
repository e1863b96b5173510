"""Fit what tells stamps that are unlike a model's training stamps."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lumos.conventions import IntArray
from lumos.nets.domain import NUMBERS, TAIL, DomainNetwork, domain_properties, object_frames
from lumos.nets.model import FluxModel
from lumos.pools.pool import BackgroundPool
from lumos.teahupoo.faults import FAULTS, simulate_faulty
from lumos.teahupoo.settings import StampSettings
from lumos.training.data import describe_inputs, split_pool

__all__ = ["fit_domain", "fit_domain_box"]

logger = logging.getLogger(__name__)

_SIMULATED_AT_ONCE = 512
#: Stamps that fit the network, good and faulty alike, and good ones that calibrate it; passes and steps of the fit.
_N_FIT, _N_CALIBRATION, _EPOCHS, _BATCH = 10_000, 8_000, 10, 256
_LEARNING_RATE, _WEIGHT_DECAY = 4e-3, 0.05
_N_KNOTS = 10
#: The box holds this share of the training stamps on either side, widened by a share of its width.
_BOX_SHARE, _BOX_MARGIN, _LEAST_MARGIN = 0.001, 0.25, 1e-3
#: The same widened by at least this factor, where all are positive: exposures differ by more than one shows.
_LEAST_FACTOR = 1.2
#: Large galaxies are those of the brightest magnitudes.
_LARGE_MAGNITUDES = 3.5


def fit_domain_box(properties: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Return the range of simple properties of training stamps.

    Parameters
    ----------
    properties : mapping of tensor, shape (n,)
        As :func:`lumos.nets.domain.domain_properties` returns them for good stamps.

    Returns
    -------
    dict
        Lowest and highest value of each: quantiles of 0.1 % and 99.9 %, widened by a quarter of the range,
        on a logarithmic scale where all are positive.
    """
    box = {}
    for name, values in properties.items():
        low, high = (float(torch.quantile(values.double(), share)) for share in (_BOX_SHARE, 1 - _BOX_SHARE))
        if low > 0:
            # Sizes count by their ratios.
            factor = max((high / low) ** _BOX_MARGIN, _LEAST_FACTOR)
            box[name] = (low / factor, high * factor)
        else:
            margin = max(_BOX_MARGIN * (high - low), _LEAST_MARGIN)
            box[name] = (low - margin, high + margin)
    return box


def fit_domain(
    model: FluxModel,
    pool: BackgroundPool,
    settings: StampSettings,
    *,
    seed: int,
    rows: tuple[IntArray, IntArray] | None = None,
) -> FluxModel:
    """Give a trained model its domain.

    Parameters
    ----------
    model : FluxModel
        The trained network.
    pool : BackgroundPool
        Backgrounds that it was trained with.
    settings : StampSettings
        Of its stamps.
    seed : int
        Of stamps and weights.
    rows : tuple of two int arrays, optional
        Stamps of the pool to fit to, and those of other exposures to calibrate with: the few thousand
        backgrounds of a pool can be learnt by heart. By default those for training and for validation.

    Returns
    -------
    FluxModel
        With ``config.domain`` and, for the residual network, ``domain``; on the CPU.
    """
    fit_rows, calibration_rows = split_pool(pool) if rows is None else rows
    model = FluxModel(model.config, copy.deepcopy(model.network).cpu())
    rng = np.random.default_rng([seed, 2])
    boxed = model.config.architecture == "paper"
    good = _good(model, pool, settings, fit_rows, rng, _N_CALIBRATION if boxed else _N_FIT)
    psfs = float(np.min(pool.psf_fwhm)), float(np.max(pool.psf_fwhm))
    config = model.config.model_copy(update={"domain": fit_domain_box(good[2]) | {"psf_fwhm": psfs}})
    if boxed:
        return replace(model, config=config)
    per_fault = -(-_N_FIT // len(FAULTS))
    faulty = [_describe(model, pool, settings, fit_rows, rng, per_fault, name)[:2] for name in FAULTS]
    domain = _fit_network(good[:2], _joined(faulty), seed)
    frames, numbers, _ = _good(model, pool, settings, calibration_rows, rng, _N_CALIBRATION)
    _calibrate(domain, frames, numbers)
    logger.info("out-of-training score fitted to %d good and %d faulty stamps", len(good[0]), per_fault * len(FAULTS))
    return replace(model, config=config, domain=domain)


def _good(
    model: FluxModel, pool: BackgroundPool, settings: StampSettings, rows: IntArray, rng: np.random.Generator, n: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Describe good stamps: half of them as in training, half of them large galaxies, which overlap with more."""
    low, high = settings.mag_range
    large = settings.model_copy(update={"mag_range": (low, min(high, low + _LARGE_MAGNITUDES))})
    parts = [_describe(model, pool, kind, rows, rng, n // 2, None) for kind in (settings, large)]
    frames, numbers = _joined([part[:2] for part in parts])
    return frames, numbers, {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    frames, numbers = zip(*parts, strict=True)
    return torch.cat(frames), torch.cat(numbers)


def _describe(
    model: FluxModel,
    pool: BackgroundPool,
    settings: StampSettings,
    rows: IntArray,
    rng: np.random.Generator,
    n: int,
    fault: str | None,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Simulate stamps; return frames, numbers (empty for the paper's network) and properties of the usable ones."""
    described, properties = [], []
    architecture = model.config.architecture
    for start in range(0, n, _SIMULATED_AT_ONCE):
        size = min(_SIMULATED_AT_ONCE, n - start)
        stamps = simulate_faulty(pool, settings, size, rng, rows=rows, fault=fault)
        inputs = describe_inputs(stamps, model, pool).inputs
        inputs = inputs.take(inputs.usable)
        properties.append(domain_properties(inputs, architecture))
        if architecture == "residual":
            described.append(object_frames(inputs, model.predict(inputs)))
    frames, numbers = _joined(described) if described else (torch.empty(0), torch.empty(0))
    return frames, numbers, {name: torch.cat([part[name] for part in properties]) for name in properties[0]}


def _fit_network(good: tuple[Tensor, Tensor], faulty: tuple[Tensor, Tensor], seed: int) -> DomainNetwork:
    """Fit the network to tell good stamps from faulty ones."""
    frames, numbers = _joined([good, faulty])
    is_faulty = torch.cat([torch.zeros(len(good[0])), torch.ones(len(faulty[0]))])
    torch.manual_seed(seed)
    network = DomainNetwork(_N_KNOTS)
    network.mean.copy_(numbers.mean(0))
    network.std.copy_(numbers.std(0).clamp(min=1e-3))
    per_epoch = len(frames) // _BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_EPOCHS * per_epoch)
    for step in range(_EPOCHS * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(frames))
        chosen = order[(step % per_epoch) * _BATCH :][:_BATCH]
        images = _mirrored(frames[chosen], step)
        loss = binary_cross_entropy_with_logits(network(images, numbers[chosen]), is_faulty[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return network.eval()


def _mirrored(images: Tensor, step: int) -> Tensor:
    """Mirror and transpose images, another way in each of eight steps: frames are centred on their objects."""
    axes = [axis for axis, bit in ((2, 1), (3, 2)) if step & bit]
    images = images.flip(axes) if axes else images
    return images.mT if step & 4 else images


@torch.no_grad()
def _calibrate(network: DomainNetwork, frames: Tensor, numbers: Tensor) -> None:
    """Fill the table of answers that shares of good stamps exceed, at quantiles of the signal-to-noise ratio."""
    answers = torch.cat(
        [network(*part) for part in zip(torch.split(frames, _BATCH), torch.split(numbers, _BATCH), strict=True)]
    )
    ratio = numbers[:, NUMBERS.index("asinh_found_ratio")]
    order = torch.argsort(ratio)
    levels = 1 - torch.tensor(TAIL)
    for row, part in enumerate(order.tensor_split(_N_KNOTS)):
        network.knots[row] = ratio[part].median()
        network.table[row] = torch.quantile(answers[part], levels)
