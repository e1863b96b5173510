"""Fit PSFs to stars where none are shipped; guess them where there are no stars."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.cameras.pixels import measure_pixels
from lumos.catalogs.parent import read_parent
from lumos.catalogs.tables import write_table
from lumos.errors import LumosError
from lumos.files import whole_file
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.psf.psfex import write_psfex
from lumos.images.reader import list_detectors, read_exposure
from lumos.images.stamps import cut_stamps
from lumos.images.wcs import sky_to_pixel
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf, moffat_on_pixels
from lumos.report.pictures import draw_psf
from lumos.runs.locks import lock_folder, locked
from lumos.sources.choice import UNDERSAMPLED, ChosenPsf, choose_psf
from lumos.sources.settings import PsfSettings
from lumos.sources.stars import StarPsf
from lumos.surveys import Survey
from lumos.threads import one_thread

__all__ = ["guess_psfs", "make_psfs", "psf_row"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]

_CCD = ("exposure_id", "detector")
#: Moffat of a guess: FWHM on the pixels where no source tells it, its relative error, and exponent.
_GUESS, _GUESS_ERROR, _GUESS_BETA = 2.5, 0.2, 3.5


@locked(lock_folder)
@one_thread()
def make_psfs(
    images: Sequence[Path],
    out: Path,
    survey: Survey,
    settings: PsfSettings,
    *,
    catalog_path: Path | None = None,
    progress: Progress | None = None,
) -> str:
    """Fit Moffat and empirical PSFs to the stars of each exposure; write a table, the PSFs and pictures.

    Parameters
    ----------
    images : sequence of Path
        FITS files.
    out : Path
        Folder; gets ``psf.parquet``, the quality table ``psf.quality.parquet``, and for each CCD a PNG and, where an
        empirical PSF is chosen, a PSFEx file.
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
        If a CCD has too few stars or cannot be read; the others are written all the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    stars = None if catalog_path is None else read_parent(catalog_path)
    rows: list[dict[str, object]] = []
    quality: list[dict[str, object]] = []
    failed: list[str] = []
    for number, image in enumerate(images):
        try:
            names = list_detectors(image, survey)
        except LumosError as error:
            failed.append(str(error))
            names = []
        for name in names:
            try:
                for exposure in read_exposure(image, survey, detector=name):
                    at = None
                    if stars is not None:
                        x, y, inside = sky_to_pixel(exposure.wcs, stars.ra, stars.dec, exposure.shape)
                        at = x[inside], y[inside]
                    chosen = choose_psf(exposure, settings, at)
                    rows.append(psf_row(exposure, chosen, _write_model(out, exposure, chosen)))
                    quality += _star_rows(exposure, chosen.moffat)
                    _draw_star_psf(out / f"{exposure.exposure_id}_{exposure.detector}.png", exposure, chosen, settings)
                    _tell(exposure, chosen)
            except LumosError as error:
                failed.append(str(error) if len(names) == 1 else f"{error} (detector {name})")
        if progress is not None:
            progress(number + 1, len(images), image.name)
    if rows:
        write_table([pa.Table.from_pylist(rows)], out / "psf.parquet")
        write_table([pa.Table.from_pylist(quality)], out / "psf.quality.parquet")
    if failed:
        raise LumosError("; ".join(failed))
    n_empirical = sum(row["model"] == "empirical" for row in rows)
    return f"{out / 'psf.parquet'}: {len(rows)} PSFs, {n_empirical} of them empirical"


def psf_row(exposure: Exposure, chosen: ChosenPsf, file: str = "") -> dict[str, object]:
    """Return the row of a table of PSFs.

    Parameters
    ----------
    exposure : Exposure
        The exposure.
    chosen : ChosenPsf
        What was fitted to its stars.
    file : str, optional
        Name of the file with the empirical PSF.

    Returns
    -------
    dict
        By column.
    """
    fit = chosen.moffat
    held = (chosen.held_moffat, chosen.held_empirical)
    moffat, empirical = (np.nan if one is None else float(one.chi2.mean()) for one in held)
    return {
        "exposure_id": exposure.exposure_id,
        "detector": exposure.detector,
        "fwhm_arcsec": fit.fwhm * exposure.pixel_scale,
        "fwhm_err_arcsec": fit.fwhm_err * exposure.pixel_scale,
        "beta": fit.beta,
        "includes_pixel": False,
        "n_stars": len(fit.x),
        "model": "empirical" if file else "moffat",
        "file": file,
        "degree": chosen.degree,
        "chi2_moffat": moffat,
        "chi2_empirical": empirical,
        "p_value": chosen.p_value,
        "undersampled": chosen.undersampled,
    }


def _write_model(out: Path, exposure: Exposure, chosen: ChosenPsf) -> str:
    """Write the empirical PSF, if it was chosen; return the name of the file."""
    if chosen.model is None:
        return ""
    assert chosen.held_empirical is not None  # an empirical PSF is never without
    name = f"{exposure.exposure_id}_{exposure.detector}.psf"
    cards = {"ACCEPTED": len(chosen.held_empirical.chi2), "CHI2": float(chosen.held_empirical.chi2.mean())}
    write_psfex(out / name, chosen.model, cards)
    return name


def _tell(exposure: Exposure, chosen: ChosenPsf) -> None:
    """Log which PSF was chosen and why, and warn of one that the pixels do not resolve."""
    name = f"{exposure.exposure_id}, detector {exposure.detector}"
    logger.info("%s: %s", name, chosen.summary())
    if chosen.undersampled:
        text = "%s: undersampled: stars on pixels have a FWHM of %.2f px, below %.1f px"
        logger.warning(text, name, moffat_on_pixels(chosen.moffat.fwhm, chosen.moffat.beta)[0], UNDERSAMPLED)


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


def _draw_star_psf(path: Path, exposure: Exposure, chosen: ChosenPsf, settings: PsfSettings) -> None:
    """Draw the pixels of the stars, each over its flux, with the models, and what these leave of held-out stars."""
    size, fit = settings.stamp_size, chosen.moffat
    stamps = cut_stamps(exposure.data, fit.x, fit.y, size, mask=exposure.mask)
    psf = MoffatPsf(np.array([fit.fwhm]), np.array([fit.beta]))
    model = render(Shapes.points(stamps.x, stamps.y), psf, size=size).numpy()
    good = good_pixels(stamps.mask)
    level = np.nanmedian(np.where(good, stamps.data, np.nan)[:, [0, -1], :], axis=(1, 2))
    pixels = stamps.data - level[:, None, None]
    flux = (pixels * model * good).sum(axis=(1, 2)) / (model**2 * good).sum(axis=(1, 2))
    y, x = np.mgrid[:size, :size]
    radius = np.hypot(x - stamps.x[:, None, None], y - stamps.y[:, None, None])
    models = {"Moffat": (radius[good], model[good])}
    if chosen.model is not None:
        images = chosen.model.at(np.array([exposure.shape[1] / 2]), np.array([exposure.shape[0] / 2])).images
        half, sampling = images.shape[1] // 2, chosen.model.sampling
        offset = sampling * np.arange(-half, half + 1)
        models["empirical"] = np.hypot(*np.meshgrid(offset, offset)).ravel(), images.ravel() / sampling**2
    held = {"Moffat": chosen.held_moffat, "empirical": chosen.held_empirical}
    shape = f'FWHM {fit.fwhm * exposure.pixel_scale:.3f}", β {fit.beta:.2f}'
    with whole_file(path) as temporary:
        draw_psf(
            temporary,
            (radius[good], (pixels / flux[:, None, None])[good]),
            models,
            {name: one.residual for name, one in held.items() if one is not None},
            (fit.snr, fit.star_fwhm * exposure.pixel_scale),
            f"{exposure.exposure_id}: {shape}; {chosen.summary()}",
        )


def guess_psfs(files: Sequence[Path], survey: Survey, folder: Path) -> list[str]:
    """Write a Moffat for each CCD that has no PSF into the table of ``lumos psf``.

    Parameters
    ----------
    files : sequence of Path
        Exposures.
    survey : Survey
        How to read them.
    folder : Path
        With ``psf.parquet``, if any exposure had stars; the guesses are added, with 0 stars.

    Returns
    -------
    list of str
        What was guessed, CCD by CCD, and what it changes.
    """
    table = folder / "psf.parquet"
    there = pq.read_table(table) if table.is_file() else None
    known = set() if there is None else set(zip(*(there[name].to_pylist() for name in _CCD), strict=True))
    widths: dict[tuple[str, str], tuple[str, float, float]] = {}
    for path in files:
        try:
            for exposure in read_exposure(path, survey):
                ccd = (exposure.exposure_id, exposure.detector)
                if exposure.psf is None and ccd not in known:
                    widths[ccd] = str(path), _width(exposure), exposure.pixel_scale
        except LumosError:
            # Whoever measures it says why.
            continue
    seen = [width for _, width, _ in widths.values() if np.isfinite(width)]
    rows, told = [], []
    for (exposure_id, detector), (file, width, scale) in widths.items():
        fwhm, source = width, "that of its sharpest sources"
        if not np.isfinite(fwhm):
            fwhm = float(np.median(seen)) if seen else _GUESS
            source = "that of the sharpest sources of the others" if seen else "as many cameras have"
        row = {"exposure_id": exposure_id, "detector": detector, "fwhm_arcsec": fwhm * scale, "beta": _GUESS_BETA}
        row |= {"fwhm_err_arcsec": _GUESS_ERROR * fwhm * scale, "includes_pixel": True, "n_stars": 0}
        rows.append({**row, "model": "moffat", "file": "", "degree": -1, "undersampled": fwhm < 1.5})
        told.append(
            f"{file}: too few stars for a PSF, a FWHM of {fwhm:.2f} px is taken, {source}. Is it? Fluxes of "
            "points are wrong by the share that it is wrong by; give --psf"
        )
    if rows:
        guessed = pa.Table.from_pylist(rows)
        folder.mkdir(parents=True, exist_ok=True)
        tables = [guessed] if there is None else [there, guessed]
        write_table([pa.concat_tables(tables, promote_options="default")], table)
    return told


def _width(exposure: Exposure) -> float:
    return measure_pixels(np.where(good_pixels(exposure.mask), exposure.data, np.float32(np.nan))).fwhm
