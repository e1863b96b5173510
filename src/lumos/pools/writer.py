"""Write a pool of background stamps: grown file by file, safe to kill, a pool only when it is whole.

It is no pool before its metadata are there, which come last. While it grows, a journal has one line per finished FITS
file; what was written after the last whole line is cut off when the work is taken up again.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.conventions import AnyArray, Float32Array, FloatArray
from lumos.errors import LumosConfigError, LumosShapeError, LumosValueError
from lumos.files import read_text, whole_file, write_atomic, write_json
from lumos.pools.facts import CcdFacts, JournalEntry
from lumos.psfs import MoffatPsf, Psf
from lumos.runs.locks import own_files

__all__ = ["ARRAYS", "FORMAT", "INDEX", "INDEX_SCHEMA", "METADATA", "NewStamps", "PoolWriter"]

#: Name and version of the format, in the metadata.
FORMAT = "lumos-backgrounds-1"
METADATA, INDEX = "pool.json", "index.parquet"
#: Files of a pool that grows.
_IDENTITY, _JOURNAL = "unfinished.json", "journal.jsonl"
_OWN_FILES = ("data.npy", "mask.npy", "variance.npy", "psf.npy", INDEX, _JOURNAL, _IDENTITY)
#: Largest identity, bytes: some tens for each file that the pool is made from.
_MAX_IDENTITY = 1_000_000_000
#: Type of each array file.
ARRAYS: dict[str, np.dtype[Any]] = {
    "data": np.dtype("<f4"),
    "mask": np.dtype("u1"),
    "variance": np.dtype("<f4"),
    "psf": np.dtype("<f4"),
}

INDEX_SCHEMA = pa.schema(
    [
        ("exposure", pa.int32()),  # entry of "exposures" in the metadata
        ("row", pa.int64()),  # of data.npy and mask.npy
        ("variance_row", pa.int64()),  # of variance.npy; -1 without a map
        ("x", pa.float64()),  # CCD position of the middle pixel, 0-based
        ("y", pa.float64()),
        ("x_norm", pa.float64()),  # the same over the CCD's size, 0 to 1
        ("y_norm", pa.float64()),
        ("sky_variance", pa.float64()),
        ("psf_fwhm", pa.float64()),  # pixels
        ("psf_beta", pa.float64()),  # NaN where the PSF is an image
        ("psf_offset", pa.int64()),  # first sample of the image in psf.npy; -1 for a Moffat
        ("psf_height", pa.int32()),
        ("psf_width", pa.int32()),
        ("psf_sampling", pa.float64()),
        ("psf_includes_pixel", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class NewStamps:
    """Stamps of one CCD, to be added to a pool.

    Parameters
    ----------
    data : float32 array, shape (n, side, side)
        Pixels, image units, finite.
    mask : int array, shape (n, side, side)
        Bits of :class:`lumos.flags.MaskPlane`, 0 to 255.
    sky_variance : float array, shape (n,)
        Variance of a blank pixel around the middle, image units squared, positive.
    x, y : float array, shape (n,)
        CCD position of the middle pixel, ``side // 2`` of the stamp, 0-based.
    ccd_shape : tuple of two int
        Height and width of the CCD.
    psf : MoffatPsf or PixelPsf
        PSF at the positions, of n stamps or shared by all.
    psf_fwhm : float array, shape (n,)
        FWHM of the PSF, pixels.
    variance : float32 array, shape (n, side, side), or None
        Variance map without the stamps' own sources, where the exposure has one.
    """

    data: Float32Array
    mask: AnyArray
    sky_variance: FloatArray
    x: FloatArray
    y: FloatArray
    ccd_shape: tuple[int, int]
    psf: Psf
    psf_fwhm: FloatArray
    variance: Float32Array | None = None

    def __post_init__(self) -> None:
        shape = (len(self.x), self.data.shape[-1], self.data.shape[-1])
        if self.data.shape != shape or self.mask.shape != shape:
            raise LumosShapeError("background stamps and masks", (self.data.shape, self.mask.shape), shape)
        if not np.isfinite(self.data).all():
            raise LumosValueError("pixels of background stamps", float("nan"), "finite; bad ones masked")
        if not (np.isfinite(self.sky_variance) & (self.sky_variance > 0)).all():
            raise LumosValueError("variance of background stamps", float(np.min(self.sky_variance)), "> 0, finite")
        if np.any((self.mask < 0) | (self.mask > 255)):
            raise LumosValueError("mask of background stamps", int(np.max(self.mask)), "0 to 255")

    def __len__(self) -> int:
        return len(self.data)


class PoolWriter:
    """Grow a pool in its folder.

    Parameters
    ----------
    out : Path
        Folder of the pool, made if needed; locked by the caller.
    side : int
        Side of the stamps.
    identity : mapping
        Plain data that say what the pool is made from; one that was begun with another identity is begun anew.

    Raises
    ------
    LumosConfigError
        If the folder holds anything else than a pool that was begun.
    """

    def __init__(self, out: Path, side: int, identity: Mapping[str, object]) -> None:
        self._out, self._side = out, side
        #: One journal line per finished file.
        self.entries: list[JournalEntry] = []
        wanted = json.dumps(identity, sort_keys=True, default=str)
        path = out / _IDENTITY
        strange = {file.name for file in own_files(out)} - set(_OWN_FILES)
        if strange or (own_files(out) and not path.is_file()):
            raise LumosConfigError(f"{out}: holds something else; give a new --out")
        if not path.is_file() or read_text(path, _MAX_IDENTITY) != wanted:
            self.abandon()
            out.mkdir(parents=True, exist_ok=True)
            write_atomic(path, wanted)
        self._resume()

    def _resume(self) -> None:
        """Take up the journal of an earlier start; cut off what it does not hold."""
        journal = self._out / _JOURNAL
        lines = journal.read_text(encoding="utf-8").splitlines(keepends=True) if journal.is_file() else []
        # A line without its end was being written when the process died.
        whole = [line for line in lines if line.endswith("\n")]
        self.entries = [json.loads(line) for line in whole]
        write_atomic(journal, "".join(whole))
        for name, kind in ARRAYS.items():
            empty = self._header(name, 0)
            with _open_own(self._out / f"{name}.npy", os.O_RDWR | os.O_CREAT) as stream:
                stream.write(empty)
                stream.truncate(len(empty) + self._used(name) * kind.itemsize)

    def _used(self, name: str) -> int:
        """Return how many elements of an array the journal vouches for."""
        return int(self.entries[-1]["used"][name]) if self.entries else 0

    def _header(self, name: str, n_elements: int) -> bytes:
        """Return the header of a ``.npy`` file; its length does not depend on the number of elements."""
        shape = (n_elements,) if name == "psf" else (n_elements // self._side**2, self._side, self._side)
        stream = io.BytesIO()
        descr = {"descr": np.lib.format.dtype_to_descr(ARRAYS[name]), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, descr)
        return stream.getvalue()

    def add(self, name: str, ccds: Sequence[tuple[CcdFacts, NewStamps | None]]) -> None:
        """Add the stamps of one file.

        Parameters
        ----------
        name : str
            Of the file, for the journal.
        ccds : sequence of tuple
            For each CCD plain data about it, and its stamps; None for a CCD without any.
        """
        used = {array: self._used(array) for array in ARRAYS}
        entry: JournalEntry = {"file": name, "exposures": [], "index": [], "used": used}
        with ExitStack() as opened:
            streams = {
                array: opened.enter_context(_open_own(self._out / f"{array}.npy", os.O_WRONLY | os.O_APPEND))
                for array in ARRAYS
            }
            for facts, stamps in ccds:
                entry["exposures"].append(facts)
                entry["index"].append(None if stamps is None else self._append(stamps, streams, used))
            for stream in streams.values():
                stream.flush()
                os.fsync(stream.fileno())
        with _open_own(self._out / _JOURNAL, os.O_WRONLY | os.O_APPEND) as journal:
            journal.write((json.dumps(entry) + "\n").encode())
            journal.flush()
            os.fsync(journal.fileno())
        self.entries.append(entry)

    def _append(
        self, stamps: NewStamps, streams: Mapping[str, IO[bytes]], used: dict[str, int]
    ) -> dict[str, list[Any]]:
        """Append pixels to the array files and return the stamps' columns of the index."""
        n, pixels = len(stamps), self._side**2
        if stamps.data.shape[1] != self._side:
            raise LumosShapeError("background stamps", stamps.data.shape, (n, self._side, self._side))
        number = np.arange(n)
        height, width = stamps.ccd_shape
        columns: dict[str, AnyArray] = {
            "row": used["data"] // pixels + number,
            "variance_row": np.full(n, -1) if stamps.variance is None else used["variance"] // pixels + number,
            "x": stamps.x,
            "y": stamps.y,
            "x_norm": (stamps.x + 0.5) / width,
            "y_norm": (stamps.y + 0.5) / height,
            "sky_variance": stamps.sky_variance,
            "psf_fwhm": stamps.psf_fwhm,
            **_psf_columns(stamps.psf, n, used["psf"]),
        }
        arrays = {"data": stamps.data, "mask": stamps.mask, "variance": stamps.variance}
        arrays["psf"] = None if isinstance(stamps.psf, MoffatPsf) else stamps.psf.images
        for name, values in arrays.items():
            if values is not None:
                streams[name].write(np.ascontiguousarray(values, dtype=ARRAYS[name]).tobytes())
                used[name] += values.size
        return {name: values.tolist() for name, values in columns.items()}

    def abandon(self) -> None:
        """Remove what was written."""
        for name in _OWN_FILES:
            (self._out / name).unlink(missing_ok=True)

    def finish(self, metadata: Mapping[str, object], exposures: Sequence[CcdFacts]) -> None:
        """Write the index and, last, the metadata that make the folder a pool.

        Parameters
        ----------
        metadata : mapping
            Plain data for the metadata.
        exposures : sequence of mapping
            Plain data of every CCD in the order in which they were added, with a ``status``; the stamps of those
            whose status is not ``used`` are left out of the index (their pixels stay in the files, unused).
        """
        tables = []
        indices = [index for entry in self.entries for index in entry["index"]]
        for number, (facts, index) in enumerate(zip(exposures, indices, strict=True)):
            if index is not None and facts["status"] == "used":
                columns = {**index, "exposure": [number] * len(index["row"])}
                tables.append(pa.table({name: columns[name] for name in INDEX_SCHEMA.names}, schema=INDEX_SCHEMA))
        table = pa.concat_tables(tables) if tables else INDEX_SCHEMA.empty_table()
        with whole_file(self._out / INDEX) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)
        for name in ARRAYS:
            path = self._out / f"{name}.npy"
            if self._used(name) == 0 and name in {"variance", "psf"}:
                path.unlink()
                continue
            with _open_own(path, os.O_WRONLY) as stream:
                stream.write(self._header(name, self._used(name)))
                stream.flush()
                os.fsync(stream.fileno())
        write_json(
            self._out / METADATA,
            {"format": FORMAT, "side": self._side, "n_stamps": len(table), **metadata, "exposures": list(exposures)},
        )
        for leftover in (_IDENTITY, _JOURNAL):
            (self._out / leftover).unlink()


def _open_own(path: Path, flags: int) -> IO[bytes]:
    """Open a file of a pool that grows, never through a symbolic link."""
    return os.fdopen(os.open(path, flags | os.O_NOFOLLOW, 0o666), "wb" if flags & os.O_WRONLY else "r+b")


def _psf_columns(psf: Psf, n: int, used: int) -> dict[str, AnyArray]:
    """Return the PSF's columns of the index; a PSF shared by all stamps is stored once."""
    if isinstance(psf, MoffatPsf):
        offset, height, width, sampling, includes_pixel = np.full(n, -1), 0, 0, 1.0, False
        beta = np.broadcast_to(psf.beta, (n,))
    else:
        height, width = psf.images.shape[1:]
        offset = used + height * width * (np.arange(n) if len(psf.images) > 1 else np.zeros(n, dtype=np.int64))
        sampling, includes_pixel, beta = psf.sampling, psf.includes_pixel, np.full(n, np.nan)
    return {
        "psf_beta": beta,
        "psf_offset": offset,
        "psf_height": np.full(n, height),
        "psf_width": np.full(n, width),
        "psf_sampling": np.full(n, sampling),
        "psf_includes_pixel": np.full(n, includes_pixel),
    }
