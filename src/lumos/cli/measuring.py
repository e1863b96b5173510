"""Commands that measure fluxes and judge them."""

from pathlib import Path
from typing import Annotated

import typer

from lumos.cli.app import command
from lumos.cli.console import list_failures, show_progress
from lumos.cli.options import (
    CoaddFile,
    Config,
    DriverName,
    Images,
    Injected,
    ModelName,
    Out,
    Overwrite,
    PsfFolder,
    Set,
    SurveyName,
    Truth,
    Workers,
    check_file,
    check_output,
    check_run,
    fetch,
    open_driver,
    survey_and_files,
)
from lumos.errors import LumosConfigError, LumosError
from lumos.runs.jobs import BATCH_SYSTEMS, write_jobs

__all__ = ["coadd", "inject", "measure", "sky", "validate"]

MeasureDriver = Annotated[
    str,
    typer.Option(
        "--driver",
        help="local, dask (--workers processes here), the address of a Dask scheduler; slurm or condor write a "
        "job array of --workers jobs.",
    ),
]


def _absolute(name: str) -> str:
    """Return a shipped survey or model as it is, a file or folder with its whole path."""
    return str(Path(name).resolve()) if Path(name).exists() else name


@command
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
    driver: MeasureDriver = "local",
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", help="Seconds after which an exposure that hangs is tried again, then given up."),
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Measure the flux of every catalogue object in every exposure."""
    from lumos.settings import load_settings  # noqa: PLC0415

    if model is not None and driver in BATCH_SYSTEMS:
        model = _absolute(model)
    overrides = [*(set_ or []), *([] if model is None else [f"measure.model={model}"])]
    if estimators is not None:
        names = [name.strip() for name in estimators.split(",") if name.strip()]
        overrides.append(f"measure.estimators=[{','.join(names)}]")
    settings = load_settings(config, overrides).measure
    how, files = survey_and_files(survey, exposures, psf)
    catalog = fetch(catalog)
    check_file(catalog, "parent catalogue")
    if driver in BATCH_SYSTEMS:
        words = ["--catalog", catalog.resolve(), "--survey", _absolute(survey)]
        words += [] if psf is None else ["--psf", psf.resolve()]
        words += [] if config is None else ["--config", config.resolve()]
        words += [] if timeout is None else ["--timeout", timeout]
        words += [word for one in overrides for word in ("--set", one)]
        typer.echo(write_jobs(driver, "measure", [path.resolve() for path in files], words, out, n_jobs=workers))
        return
    with open_driver(driver, workers, timeout) as where, show_progress("measure") as progress:
        from lumos.photometry.run import measure_run  # noqa: PLC0415

        report = measure_run(files, catalog, out, how, settings, psf_dir=psf, workers=where, progress=progress)
    typer.echo(
        f"{out}: {report.n_rows} rows; {len(report.done)} exposures measured, {len(report.skipped)} finished before, "
        f"{len(report.failed)} failed"
    )
    if report.failed:
        raise LumosError(list_failures(list(report.failed.values()), len(files), out / "manifest.json"))
    if report.n_rows == 0:
        raise LumosError(f"{catalog}: no object lies on any of the exposures")


@command
def inject(
    out: Out,
    exposures: Annotated[list[Path] | None, typer.Argument(help="As of `lumos measure`; none with --run.")] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Catalogue of the exposures' objects.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Take all from a run of `lumos measure`.")] = None,
    survey: SurveyName = "generic",
    psf: PsfFolder = None,
    model: ModelName = None,
    workers: Workers = 1,
    driver: DriverName = "local",
    config: Config = None,
    set_: Set = None,
) -> None:
    """Put galaxies of known flux into exposures as they are read, measure them, and say how true the errors are."""
    from lumos.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config, [*(set_ or []), *([] if model is None else [f"measure.model={model}"])])
    if (run is None) == (catalog is None) or (run is None) == (not exposures):
        raise LumosConfigError("give either exposures and --catalog, or --run")
    found = None if exposures is None else survey_and_files(survey, exposures, psf)
    catalog = None if catalog is None else fetch(catalog)
    check_file(catalog, "parent catalogue")
    with open_driver(driver, workers) as where, show_progress("inject") as progress:
        from lumos.injection.run import InjectInputs, inject_run  # noqa: PLC0415
        from lumos.workflows.validate import KNOWN, validate_runs  # noqa: PLC0415

        if run is not None:
            inputs = InjectInputs.of_run(run)
        else:
            assert found is not None
            assert catalog is not None
            inputs = InjectInputs(found[1], catalog, found[0], settings.measure, psf)
        report = inject_run(inputs, out, settings.inject, workers=where, progress=progress)
        page = validate_runs([out], out / "report")
    typer.echo(page.tables[KNOWN])
    typer.echo(f"{report.n_injected} galaxies in {len(report.runs)} rounds; {out / 'report/report.html'} shows more")
    if report.failed:
        raise LumosError(list_failures(list(report.failed.values()), len(inputs.exposures), out))


@command
def validate(
    out: Out,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of `lumos measure` or `lumos inject`; or one of `lumos photoz`."),
    ] = None,
    truth: Truth = None,
    injected: Injected = None,
    coadd: CoaddFile = None,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Magnitudes and shapes by which redshifts are shown.")
    ] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="paper: its figures beside ours; no runs.")] = None,
    workers: Workers = 1,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Judge fluxes or redshifts: a page with a verdict, metrics and charts; or make the figures of the source paper."""
    from lumos.settings import load_settings  # noqa: PLC0415

    every = load_settings(config, set_ or [])
    settings = every.paper
    given = [path for path in (truth, injected, coadd, catalog) if path is not None]
    if (suite is None) == (not runs) or suite not in {None, "paper"} or (suite is not None and given):
        raise LumosConfigError("give either runs, or --suite paper without other files")
    check_file(truth, "table of true fluxes")
    if suite is not None:
        with show_progress("validate") as progress:
            from lumos.workflows.paper import make_paper  # noqa: PLC0415

            typer.echo(make_paper(out, settings, workers=workers, progress=progress))
        return
    from lumos.photoz.run import is_redshift_run  # noqa: PLC0415
    from lumos.validate.evidence.metrics import format_metrics  # noqa: PLC0415
    from lumos.workflows.redshifts import validate_redshifts  # noqa: PLC0415
    from lumos.workflows.validate import validate_runs  # noqa: PLC0415

    if runs and any(is_redshift_run(run) for run in runs):
        if len(runs) > 1 or truth is None or injected is not None or coadd is not None:
            raise LumosConfigError("give one folder of `lumos photoz`, with --truth, without --injected and --coadd")
        check_file(catalog, "catalogue")
        parent = None if catalog is None else every.measure.catalog.read(catalog)
        page = validate_redshifts(runs[0], out, truth, catalog=parent)
    elif catalog is not None:
        raise LumosConfigError("--catalog is for a folder of `lumos photoz`; runs know theirs")
    else:
        page = validate_runs(runs or [], out, truth=truth, injected=injected, coadd=coadd)
    typer.echo(f"{format_metrics(page.metrics)}\n{out / 'report.html'}")


@command
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
    driver: DriverName = "local",
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
        check_run(run)
    for path, what in ((catalog, "catalogue"), (zeropoints, "table of zero points"), (reference, "reference")):
        check_file(path, what)
    with open_driver(driver, workers) as where, show_progress("coadd") as progress:
        from lumos.coadds.run import coadd_run  # noqa: PLC0415

        report = coadd_run(
            runs,
            out,
            settings,
            catalog=catalog,
            zeropoints=zeropoints,
            reference=reference,
            sky=sky,
            workers=where,
            progress=progress,
        )
    typer.echo(f"{out}: {report.n_rows} objects and bands" + (", finished before" if report.was_finished else ""))


@command
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
    catalog = fetch(catalog)
    check_file(catalog, "parent catalogue")
    check_output(out, overwrite=overwrite)
    with show_progress("sky"):
        from lumos.coadds.sky import make_sky  # noqa: PLC0415

        typer.echo(make_sky(catalog, out, columns, n=n, min_distance=min_distance, seed=seed))
