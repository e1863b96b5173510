"""Which exposures a catalogue is made from, so that each part of the sky that was exposed has its objects."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from astropy.wcs import WCS

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.images.wcs import pixel_to_sky, sky_to_pixel, unit_vectors
from lumos.surveys import Survey

__all__ = ["Pointings", "all_of", "choose_pointings"]

logger = logging.getLogger(__name__)

#: An exposure belongs to those that show at least this share of its sky.
_COVERED = 0.5
#: Points along each side of a CCD at which it is asked what other exposures show of it.
_POINTS = 12
#: With so many exposures of its band and sky, the one that the catalogue is made from is not measured.
_ENOUGH = 3
#: Sources are counted above so many times the scatter of the pixels.
_THRESHOLD = 5.0


@dataclass(frozen=True)
class Pointings:
    """What a catalogue is made from, and what is measured with it.

    Parameters
    ----------
    chosen : tuple of Path
        One exposure of each part of the sky.
    bands : tuple of str
        Their bands, each once, that of the first exposure first.
    measured : tuple of Path
        All exposures but those of ``chosen`` whose band has three or more of the same sky.
    """

    chosen: tuple[Path, ...]
    bands: tuple[str, ...]
    measured: tuple[Path, ...]


@dataclass(frozen=True)
class _Ccd:
    """A CCD's WCS, shape, and points all over it: unit vectors of its middle (3,) and ra, dec (2, n)."""

    wcs: WCS
    shape: tuple[int, int]
    middle: FloatArray
    reach: float
    points: FloatArray


@dataclass(frozen=True)
class _Seen:
    """An exposure: its band, CCDs, whether a PSF is known, and how many sources it shows."""

    path: Path
    band: str
    ccds: tuple[_Ccd, ...]
    has_psf: bool
    n_sources: int

    def covered(self, others: Sequence["_Seen"]) -> float:
        """Return the share of its points that lie on other exposures."""
        shown = [np.zeros(ccd.points.shape[1], dtype=np.bool_) for ccd in self.ccds]
        for number, ccd in enumerate(self.ccds):
            for other in (one for seen in others for one in seen.ccds):
                if np.linalg.norm(other.middle - ccd.middle) <= ccd.reach + other.reach:
                    ra, dec = ccd.points
                    shown[number] |= sky_to_pixel(other.wcs, ra, dec, other.shape)[2]
        return float(np.concatenate(shown).mean())


def choose_pointings(files: Sequence[Path], survey: Survey, psf_dir: Path | None) -> Pointings:
    """Choose the exposures that a catalogue is made from.

    Parameters
    ----------
    files : sequence of Path
        Exposures; one that cannot be read is told and left to whoever measures it.
    survey : Survey
        How to read them.
    psf_dir : Path or None
        Folder of PSFs.

    Returns
    -------
    Pointings
        The exposure that shows most sources; as long as there are exposures of whose sky less than half is shown by
        those that are chosen, the one of them that shows most, of the same band if there is one.

    Raises
    ------
    LumosDataError
        If none can be read, or of none a PSF is known.
    """
    exposures = _look(files, survey, psf_dir)
    left = [seen for seen in exposures if seen.has_psf]
    if not left:
        raise LumosDataError(f"{all_of(files)}: no PSF is known; give --psf")
    chosen: list[_Seen] = []
    while left:
        alike = [seen for seen in left if chosen and seen.band == chosen[0].band] or left
        chosen.append(max(alike, key=lambda seen: seen.n_sources))
        left = [seen for seen in left if seen is not chosen[-1] and seen.covered(chosen) < _COVERED]
    left_out = {
        one.path
        for one in chosen
        if sum(seen.band == one.band and seen.covered([one]) >= _COVERED for seen in exposures) >= _ENOUGH
    }
    return Pointings(
        tuple(one.path for one in chosen),
        tuple(dict.fromkeys(one.band for one in chosen)),
        tuple(path for path in files if path not in left_out),
    )


def all_of(files: Sequence[Path]) -> str:
    """Name files in an error that concerns all of them.

    Parameters
    ----------
    files : sequence of Path
        One or more.

    Returns
    -------
    str
        The first, and how many more there are.
    """
    return f"{files[0]} and {len(files) - 1} others" if len(files) > 1 else str(files[0])


def _look(files: Sequence[Path], survey: Survey, psf_dir: Path | None) -> list[_Seen]:
    """Look at exposures; memory holds the pixels of one CCD at a time."""
    found = []
    for path in files:
        ccds, bands, known, n_sources = [], [], False, 0
        try:
            for exposure in read_exposure(path, survey, psf_dir=psf_dir):
                ccds.append(_ccd(exposure))
                bands.append(exposure.band)
                if exposure.psf is not None:
                    known, n_sources = True, n_sources + _n_sources(exposure)
        except LumosError as error:
            logger.warning("%s", error)
        if ccds:
            found.append(_Seen(path, bands[0], tuple(ccds), known, n_sources))
    if not found:
        raise LumosDataError(f"{all_of(files)}: not read; the warnings say why")
    return found


def _ccd(exposure: Exposure) -> _Ccd:
    ny, nx = exposure.shape
    cell = (np.arange(_POINTS) + 0.5) / _POINTS
    x, y = (axis.ravel() for axis in np.meshgrid(nx * cell - 0.5, ny * cell - 0.5))
    points = pixel_to_sky(exposure.wcs, x, y)
    points = points[:, np.isfinite(points).all(axis=0)]
    vectors = unit_vectors(*points)
    middle = vectors.mean(axis=0)
    # The outermost points lie half a cell within the image.
    reach = 1.2 * float(np.linalg.norm(vectors - middle, axis=1).max(initial=0.0))
    return _Ccd(exposure.wcs, exposure.shape, middle, reach, points)


def _n_sources(exposure: Exposure) -> int:
    """Return how many sources stand out of the sky."""
    bad = ~good_pixels(exposure.mask)
    image = np.ascontiguousarray(exposure.data, dtype=np.float32)
    try:
        background = sep.Background(image, mask=bad)
        sep.set_extract_pixstack(max(sep.get_extract_pixstack(), image.size))
        return len(sep.extract(image - background.back(), _THRESHOLD, err=background.globalrms, mask=bad))
    except Exception as error:  # noqa: BLE001 (sep raises bare exceptions)
        logger.warning("%s: sources not counted: %s", exposure.path, error)
        return 0
