"""PSFs of the cells of a coadd."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError
from lumos.images.fits.file import fits_context
from lumos.images.lsst.archive import pixel_origin
from lumos.images.psf.polynomial import unit_psf
from lumos.images.psf.width import image_fwhm
from lumos.psfs import PixelPsf

__all__ = ["CellModel", "read_cells"]


@dataclass(frozen=True)
class CellModel:
    """One PSF image for each cell of an image.

    Parameters
    ----------
    images : float array, shape (n_rows, n_columns, height, width)
        Of any sums; odd height and width, the PSF centred on the middle sample; NaN in a cell without a PSF.
    start : tuple of float
        Left and lower edge of the first cell, (x, y) in 0-based pixels of the image (-0.5: that of the image).
    cell : tuple of float
        Width and height of a cell, pixels.
    """

    images: FloatArray
    start: tuple[float, float]
    cell: tuple[float, float]

    def at(self, x: FloatArray, y: FloatArray) -> PixelPsf:
        """Evaluate the PSF.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        PixelPsf
            The image of each object's cell, the pixel's response included; NaN where there is no cell, or none with a
            PSF.
        """
        rows, columns = self.images.shape[:2]
        place = [
            np.floor((np.asarray(one, dtype=np.float64) - start) / side)
            for one, start, side in zip((x, y), self.start, self.cell, strict=True)
        ]
        with np.errstate(invalid="ignore"):
            known = (place[0] >= 0) & (place[0] < columns) & (place[1] >= 0) & (place[1] < rows)
        column, row = (np.where(known, one, 0).astype(np.int64) for one in place)
        return unit_psf(self.images[row, column], known, 1.0)

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            Of the effective PSF, the pixel's response included; NaN where it is unknown.
        """
        return image_fwhm(self.at(x, y))


def read_cells(hdul: Any, hdu: Any, image: Any, path: Path) -> CellModel | None:  # noqa: ANN401
    """Read the PSFs of the cells of a coadd of the data previews.

    The grid of the cells stands in the tree of the extension ``JSON``; the linear WCS of the image tells which part of
    the grid it is.

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        The open file.
    hdu : astropy image HDU
        PSFs of shape (n_rows, n_columns, height, width).
    image : astropy image HDU
        The image whose PSFs they are.
    path : Path
        Its file, for messages.

    Returns
    -------
    CellModel or None
        None where the file does not tell the grid.

    Raises
    ------
    LumosDataError
        If the grid is not that of the PSFs, or no cell has one.
    """
    if "JSON" not in hdul or len(hdu.shape) != 4:
        return None
    with fits_context(path):
        tree = json.loads(bytes(hdul["JSON"].data["JSON"][0]))
        images = np.array(hdu.data, dtype=np.float64)
        bounds = (tree.get("psf") or {}).get("bounds")
        if bounds is None:
            return None
        height, width = (int(length) for length in bounds["grid"]["cell_shape"])
        box = [(int(bounds["bbox"][axis]["start"]), int(bounds["bbox"][axis]["stop"])) for axis in "xy"]
        shape = tuple((stop - start) / side for (start, stop), side in zip(reversed(box), (height, width), strict=True))
    if shape != images.shape[:2]:
        raise LumosDataError(f"{path}[{hdu.name}]: PSFs of {images.shape[:2]} cells, the grid has {shape}")
    if images.shape[2] % 2 == 0 or images.shape[3] % 2 == 0:
        raise LumosDataError(f"{path}[{hdu.name}]: PSFs of shape {images.shape[2:]}, allowed: odd sides")
    if not np.isfinite(images).all(axis=(2, 3)).any():
        raise LumosDataError(f"{path}[{hdu.name}]: none of {images.shape[0] * images.shape[1]} cells has a PSF")
    x0, y0 = pixel_origin(image.header, path)
    return CellModel(images, (box[0][0] - x0 - 0.5, box[1][0] - y0 - 0.5), (width, height))
