"""The columns of a parent catalogue: their rules, how they are found in a file, and how units are converted."""

from collections.abc import Iterable

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, ZEROPOINT_RANGE, AnyArray, FloatArray
from lumos.errors import LumosDataError

__all__ = [
    "COLUMNS",
    "COLUMN_TEXT",
    "ERROR_COLUMNS",
    "candidates",
    "check_frame",
    "find_column",
    "flux_zeropoint",
    "is_magnitude",
    "to_standard_unit",
]

#: Columns of a parent catalogue with the unit of each, which is taken where the file states none.
COLUMNS: dict[str, str] = {
    "object_id": "",
    "ra": "deg",
    "dec": "deg",
    "half_light_radius": "arcsec",
    "sersic_n": "",
    "axis_ratio": "",
    "position_angle": "deg",
    "ref_mag": "mag(AB)",
}

#: Columns that a parent catalogue may have: 1-sigma errors of positions and shapes.
ERROR_COLUMNS: dict[str, str] = {
    "position_err": "arcsec",
    "half_light_radius_err": "arcsec",
    "sersic_n_err": "",
    "axis_ratio_err": "",
}

#: What each column holds, and what happens where the file or a row has none.
COLUMN_TEXT: dict[str, str] = {
    "object_id": "unique identifier: an integer of at most 63 bits and a sign, or a text, of which a 63-bit digest is "
    "taken (the text is kept as `object_name`). Where the file has none, rows are numbered from 1. A row without one "
    "is an error",
    "ra": "right ascension, ICRS. Needed; a row without one lies on no exposure",
    "dec": "declination, ICRS. Needed; a row without one lies on no exposure",
    "half_light_radius": "radius of half the light before the PSF, along the major axis (or sqrt(a b), with "
    "`measure.catalog.radius=circularised`); 0 for a point source. A row without one is flagged `BAD_SHAPE`. A file "
    "without any column of shapes holds point sources",
    "sersic_n": "Sérsic index, 0.3 to 6.2; outside, or missing in a row, it is flagged `BAD_SHAPE`. A file with radii "
    "needs this column, or a number for all rows: `measure.catalog.columns={sersic_n: 1.0}`",
    "axis_ratio": "minor over major axis, 0.05 to 1; outside, or missing, the row is flagged `BAD_SHAPE`. A file that "
    "has neither this nor `position_angle` holds round objects",
    "position_angle": "of the major axis, from north through east. A row without one is flagged `BAD_SHAPE`",
    "ref_mag": "reference magnitude, or flux, if its unit says so (`nJy`, `uJy`, `nanomaggy`, or `zp 26`). Optional; "
    "NaN where unknown; so are values that are none, as 99, -99 and 0",
    "position_err": "error of the position along each axis. Optional, as the three that follow: rows without one, or "
    "with a negative one, have the error of the run, `measure.catalog.errors`",
    "half_light_radius_err": "error of the half-light radius",
    "sersic_n_err": "error of the Sérsic index",
    "axis_ratio_err": "error of the axis ratio",
}

#: Names that other programs and archives give to these columns; they are suggested, never taken.
_ALIASES: dict[str, tuple[str, ...]] = {
    "object_id": ("id", "number", "objid", "obj_id", "source_id", "sourceid", "seqnr", "name", "objectid"),
    "ra": ("alpha_j2000", "raj2000", "ra_icrs", "alpha", "raj", "alphawin_j2000", "coord_ra", "ra_deg", "x_world"),
    "dec": ("delta_j2000", "dej2000", "decj2000", "de_icrs", "delta", "deltawin_j2000", "coord_dec", "dec_deg", "de"),
    "half_light_radius": (
        "r50",
        "re",
        "r_e",
        "reff",
        "shape_r",
        "hlr",
        "r_eff",
        "rhalf",
        "spheroid_reff_world",
    ),
    "sersic_n": ("n", "sersic", "n_sersic", "sersic_index", "spheroid_sersicn"),
    "axis_ratio": ("q", "ba", "b_a", "b/a", "axisratio", "spheroid_aspect_world"),
    "position_angle": ("pa", "theta_j2000", "theta_sky", "phi", "posang", "spheroid_theta_j2000"),
    "ref_mag": ("mag_auto", "mag", "imag", "i_mag", "mag_i", "gmag", "phot_g_mean_mag"),
}

#: AB magnitudes of 1 of the units of flux that astropy does not relate to Jy.
_FLUX_ZEROPOINTS = {"nanomaggy": 22.5, "nanomaggies": 22.5, "nmgy": 22.5, "maggy": 0.0, "maggies": 0.0, "mgy": 0.0}
#: Words for a pixel, whose size a catalogue does not say.
_PIXELS = {"pix", "pixel", "pixels", "px"}
#: Spellings of an AB magnitude.
_MAGNITUDES = {"mag", "mags", "mag(ab)", "abmag", "ab mag", "magab", "ab magnitude", "magnitude"}


def find_column(names: Iterable[str], wanted: str, path: object) -> str | None:
    """Find a column by its exact name, else by the only one that differs from it in upper and lower case alone.

    Parameters
    ----------
    names : iterable of str
        Columns of the file.
    wanted : str
        Name to look for.
    path : Path
        The file, for messages.

    Returns
    -------
    str or None
        Name in the file; None where there is none.

    Raises
    ------
    LumosDataError
        If the exact name is absent and several differ from it in case alone.
    """
    there = list(names)
    if wanted in there:
        return wanted
    alike = [name for name in there if name.lower() == wanted.lower()]
    if len(alike) > 1:
        raise LumosDataError(
            f"{path}: column {wanted!r} could be {' or '.join(map(repr, alike))}; say which in measure.catalog.columns"
        )
    return alike[0] if alike else None


def candidates(names: Iterable[str], wanted: str) -> list[str]:
    """Return the columns of a file that other programs use for what is wanted.

    Parameters
    ----------
    names : iterable of str
        Columns of the file.
    wanted : str
        Column of a parent catalogue.

    Returns
    -------
    list of str
        Names in the file.
    """
    return [name for name in names if name.lower() in _ALIASES.get(wanted, ())]


def to_standard_unit(values: AnyArray, name: str, source: str, unit: str | None, path: object) -> FloatArray:
    """Convert a column to the unit of the parent catalogue.

    Parameters
    ----------
    values : array, shape (n,)
        Numbers of the file.
    name : str
        Column of the parent catalogue.
    source : str
        Its name in the file.
    unit : str or None
        Unit that the file or the user states; None: that of the parent catalogue. Of ``ref_mag`` also one of flux.
    path : Path
        The file, for messages.

    Returns
    -------
    float array, shape (n,)
        In the unit of ``COLUMNS`` or ``ERROR_COLUMNS``.

    Raises
    ------
    LumosDataError
        If the unit is unknown or measures something else, as a radius in kpc or pixels.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    # Files of earlier versions say what is meant after a comma: "arcsec, along the major axis".
    text = "" if unit is None else unit.split(",")[0].strip()
    wanted = (COLUMNS | ERROR_COLUMNS)[name]
    if not text or text == wanted:
        return values
    if wanted == "mag(AB)":
        return values if is_magnitude(text) else _magnitudes(values, text, source, path)
    if not wanted:
        return values * _dimensionless(text, name, source, path)
    factor = _factor(text, wanted)
    if factor is None:
        what = "which is no angle; allowed: deg, arcmin, arcsec, mas, rad, hourangle"
        if text.lower() in _PIXELS:
            what = f"say how large one is, as measure.catalog.units={{{name}: 0.2 arcsec}}"
        raise LumosDataError(f"{path}: column {source!r} ({name}) is in {text!r}, {what}")
    return values if factor == 1 else values * factor


def is_magnitude(text: str) -> bool:
    """Return whether a unit is that of AB magnitudes.

    Parameters
    ----------
    text : str
        Unit as a file writes it.

    Returns
    -------
    bool
        True for ``mag``, ``mag(AB)`` and other spellings.
    """
    return text.lower() in _MAGNITUDES


def flux_zeropoint(text: str) -> float | None:
    """Return the AB magnitude of 1 of a unit of flux.

    Parameters
    ----------
    text : str
        Unit, as ``uJy`` or ``nanomaggy``, or ``zp 26``.

    Returns
    -------
    float or None
        Zero point; None where it is no unit of flux per frequency.
    """
    words = text.lower().split()
    if len(words) == 2 and words[0] == "zp":
        try:
            return float(words[1])
        except ValueError:
            return None
    if text.lower() in _FLUX_ZEROPOINTS:
        return _FLUX_ZEROPOINTS[text.lower()]
    factor = _factor(text, "nJy")
    return None if factor is None else AB_ZEROPOINT_NJY - 2.5 * np.log10(factor)


def _magnitudes(fluxes: FloatArray, text: str, source: str, path: object) -> FloatArray:
    """Return the AB magnitudes of fluxes, NaN where one is not above 0."""
    zeropoint = flux_zeropoint(text)
    if zeropoint is None or not ZEROPOINT_RANGE[0] <= zeropoint <= ZEROPOINT_RANGE[1]:
        allowed = "AB magnitudes ('mag'), fluxes (as nJy, uJy, nanomaggy), or those of a zero point (as 'zp 26')"
        raise LumosDataError(f"{path}: column {source!r} (ref_mag) is in {text!r}, allowed: {allowed}")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(fluxes > 0, zeropoint - 2.5 * np.log10(fluxes), np.nan))


def _factor(text: str, wanted: str) -> float | None:
    """Return what a number in a unit is multiplied with; None where the two measure different things."""
    from astropy import units as u  # noqa: PLC0415 - half a second, needed for files with units alone

    for spelling in (text, text.lower(), text.lower().rstrip("s").replace("degree", "deg")):
        try:
            return float(u.Unit(spelling).to(u.Unit(wanted)))
        except (ValueError, TypeError, u.UnitConversionError):
            continue
    return None


def _dimensionless(text: str, name: str, source: str, path: object) -> float:
    """Return the factor of a column without dimension: 1, or 0.01 for per cent."""
    if text.lower() in {"none", "unitless", "sérsic index", "minor over major axis", "-"}:
        return 1.0
    factor = _factor(text, "")
    if factor is None:
        raise LumosDataError(f"{path}: column {source!r} ({name}) is in {text!r}, allowed: a number without unit")
    return factor


def check_frame(frame: str, path: object) -> None:
    """Refuse a table that says that its positions are in another frame than ICRS.

    Parameters
    ----------
    frame : str
        What the file states (``RADESYS`` and ``EQUINOX``, or each ``COOSYS``), with semicolons between; may be empty.
    path : Path
        The file, for messages.

    Raises
    ------
    LumosDataError
        If each frame is another than ICRS or FK5 of equinox 2000.
    """
    parts = [part for part in frame.split(";") if part.strip()]
    if parts and all(_is_foreign(part) for part in parts):
        raise LumosDataError(f"{path}: its positions are in {frame!r}, allowed: ICRS, or FK5 of equinox 2000")


def _is_foreign(frame: str) -> bool:
    words = frame.upper().replace("_", " ").split()
    if "ICRS" in words:
        return False
    years = [word.lstrip("JB") for word in words]
    other_equinox = any(float(year) != 2000 for year in years if year.replace(".", "", 1).isdigit())
    return other_equinox or any(word.startswith(("FK4", "GAL", "ECL", "SUPERGAL", "XY")) for word in words)
