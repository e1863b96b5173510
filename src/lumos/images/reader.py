"""Read exposures: one checked :class:`Exposure` per CCD, one at a time."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from lumos.conventions import Float32Array
from lumos.errors import LumosDataError
from lumos.files import file_sha256
from lumos.flags import MaskPlane
from lumos.images.companions import Science, canonical_mask, open_companion, to_variance
from lumos.images.exposure import Exposure
from lumos.images.fits.file import image_shape, open_fits, read_float_image, read_integer_image
from lumos.images.header import identifier, read_facts
from lumos.images.lookup import HeaderLookup
from lumos.images.lsst.archive import archive_facts
from lumos.images.psf.files import find_psf
from lumos.images.read_wcs import celestial_wcs
from lumos.images.sdss import read_frame_noise, read_span_mask
from lumos.images.wcs import pixel_jacobian, pixel_scale_at
from lumos.images.zeropoint import find_zeropoint
from lumos.surveys import MaskSource, NoiseSource, SkySource, Survey, VarianceSource

__all__ = ["clean_pixels", "list_detectors", "read_exposure", "read_exposure_id"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """A mask, variance or sky, with where it came from and what else it tells."""

    image: Any
    origin: str
    path: Path | None = None
    includes_sources: bool = False
    sky: Float32Array | None = None
    gain: float | None = None
    read_noise: float | None = None


def list_detectors(path: Path, survey: Survey) -> list[str]:
    """List the CCDs of a file from its headers alone.

    Parameters
    ----------
    path : Path
        FITS file, which may be compressed.
    survey : Survey
        How to read it.

    Returns
    -------
    list of str
        Detectors in the order of the file.

    Raises
    ------
    LumosDataError
        If the file is damaged, holds no image, or two images have one detector name.
    """
    with open_fits(Path(path), checksum="ignore") as hdul:
        return [name for name, _ in _sciences(Path(path), hdul, survey)]


def read_exposure_id(path: Path, survey: Survey) -> str:
    """Return the identifier of the exposure in a file; the file is opened only where its header holds it.

    Parameters
    ----------
    path : Path
        FITS file, which may be compressed.
    survey : Survey
        How to read it.

    Returns
    -------
    str
        Safe as a file name.

    Raises
    ------
    LumosDataError
        If the file is missing or damaged, or the identifier is not fit to name a file.
    """
    entry = survey.header.exposure_id
    if not path.is_file():
        raise LumosDataError(f"{path}: no such file")
    if not entry.keys:
        return identifier(HeaderLookup(path, Header(), Header()), "exposure_id", entry)
    with open_fits(path, checksum="ignore") as hdul:
        found = {identifier(science.lookup, "exposure_id", entry) for _, science in _sciences(path, hdul, survey)}
    if len(found) > 1:
        raise LumosDataError(f"{path}: holds several exposures: {', '.join(sorted(found))}")
    return found.pop()


def read_exposure(
    path: Path,
    survey: Survey,
    *,
    psf_dir: Path | None = None,
    detector: str | None = None,
) -> Iterator[Exposure]:
    """Read the CCDs of a file one after the other, so that memory holds one at a time.

    Parameters
    ----------
    path : Path
        FITS file: plain, multi-extension, tile-compressed (``.fz``), or packed (gz, bz2, xz, zip).
    survey : Survey
        How to read it.
    psf_dir : Path or None
        Folder of PSF files or of a table written by ``lumos psf``; None: the image's own folder.
    detector : str or None
        Only this CCD.

    Returns
    -------
    iterator of Exposure
        One per CCD. The file is opened when the first is asked for.

    Raises
    ------
    LumosDataError
        If anything about the file is wrong: missing, damaged or truncated file, missing header key, unknown
        band, no usable WCS, companions of another shape, no such detector. The message names the file.
    """
    path = Path(path)
    if psf_dir is not None and not Path(psf_dir).is_dir():
        raise LumosDataError(f"{psf_dir}: no such folder (PSF files)")
    if not path.exists():
        raise LumosDataError(f"{path}: no such file")
    return _read(path, survey, None if psf_dir is None else Path(psf_dir), detector)


def _read(path: Path, survey: Survey, psf_dir: Path | None, detector: str | None) -> Iterator[Exposure]:
    with open_fits(path, checksum=survey.image.checksum) as hdul:
        sciences = _sciences(path, hdul, survey)
        names = [name for name, _ in sciences]
        if detector is not None and detector not in names:
            raise LumosDataError(f"{path}: no detector {detector!r}, the file has: {', '.join(names)}")
        for name, science in sciences:
            if detector is None or name == detector:
                yield _read_one(science, survey, psf_dir)


def _sciences(path: Path, hdul: Any, survey: Survey) -> list[tuple[str, Science]]:  # noqa: ANN401
    """Return the science images of a file by detector."""
    if survey.image.extensions == "all":
        sources = (*survey.mask, *survey.variance, *survey.sky, *survey.noise)
        named = {str(name).upper() for source in sources for name in source.extension if not source.sidecar}
        named |= {name.upper() for name in (*survey.image.exclude, survey.psf.extension or "") if name}
        indices = [index for index, hdu in enumerate(hdul) if _is_image(hdu) and hdu.name.upper() not in named]
        tried = "any two-dimensional image"
    else:
        wanted = [str(name).upper() for name in survey.image.extensions]
        indices = [i for i, hdu in enumerate(hdul) if _is_image(hdu) and {hdu.name.upper(), str(i)} & set(wanted)]
        tried = ", ".join(wanted)
    if not indices:
        raise LumosDataError(f"{path}: no image for survey {survey.name}, tried: {tried}")
    versions = tuple(int(hdul[index].ver) for index in indices)
    tables = archive_facts(hdul, path)
    found: list[tuple[str, Science]] = []
    for index in indices:
        science = Science(path, hdul, index, versions, tables)
        name = identifier(science.lookup, "detector", survey.header.detector)
        if name in dict(found):
            text = f"{path}: two images of detector {name!r} for survey {survey.name}; give the camera's --survey"
            raise LumosDataError(f"{text} (`lumos surveys`), or a survey file with image.extensions or header.detector")
        found.append((name, science))
    return found


def _is_image(hdu: Any) -> bool:  # noqa: ANN401
    shape = image_shape(hdu)
    return len(shape) == 2 and min(shape) > 0


def _read_one(science: Science, survey: Survey, psf_dir: Path | None) -> Exposure:
    """Read one CCD and everything that belongs to it."""
    path, header = science.path, science.hdu.header
    lookup = science.lookup
    facts = read_facts(lookup, survey)
    wcs = celestial_wcs(header, path, science.shape, survey.pixel_scale, survey.pixel_scale_tolerance)
    scale = pixel_scale_at(wcs, science.shape)
    zeropoint, zeropoint_err = find_zeropoint(lookup, survey, facts, scale)
    data = read_float_image(science.hdu, path)
    mask_found = _mask(science, survey, lookup)
    mask = mask_found.image
    clean_pixels(data, mask, facts.saturation)
    noise = _variance(science, survey, data, mask)
    sky = _Found(noise.sky, "") if noise.sky is not None else _sky(science, survey, facts.sky_level)
    drawn = _image(science, survey.noise, survey)
    jacobian = pixel_jacobian(wcs, *(np.full(1, (length - 1) / 2) for length in science.shape[::-1]))[0]
    psf = find_psf(survey, facts, path, psf_dir, shape=science.shape, jacobian=jacobian)
    found = (mask_found.path, noise.path, sky.path, drawn.path, psf.path)
    files = tuple(sorted({path, *(item for item in found if item is not None)}))
    _LOGGER.debug("%s detector %s: mask %s, variance %s", path, facts.detector, mask_found.origin, noise.origin)
    return Exposure(
        exposure_id=facts.exposure_id,
        detector=facts.detector,
        survey=survey.name,
        band=facts.band,
        state=facts.state,
        data=data,
        mask=mask,
        wcs=wcs,
        pixel_scale=scale,
        psf=psf.model,
        variance=noise.image,
        variance_includes_sources=noise.includes_sources,
        gain=facts.gain if noise.gain is None else noise.gain,
        read_noise=facts.read_noise if noise.read_noise is None else noise.read_noise,
        sky=sky.image,
        noise_realization=drawn.image,
        sky_subtracted=survey.sky_subtracted,
        exposure_time=facts.exposure_time,
        zeropoint=zeropoint,
        zeropoint_err=zeropoint_err,
        path=path,
        files=files,
        provenance={
            "files": {item.name: file_sha256(item) for item in files},
            "mask": mask_found.origin,
            "variance": noise.origin,
            "psf": psf.origin,
            "flux_unit": survey.flux_unit,
            **({} if drawn.image is None else {"noise": drawn.origin}),
        },
    )


def clean_pixels(data: Float32Array, mask: NDArray[np.int32], saturation: float) -> None:
    """Mask what is not finite or is saturated, in place; the data become finite everywhere.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Pixels; what is not finite becomes 0.
    mask : int32 array, shape (ny, nx)
        Bits of :class:`lumos.flags.MaskPlane`.
    saturation : float
        Level from which a pixel is saturated, image units; NaN where unknown.
    """
    bad = ~np.isfinite(data)
    mask[bad] |= int(MaskPlane.NON_FINITE)
    if np.isfinite(saturation) and saturation > 0:
        mask[data >= saturation] |= int(MaskPlane.SATURATED)
    data[bad] = 0.0


def _mask(science: Science, survey: Survey, lookup: HeaderLookup) -> _Found:
    """Read the first mask that exists, in canonical planes."""
    for source in survey.mask:
        if not lookup.holds(source.when):
            continue
        with open_companion(science, source, survey.image.checksum) as found:
            if found is None:
                continue
            hdu, path = found
            if source.kind == "sdss_spans":
                return _Found(read_span_mask(path, source.planes, science.shape), path.name, path)
            _check_shape(hdu, path, science, source)
            mask = canonical_mask(read_integer_image(hdu, path), source, hdu.header, path)
            return _Found(mask, f"{path.name}[{hdu.name}], {source.kind}", path)
    return _Found(np.zeros(science.shape, dtype=np.int32), "none")


def _variance(science: Science, survey: Survey, data: Float32Array, mask: NDArray[np.int32]) -> _Found:
    """Read the first variance that exists; pixels without one are masked."""
    for source in survey.variance:
        with open_companion(science, source, survey.image.checksum) as found:
            if found is None:
                continue
            hdu, path = found
            if not HeaderLookup(path, hdu.header, hdu.header).holds(source.when):
                continue
            if source.kind == "sdss_sky":
                frame = read_frame_noise(science.hdul, science.path, path, data)
                noise = (frame.sky, frame.gain, frame.read_noise)
                return _Found(frame.variance, frame.origin, path, source.includes_sources, *noise)
            _check_shape(hdu, path, science, source)
            variance = to_variance(read_float_image(hdu, path), source, data, mask)
            return _Found(variance, f"{path.name}[{hdu.name}], {source.kind}", path, source.includes_sources)
    return _Found(None, "none")


def _sky(science: Science, survey: Survey, level: float) -> _Found:
    """Return the sky that was subtracted: an image, or the header's level as one pixel."""
    found = _image(science, survey.sky, survey)
    if found.image is not None or not np.isfinite(level):
        return found
    return _Found(np.full((1, 1), level, dtype=np.float32), "header")


def _image(science: Science, sources: Sequence[SkySource | NoiseSource], survey: Survey) -> _Found:
    """Read the first image that exists."""
    for source in sources:
        with open_companion(science, source, survey.image.checksum) as found:
            if found is not None:
                hdu, path = found
                _check_shape(hdu, path, science, source)
                return _Found(read_float_image(hdu, path), f"{path.name}[{hdu.name}]", path)
    return _Found(None, "none")


def _check_shape(
    hdu: Any,  # noqa: ANN401
    path: Path,
    science: Science,
    source: MaskSource | VarianceSource | SkySource | NoiseSource,
) -> None:
    """Refuse a companion of another shape than its image."""
    what = type(source).__name__.removesuffix("Source").lower()
    shape = image_shape(hdu) or None
    if shape != science.shape:
        raise LumosDataError(f"{path}[{hdu.name}]: {what} of shape {shape}, image of shape {science.shape}")
