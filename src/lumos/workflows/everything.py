"""The command ``lumos run``: from a folder of FITS files to calibrated fluxes and the page that judges them."""

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import sep

from lumos.catalogs.parent import read_parent
from lumos.coadds.learn import FEWEST_FOR_PRIOR
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosDataError, LumosError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.injection.run import InjectInputs, inject_run
from lumos.injection.settings import InjectSettings
from lumos.nets.checkpoint import read_config
from lumos.photometry.run import measure_run
from lumos.runs.locks import lock_folder, locked
from lumos.runs.outputs import settle_settings
from lumos.settings import Settings
from lumos.surveys import Survey, find_exposures, load_survey
from lumos.workflows.catalog import make_catalog
from lumos.workflows.guess import guess_psfs
from lumos.workflows.init import write_survey
from lumos.workflows.photoz import PhotozInputs
from lumos.workflows.psf import make_psfs
from lumos.workflows.redshifts import check_redshifts, redshift_step
from lumos.workflows.validate import KNOWN, validate_runs

__all__ = ["RunInputs", "run_everything"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]

#: With so many exposures of its band, the one that the catalogue is made from is not measured.
_ENOUGH = 3
#: Sources are counted above so many times the scatter of the pixels.
_THRESHOLD = 5.0


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
        Catalogue; None: made from the exposure that shows most.
    redshifts : PhotozInputs or None
        What redshifts are found with; None: none are. Their table is the coadd.
    """

    images: Sequence[Path]
    settings: Settings
    survey: str | None = None
    psf_dir: Path | None = None
    catalog: Path | None = None
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
    out.mkdir(parents=True, exist_ok=True)
    identity = {"files": [str(path.resolve()) for path in files], "settings": settings.model_dump(mode="json")}
    identity["survey"] = survey.model_dump(mode="json")
    settle_settings(out, "run", {"run": identity}, begun=(out / "run").exists())
    psf_dir = inputs.psf_dir or _psfs(files, out, survey, inputs, told, progress)
    how = ["--survey", named, *([] if psf_dir is None else ["--psf", psf_dir])]
    catalog, measured = inputs.catalog, files
    if catalog is None:
        chosen, measured = _choose(files, survey, psf_dir)
        catalog = out / "catalog.parquet"
        made = make_catalog(chosen, catalog, survey, settings.catalog, psf_dir=psf_dir, progress=progress)
        told.add(made, "catalog", chosen, *how, "--out", catalog)
        if chosen in measured:
            few = f"{chosen.name} is measured though the catalogue was made from it: faint fluxes of it are biased high"
            told.add(f"{few}, and flagged CATALOG_EXPOSURE")
        else:
            told.add(f"{chosen.name} is not measured: the catalogue was made from it")
    run, measure = out / "run", settings.measure
    report = measure_run(measured, catalog, run, survey, measure, psf_dir=psf_dir, workers=workers, progress=progress)
    told.add(
        f"{run}: {report.n_rows} rows of {len(measured) - len(report.failed)} exposures",
        *("measure", *measured, "--catalog", catalog, *how, "--model", measure.model or "none", "--out", run),
    )
    told.done += [f"not measured: {reason}" for reason in report.failed.values()]
    if report.n_rows == 0:
        raise LumosError("\n".join([*told.done, f"{catalog}: no object lies on any of the exposures"]))
    coadd = out / "coadd.parquet"
    text, used = _coadd(run, catalog, settings.coadd, coadd, workers)
    told.add(text, "coadd", run, "--prior", used.prior, "--out", coadd)
    if inputs.redshifts is not None and coadd.exists():
        wanted = replace(inputs.redshifts, table=coadd)
        redshift_step(wanted, run, used, settings.photoz, told.add, workers=workers)
    validate_runs([run], out / "report")
    told.add(f"{out / 'report/report.html'}: flags, repeats", "validate", run, "--out", out / "report")
    folder = out / "inject"
    rounds = f"inject.rounds={settings.inject.rounds}"
    told.add(
        _inject(run, settings.inject, folder, workers, progress),
        *("inject", "--run", run, "--out", folder, "--set", rounds),
    )
    return "\n".join([*told.done, "The same by hand:", *(f"  {command}" for command in told.commands)])


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


def _first_ccds(files: Sequence[Path], survey: Survey, psf_dir: Path | None = None) -> Iterator[tuple[Path, Exposure]]:
    """Yield the first CCD of each file that can be read; memory holds one at a time."""
    none = True
    for path in files:
        try:
            exposure = next(iter(read_exposure(path, survey, psf_dir=psf_dir)))
        except LumosError as error:
            logger.warning("%s", error)
            continue
        none = False
        yield path, exposure
    if none:
        raise LumosDataError(f"{files[0]}: not read, nor any of {len(files) - 1} others; see the warnings")


def _psfs(
    files: Sequence[Path], out: Path, survey: Survey, inputs: RunInputs, told: _Told, progress: Progress | None
) -> Path | None:
    """Fit PSFs to stars where exposures have none; return their folder."""
    folder = out / "psf"
    if (folder / "psf.parquet").is_file():
        told.add(f"{folder}: finished before")
        return folder
    if all(exposure.psf is not None for _, exposure in _first_ccds(files, survey)):
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
    told.add(text, "psf", *files, "--survey", inputs.survey or out / "survey.yaml", "--out", folder)
    return folder


def _choose(files: Sequence[Path], survey: Survey, psf_dir: Path | None) -> tuple[Path, list[Path]]:
    """Return the exposure for the catalogue, and those to be measured."""
    bands: dict[Path, str] = {}
    counts: dict[Path, int] = {}
    for path, exposure in _first_ccds(files, survey, psf_dir):
        bands[path] = exposure.band
        if exposure.psf is not None:
            counts[path] = _n_sources(exposure)
    if not counts:
        raise LumosDataError(f"{files[0]}: no PSF is known, nor of {len(files) - 1} others; give --psf")
    chosen = max(counts, key=lambda path: counts[path])
    alike = list(bands.values()).count(bands[chosen])
    return chosen, [path for path in files if path != chosen or alike < _ENOUGH]


def _n_sources(exposure: Exposure) -> int:
    """Return how many sources stand out of the sky."""
    bad = ~good_pixels(exposure.mask)
    image = np.ascontiguousarray(exposure.data, dtype=np.float32)
    try:
        background = sep.Background(image, mask=bad)
        sep.set_extract_pixstack(max(sep.get_extract_pixstack(), image.size))
        return len(sep.extract(image - background.back(), _THRESHOLD, err=background.globalrms, mask=bad))
    except Exception as error:  # noqa: BLE001 (sep raises bare exceptions)
        logger.warning("%s: sources not counted: %s", exposure.path, error)
        return 0


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
