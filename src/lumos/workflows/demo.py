"""The demonstration: simulate, measure, compare with the truth."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lumos.catalogs.schema import list_column
from lumos.coadds.read import read_coadd
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosError
from lumos.files import write_atomic
from lumos.flags import Flag
from lumos.images.reader import read_exposure
from lumos.images.stamps import cut_stamps
from lumos.pdf import FluxPdf, GaussianMixture
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.report.accuracy import draw_accuracy
from lumos.report.pdfs import PdfPanel, draw_pdfs
from lumos.runs.shards import read_shard
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.readable import readable_survey
from lumos.surveys import Survey
from lumos.validate.accuracy import accuracy_table, look_up_truth, run_accuracy
from lumos.validate.calibration import metrics_table, pdf_metrics
from lumos.workflows.validate import validate_runs

__all__ = ["run_demo", "run_panels"]

Progress = Callable[[int, int, str], None]

#: Model of the demonstration.
_DEMO_MODEL = "paucam-mock"
#: Which galaxies are drawn: their places in the order of brightness.
_PANEL_SHARES = (0.02, 0.1, 0.3, 0.7)


def run_demo(out: Path, *, workers: int = 2, progress: Progress | None = None) -> str:
    """Simulate a small survey, measure and coadd it with the network and classical estimators, compare with the truth.

    Parameters
    ----------
    out : Path
        Folder; gets the exposures, the run, ``coadd.parquet``, ``accuracy.txt``, pictures and ``report/report.html``.
    workers : int, optional
        Number of processes.
    progress : callable, optional
        Told after each exposure.

    Returns
    -------
    str
        The table of figures and where the files are.
    """
    settings = MeasureSettings(model=_DEMO_MODEL)
    parent, truth, run = out / "parent.parquet", out / "truth.parquet", out / "run"
    simulation = load_simulation("paucam-mini")
    exposures = simulate_survey(simulation, out, workers=workers, progress=progress).exposures
    survey = readable_survey(simulation.survey)
    report = measure_run(exposures, parent, run, survey, settings, workers=workers, progress=progress)
    if report.failed:
        raise LumosError("; ".join(report.failed.values()))
    edges = np.array([18.0, 19.5, 21.0, 22.0, 23.0, 24.0])
    results = run_accuracy(run, truth, settings.all_estimators, edges)
    draw_accuracy(out / "accuracy.png", results)
    # Two thirds down the list is a red band, in which galaxies are bright.
    draw_pdfs(out / "pdfs.png", run_panels(exposures[len(exposures) * 2 // 3], run, truth, survey))
    coadd_run([run], out / "coadd.parquet", CoaddSettings(), progress=progress)
    table = f"{accuracy_table(results)}\n\n{_coadd_table(out / 'coadd.parquet', truth)}"
    write_atomic(out / "accuracy.txt", table + "\n")
    validate_runs([run], out / "report", truth=truth, coadd=out / "coadd.parquet")
    names = ("coadd.parquet", "accuracy.txt", "accuracy.png", "pdfs.png", "report/report.html")
    files = (out / name for name in names)
    return f"{table}\n\n{report.n_rows} rows in {run}; {', '.join(map(str, files))}"


def _coadd_table(path: Path, truth_path: Path) -> str:
    """Return the figures of coadds: the PDFs, and inverse-variance means as Gaussians."""
    table, pdf = read_coadd(path)
    pdfs: dict[str, FluxPdf] = {"coadd: likelihoods x prior once": pdf}
    for name in ("optimal", "aperture"):
        flux, error = (table[f"{name}_{part}"].to_numpy().astype(np.float64)[:, None] for part in ("flux", "flux_err"))
        pdfs[f"coadd: inverse variance, {name}"] = GaussianMixture(np.ones_like(flux), flux, error)
    truth = look_up_truth(table, truth_path)
    return metrics_table({name: pdf_metrics(pdf, truth, "median") for name, pdf in pdfs.items()})


def run_panels(exposure_path: Path, run: Path, truth_path: Path, survey: Survey) -> list[PdfPanel]:
    """Choose galaxies of one exposure of a run, bright to faint, for a picture of their PDFs.

    Parameters
    ----------
    exposure_path : Path
        The exposure.
    run : Path
        Folder of a run with a model.
    truth_path : Path
        True fluxes of the simulation.
    survey : Survey
        How to read the exposure.

    Returns
    -------
    list of PdfPanel
        Eight, with the network's PDF and the Gaussian of the optimal flux; every second one has a neighbour.
    """
    exposure = next(iter(read_exposure(exposure_path, survey)))
    table = read_shard(run / "shards" / f"{exposure.exposure_id}.parquet")
    column = {name: table[name].to_numpy() for name in ("flags", "x", "y", "optimal_flux", "optimal_flux_err")}
    truth = look_up_truth(table, truth_path)
    usable = ((column["flags"] & ~int(Flag.NEIGHBOUR)) == 0) & np.isfinite(column["optimal_flux"])
    blended = usable & ((column["flags"] & int(Flag.NEIGHBOUR)) != 0)
    kinds = [np.flatnonzero(kind)[np.argsort(-truth[kind])] for kind in (usable & ~blended, blended)]
    parts = [list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")]
    panels = []
    for share, kind in itertools.product(_PANEL_SHARES, kinds):
        row = kind[int(share * len(kind))]
        flux, error = (column[name][row : row + 1, None] for name in ("optimal_flux", "optimal_flux_err"))
        pdfs = {
            "network": GaussianMixture(*(part[row : row + 1] for part in parts)),
            "optimal weights": GaussianMixture(np.ones((1, 1)), flux, error),
        }
        stamp = cut_stamps(exposure.data, column["x"][row : row + 1], column["y"][row : row + 1], 60).data[0]
        magnitude = AB_ZEROPOINT_NJY - 2.5 * np.log10(truth[row])
        title = f"{exposure.band} = {magnitude:.1f}" + (", neighbour" if row in kinds[1] else "")
        panels.append(PdfPanel(title, stamp, pdfs, float(truth[row])))
    return panels
