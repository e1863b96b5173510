"""The companions of an SDSS frame: sky and noise, fpM masks, psField PSFs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from lumos.conventions import Float32Array, FloatArray
from lumos.errors import LumosDataError
from lumos.flags import MaskPlane
from lumos.images.fits.file import fits_context, open_fits
from lumos.images.scatter import clipped_scatter

__all__ = ["SDSS_BANDS", "FrameNoise", "read_frame_noise", "read_span_mask"]

SDSS_BANDS = "ugriz"


@dataclass(frozen=True)
class FrameNoise:
    """What the sky and calibration of a frame say about its noise.

    Parameters
    ----------
    variance : float32 array, shape (ny, nx)
        Variance of the sky and the read-out, nanomaggies squared; the sources' photons are not in it.
    sky : float32 array, shape (ny, nx)
        Sky that was subtracted, nanomaggies.
    gain : float
        Electrons per nanomaggy.
    read_noise : float
        Read noise and dark current, electrons.
    origin : str
        How the variance was made, in words.
    """

    variance: Float32Array
    sky: Float32Array
    gain: float
    read_noise: float
    origin: str


def read_frame_noise(hdul: Any, path: Path, photofield: Path, data: Float32Array) -> FrameNoise:  # noqa: ANN401
    """Rebuild the sky of a calibrated frame and the noise that goes with it.

    With the sky s in DN (interpolated from a coarse grid), the gain g in electrons per DN, the dark variance d
    in DN squared and c nanomaggies per DN: var = (s / g + d) c^2. The tabulated gain is one number for a CCD
    of two amplifiers, off by up to 15 % in variance; so each half is scaled to the scatter of its own pixels.

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        The frame: HDU 1 the calibration vector, HDU 2 the sky.
    path : Path
        Its file, for messages.
    photofield : Path
        photoField file of the run and camera column.
    data : float32 array, shape (ny, nx)
        Pixels of the frame, finite.

    Returns
    -------
    FrameNoise
        Variance, sky, gain and read noise of the frame.

    Raises
    ------
    LumosDataError
        If a file is damaged, or the field is not in ``photofield``.

    References
    ----------
    .. [1] SDSS data model, "frame" (https://data.sdss.org/datamodel/files/BOSS_PHOTOOBJ/frames).
    """
    with fits_context(path):
        ny, nx = hdul[0].shape
        calibration = np.array(hdul[1].data, dtype=np.float64)
        row = hdul[2].data[0]
        grid = np.array(row["ALLSKY"], dtype=np.float64)
        x, y = np.array(row["XINTERP"], dtype=np.float64), np.array(row["YINTERP"], dtype=np.float64)
        field, band = int(hdul[3].data["FIELD"][0]), str(hdul[3].data["FILTER"][0]).strip()
    if calibration.shape != (nx,) or x.shape != (nx,) or y.shape != (ny,):
        raise LumosDataError(f"{path}: calibration {calibration.shape} and sky ({len(y)}, {len(x)}) of ({ny}, {nx})")
    gain, dark_variance = _gain_and_dark(photofield, field, band)
    # Beyond the outermost grid points the sky is taken as constant.
    where = np.meshgrid(y, x, indexing="ij")
    sky = map_coordinates(grid, where, order=1, mode="nearest")
    variance = (sky / gain + dark_variance) * calibration**2
    factors = _match_scatter(variance, data)
    return FrameNoise(
        variance=variance.astype(np.float32),
        sky=(sky * calibration).astype(np.float32),
        gain=gain / float(np.median(calibration)),
        read_noise=float(np.sqrt(dark_variance)) * gain,
        origin=f"sky table and {photofield.name}, sigma of the two halves scaled by {factors[0]:.3f}, {factors[1]:.3f}",
    )


def _match_scatter(variance: FloatArray, data: Float32Array) -> tuple[float, float]:
    """Scale the variance of the left and right half to the scatter of the pixels, in place.

    Differences of pixels two columns apart hold no smooth background, and sources are clipped.
    A factor beyond 25 % tells of something else than a gain (a field full of light): it is not applied.
    """
    middle = data.shape[1] // 2
    factors = []
    for half in (np.s_[:, :middle], np.s_[:, middle:]):
        pixels, nominal = data[half], variance[half]
        pull = (pixels[:, 2:] - pixels[:, :-2]) / np.sqrt(nominal[:, 2:] + nominal[:, :-2])
        factor = clipped_scatter(pull)
        factors.append(factor if 0.8 <= factor <= 1.25 else 1.0)
        variance[half] *= factors[-1] ** 2
    return factors[0], factors[1]


def _gain_and_dark(path: Path, field: int, band: str) -> tuple[float, float]:
    """Return the gain in electrons per DN and the dark variance in DN squared of one field."""
    with open_fits(path) as hdul, fits_context(path):
        table = hdul[1].data
        rows = np.flatnonzero(table["FIELD"] == field)
        if len(rows) != 1 or band not in SDSS_BANDS:
            raise LumosDataError(f"{path}: {len(rows)} rows for field {field} (band {band!r}), allowed: 1")
        gain = float(table["GAIN"][rows[0]][SDSS_BANDS.index(band)])
        dark_variance = float(table["DARK_VARIANCE"][rows[0]][SDSS_BANDS.index(band)])
    if not (gain > 0 and dark_variance >= 0):
        raise LumosDataError(f"{path}: field {field}, band {band}: gain {gain} and dark variance {dark_variance}")
    return gain, dark_variance


def read_span_mask(
    path: Path, planes: Mapping[str, tuple[int | str, ...]], shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Read the mask of a frame from its fpM file.

    Each HDU is one plane, a table of objects; an object is a list of spans, three big-endian 16-bit integers
    each: row, first and last column.

    Parameters
    ----------
    path : Path
        FITS file fpM of the frame.
    planes : mapping
        Names of SDSS planes (without ``S_MASK_``) for each canonical plane.
    shape : tuple of int
        Shape of the frame, (ny, nx).

    Returns
    -------
    int32 array, shape (ny, nx)
        Bits of :class:`lumos.flags.MaskPlane`.

    Raises
    ------
    LumosDataError
        If the file is damaged, of another shape, or lacks a plane.
    """
    mask = np.zeros(shape, dtype=np.int32)
    with open_fits(path) as hdul, fits_context(path):
        header_shape = (int(hdul[0].header["MASKROWS"]), int(hdul[0].header["MASKCOLS"]))
        if header_shape != shape:
            raise LumosDataError(f"{path}: mask of shape {header_shape}, image of shape {shape}")
        legend = {str(row[1]).removeprefix("S_MASK_"): int(row[2]) + 1 for row in hdul[len(hdul) - 1].data}
        for plane, names in planes.items():
            for name in names:
                if name not in legend:
                    raise LumosDataError(f"{path}: no mask plane {name!r}, it has {sorted(legend)}")
                _paint(mask, hdul[legend[str(name)]], path, int(MaskPlane[plane]))
    return mask


def _paint(mask: NDArray[np.int32], hdu: Any, path: Path, bit: int) -> None:  # noqa: ANN401
    """Set a bit on every pixel of every span of one plane."""
    if len(hdu.data) == 0:
        return
    raw = b"".join(np.asarray(spans, dtype=np.uint8).tobytes() for spans in hdu.data["s"])
    spans = np.frombuffer(raw, dtype=">i2").reshape(-1, 3).astype(np.int64)
    row, first, last = spans[:, 0], np.maximum(spans[:, 1], 0), np.minimum(spans[:, 2], mask.shape[1] - 1)
    keep = (row >= 0) & (row < mask.shape[0]) & (last >= first)
    row, first, last = row[keep], first[keep], last[keep]
    if len(spans) != int(np.sum(hdu.data["nspan"])):
        raise LumosDataError(f"{path}: {len(spans)} spans, {int(np.sum(hdu.data['nspan']))} announced")
    # +1 where a span begins and -1 after it ends: the running sum is positive on masked pixels.
    edges = np.zeros((mask.shape[0], mask.shape[1] + 1), dtype=np.int32)
    np.add.at(edges, (row, first), 1)
    np.add.at(edges, (row, last + 1), -1)
    mask[np.cumsum(edges, axis=1)[:, :-1] > 0] |= bit
