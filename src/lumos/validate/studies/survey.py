"""A narrow-band survey like PAUS, simulated, measured and coadded: what the studies of single exposures share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosDataError
from lumos.files import read_json, write_json
from lumos.pdf import FluxPrior
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.field import Field, draw_field
from lumos.simulate.plan import passband_of, plan_exposures
from lumos.simulate.population import load_population
from lumos.simulate.settings import SurveySimulation, load_simulation
from lumos.surveys import load_survey

__all__ = ["StudySurvey", "make_survey", "population_prior"]

_CLASSICAL = ("aperture", "profile_fit", "optimal", "scene")
#: Galaxies of each band that the prior is learned from.
_PRIOR_GALAXIES = 5000


@dataclass(frozen=True)
class StudySurvey:
    """A simulated survey and what was measured in it.

    Parameters
    ----------
    folder : Path
        Holds ``run``, ``coadd.parquet``, ``parent.parquet``, ``truth.parquet`` and ``prior.json``.
    simulation : SurveySimulation
        What was simulated.
    """

    folder: Path
    simulation: SurveySimulation

    @property
    def run(self) -> Path:
        """Return the folder of the measurements."""
        return self.folder / "run"

    @property
    def coadd(self) -> Path:
        """Return the file of the coadd."""
        return self.folder / "coadd.parquet"

    @property
    def truth(self) -> Path:
        """Return the file of true fluxes."""
        return self.folder / "truth.parquet"

    @property
    def prior(self) -> FluxPrior:
        """Return the density of the flux in the simulated population, given band and magnitude."""
        return FluxPrior.from_dict(read_json(self.folder / "prior.json"))

    def field(self) -> Field:
        """Draw the galaxies again, whose spectra no table holds.

        Returns
        -------
        Field
            The one that all exposures see.
        """
        return draw_field(self.simulation, plan_exposures(self.simulation)[0])


def make_survey(
    out: Path,
    model: str | None,
    *,
    side: int = 768,
    bands: Sequence[str] | None = None,
    exposures: int = 4,
    workers: int = 1,
) -> StudySurvey:
    """Simulate, measure and coadd a survey; what is finished in the folder is not made again.

    Parameters
    ----------
    out : Path
        Folder.
    model : str or None
        Model to measure with, beside classical estimators.
    side : int
        Of the exposures, pixels.
    bands : sequence of str, optional
        Of PAUCam; by default all forty.
    exposures : int
        Of each band, half of them before the camera was changed.
    workers : int
        Processes.

    Returns
    -------
    StudySurvey
        The folder. The prior of the coadd is that of the simulated population, as that of the paper's network is.

    Raises
    ------
    LumosConfigError
        If there is no such band or model.
    LumosDataError
        If an exposure cannot be measured, or the folder holds another survey.
    """
    changes = [f"camera.shape=[{side}, {side}]", "camera.detectors=1", f"exposures_per_band={exposures}"]
    if bands is not None:
        changes.append(f"bands=[{', '.join(bands)}]")
    simulation = load_simulation("paucam-field", changes)
    made = simulate_survey(simulation, out, workers=workers)
    survey, settings = load_survey(simulation.survey), MeasureSettings(estimators=_CLASSICAL, model=model)
    study = StudySurvey(out, simulation)
    report = measure_run(made.exposures, out / "parent.parquet", study.run, survey, settings, workers=workers)
    if report.failed:
        raise LumosDataError("; ".join(report.failed.values()))
    if not (out / "prior.json").exists():
        write_json(out / "prior.json", population_prior(simulation).to_dict())
    coadd_run([study.run], study.coadd, CoaddSettings(prior=str(out / "prior.json")), workers=workers)
    return study


def population_prior(simulation: SurveySimulation) -> FluxPrior:
    """Return the density of the flux given band and magnitude in the simulated population.

    Parameters
    ----------
    simulation : SurveySimulation
        Bands, and limits of the catalogue.

    Returns
    -------
    FluxPrior
        Of galaxies that are not those of the survey.
    """
    sky = simulation.sky
    limits = (sky.mag_range[0], min(sky.mag_range[1], sky.catalog_limit))
    galaxies = load_population().draw(_PRIOR_GALAXIES, np.random.default_rng([simulation.seed, 1]), limits)
    flux = galaxies.band_flux([passband_of(simulation, band) for band in simulation.bands])
    band = np.broadcast_to(np.arange(len(simulation.bands)), flux.shape)
    magnitude = np.repeat(galaxies.ref_mag, len(simulation.bands))
    return FluxPrior.fit(flux.ravel(), magnitude, band.ravel(), simulation.bands)
