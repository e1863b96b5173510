"""The command ``lumos show``: one object of a run, as it was measured."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumos.coadds.read import read_coadd
from lumos.errors import LumosDataError, LumosError, LumosValueError, one_line
from lumos.files import file_stamp, whole_file
from lumos.flags import flag_names
from lumos.images.reader import read_exposure
from lumos.pdf import FluxPdf
from lumos.photometry.measured import MeasuredRun, open_run
from lumos.photometry.views import StampView, measured_ccd, view_stamp
from lumos.report.objects import ObjectRow, draw_object
from lumos.runs.shards import read_shard
from lumos.validate.evidence.pdfs import cut_rows, pdf_columns, row_pdfs

__all__ = ["show_object"]

logger = logging.getLogger(__name__)

#: Columns that a picture needs.
_COLUMNS = ("exposure_id", "detector", "band", "flux", "flux_err", "neighbour_id", "neighbour_distance", "flags")
#: Objects that a message names.
_NAMED = 3
#: Errors from which on fluxes are told without decimals, and the distance up to which a neighbour is told, arcsec.
_WHOLE, _NEAR = 30.0, 20.0


@dataclass(frozen=True)
class _Found:
    """An object of a run.

    Parameters
    ----------
    object_id : int
        Its identifier.
    name : str
        What it is called: its text, where it has one.
    rows : list of pyarrow.Table
        One row each, in the order of exposures and CCDs.
    unit : str
        Of its fluxes.
    """

    object_id: int
    name: str
    rows: list[pa.Table]
    unit: str


def show_object(
    run: Path, wanted: str, out: Path, *, coadd: Path | None = None, band: str | None = None, most: int = 12
) -> str:
    """Draw an object of a run: stamps, models, residuals, neighbours, masks and PDFs.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.
    wanted : str
        Identifier of the object: a number, or a text where the catalogue has such.
    out : Path
        PNG file to write.
    coadd : Path, optional
        Coadd of the run, whose PDFs are drawn over those of exposures.
    band : str, optional
        Show this band alone.
    most : int, optional
        Largest number of exposures of which stamps are shown; PDFs are shown of all.

    Returns
    -------
    str
        What was drawn, in a line.

    Raises
    ------
    LumosDataError
        If the run or the coadd is damaged, or the object is in neither.
    LumosValueError
        If the object is not in the band.
    """
    opened = open_run(run)
    found = _find(opened, wanted)
    if band is not None:
        bands = sorted({row["band"][0].as_py() for row in found.rows})
        if band not in bands:
            raise LumosValueError(f"band of object {wanted}", band, ", ".join(bands))
        found = replace(found, rows=[row for row in found.rows if row["band"][0].as_py() == band])
    coadds = {} if coadd is None else _coadded(coadd, found.object_id, wanted)
    cut = _is_cut(opened, found.object_id)
    rows = [
        _row(row, name, view, why, found.unit, cut=cut)
        for row, name, (view, why) in zip(found.rows, _names(found.rows), _views(opened, found, most), strict=True)
    ]
    first = found.rows[0]
    place = f"RA {first['ra'][0].as_py():.6f}, Dec {first['dec'][0].as_py():.6f}"
    title = f"{found.name}   {place}   {run.resolve().name}"
    with whole_file(out) as temporary:
        draw_object(temporary, title, rows, coadds if found.unit == "nJy" else {}, found.unit)
    shown = sum(row.view is not None for row in rows)
    return f"{out}: object {wanted}, {shown} stamps of {len(rows)} rows"


def _find(run: MeasuredRun, wanted: str) -> _Found:
    """Find the rows of an object."""
    rows: list[pa.Table] = []
    some: list[str] = []
    name, unit, number = wanted, "nJy", _as_number(wanted)
    for exposure in run.finished.values():
        path = run.path / exposure["shard"]
        table = read_shard(path)
        keys = table["object_name"] if "object_name" in table.column_names else table["object_id"].cast(pa.string())
        chosen = pc.equal(keys, wanted)
        if number is not None:
            chosen = pc.or_(chosen, pc.equal(table["object_id"], number))
        part = table.filter(chosen)
        if part.num_rows:
            name, unit = keys.filter(chosen)[0].as_py(), part.schema.field("flux").metadata[b"unit"].decode()
        rows += [part.slice(row, 1) for row in range(part.num_rows)]
        some = some or keys.slice(0, _NAMED).to_pylist()
    if not rows:
        raise LumosDataError(
            f"{run.path}: no object {wanted!r} in it; it has, for example, {', '.join(some) or 'none'}"
        )
    rows.sort(key=lambda row: [row[one][0].as_py() for one in ("band", "exposure_id", "detector")])
    return _Found(rows[0]["object_id"][0].as_py(), name, rows, "nJy" if unit == "nJy" else "image units")


def _as_number(wanted: str) -> int | None:
    """Return the identifier that a text may also be; None where it is no 64-bit integer."""
    number = int(wanted) if re.fullmatch("-?[0-9]{1,19}", wanted) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _coadded(path: Path, object_id: int, wanted: str) -> dict[str, FluxPdf]:
    """Return the PDFs of an object in a coadd, by band."""
    table, pdf = read_coadd(path)
    rows = np.flatnonzero(table["object_id"].to_numpy() == object_id)
    if not len(rows):
        raise LumosDataError(f"{path}: no object {wanted!r} in it; is it a coadd of this run?")
    bands = table["band"].take(pa.array(rows)).to_pylist()
    parts = {band: pdf.take(np.array([row])) for band, row in zip(bands, rows, strict=True)}
    return {band: part for band, part in parts.items() if np.isfinite(part.quantile(0.5)).all()}


def _is_cut(run: MeasuredRun, object_id: int) -> bool:
    """Return whether the PDFs of an object are cut at flux 0."""
    if run.pdf_model is None or run.pdf_model.get("cut_from") is None:
        return False
    objects, magnitudes = run.read_magnitudes()
    return bool(cut_rows(run, magnitudes[objects == object_id])[0])


def _names(rows: Sequence[pa.Table]) -> list[str]:
    """Return a name for each row: the exposure, with the CCD where the object is on several CCDs of it."""
    places = [tuple(str(row[one][0].as_py()) for one in ("exposure_id", "detector")) for row in rows]
    exposures = [exposure for exposure, _ in places]
    return [exposure if exposures.count(exposure) == 1 else f"{exposure} {ccd}" for exposure, ccd in places]


def _row(row: pa.Table, name: str, view: StampView | None, why: str, unit: str, *, cut: bool) -> ObjectRow:
    """Return a row of the run for the picture."""
    values = {name: row[name][0].as_py() for name in _COLUMNS}
    flux, error = values["flux"], values["flux_err"]
    digits = ".0f" if error >= _WHOLE else ".2f" if error >= 1 else ".3g"
    parts = [f"{values['exposure_id']} {values['detector']}", values["band"]]
    parts += ["no flux" if np.isnan(flux) else f"{flux:{digits}} ± {error:{digits}} {unit}, S/N {flux / error:.1f}"]
    if values["neighbour_distance"] < _NEAR:
        parts.append(f"neighbour {values['neighbour_id']} at {values['neighbour_distance']:.1f}″")
    title = "   ".join([*parts, ", ".join(flag_names(values["flags"]))])
    pdf = row_pdfs(pdf_columns(row), cut)
    known = bool(np.isfinite(pdf.quantile(0.5)).all())
    return ObjectRow(title, name, values["band"], view, why, pdf if known else None)


def _views(run: MeasuredRun, found: _Found, most: int) -> Iterator[tuple[StampView | None, str]]:
    """Yield the stamp of each row, or why there is none; empty for those that are too many."""
    for number, row in enumerate(found.rows):
        if number >= most:
            yield None, ""
            continue
        exposure_id, detector = (str(row[name][0].as_py()) for name in ("exposure_id", "detector"))
        path = Path(run.finished[exposure_id]["file"])
        if not path.is_file():
            yield None, f"{path} is no longer there: no stamp"
            continue
        inputs = run.finished[exposure_id].get("inputs", {})
        changed = [file for file, stamp in inputs.items() if file_stamp(Path(file)) != stamp]
        if changed:
            logger.warning("%s: changed since the run measured it; its stamp may be another", ", ".join(changed))
        try:
            yield _view(run, path, detector, found.object_id, float(row["flux"][0].as_py()))
        except (LumosError, OSError) as error:
            logger.warning("%s: no stamp: %s", path, one_line(error))
            yield None, one_line(error)


def _view(run: MeasuredRun, path: Path, detector: str, object_id: int, flux: float) -> tuple[StampView | None, str]:
    for exposure in read_exposure(path, run.survey, psf_dir=run.psf_dir):
        if exposure.detector == detector:
            ccd = measured_ccd(run, exposure)
            numbers = np.flatnonzero(ccd.objects.catalog.object_id == object_id)
            view = view_stamp(ccd, int(numbers[0]), flux) if len(numbers) else None
            return view, "" if view is not None else "no shape or no PSF: no stamp"
    return None, f"{path} has no CCD {detector}: no stamp"
