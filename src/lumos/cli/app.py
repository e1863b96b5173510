"""The application ``lumos`` that commands enter themselves into."""

from collections.abc import Callable
from typing import Annotated

import typer

from lumos import __version__
from lumos.cli.console import with_log_options

__all__ = ["app", "command"]

app = typer.Typer(
    help="Galaxy fluxes with errors that are true, from survey exposures and a parent catalogue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command, with the options of the log.

    Parameters
    ----------
    function : callable
        Its parameters are the command's arguments and options.

    Returns
    -------
    callable
        What typer runs.
    """
    return app.command()(with_log_options(function))
