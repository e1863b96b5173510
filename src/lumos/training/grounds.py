"""What the galaxies of a frame are put on: a simulated sky of any camera, or a background of the exposures of one."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from astropy.wcs import WCS
from torch import Tensor

from lumos.background.correlation import CorrelatedNoise
from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel, PsfModel, StampModel
from lumos.pools.pool import BackgroundPool, BackgroundStamps
from lumos.psfs import MoffatPsf, Psf
from lumos.simulate.artefacts import satellite_trail
from lumos.teahupoo.settings import StampSettings
from lumos.training.settings import LEAST_SIDE
from lumos.training.skies import NoiseKernel, draw_kernel, draw_psfs, draw_sky

NoiseSource = Literal["variance", "gain", "scatter"]

__all__ = ["FRAME_SIDE", "CameraPlace", "Ground", "pool_ground", "simulated_ground"]

#: Side of a simulated frame, pixels.
FRAME_SIDE = 640
#: FWHM of the PSF in arcsec, which sets the size of the population's galaxies in pixels.
_SEEING = (0.5, 1.3)
#: Scatter of the variance that a map states, of the natural logarithm.
_MAP_SCATTER = 0.05
#: What an exposure must have that no network sees.
_NAMELESS: dict[str, Any] = {
    "exposure_id": "frame",
    "detector": "",
    "survey": "",
    "band": "",
    "state": "",
    "wcs": WCS(naxis=2),
    "pixel_scale": 1.0,
}
#: Share of frames that a satellite crosses.
_SATELLITES = 0.06


@dataclass(frozen=True)
class CameraPlace:
    """Where a background lies in a camera.

    Parameters
    ----------
    exposure : int
        Entry of the pool's exposures.
    x, y : tuple of two float
        Place on the CCD, 0 to 1, of the first pixel, and the step from one to the next.
    """

    exposure: int
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: FloatArray, y: FloatArray) -> tuple[Tensor, Tensor]:
        """Return the places of pixels of the frame.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Pixels.

        Returns
        -------
        x, y : tensor, shape (n,), float32
            0 to 1.
        """
        along = (self.x[0] + self.x[1] * x, self.y[0] + self.y[1] * y)
        return torch.from_numpy(along[0]).float(), torch.from_numpy(along[1]).float()


@dataclass(frozen=True)
class Ground:
    """An exposure without galaxies, and what is true of it beside what it says.

    Parameters
    ----------
    exposure : Exposure
        With all its noise, a PSF as a reduction believes it, and a map of the variance without sources where
        ``source`` is one.
    psf : MoffatPsf or PixelPsf
        The true one, for one object.
    fwhm : float
        Of its core, pixels.
    pixel_scale : float
        Arcsec per pixel.
    noise : float
        Of a blank pixel, image units.
    kernel : NoiseKernel
        What resampling does to the noise of the galaxies' light.
    source : {"variance", "gain", "scatter"}
        Where the noise is to be taken from.
    photon_variance : float
        Variance per light that the map states: it may be wrong.
    correlation : CorrelatedNoise or None
        Excess scatter of blank apertures; None where the frame is to measure it.
    place : CameraPlace or None
        None for a camera without places.
    """

    exposure: Exposure
    psf: Psf
    fwhm: float
    pixel_scale: float
    noise: float
    kernel: NoiseKernel
    source: NoiseSource
    photon_variance: float
    correlation: CorrelatedNoise | None = None
    place: CameraPlace | None = None

    @property
    def side(self) -> int:
        """Return the side of the frame, pixels."""
        return self.exposure.shape[0]


def simulated_ground(rng: np.random.Generator, side: int = FRAME_SIDE) -> Ground:
    """Draw a camera, a night and a reduction.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same ground.
    side : int, optional
        Pixels.

    Returns
    -------
    Ground
        In electrons.
    """
    shape = (side, side)
    true_psf, psf, fwhm = draw_psfs(rng)
    levels, sky = draw_sky(shape, rng)
    kernel = draw_kernel(fwhm, rng)
    if rng.uniform() < _SATELLITES:
        sky = sky + satellite_trail(shape, levels.level, fwhm, rng)
    spread = np.sqrt(np.maximum(sky, 0) + levels.read_noise**2)
    image = sky + kernel.smooth(spread * rng.standard_normal(shape))
    # Gain and sky know nothing of resampling.
    sources: tuple[NoiseSource, ...] = ("variance", "scatter", "gain" if kernel.variance_factor == 1 else "scatter")
    source = sources[rng.choice(3)]
    factor = float(kernel.variance_factor * np.exp(_MAP_SCATTER * rng.normal()))
    variance = ((sky + levels.read_noise**2) * factor).clip(min=1e-3).astype(np.float32)
    return Ground(
        exposure=Exposure(
            **_NAMELESS,
            data=image.astype(np.float32),
            mask=np.zeros(shape, dtype=np.int32),
            psf=psf,
            variance=variance if source == "variance" else None,
            variance_includes_sources=bool(rng.uniform() < 0.5),
            gain=1.0,
            read_noise=levels.read_noise,
            sky_subtracted=source != "gain",
        ),
        psf=true_psf.at(np.zeros(1), np.zeros(1)),
        fwhm=fwhm,
        pixel_scale=float(rng.uniform(*_SEEING)) / fwhm,
        noise=levels.noise * float(np.sqrt(kernel.variance_factor)),
        kernel=kernel,
        source=source,
        photon_variance=factor,
    )


def pool_ground(
    pool: BackgroundPool, rows: IntArray | None, settings: StampSettings, rng: np.random.Generator
) -> Ground:
    """Draw a background of real or simulated exposures.

    Parameters
    ----------
    pool : BackgroundPool
        Backgrounds of a side of at least ``LEAST_SIDE``, without galaxies that a catalogue would have.
    rows : int array or None
        Those to draw from; None: all.
    settings : StampSettings
        How wrong the PSF is that is believed.
    rng : numpy.random.Generator
        The same state gives the same ground.

    Returns
    -------
    Ground
        In image units. A background without a map of the variance has the variance of its blank pixels everywhere.

    Raises
    ------
    LumosDataError
        If the backgrounds are too small.
    """
    if pool.side < LEAST_SIDE:
        raise LumosDataError(
            f"pool of stamps of side {pool.side} px, allowed for networks on scenes: {LEAST_SIDE} or more"
        )
    stamp = pool.sample(rng, 1, rows)
    exposure = pool.exposures[stamp.exposure[0]]
    variance = np.full(stamp.data.shape[1:], stamp.sky_variance[0], dtype=np.float32)
    if stamp.variance is not None and np.isfinite(stamp.variance).all():
        variance = stamp.variance[0]
    psf, gain = stamp.psfs[0][1], float(stamp.gain[0])
    width = float(np.exp(settings.catalog_scatter.psf_fwhm * rng.standard_normal()))
    steps = [norm[0] / (place[0] + 0.5) for norm, place in _places(stamp)]
    starts = [norm[0] - step * (pool.side // 2) for (norm, _), step in zip(_places(stamp), steps, strict=True)]
    return Ground(
        exposure=Exposure(
            **_NAMELESS | {"band": exposure.band, "state": exposure.state},
            data=stamp.data[0],
            mask=stamp.mask[0].astype(np.int32),
            psf=_one_psf(psf, width),
            variance=variance,
            gain=gain,
            zeropoint=exposure.zeropoint,
            exposure_time=exposure.exposure_time,
        ),
        psf=psf,
        fwhm=float(stamp.psf_fwhm[0]),
        pixel_scale=exposure.pixel_scale,
        noise=float(np.sqrt(stamp.sky_variance[0])),
        kernel=NoiseKernel((np.ones(1), np.ones(1))),
        source="variance",
        photon_variance=1 / gain if np.isfinite(gain) else 0.0,
        correlation=exposure.correlation,
        place=CameraPlace(int(stamp.exposure[0]), (starts[0], steps[0]), (starts[1], steps[1])),
    )


def _places(stamp: BackgroundStamps) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    return (stamp.ccd_x_norm, stamp.ccd_x), (stamp.ccd_y_norm, stamp.ccd_y)


def _one_psf(psf: Psf, factor: float) -> PsfModel:
    """Return the PSF of one object, widened, as that of a whole CCD."""
    if isinstance(psf, MoffatPsf):
        return MoffatModel(float(psf.fwhm[0]) * factor, float(psf.beta[0]))
    return StampModel(psf.images[0], psf.sampling * factor, includes_pixel=psf.includes_pixel)
