"""The command ``lumos``.

Only typer and the settings are imported here at the top: ``lumos --help`` must not wait for torch or
astropy. Each command imports what it runs.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lumos import __version__
from lumos.errors import LumosError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Galaxy fluxes with errors that are true, from survey exposures and a parent catalogue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Images = Annotated[list[Path], typer.Argument(help="FITS files.")]
Out = Annotated[Path, typer.Option("--out", help="Output folder.")]
SurveyName = Annotated[str, typer.Option("--survey", help="Name of a shipped survey, or a YAML file.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings, YAML.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override one setting: stage.field=value.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")]


def main() -> None:
    """Run the command line; errors that the package foresees end with one line and exit code 1."""
    try:
        app()
    except (LumosError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"lumos: error: {error}", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _start_logging(debug: bool) -> None:
    level = logging.DEBUG if debug else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", stream=sys.stderr, force=True)
    for chatty in ("matplotlib", "PIL", "fontTools"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a progress display: a bar on a terminal, a line per item in a log."""
    if not sys.stderr.isatty():
        log = logging.getLogger("lumos")
        yield lambda done, total, name: log.info("%s %d/%d %s", title, done, total, name)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=f"{title} {name}")


@app.command()
def measure(
    exposures: Images,
    catalog: Annotated[Path, typer.Option("--catalog", help="Parent catalogue.")],
    out: Out,
    survey: SurveyName = "generic",
    psf: Annotated[Path | None, typer.Option("--psf", help="Folder with PSF models.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of a shipped model, or a model folder.")] = None,
    estimators: Annotated[
        str | None, typer.Option("--estimators", help="Names of classical ones, with commas between.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Number of processes.")] = 1,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Measure the fluxes of catalogue objects in exposures."""
    _start_logging(debug)
    from lumos.measure.run import measure_run  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415
    from lumos.surveys import load_survey  # noqa: PLC0415

    overrides = list(set_ or [])
    if estimators is not None:
        names = [name.strip() for name in estimators.split(",") if name.strip()]
        overrides.append(f"measure.estimators=[{','.join(names)}]")
    if model is not None:
        overrides.append(f"measure.model={model}")
    settings = load_settings(config, overrides).measure
    with _progress("measure") as progress:
        report = measure_run(
            exposures, catalog, out, load_survey(survey), settings, psf_dir=psf, workers=workers, progress=progress
        )
    typer.echo(
        f"{out}: {report.n_rows} rows; {len(report.done)} exposures measured, {len(report.skipped)} finished before, "
        f"{len(report.failed)} failed"
    )
    if report.failed:
        raise LumosError("; ".join(report.failed.values()))
    if report.n_rows == 0:
        raise LumosError(f"{catalog}: no object lies on any of the exposures")


@app.command()
def catalog(
    image: Annotated[Path, typer.Argument(help="FITS file.")],
    out: Annotated[Path, typer.Option("--out", help="Output catalogue, Parquet.")],
    survey: SurveyName = "generic",
    psf: Annotated[Path | None, typer.Option("--psf", help="Folder with PSF models.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make it again if it exists.")] = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Make a parent catalogue where none exists: detect objects and fit their shapes."""
    _start_logging(debug)
    from lumos.settings import load_settings  # noqa: PLC0415
    from lumos.surveys import load_survey  # noqa: PLC0415
    from lumos.workflows import make_catalog  # noqa: PLC0415

    settings = load_settings(config, set_ or []).catalog
    with _progress("catalog") as progress:
        made = make_catalog(
            image, out, load_survey(survey), settings, psf_dir=psf, overwrite=overwrite, progress=progress
        )
    typer.echo(made)


@app.command()
def psf(
    images: Images,
    out: Out,
    survey: SurveyName = "generic",
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Star positions; detected by default.")] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Fit a Moffat PSF to the stars of each exposure, where none is shipped."""
    _start_logging(debug)
    from lumos.settings import load_settings  # noqa: PLC0415
    from lumos.surveys import load_survey  # noqa: PLC0415
    from lumos.workflows import make_psfs  # noqa: PLC0415

    with _progress("psf") as progress:
        typer.echo(
            make_psfs(
                images,
                out,
                load_survey(survey),
                load_settings(config, set_ or []).psf,
                catalog_path=catalog,
                progress=progress,
            )
        )


@app.command()
def simulate(
    survey: Annotated[str, typer.Argument(help="Name of a preset, or a YAML file that describes the survey.")],
    out: Out,
    workers: Annotated[int, typer.Option("--workers", help="Number of processes.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one setting: group.field=value.")] = None,
    debug: Debug = False,
) -> None:
    """Simulate a survey: exposures, parent catalogue and truth."""
    _start_logging(debug)
    from lumos.settings import load_simulation  # noqa: PLC0415
    from lumos.simulate.exposures import simulate_survey  # noqa: PLC0415

    settings = load_simulation(survey, set_ or [])
    with _progress("simulate") as progress:
        report = simulate_survey(settings, out, workers=workers, progress=progress)
    typer.echo(
        f"{out}: {len(report.done)} exposures simulated, {len(report.skipped)} finished before, "
        f"{report.n_galaxies} galaxies in the catalogue; read with --survey {settings.survey}"
    )


@app.command()
def backgrounds(
    exposures: Images,
    out: Out,
    survey: SurveyName = "generic",
    psf: Annotated[Path | None, typer.Option("--psf", help="Folder with PSF models.")] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Cut random background stamps from exposures into a pool, to put simulated galaxies on."""
    _start_logging(debug)
    from lumos.measure.backgrounds import make_backgrounds  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415
    from lumos.surveys import load_survey  # noqa: PLC0415

    settings = load_settings(config, set_ or []).backgrounds
    with _progress("backgrounds") as progress:
        report = make_backgrounds(exposures, out, load_survey(survey), settings, psf_dir=psf, progress=progress)
    typer.echo(f"{out}: {report.n_stamps} stamps of {report.n_used} CCDs, {len(report.refused)} refused")


@app.command()
def coadd(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `lumos measure` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Output table, Parquet.")],
    prior: Annotated[str | None, typer.Option("--prior", help="catalog, none, or the path of a prior.")] = None,
    product: Annotated[str | None, typer.Option("--product", help="likelihood, or naive to show what it does.")] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="Parent catalogue, if it moved.")] = None,
    zeropoints: Annotated[Path | None, typer.Option("--zeropoints", help="Table of zero points.")] = None,
    reference: Annotated[Path | None, typer.Option("--reference", help="Objects of known flux.")] = None,
    sky: Annotated[Path | None, typer.Option("--sky", help="Run at empty positions (see `lumos sky`).")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Number of processes.")] = 1,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Coadd the exposures of a run: one PDF and one flux per object and band."""
    _start_logging(debug)
    from lumos.measure.coadd import coadd_run  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415

    overrides = list(set_ or [])
    overrides += [f"coadd.{name}={value}" for name, value in (("prior", prior), ("product", product)) if value]
    settings = load_settings(config, overrides).coadd
    with _progress("coadd") as progress:
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


@app.command()
def sky(
    catalog: Annotated[Path, typer.Argument(help="Parent catalogue.")],
    out: Annotated[Path, typer.Option("--out", help="Output catalogue, Parquet.")],
    n: Annotated[int, typer.Option("--n", help="Number of positions.")] = 2000,
    min_distance: Annotated[float, typer.Option("--min-distance", help="Arcsec to the nearest object.")] = 3.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the positions.")] = 0,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Make a catalogue of empty positions: measured and given to `lumos coadd --sky`, it shows what lies below."""
    _start_logging(debug)
    import numpy as np  # noqa: PLC0415

    from lumos.catalogs.parent import read_parent, write_parent  # noqa: PLC0415
    from lumos.files import check_parquet_name  # noqa: PLC0415
    from lumos.measure.sky import sky_catalog  # noqa: PLC0415
    from lumos.settings import load_settings  # noqa: PLC0415

    check_parquet_name(out)
    columns = load_settings(config, set_ or []).measure.catalog
    parent = read_parent(catalog, columns.columns, columns.radius, columns.made_from)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_parent(sky_catalog(parent, n, min_distance, np.random.default_rng(seed)), out)
    typer.echo(f"{out}: {n} empty positions")


@app.command()
def train(
    run: Annotated[str, typer.Argument(help="Name of a shipped run, or a YAML file that describes one.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    workers: Annotated[int, typer.Option("--workers", help="Processes that simulate the survey.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one setting: group.field=value.")] = None,
    debug: Debug = False,
) -> None:
    """Train a network on simulated galaxies; a run that was killed is continued."""
    _start_logging(debug)
    from lumos.settings import load_training  # noqa: PLC0415
    from lumos.workflows import train_model  # noqa: PLC0415

    settings = load_training(run, set_ or [])
    with _progress("train") as progress:
        typer.echo(train_model(settings, out, run=run, workers=workers, progress=progress))


@app.command()
def adapt(
    model: Annotated[str, typer.Argument(help="Name of a shipped model, or a model folder.")],
    run: Annotated[Path, typer.Option("--run", help="Folder that `lumos measure` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the adapted model.")],
    force: Annotated[bool, typer.Option("--force", help="Write it even if known fluxes are measured worse.")] = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Adapt a model to the exposures of a run, without labels."""
    _start_logging(debug)
    from lumos.settings import load_settings  # noqa: PLC0415
    from lumos.workflows import adapt_model  # noqa: PLC0415

    settings = load_settings(config, set_ or []).adapt
    with _progress("adapt") as progress:
        typer.echo(adapt_model(model, run, out, settings, force=force, progress=progress))


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Show the card of this model, or of a model folder.")] = None,
) -> None:
    """List the shipped models, or show the card of one."""
    from lumos.nets.checkpoint import find_model, read_config, shipped_models  # noqa: PLC0415

    if name is not None:
        typer.echo((find_model(name) / "README.md").read_text(encoding="utf-8"))
        return
    for shipped in shipped_models():
        config = read_config(shipped)
        bands = f"{len(config.bands)} bands" if config.bands else "any band"
        typer.echo(f"{shipped}: {config.architecture}, {config.kind}, {bands}, PIT-KS {config.metrics['pit_ks']:.3f}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("demo"),
    workers: Annotated[int, typer.Option("--workers", help="Number of processes.")] = 2,
    debug: Debug = False,
) -> None:
    """Run the whole story on a small simulated survey, on the CPU."""
    _start_logging(debug)
    from lumos.workflows import run_demo  # noqa: PLC0415

    with _progress("demo") as progress:
        typer.echo(run_demo(out, workers=workers, progress=progress))
