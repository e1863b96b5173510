"""Batches of stamps of an exposure's objects, as the estimators take them."""

import numpy as np
import torch
from torch import Tensor

from lumos.background.annulus import own_light_per_pixel
from lumos.background.noise import Cutout, cut_out, stamp_variance
from lumos.conventions import AnyArray, FloatArray
from lumos.estimators import Ellipses, SceneFit, StampBatch, StampContext
from lumos.estimators.light import masked_light_flags
from lumos.flags import Flag, MaskPlane, good_pixels
from lumos.images.stamps import cut_stamps
from lumos.photometry.ccd import Ccd
from lumos.photometry.scene import draw_profiles
from lumos.photometry.settings import MeasureSettings

__all__ = ["stamp_batch"]

#: Pixels brighter than this share of the profile's peak are the object's footprint.
_FOOTPRINT = 0.01
#: Light of neighbours below this share of the object's own light on a pixel is none.
_ROUNDING = 1e-4


def _annulus(size: int, settings: MeasureSettings) -> tuple[float, float]:
    """Return the annulus radii for a stamp size: they grow with the stamp."""
    return settings.geometry.grown(size).annulus


def stamp_batch(ccd: Ccd, rows: AnyArray) -> tuple[StampBatch, Cutout, AnyArray]:
    """Assemble what the estimators see of objects that share a stamp size.

    Parameters
    ----------
    ccd : Ccd
        With a PSF.
    rows : int array, shape (n,)
        Which of its objects, as :func:`lumos.photometry.ccd.object_batches` yields them.

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
    bare = ccd.bare
    cutout = cut_out(bare, objects.x[rows], objects.y[rows], size, _annulus(size, settings))
    inner, stamps = cutout.inner, cutout.stamps
    x, y = stamps.x - inner.start, stamps.y - inner.start
    profile = None if ccd.scene is None else ccd.scene.profiles.get(rows.tobytes())
    if profile is None:
        profile = draw_profiles(exposure, objects, rows, size).stamps
    flux, others = _scene_light(ccd, rows, profile)
    own = flux if ccd.cleans else None
    mask = stamps.mask[:, inner, inner]
    good = torch.from_numpy(good_pixels(mask))
    sky_variance, variance = stamp_variance(exposure, noise.source, cutout, objects.x[rows], objects.y[rows])
    if own is not None and np.isfinite(exposure.gain):
        sky_variance = sky_variance + others.clamp(min=0) / exposure.gain
    sky_variance, good, bad_noise = _clean_variance(sky_variance, variance, good)
    flags = _pixel_flags(profile, mask, x, y)
    flags |= np.where(bad_noise, int(Flag.BAD_NOISE), 0)
    gain = exposure.gain if np.isfinite(exposure.gain) else np.inf
    data = torch.from_numpy(np.ascontiguousarray(stamps.data[:, inner, inner]))
    batch = StampBatch(
        data=data if own is None else data + own[:, None, None] * profile,
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
        own_light=_own_light(ccd, rows, size) if own is None else torch.zeros(len(rows)),
        variance=None if variance is None else torch.where(good, variance, 1.0),
        context=_context(ccd, rows, size),
        scene=_scene_fit(ccd, rows, others),
        shape_errors=objects.shape_errors.take(rows),
    )
    # What is lost of the light does not depend on who measures it: these count for every estimator and network.
    lost = torch.zeros(len(rows))
    some = (~good).flatten(1).any(1)
    lost[some] = 1 - (profile[some] * good[some]).sum((1, 2)) / profile[some].sum((1, 2))
    flags |= masked_light_flags(batch, lost, settings.masked_limit).numpy()
    return batch, cutout, flags | cutout.background.flags.numpy()


def _own_light(ccd: Ccd, rows: AnyArray, size: int) -> Tensor:
    """Return the share of each object's light per pixel of its annulus."""
    objects = ccd.objects
    radius = objects.half_light_radius[rows] * np.sqrt(objects.axis_ratio[rows])
    edges = _annulus(size, ccd.settings)
    return own_light_per_pixel(torch.from_numpy(radius), torch.from_numpy(objects.sersic_n[rows]), *edges).float()


def _scene_light(ccd: Ccd, rows: AnyArray, profile: Tensor) -> tuple[Tensor, Tensor]:
    """Return the joint flux of each object, shape (n,), and the light of all others on its stamp; 0 without a scene."""
    scene = ccd.scene
    if scene is None:
        return torch.zeros(len(rows)), torch.zeros_like(profile)
    own = torch.from_numpy(np.nan_to_num(scene.fluxes.flux[scene.rows[rows]])).float()
    light = cut_stamps(scene.light, ccd.objects.x[rows], ccd.objects.y[rows], profile.shape[1]).data
    own_light = own[:, None, None] * profile
    others = torch.from_numpy(light) - own_light
    # Below this it is rounding.
    return own, torch.where(others.abs() > _ROUNDING * own_light.abs(), others, 0.0)


def _scene_fit(ccd: Ccd, rows: AnyArray, others: Tensor) -> SceneFit | None:
    """Return what the joint fit tells of objects."""
    scene = ccd.scene
    if scene is None:
        return None
    some = scene.fluxes.take(scene.rows[rows])
    names = ("flux", "flux_err", "alone_err", "neighbour_light")
    explained = cut_stamps(scene.explained, ccd.objects.x[rows], ccd.objects.y[rows], others.shape[1]).data
    return SceneFit(
        **{name: torch.from_numpy(getattr(some, name)).float() for name in names},
        others=others,
        explained=torch.from_numpy(explained) > 0,
        is_cleaned=ccd.cleans,
    )


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
