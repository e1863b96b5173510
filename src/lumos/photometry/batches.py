"""Objects of an exposure in batches of stamps, as the estimators take them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lumos.background.annulus import own_light_per_pixel
from lumos.background.noise import Cutout, ExposureNoise, cut_out, exposure_noise, stamp_variance
from lumos.conventions import AnyArray, Float32Array, FloatArray
from lumos.estimators import Ellipses, StampBatch
from lumos.estimators.light import masked_light_flags
from lumos.flags import Flag, MaskPlane, good_pixels
from lumos.images.exposure import Exposure
from lumos.photometry.objects import PlacedObjects
from lumos.photometry.settings import MeasureSettings
from lumos.profiles.sersic import render_sersic

__all__ = ["in_handy_units", "object_batches", "object_noise", "stamp_batch"]

#: Pixels of the large stamps that are held at once; sets the memory of a batch (about 50 bytes each).
_BATCH_PIXELS = 2_000_000
#: Pixel scatters that need no other unit.
_HANDY = (1e-4, 1e6)
#: Pixels brighter than this share of the profile's peak are the object's footprint.
_FOOTPRINT = 0.01


def in_handy_units(exposure: Exposure) -> tuple[Exposure, float]:
    """Choose units in which the squares of an exposure's pixels fit into single precision.

    Parameters
    ----------
    exposure : Exposure
        In image units.

    Returns
    -------
    exposure : Exposure
        Pixels, variance, sky and gain in the new unit; the zero point stays that of the image unit.
    unit : float
        The new unit in image units, 1 as a rule.
    """
    pixels = exposure.data[good_pixels(exposure.mask)]
    scatter = float(np.std(pixels)) if pixels.size else 1.0
    if not np.isfinite(scatter) or scatter == 0 or _HANDY[0] < scatter < _HANDY[1]:
        return exposure, 1.0

    def scaled(values: Float32Array | None, factor: float) -> Float32Array | None:
        return None if values is None else (values.astype(np.float64) / factor).astype(np.float32)

    data = scaled(exposure.data, scatter)
    assert data is not None
    variance, sky = scaled(exposure.variance, scatter**2), scaled(exposure.sky, scatter)
    return replace(exposure, data=data, variance=variance, sky=sky, gain=exposure.gain * scatter), scatter


def _annulus(size: int, settings: MeasureSettings) -> tuple[float, float]:
    """Return the annulus radii for a stamp size: they grow with the stamp."""
    growth = size / settings.stamp_size
    return settings.annulus_inner * growth, settings.annulus_outer * growth


def object_noise(exposure: Exposure, objects: PlacedObjects, settings: MeasureSettings) -> ExposureNoise:
    """Choose the noise of an exposure, with its correlation for the stamps that its objects need.

    Parameters
    ----------
    exposure : Exposure
        In handy units.
    objects : PlacedObjects
        Objects on it.
    settings : MeasureSettings
        Noise, stamps and annulus.

    Returns
    -------
    ExposureNoise
        As :func:`lumos.background.noise.exposure_noise` measures it.
    """
    sizes = np.unique(objects.stamp_size[objects.usable]).tolist()
    larger = {size: size / settings.stamp_size for size in sizes if size != settings.stamp_size}
    return exposure_noise(exposure, settings.noise, (settings.annulus_inner, settings.annulus_outer), larger)


def object_batches(objects: PlacedObjects, settings: MeasureSettings) -> Iterator[AnyArray]:
    """Share objects out into batches of one stamp size, few enough to hold in memory.

    Parameters
    ----------
    objects : PlacedObjects
        Objects of one exposure.
    settings : MeasureSettings
        Stamp sizes.

    Yields
    ------
    int array
        Row numbers; objects without shape or PSF are in none.
    """
    for size in np.unique(objects.stamp_size[objects.usable]):
        rows = np.flatnonzero(objects.usable & (objects.stamp_size == size))
        step = max(1, int(_BATCH_PIXELS / (2 * _annulus(int(size), settings)[1]) ** 2))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def stamp_batch(
    exposure: Exposure, noise: ExposureNoise, objects: PlacedObjects, rows: AnyArray, settings: MeasureSettings
) -> tuple[StampBatch, Cutout, AnyArray]:
    """Assemble what the estimators see of objects that share a stamp size.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    noise : ExposureNoise
        Source of its noise.
    objects : PlacedObjects
        All objects on the exposure.
    rows : int array, shape (n,)
        Which of them, as :func:`object_batches` yields them.
    settings : MeasureSettings
        Annulus.

    Returns
    -------
    batch : StampBatch
        Of n objects.
    cutout : Cutout
        The pixels that it was made of.
    flags : int array, shape (n,)
        Flags that the pixels give.
    """
    assert exposure.psf is not None
    size = int(objects.stamp_size[rows[0]])
    cutout = cut_out(exposure, objects.x[rows], objects.y[rows], size, _annulus(size, settings))
    inner, stamps = cutout.inner, cutout.stamps
    x, y = stamps.x - inner.start, stamps.y - inner.start
    profile = render_sersic(
        objects.radius[rows],
        objects.sersic_n[rows],
        objects.axis_ratio[rows],
        objects.theta[rows],
        x,
        y,
        exposure.psf.at(objects.x[rows], objects.y[rows]),
        size=size,
    )
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
            torch.from_numpy(objects.radius[rows] * np.sqrt(objects.axis_ratio[rows])),
            torch.from_numpy(objects.sersic_n[rows]),
            *_annulus(size, settings),
        ).float(),
        variance=None if variance is None else torch.where(good, variance, 1.0),
    )
    # What is lost of the light does not depend on who measures it: these count for every estimator and network.
    lost = torch.zeros(len(rows))
    some = (~good).flatten(1).any(1)
    lost[some] = 1 - (profile[some] * good[some]).sum((1, 2)) / profile[some].sum((1, 2))
    flags |= masked_light_flags(batch, lost, settings.masked_limit).numpy()
    return batch, cutout, flags | cutout.background.flags.numpy()


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
