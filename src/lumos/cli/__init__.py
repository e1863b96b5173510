"""The command ``lumos``.

Only typer and what reads settings are imported at the top of these files: ``lumos --help`` must not wait for torch or
astropy. Each command checks its arguments first and only then imports what it runs.
"""

import sys

import typer

# In the order of ``lumos --help``.
from lumos.cli import everything, measuring, runs, exporting, redshifts, preparing, networks, listings  # isort: skip
from lumos.cli.app import app
from lumos.cli.console import Interrupted, interruptible
from lumos.errors import LumosError

__all__ = [
    "app",
    "everything",
    "exporting",
    "listings",
    "main",
    "measuring",
    "networks",
    "preparing",
    "redshifts",
    "runs",
]


def main() -> None:
    """Run the command line; errors that the package foresees end with one line and exit code 1."""
    try:
        with interruptible():
            app()
    except (LumosError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"lumos: error: {error}", err=True)
        sys.exit(1)
    except MemoryError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"lumos: error: out of memory ({' '.join(str(error).split()) or 'no more is known'})", err=True)
        sys.exit(1)
    except Interrupted:
        typer.echo("lumos: interrupted; the same command continues", err=True)
        sys.exit(130)
