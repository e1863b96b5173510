"""The command ``lumos``.

Only typer and what reads settings are imported here at the top: ``lumos --help`` must not wait for torch or astropy.
Each command checks its arguments first and only then imports what it runs.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lumos import __version__
from lumos.console import Interrupted, interruptible, list_failures, show_progress, with_log_options
from lumos.errors import LumosConfigError, LumosError
from lumos.options import (
    Config,
    Images,
    ModelName,
    Out,
    Overwrite,
    PsfFolder,
    Set,
    SurveyName,
    Workers,
    check_file,
    check_output,
    survey_and_files,
)

__all__ = ["app", "main"]

app = typer.Typer(
    help="Galaxy fluxes with errors that are true, from survey exposures and a parent catalogue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    except Interrupted:
        typer.echo("lumos: interrupted; the same command continues", err=True)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _command(function: Callable[..., None]) -> Callable[..., None]:
    return app.command()(with_log_options(function))


@_command
def measure(
    exposures: Images,
    catalog: Annotated[Path, typer.Option("--catalog", help="Catalogue of the objects to measure.")],
    out: Out,
    survey: SurveyName = "generic",
    psf: PsfFolder = None,
    model: ModelName = None,
    estimators: Annotated[
        str | None, typer.Option("--estimators", help="Names of classical estimators, separated by commas.")
    ] = None,
    workers: Workers = 1,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Measure the flux of every catalogue object in every exposure."""
    from lumos.settings import load_settings  # noqa: PLC0415

    overrides = [*(set_ or []), *([] if model is None else [f"measure.model={model}"])]
    if estimators is not None:
        names = [name.strip() for name in estimators.split(",") if name.strip()]
        overrides.append(f"measure.estimators=[{','.join(names)}]")
    settings = load_settings(config, overrides).measure
    how, files = survey_and_files(survey, exposures, psf)
    check_file(catalog, "parent catalogue")
    with show_progress("measure") as progress:
        from lumos.photometry.run import measure_run  # noqa: PLC0415

        report = measure_run(files, catalog, out, how, settings, psf_dir=psf, workers=workers, progress=progress)
    typer.echo(
        f"{out}: {report.n_rows} rows; {len(report.done)} exposures measured, {len(report.skipped)} finished before, "
        f"{len(report.failed)} failed"
    )
    if report.failed:
        raise LumosError(list_failures(list(report.failed.values()), len(files), out / "manifest.json"))
    if report.n_rows == 0:
        raise LumosError(f"{catalog}: no object lies on any of the exposures")


@_command
def inject(
    out: Out,
    exposures: Annotated[list[Path] | None, typer.Argument(help="As of `lumos measure`; none with --run.")] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Catalogue of the exposures' objects.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Take all from a run of `lumos measure`.")] = None,
    survey: SurveyName = "generic",
    psf: PsfFolder = None,
    model: ModelName = None,
    workers: Workers = 1,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Put galaxies of known flux into exposures as they are read, measure them, and say how true the errors are."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, [*(set_ or []), *([] if model is None else [f"measure.model={model}"])])
    if (run is None) == (catalog is None) or (run is None) == (not exposures):
        raise LumosConfigError("give either exposures and --catalog, or --run")
    found = None if exposures is None else survey_and_files(survey, exposures, psf)
    check_file(catalog, "parent catalogue")
    with show_progress("inject") as progress:
        from lumos.injection.run import InjectInputs, inject_run  # noqa: PLC0415
        from lumos.workflows.validate import KNOWN, validate_runs  # noqa: PLC0415

        if run is not None:
            inputs = InjectInputs.of_run(run)
        else:
            assert found is not None
            assert catalog is not None
            inputs = InjectInputs(found[1], catalog, found[0], settings.measure, psf)
        report = inject_run(inputs, out, settings.inject, workers=workers, progress=progress)
        page = validate_runs(report.runs, out / "report", truth=report.truth)
    typer.echo(page.tables[KNOWN])
    typer.echo(f"{report.n_injected} galaxies in {len(report.runs)} rounds; {out / 'report/report.html'} shows more")
    if report.failed:
        raise LumosError(list_failures(list(report.failed.values()), len(inputs.exposures), out))


@_command
def validate(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `lumos measure` or `lumos inject` wrote.")],
    out: Out,
    truth: Annotated[Path | None, typer.Option("--truth", help="Table with object_id, flux (nJy) and band.")] = None,
) -> None:
    """Judge the fluxes of runs: a page with a verdict, metrics and charts, which opens anywhere."""
    check_file(truth, "table of true fluxes")
    from lumos.injection.run import injected_runs  # noqa: PLC0415
    from lumos.validate.evidence.metrics import format_metrics  # noqa: PLC0415
    from lumos.workflows.validate import validate_runs  # noqa: PLC0415

    if truth is None and len(runs) == 1 and injected_runs(runs[0]):
        runs, truth = list(injected_runs(runs[0])), runs[0] / "truth.parquet"
    typer.echo(f"{format_metrics(validate_runs(runs, out, truth=truth).metrics)}\n{out / 'report.html'}")


@_command
def catalog(
    image: Annotated[Path, typer.Argument(help="FITS file of the exposure in which objects are detected.")],
    out: Annotated[Path, typer.Option("--out", help="Catalogue to write (Parquet).")],
    survey: SurveyName = "generic",
    psf: PsfFolder = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Make a catalogue from an exposure: detect objects and fit their shapes."""
    from lumos.files import check_parquet_name  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415
    from lumos.surveys import load_survey  # noqa: PLC0415

    settings, how = load_settings(config, set_ or []).catalog, load_survey(survey)
    check_file(image, "file")
    check_parquet_name(out)
    with show_progress("catalog") as progress:
        from lumos.workflows.catalog import make_catalog  # noqa: PLC0415

        made = make_catalog(image, out, how, settings, psf_dir=psf, overwrite=overwrite, progress=progress)
    typer.echo(made)


@_command
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
    """Fit a Moffat PSF to the stars of each exposure, for exposures that come without a PSF."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).psf
    how, files = survey_and_files(survey, images, None)
    check_file(catalog, "catalogue")
    with show_progress("psf") as progress:
        from lumos.workflows.psf import make_psfs  # noqa: PLC0415

        typer.echo(make_psfs(files, out, how, settings, catalog_path=catalog, progress=progress))


@_command
def simulate(
    survey: Annotated[str, typer.Argument(help="Name of a preset, or a YAML file that describes a survey.")],
    out: Out,
    workers: Workers = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one setting: group.field=value.")] = None,
) -> None:
    """Simulate a survey: exposures, catalogue, and the true flux of every object."""
    from lumos.settings import load_simulation  # noqa: PLC0415

    settings = load_simulation(survey, set_ or [])
    with show_progress("simulate") as progress:
        from lumos.simulate.exposures import simulate_survey  # noqa: PLC0415
        from lumos.simulate.readable import survey_name  # noqa: PLC0415

        report = simulate_survey(settings, out, workers=workers, progress=progress)
    typer.echo(
        f"{out}: {len(report.done)} exposures simulated, {len(report.skipped)} finished before, "
        f"{report.n_galaxies} galaxies in the catalogue; read with --survey {survey_name(settings.survey, out)}"
    )


@_command
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


@_command
def coadd(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `lumos measure` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Coadd to write (Parquet).")],
    prior: Annotated[
        str | None, typer.Option("--prior", help="catalog (learned from the run, the default), none, or a file.")
    ] = None,
    product: Annotated[
        str | None, typer.Option("--product", help="likelihood (prior once, the default), or naive (prior N times).")
    ] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Catalogue of the run, if it moved.")] = None,
    zeropoints: Annotated[Path | None, typer.Option("--zeropoints", help="Table of zero points.")] = None,
    reference: Annotated[Path | None, typer.Option("--reference", help="Objects of known flux.")] = None,
    sky: Annotated[Path | None, typer.Option("--sky", help="Run at empty positions (see `lumos sky`).")] = None,
    workers: Workers = 1,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Combine the fluxes of all exposures of a run: one PDF and one flux per object and band."""
    from lumos.files import check_parquet_name  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415

    check_parquet_name(out)
    overrides = list(set_ or [])
    overrides += [f"coadd.{name}={value}" for name, value in (("prior", prior), ("product", product)) if value]
    settings = load_settings(config, overrides).coadd
    for run in (*runs, *([] if sky is None else [sky])):
        check_file(run / "manifest.json", "run of `lumos measure`")
    for path, what in ((catalog, "catalogue"), (zeropoints, "table of zero points"), (reference, "reference")):
        check_file(path, what)
    with show_progress("coadd") as progress:
        from lumos.coadds.run import coadd_run  # noqa: PLC0415

        report = coadd_run(
            runs,
            out,
            settings,
            catalog=catalog,
            zeropoints=zeropoints,
            reference=reference,
            sky=sky,
            workers=workers,
            progress=progress,
        )
    typer.echo(f"{out}: {report.n_rows} objects and bands" + (", finished before" if report.was_finished else ""))


@_command
def sky(
    catalog: Annotated[Path, typer.Argument(help="Catalogue whose objects are avoided.")],
    out: Annotated[Path, typer.Option("--out", help="Catalogue to write (Parquet).")],
    n: Annotated[int, typer.Option("--n", help="Number of empty positions.")] = 2000,
    min_distance: Annotated[float, typer.Option("--min-distance", help="Arcsec to the nearest object.")] = 3.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random positions.")] = 0,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Make a catalogue of empty positions, whose fluxes tell `lumos coadd --sky` how much faint light is everywhere."""
    from lumos.settings import load_settings  # noqa: PLC0415

    columns = load_settings(config, set_ or []).measure.catalog
    check_file(catalog, "parent catalogue")
    check_output(out, overwrite=overwrite)
    with show_progress("sky"):
        from lumos.coadds.sky import make_sky  # noqa: PLC0415

        typer.echo(make_sky(catalog, out, columns, n=n, min_distance=min_distance, seed=seed))


@_command
def train(
    run: Annotated[str, typer.Argument(help="Name of a shipped training run, or a YAML file that describes one.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model to write.")],
    workers: Annotated[int, typer.Option("--workers", help="Processes that simulate the survey.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one setting: group.field=value.")] = None,
) -> None:
    """Train a network on simulated galaxies. The same command continues a training run that was killed."""
    from lumos.settings import load_training  # noqa: PLC0415

    settings = load_training(run, set_ or [])
    with show_progress("train") as progress:
        from lumos.workflows.train import train_model  # noqa: PLC0415

        typer.echo(train_model(settings, out, run=run, workers=workers, progress=progress))


@_command
def adapt(
    model: Annotated[str, typer.Argument(help="Model to adapt: a shipped model, or a model folder.")],
    run: Annotated[Path, typer.Option("--run", help="Folder that `lumos measure` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the adapted model to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write it even if known fluxes get worse.")] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Train a model further on the exposures of a run, without known fluxes."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, set_ or []).adapt
    with show_progress("adapt") as progress:
        from lumos.adaptation.run import adapt_model  # noqa: PLC0415

        typer.echo(adapt_model(model, run, out, settings, force=force, progress=progress))


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
    value: Annotated[int | None, typer.Argument(help="Value of a `flags` column: list the flags in it.")] = None,
) -> None:
    """List the flags with their bits and meanings, or those set in a value."""
    from lumos.workflows.listings import list_flags  # noqa: PLC0415

    typer.echo(list_flags(value))


@_command
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    workers: Workers = 2,
) -> None:
    """Simulate a small survey, measure it with every estimator, make coadds, and compare them with the truth."""
    with show_progress("demo") as progress:
        from lumos.workflows.demo import run_demo  # noqa: PLC0415

        typer.echo(run_demo(out, workers=workers, progress=progress))
