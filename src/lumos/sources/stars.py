"""Fit a Moffat PSF to the stars of an exposure."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.errors import LumosDataError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.stamps import cut_stamps
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf
from lumos.sources.detect import Detections, detect
from lumos.sources.fitting import ModelFit, Parameters, fit_models
from lumos.sources.settings import PsfSettings

__all__ = ["STAR_THRESHOLD", "StarPsf", "fit_star_psf"]

#: Threshold of the detections among which stars are sought.
STAR_THRESHOLD = 3.0
#: Moffat exponents that are compared; the best is found by a parabola through the three lowest.
_BETAS = (2.0, 2.5, 3.0, 3.5, 4.0, 4.765, 6.0, 8.0)
#: Stars are sought among this many of the brightest usable detections.
_CANDIDATES = 600
#: A star's size differs from the mode by less than this share.
_SIZE_TOLERANCE = 0.12
#: A star's brightest pixel stays below this share of the brightest pixel in the image: no saturation.
_FULL_SHARE = 0.6
#: Relative error of the model, added to each pixel's noise.
_MODEL_ERROR = 0.03
#: Stars whose width is further than this many scatters from the median are dropped.
_CLIP = 3.0


@dataclass(frozen=True)
class StarPsf:
    """Moffat PSF of an exposure and the stars that made it.

    Parameters
    ----------
    fwhm, fwhm_err : float
        Median over the stars in pixels, and its error from their scatter.
    beta : float
        Moffat exponent that fits all stars best together.
    x, y : float array, shape (n,)
        Positions of the stars in 0-based pixels.
    star_fwhm, snr, reduced_chi2 : float array, shape (n,)
        Each star's width in pixels, signal-to-noise ratio, and chi-square per pixel.
    segment : int array, shape (n,)
        Number of each star in the segmentation of the detections.
    """

    fwhm: float
    fwhm_err: float
    beta: float
    x: FloatArray
    y: FloatArray
    star_fwhm: FloatArray
    snr: FloatArray
    reduced_chi2: FloatArray
    segment: AnyArray


def fit_star_psf(
    exposure: Exposure,
    settings: PsfSettings,
    at: tuple[FloatArray, FloatArray] | None = None,
    found: Detections | None = None,
) -> StarPsf:
    """Find the stars of an exposure and fit one Moffat profile to them.

    Parameters
    ----------
    exposure : Exposure
        Its own PSF, if any, is not used.
    settings : PsfSettings
        How many stars, and how bright.
    at : tuple of float arrays, shape (m,), optional
        Pixel positions of known stars; only detections within two pixels of one are used.
    found : Detections, optional
        What :func:`lumos.sources.detect.detect` finds above a threshold of 3; by default it is sought.

    Returns
    -------
    StarPsf
        The PSF before the response of the pixel.

    Raises
    ------
    LumosDataError
        If there are too few stars; the message says what became of the detections.
    """
    found = detect(exposure, threshold=STAR_THRESHOLD) if found is None else found
    usable = _what_stars_are(exposure, found, settings, at)
    stars = _select_stars(found, np.logical_and.reduce(list(usable.values())))
    if len(stars) < settings.min_stars:
        few = f"{len(stars)} usable stars, allowed: at least {settings.min_stars}"
        raise LumosDataError(f"{exposure.path}: {few} (of {len(found)} detections {_lost(usable, len(stars))})")
    stars = stars[: settings.max_stars]
    data, ivar, x, y = _star_stamps(exposure, found, stars, settings.stamp_size)
    start = 2.0 * float(np.median(found.half_light_radius[stars]))
    costs = np.array([float(_fit(data, ivar, x, y, start, beta).chi2.median()) for beta in _BETAS])
    beta = _lowest(np.log(_BETAS), costs)
    fit = _fit(data, ivar, x, y, start, beta)
    fwhm = fit.parameters[:, 0].exp().numpy()
    middle = np.median(fwhm)
    spread = 1.4826 * np.median(np.abs(fwhm - middle))
    keep = np.abs(fwhm - middle) <= _CLIP * max(spread, 1e-3 * middle)
    return StarPsf(
        fwhm=float(np.median(fwhm[keep])),
        fwhm_err=float(1.2533 * spread / np.sqrt(keep.sum())),
        beta=beta,
        x=found.x[stars][keep],
        y=found.y[stars][keep],
        star_fwhm=fwhm[keep],
        snr=(fit.flux / fit.flux_err).numpy()[keep],
        reduced_chi2=(fit.chi2 / fit.n_pixels.clamp(min=1)).numpy()[keep],
        segment=found.segment[stars][keep],
    )


def _what_stars_are(
    exposure: Exposure, found: Detections, settings: PsfSettings, at: tuple[FloatArray, FloatArray] | None
) -> dict[str, BoolArray]:
    """Return which detections pass each test of a star, by what those are that fail."""
    half = settings.stamp_size // 2
    ny, nx = exposure.shape
    core = cut_stamps(exposure.data, found.x, found.y, 11, mask=exposure.mask)
    peaks = core.data.max(axis=(1, 2))
    tests = {
        "at the edge": (found.x > half) & (found.x < nx - half - 1) & (found.y > half) & (found.y < ny - half - 1),
        "saturated or masked": good_pixels(core.mask).all(axis=(1, 2)),
        "near the brightest pixel value, which may be saturation": peaks
        < _FULL_SHARE * float(np.max(peaks, initial=0)),
        f"below a signal-to-noise ratio of {settings.min_snr:g}": found.flux > settings.min_snr * found.flux_err,
        "not round": found.semi_minor > 0.75 * found.semi_major,
        "without a size": np.isfinite(found.half_light_radius) & (found.half_light_radius > 0.5),
    }
    if at is not None:
        distance = np.hypot(found.x[:, None] - at[0], found.y[:, None] - at[1])
        tests["not at a given place"] = (distance < 2).any(axis=1)
    return {name: np.asarray(passed, dtype=np.bool_) for name, passed in tests.items()}


def _lost(tests: dict[str, BoolArray], n_stars: int) -> str:
    """Say what became of the detections, each counted at the first test that it fails."""
    left = np.ones(len(next(iter(tests.values()))), dtype=np.bool_)
    told = []
    for name, passed in tests.items():
        if (left & ~passed).any():
            told.append(f"{(left & ~passed).sum()} are {name}")
        left &= passed
    if left.sum() > n_stars:
        told.append(f"{left.sum() - n_stars} are of another size")
    return ", ".join(told)


def _select_stars(found: Detections, usable: BoolArray) -> AnyArray:
    """Return the row numbers of the usable detections of the commonest small size."""
    candidates = np.flatnonzero(usable)[:_CANDIDATES]
    if len(candidates) == 0:
        return candidates
    size = found.half_light_radius[candidates]
    # The stellar locus is where the density of log size peaks; stars are the smallest such group.
    log_size = np.log(size)
    density = np.exp(-0.5 * ((log_size[:, None] - log_size) / 0.04) ** 2).sum(axis=1)
    smallest_peak = size[density > 0.7 * density.max()].min()
    near = np.abs(size / smallest_peak - 1) < _SIZE_TOLERANCE
    mode = np.median(size[near])
    stars: AnyArray = candidates[np.abs(size / mode - 1) < _SIZE_TOLERANCE]
    return stars


def _star_stamps(
    exposure: Exposure, found: Detections, stars: AnyArray, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pixels, inverse variance without other objects, and centres."""
    x, y = found.x[stars], found.y[stars]
    pixels = cut_stamps(found.subtracted, x, y, size, mask=exposure.mask, variance=found.scatter)
    segments = cut_stamps(found.segmentation, x, y, size).data
    assert pixels.variance is not None
    own = (segments == 0) | (segments == found.segment[stars, None, None])
    # The cores of bright stars are limited by the model, not by photons. The error that stands for it
    # must be small in the wings, which hold a tenth of the light.
    variance = pixels.variance**2 + (_MODEL_ERROR * np.maximum(pixels.data, 0)) ** 2
    used = good_pixels(pixels.mask) & own & (variance > 0)
    ivar = np.where(used, 1 / np.where(used, variance, 1), 0)
    return torch.from_numpy(pixels.data), torch.from_numpy(ivar), torch.from_numpy(pixels.x), torch.from_numpy(pixels.y)


def _fit(data: Tensor, ivar: Tensor, x: Tensor, y: Tensor, start: float, beta: float) -> ModelFit:
    """Fit width and centre of every star for one Moffat exponent."""
    size = data.shape[1]

    def model(point: Tensor, which: Tensor) -> Tensor:
        fwhm = point[:, 0].exp().numpy()
        psf = MoffatPsf(fwhm, np.full(len(fwhm), beta))
        at = (x[which] + point[:, 1]).numpy(), (y[which] + point[:, 2]).numpy()
        return render(Shapes.points(*at), psf, size=size)

    n = len(data)
    origin = torch.tensor([np.log(start), 0.0, 0.0], dtype=torch.float64).repeat(n, 1)
    limits = torch.tensor([1.2, 2.0, 2.0], dtype=torch.float64)
    parameters = Parameters(
        start=origin,
        steps=torch.tensor([0.01, 0.02, 0.02], dtype=torch.float64),
        lower=origin[0] - limits,
        upper=origin[0] + limits,
        prior_std=torch.full((n, 3), torch.inf, dtype=torch.float64),
    )
    return fit_models(data, ivar, model, parameters, n_iterations=8)


def _lowest(log_betas: FloatArray, costs: FloatArray) -> float:
    """Return the exponent at the minimum of a parabola through the lowest point and its neighbours."""
    best = int(np.clip(np.argmin(costs), 1, len(costs) - 2))
    curve = np.polyfit(log_betas[best - 1 : best + 2], costs[best - 1 : best + 2], 2)
    lowest = -curve[1] / (2 * curve[0]) if curve[0] > 0 else log_betas[np.argmin(costs)]
    return float(np.exp(np.clip(lowest, log_betas[0], log_betas[-1])))
