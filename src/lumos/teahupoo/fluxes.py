"""Fluxes that the population's galaxies have in the bands of a pool."""

from collections.abc import Sequence

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosDataError
from lumos.pools.part import PoolExposure
from lumos.pools.pool import BackgroundPool, BackgroundStamps
from lumos.simulate.population import Galaxies
from lumos.spectra.passbands import Passband, find_passbands
from lumos.teahupoo.settings import StampSettings

__all__ = ["exposure_passband", "image_flux", "pool_passbands", "population_flux"]


def pool_passbands(pool: BackgroundPool, settings: StampSettings) -> list[Passband]:
    """Return the passband of each exposure of a pool: the given one, else its survey's, else the common one.

    Parameters
    ----------
    pool : BackgroundPool
        Backgrounds.
    settings : StampSettings
        Passbands that come first.

    Returns
    -------
    list of Passband
        In the order of the pool's ``exposures``.

    Raises
    ------
    LumosConfigError
        If no passband of a band is known.
    """
    return [exposure_passband(exposure, settings) for exposure in pool.exposures]


def exposure_passband(exposure: PoolExposure, settings: StampSettings) -> Passband:
    """Return the passband of an exposure of a pool: the given one, else its survey's, else the common one.

    Parameters
    ----------
    exposure : PoolExposure
        One CCD.
    settings : StampSettings
        Passbands that come first.

    Returns
    -------
    Passband
        Of its band.

    Raises
    ------
    LumosConfigError
        If no passband of the band is known.
    """
    own = exposure.wavelength, exposure.width
    known = ({exposure.band: own} if np.isfinite(own).all() else {}) | settings.passbands
    return find_passbands((exposure.band,), known)[exposure.band]


def population_flux(
    galaxies: Galaxies, backgrounds: BackgroundStamps, passbands: Sequence[Passband], settings: StampSettings
) -> FloatArray:
    """Return the fluxes of galaxies in the bands of their backgrounds.

    Parameters
    ----------
    galaxies : Galaxies
        n galaxies.
    backgrounds : BackgroundStamps
        n stamps.
    passbands : sequence of Passband
        Of each entry of the backgrounds' ``exposure``, as of :func:`pool_passbands`.
    settings : StampSettings
        Limits of the flux.

    Returns
    -------
    float array, shape (n,)
        Image units.
    """
    own = [passbands[number] for number in backgrounds.exposure]
    flux = np.empty(len(galaxies))
    for passband in set(own):
        here = np.flatnonzero([other == passband for other in own])
        flux[here] = galaxies.take(here).band_flux([passband])[:, 0]
    return image_flux(flux, backgrounds.zeropoint, backgrounds.exposure_time / backgrounds.gain, settings)


def image_flux(
    flux: FloatArray, zeropoint: FloatArray | float, unit: FloatArray | float, settings: StampSettings
) -> FloatArray:
    """Bring fluxes to image units and inside their limits.

    Parameters
    ----------
    flux : float array, shape (n,)
        Fluxes, nJy.
    zeropoint : float or float array, shape (n,)
        AB magnitude of one image unit.
    unit : float or float array, shape (n,)
        Image units of one electron per second.
    settings : StampSettings
        Limits, electrons per second.

    Returns
    -------
    float array, shape (n,)
        Image units.

    Raises
    ------
    LumosDataError
        If a zero point, or what the limits need, is unknown.
    """
    if not np.isfinite(zeropoint).all() or (settings.flux_clip is not None and not np.isfinite(unit).all()):
        raise LumosDataError("an exposure without zero point, gain or exposure time, which flux_from=population needs")
    flux = flux * 10 ** (0.4 * (zeropoint - AB_ZEROPOINT_NJY))
    if settings.flux_clip is None:
        return flux
    low, high = settings.flux_clip
    return np.asarray(np.clip(flux, low * unit, high * unit))
