"""Lines of a survey file on what belongs to an exposure: mask, weight, PSF."""

import json
import math
import re
from collections.abc import Iterator

import numpy as np

from lumos.cameras.keywords import keys_with_values, number_of, yaml_list
from lumos.cameras.layout import ImageInfo, companion_of, read_layout
from lumos.cameras.pixels import tell_weight
from lumos.cameras.seen import FITS_END, Notes, Seen
from lumos.conventions import Float32Array
from lumos.images.fits.file import open_fits, read_float_image
from lumos.images.lsst.psf import load_lsst_psf

__all__ = ["note_companions", "note_psf"]

#: Mask planes by the names that pipelines give them.
_PLANES = {
    "BAD": ("BAD", "BADPIX", "DEAD", "HOT"),
    "SATURATED": ("SAT", "SATURATED", "SATUR"),
    "COSMIC_RAY": ("CR", "COSMIC_RAY", "COSMIC"),
    "NO_DATA": ("NO_DATA", "NODATA"),
    "BLEED": ("BLEED", "BLEEDTRAIL"),
    "SUSPECT": ("SUSPECT", "INTRP", "INTERPOLATED", "INTERP", "EDGE"),
}


def note_companions(seen: Seen, notes: Notes) -> None:
    """Write which images are exposures, and what masks and weights are.

    Parameters
    ----------
    seen : Seen
        Files.
    notes : Notes
        The survey file, which grows.
    """
    _images(seen, notes)
    _masks(seen, notes)
    _variances(seen, notes)


def _images(seen: Seen, notes: Notes) -> None:
    layout = seen.exposures[0]
    # Files of one CCD each call their image by it.
    every = [image.name or image.index for one in seen.exposures for image in one.of_role("science")]
    names = list(dict.fromkeys(every))
    if len(layout.images) > 1 or layout.images[0].index != 0:
        several = len(layout.of_role("science")) > 1
        chosen = "all" if several and all(isinstance(name, str) for name in names) else json.dumps(names)
        nameless = [str(image.index) for image in layout.images if image.role == "other" and not image.name]
        if nameless:
            question = f"images {', '.join(nameless)} of a file have no names (EXTNAME): are they exposures?"
            notes.questions.append(f"{question} They are left out; `image.extensions` takes one of them")
        others = [image.name for image in layout.images if image.role in {"other", "psf"} and image.name]
        if chosen == "all" and others:
            notes.add(f"image: {{extensions: all, exclude: {json.dumps(others)}}}")
        else:
            notes.add(f"image: {{extensions: {chosen}}}", "Exposures among the images of a file")


def _masks(seen: Seen, notes: Notes) -> None:
    """Write the masks, with their planes where the names of these stand in the header."""
    entries = []
    for image in seen.exposures[0].of_role("mask")[:1]:
        names = {str(key)[3:] for key in image.cards if str(key).startswith("MP_")}
        names |= {str(value) for key, value in image.cards.items() if re.fullmatch(r"MSKN\d{4}", str(key))}
        planes = {plane: [one for one in ours if one in names] for plane, ours in _PLANES.items()}
        written = ", ".join(f"{plane}: [{', '.join(found)}]" for plane, found in planes.items() if found)
        if written:
            entries.append(
                (f"- {{kind: names, {_extension(image)}, planes: {{{written}}}}}", "By the names in its header")
            )
        else:
            entries.append((f"- {{kind: nonzero, {_extension(image)}}}", ""))
    for word, (_, role) in seen.companions.items():
        if role == "mask":
            entries.append((f"- {{kind: nonzero, sidecar: [{_substitution(seen, word)}]}}", ""))
    if entries:
        notes.add("mask:")
    for line, why in entries:
        if why:
            notes.add(line, why, indent=2)
        else:
            meaning = (
                "what do the values of the mask mean? Any but 0 counts as bad; bits or codes (kind) that are listed"
            )
            notes.ask(line, f"{meaning} tell saturation and cosmic rays apart", indent=2)


def _extension(image: ImageInfo) -> str:
    return f"extension: [{json.dumps(image.name) if image.name else image.index}]"


def _weights(seen: Seen) -> Iterator[tuple[str, str, str, Float32Array]]:
    """Yield the role of each weight, its name, where it stands and its pixels."""
    layout = seen.exposures[0]
    for role in ("variance", "ivar", "rms", "weight"):
        for image in layout.of_role(role)[:1]:
            with open_fits(layout.path, checksum="ignore") as hdul:
                weight = read_float_image(hdul[image.index], layout.path)
            yield role, image.name or f"extension {image.index}", _extension(image), weight
    for word, (path, role) in seen.companions.items():
        if role in {"variance", "ivar", "rms", "weight"}:
            image = read_layout(path).images[0]
            with open_fits(path, checksum="ignore") as hdul:
                weight = read_float_image(hdul[image.index], path)
            yield role, path.name, f"sidecar: [{_substitution(seen, word)}]", weight


def _variances(seen: Seen, notes: Notes) -> None:
    """Write the variance or weight, and what it was found to hold."""
    lines = []
    for role, name, where, weight in _weights(seen):
        told = None if weight.shape != seen.data.shape else tell_weight(seen.data, weight, role)
        if told is None or not told.kind:
            notes.questions.append(f"{name}: what does it hold? No kind of weight fits the pixels; it is not used")
            continue
        more = ", includes_sources: true" if told.includes_sources else ""
        fits = f"its variance is {told.ratio:.2f} times that of the pixels" if math.isfinite(told.ratio) else told.kind
        lines.append((f"- {{kind: {told.kind}, {where}{more}}}", f"{name}: {fits}"))
    notes.lines.append("variance:" if lines else "# No weight or variance: the noise is measured on the pixels.")
    for line, why in lines:
        notes.add(line, why, indent=2)


def _substitution(seen: Seen, role_and_word: str) -> str:
    """Return how the name of a companion is made from the exposure's."""
    path, word = seen.companions[role_and_word][0], role_and_word.split()[1]
    exposure = companion_of(path, [layout.path for layout in seen.exposures])
    name = seen.path.name if exposure is None else exposure[0].name
    bare = re.sub(rf"([._-]?)(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", "", path.name, count=1)
    if bare == name:
        at = path.name.index(word)
        separator = path.name[at - 1] if at and path.name[at - 1] in "._-" else ""
        if path.name[at + len(word) :] == re.sub(rf"^.*?{FITS_END}", "", path.name):
            return f"{{find: '{FITS_END}', replace: '{separator}{word}'}}"
        rest = re.escape(path.name[at + len(word) :])
        return f"{{find: '(?={rest}$)', replace: '{separator}{word}'}}"
    place = re.search(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", path.name)
    science = re.match(r"[A-Za-z0-9]+", name[0 if place is None else place.start() :])
    return f"{{find: '(?<![A-Za-z0-9]){science[0] if science else ''}(?![A-Za-z0-9])', replace: '{word}'}}"


def note_psf(seen: Seen, notes: Notes, scale: float) -> None:
    """Write where the PSF comes from.

    Parameters
    ----------
    seen : Seen
        Files.
    notes : Notes
        The survey file, which grows.
    scale : float
        Arcsec per pixel.
    """
    width = seen.pixels.fwhm
    if np.isfinite(width) and width < 1.5:
        notes.questions.append(
            f"the sharpest sources have a FWHM of {width:.1f} px: undersampled, fluxes are less certain"
        )
    stamps = [image for image in seen.exposures[0].images if image.role == "psf" and image.name]
    keys = keys_with_values(seen.headers, "psf_fwhm")
    if stamps:
        notes.add(f"psf: {{kind: stamp, extension: {json.dumps(stamps[0].name)}}}", "A stamp in the file")
        return
    if load_lsst_psf(seen.path)[0] is not None:
        notes.add("psf: {kind: lsst}", "In the tables of the file")
        return
    for key, values in keys.items():
        for unit, pixels in (("arcsec", number_of(values[0]) / scale), ("pixel", number_of(values[0]))):
            if 0.8 < pixels / width < 1.25:
                why = f"{key} is {number_of(values[0]):.3g} {unit}, the sharpest sources have {width:.2f} px"
                notes.add(f"psf: {{kind: header, unit: {unit}}}", f"{why}. PSFs of `lumos psf` are better")
                at = notes.lines.index("header:") + 1
                notes.lines[at:at] = [f"  psf_fwhm: {yaml_list([key])}"]
                return
    measured = f"; the sharpest sources have a FWHM of {width:.2f} px" if np.isfinite(width) else ""
    notes.add("psf: {kind: table}", f"From stars, by `lumos psf`{measured}.")
