"""Images as tiles of 16 x 16 pixels, and profiles as the pieces of them that fall on each tile.

What two profiles have in common is a sum over the tiles that both touch: one product of small matrices per tile gives
it for all pairs there at once.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray, IntArray
from lumos.rows import Rowwise

__all__ = ["TILE", "Pieces", "Tiling", "cut_pieces"]

#: Side of a tile in pixels.
TILE = 16
_AREA = TILE * TILE


@dataclass(frozen=True)
class Tiling:
    """How an image is shared out into tiles; those at its upper edges reach beyond it.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the image.
    """

    shape: tuple[int, int]

    @property
    def counts(self) -> tuple[int, int]:
        """Return the number of tiles along y and x."""
        return -(-self.shape[0] // TILE), -(-self.shape[1] // TILE)

    @property
    def n_tiles(self) -> int:
        """Return the number of tiles."""
        return self.counts[0] * self.counts[1]

    def split(self, image: AnyArray) -> Tensor:
        """Return the tiles of an image.

        Parameters
        ----------
        image : array, shape (ny, nx)
            Numbers.

        Returns
        -------
        float32 tensor, shape (n_tiles, 256)
            Row by row; 0 beyond the image.
        """
        rows, columns = self.counts
        padded = np.zeros((rows * TILE, columns * TILE), dtype=np.float32)
        padded[: self.shape[0], : self.shape[1]] = image
        tiles = padded.reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
        return torch.from_numpy(np.ascontiguousarray(tiles).reshape(-1, _AREA))

    def join(self, tiles: Tensor) -> AnyArray:
        """Return the image that tiles make.

        Parameters
        ----------
        tiles : tensor, shape (n_tiles, 256)
            As :meth:`split` makes them.

        Returns
        -------
        array, shape (ny, nx)
            Of the type of the tiles.
        """
        rows, columns = self.counts
        whole = tiles.numpy().reshape(rows, columns, TILE, TILE).swapaxes(1, 2).reshape(rows * TILE, columns * TILE)
        return np.ascontiguousarray(whole[: self.shape[0], : self.shape[1]])


@dataclass(frozen=True)
class Pieces(Rowwise):
    """Parts of profiles on single tiles.

    Parameters
    ----------
    owner : int64 tensor, shape (p,)
        Number of the profile.
    tile : int64 tensor, shape (p,)
        Number of the tile.
    values : float32 tensor, shape (p, 256)
        Its pixels.
    """

    owner: Tensor
    tile: Tensor
    values: Tensor


def cut_pieces(stamps: Tensor, corners: IntArray, owners: AnyArray, floor: Tensor, tiling: Tiling) -> Pieces:
    """Cut profiles on stamps into the pieces that fall on the tiles of an image.

    Parameters
    ----------
    stamps : float32 tensor, shape (n, size, size)
        Profiles.
    corners : int array, shape (n, 2)
        Row and column in the image of the first pixel of each stamp, on the image or not.
    owners : int array, shape (n,)
        Numbers of the profiles.
    floor : float32 tensor, shape (n,)
        Tiles on which no pixel is brighter than this are left out.
    tiling : Tiling
        Of the image.

    Returns
    -------
    Pieces
        Those that lie on the image, profile by profile.
    """
    size = stamps.shape[1]
    ranges = []
    for axis in (0, 1):
        # The box's pixels along this axis, then its tiles, cut at the image's edges.
        bright = (stamps.amax(2 - axis) > floor[:, None]).numpy()
        first = np.where(bright.any(1), bright.argmax(1), size)
        last = size - 1 - bright[:, ::-1].argmax(1)
        low = np.maximum((corners[:, axis] + first) // TILE, 0)
        high = np.minimum((corners[:, axis] + last) // TILE, tiling.counts[axis] - 1)
        ranges.append((low, np.maximum(high - low + 1, 0)))
    (top, n_rows), (left, n_columns) = ranges
    number = n_rows * n_columns
    of = np.repeat(np.arange(len(stamps)), number)
    place = np.arange(len(of)) - np.repeat(np.cumsum(number) - number, number)
    row, column = top[of] + place // n_columns[of], left[of] + place % n_columns[of]
    padded = np.zeros((len(stamps), size + 2 * TILE, size + 2 * TILE), dtype=np.float32)
    padded[:, TILE:-TILE, TILE:-TILE] = stamps.numpy()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (TILE, TILE), axis=(1, 2))
    values = windows[of, row * TILE - corners[of, 0] + TILE, column * TILE - corners[of, 1] + TILE]
    pieces = Pieces(
        owner=torch.from_numpy(np.asarray(owners, dtype=np.int64)[of]),
        tile=torch.from_numpy(row * tiling.counts[1] + column),
        values=torch.from_numpy(values.reshape(-1, _AREA)),
    )
    return pieces.take(pieces.values.amax(1) > floor[torch.from_numpy(of)])
