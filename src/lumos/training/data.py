"""Stamps for training: batch i of a run is the same whoever makes it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray, IntArray
from lumos.nets.inputs import NetworkInputs, SideInputs
from lumos.nets.model import FluxModel, ModelConfig
from lumos.nets.settings import ResidualSettings
from lumos.pools.pool import BackgroundPool
from lumos.rows import Rowwise
from lumos.simulate.population import load_population
from lumos.teahupoo.simulated import SimulatedStamps
from lumos.teahupoo.simulator import StampSimulator
from lumos.training.frames import draw_frame, frame_inputs
from lumos.training.settings import TrainSettings

__all__ = ["LabelledInputs", "TrainingStream", "describe_inputs", "model_config", "split_pool", "turn_stamps"]

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


def model_config(settings: TrainSettings, pool: BackgroundPool | None) -> ModelConfig:
    """Return the description of the model that a run makes.

    Parameters
    ----------
    settings : TrainSettings
        Settings of the training run.
    pool : BackgroundPool or None
        Its backgrounds, which name the bands and camera states; None: frames of any band.

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
        bands=pool.bands if pool is not None and by_band else (),
        states=pool.states if pool is not None and by_band else (),
        stamp_size=settings.stamps.stamp_size,
        annulus_inner=settings.stamps.annulus_inner,
        annulus_outer=settings.stamps.annulus_outer,
        input_version=2 if isinstance(settings.network, ResidualSettings) and settings.network.scene else 1,
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
    pool : BackgroundPool or None
        Background stamps of the training exposures; None: frames.
    config : ModelConfig
        The model that the inputs are for.
    rows : int array or None
        Stamps of the pool to draw from.
    seed : int
        Of the stamps.
    device : str
        Where to simulate; frames come from the CPU.
    """

    def __init__(
        self,
        settings: TrainSettings,
        pool: BackgroundPool | None,
        config: ModelConfig,
        rows: IntArray | None,
        seed: int,
        device: str,
    ) -> None:
        self._population = load_population()
        self._settings, self._seed = settings.stamps, seed
        self._simulator, self._pool, self._rows = None, pool, rows
        if pool is not None and config.input_version == 1:
            self._simulator = StampSimulator(pool, self._population, settings.stamps, seed, rows=rows, device=device)
        self._model = FluxModel.create(config)
        size = settings.stamps.batch_size
        self._period = -(-settings.n_distinct // size) if settings.n_distinct else 0

    def __getitem__(self, index: int) -> LabelledInputs:
        number = index % self._period if self._period else index
        if self._simulator is not None:
            return describe_inputs(self._simulator.batch(number), self._model, self._simulator.pool)
        return self._from_frames(np.random.default_rng([self._seed, number]))

    def _from_frames(self, rng: np.random.Generator) -> LabelledInputs:
        """Return a batch of the stamps of several frames, mixed."""
        parts: list[LabelledInputs] = []
        while sum(map(len, parts)) < self._settings.batch_size:
            frame = draw_frame(self._population, self._settings, rng, self._pool, self._rows)
            inputs, rows = frame_inputs(frame, self._model)
            if inputs is not None:
                truth = frame.flux, frame.flux_scale, frame.ccd.objects.catalog.ref_mag
                parts.append(LabelledInputs(inputs, *(torch.from_numpy(values[rows]).float() for values in truth)))
        whole = LabelledInputs.concatenate(parts)
        return whole.take(rng.permutation(len(whole))[: self._settings.batch_size])


def turn_stamps(batch: LabelledInputs, rng: np.random.Generator) -> LabelledInputs:
    """Mirror and transpose each stamp at random.

    Parameters
    ----------
    batch : LabelledInputs
        n objects.
    rng : numpy.random.Generator
        Draws three numbers per object.

    Returns
    -------
    LabelledInputs
        With other images.
    """
    return replace(batch, inputs=replace(batch.inputs, images=_turned(batch.inputs.images.clone(), rng)))


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
