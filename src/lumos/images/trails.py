r"""Trails of satellites and aeroplanes: straight lines of light across an image.

Sums along all straight lines of an image of N x N bins are found in log2 N steps, in which strips of neighbouring
rows are joined (the discrete Radon transform of Brady 1998, SIAM J. Comput. 27, 107). With pixels in units of their
noise, clipped so that no star counts much, a line of C good pixels with the sum S, beside lines with the mean m, has
the significance :math:`(S - C m) / \sqrt{C}`, which is taken over the robust scatter of that of all lines.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from lumos.conventions import BoolArray, Float32Array, FloatArray
from lumos.statistics import sigma68

__all__ = ["find_trails"]

#: Pixels of a bin; pixels brighter than so many times their noise count as that; blocks of the sky, in bins.
_BIN, _CLIP, _SKY = 4, 3.0, 16
#: Bins beside a line, from and to, whose mean is no part of it.
_BESIDE = (3, 7)
#: How far a line stands out of all lines; how much of the image's shorter side it must cross.
_STANDS_OUT, _SHORTEST = 10.0, 0.3
#: Parts of a line; how far one stands out by itself; how many of those between the first and the last must.
_PARTS, _PART_STANDS_OUT, _MOST_PARTS = 16, 1.5, 0.6
#: Half width in pixels of what is looked at around a line, of a trail's core, and by how much a line may be off.
_HALF_WIDTH, _CORE, _OFF = 30, 2, 8
#: The two sides of a trail differ by less than this share of its height, those of an edge do not.
_UNEVEN = 0.5
#: A trail ends where its mean profile is no longer so many errors above what is beside it.
_SEEN = 3.0
#: Trails of one image.
_MOST = 8


@dataclass(frozen=True)
class _Line:
    """A straight line from one edge of an image's bins to another: places (x, y) in pixels."""

    begin: FloatArray
    end: FloatArray

    def coordinates(self, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Return how far along the line (0 to 1), and how far off it (pixels), the pixels of an image lie."""
        y, x = np.ogrid[: shape[0], : shape[1]]
        way = self.end - self.begin
        length = float(np.hypot(*way))
        along = ((x - self.begin[0]) * way[0] + (y - self.begin[1]) * way[1]) / length**2
        off = ((x - self.begin[0]) * way[1] - (y - self.begin[1]) * way[0]) / length
        return along, off


def find_trails(residual: Float32Array, variance: Float32Array, good: BoolArray) -> BoolArray:
    """Find the pixels of trails.

    Parameters
    ----------
    residual : float32 array, shape (ny, nx)
        Image without the light of its objects; the sky may be left.
    variance : float32 array, shape (ny, nx)
        Of its noise.
    good : bool array, shape (ny, nx)
        Usable pixels.

    Returns
    -------
    bool array, shape (ny, nx)
        Pixels that trails brighten. One that crosses less than three tenths of the image is not found, nor a curved
        one.
    """
    found = np.zeros(good.shape, dtype=np.bool_)
    usable = good & (variance > 0) & np.isfinite(residual)
    if min(good.shape) < 8 * _BIN * _BESIDE[1] or not usable.any():
        return found
    signal = np.where(usable, residual / np.sqrt(np.where(usable, variance, 1)), np.float32(np.nan))
    signal -= _sky(signal)
    scatter = sigma68(signal[usable][::7])
    if not scatter > 0:
        return found
    signal = np.clip(signal / np.float32(scatter), -_CLIP, _CLIP)
    for _ in range(_MOST):
        line = _strongest(signal)
        if line is None:
            break
        trail = _pixels(signal, line)
        if trail is None:
            # Some other line, the edge of an amplifier perhaps: sought no more.
            off = line.coordinates((signal.shape[0], signal.shape[1]))[1]
            trail = np.abs(off) < _HALF_WIDTH
        else:
            found |= trail
        signal[trail] = np.nan
    return found


def _sky(signal: Float32Array) -> Float32Array:
    """Return a smooth sky: medians of blocks, each the median of its neighbours' too, so that no line is in them."""
    side, (ny, nx) = _BIN * _SKY, signal.shape
    padded = np.pad(signal, [(0, -ny % side), (0, -nx % side)], constant_values=np.nan)
    rows, columns = (n // side for n in padded.shape)
    blocks = np.sort(padded.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows, columns, -1), axis=2)
    # NaN is sorted to the end.
    counts = np.isfinite(blocks).sum(2)
    level = np.take_along_axis(blocks, np.maximum(counts - 1, 0)[:, :, None] // 2, axis=2)[:, :, 0]
    level = median_filter(np.where(counts > 0, level, np.median(level[counts > 0])), 3, mode="nearest")
    y, x = ((np.arange(n) + 0.5) / side - 0.5 for n in (ny, nx))
    across = np.stack([np.interp(x, np.arange(columns), row) for row in level])
    below = np.clip(np.floor(y).astype(np.intp), 0, max(rows - 2, 0))
    share = np.clip(y - below, 0, 1)[:, None]
    level = across[below] * (1 - share) + across[np.minimum(below + 1, rows - 1)] * share
    return np.asarray(level, dtype=np.float32)


def _strongest(signal: FloatArray) -> _Line | None:
    """Return the line that stands out most of all, if one does."""
    counted = np.isfinite(signal)
    bins = np.stack([_binned(np.where(counted, signal, 0.0)), _binned(counted)])
    shortest = _SHORTEST * min(signal.shape) * _BIN
    highest, strongest = _STANDS_OUT, None
    for flipped in (False, True):
        for transposed in (False, True):
            view = bins.swapaxes(1, 2) if transposed else bins
            total, number = _line_sums(view[:, :, ::-1] if flipped else view)
            # Higher than what is on either side: no edge is.
            sides = [_beside(total, number, direction) for direction in (-1, 1)]
            enough = (number > shortest) & np.isfinite(sides[0]) & np.isfinite(sides[1])
            level = np.where(enough, np.maximum(*sides), 0.0)
            height = np.where(enough, (total - number * level) / np.sqrt(np.maximum(number, 1.0)), 0.0)
            if not enough.any() or height.max() < highest:
                continue
            height /= max(float(sigma68(height[enough])), 1.0)
            slope, start = (int(v) for v in np.unravel_index(np.argmax(height), height.shape))
            if height[slope, start] > highest:
                highest = float(height[slope, start])
                side = bins.shape[1]
                places = np.array([[start - side, 0.0], [start - side + slope, side - 1.0]])
                if flipped:
                    places[:, 0] = side - 1 - places[:, 0]
                if transposed:
                    places = places[:, ::-1]
                strongest = _Line(*(_BIN * places + (_BIN - 1) / 2))
    return strongest


def _binned(values: FloatArray | BoolArray) -> FloatArray:
    """Return sums of blocks of pixels, on a square whose side is a power of 2."""
    side = 1 << (-(-max(values.shape) // _BIN) - 1).bit_length()
    padded = np.zeros((side * _BIN, side * _BIN), dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    return np.asarray(padded.reshape(side, _BIN, side, _BIN).sum((1, 3)))


def _line_sums(images: FloatArray) -> FloatArray:
    """Sum images of shape (k, n, n) along lines: (k, n, 2 n), by columns that are crossed and by n + first column."""
    n = images.shape[1]
    strips = np.zeros((*images.shape[:2], 1, 2 * n), dtype=np.float32)
    strips[:, :, 0, n:] = images
    while strips.shape[1] > 1:
        lower, upper = strips[:, 0::2], strips[:, 1::2]
        joined = np.repeat(lower, 2, axis=2)
        for slope in range(joined.shape[2]):
            shift = (slope + 1) // 2
            joined[:, :, slope, : 2 * n - shift] += upper[:, :, slope // 2, shift:]
        strips = joined
    return strips[:, 0]


def _beside(total: FloatArray, number: FloatArray, direction: int) -> FloatArray:
    """Return the mean of the lines to one side of each; NaN where there are none."""
    sums = np.zeros((2, *total.shape), dtype=np.float32)
    for shift in range(*_BESIDE):
        here, there = (slice(shift, None), slice(None, -shift))[::-direction]
        sums[0][:, here] += total[:, there]
        sums[1][:, here] += number[:, there]
    mean = np.divide(sums[0], sums[1], out=np.full_like(total, np.nan), where=sums[1] > 0)
    return np.asarray(mean)


def _pixels(signal: FloatArray, line: _Line) -> BoolArray | None:
    """Return the pixels of the trail along a line; None where too little of the line is bright."""
    along, off = line.coordinates((signal.shape[0], signal.shape[1]))
    near = np.isfinite(signal) & (np.abs(off) < _HALF_WIDTH + _OFF) & (along >= 0) & (along < 1)
    part, width = (along[near] * _PARTS).astype(np.intp), 2 * (_HALF_WIDTH + _OFF) + 1
    column = np.floor(off[near] + 0.5).astype(np.intp) + _HALF_WIDTH + _OFF
    place = part * width + column
    values = np.stack([signal[near], np.ones(len(place))])
    sums, counts = (np.bincount(place, v, _PARTS * width).reshape(_PARTS, width).astype(np.float64) for v in values)
    # The line may be off at both ends.
    trials = np.array([(a, b) for a in range(-_OFF, _OFF + 1) for b in range(-_OFF, _OFF + 1)])
    middles = (np.arange(_PARTS) + 0.5) / _PARTS
    shifts = np.rint(trials[:, :1] * (1 - middles) + trials[:, 1:] * middles).astype(np.intp)
    columns = shifts[:, :, None] + np.arange(-_CORE, _CORE + 1) + _HALF_WIDTH + _OFF
    core = np.take_along_axis(np.broadcast_to(sums, (len(trials), *sums.shape)), columns, axis=2).sum((1, 2))
    best = int(np.argmax(core))
    columns = shifts[best][:, None] + np.arange(2 * _HALF_WIDTH + 1) + _OFF
    begin, end = trials[best]
    sums, counts = np.take_along_axis(sums, columns, axis=1), np.take_along_axis(counts, columns, axis=1)
    return _extent(sums, counts, along, off - begin * (1 - along) - end * along)


def _extent(sums: FloatArray, counts: FloatArray, along: FloatArray, off: FloatArray) -> BoolArray | None:
    """Return the pixels between the first and the last bright part, as far out as the mean profile is seen."""
    offsets = np.arange(-_HALF_WIDTH, _HALF_WIDTH + 1)
    core = np.abs(offsets) <= _CORE
    below, above, middle = (
        sums[:, some].sum() / max(counts[:, some].sum(), 1)
        for some in (offsets < -_HALF_WIDTH // 2, offsets > _HALF_WIDTH // 2, core)
    )
    level = (below + above) / 2
    if abs(above - below) > _UNEVEN * (middle - level):
        return None
    excess, n_core = sums - counts * level, counts[:, core].sum(1)
    height = excess[:, core].sum(1) / np.sqrt(np.maximum(n_core, 1)) - _PART_STANDS_OUT
    # The stretch with the largest sum; parts without pixels neither add nor take.
    upto = np.append(0.0, np.cumsum(np.where(n_core > 0, height, 0.0)))
    stretches = np.triu(upto[None, :] - upto[:, None], 1)
    first, end = np.unravel_index(np.argmax(stretches), stretches.shape)
    some = slice(first, end)
    profile, errors = excess[some].sum(0), np.sqrt(counts[some].sum(0))
    seen = profile > _SEEN * errors
    present = n_core[some] > 0
    if (height[some][present] > 0).sum() < _MOST_PARTS * max(present.sum(), 1) or not seen[core].all():
        return None
    # How far the profile is seen on either side of the middle.
    left, right = (int(np.argmin(np.append(side, False))) for side in (seen[_HALF_WIDTH::-1], seen[_HALF_WIDTH:]))
    if max(left, right) > _HALF_WIDTH:
        return None
    within = (off > -left - 1) & (off < right + 1)
    return np.asarray(within & (along >= first / _PARTS) & (along < end / _PARTS))
