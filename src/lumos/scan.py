"""Walk through the bytes of a FITS file before anything trusts them: sizes, extensions, checksums."""

import bz2
import gzip
import lzma
import math
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zlib import error as zlib_error

from lumos.errors import LumosDataError

__all__ = ["CHUNK", "MAX_PIXELS", "MAX_UNPACKED", "RawHdu", "open_bytes", "scan"]

#: More than the largest CCD or coadd tile in use (4 GiB as float32): a larger header is damaged or hostile.
MAX_PIXELS = 2**30
#: Largest size of a compressed file once unpacked, bytes.
MAX_UNPACKED = 2**31
#: A header has at most this many cards (the longest in use, of coadds with their history, have 20 000).
_MAX_CARDS = 100_000
_MAX_HDUS = 10_000
#: Columns of a table, by the FITS standard.
_MAX_COLUMNS = 999
#: Tapes pad a file to a record of ten blocks; more than this is no padding.
_MAX_PADDING = 28800
_BLOCK, _CARD = 2880, 80
CHUNK = 2**20
#: Pixels of a compressed image for each byte that it is stored in, above some number of pixels.
_MOST_PACKED, _NEVER_A_BOMB = 100_000, 2**26
#: Unpacked files up to this size stay in memory.
_IN_MEMORY = 2**28
_BITPIX = frozenset({8, 16, 32, 64, -32, -64})
_KINDS = frozenset({"", "IMAGE", "BINTABLE", "TABLE", "A3DTABLE", "IUEIMAGE", "FOREIGN", "DUMP"})
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"\x1f\x9d": "Z"}
_SIZES = re.compile(rb"(Z?NAXIS\d*|Z?BITPIX|ZTILE\d+|PCOUNT|GCOUNT|TFIELDS)\s*$")


@dataclass(frozen=True)
class RawHdu:
    """One HDU of a file, as its bytes say.

    Parameters
    ----------
    start, data_start, end : int
        Offsets of the header, of the data and of the end of the padded data.
    sums : mapping
        Values of CHECKSUM and DATASUM where they stand and are not empty.
    """

    start: int
    data_start: int
    end: int
    sums: dict[str, str]


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a regular file and unpack it where it is compressed.

    Parameters
    ----------
    path : Path
        Plain file or one packed with gzip, bzip2, xz or zip.

    Yields
    ------
    tuple of (binary file, bool)
        The plain bytes, and whether they had to be unpacked.

    Raises
    ------
    LumosDataError
        If there is no such file, it is a pipe, device or folder, is damaged, or unpacks to more than 2 GiB.
    """
    if not path.is_file():
        what = "no regular file" if path.exists() else "no such file"
        raise LumosDataError(f"{path}: {what}")
    with path.open("rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
        if kind is None:
            yield raw, False
            return
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as unpacked:
            try:
                _unpack(raw, kind, unpacked, path)
            # A zip with a password, or packed in a way of its own, is a RuntimeError.
            except (OSError, EOFError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib_error) as error:
                raise LumosDataError(f"{path}: cannot be unpacked (damaged or truncated?): {error}") from error
            unpacked.seek(0)
            yield unpacked, True


def _open_zip(raw: IO[bytes]) -> IO[bytes]:
    archive = zipfile.ZipFile(raw)
    if len(archive.namelist()) != 1:
        raise zipfile.BadZipFile(f"a zip of {len(archive.namelist())} files, allowed: 1")
    return archive.open(archive.namelist()[0])


_UNPACKERS: dict[str, Callable[[IO[bytes]], Any]] = {
    "gz": lambda raw: gzip.GzipFile(fileobj=raw),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zip": _open_zip,
}


def _unpack(raw: IO[bytes], kind: str, target: IO[bytes], path: Path) -> None:
    """Unpack a file; what is no FITS file is refused after its first block, what is too large at the limit."""
    if kind == "Z":
        raise LumosDataError(f"{path}: packed with compress (.Z), allowed: gz, bz2, xz, zip, fz or not packed")
    size = 0
    with _UNPACKERS[kind](raw) as stream:
        while chunk := stream.read(CHUNK):
            if size == 0 and not chunk.startswith(b"SIMPLE"):
                raise LumosDataError(f"{path}: does not hold a FITS file (no SIMPLE card)")
            size += len(chunk)
            if size > MAX_UNPACKED:
                raise LumosDataError(f"{path}: unpacks to more than the {MAX_UNPACKED} bytes allowed, unpack it first")
            target.write(chunk)


def scan(stream: IO[bytes], path: Path) -> list[RawHdu]:
    """Walk through all HDUs of a file by their headers.

    Parameters
    ----------
    stream : binary file
        Plain bytes of the file.
    path : Path
        The file, for messages.

    Returns
    -------
    list of RawHdu
        In the order of the file.

    Raises
    ------
    LumosDataError
        If a header has no end, sizes that cannot be, or more data than the file; or if bytes that are no
        padding follow the last HDU (the remains of an extension whose header is damaged).
    """
    size = stream.seek(0, 2)
    found: list[RawHdu] = []
    position = 0
    while position < size and (not found or _starts_extension(stream, position)):
        if len(found) == _MAX_HDUS:
            raise LumosDataError(f"{path}: more than the {_MAX_HDUS} HDUs allowed")
        hdu = _raw_hdu(stream, position, f"{path}[{len(found)}]")
        # Some writers leave out the padding of the last block; the reader says so where it matters.
        if hdu.end - size >= _BLOCK or hdu.data_start > size:
            raise LumosDataError(f"{path}[{len(found)}]: truncated: the HDU ends at byte {hdu.end}, the file at {size}")
        found.append(hdu)
        position = hdu.end
    if not found:
        raise LumosDataError(f"{path}: empty file")
    _refuse_remains(stream, position, size, path)
    stream.seek(0)
    return found


def _starts_extension(stream: IO[bytes], position: int) -> bool:
    stream.seek(position)
    return stream.read(8) == b"XTENSION"


def _raw_hdu(stream: IO[bytes], start: int, where: str) -> RawHdu:  # noqa: C901, PLR0912 (one branch per card)
    """Read one header and find out where its data end."""
    stream.seek(start)
    numbers: dict[str, int] = {}
    sums: dict[str, str] = {}
    kind = ""
    n_cards, ended, is_packed = 0, False, False
    while not ended:
        block = stream.read(_BLOCK)
        if n_cards == 0 and not block.startswith((b"SIMPLE", b"XTENSION")):
            raise LumosDataError(f"{where}: cannot be read as FITS (no SIMPLE or XTENSION card at its start)")
        if len(block) < _BLOCK or n_cards > _MAX_CARDS:
            raise LumosDataError(f"{where}: truncated or damaged: no END card, allowed: at most {_MAX_CARDS} cards")
        for offset in range(0, _BLOCK, _CARD):
            card = block[offset : offset + _CARD]
            keyword = card[:8].rstrip()
            n_cards += 1
            if n_cards == 1 and keyword == b"XTENSION":
                kind = _text(card)
            if keyword == b"END" and not card[3:].strip():
                ended = True
                break
            if card[8:9] != b"=":
                continue
            if _SIZES.match(keyword):
                numbers.setdefault(keyword.decode(), _integer(card, where))
            elif keyword in {b"CHECKSUM", b"DATASUM"} and _text(card):
                sums.setdefault(keyword.decode(), _text(card))
            elif keyword == b"ZIMAGE":
                is_packed = _text(card) == "T"
            elif keyword == b"GROUPS" and _text(card) == "T" and not kind:
                raise LumosDataError(f"{where}: random groups, allowed: images and tables")
    if kind not in _KINDS:
        raise LumosDataError(f"{where}: XTENSION is {kind!r}, allowed: {', '.join(sorted(_KINDS - {''}))}")
    if "ZNAXIS" in numbers and not is_packed:
        raise LumosDataError(f"{where}: damaged header: a compressed image without ZIMAGE = T")
    data_start = stream.tell()
    n_bytes = _data_size(numbers, kind, where)
    return RawHdu(start, data_start, data_start + -(-n_bytes // _BLOCK) * _BLOCK, sums)


def _text(card: bytes) -> str:
    """Return the value of a card as text, without quotes or comment."""
    value = card[10:]
    parts = value.split(b"'")
    return (parts[1] if len(parts) > 1 else value.split(b"/")[0]).decode("ascii", "replace").strip()


def _integer(card: bytes, where: str) -> int:
    """Return the value of a card that must be an integer."""
    text = card[9:].split(b"/")[0].strip().decode("ascii", "replace")
    if re.fullmatch(r"[+-]?\d{1,20}", text) is None:
        raise LumosDataError(f"{where}: {card[:8].decode('ascii', 'replace').strip()} is {text!r}, allowed: an integer")
    return int(text)


def _data_size(numbers: dict[str, int], kind: str, where: str) -> int:
    """Return the number of bytes of the data, after checking every number that it is made from."""
    for key in ("BITPIX", "NAXIS"):
        if key not in numbers:
            raise LumosDataError(f"{where}: damaged header: no {key} card")
    if numbers["BITPIX"] not in _BITPIX:
        raise LumosDataError(f"{where}: BITPIX is {numbers['BITPIX']}, allowed: {sorted(_BITPIX)}")
    if not 0 <= numbers.get("TFIELDS", 0) <= _MAX_COLUMNS:
        raise LumosDataError(f"{where}: TFIELDS is {numbers['TFIELDS']}, allowed: 0 to {_MAX_COLUMNS}")
    axes = _axes(numbers, "NAXIS", where)
    is_table = kind in {"BINTABLE", "TABLE", "A3DTABLE"}
    for sizes in (() if is_table else axes, _axes(numbers, "ZNAXIS", where), _tiles(numbers)):
        n_pixels = 1
        for length in sizes:
            n_pixels *= length
        if sizes and n_pixels > MAX_PIXELS:
            raise LumosDataError(f"{where}: image of {list(sizes)} pixels, allowed: at most {MAX_PIXELS} in all")
    n_values = 1 if axes else 0
    for length in axes:
        n_values *= length
    parameters, groups = numbers.get("PCOUNT", 0), numbers.get("GCOUNT", 1)
    if parameters < 0 or groups != 1:
        raise LumosDataError(f"{where}: PCOUNT is {parameters} and GCOUNT {groups}, allowed: 0 or more, and 1")
    n_bytes = abs(numbers["BITPIX"]) // 8 * (n_values + parameters)
    _check_packed(numbers, n_bytes, where)
    return n_bytes


def _check_packed(numbers: dict[str, int], n_bytes: int, where: str) -> None:
    """Refuse a compressed image whose tiles are not the rows of its table, or that is large and stored in nothing."""
    axes = _axes(numbers, "ZNAXIS", where)
    if not axes:
        return
    tiles = [numbers.get(f"ZTILE{axis}", 1 if axis > 1 else length) for axis, length in enumerate(axes, 1)]
    n_rows = numbers.get("NAXIS2", 0)
    if min(tiles) < 1 or math.prod(-(-length // tile) for length, tile in zip(axes, tiles, strict=True)) != n_rows:
        text = f"compressed image of {list(axes)} pixels in tiles of {tiles}, its table has {n_rows} rows"
        raise LumosDataError(f"{where}: damaged: {text}, allowed: one for each tile")
    if math.prod(axes) > max(_MOST_PACKED * n_bytes, _NEVER_A_BOMB):
        raise LumosDataError(f"{where}: compressed image of {list(axes)} pixels in {n_bytes} bytes, too few to be one")


def _axes(numbers: dict[str, int], key: str, where: str) -> tuple[int, ...]:
    """Return the lengths of the axes."""
    n_axes = numbers.get(key, 0)
    if not 0 <= n_axes <= 999:
        raise LumosDataError(f"{where}: {key} is {n_axes}, allowed: 0 to 999")
    missing = [f"{key}{axis + 1}" for axis in range(n_axes) if f"{key}{axis + 1}" not in numbers]
    if missing:
        raise LumosDataError(f"{where}: damaged header: no {missing[0]} card")
    axes = tuple(numbers[f"{key}{axis + 1}"] for axis in range(n_axes))
    if axes and min(axes) < 0:
        raise LumosDataError(f"{where}: image of {list(axes)} pixels, allowed: none negative")
    return axes


def _tiles(numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(value for key, value in numbers.items() if key.startswith("ZTILE"))


def _refuse_remains(stream: IO[bytes], position: int, size: int, path: Path) -> None:
    """Refuse what follows the last HDU unless it is padding."""
    stream.seek(min(position, size))
    remains = stream.read(_MAX_PADDING + 1)
    if len(remains) > _MAX_PADDING or remains.strip(b"\0 "):
        n_bytes = size - position
        raise LumosDataError(
            f"{path}: damaged: the last {n_bytes} bytes are no extension, allowed: extensions, padding"
        )
