"""Commands that find redshifts."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import Config, DriverName, Out, Set, Workers, check_file, open_driver

__all__ = ["photoz", "photoz_pretrain"]


@command
def photoz(
    table: Annotated[Path, typer.Argument(help="Coadd of `lumos coadd`, or a table of fluxes of any survey.")],
    out: Out,
    method: Annotated[
        str | None, typer.Option("--method", help="bcnz (the default): fits of templates; deepz: networks.")
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option("--templates", help="Templates and bands: analytic, eriksen2019, pairs, or a YAML file."),
    ] = None,
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
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Network of `lumos photoz-pretrain`, trained on --spec-z; or an earlier output."),
    ] = None,
    exposures: Annotated[
        Path | None, typer.Option("--exposures", help="Run of `lumos measure`, or table: train on random coadds.")
    ] = None,
    other_bands: Annotated[
        Path | None, typer.Option("--other-bands", help="Fluxes of the same galaxies in other bands, such as broad.")
    ] = None,
    workers: Workers = 1,
    driver: DriverName = "local",
    config: Config = None,
    set_: Set = None,
) -> None:
    """Find photometric redshifts: p(z) of each galaxy by fits of templates, or by networks."""
    from lumos.settings import load_settings  # noqa: PLC0415

    given = (("method", method), ("likelihood", likelihood), ("calibrate", calibrate), ("others", other_bands))
    overrides = [*(set_ or []), *(f"photoz.{name}={value}" for name, value in given if value is not None)]
    settings = load_settings(config, overrides).photoz
    check_file(table, "table of fluxes")
    check_file(other_bands, "table of fluxes in other bands")
    check_file(spec_z, "table of known redshifts")
    with open_driver(driver, workers) as where, show_progress("photoz") as progress:
        from lumos.workflows.photoz import PhotozInputs, make_redshifts  # noqa: PLC0415

        inputs = PhotozInputs(table, templates, data, curves, spec_z, model, exposures)
        typer.echo(make_redshifts(inputs, out, settings, workers=where, progress=progress))


@command
def photoz_pretrain(
    templates: Annotated[
        str, typer.Argument(help="Templates and bands: analytic, eriksen2019, pairs, or a YAML file.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the network to write.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the files that the templates are in.")] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Train a network for `lumos photoz --method deepz` on mixtures of templates."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).photoz
    with show_progress("photoz-pretrain") as progress:
        from lumos.workflows.photoz import pretrain_network  # noqa: PLC0415

        typer.echo(pretrain_network(templates, out, settings, data=data, progress=progress))
