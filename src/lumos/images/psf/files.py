"""Find and read the PSF that belongs to an exposure, as the survey describes it."""

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError
from lumos.images.companions import find_sidecar
from lumos.images.fits.file import file_stem, has_extension
from lumos.images.header import Facts
from lumos.images.lsst.psf import load_lsst_psf
from lumos.images.psf.models import PsfModel, load_stamp_psf
from lumos.images.psf.moffat import pixel_side, round_moffat
from lumos.images.psf.psfex import load_psfex
from lumos.images.psf.sdss import load_psfield
from lumos.images.psf.table import TableRow, read_psf_table
from lumos.surveys import Survey

__all__ = ["FoundPsf", "find_psf", "psf_from_header", "psf_from_rows"]

#: Names of the table that ``lumos psf`` writes.
_TABLES = ("psf.parquet", "psf.ecsv")
#: Rows of a table that a message shows.
_SHOWN = 3


@dataclass(frozen=True)
class FoundPsf:
    """The PSF of an exposure and where it came from.

    Parameters
    ----------
    model : PsfModel or None
        None where there is none.
    origin : str
        In words, for the provenance: where it came from, or what was looked for and what was found.
    path : Path or None
        File that it was read from.
    """

    model: PsfModel | None
    origin: str
    path: Path | None = None


def find_psf(
    survey: Survey,
    facts: Facts,
    image: Path,
    psf_dir: Path | None,
    *,
    shape: tuple[int, int],
    jacobian: FloatArray,
) -> FoundPsf:
    """Find the PSF of one CCD.

    A table in ``psf_dir`` comes before the survey's own source: whoever measured the PSF means it.

    Parameters
    ----------
    survey : Survey
        Its ``psf`` entry tells where to look.
    facts : Facts
        Identifiers and header FWHM of the CCD.
    image : Path
        File of the image.
    psf_dir : Path or None
        Folder of PSF files; None: the image's own.
    shape : tuple of int
        Shape of the image, (ny, nx).
    jacobian : float array, shape (2, 2)
        From pixels to the sky at the centre of the image, arcsec per pixel.

    Returns
    -------
    FoundPsf
        With a model of None where there is no PSF, or no usable one, for this CCD.

    Raises
    ------
    LumosDataError
        If a PSF file is damaged, several match, or a FWHM can be none.
    """
    folder = image.parent if psf_dir is None else psf_dir
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    if table is not None and (psf_dir is not None or survey.psf.kind == "table"):
        rows, ccd = read_psf_table(table), (facts.exposure_id, facts.detector)
        named = _named_in(table, rows.get(ccd), shape)
        return psf_from_rows(survey, ccd, rows, table, jacobian) if named is None else named
    if survey.psf.kind == "header":
        own = survey.psf.extension
        if own is None or not has_extension(image, own):
            return psf_from_header(survey, facts, image, jacobian)
        return FoundPsf(load_stamp_psf(image, extension=own, sampling=survey.psf.sampling), "stamp", image)
    if survey.psf.kind in {"none", "table"}:
        text = f"none: survey {survey.name} ships no PSF, and {folder} has no {' or '.join(_TABLES)} (`lumos psf`)"
        return FoundPsf(None, text)
    return _from_file(survey, facts, image, folder, shape)


def _from_file(survey: Survey, facts: Facts, image: Path, folder: Path, shape: tuple[int, int]) -> FoundPsf:
    """Return the PSF of a file beside the image, or of the image's own."""
    own = survey.psf.extension is not None and not survey.psf.files and not survey.psf.sidecar
    if own and not has_extension(image, str(survey.psf.extension)):
        return FoundPsf(None, f"none: no extension {survey.psf.extension} in the image's file")
    path, tried = (image, []) if own else _psf_file(survey, facts, image, folder)
    if path is None and survey.psf.kind == "lsst":
        model, origin = load_lsst_psf(image)
        return FoundPsf(model, origin, image if model is not None else None)
    if path is None:
        return FoundPsf(None, f"none: no {survey.psf.kind} file in {folder}, tried: {', '.join(tried) or 'nothing'}")
    return FoundPsf(_load(survey, facts, path, shape), survey.psf.kind, path)


def _named_in(table: Path, row: TableRow | None, shape: tuple[int, int]) -> FoundPsf | None:
    """Return the PSFEx model that a row of a table names, if it does."""
    if row is None or not row.file:
        return None
    if Path(row.file).name != row.file:
        raise LumosDataError(f"{table}: file {row.file!r}, allowed: the name of a file in the table's folder")
    path = table.parent / row.file
    return FoundPsf(load_psfex(path, shape), f"{row.file}, named in {table.name}", path)


def psf_from_rows(
    survey: Survey,
    ccd: tuple[str, str],
    rows: Mapping[tuple[str, str], TableRow],
    path: Path,
    jacobian: FloatArray,
) -> FoundPsf:
    """Return the Moffat of a table's row; none where there is no row, or one without numbers (a failed fit).

    Parameters
    ----------
    survey : Survey
        Whether a Moffat is that of stars on pixels, where the row does not say.
    ccd : tuple of str
        Exposure and detector.
    rows : mapping
        Rows of the table, by exposure and detector.
    path : Path
        Its file, for messages.
    jacobian : float array, shape (2, 2)
        From pixels to the sky at the centre of the image, arcsec per pixel.

    Returns
    -------
    FoundPsf
        With a model of None where there is no usable PSF.

    Raises
    ------
    LumosDataError
        If the FWHM can be none.
    """
    what = f"exposure {ccd[0]}, detector {ccd[1]}"
    row = rows.get(ccd)
    if row is None:
        known = [" ".join(key) for key in rows]
        text = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
        return FoundPsf(None, f"none: no row for {what} in {path}, which has {len(known)}: {text}", path)
    if not (np.isfinite(row.fwhm) and row.fwhm > 0 and np.isfinite(row.beta) and row.beta > 1):
        return FoundPsf(None, f"none: {path}: FWHM {row.fwhm} arcsec, beta {row.beta} for {what}", path)
    on_pixels = survey.psf.includes_pixel if row.includes_pixel is None else row.includes_pixel
    fwhm = row.fwhm / pixel_side(jacobian)
    model = round_moffat(path, fwhm, row.beta, jacobian, on_pixels=on_pixels, beta_on_pixels=on_pixels)
    return FoundPsf(model, f"table {path.name}", path)


def psf_from_header(survey: Survey, facts: Facts, image: Path, jacobian: FloatArray) -> FoundPsf:
    """Return a Moffat with the header's FWHM; none where it is absent or not positive (a failed measurement).

    Parameters
    ----------
    survey : Survey
        Unit and meaning of the FWHM.
    facts : Facts
        FWHM and exponent.
    image : Path
        File of the image, for messages.
    jacobian : float array, shape (2, 2)
        From pixels to the sky at the centre of the image, arcsec per pixel.

    Returns
    -------
    FoundPsf
        With a model of None where there is no usable PSF.
    """
    keys = ", ".join(survey.header.psf_fwhm.keys)
    if not (np.isfinite(facts.psf_fwhm) and facts.psf_fwhm > 0):
        found = "no FWHM in the header" if np.isnan(facts.psf_fwhm) else f"the header's FWHM is {facts.psf_fwhm:g}"
        return FoundPsf(None, f"none: {found}, keys tried: {keys}")
    on_sky = survey.psf.unit == "arcsec"
    fwhm = facts.psf_fwhm / (pixel_side(jacobian) if on_sky else 1.0)
    stated = bool(np.isfinite(facts.psf_beta))
    beta = facts.psf_beta if stated else survey.psf.beta
    on_pixels = survey.psf.includes_pixel if facts.psf_pixel is None else facts.psf_pixel
    grid = jacobian if on_sky else np.eye(2)
    try:
        model = round_moffat(image, fwhm, beta, grid, on_pixels=on_pixels, beta_on_pixels=stated and on_pixels)
    except LumosDataError as error:
        # `lumos psf` must be able to read the image, to make a better one.
        return FoundPsf(None, f"none: {error}")
    where = "on pixels" if on_pixels else "before the pixel"
    return FoundPsf(model, f"header FWHM {where}, Moffat beta {beta:g}")


def _psf_file(survey: Survey, facts: Facts, image: Path, folder: Path) -> tuple[Path | None, list[str]]:
    """Return the one PSF file of a CCD, by the survey's substitutions and then by its patterns, and what was tried."""
    sidecar = find_sidecar(folder / image.name, survey.psf.sidecar)
    if sidecar is not None:
        return sidecar, []
    tried = [re.sub(rule.find, rule.replace, image.name) for rule in survey.psf.sidecar]
    tried = [name for name in tried if name != image.name]
    stem = file_stem(image)
    base = stem.removesuffix(facts.detector).rstrip("._-") if stem.endswith(facts.detector) else stem
    known = {
        "exposure_id": facts.exposure_id,
        "detector": facts.detector,
        "band": facts.band,
        "stem": stem,
        "base": base,
    }
    for pattern in survey.psf.files:
        try:
            name = _filled(pattern, known)
            found = [] if Path(name).is_absolute() else sorted(folder.glob(name)) or sorted(folder.glob(f"{name}.gz"))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            text = f"survey {survey.name}: PSF pattern {pattern!r}: {error}"
            raise LumosDataError(f"{text}, allowed: {', '.join(known)}") from error
        if Path(name).is_absolute():
            text = f"survey {survey.name}: PSF pattern {pattern!r}: absolute"
            raise LumosDataError(f"{text}, allowed: relative to {folder}")
        if len(found) > 1:
            raise LumosDataError(f"{image}: {len(found)} PSF files match {name!r} below {folder}, allowed: 1")
        if found:
            return found[0], tried
        tried.append(name)
    return None, tried


def _filled(pattern: str, known: dict[str, str]) -> str:
    """Fill in a pattern; only its own stars are wild, not brackets in a file name."""
    # A format as {stem:>1000000000} would fill the memory.
    if any(spec or conversion for _, _, spec, conversion in Formatter().parse(pattern)):
        raise ValueError("a format after the name")
    return pattern.format(**{key: glob.escape(value) for key, value in known.items()})


def _load(survey: Survey, facts: Facts, path: Path, shape: tuple[int, int]) -> PsfModel:
    """Read a PSF file of the survey's kind."""
    if survey.psf.kind == "psfex":
        return load_psfex(path, shape, exposure_id=facts.exposure_id, detector=facts.detector)
    if survey.psf.kind == "sdss":
        return load_psfield(path, facts.band, shape)
    return load_stamp_psf(
        path, extension=survey.psf.extension, sampling=survey.psf.sampling, includes_pixel=survey.psf.includes_pixel
    )
