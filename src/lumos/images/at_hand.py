"""Exposures from images in memory, checked as those from files are."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from astropy import units
from astropy.io.fits import Header
from astropy.io.fits.card import Undefined
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.table import Table
from astropy.wcs import WCS

from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, Float32Array, FloatArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.flags import MaskPlane
from lumos.images.companions import to_variance
from lumos.images.exposure import Exposure
from lumos.images.fits.file import card_value
from lumos.images.header import Facts, read_facts
from lumos.images.lookup import HeaderLookup
from lumos.images.psf.files import FoundPsf, find_psf, psf_from_header, psf_from_rows
from lumos.images.psf.models import PsfModel, StampModel
from lumos.images.psf.moffat import round_moffat
from lumos.images.psf.psfex import load_psfex
from lumos.images.psf.table import psf_rows
from lumos.images.read_wcs import check_wcs
from lumos.images.reader import clean_pixels
from lumos.images.wcs import pixel_jacobian, pixel_scale_at
from lumos.images.zeropoint import find_zeropoint
from lumos.surveys import HeaderEntry, Survey, VarianceSource

__all__ = ["check_exposure", "exposure_at_hand", "put_psf"]

#: Uncertainties of astropy by the survey file's word for them.
_UNCERTAINTIES = {StdDevUncertainty: "rms", VarianceUncertainty: "variance", InverseVariance: "ivar"}
#: Counts: their zero point is the header's.
_COUNTS = (units.adu, units.DN, units.electron, units.ct, units.photon, units.dimensionless_unscaled)
#: Zero points of the header and of the unit that differ by more, in magnitudes, contradict each other.
_SAME_ZEROPOINT = 0.01
#: A pixel scale that differs by this share from the WCS's is that of another image.
_SAME_SCALE = 0.03


def exposure_at_hand(image: CCDData, survey: Survey, name: str, psf_dir: Path | None = None) -> Exposure:
    """Make an exposure of an astropy image, as a file with the same header and pixels is read.

    Parameters
    ----------
    image : astropy.nddata.CCDData
        Data of shape (ny, nx) and, where they are known, a mask and an uncertainty (standard deviation, variance or
        inverse variance) of the same shape. Its WCS must be an ``astropy.wcs.WCS``; ``meta`` holds what the survey
        looks up in a header (band, zero point, exposure time, gain, FWHM of the PSF); ``psf``, an image, comes before
        that FWHM.
    survey : Survey
        Which keywords tell what, and whether the sky is in the data and the sources in the uncertainty.
    name : str
        What the image is, for messages; its identifier where the survey takes that from the file name.
    psf_dir : Path, optional
        Folder of PSF files.

    Returns
    -------
    Exposure
        Pixels are copied; a unit of flux, as nJy or MJy/sr, gives the zero point.

    Raises
    ------
    LumosShapeError
        If the data are no image, or mask, uncertainty or WCS belong to an image of another shape.
    LumosDataError
        If there is no usable WCS, a keyword is missing or wrong, the unit is none that an image can have, or it
        contradicts the header's zero point.
    """
    path = Path(name)
    lookup = HeaderLookup(path, _header(image.meta, survey, name), Header())
    data, shape = _pixels(image.data, name)
    facts = read_facts(lookup, survey)
    wcs = _checked_wcs(image.wcs, path, shape, survey)
    scale = pixel_scale_at(wcs, shape)
    zeropoint, zeropoint_err = _zeropoint(lookup, survey, facts, scale, image.unit)
    mask = _mask(image.mask, name, shape)
    clean_pixels(data, mask, facts.saturation)
    variance, includes_sources = _variance(image, survey, name, data, mask)
    jacobian = _jacobian(wcs, shape)
    if psf_dir is None and image.psf is not None:
        psf = FoundPsf(StampModel(np.asarray(image.psf)), "given with the image")
    elif psf_dir is not None:
        psf = find_psf(survey, facts, path, psf_dir, shape=shape, jacobian=jacobian)
    elif survey.psf.kind == "header":
        psf = psf_from_header(survey, facts, path, jacobian)
    else:
        psf = FoundPsf(None, f"none: survey {survey.name} takes it from a file, and the image has none; give psf")
    sky = np.full((1, 1), facts.sky_level, dtype=np.float32) if np.isfinite(facts.sky_level) else None
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
        variance=variance,
        variance_includes_sources=includes_sources,
        gain=_gain(facts, image.unit),
        read_noise=facts.read_noise,
        sky=sky,
        sky_subtracted=survey.sky_subtracted,
        exposure_time=facts.exposure_time,
        zeropoint=zeropoint,
        zeropoint_err=zeropoint_err,
        path=path,
        provenance={"files": {}, "psf": psf.origin, "flux_unit": str(image.unit)},
    )


def check_exposure(exposure: Exposure) -> Exposure:
    """Check an exposure that a caller put together.

    Parameters
    ----------
    exposure : Exposure
        Of any types of numbers.

    Returns
    -------
    Exposure
        Its arrays in the types that they must have.

    Raises
    ------
    LumosShapeError
        If mask, variance, sky or WCS belong to an image of another shape.
    LumosDataError
        If the WCS cannot be used, is not that of the pixel scale, or a pixel that the mask calls good is not finite.
    """
    name = str(exposure.path) if exposure.path != Path() else exposure.exposure_id
    exposure = replace(exposure, path=Path(name))
    data, shape = _pixels(exposure.data, name)
    for what in ("mask", "variance", "noise_realization"):
        values = getattr(exposure, what)
        if values is not None and np.shape(values) != shape:
            raise LumosShapeError(f"{name}: {what}", np.shape(values), f"{shape} of the image")
    try:
        np.broadcast_to(np.zeros(1) if exposure.sky is None else exposure.sky, shape)
    except ValueError as error:
        there = np.asarray(exposure.sky).shape
        raise LumosShapeError(f"{name}: sky", there, f"{shape} of the image, or (1, 1)") from error
    if np.asarray(exposure.mask).dtype.kind not in "iub":
        raise LumosDataError(f"{name}: mask holds {np.asarray(exposure.mask).dtype}, allowed: integers or truth values")
    mask = np.array(exposure.mask, dtype=np.int32)
    clean_pixels(data, mask, float("nan"))
    _checked_wcs(exposure.wcs, exposure.path, shape, None)
    scale = pixel_scale_at(exposure.wcs, shape)
    if not abs(exposure.pixel_scale / scale - 1) <= _SAME_SCALE:
        allowed = f"{scale:.5g} arcsec (the WCS's) within {100 * _SAME_SCALE:g} %"
        raise LumosDataError(f"{name}: pixel_scale is {exposure.pixel_scale}, allowed: {allowed}")
    variance = None
    if exposure.variance is not None:
        source = VarianceSource(kind="variance")
        variance = to_variance(np.array(exposure.variance, dtype=np.float32), source, data, mask)
    sky = None if exposure.sky is None else np.asarray(exposure.sky, dtype=np.float32)
    return replace(exposure, data=data, mask=mask, variance=variance, sky=sky)


def put_psf(exposure: Exposure, psf: object, survey: Survey) -> Exposure:
    """Return an exposure with a PSF that is at hand.

    Parameters
    ----------
    exposure : Exposure
        With or without a PSF.
    psf : float, Quantity, array, astropy Table or PsfModel
        FWHM of stars on pixels in arcsec (a Moffat with the exponent of the survey); an image, odd height and width, of
        which each sample is a pixel; a table as ``lumos psf`` writes; or a model.
    survey : Survey
        Moffat exponent; whether a Moffat is on pixels, where a table does not say.

    Returns
    -------
    Exposure
        The same exposure with this PSF.

    Raises
    ------
    LumosDataError
        If there is no such Moffat, or the table has no row for the exposure.
    LumosShapeError
        If the image is none that a PSF can have.
    LumosValueError
        If it is something else.
    """
    found = _psf_at_hand(exposure, psf, survey)
    if found.model is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known: {found.origin.removeprefix('none: ')}")
    return replace(exposure, psf=found.model, provenance={**exposure.provenance, "psf": found.origin})


def _psf_at_hand(exposure: Exposure, psf: object, survey: Survey) -> FoundPsf:
    jacobian = _jacobian(exposure.wcs, exposure.shape)
    if isinstance(psf, Table):
        rows, ccd = psf_rows(_psf_columns(psf), Path("psf")), (exposure.exposure_id, exposure.detector)
        file = rows[ccd].file if ccd in rows else ""
        if file:
            return FoundPsf(load_psfex(Path(file), exposure.shape), f"PSFEx model {file}", Path(file))
        return psf_from_rows(survey, ccd, rows, Path("psf"), jacobian)
    if hasattr(psf, "fwhm_at") and hasattr(psf, "at"):
        return FoundPsf(cast("PsfModel", psf), "given")
    if isinstance(psf, units.Quantity):
        if not psf.unit.is_equivalent(units.arcsec):
            raise LumosValueError("psf", psf, "a FWHM in arcsec or another angle")
        psf = psf.to_value(units.arcsec)
    values = np.asarray(psf)
    if values.dtype.kind not in "fiu":
        allowed = "a FWHM in arcsec, an image, a table of `lumos.psf` or a PSF model; for files also a folder"
        raise LumosValueError("psf", type(psf).__name__, allowed)
    if values.ndim:
        return FoundPsf(StampModel(values), "image, given")
    fwhm = float(values)
    if not (np.isfinite(fwhm) and fwhm > 0):
        raise LumosValueError("psf", fwhm, "a FWHM above 0, arcsec")
    scale = float(np.sqrt(np.abs(np.linalg.det(jacobian))))
    beta = survey.psf.beta
    model = round_moffat(exposure.path, fwhm / scale, beta, jacobian, on_pixels=True, beta_on_pixels=False)
    return FoundPsf(model, f"FWHM on pixels, given, Moffat beta {beta:g}")


def _psf_columns(table: Table) -> dict[str, list[Any]]:
    """Return the columns of a table of PSFs, the FWHM in arcsec."""
    # Columns of quantities become plain columns with a unit.
    plain = Table(table)
    for name in plain.colnames:
        unit = plain[name].unit
        if name == "fwhm_arcsec" and unit is not None:
            if not unit.is_equivalent(units.arcsec):
                raise LumosDataError(f"psf: column {name!r} is in {str(unit)!r}, allowed: arcsec or another angle")
            plain[name] = plain[name] * unit.to(units.arcsec)
    return {name: plain[name].tolist() for name in plain.colnames}


def _header(meta: Any, survey: Survey, name: str) -> Header:  # noqa: ANN401
    """Return the cards that the survey looks up, of a header or of any mapping."""
    header = Header()
    known = {str(key).upper(): key for key in meta}
    entries = (getattr(survey.header, item) for item in type(survey.header).model_fields)
    for entry in entries:
        for key in cast("HeaderEntry", entry).keys:
            value = card_value(meta, known[key.upper()], Path(name)) if key.upper() in known else None
            value = value.item() if isinstance(value, np.generic) else value
            if value is None or isinstance(value, Undefined) or value != value:  # noqa: PLR0124 (NaN: unknown)
                continue
            if not isinstance(value, str | int | float):
                raise LumosDataError(f"{name}: {key} is {value!r}, allowed: text, a number or a truth value")
            header[key if len(key) <= 8 and " " not in key else f"HIERARCH {key}"] = value
    return header


def _pixels(values: Any, name: str) -> tuple[Float32Array, tuple[int, int]]:  # noqa: ANN401
    """Return a copy of the pixels as native, contiguous float32, and its shape."""
    data = np.asarray(values)
    if data.ndim != 2 or 0 in data.shape:
        raise LumosShapeError(f"{name}: image", data.shape, "two axes (ny, nx)")
    if data.dtype.kind not in "fiu":
        raise LumosDataError(f"{name}: the image holds {data.dtype}, allowed: real numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(data, dtype=np.float32, order="C", copy=True), (data.shape[0], data.shape[1])


def _checked_wcs(wcs: object, path: Path, shape: tuple[int, int], survey: Survey | None) -> WCS:
    """Return a WCS after the checks of one from a header, and that it is that of an image of this shape."""
    if not isinstance(wcs, WCS):
        raise LumosDataError(f"{path}: its WCS is {type(wcs).__name__}, allowed: astropy.wcs.WCS")
    if wcs.naxis != 2 or not wcs.has_celestial:
        raise LumosDataError(f"{path}: its WCS is not celestial of two axes, it has {list(wcs.wcs.ctype)}")
    if wcs.pixel_shape is not None and tuple(wcs.pixel_shape) != shape[::-1]:
        raise LumosShapeError(f"{path}: WCS, of an image", tuple(wcs.pixel_shape)[::-1], f"{shape} of the image")
    scale = (None, 0.0) if survey is None else (survey.pixel_scale, survey.pixel_scale_tolerance)
    check_wcs(wcs, path, shape, *scale)
    return wcs


def _jacobian(wcs: WCS, shape: tuple[int, int]) -> FloatArray:
    """Return the map from pixels to the sky at the centre of the image, shape (2, 2)."""
    return np.asarray(pixel_jacobian(wcs, *(np.full(1, (length - 1) / 2) for length in shape[::-1]))[0])


def _zeropoint(
    lookup: HeaderLookup,
    survey: Survey,
    facts: Facts,
    scale: float,
    unit: Any,  # noqa: ANN401
) -> tuple[float, float]:
    """Return zero point and error: the header's, else that of the unit; refuse two that differ."""
    told, error = find_zeropoint(lookup, survey, facts, scale)
    meant = _zeropoint_of_unit(unit, scale, lookup.path)
    if np.isnan(told) or np.isnan(meant):
        return (meant, error) if np.isnan(told) else (told, error)
    if abs(told - meant) > _SAME_ZEROPOINT:
        text = f"the header's zero point is {told:.4f}, that of the unit {unit} {meant:.4f}, allowed: the same"
        raise LumosDataError(f"{lookup.path}: {text}, or no zero point in the header")
    return told, error


def _zeropoint_of_unit(unit: Any, scale: float, path: Path) -> float:  # noqa: ANN401
    """Return the AB magnitude of 1 unit; NaN where the unit is one of counts."""
    unit = units.dimensionless_unscaled if unit is None else unit
    for whole in (unit, unit * units.pix) if isinstance(unit, units.UnitBase) else ():
        if any(whole.is_equivalent(count) or whole.is_equivalent(count / units.s) for count in _COUNTS):
            return float("nan")
        if whole.is_equivalent(units.nJy):
            return AB_ZEROPOINT_NJY - 2.5 * float(np.log10(whole.to(units.nJy)))
    if isinstance(unit, units.UnitBase) and unit.is_equivalent(units.nJy / units.sr):
        pixel = (scale * units.arcsec) ** 2
        return AB_ZEROPOINT_NJY - 2.5 * float(np.log10((1 * unit * pixel).to_value(units.nJy)))
    allowed = "adu, electron, ct, DN or none, each also per s; a flux as nJy; or a surface brightness as MJy / sr"
    raise LumosDataError(f"{path}: the unit of its pixels is {str(unit)!r}, allowed: {allowed}")


def _gain(facts: Facts, unit: Any) -> float:  # noqa: ANN401
    """Return electrons per image unit: the header's, but for pixels that are electrons already."""
    if unit is None:
        return facts.gain
    if unit.is_equivalent(units.electron):
        return float(unit.to(units.electron))
    if unit.is_equivalent(units.electron / units.s):
        return float(unit.to(units.electron / units.s)) * facts.exposure_time
    return facts.gain


def _mask(values: Any, name: str, shape: tuple[int, int]) -> AnyArray:  # noqa: ANN401
    """Return a mask in canonical planes: whatever is not 0 or False is bad."""
    mask = np.zeros(shape, dtype=np.int32)
    if values is None:
        return mask
    if np.shape(values) != shape:
        raise LumosShapeError(f"{name}: mask", np.shape(values), f"{shape} of the image")
    mask[np.asarray(values) != 0] = MaskPlane.BAD
    return mask


def _variance(
    image: CCDData, survey: Survey, name: str, data: Float32Array, mask: AnyArray
) -> tuple[Float32Array | None, bool]:
    """Return the variance in image units squared, and whether it holds the noise of the sources."""
    uncertainty = image.uncertainty
    if uncertainty is None:
        return None, False
    kind = next((word for one, word in _UNCERTAINTIES.items() if type(uncertainty) is one), None)
    if kind is None:
        allowed = ", ".join(one.__name__ for one in _UNCERTAINTIES)
        raise LumosDataError(f"{name}: uncertainty is {type(uncertainty).__name__}, allowed: {allowed}")
    values = np.asarray(uncertainty.array)
    if values.shape != data.shape:
        raise LumosShapeError(f"{name}: uncertainty", values.shape, f"{data.shape} of the image")
    of_image = image.unit if image.unit is not None else units.dimensionless_unscaled
    wanted = of_image ** {"rms": 1, "variance": 2, "ivar": -2}[kind]
    own = wanted if uncertainty.unit is None else uncertainty.unit
    # Astropy has refused a unit that measures something else.
    if own != wanted:
        values = values * own.to(wanted)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(values, dtype=np.float32)
    same = [source for source in survey.variance if source.kind == kind]
    includes_sources = bool(same and same[0].includes_sources)
    source = VarianceSource(kind=cast("Any", kind), includes_sources=includes_sources)
    return to_variance(values, source, data, mask), includes_sources
