"""Photometry against spectra (section 6.2 and Fig. 16 of the paper): synthetic fluxes, scaled object by object."""

from dataclasses import dataclass

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosShapeError
from lumos.simulate.population import Galaxies
from lumos.spectra.curves import Curve
from lumos.spectra.passbands import PASSBANDS, Passband
from lumos.spectra.synthetic import synthetic_fluxes
from lumos.statistics import sigma68
from lumos.validate.evidence.again import objects_again

__all__ = ["MockSpectra", "SpectraFigures", "SpectrumScale", "against_spectra", "mock_spectra", "spectrum_scale"]

#: Points of the grid on which the scale is sought, and how often it is refined.
_POINTS, _REFINED = 33, 7
#: Relative step of the second derivative that is the error of the scale.
_STEP = 1e-3
#: Bands whose photometry scales a spectrum, as in the paper; errors of that photometry: relative, and in nJy.
_SCALING, _RELATIVE, _ABSOLUTE = ("g", "r", "i"), 0.02, np.array([600.0, 950.0, 1600.0])
#: Pixels of the mock spectra in nm, error of one in nJy; median and log scatter of total light over that in the fibre.
_PIXELS, _PIXEL_ERROR, _FIBRE, _FIBRE_SCATTER = np.arange(380.0, 920.0, 0.5), 5000.0, 1.64, 0.3


@dataclass(frozen=True)
class SpectrumScale:
    """Factors that bring the synthetic fluxes of n spectra to photometry.

    Parameters
    ----------
    value, error : float array, shape (n,)
        Factor and its error; NaN without a usable band, or where no flux is above 0.
    chi2 : float array, shape (n,)
        Of eq. 20 at its minimum, for one band less than there are.
    """

    value: FloatArray
    error: FloatArray
    chi2: FloatArray


@dataclass(frozen=True)
class SpectraFigures:
    """Photometry over synthetic fluxes.

    Parameters
    ----------
    n, objects : int
        Fluxes, and objects that they are of.
    bias, bias_err : float
        Median of (f - f_syn) / f_syn, the scale of the photometry minus 1, and its error from objects drawn again.
    scatter, scatter_err : float
        σ68 of the same.
    outliers : float
        Share further than 5 σ68 from the median.
    pull : float
        σ68 of (f - f_syn) over the errors of both.
    """

    n: int
    objects: int
    bias: float
    bias_err: float
    scatter: float
    scatter_err: float
    outliers: float
    pull: float


@dataclass(frozen=True)
class MockSpectra:
    """Fluxes that n simulated galaxies have in bands by their spectra.

    Parameters
    ----------
    flux, flux_err : float array, shape (n, n_bands)
        Synthetic fluxes times the scale, nJy, with the errors of both.
    scale : SpectrumScale
        Scale from g, r and i.
    fibre : float array, shape (n,)
        What the scale should be: total light over that in the fibre.
    """

    flux: FloatArray
    flux_err: FloatArray
    scale: SpectrumScale
    fibre: FloatArray


def spectrum_scale(
    flux: FloatArray, flux_err: FloatArray, synthetic: FloatArray, synthetic_err: FloatArray
) -> SpectrumScale:
    r"""Scale spectra to photometry (eq. 20).

    .. math:: \chi^2(z) = \sum_b \frac{(f_b - z f_{\mathrm{syn},b})^2}{\sigma_b^2 + z^2 \sigma_{\mathrm{syn},b}^2}

    Parameters
    ----------
    flux, flux_err : float array, shape (n, n_bands)
        Photometry and its errors.
    synthetic, synthetic_err : float array, shape (n, n_bands)
        Of the spectra, in any unit; errors may be 0.

    Returns
    -------
    SpectrumScale
        The z of the minimum, its error from the second derivative there, and χ². Bands with a value that is not
        finite, or without an error, do not count.

    Raises
    ------
    LumosShapeError
        If the shapes differ.
    """
    f, s, v, t = (np.asarray(a, dtype=np.float64) for a in (flux, synthetic, flux_err, synthetic_err))
    if f.ndim != 2 or not f.shape == s.shape == v.shape == t.shape:
        raise LumosShapeError("fluxes and errors", (f.shape, v.shape, s.shape, t.shape), "four equal (n, n_bands)")
    good = np.isfinite(f + s + v + t) & (v >= 0) & (t >= 0) & (v + t > 0)
    f, s, v, t = (np.where(good, a, 0.0)[:, None, :] for a in (f, s, v, t))

    def chi2(scale: FloatArray) -> FloatArray:
        variance = v**2 + (scale[:, :, None] * t) ** 2
        return np.asarray(np.where(good[:, None, :], (f - scale[:, :, None] * s) ** 2 / variance, 0.0).sum(axis=2))

    with np.errstate(all="ignore"):  # objects without a scale are NaN
        ratio = np.where(good & (f > 0)[:, 0] & (s > 0)[:, 0], (f / s)[:, 0], np.nan)
        some = np.isfinite(ratio).any(axis=1)
        # Where all ratios are above 0 the minimum lies between them; a band that is not tells for less.
        low = np.log(np.where(some, np.min(np.where(np.isnan(ratio), np.inf, ratio), axis=1), 1) / 10)
        high = np.log(np.where(some, np.max(np.where(np.isnan(ratio), -np.inf, ratio), axis=1), 1) * 2)
        for _ in range(_REFINED):
            grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _POINTS)
            best = chi2(np.exp(grid)).argmin(axis=1).clip(1, _POINTS - 2)
            low, high = (np.take_along_axis(grid, best[:, None] + side, axis=1)[:, 0] for side in (-1, 1))
        value = np.where(some, np.exp((low + high) / 2), np.nan)
        below, here, above = chi2(value[:, None] * np.array([1 - _STEP, 1.0, 1 + _STEP])).T
        error = _STEP * value * np.sqrt(2 / (below - 2 * here + above))
    return SpectrumScale(value, error, np.where(some, here, np.nan))


def against_spectra(
    flux: FloatArray,
    flux_err: FloatArray,
    synthetic: FloatArray,
    synthetic_err: FloatArray,
    owner: IntArray,
    *,
    seed: int = 0,
) -> SpectraFigures:
    """Compare photometry with scaled synthetic fluxes.

    Parameters
    ----------
    flux, flux_err : float array, shape (m,)
        Photometry, any bands together.
    synthetic, synthetic_err : float array, shape (m,)
        Scaled synthetic fluxes of the same.
    owner : int array, shape (m,)
        Object of each flux: those of one object share the error of its scale.
    seed : int, optional
        Of the objects that are drawn again for errors.

    Returns
    -------
    SpectraFigures
        Of the rows with all values finite and a synthetic flux above 0.
    """
    good = np.flatnonzero(np.isfinite(flux + flux_err + synthetic + synthetic_err) & (synthetic > 0))
    if not len(good):
        return SpectraFigures(0, 0, *(np.nan,) * 6)
    owner, rng = owner[good], np.random.default_rng(seed)
    relative = flux[good] / synthetic[good] - 1
    pull = (flux - synthetic)[good] / np.hypot(flux_err, synthetic_err)[good]
    middle, scatter = float(np.median(relative)), sigma68(relative)
    errors = objects_again(owner, lambda drawn: (float(np.median(relative[drawn])), sigma68(relative[drawn])), rng)
    return SpectraFigures(
        n=len(good),
        objects=len(np.unique(owner)),
        bias=middle,
        bias_err=float(errors[0]),
        scatter=scatter,
        scatter_err=float(errors[1]),
        outliers=float(np.mean(np.abs(relative - middle) > 5 * scatter)),
        pull=sigma68(pull),
    )


def mock_spectra(galaxies: Galaxies, bands: list[Passband], rng: np.random.Generator) -> MockSpectra:
    """Observe spectra of simulated galaxies through fibres, and scale them to broad-band photometry.

    Parameters
    ----------
    galaxies : Galaxies
        n of them.
    bands : list of Passband
        Where synthetic fluxes are wanted, between 380 and 920 nm.
    rng : numpy.random.Generator
        Of the light that a fibre loses and of all noise.

    Returns
    -------
    MockSpectra
        Pixels of 0.5 nm with an error as that of SDSS (a signal-to-noise ratio of 4 at i = 20); g, r and i with
        errors as those of SDSS.
    """
    pixels = [Passband(float(middle), float(_PIXELS[1] - _PIXELS[0])) for middle in _PIXELS]
    broad = [PASSBANDS[name] for name in _SCALING]
    spectra, total = galaxies.band_flux(pixels), galaxies.band_flux(broad)
    fibre = _FIBRE * np.exp(_FIBRE_SCATTER * rng.standard_normal(len(total)))
    spectra = spectra / fibre[:, None] + _PIXEL_ERROR * rng.standard_normal(spectra.shape)
    error = np.hypot(_RELATIVE * total, _ABSOLUTE)
    photometry = total + error * rng.standard_normal(total.shape)
    curves = [Curve.of(band) for band in [*broad, *bands]]
    flux, flux_err = synthetic_fluxes(_PIXELS, spectra, curves, np.full(spectra.shape, _PIXEL_ERROR))
    n = len(broad)
    scale = spectrum_scale(photometry, error, flux[:, :n], flux_err[:, :n])
    flux, flux_err = (scale.value[:, None] * values[:, n:] for values in (flux, flux_err))
    return MockSpectra(flux, np.hypot(flux_err, flux * (scale.error / scale.value)[:, None]), scale, fibre)
