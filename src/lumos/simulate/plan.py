"""The plan of a simulated survey: what each exposure will be, before a pixel is drawn.

Every draw has its own stream, named by the survey's seed, a purpose and a number, so that nothing depends on the
order in which exposures are made or on how many processes make them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import product
from zlib import crc32

import numpy as np
from astropy.wcs import WCS

from lumos.conventions import FloatArray
from lumos.errors import LumosConfigError, LumosValueError
from lumos.psfs import MoffatPsf
from lumos.simulate.artefacts import resampled_psf
from lumos.simulate.instrument import load_instrument
from lumos.simulate.readable import survey_of
from lumos.simulate.settings import SurveySimulation
from lumos.spectra.passbands import Passband

__all__ = ["MAX_FWHM", "PlannedExposure", "detector_wcs", "passband_of", "plan_exposures", "random_stream"]

#: Largest FWHM of a PSF in pixels: a third of the smallest stamp that galaxies are drawn on.
MAX_FWHM = 16.0
#: Largest share of a full pixel that the sky may take.
_MAX_FILLED = 0.2
#: Purposes of the random streams.
_STREAMS = ("plan", "field", "pixels", "defects", "scattered light")
#: Reading the shipped files once is enough for a whole survey.
_instrument = cache(load_instrument)
#: Width in nm of the bands, and wavelengths in nm, that the noise model stands for.
_MODEL_WIDTH, _MODEL_RANGE = 13.0, (300.0, 1100.0)
#: First day of surveys without camera states; month and day on which exposures of a state begin.
_FIRST_DAY, _SEASON = date(2020, 1, 10), (11, 10)
#: Rotation of the detectors against north, degrees: nothing may rest on north being up.
_ROTATION = 12.0


@dataclass(frozen=True)
class PlannedExposure:
    """What one exposure will be.

    Parameters
    ----------
    number : int
        Position in the plan; names the exposure's random streams.
    exposure_id, band, state : str
        Identifier, band and camera state.
    day : datetime.date
        Date of observation.
    field : int
        Number of the field that it looks at.
    rotation : float
        Angle of the detectors against north, degrees.
    offset : tuple of float
        Dither in pixels.
    pixel_scale : float
        Arcsec per pixel.
    exposure_time : float
        Seconds.
    gain, read_noise, saturation : float
        Electrons per image unit; electrons per pixel; electrons of a full pixel.
    zeropoint : float
        True AB magnitude of 1 electron per second.
    zeropoint_shift, zeropoint_err : float
        Error that the header's zero point has, and its stated scatter, magnitudes.
    sky : float
        Electrons per pixel.
    fwhm, beta : float
        Moffat PSF at the centre of a detector before any resampling, arcsec.
    fwhm_slope : tuple of float
        Relative change of the FWHM from edge to edge, along x and y.
    scattered_light, structure : float
        Amplitudes relative to the sky.
    noise_correlation : float
        Sigma in pixels of the Gaussian that smooths the image, its light and its noise.
    """

    number: int
    exposure_id: str
    band: str
    state: str
    day: date
    field: int
    rotation: float
    offset: tuple[float, float]
    pixel_scale: float
    exposure_time: float
    gain: float
    read_noise: float
    saturation: float
    zeropoint: float
    zeropoint_shift: float
    zeropoint_err: float
    sky: float
    fwhm: float
    beta: float
    fwhm_slope: tuple[float, float]
    scattered_light: float
    structure: float
    noise_correlation: float

    @property
    def electrons_zeropoint(self) -> float:
        """Return the true AB magnitude of 1 electron."""
        return self.zeropoint + 2.5 * float(np.log10(self.exposure_time))

    @property
    def image_psf(self) -> tuple[float, float]:
        """Return FWHM (arcsec) and exponent of the Moffat PSF of the image, resampling included, at the centre."""
        fwhm, beta = resampled_psf(self.fwhm / self.pixel_scale, self.beta, self.noise_correlation)
        return (self.fwhm if self.noise_correlation == 0 else fwhm * self.pixel_scale), beta

    def psf_at(self, x: FloatArray, y: FloatArray, shape: tuple[int, int]) -> MoffatPsf:
        """Return the true PSF at positions on a detector, before any resampling.

        Parameters
        ----------
        x, y : float array, shape (n,)
            0-based pixels.
        shape : tuple of int
            Shape of the detector, (ny, nx).

        Returns
        -------
        MoffatPsf
            Shared by all where it does not vary.
        """
        fwhm = np.array([self.fwhm / self.pixel_scale])
        if any(self.fwhm_slope):
            # Outside the detector the PSF is that of its edge.
            u, v = np.clip(x / shape[1] - 0.5, -0.5, 0.5), np.clip(y / shape[0] - 0.5, -0.5, 0.5)
            fwhm = fwhm * (1 + self.fwhm_slope[0] * u + self.fwhm_slope[1] * v)
        return MoffatPsf(fwhm, np.full(len(fwhm), self.beta))


def random_stream(seed: int, purpose: str, *numbers: int | str) -> np.random.Generator:
    """Return the random stream of one purpose.

    Parameters
    ----------
    seed : int
        Of the survey.
    purpose : str
        ``plan``, ``field``, ``pixels``, ``defects`` or ``scattered light``.
    *numbers : int or str
        Which exposure, field or detector; which band or camera state.

    Returns
    -------
    numpy.random.Generator
        Independent of the streams of other purposes and numbers.
    """
    # Not hash(), which differs between processes.
    keys = (crc32(number.encode()) if isinstance(number, str) else number for number in numbers)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(purpose), *keys)))


def plan_exposures(settings: SurveySimulation) -> list[PlannedExposure]:
    """Draw what the exposures of a survey will be.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.

    Returns
    -------
    list of PlannedExposure
        In the order of bands and, within a band, of states.

    Raises
    ------
    LumosConfigError
        If a band is not one of the survey's, or its passband is unknown.
    LumosValueError
        If a PSF is wider than the stamps that galaxies are drawn on.
    """
    for band in settings.bands:
        passband_of(settings, band)
    plan = [_plan_one(settings, *entry) for entry in _entries(settings)]
    for exposure in plan:
        widest = exposure.fwhm / exposure.pixel_scale
        if widest > MAX_FWHM:
            raise LumosValueError(f"PSF FWHM of {exposure.exposure_id} in pixels", round(widest, 2), f"<= {MAX_FWHM}")
    return plan


def passband_of(settings: SurveySimulation, band: str) -> Passband:
    """Return the passband of a band of the survey.

    Parameters
    ----------
    settings : SurveySimulation
        Which survey.
    band : str
        Which band.

    Returns
    -------
    Passband
        Its own, or the common one of that name.

    Raises
    ------
    LumosConfigError
        If the survey does not have the band, or neither its file nor the table says what it is.
    """
    survey = survey_of(settings.survey)
    found = survey.passband(band)
    if found is not None:
        return found
    if survey.band(band) is None:
        allowed = list(survey.bands)
        raise LumosConfigError(f"bands: unknown band {band!r} for survey {settings.survey}, allowed: {allowed}")
    raise LumosConfigError(
        f"bands: no passband of {band!r} is known for survey {settings.survey}; "
        f"give it in the survey's file, bands: {{{band}: {{wavelength: NM, width: NM}}}}"
    )


def _entries(settings: SurveySimulation) -> Iterator[tuple[int, str, str, int]]:
    """Yield number, band, state and position within the band of each exposure."""
    n = settings.exposures_per_band
    for number, (band, position) in enumerate(product(settings.bands, range(n))):
        yield number, band, settings.states[position * len(settings.states) // n], position


def _plan_one(settings: SurveySimulation, number: int, band: str, state: str, position: int) -> PlannedExposure:
    rng = random_stream(settings.seed, "plan", number)
    camera, background = settings.camera, settings.background
    passband = passband_of(settings, band)
    # Each quantity is drawn whether or not it is used, so that one setting does not change the draws of another.
    pixel_scale = _log_uniform(camera.pixel_scale, rng)
    seeing = _draw_fwhm(settings, rng) * (pixel_scale if settings.seeing.unit == "pixel" else 1.0)
    zeropoint = _zeropoint(settings, passband, rng) + camera.zeropoint_scatter * rng.standard_normal()
    exposure_time = _exposure_time(settings, band, rng)
    surface = _sky_surface(settings, passband, rng) + background.sky_scatter * rng.standard_normal()
    sky_rate = pixel_scale**2 * 10 ** (0.4 * (zeropoint - surface))
    gain, read_noise = _log_uniform(camera.gain, rng), rng.uniform(*camera.read_noise)
    saturation = _log_uniform(camera.saturation, rng)
    # An observer stops before the sky fills the pixels.
    exposure_time = min(exposure_time, _MAX_FILLED * saturation / sky_rate)
    separate = settings.fields == "separate"
    rotation, dx, dy = rng.uniform(0, 360), *rng.uniform(-settings.dither, settings.dither, 2)
    parts = [band, state, f"{position + 1:03d}"] if state else [band, f"{position + 1:03d}"]
    return PlannedExposure(
        number=number,
        exposure_id="_".join(parts),
        band=band,
        state=state,
        day=_first_day(settings, state) + timedelta(days=position),
        field=number if separate else 0,
        rotation=rotation if separate else _ROTATION,
        offset=(dx, dy),
        pixel_scale=pixel_scale,
        exposure_time=exposure_time,
        gain=gain,
        read_noise=read_noise,
        saturation=saturation,
        zeropoint=zeropoint,
        zeropoint_shift=camera.zeropoint_err * rng.standard_normal(),
        zeropoint_err=camera.zeropoint_err,
        sky=exposure_time * sky_rate,
        fwhm=seeing,
        beta=rng.uniform(*settings.seeing.beta),
        fwhm_slope=_slopes(settings.seeing.variation, rng),
        scattered_light=rng.uniform(*background.scattered_light.get(state, (0.0, 0.0))),
        structure=rng.uniform(*background.structure),
        noise_correlation=rng.uniform(*settings.artefacts.noise_correlation),
    )


def _log_uniform(span: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = np.log(span)
    # The exponential of the logarithm may differ in the last digit.
    drawn = float(np.exp(rng.uniform(low, high)))
    return span[0] if span[0] == span[1] else drawn


def _draw_fwhm(settings: SurveySimulation, rng: np.random.Generator) -> float:
    seeing = settings.seeing
    low, high = seeing.fwhm_limits
    drawn = seeing.fwhm * np.exp(seeing.fwhm_scatter * rng.standard_normal(100))
    # A hundred draws always hold one within limits that hold the median.
    within = drawn[(drawn >= low) & (drawn <= high)]
    return float(within[0]) if len(within) else seeing.fwhm


def _first_day(settings: SurveySimulation, state: str) -> date:
    """Return the day of a state's first exposure: in its first season, or in the last one before another state."""
    starts = survey_of(settings.survey).states.starts
    if not starts:
        return _FIRST_DAY
    start = starts.get(state, min(starts.values()))
    first = date(start.year, *_SEASON)
    first = first if first >= start else first.replace(year=start.year + 1)
    return first if state in starts else first.replace(year=first.year - 1)


def _model_wavelength(settings: SurveySimulation, passband: Passband, key: str) -> float:
    """Return the wavelength of a band, which must be one that the noise model knows."""
    low, high = _MODEL_RANGE
    if not low <= passband.wavelength <= high:
        where = f"a band of survey {settings.survey} lies at {passband.wavelength:g} nm"
        raise LumosConfigError(f"{key}: {where}, the noise model knows {low:g} to {high:g} nm; give {key}")
    return passband.wavelength


def _zeropoint(settings: SurveySimulation, passband: Passband, rng: np.random.Generator) -> float:
    """Return the AB magnitude of 1 electron per second."""
    span = settings.camera.zeropoint
    drawn = rng.uniform(*(span or (0.0, 0.0)))
    if span is not None:
        return drawn
    wavelength = _model_wavelength(settings, passband, "camera.zeropoint")
    return _instrument().zeropoint(wavelength) + 2.5 * float(np.log10(passband.width / _MODEL_WIDTH))


def _sky_surface(settings: SurveySimulation, passband: Passband, rng: np.random.Generator) -> float:
    """Return the sky's AB magnitude per square arcsec."""
    span = settings.background.sky_brightness
    drawn = rng.uniform(*(span or (0.0, 0.0)))
    if span is not None:
        return drawn
    instrument, wavelength = _instrument(), _model_wavelength(settings, passband, "background.sky_brightness")
    return instrument.sky_brightness + instrument.sky_slope * (wavelength - 685.0)


def _exposure_time(settings: SurveySimulation, band: str, rng: np.random.Generator) -> float:
    span = settings.camera.exposure_time
    drawn = _log_uniform(span or (1.0, 1.0), rng)
    if span is not None:
        return drawn
    of_survey = survey_of(settings.survey).band(band)
    known = None if of_survey is None else of_survey.exposure_time
    if known is None:
        raise LumosConfigError(f"camera.exposure_time: survey {settings.survey} states none for band {band}; give one")
    return known


def _slopes(scatter: float, rng: np.random.Generator) -> tuple[float, float]:
    x, y = scatter * np.clip(rng.standard_normal(2), -3, 3)
    return float(x), float(y)


def detector_wcs(settings: SurveySimulation, exposure: PlannedExposure, detector: int) -> WCS:
    """Return the WCS of one detector of an exposure.

    Parameters
    ----------
    settings : SurveySimulation
        Layout of the detectors.
    exposure : PlannedExposure
        Where it looks.
    detector : int
        Number of the detector, 0 or more.

    Returns
    -------
    astropy.wcs.WCS
        Tangent plane around the centre of the field.
    """
    rows, columns = settings.camera.shape
    first = (detector - (settings.camera.detectors - 1) / 2) * (columns + settings.camera.gap)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = field_centre(settings, exposure.field)
    wcs.wcs.crpix = [(columns + 1) / 2 - first + exposure.offset[0], (rows + 1) / 2 + exposure.offset[1]]
    angle = np.deg2rad(exposure.rotation)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = exposure.pixel_scale / 3600 * np.diag([-1.0, 1.0]) @ rotation
    wcs.wcs.set()
    return wcs


def field_centre(settings: SurveySimulation, number: int) -> tuple[float, float]:
    """Return the centre of a field; successive fields lie on a ring of golden angles, far from each other.

    Parameters
    ----------
    settings : SurveySimulation
        Centre of the first field.
    number : int
        Number of the field.

    Returns
    -------
    ra, dec : float
        Degrees.
    """
    ra, dec = settings.sky.centre
    # Steps of 137.5 degrees in right ascension and a slow wave in declination keep hundreds of fields apart.
    return (ra + 137.50776405 * number) % 360.0, dec + 40.0 * float(np.sin(0.618034 * number)) * (1 - abs(dec) / 90)
