"""What is seen of a camera's files: headers of all, pixels of the first, companions; and the notes made of it."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumos.cameras.layout import ImageInfo, Layout, companion_of, read_layout
from lumos.cameras.pixels import PixelStatistics, measure_pixels
from lumos.errors import LumosDataError
from lumos.images.fits.file import open_fits, read_float_image
from lumos.surveys.units import unit_of

__all__ = ["FITS_END", "Notes", "Seen", "look_at"]

logger = logging.getLogger(__name__)

#: Most files whose headers are read.
_MOST_FILES = 50
#: Where the suffix of a FITS file's name begins.
FITS_END = r"(?=\.(?:fits?|fts)(?:\.|$))"


@dataclass
class Notes:
    """The survey file as it grows.

    Parameters
    ----------
    lines : list of str
        Of the file.
    questions : list of str
        What stays open.
    """

    lines: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def add(self, line: str, why: str = "", *, indent: int = 0) -> None:
        """Add a line, with comments above it.

        Parameters
        ----------
        line : str
            YAML.
        why : str, optional
            Comments.
        indent : int, optional
            Blanks before it.
        """
        self.lines += [" " * indent + f"# {part}" for part in why.splitlines()]
        self.lines.append(" " * indent + line)

    def ask(self, line: str, question: str, *, indent: int = 0) -> None:
        """Add a line that holds a safe answer, and its question.

        Parameters
        ----------
        line : str
            YAML.
        question : str
            What is open, and what the answer would change.
        indent : int, optional
            Blanks before it.
        """
        self.questions.append(question)
        self.add(line, f"? {question}", indent=indent)


@dataclass(frozen=True)
class Seen:
    """What was seen of a camera's files.

    Parameters
    ----------
    exposures : list of Layout
        Files of exposures.
    companions : dict
        Masks, weights and others by role and word of the name: file and role.
    first : ImageInfo
        First image of the first exposure.
    data : float32 array, shape (ny, nx)
        Its pixels.
    pixels : PixelStatistics
        What they say.
    """

    exposures: list[Layout]
    companions: dict[str, tuple[Path, str]]
    first: ImageInfo
    data: Any
    pixels: PixelStatistics

    @property
    def headers(self) -> list[dict[str, object]]:
        """Return the cards of every image that is an exposure."""
        return [image.cards for layout in self.exposures for image in layout.of_role("science")]

    @property
    def path(self) -> Path:
        """Return the first file."""
        return self.exposures[0].path


def look_at(files: Sequence[Path]) -> Seen:
    """Read headers of files and the pixels of the first exposure.

    Parameters
    ----------
    files : sequence of Path
        FITS files, companions among them.

    Returns
    -------
    Seen
        What was seen.

    Raises
    ------
    LumosDataError
        If none is an exposure, or they are of several cameras or units.
    """
    companions: dict[str, tuple[Path, str]] = {}
    exposures: list[Layout] = []
    reasons = []
    for path in files:
        found = companion_of(path, files)
        if found is not None:
            companions.setdefault(f"{found[1]} {found[2]}", (path, found[1]))
        if found is not None or re.search(r"(?i)(^|[^a-z])psf([^a-z]|$)", path.name):
            continue
        if len(exposures) < _MOST_FILES:
            try:
                exposures.append(read_layout(path))
            except (LumosDataError, OSError) as error:
                reasons.append(str(error))
    if not exposures:
        raise LumosDataError(reasons[0] if reasons else f"{files[0]}: no exposure, only companions of others")
    exposures = _with_wcs(exposures)
    if not companions:
        companions = _beside(exposures[0].path)
    _check_one_camera(exposures)
    _check_one_unit(exposures)
    first = exposures[0].of_role("science")[0]
    with open_fits(exposures[0].path, checksum="ignore") as hdul:
        data = read_float_image(hdul[first.index], exposures[0].path)
    return Seen(exposures, companions, first, data, measure_pixels(data))


def _with_wcs(exposures: list[Layout]) -> list[Layout]:
    """Leave out images without a WCS (PSFs, tables of numbers) where others have one."""
    with_one = [one for one in exposures if any("CTYPE1" in image.cards for image in one.of_role("science"))]
    for path in (one.path for one in exposures if with_one and one not in with_one):
        logger.warning("%s: no WCS, left out", path)
    return with_one or exposures


def _beside(path: Path) -> dict[str, tuple[Path, str]]:
    """Return companions that lie beside an exposure."""
    found = {}
    for other in sorted(path.parent.iterdir()):
        match = companion_of(other, [path]) if other.is_file() and re.search(FITS_END, other.name) else None
        if match is not None:
            found[f"{match[1]} {match[2]}"] = (other, match[1])
    return found


def _check_one_unit(exposures: list[Layout]) -> None:
    """Refuse pixels of several units: one survey file gives all of them one zero point."""
    found: dict[str, Path] = {}
    for layout in exposures:
        told = layout.of_role("science")[0].cards.get("BUNIT")
        found.setdefault(unit_of(str(told))[0] if told else "none", layout.path)
    if len(found) > 1:
        named = "; ".join(f"{path.name}: {unit}" for unit, path in list(found.items())[:4])
        raise LumosDataError(
            f"pixels of several units (BUNIT: {named}), allowed: those of one; give each its own survey file"
        )


def _check_one_camera(exposures: list[Layout]) -> None:
    cameras: dict[str, Path] = {}
    for layout in exposures:
        cards = layout.of_role("science")[0].cards
        told = " ".join(str(cards[key]) for key in ("TELESCOP", "INSTRUME") if cards.get(key))
        if told:
            cameras.setdefault(told, layout.path)
    if len(cameras) > 1:
        named = "; ".join(f"{path.name}: {told}" for told, path in list(cameras.items())[:4])
        raise LumosDataError(
            f"files of several cameras ({named}), allowed: those of one; give each its own survey file"
        )
