"""Rows of runs whose fluxes are known: simulated, injected or measured deeper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.schema import list_column
from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.pdf import GaussianMixture
from lumos.photometry.measured import open_run
from lumos.rows import Rowwise
from lumos.runs.shards import read_shards

__all__ = ["KnownFluxes", "PullRows", "pdf_columns", "read_known"]

#: Columns of a run that rows can be sorted by.
_SORTED_BY = ("psf_fwhm", "x", "y", "contamination", "blendedness", "ood_score")
#: Keys of a table of true fluxes.
_KEYS = ("object_id", "band")


@dataclass(frozen=True, eq=False, repr=False)
class PullRows(Rowwise):
    """What one estimator says of n known fluxes; NaN where it has no usable flux.

    Parameters
    ----------
    flux, flux_err : float array, shape (n,)
        Measured, in the unit of the truth.
    pull : float array, shape (n,)
        (flux - truth) / error.
    pit : float array, shape (n,)
        Probability of a smaller flux than the true one (eq. 13).
    """

    flux: FloatArray
    flux_err: FloatArray
    pull: FloatArray
    pit: FloatArray


@dataclass(frozen=True, eq=False, repr=False)
class KnownFluxes(Rowwise):
    """n rows with known fluxes, and what they can be sorted by.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Objects.
    exposure, detector, band, place : str array, shape (n,)
        Exposures, CCDs and bands; kinds of places of injected galaxies, ``""`` for others.
    truth : float array, shape (n,)
        True fluxes, nJy or image units.
    flags : int array, shape (n,)
        Bits of :class:`lumos.flags.Flag`.
    by : mapping of float array, each of shape (n,)
        Quantities by name, NaN where unknown: ``ref_mag``, ``half_light_radius`` (arcsec), ``axis_ratio``,
        ``sersic_n``, ``psf_fwhm`` (arcsec), ``x``, ``y`` (pixels), ``neighbour`` (distance of the one that matters most
        over the FWHM), ``contamination``, ``blendedness``, ``ood_score``.
    estimators : mapping of PullRows
        By name.
    """

    object_id: IntArray
    exposure: AnyArray
    detector: AnyArray
    band: AnyArray
    place: AnyArray
    truth: FloatArray
    flags: IntArray
    by: Mapping[str, FloatArray]
    estimators: Mapping[str, PullRows]


def read_known(runs: Sequence[Path], truth: Path) -> KnownFluxes:
    """Read the rows of runs whose fluxes a table knows.

    Parameters
    ----------
    runs : sequence of Path
        Folders that ``lumos measure`` wrote, of one set of estimators.
    truth : Path
        Parquet with ``object_id``, ``flux`` in the unit of the runs and, where it differs between bands, ``band``.

    Returns
    -------
    KnownFluxes
        Objects that the table lacks are left out.

    Raises
    ------
    LumosDataError
        If the table lacks a column, or holds no object of the runs.
    """
    known = pq.read_table(truth)
    missing = [name for name in ("object_id", "flux") if name not in known.column_names]
    if missing:
        raise LumosDataError(f"{truth}: no column {missing[0]!r}, needed: object_id, flux (and band)")
    keys = [name for name in _KEYS if name in known.column_names]
    names = [*keys, "flux", *(["place"] if "place" in known.column_names else [])]
    # The first where a row stands twice, so that the join never multiplies rows.
    first = (
        known.select(names)
        .group_by(keys, use_threads=False)
        .aggregate([(name, "first") for name in names[len(keys) :]])
    )
    parts = []
    for run in runs:
        measured = open_run(run)
        table, catalog, default = read_shards(run), measured.read_catalog(), measured.settings.default_estimator
        wanted = table.select(keys).append_column("row", pa.array(np.arange(len(table))))
        joined = wanted.join(first, keys, join_type="inner", use_threads=False).sort_by("row")
        if len(joined):
            order = np.argsort(catalog.object_id)
            some = table.take(joined["row"])
            at = order[np.searchsorted(catalog.object_id[order], some["object_id"].to_numpy())]
            shapes = {
                name: getattr(catalog, name)[at] for name in ("ref_mag", "half_light_radius", "axis_ratio", "sersic_n")
            }
            place = joined["place_first"].to_pylist() if "place" in names else [""] * len(joined)
            flux = joined["flux_first"].to_numpy().astype(np.float64)
            parts.append(_known(some, flux, np.array(place), shapes, default))
    if not parts:
        raise LumosDataError(f"{truth}: none of its objects was measured in {runs[0]}")
    return KnownFluxes.concatenate(parts)


def _known(
    table: pa.Table, truth: FloatArray, place: AnyArray, shapes: Mapping[str, FloatArray], default: str
) -> KnownFluxes:
    columns = {name: table[name].to_numpy().astype(np.float64) for name in _SORTED_BY if name in table.column_names}
    with np.errstate(invalid="ignore"):
        neighbour = table["neighbour_distance"].to_numpy().astype(np.float64) / columns["psf_fwhm"]
    flags = table["flags"].to_numpy()
    usable = (flags & int(UNUSABLE)) == 0
    names = [name.removesuffix("_flux_err") for name in table.column_names if name.endswith("_flux_err")]
    return KnownFluxes(
        object_id=table["object_id"].to_numpy(),
        exposure=np.array(table["exposure_id"].to_pylist()),
        detector=np.array(table["detector"].to_pylist()),
        band=np.array(table["band"].to_pylist()),
        place=place,
        truth=truth,
        flags=flags,
        by={**shapes, **columns, "neighbour": neighbour},
        estimators={name: _pulls(table, name, truth, usable, has_pdf=name == default) for name in names},
    )


def pdf_columns(table: pa.Table) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the components of the default estimator's PDFs.

    Parameters
    ----------
    table : pyarrow.Table
        n rows of a run.

    Returns
    -------
    weights, means, stds : float array, shape (n, k)
        As of :class:`lumos.pdf.GaussianMixture`.
    """
    weights, means, stds = (list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds"))
    return weights, means, stds


def _pulls(table: pa.Table, name: str, truth: FloatArray, usable: BoolArray, *, has_pdf: bool) -> PullRows:
    flux, error = (table[f"{name}_{part}"].to_numpy().astype(np.float64) for part in ("flux", "flux_err"))
    parts = [np.ones((len(flux), 1)), flux[:, None], error[:, None]]
    if has_pdf:
        parts = list(pdf_columns(table))
    good = usable & np.isfinite(flux) & (error > 0) & np.isfinite(truth) & np.isfinite(parts[1]).all(axis=1)
    flux, error = np.where(good, flux, np.nan), np.where(good, error, np.nan)
    pit = np.full(len(flux), np.nan)
    pit[good] = GaussianMixture(*(part[good] for part in parts)).cdf(truth[good])
    return PullRows(flux, error, (flux - truth) / error, pit)
