"""The step of ``lumos run`` from coadds to redshifts."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosError
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.workflows.photoz import PhotozInputs, make_redshifts

__all__ = ["check_redshifts", "inputs_of_run", "redshift_step"]

logger = logging.getLogger(__name__)

#: What ``lumos run`` tells: what was done, and the words of the command that does the same.
Told = Callable[..., None]


def inputs_of_run(
    what: str, data: Path | None, spectra: Path | None, out: Path, settings: PhotozSettings
) -> PhotozInputs:
    """Return what ``lumos run --photoz`` finds redshifts with.

    Parameters
    ----------
    what : str
        Templates; with ``photoz.method=deepz`` the folder of networks.
    data : Path or None
        Folder of the files that the templates name.
    spectra : Path or None
        Table of known redshifts.
    out : Path
        Folder of the run.
    settings : PhotozSettings
        Settings, the method among them.

    Returns
    -------
    PhotozInputs
        For the coadd of the run.
    """
    fits = settings.method == "bcnz"
    templates, model = (what, None) if fits else (None, Path(what))
    return PhotozInputs(out / "coadd.parquet", templates, data, spectra=spectra, model=model)


def check_redshifts(inputs: PhotozInputs, settings: PhotozSettings) -> None:
    """Refuse what is wrong before anything is measured.

    Parameters
    ----------
    inputs : PhotozInputs
        Files; the table need not be there yet.
    settings : PhotozSettings
        Settings.

    Raises
    ------
    LumosConfigError
        If a file is missing that the method needs, is for another method, or there are no such templates.
    """
    inputs.check(settings)
    if inputs.templates is not None:
        load_models(inputs.templates)


def redshift_step(
    inputs: PhotozInputs, run: Path, used: CoaddSettings, settings: PhotozSettings, told: Told, *, workers: int = 1
) -> None:
    """Find the redshifts of a run's galaxies, from likelihoods: a prior of the flux would count in each band.

    Parameters
    ----------
    inputs : PhotozInputs
        Files; ``table`` is the coadd of the run. Redshifts go to ``redshifts`` beside it and, where the coadd has a
        prior, likelihoods to ``likelihood.parquet``.
    run : Path
        Folder of ``lumos measure``.
    used : CoaddSettings
        What the coadd was made with.
    settings : PhotozSettings
        Settings.
    told : callable
        Told what was done, and the words of the command.
    workers : int, optional
        Number of processes.
    """
    coadd, out = inputs.table, inputs.table.with_name("redshifts")
    try:
        if used.prior != "none":
            coadd = coadd.with_name("likelihood.parquet")
            report = coadd_run([run], coadd, used.model_copy(update={"prior": "none"}), workers=workers)
            text = f"{coadd}: {report.n_rows} objects and bands, likelihoods for redshifts"
            told(text, "coadd", run, "--prior", "none", "--out", coadd)
        text = make_redshifts(replace(inputs, table=coadd), out, settings, workers=workers)
    except LumosError as error:
        logger.warning("no redshifts: %s", error)
        told(f"no redshifts: {error}")
        return
    named = {"templates": inputs.templates, "data": inputs.data, "model": inputs.model, "spec-z": inputs.spectra}
    words: list[object] = [word for name, value in named.items() if value is not None for word in (f"--{name}", value)]
    words += [] if settings.others is None else ["--other-bands", settings.others]
    words += [] if settings.likelihood == "gaussian" else ["--likelihood", settings.likelihood]
    words += [] if settings.method == "bcnz" else ["--method", settings.method]
    told(text, "photoz", coadd, *words, "--out", out)
