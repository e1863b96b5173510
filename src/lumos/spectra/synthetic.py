"""Fluxes that a spectrum has in bands: spectra times filter curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.spectra.passbands import Passband

__all__ = ["SDSS_FLUX_UNIT", "Curve", "per_frequency", "read_curve", "synthetic_fluxes"]

#: erg / s / cm² / Å of one unit of an SDSS spectrum.
SDSS_FLUX_UNIT = 1e-17
#: Speed of light in nm / s, and erg / s / cm² / Hz of 1 nJy.
_LIGHT, _NANOJANSKY = 2.99792458e17, 1e-32
#: Least share of a band's response that good pixels of a spectrum must cover.
LEAST_COVERED = 0.98
#: Points at which the closed form of a passband is tabulated.
_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """Response of a band to photons, atmosphere, telescope and detector included.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        nm, increasing.
    response : float array, shape (m,)
        At least 0, in any unit; 0 outside, straight between the points.

    Raises
    ------
    LumosShapeError
        If the shapes are not two equal ones of two points or more.
    LumosValueError
        If wavelengths are not above 0 and increasing, or a response is negative, not finite, or 0 everywhere.
    """

    wavelength: FloatArray
    response: FloatArray

    def __post_init__(self) -> None:
        wavelength, response = (np.array(values, dtype=np.float64) for values in (self.wavelength, self.response))
        if wavelength.ndim != 1 or wavelength.shape != response.shape or len(wavelength) < 2:
            raise LumosShapeError("filter curve", (wavelength.shape, response.shape), "two equal shapes (m,), m > 1")
        if not (np.diff(wavelength) > 0).all() or not 0 < wavelength[0] < np.inf:
            raise LumosValueError("wavelengths of a filter curve", wavelength[:3].tolist(), "nm above 0, increasing")
        if not np.isfinite(response).all() or (response < 0).any() or not response.any():
            raise LumosValueError("response of a filter curve", float(response.min()), "at least 0, not 0 everywhere")
        object.__setattr__(self, "wavelength", wavelength)
        object.__setattr__(self, "response", response)

    @classmethod
    def of(cls, band: Passband) -> "Curve":
        """Tabulate a passband.

        Parameters
        ----------
        band : Passband
            In closed form.

        Returns
        -------
        Curve
            Up to where the response is below 1 %.
        """
        wavelength = band.wavelength + np.linspace(-band.half_range, band.half_range, _POINTS)
        return cls(wavelength, band.response(wavelength))

    def share(self, edges: FloatArray) -> FloatArray:
        r"""Return the share of the response, :math:`\int T / \lambda\, d\lambda`, between edges.

        Parameters
        ----------
        edges : float array, shape (m + 1,)
            Wavelengths in nm, increasing.

        Returns
        -------
        float array, shape (m,)
            Shares of the whole integral: they sum to 1 where the edges hold the whole band.
        """
        # Exact for straight lines: between all points of the curve and all edges, T is straight.
        points = np.unique(np.concatenate([self.wavelength, edges]))
        height = np.interp(points, self.wavelength, self.response, left=0.0, right=0.0)
        low, high = points[:-1], points[1:]
        slope = np.diff(height) / (high - low)
        # Between the last point of a curve that ends above 0 and the next edge there is no response.
        inside = (low >= self.wavelength[0]) & (high <= self.wavelength[-1])
        integral = np.where(inside, (height[:-1] - slope * low) * np.log(high / low) + slope * (high - low), 0.0)
        cumulative = np.concatenate([[0.0], np.cumsum(integral)])
        return np.asarray(np.diff(np.interp(edges, points, cumulative)) / cumulative[-1])


def read_curve(path: Path) -> Curve:
    """Read a filter curve from a table.

    Parameters
    ----------
    path : Path
        ECSV, FITS or VOTable with the columns ``wavelength``, with a unit, and ``response``.

    Returns
    -------
    Curve
        The curve.

    Raises
    ------
    LumosDataError
        If the file cannot be read, lacks a column or the unit, or holds no curve.
    """
    try:
        table = Table.read(path)
        wavelength = table["wavelength"].quantity.to_value("nm")
        return Curve(np.asarray(wavelength), np.asarray(table["response"], dtype=np.float64))
    except LumosValueError as error:
        raise LumosDataError(f"{path}: {error}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise LumosDataError(f"{path}: no table with wavelength (with its unit) and response ({text})") from error


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
