"""Noise of mock catalogues: errors from depths, and the faults of calibration of appendix D of the Lumos paper."""

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binom

from lumos.conventions import AB_ZEROPOINT_NJY, BoolArray, FloatArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf import GaussianMixture
from lumos.rows import SHARED, Rowwise

__all__ = ["APPENDIX_D", "MockNoise", "ObservedFluxes", "depth_errors", "observe"]


@dataclass(frozen=True)
class MockNoise:
    """What happens to narrow-band fluxes beside their photon noise.

    Parameters
    ----------
    exposures : int, optional
        Exposures of a flux, each with as much noise.
    zeropoint_err : float, optional
        Relative error of the zero point of an exposure; it is drawn, and stated in the errors.
    extra_err, extra_share : float, optional
        A further relative error of the zero point that errors do not state, and the share of exposures that have it.
    outlier_share : float, optional
        Share of the coadded fluxes that are outliers.
    outlier_size : float, optional
        Standard deviation of what an outlier adds, in errors of the flux.

    Raises
    ------
    LumosValueError
        If there is no exposure, an error is negative, or a share is not between 0 and 1.
    """

    exposures: int = 5
    zeropoint_err: float = 0.0
    extra_err: float = 0.0
    extra_share: float = 0.0
    outlier_share: float = 0.0
    outlier_size: float = 10.0

    def __post_init__(self) -> None:
        if self.exposures < 1:
            raise LumosValueError("exposures of a mock flux", self.exposures, "1 or more")
        for name in ("zeropoint_err", "extra_err", "outlier_size"):
            if not 0 <= getattr(self, name) < np.inf:
                raise LumosValueError(f"{name} of mock noise", getattr(self, name), "finite, at least 0")
        for name in ("extra_share", "outlier_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise LumosValueError(f"{name} of mock noise", getattr(self, name), "0 to 1")


#: The catalogues of appendix D of the Lumos paper. How far its outliers lie is not stated there: 10 errors are ours.
APPENDIX_D: dict[str, MockNoise] = {
    "perfect": MockNoise(),
    "zeropoints": MockNoise(zeropoint_err=0.04),
    "extra": MockNoise(zeropoint_err=0.04, extra_err=0.20, extra_share=0.20),
    "outliers": MockNoise(zeropoint_err=0.04, outlier_share=0.015),
    "both": MockNoise(zeropoint_err=0.04, extra_err=0.20, extra_share=0.20, outlier_share=0.015),
}


@dataclass(frozen=True, eq=False, repr=False)
class ObservedFluxes(Rowwise):
    """Fluxes with noise.

    Parameters
    ----------
    flux, flux_err : float array, shape (n, n_bands)
        Coadded fluxes and the errors that are stated, nJy.
    exposure_flux, exposure_flux_err : float array, shape (n, n_bands, n_exposures)
        The same of single exposures; outliers are of coadds, these do not have them.
    narrow : bool array, shape (n_bands,)
        The bands that have the faults of ``noise``.
    noise : MockNoise
        What was drawn.
    """

    flux: FloatArray
    flux_err: FloatArray
    exposure_flux: FloatArray
    exposure_flux_err: FloatArray
    narrow: BoolArray = field(metadata=SHARED)
    noise: MockNoise = field(metadata=SHARED)

    def pdfs(self, *, honest: bool = True) -> GaussianMixture:
        """Return the PDFs of the fluxes.

        Parameters
        ----------
        honest : bool, optional
            With the tails that the faults make: one component for each number of exposures with the further error, and
            the same as outliers. Else Gaussians of the stated errors.

        Returns
        -------
        GaussianMixture
            One row per galaxy and band, the bands of a galaxy one after the other.
        """
        flux, error = self.flux.reshape(-1, 1), self.flux_err.reshape(-1, 1)
        noise, narrow = self.noise, np.broadcast_to(self.narrow, self.flux.shape).reshape(-1, 1)
        if not honest or not (noise.extra_share or noise.outlier_share):
            return GaussianMixture(np.ones_like(flux), flux, error)
        number = np.arange(noise.exposures + 1)
        share = binom.pmf(number, noise.exposures, noise.extra_share)
        # An exposure has about 1/N of the weight: K of them with a relative error e add K (e f / N)² to the variance.
        variance = error**2 + narrow * number * (noise.extra_err * flux / noise.exposures) ** 2
        stds = np.sqrt(np.concatenate([variance, variance + (noise.outlier_size * error) ** 2], axis=1))
        weights = np.concatenate([(1 - noise.outlier_share) * share, noise.outlier_share * share])
        regular = np.concatenate([share, 0 * share])
        weights = np.where(narrow, weights, regular)
        return GaussianMixture(weights, np.broadcast_to(flux, stds.shape), stds)


def depth_errors(flux: FloatArray, depth: FloatArray, bright: float = 19.8) -> FloatArray:
    r"""Return errors of fluxes in a survey of given depths.

    Parameters
    ----------
    flux : float array, shape (n, n_bands)
        Noiseless, nJy.
    depth : float array, shape (n_bands,)
        AB magnitude of a faint source with a signal-to-noise ratio of 5.
    bright : float, optional
        AB magnitude at which the photons of a source make as much noise as the sky. With 19.8 and a depth of 21.0 the
        ratios of single NB685 exposures of PAUS are met: about 26 at 18.4, 6 at 20.5, 1.4 at 22.4.

    Returns
    -------
    float array, shape (n, n_bands)
        :math:`\sigma_\mathrm{sky} \sqrt{1 + f / f_\mathrm{bright}}`, nJy.

    Raises
    ------
    LumosShapeError
        If there is not one depth for each band.
    """
    if np.ndim(flux) != 2 or np.shape(depth) != np.shape(flux)[1:]:
        raise LumosShapeError("fluxes and depths", (np.shape(flux), np.shape(depth)), "(n, n_bands) and (n_bands,)")
    sky = 10 ** (0.4 * (AB_ZEROPOINT_NJY - np.asarray(depth))) / 5
    return np.asarray(sky * np.sqrt(1 + np.maximum(flux, 0) / 10 ** (0.4 * (AB_ZEROPOINT_NJY - bright))))


def observe(
    flux: FloatArray, flux_err: FloatArray, narrow: BoolArray, rng: np.random.Generator, noise: MockNoise
) -> ObservedFluxes:
    """Draw noisy fluxes.

    Parameters
    ----------
    flux, flux_err : float array, shape (n, n_bands)
        Noiseless fluxes, and the photon noise of their coadds, see :func:`depth_errors`.
    narrow : bool array, shape (n_bands,)
        The bands that the faults of calibration and outliers are for; the others have photon noise alone.
    rng : numpy.random.Generator
        The same state gives the same noise.
    noise : MockNoise
        As one of ``APPENDIX_D``.

    Returns
    -------
    ObservedFluxes
        Exposures, and their means weighted with the inverse of the stated variance (eq. 21 of the paper).

    Raises
    ------
    LumosShapeError
        If the shapes do not go together.
    LumosValueError
        If a flux is not finite or an error not above 0.
    """
    flux, flux_err, narrow = np.asarray(flux), np.asarray(flux_err), np.asarray(narrow, dtype=bool)
    if flux.ndim != 2 or flux.shape != flux_err.shape or narrow.shape != flux.shape[1:]:
        shapes = (flux.shape, flux_err.shape, narrow.shape)
        raise LumosShapeError("fluxes, errors and narrow bands", shapes, "(n, n_bands) twice and (n_bands,)")
    if not np.isfinite(flux).all() or not (np.isfinite(flux_err) & (flux_err > 0)).all():
        raise LumosValueError("noiseless fluxes and errors", "some that are not", "finite, errors above 0")
    shape = (*flux.shape, noise.exposures)
    photon = flux_err[..., None] * np.sqrt(noise.exposures)
    # Zero points are drawn for each flux of each exposure anew, as in the paper.
    stated = np.where(narrow[:, None], noise.zeropoint_err, 0.0)
    extra = narrow[:, None] & (rng.uniform(size=shape) < noise.extra_share)
    scale = 1 + stated * rng.standard_normal(shape) + extra * noise.extra_err * rng.standard_normal(shape)
    single = scale * (flux[..., None] + photon * rng.standard_normal(shape))
    # The error of the zero point acts on the mean: that of each exposure would give faint draws more weight.
    single_err = np.broadcast_to(np.hypot(photon, stated * single.mean(axis=2, keepdims=True)), shape)
    weight = 1 / single_err**2
    coadd, coadd_err = (weight * single).sum(axis=2) / weight.sum(axis=2), weight.sum(axis=2) ** -0.5
    outlier = narrow & (rng.uniform(size=flux.shape) < noise.outlier_share)
    coadd = coadd + outlier * noise.outlier_size * coadd_err * rng.standard_normal(flux.shape)
    return ObservedFluxes(coadd, coadd_err, single, single_err, narrow, noise)
