"""Catalogues and PSFs from images, where a survey lacks them."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from lumos.api.arguments import give_images, give_parent, give_path, give_paths, give_survey
from lumos.api.settings import give_settings
from lumos.api.tables import to_qtable
from lumos.api.work import refuse_all, work_through
from lumos.catalogs.parent import parent_table
from lumos.errors import LumosValueError
from lumos.images.exposure import Exposure
from lumos.images.wcs import sky_to_pixel
from lumos.photometry.settings import CatalogColumns
from lumos.remote import local_copy
from lumos.sources.choice import ChosenPsf
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.sources.stars import fit_star_psf
from lumos.surveys import Survey
from lumos.threads import one_thread
from lumos.workflows.catalog import catalog_of, make_catalog
from lumos.workflows.psf import make_psfs, psf_row

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["catalog", "psf"]

#: Units of the table of PSFs.
_PSF_UNITS = {"fwhm_arcsec": "arcsec", "fwhm_err_arcsec": "arcsec"}


def catalog(
    image: object,
    out: str | Path | None = None,
    *,
    survey: str | Path | Survey = "generic",
    psf: object = None,
    overwrite: bool = False,
    settings: object = None,
    **changes: object,
) -> "QTable":
    """Make a parent catalogue where none exists: detect objects and fit their shapes.

    Parameters
    ----------
    image : str, Path, CCDData or Exposure
        FITS file, or an image in memory as of :func:`measure`.
    out : str or Path, optional
        Parquet file; the image must then be a file. A quality table and pictures, with how complete the catalogue is,
        are written beside it. Without it nothing is written.
    survey, psf : object, optional
        As of :func:`measure`.
    overwrite : bool, optional
        Replace ``out`` if it is another catalogue.
    settings : str, Path, mapping or CatalogSettings, optional
        YAML file as of ``--config``, or settings of this stage.
    **changes : object
        Single settings, as ``min_area=9``.

    Returns
    -------
    astropy.table.QTable
        One row per object; ra, dec and position angle in degrees, radii in arcsec, AB magnitudes. :func:`measure` takes
        it, and flags the exposure that it was made from.

    Raises
    ------
    LumosDataError
        If no PSF is known, or nothing is found.
    LumosConfigError
        If a setting is unknown, or ``out`` is something else.
    LumosValueError
        If an argument is none of these.
    """
    how = give_survey(survey)
    options = give_settings(CatalogSettings, "catalog", settings, changes)
    if out is not None:
        file, folder = give_path("image, where out is given", image), None if psf is None else give_path("psf", psf)
        path = give_path("out", out)
        make_catalog(file, path, how, options, psf_dir=folder, overwrite=overwrite)
        made = pq.read_table(path)
    else:
        sources = give_images(image, how, psf)
        if len(sources) > 1:
            raise LumosValueError("image", len(sources), "one image")
        made = parent_table(catalog_of(sources[0].read(), options))
    table = to_qtable(made)
    # By these a catalogue is known again when it is measured.
    known = {key.decode(): text.decode() for key, text in made.schema.metadata.items()}
    table.meta |= {key: text for key, text in known.items() if key in {"lumos.made_from", "lumos.catalog_flags"}}
    return table


def psf(
    images: object,
    out: str | Path | None = None,
    *,
    survey: str | Path | Survey = "generic",
    catalog: object = None,
    settings: object = None,
    **changes: object,
) -> "QTable":
    """Fit a PSF to the stars of each exposure, where none is shipped.

    Parameters
    ----------
    images : str, Path, CCDData, Exposure, or sequence of these
        As of :func:`measure`.
    out : str or Path, optional
        Folder for the table, the quality table and pictures; the images must then be files. Without it nothing is
        written.
    survey : str, Path or Survey, optional
        How to read the images.
    catalog : str, Path, astropy Table or QTable, pyarrow.Table or ParentCatalog, optional
        Positions of stars; by default they are found by their size.
    settings : str, Path, mapping or PsfSettings, optional
        YAML file as of ``--config``, or settings of this stage.
    **changes : object
        Single settings, as ``min_snr=50``.

    Returns
    -------
    astropy.table.QTable
        One row per CCD: FWHM before the response of the pixel, arcsec, and exponent of a Moffat; with ``out``, the
        path of the empirical PSF where stars prefer one. Without ``out`` only Moffats are fitted. :func:`measure`
        takes it as ``psf``.

    Raises
    ------
    LumosError
        If no image has enough stars; with ``out``, if one has not.
    LumosConfigError
        If a setting is unknown.
    LumosValueError
        If an argument is none of these.
    """
    how = give_survey(survey)
    options = give_settings(PsfSettings, "psf", settings, changes)
    if out is not None:
        folder = give_path("out", out)
        stars = None if catalog is None else local_copy(give_path("catalog, where out is given", catalog))
        make_psfs(give_paths(images, how), folder, how, options, catalog_path=stars)
        made = pq.read_table(folder / "psf.parquet")
        paths = [str((folder / name).resolve()) if name else "" for name in made["file"].to_pylist()]
        return to_qtable(made.set_column(made.column_names.index("file"), "file", pa.array(paths)), _PSF_UNITS)
    objects = None if catalog is None else give_parent(catalog, CatalogColumns())
    sources = give_images(images, how, None)

    def fit(one: Exposure) -> dict[str, object]:
        if objects is None:
            return psf_row(one, ChosenPsf(fit_star_psf(one, options), None))
        x, y, inside = sky_to_pixel(one.wcs, objects.ra, objects.dec, one.shape)
        return psf_row(one, ChosenPsf(fit_star_psf(one, options, (x[inside], y[inside])), None))

    with one_thread():
        found, failed = work_through(sources, fit, by_ccd=True)
    rows = [row for some in found.values() for row in some]
    refuse_all(failed, all_failed=not rows)
    return to_qtable(pa.Table.from_pylist(rows), _PSF_UNITS)
