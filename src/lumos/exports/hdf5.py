"""Export to HDF5: ensembles of qp, and tables of RAIL."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lumos.catalogs.schema import list_column
from lumos.coadds.read import table_pdf
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray
from lumos.errors import LumosDataError
from lumos.exports.dialects import magnitudes, refuse_uncalibrated
from lumos.exports.packages import optional
from lumos.exports.source import Source
from lumos.exports.tables import wide_of
from lumos.exports.wide import wide_batches
from lumos.flags import Flag
from lumos.pdf import GaussianMixture, GridPdf, to_mixture
from lumos.pdf.mixture import Mixture

__all__ = ["write_qp", "write_rail"]

logger = logging.getLogger(__name__)

#: Magnitude of a band in which an object was not measured, as RAIL has it.
UNOBSERVED = -99.0
#: Bands of which RAIL's own names hold the survey, as in ``mag_u_lsst``.
_RUBIN = tuple("ugrizy")
#: Gaussians that a PDF on nodes is written with.
_COMPONENTS = 5


def write_qp(source: Source, path: Path) -> None:
    """Write the PDFs as an ensemble of qp, a Gaussian mixture (``mixmod``) for each row that has a PDF.

    Parameters
    ----------
    source : Source
        A run or a coadd.
    path : Path
        HDF5 file to write.

    Raises
    ------
    LumosDataError
        If the source has no PDFs.
    LumosError
        If qp is not installed.

    Notes
    -----
    qp holds no PDF that is not finite: rows without one are left out, and how many is logged. The unit stands in the
    ancillary column ``flux_unit`` and in the attribute ``flux_unit`` of the file.
    """
    columns = source.pdf_columns()
    qp, h5py = optional("qp", "qp", "the format qp"), optional("h5py", "qp", "the format qp")
    names = [
        name for name in ("object_id", "object_name", "exposure_id", "detector", "band") if name in source.schema.names
    ]
    n = sum(int(_measured(table).sum()) for table in source.batches(columns))
    if n == 0:
        raise LumosDataError(f"{source.path}: no row has a PDF")
    if n < source.n_rows:
        logger.warning("%s: %d of %d rows have no PDF and are left out", source.path, source.n_rows - n, source.n_rows)
    widths = {name: source.text_width(name) for name in names if pa.types.is_string(source.schema.field(name).type)}
    start, target = 0, None
    for table in source.batches([*names, *columns]):
        table = table.filter(pa.array(_measured(table)))  # noqa: PLW2901
        if not table.num_rows:
            continue
        ancillary: dict[str, AnyArray] = {name: _ancillary(table, name, widths) for name in names}
        ancillary["flux_unit"] = np.full(table.num_rows, source.flux_unit.encode())
        mixture, ancillary["pdf_fit_err"] = _mixture(table)
        data = {"means": mixture.means, "stds": mixture.stds, "weights": mixture.weights}
        part = qp.Ensemble(qp.mixmod, data=data, ancil=ancillary)
        if target is None:
            target = part.initializeHdf5Write(str(path), n)
        part.writeHdf5Chunk(target[0], start, start + table.num_rows)
        start, last = start + table.num_rows, part
    assert target is not None
    last.finalizeHdf5Write(target[1])
    with h5py.File(path, "a") as file:
        file.attrs["flux_unit"] = source.flux_unit


def _measured(table: pa.Table) -> AnyArray:
    """Return which rows have a PDF, all of its numbers finite and its widths above 0."""
    names = [item.name for item in table.schema if pa.types.is_fixed_size_list(item.type)]
    parts = {name: list_column(table, name) for name in names}
    found = np.all([np.isfinite(part).all(axis=1) for part in parts.values()], axis=0)
    return np.asarray(found & (parts["pdf_stds"] > 0).all(axis=1) if "pdf_stds" in parts else found)


def _mixture(table: pa.Table) -> tuple[Mixture, AnyArray]:
    """Return the PDFs as mixtures, and the largest differences of the cumulative probabilities that this costs."""
    pdf = table_pdf(table)
    if isinstance(pdf, GridPdf):
        return to_mixture(pdf, _COMPONENTS)
    assert isinstance(pdf, GaussianMixture)
    return pdf, np.zeros(len(pdf))


def _ancillary(table: pa.Table, name: str, widths: dict[str, int]) -> AnyArray:
    values = table[name].to_numpy(zero_copy_only=False)
    if name in widths:
        return np.array([text.encode() for text in values.tolist()], dtype=f"S{widths[name]}")
    return np.asarray(values)


def write_rail(source: Source, path: Path, bands: Sequence[str] | None) -> None:
    """Write magnitudes and fluxes as RAIL reads them: the group ``photometry`` of an HDF5 file, one row per object.

    Parameters
    ----------
    source : Source
        A coadd.
    path : Path
        File to write.
    bands : sequence of str or None
        Which; None: all.

    Raises
    ------
    LumosDataError
        If the source is a run, or not calibrated.
    LumosError
        If h5py is not installed.

    Notes
    -----
    Magnitudes are 99 where a flux is not above 0 and -99 where there is none, their errors too. Fluxes (nJy) are beside
    them as they are, negative ones too, NaN where there is none.
    """
    refuse_uncalibrated(source, "rail")
    bands = wide_of(source, bands, "rail")
    h5py = optional("h5py", "rail", "the format rail")
    with h5py.File(path, "w") as file:
        group = file.create_group("photometry")
        for columns in _rail_columns(source, bands):
            for name, (values, unit) in columns.items():
                _append(group, name, values, unit)


def _rail_columns(source: Source, bands: Sequence[str]) -> Iterator[dict[str, tuple[AnyArray, str]]]:
    named = "object_name" in source.schema.names
    width = source.text_width("object_name") if named else 1
    for objects in wide_batches(source, bands, ("flux", "flux_err", "flags")):
        columns: dict[str, tuple[AnyArray, str]] = {"object_id": (objects.identity("object_id").to_numpy(), "")}
        if named:
            names = [text.encode() for text in objects.identity("object_name").to_pylist()]
            columns["object_name"] = (np.array(names, dtype=f"S{width}"), "")
        columns |= {name: (objects.identity(name).to_numpy(), "deg") for name in ("ra", "dec")}
        flux, error = objects.numbers("flux"), objects.numbers("flux_err")
        magnitude, magnitude_err = magnitudes(flux, error, AB_ZEROPOINT_NJY)
        flags = np.nan_to_num(objects.numbers("flags"), nan=float(Flag.NO_EXPOSURE)).astype(np.int32)
        for number, band in enumerate(bands):
            end = f"{band}_lsst" if band in _RUBIN else band
            for name, values, unit in (
                ("mag", np.where(np.isnan(magnitude), UNOBSERVED, magnitude), "mag(AB)"),
                ("mag_err", np.where(np.isnan(magnitude_err), UNOBSERVED, magnitude_err), "mag(AB)"),
                ("flux", flux, "nJy"),
                ("flux_err", error, "nJy"),
            ):
                columns[f"{name}_{end}"] = (values[:, number].astype(np.float32), unit)
            columns[f"flags_{end}"] = (flags[:, number], "")
        yield columns


def _append(group: Any, name: str, values: AnyArray, unit: str) -> None:  # noqa: ANN401 (h5py need not be installed)
    """Append rows to a dataset of HDF5, which is made if it is not there."""
    if name not in group:
        data = group.create_dataset(name, data=values, maxshape=(None,), chunks=True)
        if unit:
            data.attrs["unit"] = unit
        return
    data = group[name]
    data.resize(len(data) + len(values), axis=0)
    data[-len(values) :] = values
