"""Commands that look at a run from outside."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.errors import LumosDataError

__all__ = ["check", "status"]

RunFolders = Annotated[list[Path], typer.Argument(help="Folders that `lumos measure` or `lumos simulate` writes.")]
RunsOrJobs = Annotated[
    list[Path], typer.Argument(help="Folders that `lumos measure` or `lumos simulate` writes, or of a job array.")
]


@command
def status(runs: RunsOrJobs) -> None:
    """Tell how far runs are: exposures done and failed, with the reasons, rate and time left."""
    from lumos.runs.jobs import job_parts  # noqa: PLC0415

    for run in runs:
        parts = job_parts(run)
        waiting = {part: n for part, n in parts.items() if not (part / "manifest.json").exists()}
        for part in (part for part in parts or [run] if part not in waiting):
            _status(part)
        if waiting:
            names = ", ".join(part.name for part in waiting)
            text = (
                f"{len(waiting)} of {len(parts)} jobs have not begun, with {sum(waiting.values())} exposures: {names}"
            )
            typer.echo(f"{run}: {text}")


def _status(run: Path) -> None:
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
def check(runs: RunFolders) -> None:
    """Verify runs: every shard against its digest, page by page, and the files that it was made from."""
    with show_progress("check") as progress:
        from lumos.runs.look import check_run  # noqa: PLC0415

        wrong = {name: reason for run in runs for name, reason in check_run(run, progress).items()}
    for name, reason in wrong.items():
        typer.echo(f"{name}: {reason}")
    if wrong:
        raise LumosDataError(f"{len(wrong)} faults; the command that made the run, given again, mends it")
    typer.echo("whole: " + ", ".join(map(str, runs)))
