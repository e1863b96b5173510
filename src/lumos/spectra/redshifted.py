r"""Photon-counting AB fluxes of redshifted spectra in bands, exact where both are straight between points.

.. math:: f_b(z) = \int \lambda R_b(\lambda) f_\lambda(\lambda / (1 + z))\, d\lambda
          \;\Big/\; c \int R_b(\lambda) / \lambda\, d\lambda

The integral is a sum over the points of the spectrum. Its weights depend on the band and the redshift alone, so that
one set of them serves every spectrum on the same points.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.spectra.curves import Curve
from lumos.spectra.synthetic import per_frequency

__all__ = ["band_weights", "fluxes_of_each", "line_fluxes", "redshifted_fluxes"]

#: Largest share of a band's response that may lie beyond the ends of a spectrum.
MOST_OUTSIDE = 1e-4
#: nJy of 1 erg / s / cm² / Å at 1 nm.
_NANOJANSKY_AT_1_NM = float(per_frequency(np.ones(1), np.ones(1), unit=1.0)[0])
#: Transmission of the gas between galaxy and observer at wavelengths in nm, given the redshift at each.
Transmission = Callable[[FloatArray, FloatArray], FloatArray]


def band_weights(
    curve: Curve, wavelength: FloatArray, redshifts: FloatArray, transmission: Transmission | None = None
) -> sparse.csr_array:
    """Return the weights of the points of a spectrum in the flux of a band.

    Parameters
    ----------
    curve : Curve
        The band.
    wavelength : float array, shape (m,)
        Rest wavelengths of the points, nm, increasing.
    redshifts : float array, shape (n_z,)
        Above −1.
    transmission : callable, optional
        Factor at observed wavelengths (nm) and redshifts, two arrays of one shape.

    Returns
    -------
    sparse array, shape (n_z, m)
        At least 0; times a spectrum at rest in erg / s / cm² / Å they give nJy, without any dimming by distance.

    Raises
    ------
    LumosValueError
        If the band looks beyond the ends of the points.
    """
    row, index, starts = _seen(curve, wavelength, redshifts)
    observed = wavelength[index] * (1 + redshifts[row])
    photons, moment = curve.photons(observed)
    inside = row[1:] == row[:-1]
    upper = np.where(inside, moment / np.where(inside, np.diff(observed), 1.0), 0.0)
    weights = np.zeros(len(observed))
    weights[:-1] += np.where(inside, photons, 0.0) - upper
    weights[1:] += upper
    # Weights of a spectrum of 1 sum to the photons that its points hold.
    held = np.bincount(row, weights, minlength=len(redshifts)) / curve.all_photons
    _check_overlap(curve, wavelength, redshifts, 1 - held)
    if transmission is not None:
        weights *= transmission(observed, redshifts[row])
    # Rounding leaves weights of -1e-17 where the response is 0.
    weights = np.maximum(weights, 0.0) * (_NANOJANSKY_AT_1_NM / curve.per_log)
    return sparse.csr_array((weights, index, starts), shape=(len(redshifts), len(wavelength)))


def _seen(curve: Curve, wavelength: FloatArray, redshifts: FloatArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return redshift and index of every point about a band, and where each redshift's begin."""
    low, high = curve.limits
    first = np.searchsorted(wavelength, low / (1 + redshifts), side="right") - 1
    stop = np.searchsorted(wavelength, high / (1 + redshifts), side="left") + 1
    first, stop = np.clip(first, 0, None), np.clip(stop, None, len(wavelength))
    count = np.maximum(stop - first, 0)
    starts = np.concatenate([[0], np.cumsum(count)])
    row = np.repeat(np.arange(len(redshifts)), count)
    return row, np.arange(starts[-1]) - starts[row] + first[row], starts


def redshifted_fluxes(
    wavelength: FloatArray,
    flux: FloatArray,
    curves: Sequence[Curve],
    redshifts: FloatArray,
    transmission: Transmission | None = None,
) -> FloatArray:
    """Return the fluxes of redshifted spectra.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        Rest wavelengths in vacuum, nm, increasing.
    flux : float array, shape (n_spectra, m)
        Per unit wavelength (erg / s / cm² / Å gives nJy); straight between the points.
    curves : sequence of Curve
        Bands.
    redshifts : float array, shape (n_z,)
        Above −1.
    transmission : callable, optional
        Factor at observed wavelengths (nm) and redshifts, as :func:`lumos.spectra.igm.madau_transmission`.

    Returns
    -------
    float array, shape (n_z, n_spectra, n_bands)
        Fluxes. Only the shape of the spectrum is redshifted: no factor of 1 + z, no distance.

    Raises
    ------
    LumosShapeError
        If the shapes do not go together.
    LumosValueError
        If wavelengths do not increase, a redshift is not above −1, or a band looks beyond the ends of the spectra.
    """
    wavelength, flux, redshifts = _checked(wavelength, flux, redshifts)
    columns = np.ascontiguousarray(flux.T)
    found = np.empty((len(redshifts), len(flux), len(curves)))
    for number, curve in enumerate(curves):
        found[..., number] = band_weights(curve, wavelength, redshifts, transmission) @ columns
    return found


def fluxes_of_each(
    wavelength: FloatArray, flux: FloatArray, curves: Sequence[Curve], redshifts: FloatArray
) -> FloatArray:
    """Return the fluxes of spectra that have each its own redshift.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        As of :func:`redshifted_fluxes`.
    flux : float array, shape (n, m)
        Spectra.
    curves : sequence of Curve
        Bands.
    redshifts : float array, shape (n,)
        One for each spectrum.

    Returns
    -------
    float array, shape (n, n_bands)
        Fluxes.

    Raises
    ------
    LumosShapeError
        If the shapes do not go together.
    LumosValueError
        As of :func:`redshifted_fluxes`.
    """
    wavelength, flux, redshifts = _checked(wavelength, flux, redshifts)
    if len(redshifts) != len(flux):
        raise LumosShapeError("redshifts of spectra", redshifts.shape, f"({len(flux)},)")
    found = np.empty((len(flux), len(curves)))
    for number, curve in enumerate(curves):
        weights = band_weights(curve, wavelength, redshifts)
        rows = np.repeat(np.arange(len(flux)), np.diff(weights.indptr))
        found[:, number] = np.bincount(rows, weights.data * flux[rows, weights.indices], minlength=len(flux))
    return found


def _checked(
    wavelength: FloatArray, flux: FloatArray, redshifts: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    wavelength, flux, redshifts = (np.asarray(a, dtype=np.float64) for a in (wavelength, flux, redshifts))
    if wavelength.ndim != 1 or flux.ndim != 2 or flux.shape[1:] != wavelength.shape or len(wavelength) < 2:
        raise LumosShapeError("wavelengths and fluxes of spectra", (wavelength.shape, flux.shape), "(m,) and (n, m)")
    if not (np.diff(wavelength) > 0).all() or not wavelength[0] > 0:
        raise LumosValueError("wavelengths of spectra", wavelength[:3].tolist(), "nm above 0, increasing")
    if redshifts.ndim != 1 or not np.isfinite(redshifts).all() or not (redshifts > -1).all():
        raise LumosValueError("redshifts", redshifts.tolist()[:3], "finite numbers above -1")
    return wavelength, flux, redshifts


def _check_overlap(curve: Curve, wavelength: FloatArray, redshifts: FloatArray, outside: FloatArray) -> None:
    if not len(redshifts) or outside.max() <= MOST_OUTSIDE:
        return
    z = redshifts[outside.argmax()]
    low, high = curve.limits
    has = f"{wavelength[0]:.5g} to {wavelength[-1]:.5g} nm"
    rest = f"at least {low / (1 + z):.5g} to {high / (1 + z):.5g} nm at rest"
    raise LumosValueError(
        "wavelengths of spectra", has, f"{rest}, for a band of {low:.5g} to {high:.5g} at z = {z:.4g}"
    )


def line_fluxes(
    wavelength: FloatArray, strength: FloatArray, curves: Sequence[Curve], redshifts: FloatArray
) -> FloatArray:
    r"""Return the fluxes of emission lines that are narrow beside the details of the curves.

    .. math:: f_b(z) = \sum_j r_j\, \lambda_j (1 + z) R_b(\lambda_j (1 + z))
              \;\Big/\; c \int R_b(\lambda) / \lambda\, d\lambda

    Parameters
    ----------
    wavelength : float array, shape (n_lines,)
        At rest, in vacuum, nm.
    strength : float array, shape (n_lines,) or (n_z, n_lines)
        Flux of each line as observed, erg / s / cm²: dust dims it at its rest wavelength.
    curves : sequence of Curve
        Bands.
    redshifts : float array, shape (n_z,)
        Above −1.

    Returns
    -------
    float array, shape (n_z, n_bands)
        nJy.
    """
    observed = wavelength * (1 + redshifts[:, None])
    # A line's flux is per Å times Å; the unit that turns per Å into nJy counts wavelengths in nm, hence a tenth.
    unit = 0.1 * _NANOJANSKY_AT_1_NM
    found = [(strength * observed * curve.at(observed)).sum(axis=1) * (unit / curve.per_log) for curve in curves]
    return np.stack(found, axis=1)
