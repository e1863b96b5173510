"""Rows of the table of ``lumos photoz``: point estimates, p(z) and flags of galaxies."""

from collections.abc import Sequence

import numpy as np

from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.flags import PhotozFlag
from lumos.photoz.bcnz.likelihood import Light
from lumos.photoz.bcnz.points import SCALE_RANGE
from lumos.photoz.bcnz.search import fit_redshifts
from lumos.photoz.estimates import RedshiftPdf, quality
from lumos.photoz.fluxes import Photometry, light_of
from lumos.photoz.models import ModelGrid
from lumos.photoz.settings import PhotozSettings
from lumos.statistics import SUMMARY_LEVELS

__all__ = ["empty_columns", "estimate_columns", "no_light_chi2", "redshift_rows"]

_LEVELS = (0.01, *SUMMARY_LEVELS, 0.99)
_QUANTILES = ("z_q01", "z_q16", "z_q50", "z_q84", "z_q99")
#: A fit is poor if chance alone makes chi2 as large with a smaller probability.
_POOR = 1e-4
#: Share by which chi2 must be smaller than that of no light at all.
_EXPLAINS = 1e-9


def redshift_rows(photometry: Photometry, grid: ModelGrid, settings: PhotozSettings) -> dict[str, AnyArray]:
    """Fit galaxies and return the columns of their rows.

    Parameters
    ----------
    photometry : Photometry
        Fluxes of n galaxies, in the bands of the models.
    grid : ModelGrid
        Model fluxes.
    settings : PhotozSettings
        Settings.

    Returns
    -------
    dict of ndarray, shape (n,) or (n, n_z)
        Columns as in :func:`lumos.catalogs.schema.photoz_schema`.

    Raises
    ------
    LumosDataError
        If likelihoods are asked for and there are none.
    """
    step = settings.galaxies_at_once
    parts = [
        _rows(photometry.take(slice(first, first + step)), grid, settings)
        for first in range(0, max(len(photometry), 1), step)
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if photometry.object_name is not None:
        columns["object_name"] = photometry.object_name
    return columns


def no_light_chi2(light: Light) -> FloatArray:
    """Return chi2, or -2 ln L, of no light at all.

    Parameters
    ----------
    light : Light
        What was measured of G galaxies.

    Returns
    -------
    ndarray, shape (G,)
        The values.
    """
    touching = light.parabola(np.zeros_like(light.fluxes), np.arange(light.fluxes.shape[1]))
    if touching is None:
        return np.asarray((light.weights * light.fluxes**2).sum(axis=0))
    return touching.value


def _rows(photometry: Photometry, grid: ModelGrid, settings: PhotozSettings) -> dict[str, AnyArray]:
    light, usable, _ = light_of(photometry, settings)
    n_bands = usable.sum(axis=1)
    fitted = np.flatnonzero(n_bands >= settings.min_bands)
    flags = np.where(n_bands < settings.min_bands, int(PhotozFlag.TOO_FEW_BANDS), 0)
    flags |= np.where(n_bands < len(grid.bands), int(PhotozFlag.MISSING_BANDS), 0)
    seen = light.take(fitted)
    fits = fit_redshifts(grid, seen, settings)
    place, rows = fits.peak(), np.arange(len(fitted))
    chi2 = fits.chi2[place, rows]
    dark = ~(chi2 < no_light_chi2(seen) * (1 - _EXPLAINS))
    flags[fitted[dark]] |= int(PhotozFlag.NO_LIGHT)
    fitted, place, chi2 = fitted[~dark], place[~dark], chi2[~dark]
    log_density = fits.log_density[:, rows[~dark]]
    if settings.soften:
        log_density = log_density * np.minimum(1, np.maximum(n_bands[fitted] - 3, 1) / np.maximum(chi2, 1e-30))
    found = estimate_columns(log_density, grid.redshifts, settings)
    columns = empty_columns(photometry, grid.redshifts)
    for name, values in found.items():
        columns[name][fitted] = values
    columns["chi2"][fitted] = chi2
    columns["scale"][fitted] = scale = fits.scale[place, rows[~dark]]
    columns["best_run"][fitted] = np.array(grid.runs)[fits.run[place, rows[~dark]]]
    columns["qz"][fitted] = quality(chi2, found["pz_width"], found["odds"], n_bands[fitted])
    flags[fitted] |= _fit_flags(chi2, n_bands[fitted], place, scale, len(grid.redshifts))
    return columns | {"n_bands": n_bands, "flags": flags}


def empty_columns(photometry: Photometry, redshifts: FloatArray) -> dict[str, AnyArray]:
    """Return the columns of galaxies without a redshift.

    Parameters
    ----------
    photometry : Photometry
        Fluxes of n galaxies.
    redshifts : ndarray, shape (n_z,)
        At which p(z) is given.

    Returns
    -------
    dict of ndarray, shape (n,) or (n, n_z)
        All columns but ``n_bands`` and ``flags``.
    """
    n = len(photometry)
    numbers: Sequence[str] = ("zb", "zb_mean", *_QUANTILES, "odds", "pz_width", "qz", "chi2", "scale")
    columns: dict[str, AnyArray] = {name: np.full(n, np.nan) for name in numbers}
    best_run = np.full(n, "", dtype=object)
    pz = np.full((n, len(redshifts)), np.nan)
    return {"object_id": photometry.object_id, **columns, "best_run": best_run, "pz": pz}


def estimate_columns(log_density: FloatArray, redshifts: FloatArray, settings: PhotozSettings) -> dict[str, FloatArray]:
    """Return the columns that come from p(z) alone.

    Parameters
    ----------
    log_density : ndarray, shape (n_z, n)
        Logarithms of densities, up to a constant for each galaxy.
    redshifts : ndarray, shape (n_z,)
        The grid.
    settings : PhotozSettings
        Window of the odds.

    Returns
    -------
    dict of ndarray, shape (n,) or (n, n_z)
        Best and mean redshift, quantiles, odds, width, p(z).
    """
    pdf = RedshiftPdf.of(redshifts, log_density)
    best, _ = pdf.best()
    found = dict(zip(_QUANTILES, pdf.quantiles(_LEVELS).T, strict=True))
    return found | {
        "zb": best,
        "zb_mean": pdf.mean(),
        "odds": pdf.odds(best, settings.odds_window),
        "pz_width": (found["z_q99"] - found["z_q01"]) / 2,
        "pz": pdf.density,
    }


def _fit_flags(chi2: FloatArray, n_bands: IntArray, place: IntArray, scale: FloatArray, n_z: int) -> IntArray:
    from scipy.stats import chi2 as chi2_distribution  # noqa: PLC0415 - slow to import

    low, high = SCALE_RANGE
    cases: dict[PhotozFlag, BoolArray] = {
        PhotozFlag.POOR_FIT: chi2_distribution.sf(chi2, n_bands) < _POOR,
        PhotozFlag.AT_END: (place == 0) | (place == n_z - 1),
        PhotozFlag.SCALE_AT_LIMIT: (scale <= low * 1.001) | (scale >= high * 0.999),
    }
    return np.asarray(sum((np.where(case, int(flag), 0) for flag, case in cases.items()), np.zeros(len(chi2), int)))
