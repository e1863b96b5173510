"""Background stamps in memory, with all that is known of them."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from lumos.conventions import AnyArray, BoolArray, Float32Array, FloatArray, IntArray
from lumos.flags import good_pixels
from lumos.psfs import Psf

__all__ = ["BackgroundStamps"]


@dataclass(frozen=True)
class BackgroundStamps:
    """n background stamps with all that is known of them.

    Parameters
    ----------
    data : float32 array, shape (n, side, side)
        Pixels, image units, finite; the middle pixel is ``side // 2`` on both axes.
    mask : uint8 array, shape (n, side, side)
        Bits of :class:`lumos.flags.MaskPlane`.
    variance : float32 array, shape (n, side, side), or None
        Variance per pixel without sources; NaN for stamps without a map, None if none has one.
    sky_variance : float array, shape (n,)
        Variance of a blank pixel, image units squared.
    gain, zeropoint, exposure_time, pixel_scale : float array, shape (n,)
        Of the exposure; NaN where unknown.
    psf_fwhm : float array, shape (n,)
        FWHM of the PSF, pixels.
    psfs : tuple of (int array, Psf)
        PSFs by kind, each with the stamps that it belongs to; every stamp once.
    exposure, band, state : int array, shape (n,)
        Entries of the pool's ``exposures``, ``bands`` and ``states``.
    ccd_x, ccd_y : float array, shape (n,)
        CCD position of the middle pixel, 0-based pixels.
    ccd_x_norm, ccd_y_norm : float array, shape (n,)
        The same, (x + 0.5) / width and (y + 0.5) / height.
    """

    data: Float32Array
    mask: AnyArray
    variance: Float32Array | None
    sky_variance: FloatArray
    gain: FloatArray
    zeropoint: FloatArray
    exposure_time: FloatArray
    pixel_scale: FloatArray
    psf_fwhm: FloatArray
    psfs: tuple[tuple[IntArray, Psf], ...]
    exposure: IntArray
    band: IntArray
    state: IntArray
    ccd_x: FloatArray
    ccd_y: FloatArray
    ccd_x_norm: FloatArray
    ccd_y_norm: FloatArray

    def __len__(self) -> int:
        return len(self.data)

    @property
    def side(self) -> int:
        """Return the side of the stamps, pixels."""
        return int(self.data.shape[1])

    def crop(self, side: int, rng: np.random.Generator) -> Self:
        """Cut a smaller stamp at a random place out of each.

        Parameters
        ----------
        side : int
            Side of the new stamps, pixels; even, at most that of the stamps.
        rng : numpy.random.Generator
            Draws two numbers per stamp.

        Returns
        -------
        BackgroundStamps
            The n smaller stamps; the places on the CCD are those of their middle pixels.
        """
        y, x = rng.integers(self.side - side + 1, size=(2, len(self)))
        pixels = np.arange(side)
        at = (np.arange(len(self))[:, None, None], (y[:, None] + pixels)[:, :, None], (x[:, None] + pixels)[:, None])
        shift_x, shift_y = (offset + side // 2 - self.side // 2 for offset in (x, y))
        return replace(
            self,
            data=self.data[at],
            mask=self.mask[at],
            variance=None if self.variance is None else self.variance[at],
            ccd_x=self.ccd_x + shift_x,
            ccd_y=self.ccd_y + shift_y,
            ccd_x_norm=self.ccd_x_norm * (1 + shift_x / (self.ccd_x + 0.5)),
            ccd_y_norm=self.ccd_y_norm * (1 + shift_y / (self.ccd_y + 0.5)),
        )

    @property
    def good(self) -> BoolArray:
        """Return which pixels may be used, bool array of shape (n, side, side)."""
        return good_pixels(self.mask)
