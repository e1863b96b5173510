"""Train a model, from its backgrounds to its folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lumos import __version__
from lumos.nets.checkpoint import save_model
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.report.training import draw_learning
from lumos.runs.locks import lock_folder, locked
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.readable import readable_survey
from lumos.training.card import model_card
from lumos.training.domain import fit_domain
from lumos.training.loop import train_network
from lumos.training.settings import PoolSettings, TrainSettings

__all__ = ["train_model"]

Progress = Callable[[int, int, str], None]


@locked(lock_folder)
def train_model(
    settings: TrainSettings, out: Path, *, run: str = "RUN.yaml", workers: int = 1, progress: Progress | None = None
) -> str:
    """Train a model and write its folder; the survey that its backgrounds come from is simulated first if need be.

    Parameters
    ----------
    settings : TrainSettings
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
    pool = None if settings.pool is None else _open_pool(settings.pool, out, workers, progress)
    report = train_network(settings, pool, out / "training", progress=progress)
    figures = {name: round(value, 5) for name, value in report.validation.as_dict().items()}
    facts = {
        "run": run,
        "n_stamps": report.n_stamps,
        "minutes": round(report.minutes, 1),
        "version": __version__,
        "settings": settings.model_dump(mode="json", exclude={"workers", "device"}),
    }
    model = fit_domain(report.model, pool, settings.stamps, seed=settings.seed)
    config = model.config.model_copy(update={"metrics": figures, "training": facts})
    card = model_card(config, settings.text, report.curve)
    draw_learning(out / "learning.png", {settings.name: report.curve})
    save_model(replace(model, config=config), out, card, half=settings.weights == "float16")
    return (
        f"{out}: {settings.name}, {report.n_stamps} stamps in {report.minutes:.1f} minutes; "
        f"validation loss {report.validation.loss:.4f}, PIT-KS {report.validation.pit_ks:.4f}"
    )


def _open_pool(settings: PoolSettings, out: Path, workers: int, progress: Progress | None) -> BackgroundPool:
    """Open the pools of a run, or simulate the survey and cut the backgrounds."""
    if settings.simulate is None:
        return BackgroundPool.open(settings.paths[0], *settings.paths[1:], mixed=True)
    path = out / "pool"
    if not (path / "pool.json").exists():
        simulation = load_simulation(settings.simulate, settings.overrides)
        exposures = simulate_survey(simulation, out / "survey", workers=workers, progress=progress).exposures
        backgrounds = BackgroundSettings(
            n_per_exposure=settings.n_per_exposure, side=settings.side, max_scatter_ratio=settings.max_scatter_ratio
        )
        # By name, so that the pool does not depend on which exposure was finished first.
        make_backgrounds(sorted(exposures), path, readable_survey(simulation.survey), backgrounds, progress=progress)
    return BackgroundPool.open(path, mixed=True)
