"""Export a run or a coadd to a format of the field."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree

from lumos.catalogs.tables import write_table
from lumos.errors import LumosConfigError
from lumos.exports.dialects import des_export, lsst_export, paus_export
from lumos.exports.fits import write_fits
from lumos.exports.formats import FORMATS, Format, check_format
from lumos.exports.source import Source, open_source
from lumos.exports.tables import Export, colours_export, points_export
from lumos.exports.text import write_csv, write_ecsv
from lumos.exports.votable import write_votable
from lumos.files import UNFINISHED, name_code, whole_file
from lumos.photoz.run import is_redshift_run
from lumos.runs.locks import lock_file

__all__ = ["export_table"]

#: Formats that name the columns as a survey does.
_DIALECTS = {"lsst": lsst_export, "paus": paus_export, "des": des_export}


def _write_parquet(export: Export, path: Path) -> None:
    write_table(export.tables(), path)


#: What writes a table of rows, by suffix of the file.
_SUFFIXES: dict[str, Callable[[Export, Path], None]] = {
    ".parquet": _write_parquet,
    ".fits": write_fits,
    ".xml": write_votable,
    ".vot": write_votable,
    ".csv": write_csv,
    ".ecsv": write_ecsv,
}


def export_table(
    path: Path,
    out: Path,
    format_: str,
    *,
    bands: Sequence[str] | None = None,
    colours: bool = False,
    finished: bool = False,
) -> int:
    """Write a run or a coadd in another format, whole or not at all; or the p(z) of a run of ``lumos photoz``.

    Parameters
    ----------
    path : Path
        Folder of the run, or file of the coadd; or folder that ``lumos photoz`` wrote, as ``qp`` alone.
    out : Path
        File to write, or folder for ``hats``; must not exist.
    format_ : str
        One of :data:`lumos.exports.formats.FORMATS`.
    bands : sequence of str, optional
        Bands of formats with one row per object, and of colours; all by default.
    colours : bool, optional
        Write the colours of neighbouring bands with their covariance, one row per object, in place of the fluxes.
    finished : bool, optional
        Take the finished exposures of a run in which others failed or were never begun.

    Returns
    -------
    int
        Rows of the run or the coadd; redshifts that were written.

    Raises
    ------
    LumosValueError
        If the format or a band is unknown.
    LumosConfigError
        If the output exists, its name ends otherwise than the format wants, or an option does not go with the format.
    LumosDataError
        If the source is damaged, unfinished, or lacks what the format needs.
    LumosError
        If a package that the format needs is not installed.
    """
    chosen = check_format(format_, out)
    if colours and not chosen.is_plain:
        raise LumosConfigError(
            f"--colours: not with {format_}, allowed: {', '.join(one.name for one in FORMATS.values() if one.is_plain)}"
        )
    with lock_file(out):
        return _export(path, out, chosen, bands, colours=colours, finished=finished)


def _export(
    path: Path, out: Path, chosen: Format, bands: Sequence[str] | None, *, colours: bool, finished: bool
) -> int:
    if is_redshift_run(path):
        return _export_redshifts(path, out, chosen, plain=bands is None and not colours)
    source = open_source(path, finished=finished)
    if bands is not None and not (colours or (chosen.is_wide and source.is_coadd)):
        allowed = f"a coadd as {', '.join(one.name for one in FORMATS.values() if one.is_wide)}, or --colours"
        raise LumosConfigError(f"--bands: {chosen.name} of {path} holds all bands in one column; allowed: {allowed}")
    write = _writer(chosen, source, out, bands, colours=colours)
    with _whole_folder(out) if not chosen.suffixes else whole_file(out) as temporary:
        write(temporary)
    return source.n_rows


def _export_redshifts(path: Path, out: Path, chosen: Format, *, plain: bool) -> int:
    if chosen.name != "qp" or not plain:
        text = "allowed: qp, without --bands and --colours (its shards are Parquet)"
        raise LumosConfigError(f"{path}: redshifts of `lumos photoz`, got --format {chosen.name}, {text}")
    from lumos.exports.redshifts import write_redshifts  # noqa: PLC0415

    with whole_file(out) as temporary:
        return write_redshifts(path, temporary)


def _writer(
    chosen: Format, source: Source, out: Path, bands: Sequence[str] | None, *, colours: bool
) -> Callable[[Path], object]:
    """Return what writes a source; what the format needs of it is checked before."""
    if chosen.name == "qp":
        from lumos.exports.hdf5 import write_qp  # noqa: PLC0415

        return lambda path: write_qp(source, path)
    if chosen.name == "rail":
        from lumos.exports.hdf5 import write_rail  # noqa: PLC0415

        return lambda path: write_rail(source, path, bands)
    if chosen.name in _DIALECTS:
        export = _DIALECTS[chosen.name](source, bands)
    else:
        export = colours_export(source, bands) if colours else points_export(source)
    if chosen.name == "hats":
        from lumos.exports.hats import write_hats  # noqa: PLC0415

        return lambda path: write_hats(export, path, out.name)
    return partial(_SUFFIXES[out.suffix], export)


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder appear under its name only when it is whole."""
    # What a killed command left does not stop the next.
    temporary = path.with_name(f"{UNFINISHED}{name_code(path)}-{secrets.token_hex(8)}.part")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        if temporary.exists():
            rmtree(temporary)
