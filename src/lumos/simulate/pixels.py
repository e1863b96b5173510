"""What spoils single pixels: cosmic rays, full pixels that bleed, hot pixels and dead columns."""

import numpy as np

from lumos.conventions import AnyArray, FloatArray
from lumos.flags import MaskPlane
from lumos.simulate.artefacts import Mask

__all__ = ["add_cosmic_rays", "add_defects", "saturate"]

#: Longest track of a cosmic ray, pixels.
_LONGEST_RAY = 60


def add_cosmic_rays(electrons: FloatArray, mask: Mask, mean: float, unmasked: float, rng: np.random.Generator) -> int:
    """Add cosmic rays, straight tracks one pixel wide, in place.

    Parameters
    ----------
    electrons : float array, shape (ny, nx)
        Image.
    mask : uint8 array, shape (ny, nx)
        Gets ``COSMIC_RAY``.
    mean : float
        Mean number of rays.
    unmasked : float
        Share of the rays that the mask misses.
    rng : numpy.random.Generator
        Of this exposure and detector.

    Returns
    -------
    int
        Number of rays.
    """
    n = int(rng.poisson(mean))
    start = rng.uniform(size=(2, n)) * np.array(electrons.shape)[:, None] - 0.5
    angle, seen = rng.uniform(0, 2 * np.pi, n), rng.uniform(size=n) >= unmasked
    length = np.minimum(1 + rng.geometric(0.12, n), _LONGEST_RAY)
    charge = np.exp(rng.normal(np.log(800.0), 1.0, n))
    ray = np.repeat(np.arange(n), length)
    step = np.arange(len(ray)) - np.repeat(np.cumsum(length) - length, length)
    row = np.rint(start[0, ray] + step * np.sin(angle[ray])).astype(int)
    column = np.rint(start[1, ray] + step * np.cos(angle[ray])).astype(int)
    deposit = charge[ray] * rng.uniform(0.5, 1.5, len(ray))
    on = (row >= 0) & (row < electrons.shape[0]) & (column >= 0) & (column < electrons.shape[1])
    np.add.at(electrons, (row[on], column[on]), deposit[on])
    found = on & seen[ray]
    mask[row[found], column[found]] |= int(MaskPlane.COSMIC_RAY)
    return n


def saturate(electrons: FloatArray, mask: Mask, level: float, max_bleed: int) -> None:
    """Cut pixels at the full well and let the charge beyond it run along their columns, in place.

    Parameters
    ----------
    electrons : float array, shape (ny, nx)
        Image.
    mask : uint8 array, shape (ny, nx)
        Gets ``SATURATED`` where a pixel was full, ``BLEED`` where charge ran to.
    level : float
        Electrons of a full pixel.
    max_bleed : int
        Longest trail, pixels.
    """
    columns, rows = np.nonzero(level <= electrons.T)
    if len(rows) == 0:
        return
    excess = electrons[rows, columns] - level
    electrons[rows, columns] = level
    mask[rows, columns] |= int(MaskPlane.SATURATED)
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(columns) != 0) | (np.diff(rows) > 1)]))
    ends = np.append(starts[1:], len(rows)) - 1
    trails = np.minimum(np.ceil(np.add.reduceat(excess, starts) / level), max_bleed).astype(int)
    for column, top, bottom, trail in zip(columns[starts], rows[starts], rows[ends], trails, strict=True):
        below = slice(max(top - trail // 2, 0), top)
        above = slice(bottom + 1, bottom + 1 + trail - trail // 2)
        for run in (below, above):
            electrons[run, column] = level
            mask[run, column] |= int(MaskPlane.BLEED)


def add_defects(
    electrons: FloatArray, mask: Mask, hot_per_million: float, dead_columns: float, rng: np.random.Generator
) -> None:
    """Add hot pixels and dead columns, in place and masked as ``BAD``.

    Parameters
    ----------
    electrons : float array, shape (ny, nx)
        Image; dead columns read 0.
    mask : uint8 array, shape (ny, nx)
        Gets ``BAD``.
    hot_per_million : float
        Hot pixels per million.
    dead_columns : float
        Mean number of dead columns.
    rng : numpy.random.Generator
        Of this detector: the defects are the same in all its exposures.
    """
    rows, columns = electrons.shape
    hot = rng.integers(electrons.size, size=int(rng.poisson(hot_per_million * electrons.size / 1e6)))
    dead = rng.integers(columns, size=int(rng.poisson(dead_columns)))
    first = rng.integers(rows, size=len(dead))
    flat: AnyArray = electrons.reshape(-1)
    flat[hot] += 500.0 * 100.0 ** rng.uniform(size=len(hot))
    mask.reshape(-1)[hot] |= int(MaskPlane.BAD)
    for column, row in zip(dead, first, strict=True):
        # A trap blocks the column on the far side of the read-out.
        electrons[row:, column] = 0
        mask[row:, column] |= int(MaskPlane.BAD)
