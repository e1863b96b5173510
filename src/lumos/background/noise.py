"""The noise of an exposure: where it comes from, and how far its pixels are from independent."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import sep
import torch
from torch import Tensor

from lumos.background.annulus import AnnulusBackground, annulus_background
from lumos.background.correlation import CorrelatedNoise, measure_correlation, source_free
from lumos.background.geometry import StampGeometry
from lumos.background.settings import NoiseSettings
from lumos.conventions import BoolArray, Float32Array, FloatArray
from lumos.errors import LumosDataError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.stamps import Stamps, cut_stamps

__all__ = ["Cutout", "ExposureNoise", "PixelNoise", "cut_out", "exposure_noise", "pixel_noise", "stamp_variance"]

logger = logging.getLogger(__name__)

#: Gain and sky are believed when their variance is within this factor of the pixels'.
_TRUSTED = 1.5
#: Side in pixels of the cells of the map of the robust pixel scatter.
_MESH = 64
#: Apertures of larger stamps: their radii in pixels, which grow with the stamp, and how many, which fall with its area.
_LARGE_RADII, _LARGE_APERTURES, _FEWEST_LARGE = (5.0, 8.0, 11.0, 15.0, 20.0), 1200, 120


@dataclass(frozen=True)
class PixelNoise:
    """Noise of the single pixels of an exposure.

    Parameters
    ----------
    source : str
        ``"variance"`` (map of the exposure), ``"gain"`` (gain and sky) or ``"scatter"`` (robust).
    variance : float32 array, shape (ny, nx)
        Of blank pixels; a map of the exposure as it is.
    """

    source: str
    variance: Float32Array


@dataclass(frozen=True)
class ExposureNoise:
    """Noise of an exposure.

    Parameters
    ----------
    source : str
        ``"variance"`` (map of the exposure), ``"gain"`` (gain and sky) or ``"scatter"`` (robust).
    correlation : CorrelatedNoise or None
        Excess scatter of blank apertures; None where errors are for independent pixels.
    larger : mapping
        The same for larger stamps, by their size: their annuli are further out.
    """

    source: str
    correlation: CorrelatedNoise | None
    larger: Mapping[int, CorrelatedNoise] = field(default_factory=dict)

    def correlation_at(self, size: int) -> CorrelatedNoise | None:
        """Return the correlation of the noise for stamps of a size.

        Parameters
        ----------
        size : int
            Side of the stamps in pixels.

        Returns
        -------
        CorrelatedNoise or None
            That of the standard stamps where it was not measured.
        """
        return self.larger.get(size, self.correlation)


@dataclass(frozen=True)
class Cutout:
    """The pixels around n objects: large stamps for the background, small ones inside them to measure.

    Parameters
    ----------
    stamps : Stamps
        Large stamps that hold the annulus.
    inner : slice
        Rows and columns of the large stamps that make the stamps to measure.
    background : AnnulusBackground
        Level and scatter around each object.
    """

    stamps: Stamps
    inner: slice
    background: AnnulusBackground


def cut_out(
    exposure: Exposure, x: FloatArray, y: FloatArray, size: int, radii: tuple[float, float], side: int | None = None
) -> Cutout:
    """Cut stamps around positions and measure the background in the annulus of each.

    Parameters
    ----------
    exposure : Exposure
        What to cut from.
    x, y : float array, shape (n,)
        Positions in 0-based pixels.
    size : int
        Side of the stamps to measure.
    radii : tuple of float
        Inner and outer radius of the annulus in pixels.
    side : int, optional
        Side of the large stamps; by default they just hold stamp and annulus.

    Returns
    -------
    Cutout
        For n objects.
    """
    large = StampGeometry(size, *radii).side if side is None else side
    stamps = cut_stamps(exposure.data, x, y, large, mask=exposure.mask, variance=exposure.variance)
    background = annulus_background(
        torch.from_numpy(stamps.data),
        torch.from_numpy(good_pixels(stamps.mask)),
        torch.from_numpy(stamps.x),
        torch.from_numpy(stamps.y),
        *radii,
    )
    margin = large // 2 - size // 2
    return Cutout(stamps, slice(margin, margin + size), background)


def pixel_noise(exposure: Exposure, settings: NoiseSettings) -> PixelNoise:
    """Choose the source of the pixel noise.

    Parameters
    ----------
    exposure : Exposure
        Pixels and what is known of their noise.
    settings : NoiseSettings
        Requested source.

    Returns
    -------
    PixelNoise
        The choice.

    Raises
    ------
    LumosDataError
        If the source asked for does not exist in this exposure.
    """
    has_variance = exposure.variance is not None
    has_gain = np.isfinite(exposure.gain) and (exposure.sky is not None or not exposure.sky_subtracted)
    source = settings.source
    if source == "auto":
        source = "variance" if has_variance else "gain" if has_gain else "scatter"
    if (source == "variance" and not has_variance) or (source == "gain" and not has_gain):
        raise LumosDataError(f"{exposure.path}: noise.source={source} needs what this exposure does not have")
    good = good_pixels(exposure.mask)
    variance = _white_variance(exposure, good, source)
    if settings.source == "auto" and source == "gain":
        seen = _white_variance(exposure, good, "scatter")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.median(variance[good]) / np.median(seen[good])) if good.any() else 1.0
        if not 1 / _TRUSTED < ratio < _TRUSTED:
            text = "%s: gain and sky give %.3g times the variance of the pixels; their scatter is used instead"
            logger.warning(text, exposure.path, ratio)
            source, variance = "scatter", seen
    return PixelNoise(source, variance)


def exposure_noise(
    exposure: Exposure,
    pixels: PixelNoise,
    settings: NoiseSettings,
    annulus: tuple[float, float],
    larger: Mapping[int, float] = MappingProxyType({}),
) -> ExposureNoise:
    """Measure the correlation of the noise.

    Parameters
    ----------
    exposure : Exposure
        With as little light of sources as can be: what a catalogue knows is best taken away before. Where it has a
        realisation of its noise, the apertures are laid on that: it holds no source, seen or unseen.
    pixels : PixelNoise
        Noise of its pixels.
    settings : NoiseSettings
        Requested correlation.
    annulus : tuple of float
        Radii of the background annulus of the standard stamps, pixels.
    larger : mapping
        How much larger than the standard stamps others are, by their size.

    Returns
    -------
    ExposureNoise
        The source, and the correlation measured with it.
    """
    if settings.correlation == "none":
        return ExposureNoise(pixels.source, None)
    good, variance = good_pixels(exposure.mask), pixels.variance
    drawn = exposure.noise_realization
    data = exposure.data if drawn is None else np.where(np.isfinite(drawn), drawn, 0)
    # Where the variance holds the photons of sources it is that of the sky between them alone.
    everywhere = drawn is not None and not exposure.variance_includes_sources
    blank = good if everywhere else source_free(exposure.data, good)
    if drawn is not None:
        blank = blank & np.isfinite(drawn)
    rng = np.random.default_rng(settings.seed)
    correlation = measure_correlation(data, good, variance, rng=rng, annulus=annulus, blank=blank)
    more = {}
    for size, growth in larger.items():
        measured = measure_correlation(
            data,
            good,
            variance,
            rng=np.random.default_rng([settings.seed, size]),
            annulus=(annulus[0] * growth, annulus[1] * growth),
            radii=tuple(growth * radius for radius in _LARGE_RADII),
            n_apertures=max(round(_LARGE_APERTURES / growth**2), _FEWEST_LARGE),
            blank=blank,
        )
        if not measured.reason:
            more[size] = measured
    return ExposureNoise(pixels.source, correlation, more)


def _white_variance(exposure: Exposure, good: BoolArray, source: str) -> Float32Array:
    """Return the variance per pixel of the sky, over the whole image."""
    if source == "variance":
        assert exposure.variance is not None
        return exposure.variance
    background = sep.Background(exposure.data, mask=~good, bw=_MESH, bh=_MESH)
    if source == "scatter":
        return np.asarray(background.rms() ** 2, dtype=np.float32)
    sky = background.back() if exposure.sky is None else exposure.sky
    variance = np.broadcast_to(_sky_variance(sky, exposure), exposure.shape)
    return np.ascontiguousarray(variance, dtype=np.float32)


def _sky_variance(sky: Float32Array, exposure: Exposure) -> Float32Array:
    """Return the variance of pixels of a given sky level by Poisson statistics and read noise."""
    return np.asarray(sky / exposure.gain + (exposure.read_noise / exposure.gain) ** 2, dtype=np.float32)


def stamp_variance(
    exposure: Exposure, source: str, cutout: Cutout, x: FloatArray, y: FloatArray
) -> tuple[Tensor, Tensor | None]:
    """Return the noise of stamps.

    Parameters
    ----------
    exposure : Exposure
        Which they were cut from.
    source : str
        Where the noise comes from, as of :class:`ExposureNoise`.
    cutout : Cutout
        Pixels around n objects; the stamps to measure have side s.
    x, y : float array, shape (n,)
        Positions on the image in 0-based pixels.

    Returns
    -------
    sky_variance : tensor, shape (n, s, s) or (n, 1, 1)
        Variance without the object's own photons; not positive or NaN where unknown.
    variance : tensor, shape (n, s, s), or None
        Full variance, where the exposure ships one that holds the sources' noise.
    """
    background = cutout.background
    if source == "scatter":
        return background.scatter[:, None, None] ** 2, None
    if source == "gain":
        if exposure.sky is None:
            level = background.level[:, None, None].clamp(min=0)
            return level / exposure.gain + (exposure.read_noise / exposure.gain) ** 2, None
        full = np.broadcast_to(_sky_variance(exposure.sky, exposure), exposure.shape)
        return torch.from_numpy(full[np.rint(y).astype(int), np.rint(x).astype(int)])[:, None, None], None
    assert cutout.stamps.variance is not None
    whole = torch.from_numpy(cutout.stamps.variance)
    part = whole[:, cutout.inner, cutout.inner]
    if not exposure.variance_includes_sources:
        return part, None
    # The weights must not know the noise realisation of the source: a weight that falls with the
    # pixel's own value biases the flux low. So the sky's variance is the median around the object.
    usable = torch.where(torch.from_numpy(good_pixels(cutout.stamps.mask)), whole, torch.nan)
    return usable.flatten(1).nanmedian(dim=1).values[:, None, None], part
