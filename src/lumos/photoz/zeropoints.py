"""Zero points of bands against each other, from the residuals of the best models."""

from dataclasses import dataclass

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.photoz.bcnz.search import fit_at, fit_redshifts
from lumos.photoz.estimates import RedshiftPdf, quality
from lumos.photoz.fluxes import Photometry, light_of
from lumos.photoz.models import ModelGrid
from lumos.photoz.settings import PhotozSettings

__all__ = ["BandFactors", "fit_factors"]

#: Galaxies that a band needs.
_LEAST = 10
#: Range of the correction of one round.
_RANGE = (0.5, 2.0)
#: Times that redshifts are found anew, where they are not known.
_RENEWALS = 3


@dataclass(frozen=True, eq=False)
class BandFactors:
    """Factors of fluxes that make zero points of bands agree.

    Parameters
    ----------
    factor : ndarray, shape (n_bands,)
        By which fluxes and errors are multiplied; 1 where too few galaxies have a flux.
    n_galaxies : ndarray of int, shape (n_bands,)
        Fluxes that it comes from.
    last_step : ndarray, shape (n_bands,)
        Change of the factor in the last round, a share of it: how far the rounds were from settling.
    """

    factor: FloatArray
    n_galaxies: IntArray
    last_step: FloatArray


def fit_factors(
    photometry: Photometry, grid: ModelGrid, settings: PhotozSettings, redshift: FloatArray | None = None
) -> BandFactors:
    """Find the factors of the bands with which the median pull of the best models is 0.

    Each round fits every run to each galaxy at its redshift and keeps the best model M; the factor R of a band solves
    median((F R - M) / sigma) = 0 (Eriksen et al. 2019, section 4.3). What the fit cannot know is kept: the factor of
    ``settings.reference_band``, or the median of the factors; with a free scale for narrow and broad bands apart.

    Parameters
    ----------
    photometry : Photometry
        Fluxes of n galaxies in the bands of the models.
    grid : ModelGrid
        Model fluxes.
    settings : PhotozSettings
        Rounds, smallest signal-to-noise ratio, number of galaxies, reference band.
    redshift : ndarray, shape (n,), optional
        Known redshifts, NaN where unknown; without them those of the fluxes are taken, found three times, of the half
        with the better Qz.

    Returns
    -------
    BandFactors
        One factor per band.

    Raises
    ------
    LumosDataError
        If there are fewer than ten galaxies, or none of the redshifts is within the models.
    LumosConfigError
        If the reference band is no broad band.
    """
    fit_settings = settings.model_copy(update={"min_snr": settings.calibrate_min_snr, "likelihood": "gaussian"})
    if settings.likelihood == "student":
        fit_settings = fit_settings.model_copy(update={"likelihood": "student"})
    groups = _groups(grid, settings)
    allowed = np.ones(len(photometry), dtype=bool)
    if redshift is not None:
        low, high = grid.redshifts[[0, -1]]
        allowed = np.isfinite(redshift) & (redshift >= low) & (redshift <= high)
    chosen = _brightest(photometry, allowed, fit_settings)
    if len(chosen) < _LEAST:
        what = "" if redshift is None else f" with a redshift from {grid.redshifts[0]:.4g} to {grid.redshifts[-1]:.4g}"
        raise LumosDataError(f"zero points: {len(chosen)} galaxies{what}, needed: at least {_LEAST}")
    photometry = photometry.take(chosen)
    factors, step, counts = np.ones(len(grid.bands)), np.zeros(len(grid.bands)), np.zeros(len(grid.bands), dtype=int)
    if redshift is not None:
        place = grid.nearest(redshift[chosen])
        return _rounds(photometry, grid, fit_settings, place, BandFactors(factors, counts, step), groups)
    found = BandFactors(factors, counts, step)
    for _ in range(_RENEWALS):
        place, good = _redshifts(photometry.scaled(found.factor), grid, fit_settings)
        found = _rounds(photometry.take(good), grid, fit_settings, place[good], found, groups)
    return found


def _groups(grid: ModelGrid, settings: PhotozSettings) -> list[tuple[BoolArray, int | None]]:
    """Return the bands whose common factor is kept, with the band whose own is."""
    name, broad = settings.reference_band, ~grid.narrow
    if name is not None and (name not in grid.bands or not broad[grid.bands.index(name)]):
        bands = ", ".join(band for band, is_broad in zip(grid.bands, broad, strict=True) if is_broad)
        raise LumosConfigError(f"photoz.reference_band: got {name!r}, allowed: broad bands of the models: {bands}")
    reference = None if name is None else grid.bands.index(name)
    if settings.free_scale and broad.any() and grid.narrow.any():
        return [(grid.narrow, None), (broad, reference)]
    return [(np.ones(len(broad), dtype=bool), reference)]


def _brightest(photometry: Photometry, allowed: BoolArray, settings: PhotozSettings) -> IntArray:
    """Return the galaxies with the largest median signal-to-noise ratio."""
    usable = photometry.usable(settings.min_snr)
    allowed = allowed & (usable.sum(axis=1) >= max(settings.min_bands, 4))
    candidates = np.flatnonzero(allowed)
    snr = np.where(usable, photometry.flux, np.nan) / photometry.flux_err
    middle = np.nanmedian(snr[candidates], axis=1)
    return candidates[np.sort(np.argsort(-middle, kind="stable")[: settings.calibrate_galaxies])]


def _redshifts(photometry: Photometry, grid: ModelGrid, settings: PhotozSettings) -> tuple[IntArray, IntArray]:
    """Return places of the best redshifts on the grid, and the better half of the galaxies."""
    places, values = [], []
    for first in range(0, len(photometry), settings.galaxies_at_once):
        light, usable, _ = light_of(photometry.take(slice(first, first + settings.galaxies_at_once)), settings)
        fits = fit_redshifts(grid, light, settings)
        place = fits.peak()
        pdf = RedshiftPdf.of(grid.redshifts, fits.log_density)
        ends = pdf.quantiles([0.01, 0.99])
        odds = pdf.odds(grid.redshifts[place], settings.odds_window)
        chi2 = fits.chi2[place, np.arange(len(place))]
        values.append(quality(chi2, (ends[:, 1] - ends[:, 0]) / 2, odds, usable.sum(axis=1)))
        places.append(place)
    qz = np.concatenate(values)
    return np.concatenate(places), np.flatnonzero(qz <= np.median(qz))


def _rounds(
    photometry: Photometry,
    grid: ModelGrid,
    settings: PhotozSettings,
    place: IntArray,
    begun: BandFactors,
    groups: list[tuple[BoolArray, int | None]],
) -> BandFactors:
    """Repeat fits at known redshifts and corrections of the factors."""
    factors = begun.factor
    for _ in range(settings.calibrate_rounds):
        light, usable, _ = light_of(photometry.scaled(factors), settings)
        best = fit_at(grid, light, place, settings)
        with np.errstate(divide="ignore"):
            error = np.where(usable.T, light.weights**-0.5, np.inf)
        correction = _zero_pull(light.fluxes / error, best.fluxes / error, usable.T)
        for bands, reference in groups:
            correction[bands] /= np.median(correction[bands]) if reference is None else correction[reference]
        factors = factors * correction
    return BandFactors(factors, usable.sum(axis=0), np.abs(correction - 1))


def _zero_pull(flux: FloatArray, model: FloatArray, usable: BoolArray) -> FloatArray:
    """Return the factor R of each band with median(flux R - model) = 0, by bisection."""
    low, high = (np.full(len(flux), end) for end in _RANGE)
    enough = usable.sum(axis=1) >= _LEAST
    pulls = np.where(usable, 0.0, np.nan)
    pulls[~enough] = 0
    for _ in range(40):
        middle = (low + high) / 2
        above = np.nanmedian(flux * middle[:, None] - model + pulls, axis=1) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(enough, (low + high) / 2, 1.0)
