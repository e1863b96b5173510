"""Profiles of a scene, each on a stamp as large as its visible light, cut into pieces."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray, BoolArray, Float32Array, FloatArray, IntArray
from lumos.images.stamps import cut_stamps
from lumos.scenes.groups import CELL
from lumos.scenes.tiles import TILE, Pieces, Tiling, cut_pieces

__all__ = ["Profiles", "SceneImage", "cell_levels", "draw_pieces", "median"]

#: Brightness that is not worth subtracting, in units of the noise of a pixel: at the edge of an object's pieces, and
#: at the edge of its stamp, beyond which a larger one is drawn.
_FAINT, _FAINT_EDGE = 0.01, 0.02
#: An object counts as at least so many errors bright.
_LEAST_SNR = 3.0
#: An object has a part in the scene if usable pixels hold this share of the information on its flux, or if they show it
#: by so many errors.
_LEAST_SEEN, _BRIGHT = 0.01, 20.0
#: Largest stamps that are drawn, pixels.
_LARGEST = 768
#: Pixels of profiles that are drawn at once.
_DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class SceneImage:
    """An image to be explained by its objects.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Pixels, finite.
    good : bool array, shape (ny, nx)
        True where a pixel is usable.
    variance : float32 array, broadcastable to (ny, nx)
        Variance of the pixels, in image units squared.
    gain : float
        Electrons per image unit, for the photons of the objects; ``inf`` where unknown.
    includes_objects : bool, optional
        Whether the variance holds the photons of the objects too. Weights that follow their noise would bias the
        fluxes: the median of each cell of the sky's mesh is taken for the sky's, and ``gain`` is found from the rest.
    """

    data: Float32Array
    good: BoolArray
    variance: Float32Array
    gain: float
    includes_objects: bool = False


@dataclass(frozen=True)
class Profiles:
    """Profiles of some objects of a scene on stamps of one size.

    Parameters
    ----------
    rows : int array, shape (n,)
        Numbers of the objects in the scene.
    stamps : float32 tensor, shape (n, size, size)
        Convolved profiles of unit flux.
    corners : int array, shape (n, 2)
        Row and column in the image of the first pixel of each stamp.
    """

    rows: IntArray
    stamps: Tensor
    corners: IntArray


def median(image: AnyArray, good: BoolArray) -> float:
    """Return the median of some of the pixels of an image.

    Parameters
    ----------
    image : array, broadcastable to (ny, nx)
        Numbers.
    good : bool array, shape (ny, nx)
        True where a pixel counts.

    Returns
    -------
    float
        Over one in nine pixels; NaN where none of these is good.
    """
    some = np.broadcast_to(image, good.shape)[::3, ::3][good[::3, ::3]]
    return float(np.median(some)) if len(some) else np.nan


def cell_levels(data: Float32Array, good: BoolArray) -> Float32Array:
    """Return the median of each cell of the sky's mesh, spread over its pixels.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Image.
    good : bool array, shape (ny, nx)
        True where a pixel is usable.

    Returns
    -------
    float32 array, shape (ny, nx)
        A first sky; that of the whole image in cells without usable pixels.
    """
    level = np.zeros(data.shape, dtype=np.float32)
    overall = np.nan_to_num(median(data, good))
    for top in range(0, data.shape[0], CELL):
        for left in range(0, data.shape[1], CELL):
            cell = (slice(top, top + CELL), slice(left, left + CELL))
            found = median(data[cell], good[cell])
            level[cell] = found if np.isfinite(found) else overall
    return level


def draw_pieces(
    image: SceneImage, profiles: Iterable[Profiles], surroundings: Callable[[IntArray, int], Profiles], n_objects: int
) -> tuple[Pieces, FloatArray]:
    """Cut the profiles of a scene into pieces.

    Parameters
    ----------
    image : SceneImage
        Pixels: they tell how bright each object is, and so how far it reaches.
    profiles : iterable of Profiles
        All objects, each once.
    surroundings : callable
        As of :func:`lumos.scenes.fit.fit_scene`.
    n_objects : int
        Objects in the scene.

    Returns
    -------
    pieces : Pieces
        Sorted by tile and owner.
    flux : float array, shape (n_objects,)
        First fluxes, of each object alone; 0 where no pixel tells of it.
    """
    tiling = Tiling((image.data.shape[0], image.data.shape[1]))
    flux, drawn = np.zeros(n_objects), []
    data = np.where(image.good, image.data - cell_levels(image.data, image.good), np.float32(0))
    seen = image.good.astype(np.float32)
    noise = np.sqrt(np.nan_to_num(median(image.variance, image.good), nan=1.0))
    brightness = np.zeros(n_objects)
    wanting: list[tuple[int, int]] = []

    def draw(some: Profiles) -> None:
        size = some.stamps.shape[1]
        edge = torch.cat([some.stamps[:, [0, -1]].flatten(1), some.stamps[:, :, [0, -1]].flatten(1)], 1).amax(1)
        visible = (edge.numpy() * brightness[some.rows] > _FAINT_EDGE * noise) & (2 * size <= _LARGEST)
        wanting.extend((2 * size, row) for row in some.rows[visible].tolist())
        keep = np.flatnonzero(brightness[some.rows] > 0)
        floor = torch.from_numpy(_FAINT * noise / brightness[some.rows[keep]]).float()
        drawn.append(cut_pieces(some.stamps[keep], some.corners[keep], some.rows[keep], floor, tiling))

    for some in profiles:
        middle = some.stamps.shape[1] // 2
        y, x = (some.corners + middle).T.astype(np.float64)
        cut = cut_stamps(data, x, y, some.stamps.shape[1], variance=seen)
        assert cut.variance is not None
        used = (some.stamps * torch.from_numpy(cut.variance)).flatten(1)
        information = torch.linalg.vecdot(used, used).double().numpy()
        matched = torch.linalg.vecdot(used, torch.from_numpy(cut.data).flatten(1)).double().numpy()
        error = noise * np.where(information > 0, information, np.inf) ** -0.5
        alone = matched * (error / noise) ** 2
        whole = torch.linalg.vecdot(some.stamps.flatten(1), some.stamps.flatten(1)).double().numpy()
        known = (information > _LEAST_SEEN * whole) | (alone > _BRIGHT * error)
        known &= information > 0
        flux[some.rows[known]] = alone[known]
        brightness[some.rows[known]] = np.maximum(alone, _LEAST_SNR * error)[known]
        draw(some)
    while wanting:
        size = min(size for size, _ in wanting)
        rows = np.array([row for other, row in wanting if other == size])
        wanting = [item for item in wanting if item[0] != size]
        for part in np.array_split(rows, -(-len(rows) * size**2 // _DRAWN_AT_ONCE)):
            draw(surroundings(part, size))
    if not drawn:
        none = torch.zeros(0, dtype=torch.int64)
        return Pieces(none, none, torch.zeros(0, TILE**2)), flux
    pieces = Pieces.concatenate(drawn)
    return pieces.take(torch.argsort(pieces.tile * n_objects + pieces.owner)), flux
