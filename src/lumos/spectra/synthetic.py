"""Fluxes that a spectrum has in bands: spectra times filter curves."""

from collections.abc import Sequence

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.spectra.curves import Curve

__all__ = ["SDSS_FLUX_UNIT", "per_frequency", "synthetic_fluxes"]

#: erg / s / cm² / Å of one unit of an SDSS spectrum.
SDSS_FLUX_UNIT = 1e-17
#: Speed of light in nm / s, and erg / s / cm² / Hz of 1 nJy.
_LIGHT, _NANOJANSKY = 2.99792458e17, 1e-32
#: Least share of a band's response that good pixels of a spectrum must cover.
LEAST_COVERED = 0.98


def per_frequency(wavelength: FloatArray, flux: FloatArray, unit: float = SDSS_FLUX_UNIT) -> FloatArray:
    """Turn a spectrum per unit wavelength into one per unit frequency.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        nm, in vacuum.
    flux : float array, shape (m,) or (n, m)
        Flux, or its error, per unit wavelength.
    unit : float, optional
        erg / s / cm² / Å of 1.

    Returns
    -------
    float array, shape (m,) or (n, m)
        nJy.
    """
    # Per Å is ten times as much per nm.
    return np.asarray(flux * (10 * unit / _NANOJANSKY) * np.asarray(wavelength) ** 2 / _LIGHT)


def synthetic_fluxes(
    wavelength: FloatArray, flux: FloatArray, curves: Sequence[Curve], flux_err: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    r"""Return the fluxes of spectra in bands as photons are counted.

    .. math:: f_\mathrm{band} = \int f_\nu\, T\, d\lambda / \lambda \;\Big/ \int T\, d\lambda / \lambda

    Parameters
    ----------
    wavelength : float array, shape (m,)
        Of the pixels of the spectra, nm, increasing.
    flux : float array, shape (n, m)
        Mean flux per unit frequency in each pixel, see :func:`per_frequency`; NaN where a pixel is bad.
    curves : sequence of Curve
        Bands.
    flux_err : float array, shape (n, m), optional
        Errors, independent from pixel to pixel; a pixel whose error is not finite is bad.

    Returns
    -------
    flux, flux_err : float array, shape (n, n_bands)
        In the unit of the spectra; NaN where good pixels cover less than 98 % of a band's response. Errors are 0
        without those of the pixels.

    Raises
    ------
    LumosShapeError
        If the shapes do not go together.
    LumosValueError
        If the wavelengths do not increase.
    """
    wavelength, flux = np.asarray(wavelength, dtype=np.float64), np.asarray(flux, dtype=np.float64)
    error = np.zeros_like(flux) if flux_err is None else np.asarray(flux_err, dtype=np.float64)
    if wavelength.ndim != 1 or len(wavelength) < 2 or flux.shape[1:] != wavelength.shape or error.shape != flux.shape:
        shapes = (wavelength.shape, flux.shape, error.shape)
        raise LumosShapeError("wavelengths, fluxes and errors of spectra", shapes, "(m,), (n, m) and (n, m)")
    if not (np.diff(wavelength) > 0).all() or not wavelength[0] > 0:
        raise LumosValueError("wavelengths of spectra", wavelength[:3].tolist(), "nm above 0, increasing")
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    edges = np.concatenate([[2 * wavelength[0] - middle[0]], middle, [2 * wavelength[-1] - middle[-1]]])
    weights = np.stack([curve.share(edges) for curve in curves], axis=1)
    good = np.isfinite(flux) & np.isfinite(error)
    covered = good @ weights
    with np.errstate(invalid="ignore", divide="ignore"):
        enough = np.where(covered >= LEAST_COVERED, covered, np.nan)
        mean = (np.where(good, flux, 0.0) @ weights) / enough
        variance = (np.where(good, error, 0.0) ** 2 @ weights**2) / enough**2
    return np.asarray(mean), np.sqrt(variance)
