"""What the commands do beyond one call of the library: make a catalogue, PSFs, the demonstration."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos import __version__
from lumos.catalogs.parent import read_parent, write_parent
from lumos.catalogs.tables import read_shard
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosDataError, LumosError
from lumos.files import write_atomic
from lumos.flags import Flag
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.images.stamps import cut_stamps
from lumos.images.wcs import sky_to_pixel
from lumos.measure.background_settings import BackgroundSettings
from lumos.measure.backgrounds import make_backgrounds
from lumos.measure.detect import make_parent_catalog
from lumos.measure.run import measure_run
from lumos.measure.settings import CatalogSettings, MeasureSettings, PsfSettings
from lumos.measure.stars import StarPsf, fit_star_psf
from lumos.nets.checkpoint import save_model
from lumos.pdf import GaussianMixture
from lumos.profiles.sersic import render_sersic
from lumos.psf import MoffatPsf
from lumos.report.pdfs import PdfPanel, draw_pdfs
from lumos.report.pictures import draw_catalog, draw_psf
from lumos.report.plots import draw_accuracy
from lumos.report.training import draw_learning
from lumos.settings import load_simulation
from lumos.simulate.backgrounds import BackgroundPool
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import Survey, load_survey
from lumos.training.card import model_card
from lumos.training.domain import fit_domain
from lumos.training.loop import train_network
from lumos.training.settings import PoolSettings, TrainSettings
from lumos.validate.accuracy import accuracy_table, look_up_truth, run_accuracy

__all__ = ["make_catalog", "make_psfs", "run_demo", "run_panels", "train_model"]

Progress = Callable[[int, int, str], None]

#: Model of the demonstration.
_DEMO_MODEL = "paucam-mock"
#: Which galaxies are drawn: their places in the order of brightness.
_PANEL_SHARES = (0.02, 0.1, 0.3, 0.7)


def make_catalog(
    image: Path, out: Path, survey: Survey, settings: CatalogSettings, *, psf_dir: Path | None = None
) -> str:
    """Detect objects in an image and write a parent catalogue, its quality table and a picture.

    Parameters
    ----------
    image : Path
        FITS file with one CCD.
    out : Path
        Parquet file; ``.quality.parquet`` and ``.png`` are written beside it.
    survey : Survey
        How to read the image.
    settings : CatalogSettings
        Thresholds.
    psf_dir : Path, optional
        Folder with PSF models.

    Returns
    -------
    str
        One line for the user.

    Raises
    ------
    LumosDataError
        If the file holds several CCDs, no PSF is known, or nothing is found.
    """
    exposures = list(read_exposure(image, survey, psf_dir=psf_dir))
    if len(exposures) != 1:
        raise LumosDataError(f"{image}: holds {len(exposures)} CCDs, allowed: one")
    exposure = exposures[0]
    made = make_parent_catalog(exposure, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_parent(made.catalog, out)
    quality = pa.table(
        {
            "object_id": made.catalog.object_id,
            "x": made.x,
            "y": made.y,
            "flux": made.flux,
            "flux_err": made.flux_err,
            "reduced_chi2": made.reduced_chi2,
            "fitted_index": made.fitted_index,
        }
    )
    pq.write_table(quality, out.with_suffix(".quality.parquet"), write_page_checksum=True)
    radius = made.catalog.half_light_radius / exposure.pixel_scale
    zeropoint = exposure.zeropoint if np.isfinite(exposure.zeropoint) else 0.0
    draw_catalog(
        out.with_suffix(".png"),
        exposure.data,
        (made.x, made.y, radius, radius * made.catalog.axis_ratio, made.theta),
        zeropoint - 2.5 * np.log10(np.where(made.flux > 0, made.flux, np.nan)),
        made.catalog.half_light_radius,
        made.flux / made.flux_err,
    )
    n = len(made.catalog)
    return f"{out}: {n} objects, {int(made.fitted_index.sum())} with a fitted Sérsic index"


def make_psfs(
    images: Sequence[Path],
    out: Path,
    survey: Survey,
    settings: PsfSettings,
    *,
    catalog_path: Path | None = None,
    progress: Progress | None = None,
) -> str:
    """Fit a Moffat PSF to the stars of each exposure; write a table and a picture of each.

    Parameters
    ----------
    images : sequence of Path
        FITS files.
    out : Path
        Folder; gets ``psf.parquet``, the quality table ``psf.quality.parquet`` and a PNG per exposure.
    survey : Survey
        How to read the images.
    settings : PsfSettings
        Which stars.
    catalog_path : Path, optional
        Catalogue with ``ra`` and ``dec`` of stars; by default stars are found by their size.
    progress : callable, optional
        Told after each image.

    Returns
    -------
    str
        One line for the user.

    Raises
    ------
    LumosError
        If an exposure has too few stars; the others are written all the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    stars = None if catalog_path is None else read_parent(catalog_path)
    rows: list[dict[str, object]] = []
    quality: list[dict[str, object]] = []
    failed: list[str] = []
    for number, image in enumerate(images):
        try:
            for exposure in read_exposure(image, survey):
                at = None
                if stars is not None:
                    x, y, inside = sky_to_pixel(exposure.wcs, stars.ra, stars.dec, exposure.shape)
                    at = x[inside], y[inside]
                fit = fit_star_psf(exposure, settings, at)
                rows.append(_psf_row(exposure, fit))
                quality += _star_rows(exposure, fit)
                _draw_star_psf(out / f"{exposure.exposure_id}_{exposure.detector}.png", exposure, fit, settings)
        except LumosError as error:
            failed.append(str(error))
        if progress is not None:
            progress(number + 1, len(images), image.name)
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), out / "psf.parquet", write_page_checksum=True)
        pq.write_table(pa.Table.from_pylist(quality), out / "psf.quality.parquet", write_page_checksum=True)
    if failed:
        raise LumosError("; ".join(failed))
    return f"{out / 'psf.parquet'}: {len(rows)} PSFs"


def _psf_row(exposure: Exposure, fit: StarPsf) -> dict[str, object]:
    return {
        "exposure_id": exposure.exposure_id,
        "detector": exposure.detector,
        "fwhm_arcsec": fit.fwhm * exposure.pixel_scale,
        "fwhm_err_arcsec": fit.fwhm_err * exposure.pixel_scale,
        "beta": fit.beta,
        "n_stars": len(fit.x),
    }


def _star_rows(exposure: Exposure, fit: StarPsf) -> list[dict[str, object]]:
    return [
        {
            "exposure_id": exposure.exposure_id,
            "detector": exposure.detector,
            "x": float(x),
            "y": float(y),
            "fwhm_arcsec": float(fwhm) * exposure.pixel_scale,
            "snr": float(snr),
            "reduced_chi2": float(chi2),
        }
        for x, y, fwhm, snr, chi2 in zip(fit.x, fit.y, fit.star_fwhm, fit.snr, fit.reduced_chi2, strict=True)
    ]


def _draw_star_psf(path: Path, exposure: Exposure, fit: StarPsf, settings: PsfSettings) -> None:
    """Draw the pixels of the stars, each over its flux, with the model drawn at the same places."""
    size = settings.stamp_size
    stamps = cut_stamps(exposure.data, fit.x, fit.y, size, mask=exposure.mask)
    zero, one = np.zeros(len(fit.x)), np.ones(len(fit.x))
    psf = MoffatPsf(np.array([fit.fwhm]), np.array([fit.beta]))
    model = render_sersic(zero, one, one, zero, stamps.x, stamps.y, psf, size=size).numpy()
    level = np.median(np.where(stamps.mask == 0, stamps.data, np.nan)[:, [0, -1], :], axis=(1, 2))
    pixels = stamps.data - level[:, None, None]
    good = stamps.mask == 0
    flux = (pixels * model * good).sum(axis=(1, 2)) / (model**2 * good).sum(axis=(1, 2))
    y, x = np.mgrid[:size, :size]
    radius = np.hypot(x - stamps.x[:, None, None], y - stamps.y[:, None, None])
    draw_psf(
        path,
        radius[good],
        (pixels / flux[:, None, None])[good],
        radius[good],
        model[good],
        (fit.snr, fit.star_fwhm * exposure.pixel_scale),
        f'{exposure.exposure_id}: FWHM {fit.fwhm * exposure.pixel_scale:.3f}", β {fit.beta:.2f}, {len(fit.x)} stars',
    )


def train_model(
    settings: TrainSettings, out: Path, *, run: str = "RUN.yaml", workers: int = 1, progress: Progress | None = None
) -> str:
    """Train a model and write its folder; the survey that its backgrounds come from is simulated first if need be.

    Parameters
    ----------
    settings : TrainSettings
        The run.
    out : Path
        Folder of the model; ``survey``, ``pool`` and ``training`` below it hold what the run needs to continue.
    run : str, optional
        Name or file of the run, for the card.
    workers : int, optional
        Number of processes that simulate the survey.
    progress : callable, optional
        Told after each exposure and each batch.

    Returns
    -------
    str
        One line for the user.

    Raises
    ------
    LumosError
        If the settings, the pool or an earlier start in ``out`` do not fit.
    """
    pool = _open_pool(settings.pool, out, workers, progress)
    report = train_network(settings, pool, out / "training", progress=progress)
    figures = {name: round(value, 5) for name, value in report.validation.as_dict().items()}
    facts = {
        "run": run,
        "n_stamps": report.n_stamps,
        "minutes": round(report.minutes, 1),
        "version": __version__,
        "settings": settings.model_dump(mode="json", exclude={"workers", "device"}),
    }
    model = fit_domain(report.model, pool, settings.stamps, seed=settings.seed)
    config = model.config.model_copy(update={"metrics": figures, "training": facts})
    card = model_card(config, settings.text, report.curve)
    draw_learning(out / "learning.png", {settings.name: report.curve})
    save_model(replace(model, config=config), out, card, half=settings.weights == "float16")
    return (
        f"{out}: {settings.name}, {report.n_stamps} stamps in {report.minutes:.1f} minutes; "
        f"validation loss {report.validation.loss:.4f}, PIT-KS {report.validation.pit_ks:.4f}"
    )


def _open_pool(settings: PoolSettings, out: Path, workers: int, progress: Progress | None) -> BackgroundPool:
    """Open the pools of a run, or simulate the survey and cut the backgrounds."""
    if settings.simulate is None:
        return BackgroundPool.open(settings.paths[0], *settings.paths[1:], mixed=True)
    path = out / "pool"
    if not (path / "pool.json").exists():
        simulation = load_simulation(settings.simulate, settings.overrides)
        exposures = simulate_survey(simulation, out / "survey", workers=workers, progress=progress).exposures
        backgrounds = BackgroundSettings(
            n_per_exposure=settings.n_per_exposure, side=settings.side, max_scatter_ratio=settings.max_scatter_ratio
        )
        # By name, so that the pool does not depend on which exposure was finished first.
        make_backgrounds(sorted(exposures), path, load_survey(simulation.survey), backgrounds, progress=progress)
    return BackgroundPool.open(path, mixed=True)


def run_demo(out: Path, *, workers: int = 2, progress: Progress | None = None) -> str:
    """Simulate a small survey, measure it with the network and every classical estimator, compare with the truth.

    Parameters
    ----------
    out : Path
        Folder; gets the exposures, the run, ``accuracy.txt``, ``accuracy.png`` and ``pdfs.png``.
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
    survey = load_survey(simulation.survey)
    report = measure_run(exposures, parent, run, survey, settings, workers=workers, progress=progress)
    if report.failed:
        raise LumosError("; ".join(report.failed.values()))
    edges = np.array([18.0, 19.5, 21.0, 22.0, 23.0, 24.0])
    results = run_accuracy(run, truth, settings.all_estimators, edges)
    draw_accuracy(out / "accuracy.png", results)
    # Two thirds down the list is a red band, in which galaxies are bright.
    draw_pdfs(out / "pdfs.png", run_panels(exposures[len(exposures) * 2 // 3], run, truth, survey))
    table = accuracy_table(results)
    write_atomic(out / "accuracy.txt", table + "\n")
    pictures = f"{out / 'accuracy.png'} and {out / 'pdfs.png'}"
    return f"{table}\n\n{report.n_rows} rows in {run}, figures in {out / 'accuracy.txt'}, {pictures}"


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
    parts = [np.stack(table[f"pdf_{part}"].to_numpy(zero_copy_only=False)) for part in ("weights", "means", "stds")]
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
