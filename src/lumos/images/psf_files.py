"""Find and read the PSF that belongs to an exposure, as the survey describes it."""

import glob
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np

from lumos.errors import LumosDataError
from lumos.images.companions import find_sidecar
from lumos.images.fitsfile import file_stem
from lumos.images.header import Facts
from lumos.images.psf import MoffatModel, PsfModel, load_stamp_psf, read_psf_table
from lumos.images.psfex import load_psfex
from lumos.images.sdss import load_psfield
from lumos.surveys import Survey

__all__ = ["FoundPsf", "find_psf"]

#: Names of the table that ``lumos psf`` writes.
_TABLES = ("psf.parquet", "psf.ecsv")


@dataclass(frozen=True)
class FoundPsf:
    """The PSF of an exposure and where it came from.

    Parameters
    ----------
    model : PsfModel or None
        None where there is none.
    origin : str
        In words, for the provenance.
    path : Path or None
        File that it was read from.
    """

    model: PsfModel | None
    origin: str
    path: Path | None = None


def find_psf(
    survey: Survey, facts: Facts, image: Path, psf_dir: Path | None, *, shape: tuple[int, int], pixel_scale: float
) -> FoundPsf:
    """Find the PSF of one CCD.

    A table of Moffats in ``psf_dir`` comes before the survey's own source: whoever measured the PSF means it.

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
    pixel_scale : float
        Arcsec per pixel.

    Returns
    -------
    FoundPsf
        With a model of None where there is no PSF, or no usable one, for this CCD.

    Raises
    ------
    LumosDataError
        If a PSF file is damaged, or several match.
    """
    folder = image.parent if psf_dir is None else psf_dir
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    if table is not None and (psf_dir is not None or survey.psf.kind == "table"):
        model = read_psf_table(table).model(facts.exposure_id, facts.detector, pixel_scale)
        return FoundPsf(model, f"table {table.name}" if model else f"none: no usable row in {table.name}", table)
    if survey.psf.kind == "header":
        return _from_header(survey, facts, pixel_scale)
    if survey.psf.kind in {"none", "table"}:
        return FoundPsf(None, f"none: survey {survey.name} ships no PSF and there is no {' or '.join(_TABLES)}")
    path = _psf_file(survey, facts, image, folder)
    if path is None:
        return FoundPsf(None, f"none: no {survey.psf.kind} file found")
    return FoundPsf(_load(survey, facts, path, shape), survey.psf.kind, path)


def _from_header(survey: Survey, facts: Facts, pixel_scale: float) -> FoundPsf:
    """Return a Moffat with the header's FWHM; none where it is absent or not positive (a failed measurement)."""
    fwhm = facts.psf_fwhm / (pixel_scale if survey.psf.unit == "arcsec" else 1.0)
    if not (np.isfinite(fwhm) and fwhm > 0):
        return FoundPsf(
            None, f"none: header FWHM {facts.psf_fwhm}, keys tried: {', '.join(survey.header.psf_fwhm.keys)}"
        )
    beta = facts.psf_beta if np.isfinite(facts.psf_beta) else survey.psf.beta
    return FoundPsf(MoffatModel(fwhm, beta), f"header FWHM, Moffat beta {beta:g}")


def _psf_file(survey: Survey, facts: Facts, image: Path, folder: Path) -> Path | None:
    """Return the one PSF file of a CCD, by the survey's substitutions and then by its patterns."""
    sidecar = find_sidecar(folder / image.name, survey.psf.sidecar)
    if sidecar is not None:
        return sidecar
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
            found = [] if Path(name).is_absolute() else sorted(folder.glob(name))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            allowed = ", ".join(known)
            raise LumosDataError(
                f"survey {survey.name}: PSF pattern {pattern!r}: {error}, allowed: {allowed}"
            ) from error
        if Path(name).is_absolute():
            raise LumosDataError(
                f"survey {survey.name}: PSF pattern {pattern!r}: absolute, allowed: relative to {folder}"
            )
        if len(found) > 1:
            raise LumosDataError(f"{image}: {len(found)} PSF files match {name!r} below {folder}, allowed: 1")
        if found:
            return found[0]
    return None


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
    return load_stamp_psf(path, sampling=survey.psf.sampling, includes_pixel=survey.psf.includes_pixel)
