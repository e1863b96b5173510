"""Commands that show what comes with the package."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import app, command
from lumos.cli.console import show_progress
from lumos.cli.options import Workers

__all__ = ["demo", "flags", "models", "surveys"]


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Show the card of this model, or of a model folder.")] = None,
) -> None:
    """List the shipped models, or show the card of one."""
    from lumos.workflows.listings import list_models  # noqa: PLC0415

    typer.echo(list_models(name))


@app.command()
def surveys(
    name: Annotated[str | None, typer.Argument(help="Show the survey file of this survey.")] = None,
) -> None:
    """List the shipped surveys, or show the survey file of one, as a start for your own."""
    from lumos.workflows.listings import list_surveys  # noqa: PLC0415

    typer.echo(list_surveys(name))


@app.command()
def flags(
    value: Annotated[
        str | None, typer.Argument(help="Value of a `flags` column, a flag, or a flag column of `--format lsst`.")
    ] = None,
) -> None:
    """List the flags with their bits and meanings, or those set in a value or behind a name."""
    from lumos.workflows.listings import list_flags  # noqa: PLC0415

    typer.echo(list_flags(value))


@command
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    workers: Workers = 2,
) -> None:
    """Simulate a small survey, measure it with every estimator, make coadds, and compare them with the truth."""
    with show_progress("demo") as progress:
        from lumos.workflows.demo import run_demo  # noqa: PLC0415

        typer.echo(run_demo(out, workers=workers, progress=progress))
