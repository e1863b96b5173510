"""Arguments that commands of ``lumos`` share, and their checks; nothing slow is imported."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumos.errors import LumosConfigError, LumosDataError

if TYPE_CHECKING:
    from lumos.runs.driver import Driver
    from lumos.surveys import Survey

__all__ = [
    "CoaddFile",
    "Config",
    "DriverName",
    "Images",
    "Injected",
    "ModelName",
    "Out",
    "Overwrite",
    "PsfFolder",
    "Set",
    "SurveyName",
    "Truth",
    "Workers",
    "check_file",
    "check_output",
    "check_run",
    "fetch",
    "open_driver",
    "survey_and_files",
]

Images = Annotated[
    list[Path], typer.Argument(help="FITS files, folders, quoted patterns, here or remote; @file with a list of these.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
SurveyName = Annotated[str, typer.Option("--survey", help="Shipped survey (see `lumos surveys`), or a YAML file.")]
PsfFolder = Annotated[Path | None, typer.Option("--psf", help="Folder of PSFs, as `lumos psf` writes.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change one setting: stage.field=value.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Name of a shipped model, or a model folder.")]
Truth = Annotated[
    Path | None, typer.Option("--truth", help="Table of object_id, flux (nJy) and band; or of object_id and redshift.")
]
Injected = Annotated[Path | None, typer.Option("--injected", help="Folder of `lumos inject` on the same exposures.")]
CoaddFile = Annotated[Path | None, typer.Option("--coadd", help="Coadd of the runs, judged with them.")]
Workers = Annotated[int, typer.Option("--workers", help="Number of processes.")]
DriverName = Annotated[
    str, typer.Option("--driver", help="local, dask (--workers processes here), or the address of a Dask scheduler.")
]


def survey_and_files(name: str, exposures: Sequence[Path], psf: Path | None) -> tuple["Survey", list[Path]]:
    """Find a survey and exposures; what is missing is found before anything slow is imported.

    Parameters
    ----------
    name : str
        Shipped survey, or a YAML file.
    exposures : sequence of Path
        Files, folders, patterns, lists.
    psf : Path or None
        Folder of PSFs.

    Returns
    -------
    survey : Survey
        How to read the exposures.
    files : list of Path
        Those that are meant.

    Raises
    ------
    LumosError
        If the survey, the folder or every file is missing.
    """
    from lumos.surveys import find_exposures, load_survey  # noqa: PLC0415

    survey = load_survey(name)
    if psf is not None and not psf.is_dir():
        raise LumosDataError(f"{psf}: no such folder (PSF files)")
    files = find_exposures(exposures, survey)
    if not any(path.exists() for path in files):
        more = f", nor any of {len(files) - 1} others" if len(files) > 1 else ""
        raise LumosDataError(f"{files[0]}: no such file{more}")
    return survey, files


@contextmanager
def open_driver(name: str, workers: int, timeout: float | None = None) -> Iterator["int | Driver"]:
    """Return what runs the tasks of a command.

    Parameters
    ----------
    name : str
        ``local``, ``dask``, or the address of a Dask scheduler.
    workers : int
        Number of processes, where they are started here.
    timeout : float, optional
        Seconds after which a task that has not ended is given up; for the local driver.

    Yields
    ------
    int or Driver
        As commands take it.

    Raises
    ------
    LumosError
        If the name is none of these, Dask is not installed, no scheduler answers, or a time cannot be kept there.
    """
    if name == "local" and timeout is None:
        yield workers
        return
    if name == "local":
        from lumos.runs.driver import LocalDriver  # noqa: PLC0415

        yield LocalDriver(workers, timeout)
        return
    if timeout is not None:
        raise LumosConfigError(f"--timeout {timeout:g}: allowed with --driver local")
    if name != "dask" and "://" not in name:
        raise LumosConfigError(f"--driver: got {name!r}, allowed: local, dask, or an address as tcp://host:8786")
    from lumos.runs.dask_driver import open_dask  # noqa: PLC0415

    with open_dask(workers, None if name == "dask" else name) as driver:
        yield driver


def fetch(path: Path) -> Path:
    """Return a file of this machine: the copy of a remote one (``https://``, ``s3://``), or the file itself.

    Parameters
    ----------
    path : Path
        Given by the user.

    Returns
    -------
    Path
        Not yet looked for where it is local.
    """
    from lumos.remote import local_copy  # noqa: PLC0415

    return local_copy(path)


def check_file(path: Path | None, what: str) -> None:
    """Refuse a file that is not there.

    Parameters
    ----------
    path : Path or None
        The file; None is none.
    what : str
        What it should be.

    Raises
    ------
    LumosDataError
        If it is missing.
    """
    if path is not None and not path.is_file():
        raise LumosDataError(f"{path}: no such {what}")


def check_run(path: Path) -> None:
    """Refuse a folder that is no run of ``lumos measure``.

    Parameters
    ----------
    path : Path
        The folder.

    Raises
    ------
    LumosDataError
        If it has no manifest; it says where the run is in a folder of ``lumos run``.
    """
    if not (path / "manifest.json").is_file():
        inner = path / "run"
        more = f"; that of `lumos run` is {inner}" if (inner / "manifest.json").is_file() else ""
        raise LumosDataError(f"{path / 'manifest.json'}: no such run of `lumos measure`{more}")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output table that exists.

    Parameters
    ----------
    path : Path
        Its file.
    overwrite : bool
        Whether it may be replaced.

    Raises
    ------
    LumosConfigError
        If it exists, or its name is none for Parquet.
    """
    from lumos.files import check_parquet_name  # noqa: PLC0415

    check_parquet_name(path)
    if path.exists() and not overwrite:
        raise LumosConfigError(f"{path}: exists; give a new --out, or --overwrite")
