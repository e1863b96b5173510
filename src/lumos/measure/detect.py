"""Make a parent catalogue from an image: detect objects, fit a PSF-convolved Sérsic profile to each."""

from dataclasses import dataclass

import numpy as np
import sep
import torch
from torch import Tensor

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import SERSIC_N_RANGE, AnyArray, BoolArray, Float32Array, FloatArray
from lumos.errors import LumosDataError
from lumos.images.exposure import Exposure
from lumos.images.stamps import cut_stamps
from lumos.images.wcs import pixel_jacobian
from lumos.measure.fitting import ModelFit, Parameters, fit_models
from lumos.measure.noise import good_pixels
from lumos.measure.settings import CatalogSettings
from lumos.profiles.sersic import render_sersic
from lumos.psf import PSF_HALF_LIGHT, Psf

__all__ = ["DetectedCatalog", "Detections", "detect", "make_parent_catalog"]

_MESH = 64
#: Side of the stamps that are fitted, and how many are fitted at once.
_STAMP, _CHUNK = 48, 256
#: Limits of the half-light radius in pixels: below the first an object is a point.
_RADIUS_RANGE = (0.05, 30.0)
#: Widths of the priors that hold the shapes of faint objects: ln r50, ellipticity, ln n, centre in pixels.
_PRIOR_STD = (0.7, 0.3, 0.3, 0.5, 0.5, 0.5)
_MIN_AXIS_RATIO = 0.1


@dataclass(frozen=True)
class Detections:
    """Objects found in an image, brightest first.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Centroid in 0-based pixels.
    semi_major, semi_minor, theta : float array, shape (n,)
        Moments: pixels, pixels, radians from +x to +y.
    flux, flux_err : float array, shape (n,)
        Isophotal flux and its error for independent pixels.
    half_light_radius : float array, shape (n,)
        Radius of half the flux in the image, PSF included.
    segment : int array, shape (n,)
        Number of the object in ``segmentation``.
    segmentation : int32 array, shape (ny, nx)
        0 on the sky, else the number of an object.
    subtracted, scatter : float32 array, shape (ny, nx)
        Image without its smooth background; robust pixel scatter.
    """

    x: FloatArray
    y: FloatArray
    semi_major: FloatArray
    semi_minor: FloatArray
    theta: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    half_light_radius: FloatArray
    segment: AnyArray
    segmentation: AnyArray
    subtracted: Float32Array
    scatter: Float32Array

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class DetectedCatalog:
    """A parent catalogue made from an image, and what tells how good it is.

    Parameters
    ----------
    catalog : ParentCatalog
        The objects.
    flux, flux_err : float array, shape (n,)
        Of the fit, image units; the error is for independent pixels and a known shape.
    reduced_chi2 : float array, shape (n,)
        Chi-square of the fit per pixel.
    fitted_index : bool array, shape (n,)
        True where the Sérsic index was fitted, False where it is the default.
    x, y, theta : float array, shape (n,)
        Fitted position in 0-based pixels; angle of the major axis from +x to +y in radians.
    """

    catalog: ParentCatalog
    flux: FloatArray
    flux_err: FloatArray
    reduced_chi2: FloatArray
    fitted_index: BoolArray
    x: FloatArray
    y: FloatArray
    theta: FloatArray


def detect(exposure: Exposure, *, threshold: float = 1.5, min_area: int = 5) -> Detections:
    """Detect objects above a smooth background.

    Parameters
    ----------
    exposure : Exposure
        Image and mask.
    threshold : float, optional
        In units of the local pixel scatter.
    min_area : int, optional
        Fewest connected pixels.

    Returns
    -------
    Detections
        Brightest first.

    Raises
    ------
    LumosDataError
        If nothing is found.
    """
    bad = ~good_pixels(exposure.mask)
    background = sep.Background(exposure.data, mask=bad, bw=_MESH, bh=_MESH)
    subtracted, scatter = exposure.data - background.back(), background.rms()
    sep.set_extract_pixstack(max(300_000, exposure.data.size // 4))
    found, segmentation = sep.extract(
        subtracted, threshold, err=scatter, mask=bad, minarea=min_area, segmentation_map=True
    )
    if len(found) == 0:
        raise LumosDataError(f"{exposure.path}: nothing detected above {threshold} times the pixel scatter")
    radius, _ = sep.flux_radius(
        subtracted, found["x"], found["y"], np.maximum(6 * found["a"], 6), 0.5, normflux=None, mask=bad, subpix=5
    )
    order = np.argsort(-found["flux"])
    noise = scatter[np.rint(found["y"]).astype(int), np.rint(found["x"]).astype(int)]
    return Detections(
        x=found["x"][order],
        y=found["y"][order],
        semi_major=found["a"][order],
        semi_minor=found["b"][order],
        theta=found["theta"][order],
        flux=found["flux"][order],
        flux_err=(noise * np.sqrt(found["npix"]))[order],
        half_light_radius=radius[order],
        segment=(np.arange(len(found)) + 1)[order],
        segmentation=segmentation,
        subtracted=np.ascontiguousarray(subtracted, dtype=np.float32),
        scatter=np.ascontiguousarray(scatter, dtype=np.float32),
    )


def make_parent_catalog(exposure: Exposure, settings: CatalogSettings) -> DetectedCatalog:
    """Detect the objects of an image and fit their shapes, deconvolved from the PSF.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    settings : CatalogSettings
        Thresholds.

    Returns
    -------
    DetectedCatalog
        Objects brightest first, numbered from 1; radii along the major axis.

    Raises
    ------
    LumosDataError
        If the exposure has no PSF or nothing is found.

    Notes
    -----
    Each fit varies ln r50, two ellipticities, ln n and the centre, with weak Gaussian priors that
    keep faint objects from running away; pixels of other detections are left out.
    """
    if exposure.psf is None:
        raise LumosDataError(f"{exposure.path}: no PSF is known; shapes cannot be deconvolved (`lumos psf` makes one)")
    found = detect(exposure, threshold=settings.threshold, min_area=settings.min_area)
    free_index = found.flux / found.flux_err >= settings.min_snr
    parts = []
    for start in range(0, len(found), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(found)))
        psf = exposure.psf.at(found.x[rows], found.y[rows])
        fwhm = exposure.psf.fwhm_at(found.x[rows], found.y[rows])
        parts.append(_fit_chunk(exposure, found, rows, psf, fwhm, free_index[rows], settings.default_n))
    return _assemble(exposure, parts, free_index)


def _fit_chunk(
    exposure: Exposure,
    found: Detections,
    rows: AnyArray,
    psf: Psf,
    fwhm: FloatArray,
    free_index: BoolArray,
    default_n: float,
) -> tuple[ModelFit, FloatArray, FloatArray]:
    """Fit some of the detections; also return the positions that the shifts are relative to."""
    x_found, y_found = found.x[rows], found.y[rows]
    stamps = cut_stamps(found.subtracted, x_found, y_found, _STAMP, mask=exposure.mask, variance=found.scatter)
    segments = cut_stamps(found.segmentation, x_found, y_found, _STAMP).data
    scatter = stamps.variance
    assert scatter is not None
    own = (segments == 0) | (segments == found.segment[rows, None, None])
    used = (stamps.mask == 0) & own & (scatter > 0)
    ivar = np.where(used, 1 / np.where(used, scatter, 1) ** 2, 0)
    x, y = torch.from_numpy(stamps.x), torch.from_numpy(stamps.y)

    def model(point: Tensor, which: Tensor) -> Tensor:
        radius, index, ratio, theta = _shape_of(point)
        return render_sersic(
            radius, index, ratio, theta, x[which] + point[:, 4], y[which] + point[:, 5], psf, size=_STAMP
        )

    fit = fit_models(
        torch.from_numpy(stamps.data), torch.from_numpy(ivar), model, _start(found, rows, fwhm, free_index, default_n)
    )
    return fit, x_found, y_found


def _shape_of(point: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return radius, index, axis ratio and angle from ln r50, e1, e2, ln n."""
    ellipticity = torch.hypot(point[:, 1], point[:, 2]).clamp(max=(1 - _MIN_AXIS_RATIO) / (1 + _MIN_AXIS_RATIO))
    ratio = (1 - ellipticity) / (1 + ellipticity)
    theta = 0.5 * torch.atan2(point[:, 2], point[:, 1])
    return point[:, 0].exp(), point[:, 3].exp(), ratio, theta


def _start(found: Detections, rows: AnyArray, fwhm: FloatArray, free_index: BoolArray, default_n: float) -> Parameters:
    """Return where the fits start: the detection's moments less the PSF's."""
    psf_radius = PSF_HALF_LIGHT * fwhm
    radius = np.sqrt(np.maximum(found.half_light_radius[rows] ** 2 - psf_radius**2, (0.3 * psf_radius) ** 2))
    ratio = np.clip(found.semi_minor[rows] / np.maximum(found.semi_major[rows], 1e-3), 0.3, 1)
    ellipticity = (1 - ratio) / (1 + ratio)
    start = np.column_stack(
        [
            np.log(np.clip(radius, *_RADIUS_RANGE)),
            ellipticity * np.cos(2 * found.theta[rows]),
            ellipticity * np.sin(2 * found.theta[rows]),
            np.full(len(rows), np.log(default_n)),
            np.zeros((len(rows), 2)),
        ]
    )
    prior = np.tile(_PRIOR_STD, (len(rows), 1))
    prior[~free_index, 3] = 0
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


def _assemble(
    exposure: Exposure, parts: list[tuple[ModelFit, FloatArray, FloatArray]], free_index: BoolArray
) -> DetectedCatalog:
    """Bring fits in pixels to a catalogue on the sky."""
    point = torch.cat([fit.parameters for fit, _, _ in parts])
    radius, index, ratio, theta = (values.numpy() for values in _shape_of(point))
    x = np.concatenate([column for _, column, _ in parts]) + point[:, 4].numpy()
    y = np.concatenate([row for _, _, row in parts]) + point[:, 5].numpy()
    flux = torch.cat([fit.flux for fit, _, _ in parts]).numpy()
    flux_err = torch.cat([fit.flux_err for fit, _, _ in parts]).numpy()
    chi2 = torch.cat([fit.chi2 / fit.n_pixels.clamp(min=1) for fit, _, _ in parts]).numpy()
    jacobian = pixel_jacobian(exposure.wcs, x, y)
    direction = np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    east, north = np.moveaxis((jacobian @ direction[:, :, None])[:, :, 0], -1, 0)
    ra, dec = (np.asarray(value) for value in exposure.wcs.all_pix2world(x, y, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = exposure.zeropoint - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    catalog = ParentCatalog(
        object_id=np.arange(1, len(x) + 1),
        ra=ra,
        dec=dec,
        half_light_radius=radius * np.sqrt(np.abs(np.linalg.det(jacobian))),
        sersic_n=np.clip(index, *SERSIC_N_RANGE),
        axis_ratio=ratio,
        position_angle=np.degrees(np.arctan2(east, north)) % 180,
        ref_mag=magnitude,
    )
    return DetectedCatalog(catalog, flux, flux_err, chi2, free_index, x, y, theta)
