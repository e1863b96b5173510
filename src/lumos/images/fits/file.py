"""Open FITS files and read their images, refusing damaged ones by name."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.base import _CorruptedHDU

from lumos.conventions import AnyArray, Float32Array
from lumos.errors import LumosDataError, foreign_reader
from lumos.images.fits.checksums import checksum_report
from lumos.scan import open_bytes, scan

__all__ = [
    "Checksum",
    "card_value",
    "file_stem",
    "fits_context",
    "has_extension",
    "image_shape",
    "open_fits",
    "read_float_image",
    "read_integer_image",
]

#: What a checksum that fails means.
Checksum = Literal["warn", "require", "ignore"]

_LOGGER = logging.getLogger(__name__)
#: Warnings of astropy that mean wrong data.
_DANGEROUS = re.compile(r"truncated", re.IGNORECASE)


def file_stem(path: Path) -> str:
    """Return the name of a file without the suffixes of FITS and of compression.

    Parameters
    ----------
    path : Path
        File with its suffixes, as ``frame-g-000094-1-0012.fits.bz2``.

    Returns
    -------
    str
        Name without folder and suffixes, as ``frame-g-000094-1-0012``.
    """
    return re.sub(r"(\.(fits|fit|fts))?(\.(gz|bz2|xz|zip|fz))?$", "", path.name, flags=re.IGNORECASE)


@contextmanager
def fits_context(path: Path) -> Iterator[None]:
    """Turn astropy's errors and dangerous warnings about a file into errors that name it.

    Harmless warnings (deprecated keywords and the like) go to the log. Not to be held across a ``yield``,
    because it changes the process-wide warning filters while it is open.

    Parameters
    ----------
    path : Path
        File that is being read.

    Yields
    ------
    None
        While the file is read.

    Raises
    ------
    LumosDataError
        If the file is damaged or truncated.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with foreign_reader(f"{path}: cannot be read as FITS, damaged or truncated?"):
            yield
    for warning in caught:
        text = " ".join(str(warning.message).split())
        if _DANGEROUS.search(text):
            raise LumosDataError(f"{path}: damaged file: {text}")
        _LOGGER.debug("%s: %s", path, text)


@contextmanager
def open_fits(path: Path, *, checksum: Checksum = "warn") -> Iterator[fits.HDUList]:
    """Open a FITS file (plain, tile-compressed, or packed with gzip, bzip2, xz or zip) after checking all of it.

    Parameters
    ----------
    path : Path
        FITS file, which may be compressed.
    checksum : {"warn", "require", "ignore"}
        What is done about CHECKSUM and DATASUM: name those that fail in the log, once per file and process (most
        cutouts carry the sums of the image they were cut from); refuse a file in which one fails or an HDU has
        none; or nothing. Where they are required, the file must also hold all extensions that NEXTEND announces;
        else a file of one extension may be a cutout of one with more.

    Yields
    ------
    astropy.io.fits.HDUList
        Headers loaded, images not.

    Raises
    ------
    LumosDataError
        If the file is missing, no regular file, damaged or truncated, declares an absurd size, lacks extensions
        that NEXTEND announces, or its checksums are required and do not hold.
    """
    with open_bytes(path) as (stream, unpacked):
        # The bytes tell the size before anything is allocated; only then does astropy see the file.
        raw = scan(stream, path)
        if checksum == "require" or (checksum == "warn" and any(hdu.sums for hdu in raw)):
            status = path.stat()
            _check_sums(path, status.st_size, status.st_mtime_ns, required=checksum == "require")
        hdul: fits.HDUList | None = None
        try:
            with fits_context(path):
                hdul = fits.open(stream, memmap=False) if unpacked else fits.open(path)
                _check_headers(hdul, path, len(raw), strict=checksum == "require")
            yield hdul
        finally:
            if hdul is not None:
                hdul.close()


def _check_headers(hdul: fits.HDUList, path: Path, n_found: int, *, strict: bool) -> None:
    """Read every header and refuse a file that astropy does not read to its end."""
    n_read = len(hdul)
    if n_read != n_found:
        raise LumosDataError(f"{path}: damaged: {n_found} HDUs, of which only {n_read} can be read")
    for index, hdu in enumerate(hdul):
        if isinstance(hdu, _CorruptedHDU) or not (hasattr(hdu, "shape") or not hdu.is_image):
            raise LumosDataError(f"{path}[{index}]: damaged header")
        if not isinstance(hdu.name, str) or not isinstance(getattr(hdu, "ver", 1), int):
            raise LumosDataError(f"{path}[{index}]: EXTNAME {hdu.name!r}, EXTVER {hdu.ver!r}, allowed: text, integer")
    announced = hdul[0].header.get("NEXTEND", 0)
    if isinstance(announced, int) and announced > n_read - 1:
        # One image that is left of many is what cutouts look like; two or more are a file that lost its end.
        text = f"{path}: NEXTEND announces {announced} extensions, the file has {n_read - 1}"
        if strict or n_read > 2:
            raise LumosDataError(f"{text} (cut off?)")
        _warn_once(f"{text}: a cutout, or cut off")


@lru_cache(maxsize=1024)
def _warn_once(text: str) -> None:
    _LOGGER.warning(text)


@lru_cache(maxsize=1024)
def _check_sums(path: Path, size: int, mtime_ns: int, *, required: bool) -> None:  # noqa: ARG001 (the cache's key)
    """Verify the checksums of a file, once per file and process."""
    with open_bytes(path) as (stream, _):
        failing, without = checksum_report(stream, scan(stream, path))
    if required and (failing or without):
        what = f"{', '.join(failing)} failed" if failing else f"no CHECKSUM in HDU {', '.join(map(str, without))}"
        raise LumosDataError(f"{path}: {what}, the survey's image.checksum is 'require'")
    if failing:
        _LOGGER.warning("%s: %s failed: changed since it was written, or damaged", path, ", ".join(failing))


def has_extension(path: Path, name: str) -> bool:
    """Return whether a file has an extension of a name.

    Parameters
    ----------
    path : Path
        FITS file, which may be compressed.
    name : str
        EXTNAME, in any case.

    Returns
    -------
    bool
        True where there is one or more.

    Raises
    ------
    LumosDataError
        If the file cannot be read.
    """
    with open_fits(path, checksum="ignore") as hdul:
        return any(hdu.name == name.upper() for hdu in hdul)


def image_shape(hdu: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Return the shape of an image without leading axes of length 1 (``NAXIS3 = 1``).

    Parameters
    ----------
    hdu : astropy HDU
        HDU of an open file.

    Returns
    -------
    tuple of int
        Two numbers, (ny, nx), for what can be an exposure; empty for a table or an HDU without data.
    """
    shape = tuple(int(length) for length in hdu.shape) if hdu.is_image else ()
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def read_float_image(hdu: Any, path: Path) -> Float32Array:  # noqa: ANN401
    """Read a two-dimensional image as native, contiguous float32.

    Parameters
    ----------
    hdu : astropy image HDU
        HDU of an open file.
    path : Path
        Its file, for messages.

    Returns
    -------
    float32 array, shape (ny, nx)
        A copy; the HDU holds no pixels afterwards. Values beyond float32 become infinite.

    Raises
    ------
    LumosDataError
        If the pixels cannot be read.
    """
    with fits_context(path), np.errstate(over="ignore", invalid="ignore"):
        data = np.array(_pixels(hdu, path), dtype=np.float32, order="C", copy=True)
        del hdu.data
    return data


def read_integer_image(hdu: Any, path: Path) -> AnyArray:  # noqa: ANN401
    """Read a two-dimensional mask as int64.

    Parameters
    ----------
    hdu : astropy image HDU
        HDU of an open file.
    path : Path
        Its file, for messages.

    Returns
    -------
    int64 array, shape (ny, nx)
        A copy; the HDU holds no pixels afterwards.

    Raises
    ------
    LumosDataError
        If the pixels cannot be read or are no integers.
    """
    with fits_context(path):
        raw = np.array(_pixels(hdu, path))
        del hdu.data
    if raw.dtype.kind == "f" and not np.array_equal(raw, np.rint(raw)):
        raise LumosDataError(f"{path}[{hdu.name}]: a mask must hold integers")
    return raw.astype(np.int64)


def _pixels(hdu: Any, path: Path) -> AnyArray:  # noqa: ANN401
    data, shape = hdu.data, image_shape(hdu)
    if data is None or len(shape) != 2:
        raise LumosDataError(f"{path}[{hdu.name}]: expected a two-dimensional image, got shape {shape or None}")
    return np.asarray(data).reshape(shape)


def card_value(header: fits.Header, key: str, path: Path) -> Any:  # noqa: ANN401
    """Return the value of a card, refusing one that is malformed.

    Parameters
    ----------
    header : astropy.io.fits.Header
        That has the card.
    key : str
        Keyword of the card, for messages.
    path : Path
        File, for messages.

    Returns
    -------
    object
        Text, number, truth value or None.

    Raises
    ------
    LumosDataError
        If the value is none of those that FITS knows.
    """
    try:
        return header[key]
    except Exception as error:
        # astropy reports a malformed card through several classes without a common base.
        reason = " ".join(str(error).split())
        raise LumosDataError(f"{path}: {key}: the header card cannot be read: {reason}") from error
