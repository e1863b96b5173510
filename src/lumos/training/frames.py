"""Frames: small simulated exposures full of galaxies of known flux, measured as `lumos measure` measures exposures.

A frame holds galaxies of the population in groups, stars, what no catalogue has, and a catalogue with errors. Two
thirds of the galaxies, up to 400, are for training, with fluxes of the broad density that training divides out; the
others are their neighbours, many faint and few bright ones. Joint fit, cleaned stamps and noise are those of
`lumos measure`.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from astropy.wcs import WCS
from torch import Tensor

from lumos.background.correlation import measure_correlation
from lumos.background.noise import ExposureNoise
from lumos.background.settings import NoiseSettings
from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import FloatArray, IntArray
from lumos.estimators import ShapeErrors, StampBatch
from lumos.flags import UNUSABLE, Flag, good_pixels
from lumos.images.exposure import Exposure
from lumos.images.psf.models import PsfModel
from lumos.nets.estimator import prepare_inputs
from lumos.nets.inputs import NetworkInputs, SideInputs
from lumos.nets.model import FluxModel
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import Ccd, object_batches, prepare_ccd
from lumos.photometry.objects import PlacedObjects, stamp_sizes
from lumos.photometry.settings import MeasureSettings
from lumos.profiles.scene import draw_light
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT, MoffatPsf
from lumos.simulate.artefacts import satellite_trail
from lumos.simulate.pixels import add_cosmic_rays, add_defects, saturate
from lumos.simulate.population import Population
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.faults import spoil_batch
from lumos.teahupoo.settings import StampSettings
from lumos.training.morphology import catalogued, count_fluxes, draw_galaxies, draw_stars
from lumos.training.skies import SkyLevels, draw_kernel, draw_psfs, draw_sky

__all__ = ["Frame", "draw_frame", "frame_inputs"]

#: Side of a frame, and how far outside there are objects, pixels.
_SIDE, _MARGIN = 640, 30
#: Share of the catalogued galaxies that are for training, and the most of them per frame.
_TARGETS, _MOST_TARGETS = 0.65, 400
#: Galaxies fainter than a limit between these errors, which each frame has, are in no catalogue.
_LIMITS = (0.4, 2.0)
#: Largest share of the galaxies above the limit that the catalogue misses, in half of the frames.
_MISSED = 0.15
#: Largest share of the catalogue that is not there, in half of the frames.
_SPURIOUS = 0.05
#: Scatter of the variance that a map states, of the natural logarithm.
_MAP_SCATTER = 0.05
#: Share of frames whose catalogue holds the stars.
_STARS_KNOWN = 0.5
#: Electrons of a full pixel, cosmic rays per million pixels, hot pixels, dead columns, satellites.
_SATURATION, _RAYS, _HOT, _DEAD, _SATELLITES = (4e4, 2e5), 30.0, 40.0, 0.2, 0.06
#: Blank apertures that measure the noise of a frame.
_RADII, _APERTURES = (1.0, 2.0, 3.5, 6.0, 9.0), 300
#: Stamps that no model is trained on.
_UNFIT = UNUSABLE | Flag.EDGE | Flag.TRUNCATED_PROFILE
#: PSFs of wrong width are drawn in such steps, of the natural logarithm.
_WIDTH_STEP = 0.1


NoiseSource = Literal["variance", "gain", "scatter"]


@dataclass(frozen=True)
class Frame:
    """A frame, ready to be measured.

    Parameters
    ----------
    ccd : Ccd
        Its objects are the n galaxies for training.
    flux, flux_scale : float array, shape (n,)
        True fluxes and the units of the broad density, electrons.
    """

    ccd: Ccd
    flux: FloatArray
    flux_scale: FloatArray


def draw_frame(population: Population, settings: StampSettings, rng: np.random.Generator) -> Frame:
    """Simulate a frame and fit its scene.

    Parameters
    ----------
    population : Population
        Galaxies.
    settings : StampSettings
        Stamps, magnitudes, broad density and the largest errors of the catalogue.
    rng : numpy.random.Generator
        The same state gives the same frame.

    Returns
    -------
    Frame
        With the noise that blank apertures show where none of the catalogued galaxies are.
    """
    shape = (_SIDE, _SIDE)
    true_psf, psf, fwhm = draw_psfs(rng)
    levels, sky = draw_sky(shape, rng)
    kernel = draw_kernel(fwhm, rng)
    noise = levels.noise * np.sqrt(kernel.variance_factor)
    galaxies = draw_galaxies(population, settings, fwhm, noise, (_SIDE, _MARGIN), rng)
    shapes, scale, n = galaxies.shapes, galaxies.flux_scale, len(galaxies)
    flux = scale * count_fluxes(n, rng)
    listed = (flux > rng.uniform(*_LIMITS) * scale) & (rng.uniform(size=n) >= _MISSED * max(rng.uniform(-1, 1), 0))
    inside = (np.abs(shapes.x - _SIDE / 2) < _SIDE / 2 - 1) & (np.abs(shapes.y - _SIDE / 2) < _SIDE / 2 - 1)
    # A catalogue that splits galaxies holds objects that are none.
    spurious = listed & (rng.uniform(size=n) < _SPURIOUS * max(rng.uniform(-1, 1), 0))
    flux[spurious] = 0.0
    targets = np.flatnonzero(inside & ~spurious & (rng.uniform(size=n) < _TARGETS))[:_MOST_TARGETS]
    listed[targets] = True
    flux[targets] = scale[targets] * FluxProposal(**settings.proposal.model_dump()).draw(len(targets), rng)
    stars, star_flux = draw_stars(fwhm, noise, (_SIDE, _MARGIN), rng)
    with_stars = rng.uniform() < _STARS_KNOWN
    around, errors = catalogued(galaxies.take(listed), settings.catalog_scatter, fwhm, rng)
    if with_stars:
        around = Shapes.concatenate([around, stars])
        errors = np.concatenate([errors, np.zeros((4, len(stars)))], axis=1)
    drawn_psf = true_psf.at(np.zeros(1), np.zeros(1))
    known = galaxies.take(listed).light(flux[listed], drawn_psf, shape, noise)
    unknown = galaxies.take(~listed).light(flux[~listed], drawn_psf, shape, noise)
    starlight = draw_light(stars, star_flux, drawn_psf, shape, noise)
    background = sky + unknown + (0 if with_stars else starlight)
    if rng.uniform() < _SATELLITES:
        background = background + satellite_trail(shape, levels.level, fwhm, rng)
    light = background + known + (starlight if with_stars else 0)
    deviates = rng.standard_normal(shape)
    # Far above 1 electron a Gaussian; the same deviates make the noise of the frame without its objects.
    spread = np.sqrt(np.maximum(light, 0) + levels.read_noise**2)
    image = light + kernel.smooth(spread * deviates)
    blank = background + kernel.smooth(np.sqrt(np.maximum(background, 0) + levels.read_noise**2) * deviates)
    mask = _spoil(image, rng)
    # Gain and sky know nothing of resampling.
    source: NoiseSource = ("variance", "scatter", "gain" if kernel.variance_factor == 1 else "scatter")[rng.choice(3)]
    exposure = _exposure(image, mask, psf, levels, sky, light, kernel.variance_factor, source, rng)
    placed = _placed(around, errors, exposure, settings)
    position = np.cumsum(listed) - 1
    measure = MeasureSettings(
        stamp_size=settings.stamp_size,
        annulus_inner=settings.annulus_inner,
        annulus_outer=settings.annulus_outer,
        noise=NoiseSettings(source=source, correlation="none"),
    )
    ccd = prepare_ccd(exposure, 1.0, placed, position[targets], measure)
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
    ccd = replace(ccd, noise=ExposureNoise(ccd.pixels.source, correlation))
    return Frame(ccd, flux[targets], scale[targets])


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
            batch = _spoiled(ccd, some, batch, fault, frame.flux[some], np.random.default_rng(rng))
        assert batch.context is not None
        start = 0
        for inputs in prepare_inputs(model, batch, SideInputs(), batch.context.noise_factor):
            part = slice(start, start + len(inputs))
            keep = ((flags[part] & int(_UNFIT)) == 0) & inputs.usable.numpy()
            parts.append(inputs.take(keep))
            rows.append(some[part][keep])
            start += len(inputs)
    numbers = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    return (NetworkInputs.concatenate(parts) if len(numbers) else None), numbers


def _spoiled(
    ccd: Ccd, rows: IntArray, batch: StampBatch, fault: str, flux: FloatArray, rng: np.random.Generator
) -> StampBatch:
    """Give stamps a fault."""
    objects = ccd.objects.take(rows)

    def redraw(radius: FloatArray, width: FloatArray) -> Tensor:
        assert ccd.exposure.psf is not None
        shapes = replace(
            objects.at(batch.x.double().numpy(), batch.y.double().numpy()),
            half_light_radius=objects.half_light_radius * radius,
        )
        stamps = torch.empty_like(batch.profile)
        # An image is one PSF for all: objects of like factors share one.
        steps = np.exp(np.round(np.log(width) / _WIDTH_STEP) * _WIDTH_STEP)
        for factor in np.unique(steps):
            some = np.flatnonzero(steps == factor)
            psf = ccd.exposure.psf.at(objects.x[some], objects.y[some])
            if isinstance(psf, MoffatPsf):
                psf = MoffatPsf(psf.fwhm * factor, psf.beta)
            else:
                psf = replace(psf, sampling=psf.sampling * factor)
            stamps[some] = render(shapes.take(some), psf, size=batch.profile.shape[1])
        return stamps

    return spoil_batch(batch, fault, flux, objects.psf_fwhm, redraw, rng)


def _spoil(image: FloatArray, rng: np.random.Generator) -> IntArray:
    """Add what strikes pixels, in place; return the mask."""
    mask = np.zeros(image.shape, dtype=np.uint8)
    add_cosmic_rays(image, mask, _RAYS * image.size / 1e6, 0.3 * rng.uniform(), rng)
    add_defects(image, mask, _HOT, _DEAD, rng)
    saturate(image, mask, float(np.exp(rng.uniform(*np.log(_SATURATION)))), 300)
    return mask.astype(np.int64)


def _exposure(
    image: FloatArray,
    mask: IntArray,
    psf: PsfModel,
    levels: SkyLevels,
    sky: FloatArray,
    light: FloatArray,
    factor: float,
    source: NoiseSource,
    rng: np.random.Generator,
) -> Exposure:
    """Return an exposure that says of its noise what exposures say: a map, gain and sky, or nothing."""
    includes = bool(rng.uniform() < 0.5)
    variance = ((light if includes else sky) + levels.read_noise**2) * factor * np.exp(_MAP_SCATTER * rng.normal())
    return Exposure(
        exposure_id="frame",
        detector="",
        survey="",
        band="",
        state="",
        data=image.astype(np.float32),
        mask=mask.astype(np.int32),
        wcs=WCS(naxis=2),
        pixel_scale=1.0,
        psf=psf,
        variance=variance.clip(min=1e-3).astype(np.float32) if source == "variance" else None,
        variance_includes_sources=includes,
        gain=1.0,
        read_noise=levels.read_noise,
        sky_subtracted=source != "gain",
    )


def _placed(around: Shapes, errors: FloatArray, exposure: Exposure, settings: StampSettings) -> PlacedObjects:
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
        catalog=ParentCatalog(np.arange(n), *(nothing,) * 7),
        psf_fwhm=psf_fwhm,
        semi_major=semi_major,
        semi_minor=np.hypot(around.half_light_radius * around.axis_ratio, PSF_HALF_LIGHT * psf_fwhm),
        stamp_size=stamp_sizes(semi_major, MeasureSettings(stamp_size=settings.stamp_size)),
        flags=np.zeros(n, dtype=np.int64),
        shape_errors=ShapeErrors(*(torch.from_numpy(values).float() for values in scaled)),
    )
