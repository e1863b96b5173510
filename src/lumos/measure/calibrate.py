"""Zero points of a finished run: stated ones, brought onto one scale by the objects that exposures have in common."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.catalogs.formats import read_columns
from lumos.catalogs.tables import iterate_shards
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.measure.partition import sky_cell
from lumos.measure.scales import MAGNITUDE, Scales, fit_scales
from lumos.measure.settings import CalibrateSettings

__all__ = ["Calibration", "calibrate_run"]

logger = logging.getLogger(__name__)

#: Zero points of one band lie within this of their median, magnitudes: a factor of 1000 in exposure time.
_LARGEST_STEP = 7.5
#: A zero point that departs from its stated value by this many errors is doubtful.
_DOUBTFUL = 5.0
#: Reference objects lie this close, arcsec.
_MATCH = 1.0
#: Fewer common objects do not calibrate an exposure without a stated zero point.
_FEWEST = 3

_COLUMNS = ("object_id", "exposure_id", "detector", "band", "ra", "dec", "zeropoint", "zeropoint_err", "flags")


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
        What the fit adds to the zero point, magnitudes; NaN where nothing calibrates the unit.
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
            Units.

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
                "zeropoint": self.zeropoint + self.correction,
                "zeropoint_err": MAGNITUDE * self.log_scale_err,
                "covariance": [row.tolist() for row in rows],
                "n_objects": self.n_objects,
                "doubtful": self.doubtful,
            }
        )


@dataclass(frozen=True)
class _Rows:
    """Bright measurements of one unit."""

    object_id: IntArray
    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    flux_err: FloatArray


@dataclass(frozen=True)
class _Unit:
    exposure_id: str
    detector: str
    band: str
    zeropoint: float
    zeropoint_err: float
    rows: _Rows

    @property
    def key(self) -> tuple[str, str, str]:
        return self.band, self.exposure_id, self.detector


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
    common scale, and exposures that overlap with no other. See :func:`lumos.measure.scales.fit_scales`.

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
    stated = {} if zeropoints is None else _read_zeropoints(zeropoints)
    units = sorted((unit for run in runs for unit in _units(run, settings)), key=lambda unit: unit.key)
    for first, second in pairwise(units):
        if first.key == second.key:
            name = f"exposure {first.exposure_id!r}, detector {first.detector!r}"
            raise LumosDataError(f"{name}: measured in two of the runs, or twice in one; give each exposure once")
    known = {} if reference is None else _read_reference(reference)
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


_PER_UNIT = ("zeropoint", "zeropoint_err", "correction", "log_scale", "n_objects", "doubtful")


def _units(run: Path, settings: CalibrateSettings) -> Iterator[_Unit]:
    """Yield every CCD of every exposure with its brightest usable measurements."""
    names = (f"{settings.estimator}_flux", f"{settings.estimator}_flux_err") if settings.estimator else ()
    names = names or ("flux", "flux_err")
    for table in iterate_shards(run, [*_COLUMNS, *names]):
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in (*_COLUMNS, *names)}
        flux, error = (columns[name].astype(np.float64) for name in names)
        for detector in sorted(set(columns["detector"].tolist())):
            here = np.flatnonzero(columns["detector"] == detector)
            first = here[0]
            with np.errstate(invalid="ignore", divide="ignore"):
                snr = np.where((columns["flags"][here] & int(UNUSABLE)) == 0, flux[here] / error[here], 0)
            # Half of the limit, which is on the mean of an object's exposures.
            order = np.argsort(-snr, kind="stable")[: settings.max_objects]
            rows = here[order[snr[order] > settings.min_snr / 2]]
            yield _Unit(
                exposure_id=str(columns["exposure_id"][first]),
                detector=str(detector),
                band=str(columns["band"][first]),
                zeropoint=float(columns["zeropoint"][first]),
                zeropoint_err=float(columns["zeropoint_err"][first]),
                rows=_Rows(
                    object_id=columns["object_id"][rows],
                    ra=columns["ra"][rows],
                    dec=columns["dec"][rows],
                    flux=flux[rows],
                    flux_err=error[rows],
                ),
            )


def _read_zeropoints(path: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Return zero points and errors of a table by exposure and detector ('' for all detectors)."""
    columns = read_columns(path, "table of zero points")
    missing = [name for name in ("exposure_id", "zeropoint") if name not in columns]
    if missing:
        raise LumosDataError(f"{path}: no column {missing[0]!r}; the file has: {', '.join(columns)}")
    n = len(columns["exposure_id"])
    detector = [str(name) for name in columns.get("detector", np.full(n, "")).tolist()]
    values = columns["zeropoint"].astype(np.float64)
    errors = columns.get("zeropoint_err", np.full(n, np.nan)).astype(np.float64)
    out: dict[tuple[str, str], tuple[float, float]] = {}
    for key, value, error in zip(
        zip(map(str, columns["exposure_id"].tolist()), detector, strict=True), values, errors, strict=True
    ):
        if key in out and not np.allclose(out[key], (value, error), equal_nan=True):
            raise LumosDataError(f"{path}: exposure {key[0]!r} has the zero points {out[key][0]:g} and {value:g}")
        out[key] = float(value), float(error)
    return out


def _read_reference(path: Path) -> dict[str, dict[str, AnyArray]]:
    """Return the reference objects of each band."""
    columns = read_columns(path, "reference catalogue")
    where = ("object_id",) if "object_id" in columns else ("ra", "dec")
    missing = [name for name in (*where, "band", "flux", "flux_err") if name not in columns]
    if missing:
        raise LumosDataError(f"{path}: no column {missing[0]!r}; the file has: {', '.join(columns)}")
    flux, error = columns["flux"].astype(np.float64), columns["flux_err"].astype(np.float64)
    good = (flux > 0) & (error > 0) & np.isfinite(flux + error)
    if not good.any():
        raise LumosDataError(f"{path}: no flux with an error, both above 0")
    names = columns["band"].astype(str)
    arrays = {name: columns[name] for name in where} | {"flux": flux, "flux_err": error}
    return {
        str(band): {name: values[good & (names == band)] for name, values in arrays.items()}
        for band in np.unique(names[good])
    }


def _stated(
    units: Sequence[_Unit], table: Mapping[tuple[str, str], tuple[float, float]], settings: CalibrateSettings
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
        text = "band %s: %d of %d zero points have no stated error, assumed: %g mag"
        logger.info(text, band, int(unknown.sum()), len(units), settings.assumed_err)
    errors = np.where(errors > 0, errors, settings.assumed_err)
    return values, np.where(np.isfinite(values), errors, np.nan)


def _calibrate_band(
    units: Sequence[_Unit],
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
        "log_scale": shift + log_scale,
        "n_objects": fit.n_objects,
        "doubtful": doubtful,
        "covariance": fit.covariance,
        "scatter": np.float64(fit.scatter),
    }


def _fit(
    units: Sequence[_Unit],
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
        found, entry = _match(objects, index, rows, reference)
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


def _match(
    objects: IntArray, index: IntArray, rows: Mapping[str, AnyArray], reference: Mapping[str, AnyArray]
) -> tuple[IntArray, IntArray]:
    """Return the numbers of the objects that the reference knows, and their entries in it."""
    if "object_id" in reference:
        _, found, entry = np.intersect1d(objects, reference["object_id"], return_indices=True)
        return found, entry
    from scipy.spatial import cKDTree  # noqa: PLC0415

    first = np.unique(index, return_index=True)[1]

    def points(ra: FloatArray, dec: FloatArray) -> FloatArray:
        ra, dec = np.deg2rad(ra), np.deg2rad(dec)
        return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])

    if not len(first):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    tree = cKDTree(points(reference["ra"], reference["dec"]))
    distance, entry = tree.query(points(rows["ra"][first], rows["dec"][first]))
    near = distance < np.deg2rad(_MATCH / 3600)
    return np.flatnonzero(near), entry[near]
