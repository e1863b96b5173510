"""The training loop: deterministic by seed, resumable after a kill at any moment."""

import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lumos.errors import LumosConfigError
from lumos.files import write_atomic
from lumos.nets.checkpoint import load_model
from lumos.nets.model import FluxModel
from lumos.nets.residual import ResidualNetwork
from lumos.pools.pool import BackgroundPool
from lumos.runs.outputs import settle_settings
from lumos.teahupoo.draws import FluxProposal
from lumos.training.data import LabelledInputs, TrainingStream, model_config, split_pool, turn_stamps
from lumos.training.learner import CHECKPOINT, Learner
from lumos.training.score import ValidationScore, batch_loss, score_model
from lumos.training.settings import TrainSettings

__all__ = ["TrainReport", "read_history", "train_network"]

logger = logging.getLogger(__name__)

#: What a progress display is told: stamps seen, stamps in all, the last figures.
Progress = Callable[[int, int, str], None]
#: Validation departs from training when its loss is above by this many standard errors and nats.
_DEPARTS = (5.0, 0.03)
_VALIDATION_SEED = 2**20
#: Batches between two reports of progress.
_REPORT_EVERY = 10


@dataclass(frozen=True)
class TrainReport:
    """What a training run made.

    Parameters
    ----------
    model : FluxModel
        The trained network, its weights averaged.
    validation : ValidationScore
        Its figures at the end.
    n_stamps : int
        Number of stamps that training saw.
    minutes : float
        Time that training took, all starts together.
    curve : tuple of dict
        Figures at each validation.
    """

    model: FluxModel
    validation: ValidationScore
    n_stamps: int
    minutes: float
    curve: tuple[dict[str, float], ...]


class _Trainer(Learner):
    """What learns the PDFs of fluxes."""

    def __init__(self, settings: TrainSettings, pool: BackgroundPool | None, out: Path) -> None:
        self.settings = settings
        cuda = torch.cuda.is_available()
        if settings.device == "cuda" and not cuda:
            raise LumosConfigError("device=cuda: this machine has no GPU that torch can use, allowed: cpu, auto")
        self.device = "cuda" if cuda and settings.device != "cpu" else "cpu"
        torch.manual_seed(settings.seed)
        self.model = FluxModel.create(model_config(settings, pool))
        if settings.start is not None:
            _start_from(self.model, settings.start)
        super().__init__(self.model.network.to(self.device), settings.optimizer, out)
        self.average = FluxModel(self.model.config, self.mean)
        self.proposal = FluxProposal(**settings.stamps.proposal.model_dump())

    @property
    def n_seen(self) -> int:
        return self.batches * self.settings.stamps.batch_size

    def learn(self, batch: LabelledInputs) -> Tensor:
        """Take the steps of one simulated batch; return the losses."""
        settings, optimizer = self.settings, self.settings.optimizer
        self.network.train()
        losses = []
        torch.manual_seed(settings.seed * 1_000_003 + self.batches)  # dropout, and the order below
        rng = np.random.default_rng([settings.seed, self.batches, 1])
        usable = torch.nonzero(batch.inputs.usable)[:, 0]
        order = torch.cat([usable[torch.randperm(len(usable)).to(self.device)] for _ in range(optimizer.passes)])
        for start in range(0, len(order), optimizer.batch_size):
            some = batch.take(order[start : start + optimizer.batch_size])
            some = turn_stamps(some, rng) if settings.flips else some
            progress = (self.n_seen + start / optimizer.passes) / settings.n_stamps
            with torch.autocast(self.device, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                loss = batch_loss(self.model, some, self.proposal)
            self.step(loss.mean(), progress, self.n_seen * optimizer.passes / optimizer.batch_size)
            losses.append(loss.detach())
        self.batches += 1
        return torch.cat(losses)


def _start_from(model: FluxModel, name: str) -> None:
    """Give a new network the weights of another model, which may know less: no bands, place or magnitude."""
    other = load_model(name)
    run, its = model.config, other.config
    less = {what: getattr(run.network, what) for what in ("position", "reference") if not getattr(its.network, what)}
    more = {"network": its.network.model_copy(update=less)}
    more |= {what: getattr(run, what) for what in ("bands", "states") if not getattr(its, what)}
    for what in ("architecture", "network", "bands", "states", "stamp_size"):
        if getattr(run, what) != more.get(what, getattr(its, what)):
            found, wanted = getattr(its, what), getattr(run, what)
            raise LumosConfigError(f"start={name!r}: its {what} is {found}, allowed: that of the run, {wanted}")
    if isinstance(model.network, ResidualNetwork) and isinstance(other.network, ResidualNetwork):
        model.network.take_weights(other.network)
    else:
        model.network.load_state_dict(other.network.state_dict())


def train_network(
    settings: TrainSettings, pool: BackgroundPool | None, out: Path, *, progress: Progress | None = None
) -> TrainReport:
    """Train a network on stamps that are simulated as it goes.

    Parameters
    ----------
    settings : TrainSettings
        Settings of the training run.
    pool : BackgroundPool or None
        Background stamps for training and validation; None: frames.
    out : Path
        Folder; gets ``checkpoint.safetensors`` and a line of ``log.jsonl`` at each validation. A run of the same
        settings is continued.
    progress : callable, optional
        Told after every tenth batch and each validation.

    Returns
    -------
    TrainReport
        The trained model.

    Raises
    ------
    LumosConfigError
        If ``out`` holds a run of other settings, the model to start from has another network, or there is no GPU where
        one is asked for.
    LumosDataError
        If the checkpoint is damaged or the pool does not hold what the settings need.
    """
    out.mkdir(parents=True, exist_ok=True)
    identity = {"train": settings.model_dump(mode="json", exclude={"workers", "device"})}
    settle_settings(out, "train", identity, begun=(out / CHECKPOINT).exists())
    trainer = _Trainer(settings, pool, out)
    trainer.load()
    history = read_history(out / "log.jsonl", trainer.n_seen)
    training_rows, validation_rows = (None, None) if pool is None else split_pool(pool)
    config = trainer.model.config
    stream = TrainingStream(settings, pool, config, training_rows, settings.seed, trainer.device)
    held = TrainingStream(
        settings.model_copy(update={"n_distinct": 0}),
        pool,
        config,
        validation_rows,
        settings.seed + _VALIDATION_SEED,
        trainer.device,
    )
    size = settings.stamps.batch_size
    validation = [held[index] for index in range(-(-settings.n_validation // size))]
    n_batches, every = -(-settings.n_stamps // size), max(1, settings.validate_every // size)
    score = score_model(trainer.average, validation, trainer.proposal)
    began, before, losses = monotonic(), trainer.seconds, []
    # Frames come from processors even where a GPU learns.
    workers = settings.workers if pool is None or trainer.device == "cpu" else 0
    for batch in _batches(stream, range(trainer.batches, n_batches), workers):
        losses.append(trainer.learn(batch.to(trainer.device)))
        trainer.seconds = before + monotonic() - began
        if trainer.batches % every == 0 or trainer.batches == n_batches:
            score = score_model(trainer.average, validation, trainer.proposal)
            history.append(_line(trainer, torch.cat(losses), score))
            losses = []
            trainer.save()
            write_atomic(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        if progress is not None and (trainer.batches % _REPORT_EVERY == 0 or not losses):
            text = f"validation loss {score.loss:.4f}, PIT-KS {score.pit_ks:.3f}, scatter {score.scatter:.3f}"
            progress(trainer.n_seen, n_batches * size, text)
    if settings.weights == "float16":
        # The figures shall be those of the weights that are kept.
        trainer.average.network.half().float()
        score = score_model(trainer.average, validation, trainer.proposal)
    return TrainReport(trainer.average, score, trainer.n_seen, trainer.seconds / 60, tuple(history))


def _batches(stream: TrainingStream, numbers: range, workers: int) -> Iterator[LabelledInputs]:
    """Yield batches in order, made here or by worker processes."""
    if workers == 0:
        yield from (stream[number] for number in numbers)
        return
    loader = DataLoader(
        stream,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        multiprocessing_context="spawn",
        prefetch_factor=2,
    )
    yield from loader


def read_history(path: Path, n_seen: int) -> list[dict[str, float]]:
    """Return the lines of an earlier start, up to the checkpoint that it left."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["n_stamps"] <= n_seen]


def _line(trainer: _Trainer, losses: Tensor, score: ValidationScore) -> dict[str, float]:
    """Return a line of the log; warn where validation departs from training."""
    loss = float(losses.double().mean())
    error = math.hypot(float(losses.double().std()) / math.sqrt(len(losses)), score.loss_err)
    gap = score.loss - loss
    if gap > max(_DEPARTS[0] * error, _DEPARTS[1]):
        logger.warning(
            "after %d stamps: validation loss %.4f is %.4f above training's: it learns the backgrounds by heart",
            trainer.n_seen,
            score.loss,
            gap,
        )
    return {
        "n_stamps": trainer.n_seen,
        "minutes": round(trainer.seconds / 60, 3),
        "training_loss": round(loss, 5),
        **{name: round(value, 5) for name, value in score.as_dict().items()},
    }
