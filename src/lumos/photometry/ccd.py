"""One CCD of one exposure, with all that measuring its objects takes."""

from dataclasses import dataclass, replace

import numpy as np

from lumos.background.noise import ExposureNoise, exposure_noise
from lumos.conventions import Float32Array
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.photometry.objects import PlacedObjects
from lumos.photometry.settings import MeasureSettings

__all__ = ["Ccd", "in_handy_units", "prepare_ccd"]

#: Pixel scatters that need no other unit.
_HANDY = (1e-4, 1e6)


@dataclass(frozen=True)
class Ccd:
    """One CCD of one exposure, ready to be measured.

    Parameters
    ----------
    exposure : Exposure
        In units of ``unit`` image units; its zero point stays that of the image unit.
    unit : float
        Image units.
    noise : ExposureNoise
        Of the exposure, with its correlation for the stamps of the objects.
    objects : PlacedObjects
        On it.
    settings : MeasureSettings
        What to measure and how.
    """

    exposure: Exposure
    unit: float
    noise: ExposureNoise
    objects: PlacedObjects
    settings: MeasureSettings


def prepare_ccd(exposure: Exposure, unit: float, objects: PlacedObjects, settings: MeasureSettings) -> Ccd:
    """Choose the noise of a CCD for its objects.

    Parameters
    ----------
    exposure : Exposure
        In handy units, see :func:`in_handy_units`.
    unit : float
        These units, in image units.
    objects : PlacedObjects
        On the exposure.
    settings : MeasureSettings
        Noise, stamps and annulus.

    Returns
    -------
    Ccd
        With the noise as :func:`lumos.background.noise.exposure_noise` measures it.
    """
    sizes = np.unique(objects.stamp_size[objects.usable]).tolist()
    larger = {size: size / settings.stamp_size for size in sizes if size != settings.stamp_size}
    noise = exposure_noise(exposure, settings.noise, settings.geometry.annulus, larger)
    return Ccd(exposure, unit, noise, objects, settings)


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
