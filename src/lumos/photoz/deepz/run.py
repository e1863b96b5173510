"""A run of ``lumos photoz --method deepz``: networks are trained if redshifts are known, then all galaxies get rows."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from lumos.errors import LumosConfigError, LumosDataError, WorkerDiedError
from lumos.files import file_sha256
from lumos.photoz.deepz.inputs import flux_ratios, read_exposures
from lumos.photoz.deepz.model import NETWORKS, DeepzModel, load_deepz
from lumos.photoz.deepz.rows import DeepzRows
from lumos.photoz.deepz.settings import DeepzSettings
from lumos.photoz.deepz.train import Fold, Sample, make_sample, train_fold
from lumos.photoz.fluxes import Photometry, read_photometry
from lumos.photoz.run import Tables, match_redshifts
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.shards import PhotozJob, PhotozReport, Progress, Rows, write_shards
from lumos.runs.driver import Driver, Work, driver_of
from lumos.runs.folder import MANIFEST

__all__ = ["deepz_run", "read_deepz_photometry"]

_Shared = tuple[Sample, DeepzModel, DeepzSettings]


def read_deepz_photometry(path: Path, start: DeepzModel, settings: PhotozSettings) -> Photometry:
    """Read the fluxes that networks need.

    Parameters
    ----------
    path : Path
        Table, see :func:`lumos.photoz.fluxes.read_photometry`.
    start : DeepzModel
        A network.
    settings : PhotozSettings
        Names of bands and of the column of fluxes.

    Returns
    -------
    Photometry
        In the bands of the network, and in their order.

    Raises
    ------
    LumosDataError
        If the table cannot be read or is empty, has a band that the network does not know (until ``settings.bands``
        chooses bands), lacks one that it needs, or has bands in different units.
    """
    photometry = read_photometry(path, start.config.bands, settings.model_copy(update={"likelihood": "gaussian"}))
    if not len(photometry):
        raise LumosDataError(f"{path}: no row in it")
    start.check_bands(photometry.bands, path)
    start.check_units(flux_ratios(photometry, start.config.reference)[0], path)
    return photometry


def deepz_run(
    tables: Tables,
    folder: Path,
    out: Path,
    settings: PhotozSettings,
    *,
    workers: int | Driver = 1,
    progress: Progress | None = None,
) -> tuple[Photometry, PhotozReport, str]:
    """Find the redshifts of all galaxies of a table; a run that was stopped is continued.

    Parameters
    ----------
    tables : Tables
        Fluxes; known redshifts, if any, and fluxes of exposures, if any.
    folder : Path
        Of a pretrained network, which is trained on the known redshifts if there are any; or of an earlier run, whose
        networks are used as they are.
    out : Path
        Folder of the run; gets shards, a manifest, the settings and the trained networks.
    settings : PhotozSettings
        Settings.
    workers : int or Driver, optional
        Number of processes; neither networks nor rows depend on it.
    progress : callable, optional
        Told after each network and shard.

    Returns
    -------
    photometry : Photometry
        The galaxies, in the bands of the networks.
    report : PhotozReport
        What was done.
    text : str
        Which networks were used.

    Raises
    ------
    LumosDataError
        If a table or network cannot be used, or too few galaxies have redshifts.
    LumosConfigError
        If there is no network, ``out`` holds a run of something else, or exposures are given where nothing is trained.
    """
    driver, models = driver_of(workers), load_deepz(folder)
    start = models[0]
    photometry = read_deepz_photometry(tables.fluxes, start, settings)
    trains = tables.spectra is not None and start.config.stage == "pretrained"
    if tables.exposures is not None and not trains:
        raise LumosConfigError("--exposures: nothing is trained, allowed: with --spec-z and a pretrained network")

    def prepare(fluxes: Photometry) -> tuple[Photometry, Rows]:
        return fluxes, DeepzRows(_trained(sample, start, out, settings.deepz, driver, progress), settings)

    def as_they_are(fluxes: Photometry) -> tuple[Photometry, Rows]:
        return fluxes, DeepzRows(models, settings)

    if trains:
        sample = _sample(tables, photometry, start, settings)
    identity = _identity(tables, models, settings)
    make = prepare if trains else as_they_are
    # Networks of other settings are not taken for those of these.
    begun = any((out / NETWORKS).glob("*/config.json"))
    job = PhotozJob(tables.fluxes, photometry, start.redshifts, identity, settings.shard, make, begun)
    report = write_shards(job, out, driver, progress=progress)
    return photometry, report, _training_text(sample, settings.deepz) if trains else _text(models)


def _sample(tables: Tables, photometry: Photometry, start: DeepzModel, settings: PhotozSettings) -> Sample:
    assert tables.spectra is not None
    known = match_redshifts(tables.spectra, photometry.object_id)
    exposures = None if tables.exposures is None else read_exposures(tables.exposures, photometry, settings)
    return make_sample(photometry, known, exposures, start, settings)


def _identity(tables: Tables, models: tuple[DeepzModel, ...], settings: PhotozSettings) -> dict[str, object]:
    used = {"method", "bands", "flux", "others", "min_bands", "odds_window", "shard", "deepz"}
    identity: dict[str, object] = {
        "photoz": settings.model_dump(mode="json", include=used, exclude={"deepz": {"pretrain"}}),
        "networks": [model.config.sha256 for model in models],
        "others": None if settings.others is None else file_sha256(Path(settings.others)),
    }
    for name, path in (("table", tables.fluxes), ("spectra", tables.spectra), ("exposures", tables.exposures)):
        file = path / MANIFEST if path is not None and path.is_dir() else path
        known = None if path is None or file is None else {"path": str(path.resolve()), "sha256": file_sha256(file)}
        identity[name] = known
    return identity


@contextmanager
def _share(sample: Sample, start: DeepzModel, settings: DeepzSettings) -> Iterator[_Shared]:
    yield sample, start, settings


def _trained(
    sample: Sample,
    start: DeepzModel,
    out: Path,
    settings: DeepzSettings,
    driver: Driver,
    progress: Progress | None,
) -> tuple[DeepzModel, ...]:
    """Train the networks of all folds that are not there yet, and read all."""
    folds = [
        Fold(split, number, out / NETWORKS / f"split-{split:02d}-fold-{number:02d}")
        for split in range(settings.splits)
        for number in range(settings.folds)
    ]
    with closing(driver.run(Work(train_fold, _share, (sample, start, settings)), folds)) as results:
        for number, (_, result) in enumerate(results):
            if isinstance(result, WorkerDiedError):
                raise result
            if progress is not None:
                progress(number + 1, len(folds), f"network {result}")
    return load_deepz(out)


def _training_text(sample: Sample, settings: DeepzSettings) -> str:
    coadds = "random coadds of exposures" if sample.exposures is not None else "no exposures: always the same coadds"
    left_out = f", {sample.n_left_out} left out" if sample.n_left_out else ""
    parts = f"{settings.splits} x {settings.folds} networks trained on {len(sample)} galaxies{left_out} ({coadds})"
    return f"Deepz: {parts}; each galaxy by those that did not see it"


def _text(models: tuple[DeepzModel, ...]) -> str:
    if models[0].config.stage == "pretrained":
        return "Deepz: pretrained on mixtures of templates only; no known redshift was learned from"
    n = len(np.unique(np.concatenate([model.trained_on for model in models])))
    return f"Deepz: {len(models)} networks of an earlier run, trained on {n} galaxies"
