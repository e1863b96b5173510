r"""Train a network of backgrounds: stamps of a pool, their middle masked, the pixels under the mask as the truth.

The loss is minus the logarithm of a Gaussian of the true background. The truth t is the clipped mean of the n pixels
within 8 px of the centre, which has a noise of its own: :math:`\sigma_t = \sigma / \sqrt n`. It is added to the
network's error s, so that s is the error of the background alone,

.. math:: L = \tfrac12 \ln(s^2 + \sigma_t^2) + \tfrac12 (t - b)^2 / (s^2 + \sigma_t^2);

a constant, which a pull of 4 has, is added to the density for truths that hold a star or a cosmic ray.

Pixels are taken for independent: where their noise is correlated, s holds what the truth's noise has more.
"""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import IntArray
from lumos.files import write_atomic
from lumos.nets.bkgnet_model import BackgroundConfig, BackgroundModel
from lumos.pools.pool import BackgroundPool
from lumos.runs.outputs import settle_settings
from lumos.training.data import split_pool
from lumos.training.domain import fit_domain_box
from lumos.training.known import AT_ONCE, KnownBackgrounds, draw_known
from lumos.training.learner import CHECKPOINT, Learner
from lumos.training.loop import read_history
from lumos.training.settings import BackgroundTraining

__all__ = ["BackgroundReport", "background_score", "train_background"]

#: What a progress display is told: stamps seen, stamps in all, the last figures.
Progress = Callable[[int, int, str], None]
_VALIDATION_SEED = 2**20
#: Logarithm of the density of truths that are none: 2 % of them within 5 pixel scatters, times sqrt(2 pi).
_LOG_OUTLIER = math.log(0.02 * 0.1 * math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class BackgroundReport:
    """What a training run made.

    Parameters
    ----------
    model : BackgroundModel
        The trained network, its weights averaged.
    validation : dict
        Its figures at the end, see :func:`background_score`.
    n_stamps : int
        Number of stamps that training saw.
    minutes : float
        Time that training took, all starts together.
    curve : tuple of dict
        Figures at each validation.
    """

    model: BackgroundModel
    validation: dict[str, float]
    n_stamps: int
    minutes: float
    curve: tuple[dict[str, float], ...]


def _loss(model: BackgroundModel, batch: KnownBackgrounds) -> Tensor:
    """Return minus the logarithm of the density of each truth, without its constant."""
    level, log_err = model.network(batch.inputs)
    variance = (2 * log_err).exp() + batch.truth_err.square()
    core = -0.5 * (batch.truth - level).square() / variance - 0.5 * variance.log()
    # Stars and cosmic rays under the mask are no background.
    return -torch.logaddexp(core, torch.full_like(core, _LOG_OUTLIER))


@torch.no_grad()
def background_score(model: BackgroundModel, known: KnownBackgrounds) -> dict[str, float]:
    """Return figures of a model on stamps with known backgrounds.

    Parameters
    ----------
    model : BackgroundModel
        The model.
    known : KnownBackgrounds
        n stamps.

    Returns
    -------
    dict
        ``loss``; ``scatter``, sigma68 of the prediction minus the truth without the truth's noise, and ``bias``, the
        median, in units of the pixel noise; ``pull``, sigma68 over the stated error (and the truth's); the same of
        the annulus.
    """
    model.network.eval()
    level, log_err = model.network(known.inputs)
    figures = {"loss": float(_loss(model, known).mean())}
    for name, values, errors in (("", level, log_err.exp()), ("annulus_", 0 * level, known.annulus_err)):
        off = (values - known.truth).double()
        low, high = off.quantile(torch.tensor([0.15865, 0.84135], dtype=torch.float64))
        noise = known.truth_err.double().square().median()
        figures[f"{name}scatter"] = math.sqrt(max(float(((high - low) / 2).square() - noise), 0.0))
        figures[f"{name}bias"] = float(off.median())
        pull = off / torch.hypot(errors, known.truth_err)
        low, high = pull.quantile(torch.tensor([0.15865, 0.84135], dtype=torch.float64))
        figures[f"{name}pull"] = float(high - low) / 2
    return figures


def train_background(
    settings: BackgroundTraining, pool: BackgroundPool, out: Path, *, progress: Progress | None = None
) -> BackgroundReport:
    """Train a network of backgrounds on a pool.

    Parameters
    ----------
    settings : BackgroundTraining
        Settings of the training run.
    pool : BackgroundPool
        Background stamps for training and validation.
    out : Path
        Folder; gets ``checkpoint.safetensors`` and a line of ``log.jsonl`` at each validation. A run of the same
        settings is continued.
    progress : callable, optional
        Told after each batch.

    Returns
    -------
    BackgroundReport
        The trained model.

    Raises
    ------
    LumosConfigError
        If ``out`` holds a run of other settings.
    LumosDataError
        If the checkpoint is damaged or the stamps of the pool are too small.
    """
    out.mkdir(parents=True, exist_ok=True)
    settle_settings(out, "train", {"train": settings.model_dump(mode="json")}, begun=(out / CHECKPOINT).exists())
    bands, states = (pool.bands, pool.states) if settings.per_band else ((), ())
    config = BackgroundConfig(name=settings.name, network=settings.network, bands=bands, states=states)
    torch.manual_seed(settings.seed)
    model = BackgroundModel.create(config)
    learner = Learner(model.network, settings.optimizer, out)
    average = copy.deepcopy(model)
    learner.mean = average.network
    learner.load()
    training, held = split_pool(pool)

    def draw(rows: IntArray, seed: int, number: int) -> KnownBackgrounds:
        return draw_known(pool, rows, config, settings, (seed, number))

    n_held = -(-settings.n_validation // AT_ONCE)
    validation = KnownBackgrounds.concatenate(
        draw(held, settings.seed + _VALIDATION_SEED, number) for number in range(n_held)
    )
    history = read_history(out / "log.jsonl", learner.batches * AT_ONCE)
    n_batches, every = -(-settings.n_stamps // AT_ONCE), max(1, settings.validate_every // AT_ONCE)
    began, before, losses = monotonic(), learner.seconds, []
    score = background_score(average, validation)
    for number in range(learner.batches, n_batches):
        losses.append(_learn(learner, model, draw(training, settings.seed, number), settings))
        learner.seconds = before + monotonic() - began
        if learner.batches % every == 0 or learner.batches == n_batches:
            score = background_score(average, validation)
            history.append(
                {
                    "n_stamps": learner.batches * AT_ONCE,
                    "minutes": round(learner.seconds / 60, 3),
                    "training_loss": round(float(torch.cat(losses).mean()), 5),
                    **{name: round(value, 5) for name, value in score.items()},
                }
            )
            losses = []
            learner.save()
            write_atomic(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        if progress is not None:
            text = f"validation loss {score['loss']:.4f}, scatter {score['scatter']:.4f}, pulls {score['pull']:.3f}"
            progress(learner.batches, n_batches, text)
    if settings.weights == "float16":
        # The figures shall be those of the weights that are kept.
        average.network.half().float()
        score = background_score(average, validation)
    domain = fit_domain_box(draw(training, settings.seed + 2 * _VALIDATION_SEED, 0).inputs.properties())
    average = replace(average, config=config.model_copy(update={"domain": domain}))
    n_seen = learner.batches * AT_ONCE
    return BackgroundReport(average, score, n_seen, learner.seconds / 60, tuple(history))


def _learn(learner: Learner, model: BackgroundModel, known: KnownBackgrounds, settings: BackgroundTraining) -> Tensor:
    """Take the steps of one batch of stamps; return the losses."""
    optimizer = settings.optimizer
    model.network.train()
    rng = np.random.default_rng([settings.seed, learner.batches, 1])
    n, losses = len(known), []
    order = torch.from_numpy(np.concatenate([rng.permutation(n) for _ in range(optimizer.passes)]))
    n_before, n_all = learner.batches * AT_ONCE, -(-settings.n_stamps // AT_ONCE) * AT_ONCE
    for start in range(0, len(order), optimizer.batch_size):
        some = known.take(order[start : start + optimizer.batch_size])
        if not settings.network.position:
            some = replace(some, inputs=replace(some.inputs, images=_turned(some.inputs.images, rng)))
        loss = _loss(model, some)
        progress = (n_before + start / optimizer.passes) / n_all
        learner.step(loss.mean(), progress, n_before * optimizer.passes / optimizer.batch_size)
        losses.append(loss.detach())
    learner.batches += 1
    return torch.cat(losses)


def _turned(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Turn and mirror a batch as a whole."""
    images = images.flip(2) if rng.random() < 0.5 else images
    images = images.flip(3) if rng.random() < 0.5 else images
    return images.transpose(2, 3) if rng.random() < 0.5 else images
