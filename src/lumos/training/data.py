"""Stamps for training: batch i of a run is the same whoever makes it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray, IntArray
from lumos.nets.inputs import NetworkInputs, SideInputs
from lumos.nets.model import FluxModel, ModelConfig
from lumos.pools.pool import BackgroundPool
from lumos.rows import Rowwise
from lumos.simulate.population import load_population
from lumos.teahupoo.simulated import SimulatedStamps
from lumos.teahupoo.simulator import StampSimulator
from lumos.training.settings import TrainSettings

__all__ = ["LabelledInputs", "TrainingStream", "describe_inputs", "model_config", "split_pool"]

#: One exposure of this many goes to validation.
_VALIDATION_SHARE = 12


@dataclass(frozen=True)
class LabelledInputs(Rowwise):
    """Inputs of a network with the truth.

    Parameters
    ----------
    inputs : NetworkInputs
        Inputs of the network for n objects.
    flux, flux_scale, ref_mag : tensor, shape (n,), float32
        True flux and the unit of the proposal density, in image units; reference magnitude.
    """

    inputs: NetworkInputs
    flux: Tensor
    flux_scale: Tensor
    ref_mag: Tensor


def model_config(settings: TrainSettings, pool: BackgroundPool) -> ModelConfig:
    """Return the description of the model that a run makes.

    Parameters
    ----------
    settings : TrainSettings
        Settings of the training run.
    pool : BackgroundPool
        Its backgrounds, which name the bands and camera states.

    Returns
    -------
    ModelConfig
        Without digest and figures.
    """
    by_band = settings.per_band or settings.architecture == "paper"
    return ModelConfig(
        name=settings.name,
        architecture=settings.architecture,
        kind=settings.kind,
        network=settings.network,
        bands=pool.bands if by_band else (),
        states=pool.states if by_band else (),
        stamp_size=settings.stamps.stamp_size,
        annulus_inner=settings.stamps.annulus_inner,
        annulus_outer=settings.stamps.annulus_outer,
        profile_image=settings.profile_image,
        cut_from=settings.cut_from,
    )


def split_pool(pool: BackgroundPool) -> tuple[IntArray, IntArray]:
    """Share out the stamps of a pool by exposure: overlapping stamps must not lie in both parts.

    Parameters
    ----------
    pool : BackgroundPool
        Background stamps of several exposures.

    Returns
    -------
    training, validation : int array
        Numbers of stamps. A pool of one exposure is used for both.
    """
    used = np.unique(pool.exposure)
    if len(used) == 1:
        everything = np.arange(len(pool), dtype=np.int64)
        return everything, everything
    # A stride that no number of bands or dithers divides, so that every band and state is met.
    held = used[np.arange(len(used)) % min(_VALIDATION_SHARE + 1, len(used)) == 0]
    validation = np.isin(pool.exposure, held)
    return np.flatnonzero(~validation).astype(np.int64), np.flatnonzero(validation).astype(np.int64)


def describe_inputs(stamps: SimulatedStamps, model: FluxModel, pool: BackgroundPool) -> LabelledInputs:
    """Prepare simulated stamps for a model.

    Parameters
    ----------
    stamps : SimulatedStamps
        n stamps of ``pool``.
    model : FluxModel
        Model that the inputs are for.
    pool : BackgroundPool
        Whose exposures they come from.

    Returns
    -------
    LabelledInputs
        Of n objects.
    """
    device = stamps.data.device

    def tensor(values: AnyArray, kind: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device, kind)

    exposures = [pool.exposures[number] for number in range(len(pool.exposures))]
    rate = np.array([exposure.gain / exposure.exposure_time for exposure in exposures])[stamps.exposure]
    side = SideInputs(
        band=_rows(pool.bands, model.config.bands, stamps.band, device),
        state=_rows(pool.states, model.config.states, stamps.state, device),
        ccd_x=tensor(stamps.ccd_x_norm),
        ccd_y=tensor(stamps.ccd_y_norm),
        ref_mag=tensor(stamps.ref_mag),
        ref_flux=tensor(10 ** (-0.4 * (stamps.ref_mag - stamps.zeropoint))),
        rate=tensor(rate),
    )
    batch = stamps.to_batch()
    # Pieces this small stay in a processor's cache.
    step = len(batch) if device.type != "cpu" else 128
    inputs = NetworkInputs.concatenate(
        model.inputs(batch.take(part), side.take(part), partial(pool.noise_factor, stamps.exposure[part]))
        for part in (slice(start, start + step) for start in range(0, len(batch), step))
    )
    return LabelledInputs(inputs, stamps.flux, stamps.flux_scale, tensor(stamps.ref_mag))


def _rows(names: tuple[str, ...], known: tuple[str, ...], entries: IntArray, device: torch.device) -> Tensor | None:
    """Translate entries of the pool's list of names into rows of the model's; None where the model has no list."""
    if not known:
        return None
    table = np.array([known.index(name) for name in names], dtype=np.int64)
    return torch.from_numpy(table[entries]).to(device)


class TrainingStream(torch.utils.data.Dataset[LabelledInputs]):
    """Batches of labelled inputs by number.

    Parameters
    ----------
    settings : TrainSettings
        Settings of the training run.
    pool : BackgroundPool
        Background stamps of the training exposures.
    config : ModelConfig
        The model that the inputs are for.
    rows : int array
        Stamps of the pool to draw from.
    seed : int
        Of the stamps.
    device : str
        Where to simulate.
    """

    def __init__(
        self, settings: TrainSettings, pool: BackgroundPool, config: ModelConfig, rows: IntArray, seed: int, device: str
    ) -> None:
        population = load_population()
        self._simulator = StampSimulator(pool, population, settings.stamps, seed, rows=rows, device=device)
        self._model = FluxModel.create(config)
        self._seed, self._flips = seed, settings.flips
        size = settings.stamps.batch_size
        self._period = -(-settings.n_distinct // size) if settings.n_distinct else 0

    def simulate(self, index: int) -> SimulatedStamps:
        """Return the stamps of one batch.

        Parameters
        ----------
        index : int
            Number of the batch, from 0; it seeds the draws.

        Returns
        -------
        SimulatedStamps
            Stamps of the batch, with their truth.
        """
        return self._simulator.batch(index % self._period if self._period else index)

    def __getitem__(self, index: int) -> LabelledInputs:
        labelled = describe_inputs(self.simulate(index), self._model, self._simulator.pool)
        if self._flips:
            rng = np.random.default_rng([self._seed, index, 1])
            turned = _turned(labelled.inputs.images, rng)
            labelled = replace(labelled, inputs=replace(labelled.inputs, images=turned))
        return labelled


def _turned(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror and transpose each stamp at random.

    Stamps of an even side have their middle pixel off the centre; a mirrored one is shifted by a pixel to bring
    it back, which repeats the outermost row.
    """
    mirror_x, mirror_y, transpose = (torch.from_numpy(rng.random(len(images)) < 0.5) for _ in range(3))
    for chosen, axis in ((mirror_x, 3), (mirror_y, 2)):
        flipped = images[chosen].flip(axis)
        images[chosen] = torch.cat([flipped.narrow(axis, 0, 1), flipped.narrow(axis, 0, flipped.shape[axis] - 1)], axis)
    images[transpose] = images[transpose].transpose(2, 3)
    return images
