"""The command ``lumos run``: from a folder of FITS files to calibrated fluxes and the page that judges them."""

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from lumos.catalogs.parent import read_parent
from lumos.coadds.learn import FEWEST_FOR_PRIOR
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosConfigError, LumosDataError, LumosError
from lumos.files import file_stamp
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.injection.run import InjectInputs, inject_run
from lumos.injection.settings import InjectSettings
from lumos.nets.checkpoint import read_config
from lumos.photometry.run import identify_exposures, measure_run
from lumos.runs.locks import lock_folder, locked
from lumos.runs.outputs import settle_settings
from lumos.settings import Settings
from lumos.sources.settings import CatalogSettings
from lumos.surveys import Survey, find_exposures, load_survey
from lumos.workflows.catalog import make_catalog
from lumos.workflows.init import write_survey
from lumos.workflows.photoz import PhotozInputs
from lumos.workflows.pointings import Pointings, all_of, choose_pointings
from lumos.workflows.psf import guess_psfs, make_psfs
from lumos.workflows.redshift_step import check_redshifts, redshift_step
from lumos.workflows.validate import KNOWN, validate_runs

__all__ = ["RunInputs", "run_everything"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RunInputs:
    """What ``lumos run`` starts from.

    Parameters
    ----------
    images : sequence of Path
        Files, folders, patterns, lists.
    settings : Settings
        Of all stages.
    survey : str or None
        Shipped survey or survey file; None: it is described from the files.
    psf_dir : Path or None
        Folder of PSFs; None: the survey's own or, where there are none, from stars.
    catalog : Path or None
        Catalogue; None: made from the exposures that show most, one for each part of the sky.
    config : Path or None
        File that the settings were read from, and
    changes : sequence of str
        ``stage.field=value`` of what was changed: for the commands that are printed.
    redshifts : PhotozInputs or None
        What redshifts are found with; None: none are. Their table is the coadd.
    """

    images: Sequence[Path]
    settings: Settings
    survey: str | None = None
    psf_dir: Path | None = None
    catalog: Path | None = None
    config: Path | None = None
    changes: Sequence[str] = ()
    redshifts: PhotozInputs | None = None


@dataclass
class _Told:
    """What the user is told: what was done, and the commands that do the same."""

    done: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def add(self, text: str, *words: object) -> None:
        self.done.append(text)
        if words:
            self.commands.append(shlex.join(["lumos", *map(str, words)]))


@locked(lock_folder)
def run_everything(inputs: RunInputs, out: Path, *, workers: int = 1, progress: Progress | None = None) -> str:
    """Describe the camera, fit PSFs, make a catalogue, measure, coadd, find redshifts and judge; what is done is kept.

    Parameters
    ----------
    inputs : RunInputs
        Images, and what is known of them.
    out : Path
        Folder; gets ``survey.yaml``, ``psf``, ``catalog.parquet``, ``run``, ``coadd.parquet``, ``redshifts``,
        ``inject`` and ``report``, each as its own command writes it.
    workers : int, optional
        Number of processes.
    progress : callable, optional
        Told after each exposure of each step.

    Returns
    -------
    str
        What was done, the questions that the files leave open, and the commands that do the same by hand.

    Raises
    ------
    LumosDataError
        If no exposure can be read, or no PSF or object is found.
    LumosConfigError
        If there is no such model, or ``out`` holds the results of other images or settings.
    """
    told, settings = _Told(), inputs.settings
    if settings.measure.model is not None:
        read_config(settings.measure.model)  # an unknown model is refused before anything is made
    if inputs.redshifts is not None:
        check_redshifts(inputs.redshifts, settings.photoz)
    named, survey = _survey(inputs, out, told)
    files = find_exposures(inputs.images, survey)
    identify_exposures(files, survey)  # two of one name are refused before anything is made
    out.mkdir(parents=True, exist_ok=True)
    identity = {"files": [str(path.resolve()) for path in files], "settings": settings.model_dump(mode="json")}
    identity["survey"] = survey.model_dump(mode="json")
    settle_settings(out, "run", {"run": identity}, begun=(out / "run").exists())
    psf_dir = inputs.psf_dir or _psfs(files, out, survey, inputs, told, progress)
    how = ["--survey", named, *([] if psf_dir is None else ["--psf", psf_dir])]
    catalog: Path | None = inputs.catalog
    measured: Sequence[Path] = files
    if catalog is None:
        pointings = choose_pointings(files, survey, psf_dir)
        catalog, measured = out / "catalog.parquet", pointings.measured
        made = _make_catalog(pointings.chosen, catalog, survey, settings.catalog, psf_dir, progress)
        told.add(made, "catalog", *pointings.chosen, *how, *_words(inputs, "catalog"), "--out", catalog)
        told.done += _what_is_left_out(pointings)
    run, measure = out / "run", settings.measure
    report = measure_run(measured, catalog, run, survey, measure, psf_dir=psf_dir, workers=workers, progress=progress)
    told.add(
        f"{run}: {report.n_rows} rows of {len(measured) - len(report.failed)} exposures",
        *("measure", *measured, "--catalog", catalog, *how, *_words(inputs, "measure"), "--out", run),
    )
    told.done += [f"not measured: {reason}" for reason in report.failed.values()]
    if report.n_rows == 0:
        raise LumosError("\n".join([*told.done, f"{catalog}: no object lies on any of the exposures"]))
    coadd = out / "coadd.parquet"
    text, used = _coadd(run, catalog, settings.coadd, coadd, workers)
    told.add(text, "coadd", run, *_words(inputs, "coadd"), "--prior", used.prior, "--out", coadd)
    if inputs.redshifts is not None and coadd.exists():
        wanted = replace(inputs.redshifts, table=coadd)
        redshift_step(wanted, run, used, settings.photoz, told.add, workers=workers)
    validate_runs([run], out / "report")
    told.add(f"{out / 'report/report.html'}: flags, repeats", "validate", run, "--out", out / "report")
    folder = out / "inject"
    text = _inject(run, settings.inject, folder, workers, progress)
    told.add(text, "inject", "--run", run, *_words(inputs, "inject"), "--out", folder)
    return "\n".join([*told.done, "The same by hand:", *(f"  {command}" for command in told.commands)])


def _words(inputs: RunInputs, stage: str) -> list[str]:
    """Return the arguments that give a stage's command the same settings."""
    config = [] if inputs.config is None else ["--config", str(inputs.config)]
    mine = [change for change in inputs.changes if change.startswith(f"{stage}.")]
    return [*config, *(word for change in mine for word in ("--set", change))]


def _survey(inputs: RunInputs, out: Path, told: _Told) -> tuple[str, Survey]:
    """Return the survey and what it is called on the command line; describe the camera if none is given."""
    if inputs.survey is not None:
        return inputs.survey, load_survey(inputs.survey)
    path = out / "survey.yaml"
    if path.exists():
        # Perhaps with the user's answers in it.
        told.add(f"{path}: read as it stands")
        return str(path), load_survey(path)
    camera = write_survey(inputs.images, path)
    told.add(f"{path}: {camera.known or 'described'} from {len(camera.exposures)} exposures")
    told.commands.append(shlex.join(["lumos", "init", *map(str, inputs.images), "--out", str(path)]))
    for question in camera.questions:
        logger.warning("%s: %s", path, question)
        told.done.append(f"  ? {question}")
    return str(path), load_survey(path)


def _first_ccds(files: Sequence[Path], survey: Survey) -> Iterator[Exposure]:
    """Yield the first CCD of each file that can be read; memory holds one at a time."""
    none = True
    for path in files:
        try:
            exposure = next(iter(read_exposure(path, survey)))
        except LumosError as error:
            logger.warning("%s", error)
            continue
        none = False
        yield exposure
    if none:
        raise LumosDataError(f"{all_of(files)}: not read; the warnings say why")


def _psfs(
    files: Sequence[Path], out: Path, survey: Survey, inputs: RunInputs, told: _Told, progress: Progress | None
) -> Path | None:
    """Fit PSFs to stars where exposures have none; return their folder."""
    folder = out / "psf"
    if (folder / "psf.parquet").is_file():
        told.add(f"{folder}: finished before")
        return folder
    if all(exposure.psf is not None for exposure in _first_ccds(files, survey)):
        told.add("PSFs: the survey's own")
        return None
    try:
        text = make_psfs(files, folder, survey, inputs.settings.psf, progress=progress)
    except LumosError as error:
        text = f"{folder}: not of all exposures: {error}"
        logger.warning("%s", text)
        for question in guess_psfs(files, survey, folder):
            logger.warning("%s", question)
            text += f"\n  ? {question}"
    how = ["--survey", inputs.survey or out / "survey.yaml", *_words(inputs, "psf")]
    told.add(text, "psf", *files, *how, "--out", folder)
    return folder


def _make_catalog(
    chosen: Sequence[Path],
    path: Path,
    survey: Survey,
    settings: CatalogSettings,
    psf_dir: Path | None,
    progress: Progress | None,
) -> str:
    """Make the catalogue; go on with what it holds where it could not be made of all that was chosen."""
    before = file_stamp(path) if path.exists() else None
    try:
        return make_catalog(chosen, path, survey, settings, psf_dir=psf_dir, progress=progress)
    except (LumosConfigError, LumosDataError):
        raise
    except LumosError as error:
        if not path.exists() or file_stamp(path) == before:
            raise
        logger.warning("%s", error)
        return f"{error}; the catalogue holds the others"


def _what_is_left_out(pointings: Pointings) -> Iterator[str]:
    """Say which of the catalogue's exposures are measured, and what that changes."""
    for path in pointings.chosen:
        if path in pointings.measured:
            few = f"{path.name} is measured though the catalogue was made from it: faint fluxes of it are biased high"
            yield f"{few}, and flagged CATALOG_EXPOSURE"
        else:
            yield f"{path.name} is not measured: the catalogue was made from it"
    if len(pointings.bands) > 1:
        yield f"  ? the catalogue's magnitudes are of several bands ({', '.join(pointings.bands)}), each of its own sky"


def _coadd(run: Path, catalog: Path, settings: CoaddSettings, path: Path, workers: int) -> tuple[str, CoaddSettings]:
    """Coadd a run, without a prior where too few galaxies would have to tell it; return what is told of it."""
    n, told = len(read_parent(catalog)), ""
    if settings.prior == "catalog" and n < FEWEST_FOR_PRIOR:
        told = f"; {n} objects are too few to learn a prior from: likelihoods alone are multiplied"
        settings = settings.model_copy(update={"prior": "none"})
    try:
        report = coadd_run([run], path, settings, workers=workers)
    except LumosDataError as error:
        return f"no coadd: {error}", settings
    return f"{path}: {report.n_rows} objects and bands{told}", settings


def _inject(run: Path, settings: InjectSettings, out: Path, workers: int, progress: Progress | None) -> str:
    """Put galaxies into the exposures, and return how true their fluxes are."""
    try:
        with _warned_before():
            injected = inject_run(InjectInputs.of_run(run), out, settings, workers=workers, progress=progress)
        page = validate_runs([out], out / "report")
    except LumosDataError as error:
        return f"no galaxies injected: {error}"
    head, *rows = page.tables[KNOWN].splitlines()
    overall = [head, *(row for row in rows if row.split()[1:2] == ["all"])]
    return "\n".join([f"{out / 'report/report.html'}: {injected.n_injected} injected galaxies", *overall])


@contextmanager
def _warned_before() -> Iterator[None]:
    """Keep from the terminal what was said of the same exposures when they were measured without injected galaxies."""
    handlers = {handler: handler.level for handler in logging.getLogger().handlers}
    try:
        for handler, level in handlers.items():
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(max(level, logging.ERROR))
        yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)
