"""The description of a simulated survey: what ``lumos simulate`` reads, and the presets that come with it."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lumos.config import (
    Count,
    NotNegative,
    Positive,
    Seed,
    StageSettings,
    apply_override,
    read_shipped_yaml,
    shipped_yaml,
    validated,
)
from lumos.simulate.readable import survey_of

__all__ = [
    "ArtefactSettings",
    "CameraSettings",
    "FieldSettings",
    "SeeingSettings",
    "SkySettings",
    "SurveySimulation",
    "load_simulation",
    "shipped_presets",
]


def _as_pair(value: Any) -> Any:  # noqa: ANN401
    """Take one number for the range that holds only it."""
    # YAML reads 1e-6 as a string; the validation that follows turns it into the number.
    return (value, value) if isinstance(value, int | float | str) else value


def _check_span(value: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(value[0]) and math.isfinite(value[1]) and value[0] <= value[1]):
        raise ValueError(f"range {list(value)} is not two finite numbers, the smaller first")
    return value


def _check_positive(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError(f"range {list(value)} must be positive")
    return value


def _check_not_negative(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] < 0:
        raise ValueError(f"range {list(value)} must not be negative")
    return value


def _check_beta(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] < 1.2:
        raise ValueError(f"range {list(value)} of the Moffat exponent must be at least 1.2")
    return value


#: A range from which each exposure draws uniformly; one number stands for the range that holds only it.
Span = Annotated[
    tuple[float, float],
    BeforeValidator(_as_pair, json_schema_input_type=float | tuple[float, float]),
    AfterValidator(_check_span),
]
#: A positive range from which each exposure draws uniformly in the logarithm.
PositiveSpan = Annotated[Span, AfterValidator(_check_positive)]
NotNegativeSpan = Annotated[Span, AfterValidator(_check_not_negative)]
BetaSpan = Annotated[Span, AfterValidator(_check_beta)]
Share = Annotated[float, Field(ge=0, le=1)]


class FieldSettings(StageSettings):
    """What lies on the sky."""

    centre: tuple[Annotated[float, Field(ge=0, lt=360)], Annotated[float, Field(ge=-90, le=90)]] = (150.1, 2.2)
    """Right ascension and declination of the first field, degrees."""
    galaxies: PositiveSpan = (300.0, 300.0)
    """Galaxies brighter than ``catalog_limit`` per million pixels; each field draws its own density."""
    mag_range: Span = (17.5, 23.5)
    """Reference magnitudes of the galaxies."""
    catalog_limit: float = 23.0
    """Galaxies fainter than this reference magnitude are in the images and the truth, not in the catalogue."""
    clustered: Share = 0.4
    """Share of the galaxies that lie in groups; the others lie anywhere. The defaults give 2.2 times as many pairs
    within 4 arcsec and 1.6 times as many within 10 as no groups; a real PAUS source list has 2.3 and 1.6."""
    group_size: Annotated[float, Field(ge=1)] = 10.0
    """Mean number of galaxies of a group."""
    group_radius: Positive = 6.0
    """Mean distance of a group's galaxies from its centre, arcsec; their surface density is exponential."""
    stars: NotNegativeSpan = (60.0, 60.0)
    """Stars per million pixels; each field draws its own density."""
    star_mag_range: Span = (11.0, 22.0)
    """Reference magnitudes of the stars."""
    star_count_slope: NotNegative = 0.12
    """Counts of stars go as 10^(slope × magnitude)."""
    fluxes: str | None = None
    """Table with the fluxes of the galaxies, ``object_id`` and ``flux_BAND`` in nJy, in place of those of the
    population's spectra; needs a row for each galaxy that is drawn. Places, shapes and redshifts stay."""

    @model_validator(mode="after")
    def _galaxies_exist(self) -> "FieldSettings":
        if not self.mag_range[0] < min(self.mag_range[1], self.catalog_limit):
            limits = f"mag_range {list(self.mag_range)} and catalog_limit {self.catalog_limit}"
            raise ValueError(f"{limits}: the range must not be empty and the limit not brighter than it")
        return self


class CameraSettings(StageSettings):
    """Detectors and throughput; what is null follows from the PAUCam noise model and the survey's bands."""

    shape: tuple[Annotated[int, Field(ge=64)], Annotated[int, Field(ge=64)]] = (4096, 2048)
    """Rows and columns of a detector."""
    detectors: Annotated[int, Field(ge=1, le=64)] = 1
    """Detectors, side by side along x."""
    gap: Seed = 60
    """Pixels between two detectors."""
    pixel_scale: PositiveSpan = (0.263, 0.263)
    """Arcsec per pixel."""
    exposure_time: PositiveSpan | None = None
    """Seconds; less where the sky would take a fifth of a full pixel."""
    gain: PositiveSpan = (1.0, 1.0)
    """Electrons per image unit."""
    read_noise: NotNegativeSpan = (8.0, 8.0)
    """Electrons per pixel."""
    saturation: PositiveSpan = (90_000.0, 90_000.0)
    """Electrons at which a pixel is full."""
    zeropoint: Span | None = None
    """AB magnitude of 1 electron per second; null: that of PAUCam, in proportion to the width of the band."""
    zeropoint_scatter: NotNegative = 0.05
    """Scatter of the true zero point between exposures, magnitudes."""
    zeropoint_err: NotNegative = 0.01
    """Error of the zero point in the header, magnitudes; it is drawn, and stated."""


class SeeingSettings(StageSettings):
    """The point-spread function: a Moffat per exposure."""

    unit: Literal["arcsec", "pixel"] = "arcsec"
    """Unit of the FWHM here."""
    fwhm: Positive = 1.0
    """Median FWHM."""
    fwhm_scatter: NotNegative = 0.2
    """Scatter of the natural logarithm of the FWHM between exposures."""
    fwhm_limits: PositiveSpan = (0.7, 2.0)
    """An FWHM outside is drawn again."""
    beta: BetaSpan = (4.765, 4.765)
    """Moffat exponent."""
    variation: Annotated[float, Field(ge=0, le=0.3)] = 0.0
    """Scatter of the relative change of the FWHM from edge to edge of a detector, along x and y."""

    @model_validator(mode="after")
    def _median_within(self) -> "SeeingSettings":
        low, high = self.fwhm_limits
        if not low <= self.fwhm <= high:
            raise ValueError(f"median fwhm {self.fwhm} is outside fwhm_limits {[low, high]}")
        return self


class SkySettings(StageSettings):
    """Light that is neither galaxy nor star."""

    sky_brightness: Span | None = None
    """AB magnitude per square arcsec; null: that of PAUCam's site, by wavelength."""
    sky_scatter: NotNegative = 0.1
    """Scatter of the sky's brightness between exposures, magnitudes."""
    gradient: NotNegative = 0.02
    """Scatter of the relative change of the sky from edge to edge of a detector, along x and y."""
    structure: NotNegativeSpan = (0.0, 0.0)
    """Amplitude of smooth structure over a few hundred pixels, relative to the sky."""
    scattered_light: dict[str, NotNegativeSpan] = {}
    """Scattered light at the edges of a detector relative to the sky, by camera state."""


class ArtefactSettings(StageSettings):
    """What spoils pixels."""

    cosmic_rays: NotNegative = 15.0
    """Cosmic rays per million pixels and 100 s."""
    cosmic_rays_unmasked: Share = 0.2
    """Share of them that the mask misses."""
    satellites: Share = 0.03
    """Probability of a satellite trail on a detector; the mask never has it."""
    ghosts: Share = 0.2
    """Share of the saturated stars that leave a crosstalk ghost on the other side of the detector, unmasked."""
    ghost_level: NotNegative = 2e-3
    """Brightness of a ghost relative to its star's, of which a full pixel is the most."""
    hot_pixels: NotNegative = 40.0
    """Hot pixels per million, the same in all exposures of a detector."""
    dead_columns: NotNegative = 1.0
    """Mean number of dead columns of a detector, the same in all exposures."""
    max_bleed: Seed = 300
    """Longest bleed trail, pixels."""
    noise_correlation: NotNegativeSpan = (0.0, 0.0)
    """Sigma in pixels of the Gaussian that the image is smoothed with, its light and its noise, as resampling does.
    The seeing is that before; headers state the PSF after it."""


class SurveySimulation(StageSettings):
    """A simulated survey."""

    text: str = ""
    """What it is, in a sentence."""
    survey: str = "generic"
    """Survey that is simulated, shipped or the path of a YAML file: its bands, camera states, exposure times, and
    whether zero points are per second."""
    seed: Seed = 1
    """The same seed gives the same files."""
    fields: Literal["shared", "separate"] = "shared"
    """One field for all exposures, or one for each, with its own galaxies."""
    bands: tuple[str, ...] = Field(min_length=1)
    """Bands, narrow ones of PAUCam or broad ones."""
    states: tuple[str, ...] = ("",)
    """Camera states; the exposures of a band are shared out among them in this order."""
    exposures_per_band: Count = 2
    """Exposures in each band."""
    dither: NotNegative = 30.0
    """Largest offset between the exposures of a field along x and y, pixels."""
    sky: FieldSettings = FieldSettings()
    """What lies on the sky."""
    camera: CameraSettings = CameraSettings()
    """Detectors and throughput."""
    seeing: SeeingSettings = SeeingSettings()
    """The point-spread function."""
    background: SkySettings = SkySettings()
    """Sky, scattered light."""
    artefacts: ArtefactSettings = ArtefactSettings()
    """What spoils pixels."""

    @model_validator(mode="after")
    def _of_the_survey(self) -> "SurveySimulation":
        survey = survey_of(self.survey)
        gain = survey.header.gain
        if not gain.keys and gain.default is not None and set(self.camera.gain) != {float(gain.default)}:
            text = f"the gain of survey {survey.name} is {float(gain.default):g} electrons per image unit"
            raise ValueError(f"camera.gain {list(self.camera.gain)}: {text}")
        known = survey.states.names or ("",)
        if not set(self.states) <= set(known):
            has = f"has {' and '.join(known)}" if survey.states.names else "has no camera states"
            raise ValueError(f"states {list(self.states)}: survey {survey.name} {has}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "SurveySimulation":
        if len(set(self.bands)) < len(self.bands) or len(set(self.states)) < len(self.states) or not self.states:
            raise ValueError("bands and states must each be named, once")
        if self.fields == "shared" and self.camera.pixel_scale[0] != self.camera.pixel_scale[1]:
            raise ValueError(f"camera.pixel_scale {list(self.camera.pixel_scale)}: one number where fields are shared")
        survey = survey_of(self.survey)
        scale, tolerance = survey.pixel_scale, survey.pixel_scale_tolerance
        if scale is not None and any(abs(one / scale - 1) > tolerance for one in self.camera.pixel_scale):
            raise ValueError(f"camera.pixel_scale {list(self.camera.pixel_scale)}: survey {survey.name} has {scale}")
        unknown = sorted(set(self.background.scattered_light) - set(self.states))
        if unknown:
            raise ValueError(f"background.scattered_light names state {unknown[0]!r}, states has {list(self.states)}")
        return self


def shipped_presets() -> tuple[str, ...]:
    """Return the names of the simulated surveys that come with the package.

    Returns
    -------
    tuple of str
        Sorted names.
    """
    return shipped_yaml("lumos.simulate", "presets")


def load_simulation(name_or_path: str, overrides: Sequence[str] = ()) -> SurveySimulation:
    """Read the description of a simulated survey and apply overrides.

    Parameters
    ----------
    name_or_path : str
        Name of a preset, or the path of a YAML file.
    overrides : sequence of str, optional
        Each ``field=value`` or ``group.field=value``, the value in YAML.

    Returns
    -------
    SurveySimulation
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If there is no such preset or file, or a key or value is not allowed; the message lists what is.
    """
    content = read_shipped_yaml("lumos.simulate", "presets", "preset", name_or_path)
    for override in overrides:
        apply_override(content, override)
    return validated(SurveySimulation, content, name_or_path)
