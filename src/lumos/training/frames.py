"""Frames: small simulated exposures full of galaxies of known flux, measured as `lumos measure` measures exposures.

A frame holds galaxies of the population in groups, stars, what no catalogue has, and a catalogue with errors. Two
thirds of the galaxies, up to 400, are for training, with fluxes of the broad density that training divides out; the
others are their neighbours, many faint and few bright ones. Joint fit, cleaned stamps and noise are those of
`lumos measure`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from lumos.background.correlation import measure_correlation
from lumos.background.noise import ExposureNoise
from lumos.background.settings import NoiseSettings
from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import FloatArray, IntArray
from lumos.estimators import ShapeErrors
from lumos.flags import UNUSABLE, Flag, good_pixels
from lumos.images.exposure import Exposure
from lumos.nets.estimator import prepare_inputs, side_inputs
from lumos.nets.inputs import NetworkInputs
from lumos.nets.model import FluxModel
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import Ccd, object_batches, prepare_ccd
from lumos.photometry.objects import PlacedObjects, stamp_sizes
from lumos.photometry.settings import MeasureSettings
from lumos.pools.pool import BackgroundPool
from lumos.profiles.scene import draw_light
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT
from lumos.simulate.population import Galaxies, Population
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.fluxes import exposure_passband, image_flux
from lumos.teahupoo.settings import StampSettings
from lumos.training.grounds import CameraPlace, Ground, pool_ground, simulated_ground
from lumos.training.morphology import catalogued, count_fluxes, draw_galaxies, draw_stars, error_growth
from lumos.training.spoil import spoil_pixels, spoil_stamps

__all__ = ["Frame", "draw_frame", "frame_inputs"]

#: How far outside a frame there are objects, pixels.
_MARGIN = 30
#: Share of the catalogued galaxies that are for training, and the most of them per frame.
_TARGETS, _MOST_TARGETS = 0.65, 400
#: Galaxies fainter than a limit between these errors, which each frame has, are in no catalogue.
_LIMITS = (0.4, 2.0)
#: Largest share of the galaxies above the limit that the catalogue misses, in half of the frames.
_MISSED = 0.15
#: Largest share of the catalogue that is not there, in half of the frames.
_SPURIOUS = 0.05
#: Growth of the error from which a galaxy is blended, and by how much the spread of fluxes grows with it.
_BLENDED, _SPREAD = 1.15, 2.0
#: Share of frames whose catalogue holds the stars.
_STARS_KNOWN = 0.5
#: Blank apertures that measure the noise of a frame.
_RADII, _APERTURES = (1.0, 2.0, 3.5, 6.0, 9.0), 300
#: Stamps that no model is trained on.
_UNFIT = UNUSABLE | Flag.EDGE | Flag.TRUNCATED_PROFILE


@dataclass(frozen=True)
class Frame:
    """A frame, ready to be measured.

    Parameters
    ----------
    ccd : Ccd
        Its objects are the n galaxies for training.
    flux, flux_scale : float array, shape (n,)
        True fluxes and the units of the broad density, image units.
    place : CameraPlace or None
        Where the frame lies in a camera.
    """

    ccd: Ccd
    flux: FloatArray
    flux_scale: FloatArray
    place: CameraPlace | None = None


def draw_frame(
    population: Population,
    settings: StampSettings,
    rng: np.random.Generator,
    pool: BackgroundPool | None = None,
    rows: IntArray | None = None,
) -> Frame:
    """Simulate a frame and fit its scene.

    Parameters
    ----------
    population : Population
        Galaxies.
    settings : StampSettings
        Stamps, magnitudes, fluxes and the largest errors of the catalogue.
    rng : numpy.random.Generator
        The same state gives the same frame.
    pool : BackgroundPool, optional
        Backgrounds of a survey; by default any camera is simulated.
    rows : int array, optional
        Those to draw from; by default all.

    Returns
    -------
    Frame
        A simulated one has the noise that blank apertures show where none of the catalogued galaxies are.

    Raises
    ------
    LumosDataError
        If the backgrounds are too small, or fluxes need a zero point that they lack.
    """
    ground = simulated_ground(rng) if pool is None else pool_ground(pool, rows, settings, rng)
    side, shape = ground.side, ground.exposure.shape
    galaxies = draw_galaxies(population, settings, ground, _MARGIN, rng)
    shapes, scale, n = galaxies.shapes, galaxies.flux_scale, len(galaxies)
    proposed = settings.flux_from == "proposal"
    flux = scale * count_fluxes(n, rng) if proposed else _population_flux(galaxies.drawn, ground, pool, settings)
    # A catalogue of another band, or all that are above a limit.
    listed = flux > rng.uniform(*_LIMITS) * scale if proposed else np.ones(n, dtype=np.bool_)
    listed &= rng.uniform(size=n) >= _MISSED * max(rng.uniform(-1, 1), 0)
    inside = (np.abs(shapes.x - side / 2) < side / 2 - 1) & (np.abs(shapes.y - side / 2) < side / 2 - 1)
    # A catalogue that splits galaxies holds objects that are none.
    spurious = listed & (rng.uniform(size=n) < _SPURIOUS * max(rng.uniform(-1, 1), 0))
    targets = np.flatnonzero(inside & ~spurious & (rng.uniform(size=n) < _TARGETS))[:_MOST_TARGETS]
    listed[targets] = True
    growth = np.ones(n)
    growth[listed] = error_growth(shapes.take(listed), ground.fwhm)
    # Fluxes of blended galaxies spread over more than the errors of the joint fit. Else their counts would say, before
    # any pixel does, how two galaxies share their light: a prior that no training divides out.
    scale = scale * (1 + _SPREAD * (growth - 1))
    if proposed:
        broad = np.union1d(targets, np.flatnonzero(growth > _BLENDED))
        flux[broad] = scale[broad] * FluxProposal(**settings.proposal.model_dump()).draw(len(broad), rng)
    flux[spurious] = 0.0
    stars, star_flux = draw_stars(ground.fwhm, ground.noise, (side, _MARGIN), rng)
    with_stars = rng.uniform() < _STARS_KNOWN
    around, errors = catalogued(galaxies.take(listed), settings.catalog_scatter, ground.fwhm, rng)
    ref_mag = galaxies.drawn.ref_mag[listed]
    if with_stars:
        around = Shapes.concatenate([around, stars])
        errors = np.concatenate([errors, np.zeros((4, len(stars)))], axis=1)
        ref_mag = np.append(ref_mag, np.full(len(stars), np.nan))
    known, unknown = (
        galaxies.take(which).light(flux[which], ground.psf, shape, ground.noise) for which in (listed, ~listed)
    )
    starlight = draw_light(stars, star_flux, ground.psf, shape, ground.noise)
    known, unknown = (known + starlight, unknown) if with_stars else (known, unknown + starlight)
    blank = ground.exposure.data + unknown + _photon_noise(unknown, ground, rng)
    image = blank + known + _photon_noise(known, ground, rng)
    mask = ground.exposure.mask if pool is not None else spoil_pixels(image, rng)
    exposure = replace(ground.exposure, data=image.astype(np.float32), mask=mask)
    if exposure.variance is not None and exposure.variance_includes_sources:
        light = np.maximum(known + unknown, 0) * ground.photon_variance
        exposure = replace(exposure, variance=(exposure.variance + light).astype(np.float32))
    placed = _placed(around, errors, ref_mag, exposure, settings)
    position = np.cumsum(listed) - 1
    measure = MeasureSettings(
        stamp_size=settings.stamp_size,
        annulus_inner=settings.annulus_inner,
        annulus_outer=settings.annulus_outer,
        noise=NoiseSettings(source=ground.source, correlation="none"),
        trails=False,
    )
    ccd = prepare_ccd(exposure, 1.0, placed, position[targets], measure)
    correlation = ground.correlation
    if pool is None:
        correlation = measure_correlation(
            blank.astype(np.float32),
            good_pixels(mask),
            ccd.pixels.variance,
            rng=rng,
            annulus=settings.geometry.annulus,
            radii=_RADII,
            n_apertures=_APERTURES,
            min_apertures=20,
        )
    if correlation is not None:
        ccd = replace(ccd, noise=ExposureNoise(ccd.pixels.source, correlation))
    return Frame(ccd, flux[targets], scale[targets], ground.place)


def _photon_noise(light: FloatArray, ground: Ground, rng: np.random.Generator) -> FloatArray:
    """Return the noise of photons: far above one electron a Gaussian."""
    gain = ground.exposure.gain
    if not np.isfinite(gain):
        return np.zeros_like(light)
    return ground.kernel.smooth(np.sqrt(np.maximum(light, 0) / gain) * rng.standard_normal(light.shape))


def _population_flux(
    galaxies: Galaxies, ground: Ground, pool: BackgroundPool | None, settings: StampSettings
) -> FloatArray:
    """Return the fluxes that galaxies of these magnitudes and spectra have in the band of a background."""
    assert pool is not None
    assert ground.place is not None
    exposure = ground.exposure
    flux = galaxies.band_flux([exposure_passband(pool.exposures[ground.place.exposure], settings)])[:, 0]
    return image_flux(flux, exposure.zeropoint, exposure.exposure_time / exposure.gain, settings)


def frame_inputs(
    frame: Frame, model: FluxModel, *, fault: str | None = None, rng: np.random.Generator | None = None
) -> tuple[NetworkInputs | None, IntArray]:
    """Prepare the stamps of a frame for a model.

    Parameters
    ----------
    frame : Frame
        With n galaxies.
    model : FluxModel
        Model that the inputs are for.
    fault : str, optional
        One of :data:`lumos.teahupoo.faults.FAULTS`, which all stamps get.
    rng : numpy.random.Generator, optional
        Draws the faults.

    Returns
    -------
    inputs : NetworkInputs or None
        Of those that can be trained on; None if there are none.
    rows : int array
        Which these are.
    """
    parts, rows = [], []
    ccd = frame.ccd
    for some in object_batches(ccd.objects, ccd.settings):
        batch, _, flags = stamp_batch(ccd, some)
        if fault is not None:
            batch = spoil_stamps(ccd, some, batch, fault, frame.flux[some], np.random.default_rng(rng))
        assert batch.context is not None
        start, side = 0, side_inputs(model, batch.context)
        if frame.place is not None:
            ccd_x, ccd_y = frame.place.at(ccd.objects.x[some], ccd.objects.y[some])
            side = replace(side, ccd_x=ccd_x, ccd_y=ccd_y)
        for inputs in prepare_inputs(model, batch, side, batch.context.noise_factor):
            part = slice(start, start + len(inputs))
            keep = ((flags[part] & int(_UNFIT)) == 0) & inputs.usable.numpy()
            parts.append(inputs.take(keep))
            rows.append(some[part][keep])
            start += len(inputs)
    numbers = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    return (NetworkInputs.concatenate(parts) if len(numbers) else None), numbers


def _placed(
    around: Shapes, errors: FloatArray, ref_mag: FloatArray, exposure: Exposure, settings: StampSettings
) -> PlacedObjects:
    """Return the objects of a catalogue as `lumos measure` places them."""
    assert exposure.psf is not None
    n = len(around)
    psf_fwhm = exposure.psf.fwhm_at(around.x, around.y)
    semi_major = np.hypot(around.half_light_radius, PSF_HALF_LIGHT * psf_fwhm)
    share = (around.half_light_radius / semi_major) ** 2
    scaled = (errors[0] * share, errors[1] * share, errors[2] * share, errors[3] / semi_major)
    nothing = np.full(n, np.nan)
    return PlacedObjects(
        **vars(around),
        catalog=ParentCatalog(np.arange(n), *(nothing,) * 6, ref_mag),
        psf_fwhm=psf_fwhm,
        semi_major=semi_major,
        semi_minor=np.hypot(around.half_light_radius * around.axis_ratio, PSF_HALF_LIGHT * psf_fwhm),
        stamp_size=stamp_sizes(semi_major, MeasureSettings(stamp_size=settings.stamp_size)),
        flags=np.zeros(n, dtype=np.int64),
        shape_errors=ShapeErrors(*(torch.from_numpy(values).float() for values in scaled)),
    )
