"""Stamps: small images cut out around positions, of one shape wherever they lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumos.conventions import AnyArray, Float32Array, FloatArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.flags import MaskPlane
from lumos.rows import Rowwise

__all__ = ["Stamps", "cut_stamps"]


@dataclass(frozen=True)
class Stamps(Rowwise):
    """Stamps around n positions.

    Parameters
    ----------
    data : float32 array, shape (n, size, size)
        Pixels; 0 outside the image.
    mask : int32 array, shape (n, size, size)
        Bits of :class:`lumos.flags.MaskPlane`; ``NO_DATA`` outside the image.
    variance : float32 array, shape (n, size, size), or None
        Variance, if one was given; 0 outside the image.
    x, y : float array, shape (n,)
        The positions within the stamps, 0-based pixel centres; near ``size // 2``.
    """

    data: Float32Array
    mask: NDArray[np.int32]
    variance: Float32Array | None
    x: FloatArray
    y: FloatArray


def cut_stamps(
    data: AnyArray,
    x: FloatArray,
    y: FloatArray,
    size: int,
    *,
    mask: AnyArray | None = None,
    variance: AnyArray | None = None,
) -> Stamps:
    """Cut a stamp around each position, from the image, its mask and its variance alike.

    Pixel ``size // 2`` of a stamp (on both axes) is the image pixel that holds the position.

    Parameters
    ----------
    data : array, shape (ny, nx)
        Image that the stamps are cut from.
    x, y : float array, shape (n,)
        Positions in 0-based pixels, anywhere; one that is not finite gets a stamp without data.
    size : int
        Width and height of the stamps, at least 1.
    mask : int array, shape (ny, nx), or None
        Mask of the image; None: all pixels good.
    variance : array, shape (ny, nx), or None
        Variance of the image.

    Returns
    -------
    Stamps
        Always of shape (n, size, size).

    Raises
    ------
    LumosShapeError
        If an image is not two-dimensional, the shapes of the images differ, or x and y differ in length.
    LumosValueError
        If ``size`` is not positive.
    """
    _check(data, x, y, size, {"mask": mask, "variance": variance})
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    first_x, first_y = _first_pixels(x, size), _first_pixels(y, size)
    with np.errstate(invalid="ignore"):  # a position that is not finite is never clear of the edges
        clear = (first_x >= 0) & (first_x + size <= data.shape[1]) & (first_y >= 0) & (first_y + size <= data.shape[0])

    def cut(image: AnyArray, outside: float, dtype: type[np.generic]) -> AnyArray:
        stamps = np.empty((len(x), size, size), dtype=dtype)
        if clear.any():
            # Whole rows at a time: several times faster than an index for every pixel.
            windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
            stamps[clear] = windows[first_y[clear].astype(np.int64), first_x[clear].astype(np.int64)]
        columns, inside_x = _indices(first_x[~clear], size, image.shape[1])
        rows, inside_y = _indices(first_y[~clear], size, image.shape[0])
        inside = inside_y[:, :, None] & inside_x[:, None, :]
        stamps[~clear] = np.where(inside, image[rows[:, :, None], columns[:, None, :]], outside)
        return stamps

    planes = np.broadcast_to(np.int32(0), data.shape) if mask is None else np.asarray(mask)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as it should be
        x_stamp, y_stamp = x - first_x, y - first_y
    return Stamps(
        data=cut(np.asarray(data), 0.0, np.float32),
        mask=cut(planes, int(MaskPlane.NO_DATA), np.int32),
        variance=None if variance is None else cut(np.asarray(variance), 0.0, np.float32),
        x=x_stamp,
        y=y_stamp,
    )


def _check(data: AnyArray, x: FloatArray, y: FloatArray, size: int, others: dict[str, AnyArray | None]) -> None:
    """Refuse arguments that do not fit together."""
    if data.ndim != 2 or 0 in data.shape:
        raise LumosShapeError("image", data.shape, "(ny, nx), not empty")
    for name, other in others.items():
        if other is not None and other.shape != data.shape:
            raise LumosShapeError(f"{name} of the image", other.shape, data.shape)
    if np.ndim(x) != 1 or np.shape(x) != np.shape(y):
        raise LumosShapeError("positions x and y", (np.shape(x), np.shape(y)), "two equal shapes (n,)")
    if size < 1:
        raise LumosValueError("stamp size", size, ">= 1")


def _first_pixels(position: FloatArray, size: int) -> FloatArray:
    """Return the image index of the first pixel of each stamp; halves round up, NaN stays."""
    return np.floor(position + 0.5) - size // 2


def _indices(first: FloatArray, size: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return image indices, shape (n, size), clipped into the image, and where they needed no clipping."""
    far = float(length + size)
    start = np.clip(np.where(np.isfinite(first), first, far), -far, far).astype(np.int64)
    index = start[:, None] + np.arange(size)
    return np.clip(index, 0, length - 1), (index >= 0) & (index < length)
