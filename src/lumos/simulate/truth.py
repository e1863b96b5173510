"""The tables of a simulated survey: parent catalogue, true fluxes, true facts of the exposures, true PSFs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.parent import COLUMNS, ParentCatalog, write_parent
from lumos.catalogs.tables import write_table
from lumos.simulate.field import Field, draw_field
from lumos.simulate.plan import PlannedExposure, passband_of
from lumos.simulate.readable import survey_of
from lumos.simulate.settings import SurveySimulation

__all__ = ["exposure_table", "header_zeropoint", "true_zeropoint", "truth_table", "write_tables"]


def true_zeropoint(settings: SurveySimulation, exposure: PlannedExposure) -> float:
    """Return the true AB magnitude of 1 image unit, per second where the survey says so.

    Parameters
    ----------
    settings : SurveySimulation
        Which survey.
    exposure : PlannedExposure
        Zero point, exposure time, gain.

    Returns
    -------
    float
        Magnitude.
    """
    per_unit = exposure.zeropoint - 2.5 * float(np.log10(exposure.gain))
    if survey_of(settings.survey).zeropoint_per_second:
        return per_unit
    return per_unit + 2.5 * float(np.log10(exposure.exposure_time))


def header_zeropoint(settings: SurveySimulation, exposure: PlannedExposure) -> float:
    """Return the zero point that the header states: the true one and its error.

    Parameters
    ----------
    settings : SurveySimulation
        Which survey.
    exposure : PlannedExposure
        Zero point and error.

    Returns
    -------
    float
        Magnitude.
    """
    return true_zeropoint(settings, exposure) + exposure.zeropoint_shift


def write_tables(out: Path, settings: SurveySimulation, plan: Sequence[PlannedExposure]) -> int:
    """Write the tables of a survey, those that are not there yet.

    Parameters
    ----------
    out : Path
        Folder of the survey.
    settings : SurveySimulation
        Description of the survey.
    plan : sequence of PlannedExposure
        All its exposures.

    Returns
    -------
    int
        Galaxies in the parent catalogue.
    """
    names = ["parent.parquet", "truth.parquet", "exposures.parquet"]
    if not all((out / name).exists() for name in names):
        fields = {exposure.field: exposure for exposure in reversed(plan)}
        drawn = {number: draw_field(settings, fields[number]) for number in sorted(fields)}
        parent = _join_parents([field.parent() for field in drawn.values()])
        write_parent(parent, out / names[0])
        write_table([truth_table(settings, plan, drawn)], out / names[1])
        write_table([exposure_table(settings, plan)], out / names[2])
    return int(pq.read_metadata(out / names[0]).num_rows)


def _join_parents(parents: Sequence[ParentCatalog]) -> ParentCatalog:
    arrays = {name: np.concatenate([getattr(parent, name) for parent in parents]) for name in COLUMNS}
    return ParentCatalog(**arrays, made_from=())


def truth_table(settings: SurveySimulation, plan: Sequence[PlannedExposure], fields: dict[int, Field]) -> pa.Table:
    """Return the true flux of every galaxy and star in every band of the exposures of its field.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.
    plan : sequence of PlannedExposure
        All exposures.
    fields : dict
        Field by number.

    Returns
    -------
    pyarrow.Table
        One row per object and band; ``flux`` in nJy, stars have negative identifiers and no redshift.
    """
    seen = sorted({(exposure.field, exposure.band) for exposure in plan})
    parts = []
    for number, band in seen:
        field, passband = fields[number], passband_of(settings, band)
        n, n_stars = len(field.object_id), len(field.star_id)
        parts.append(
            pa.table(
                {
                    "object_id": np.concatenate([field.object_id, field.star_id]),
                    "band": np.full(n + n_stars, band),
                    "flux": np.concatenate([field.galaxy_flux(band, passband), field.star_flux(passband)]),
                    "ref_mag": np.concatenate([field.galaxies.ref_mag, field.star_mag]),
                    "kind": np.repeat(["galaxy", "star"], [n, n_stars]),
                    "in_catalog": np.concatenate([field.in_catalog, np.zeros(n_stars, dtype=bool)]),
                    "ra": np.concatenate([field.ra, field.star_ra]),
                    "dec": np.concatenate([field.dec, field.star_dec]),
                    "redshift": np.concatenate([field.galaxies.redshift, np.full(n_stars, np.nan)]),
                }
            )
        )
    return pa.concat_tables(parts)


def exposure_table(settings: SurveySimulation, plan: Sequence[PlannedExposure]) -> pa.Table:
    """Return what is true of each exposure.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.
    plan : sequence of PlannedExposure
        All exposures.

    Returns
    -------
    pyarrow.Table
        One row per exposure; zero points as the survey's headers state them, PSF of the image at the centre with the
        FWHM in arcsec, sky in electrons per pixel.
    """
    plain = ("exposure_id", "band", "state", "field", "pixel_scale", "exposure_time", "gain", "read_noise")
    more = ("saturation", "zeropoint_err", "sky", "scattered_light", "structure", "noise_correlation")
    rows = [
        {
            **{name: getattr(exposure, name) for name in (*plain, *more)},
            **dict(zip(("fwhm", "beta"), exposure.image_psf, strict=True)),
            "date": exposure.day.isoformat(),
            "fwhm_slope_x": exposure.fwhm_slope[0],
            "fwhm_slope_y": exposure.fwhm_slope[1],
            "zeropoint_true": true_zeropoint(settings, exposure),
            "zeropoint": header_zeropoint(settings, exposure),
            "file": f"exposures/{exposure.exposure_id}.fits",
        }
        for exposure in plan
    ]
    return pa.Table.from_pylist(rows)
