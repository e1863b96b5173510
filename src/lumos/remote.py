"""Files that lie elsewhere: copied, or cut out, into a folder of this machine, and read there."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lumos.errors import LumosDataError, LumosError
from lumos.files import whole_file, write_atomic

__all__ = ["is_remote", "list_remote", "local_copy", "remote_name", "remote_sibling"]

#: ``s3://``; a Path has made one slash of two.
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]+):/+(?=[^/])", re.IGNORECASE)
#: Columns and rows of a cutout at the end of a name: ``[0:100,200:400]``.
_REGION = re.compile(r"\[(\d+):(\d+),(\d+):(\d+)\]$")
#: How a packed file's name ends, of which no part can be read.
_PACKED = (".gz", ".bz2", ".xz", ".zip", ".Z")
#: Cards that belong to the pixels or to the whole image.
_NOT_OF_PARTS = ("CHECKSUM", "DATASUM", "BSCALE", "BZERO", "BLANK", "ZBLANK")


def is_remote(path: Path | str) -> bool:
    """Return whether a name is that of a file elsewhere: ``https://``, ``s3://``, ``memory://``, ...

    Parameters
    ----------
    path : Path or str
        A name.

    Returns
    -------
    bool
        False for files of this machine.
    """
    return _SCHEME.match(str(path)) is not None


def _url(path: Path | str) -> str:
    url = _SCHEME.sub(r"\1://", str(path), count=1)
    return re.sub("^file://", "file:///", url, flags=re.IGNORECASE)


def remote_name(path: Path | str) -> str:
    """Return the name of a remote file without its folder and without the region of a cutout.

    Parameters
    ----------
    path : Path or str
        A remote name.

    Returns
    -------
    str
        Without slashes.
    """
    return _REGION.sub("", str(path)).rsplit("/", 1)[-1]


def remote_sibling(path: Path | str, name: str) -> str:
    """Return the name of a file in the same remote folder, with the same region where there is one.

    Parameters
    ----------
    path : Path or str
        A remote name.
    name : str
        Name of the other file.

    Returns
    -------
    str
        A remote name.
    """
    region = _REGION.search(str(path))
    folder = _url(path).rsplit("/", 1)[0]
    return f"{folder}/{name}" + ("" if region is None else region[0])


def list_remote(path: Path | str, pattern: re.Pattern[str]) -> list[str]:
    """Return the files of a remote folder or pattern; a name that is that of a file is returned as it is.

    Parameters
    ----------
    path : Path or str
        A remote name. It is a folder if it neither has ``*`` or ``?`` in it nor fits the pattern.
    pattern : re.Pattern
        What the names of files are like.

    Returns
    -------
    list of str
        Remote names, sorted.

    Raises
    ------
    LumosDataError
        If nothing matches, or the folder cannot be listed.
    """
    url = _url(path)
    if _REGION.search(url) or (pattern.search(url) and not re.search(r"[*?]", url)):
        return [url]
    wild = re.search(r"[*?]", url) is not None
    with _reaching(url):
        filesystem, place = _filesystem(url)
        found = filesystem.glob(place) if wild else filesystem.ls(place, detail=False)
        names = [str(filesystem.unstrip_protocol(name)) for name in found]
    files = sorted(name for name in names if pattern.search(name))
    if not files:
        raise LumosDataError(f"{url}: no FITS file {'matches' if wild else 'in this remote folder'}")
    return files


def local_copy(path: Path | str, *, required: bool = True, whole: bool = False) -> Path:
    """Return a file of this machine: a file that is here, or the copy of one that lies elsewhere.

    Copies are kept in the folder that the environment variable LUMOS_CACHE names (``~/.cache/lumos``), and made anew
    when the remote file has changed. A name that ends in ``[x0:x1,y0:y1]`` (pixels counted from 0, the last excluded)
    makes a FITS file of that part of its images; of these only the rows that are needed are read.

    Parameters
    ----------
    path : Path or str
        A name, local or remote.
    required : bool
        Whether a remote file that is not there is an error.
    whole : bool, optional
        Whether the file is not cut: its region is only part of the name of the copy, by which it is found beside
        a cutout, as the PSF of an image that is the same everywhere.

    Returns
    -------
    Path
        Of a file that exists, unless it is a local one or not required.

    Raises
    ------
    LumosDataError
        If the remote file cannot be read.
    LumosError
        If fsspec or what it needs for this kind of place is not installed.
    """
    if not is_remote(path):
        return Path(path)
    url = _url(path)
    region = _REGION.search(url)
    plain = _REGION.sub("", url)
    folder, name = plain.rsplit("/", 1)
    here = _cache() / hashlib.sha256(folder.encode()).hexdigest()[:16]
    target = here / (name if region is None else _part_name(name, region))
    with _reaching(url):
        filesystem, place = _filesystem(plain)
        if not required and not filesystem.exists(place):
            return target
        # What the place tells of the file: its size, and where it says so date and digest.
        key = str(sorted(filesystem.info(place).items()))
        known = target.with_name(f".{target.name}.key")
        if target.is_file() and known.is_file() and known.read_text(encoding="utf-8") == key:
            return target
        here.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as temporary:
            if region is None or whole:
                filesystem.get_file(place, str(temporary))
            else:
                x0, x1, y0, y1 = map(int, region.groups())
                _cut_out(filesystem, place, url, temporary, ((x0, x1), (y0, y1)))
        write_atomic(known, key)
    return target


def _cache() -> Path:
    named = os.environ.get("LUMOS_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "lumos"


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # noqa: PLC0415

    filesystem, place = url_to_fs(url)
    return filesystem, str(place)


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turn what goes wrong on the way to a file into an error that names it."""
    try:
        yield
    except LumosError:
        raise
    except ImportError as error:
        text = f"{url}: files elsewhere need fsspec: pip install 'lumos-photometry[remote]'"
        raise LumosError(f"{text} ({' '.join(str(error).split())})") from error
    except Exception as error:
        # Each kind of place reports trouble through classes of its own; http calls everything a missing file.
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        if isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
            raise LumosDataError(f"{url}: no such file") from error
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())[:200].rstrip(": ")
        raise LumosDataError(f"{url}: cannot be reached or read ({reason})") from error


def _part_name(name: str, region: re.Match[str]) -> str:
    """Return the name of a cutout; what stands before the suffix stays, so that companions are found by it."""
    x0, x1, y0, y1 = region.groups()
    place = f"x{x0}-{x1}_y{y0}-{y1}"
    return f"{place}_{name.removesuffix('.fz')}"


def _cut_out(filesystem: Any, place: str, url: str, target: Path, region: tuple[tuple[int, int], ...]) -> None:  # noqa: ANN401
    """Write the part of every image of the first one's shape; tables and other images stay whole."""
    from astropy.io import fits  # noqa: PLC0415

    if place.endswith(_PACKED):
        raise LumosDataError(f"{url}: no part of a packed file can be read, give the whole")
    with filesystem.open(place, "rb") as stream, fits.open(stream, memmap=False, lazy_load_hdus=True) as hdul:
        shape = next((hdu.shape for hdu in hdul if hdu.is_image and len(hdu.shape) == 2), None)
        if shape is None:
            raise LumosDataError(f"{url}: no two-dimensional image to cut from")
        for (first, last), length in zip(region, shape[::-1], strict=True):
            if not first < last <= length:
                raise LumosDataError(f"{url}: the image has {shape[1]} x {shape[0]} pixels (x, y)")
        parts = [_part(hdu, shape, region) for hdu in hdul]
        fits.HDUList(parts).writeto(target, overwrite=True, output_verify="silentfix+ignore")


def _part(hdu: Any, shape: tuple[int, ...], region: tuple[tuple[int, int], ...]) -> Any:  # noqa: ANN401
    """Return a part of an image and what its header says of it."""
    from astropy.io import fits  # noqa: PLC0415

    header = hdu.header.copy()
    for key in _NOT_OF_PARTS:
        header.remove(key, ignore_missing=True)
    kind = fits.PrimaryHDU if isinstance(hdu, fits.PrimaryHDU) else fits.ImageHDU
    if not hdu.is_image or hdu.shape != shape:
        return kind(hdu.data, header) if hdu.is_image else hdu
    (x0, x1), (y0, y1) = region
    for axis, first in (("1", x0), ("2", y0)):
        for key in [key for key in header if re.fullmatch(rf"CRPIX{axis}[A-Z]?|LTV{axis}", key)]:
            header[key] -= first
    return kind(hdu.section[y0:y1, x0:x1], header)
