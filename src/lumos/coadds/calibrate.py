"""Zero points of a finished run: stated ones, brought onto one scale by the objects that exposures have in common."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.coadds.calibrate_read import Unit, match_reference, read_reference, read_units, read_zeropoints
from lumos.coadds.partition import sky_cell
from lumos.coadds.scales import MAGNITUDE, Scales, fit_scales
from lumos.coadds.settings import CalibrateSettings
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError

__all__ = ["Calibration", "calibrate_run"]

logger = logging.getLogger(__name__)

#: Zero points of one band lie within this of their median, magnitudes: a factor of 1000 in exposure time.
_LARGEST_STEP = 7.5
#: A zero point that departs from its stated value by this many errors is doubtful.
_DOUBTFUL = 5.0
#: Fewer common objects do not calibrate an exposure without a stated zero point.
_FEWEST = 3


@dataclass(frozen=True, eq=False)
class Calibration:
    """The flux scale of every CCD of every exposure of a run. Units are sorted by band, exposure, detector.

    Parameters
    ----------
    exposure_id, detector, band : tuple of str, length n
        Units: CCDs of exposures.
    zeropoint, zeropoint_err : float array, shape (n,)
        Stated AB magnitude of one image unit and its error (the assumed one where none is stated); NaN where unknown.
    correction : float array, shape (n,)
        What the fit adds to a stated zero point, magnitudes; NaN where none is stated or nothing calibrates the unit.
    fitted : float array, shape (n,)
        Zero point after the fit, stated or not; NaN where nothing calibrates the unit.
    log_scale : float array, shape (n,)
        Natural logarithm of the factor that takes the run's fluxes to nJy; NaN where nothing calibrates the unit.
    covariances : mapping
        Covariance of ``log_scale`` by band, each of shape (n_band, n_band).
    n_objects : int array, shape (n,)
        Objects in common with other units or the reference that the fit used.
    doubtful : bool array, shape (n,)
        Where the fit departs from the stated value by more than 5 of its errors.
    scatter : mapping
        By band, the relative scatter between exposures beyond the errors of the fluxes.
    """

    exposure_id: tuple[str, ...]
    detector: tuple[str, ...]
    band: tuple[str, ...]
    zeropoint: FloatArray
    zeropoint_err: FloatArray
    correction: FloatArray
    fitted: FloatArray
    log_scale: FloatArray
    covariances: Mapping[str, FloatArray]
    n_objects: IntArray
    doubtful: BoolArray
    scatter: Mapping[str, float]

    @property
    def log_scale_err(self) -> FloatArray:
        """Return the errors of ``log_scale``, shape (n,)."""
        blocks = [np.sqrt(np.diag(self.covariances[band])) for band in sorted(set(self.band))]
        return np.concatenate(blocks)

    def index(self, exposure_id: AnyArray, detector: AnyArray) -> IntArray:
        """Return the units of rows of the run.

        Parameters
        ----------
        exposure_id, detector : array of str, shape (m,)
            As in the run.

        Returns
        -------
        int array, shape (m,)
            Index of each row's unit, a CCD of an exposure.

        Raises
        ------
        LumosDataError
            If a row's unit is none of the run's.
        """
        units = {key: number for number, key in enumerate(zip(self.exposure_id, self.detector, strict=True))}
        keys = list(zip(np.asarray(exposure_id).tolist(), np.asarray(detector).tolist(), strict=True))
        unknown = next((key for key in keys if key not in units), None)
        if unknown is not None:
            raise LumosDataError(f"exposure {unknown[0]!r}, detector {unknown[1]!r}: not in this calibration")
        return np.array([units[key] for key in keys], dtype=np.int64)

    def covariance(self, units: IntArray) -> FloatArray:
        """Return covariances between units that belong together.

        Parameters
        ----------
        units : int array, shape (..., m)
            Units, each row of one band.

        Returns
        -------
        float array, shape (..., m, m)
            Covariance of their ``log_scale``.
        """
        units = np.asarray(units, dtype=np.int64)
        out = np.empty((*units.shape, units.shape[-1]))
        bands, first = np.unique(np.array(self.band), return_index=True)
        which = np.searchsorted(first, units[..., 0], side="right") - 1
        for number in np.unique(which):
            rows = which == number
            block, local = self.covariances[str(bands[number])], units[rows] - first[number]
            out[rows] = block[local[..., :, None], local[..., None, :]]
        return out

    def table(self) -> pa.Table:
        """Return the zero points as a table, one row per unit.

        Returns
        -------
        pyarrow.Table
            ``covariance`` holds each unit's row of its band's matrix, of magnitudes squared.
        """
        rows = [row for band in sorted(set(self.band)) for row in MAGNITUDE**2 * self.covariances[band]]
        return pa.table(
            {
                "exposure_id": list(self.exposure_id),
                "detector": list(self.detector),
                "band": list(self.band),
                "zeropoint_stated": self.zeropoint,
                "zeropoint_stated_err": self.zeropoint_err,
                "zeropoint": self.fitted,
                "zeropoint_err": MAGNITUDE * self.log_scale_err,
                "covariance": [row.tolist() for row in rows],
                "n_objects": self.n_objects,
                "doubtful": self.doubtful,
            }
        )


def calibrate_run(
    runs: Sequence[Path],
    settings: CalibrateSettings | None = None,
    *,
    zeropoints: Path | None = None,
    reference: Path | None = None,
) -> Calibration:
    r"""Find the flux scale of each CCD of each exposure of a run.

    With ln f of objects o in units u, calibrated with the stated zero points, it minimises, band by band,

    .. math:: \sum_{ou} \rho\!\left[ \frac{\ln f_{ou} + d_u - F_o}{\sqrt{\sigma_{ou}^2 + \tau^2}} \right]
        + \sum_u \rho\!\left[ \frac{d_u}{s_u} \right]
        + \sum_o \rho\!\left[ \frac{\ln f_{\mathrm{ref}, o} - F_o}{\sigma_{\mathrm{ref}, o}} \right]

    over the corrections d and the objects' brightness F. s is the stated error of a zero point, rho Huber's function,
    tau the scatter that the errors of the fluxes do not know. Stated values thus fix what the objects cannot: the
    common scale, and exposures that overlap with no other. See :func:`lumos.coadds.scales.fit_scales`.

    Parameters
    ----------
    runs : sequence of Path
        Folders that ``lumos measure`` wrote.
    settings : CalibrateSettings, optional
        Which objects, and whether to fit at all.
    zeropoints : Path, optional
        Table with ``exposure_id``, ``zeropoint`` and, if wanted, ``detector`` and ``zeropoint_err``, in place of those
        that the exposures' headers state.
    reference : Path, optional
        Table of galaxies or stars of the parent catalogue with known fluxes: ``object_id`` or ``ra`` and ``dec``,
        ``band``, and ``flux`` and ``flux_err`` in nJy.

    Returns
    -------
    Calibration
        Of all units of the runs.

    Raises
    ------
    LumosDataError
        If a table lacks a column or contradicts itself, no unit of a band can be calibrated, or stated zero points of
        a band are more than 7.5 magnitudes from their median.
    """
    settings = settings or CalibrateSettings()
    stated = {} if zeropoints is None else read_zeropoints(zeropoints)
    units = sorted((unit for run in runs for unit in read_units(run, settings)), key=lambda unit: unit.key)
    for first, second in pairwise(units):
        if first.key == second.key:
            name = f"exposure {first.exposure_id!r}, detector {first.detector!r}"
            raise LumosDataError(f"{name}: measured in two of the runs, or twice in one; give each exposure once")
    known = {} if reference is None else read_reference(reference)
    bands = sorted({unit.band for unit in units})
    parts = [_calibrate_band([u for u in units if u.band == band], stated, known.get(band), settings) for band in bands]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in _PER_UNIT}
    return Calibration(
        exposure_id=tuple(unit.exposure_id for unit in units),
        detector=tuple(unit.detector for unit in units),
        band=tuple(unit.band for unit in units),
        covariances={band: part["covariance"] for band, part in zip(bands, parts, strict=True)},
        scatter={band: float(part["scatter"]) for band, part in zip(bands, parts, strict=True)},
        **joined,
    )


_PER_UNIT = ("zeropoint", "zeropoint_err", "correction", "fitted", "log_scale", "n_objects", "doubtful")


def _stated(
    units: Sequence[Unit], table: Mapping[tuple[str, str], tuple[float, float]], settings: CalibrateSettings
) -> tuple[FloatArray, FloatArray]:
    """Return stated zero points and their errors, checked."""
    band = units[0].band
    pairs = [
        table.get((unit.exposure_id, unit.detector))
        or table.get((unit.exposure_id, ""))
        or (unit.zeropoint, unit.zeropoint_err)
        for unit in units
    ]
    values, errors = np.array(pairs).T
    if np.isfinite(values).any():
        middle = float(np.nanmedian(values))
        wild = np.flatnonzero(np.abs(values - middle) > _LARGEST_STEP)
        if len(wild):
            name, value = units[wild[0]].exposure_id, values[wild[0]]
            limit = f"allowed: within {_LARGEST_STEP:g} mag of the median of band {band}, {middle:.3f}"
            raise LumosDataError(f"exposure {name!r}: zero point {value:g}, {limit}; give a table of zero points")
    unknown = np.isfinite(values) & ~(errors > 0)
    if unknown.any():
        logger.warning(
            "band %s: %d of %d zero points lack an error, %g mag is assumed (--set coadd.calibrate.assumed_err); "
            "state it in the column zeropoint_err of a table of zero points, or as zeropoint_err in the survey's file",
            *(band, int(unknown.sum()), len(units), settings.assumed_err),
        )
    errors = np.where(errors > 0, errors, settings.assumed_err)
    return values, np.where(np.isfinite(values), errors, np.nan)


def _calibrate_band(
    units: Sequence[Unit],
    table: Mapping[tuple[str, str], tuple[float, float]],
    reference: Mapping[str, AnyArray] | None,
    settings: CalibrateSettings,
) -> dict[str, AnyArray]:
    """Return the columns of a calibration for the units of one band."""
    zeropoint, error = _stated(units, table, settings)
    used = np.array([unit.zeropoint for unit in units])
    # From the fluxes of the run, nJy or image units, to those with the stated zero points.
    before = np.where(np.isfinite(used), used, AB_ZEROPOINT_NJY)
    shift = np.where(np.isfinite(zeropoint), before - zeropoint, 0.0) / MAGNITUDE
    fit = _fit(units, shift, error / MAGNITUDE, reference, settings)
    calibrated = np.isfinite(zeropoint) | (fit.n_objects >= _FEWEST)
    log_scale = np.where(calibrated, fit.log_scale, np.nan)
    if not np.isfinite(log_scale).any():
        raise LumosDataError(
            f"band {units[0].band}: none of its {len(units)} exposures has a zero point, in its header, in a table, or "
            "by objects in common with a calibrated one"
        )
    with np.errstate(invalid="ignore"):
        doubtful = np.abs(log_scale) > _DOUBTFUL * error / MAGNITUDE
    for number in np.flatnonzero(doubtful):
        text = "%s: zero point %.3f departs by %+.3f mag from its stated value, whose error is %.3f"
        name, value = units[int(number)].exposure_id, -MAGNITUDE * log_scale[number]
        logger.warning(text, name, zeropoint[number] + value, value, error[number])
    return {
        "zeropoint": zeropoint,
        "zeropoint_err": error,
        "correction": MAGNITUDE * np.where(np.isfinite(zeropoint), -log_scale, np.nan),
        "fitted": before - MAGNITUDE * (shift + log_scale),
        "log_scale": shift + log_scale,
        "n_objects": fit.n_objects,
        "doubtful": doubtful,
        "covariance": fit.covariance,
        "scatter": np.float64(fit.scatter),
    }


def _fit(
    units: Sequence[Unit],
    shift: FloatArray,
    prior_err: FloatArray,
    reference: Mapping[str, AnyArray] | None,
    settings: CalibrateSettings,
) -> Scales:
    """Fit the corrections of the units of one band."""
    n = len(units)
    unit = np.repeat(np.arange(n), [len(u.rows.flux) for u in units])
    names = ("object_id", "ra", "dec", "flux", "flux_err")
    rows = {name: np.concatenate([getattr(u.rows, name) for u in units]) for name in names}
    flux, relative = rows["flux"] * np.exp(shift[unit]), rows["flux_err"] / np.maximum(rows["flux"], 1e-300)
    objects, index = np.unique(rows["object_id"], return_inverse=True)
    if reference is not None:
        found, entry = match_reference(objects, index, rows, reference)
        index = np.concatenate([index, found])
        unit = np.concatenate([unit, np.full(len(found), n)])
        flux = np.concatenate([flux, reference["flux"][entry]])
        relative = np.concatenate([relative, (reference["flux_err"] / reference["flux"])[entry]])
    # On the mean over exposures: a limit on single ones would take the upward scatter alone.
    counts = np.bincount(index, minlength=len(objects))
    snr = np.sqrt(np.bincount(index, relative**-2.0, len(objects)) / np.maximum(counts, 1))
    keep = (snr >= settings.min_snr)[index] & (counts > 1)[index] & settings.fit
    # The logarithm of a flux with noise is low by half the relative variance.
    log_flux = np.log(flux[keep]) + 0.5 * relative[keep] ** 2
    first = np.unique(rows["object_id"], return_index=True)[1]
    place = sky_cell(rows["ra"][first], rows["dec"][first])[index]
    return fit_scales(log_flux, relative[keep], index[keep], unit[keep], prior_err, place[keep])
