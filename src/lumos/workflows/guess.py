"""PSFs of exposures that show no stars, guessed so that a run goes on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.cameras.pixels import measure_pixels
from lumos.catalogs.tables import write_table
from lumos.errors import LumosError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.surveys import Survey

__all__ = ["guess_psfs"]

_NAMES = ("exposure_id", "detector")
#: Moffat of a guess: FWHM on the pixels where no source tells it, its relative error, and exponent.
_FWHM, _ERROR, _BETA = 2.5, 0.2, 3.5


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
    known = set() if there is None else set(zip(*(there[name].to_pylist() for name in _NAMES), strict=True))
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
            fwhm = float(np.median(seen)) if seen else _FWHM
            source = "that of the sharpest sources of the others" if seen else "as many cameras have"
        row = {"exposure_id": exposure_id, "detector": detector, "fwhm_arcsec": fwhm * scale, "beta": _BETA}
        row |= {"fwhm_err_arcsec": _ERROR * fwhm * scale, "includes_pixel": True, "n_stars": 0}
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
