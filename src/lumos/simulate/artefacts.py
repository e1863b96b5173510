"""What spoils pixels: scattered light, cosmic rays, satellites, ghosts, defects, saturation, resampling.

All in electrons. Light is added before noise is drawn; resampling smooths both; what strikes the detector or its
electronics comes after and stays sharp.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from lumos.conventions import MOFFAT_BETA_MIN, FloatArray
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf
from lumos.simulate.settings import ArtefactSettings

__all__ = ["Mask", "crosstalk_ghosts", "resample", "resampled_psf", "satellite_trail", "scattered_light", "sky_shape"]

#: Bits of :class:`lumos.flags.MaskPlane`, shape (ny, nx).
Mask = NDArray[np.uint8]

#: Half-side in pixels of the neighbourhood of a star that is copied into its ghost.
_GHOST_HALF = 40
#: FWHM of a Gaussian over its standard deviation.
_FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


def scattered_light(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Return a pattern of scattered light: bright along two edges of the detector, with fronts that wave.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (ny, nx).
    rng : numpy.random.Generator
        Of this band, camera state and detector: the same state gives the same pattern, whatever the shape.

    Returns
    -------
    float array, shape (ny, nx)
        About 1 at the brightest edge, near 0 in the middle.
    """
    v, u = ((np.arange(n) + 0.5) / n for n in shape)
    u, v = u[None, :], v[:, None]
    edges = [(u, v), (1 - u, v), (v, u), (1 - v, u)]
    pattern = np.zeros(shape)
    first, second = rng.permutation(4)[:2]
    for edge, strength in ((first, 1.0), (second, rng.uniform(0.5, 1.0))):
        distance, along = edges[edge]
        waves, phase, tilt = rng.uniform(0.5, 1.5, 2), rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.04, 0.09)
        width = tilt * (1 + 0.4 * np.sin(2 * np.pi * waves[0] * along + phase[0]))
        brightness = strength * (0.75 + 0.25 * np.cos(2 * np.pi * waves[1] * along + phase[1]))
        pattern += brightness * np.exp(-distance / width)
    return pattern


def sky_shape(shape: tuple[int, int], gradient: float, structure: float, rng: np.random.Generator) -> FloatArray:
    """Return the sky relative to its mean: a tilt, and smooth structure.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (ny, nx).
    gradient : float
        Scatter of the change from edge to edge, along x and y.
    structure : float
        Root mean square of the structure, a few waves of 200 to 1000 pixels.
    rng : numpy.random.Generator
        Of this exposure and detector.

    Returns
    -------
    float array, shape (ny, nx)
        Positive, its mean about 1.
    """
    slope_x, slope_y = gradient * rng.standard_normal(2)
    y, x = (np.arange(n, dtype=np.float64) for n in shape)
    sky = 1 + slope_x * (x / shape[1] - 0.5)[None, :] + slope_y * (y / shape[0] - 0.5)[:, None]
    directions, phases = rng.uniform(0, 2 * np.pi, (2, 6))
    wavelengths = 200.0 * 5.0 ** rng.uniform(size=6)
    if structure > 0:
        for direction, phase, length in zip(directions, phases, wavelengths, strict=True):
            k_x, k_y = 2 * np.pi / length * np.array([np.cos(direction), np.sin(direction)])
            # The real part of a product of two phases: no cosine per pixel.
            wave = np.exp(1j * (k_y * y + phase))[:, None] * np.exp(1j * k_x * x)[None, :]
            sky += structure * np.sqrt(2 / 6) * wave.real
    return np.asarray(np.maximum(sky, 0.05))


def crosstalk_ghosts(
    light: FloatArray,
    x: FloatArray,
    y: FloatArray,
    saturation: float,
    artefacts: ArtefactSettings,
    rng: np.random.Generator,
) -> int:
    """Add ghosts of saturated stars, mirrored in x as by the amplifier on the other side, in place.

    Parameters
    ----------
    light : float array, shape (ny, nx)
        Expected electrons without sky; gets the ghosts.
    x, y : float array, shape (n,)
        Stars on the detector, pixels.
    saturation : float
        Electrons of a full pixel, the most that the electronics see.
    artefacts : ArtefactSettings
        Share of the saturated stars that leave a ghost, and its brightness relative to the star's.
    rng : numpy.random.Generator
        Of this exposure and detector.

    Returns
    -------
    int
        Number of ghosts.
    """
    chosen = rng.uniform(size=len(x)) < artefacts.ghosts
    column, row = (np.clip(np.rint(p).astype(int), 0, n - 1) for p, n in zip((x, y), light.shape[::-1], strict=True))
    bright = chosen & (light[row, column] > saturation)
    ghosts = np.zeros_like(light) if bright.any() else light
    for x0, y0 in zip(column[bright], row[bright], strict=True):
        rows = slice(max(y0 - _GHOST_HALF, 0), y0 + _GHOST_HALF + 1)
        columns = slice(max(x0 - _GHOST_HALF, 0), x0 + _GHOST_HALF + 1)
        ghosts[:, ::-1][rows, columns] += artefacts.ghost_level * np.minimum(light[rows, columns], saturation)
    if bright.any():
        light += ghosts
    return int(bright.sum())


def satellite_trail(shape: tuple[int, int], sky: float, fwhm: float, rng: np.random.Generator) -> FloatArray:
    """Return the light of a satellite that crosses the detector.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (ny, nx).
    sky : float
        Electrons per pixel; the trail's peak is 0.3 to 3 times as bright.
    fwhm : float
        Width of the trail in pixels.
    rng : numpy.random.Generator
        Of this exposure and detector.

    Returns
    -------
    float array, shape (ny, nx)
        Expected electrons.
    """
    angle, peak = rng.uniform(0, np.pi), sky * np.exp(rng.uniform(*np.log([0.3, 3.0])))
    y0, x0 = rng.uniform(0.1, 0.9, 2) * shape
    y, x = np.arange(shape[0])[:, None] - y0, np.arange(shape[1])[None, :] - x0
    distance = x * np.sin(angle) - y * np.cos(angle)
    return np.asarray(peak * np.exp(-4 * np.log(2) * (distance / fwhm) ** 2))


def resample(light: FloatArray, noise: FloatArray, sigma: float) -> tuple[FloatArray, FloatArray]:
    """Smooth an image with a Gaussian, as resampling onto another grid does: its light and its noise alike.

    Fluxes stay, the PSF becomes :func:`resampled_psf`. The variance falls by the sum of the squared weights;
    neighbouring pixels correlate by exp(-1 / (4 sigma^2)) for a large sigma, by 0.25 for 0.5 and 0.44 for 0.6 pixels.

    Parameters
    ----------
    light : float array, shape (ny, nx)
        Expected electrons; as beyond the edges as at them.
    noise : float array, shape (ny, nx)
        Electrons minus their expectation; noise at an edge is smoothed with that at the opposite one, so that its
        variance is the same everywhere.
    sigma : float
        Pixels; 0 leaves both as they are.

    Returns
    -------
    light, noise : float array, shape (ny, nx)
        Smoothed.
    """
    if sigma == 0:
        return light, noise
    return gaussian_filter(light, sigma, mode="nearest"), gaussian_filter(noise, sigma, mode="wrap")


@cache
def resampled_psf(fwhm: float, beta: float, sigma: float) -> tuple[float, float]:
    """Return the Moffat PSF that an image has after :func:`resample`: that of least squares to a smoothed star.

    Fluxes that optimal weights measure with it are right to 0.7 % for any galaxy, PSFs of 1.8 px and sigmas of 0.8 px
    included, and to 0.3 % for exponents of 3.5 or more.

    Parameters
    ----------
    fwhm : float
        Of the PSF before, pixels.
    beta : float
        Moffat exponent before.
    sigma : float
        Pixels; 0 changes nothing.

    Returns
    -------
    fwhm, beta : float
        Pixels; exponent.
    """
    if sigma == 0:
        return fwhm, beta
    size = 2 * int(np.ceil(4 * np.hypot(fwhm, 3 * sigma)) + 4)
    # Neither on the middle of a pixel nor on its edge.
    middle = np.array([size / 2 + 0.25])
    point = Shapes.points(middle, middle)

    def star(fwhm: float, beta: float) -> FloatArray:
        psf = MoffatPsf(np.array([fwhm]), np.array([beta]))
        drawn = render(point, psf, size=size, dtype=torch.float64)
        return np.asarray(drawn[0].numpy())

    smooth = gaussian_filter(star(fwhm, beta), sigma, mode="constant")
    # In 1 / beta, of which 0 is the Gaussian.
    fit = least_squares(
        lambda values: (star(values[0], 1 / values[1]) - smooth).ravel(),
        [np.hypot(fwhm, _FWHM_PER_SIGMA * sigma), 1 / beta],
        bounds=([0.5 * fwhm, 1e-3], [np.inf, 1 / MOFFAT_BETA_MIN]),
        x_scale=[0.1 * fwhm, 0.05],
    )
    return float(fit.x[0]), float(1 / fit.x[1])
