"""Train a model, from its backgrounds to its folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lumos import __version__
from lumos.background.settings import NoiseSettings
from lumos.nets.bkgnet_model import save_background_model
from lumos.nets.checkpoint import save_model
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.report.training import draw_learning
from lumos.runs.locks import lock_folder, locked
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.readable import readable_survey
from lumos.training.background import train_background
from lumos.training.card import background_card, model_card
from lumos.training.domain import fit_domain
from lumos.training.loop import train_network
from lumos.training.settings import BackgroundTraining, PoolSettings, TrainSettings

__all__ = ["train_model"]

Progress = Callable[[int, int, str], None]


@locked(lock_folder)
def train_model(
    settings: TrainSettings | BackgroundTraining,
    out: Path,
    *,
    run: str = "RUN.yaml",
    workers: int = 1,
    progress: Progress | None = None,
) -> str:
    """Train a model and write its folder; the survey that its backgrounds come from is simulated first if need be.

    Parameters
    ----------
    settings : TrainSettings or BackgroundTraining
        The run.
    out : Path
        Folder of the model; ``survey``, ``pool`` and ``training`` below it hold what the run needs to continue.
    run : str, optional
        Name or file of the run, for the card.
    workers : int, optional
        Number of processes that simulate the survey.
    progress : callable, optional
        Told after each exposure and each batch.

    Returns
    -------
    str
        One line for the user.

    Raises
    ------
    LumosError
        If the settings, the pool or an earlier start in ``out`` do not fit.
    """
    if isinstance(settings, BackgroundTraining):
        # Its truths are for independent pixels.
        return _train_background(
            settings, _open_pool(settings.pool, out, workers, progress, "none"), out, run, progress
        )
    pool = None if settings.pool is None else _open_pool(settings.pool, out, workers, progress)
    report = train_network(settings, pool, out / "training", progress=progress)
    figures = {name: round(value, 5) for name, value in report.validation.as_dict().items()}
    facts = _facts(settings, run, report.n_stamps, report.minutes)
    model = fit_domain(report.model, pool, settings.stamps, seed=settings.seed)
    config = model.config.model_copy(update={"metrics": figures, "training": facts})
    card = model_card(config, settings.text, report.curve)
    draw_learning(out / "learning.png", {settings.name: report.curve})
    save_model(replace(model, config=config), out, card, half=settings.weights == "float16")
    return (
        f"{out}: {settings.name}, {report.n_stamps} stamps in {report.minutes:.1f} minutes; "
        f"validation loss {report.validation.loss:.4f}, PIT-KS {report.validation.pit_ks:.4f}"
    )


def _facts(settings: TrainSettings | BackgroundTraining, run: str, n_stamps: int, minutes: float) -> dict[str, object]:
    """Return what a model's description says of the run that made it."""
    return {
        "run": run,
        "n_stamps": n_stamps,
        "minutes": round(minutes, 1),
        "version": __version__,
        "settings": settings.model_dump(mode="json", exclude={"workers", "device"}),
    }


def _train_background(
    settings: BackgroundTraining, pool: BackgroundPool, out: Path, run: str, progress: Progress | None
) -> str:
    """Train a model of backgrounds and write its folder."""
    report = train_background(settings, pool, out / "training", progress=progress)
    figures = {name: round(value, 5) for name, value in report.validation.items()}
    facts = _facts(settings, run, report.n_stamps, report.minutes)
    config = report.model.config.model_copy(update={"metrics": figures, "training": facts})
    card = background_card(config, settings.text, report.curve)
    save_background_model(replace(report.model, config=config), out, card, half=settings.weights == "float16")
    return (
        f"{out}: {settings.name}, {report.n_stamps} stamps in {report.minutes:.1f} minutes; scatter of the background "
        f"{figures['scatter']:.4f} of the pixel noise (annulus {figures['annulus_scatter']:.4f}), "
        f"pulls {figures['pull']:.3f}"
    )


def _open_pool(
    settings: PoolSettings,
    out: Path,
    workers: int,
    progress: Progress | None,
    correlation: Literal["measured", "none"] = "measured",
) -> BackgroundPool:
    """Open the pools of a run, or simulate the survey and cut the backgrounds."""
    if settings.simulate is None:
        return BackgroundPool.open(settings.paths[0], *settings.paths[1:], mixed=True)
    path = out / "pool"
    if not (path / "pool.json").exists():
        simulation = load_simulation(settings.simulate, settings.overrides)
        exposures = simulate_survey(simulation, out / "survey", workers=workers, progress=progress).exposures
        backgrounds = BackgroundSettings(
            n_per_exposure=settings.n_per_exposure,
            side=settings.side,
            max_scatter_ratio=settings.max_scatter_ratio,
            noise=NoiseSettings(correlation=correlation),
        )
        # By name, so that the pool does not depend on which exposure was finished first.
        make_backgrounds(sorted(exposures), path, readable_survey(simulation.survey), backgrounds, progress=progress)
    return BackgroundPool.open(path, mixed=True)
