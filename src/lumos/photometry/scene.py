"""The scene of a CCD: its catalogue objects, and those just outside, fitted together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lumos.background.noise import PixelNoise
from lumos.conventions import AnyArray, BoolArray, Float32Array, IntArray
from lumos.flags import Flag, good_pixels
from lumos.images.exposure import Exposure
from lumos.photometry.objects import PlacedObjects
from lumos.profiles.scene import draw_stamps, stamp_corners
from lumos.profiles.sersic import render
from lumos.psfs import MoffatPsf
from lumos.scenes.draw import Profiles, SceneImage
from lumos.scenes.fit import SceneFluxes, fit_scene

__all__ = ["SCENE_REACH", "CcdScene", "draw_profiles", "fit_ccd_scene"]

#: Objects this far outside the image have a part in its scene; pixels.
SCENE_REACH = 60.0
#: Pixels of profiles that are kept for the stamps of the objects; beyond this they are drawn again.
_KEPT = 150_000_000
#: Pixels along a side of stamps of wings, and the sharpest PSF on them.
_COARSE_SIDE, _SHARPEST = 60, 0.8


@dataclass(frozen=True)
class CcdScene:
    """The joint fit of a CCD.

    Parameters
    ----------
    around : PlacedObjects
        All objects of the scene, m of them.
    rows : int array, shape (n,)
        Which of them are on the CCD.
    fluxes : SceneFluxes
        Of all m objects.
    light : float32 array, shape (ny, nx)
        Light of all objects, in the units of the exposure.
    explained : bool array, shape (ny, nx)
        False on pixels that depart from the scene.
    profiles : dict
        Profiles of batches of the CCD's objects that were drawn for the fit, by the bytes of the objects' numbers.
    """

    around: PlacedObjects
    rows: IntArray
    fluxes: SceneFluxes
    light: Float32Array
    explained: BoolArray
    profiles: dict[bytes, Tensor]


def draw_profiles(exposure: Exposure, objects: PlacedObjects, rows: AnyArray, size: int) -> Profiles:
    """Draw objects on stamps, as :func:`lumos.images.stamps.cut_stamps` cuts them.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    objects : PlacedObjects
        On it or near it.
    rows : int array, shape (n,)
        Which of them.
    size : int
        Side of the stamps in pixels.

    Returns
    -------
    Profiles
        Convolved profiles of unit flux.
    """
    assert exposure.psf is not None
    some = objects.take(rows)
    stamps, corners = draw_stamps(some, exposure.psf.at(some.x, some.y), size)
    return Profiles(rows, torch.from_numpy(stamps), corners)


def _draw_surroundings(exposure: Exposure, objects: PlacedObjects, rows: AnyArray, size: int) -> Profiles:
    """Draw objects on stamps with 0 in the middle; wings need no small pixels."""
    assert exposure.psf is not None
    some = objects.take(rows)
    corners, psf = stamp_corners(some, size), exposure.psf.at(some.x, some.y)
    sharpest = float(np.nanmin(some.psf_fwhm))
    step = max(1, min(size // _COARSE_SIDE, int(sharpest / _SHARPEST)))
    while size % step:
        step -= 1
    x, y = ((v - corner + 0.5) / step - 0.5 for v, corner in ((some.x, corners[:, 1]), (some.y, corners[:, 0])))
    shapes = replace(some.at(x, y), half_light_radius=some.half_light_radius / step)
    if isinstance(psf, MoffatPsf):
        psf = MoffatPsf(psf.fwhm / step, psf.beta)
    else:
        psf = replace(psf, sampling=psf.sampling / step)
    coarse = render(shapes, psf, size=size // step) / step**2
    stamps = coarse if step == 1 else interpolate(coarse[:, None], scale_factor=step, mode="bilinear")[:, 0]
    quarter = size // 4
    stamps[:, quarter : quarter + size // 2, quarter : quarter + size // 2] = 0.0
    return Profiles(rows, stamps, corners)


def fit_ccd_scene(
    exposure: Exposure, around: PlacedObjects, rows: IntArray, batches: Iterator[AnyArray], noise: PixelNoise
) -> CcdScene:
    """Fit the scene of a CCD.

    Parameters
    ----------
    exposure : Exposure
        With a PSF, in handy units.
    around : PlacedObjects
        Objects on it and around it. One without a PSF has no part in the scene; one without a usable shape counts as
        a small source.
    rows : int array, shape (n,)
        Which of them are on the CCD.
    batches : iterator of int array
        Numbers in ``rows`` of the objects with shape and PSF, in batches of one stamp size.
    noise : PixelNoise
        Of the exposure.

    Returns
    -------
    CcdScene
        The fit.
    """
    kept: dict[bytes, Tensor] = {}

    def every() -> Iterator[Profiles]:
        rest = (around.flags & int(Flag.NO_PSF)) == 0
        n_kept = 0
        for batch in batches:
            drawn = draw_profiles(exposure, around, rows[batch], int(around.stamp_size[rows[batch[0]]]))
            n_kept += drawn.stamps.numel()
            if n_kept <= _KEPT:
                kept[batch.tobytes()] = drawn.stamps
            rest[drawn.rows] = False
            yield drawn
        for size in np.unique(around.stamp_size[rest]).tolist():
            others = np.flatnonzero(rest & (around.stamp_size == size))
            for part in np.array_split(others, -(-len(others) * size**2 // 2_000_000)):
                yield draw_profiles(exposure, around, part, size)

    own_map = noise.source == "variance"
    image = SceneImage(
        data=exposure.data,
        good=good_pixels(exposure.mask),
        variance=noise.variance,
        includes_objects=own_map and exposure.variance_includes_sources,
        gain=exposure.gain if np.isfinite(exposure.gain) else np.inf,
    )
    scene = fit_scene(image, every(), lambda some, size: _draw_surroundings(exposure, around, some, size), len(around))
    return CcdScene(around, rows, scene.fluxes, scene.light, scene.explained, kept)
