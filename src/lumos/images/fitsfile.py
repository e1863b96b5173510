"""Open FITS files and read their images, refusing damaged ones by name."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import error as zlib_error

import numpy as np
from astropy.io import fits

from lumos.conventions import AnyArray, Float32Array
from lumos.errors import LumosDataError

__all__ = ["file_stem", "fits_context", "open_fits", "read_float_image", "read_integer_image"]

_LOGGER = logging.getLogger(__name__)
#: More than the largest CCD or coadd tile in use (4 GiB as float32): a larger header is damaged or hostile.
_MAX_PIXELS = 2**30
#: Warnings of astropy that mean wrong data.
_DANGEROUS = re.compile(r"truncated|checksum verification failed|datasum verification failed", re.IGNORECASE)
#: Everything that astropy and the decompressors raise on damaged files.
_DAMAGE = (
    OSError,
    EOFError,
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    MemoryError,
    fits.VerifyError,
    zlib_error,
)


def file_stem(path: Path) -> str:
    """Return the name of a file without the suffixes of FITS and of compression.

    Parameters
    ----------
    path : Path
        E.g. ``frame-g-000094-1-0012.fits.bz2``.

    Returns
    -------
    str
        E.g. ``frame-g-000094-1-0012``.
    """
    return re.sub(r"(\.(fits|fit|fts))?(\.(gz|bz2|fz|Z))?$", "", path.name, flags=re.IGNORECASE)


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
        If the file is damaged, truncated or fails its checksum.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except LumosDataError:
            raise
        except _DAMAGE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise LumosDataError(f"{path}: cannot be read as FITS (damaged or truncated?): {reason}") from error
    for warning in caught:
        text = " ".join(str(warning.message).split())
        if _DANGEROUS.search(text):
            raise LumosDataError(f"{path}: damaged file: {text}")
        _LOGGER.debug("%s: %s", path, text)


@contextmanager
def open_fits(path: Path, *, verify_checksums: bool = True) -> Iterator[fits.HDUList]:
    """Open a FITS file (plain, tile-compressed, ``.fz``, ``.gz``, ``.bz2``) after checking all its headers.

    Parameters
    ----------
    path : Path
        FITS file.
    verify_checksums : bool
        Verify CHECKSUM and DATASUM of every HDU that has them, once per file and process.

    Yields
    ------
    astropy.io.fits.HDUList
        Headers loaded, images not.

    Raises
    ------
    LumosDataError
        If the file is missing, damaged or truncated, declares an absurd size, or fails a checksum.
    """
    if not path.is_file():
        raise LumosDataError(f"{path}: no such file")
    hdul: fits.HDUList | None = None
    try:
        # One open tells the size before anything is allocated; only then are the pixels touched.
        with fits_context(path):
            hdul = fits.open(path)
            has_checksums = _check_headers(hdul, path)
        if verify_checksums and has_checksums:
            status = path.stat()
            _verify_checksums(path, status.st_size, status.st_mtime_ns)
        yield hdul
    finally:
        if hdul is not None:
            hdul.close()


def _check_headers(hdul: fits.HDUList, path: Path) -> bool:
    """Read every header, refuse those whose images could not be real, and tell whether there are checksums."""
    index, has_checksums = 0, False
    while True:
        try:
            header = hdul[index].header
        except IndexError:
            return has_checksums
        # The checksums of a compressed image stand in the table that holds it, out of sight here.
        has_checksums |= "CHECKSUM" in header or "DATASUM" in header or isinstance(hdul[index], fits.CompImageHDU)
        sizes = [int(header.get(f"NAXIS{axis + 1}", 0)) for axis in range(int(header.get("NAXIS", 0)))]
        n_pixels = 1
        for size in sizes:
            n_pixels *= size
        if sizes and (min(sizes) < 0 or n_pixels > _MAX_PIXELS):
            raise LumosDataError(f"{path}[{index}]: image of {sizes} pixels, allowed: at most {_MAX_PIXELS} in all")
        index += 1


@lru_cache(maxsize=1024)
def _verify_checksums(path: Path, size: int, mtime_ns: int) -> None:  # noqa: ARG001 (size and mtime are the cache key)
    with fits_context(path), fits.open(path, checksum=True) as hdul:
        len(hdul)  # loads, and so verifies, every HDU


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
    data = hdu.data
    if data is None or data.ndim != 2:
        shape = None if data is None else data.shape
        raise LumosDataError(f"{path}[{hdu.name}]: expected a two-dimensional image, got shape {shape}")
    return np.asarray(data)
