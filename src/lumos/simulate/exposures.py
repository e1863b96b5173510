"""Simulated exposures of a whole survey, with truth: ``lumos simulate``.

An exposure is the light of a field and the sky, both with Poisson noise, read noise, and what spoils pixels. It is
written as one FITS file with an image and a mask per detector, readable through a shipped survey.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from lumos.conventions import Float32Array, FloatArray
from lumos.errors import LumosError, WorkerDiedError
from lumos.files import file_sha256, whole_file
from lumos.runs.driver import Driver, Work, driver_of
from lumos.runs.folder import Entry, begin_folder
from lumos.simulate.artefacts import Mask, crosstalk_ghosts, resample, satellite_trail, scattered_light, sky_shape
from lumos.simulate.field import Field, draw_field, field_light
from lumos.simulate.headers import image_header, primary_header
from lumos.simulate.pixels import add_cosmic_rays, add_defects, saturate
from lumos.simulate.plan import PlannedExposure, plan_exposures, random_stream
from lumos.simulate.readable import survey_of, write_survey
from lumos.simulate.settings import SurveySimulation
from lumos.simulate.truth import write_tables
from lumos.threads import one_thread

__all__ = ["KnownExposure", "SimulationReport", "expose", "expose_known", "simulate_survey"]

logger = logging.getLogger(__name__)

#: What a progress display is told: exposures finished, exposures in all, the last one's name.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SimulationReport:
    """What a simulation did.

    Parameters
    ----------
    exposures : tuple of Path
        All exposures of the survey.
    done, skipped : tuple of str
        Exposures made now, and those that were there before.
    n_galaxies : int
        Galaxies in the parent catalogue.
    """

    exposures: tuple[Path, ...]
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    n_galaxies: int


@dataclass(frozen=True)
class KnownExposure:
    """One detector of an exposure with what only the simulation knows.

    Parameters
    ----------
    image : float32 array, shape (ny, nx)
        Image units, sky included.
    mask : uint8 array, shape (ny, nx)
        Bits of :class:`lumos.flags.MaskPlane`.
    expected : float32 array, shape (ny, nx)
        The image without its noise, cosmic rays included, where the mask is 0; image units.
    variance : float32 array, shape (ny, nx)
        Variance of the noise where the mask is 0, of white noise (before any smoothing); image units squared.
    """

    image: Float32Array
    mask: Mask
    expected: Float32Array
    variance: Float32Array


def simulate_survey(
    settings: SurveySimulation, out: Path, *, workers: int | Driver = 1, progress: Progress | None = None
) -> SimulationReport:
    """Write the exposures of a simulated survey, its parent catalogue and the truth.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.
    out : Path
        Folder; gets ``exposures/*.fits``, ``parent.parquet``, ``truth.parquet``, ``exposures.parquet``,
        ``settings.yaml`` and ``manifest.json``; ``survey.yaml``, by which exposures of a survey with another layout
        are read. A simulation of the same settings is continued.
    workers : int or Driver, optional
        Number of processes; the files do not depend on it.
    progress : callable, optional
        Called after each exposure with the number finished, the number in all, and the name.

    Returns
    -------
    SimulationReport
        What was done.

    Raises
    ------
    LumosConfigError
        If ``out`` holds a simulation of other settings, or a band is unknown.
    LumosValueError
        If there is no worker, or a PSF is wider than the stamps that galaxies are drawn on.
    LumosError
        If a worker process dies of an exposure; the others are made all the same.
    """
    driver = driver_of(workers)
    plan = plan_exposures(settings)
    survey = survey_of(settings.survey).model_dump(mode="json")
    content = {"simulate": settings.model_dump(mode="json"), "survey": survey}
    if settings.sky.fluxes is not None:
        content["fluxes"] = {"sha256": file_sha256(Path(settings.sky.fluxes))}
    tasks = {exposure.exposure_id: (exposure, out / "exposures" / f"{exposure.exposure_id}.fits") for exposure in plan}
    # The tables come before the first exposure.
    begun = (out / "parent.parquet").exists()
    with begin_folder(out, "simulate", content, "exposures", begun=begun) as folder:
        write_survey(settings.survey, out)
        n_galaxies = write_tables(out, settings, plan)
        finished = {name for name, (_, path) in tasks.items() if folder.is_finished(name, path)}
        todo = {name: task for name, task in tasks.items() if name not in finished}
        folder.begin(finished, {name: path for name, (_, path) in todo.items()}, {})
        done: list[str] = []
        died: list[str] = []
        with closing(driver.run(Work(_make, _shared, (settings,)), list(todo.values()))) as results:
            for (exposure, path), result in results:
                if isinstance(result, WorkerDiedError):
                    died.append(f"{path}: {result}")
                    continue
                folder.enter(exposure.exposure_id, result)
                done.append(exposure.exposure_id)
                if progress is not None:
                    progress(len(finished) + len(done), len(plan), exposure.exposure_id)
    if died:
        raise LumosError(f"{'; '.join(died)}; run again with fewer --workers, the other exposures are finished")
    paths = tuple(path for _, path in tasks.values())
    return SimulationReport(paths, tuple(sorted(done)), tuple(name for name in tasks if name in finished), n_galaxies)


@contextmanager
def _shared(settings: SurveySimulation) -> Iterator[SurveySimulation]:
    with one_thread():
        yield settings


def _make(settings: SurveySimulation, task: tuple[PlannedExposure, Path]) -> Entry:
    """Make one exposure and write it, whole or not at all; return its entry of the manifest."""
    exposure, path = task
    field = draw_field(settings, exposure)
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary_header(exposure))])
    for detector in range(settings.camera.detectors):
        image, mask = expose(settings, exposure, detector, field)
        header = image_header(settings, exposure, detector)
        hdus.append(fits.ImageHDU(image, header, name="SCI", ver=detector + 1))
        hdus.append(fits.ImageHDU(mask, name="MASK", ver=detector + 1))
    for hdu in hdus:
        # The comment of a checksum holds the time, and two runs shall give the same bytes.
        hdu.add_checksum(when="of the simulation")
    with whole_file(path) as temporary:
        hdus.writeto(temporary, overwrite=True)
    shard = f"exposures/{path.name}"
    return {"status": "done", "file": str(path), "inputs": {}, "shard": shard, "sha256": file_sha256(path)}


def expose(
    settings: SurveySimulation, exposure: PlannedExposure, detector: int, field: Field
) -> tuple[Float32Array, Mask]:
    """Make the image and the mask of one detector.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.
    exposure : PlannedExposure
        What to make.
    detector : int
        Number of the detector, 0 or more.
    field : Field
        What lies on the sky.

    Returns
    -------
    image : float32 array, shape (ny, nx)
        Image units, sky included.
    mask : uint8 array, shape (ny, nx)
        Bits of :class:`lumos.flags.MaskPlane`.
    """
    known = expose_known(settings, exposure, detector, field)
    return known.image, known.mask


def expose_known(settings: SurveySimulation, exposure: PlannedExposure, detector: int, field: Field) -> KnownExposure:
    """Make one detector of an exposure together with its expectation and its noise.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.
    exposure : PlannedExposure
        What to make.
    detector : int
        Number of the detector, 0 or more.
    field : Field
        What lies on the sky.

    Returns
    -------
    KnownExposure
        Pixels, mask, expectation, variance.
    """
    rng = random_stream(settings.seed, "pixels", exposure.number, detector)
    artefacts = settings.artefacts
    light, star_x, star_y = field_light(settings, exposure, detector, field)
    crosstalk_ghosts(light, star_x, star_y, exposure.saturation, artefacts, rng)
    light += _background(settings, exposure, detector, rng)
    # Rounding in the renderer leaves -1e-6 here and there where the sky is dark.
    np.maximum(light, 0, out=light)
    noise = rng.poisson(light) - light + exposure.read_noise * rng.standard_normal(light.shape)
    variance = light + exposure.read_noise**2
    light, noise = resample(light, noise, exposure.noise_correlation)
    electrons = light + noise
    unstruck = electrons.copy()
    mask = np.zeros(electrons.shape, dtype=np.uint8)
    mean = artefacts.cosmic_rays * electrons.size / 1e6 * exposure.exposure_time / 100
    add_cosmic_rays(electrons, mask, mean, artefacts.cosmic_rays_unmasked, rng)
    expected = light + (electrons - unstruck)
    add_defects(
        electrons, mask, artefacts.hot_pixels, artefacts.dead_columns, _defects_stream(settings, exposure, detector)
    )
    saturate(electrons, mask, exposure.saturation, artefacts.max_bleed)
    return KnownExposure(
        image=(electrons / exposure.gain).astype(np.float32),
        mask=mask,
        expected=(expected / exposure.gain).astype(np.float32),
        variance=(variance / exposure.gain**2).astype(np.float32),
    )


def _background(
    settings: SurveySimulation, exposure: PlannedExposure, detector: int, rng: np.random.Generator
) -> FloatArray:
    """Return the light that is neither galaxy nor star, electrons."""
    shape = settings.camera.shape
    background = exposure.sky * sky_shape(shape, settings.background.gradient, exposure.structure, rng)
    if exposure.scattered_light > 0:
        pattern = scattered_light(shape, _scattered_light_stream(settings, exposure, detector))
        background += exposure.sky * exposure.scattered_light * pattern
    if rng.uniform() < settings.artefacts.satellites:
        background += satellite_trail(shape, exposure.sky, exposure.fwhm / exposure.pixel_scale, rng)
    return background


def _scattered_light_stream(
    settings: SurveySimulation, exposure: PlannedExposure, detector: int
) -> np.random.Generator:
    """Return the stream of a pattern: one per band, camera state and detector of a survey.

    Exposures of separate fields stand for separate cameras: each has its own pattern.
    """
    return random_stream(settings.seed, "scattered light", exposure.band, exposure.state, exposure.field, detector)


def _defects_stream(settings: SurveySimulation, exposure: PlannedExposure, detector: int) -> np.random.Generator:
    return random_stream(settings.seed, "defects", exposure.field, detector)
