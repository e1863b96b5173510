"""Masks, variances and skies: find them in other extensions or files and bring them to one form."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from lumos.conventions import AnyArray, Float32Array
from lumos.errors import LumosDataError
from lumos.flags import MaskPlane, good_pixels
from lumos.images.fits.file import Checksum, card_value, image_shape, open_fits
from lumos.images.lookup import HeaderLookup
from lumos.images.scatter import clipped_scatter
from lumos.surveys import MaskSource, NoiseSource, SkySource, Substitution, VarianceSource

__all__ = ["Science", "canonical_mask", "find_sidecar", "open_companion", "to_variance"]


@dataclass(frozen=True)
class Science:
    """One science image of an open file.

    Parameters
    ----------
    path : Path
        File that holds the image, for messages.
    hdul : astropy.io.fits.HDUList
        The open file.
    index : int
        Index of its HDU.
    versions : tuple of int
        EXTVER of every science image of the file, this one included.
    tables : mapping
        What tables of the file tell, by keyword.
    """

    path: Path
    hdul: Any
    index: int
    versions: tuple[int, ...] = (1,)
    tables: Mapping[str, object] = field(default_factory=dict)

    @property
    def lookup(self) -> HeaderLookup:
        """Return the headers that describe the image."""
        return HeaderLookup(self.path, self.hdu.header, self.hdul[0].header, self.tables)

    @property
    def hdu(self) -> Any:  # noqa: ANN401
        """Return the HDU of the image."""
        return self.hdul[self.index]

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the image, (ny, nx)."""
        ny, nx = image_shape(self.hdu)
        return ny, nx


def find_sidecar(path: Path, substitutions: Sequence[Substitution]) -> Path | None:
    """Return the first companion file that exists beside a file.

    Parameters
    ----------
    path : Path
        File of the image.
    substitutions : sequence of Substitution
        Names to try, made from the image's.

    Returns
    -------
    Path or None
        None where there is none.
    """
    for name in _sidecar_names(path, substitutions):
        if (path.parent / name).is_file():
            return path.parent / name
    return None


def _sidecar_names(path: Path, substitutions: Sequence[Substitution]) -> list[str]:
    """Return the names of companions to try; only names, never paths, and never the image itself."""
    names = []
    for item in substitutions:
        name = re.sub(item.find, item.replace, path.name)
        if name != path.name and Path(name).name == name:
            names.append(name)
    return names


@contextmanager
def open_companion(
    science: Science, source: MaskSource | VarianceSource | SkySource | NoiseSource, checksum: Checksum
) -> Iterator[tuple[Any, Path] | None]:
    """Open the companion of a science image that a survey describes.

    Parameters
    ----------
    science : Science
        Science image whose companion is wanted.
    source : MaskSource, VarianceSource, SkySource or NoiseSource
        Where the companion stands.
    checksum : {"warn", "require", "ignore"}
        What is done about the checksums of a sidecar.

    Yields
    ------
    tuple or None
        HDU and file of the companion; None where it does not exist.

    Raises
    ------
    LumosDataError
        If it is required and does not exist (what was tried is named), its file is damaged, or other images of
        the file have one and this one has none.
    """
    sidecar = find_sidecar(science.path, source.sidecar)
    if source.sidecar and sidecar is None:
        _refuse_missing(source, science, _sidecar_names(science.path, source.sidecar))
        yield None
    elif sidecar is not None:
        with open_fits(sidecar, checksum=checksum) as hdul:
            hdu = _extension(hdul, source.extension or _own_name(science), science)
            if hdu is None and not source.extension and science.index < len(hdul):
                hdu = hdul[science.index]
            if hdu is None:
                raise LumosDataError(f"{sidecar}: no extension for {science.path.name}[{science.index}]")
            yield hdu, sidecar
    else:
        hdu = _extension(science.hdul, source.extension, science)
        if hdu is None:
            _refuse_missing(source, science, list(source.extension))
        elif science.versions.count(int(science.hdu.ver)) > 1:
            text = f"{len(science.versions)} images share the extension {hdu.name or source.extension}"
            raise LumosDataError(f"{science.path}: {text}, allowed: one each, paired by EXTVER")
        yield None if hdu is None else (hdu, science.path)


def _refuse_missing(source: Any, science: Science, tried: Sequence[object]) -> None:  # noqa: ANN401
    if source.required:
        what = type(source).__name__.removesuffix("Source").lower()
        raise LumosDataError(f"{science.path}: no {what} found, tried: {', '.join(map(str, tried))}")


def _own_name(science: Science) -> tuple[str, ...]:
    """Return the name of the science extension, by which a sidecar names its own."""
    return (science.hdu.name,) if science.hdu.name not in {"", "PRIMARY"} else ()


def _extension(hdul: Any, names: Sequence[str | int], science: Science) -> Any | None:  # noqa: ANN401
    """Return the first extension of these names; the one of the image's EXTVER where there are several."""
    for name in names:
        if isinstance(name, int):
            if name < len(hdul):
                return hdul[name]
            continue
        versions = {int(hdu.ver): hdu for hdu in hdul if hdu.name == name.upper()}
        own = int(science.hdu.ver)
        if not versions:
            continue
        if own not in versions and (len(versions) > 1 or len(science.versions) > 1):
            raise LumosDataError(
                f"{science.path}[{science.index}]: no extension {name} of version {own}, versions: {sorted(versions)}"
            )
        return versions.get(own, next(iter(versions.values())))
    return None


def canonical_mask(values: AnyArray, source: MaskSource, header: Header, path: Path) -> NDArray[np.int32]:
    """Map a survey's mask onto the planes of :class:`lumos.flags.MaskPlane`.

    Parameters
    ----------
    values : int array, shape (ny, nx)
        The survey's own values.
    source : MaskSource
        What the values mean, from the survey file.
    header : Header
        Header of the mask, for plane names.
    path : Path
        File, for messages.

    Returns
    -------
    int32 array, shape (ny, nx)
        Bits of :class:`lumos.flags.MaskPlane`.

    Raises
    ------
    LumosDataError
        If a code is not in the survey's list, or a named plane is not in the header.
    """
    mask = np.zeros(values.shape, dtype=np.int32)
    if source.kind == "nonzero":
        mask[values != 0] = MaskPlane.BAD
        return mask
    if source.kind == "codes":
        listed = {0, *source.ignore, *(int(code) for codes in source.planes.values() for code in codes)}
        unknown = sorted(set(np.unique(values).tolist()) - listed)
        if unknown:
            raise LumosDataError(
                f"{path}: mask codes {unknown[:8]} are not in the survey file, listed: {sorted(listed)}"
            )
    for plane, entries in source.planes.items():
        if source.kind == "codes":
            hit = np.isin(values, [int(entry) for entry in entries])
        else:
            bits = [_named_bit(str(e), header, path) if source.kind == "names" else int(e) for e in entries]
            hit = (values & sum(set(bits))) != 0
        mask[hit] |= int(MaskPlane[plane])
    return mask


def _named_bit(name: str, header: Header, path: Path) -> int:
    """Return the value of a mask plane by its name.

    ``MP_<NAME>`` cards hold the number of the bit; ``MSKNnnnn`` cards the name of plane n, whose value is 2^n.
    """
    planes = {str(key)[3:]: card_value(header, str(key), path) for key in header if str(key).startswith("MP_")}
    planes |= {
        str(card_value(header, str(key), path)): int(str(key)[4:])
        for key in header
        if re.fullmatch(r"MSKN\d{4}", str(key))
    }
    if name not in planes:
        raise LumosDataError(f"{path}: no mask plane {name!r}, the header has {sorted(planes)}")
    bit = planes[name]
    if not isinstance(bit, int) or not 0 <= bit < 63:
        raise LumosDataError(f"{path}: mask plane {name} is bit {bit!r}, allowed: 0 to 62")
    return 1 << bit


def to_variance(
    values: Float32Array, source: VarianceSource, data: Float32Array, mask: NDArray[np.int32]
) -> Float32Array | None:
    """Turn a variance or weight image into a variance and mask the pixels that have none.

    Parameters
    ----------
    values : float32 array, shape (ny, nx)
        The survey's own values.
    source : VarianceSource
        What the values mean, from the survey file.
    data : float32 array, shape (ny, nx)
        The image, whose scatter calibrates a relative weight.
    mask : int32 array, shape (ny, nx)
        Gets ``NO_VARIANCE`` (kind ``mask01``: ``BAD``) where the value is not positive and finite.

    Returns
    -------
    float32 array, shape (ny, nx), or None
        Variance in image units squared, 0 where there is none; None for the kind ``mask01``.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if source.kind == "mask01":
            mask[~(values > 0)] |= int(MaskPlane.BAD)
            return None
        power = {"variance": 1, "rms": 2}.get(source.kind, -1)
        variance = values**power
        valid = np.isfinite(values) & (values > 0) & np.isfinite(variance) & (variance > 0)
        mask[~valid] |= int(MaskPlane.NO_VARIANCE)
        if source.kind == "relative_weight":
            variance *= _weighted_scatter(values, data, mask) ** 2
    variance[~valid] = 0.0
    return variance.astype(np.float32)


def _weighted_scatter(weight: Float32Array, data: Float32Array, mask: NDArray[np.int32]) -> float:
    """Return the robust scatter of data times the root of its relative weight over good pixels.

    It is 1 for a weight that is the inverse variance. Sources are clipped.
    """
    good = good_pixels(mask)
    if not good.any():
        return 1.0
    return clipped_scatter((data[good] - np.median(data[good])) * np.sqrt(weight[good]))
