"""Make a pool of background stamps from exposures: random places, whatever lies there; bad CCDs refused."""

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos import __version__
from lumos.background.noise import exposure_noise, pixel_noise
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError, one_line
from lumos.files import file_stamp, read_json
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.pools.facts import CcdFacts
from lumos.pools.places import RefusedError, draw_places, look
from lumos.pools.settings import BackgroundSettings
from lumos.pools.writer import METADATA, NewStamps, PoolWriter
from lumos.runs.locks import lock_folder
from lumos.runs.outputs import describe_changes
from lumos.statistics import LEVELS_68
from lumos.surveys import Survey

__all__ = ["BackgroundReport", "make_backgrounds"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
#: One pixel in so many tells an image that is filled with a constant.
_STRIDE = 17


@dataclass(frozen=True)
class BackgroundReport:
    """What a pool was made from.

    Parameters
    ----------
    n_stamps, n_used : int
        Stamps, and CCDs that they come from.
    refused : tuple of str
        One line for each CCD or file that was refused, with the reason.
    """

    n_stamps: int
    n_used: int
    refused: tuple[str, ...]


def make_backgrounds(
    exposures: Sequence[Path],
    out: Path,
    survey: Survey,
    settings: BackgroundSettings,
    *,
    psf_dir: Path | None = None,
    progress: Progress | None = None,
) -> BackgroundReport:
    """Cut random stamps from exposures into a pool; a pool that was begun is continued, a finished one kept.

    Parameters
    ----------
    exposures : sequence of Path
        FITS files of one survey.
    out : Path
        Folder of the pool; it is one when its metadata are there, which come last.
    survey : Survey
        How to read the exposures.
    settings : BackgroundSettings
        Which stamps, and which CCDs are refused.
    psf_dir : Path, optional
        Folder with PSF models.
    progress : callable, optional
        Told after each file.

    Returns
    -------
    BackgroundReport
        Numbers and refusals.

    Raises
    ------
    LumosValueError
        If there is no exposure.
    LumosDataError
        If a file does not exist, two have one name, or every CCD is refused.
    LumosConfigError
        If ``out`` holds something else than the pool of these files and settings.

    Notes
    -----
    A CCD is refused if too large a share of its pixels is masked; if it has no PSF, or one that is too narrow, too
    wide or wider than half a stamp; if it has no usable place; or if its pixel scatter is far from the median of
    its band. The stamps of a CCD do not depend on the other files.
    """
    identity = _identity(exposures, survey, settings, psf_dir)
    with lock_folder(out):
        if (out / METADATA).is_file():
            return _finished(out, identity)
        writer = PoolWriter(out, settings.side, identity)
        if any(_changed(entry["exposures"]) for entry in writer.entries):
            writer.abandon()
            writer = PoolWriter(out, settings.side, identity)
        done = {entry["file"] for entry in writer.entries}
        for number, path in enumerate(exposures):
            if path.name not in done:
                writer.add(path.name, _cut_file(path, survey, settings, psf_dir))
            if progress is not None:
                progress(number + 1, len(exposures), path.name)
        facts = _judge([facts for entry in writer.entries for facts in entry["exposures"]], settings)
        refused = _refusals(facts)
        for line in refused:
            logger.warning("refused: %s", line)
        n_used = len(facts) - len(refused)
        if n_used == 0:
            writer.abandon()
            raise LumosDataError(f"{out}: no stamp, every CCD was refused: {'; '.join(refused)}")
        writer.finish({"version": __version__, "inputs": identity}, facts)
        return BackgroundReport(sum(entry["n_stamps"] for entry in facts if entry["status"] == "used"), n_used, refused)


def _identity(
    exposures: Sequence[Path], survey: Survey, settings: BackgroundSettings, psf_dir: Path | None
) -> dict[str, object]:
    """Return what a pool is made from, as plain data."""
    if not exposures:
        raise LumosValueError("exposures", 0, "at least one file")
    files: dict[str, list[int]] = {}
    for path in exposures:
        if not path.is_file():
            raise LumosDataError(f"{path}: no such file")
        if path.name in files:
            raise LumosDataError(f"{path}: another file has the name {path.name!r}; names must differ")
        files[path.name] = list((file_stamp(path) or {}).values())
    return {
        "files": files,
        "survey": survey.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "psf_dir": None if psf_dir is None else str(psf_dir),
    }


def _finished(out: Path, identity: dict[str, object]) -> BackgroundReport:
    """Return the report of a pool that is there already, if it is the one that is asked for."""
    metadata = read_json(out / METADATA)
    changes = describe_changes(metadata.get("inputs", {}), identity)
    if changes:
        raise LumosConfigError(f"{out}: holds a pool of other files or settings ({changes}); give a new --out")
    facts = metadata["exposures"]
    changed = _changed(facts)
    if changed:
        raise LumosConfigError(f"{out}: {changed[0]} has changed since the pool was made; give a new --out")
    return BackgroundReport(metadata["n_stamps"], len(facts) - len(_refusals(facts)), _refusals(facts))


def _changed(facts: Sequence[CcdFacts]) -> list[str]:
    """Return the files that CCDs were read from (masks, variances, PSFs too) and that are not as they were."""
    files = {file: stamp for entry in facts for file, stamp in entry.get("files", {}).items()}
    return [file for file, stamp in files.items() if file_stamp(Path(file)) != stamp]


def _refusals(facts: Sequence[CcdFacts]) -> tuple[str, ...]:
    lines = ((f"{entry['file']} {entry['detector']}".strip(), entry) for entry in facts)
    return tuple(f"{name}: {entry['reason']}" for name, entry in lines if entry["status"] != "used")


def _cut_file(
    path: Path, survey: Survey, settings: BackgroundSettings, psf_dir: Path | None
) -> list[tuple[CcdFacts, NewStamps | None]]:
    """Cut the stamps of every CCD of a file; one that cannot be read is refused as a whole."""
    try:
        return [_cut_ccd(exposure, survey, settings) for exposure in read_exposure(path, survey, psf_dir=psf_dir)]
    except Exception as error:
        logger.debug("%s: failed", path, exc_info=True)
        facts: CcdFacts = {"detector": "", "survey": "", "band": "", "state": "", "noise_source": ""}
        facts |= _refusal(one_line(error))
        return [(facts | {"exposure_id": path.stem, "file": path.name}, None)]


def _refusal(reason: str) -> CcdFacts:
    return {"status": "refused", "reason": reason, "correlation": None, "n_stamps": 0}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _cut_ccd(exposure: Exposure, survey: Survey, settings: BackgroundSettings) -> tuple[CcdFacts, NewStamps | None]:
    """Cut the stamps of one CCD and gather what is known of it."""
    passband = survey.passband(exposure.band)
    facts: CcdFacts = {
        "exposure_id": exposure.exposure_id,
        "detector": exposure.detector,
        "survey": exposure.survey,
        "band": exposure.band,
        "state": exposure.state,
        "file": exposure.path.name,
        "files": {str(path): file_stamp(path) for path in map(Path.absolute, exposure.files)},
        "shape": list(exposure.shape),
        "noise_source": "",
        "wavelength": None if passband is None else passband.wavelength,
        "width": None if passband is None else passband.width,
        "masked": float(1 - good_pixels(exposure.mask).mean()),
        "pixel_scale": exposure.pixel_scale,
        "gain": _known(exposure.gain),
        "zeropoint": _known(exposure.zeropoint),
        "zeropoint_err": _known(exposure.zeropoint_err),
        "exposure_time": _known(exposure.exposure_time),
    }
    try:
        _check_psf(exposure, settings, facts)
        if facts["masked"] > settings.max_masked_exposure:
            limit = settings.max_masked_exposure
            raise RefusedError(f"{facts['masked']:.1%} of the pixels are masked, allowed: up to {limit:.1%}")
        low, high = np.quantile(exposure.data[good_pixels(exposure.mask)][::_STRIDE], LEVELS_68)
        if low == high:
            raise RefusedError(f"the pixels have no scatter (most are {low:g})")
        pixels = pixel_noise(exposure, settings.noise)
        noise = exposure_noise(exposure, pixels, settings.noise, settings.geometry.annulus)
        facts["noise_source"] = noise.source
        stamps, facts["scatter"] = _cut(exposure, noise.source, settings)
    except LumosError as error:
        return facts | _refusal(str(error)), None
    correlation = None if noise.correlation is None else noise.correlation.summary()
    return facts | {"status": "used", "reason": "", "correlation": correlation, "n_stamps": len(stamps)}, stamps


def _check_psf(exposure: Exposure, settings: BackgroundSettings, facts: CcdFacts) -> None:
    """Refuse a CCD without a PSF or with one that is too narrow or too wide."""
    if exposure.psf is None:
        raise RefusedError("no PSF is known (the survey names none; `lumos psf` makes one)")
    ny, nx = exposure.shape
    y, x = (axis.ravel() for axis in np.mgrid[0 : ny - 1 : 5j, 0 : nx - 1 : 5j])
    fwhm = exposure.psf.fwhm_at(x, y)
    if not np.isfinite(fwhm).any():
        raise RefusedError("the PSF has no finite width")
    pixels = float(np.nanmedian(fwhm))
    facts["psf_fwhm"] = pixels * exposure.pixel_scale
    if not settings.min_psf_fwhm <= facts["psf_fwhm"] <= settings.max_psf_fwhm:
        limits = f"{settings.min_psf_fwhm:g} to {settings.max_psf_fwhm:g}"
        raise RefusedError(f"the PSF's FWHM is {facts['psf_fwhm']:.3g} arcsec, allowed: {limits}")
    if 2 * pixels > settings.stamp_size:
        raise RefusedError(
            f"the PSF's FWHM is {pixels:.3g} px, allowed: up to half of the stamp's side, {settings.stamp_size} px"
        )


def _cut(exposure: Exposure, source: str, settings: BackgroundSettings) -> tuple[NewStamps, float]:
    """Cut stamps at random places; return them and the median scatter of their blank pixels."""
    assert exposure.psf is not None
    rng = np.random.default_rng([settings.seed, zlib.crc32(f"{exposure.exposure_id}/{exposure.detector}".encode())])
    x, y = draw_places(exposure, source, settings, rng)
    cutout, sky_variance = look(exposure, source, settings, x, y)
    has_map = source == "variance" and not exposure.variance_includes_sources
    stamps = NewStamps(
        data=cutout.stamps.data,
        mask=cutout.stamps.mask,
        sky_variance=sky_variance,
        x=x,
        y=y,
        ccd_shape=exposure.shape,
        psf=exposure.psf.at(x, y),
        psf_fwhm=exposure.psf.fwhm_at(x, y),
        variance=cutout.stamps.variance if has_map else None,
    )
    return stamps, float(cutout.background.scatter.median())


def _judge(facts: list[CcdFacts], settings: BackgroundSettings) -> list[CcdFacts]:
    """Refuse the CCDs whose pixel scatter is far from the median of their band."""
    used = [entry for entry in facts if entry["status"] == "used"]
    for band in {entry["band"] for entry in used}:
        members = [entry for entry in used if entry["band"] == band]
        calibrated = all(entry["zeropoint"] is not None for entry in members)
        scatter = np.array([entry["scatter"] * (_nanojansky(entry) if calibrated else 1.0) for entry in members])
        ratios = scatter / np.median(scatter)
        for entry, ratio in zip(members, ratios.tolist(), strict=True):
            entry["scatter_ratio"] = ratio
            limit = settings.max_scatter_ratio
            if not 1 / limit <= ratio <= limit:
                reason = f"the pixel scatter is {ratio:.3g} times the median of band {band}"
                entry |= {"status": "refused", "reason": f"{reason}, allowed: {1 / limit:.3g} to {limit:.3g}"}
    return facts


def _nanojansky(facts: CcdFacts) -> float:
    """Return the flux of 1 image unit."""
    zeropoint = facts["zeropoint"]
    assert zeropoint is not None  # of a band whose zero points are all known
    return float(10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)))
