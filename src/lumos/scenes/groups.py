"""The profiles on each tile of an image, gathered so that tiles with like numbers of them are handled at once.

The sky is a bilinear function on a mesh of nodes, whose hats are profiles like any other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray, IntArray
from lumos.scenes.tiles import TILE, Pieces, Tiling

__all__ = ["CELL", "TileGroup", "n_nodes", "sky_light", "tile_groups"]

#: Tiles along each side of a cell of the sky's mesh.
_CELL_TILES = 4
#: Side of a cell of the sky's mesh in pixels.
CELL = _CELL_TILES * TILE
#: Pixels of the profiles that are held at once, about.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class TileGroup:
    """Tiles with like numbers of profiles.

    Parameters
    ----------
    tiles : int64 tensor, shape (t,)
        Numbers of the tiles.
    owner : int64 tensor, shape (t, k)
        Profiles on each, ascending; those that fill up have the number of all unknowns.
    values : float32 tensor, shape (t, k, 256)
        Their pixels.
    """

    tiles: Tensor
    owner: Tensor
    values: Tensor


def tile_groups(pieces: Pieces, n_objects: int, tiling: Tiling, *, with_sky: bool = False) -> Iterator[TileGroup]:
    """Gather the profiles on each tile.

    Parameters
    ----------
    pieces : Pieces
        Of n_objects profiles, sorted by tile and owner.
    n_objects : int
        Number of profiles.
    tiling : Tiling
        Of the image.
    with_sky : bool
        Add the hats of the sky's mesh, whose numbers follow those of the profiles.

    Yields
    ------
    TileGroup
        Every tile that a profile touches is in one, or every tile.
    """
    starts = torch.searchsorted(pieces.tile, torch.arange(tiling.n_tiles + 1))
    room = _room((starts[1:] - starts[:-1]).numpy())
    n_unknowns = n_objects + n_nodes(tiling) * with_sky
    place_in_cell, nodes = _mesh_places(tiling)
    n_hats = 4 * with_sky
    for size in np.unique(room[room + n_hats > 0]).tolist():
        members = torch.from_numpy(np.flatnonzero(room == size))
        for tiles in torch.split(members, max(1, _AT_ONCE // ((size + n_hats) * TILE * TILE))):
            place = starts[tiles][:, None] + torch.arange(size)
            there = place < starts[tiles + 1][:, None]
            owner = torch.full((len(tiles), size + n_hats), n_unknowns)
            owner[:, :size][there] = pieces.owner[place[there]]
            values = torch.zeros(len(tiles), size + n_hats, TILE * TILE)
            values[:, :size][there] = pieces.values[place[there]]
            if with_sky:
                owner[:, size:] = n_objects + nodes[tiles]
                values[:, size:] = _hats()[place_in_cell[tiles]]
            yield TileGroup(tiles, owner, values)


def _room(number: IntArray) -> IntArray:
    """Round numbers up so that few sizes are left: to a fourth of the power of two below."""
    step = 2 ** np.maximum(np.floor(np.log2(np.maximum(number, 1))).astype(np.int64) - 2, 0)
    return np.asarray(-(-number // step) * step)


def n_nodes(tiling: Tiling) -> int:
    """Return the number of nodes of the sky's mesh.

    Parameters
    ----------
    tiling : Tiling
        Of the image.

    Returns
    -------
    int
        Those at the edges included.
    """
    n_rows, n_columns = _mesh_shape(tiling)
    return n_rows * n_columns


def sky_light(levels: FloatArray, tiling: Tiling) -> Tensor:
    """Return the sky.

    Parameters
    ----------
    levels : float array, shape (n_nodes,)
        Its level at each node.
    tiling : Tiling
        Of the image.

    Returns
    -------
    float32 tensor, shape (n_tiles, 256)
        Pixels, tile by tile.
    """
    place, nodes = _mesh_places(tiling)
    at_nodes = torch.from_numpy(levels).float()[nodes]
    return (at_nodes[:, None] @ _hats()[place])[:, 0]


def _mesh_shape(tiling: Tiling) -> tuple[int, int]:
    return -(-tiling.counts[0] // _CELL_TILES) + 1, -(-tiling.counts[1] // _CELL_TILES) + 1


def _mesh_places(tiling: Tiling) -> tuple[Tensor, Tensor]:
    """Return where each tile lies in its cell, shape (n_tiles,), and its four nodes, shape (n_tiles, 4)."""
    row, column = torch.meshgrid(*(torch.arange(number) for number in tiling.counts), indexing="ij")
    place = (row % _CELL_TILES) * _CELL_TILES + column % _CELL_TILES
    n_columns = _mesh_shape(tiling)[1]
    first = (row // _CELL_TILES * n_columns + column // _CELL_TILES).flatten()
    return place.flatten(), torch.stack([first, first + 1, first + n_columns, first + n_columns + 1], dim=1)


@lru_cache(maxsize=1)
def _hats() -> Tensor:
    """Return the hats of a cell's four nodes on its tiles, shape (tiles, 4, 256)."""
    share = (torch.arange(CELL) + 0.5) / CELL
    one = torch.stack([1 - share, share])
    cell = (one[:, None, :, None] * one[None, :, None, :]).view(4, _CELL_TILES, TILE, _CELL_TILES, TILE)
    return cell.permute(1, 3, 0, 2, 4).reshape(_CELL_TILES**2, 4, TILE * TILE)
