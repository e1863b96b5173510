"""Densities of any shape, on nodes of their own for each row."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf.base import FluxPdf, check_factor, per_row

__all__ = ["GridPdf"]

#: Below this change of the log density over a cell, power series (their next term is 1e-11).
SMALL_CHANGE = 0.02
#: The peak is sought between nodes where the logarithm of the density is lower by this.
PEAK_DROP = 0.02


@dataclass(frozen=True, eq=False, repr=False)
class GridPdf(FluxPdf):
    """Densities whose logarithm is a straight line between the nodes, and that are 0 outside the outer nodes.

    All answers are exact for that density (each cell is an exponential), so that they agree with each other. Against a
    smooth density with a local width sigma the error is of the order (spacing / sigma)^2 / 12.

    Parameters
    ----------
    nodes : array_like, shape (n, g)
        Fluxes, never falling along a row, g at least 3.
    log_density : array_like, shape (n, g)
        Logarithm of the density there, up to a constant per row; ``-inf`` where it is 0 (the cells at both sides are
        then empty). Kept normalised. A row with NaN, or with no probability at all, is a bad object and all NaN.

    Raises
    ------
    LumosShapeError
        If the shapes differ or are not (n, g).
    LumosValueError
        If nodes fall along a row.
    """

    nodes: FloatArray
    log_density: FloatArray
    #: Probability up to each node.
    cumulative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nodes, log_density = np.array(self.nodes, dtype=np.float64), np.array(self.log_density, dtype=np.float64)
        if nodes.ndim != 2 or nodes.shape != log_density.shape or nodes.shape[1] < 3:
            raise LumosShapeError("nodes and densities", (nodes.shape, log_density.shape), "two equal shapes (n, g)")
        with np.errstate(all="ignore"):  # NaN rows and empty cells are legal
            if (np.diff(nodes, axis=1) < 0).any():
                raise LumosValueError("nodes of a grid", "a falling row", "rows that do not fall")
            log_density -= log_density.max(axis=1, keepdims=True)
            change = np.diff(log_density, axis=1)
            share = np.where(change == 0, 1, -np.expm1(-np.abs(change)) / np.abs(change))
            top = np.exp(np.maximum(log_density[:, 1:], log_density[:, :-1]))
            mass = np.diff(nodes, axis=1) * np.where(top > 0, top * share, top)
            cumulative = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
            total = cumulative[:, -1:].copy()
            bad = ~((total > 0) & np.isfinite(total))[:, 0]
            cumulative /= total
            log_density -= np.log(total)
        for name, array in (("nodes", nodes), ("log_density", log_density), ("cumulative", cumulative)):
            array[bad] = np.nan
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def _width(self) -> int:
        return int(self.nodes.shape[1])

    def _numbers(self, m: int) -> int:
        # The nodes of a row, and a few numbers for each flux: cells are found by bisection.
        return self._width + 8 * m

    def take(self, rows: AnyArray | slice) -> "GridPdf":
        """Return the PDFs of some rows.

        Parameters
        ----------
        rows : slice or ndarray
            Slice, indices or mask of rows.

        Returns
        -------
        GridPdf
            PDFs of the chosen rows, in that order.
        """
        taken = object.__new__(GridPdf)  # normalised before
        for name in ("nodes", "log_density", "cumulative"):
            array = getattr(self, name)[rows]
            array.flags.writeable = False
            object.__setattr__(taken, name, array)
        return taken

    def _cells(self, table: FloatArray, values: FloatArray) -> IntArray:
        """Return the last cell of each row that begins at or below the values, by bisection of indices."""
        low = np.zeros(values.shape, dtype=np.int64)
        high = np.full(values.shape, table.shape[1] - 1, dtype=np.int64)
        while (high - low > 1).any():
            middle = (low + high) // 2
            below = np.take_along_axis(table, middle, axis=1) <= values
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return low

    def _ends(self, table: FloatArray, cells: IntArray) -> tuple[FloatArray, FloatArray]:
        return np.take_along_axis(table, cells, axis=1), np.take_along_axis(table, cells + 1, axis=1)

    def _place(self, flux: FloatArray) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
        """Return each flux's cell, its share of the cell's length, and the log densities at both ends."""
        cells = self._cells(self.nodes, flux)
        left, right = self._ends(self.nodes, cells)
        share = np.where(right > left, (flux - left) / (right - left), 0).clip(0, 1)
        return cells, share, *self._ends(self.log_density, cells)

    def _log_pdf(self, flux: FloatArray) -> FloatArray:
        _, share, begin, end = self._place(flux)
        inside = (flux >= self.nodes[:, :1]) & (flux <= self.nodes[:, -1:])
        # A cell with a density of 0 at one end is empty.
        value = np.where(np.isneginf(np.minimum(begin, end)), -np.inf, begin + share * (end - begin))
        return np.where(np.isnan(flux + self.nodes[:, :1]), np.nan, np.where(inside, value, -np.inf))

    def _cdf(self, flux: FloatArray) -> FloatArray:
        cells, share, begin, end = self._place(flux)
        before, after = self._ends(self.cumulative, cells)
        change = end - begin
        # From the higher end, where expm1 cannot overflow.
        rising = -np.expm1(-(1 - share) * change) / -np.expm1(-change)
        falling = np.expm1(share * change) / np.expm1(change)
        inside = np.where(change == 0, share, np.where(change > 0, 1 - rising, falling))
        value = before + (after - before) * np.where(after > before, inside, 0)
        return np.where(np.isnan(flux), np.nan, value)

    def _quantile(self, level: FloatArray) -> FloatArray:
        cells = self._cells(self.cumulative, level)
        before, after = self._ends(self.cumulative, cells)
        left, right = self._ends(self.nodes, cells)
        begin, end = self._ends(self.log_density, cells)
        part = np.where(after > before, (level - before) / (after - before), 0).clip(0, 1)
        change = end - begin
        rising = 1 + np.log1p((1 - part) * np.expm1(-change)) / change
        falling = np.log1p(part * np.expm1(change)) / change
        share = np.where(change == 0, part, np.where(change > 0, rising, falling))
        value = left + (right - left) * np.where(after > before, share.clip(0, 1), 0)
        return np.where(np.isnan(level), np.nan, value)

    def _cell_moments(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return probability, mean and variance of each cell."""
        with np.errstate(all="ignore"):
            width, change = np.diff(self.nodes, axis=1), np.diff(self.log_density, axis=1)
            small = np.abs(change) < SMALL_CHANGE
            centre = np.where(small, 0.5 + change / 12, 1 / -np.expm1(-change) - 1 / change)
            spread = np.where(small, 1 / 12 - change**2 / 240, 1 / change**2 - 1 / (4 * np.sinh(change / 2) ** 2))
            mass = np.diff(self.cumulative, axis=1)
            # Empty cells may have no moments.
            centre, spread = (np.where(mass == 0, 0, values) for values in (centre, spread))
        return mass, self.nodes[:, :-1] + width * centre, width**2 * spread

    def mean(self) -> FloatArray:
        """Return the mean flux.

        Returns
        -------
        ndarray, shape (n,)
            Mean flux of each PDF.
        """
        mass, centre, _ = self._cell_moments()
        return np.asarray((mass * centre).sum(axis=1))

    def variance(self) -> FloatArray:
        """Return the variance of the flux.

        Returns
        -------
        ndarray, shape (n,)
            Variance of each PDF, flux squared.
        """
        mass, centre, spread = self._cell_moments()
        mean = (mass * centre).sum(axis=1, keepdims=True)
        return np.asarray((mass * (spread + (centre - mean) ** 2)).sum(axis=1))

    def peak(self) -> FloatArray:
        """Return the flux of highest density: the top of a parabola through the highest node and one at each side.

        These are the next ones where the density is lower by 2 per cent: closer ones differ by rounding alone.

        Returns
        -------
        ndarray, shape (n,)
            Modes; the node itself where there is no such one at a side.
        """
        out = np.full(len(self), np.nan)
        rows = np.flatnonzero(np.isfinite(self.nodes[:, 0]))
        top = self.log_density[rows].argmax(axis=1)
        out[rows] = self.nodes[rows, top]
        lower = self.log_density[rows] < (self.log_density[rows, top] - PEAK_DROP)[:, None]
        place = np.arange(self._width)
        left = np.where(lower & (place < top[:, None]), place, -1).max(axis=1)
        right = np.where(lower & (place > top[:, None]), place, self._width).min(axis=1)
        middle = (left >= 0) & (right < self._width)
        rows, sides = rows[middle], (left[middle], top[middle], right[middle])
        x0, x1, x2 = (self.nodes[rows, side] for side in sides)
        y0, y1, y2 = (self.log_density[rows, side] for side in sides)
        with np.errstate(all="ignore"):
            before, after = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
            bend = (after - before) / (x2 - x0)
            best = (x0 + x1) / 2 - before / (2 * bend)
        good = np.isfinite(best) & (best > x0) & (best < x2)
        out[rows[good]] = best[good]
        return out

    def scale(self, factor: ArrayLike) -> "GridPdf":
        """Return the PDFs of the fluxes times a factor; a factor's error is put in before, into the mixture.

        Parameters
        ----------
        factor : array_like, shape () or (n,)
            Factor above 0; NaN makes the row NaN.

        Returns
        -------
        GridPdf
            PDFs of the scaled fluxes.
        """
        scale = per_row(factor, len(self), "factor")
        check_factor(scale)
        return GridPdf(self.nodes * scale[:, None], self.log_density)
