"""Which images of a camera's files are exposures, and which are masks, weights, skies and PSFs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumos.errors import LumosDataError
from lumos.images.fits.file import card_value, image_shape, open_fits
from lumos.images.lsst.archive import archive_facts

__all__ = ["ImageInfo", "Layout", "companion_of", "read_layout"]

#: What the names of images and files mean, tried in order. What stands in the file beside the exposures is no exposure.
_ROLES = (
    ("psf", r"psf|kernel"),
    ("other", r"noise.?real|frac|ctx|con$|context|coverage|nexp|exp(map|$)|prov|aper|seg|res(id)?$|model$"),
    ("mask", r"mask|msk|dq|flags?$|bpm|badpix|ood"),
    ("ivar", r"ivar|invvar|inv.?var"),
    ("weight", r"wht|weight|wgt|wmap|oow"),
    ("variance", r"var"),
    ("rms", r"err|rms|sigma|unc|noise"),
    ("sky", r"sky|bkg|bgd|background"),
)
#: Words for exposures in file names, in whose place a companion has its own.
_SCIENCE_WORDS = ("sci", "image", "img", "drz", "drc", "i2d", "cal", "int", "ooi", "flt", "corr", "coadd", "calexp")
_SUFFIX = re.compile(r"(\.(?:fits?|fts)(?:\.(?:fz|gz|bz2|xz|z))?)$", re.IGNORECASE)


@dataclass(frozen=True)
class ImageInfo:
    """One two-dimensional image of a file.

    Parameters
    ----------
    index : int
        Of its HDU.
    name : str
        EXTNAME, or empty.
    shape : tuple of int
        (ny, nx).
    role : str
        ``science``, ``mask``, ``ivar``, ``weight``, ``variance``, ``rms``, ``sky``, ``psf`` or ``other``.
    cards : dict
        Header cards, those of the file's first header included.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    role: str
    cards: dict[str, object]


@dataclass(frozen=True)
class Layout:
    """The images of a file.

    Parameters
    ----------
    path : Path
        File.
    images : tuple of ImageInfo
        In their order.
    """

    path: Path
    images: tuple[ImageInfo, ...]

    def of_role(self, role: str) -> list[ImageInfo]:
        """Return the images of a role.

        Parameters
        ----------
        role : str
            As of :class:`ImageInfo`.

        Returns
        -------
        list of ImageInfo
            In their order.
        """
        return [image for image in self.images if image.role == role]


def read_layout(path: Path) -> Layout:
    """Find the images of a file and what they are.

    Parameters
    ----------
    path : Path
        FITS file.

    Returns
    -------
    Layout
        At least one image of it is an exposure.

    Raises
    ------
    LumosDataError
        If the file cannot be read or holds no two-dimensional image.
    """
    with open_fits(path, checksum="ignore") as hdul:
        primary = {**_cards(hdul[0].header, path), **archive_facts(hdul, path)}
        found = []
        for index, hdu in enumerate(hdul):
            shape = image_shape(hdu)
            while len(shape) > 2 and shape[0] == 1:
                shape = shape[1:]
            if len(shape) == 2 and min(shape) > 1:
                name = "" if hdu.name in {"PRIMARY", "COMPRESSED_IMAGE"} else str(hdu.name)
                found.append((index, name, shape, {**primary, **_cards(hdu.header, path)}))
    if not found:
        raise LumosDataError(f"{path}: no two-dimensional image in this file")
    # Cutouts of the Legacy Surveys have no names of extensions, but a keyword that tells what they are.
    roles = [_role(name or str(cards.get("IMAGETYP") or "")) for _, name, _, cards in found]
    if "science" not in roles:
        roles[0] = "science"
    shape = found[roles.index("science")][2]
    unnamed = 0
    for place, (_, name, its_shape, cards) in enumerate(found):
        if roles[place] == "science" and its_shape != shape and not _has_wcs(cards):
            roles[place] = "other"
        elif roles[place] == "science" and not name:
            # Where a keyword says that all are images, one without a name can be told by its place alone.
            roles[place] = _unnamed_role(unnamed, cards) if not (unnamed and cards.get("IMAGETYP")) else "other"
            unnamed += 1
    images = (
        ImageInfo(i, name, shape, role, cards) for (i, name, shape, cards), role in zip(found, roles, strict=True)
    )
    return Layout(path, tuple(images))


def companion_of(path: Path, others: Sequence[Path]) -> tuple[Path, str, str] | None:
    """Return the exposure that a file accompanies.

    Parameters
    ----------
    path : Path
        Perhaps a mask, weight, sky or PSF.
    others : sequence of Path
        Files that may be its exposure.

    Returns
    -------
    exposure : Path
        The exposure.
    role : str
        What the file is to it.
    word : str
        The word of the file's name that says so.
    """
    for word in re.findall(r"[A-Za-z0-9]+", _SUFFIX.sub("", path.name)):
        role = _role(word)
        if role == "science":
            continue
        at = re.compile(rf"[._-]?(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])")
        names = {at.sub("", path.name, count=1)}
        names |= {re.sub(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", one, path.name, count=1) for one in _SCIENCE_WORDS}
        for other in others:
            if other != path and other.parent == path.parent and other.name in names:
                return other, role, word
    return None


def _cards(header: Any, path: Path) -> dict[str, object]:  # noqa: ANN401
    cards: dict[str, object] = {}
    for key in header:
        if key in ("", "COMMENT", "HISTORY") or key in cards:
            continue
        try:
            cards[key] = card_value(header, key, path)
        except LumosDataError:
            # A card that cannot be read tells nothing; measuring refuses the file if it needs the card.
            continue
    return cards


def _role(name: str) -> str:
    for role, pattern in _ROLES:
        if re.match(rf"(?i)(.*[/_.-])?({pattern})", name):
            return role
    return "science"


def _has_wcs(cards: dict[str, object]) -> bool:
    return "CRVAL1" in cards and "CTYPE1" in cards


def _unnamed_role(number: int, cards: dict[str, object]) -> str:
    """Return what the first, second and third image without a name are: exposure, mask of integers, variance."""
    if number == 0:
        return "science"
    bits = cards.get("BITPIX")
    whole = isinstance(bits, int) and bits > 0
    return "mask" if whole else "variance"
