"""One CCD of one exposure, with all that measuring its objects takes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lumos.background.noise import ExposureNoise, PixelNoise, exposure_noise, pixel_noise
from lumos.conventions import AnyArray, Float32Array, IntArray
from lumos.flags import MaskPlane, good_pixels
from lumos.images.exposure import Exposure
from lumos.images.trails import find_trails
from lumos.photometry.objects import PlacedObjects
from lumos.photometry.scene import CcdScene, fit_ccd_scene
from lumos.photometry.settings import MeasureSettings

__all__ = ["Ccd", "in_handy_units", "object_batches", "prepare_ccd", "with_objects", "without_light"]

logger = logging.getLogger(__name__)

#: Pixel scatters that need no other unit.
_HANDY = (1e-4, 1e6)
#: Pixels of the large stamps that are held at once; sets the memory of a batch (about 50 bytes each).
_BATCH_PIXELS = 2_000_000


@dataclass(frozen=True)
class Ccd:
    """One CCD of one exposure, ready to be measured.

    Parameters
    ----------
    exposure : Exposure
        In units of ``unit`` image units; its zero point stays that of the image unit.
    unit : float
        Image units.
    pixels : PixelNoise
        Noise of its pixels.
    noise : ExposureNoise
        Of the exposure, with its correlation for the stamps of the objects.
    objects : PlacedObjects
        On it.
    settings : MeasureSettings
        What to measure and how.
    scene : CcdScene or None
        The joint fit of its objects; None: stamps are as they are.
    """

    exposure: Exposure
    unit: float
    pixels: PixelNoise
    noise: ExposureNoise
    objects: PlacedObjects
    settings: MeasureSettings
    scene: CcdScene | None

    def take(self, rows: AnyArray) -> "Ccd":
        """Return the CCD with some of its objects to be measured; the scene holds all of them.

        Parameters
        ----------
        rows : int or bool array
            Which objects.

        Returns
        -------
        Ccd
            The same exposure.
        """
        scene = self.scene
        if scene is not None:
            # Profiles are kept by batch, and batches are others now.
            scene = replace(scene, rows=scene.rows[rows], profiles={})
        return replace(self, objects=self.objects.take(rows), scene=scene)

    @property
    def cleans(self) -> bool:
        """Return whether neighbours are subtracted from stamps."""
        return self.scene is not None and self.settings.scene == "joint"

    @cached_property
    def bare(self) -> Exposure:
        """Return the exposure without the light of the catalogue's objects, where neighbours are subtracted."""
        return without_light(self.exposure, self.scene) if self.scene is not None and self.cleans else self.exposure


def prepare_ccd(
    exposure: Exposure, unit: float, around: PlacedObjects, rows: IntArray, settings: MeasureSettings
) -> Ccd:
    """Fit the scene of a CCD and choose the noise for its objects.

    Parameters
    ----------
    exposure : Exposure
        In handy units, see :func:`in_handy_units`.
    unit : float
        These units, in image units.
    around : PlacedObjects
        On the exposure, and up to ``SCENE_REACH`` off it.
    rows : int array, shape (n,)
        Which of them are to be measured.
    settings : MeasureSettings
        Noise, stamps and annulus.

    Returns
    -------
    Ccd
        With the noise as :func:`lumos.background.noise.exposure_noise` measures it, where neighbours are subtracted
        on the image without the objects.
    """
    pixels, objects = pixel_noise(exposure, settings.noise), around.take(rows)
    scene = fit_ccd_scene(exposure, around, rows, object_batches(objects, settings), pixels)
    if settings.trails:
        trails = find_trails(without_light(exposure, scene).data, pixels.variance, good_pixels(exposure.mask))
        if trails.any():
            text = "%s, CCD %s: trails of satellites on %.2g %% of the pixels, which are masked"
            logger.info(text, exposure.exposure_id, exposure.detector, 100 * trails.mean())
            planes = np.where(trails, np.int32(MaskPlane.TRAIL), np.int32(0))
            exposure = replace(exposure, mask=exposure.mask | planes)
            scene = fit_ccd_scene(exposure, around, rows, object_batches(objects, settings), pixels)
    sizes = np.unique(objects.stamp_size[objects.usable]).tolist()
    larger = {size: size / settings.stamp_size for size in sizes if size != settings.stamp_size}
    bare = without_light(exposure, scene) if settings.scene == "joint" else exposure
    noise = exposure_noise(bare, pixels, settings.noise, settings.geometry.annulus, larger)
    return Ccd(exposure, unit, pixels, noise, objects, settings, scene)


def with_objects(ccd: Ccd, exposure: Exposure, added: PlacedObjects) -> Ccd:
    """Add objects to a CCD, which are then the ones to be measured.

    Parameters
    ----------
    ccd : Ccd
        With a scene.
    exposure : Exposure
        Its exposure, with their light.
    added : PlacedObjects
        The objects.

    Returns
    -------
    Ccd
        With the scene of all objects and the noise that it had.
    """
    assert ccd.scene is not None
    before = ccd.scene.around
    nameless = replace(before.catalog, object_name=None, flags=None, made_from=added.catalog.made_from)
    around = PlacedObjects.concatenate([replace(before, catalog=nameless), added])
    rows = np.arange(len(before), len(around))
    scene = fit_ccd_scene(exposure, around, rows, object_batches(added, ccd.settings), ccd.pixels)
    return replace(ccd, exposure=exposure, objects=added, scene=scene)


def without_light(exposure: Exposure, scene: CcdScene) -> Exposure:
    """Return an exposure without the light of its scene.

    Parameters
    ----------
    exposure : Exposure
        With the sky.
    scene : CcdScene
        Its joint fit.

    Returns
    -------
    Exposure
        With the sky alone, and what the catalogue does not explain.
    """
    return replace(exposure, data=exposure.data - scene.light)


def object_batches(objects: PlacedObjects, settings: MeasureSettings) -> Iterator[AnyArray]:
    """Share the objects of a CCD out into batches of one stamp size, few enough to hold in memory.

    Parameters
    ----------
    objects : PlacedObjects
        On the CCD.
    settings : MeasureSettings
        Stamps and annulus.

    Yields
    ------
    int array
        Row numbers; objects without shape or PSF are in none.
    """
    for size in np.unique(objects.stamp_size[objects.usable]):
        rows = np.flatnonzero(objects.usable & (objects.stamp_size == size))
        step = max(1, int(_BATCH_PIXELS / (2 * settings.geometry.grown(int(size)).annulus[1]) ** 2))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


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
