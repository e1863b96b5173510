"""Fit PSFs to stars where none are shipped."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.catalogs.parent import read_parent
from lumos.catalogs.tables import write_table
from lumos.errors import LumosError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.reader import list_detectors, read_exposure
from lumos.images.stamps import cut_stamps
from lumos.images.wcs import sky_to_pixel
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf
from lumos.report.pictures import draw_psf
from lumos.runs.locks import lock_folder, locked
from lumos.sources.settings import PsfSettings
from lumos.sources.stars import StarPsf, fit_star_psf
from lumos.surveys import Survey
from lumos.threads import one_thread

__all__ = ["make_psfs", "psf_row"]

Progress = Callable[[int, int, str], None]


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
                    fit = fit_star_psf(exposure, settings, at)
                    rows.append(psf_row(exposure, fit))
                    quality += _star_rows(exposure, fit)
                    _draw_star_psf(out / f"{exposure.exposure_id}_{exposure.detector}.png", exposure, fit, settings)
            except LumosError as error:
                failed.append(str(error) if len(names) == 1 else f"{error} (detector {name})")
        if progress is not None:
            progress(number + 1, len(images), image.name)
    if rows:
        write_table([pa.Table.from_pylist(rows)], out / "psf.parquet")
        write_table([pa.Table.from_pylist(quality)], out / "psf.quality.parquet")
    if failed:
        raise LumosError("; ".join(failed))
    return f"{out / 'psf.parquet'}: {len(rows)} PSFs"


def psf_row(exposure: Exposure, fit: StarPsf) -> dict[str, object]:
    """Return the row of a table of PSFs.

    Parameters
    ----------
    exposure : Exposure
        The exposure.
    fit : StarPsf
        What was fitted to its stars.

    Returns
    -------
    dict
        By column.
    """
    return {
        "exposure_id": exposure.exposure_id,
        "detector": exposure.detector,
        "fwhm_arcsec": fit.fwhm * exposure.pixel_scale,
        "fwhm_err_arcsec": fit.fwhm_err * exposure.pixel_scale,
        "beta": fit.beta,
        "includes_pixel": False,
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
    psf = MoffatPsf(np.array([fit.fwhm]), np.array([fit.beta]))
    model = render(Shapes.points(stamps.x, stamps.y), psf, size=size).numpy()
    good = good_pixels(stamps.mask)
    level = np.nanmedian(np.where(good, stamps.data, np.nan)[:, [0, -1], :], axis=(1, 2))
    pixels = stamps.data - level[:, None, None]
    flux = (pixels * model * good).sum(axis=(1, 2)) / (model**2 * good).sum(axis=(1, 2))
    y, x = np.mgrid[:size, :size]
    radius = np.hypot(x - stamps.x[:, None, None], y - stamps.y[:, None, None])
    draw_psf(
        path,
        radius[good],
        (pixels / flux[:, None, None])[good],
        model[good],
        (fit.snr, fit.star_fwhm * exposure.pixel_scale),
        f'{exposure.exposure_id}: FWHM {fit.fwhm * exposure.pixel_scale:.3f}", β {fit.beta:.2f}, {len(fit.x)} stars',
    )
