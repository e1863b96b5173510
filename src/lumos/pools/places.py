"""Places for background stamps: random pixels that are fit for one."""

import logging
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from lumos.background.correlation import source_free
from lumos.background.noise import Cutout, cut_out, stamp_variance
from lumos.conventions import BoolArray, FloatArray
from lumos.errors import LumosError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.pools.settings import BackgroundSettings

__all__ = ["RefusedError", "draw_places", "look"]

logger = logging.getLogger(__name__)
#: Rounds of drawing positions, and positions of a round, before a CCD is left with fewer stamps.
_ROUNDS, _CANDIDATES = 20, 500


class RefusedError(LumosError):
    """A CCD that the pool must not have."""


def draw_places(
    exposure: Exposure, source: str, settings: BackgroundSettings, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw pixels until enough of them are fit for a stamp.

    Parameters
    ----------
    exposure : Exposure
        A CCD with a PSF.
    source : str
        Source of its noise.
    settings : BackgroundSettings
        How many places, and which are fit.
    rng : numpy.random.Generator
        Draws the positions.

    Returns
    -------
    x, y : float array, shape (n,)
        Middle pixels; fewer than asked for, with a warning, where fit places are rare.

    Raises
    ------
    RefusedError
        If there is none.
    """
    ny, nx = exposure.shape
    allowed = _allowed(exposure, settings)
    found: list[FloatArray] = []
    missing = settings.n_per_exposure
    for _ in range(_ROUNDS + settings.n_per_exposure // _CANDIDATES):
        if len(allowed) == 0 or missing == 0:
            break
        places = allowed[rng.integers(len(allowed), size=min(2 * missing + 10, _CANDIDATES))]
        y, x = (index.astype(np.float64) for index in np.unravel_index(places, (ny, nx)))
        fit = np.flatnonzero(_is_fit(exposure, source, settings, x, y))[:missing]
        found.append(np.stack([x[fit], y[fit]]))
        missing -= len(fit)
    if missing == settings.n_per_exposure:
        raise RefusedError("no place is fit for a stamp (masked pixels, annulus, noise, PSF, sources)")
    if missing:
        text = "%s: %d of %d stamps, places fit for one are rare"
        logger.warning(text, exposure.path, settings.n_per_exposure - missing, settings.n_per_exposure)
    x, y = np.concatenate(found, axis=1)
    return x, y


def _allowed(exposure: Exposure, settings: BackgroundSettings) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the flat indices of the pixels that may be a stamp's middle."""
    if settings.source_free_radius == 0:
        return np.arange(exposure.data.size)
    good = good_pixels(exposure.mask)
    # A bad pixel is no source.
    blank = source_free(exposure.data, good) | ~good
    if blank.all():
        return np.arange(exposure.data.size)
    return np.flatnonzero(ndimage.distance_transform_edt(blank) > settings.source_free_radius)


def _is_fit(exposure: Exposure, source: str, settings: BackgroundSettings, x: FloatArray, y: FloatArray) -> BoolArray:
    """Tell at which places a stamp may be cut, bool array of shape (n,)."""
    assert exposure.psf is not None
    cutout, sky_variance = look(exposure, source, settings, x, y)
    mask = cutout.stamps.mask[:, cutout.inner, cutout.inner]
    fit = (~good_pixels(mask)).mean(axis=(1, 2)) <= settings.max_masked
    fit &= np.isfinite(sky_variance) & (sky_variance > 0) & np.isfinite(exposure.psf.fwhm_at(x, y))
    return np.asarray(fit & np.isfinite(cutout.background.level.numpy()))


def look(
    exposure: Exposure, source: str, settings: BackgroundSettings, x: FloatArray, y: FloatArray
) -> tuple[Cutout, FloatArray]:
    """Cut stamps and find the variance of a blank pixel of each.

    Parameters
    ----------
    exposure : Exposure
        CCD that the stamps are cut from.
    source : str
        Source of its noise.
    settings : BackgroundSettings
        Sizes of stamp and annulus.
    x, y : float array, shape (n,)
        Middle pixels of the stamps, 0-based.

    Returns
    -------
    cutout : Cutout
        Pixels of the n stamps.
    sky_variance : float array, shape (n,)
        Image units squared; NaN where no pixel is usable.
    """
    cutout = cut_out(exposure, x, y, settings.stamp_size, settings.geometry.annulus, settings.side)
    variance, _ = stamp_variance(exposure, source, cutout, x, y)
    good = torch.from_numpy(good_pixels(cutout.stamps.mask[:, cutout.inner, cutout.inner]))
    usable = variance.expand(good.shape).masked_fill(~good, torch.nan).flatten(1)
    return cutout, usable.nanmedian(dim=1).values.double().numpy()
