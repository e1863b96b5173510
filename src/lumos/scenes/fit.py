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

from lumos.conventions import BoolArray, Float32Array, FloatArray, IntArray
from lumos.rows import Rowwise
from lumos.scenes.draw import Profiles, SceneImage, cell_levels, draw_pieces, median
from lumos.scenes.equations import Scaled, local_errors, normal_equations
from lumos.scenes.groups import CELL, n_nodes, sky_light, tile_groups
from lumos.scenes.tiles import TILE, Pieces, Tiling

__all__ = ["Scene", "SceneFluxes", "fit_scene"]

#: A pixel is left out if it departs from the model by so many errors, to which a share of the model's light counts: a
#: large one first, since what strikes an object raises its light too.
_OUTLIER, _TOLERANCES = 5.0, (0.5, 0.3, 0.1)
#: Pixels of profiles that are handled at once.
_DRAWN_AT_ONCE = 4_000_000


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
        variance = cell_levels(variance, good)
    pieces, start = draw_pieces(replace(image, good=good, variance=variance), profiles, surroundings, n_objects)
    level = np.float32(np.nan_to_num(median(image.data, good)))
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
