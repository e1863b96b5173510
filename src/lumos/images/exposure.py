"""An exposure in memory: pixels, mask, variance, WCS and the numbers that calibrate them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from astropy.wcs import WCS

from lumos.conventions import AnyArray, Float32Array
from lumos.images.psf.models import PsfModel

__all__ = ["Exposure"]


@dataclass(frozen=True)
class Exposure:
    """One CCD of one exposure, checked and ready to measure.

    Parameters
    ----------
    exposure_id, detector : str
        Identifiers, safe as file names.
    survey, band, state : str
        Survey name, band and camera state (``""`` where the survey has none).
    data : float32 array, shape (ny, nx)
        Native-endian, C-contiguous, finite; image units.
    mask : int32 array, shape (ny, nx)
        Bits of :class:`lumos.flags.MaskPlane`; 0 where the pixel is good.
    wcs : astropy.wcs.WCS
        Celestial and invertible over the image.
    pixel_scale : float
        Arcsec per pixel at the centre of the image.
    psf : PsfModel or None
        PSF as a function of position; None where none is known.
    variance : float32 array, shape (ny, nx), or None
        Variance per pixel in image units squared.
    variance_includes_sources : bool
        True where ``variance`` holds the Poisson noise of the sources too.
    gain : float
        Electrons per image unit; NaN where unknown.
    read_noise : float
        Electrons per pixel; 0 where unknown.
    sky : float32 array, broadcastable to (ny, nx), or None
        Sky level in image units that was subtracted from ``data`` (its photons still make noise);
        None where the sky is still in ``data`` or where it is unknown.
    noise_realization : float32 array, shape (ny, nx), or None
        Image of noise alone, as correlated as that of ``data``; None where there is none.
    sky_subtracted : bool
        True where ``data`` no longer holds the sky.
    exposure_time : float
        Seconds; NaN where unknown.
    zeropoint, zeropoint_err : float
        AB magnitude of 1 image unit and its error; NaN where unknown.
    path : Path
        File that the pixels came from.
    files : tuple of Path
        Every file that was read: image, mask, variance, sky, PSF.
    provenance : mapping
        Plain facts for the output: files read with their sha256, choices made.
    """

    exposure_id: str
    detector: str
    survey: str
    band: str
    state: str
    data: Float32Array
    mask: AnyArray
    wcs: WCS
    pixel_scale: float
    psf: PsfModel | None
    variance: Float32Array | None = None
    variance_includes_sources: bool = False
    gain: float = float("nan")
    read_noise: float = 0.0
    sky: Float32Array | None = None
    noise_realization: Float32Array | None = None
    sky_subtracted: bool = True
    exposure_time: float = float("nan")
    zeropoint: float = float("nan")
    zeropoint_err: float = float("nan")
    path: Path = Path()
    files: tuple[Path, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the image, (ny, nx)."""
        return self.data.shape[0], self.data.shape[1]
