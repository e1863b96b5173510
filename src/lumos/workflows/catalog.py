"""Make what a survey lacks: a parent catalogue, PSFs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.parent import read_parent, write_parent
from lumos.errors import LumosDataError, LumosError
from lumos.files import check_parquet_name, whole_file
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.images.stamps import cut_stamps
from lumos.images.wcs import sky_to_pixel
from lumos.measure.detect import make_parent_catalog
from lumos.measure.settings import CatalogSettings, PsfSettings
from lumos.measure.stars import StarPsf, fit_star_psf
from lumos.outputs import lock_file, lock_folder, locked
from lumos.profiles.sersic import render_sersic
from lumos.psf import MoffatPsf
from lumos.report.pictures import draw_catalog, draw_psf
from lumos.surveys import Survey

__all__ = ["make_catalog", "make_psfs"]

Progress = Callable[[int, int, str], None]


@locked(lock_file)
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
    LumosValueError
        If ``out`` does not end in ``.parquet``.
    """
    check_parquet_name(out)
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
    _write_table(quality, out.with_suffix(".quality.parquet"))
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


def _write_table(table: pa.Table, path: Path) -> None:
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


@locked(lock_folder)
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
        _write_table(pa.Table.from_pylist(rows), out / "psf.parquet")
        _write_table(pa.Table.from_pylist(quality), out / "psf.quality.parquet")
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
