"""Checksums of FITS extensions."""

from typing import IO

import numpy as np

from lumos.scan import CHUNK, RawHdu

__all__ = ["checksum_report"]


def checksum_report(stream: IO[bytes], hdus: list[RawHdu]) -> tuple[list[str], list[int]]:
    """Verify CHECKSUM and DATASUM on the bytes as they are stored, compressed images included.

    Parameters
    ----------
    stream : binary file
        Plain bytes of the file.
    hdus : list of RawHdu
        Units of the file as :func:`scan` returns them.

    Returns
    -------
    failing : list of str
        E.g. ``CHECKSUM of HDU 1``.
    without : list of int
        HDUs that have no CHECKSUM.
    """
    failing: list[str] = []
    without = [index for index, hdu in enumerate(hdus) if "CHECKSUM" not in hdu.sums]
    for index, hdu in enumerate(hdus):
        if not hdu.sums:
            continue
        data = _ones_complement(stream, hdu.data_start, hdu.end)
        if hdu.sums.get("DATASUM", str(data)) != str(data):
            failing.append(f"DATASUM of HDU {index}")
        if "CHECKSUM" in hdu.sums:
            total = _fold(data + _ones_complement(stream, hdu.start, hdu.data_start))
            if total not in {0, 0xFFFFFFFF}:
                failing.append(f"CHECKSUM of HDU {index}")
    return failing, without


def _ones_complement(stream: IO[bytes], start: int, end: int) -> int:
    """Return the 32-bit ones' complement sum of a range of bytes, whose length is a multiple of 4."""
    stream.seek(start)
    total = 0
    while start < end and (chunk := stream.read(min(CHUNK, end - start))):
        start += len(chunk)
        words = np.frombuffer(chunk.ljust(-(-len(chunk) // 4) * 4, b"\0"), dtype=">u4")
        total += int(words.sum(dtype=np.uint64))
    return _fold(total)


def _fold(total: int) -> int:
    """Add the carries of a sum back in."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
