"""Many galaxies and stars in one image, each drawn on a stamp of its own and added."""

from collections.abc import Iterator

import numpy as np
from scipy.special import gammaincinv, gammaln

from lumos.conventions import AnyArray, Float32Array, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf, PixelPsf, Psf

__all__ = ["add_stamps", "draw_light", "draw_stamps", "rows_by_size", "stamp_corners"]

#: Sides of the stamps that objects are drawn on; each gets the smallest that holds its visible light.
_SIZES = (48, 96, 192, 384, 768)
#: Brightness at the edge of a stamp that nobody sees, in units of the noise of a pixel.
_INVISIBLE = 0.02
#: Pixels of all stamps that are held at once.
_BATCH_PIXELS = 4_000_000


def draw_light(shapes: Shapes, flux: FloatArray, psf: Psf, shape: tuple[int, int], noise: float) -> FloatArray:
    """Draw objects into an image, each on a stamp large enough for its visible light.

    Parameters
    ----------
    shapes : Shapes
        Shapes of n objects, in pixels.
    flux : float array, shape (n,)
        Total flux of each, electrons.
    psf : MoffatPsf or PixelPsf
        Moffats of n objects or one for all; one image for all.
    shape : tuple of int
        Shape of the image, (ny, nx).
    noise : float
        Noise of a pixel in electrons, against which light is visible or not.

    Returns
    -------
    float array, shape (ny, nx)
        Electrons that each pixel receives.

    Raises
    ------
    LumosShapeError
        If the number of fluxes is not that of the objects.
    LumosValueError
        If a flux is negative or not finite.
    """
    if flux.shape != shapes.x.shape:
        raise LumosShapeError("fluxes to draw", flux.shape, shapes.x.shape)
    bad = ~(np.isfinite(flux) & (flux >= 0))
    if bad.any():
        raise LumosValueError(f"flux of object {int(np.flatnonzero(bad)[0])}", float(flux[bad][0]), "finite, 0 or more")
    image = np.zeros(shape)
    sizes = _visible_sizes(shapes, flux, psf, noise)
    for size, members in rows_by_size(sizes):
        for rows in np.array_split(members, -(-len(members) * size**2 // _BATCH_PIXELS)):
            own_psf = psf
            if isinstance(psf, MoffatPsf) and len(psf.fwhm) > 1:
                own_psf = MoffatPsf(psf.fwhm[rows], psf.beta[rows])
            stamps, corners = draw_stamps(shapes.take(rows), own_psf, size)
            add_stamps(image, stamps * flux[rows, None, None], corners)
    return image


def rows_by_size(sizes: AnyArray) -> Iterator[tuple[int, IntArray]]:
    """Share objects out by the size of their stamps.

    Parameters
    ----------
    sizes : int array, shape (n,)
        Side of each object's stamp.

    Yields
    ------
    size : int
        A side, ascending.
    rows : int array
        The objects that have it.
    """
    for size in np.unique(sizes).tolist():
        yield size, np.flatnonzero(sizes == size)


def draw_stamps(shapes: Shapes, psf: Psf, size: int) -> tuple[Float32Array, IntArray]:
    """Draw objects of an image, each on a stamp of its own around it.

    Parameters
    ----------
    shapes : Shapes
        n objects, in the pixels of the image.
    psf : MoffatPsf or PixelPsf
        Of n objects, or one for all.
    size : int
        Side of the stamps.

    Returns
    -------
    stamps : float32 array, shape (n, size, size)
        Objects of flux 1; pixel ``size // 2`` on both axes is that of the image which holds the centre.
    corners : int array, shape (n, 2)
        Row and column in the image of the first pixel of each stamp.
    """
    corners = stamp_corners(shapes, size)
    stamps = render(shapes.at(shapes.x - corners[:, 1], shapes.y - corners[:, 0]), psf, size=size)
    return np.asarray(stamps.numpy()), corners


def stamp_corners(shapes: Shapes, size: int) -> IntArray:
    """Return where stamps around objects begin, as :func:`lumos.images.stamps.cut_stamps` cuts them.

    Parameters
    ----------
    shapes : Shapes
        n objects, in the pixels of the image.
    size : int
        Side of the stamps.

    Returns
    -------
    int array, shape (n, 2)
        Row and column in the image of the first pixel of each stamp.
    """
    return np.floor(np.column_stack([shapes.y, shapes.x]) + 0.5).astype(np.int64) - size // 2


def add_stamps(image: FloatArray, stamps: FloatArray, corners: IntArray) -> None:
    """Add stamps to an image in place, as far as they lie on it.

    Parameters
    ----------
    image : float array, shape (ny, nx)
        Image to which the stamps are added, in place.
    stamps : float array, shape (n, size, size)
        What to add.
    corners : int array, shape (n, 2)
        Row and column in the image of the first pixel of each stamp.
    """
    low = np.maximum(corners, 0)
    high = np.maximum(np.minimum(corners + stamps.shape[1], image.shape), low)
    starts, ends = low - corners, high - corners
    for stamp, (top, left), (bottom, right), (y0, x0), (y1, x1) in zip(
        stamps, low.tolist(), high.tolist(), starts.tolist(), ends.tolist(), strict=True
    ):
        image[top:bottom, left:right] += stamp[y0:y1, x0:x1]


def _visible_sizes(shapes: Shapes, flux: FloatArray, psf: Psf, noise: float) -> AnyArray:
    """Return the side of each object's stamp: beyond it galaxy and PSF are fainter than what is visible."""
    edge = np.array(_SIZES[:-1]) / 2.0
    brightness = flux[:, None] * (_sersic_brightness(shapes, edge) + _psf_brightness(psf, edge))
    return np.asarray(np.array(_SIZES)[(brightness > _INVISIBLE * noise).sum(axis=1)])


def _sersic_brightness(shapes: Shapes, distance: FloatArray) -> FloatArray:
    """Return the brightness of unit flux along the major axis, shape (n, n_distances); 0 for stars."""
    n, radius = shapes.sersic_n[:, None], np.maximum(shapes.half_light_radius, 1e-3)[:, None]
    b = gammaincinv(2 * n, 0.5)
    log_norm = 2 * n * np.log(b) - gammaln(2 * n) - np.log(2 * np.pi * n * radius**2 * shapes.axis_ratio[:, None])
    return np.asarray(np.exp(log_norm - b * (distance / radius) ** (1 / n)))


def _psf_brightness(psf: Psf, distance: FloatArray) -> FloatArray:
    """Return the brightness of a PSF of unit flux at distances or beyond, shape (n or 1, n_distances)."""
    if isinstance(psf, PixelPsf):
        image = psf.images[0] / psf.sampling**2
        y, x = (psf.sampling * (np.arange(n) - n // 2) for n in image.shape)
        radius = np.maximum(np.abs(x), np.abs(y)[:, None])
        return np.array([[np.max(image[radius >= one], initial=0.0) for one in distance]])
    beta = psf.beta[:, None]
    alpha2 = (psf.fwhm[:, None] / 2) ** 2 / (2 ** (1 / beta) - 1)
    return np.asarray((beta - 1) / (np.pi * alpha2) * (1 + distance**2 / alpha2) ** -beta)
