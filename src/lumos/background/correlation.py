"""The correlation of the noise, measured with blank apertures, and its part in flux errors.

Resampled or interpolated images have noise that is correlated between pixels: the scatter of the sum over an
aperture is larger than the pixels' variances add up to, the more so the larger the aperture. The ratio is
measured on the image itself, in apertures without sources, with the same background annulus and the same
error formula as the estimators.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import sep
import torch
from scipy import ndimage
from torch import Tensor

from lumos.background.annulus import annulus_background
from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.estimators.base import Measurement, NoiseShare
from lumos.estimators.overlap import elliptical_overlap
from lumos.flags import MaskPlane, good_pixels
from lumos.images.stamps import cut_stamps
from lumos.statistics import sigma68

__all__ = ["CorrelatedNoise", "apply_correlation", "measure_correlation", "source_free"]

_LOG = logging.getLogger(__name__)

DEFAULT_RADII = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 11.0, 15.0, 20.0)
#: Apertures up to this radius in pixels are blank as a whole, larger ones up to this share: sources are everywhere.
_WHOLLY_BLANK, _MOSTLY_BLANK = 8.0, 0.8
#: Stamps cut at a time, to bound the memory.
_CHUNK = 250


@dataclass(frozen=True)
class CorrelatedNoise:
    """How much larger the noise of weighted sums is than the noise of independent pixels.

    Parameters
    ----------
    areas : float array, shape (m,)
        Noise-equivalent areas in pixels, ascending.
    factors : float array, shape (m,)
        Measured scatter over the white-noise error at each area.
    n_apertures : int array, shape (m,)
        Blank apertures behind each factor.
    reason : str
        Why there is no measurement and the factor is 1; empty where it was measured.
    """

    areas: FloatArray
    factors: FloatArray
    n_apertures: IntArray
    reason: str = ""

    def factor_at(self, noise_area: AnyArray) -> FloatArray:
        """Interpolate the factor in the logarithm of the area, constant outside the measured range.

        Parameters
        ----------
        noise_area : float array
            Noise-equivalent areas in pixels, greater than 0, or NaN.

        Returns
        -------
        float array of the same shape
            Factors; NaN where the area is NaN.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            log_area = np.log(np.asarray(noise_area, dtype=np.float64))
        return np.asarray(np.interp(log_area, np.log(self.areas), self.factors))

    def summary(self) -> dict[str, object]:
        """Return the measurement as plain data, for the provenance of output files.

        Returns
        -------
        dict
            Lists ``areas``, ``factors`` and ``n_apertures``, and ``reason``.
        """
        return {
            "areas": [round(float(area), 2) for area in self.areas],
            "factors": [round(float(factor), 4) for factor in self.factors],
            "n_apertures": [int(number) for number in self.n_apertures],
            "reason": self.reason,
        }


def apply_correlation(measured: Measurement, noise: CorrelatedNoise) -> Measurement:
    """Multiply the sky's part of the errors by the measured factor.

    Parameters
    ----------
    measured : Measurement
        Fluxes; where they have a ``noise``, their errors are for pixels without correlation.
    noise : CorrelatedNoise
        The measured factors.

    Returns
    -------
    Measurement
        The same fluxes; ``flux_err`` and the sky's share with the sky's variance times the factor squared. What has
        no ``noise`` is returned as it is.
    """
    if measured.noise is None:
        return measured
    area, sky = measured.noise.area, measured.noise.sky
    factor = noise.factor_at(area.detach().cpu().numpy())
    excess = torch.from_numpy(np.atleast_1d(factor**2)).to(measured.flux_err)
    growth = 1 + sky * (excess - 1)
    return replace(measured, flux_err=measured.flux_err * growth.sqrt(), noise=NoiseShare(area, sky * excess / growth))


def source_free(data: AnyArray, good: BoolArray, *, threshold: float = 2.5, grow: int = 4) -> BoolArray:
    """Find the usable pixels that no detected source touches.

    Parameters
    ----------
    data : float array, shape (ny, nx)
        Image; its background is modelled on a mesh of 64 pixels.
    good : bool array, shape (ny, nx)
        True where a pixel is usable.
    threshold : float
        Detection threshold in units of the pixel scatter, on five connected pixels of the smoothed image. At 2.5
        peaks of correlated noise are not yet taken for sources, which would make the sky look too quiet: the
        scatter of apertures stays within 2 % of the truth for smoothing up to 1.2 px (at 1.5: 12 % too low).
    grow : int
        Pixels this close to a detected pixel, along x and y, count as the source's.

    Returns
    -------
    bool array, shape (ny, nx)
        True on blank sky.
    """
    if not good.any():
        return np.zeros_like(good)
    image = np.ascontiguousarray(data, dtype=np.float32)
    bad = np.ascontiguousarray(~good)
    background = sep.Background(image, mask=bad)
    scatter = background.globalrms
    if not scatter > 0:
        return np.zeros_like(good)
    # The default buffer is too small for crowded frames; all pixels is the most that can be needed.
    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), image.size))
    _, segments = sep.extract(
        image - background.back(), threshold, err=scatter, mask=bad, segmentation_map=True, deblend_cont=1.0
    )
    return np.asarray(good & (ndimage.maximum_filter(segments, 2 * grow + 1) == 0))


def measure_correlation(
    data: AnyArray,
    good: BoolArray,
    sky_variance: AnyArray | float,
    *,
    rng: np.random.Generator,
    annulus: tuple[float, float],
    radii: tuple[float, ...] = DEFAULT_RADII,
    n_apertures: int = 2000,
    min_apertures: int = 100,
    blank: BoolArray | None = None,
) -> CorrelatedNoise:
    """Measure how the noise of blank apertures exceeds that of independent pixels.

    Apertures of more than 8 pixels radius may hold sources, up to a fifth of their area, whose pixels are left out.

    Parameters
    ----------
    data : float array, shape (ny, nx)
        Image, finite, with or without its sky.
    good : bool array, shape (ny, nx)
        True where a pixel is usable.
    sky_variance : float array, broadcastable to (ny, nx), or float
        Variance per pixel that the estimators use, image units squared.
    rng : numpy.random.Generator
        Chooses the positions.
    annulus : tuple of float
        Radii of the background annulus around each aperture, pixels.
    radii : tuple of float
        Radii of the apertures, pixels, greater than 0.
    n_apertures : int
        Apertures per radius, as far as the blank sky allows.
    min_apertures : int
        A radius with fewer is left out.
    blank : bool array, shape (ny, nx), optional
        What :func:`source_free` finds, where it is known.

    Returns
    -------
    CorrelatedNoise
        One factor per radius: half the interval from 16 to 84 % of the aperture sums in units of their
        white-noise error. The factor 1 with a ``reason`` where no radius has enough blank apertures.

    Raises
    ------
    LumosShapeError
        If data and mask differ in shape.
    LumosValueError
        If a radius is not positive or ``min_apertures`` is too small for a scatter.
    """
    if data.ndim != 2 or data.shape != good.shape:
        raise LumosShapeError("image and mask", (data.shape, good.shape), "two equal shapes (ny, nx)")
    if not radii or min(radii) <= 0:
        raise LumosValueError("aperture radii in pixels", radii, "> 0")
    if min_apertures < 10:
        raise LumosValueError("min_apertures", min_apertures, ">= 10")
    blank = (source_free(data, good) if blank is None else blank).copy()
    variance = np.broadcast_to(np.asarray(sky_variance, dtype=np.float32), data.shape)
    blank &= np.isfinite(variance) & (variance > 0)
    # Outside the blank sky nothing may spoil a sum, not even as 0 x NaN.
    data, variance = (np.where(blank, image, 0).astype(np.float32) for image in (data, variance))
    sky = _BlankSky(data, blank, variance, annulus, half=int(np.ceil(max(radii))) + 1)
    found = []
    clearance = np.empty(0)
    if min(radii) <= _WHOLLY_BLANK:
        clearance = ndimage.distance_transform_edt(np.pad(blank, 1))[1:-1, 1:-1]
    # From large to small: most places that are free for a large aperture are free for the smaller ones.
    for radius in sorted(radii, reverse=True):
        free = clearance > radius + 1 if radius <= _WHOLLY_BLANK else _mostly_blank(blank, radius)
        n_had = sky.n_free(radius)
        sky.add(_new_positions(free, radius, n_apertures - n_had, n_had, rng))
        area, deviations = sky.deviations(radius)
        if len(deviations) >= min_apertures:
            found.append((area, sigma68(deviations), len(deviations)))
    if not found:
        reason = f"fewer than {min_apertures} blank apertures of {min(radii):g} px with a background annulus"
        _LOG.warning("noise correlation not measured: %s", reason)
        return CorrelatedNoise(np.ones(1), np.ones(1), np.zeros(1, dtype=np.int64), reason)
    areas, factors, numbers = zip(*reversed(found), strict=True)
    return CorrelatedNoise(np.array(areas), np.array(factors), np.array(numbers, dtype=np.int64))


def _mostly_blank(blank: BoolArray, radius: float) -> BoolArray:
    """Return where the square around an aperture is blank up to a share, and its centre too."""
    share = ndimage.uniform_filter(blank.astype(np.float32), 2 * int(radius) + 1, mode="constant")
    return np.asarray(blank & (share >= _MOSTLY_BLANK))


def _new_positions(free: BoolArray, radius: float, number: int, taken: int, rng: np.random.Generator) -> IntArray:
    """Draw up to ``number`` random free positions (y, x), shape (m, 2), for apertures of a radius."""
    places = np.flatnonzero(free)
    # Apertures that overlap add no information: about as many as could be laid side by side.
    number = min(number, int(len(places) / (np.pi * radius**2)) - taken)
    chosen = rng.choice(places, max(number, 0), replace=False)
    return np.stack(np.unravel_index(chosen, free.shape), axis=1)


class _BlankSky:
    """Cutouts of blank sky with the level and error of their annuli, gathered bit by bit.

    Parameters
    ----------
    data, variance : float array, shape (ny, nx)
        Image and variance per pixel.
    blank : bool array, shape (ny, nx)
        True on usable pixels without sources.
    annulus : tuple of float
        Radii of the background annulus, pixels.
    half : int
        Cutouts are 2 half + 1 pixels wide.
    """

    def __init__(
        self, data: AnyArray, blank: BoolArray, variance: AnyArray, annulus: tuple[float, float], half: int
    ) -> None:
        self._data, self._variance = data, variance
        self._mask = np.where(blank, 0, int(MaskPlane.BAD)).astype(np.int32)
        self._annulus = annulus
        self._half = half
        side = 2 * half + 1
        self._residuals = torch.zeros(0, side * side)
        self._variances = torch.zeros(0, side * side)
        self._blank = torch.zeros(0, side * side)
        self._level_errs = torch.zeros(0)

    def n_free(self, radius: float) -> int:
        """Return at how many positions an aperture is blank enough."""
        return int(self._is_free(radius).sum())

    def _is_free(self, radius: float) -> Tensor:
        """Return where an aperture is blank enough, shape (m,)."""
        overlap = self._overlap(radius)
        least = 1 - 1e-5 if radius <= _WHOLLY_BLANK else _MOSTLY_BLANK
        return self._blank @ overlap >= least * overlap.sum()

    def add(self, positions: IntArray) -> None:
        """Cut out more positions (y, x), shape (m, 2)."""
        for start in range(0, len(positions), _CHUNK):
            self._add_chunk(positions[start : start + _CHUNK])

    def _add_chunk(self, positions: IntArray) -> None:
        large = max(int(np.ceil(self._annulus[1])) + 1, self._half)
        y, x = positions.T.astype(np.float64)
        stamps = cut_stamps(self._data, x, y, 2 * large + 1, mask=self._mask, variance=self._variance)
        assert stamps.variance is not None
        data, variance, usable = map(torch.from_numpy, (stamps.data, stamps.variance, good_pixels(stamps.mask)))
        centre = torch.full((len(data),), float(large))
        background = annulus_background(data, usable, centre, centre, *self._annulus)
        inner = slice(large - self._half, large + self._half + 1)
        free = usable[:, inner, inner].flatten(1).float()
        residuals = (data[:, inner, inner].flatten(1) - background.level[:, None]) * free
        variances = variance[:, inner, inner].flatten(1)
        self._residuals = torch.cat([self._residuals, residuals])
        self._variances = torch.cat([self._variances, variances])
        self._blank = torch.cat([self._blank, free])
        self._level_errs = torch.cat([self._level_errs, background.level_err])

    def _overlap(self, radius: float) -> Tensor:
        """Return the exact overlap of a central aperture, shape (pixels,)."""
        centre, size = torch.full((1,), float(self._half)), torch.full((1,), radius)
        side = 2 * self._half + 1
        return elliptical_overlap(centre, centre, size, size, torch.zeros(1), (side, side)).flatten().float()

    def deviations(self, radius: float) -> tuple[float, FloatArray]:
        """Return the mean noise-equivalent area, pixels, and (sum - area x level) in white-noise errors, shape (m,)."""
        overlap, free = self._overlap(radius), self._is_free(radius)
        blank, total = self._blank[free], self._blank[free] @ overlap
        white = self._variances[free] @ overlap**2 + (total * self._level_errs[free]) ** 2
        deviations = ((self._residuals[free] @ overlap) / white.sqrt()).numpy().astype(np.float64)
        area = float((total**2 / (blank @ overlap**2)).mean()) if len(total) else np.nan
        return area, np.asarray(deviations[np.isfinite(deviations)])
