"""The command that does everything."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import Config, Images, Out, PsfFolder, Set, Workers, check_file, fetch
from lumos.errors import LumosConfigError

__all__ = ["run"]


@command
def run(
    images: Images,
    out: Out,
    survey: Annotated[str | None, typer.Option("--survey", help="Known survey; else the files describe it.")] = None,
    psf: PsfFolder = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Catalogue; else one is made.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Shipped model, a model folder, or none; by default generic.")
    ] = None,
    photoz: Annotated[
        str | None, typer.Option("--photoz", help="Find redshifts with these templates: analytic, eriksen2019, a file.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the files that --photoz names.")] = None,
    spec_z: Annotated[
        Path | None, typer.Option("--spec-z", help="Known redshifts, with which results are compared.")
    ] = None,
    other_bands: Annotated[
        Path | None, typer.Option("--other-bands", help="Fluxes of the same galaxies in other bands, for redshifts.")
    ] = None,
    workers: Workers = 2,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Do everything: from a folder of FITS files to calibrated flux PDFs, coadds and the page that judges them."""
    from lumos.settings import load_settings  # noqa: PLC0415

    others = [] if other_bands is None else [f"photoz.others={other_bands}"]
    changes = ["inject.rounds=2", *others, *(set_ or [])]
    if model is None:
        model = load_settings(config, changes).measure.model or "generic"
    changes.append(f"measure.model={'null' if model == 'none' else model}")
    settings = load_settings(config, changes)
    catalog = None if catalog is None else fetch(catalog)
    check_file(catalog, "parent catalogue")
    check_file(spec_z, "table of known redshifts")
    check_file(other_bands, "table of fluxes in other bands")
    for name, given in (("--data", data), ("--spec-z", spec_z), ("--other-bands", other_bands)):
        if given is not None and photoz is None:
            raise LumosConfigError(f"{name}: is for redshifts, needs --photoz")
    with show_progress("run") as progress:
        from lumos.workflows.everything import RunInputs, run_everything  # noqa: PLC0415
        from lumos.workflows.redshift_step import inputs_of_run  # noqa: PLC0415

        redshifts = None if photoz is None else inputs_of_run(photoz, data, spec_z, out, settings.photoz)
        inputs = RunInputs(images, settings, survey, psf, catalog, config, changes, redshifts)
        typer.echo(run_everything(inputs, out, workers=workers, progress=progress))
