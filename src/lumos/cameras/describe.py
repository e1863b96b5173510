"""Describe a camera from its files: a survey file with a comment on every line, and the questions that stay open."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumos.cameras.companions import note_companions, note_psf
from lumos.cameras.keywords import (
    FACTS,
    FILE_BANDS,
    is_band_name,
    keys_with_values,
    number_of,
    yaml_list,
)
from lumos.cameras.layout import ImageInfo
from lumos.cameras.seen import Notes, Seen, look_at
from lumos.errors import LumosDataError
from lumos.images.fits.file import file_stem, open_fits
from lumos.images.read_wcs import celestial_wcs
from lumos.images.reader import read_exposure
from lumos.images.wcs import pixel_scale_at
from lumos.surveys import load_survey, read_survey_text, shipped_surveys
from lumos.surveys.units import unit_of

__all__ = ["Camera", "describe_camera"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Camera:
    """A camera as its files describe it.

    Parameters
    ----------
    text : str
        Survey file (YAML), commented.
    questions : tuple of str
        What the files do not tell, with what the answer would change.
    exposures : tuple of Path
        The files that are exposures.
    known : str or None
        Shipped survey whose images they are.
    """

    text: str
    questions: tuple[str, ...]
    exposures: tuple[Path, ...]
    known: str | None = None


def describe_camera(files: Sequence[Path], name: str | None = None) -> Camera:
    """Describe the camera that made some files.

    Parameters
    ----------
    files : sequence of Path
        FITS files; masks, weights, skies and PSFs of others among them are recognised by their names.
    name : str, optional
        Name of the survey; by default the instrument's.

    Returns
    -------
    Camera
        Survey file and open questions.

    Raises
    ------
    LumosDataError
        If no file is an exposure, they are of several cameras, or the first has no WCS.
    """
    seen = look_at(files)
    paths = tuple(layout.path for layout in seen.exposures)
    known = _shipped(seen)
    if known is not None and name is None:
        made = f"# Made by `lumos init`: {seen.path.name} is an image of the shipped survey {known}.\n"
        return Camera(made + read_survey_text(known), (), paths, known)
    notes = Notes()
    header = seen.first.cards
    called = name or re.sub(r"[^A-Za-z0-9_+-]+", "_", str(header.get("INSTRUME") or "mycamera")).strip("_").lower()
    notes.add(f"name: {json.dumps(called[:40] or 'mycamera')}")
    notes.add(f"text: {json.dumps(f'Camera {called}, described by lumos init from ' + seen.path.name)}")
    band = _bands(seen)
    notes.add("bands: any", "Names of bands: any. List them with their wavelengths in nm where colours matter.")
    unit, rule = _pixel_units(seen, notes)
    scale = _pixel_scale(seen)
    notes.add(f"pixel_scale: {scale:.5g}", "Arcsec, of the WCS; images that differ by over 3 % are refused.")
    _sky(seen, notes)
    notes.add("header:")
    band(notes)
    _facts(seen, notes, unit)
    _zeropoint(seen, notes, unit, rule)
    note_companions(seen, notes)
    note_psf(seen, notes, scale)
    top = [
        f"# Made by `lumos init` from {len(seen.exposures)} exposures, {seen.path.name} first.",
        "# Lines with '?' are questions that the files leave open; a safe answer stands below each.",
    ]
    return Camera("\n".join([*top, *notes.lines]) + "\n", tuple(notes.questions), paths)


def _shipped(seen: Seen) -> str | None:
    """Return the shipped survey whose images these are, if its file reads the first."""
    cards = seen.first.cards
    for name in shipped_surveys():
        survey = load_survey(name)
        conditions = survey.recognised_by
        told = [(one, next((cards[key] for key in one.keys if key in cards), "")) for one in conditions]
        if told and all(re.match(one.pattern, str(value)) for one, value in told):
            try:
                next(iter(read_exposure(seen.path, survey)))
            except LumosDataError as error:
                logger.info("%s looks like %s, but: %s", seen.path, name, error)
            else:
                return name
    return None


def _pixel_scale(seen: Seen) -> float:
    with open_fits(seen.path, checksum="ignore") as hdul:
        wcs = celestial_wcs(hdul[seen.first.index].header, seen.path, (seen.first.shape[0], seen.first.shape[1]))
    return pixel_scale_at(wcs, (seen.first.shape[0], seen.first.shape[1]))


def _bands(seen: Seen) -> Any:  # noqa: ANN401
    """Return what writes the line of the band."""
    keys = keys_with_values(seen.headers, "band")
    named = [key for key, values in keys.items() if is_band_name(values)]
    # 'z DECam SDSS c0004 9260.0 1520.0' begins with a name; 'H  )' is none.
    words = re.compile(r"[A-Za-z][\w.+-]*( [\w.+-]+)+")
    worded = [key for key, values in keys.items() if all(words.fullmatch(str(value).strip()) for value in values)]
    stems = [file_stem(layout.path) for layout in seen.exposures for _ in layout.of_role("science")]
    patterns = [pattern for pattern in FILE_BANDS if all(re.search(pattern, stem) for stem in stems)]

    def write(notes: Notes) -> None:
        if named:
            values = sorted({str(value).strip() for value in keys[named[0]]})
            notes.add(
                f"band: {{keys: {yaml_list(named)}, required: true}}", f"{named[0]}: {', '.join(values)}", indent=2
            )
        elif worded:
            values = sorted({str(value) for value in keys[worded[0]]})
            line = f"band: {{keys: {yaml_list(worded[:1])}, pattern: '^(\\S+)', required: true}}"
            notes.add(line, f"{worded[0]}: {', '.join(values)}; the first word", indent=2)
        elif patterns:
            found = sorted({re.search(patterns[0], stem)[1] for stem in stems})  # type: ignore[index]
            told = "; ".join(f"{key}: {values[0]!r} is no name of a band" for key, values in list(keys.items())[:1])
            question = f"bands {', '.join(found)} are taken from the file names ({told or 'no keyword tells'})"
            notes.ask(f"band: {{file_pattern: {json.dumps(patterns[0])}, required: true}}", question, indent=2)
        else:
            told = "; ".join(f"{key}: {values[0]!r}" for key, values in keys.items()) or "no keyword, no file name"
            question = f"which band is it ({told})? Written as 'unknown': images of several bands would be mixed"
            notes.ask("band: {default: unknown}", question, indent=2)

    return write


def _pixel_units(seen: Seen, notes: Notes) -> tuple[str, float | str]:
    told = seen.first.cards.get("BUNIT")
    unit, rule = unit_of(None if told is None else str(told))
    if unit != "unknown":
        notes.add(f"flux_unit: {json.dumps(unit)}", f"BUNIT: {told}")
    else:
        question = f"unit of the pixels ({'no BUNIT' if told is None else f'BUNIT: {told}'})? Taken as counts (ADU)"
        notes.ask("flux_unit: ADU", question)
        unit, rule = "ADU", "counts"
    return unit, rule


def _sky(seen: Seen, notes: Notes) -> None:
    pixels = seen.pixels
    ratio = abs(pixels.sky) / pixels.scatter
    why = f"The median level is {pixels.sky:.4g}, {ratio:.2g} times the scatter of a sky pixel."
    if not np.isfinite(pixels.sky):
        notes.ask("sky_subtracted: true", "too few pixels to see whether the sky is subtracted; it sets the noise")
        return
    notes.add(f"sky_subtracted: {str(pixels.sky_subtracted).lower()}", why)


def _facts(seen: Seen, notes: Notes, unit: str) -> None:
    """Write the lines of the facts that stand in headers."""
    per_file = [layout.of_role("science") for layout in seen.exposures]
    if max(map(len, per_file)) > 1:
        _detectors(per_file, notes)
    per_second = unit.endswith("/s")
    for fact in ("exposure_time", "gain", "read_noise", "saturation"):
        keys = keys_with_values(seen.headers, fact)
        if fact == "gain" and per_second:
            keys = keys_with_values(seen.headers, "exposure_time") if unit == "electron/s" else {}
        elif fact == "gain" and unit != "ADU":
            # A header's gain is that of counts, not of physical units.
            keys = {}
        if fact == "gain" and unit == "electron":
            notes.add("gain: {default: 1.0}", "Pixels are electrons", indent=2)
        elif keys:
            key = next(iter(keys))
            values = sorted({number_of(value) for value in keys[key]})
            why = f"{key}: {_span(values)}"
            if fact == "gain":
                why += f". {_gain_check(seen, values[0])}" if not per_second else ": electrons of one image unit"
            notes.add(f"{fact}: {yaml_list([key])}", why, indent=2)
        elif fact == "gain":
            question = f"gain, electrons per {unit}? Without it the photons of the galaxies count for no noise"
            notes.ask("gain: []", f"{question}: errors of bright ones are too small", indent=2)
        elif fact == "saturation" and np.isfinite(seen.pixels.plateau):
            why = f"the highest pixels share the level {seen.pixels.plateau:.6g}: is it saturation? Taken as such"
            notes.ask(f"saturation: {{default: {seen.pixels.plateau:.6g}}}", why, indent=2)


def _detectors(per_file: list[list[ImageInfo]], notes: Notes) -> None:
    """Write where the name of the CCD stands in files of several."""
    for key in ("DETECTOR", "CCDNAME", "CCDNUM", "CHIPID", "DET-ID", "EXTNAME", "DETSEC"):
        values = [[str(image.cards.get(key, "")) for image in images] for images in per_file]
        if all(len(set(row)) == len(row) and all(re.fullmatch(r"[\w.+-]+", one) for one in row) for row in values):
            notes.add(f"detector: {{keys: [{key}], required: true}}", f"{key}: {', '.join(values[0][:4])}", indent=2)
            return
    found = ", ".join(image.name or str(image.index) for image in per_file[0])
    question = f"no keyword tells the CCDs of a file apart ({found}): only the first is measured"
    notes.ask('detector: {default: "0"}', question, indent=2)


def _span(values: Sequence[float]) -> str:
    return f"{values[0]:g}" + (f" to {values[-1]:g}" if len(values) > 1 else "")


def _gain_check(seen: Seen, gain: float) -> str:
    pixels = seen.pixels
    if pixels.sky_subtracted or not pixels.scatter > 0 or not pixels.sky > 0:
        return "The sky is subtracted, so that the pixels cannot confirm it"
    implied = pixels.sky / pixels.scatter**2
    verdict = "agrees" if 0.6 < implied / gain < 1.6 else "does not agree: look at it"
    return f"Sky over variance is {implied:.3g} electrons per unit, which {verdict}"


def _zeropoint(seen: Seen, notes: Notes, unit: str, rule: float | str) -> None:
    """Write where the zero point stands, and what its number means."""
    headers, after = seen.headers, list[tuple[str, str]]()
    if unit_of(str(seen.first.cards.get("BUNIT")))[0] != "unknown":
        notes.add("unit: [BUNIT]", "Images in other units are refused", indent=2)
    flam = all(number_of(cards.get("PHOTFLAM")) > 0 for cards in headers)
    fluxes = ("ARCHIVE FLUXMAG0", "FLUXMAG0")
    fluxmag0 = [key for key in fluxes if all(number_of(cards.get(key)) > 0 for cards in headers)]
    if isinstance(rule, float):
        notes.add(f"zeropoint: {{default: {rule}}}", f"AB magnitude of 1 {unit}", indent=2)
        notes.add("zeropoint_err: {default: 0.0}", indent=2)
    elif rule == "mjysr":
        if keys_with_values(headers, "pixel_area"):
            notes.add("pixel_area: [PIXAR_SR]", "Solid angle of a pixel", indent=2)
        after.append(("zeropoint: {kind: mjysr}", "From the pixel's solid angle"))
    elif (flam or rule == "flam") and keys_with_values(headers, "pivot"):
        value = "{default: 1.0}" if rule == "flam" else "[PHOTFLAM]"
        notes.add(f"zeropoint: {value}", "erg/s/cm2/Angstrom of 1 unit; the pivot wavelength makes AB of it", indent=2)
        notes.add("pivot: [PHOTPLAM]", indent=2)
        after.append(("zeropoint: {kind: photflam}", ""))
        if rule == "counts":
            after.append(("zeropoint_per_second: true", "PHOTFLAM is that of 1 unit per second"))
    elif fluxmag0:
        notes.add(f"zeropoint: {yaml_list(fluxmag0[:1])}", "Counts of magnitude 0", indent=2)
        after.append(("zeropoint: {kind: fluxmag0}", ""))
    else:
        _magnitude(seen, notes, unit)
    for line, why in after:
        notes.add(line, why)


def _magnitude(seen: Seen, notes: Notes, unit: str) -> None:
    """Write where a zero point in magnitudes stands, and ask what it is of."""
    keys = keys_with_values(seen.headers, "zeropoint")
    if not keys:
        tried = ", ".join(FACTS["zeropoint"][:6])
        question = f"no zero point in the header (tried {tried}, ...): fluxes stay in {unit}"
        notes.ask("zeropoint: []", f"{question}; `lumos coadd --zeropoints TABLE` can give it later", indent=2)
        return
    key = next(iter(keys))
    values = sorted({number_of(value) for value in keys[key]})
    notes.add(f"zeropoint: {yaml_list([key])}", f"{key}: {_span(values)}", indent=2)
    errors = list(keys_with_values(seen.headers, "zeropoint_err"))[:1]
    if errors:
        notes.add(f"zeropoint_err: {yaml_list(errors)}", indent=2)
    question = f"is {key} the AB magnitude of 1 {unit}"
    question += "?" if unit.endswith("/s") else ", or of 1 per second (then true)?"
    question += " And AB, not Vega (zeropoint.offset)? A wrong answer shifts all fluxes by one factor"
    notes.ask("zeropoint_per_second: false", question)
