"""Commands that look at a run from outside."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.errors import LumosDataError

__all__ = ["check", "status"]

RunFolder = Annotated[Path, typer.Argument(help="Folder that `lumos measure` or `lumos simulate` writes.")]


@command
def status(run: RunFolder) -> None:
    """Tell how far a run is: exposures done and failed, with the reasons, rate and time left."""
    from lumos.runs.look import look_at_run  # noqa: PLC0415

    seen = look_at_run(run)
    typer.echo(f"{run}: {seen.done} of {seen.asked} exposures done, {seen.n_rows} rows; {len(seen.failed)} failed")
    for name, reason in seen.failed.items():
        typer.echo(f"  {name}: {reason}")
    if seen.holder is None:
        typer.echo(
            "finished" if seen.done == seen.asked else "no command works in it; the same command does what is left"
        )
        return
    minutes = seen.seconds / 60
    rate = f"{seen.ended} exposures in {minutes:.1f} minutes"
    left = f"{seen.seconds_left / 60:.0f} minutes left" if seen.ended else "time left not known yet"
    typer.echo(f"running ({seen.holder}): {rate}, {left}")


@command
def check(run: RunFolder) -> None:
    """Verify a run: every shard against its digest, page by page, and the files that it was made from."""
    with show_progress("check") as progress:
        from lumos.runs.look import check_run  # noqa: PLC0415

        wrong = check_run(run, progress)
    for name, reason in wrong.items():
        typer.echo(f"{name}: {reason}")
    if wrong:
        raise LumosDataError(f"{run}: {len(wrong)} faults; the command that made it, given again, mends it")
    typer.echo(f"{run}: whole")
