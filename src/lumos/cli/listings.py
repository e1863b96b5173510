"""Commands that show what comes with the package."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import Workers
from lumos.errors import LumosConfigError

__all__ = ["demo", "flags", "models", "settings", "surveys"]


@command
def models(
    name: Annotated[str | None, typer.Argument(help="Show the card of this model, or of a model folder.")] = None,
) -> None:
    """List the shipped models, or show the card of one."""
    from lumos.workflows.listings import list_models  # noqa: PLC0415

    typer.echo(list_models(name))


@command
def surveys(
    name: Annotated[str | None, typer.Argument(help="Show the survey file of this survey.")] = None,
) -> None:
    """List the shipped surveys, or show the survey file of one, as a start for your own."""
    from lumos.workflows.listings import list_surveys  # noqa: PLC0415

    typer.echo(list_surveys(name))


@command
def flags(
    value: Annotated[
        str | None, typer.Argument(help="Value of a `flags` column, a flag, or a flag column of `--format lsst`.")
    ] = None,
) -> None:
    """List the flags with their bits and meanings, or those set in a value or behind a name."""
    from lumos.workflows.listings import list_flags  # noqa: PLC0415

    typer.echo(list_flags(value))


@command
def settings(
    stage: Annotated[str | None, typer.Argument(help="Only this stage, as `measure`.")] = None,
    json_schema: Annotated[
        str | None, typer.Option("--json-schema", help="Print the JSON schema of: settings, survey or simulation.")
    ] = None,
) -> None:
    """Print all settings with their defaults and meanings, as a start for --config, or the schema of a kind of file."""
    from lumos.workflows.listings import list_schema, list_settings  # noqa: PLC0415

    if stage is not None and json_schema is not None:
        raise LumosConfigError("give either a stage, or --json-schema")
    typer.echo(list_settings(stage) if json_schema is None else list_schema(json_schema))


@command
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    workers: Workers = 2,
) -> None:
    """Simulate a small survey, measure it with every estimator, make coadds, and compare them with the truth."""
    with show_progress("demo") as progress:
        from lumos.workflows.demo import run_demo  # noqa: PLC0415

        typer.echo(run_demo(out, workers=workers, progress=progress))
