"""PSFs of ExposureF files: rows of tables, as the LSST pipelines store their PSF models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError
from lumos.images.fits.file import image_shape, open_fits, read_float_image
from lumos.images.lsst.archive import Archive, Record, pixel_origin, read_archive
from lumos.images.lsst.cells import read_cells
from lumos.images.psf.models import PsfModel, StampModel, mean_cell
from lumos.images.psf.polynomial import near_ccd, unit_psf
from lumos.images.psf.psfex import PsfexModel
from lumos.images.psf.width import image_fwhm
from lumos.psfs import PixelPsf

__all__ = ["KernelModel", "load_lsst_psf"]

#: Classes of PSFs that are read, by what they are made of.
_READ = ("PsfexPsf", "PcaPsf", "KernelPsf", "SingleGaussianPsf", "DoubleGaussianPsf")
_FUNCTIONS = {"PolynomialFunction2F", "PolynomialFunction2D", "Chebyshev1Function2F", "Chebyshev1Function2D"}


@dataclass(frozen=True)
class KernelModel:
    r"""A sum of images whose weights are polynomials of the position.

    .. math:: P(x, y) = \sum_k \Big[ \sum_{ij} C^k_{ij} T_i(x') T_j(y') \Big] B_k,

    normalised to the sum 1; T are Chebyshev polynomials of the position scaled to [-1, 1], or powers of the position.

    Parameters
    ----------
    basis : float array, shape (n, height, width)
        The images B, the centre of the PSF on the middle sample.
    coefficients : float array, shape (n, degree + 1, degree + 1)
        C, of x and of y.
    box : float array, shape (2, 2), or None
        Least and greatest x and y of Chebyshev polynomials; None: powers.
    origin : tuple of float
        Position of the image's first pixel in the pixels of the polynomials, (x, y).
    shape : tuple of int
        Shape (ny, nx) of the image. Beyond it (10 px) the PSF is NaN.
    """

    basis: FloatArray
    coefficients: FloatArray
    box: FloatArray | None
    origin: tuple[float, float]
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
            One image per object, the pixel's response included; NaN outside the image.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        inside = near_ccd(x, y, self.shape)
        place = np.stack([np.where(inside, x, 0.0) + self.origin[0], np.where(inside, y, 0.0) + self.origin[1]])
        degree = self.coefficients.shape[1] - 1
        if self.box is None:
            terms = place[..., None] ** np.arange(degree + 1)
        else:
            low, high = self.box.T[..., None]
            terms = chebyshev.chebvander((2 * place - low - high) / (high - low), degree)
        weights = np.einsum("kij,ni,nj->nk", self.coefficients, terms[0], terms[1])
        return unit_psf(np.tensordot(weights, self.basis, axes=1), inside, 1.0)

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            Of the effective PSF, the pixel's response included; NaN outside the image.
        """
        return image_fwhm(self.at(x, y))


def load_lsst_psf(path: Path) -> tuple[PsfModel | None, str]:
    """Read the PSF that a file of the LSST pipelines holds.

    Parameters
    ----------
    path : Path
        An ExposureF file, whose PSF is an object of its archive; or a coadd of cells with an extension ``PSF``.

    Returns
    -------
    model : PsfModel or None
        None where there is none, or one of a class that FITS alone does not tell.
    origin : str
        In words.

    Raises
    ------
    LumosDataError
        If the tables are damaged.
    """
    with open_fits(path) as hdul:
        image = next((hdu for hdu in hdul if len(image_shape(hdu)) == 2), None)
        stamps = next((hdu for hdu in hdul if hdu.name == "PSF" and hdu.is_image and len(hdu.shape) in {2, 4}), None)
        if image is not None and stamps is not None:
            return _of_extension(hdul, stamps, image, path)
        archive = read_archive(hdul, path)
        if image is None or archive is None or "PSF" not in archive.roles:
            return None, "none: neither an extension PSF nor a PSF in the tables of the image's file"
        shape = image_shape(image)
        return _of_archive(archive, pixel_origin(image.header, path), (shape[0], shape[1]), path)


def _of_extension(hdul: Any, stamps: Any, image: Any, path: Path) -> tuple[PsfModel, str]:  # noqa: ANN401
    cells = read_cells(hdul, stamps, image, path)
    if cells is not None:
        return cells, f"{cells.images.shape[0]} x {cells.images.shape[1]} cells"
    if len(stamps.shape) == 2:
        return _stamp(np.asarray(read_float_image(stamps, path), dtype=np.float64), path), "stamp"
    return _stamp(mean_cell(stamps, path), path), "mean of cells, whose places the file does not tell"


def _of_archive(
    archive: Archive, origin: tuple[float, float], shape: tuple[int, int], path: Path
) -> tuple[PsfModel | None, str]:
    number = archive.roles["PSF"]
    name = archive.names.get(number, "nothing")
    if name not in _READ:
        more = ", a Python pickle" if "Piff" in name or "Storable" in name else ""
        return None, f"none: the file's PSF is a {name}{more}, read are {', '.join(_READ)}; `lumos psf` fits one"
    rows = archive.records(number)
    if not rows or (name == "PsfexPsf" and len(rows) != 2):
        raise LumosDataError(f"{path}: archive: {name} has {len(rows)} tables")
    if name == "PsfexPsf":
        return _psfex(rows[0], rows[1], origin, shape, path), name
    if name.endswith("GaussianPsf"):
        return _gaussians(rows[0], path), name
    return _kernel(archive, rows[0].numbers("kernel")[0], origin, shape, path), name


def _psfex(
    sizes: Record, content: Record, origin: tuple[float, float], shape: tuple[int, int], path: Path
) -> PsfexModel:
    """Return a PSFEx model; its positions are 0-based, its images run fastest over x."""
    size, group, degree = (content.numbers(key) for key in ("_size", "group", "degree"))
    zero, scale = content.array("_context_first"), content.array("_context_second")
    if sizes.numbers("ndim") != [2] or len(set(group)) != 1 or len(degree) != 1 or len(zero) != 2 or 0 in scale:
        raise LumosDataError(
            f"{path}: PsfexPsf of groups {group}, degrees {degree}, allowed: one polynomial in x and y"
        )
    width, height = size[:2]
    n_terms = (degree[0] + 1) * (degree[0] + 2) // 2
    pixels = content.array("_comp")
    if width % 2 == 0 or height % 2 == 0 or pixels.size != n_terms * width * height:
        text = f"{path}: PsfexPsf of {pixels.size} numbers, {n_terms} terms"
        raise LumosDataError(f"{text} of {width} x {height}, allowed: odd sides, one image a term")
    sampling = float(sizes.array("_pixstep")[0])
    if not sampling > 0:
        raise LumosDataError(f"{path}: PsfexPsf: _pixstep is {sampling}, allowed: above 0")
    # A PsfexModel counts positions from 1.
    first = (zero[0] - origin[0] + 1, zero[1] - origin[1] + 1)
    basis = pixels.reshape(n_terms, height, width)
    return PsfexModel(basis, degree[0], first, (scale[0], scale[1]), sampling, shape)


def _gaussians(record: Record, path: Path) -> StampModel:
    """Return the image of one or two round Gaussians, sampled at the centres of pixels as the pipelines do."""
    width, height = record.numbers("dimensions")
    one = "sigma" in record.values
    sigmas = [float(record.array(key)[0]) for key in (("sigma",) if one else ("sigma1", "sigma2"))]
    peaks = [1.0] if one else [1.0, float(record.array("b")[0])]
    if min(width, height) < 1 or not sigmas[0] > 0:
        raise LumosDataError(f"{path}: Gaussian PSF of {width} x {height} px, sigma {sigmas}, allowed: above 0")
    y, x = np.mgrid[:height, :width]
    radius2 = (x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2
    image = sum(b * np.exp(-radius2 / (2 * s**2)) for b, s in zip(peaks, sigmas, strict=True) if s > 0)
    return _stamp(np.asarray(image), path)


def _kernel(archive: Archive, number: int, origin: tuple[float, float], shape: tuple[int, int], path: Path) -> PsfModel:
    """Return a kernel: one image, or a sum of images of which each has a weight or a polynomial."""
    record = _row(archive, number, {"FixedKernel", "LinearCombinationKernel"}, path)
    if archive.names[number] == "FixedKernel":
        return _stamp(_image(record, path), path)
    parts = record.numbers("components")
    images = [_image(_row(archive, part, {"FixedKernel"}, path), path) for part in parts]
    if len({one.shape for one in images}) != 1:
        raise LumosDataError(f"{path}: archive: a kernel of images of {sorted({one.shape for one in images})}")
    basis = np.stack(images)
    if "spatialfunctions" not in record.values:
        return _stamp(np.tensordot(record.array("amplitudes"), basis, axes=1), path)
    functions = record.numbers("spatialfunctions")
    if len(functions) != len(parts):
        raise LumosDataError(f"{path}: archive: {len(parts)} images, {len(functions)} polynomials")
    records = [_row(archive, function, _FUNCTIONS, path) for function in functions]
    kinds = {archive.names[function][:-1] for function in functions}
    boxes = {tuple(np.concatenate([one.array("min"), one.array("max")])) for one in records if "min_x" in one.values}
    if len(kinds) != 1 or len(boxes) != (1 if "Chebyshev" in kinds.copy().pop() else 0):
        raise LumosDataError(f"{path}: archive: polynomials of kinds {sorted(kinds)} in {len(boxes)} boxes, allowed: 1")
    box = np.array(boxes.pop()).reshape(2, 2).T if boxes else None
    coefficients = np.stack([_matrix(one.array("coefficients"), path) for one in records])
    return KernelModel(basis, coefficients, box, origin, shape)


def _row(archive: Archive, number: int, kinds: set[str], path: Path) -> Record:
    name = archive.names.get(number, "nothing")
    if name not in kinds:
        raise LumosDataError(f"{path}: archive: object {number} is {name}, allowed: {', '.join(sorted(kinds))}")
    return archive.records(number)[0]


def _image(record: Record, path: Path) -> FloatArray:
    """Return the image of a kernel, whose centre must be its middle pixel."""
    (width, height), centre = record.numbers("dimensions"), record.numbers("center")
    pixels = record.array("image")
    if width % 2 == 0 or height % 2 == 0 or centre != [width // 2, height // 2] or pixels.size != width * height:
        text = f"{path}: kernel of {width} x {height} px, centre {centre}, {pixels.size} numbers"
        raise LumosDataError(f"{text}, allowed: odd sides, the centre in the middle")
    return np.asarray(pixels.reshape(height, width))


def _matrix(coefficients: FloatArray, path: Path) -> FloatArray:
    """Return coefficients in the order 1, x, y, xx, xy, yy, ... by their powers of x and of y."""
    degree = int((np.sqrt(8 * len(coefficients) + 1) - 3) / 2 + 1e-9)
    if (degree + 1) * (degree + 2) // 2 != len(coefficients):
        raise LumosDataError(f"{path}: archive: a polynomial of {len(coefficients)} terms, allowed: 1, 3, 6, 10, ...")
    matrix = np.zeros((degree + 1, degree + 1))
    places = [(order - j, j) for order in range(degree + 1) for j in range(order + 1)]
    matrix[tuple(np.array(places).T)] = coefficients
    return matrix


def _stamp(image: FloatArray, path: Path) -> StampModel:
    try:
        return StampModel(image)
    except ValueError as error:
        raise LumosDataError(f"{path}: {error}") from error
