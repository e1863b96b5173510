"""PSFEx models: a polynomial in the position whose coefficients are images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError
from lumos.files import whole_file
from lumos.images.fits.file import fits_context, open_fits
from lumos.images.psf.polynomial import near_ccd, unit_psf
from lumos.images.psf.width import image_fwhm
from lumos.psfs import PixelPsf

__all__ = ["PsfexModel", "load_psfex", "write_psfex"]

#: Images of which widths are measured at once: memory does not grow with the number of objects.
_AT_ONCE = 256


@dataclass(frozen=True)
class PsfexModel:
    r"""A PSFEx model of one CCD.

    With u = (X - POLZERO1) / POLSCAL1, v likewise and X, Y the 1-based position,

    .. math:: P(X, Y) = \sum_{j=0}^{d} \sum_{i=0}^{d-j} u^i v^j\, B_{ij},

    i running fastest. Each P is normalised to the sum 1.

    Parameters
    ----------
    basis : float array, shape (n_terms, height, width)
        The images B in the order above (PSF_MASK).
    degree : int
        Degree d of the polynomial; 0: the PSF is the same everywhere.
    zero : tuple of float
        Offsets of x and y before the polynomial (POLZERO1, POLZERO2).
    scale : tuple of float
        Divisors of x and y before the polynomial (POLSCAL1, POLSCAL2).
    sampling : float
        Size of a sample in image pixels (PSF_SAMP).
    shape : tuple of int
        Shape (ny, nx) of the image that the model belongs to. Beyond it (10 px) the PSF is NaN: a polynomial
        would go on to give images, and wrong ones.

    References
    ----------
    .. [1] Bertin (2011), ASP Conf. Ser. 442, 435.
    """

    basis: FloatArray
    degree: int
    zero: tuple[float, float]
    scale: tuple[float, float]
    sampling: float
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
            One image per object, or one that all share where the PSF is the same everywhere; the pixel's response
            included; NaN outside the CCD.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        inside = near_ccd(x, y, self.shape)
        if self.degree == 0 and inside.all():
            return unit_psf(self.basis, np.ones(1, dtype=np.bool_), self.sampling)
        u = (np.where(inside, x, 0.0) + 1.0 - self.zero[0]) / self.scale[0]
        v = (np.where(inside, y, 0.0) + 1.0 - self.zero[1]) / self.scale[1]
        terms = [u**i * v**j for j in range(self.degree + 1) for i in range(self.degree + 1 - j)]
        images = np.tensordot(np.stack(terms, axis=1), self.basis, axes=1)
        return unit_psf(images, inside, self.sampling)

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            Of the effective PSF, the pixel's response included; NaN outside the CCD.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if self.degree == 0:
            middle = ((length - 1) / 2 * np.ones(1) for length in self.shape[::-1])
            return np.where(near_ccd(x, y, self.shape), image_fwhm(self.at(*middle)), np.nan)
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(x), _AT_ONCE)]
        return np.concatenate([np.empty(0), *(image_fwhm(self.at(x[part], y[part])) for part in parts)])


def load_psfex(
    path: Path, shape: tuple[int, int], *, exposure_id: str | None = None, detector: str | None = None
) -> PsfexModel:
    """Read a PSFEx model, as PSFEx writes it or as a row of the Legacy Surveys' tables.

    Parameters
    ----------
    path : Path
        FITS file with a PSF_MASK column; POLNAME1 and its like stand in the header or in columns.
    shape : tuple of int
        Shape (ny, nx) of the image that it belongs to.
    exposure_id, detector : str or None
        Row to take where the table has ``expnum`` and ``ccdname`` columns.

    Returns
    -------
    PsfexModel
        Evaluated by :meth:`PsfexModel.at`.

    Raises
    ------
    LumosDataError
        If the file cannot be read, has not exactly one matching row, or holds a model of another kind than a
        polynomial in x and y.
    """
    with open_fits(path) as hdul, fits_context(path):
        for hdu in hdul:
            names = [] if hdu.is_image else [name.lower() for name in hdu.columns.names]
            if "psf_mask" in names:
                cards = {key.lower(): hdu.header[key] for key in hdu.header if key}
                row = _pick_row(hdu.data, names, path, exposure_id, detector)
                cards.update({name: row[name] for name in names if name != "psf_mask"})
                return _build(cards, np.array(row["psf_mask"], dtype=np.float64), path, shape)
    raise LumosDataError(f"{path}: not a PSFEx model (no PSF_MASK column)")


def write_psfex(path: Path, model: PsfexModel, cards: Mapping[str, float | str]) -> None:
    """Write a model as PSFEx does: a binary table PSF_DATA with the one column PSF_MASK.

    Parameters
    ----------
    path : Path
        FITS file to write, whole or not at all.
    model : PsfexModel
        What :func:`load_psfex` shall return.
    cards : mapping
        Further header cards, such as ACCEPTED (stars) and CHI2.
    """
    n_terms, height, width = model.basis.shape
    mask = fits.Column("PSF_MASK", f"{model.basis.size}E", dim=f"({width},{height},{n_terms})", array=model.basis[None])
    table = fits.BinTableHDU.from_columns([mask], name="PSF_DATA")
    polynomial = {
        "POLNAXIS": 2,
        "POLGRP1": 1,
        "POLNAME1": "X_IMAGE",
        "POLZERO1": model.zero[0],
        "POLSCAL1": model.scale[0],
        "POLGRP2": 1,
        "POLNAME2": "Y_IMAGE",
        "POLZERO2": model.zero[1],
        "POLSCAL2": model.scale[1],
        "POLNGRP": 1,
        "POLDEG1": model.degree,
        "PSF_SAMP": model.sampling,
        "PSFNAXIS": 3,
        "PSFAXIS1": width,
        "PSFAXIS2": height,
        "PSFAXIS3": n_terms,
    }
    table.header.update({**polynomial, **cards})
    with whole_file(path) as temporary:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(temporary, checksum=True)


def _pick_row(data: Any, names: list[str], path: Path, exposure_id: str | None, detector: str | None) -> Any:  # noqa: ANN401
    """Return the one row of a table that belongs to a CCD."""
    chosen = np.ones(len(data), dtype=bool)
    for column, wanted in (("expnum", exposure_id), ("ccdname", detector)):
        if column in names and wanted is not None:
            chosen &= np.array([str(value).strip() == wanted for value in data[column]], dtype=bool)
    if chosen.sum() != 1:
        what = f"exposure {exposure_id}, detector {detector}"
        raise LumosDataError(f"{path}: {chosen.sum()} of {len(data)} PSFEx rows match {what}, allowed: 1")
    return data[int(np.flatnonzero(chosen)[0])]


def _build(cards: dict[str, Any], basis: FloatArray, path: Path, shape: tuple[int, int]) -> PsfexModel:
    """Build a model from its numbers, refusing what it cannot represent."""
    n_axes = int(cards.get("polnaxis", 2 if "polname1" in cards else 0))
    if n_axes not in {0, 2}:
        raise LumosDataError(f"{path}: PSFEx polynomial in {n_axes} variables, allowed: X_IMAGE and Y_IMAGE, or none")
    axes = [str(cards.get(f"polname{axis + 1}", "")).strip().upper() for axis in range(n_axes)]
    kinds = [axis[:1] if axis in {"X_IMAGE", "XWIN_IMAGE", "Y_IMAGE", "YWIN_IMAGE"} else axis for axis in axes]
    if kinds not in ([], ["X", "Y"]) or int(cards.get("polngrp", 1 if axes else 0)) not in {0, 1}:
        raise LumosDataError(f"{path}: PSFEx polynomial in {axes}, allowed: X_IMAGE and Y_IMAGE in one group")
    try:
        degree = int(cards["poldeg1"]) if axes else 0
        zero = (float(cards["polzero1"]), float(cards["polzero2"])) if axes else (0.0, 0.0)
        scale = (float(cards["polscal1"]), float(cards["polscal2"])) if axes else (1.0, 1.0)
        sampling = float(cards["psf_samp"])
    except KeyError as error:
        raise LumosDataError(f"{path}: PSFEx model lacks {str(error).upper()}") from error
    if "psfaxis1" in cards and "psfaxis2" in cards:  # rows of a merged table are padded to the largest
        basis = basis[:, : int(cards["psfaxis2"]), : int(cards["psfaxis1"])]
    n_terms = (degree + 1) * (degree + 2) // 2
    if basis.ndim != 3 or len(basis) < n_terms or not np.isfinite(basis).all():
        raise LumosDataError(f"{path}: PSF_MASK of shape {basis.shape}, degree {degree} needs {n_terms} finite images")
    if not sampling > 0 or 0.0 in scale or basis.shape[1] % 2 == 0 or basis.shape[2] % 2 == 0:
        what = f"PSF_SAMP {sampling}, POLSCAL {scale}, images {basis.shape[1:]}"
        raise LumosDataError(f"{path}: {what}; allowed: positive, not zero, odd sizes")
    return PsfexModel(basis[:n_terms], degree, zero, scale, sampling, shape)
