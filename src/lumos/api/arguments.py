"""What callers of the Python API give: paths or objects at hand, checked and brought to one form."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData

from lumos.api.tables import FluxTable
from lumos.catalogs.formats import table_at_hand
from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.images.at_hand import check_exposure, exposure_at_hand, put_psf
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.photometry.settings import CatalogColumns
from lumos.remote import local_copy
from lumos.surveys import Survey, find_exposures, load_survey

__all__ = ["Image", "give_images", "give_parent", "give_path", "give_paths", "give_run", "give_survey"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Image:
    """An image that the caller gave.

    Parameters
    ----------
    name : str
        Its path, or what it is called in messages.
    read : callable
        Yields its CCDs, each with a PSF if one is known.
    is_file : bool
        Whether it lies in a file; what is wrong with one file does not stop the others.
    """

    name: str
    read: Callable[[], Iterator[Exposure]]
    is_file: bool


def give_survey(survey: object) -> Survey:
    """Return the survey that is meant.

    Parameters
    ----------
    survey : str, Path or Survey
        Name of a shipped survey, YAML file, or the object.

    Returns
    -------
    Survey
        How to read its images.

    Raises
    ------
    LumosConfigError
        If there is no such survey.
    LumosValueError
        If it is something else.
    """
    if isinstance(survey, Survey):
        return survey
    if isinstance(survey, str | Path):
        return load_survey(survey)
    raise LumosValueError("survey", type(survey).__name__, "a name, a YAML file or a lumos.surveys.Survey")


def give_path(what: str, value: object) -> Path:
    """Return a path.

    Parameters
    ----------
    what : str
        Name of the argument, for messages.
    value : str or Path
        The argument.

    Returns
    -------
    Path
        It.

    Raises
    ------
    LumosValueError
        If it is something else.
    """
    if isinstance(value, str | Path):
        return Path(value)
    raise LumosValueError(what, type(value).__name__, "a path")


def give_run(what: str, run: object) -> Path:
    """Return the folder of a run.

    Parameters
    ----------
    what : str
        Name of the argument, for messages.
    run : str, Path or FluxTable
        The folder, or a table that is all of a run.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    LumosValueError
        If it is something else, or a table that is in memory alone.
    """
    if not isinstance(run, FluxTable):
        return give_path(what, run)
    if run.path is None or not run.path.is_dir():
        raise LumosValueError(what, repr(run), "folders of runs; give lumos.measure an out")
    return run.path


def give_paths(images: object, survey: Survey) -> list[Path]:
    """Return the image files that are meant, as the commands find them.

    Parameters
    ----------
    images : str, Path or sequence of these
        Files, folders, patterns and ``@list``.
    survey : Survey
        Whose masks and weights are left out.

    Returns
    -------
    list of Path
        At least one.

    Raises
    ------
    LumosValueError
        If one is no path.
    LumosDataError
        If nothing is found.
    """
    given = [images] if isinstance(images, str | Path) or not isinstance(images, Sequence) else images
    return find_exposures([give_path("images", image) for image in given], survey)


def give_images(images: object, survey: Survey, psf: object) -> list[Image]:
    """Return the images that are meant: files as the commands find them, or objects.

    Parameters
    ----------
    images : str, Path, CCDData, Exposure, or sequence of these
        Either paths or objects.
    survey : Survey
        How to read them.
    psf : object
        Folder of PSFs, or what :func:`lumos.images.at_hand.put_psf` takes, for all of them; None: their own.

    Returns
    -------
    list of Image
        At least one; objects are checked.

    Raises
    ------
    LumosValueError
        If one is none of these, there is none, or there are both paths and objects.
    LumosDataError
        If nothing is found, an object cannot be measured, or two are the same CCD of one exposure.
    """
    folder = Path(psf) if isinstance(psf, str | Path) else None
    if folder is not None and not folder.is_dir():
        raise LumosDataError(f"{folder}: no such folder (PSF files)")
    at_hand = None if folder is not None else psf
    given = list(images) if isinstance(images, list | tuple) else [images]
    if not given:
        raise LumosValueError("images", 0, "at least one")
    paths = [image for image in given if isinstance(image, str | Path)]
    if paths and len(paths) < len(given):
        raise LumosValueError("images", "paths and objects together", "either paths or objects")
    if paths:
        files = give_paths(paths, survey)
        return [Image(str(file), partial(_read, file, survey, folder, at_hand), is_file=True) for file in files]
    exposures: list[Exposure] = []
    for number, image in enumerate(given, start=1):
        exposure = _at_hand(image, survey, f"image_{number}", folder)
        exposures.append(exposure if at_hand is None else put_psf(exposure, at_hand, survey))
    seen: dict[tuple[str, str], Path] = {}
    for exposure in exposures:
        ccd = exposure.exposure_id, exposure.detector
        if ccd in seen:
            text = f"both are exposure {ccd[0]!r}, detector {ccd[1]!r}; identifiers must differ"
            raise LumosDataError(f"{seen[ccd]} and {exposure.path}: {text}")
        seen[ccd] = exposure.path
    return [Image(str(one.path), partial(iter, [one]), is_file=False) for one in exposures]


def _at_hand(image: object, survey: Survey, name: str, folder: Path | None) -> Exposure:
    if isinstance(image, Exposure):
        return check_exposure(image)
    if isinstance(image, CCDData):
        return exposure_at_hand(image, survey, name, folder)
    raise LumosValueError(name, type(image).__name__, "a path, an astropy CCDData or a lumos.images.Exposure")


def _read(path: Path, survey: Survey, folder: Path | None, psf: object) -> Iterator[Exposure]:
    for exposure in read_exposure(path, survey, psf_dir=folder):
        yield exposure if psf is None else put_psf(exposure, psf, survey)


def give_parent(catalog: object, columns: CatalogColumns) -> ParentCatalog:
    """Return the parent catalogue that is meant.

    Parameters
    ----------
    catalog : str, Path, astropy Table or QTable, pyarrow.Table or ParentCatalog
        Where objects are and what they look like.
    columns : CatalogColumns
        Names of columns, meaning of the radius, exposures it was made from.

    Returns
    -------
    ParentCatalog
        In standard units.

    Raises
    ------
    LumosDataError
        If a file or table lacks a column or has a unit that cannot be.
    LumosShapeError
        If the arrays of a ParentCatalog are of several lengths.
    LumosValueError
        If it is something else.
    """
    if isinstance(catalog, ParentCatalog):
        for item in fields(catalog):
            values = getattr(catalog, item.name)
            if item.name != "made_from" and values is not None and np.shape(values) != (len(catalog),):
                raise LumosShapeError(f"catalog: {item.name}", np.shape(values), f"({len(catalog)},) as object_id")
        made_from = tuple(dict.fromkeys([*catalog.made_from, *columns.made_from]))
        return replace(catalog, made_from=made_from)
    if isinstance(catalog, str | Path):
        return columns.read(local_copy(catalog))
    table = catalog.to_arrow() if isinstance(catalog, FluxTable) else catalog
    return columns.read(table_at_hand(table, "catalog"))
