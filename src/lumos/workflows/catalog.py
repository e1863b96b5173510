"""Make a parent catalogue where none exists."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from lumos import __version__
from lumos.catalogs.parent import COLUMNS, ParentCatalog, write_parent
from lumos.catalogs.tables import write_table
from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosError
from lumos.files import check_parquet_name, file_sha256, whole_file
from lumos.flags import CatalogFlag
from lumos.images.exposure import Exposure
from lumos.images.reader import list_detectors, read_exposure
from lumos.images.wcs import unit_vectors
from lumos.report.pictures import draw_catalog
from lumos.runs.locks import lock_file, locked
from lumos.runs.outputs import finished_table
from lumos.sources.completeness import measure_completeness
from lumos.sources.settings import CatalogSettings
from lumos.sources.shapes import DetectedCatalog, make_parent_catalog
from lumos.surveys import Survey
from lumos.threads import one_thread

__all__ = ["catalog_of", "make_catalog"]

Progress = Callable[[int, int, str], None]

#: Entries of several CCDs within so many arcsec are one object.
_SAME = 1.0
#: Largest half-light radius in pixels of the galaxies that are put into the image.
_MAX_RADIUS = 4.0
#: Columns of the quality table beside identifier, detector and flags.
_QUALITY = ("x", "y", "flux", "flux_err", "reduced_chi2", "footprint_chi2", "fitted_index")


@locked(lock_file)
@one_thread()
def make_catalog(
    images: Path | Sequence[Path],
    out: Path,
    survey: Survey,
    settings: CatalogSettings,
    *,
    psf_dir: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> str:
    """Detect objects in images and write a parent catalogue, its quality table and a picture of each CCD.

    Parameters
    ----------
    images : Path or sequence of Path
        FITS files; of objects that several of them, or of their CCDs, show within 1 arcsec, the entry with the best
        signal-to-noise ratio stays.
    out : Path
        Parquet file; ``.quality.parquet`` and ``.png`` (with the name of exposure and CCD, where there are several)
        are written beside it. The exposures are written into its metadata, and how complete it is.
    survey : Survey
        How to read the images.
    settings : CatalogSettings
        Thresholds.
    psf_dir : Path, optional
        Folder with PSF models.
    overwrite : bool, optional
        Make it again even if it is there.
    progress : callable, optional
        Told after each few hundred objects.

    Returns
    -------
    str
        A few words for the user: the files, the number of objects, how complete they are.

    Raises
    ------
    LumosDataError
        If on no CCD a PSF is known and something is found.
    LumosConfigError
        If ``out`` is something else, or a catalogue of another image or other settings.
    LumosError
        If it could not be made on some of the CCDs; that of the others is written all the same.
    LumosValueError
        If ``out`` does not end in ``.parquet``.
    """
    check_parquet_name(out)
    files = [images] if isinstance(images, Path) else list(images)
    identity = _identity(files, survey, settings, psf_dir)
    before = None if overwrite else finished_table(out, "catalog", identity, "give a new --out, or overwrite it")
    if before is not None and not before[1]["failed"] and out.with_suffix(".quality.parquet").is_file():
        return _summary(out, *before) + " (finished before)"
    out.parent.mkdir(parents=True, exist_ok=True)
    parts: list[_Part] = []
    failed: list[str] = []
    ccds = list(_ccds(files, survey, failed))
    for image, detector in ccds:
        try:
            for exposure in read_exposure(image, survey, psf_dir=psf_dir, detector=detector):
                name = _name(exposure, ccds)
                part = _catalog_of(exposure, name, settings, progress)
                _draw(out.with_suffix(f".{name}.png" if len(ccds) > 1 else ".png"), exposure, part)
                parts.append(part)
        except LumosError as error:
            failed.append(f"detector {detector}: {error}" if len(ccds) > 1 else str(error))
    if not parts:
        raise LumosDataError("; ".join(failed))
    catalog, quality = _joined(parts)
    facts = {"catalog": identity, "failed": failed, "completeness": {part.name: part.facts for part in parts}}
    write_table([quality], out.with_suffix(".quality.parquet"))
    write_parent(catalog, out, facts)
    if failed:
        raise LumosError(f"{out}: {len(failed)} of {len(parts) + len(failed)} CCDs are missing: {'; '.join(failed)}")
    return _summary(out, len(catalog), facts)


@one_thread()
def catalog_of(exposures: Iterable[Exposure], settings: CatalogSettings) -> ParentCatalog:
    """Detect objects in exposures, and write nothing.

    Parameters
    ----------
    exposures : iterable of Exposure
        CCDs of one exposure, with PSFs; objects that several of them show are entered once.
    settings : CatalogSettings
        Thresholds.

    Returns
    -------
    ParentCatalog
        As :func:`make_catalog` writes it.

    Raises
    ------
    LumosDataError
        If a PSF is missing or nothing is found.
    """
    made = ((exposure, make_parent_catalog(exposure, settings)) for exposure in exposures)
    return _joined([_part(exposure, part, exposure.detector, {}) for exposure, part in made])[0]


@dataclass(frozen=True)
class _Part:
    """The catalogue of one CCD; ``name`` is that of the CCD, with the exposure's where there are several."""

    name: str
    exposure_id: str
    detector: str
    made: DetectedCatalog
    snr: FloatArray
    facts: dict[str, object]


def _part(exposure: Exposure, made: DetectedCatalog, name: str, facts: dict[str, object]) -> _Part:
    return _Part(name, exposure.exposure_id, exposure.detector, made, made.flux / made.flux_err, facts)


def _ccds(files: Sequence[Path], survey: Survey, failed: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield each file with each of its CCDs; say of those that cannot be read why."""
    for file in files:
        try:
            yield from ((file, detector) for detector in list_detectors(file, survey))
        except LumosError as error:
            if len(files) == 1:
                raise
            failed.append(str(error))


def _name(exposure: Exposure, ccds: Sequence[tuple[Path, str]]) -> str:
    """Return what a CCD is called among those of a catalogue."""
    files = [file for file, _ in ccds]
    if len(set(files)) == 1:
        return exposure.detector
    several = files.count(exposure.path) > 1
    return f"{exposure.exposure_id}_{exposure.detector}" if several else exposure.exposure_id


def _identity(
    files: Sequence[Path], survey: Survey, settings: CatalogSettings, psf_dir: Path | None
) -> dict[str, object]:
    """Return what a catalogue is made from."""
    tables = [] if psf_dir is None else [psf_dir / name for name in ("psf.parquet", "psf.ecsv")]
    table = next((path for path in tables if path.is_file()), None)
    psf = None if psf_dir is None else file_sha256(table) if table else str(psf_dir.resolve())
    return {
        "version": __version__,
        "image": file_sha256(files[0]) if len(files) == 1 else [file_sha256(file) for file in files],
        "survey": survey.model_dump(mode="json"),
        "psf": psf,
        "settings": settings.model_dump(mode="json"),
    }


def _catalog_of(exposure: Exposure, name: str, settings: CatalogSettings, progress: Progress | None) -> _Part:
    """Make the catalogue of one CCD and find out how complete it is."""
    made = make_parent_catalog(exposure, settings, progress)
    sound = ~made.doubtful & ((made.flags & int(CatalogFlag.POINT_SOURCE)) == 0)
    radii = made.catalog.half_light_radius[sound] / exposure.pixel_scale
    radius = float(np.median(radii)) if sound.any() else 1.0
    complete = measure_completeness(exposure, settings, min(radius, _MAX_RADIUS), np.random.default_rng(0))
    zeropoint = exposure.zeropoint
    limits = {
        f"mag_{share}": float(zeropoint - 2.5 * np.log10(flux)) if flux > 0 else float("nan")
        for share, flux in (("50", complete.flux_50), ("90", complete.flux_90))
    }
    facts = {**asdict(complete), **limits, "n_objects": len(made.catalog), "n_false": made.n_false}
    return _part(exposure, made, name, facts)


def _joined(parts: Sequence[_Part]) -> tuple[ParentCatalog, pa.Table]:
    """Join the CCDs; of entries of several CCDs at one place the one with the best signal-to-noise ratio stays."""
    arrays = {
        name: np.concatenate([getattr(part.made.catalog, name) for part in parts]) for name in (*COLUMNS, "flags")
    }
    number = np.repeat(np.arange(len(parts)), [len(part.snr) for part in parts])
    snr = np.concatenate([part.snr for part in parts])
    keep = np.ones(len(snr), dtype=np.bool_)
    if len(parts) > 1:
        tree = cKDTree(unit_vectors(arrays["ra"], arrays["dec"]))
        pairs = tree.query_pairs(np.deg2rad(_SAME / 3600), output_type="ndarray")
        pairs = pairs[number[pairs[:, 0]] != number[pairs[:, 1]]]
        first, second = pairs.T
        keep[np.where(snr[first] >= snr[second], second, first)] = False
    arrays = {name: values[keep] for name, values in arrays.items()}
    arrays["object_id"] = np.arange(1, len(arrays["ra"]) + 1)
    made_from = tuple(dict.fromkeys(exposure for part in parts for exposure in part.made.catalog.made_from))
    catalog = ParentCatalog(**arrays, made_from=made_from)
    quality = {name: np.concatenate([getattr(part.made, name) for part in parts]) for name in _QUALITY}
    quality = {name: values[keep] for name, values in quality.items()}
    names = {
        name: np.array([getattr(part, name) for part in parts], dtype=object)[number[keep]].tolist()
        for name in ("exposure_id", "detector")
    }
    table = {"object_id": catalog.object_id, **names, **quality, "flags": catalog.flags}
    return catalog, pa.table(table)


def _summary(out: Path, n: int, facts: Mapping[str, Any]) -> str:
    """Return what a user is told of a catalogue."""
    parts = facts["completeness"]
    false = sum(part["n_false"] for part in parts.values())
    told = [f"{out}: {n} objects, about {false} of them noise"]
    for name, part in parts.items():
        limit = (
            f"magnitude {part['mag_50']:.2f} (90 %: {part['mag_90']:.2f})"
            if np.isfinite(part["mag_50"])
            else f"flux {part['flux_50']:.4g} (90 %: {part['flux_90']:.4g})"
        )
        where = "" if len(parts) == 1 else f"CCD {name}: "
        told.append(f"{where}of {part['n']} galaxies put into the image, half are found at {limit}")
    pictures = out.with_suffix(".png" if len(parts) == 1 else ".*.png")
    told.append(f"quality table {out.with_suffix('.quality.parquet')}, picture {pictures}")
    return "; ".join(told)


def _draw(path: Path, exposure: Exposure, part: _Part) -> None:
    """Draw a CCD's detections, whole or not at all."""
    made = part.made
    radius = made.catalog.half_light_radius / exposure.pixel_scale
    zeropoint = exposure.zeropoint if np.isfinite(exposure.zeropoint) else 0.0
    magnitude = zeropoint - 2.5 * np.log10(np.where(made.flux > 0, made.flux, np.nan))
    with whole_file(path) as temporary:
        draw_catalog(
            temporary,
            exposure.data,
            (made.x, made.y, radius, radius * made.catalog.axis_ratio, made.theta),
            (magnitude, made.catalog.half_light_radius, part.snr),
            made.doubtful,
        )
