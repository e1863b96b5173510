"""What zero points are fitted from: bright rows of finished runs, tables of zero points, objects of known flux."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from lumos.catalogs.formats import read_columns
from lumos.coadds.settings import CalibrateSettings
from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE, Flag
from lumos.images.wcs import unit_vectors
from lumos.runs.shards import iterate_shards

__all__ = ["BrightRows", "Unit", "match_reference", "read_reference", "read_units", "read_zeropoints"]

#: Reference objects lie this close, arcsec.
_MATCH = 1.0
#: With this many objects that have no neighbour, the others are left out.
_FEWEST_ALONE = 30
_COLUMNS = ("object_id", "exposure_id", "detector", "band", "ra", "dec", "zeropoint", "zeropoint_err", "flags")


@dataclass(frozen=True)
class BrightRows:
    """Bright measurements of n objects.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Identifiers of the objects in the catalogue.
    ra, dec : float array, shape (n,)
        Positions of the objects on the sky, degrees.
    flux, flux_err : float array, shape (n,)
        As in the run.
    """

    object_id: IntArray
    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    flux_err: FloatArray


@dataclass(frozen=True)
class Unit:
    """One CCD of one exposure of a run.

    Parameters
    ----------
    exposure_id, detector, band : str
        What it is.
    zeropoint, zeropoint_err : float
        As in the run; NaN where unknown.
    rows : BrightRows
        What takes part in a fit.
    """

    exposure_id: str
    detector: str
    band: str
    zeropoint: float
    zeropoint_err: float
    rows: BrightRows

    @property
    def key(self) -> tuple[str, str, str]:
        """Return band, exposure and detector."""
        return self.band, self.exposure_id, self.detector


def read_units(run: Path, settings: CalibrateSettings) -> Iterator[Unit]:
    """Read every CCD of every exposure with its brightest usable measurements.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    settings : CalibrateSettings
        Which estimator and how bright a measurement must be.

    Yields
    ------
    Unit
        In the order of the manifest.
    """
    names = (f"{settings.estimator}_flux", f"{settings.estimator}_flux_err") if settings.estimator else ()
    names = names or ("flux", "flux_err")
    for table in iterate_shards(run, [*_COLUMNS, *names]):
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in (*_COLUMNS, *names)}
        flux, error = (columns[name].astype(np.float64) for name in names)
        for detector in sorted(set(columns["detector"].tolist())):
            here = np.flatnonzero(columns["detector"] == detector)
            first = here[0]
            flags = columns["flags"][here]
            with np.errstate(invalid="ignore", divide="ignore"):
                snr = np.where((flags & int(UNUSABLE)) == 0, flux[here] / error[here], 0)
            # Half of the limit, which is on the mean of an object's exposures.
            least = settings.min_snr / 2
            alone = np.where(flags & int(Flag.NEIGHBOUR), 0, snr)
            # A neighbour's light grows with the seeing.
            if (alone > least).sum() >= _FEWEST_ALONE:
                snr = alone
            order = np.argsort(-snr, kind="stable")[: settings.max_objects]
            rows = here[order[snr[order] > least]]
            yield Unit(
                exposure_id=str(columns["exposure_id"][first]),
                detector=str(detector),
                band=str(columns["band"][first]),
                zeropoint=float(columns["zeropoint"][first]),
                zeropoint_err=float(columns["zeropoint_err"][first]),
                rows=BrightRows(
                    object_id=columns["object_id"][rows],
                    ra=columns["ra"][rows],
                    dec=columns["dec"][rows],
                    flux=flux[rows],
                    flux_err=error[rows],
                ),
            )


def read_zeropoints(path: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Read a table of zero points.

    Parameters
    ----------
    path : Path
        Table with ``exposure_id``, ``zeropoint`` and, if wanted, ``detector`` and ``zeropoint_err``.

    Returns
    -------
    dict
        Zero point and error by exposure and detector ('' for all detectors).

    Raises
    ------
    LumosDataError
        If a column is missing or holds no numbers, or an exposure has two zero points.
    """
    columns = read_columns(path, "table of zero points")
    missing = [name for name in ("exposure_id", "zeropoint") if name not in columns]
    if missing:
        raise LumosDataError(f"{path}: no column {missing[0]!r}; the file has: {', '.join(columns)}")
    n = len(columns["exposure_id"])
    detector = [str(name) for name in columns.get("detector", np.full(n, "")).tolist()]
    values = _numbers(path, columns, "zeropoint")
    errors = _numbers(path, columns, "zeropoint_err") if "zeropoint_err" in columns else np.full(n, np.nan)
    out: dict[tuple[str, str], tuple[float, float]] = {}
    for key, value, error in zip(
        zip(map(str, columns["exposure_id"].tolist()), detector, strict=True), values, errors, strict=True
    ):
        if key in out and not np.allclose(out[key], (value, error), equal_nan=True):
            raise LumosDataError(f"{path}: exposure {key[0]!r} has the zero points {out[key][0]:g} and {value:g}")
        out[key] = float(value), float(error)
    return out


def read_reference(path: Path) -> dict[str, dict[str, AnyArray]]:
    """Read objects of known flux.

    Parameters
    ----------
    path : Path
        Table with ``object_id`` or ``ra`` and ``dec``, ``band``, ``flux`` and ``flux_err``.

    Returns
    -------
    dict
        Columns of each band's objects.

    Raises
    ------
    LumosDataError
        If a column is missing or holds no numbers, or no flux is usable.
    """
    columns = read_columns(path, "reference catalogue")
    where = ("object_id",) if "object_id" in columns else ("ra", "dec")
    missing = [name for name in (*where, "band", "flux", "flux_err") if name not in columns]
    if missing:
        raise LumosDataError(f"{path}: no column {missing[0]!r}; the file has: {', '.join(columns)}")
    flux, error = _numbers(path, columns, "flux"), _numbers(path, columns, "flux_err")
    good = (flux > 0) & (error > 0) & np.isfinite(flux + error)
    places = {name: columns[name] if name == "object_id" else _numbers(path, columns, name) for name in where}
    if "ra" in places:
        good &= np.isfinite(places["ra"]) & np.isfinite(places["dec"])
    if not good.any():
        raise LumosDataError(f"{path}: no flux with an error, both above 0")
    names = columns["band"].astype(str)
    arrays = places | {"flux": flux, "flux_err": error}
    return {
        str(band): {name: values[good & (names == band)] for name, values in arrays.items()}
        for band in np.unique(names[good])
    }


def _numbers(path: Path, columns: Mapping[str, AnyArray], name: str) -> FloatArray:
    """Return a column as numbers."""
    values = columns[name]
    if values.dtype.kind not in "iufb":
        raise LumosDataError(f"{path}: column {name!r} holds no numbers, allowed: numbers")
    return values.astype(np.float64)


def match_reference(
    objects: IntArray, index: IntArray, rows: Mapping[str, AnyArray], reference: Mapping[str, AnyArray]
) -> tuple[IntArray, IntArray]:
    """Find the objects that a reference knows, by identifier or within 1 arcsec.

    Parameters
    ----------
    objects : int array, shape (n,)
        Identifiers of the run's objects.
    index : int array, shape (m,)
        Object of each row.
    rows : mapping
        ``ra`` and ``dec`` of the rows.
    reference : mapping
        Columns of the reference.

    Returns
    -------
    found, entry : int array
        Numbers of the objects, and their entries in the reference.
    """
    if "object_id" in reference:
        _, found, entry = np.intersect1d(objects, reference["object_id"], return_indices=True)
        return found, entry
    first = np.unique(index, return_index=True)[1]
    if not len(first):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    tree = cKDTree(unit_vectors(reference["ra"], reference["dec"]))
    distance, entry = tree.query(unit_vectors(rows["ra"][first], rows["dec"][first]))
    near = distance < np.deg2rad(_MATCH / 3600)
    return np.flatnonzero(near), entry[near]
