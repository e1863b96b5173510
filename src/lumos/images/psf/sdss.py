"""PSFs of SDSS frames: psField files."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError
from lumos.images.fits.file import fits_context, open_fits
from lumos.images.psf.polynomial import near_ccd, unit_psf
from lumos.images.psf.width import image_fwhm
from lumos.images.sdss import SDSS_BANDS
from lumos.psfs import PixelPsf

__all__ = ["SdssKlModel", "load_psfield"]

#: Scale of rows and columns in the KL coefficients' polynomials (RC_SCALE of the photo pipeline).
_RC_SCALE = 0.001


@dataclass(frozen=True)
class SdssKlModel:
    r"""The Karhunen-Loève PSF of a psField file.

    With the position in rows r and columns c (centre of the first pixel 0.5),

    .. math:: P(r, c) = \sum_k \left[ \sum_{ij} C^k_{ij} (0.001 r)^i (0.001 c)^j \right] E_k,

    normalised to the sum 1.

    Parameters
    ----------
    eigenimages : float array, shape (n_kl, height, width)
        E of the formula: images whose weighted sum is the PSF.
    coefficients : float array, shape (n_kl, n_row, n_col)
        C, of powers of the row and of the column.
    shape : tuple of int
        Shape (ny, nx) of the frame. Beyond it (10 px) the PSF is NaN.

    References
    ----------
    .. [1] Lupton et al. (2001), ASP Conf. Ser. 238, 269.
    """

    eigenimages: FloatArray
    coefficients: FloatArray
    shape: tuple[int, int]

    def at(self, x: FloatArray, y: FloatArray) -> PixelPsf:
        """Evaluate the PSF.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        PixelPsf
            One image per object, the pixel's response included; NaN outside the frame.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        inside = near_ccd(x, y, self.shape)
        row = _RC_SCALE * (np.where(inside, y, 0.0) + 0.5)
        column = _RC_SCALE * (np.where(inside, x, 0.0) + 0.5)
        row_powers = row[:, None] ** np.arange(self.coefficients.shape[1])
        column_powers = column[:, None] ** np.arange(self.coefficients.shape[2])
        weights = np.einsum("kij,ni,nj->nk", self.coefficients, row_powers, column_powers)
        images = np.tensordot(weights, self.eigenimages, axes=1)
        return unit_psf(images, inside, 1.0)

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            Of the effective PSF, the pixel's response included; NaN outside the frame.
        """
        return image_fwhm(self.at(x, y))


def load_psfield(path: Path, band: str, shape: tuple[int, int]) -> SdssKlModel:
    """Read the PSF of one band from a psField file.

    Parameters
    ----------
    path : Path
        File psField of the field, all bands.
    band : str
        One of u, g, r, i, z.
    shape : tuple of int
        Shape of the frame, (ny, nx).

    Returns
    -------
    SdssKlModel
        Evaluated by :meth:`SdssKlModel.at`.

    Raises
    ------
    LumosDataError
        If the file cannot be read as a psField or has no such band.
    """
    if re.fullmatch(f"[{SDSS_BANDS}]", band) is None:
        raise LumosDataError(f"{path}: no PSF for band {band!r}, allowed: {', '.join(SDSS_BANDS)}")
    with open_fits(path) as hdul, fits_context(path):
        table = hdul[SDSS_BANDS.index(band) + 1].data
        n_row, n_column = int(table["nrow_b"].max()), int(table["ncol_b"].max())
        sizes = {(int(row["RNROW"]), int(row["RNCOL"])) for row in table}
        if len(sizes) != 1:
            raise LumosDataError(f"{path}: eigenimages of {len(sizes)} shapes, allowed: 1")
        size = sizes.pop()
        images = np.stack([np.array(row["RROWS"], dtype=np.float64).reshape(size) for row in table])
        # Beyond the polynomial's own size the 5 x 5 table is filled with noise of 1e-33.
        coefficients = np.array(table["c"], dtype=np.float64)[:, :n_row, :n_column]
    return SdssKlModel(images, coefficients, shape)
