"""Commands that make what measuring takes: catalogues, PSFs, simulated surveys, backgrounds."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import show_progress
from lumos.cli.options import (
    Config,
    DriverName,
    Images,
    Out,
    Overwrite,
    PsfFolder,
    Set,
    SurveyName,
    Workers,
    check_file,
    fetch,
    open_driver,
    survey_and_files,
)

__all__ = ["backgrounds", "catalog", "init", "psf", "simulate"]


@command
def init(
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="Survey file to write (YAML).")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the survey; by default the instrument's.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look at the files of a camera and write its survey file, with the questions that the files leave open."""
    with show_progress("init"):
        from lumos.workflows.init import make_survey  # noqa: PLC0415

        typer.echo(make_survey(images, out, name=name, overwrite=overwrite))


@command
def catalog(
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="Catalogue to write (Parquet).")],
    survey: SurveyName = "generic",
    psf: PsfFolder = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Make a catalogue from an exposure, or one of each part of the sky: detect objects and fit their shapes."""
    from lumos.files import check_parquet_name  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).catalog
    how, files = survey_and_files(survey, images, psf)
    check_parquet_name(out)
    with show_progress("catalog") as progress:
        from lumos.workflows.catalog import make_catalog  # noqa: PLC0415

        made = make_catalog(files, out, how, settings, psf_dir=psf, overwrite=overwrite, progress=progress)
    typer.echo(made)


@command
def psf(
    images: Images,
    out: Out,
    survey: SurveyName = "generic",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Star positions; without it they are detected.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Fit a PSF to the stars of each exposure: a Moffat, or an empirical one where stars prefer it."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).psf
    how, files = survey_and_files(survey, images, None)
    catalog = None if catalog is None else fetch(catalog)
    check_file(catalog, "catalogue")
    with show_progress("psf") as progress:
        from lumos.workflows.psf import make_psfs  # noqa: PLC0415

        typer.echo(make_psfs(files, out, how, settings, catalog_path=catalog, progress=progress))


@command
def simulate(
    survey: Annotated[str, typer.Argument(help="Name of a preset, or a YAML file that describes a survey.")],
    out: Out,
    workers: Workers = 1,
    driver: DriverName = "local",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one setting: group.field=value.")] = None,
) -> None:
    """Simulate a survey: exposures, catalogue, and the true flux of every object."""
    from lumos.settings import load_simulation  # noqa: PLC0415

    settings = load_simulation(survey, set_ or [])
    with open_driver(driver, workers) as where, show_progress("simulate") as progress:
        from lumos.simulate.exposures import simulate_survey  # noqa: PLC0415
        from lumos.simulate.readable import survey_name  # noqa: PLC0415

        report = simulate_survey(settings, out, workers=where, progress=progress)
    typer.echo(
        f"{out}: {len(report.done)} exposures simulated, {len(report.skipped)} finished before, "
        f"{report.n_galaxies} galaxies in the catalogue; read with --survey {survey_name(settings.survey, out)}"
    )


@command
def backgrounds(
    exposures: Images,
    out: Out,
    survey: SurveyName = "generic",
    psf: PsfFolder = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Cut stamps at random places of exposures into a background pool, on which simulated galaxies are drawn."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).backgrounds
    how, files = survey_and_files(survey, exposures, psf)
    with show_progress("backgrounds") as progress:
        from lumos.pools.cut import make_backgrounds  # noqa: PLC0415

        report = make_backgrounds(files, out, how, settings, psf_dir=psf, progress=progress)
    typer.echo(f"{out}: {report.n_stamps} stamps of {report.n_used} CCDs, {len(report.refused)} refused")
