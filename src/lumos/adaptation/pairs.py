"""Objects that several exposures of a finished run have seen."""

import logging
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa

from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE, Flag
from lumos.photometry.measured import MeasuredRun
from lumos.runs.shards import read_shards

__all__ = ["RunPairs", "choose_pairs"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RunPairs:
    """Pairs of rows of a run: one object in two exposures of one band.

    Parameters
    ----------
    exposure_id, detector : array of str, shape (m,)
        Of each row.
    object_id : int array, shape (m,)
        Of each row.
    first, second : int array, shape (n,)
        Rows of each pair.
    held_out : bool array, shape (n,)
        Pairs on the part of the sky that the model is tested on.
    boundary : float
        Right ascension, degrees from ``reference``, where that part begins.
    reference : float
        A right ascension in the middle of the objects, degrees.
    """

    exposure_id: AnyArray
    detector: AnyArray
    object_id: IntArray
    first: IntArray
    second: IntArray
    held_out: BoolArray
    boundary: float
    reference: float

    def is_held_out(self, ra: FloatArray) -> BoolArray:
        """Tell which places lie on the part of the sky that the model is tested on.

        Parameters
        ----------
        ra : float array, shape (k,)
            Right ascensions, degrees.

        Returns
        -------
        bool array, shape (k,)
            True for that part.
        """
        return np.asarray(_offset(ra, self.reference) >= self.boundary)


def choose_pairs(run: MeasuredRun, n_pairs: int, held_out: float, rng: np.random.Generator) -> RunPairs:
    """Choose objects that two exposures of one band have measured well.

    An exposure that the catalogue was made from takes no part: noise made its faint objects bright.

    Parameters
    ----------
    run : MeasuredRun
        Run whose exposures are paired.
    n_pairs : int
        Most pairs of each of the two parts of the sky; drawn at random where there are more.
    held_out : float
        Share of the objects, those of largest right ascension, that only test the model.
    rng : numpy.random.Generator
        Draws pairs where there are too many.

    Returns
    -------
    RunPairs
        The pairs and the rows that they need.

    Raises
    ------
    LumosDataError
        If one part of the sky has no pair.
    """
    columns = ["object_id", "exposure_id", "detector", "band", "ra", "flags", "flux", "flux_err"]
    table = read_shards(run.path, columns)
    usable = (table["flags"].to_numpy() & int(UNUSABLE)) == 0
    usable &= np.isfinite(table["flux"].to_numpy()) & np.isfinite(table["flux_err"].to_numpy())
    selected = (table["flags"].to_numpy() & int(Flag.CATALOG_EXPOSURE)) > 0
    names = ", ".join(sorted(set(table["exposure_id"].filter(pa.array(selected)).to_pylist())))
    if names:
        text = (
            "%s: the catalogue was made from exposure %s, whose pairs are left out: its noise chose the faint objects"
        )
        logger.warning(text, run.path, names)
    table = table.filter(pa.array(usable & ~selected))
    first, second = _all_pairs(table)
    if len(first) == 0:
        beside = ", beside the one that the catalogue was made from" if names else ""
        text = f"no object was measured in two exposures of one band{beside}, so nothing can agree"
        raise LumosDataError(f"{run.path}: {text}")
    ra = table["ra"].to_numpy()
    reference = float(ra[first[0]])
    offset = _offset(ra[first], reference)
    boundary = float(np.quantile(offset, 1 - held_out))
    held = offset >= boundary
    chosen = [rng.permutation(np.flatnonzero(part))[:n_pairs] for part in (~held, held)]
    if not all(map(len, chosen)):
        raise LumosDataError(f"{run.path}: {len(first)} pairs do not suffice for training and test")
    pairs = np.concatenate(chosen)
    # Only rows that are in a pair, numbered anew.
    rows, numbers = np.unique(np.concatenate([first[pairs], second[pairs]]), return_inverse=True)
    some = table.take(pa.array(rows))
    return RunPairs(
        exposure_id=np.array(some["exposure_id"].to_pylist()),
        detector=np.array(some["detector"].to_pylist()),
        object_id=some["object_id"].to_numpy().astype(np.int64),
        first=numbers[: len(pairs)],
        second=numbers[len(pairs) :],
        held_out=held[pairs],
        boundary=boundary,
        reference=reference,
    )


def _offset(ra: FloatArray, reference: float) -> FloatArray:
    """Return right ascensions from a reference, -180 to 180 degrees: fields may lie across 0."""
    return np.asarray((ra - reference + 180) % 360 - 180)


def _all_pairs(table: pa.Table) -> tuple[IntArray, IntArray]:
    """Return all pairs of rows of one object and band, from different exposures."""
    exposure = np.unique(np.array(table["exposure_id"].to_pylist(), dtype=object).astype(str), return_inverse=True)[1]
    band = np.unique(np.array(table["band"].to_pylist(), dtype=object).astype(str), return_inverse=True)[1]
    identifier = table["object_id"].to_numpy()
    order = np.lexsort((exposure, band, identifier))
    same = (np.diff(identifier[order]) == 0) & (np.diff(band[order]) == 0)
    groups = np.split(order, np.flatnonzero(~same) + 1) if len(order) else []
    pairs = [
        pair for group in groups for pair in combinations(group.tolist(), 2) if exposure[pair[0]] != exposure[pair[1]]
    ]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second
