"""The command that finds redshifts."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import Config, Out, Set, Workers, check_file

__all__ = ["photoz"]


@command
def photoz(
    table: Annotated[Path, typer.Argument(help="Coadd of `lumos coadd`, or a table of fluxes of any survey.")],
    out: Out,
    templates: Annotated[
        str, typer.Option("--templates", help="Templates and bands: analytic, eriksen2019, or a YAML file.")
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the files that --templates names.")] = None,
    curves: Annotated[
        Path | None, typer.Option("--curves", help="Folder of response curves, one file for each band.")
    ] = None,
    likelihood: Annotated[
        str | None, typer.Option("--likelihood", help="gaussian (the default), student, or pdf (the flux PDFs).")
    ] = None,
    spec_z: Annotated[
        Path | None, typer.Option("--spec-z", help="Known redshifts: object_id, redshift; results are compared.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option("--calibrate", help="Correct zero points: none (the default), spectra, photometry.")
    ] = None,
    workers: Workers = 1,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Find photometric redshifts: p(z) of each galaxy by fits of templates to its fluxes or flux PDFs."""
    from lumos.settings import load_settings  # noqa: PLC0415

    given = (("likelihood", likelihood), ("calibrate", calibrate))
    overrides = [*(set_ or []), *(f"photoz.{name}={value}" for name, value in given if value is not None)]
    settings = load_settings(config, overrides).photoz
    check_file(table, "table of fluxes")
    check_file(spec_z, "table of known redshifts")
    with show_progress("photoz") as progress:
        from lumos.workflows.photoz import PhotozInputs, make_redshifts  # noqa: PLC0415

        inputs = PhotozInputs(table, templates, data, curves, spec_z)
        typer.echo(make_redshifts(inputs, out, settings, workers=workers, progress=progress))
