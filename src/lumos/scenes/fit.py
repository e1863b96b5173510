"""The scene of an image: all objects of a catalogue fitted at once, with their sky.

The model of each pixel is linear in the fluxes. Twice the fit is made anew with what it has told: pixel variances that
hold the photons of all objects, and pixels that no object explains left out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import sep
import torch
from torch import Tensor

from lumos.conventions import AnyArray, BoolArray, Float32Array, FloatArray, IntArray
from lumos.images.stamps import cut_stamps
from lumos.rows import Rowwise
from lumos.scenes.equations import CELL, Scaled, local_errors, n_nodes, normal_equations, sky_light, tile_groups
from lumos.scenes.tiles import TILE, Pieces, Tiling, cut_pieces

__all__ = ["Profiles", "Scene", "SceneFluxes", "SceneImage", "fit_scene"]

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
#: A pixel is left out if it departs from the model by so many errors, to which a share of the model's light counts: a
#: large one first, since what strikes an object raises its light too.
_OUTLIER, _TOLERANCES = 5.0, (0.5, 0.3, 0.1)
#: Pixels of profiles that are handled at once.
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


@dataclass(frozen=True)
class SceneFluxes(Rowwise):
    """What a scene tells of n objects. Errors are for independent pixels.

    Parameters
    ----------
    flux, flux_err : float array, shape (n,)
        Joint flux and its error with all others free, image units; NaN where no usable pixel tells of it.
    alone_err : float array, shape (n,)
        Error with the other objects known.
    neighbour_light : float array, shape (n,)
        Light of all others that the optimal sum for the object would take in, image units.
    blendedness : float array, shape (n,)
        Share of that sum that is the others', 0 to 1; negative fluxes count as 0.
    neighbour : int array, shape (n,)
        Number of the object whose light matters most; -1 where there is none.
    correlation : float array, shape (n,)
        Correlation of both flux errors.
    """

    flux: FloatArray
    flux_err: FloatArray
    alone_err: FloatArray
    neighbour_light: FloatArray
    blendedness: FloatArray
    neighbour: IntArray
    correlation: FloatArray


@dataclass(frozen=True)
class Scene:
    """The fit of a scene.

    Parameters
    ----------
    fluxes : SceneFluxes
        One entry per object.
    light : float32 array, shape (ny, nx)
        Light of all objects in image units, without the sky.
    explained : bool array, shape (ny, nx)
        False on usable pixels that depart from light and sky by far more than their noise.
    """

    fluxes: SceneFluxes
    light: Float32Array
    explained: BoolArray


def fit_scene(
    image: SceneImage,
    profiles: Iterable[Profiles],
    surroundings: Callable[[IntArray, int], Profiles],
    n_objects: int,
) -> Scene:
    """Fit the fluxes of all objects of an image and its sky.

    Parameters
    ----------
    image : SceneImage
        Pixels.
    profiles : iterable of Profiles
        All objects, each once, those off the image but near it included. An object that is in none has no part in it.
    surroundings : callable
        Takes numbers of objects and a size in pixels; draws these objects on stamps of that size, with 0 in the middle
        where the stamps of half the size are. Asked for bright objects whose light their stamps do not hold.
    n_objects : int
        Objects in the scene.

    Returns
    -------
    Scene
        Fluxes and light.
    """
    tiling = Tiling((image.data.shape[0], image.data.shape[1]))
    variance = np.broadcast_to(image.variance, image.data.shape)
    good = image.good & np.isfinite(variance) & (variance > 0)
    full = tiling.split(np.where(good, variance, 1.0)) if image.includes_objects else None
    if image.includes_objects:
        variance = _cell_levels(variance, good)
    pieces, start = _draw_pieces(replace(image, good=good, variance=variance), profiles, surroundings, n_objects)
    level = np.float32(np.nan_to_num(_median(image.data, good)))
    data = tiling.split(np.where(good, image.data - level, 0.0))
    sky_variance = tiling.split(np.where(good, variance, 1.0)).clamp_(min=float(np.finfo(np.float32).tiny))
    weights = tiling.split(good) / sky_variance
    n_unknowns = n_objects + n_nodes(tiling)
    equations = normal_equations(tile_groups(pieces, n_objects, tiling, with_sky=True), weights, data, n_unknowns)
    fluxes = equations.solve(np.concatenate([start, np.zeros(n_unknowns - n_objects)]))
    light = _light(pieces, fluxes, tiling.n_tiles)
    sky = sky_light(fluxes[n_objects:], tiling)
    fluxes, seen = fluxes[:n_objects], weights > 0
    for tolerance in _TOLERANCES:
        gain = image.gain if full is None else _gain(full - sky_variance, light, weights)
        weights = _reweighted(data - light - sky, light, sky_variance + light.clamp(min=0) / gain, seen, tolerance)
        sky = tiling.split(_seen_sky(tiling.join(data - light), tiling.join(weights) > 0))
        equations = normal_equations(tile_groups(pieces, n_objects, tiling), weights, data - sky, n_objects)
        fluxes = equations.solve(fluxes)
        light = _light(pieces, fluxes, tiling.n_tiles)
    return Scene(_describe(equations, fluxes), tiling.join(light), (tiling.join(weights) > 0) | ~good)


def _seen_sky(rest: Float32Array, used: BoolArray) -> Float32Array:
    """Return the sky of an image without its objects."""
    if not used.any():
        return np.zeros_like(rest)
    return np.asarray(sep.Background(np.where(used, rest, 0), mask=~used, bw=CELL, bh=CELL).back())


def _median(image: AnyArray, good: BoolArray) -> float:
    """Return the median of the good pixels among one in nine; NaN where there are none."""
    some = np.broadcast_to(image, good.shape)[::3, ::3][good[::3, ::3]]
    return float(np.median(some)) if len(some) else np.nan


def _cell_levels(data: Float32Array, good: BoolArray) -> Float32Array:
    """Return the median of each cell of the sky's mesh, spread over its pixels: a first sky."""
    level = np.zeros(data.shape, dtype=np.float32)
    overall = np.nan_to_num(_median(data, good))
    for top in range(0, data.shape[0], CELL):
        for left in range(0, data.shape[1], CELL):
            cell = (slice(top, top + CELL), slice(left, left + CELL))
            found = _median(data[cell], good[cell])
            level[cell] = found if np.isfinite(found) else overall
    return level


def _draw_pieces(
    image: SceneImage, profiles: Iterable[Profiles], surroundings: Callable[[IntArray, int], Profiles], n_objects: int
) -> tuple[Pieces, FloatArray]:
    """Return the pieces of all profiles, sorted by tile and owner, and first fluxes, from each object alone."""
    tiling = Tiling((image.data.shape[0], image.data.shape[1]))
    flux, drawn = np.zeros(n_objects), []
    data = np.where(image.good, image.data - _cell_levels(image.data, image.good), np.float32(0))
    seen = image.good.astype(np.float32)
    noise = np.sqrt(np.nan_to_num(_median(image.variance, image.good), nan=1.0))
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


def _gain(excess: Tensor, light: Tensor, weights: Tensor) -> float:
    """Return the gain that makes the variance above the sky's the photons of the objects; inf where none does."""
    shining = light.clamp(min=0) * (weights > 0)
    share = float((shining * excess).sum(dtype=torch.float64))
    return float(shining.square().sum(dtype=torch.float64)) / share if share > 0 else np.inf


def _reweighted(residual: Tensor, light: Tensor, variance: Tensor, seen: Tensor, tolerance: float) -> Tensor:
    """Return 1 / variance, 0 on pixels that are not seen or that depart from the light of the objects."""
    off = residual.square() > _OUTLIER**2 * (variance + (tolerance * light).square())
    return torch.where(seen & ~off, 1 / variance, 0.0)


def _light(pieces: Pieces, fluxes: FloatArray, n_tiles: int) -> Tensor:
    """Return the light of all objects, shape (n_tiles, 256)."""
    light = torch.zeros(n_tiles, TILE**2)
    for rows in torch.split(torch.arange(len(pieces)), _DRAWN_AT_ONCE // TILE**2):
        some = pieces.take(rows)
        light.index_add_(0, some.tile, some.values * torch.from_numpy(fluxes)[some.owner].float()[:, None])
    return light


def _describe(equations: Scaled, fluxes: FloatArray) -> SceneFluxes:
    """Return fluxes, errors and what the neighbours do to each object."""
    errors, matrix, n_objects = local_errors(equations), equations.matrix, len(fluxes)
    alone = equations.errors
    significance = fluxes * np.sqrt(equations.information)
    others = matrix @ significance - significance
    positive = significance.clip(min=0)
    light = matrix @ positive - positive
    total = positive + light
    row = np.repeat(np.arange(n_objects), np.diff(matrix.indptr))
    shares = np.where(row == matrix.indices, 0.0, np.abs(matrix.data * significance[matrix.indices]))
    most = np.zeros(n_objects)
    np.maximum.at(most, row, shares)
    neighbour = np.full(n_objects, -1)
    first = np.flatnonzero((shares > 0) & (shares == most[row]))
    neighbour[row[first]] = matrix.indices[first]
    tied = (errors.ties == neighbour[:, None]) & (neighbour >= 0)[:, None]
    unknown = ~np.isfinite(errors.total)
    return SceneFluxes(
        flux=np.where(unknown, np.nan, fluxes),
        flux_err=np.where(unknown, np.nan, errors.total),
        alone_err=np.where(unknown, np.nan, errors.alone),
        neighbour_light=others * alone,
        blendedness=np.divide(light, total, out=np.zeros(n_objects), where=total > 0),
        neighbour=neighbour,
        correlation=np.where(tied, errors.correlation, 0.0).sum(axis=1),
    )
