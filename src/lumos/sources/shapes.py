"""Make a parent catalogue from an image: fit a PSF-convolved Sérsic profile to each detection."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import SERSIC_N_RANGE, AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import DOUBTFUL, CatalogFlag, good_pixels
from lumos.images.exposure import Exposure
from lumos.images.stamps import cut_stamps
from lumos.images.wcs import pixel_jacobian, pixel_to_sky
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT, Psf
from lumos.rows import Rowwise
from lumos.sources.detect import Detections, detect, grown_segments
from lumos.sources.fitting import ModelFit, Parameters, fit_models
from lumos.sources.settings import CatalogSettings

__all__ = ["DetectedCatalog", "make_parent_catalog"]

Progress = Callable[[int, int, str], None]

#: Side of the stamps that are fitted, and how many are fitted at once.
_STAMP, _CHUNK = 48, 256
#: Limits of the half-light radius in pixels: the first is a point.
_RADIUS_RANGE = (0.05, 30.0)
#: Below this share of the PSF's half-light radius an object is a point: convolved, it is wider by 2 per cent.
_POINT = 0.2
#: Widths of the priors that hold the shapes of faint objects: ln r50, ellipticity, ln n, centre in pixels.
_PRIOR_STD = (0.7, 0.3, 0.3, 0.5, 0.5, 0.5)
_MIN_AXIS_RATIO = 0.1
#: Relative error of the model, added to each pixel's noise: cores of bright objects are not limited by photons.
_MODEL_ERROR = 0.03
#: A centre that the fit moves further than this, in pixels, is not that of the detection.
_MAX_SHIFT = 2.0
#: A fit whose flux is below this many errors has failed.
_MIN_SNR = 1.0
#: Largest chi-square per pixel of the footprint of a profile that describes its object.
_MAX_CHI2 = 4.0


@dataclass(frozen=True)
class DetectedCatalog:
    """A parent catalogue made from an image, and what tells how good it is.

    Parameters
    ----------
    catalog : ParentCatalog
        The objects, with ``flags`` (:class:`lumos.flags.CatalogFlag`) and the exposure in ``made_from``.
    flux, flux_err : float array, shape (n,)
        Of the fit, image units; the error is for independent pixels and a known shape.
    reduced_chi2, footprint_chi2 : float array, shape (n,)
        Chi-square of the fit per pixel, of the stamp and of the footprint; 3 per cent of each pixel's light count as
        error.
    fitted_index : bool array, shape (n,)
        True where the Sérsic index was fitted, False where it is the default.
    x, y, theta : float array, shape (n,)
        Position in 0-based pixels; angle of the major axis from +x to +y in radians.
    n_false : int
        Detections in the negative image: about as many of the objects are noise.
    """

    catalog: ParentCatalog
    flux: FloatArray
    flux_err: FloatArray
    reduced_chi2: FloatArray
    footprint_chi2: FloatArray
    fitted_index: BoolArray
    x: FloatArray
    y: FloatArray
    theta: FloatArray
    n_false: int

    @property
    def flags(self) -> IntArray:
        """Return the flags of the catalogue, int array of shape (n,)."""
        assert self.catalog.flags is not None  # a made catalogue has them
        return self.catalog.flags

    @property
    def doubtful(self) -> BoolArray:
        """Return whose shape or position is not to be relied on, bool array of shape (n,)."""
        return np.asarray((self.flags & int(DOUBTFUL)) != 0)


@dataclass(frozen=True)
class _Work:
    """What all fits of an image share."""

    exposure: Exposure
    found: Detections
    grown: AnyArray
    free_index: BoolArray
    default_n: float


@dataclass(frozen=True)
class _Fits(Rowwise):
    """Results of fits: parameters (n, 6) as of :func:`_shape_of` and the shift of the centre, the rest (n,)."""

    point: FloatArray
    start: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    chi2: FloatArray
    footprint_chi2: FloatArray

    def replaced(self, rows: AnyArray, other: "_Fits") -> "_Fits":
        """Return these with other results in some rows."""
        arrays = {item.name: getattr(self, item.name).copy() for item in fields(self)}
        for name, values in arrays.items():
            values[rows] = getattr(other, name)
        return _Fits(**arrays)


def make_parent_catalog(
    exposure: Exposure, settings: CatalogSettings, progress: Progress | None = None
) -> DetectedCatalog:
    """Detect the objects of an image and fit their shapes, deconvolved from the PSF.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    settings : CatalogSettings
        Thresholds of the detection and of the fits.
    progress : callable, optional
        Told after each few hundred fits.

    Returns
    -------
    DetectedCatalog
        Objects brightest first, numbered from 1; radii along the major axis. Each centre lies on the image, within
        2 pixels of the detection. Objects at places whose PSF is unknown are left out.

    Raises
    ------
    LumosDataError
        If the exposure has no PSF, also none at the objects, or nothing is found.

    Notes
    -----
    Each fit varies ln r50, two ellipticities, ln n and the centre, with weak Gaussian priors that
    keep faint objects from running away; pixels of other detections, and around them as far as they
    reach, are left out. Where the centre runs away all the same, it stays where the detection is and
    the shape is fitted again.
    """
    if exposure.psf is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known; shapes cannot be deconvolved (`lumos psf` makes one)")
    found = detect(exposure, threshold=settings.threshold, min_area=settings.min_area)
    known = np.isfinite(exposure.psf.fwhm_at(found.x, found.y))
    if not known.any():
        raise LumosDataError(f"{exposure.path}: no PSF is known at any of {len(found)} objects")
    found = found.take(known)
    free_index = found.flux / found.flux_err >= settings.min_snr
    work = _Work(exposure, found, grown_segments(found.segmentation), free_index, settings.default_n)
    flags = found.flags.copy()
    fits = _fit(work, np.arange(len(found)), progress=progress)
    strayed = np.flatnonzero(_strayed(fits, found, exposure.shape))
    if len(strayed):
        fits = fits.replaced(strayed, _fit(work, strayed, fixed_centre=True))
        flags[strayed] |= int(CatalogFlag.CENTRE_KEPT)
    failed = ~(fits.flux > _MIN_SNR * fits.flux_err) | ~np.isfinite(fits.point).all(axis=1)
    flags[failed] |= int(CatalogFlag.FIT_FAILED)
    fits = replace(
        fits,
        point=np.where(failed[:, None], fits.start, fits.point),
        flux=np.where(failed, found.flux, fits.flux),
        flux_err=np.where(failed, found.flux_err, fits.flux_err),
    )
    return _assemble(work, fits, flags)


def _strayed(fits: _Fits, found: Detections, shape: tuple[int, int]) -> BoolArray:
    """Return whose fitted centre is not that of the detection, or lies off the image."""
    dx, dy = fits.point[:, 4], fits.point[:, 5]
    x, y = found.x + dx, found.y + dy
    inside = (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)
    return ~(np.hypot(dx, dy) <= _MAX_SHIFT) | ~inside


def _fit(work: _Work, rows: AnyArray, *, fixed_centre: bool = False, progress: Progress | None = None) -> _Fits:
    """Fit some of the detections, a few hundred at once."""
    parts = []
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        parts.append(_fit_chunk(work, some, fixed_centre=fixed_centre))
        if progress is not None:
            progress(start + len(some), len(rows), "objects fitted")
    return _Fits.concatenate(parts)


def _fit_chunk(work: _Work, rows: AnyArray, *, fixed_centre: bool) -> _Fits:
    found, exposure = work.found, work.exposure
    assert exposure.psf is not None  # checked by make_parent_catalog
    x_found, y_found = found.x[rows], found.y[rows]
    psf: Psf = exposure.psf.at(x_found, y_found)
    fwhm = exposure.psf.fwhm_at(x_found, y_found)
    stamps = cut_stamps(found.subtracted, x_found, y_found, _STAMP, mask=exposure.mask, variance=found.scatter)
    segments = cut_stamps(work.grown, x_found, y_found, _STAMP).data
    core = cut_stamps(found.segmentation, x_found, y_found, _STAMP).data == found.segment[rows, None, None]
    scatter = stamps.variance
    assert scatter is not None
    own = (segments == 0) | (segments == found.segment[rows, None, None])
    used = good_pixels(stamps.mask) & own & (scatter > 0)
    variance = scatter**2 + (_MODEL_ERROR * np.maximum(stamps.data, 0)) ** 2
    ivar = np.where(used, 1 / np.where(used, variance, 1), 0)
    x, y = torch.from_numpy(stamps.x), torch.from_numpy(stamps.y)

    def model(point: Tensor, which: Tensor) -> Tensor:
        columns = (x[which] + point[:, 4], y[which] + point[:, 5], *_shape_of(point))
        return render(Shapes(*(column.numpy() for column in columns)), psf, size=_STAMP)

    start = _start(work, rows, fwhm, fixed_centre=fixed_centre)
    fit: ModelFit = fit_models(torch.from_numpy(stamps.data), torch.from_numpy(ivar), model, start)
    core &= used
    with np.errstate(invalid="ignore", divide="ignore"):
        footprint_chi2 = ((fit.residual.numpy() ** 2) * core).sum(axis=(1, 2)) / core.sum(axis=(1, 2))
    return _Fits(
        point=fit.parameters.numpy(),
        start=start.start.numpy(),
        flux=fit.flux.numpy(),
        flux_err=fit.flux_err.numpy(),
        chi2=(fit.chi2 / fit.n_pixels.clamp(min=1)).numpy(),
        footprint_chi2=footprint_chi2,
    )


def _shape_of(point: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return radius, index, axis ratio and angle from ln r50, e1, e2, ln n."""
    ellipticity = torch.hypot(point[:, 1], point[:, 2]).clamp(max=(1 - _MIN_AXIS_RATIO) / (1 + _MIN_AXIS_RATIO))
    ratio = (1 - ellipticity) / (1 + ellipticity)
    theta = 0.5 * torch.atan2(point[:, 2], point[:, 1])
    return point[:, 0].exp(), point[:, 3].exp(), ratio, theta


def _start(work: _Work, rows: AnyArray, fwhm: FloatArray, *, fixed_centre: bool) -> Parameters:
    """Return where the fits start: the detection's moments less the PSF's."""
    found = work.found
    psf_radius = PSF_HALF_LIGHT * fwhm
    radius = np.sqrt(np.maximum(found.half_light_radius[rows] ** 2 - psf_radius**2, (0.3 * psf_radius) ** 2))
    ratio = np.clip(found.semi_minor[rows] / np.maximum(found.semi_major[rows], 1e-3), 0.3, 1)
    ellipticity = (1 - ratio) / (1 + ratio)
    start = np.column_stack(
        [
            np.log(np.clip(np.nan_to_num(radius, nan=1.0), *_RADIUS_RANGE)),
            ellipticity * np.cos(2 * found.theta[rows]),
            ellipticity * np.sin(2 * found.theta[rows]),
            np.full(len(rows), np.log(work.default_n)),
            np.zeros((len(rows), 2)),
        ]
    )
    prior = np.tile(_PRIOR_STD, (len(rows), 1))
    prior[~work.free_index[rows], 3] = 0
    if fixed_centre:
        prior[:, 4:] = 0
    low_n, high_n = np.log([max(SERSIC_N_RANGE[0], 0.4), SERSIC_N_RANGE[1]])
    lower = [np.log(_RADIUS_RANGE[0]), -0.8, -0.8, low_n, -3, -3]
    upper = [np.log(_RADIUS_RANGE[1]), 0.8, 0.8, high_n, 3, 3]
    return Parameters(
        start=torch.from_numpy(start),
        steps=torch.tensor([0.02, 0.01, 0.01, 0.02, 0.02, 0.02], dtype=torch.float64),
        lower=torch.tensor(lower, dtype=torch.float64),
        upper=torch.tensor(upper, dtype=torch.float64),
        prior_std=torch.from_numpy(prior),
    )


def _assemble(work: _Work, fits: _Fits, flags: IntArray) -> DetectedCatalog:
    """Bring fits in pixels to a catalogue on the sky."""
    exposure, found = work.exposure, work.found
    assert exposure.psf is not None
    x, y = found.x + fits.point[:, 4], found.y + fits.point[:, 5]
    radius, index, ratio, theta = (values.numpy() for values in _shape_of(torch.from_numpy(fits.point)))
    point = radius < _POINT * PSF_HALF_LIGHT * exposure.psf.fwhm_at(x, y)
    radius = np.where(point, _RADIUS_RANGE[0], radius)
    index, ratio, theta = np.where(point, 1.0, index), np.where(point, 1.0, ratio), np.where(point, 0.0, theta)
    flags = flags | np.where(point, int(CatalogFlag.POINT_SOURCE), 0)
    flags |= np.where(radius > 0.99 * _RADIUS_RANGE[1], int(CatalogFlag.RADIUS_AT_LIMIT), 0)
    flags |= np.where(fits.footprint_chi2 > _MAX_CHI2, int(CatalogFlag.POOR_FIT), 0)
    jacobian = pixel_jacobian(exposure.wcs, x, y)
    direction = np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    east, north = np.moveaxis((jacobian @ direction[:, :, None])[:, :, 0], -1, 0)
    ra, dec = pixel_to_sky(exposure.wcs, x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = exposure.zeropoint - 2.5 * np.log10(np.where(fits.flux > 0, fits.flux, np.nan))
    catalog = ParentCatalog(
        object_id=np.arange(1, len(x) + 1),
        ra=ra,
        dec=dec,
        half_light_radius=radius * np.sqrt(np.abs(np.linalg.det(jacobian))),
        sersic_n=np.clip(index, *SERSIC_N_RANGE),
        axis_ratio=ratio,
        position_angle=np.degrees(np.arctan2(east, north)) % 180,
        ref_mag=magnitude,
        flags=flags,
        made_from=(exposure.exposure_id,),
    )
    return DetectedCatalog(
        catalog=catalog,
        flux=fits.flux,
        flux_err=fits.flux_err,
        reduced_chi2=fits.chi2,
        footprint_chi2=fits.footprint_chi2,
        fitted_index=work.free_index,
        x=x,
        y=y,
        theta=theta,
        n_false=found.n_false,
    )
