"""PSF models: a PSF as a function of the position on the CCD, read from the formats in use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosDataError, LumosShapeError
from lumos.images.fits.file import fits_context, open_fits, read_float_image
from lumos.images.psf.width import image_fwhm
from lumos.psfs import MoffatPsf, PixelPsf, Psf, moffat_on_pixels

__all__ = ["MoffatModel", "PsfModel", "StampModel", "fwhm_on_pixels", "load_stamp_psf", "mean_cell", "moffat_stamp"]

#: Share of a Moffat's light that its image may lack, its reach in FWHM at most, and samples per FWHM.
_LIGHT_LEFT, _LONGEST, _SAMPLES = 2e-4, 15.0, 5.0
#: Samples from the middle of such an image to its edge; pixels 20 times as long as wide need so many.
_MOST_HALF = 1600


class PsfModel(Protocol):
    """A PSF that can be evaluated anywhere on a CCD."""

    def at(self, x: FloatArray, y: FloatArray) -> Psf:
        """Evaluate the PSF.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        MoffatPsf or PixelPsf
            For n objects or, where the PSF does not vary, shared by all; NaN where it is unknown.
        """
        ...

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            NaN where the PSF is unknown.
        """
        ...


@dataclass(frozen=True)
class MoffatModel:
    """One circular Moffat PSF for a whole CCD, before the response of the pixel.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum, pixels.
    beta : float
        Exponent of the Moffat profile, above 1.
    """

    fwhm: float
    beta: float

    def __post_init__(self) -> None:
        self.at(np.zeros(1), np.zeros(1))  # MoffatPsf holds the limits; a bad value is refused here, at the door

    def at(self, x: FloatArray, y: FloatArray) -> MoffatPsf:  # noqa: ARG002 (the PSF is the same everywhere)
        """Evaluate the PSF.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        MoffatPsf
            Shared by all objects.
        """
        return MoffatPsf(np.array([self.fwhm], dtype=np.float64), np.array([self.beta], dtype=np.float64))

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:  # noqa: ARG002 (the PSF is the same everywhere)
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            The same for all.
        """
        return np.full(np.shape(x), self.fwhm, dtype=np.float64)


@dataclass(frozen=True)
class StampModel:
    """One PSF image for a whole CCD.

    Parameters
    ----------
    image : float array, shape (height, width)
        Odd height and width, the PSF centred on the middle sample; it is normalised to the sum 1.
    sampling : float
        Size of a sample in image pixels.
    includes_pixel : bool
        True where the image holds the response of the pixel.
    """

    image: AnyArray
    sampling: float = 1.0
    includes_pixel: bool = True

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or self.image.shape[0] % 2 == 0 or self.image.shape[1] % 2 == 0:
            allowed = "(odd height, odd width), the centre of the PSF on the middle pixel"
            raise LumosShapeError("PSF image", self.image.shape, allowed)
        total = float(np.sum(self.image, dtype=np.float64))
        if not np.isfinite(total) or total <= 0:
            raise LumosDataError(f"PSF image: its sum is {total}, allowed: positive and finite")
        image = (self.image.astype(np.float64) / total).astype(np.float32)
        if not abs(float(np.sum(image, dtype=np.float64)) - 1) < 1e-3:
            raise LumosDataError(
                f"PSF image: it sums to {total:.4g} by numbers of up to {np.abs(self.image).max():.4g}"
            )
        object.__setattr__(self, "image", image)
        self.at(np.zeros(1), np.zeros(1))  # PixelPsf refuses a bad sampling

    def at(self, x: FloatArray, y: FloatArray) -> PixelPsf:  # noqa: ARG002 (the PSF is the same everywhere)
        """Evaluate the PSF.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        PixelPsf
            Shared by all objects.
        """
        return PixelPsf(self.image[None], self.sampling, self.includes_pixel)

    def fwhm_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the full width at half maximum, in pixels.

        Parameters
        ----------
        x, y : float array, shape (n,)
            Positions in 0-based pixels.

        Returns
        -------
        float array, shape (n,)
            The same for all.
        """
        return np.full(np.shape(x), image_fwhm(self.at(x, y))[0])


def moffat_stamp(model: MoffatModel, jacobian: FloatArray) -> StampModel:
    """Return the image of a Moffat that is round on the sky, on pixels that are not square.

    Parameters
    ----------
    model : MoffatModel
        Its FWHM in units of the root of a pixel's area.
    jacobian : float array, shape (2, 2)
        From pixels to the sky, of determinant 1 or -1.

    Returns
    -------
    StampModel
        Before the response of the pixel; all but 2e-4 of the light lies within it, or 15 FWHM.

    Raises
    ------
    LumosDataError
        If pixels are so long that the image would have some 10 million samples.
    """
    alpha = 0.5 * model.fwhm / np.sqrt(2 ** (1 / model.beta) - 1)
    reach = min(alpha * np.sqrt(_LIGHT_LEFT ** (1 / (1 - model.beta)) - 1), _LONGEST * model.fwhm)
    # The image must hold the ellipse, and sample its short axis well.
    long, short = np.linalg.svd(jacobian, compute_uv=False)
    sampling = min(model.fwhm / long / _SAMPLES, 1.0)
    half = int(min(np.ceil(reach / short / sampling), _MOST_HALF + 1))
    if half > _MOST_HALF:
        raise LumosDataError(f"pixels {long / short:.4g} times as long as wide, too much for an image of the PSF")
    pixels = sampling * np.arange(-half, half + 1)
    sky = np.einsum("ab,bij->aij", jacobian, np.stack(np.meshgrid(pixels, pixels)))
    image = (1 + (sky**2).sum(axis=0) / alpha**2) ** -model.beta
    return StampModel(image, sampling, includes_pixel=False)


def load_stamp_psf(
    path: Path, *, extension: str | None = None, sampling: float = 1.0, includes_pixel: bool = True
) -> StampModel:
    """Read a PSF image from a FITS file.

    An array of one stamp per cell of the image is averaged, each stamp normalised, over the cells that have one.

    Parameters
    ----------
    path : Path
        FITS file with an image of the PSF.
    extension : str or None
        Name of the extension; None: the first two-dimensional image.
    sampling : float
        Size of a sample in image pixels.
    includes_pixel : bool
        True where the image holds the response of the pixel.

    Returns
    -------
    StampModel
        The same PSF everywhere.

    Raises
    ------
    LumosDataError
        If the file cannot be read or holds no usable PSF.
    """
    with open_fits(path) as hdul:
        if extension is None:
            images = [hdu for hdu in hdul if hdu.is_image and len(hdu.shape) == 2]
        else:
            images = [hdu for hdu in hdul if hdu.is_image and len(hdu.shape) >= 2 and hdu.name == extension.upper()]
        if not images:
            what = "two-dimensional image" if extension is None else f"image extension {extension!r}"
            raise LumosDataError(f"{path}: no {what} for the PSF")
        image = read_float_image(images[0], path) if len(images[0].shape) == 2 else mean_cell(images[0], path)
    try:
        return StampModel(image, sampling, includes_pixel)
    except ValueError as error:
        raise LumosDataError(f"{path}: {error}") from error


def mean_cell(hdu: Any, path: Path) -> FloatArray:  # noqa: ANN401
    """Return the mean of the stamps of an array of cells.

    Parameters
    ----------
    hdu : astropy image HDU
        Stamps, of which the last two axes are y and x; cells without a PSF hold NaN.
    path : Path
        Its file, for messages.

    Returns
    -------
    float array, shape (height, width)
        Each stamp is normalised first.

    Raises
    ------
    LumosDataError
        If no cell has a PSF.
    """
    with fits_context(path):
        stamps = np.array(hdu.data, dtype=np.float64).reshape(-1, *hdu.shape[-2:])
    sums = stamps.sum(axis=(1, 2))
    good = np.isfinite(sums) & (sums > 0)
    if not good.any():
        raise LumosDataError(f"{path}[{hdu.name}]: none of {len(stamps)} cells has a PSF")
    return np.asarray((stamps[good] / sums[good, None, None]).mean(axis=0))


def fwhm_on_pixels(model: PsfModel, fwhm: FloatArray) -> FloatArray:
    """Return the FWHM that stars on pixels have.

    Parameters
    ----------
    model : PsfModel
        With or without the response of the pixel.
    fwhm : float array, shape (n,)
        The model's own ``fwhm_at``.

    Returns
    -------
    float array, shape (n,)
        In pixels: of the Moffat that fits them best where the PSF is a Moffat, else of their image; NaN where the PSF
        is unknown.
    """
    if isinstance(model, MoffatModel):
        return np.full_like(fwhm, moffat_on_pixels(model.fwhm, model.beta)[0])
    if not (isinstance(model, StampModel) and not model.includes_pixel):
        return fwhm
    waves = (np.fft.fftfreq(length) / model.sampling for length in model.image.shape)
    pixel = np.multiply.outer(*(np.sinc(wave) for wave in waves))
    blurred = np.fft.ifft2(np.fft.fft2(model.image) * pixel).real
    return np.full_like(fwhm, image_fwhm(PixelPsf(blurred[None], model.sampling))[0])
