"""Measured against true fluxes: bias, scatter and pulls in bins of magnitude."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.runs.shards import read_shards
from lumos.validate.statistics import BinnedStatistics, binned_statistics

__all__ = ["Accuracy", "accuracy", "accuracy_table", "look_up_truth", "run_accuracy"]


@dataclass(frozen=True)
class Accuracy:
    """Bias and scatter of one estimator in bins of magnitude.

    Parameters
    ----------
    relative : BinnedStatistics
        Of (f - f0) / f0 (paper, eq. 17-18).
    pull : BinnedStatistics
        Of (f - f0) / sigma; its scatter is 1 where errors are true.
    """

    relative: BinnedStatistics
    pull: BinnedStatistics


def accuracy(flux: FloatArray, flux_err: FloatArray, truth: FloatArray, by: FloatArray, edges: FloatArray) -> Accuracy:
    """Compare fluxes with the truth in bins of another quantity.

    Parameters
    ----------
    flux, flux_err, truth : float array, shape (n,)
        Measured flux, its error, and the true flux (or a deeper one), in one unit.
    by : float array, shape (n,)
        What to bin by, a magnitude as a rule.
    edges : float array, shape (n_bins + 1,)
        Edges of the bins.

    Returns
    -------
    Accuracy
        One entry per bin.
    """
    difference = flux - truth
    with np.errstate(divide="ignore", invalid="ignore"):
        return Accuracy(
            binned_statistics(difference / truth, by, edges), binned_statistics(difference / flux_err, by, edges)
        )


def run_accuracy(run: Path, truth_path: Path, estimators: tuple[str, ...], edges: FloatArray) -> dict[str, Accuracy]:
    """Compare a run with the truth of its simulation.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    truth_path : Path
        Parquet with ``object_id``, ``flux`` (nJy) and, where it differs between bands, ``band``.
    estimators : tuple of str
        Names of the estimators to compare.
    edges : float array, shape (n_bins + 1,)
        Bins of the true AB magnitude.

    Returns
    -------
    dict
        Accuracy by estimator; rows with unusable pixels are left out.

    Raises
    ------
    LumosDataError
        If the truth lacks an object of the run.
    """
    columns = [
        "object_id",
        "band",
        "flags",
        *(f"{name}_{part}" for name in estimators for part in ("flux", "flux_err")),
    ]
    table = read_shards(run, columns)
    flux_true = look_up_truth(table, truth_path)
    usable = (table["flags"].to_numpy() & int(UNUSABLE)) == 0
    return {name: _of_estimator(table, name, flux_true, usable, edges) for name in estimators}


def look_up_truth(table: pa.Table, truth_path: Path) -> FloatArray:
    """Return the true flux of every row of a table of measurements.

    Parameters
    ----------
    table : pyarrow.Table
        With ``object_id`` and ``band``, n rows.
    truth_path : Path
        Parquet with ``object_id``, ``flux`` (nJy) and, where it differs between bands, ``band``.

    Returns
    -------
    float array, shape (n,)
        True fluxes, nJy.

    Raises
    ------
    LumosDataError
        If the truth lacks an object of the table.
    """
    truth = pq.read_table(truth_path)
    keys = ["object_id", "band"] if "band" in truth.column_names else ["object_id"]
    wanted = table.select(keys).append_column("row", pa.array(np.arange(len(table))))
    # The first where a row stands twice, so that the join never multiplies rows.
    known = truth.select([*keys, "flux"]).group_by(keys, use_threads=False).aggregate([("flux", "first")])
    joined = wanted.join(known, keys, use_threads=False).sort_by("row")
    flux: FloatArray = joined["flux_first"].to_numpy().astype(np.float64)
    lost = np.flatnonzero(np.isnan(flux))
    if len(lost):
        row = joined.slice(int(lost[0]), 1).to_pylist()[0]
        named = " ".join(f"{key} {row[key]}" for key in keys)
        raise LumosDataError(f"{truth_path}: lacks {named}, which was measured")
    return flux


def _of_estimator(table: pa.Table, name: str, truth: FloatArray, usable: FloatArray, edges: FloatArray) -> Accuracy:
    flux = table[f"{name}_flux"].to_numpy()[usable].astype(np.float64)
    flux_err = table[f"{name}_flux_err"].to_numpy()[usable].astype(np.float64)
    magnitude = AB_ZEROPOINT_NJY - 2.5 * np.log10(truth[usable])
    return accuracy(flux, flux_err, truth[usable], magnitude, edges)


def accuracy_table(results: Mapping[str, Accuracy]) -> str:
    """Return the figures as a text table.

    Parameters
    ----------
    results : mapping
        Accuracy by estimator.

    Returns
    -------
    str
        One line per estimator and bin: median and sigma68 of the relative error and of the pull.
    """
    lines = [
        f"{'estimator':<14}{'magnitude':>12}{'n':>6}{'bias':>9}{'scatter':>9}{'pull':>8}{'pull s68':>9}{'lost':>6}"
    ]
    for name, result in results.items():
        for number, n in enumerate(result.relative.n):
            low, high = result.relative.edges[number : number + 2]
            lines.append(
                f"{name:<14}{f'{low:.1f}-{high:.1f}':>12}{n:>6}"
                f"{result.relative.median[number]:>+9.3f}{result.relative.sigma68[number]:>9.3f}"
                f"{result.pull.median[number]:>+8.2f}{result.pull.sigma68[number]:>9.2f}"
                f"{result.relative.n_lost[number]:>6}"
            )
    return "\n".join(lines)
