"""Sky partitions of a run: pieces that hold all rows of their objects and fit into memory."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.runs.shards import read_shard

__all__ = ["Partition", "partition_sky", "sky_cell"]

#: Side of a cell, degrees: small enough that the deepest field does not overfill one.
_SIDE = 0.05
#: Bits of a cell's coordinate: 360 / 0.05 = 7200 < 2^13.
_BITS = 13


@dataclass(frozen=True)
class Partition:
    """Neighbouring cells of the sky.

    Parameters
    ----------
    cells : int array
        Their numbers, sorted.
    shards : tuple of Path
        Files with rows in them.
    n_rows : int
        Rows in them.
    """

    cells: IntArray
    shards: tuple[Path, ...]
    n_rows: int


def sky_cell(ra: FloatArray, dec: FloatArray) -> IntArray:
    """Return the cells of positions: zones of declination, cut into pieces of nearly one area, in Morton order.

    Parameters
    ----------
    ra, dec : float array, shape (n,)
        Positions on the sky, degrees, finite.

    Returns
    -------
    int array, shape (n,)
        Numbers; neighbours on the sky mostly have near ones.
    """
    zone = np.clip(np.floor((np.asarray(dec, dtype=np.float64) + 90) / _SIDE), 0, 180 / _SIDE - 1)
    width = np.cos(np.deg2rad((zone + 0.5) * _SIDE - 90))
    piece = np.floor(np.mod(ra, 360.0) * width / _SIDE)
    out = np.zeros(zone.shape, dtype=np.int64)
    for bit in range(_BITS):
        out |= ((piece.astype(np.int64) >> bit) & 1) << (2 * bit)
        out |= ((zone.astype(np.int64) >> bit) & 1) << (2 * bit + 1)
    return out


def partition_sky(shards: Sequence[Path], rows_at_once: int) -> list[Partition]:
    """Cut the sky of a run into pieces of about equally many rows.

    Parameters
    ----------
    shards : sequence of Path
        Files of the run.
    rows_at_once : int
        Largest number of rows of a piece; one cell is never cut.

    Returns
    -------
    list of Partition
        Every row of the shards is in exactly one, and all rows of an object are in the same one.
    """
    counts: defaultdict[int, int] = defaultdict(int)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for number, path in enumerate(shards):
        table = read_shard(path, ["ra", "dec"])
        cells, n = np.unique(sky_cell(table["ra"].to_numpy(), table["dec"].to_numpy()), return_counts=True)
        for cell, count in zip(cells.tolist(), n.tolist(), strict=True):
            counts[cell] += count
            members[cell].append(number)
    made: list[Partition] = []
    group: list[int] = []
    total = 0
    for cell in [*sorted(counts), None]:
        if group and (cell is None or total + counts[cell] > rows_at_once):
            files = sorted({number for each in group for number in members[each]})
            cells = np.array(group, dtype=np.int64)
            made.append(Partition(cells, tuple(shards[number] for number in files), total))
            group, total = [], 0
        if cell is not None:
            group.append(cell)
            total += counts[cell]
    return made
