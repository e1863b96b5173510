"""What a person asks of flux PDFs: magnitudes, upper limits, pictures, and how they look in a notebook."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, FloatArray
from lumos.errors import LumosValueError
from lumos.statistics import SUMMARY_LEVELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Magnitudes", "PdfViews"]

#: Rows that a notebook shows.
SHOWN = 5
#: A picture reaches from and to these levels, and has so many points.
PICTURE_LEVELS, PICTURE_POINTS = (0.001, 0.999), 500


class Magnitudes(NamedTuple):
    """Magnitudes with asymmetric errors: ``value`` + ``plus`` - ``minus``.

    Parameters
    ----------
    value : ndarray, shape (n,)
        AB magnitude of the median flux.
    plus, minus : ndarray, shape (n,)
        How much fainter and how much brighter the ends of the central 68 % are, both positive.
    """

    value: FloatArray
    plus: FloatArray
    minus: FloatArray


class PdfViews(ABC):
    """Magnitudes, limits and pictures of anything that has densities and quantiles."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: AnyArray | slice) -> Self:
        """Return the PDFs of some rows, see :meth:`lumos.pdf.FluxPdf.take`."""

    @abstractmethod
    def quantile(self, level: ArrayLike) -> FloatArray:
        """Return quantiles, see :meth:`lumos.pdf.FluxPdf.quantile`."""

    @abstractmethod
    def pdf(self, flux: ArrayLike) -> FloatArray:
        """Return densities, see :meth:`lumos.pdf.FluxPdf.pdf`."""

    def magnitude(self, zeropoint: float = AB_ZEROPOINT_NJY) -> Magnitudes:
        """Return AB magnitudes with asymmetric errors: the median and the ends of the central 68 %.

        A flux that is not above 0 has no magnitude. The magnitude is NaN where the median is none, its ``plus`` also
        where only the lower end is none: that galaxy may be arbitrarily faint, see :meth:`upper_limit`.

        Parameters
        ----------
        zeropoint : float, optional
            AB magnitude of 1 unit of flux; 31.4 for nJy. Fluxes flagged ``NO_ZEROPOINT`` are in image units and need
            their own.

        Returns
        -------
        Magnitudes
            Three arrays of shape (n,): ``value``, ``plus`` (to fainter) and ``minus`` (to brighter).

        Examples
        --------
        >>> from lumos.pdf import GaussianMixture
        >>> magnitude, plus, minus = GaussianMixture([[1.0]], [[1000.0]], [[100.0]]).magnitude()
        >>> print(f"{magnitude[0]:.3f} +{plus[0]:.3f} -{minus[0]:.3f}")
        23.900 +0.114 -0.103
        """
        flux = self.quantile(np.array([SUMMARY_LEVELS]))
        faint, value, bright = zeropoint - 2.5 * np.log10(np.where(flux > 0, flux, np.nan)).T
        return Magnitudes(value, faint - value, value - bright)

    def upper_limit(self, probability: float = 0.95) -> FloatArray:
        """Return the flux that an object exceeds with the probability that is left.

        Parameters
        ----------
        probability : float, optional
            That the flux is smaller; above 0 and below 1.

        Returns
        -------
        ndarray, shape (n,)
            Fluxes that are exceeded with the remaining probability.

        Raises
        ------
        LumosValueError
            If the probability is another.

        Examples
        --------
        >>> from lumos.pdf import GaussianMixture
        >>> GaussianMixture([[1.0]], [[20.0]], [[30.0]]).upper_limit(0.95).round(1)
        array([69.3])
        """
        if not 0 < probability < 1:
            raise LumosValueError("probability of an upper limit", probability, "above 0 and below 1")
        return self.quantile(probability)

    def plot(self, row: int = 0, ax: "Axes | None" = None, *, unit: str = "nJy") -> "Axes":
        """Draw the PDF of one row, its central 68 % and its median.

        Parameters
        ----------
        row : int, optional
            Which; negative ones count from the end.
        ax : matplotlib Axes, optional
            Where; the current axes of pyplot by default.
        unit : str, optional
            Unit of the flux, for the label.

        Returns
        -------
        matplotlib Axes
            With the curve; without one, and a title that says so, where the row has no PDF.

        Raises
        ------
        LumosValueError
            If there is no such row.
        """
        import matplotlib.pyplot as plt  # noqa: PLC0415 - slow; nothing else here draws

        n = len(self)
        if not -n <= row < n:
            raise LumosValueError("row of a PDF", row, f"{-n} to {n - 1}" if n else "none, there are no rows")
        ax = plt.gca() if ax is None else ax
        ax.set(xlabel=f"flux / {unit}", ylabel=f"density / {unit}$^{{-1}}$")
        one = self.take(np.array([row % n]))
        low, middle, high = one.quantile(np.array([SUMMARY_LEVELS]))[0]
        if np.isnan(middle):
            ax.set_title("no PDF")
            return ax
        first, last = one.quantile(np.array([PICTURE_LEVELS]))[0]
        flux = np.linspace(first, last, PICTURE_POINTS)
        (curve,) = ax.plot(flux, one.pdf(flux[None])[0])
        inside = np.linspace(low, high, PICTURE_POINTS)
        ax.fill_between(inside, one.pdf(inside[None])[0], alpha=0.3, color=curve.get_color(), lw=0)
        ax.vlines(middle, 0, one.pdf(middle), color=curve.get_color(), ls="--", lw=1)
        ax.set_ylim(bottom=0)
        return ax

    def __repr__(self) -> str:
        medians = [f"{value:.4g}" for value in self.take(slice(SHOWN)).quantile(0.5)]
        more = ", ..." if len(self) > SHOWN else ""
        rows = f"{len(self)} row{'' if len(self) == 1 else 's'}"
        return f"{type(self).__name__} of {rows}" + (f", medians {', '.join(medians)}{more}" if medians else "")

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks."""
        part = self.take(slice(SHOWN))
        quantiles = part.quantile(np.array([SUMMARY_LEVELS]))
        head = "".join(f"<th>{name}</th>" for name in ("row", "16 %", "median", "84 %"))
        body = "".join(
            f"<tr><td>{number}</td>{''.join(f'<td>{value:.4g}</td>' for value in values)}</tr>"
            for number, values in enumerate(quantiles)
        )
        rows = f"{len(self)} row{'' if len(self) == 1 else 's'}"
        return f"<p>{type(self).__name__} of {rows}</p><table><tr>{head}</tr>{body}</table>"
