"""Rows of runs whose fluxes are known: simulated, injected or measured deeper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import ndtr

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.photometry.measured import MeasuredRun, open_run
from lumos.rows import Rowwise
from lumos.runs.shards import read_shards
from lumos.validate.evidence.pdfs import cut_rows, pdf_columns, row_pdfs

__all__ = ["SHAPES", "KnownFluxes", "PullRows", "look_up", "match_truth", "pulls_of", "read_known"]

#: Columns of a run that rows can be sorted by.
_SORTED_BY = ("psf_fwhm", "x", "y", "contamination", "blendedness", "ood_score")
#: Columns of a parent catalogue that rows can be sorted by.
SHAPES = ("ref_mag", "half_light_radius", "axis_ratio", "sersic_n")
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
    any_pull : float array, shape (n,)
        The pull, also of rows whose flags say that nobody should use them.
    """

    flux: FloatArray
    flux_err: FloatArray
    pull: FloatArray
    pit: FloatArray
    any_pull: FloatArray


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
        over the FWHM) and its catalogue magnitude ``neighbour_mag``, ``contamination``, ``blendedness``,
        ``ood_score``, and ``signal``: the true flux over the error of optimal weights (of the default estimator, where
        the run lacks them), so that all estimators have the same bins.
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
    parts = []
    for run in runs:
        measured = open_run(run)
        table = read_shards(run)
        rows, flux, place = match_truth(table, truth)
        if len(rows):
            parts.append(_known(table.take(rows), flux, place, measured.read_catalog(), measured))
    if not parts:
        raise LumosDataError(f"{truth}: none of its objects was measured in {runs[0]}")
    return KnownFluxes.concatenate(parts)


def match_truth(table: pa.Table, truth: Path) -> tuple[IntArray, FloatArray, AnyArray]:
    """Find the rows of a table whose fluxes another knows.

    Parameters
    ----------
    table : pyarrow.Table
        With ``object_id`` and ``band``.
    truth : Path
        As of :func:`read_known`.

    Returns
    -------
    rows : int array, shape (n,)
        Their numbers, ascending.
    flux : float array, shape (n,)
        True fluxes.
    place : str array, shape (n,)
        Kinds of places, ``""`` where the table of truths has none.

    Raises
    ------
    LumosDataError
        If the table of truths is damaged or lacks a column.
    """
    try:
        known = pq.read_table(truth)
    except (pa.ArrowInvalid, OSError) as error:
        raise LumosDataError(f"{truth}: not a Parquet table of true fluxes ({error})") from error
    missing = [name for name in ("object_id", "flux") if name not in known.column_names]
    if missing:
        raise LumosDataError(f"{truth}: no column {missing[0]!r}, needed: object_id, flux (and band)")
    for name in ("object_id", "flux"):
        kind = known.schema.field(name).type
        if not (pa.types.is_integer(kind) or (name == "flux" and pa.types.is_floating(kind))):
            raise LumosDataError(f"{truth}: column {name!r} is of type {kind}, needed: numbers as in the run")
    known = known.set_column(known.column_names.index("object_id"), "object_id", known["object_id"].cast(pa.int64()))
    keys = [name for name in _KEYS if name in known.column_names]
    names = [*keys, "flux", *(["place"] if "place" in known.column_names else [])]
    # The first where a row stands twice, so that the join never multiplies rows.
    first = (
        known.select(names)
        .group_by(keys, use_threads=False)
        .aggregate([(name, "first") for name in names[len(keys) :]])
    )
    wanted = table.select(keys).append_column("row", pa.array(np.arange(len(table))))
    joined = wanted.join(first, keys, join_type="inner", use_threads=False).sort_by("row")
    place = joined["place_first"].to_pylist() if "place" in names else [""] * len(joined)
    flux = joined["flux_first"].to_numpy().astype(np.float64)
    return joined["row"].to_numpy(), flux, np.array(place, dtype=np.str_)


def _known(
    table: pa.Table, truth: FloatArray, place: AnyArray, catalog: ParentCatalog, run: MeasuredRun
) -> KnownFluxes:
    """Return rows of a run with what is known of them."""
    order = np.argsort(catalog.object_id)
    at = look_up(catalog.object_id, order, table["object_id"].to_numpy())
    shapes = {name: getattr(catalog, name)[at] for name in SHAPES}
    columns = {name: table[name].to_numpy().astype(np.float64) for name in _SORTED_BY if name in table.column_names}
    with np.errstate(invalid="ignore"):
        columns["neighbour"] = table["neighbour_distance"].to_numpy().astype(np.float64) / columns["psf_fwhm"]
    neighbour = table["neighbour_id"].to_numpy()
    beside = catalog.ref_mag[look_up(catalog.object_id, order, neighbour)]
    columns["neighbour_mag"] = np.where(neighbour >= 0, beside, np.nan)
    flags, default = table["flags"].to_numpy(), run.settings.default_estimator
    usable = (flags & int(UNUSABLE)) == 0
    names = [name.removesuffix("_flux_err") for name in table.column_names if name.endswith("_flux_err")]
    estimators = {}
    for name in names:
        flux, error = (table[f"{name}_{part}"].to_numpy().astype(np.float64) for part in ("flux", "flux_err"))
        pit = None
        if name == default:
            pit, cut = row_pdfs(pdf_columns(table), False).pit(truth), cut_rows(run, shapes["ref_mag"])
            if cut.any():
                pit[cut] = row_pdfs(pdf_columns(table.filter(pa.array(cut))), True).pit(truth[cut])
        estimators[name] = pulls_of(flux, error, truth, usable, pit)
    error = table["optimal_flux_err" if "optimal" in names else "flux_err"].to_numpy().astype(np.float64)
    signal = truth / np.where(error > 0, error, np.nan)
    return KnownFluxes(
        object_id=table["object_id"].to_numpy(),
        exposure=np.array(table["exposure_id"].to_pylist()),
        detector=np.array(table["detector"].to_pylist()),
        band=np.array(table["band"].to_pylist()),
        place=place,
        truth=truth,
        flags=flags,
        by={**shapes, **columns, "signal": signal},
        estimators=estimators,
    )


def look_up(known: IntArray, order: IntArray, wanted: IntArray) -> IntArray:
    """Return where objects stand in a list; any place for those that it lacks.

    Parameters
    ----------
    known : int array, shape (m,)
        Objects, one or more.
    order : int array, shape (m,)
        Sorts them.
    wanted : int array, shape (n,)
        Objects to find.

    Returns
    -------
    int array, shape (n,)
        Numbers of entries of ``known``.
    """
    return np.asarray(order[np.minimum(np.searchsorted(known[order], wanted), len(order) - 1)])


def pulls_of(
    flux: FloatArray, error: FloatArray, truth: FloatArray, usable: BoolArray, pit: FloatArray | None
) -> PullRows:
    """Compare an estimator's fluxes with the truth.

    Parameters
    ----------
    flux, error, truth : float array, shape (n,)
        Measured fluxes, their errors, true fluxes.
    usable : bool array, shape (n,)
        Rows whose flags allow their use.
    pit : float array, shape (n,), or None
        PIT of the estimator's PDFs; None for Gaussian ones.

    Returns
    -------
    PullRows
        NaN where there is no usable flux.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = np.where(error > 0, (flux - truth) / error, np.nan)
    if pit is None:
        pit = ndtr(-pull)
    good = usable & np.isfinite(pull) & np.isfinite(pit)
    any_pull = np.where(np.isfinite(pull), pull, np.nan)
    flux, error, pull, pit = (np.where(good, values, np.nan) for values in (flux, error, pull, pit))
    return PullRows(flux, error, pull, pit, any_pull)
