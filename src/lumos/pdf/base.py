"""What every flux PDF can do, for n objects at once.

Row i belongs to object i. Fluxes and levels are given as one number for all rows, one per row (n,), several
per row (n, m), or the same several for all rows (1, m); the answer has the shape (n,) or (n, m). A row that holds a
value that is not finite is a bad object: every answer for it is NaN, and nothing is raised.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf.views import PdfViews
from lumos.statistics import LEVELS_68, LEVELS_95

__all__ = ["FluxPdf"]

#: Numbers in one temporary array: small enough for the cache, and memory stays flat however many rows there are.
CHUNK = 1 << 17


def row_chunks(n: int, width: int) -> Iterator[slice]:
    """Cut n rows of ``width`` numbers into pieces of about ``CHUNK`` numbers.

    Parameters
    ----------
    n : int
        Number of rows.
    width : int
        Numbers per row.

    Yields
    ------
    slice
        Rows of one piece.
    """
    step = max(1, CHUNK // max(width, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def per_row(values: ArrayLike, n: int, what: str) -> FloatArray:
    """Return one finite or NaN number per row.

    Parameters
    ----------
    values : array_like, shape () or (n,)
        One number for all rows, or one for each.
    n : int
        Number of rows.
    what : str
        Name for the error message.

    Returns
    -------
    ndarray, shape (n,)
        One float64 for each row.

    Raises
    ------
    LumosShapeError
        If the shape is another.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in {(), (n,)}:
        raise LumosShapeError(what, array.shape, f"() or ({n},)")
    return np.broadcast_to(array, (n,))


def check_factor(factor: FloatArray) -> None:
    """Refuse factors that are not above 0; NaN passes (a bad object).

    Parameters
    ----------
    factor : ndarray
        Factors of the flux.

    Raises
    ------
    LumosValueError
        If one is 0, negative or infinite.
    """
    bad = (factor <= 0) | np.isinf(factor)
    if bad.any():
        raise LumosValueError("factor of the flux", float(factor[bad][0]), "finite and above 0")


class FluxPdf(PdfViews):
    """A probability density of flux for each of n objects.

    Examples
    --------
    Three galaxies of 1000 nJy, 20 nJy and one that could not be measured:

    >>> from lumos.pdf import GaussianMixture
    >>> pdf = GaussianMixture([[1.0], [1.0], [1.0]], [[1000.0], [20.0], [float("nan")]], [[100.0], [30.0], [30.0]])
    >>> pdf
    GaussianMixture of 3 rows, medians 1000, 20, nan
    >>> pdf.quantile([[0.16, 0.5, 0.84]])[0].round(1)
    array([ 900.6, 1000. , 1099.4])
    >>> len(pdf.take([0, 1]))
    2
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: AnyArray | slice) -> Self:
        """Return the PDFs of some rows.

        Parameters
        ----------
        rows : slice or ndarray
            Slice, indices or mask of rows.

        Returns
        -------
        FluxPdf
            Of the same class.
        """

    @abstractmethod
    def mean(self) -> FloatArray:
        """Return the mean flux, eq. 15.

        Returns
        -------
        ndarray, shape (n,)
            Mean flux of each PDF.
        """

    @abstractmethod
    def variance(self) -> FloatArray:
        """Return the variance of the flux, eq. 16: that within the components and that between them.

        Returns
        -------
        ndarray, shape (n,)
            Variance of each PDF, flux squared.
        """

    @abstractmethod
    def peak(self) -> FloatArray:
        """Return the flux of highest density (the mode).

        Returns
        -------
        ndarray, shape (n,)
            Flux at which each PDF is highest.
        """

    @abstractmethod
    def scale(self, factor: ArrayLike) -> Self:
        """Return the PDFs of the fluxes times a factor (a zero point).

        Parameters
        ----------
        factor : array_like, shape () or (n,)
            Factor above 0; NaN makes the row NaN.

        Returns
        -------
        FluxPdf
            Of the same class.
        """

    @property
    @abstractmethod
    def _width(self) -> int:
        """Numbers per row and flux that an evaluation needs, for cutting the rows into chunks."""

    def _numbers(self, m: int) -> int:
        """Return how many numbers per row an evaluation at m fluxes needs."""
        return m * self._width

    @abstractmethod
    def _log_pdf(self, flux: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _cdf(self, flux: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _quantile(self, level: FloatArray) -> FloatArray: ...

    def _evaluate(self, values: ArrayLike, method: Callable[[Self, FloatArray], FloatArray], what: str) -> FloatArray:
        """Call ``method`` on chunks of rows, with ``values`` as (rows, m)."""
        n = len(self)
        array = np.asarray(values, dtype=np.float64)
        one = array.ndim < 2
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim > 2 or (array.ndim == 2 and len(array) not in {n, 1}) or (one and array.ndim and len(array) != n):
            raise LumosShapeError(what, np.shape(values), f"(), ({n},), ({n}, m) or (1, m)")
        m = array.shape[1] if array.ndim else 1
        array = np.broadcast_to(array, (n, m))
        out = np.empty((n, m))
        with np.errstate(all="ignore"):  # zero weights, infinite fluxes and NaN rows are legal
            for rows in row_chunks(n, self._numbers(m)):
                out[rows] = method(self.take(rows), array[rows])
        return out[:, 0] if one else out

    def log_pdf(self, flux: ArrayLike) -> FloatArray:
        """Return the natural logarithm of the density.

        Parameters
        ----------
        flux : array_like, shape (), (n,), (n, m) or (1, m)
            Fluxes at which to evaluate; a 1-d array has one for each PDF.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Logarithms of densities per unit flux, ``-inf`` where the density is 0.
        """
        return self._evaluate(flux, lambda part, values: part._log_pdf(values), "flux")  # noqa: SLF001

    def pdf(self, flux: ArrayLike) -> FloatArray:
        """Return the density.

        Parameters
        ----------
        flux : array_like, shape (), (n,), (n, m) or (1, m)
            Fluxes at which to evaluate; a 1-d array has one for each PDF.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Densities per unit flux.
        """
        return np.asarray(np.exp(self.log_pdf(flux)))

    def cdf(self, flux: ArrayLike) -> FloatArray:
        """Return the probability of a smaller flux.

        Parameters
        ----------
        flux : array_like, shape (), (n,), (n, m) or (1, m)
            Fluxes at which to evaluate; a 1-d array has one for each PDF.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Probabilities of a smaller flux, 0 to 1.
        """
        return self._evaluate(flux, lambda part, values: part._cdf(values), "flux")  # noqa: SLF001

    def pit(self, flux: ArrayLike) -> FloatArray:
        """Return the probability integral transform of true fluxes, eq. 13: uniform where the PDFs are right.

        Parameters
        ----------
        flux : array_like, shape (), (n,), (n, m) or (1, m)
            True fluxes; a 1-d array has one for each PDF.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Probabilities of a flux below the true one; uniform if PDFs are true.
        """
        return self.cdf(flux)

    def quantile(self, level: ArrayLike) -> FloatArray:
        """Return the flux below which the flux lies with probability ``level``.

        Parameters
        ----------
        level : array_like, shape (), (n,), (n, m) or (1, m)
            Probabilities; 0 and 1 give the ends of the support, NaN gives NaN.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Fluxes below which a PDF has the probability asked for.

        Raises
        ------
        LumosValueError
            If a level is outside 0 to 1.
        """
        array = np.asarray(level, dtype=np.float64)
        bad = (array < 0) | (array > 1)
        if bad.any():
            raise LumosValueError("level of a quantile", float(array[bad].flat[0]), "0 to 1")
        return self._evaluate(array, lambda part, values: part._quantile(values), "level")  # noqa: SLF001

    def std(self) -> FloatArray:
        """Return the standard deviation.

        Returns
        -------
        ndarray, shape (n,)
            Standard deviation of each PDF, in units of flux.
        """
        return np.sqrt(self.variance())

    def _half_width(self, levels: tuple[float, float]) -> FloatArray:
        low, high = self.quantile(np.array([levels])).T
        return np.asarray((high - low) / 2)

    def sigma68(self) -> FloatArray:
        """Return the half-width of the central 68 %, eq. 14, from the 15.87 % to the 84.13 % quantile.

        Returns
        -------
        ndarray, shape (n,)
            Half-widths; the standard deviation for a Gaussian.
        """
        return self._half_width(LEVELS_68)

    def sigma95(self) -> FloatArray:
        """Return the half-width of the central 95 %, (q97.5 - q2.5) / 2.

        Returns
        -------
        ndarray, shape (n,)
            Half-widths; 1.9600 of the standard deviation for a Gaussian.
        """
        return self._half_width(LEVELS_95)

    def eta(self) -> FloatArray:
        """Return the Gaussianity sigma95 / sigma68 - 1, eq. 22.

        0.95996 for a Gaussian, for which the paper says 1. Heavier tails give more, a flat density gives 0.3916.

        Returns
        -------
        ndarray, shape (n,)
            Gaussianity of each PDF; a little below 1 for a Gaussian.
        """
        return self.sigma95() / self.sigma68() - 1

    def sample(self, rng: np.random.Generator, m: int) -> FloatArray:
        """Draw fluxes.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        m : int
            Number of draws per row.

        Returns
        -------
        ndarray, shape (n, m)
            m independent fluxes drawn from each PDF.
        """
        return self.quantile(rng.random((len(self), m)))
