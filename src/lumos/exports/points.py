"""Magnitudes with two errors and upper limits, from the PDF of each row."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lumos.catalogs.schema import described_columns, described_field
from lumos.coadds.read import table_pdf
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray
from lumos.exports.source import Source
from lumos.pdf import FluxPdf

__all__ = ["point_columns", "point_schema", "point_tables"]

#: Probability below an upper limit; the names of the columns hold it in per cent.
_LIMIT = 0.95


def point_schema(source: Source) -> pa.Schema:
    """Return the schema of a run or a coadd with the columns of magnitudes and limits.

    Parameters
    ----------
    source : Source
        What is exported.

    Returns
    -------
    pyarrow.Schema
        The columns of the file, in its order, those of ``schema.yaml``'s table ``export`` before the flags.
    """
    source.pdf_columns()
    added = [described_field("export", name, flux=source.flux_unit) for name in described_columns("export")]
    own = list(source.schema)
    place = source.schema.names.index("flags")
    return pa.schema([*own[:place], *added, *own[place:]], metadata=source.schema.metadata)


def point_tables(source: Source) -> Iterator[pa.Table]:
    """Return the rows with magnitudes and limits.

    Parameters
    ----------
    source : Source
        What is exported.

    Yields
    ------
    pyarrow.Table
        Of :func:`point_schema`, some rows at a time.
    """
    schema = point_schema(source)
    for table in source.batches():
        added = point_columns(table_pdf(table), is_calibrated=source.flux_unit == "nJy")
        columns = [
            pa.array(added[item.name], item.type) if item.name in added else table[item.name].combine_chunks()
            for item in schema
        ]
        yield pa.table(columns, schema=schema)


def point_columns(pdf: FluxPdf, *, is_calibrated: bool) -> dict[str, AnyArray]:
    """Return magnitudes and upper limits.

    Parameters
    ----------
    pdf : FluxPdf
        Of n rows; NaN where a row has none.
    is_calibrated : bool
        Whether the fluxes are in nJy; else there are no magnitudes.

    Returns
    -------
    dict of float32 array, shape (n,)
        The columns of ``schema.yaml``'s table ``export``.
    """
    # A zero point of NaN gives magnitudes of NaN.
    zeropoint = AB_ZEROPOINT_NJY if is_calibrated else np.nan
    magnitude = pdf.magnitude(zeropoint)
    limit = pdf.upper_limit(_LIMIT)
    columns = {
        "magnitude": magnitude.value,
        "magnitude_err_lower": magnitude.minus,
        "magnitude_err_upper": magnitude.plus,
        "flux_limit_95": limit,
        "magnitude_limit_95": zeropoint - 2.5 * np.log10(np.where(limit > 0, limit, np.nan)),
    }
    return {name: values.astype(np.float32) for name, values in columns.items()}
