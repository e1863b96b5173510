"""Errors that exposures share, in coadds: zero points and their covariance, and what no exposure can tell."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lumos.coadds.calibrate import Calibration
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.pdf.coadd import same_count

__all__ = ["SharedErrors"]


@dataclass(frozen=True, eq=False)
class SharedErrors:
    r"""Errors of the rows of n coadds beside their own independent noise.

    A coadd with weights w has the variance

    .. math:: V = \sum_e w_e^2 S_e + \Big(\sum_e w_e h_e\Big)^2 + f^2 \, (w^T C w + r^2) + b^2

    where S are the variances of the rows that are independent, h their errors that are not, C the covariance of the
    logarithms of their flux scales, r and b what else all exposures of an object share. Only S falls with the number of
    exposures.

    Parameters
    ----------
    calibration : Calibration
        Scales of the units and their covariance C.
    unit : int array, shape (n_rows,)
        Unit of each row.
    index : int array, shape (n_rows,)
        Coadd of each row.
    n : int
        Number of coadds.
    relative : float
        r: relative error that all exposures of an object share.
    """

    calibration: Calibration
    unit: IntArray
    index: IntArray
    n: int
    relative: float

    def own(self, rows: BoolArray) -> FloatArray:
        """Return the part of each row's scale variance that the other exposures of its object do not share.

        Parameters
        ----------
        rows : bool array, shape (n_rows,)
            Rows to use.

        Returns
        -------
        float array, shape (n_rows,)
            Relative variances; 0 for rows that are alone.
        """
        own = np.zeros(len(self.unit))
        for _, which, covariance in self._blocks(rows):
            count = which.shape[1]
            diagonal = np.diagonal(covariance, axis1=1, axis2=2)
            if count > 1:
                common = (covariance.sum(axis=(1, 2)) - diagonal.sum(axis=1)) / (count * (count - 1))
                own[which] = np.maximum(diagonal - np.maximum(common, 0)[:, None], 0)
        return own

    def of_mean(
        self,
        variance: FloatArray,
        common: FloatArray,
        own: FloatArray,
        flux: FloatArray,
        floor: FloatArray,
        rows: BoolArray,
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return weights and errors of inverse-variance means.

        Parameters
        ----------
        variance : float array, shape (n_rows,)
            S: part of each row's variance that is independent.
        common : float array, shape (n_rows,)
            h: error of each row that the others share.
        own : float array, shape (n_rows,)
            The part of f^2 C of each row alone, which is added to S for the weights.
        flux : float array, shape (n,)
            Fluxes of the means.
        floor : float array, shape (n,)
            b: error that all exposures of an object share, in flux.
        rows : bool array, shape (n_rows,)
            Rows to use.

        Returns
        -------
        weight : float array, shape (n_rows,)
            w; 0 for rows that are not used.
        apart : float array, shape (n,)
            Root of the part of V that is of the rows: S, h and ``own``; NaN without a row.
        error : float array, shape (n,)
            Root of V; NaN without a row.
        scale_err : float array, shape (n,)
            Root of w C w, relative; NaN without a row.
        """
        ivar = np.where(rows, 1 / np.where(rows, variance + own, 1), 0)
        sums = np.bincount(self.index, ivar, self.n)
        weight = ivar / np.where(sums > 0, sums, 1)[self.index]
        scale = np.zeros(self.n)
        for members, which, covariance in self._blocks(rows):
            scale[members] = np.einsum("mi,mij,mj->m", weight[which], covariance, weight[which])
        white = np.bincount(self.index, np.where(rows, weight**2 * variance, 0), self.n)
        alike = np.bincount(self.index, np.where(rows, weight * common, 0), self.n)
        # A negative flux scales nothing: its sign is the noise's.
        size = np.maximum(np.nan_to_num(flux), 0)
        error = np.sqrt(white + alike**2 + (scale + self.relative**2) * size**2 + floor**2)
        apart = np.sqrt(white + alike**2 + np.bincount(self.index, np.where(rows, weight**2 * own, 0), self.n))
        apart, error, scale = (np.where(sums > 0, values, np.nan) for values in (apart, error, np.sqrt(scale)))
        return weight, apart, error, scale

    def _blocks(self, rows: BoolArray) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        """Yield coadds with equally many of the rows, these (m, count), and the covariance of their scales."""
        width = int(np.bincount(self.index[rows], minlength=1).max())
        for members, which in same_count(self.index, self.n, rows, width):
            yield members, which, self.calibration.covariance(self.unit[which])
