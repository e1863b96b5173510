"""The formats of ``lumos export``; nothing slow is imported here."""

from dataclasses import dataclass
from pathlib import Path

from lumos.errors import LumosConfigError, LumosValueError
from lumos.flags import NAN_FLUX, UNUSABLE, Flag

__all__ = ["FAILED", "FORMATS", "PIXEL_FLAGS", "RUBIN_FLAGS", "Format", "check_format"]

#: Flags of rows that have no flux, or one that is not to be used.
FAILED = NAN_FLUX | UNUSABLE
#: Rubin's flags of pixels and the bits that set them.
PIXEL_FLAGS: dict[str, Flag] = {
    "pixelFlags_bad": Flag.MASKED,
    "pixelFlags_cr": Flag.COSMIC_RAY,
    "pixelFlags_edge": Flag.EDGE,
    "pixelFlags_nodata": Flag.OFF_DATA,
    "pixelFlags_saturated": Flag.SATURATED,
}
#: All flags of Rubin that are exported.
RUBIN_FLAGS: dict[str, Flag] = {
    "psfFlux_flag": FAILED,
    "cModel_flag": FAILED | Flag.NO_EXPOSURE | Flag.NO_REFERENCE,
    **PIXEL_FLAGS,
}


@dataclass(frozen=True)
class Format:
    """A format of ``lumos export``.

    Parameters
    ----------
    name : str
        As of ``--format``.
    suffixes : tuple of str
        What the name of the output may end in; none: it is a folder.
    text : str
        What it is, in a phrase.
    is_plain : bool, optional
        Whether it is a table of all columns, or one of colours.
    is_wide : bool, optional
        Whether it has one row per object of a coadd, and columns for each band.
    """

    name: str
    suffixes: tuple[str, ...]
    text: str
    is_plain: bool = False
    is_wide: bool = False


#: What a table with the columns of a survey may be written as.
_TABLES = (".parquet", ".fits", ".xml", ".vot", ".csv", ".ecsv")
#: By name, as of ``--format``.
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("fits", (".fits",), "all columns, as a binary table of FITS", is_plain=True),
        Format("votable", (".xml", ".vot"), "all columns, as VOTable 1.4", is_plain=True),
        Format("csv", (".csv",), "all columns, without units", is_plain=True),
        Format("ecsv", (".ecsv",), "all columns, as text with units", is_plain=True),
        Format("lsst", _TABLES, "columns of Rubin's ForcedSource (run) or Object (coadd)", is_wide=True),
        Format("paus", _TABLES, "columns of PAUS, zero point 26", is_wide=True),
        Format("des", _TABLES, "columns of DES, zero point 30, sentinels", is_wide=True),
        Format("qp", (".hdf5",), "PDFs, as an ensemble of Gaussian mixtures"),
        Format("hats", (), "all columns, as a folder of Parquet files by HEALPix pixel"),
        Format("rail", (".hdf5",), "magnitudes and fluxes of a coadd, as RAIL reads them", is_wide=True),
    )
}


def check_format(name: str, out: Path) -> Format:
    """Find a format, and refuse an output that exists or whose name promises another format.

    Parameters
    ----------
    name : str
        As of ``--format``.
    out : Path
        What is to be written.

    Returns
    -------
    Format
        The format.

    Raises
    ------
    LumosValueError
        If there is no such format.
    LumosConfigError
        If the output exists, or its name ends otherwise.
    """
    if name not in FORMATS:
        raise LumosValueError("format", name, ", ".join(FORMATS))
    chosen = FORMATS[name]
    if chosen.suffixes and out.suffix not in chosen.suffixes:
        raise LumosConfigError(f"{out}: {name} is written to a file that ends in {' or '.join(chosen.suffixes)}")
    if out.exists() or out.is_symlink():
        raise LumosConfigError(f"{out}: exists; give a new --out")
    if not out.parent.is_dir():
        raise LumosConfigError(f"{out}: no such folder {out.parent}")
    return chosen
