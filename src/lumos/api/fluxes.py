"""Measure fluxes, coadd them, and read both."""

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from lumos.api.arguments import give_images, give_parent, give_path, give_paths, give_run, give_survey
from lumos.api.settings import give_settings
from lumos.api.tables import FluxTable, join_tables
from lumos.api.work import refuse_all, work_through
from lumos.coadds.read import read_coadd as read_coadd_table
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosValueError
from lumos.photometry.exposure import estimators_of, measure_exposure
from lumos.photometry.network import model_of
from lumos.photometry.objects import catalog_near
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.remote import local_copy
from lumos.runs.shards import iterate_shards, shard_paths
from lumos.surveys import Survey
from lumos.threads import one_thread

__all__ = ["coadd", "measure", "read_coadd", "read_run"]

logger = logging.getLogger(__name__)


def measure(
    images: object,
    catalog: object,
    *,
    out: str | Path | None = None,
    survey: str | Path | Survey = "generic",
    psf: object = None,
    model: str | Path | None = None,
    estimators: str | Sequence[str] | None = None,
    workers: int = 1,
    settings: object = None,
    **changes: object,
) -> FluxTable:
    """Measure the fluxes of catalogue objects in exposures.

    Parameters
    ----------
    images : str, Path, CCDData, Exposure, or sequence of these
        FITS files, folders, patterns or ``@list``, as of ``lumos measure``. Or images in memory: an astropy ``CCDData``
        with a WCS and, in ``meta``, the keywords that the survey looks up (``generic``: FILTER, MAGZPT, GAIN, EXPTIME,
        PSF_FWHM in arcsec, ...); its mask (not 0: bad), uncertainty, ``psf`` and unit count. Or a
        :class:`lumos.images.Exposure`.
    catalog : str, Path, astropy Table or QTable, pyarrow.Table or ParentCatalog
        Objects: ``ra``, ``dec``, and shapes where they are not points; units are honoured.
    out : str or Path, optional
        Folder of the run, which is continued if it is there; images and catalogue must then be paths. Without it
        nothing is written.
    survey : str, Path or Survey, optional
        Shipped survey, YAML file or object: how to read the images.
    psf : str, Path, float, Quantity, array, table or PsfModel, optional
        Folder of PSF files. Without ``out`` also one PSF for all images: FWHM of stars on the pixels (arcsec, or an
        angle), image, PSF model, or the table that :func:`psf` returns. Default: that of the image.
    model : str or Path, optional
        Shipped model or model folder.
    estimators : str or sequence of str, optional
        Classical estimators.
    workers : int, optional
        Processes; more than 1 need ``out``.
    settings : str, Path, mapping or MeasureSettings, optional
        YAML file as of ``--config``, or settings of this stage.
    **changes : object
        Single settings, as ``stamp_size=80`` or ``noise={"source": "gain"}``.

    Returns
    -------
    FluxTable
        One row per object and CCD, fluxes in nJy (image units, flagged ``NO_ZEROPOINT``, where no zero point is known).
        With ``out``: all rows of the run. Files that failed are logged, and named in ``failed``.

    Raises
    ------
    LumosShapeError
        If mask, uncertainty or WCS of an image in memory are those of another shape.
    LumosDataError
        If an image in memory has no usable WCS, band, unit or PSF, or the catalogue lacks a column.
    LumosConfigError
        If a setting, survey, model or estimator is unknown.
    LumosValueError
        If an argument is none of these.
    LumosError
        If every file failed.

    Examples
    --------
    In a folder with a simulated survey (``lumos simulate``):

    >>> import lumos
    >>> table = lumos.measure("exposures", "parent.parquet", estimators=["optimal"], noise={"correlation": "none"})
    >>> sorted(set(table["exposure_id"].tolist()))
    ['r_001', 'r_002']

    The same from an image and a table in memory:

    >>> from astropy.nddata import CCDData
    >>> from astropy.table import Table
    >>> image = CCDData.read("exposures/r_001.fits", hdu="SCI", unit="adu")
    >>> objects = Table({"ra": table["ra"][:2], "dec": table["dec"][:2]}, units=["deg", "deg"])
    >>> len(lumos.measure(image, objects, psf=0.9, estimators="aperture,optimal"))
    2
    """
    how = give_survey(survey)
    if model is not None:
        changes["model"] = str(model)
    if estimators is not None:
        changes["estimators"] = estimators.replace(" ", "").split(",") if isinstance(estimators, str) else estimators
    options = give_settings(MeasureSettings, "measure", settings, changes)
    if out is not None:
        files, folder = give_paths(images, how), None if psf is None else give_path("psf, where out is given", psf)
        parent = local_copy(give_path("catalog, where out is given", catalog))
        run = give_path("out", out)
        report = measure_run(files, parent, run, how, options, psf_dir=folder, workers=workers)
        refuse_all(report.failed, all_failed=len(report.failed) == len(files))
        return FluxTable(read_run(run).table, run, report.failed)
    if workers != 1:
        raise LumosValueError("workers", workers, "1 where no out is given")
    estimators_of(options)
    model_of(options.model)
    objects = give_parent(catalog, options.catalog)
    sources = give_images(images, how, psf)
    with one_thread():
        found, failed = work_through(sources, lambda one: measure_exposure(one, catalog_near(one, objects), options))
    for name, tables in found.items():
        if not any(table.num_rows for table in tables):
            logger.warning("%s: no object of the catalogue lies on this exposure", name)
    refuse_all(failed, all_failed=len(failed) == len(sources))
    return FluxTable(join_tables([table for tables in found.values() for table in tables]), failed=failed)


def read_run(run: str | Path, columns: Sequence[str] | None = None) -> FluxTable:
    """Read the fluxes that ``lumos measure`` wrote.

    Parameters
    ----------
    run : str or Path
        Folder of the run.
    columns : sequence of str, optional
        Which columns; all by default. PDFs need ``pdf_weights``, ``pdf_means`` and ``pdf_stds``.

    Returns
    -------
    FluxTable
        One row per object, exposure and CCD, in the order of the manifest.

    Raises
    ------
    LumosDataError
        If the manifest is missing, names no finished shard, or a shard is damaged.
    LumosValueError
        If there is no such column.
    """
    folder = give_path("run", run)
    if columns is not None:
        there = pq.read_schema(shard_paths(folder)[0]).names
        unknown = [name for name in columns if name not in there]
        if unknown:
            raise LumosValueError("column", unknown[0], ", ".join(there))
    return FluxTable(join_tables(iterate_shards(folder, columns)), folder)


def coadd(
    runs: object,
    out: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    zeropoints: str | Path | None = None,
    reference: str | Path | None = None,
    sky: object = None,
    workers: int = 1,
    settings: object = None,
    **changes: object,
) -> FluxTable:
    """Coadd the exposures of runs: one PDF and one flux per object and band.

    Parameters
    ----------
    runs : str, Path, FluxTable, or sequence of these
        Folders that ``lumos measure`` wrote, or what ``measure(..., out=...)`` and :func:`read_run` returned.
    out : str or Path, optional
        Parquet file; a finished one is read. Without it nothing is kept.
    catalog : str or Path, optional
        Parent catalogue, if it moved.
    zeropoints, reference : str or Path, optional
        Table of zero points; objects of known flux.
    sky : str, Path or FluxTable, optional
        Run at empty positions.
    workers : int, optional
        Processes.
    settings : str, Path, mapping or CoaddSettings, optional
        YAML file as of ``--config``, or settings of this stage.
    **changes : object
        Single settings, as ``prior="none"``.

    Returns
    -------
    FluxTable
        One row per object and band, fluxes in nJy.

    Raises
    ------
    LumosDataError
        If the runs do not belong together, a file is missing or damaged, or zero points are missing.
    LumosConfigError
        If a setting is unknown, or ``out`` holds another coadd.
    LumosValueError
        If an argument is no path, as a table in memory.
    """
    options = give_settings(CoaddSettings, "coadd", settings, changes)
    folders = [give_run("runs", run) for run in (runs if isinstance(runs, list | tuple) else [runs])]
    given = {"catalog": catalog, "zeropoints": zeropoints, "reference": reference}
    tables: dict[str, Any] = {what: give_path(what, one) for what, one in given.items() if one is not None}
    empty = None if sky is None else give_run("sky", sky)
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "coadd.parquet" if out is None else give_path("out", out)
        coadd_run(folders, path, options, sky=empty, workers=workers, **tables)
        return FluxTable(read_coadd(path).table, None if out is None else path)


def read_coadd(path: str | Path) -> FluxTable:
    """Read a coadd that ``lumos coadd`` wrote.

    Parameters
    ----------
    path : str or Path
        Parquet file.

    Returns
    -------
    FluxTable
        One row per object and band, fluxes in nJy.

    Raises
    ------
    LumosDataError
        If the file is missing, damaged, of another schema version, or no coadd.
    """
    file = give_path("path", path)
    return FluxTable(read_coadd_table(file)[0], file)
