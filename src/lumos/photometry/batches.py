"""Objects of an exposure in batches of stamps, as the estimators take them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lumos.background.annulus import own_light_per_pixel
from lumos.background.noise import Cutout, cut_out, stamp_variance
from lumos.conventions import AnyArray, FloatArray
from lumos.estimators import Ellipses, StampBatch, StampContext
from lumos.estimators.light import masked_light_flags
from lumos.flags import Flag, MaskPlane, good_pixels
from lumos.photometry.ccd import Ccd
from lumos.photometry.settings import MeasureSettings
from lumos.profiles.sersic import render

__all__ = ["object_batches", "stamp_batch"]

#: Pixels of the large stamps that are held at once; sets the memory of a batch (about 50 bytes each).
_BATCH_PIXELS = 2_000_000
#: Pixels brighter than this share of the profile's peak are the object's footprint.
_FOOTPRINT = 0.01


def _annulus(size: int, settings: MeasureSettings) -> tuple[float, float]:
    """Return the annulus radii for a stamp size: they grow with the stamp."""
    return settings.geometry.grown(size).annulus


def object_batches(ccd: Ccd) -> Iterator[AnyArray]:
    """Share the objects of a CCD out into batches of one stamp size, few enough to hold in memory.

    Parameters
    ----------
    ccd : Ccd
        The CCD.

    Yields
    ------
    int array
        Row numbers; objects without shape or PSF are in none.
    """
    objects, settings = ccd.objects, ccd.settings
    for size in np.unique(objects.stamp_size[objects.usable]):
        rows = np.flatnonzero(objects.usable & (objects.stamp_size == size))
        step = max(1, int(_BATCH_PIXELS / (2 * _annulus(int(size), settings)[1]) ** 2))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def stamp_batch(ccd: Ccd, rows: AnyArray) -> tuple[StampBatch, Cutout, AnyArray]:
    """Assemble what the estimators see of objects that share a stamp size.

    Parameters
    ----------
    ccd : Ccd
        With a PSF.
    rows : int array, shape (n,)
        Which of its objects, as :func:`object_batches` yields them.

    Returns
    -------
    batch : StampBatch
        Of n objects.
    cutout : Cutout
        The pixels that it was made of.
    flags : int array, shape (n,)
        Flags that the pixels give.
    """
    exposure, objects, noise, settings = ccd.exposure, ccd.objects, ccd.noise, ccd.settings
    assert exposure.psf is not None
    size = int(objects.stamp_size[rows[0]])
    cutout = cut_out(exposure, objects.x[rows], objects.y[rows], size, _annulus(size, settings))
    inner, stamps = cutout.inner, cutout.stamps
    x, y = stamps.x - inner.start, stamps.y - inner.start
    psf = exposure.psf.at(objects.x[rows], objects.y[rows])
    profile = render(objects.take(rows).at(x, y), psf, size=size)
    mask = stamps.mask[:, inner, inner]
    good = torch.from_numpy(good_pixels(mask))
    sky_variance, variance = stamp_variance(exposure, noise.source, cutout, objects.x[rows], objects.y[rows])
    sky_variance, good, bad_noise = _clean_variance(sky_variance, variance, good)
    flags = _pixel_flags(profile, mask, x, y)
    flags |= np.where(bad_noise, int(Flag.BAD_NOISE), 0)
    gain = exposure.gain if np.isfinite(exposure.gain) else np.inf
    batch = StampBatch(
        data=torch.from_numpy(np.ascontiguousarray(stamps.data[:, inner, inner])),
        good=good,
        sky_variance=sky_variance.float(),
        gain=torch.full((len(rows),), gain, dtype=torch.float32),
        profile=profile,
        x=torch.from_numpy(x).float(),
        y=torch.from_numpy(y).float(),
        ellipses=Ellipses(
            torch.from_numpy(objects.semi_major[rows]).float(),
            torch.from_numpy(objects.semi_minor[rows]).float(),
            torch.from_numpy(objects.theta[rows]).float(),
        ),
        background=cutout.background.level.float(),
        background_err=cutout.background.level_err.float(),
        own_light=own_light_per_pixel(
            torch.from_numpy(objects.half_light_radius[rows] * np.sqrt(objects.axis_ratio[rows])),
            torch.from_numpy(objects.sersic_n[rows]),
            *_annulus(size, settings),
        ).float(),
        variance=None if variance is None else torch.where(good, variance, 1.0),
        context=_context(ccd, rows, size),
    )
    # What is lost of the light does not depend on who measures it: these count for every estimator and network.
    lost = torch.zeros(len(rows))
    some = (~good).flatten(1).any(1)
    lost[some] = 1 - (profile[some] * good[some]).sum((1, 2)) / profile[some].sum((1, 2))
    flags |= masked_light_flags(batch, lost, settings.masked_limit).numpy()
    return batch, cutout, flags | cutout.background.flags.numpy()


def _context(ccd: Ccd, rows: AnyArray, size: int) -> StampContext:
    """Return what is known of objects beside their pixels."""
    exposure, objects = ccd.exposure, ccd.objects
    ny, nx = exposure.shape
    correlation = ccd.noise.correlation_at(size)
    ref_mag = objects.catalog.ref_mag[rows]
    return StampContext(
        band=exposure.band,
        state=exposure.state,
        ccd_x=torch.from_numpy((objects.x[rows] + 0.5) / nx),
        ccd_y=torch.from_numpy((objects.y[rows] + 0.5) / ny),
        ref_mag=torch.from_numpy(ref_mag),
        ref_flux=torch.from_numpy(10 ** (-0.4 * (ref_mag - exposure.zeropoint)) / ccd.unit),
        rate=torch.full((len(rows),), exposure.gain / exposure.exposure_time),
        psf_fwhm=torch.from_numpy(objects.psf_fwhm[rows]),
        noise_factor=None if correlation is None else correlation.factor_at,
    )


def _clean_variance(sky_variance: Tensor, variance: Tensor | None, good: Tensor) -> tuple[Tensor, Tensor, AnyArray]:
    """Put 1 where a variance is unusable; return also the usable pixels, and which objects have no usable variance.

    Pixels of an object without any usable variance stay as they are: its flag says what is wrong.
    """
    usable = torch.isfinite(sky_variance) & (sky_variance > 0)
    for_pixels = usable if variance is None else usable & torch.isfinite(variance) & (variance > 0)
    bad = good.flatten(1).any(1) & ~(for_pixels & good).flatten(1).any(1)
    good = good & (for_pixels | bad[:, None, None])
    return torch.where(usable, sky_variance, 1.0), good, bad.numpy()


def _pixel_flags(profile: Tensor, mask: AnyArray, x: FloatArray, y: FloatArray) -> AnyArray:
    """Return the flags that the planes of the mask give."""
    footprint = (profile >= _FOOTPRINT * profile.amax(dim=(1, 2), keepdim=True)).numpy()
    centre = mask[np.arange(len(mask)), np.rint(y).astype(int), np.rint(x).astype(int)]

    def touched(planes: MaskPlane) -> AnyArray:
        return np.asarray((((mask & int(planes)) != 0) & footprint).any(axis=(1, 2)))

    conditions = {
        Flag.EDGE: ((mask & int(MaskPlane.NO_DATA)) != 0).any(axis=(1, 2)),
        Flag.OFF_DATA: (centre & int(MaskPlane.NO_DATA)) != 0,
        Flag.SATURATED: touched(MaskPlane.SATURATED | MaskPlane.BLEED),
        Flag.COSMIC_RAY: touched(MaskPlane.COSMIC_RAY),
    }
    flags = np.zeros(len(mask), dtype=np.int64)
    for flag, condition in conditions.items():
        flags |= np.where(condition, int(flag), 0)
    return flags
