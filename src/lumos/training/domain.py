"""Fit what tells stamps that are unlike a model's training stamps."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lumos.conventions import IntArray
from lumos.nets.domain import TAIL, DomainNetwork, object_frames, object_places
from lumos.nets.domain_box import domain_properties
from lumos.nets.inputs import NetworkInputs
from lumos.nets.model import FluxModel
from lumos.pools.pool import BackgroundPool
from lumos.rows import Rowwise
from lumos.simulate.population import load_population
from lumos.teahupoo.faults import FAULTS, simulate_faulty
from lumos.teahupoo.settings import StampSettings
from lumos.training.data import describe_inputs, split_pool
from lumos.training.frames import draw_frame, frame_inputs
from lumos.training.skies import FRAME_FWHM

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
#: Good stamps of frames that calibrate the network; steps and rate of the fit of their answers by place.
_N_FRAME_CALIBRATION, _N_FRAME_AREAS, _NORM_STEPS, _NORM_RATE = 50_000, 4, 400, 0.03
#: Good stamps from which the table of a signal-to-noise ratio is one of an area too.
_FEWEST = 250
#: A source of stamps: takes their number, a fault and a random stream.
Stamps = Callable[[int, str | None, np.random.Generator], Iterator[NetworkInputs]]


def fit_domain_box(properties: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Return the range of simple properties of training stamps.

    Parameters
    ----------
    properties : mapping of tensor, shape (n,)
        As :func:`lumos.nets.domain_box.domain_properties` returns them for good stamps.

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
    pool: BackgroundPool | None,
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
    pool : BackgroundPool or None
        Backgrounds that it was trained with; None: frames.
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
    model = FluxModel(model.config, copy.deepcopy(model.network).cpu())
    rng = np.random.default_rng([seed, 2])
    fit_rows, calibration_rows, psfs = None, None, FRAME_FWHM
    if pool is not None:
        fit_rows, calibration_rows = split_pool(pool) if rows is None else rows
        psfs = float(np.min(pool.psf_fwhm)), float(np.max(pool.psf_fwhm))
    fit_stamps, calibration_stamps = (_source(model, pool, settings, part) for part in (fit_rows, calibration_rows))
    boxed = model.config.architecture == "paper"
    good, properties = _describe(model, fit_stamps(_N_CALIBRATION if boxed else _N_FIT, None, rng))
    config = model.config.model_copy(update={"domain": fit_domain_box(properties) | {"psf_fwhm": psfs}})
    if boxed:
        return replace(model, config=config)
    per_fault = -(-_N_FIT // len(FAULTS))
    faulty = _Described.concatenate([_describe(model, fit_stamps(per_fault, name, rng))[0] for name in FAULTS])
    # A pool has one camera, frames have PSFs of all widths.
    number, n_areas = (_N_CALIBRATION, 1) if pool is not None else (_N_FRAME_CALIBRATION, _N_FRAME_AREAS)
    domain = _fit_network(good, faulty, n_areas, seed)
    _calibrate(domain, _describe(model, calibration_stamps(number, None, rng))[0], seed)
    logger.info("out-of-training score fitted to %d good and %d faulty stamps", len(good), len(faulty))
    return replace(model, config=config, domain=domain)


@dataclass(frozen=True)
class _Described(Rowwise):
    """What the network of the domain sees of n stamps."""

    frames: Tensor
    numbers: Tensor
    places: Tensor


def _describe(model: FluxModel, stamps: Iterator[NetworkInputs]) -> tuple[_Described, dict[str, Tensor]]:
    """Return what the network sees of usable stamps, empty for the paper's network, and their properties."""
    described, properties = [], []
    for every in stamps:
        inputs = every.take(every.usable)
        properties.append(domain_properties(inputs, model.config.architecture))
        if model.config.architecture == "residual":
            frames, numbers = object_frames(inputs, model.predict(inputs))
            described.append(_Described(frames, numbers, object_places(inputs, numbers)))
    nothing = _Described(torch.empty(0), torch.empty(0), torch.empty(0))
    joined = _Described.concatenate(described) if described else nothing
    return joined, {name: torch.cat([part[name] for part in properties]) for name in properties[0]}


def _source(model: FluxModel, pool: BackgroundPool | None, settings: StampSettings, rows: IntArray | None) -> Stamps:
    """Return a source of stamps as the model's training has them."""
    if pool is None or rows is None or model.config.input_version == 2:
        return _of_frames(model, pool, settings, rows)
    return _of_pool(model, pool, settings, rows)


def _of_pool(model: FluxModel, pool: BackgroundPool, settings: StampSettings, rows: IntArray) -> Stamps:
    """Return a source of stamps on the backgrounds of a pool.

    Half of the good ones are as in training, half of them large galaxies, which overlap with more.
    """
    low, high = settings.mag_range
    large = settings.model_copy(update={"mag_range": (low, min(high, low + _LARGE_MAGNITUDES))})

    def draw(n: int, fault: str | None, rng: np.random.Generator) -> Iterator[NetworkInputs]:
        kinds = [settings] if fault is not None else [settings, large]
        for kind in kinds:
            number = n // len(kinds)
            for start in range(0, number, _SIMULATED_AT_ONCE):
                size = min(_SIMULATED_AT_ONCE, number - start)
                stamps = simulate_faulty(pool, kind, size, rng, rows=rows, fault=fault)
                yield describe_inputs(stamps, model, pool).inputs

    return draw


def _of_frames(model: FluxModel, pool: BackgroundPool | None, settings: StampSettings, rows: IntArray | None) -> Stamps:
    """Return a source of stamps of frames."""
    population = load_population()

    def draw(n: int, fault: str | None, rng: np.random.Generator) -> Iterator[NetworkInputs]:
        drawn = 0
        while drawn < n:
            frame = draw_frame(population, settings, rng, pool, rows)
            inputs, found = frame_inputs(frame, model, fault=fault, rng=rng)
            if inputs is not None:
                drawn += len(found)
                yield inputs

    return draw


def _fit_network(good: _Described, faulty: _Described, n_areas: int, seed: int) -> DomainNetwork:
    """Fit the network to tell good stamps from faulty ones."""
    both = _Described.concatenate([good, faulty])
    is_faulty = torch.cat([torch.zeros(len(good)), torch.ones(len(faulty))])
    torch.manual_seed(seed)
    network = DomainNetwork(_N_KNOTS, n_areas)
    network.mean.copy_(both.numbers.mean(0))
    network.std.copy_(both.numbers.std(0).clamp(min=1e-3))
    per_epoch = len(both) // _BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_EPOCHS * per_epoch)
    for step in range(_EPOCHS * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(both))
        chosen = order[(step % per_epoch) * _BATCH :][:_BATCH]
        images = _mirrored(both.frames[chosen], step)
        loss = binary_cross_entropy_with_logits(network(images, both.numbers[chosen]), is_faulty[chosen])
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


def _calibrate(network: DomainNetwork, good: _Described, seed: int) -> None:
    """Fit mean and scatter of the answers of good stamps by place, then the table of what shares of them exceed."""
    parts = zip(torch.split(good.frames, _BATCH), torch.split(good.numbers, _BATCH), strict=True)
    with torch.no_grad():
        answers = torch.cat([network(*part) for part in parts])
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(network.norm.parameters(), lr=_NORM_RATE)
    for step in range(_NORM_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _NORM_RATE * (1 - step / _NORM_STEPS)
        mean, log_scatter = network.norm(good.places).unbind(1)
        loss = (0.5 * ((answers - mean) * torch.exp(-log_scatter)).square() + log_scatter).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        normalised = network.normalised(answers, good.places)
        order = torch.argsort(good.places[:, 0])
        levels = 1 - torch.tensor(TAIL)
        rows = list(order.tensor_split(len(network.knots)))
        network.knots.copy_(torch.stack([good.places[part, 0].median() for part in rows]))
        by_area = list(torch.argsort(good.places[:, 1]).tensor_split(len(network.areas)))
        network.areas.copy_(torch.stack([good.places[part, 1].median() for part in by_area]))
        for row, part in enumerate(rows):
            for column, of_area in enumerate(by_area):
                cell = part[torch.isin(part, of_area)]
                network.table[column, row] = torch.quantile(normalised[cell if len(cell) >= _FEWEST else part], levels)
