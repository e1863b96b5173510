"""How complete a made catalogue is: galaxies are put into the image, and one looks which are found."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import expit

from lumos.conventions import AnyArray, BoolArray, Float32Array, FloatArray
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.sources.detect import detect_in
from lumos.sources.settings import CatalogSettings

__all__ = ["Completeness", "measure_completeness"]

#: Side of the stamps that hold an injected galaxy; one is put into so many square pixels, at most so many at once.
_STAMP, _AREA, _MOST = 48, 10_000, 400
#: Injected galaxies in all, at least, and times that the image is searched, at most.
_FEWEST, _ROUNDS = 200, 4
#: Fluxes in units of the error of a profile-weighted flux.
_SNR = (2.0, 60.0)
#: A detection within so many pixels of an injected galaxy has found it.
_MATCH = 2.0


@dataclass(frozen=True)
class Completeness:
    """What share of injected galaxies is found.

    Parameters
    ----------
    n : int
        Number of galaxies injected in the bin.
    radius : float
        Their half-light radius in pixels; they are round, with the index ``default_n``.
    bright : float
        Share of the brightest that is found; the rest lies on brighter objects or masked pixels.
    flux_50, flux_90 : float
        Fluxes in image units at which 50 and 90 per cent of that share are found; NaN where too few tell.
    """

    n: int
    radius: float
    bright: float
    flux_50: float
    flux_90: float


def measure_completeness(
    exposure: Exposure, settings: CatalogSettings, radius: float, rng: np.random.Generator
) -> Completeness:
    """Put round galaxies of many fluxes at random places and see which are detected.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    settings : CatalogSettings
        Thresholds of the detection.
    radius : float
        Half-light radius of the galaxies in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Completeness
        From at least 200 galaxies where the image has room for them.
    """
    search = partial(detect_in, mask=exposure.mask, threshold=settings.threshold, min_area=settings.min_area)
    before = search(exposure.data)
    ny, nx = exposure.shape
    at_once = int(np.clip(ny * nx // _AREA, 1, _MOST))
    rounds = int(np.clip(np.ceil(_FEWEST / at_once), 1, _ROUNDS))
    known = cKDTree(np.column_stack([before.x, before.y])) if len(before) else None
    fluxes, found = [], []
    for _ in range(rounds):
        x, y = rng.uniform(-0.5, nx - 0.5, at_once), rng.uniform(-0.5, ny - 0.5, at_once)
        stamps = _profiles(exposure, x, y, radius, settings.default_n)
        noise = before.scatter[np.rint(y).astype(int), np.rint(x).astype(int)]
        error = noise / np.sqrt((stamps**2).sum(axis=(1, 2)))
        flux = error * np.exp(rng.uniform(np.log(_SNR[0]), np.log(_SNR[1]), at_once))
        data = _added(exposure.data, stamps * flux[:, None, None], x, y)
        after = search(data)
        places = np.column_stack([x, y])
        near = np.full(at_once, np.inf)
        if len(after):
            near = cKDTree(np.column_stack([after.x, after.y])).query(places)[0]
        # What was there before tells nothing; a place on masked pixels belongs to no catalogue.
        counts = np.isfinite(flux) & good_pixels(exposure.mask)[np.rint(y).astype(int), np.rint(x).astype(int)]
        if known is not None:
            counts &= known.query(places)[0] > _MATCH
        fluxes.append(flux[counts])
        found.append(near[counts] <= _MATCH)
    return _fit(np.concatenate(fluxes), np.concatenate(found), radius)


def _profiles(exposure: Exposure, x: FloatArray, y: FloatArray, radius: float, index: float) -> AnyArray:
    """Return stamps of unit flux with the centres of the image's pixel grid."""
    assert exposure.psf is not None  # the catalogue could not have been made without
    one = np.ones(len(x))
    inner_x, inner_y = x - np.rint(x) + _STAMP // 2, y - np.rint(y) + _STAMP // 2
    shapes = Shapes(inner_x, inner_y, radius * one, index * one, one, 0 * one)
    stamps = render(shapes, exposure.psf.at(x, y), size=_STAMP)
    return np.asarray(stamps.numpy(), dtype=np.float64)


def _added(data: Float32Array, stamps: AnyArray, x: FloatArray, y: FloatArray) -> Float32Array:
    """Return a copy of the image with the stamps added."""
    half = _STAMP // 2
    padded = np.pad(data, half)
    for stamp, column, row in zip(stamps, np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        if np.isfinite(stamp).all():
            padded[row : row + _STAMP, column : column + _STAMP] += stamp.astype(np.float32)
    return np.ascontiguousarray(padded[half:-half, half:-half])


def _fit(flux: FloatArray, found: BoolArray, radius: float) -> Completeness:
    """Fit the share that is found by a logistic curve of the log flux that ends in a plateau."""
    if not found.any() or found.all():
        return Completeness(len(flux), radius, float(found.mean()) if len(found) else np.nan, np.nan, np.nan)
    log_flux = np.log(flux)

    def cost(point: FloatArray) -> float:
        share = expit(point[2]) * expit((log_flux - point[0]) / np.exp(point[1]))
        share = np.clip(share, 1e-6, 1 - 1e-6)
        # A weak prior on the width of the step, which few galaxies tell.
        return float(-np.where(found, np.log(share), np.log(1 - share)).sum() + (point[1] - np.log(0.2)) ** 2)

    start = np.array([np.median(log_flux[~found]), np.log(0.2), 3.0])
    middle, width, plateau = minimize(cost, start, method="Nelder-Mead", options={"maxiter": 2000}).x
    limit = middle + np.exp(width) * np.log(9.0)
    return Completeness(len(flux), radius, float(expit(plateau)), float(np.exp(middle)), float(np.exp(limit)))
