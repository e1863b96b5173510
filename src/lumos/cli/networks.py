"""Commands that train networks."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import Config, Set

__all__ = ["adapt", "train"]


@command
def train(
    run: Annotated[str, typer.Argument(help="Name of a shipped training run, or a YAML file that describes one.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model to write.")],
    workers: Annotated[int, typer.Option("--workers", help="Processes that simulate the survey.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one setting: group.field=value.")] = None,
) -> None:
    """Train a network on simulated galaxies. The same command continues a training run that was killed."""
    from lumos.settings import load_training  # noqa: PLC0415

    settings = load_training(run, set_ or [])
    with show_progress("train") as progress:
        from lumos.workflows.train import train_model  # noqa: PLC0415

        typer.echo(train_model(settings, out, run=run, workers=workers, progress=progress))


@command
def adapt(
    model: Annotated[str, typer.Argument(help="Model to adapt: a shipped model, or a model folder.")],
    run: Annotated[Path, typer.Option("--run", help="Folder that `lumos measure` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the adapted model to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write it even if known fluxes get worse.")] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Train a model further on the exposures of a run, without known fluxes."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).adapt
    with show_progress("adapt") as progress:
        from lumos.adaptation.run import adapt_model  # noqa: PLC0415

        typer.echo(adapt_model(model, run, out, settings, force=force, progress=progress))
