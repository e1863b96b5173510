"""Skies, PSFs and noise of simulated frames: what differs between cameras, seeings and reductions."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d

from lumos.conventions import FloatArray
from lumos.images.psf.models import MoffatModel, PsfModel, StampModel
from lumos.simulate.artefacts import scattered_light, sky_shape

__all__ = ["FRAME_FWHM", "NoiseKernel", "SkyLevels", "draw_kernel", "draw_psfs", "draw_sky"]

#: FWHM of the PSFs, pixels: half of them even in the logarithm, half about the middle with a scatter.
FRAME_FWHM = (1.6, 8.0)
_MIDDLE, _SCATTER = 3.6, 0.45
#: Inverse Moffat exponents; ellipticity, and share of the light in wings, of PSFs that are images.
_INVERSE_BETA, _ELLIPTICITY, _WINGS = (0.2, 0.45), 0.15, 0.12
#: The PSF that a frame is measured with: as often exact, else with this scatter of FWHM and of ellipticity.
_EXACT, _WIDTH_SCATTER, _SHAPE_SCATTER = 0.4, 0.02, 0.01
#: Electrons per pixel of the sky, and read noise.
_SKY, _READ_NOISE = (20.0, 20000.0), (2.0, 12.0)
#: Share of flat frames; of others, the largest gradient, structure and scattered light in units of the noise.
_FLAT, _GRADIENT, _STRUCTURE, _SCATTERED = 1 / 3, 3.0, 1.0, 8.0


@dataclass(frozen=True)
class SkyLevels:
    """The sky of a frame.

    Parameters
    ----------
    level : float
        Mean electrons per pixel.
    read_noise : float
        Electrons per pixel.
    """

    level: float
    read_noise: float

    @property
    def noise(self) -> float:
        """Return the noise of a blank pixel, electrons."""
        return float(np.hypot(np.sqrt(self.level), self.read_noise))


def draw_sky(shape: tuple[int, int], rng: np.random.Generator) -> tuple[SkyLevels, FloatArray]:
    """Draw a sky: flat, or with a gradient, structure and scattered light.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the frame.
    rng : numpy.random.Generator
        The same state gives the same sky.

    Returns
    -------
    levels : SkyLevels
        Mean level and read noise.
    sky : float array, shape (ny, nx)
        Expected electrons.
    """
    levels = SkyLevels(float(np.exp(rng.uniform(*np.log(_SKY)))), float(rng.uniform(*_READ_NOISE)))
    if rng.uniform() < _FLAT:
        return levels, np.full(shape, levels.level)
    unit = levels.noise / levels.level
    sky = sky_shape(shape, _GRADIENT * rng.uniform() * unit, _STRUCTURE * rng.uniform() * unit, rng)
    if rng.uniform() < 0.5:
        sky = sky + _SCATTERED * rng.uniform() ** 2 * unit * scattered_light(shape, rng)
    return levels, levels.level * sky


def draw_psfs(rng: np.random.Generator) -> tuple[PsfModel, PsfModel, float]:
    """Draw the PSF of a frame, and what is believed of it.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same PSFs.

    Returns
    -------
    true, believed : PsfModel
        A Moffat, or an image with wings and ellipticity.
    fwhm : float
        Of the core of the true one, pixels.
    """
    if rng.uniform() < 0.5:
        fwhm = float(np.exp(rng.uniform(*np.log(FRAME_FWHM))))
    else:
        fwhm = float(np.clip(_MIDDLE * np.exp(_SCATTER * rng.standard_normal()), *FRAME_FWHM))
    beta = float(1 / rng.uniform(*_INVERSE_BETA))
    factor, shift = np.exp(_WIDTH_SCATTER * rng.standard_normal()), _SHAPE_SCATTER * rng.standard_normal(2)
    if rng.uniform() < _EXACT:
        factor, shift = 1.0, np.zeros(2)
    if rng.uniform() < 0.5:
        return MoffatModel(fwhm, beta), MoffatModel(float(fwhm * factor), beta), fwhm
    angle = rng.uniform(0, 2 * np.pi)
    ellipticity = _ELLIPTICITY * rng.uniform() * np.array([np.cos(angle), np.sin(angle)])
    wings = _WINGS * rng.uniform()
    true = _elliptical_psf(fwhm, beta, ellipticity, wings)
    return true, _elliptical_psf(float(fwhm * factor), beta, ellipticity + shift, wings), fwhm


def _elliptical_psf(fwhm: float, beta: float, ellipticity: FloatArray, wings: float) -> StampModel:
    """Return an elliptical Moffat with wings, as an image before the pixel."""
    sampling = min(1.0, fwhm / 4)
    half = int(np.ceil(min(6 * fwhm, 36.0) / sampling))
    along = sampling * np.arange(-half, half + 1)
    x, y = along[None, :], along[:, None]
    first, second = ellipticity
    radius2 = (1 - first) * x**2 + (1 + first) * y**2 - 2 * second * x * y

    def moffat(width: float, exponent: float) -> FloatArray:
        image = (1 + 4 * (2 ** (1 / exponent) - 1) * radius2 / width**2) ** -exponent
        return np.asarray(image / image.sum())

    image = (1 - wings) * moffat(fwhm, beta) + wings * moffat(2.5 * fwhm, 2.2)
    return StampModel(image, sampling, includes_pixel=False)


@dataclass(frozen=True)
class NoiseKernel:
    """What resampling does to the noise.

    Parameters
    ----------
    weights : tuple of float array
        Of pixels along y and along x, an odd number each, which sum to 1.
    """

    weights: tuple[FloatArray, FloatArray]

    def smooth(self, noise: FloatArray) -> FloatArray:
        """Resample noise; edges meet the opposite ones, so that its variance is the same everywhere.

        Parameters
        ----------
        noise : float array, shape (ny, nx)
            White, of any variance.

        Returns
        -------
        float array, shape (ny, nx)
            Smoothed.
        """
        for axis, weights in enumerate(self.weights):
            if len(weights) > 1:
                noise = convolve1d(noise, weights, axis=axis, mode="wrap")
        return noise

    @property
    def variance_factor(self) -> float:
        """Return the sum of the squared weights: by how much the variance of a pixel falls."""
        return float(np.prod([np.sum(weights**2) for weights in self.weights]))


def draw_kernel(fwhm: float, rng: np.random.Generator) -> NoiseKernel:
    """Draw how a frame was resampled: not at all, or by one of four kernels.

    Parameters
    ----------
    fwhm : float
        Of the PSF after resampling, pixels: no kernel is wider.
    rng : numpy.random.Generator
        The same state gives the same kernel.

    Returns
    -------
    NoiseKernel
        Half of them do nothing; the others are Gaussians, bilinear or Lanczos interpolations, or drizzled pixels.
    """
    kind = rng.choice(5, p=(0.5, 0.15, 0.15, 0.1, 0.1))
    size, shifts = rng.uniform(), rng.uniform(0, 1, 2)
    pixel = np.arange(-3.0, 4.0)
    if kind == 1:
        weights = [np.exp(-0.5 * (pixel / (0.3 + size * (min(1.0, fwhm / 3) - 0.3))) ** 2)] * 2
    elif kind == 2:
        weights = [np.maximum(1 - np.abs(pixel - shift), 0) for shift in shifts]
    elif kind == 3:
        reach = [pixel - shift for shift in shifts]
        weights = [np.where(np.abs(r) < 3, np.sinc(r) * np.sinc(r / 3), 0) for r in reach]
    elif kind == 4:
        width = 1 + size * (min(2.0, fwhm / 1.2) - 1)
        weights = [np.clip((width + 1) / 2 - np.abs(pixel), 0, 1)] * 2
    else:
        weights = [np.ones(1)] * 2
    along_y, along_x = (values / values.sum() for values in weights)
    return NoiseKernel((along_y, along_x))
