"""The command ``lumos inject``: rounds of injections, each measured as a run of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow.parquet as pq

from lumos.catalogs.parent import write_parent
from lumos.catalogs.tables import write_table
from lumos.errors import LumosDataError, LumosError
from lumos.files import file_sha256
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.injection.plan import join_catalogs, plan_rounds
from lumos.injection.settings import InjectSettings
from lumos.photometry.measured import open_run
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.driver import Driver
from lumos.runs.locks import lock_folder, locked
from lumos.runs.outputs import settle_settings
from lumos.surveys import Survey

__all__ = ["InjectInputs", "InjectReport", "inject_run", "injected_runs"]

Progress = Callable[[int, int, str], None]
_TRUTH = "truth.parquet"


@dataclass(frozen=True)
class InjectReport:
    """What was injected and measured.

    Parameters
    ----------
    n_injected : int
        Galaxies.
    runs : tuple of Path
        Folders of the rounds' runs, as ``lumos measure`` writes them.
    truth : Path
        Table of the galaxies, one row for each and its bands.
    failed : mapping
        Reason by file, of exposures that could not be read or measured.
    """

    n_injected: int
    runs: tuple[Path, ...]
    truth: Path
    failed: Mapping[str, str]


@dataclass(frozen=True)
class InjectInputs:
    """What galaxies are put into, and how they are measured.

    Parameters
    ----------
    exposures : sequence of Path
        FITS files; they are only read.
    catalog : Path
        Catalogue of their own objects.
    survey : Survey
        How to read the exposures.
    measure : MeasureSettings
        How everything is measured.
    psf_dir : Path or None
        Folder with PSF models.
    """

    exposures: Sequence[Path]
    catalog: Path
    survey: Survey
    measure: MeasureSettings
    psf_dir: Path | None = None

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """Take everything from a run.

        Parameters
        ----------
        folder : Path
            That ``lumos measure`` wrote.

        Returns
        -------
        InjectInputs
            Its finished exposures, catalogue, survey, settings and PSFs.

        Raises
        ------
        LumosDataError
            If it is no run.
        """
        run = open_run(folder)
        files = [Path(entry["file"]) for entry in run.finished.values()]
        return cls(files, run.catalog_path, run.survey, run.settings, run.psf_dir)


@locked(lock_folder)
def inject_run(
    inputs: InjectInputs,
    out: Path,
    settings: InjectSettings,
    *,
    workers: int | Driver = 1,
    progress: Progress | None = None,
) -> InjectReport:
    """Put galaxies into exposures, and measure them among the objects of the catalogue; a killed run is continued.

    Parameters
    ----------
    inputs : InjectInputs
        Exposures, catalogue, and how they are measured.
    out : Path
        Folder; gets ``truth.parquet``, and for each round its catalogue, its galaxies and its run.
    settings : InjectSettings
        Which galaxies.
    workers : int or Driver, optional
        Number of processes.
    progress : callable, optional
        Told after each exposure of each round.

    Returns
    -------
    InjectReport
        What was done.

    Raises
    ------
    LumosDataError
        If the catalogue cannot be read, no exposure can be, or none has room for a galaxy.
    LumosConfigError
        If ``out`` holds injections of other settings.
    """
    exposures, survey, measure, psf_dir = inputs.exposures, inputs.survey, inputs.measure, inputs.psf_dir
    content = {
        "inject": settings.model_dump(mode="json"),
        "measure": measure.model_dump(mode="json"),
        "survey": survey.model_dump(mode="json"),
        "catalog": {"path": str(inputs.catalog.resolve()), "sha256": file_sha256(inputs.catalog)},
        "exposures": [str(path.resolve()) for path in exposures],
    }
    truth = out / _TRUTH
    settle_settings(out, "inject", content, begun=truth.exists())
    folders = [out / f"round_{number:02d}" for number in range(settings.rounds)]
    failed: dict[str, str] = {}
    catalog = measure.catalog.read(inputs.catalog)
    # What a run reads has the columns' usual names.
    plain = measure.model_copy(update={"catalog": type(measure.catalog)(errors=measure.catalog.errors)})
    if not truth.exists():
        rounds = plan_rounds(_readable(exposures, survey, psf_dir, failed), catalog, settings, measure)
        tables = []
        for number, (folder, one) in enumerate(zip(folders, rounds, strict=True)):
            folder.mkdir(parents=True, exist_ok=True)
            whole = one.all
            table = one.table(number)
            tables.append(table)
            if whole is not None:
                write_parent(join_catalogs(catalog, whole.seen), folder / "parent.parquet")
                write_table([table], folder / "injected.parquet")
        write_table(tables, truth)
    begun = [folder for folder in folders if (folder / "injected.parquet").exists()]
    for number, folder in enumerate(begun):
        report = measure_run(
            exposures,
            folder / "parent.parquet",
            folder / "run",
            survey,
            plain,
            psf_dir=psf_dir,
            injected=folder / "injected.parquet",
            workers=workers,
            progress=_of_round(progress, number, len(begun)),
        )
        failed |= report.failed
    n = len(set(pq.read_table(truth, columns=["object_id"])["object_id"].to_pylist()))
    return InjectReport(n, tuple(folder / "run" for folder in begun), truth, failed)


def injected_runs(folder: Path) -> tuple[Path, ...]:
    """Return the runs of a folder that ``lumos inject`` wrote.

    Parameters
    ----------
    folder : Path
        Any folder.

    Returns
    -------
    tuple of Path
        In order; empty for another folder.
    """
    if not (folder / _TRUTH).is_file():
        return ()
    return tuple(path.parent for path in sorted(folder.glob("round_*/run/manifest.json")))


def _readable(
    exposures: Sequence[Path], survey: Survey, psf_dir: Path | None, failed: dict[str, str]
) -> Iterator[Exposure]:
    """Yield the CCDs with a PSF; note the files that cannot be read."""
    for path in exposures:
        try:
            for exposure in read_exposure(path, survey, psf_dir=psf_dir):
                if exposure.psf is not None:
                    yield exposure
        except LumosError as error:
            failed[str(path.absolute())] = str(error)
    if len(failed) == len(exposures):
        raise LumosDataError(f"none of {len(exposures)} exposures can be read: {next(iter(failed.values()))}")


def _of_round(progress: Progress | None, number: int, n_rounds: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, name: progress(number * total + done, n_rounds * total, f"round {number + 1}: {name}")
