"""Export to CSV and ECSV, rows written as they come."""

from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from astropy.table import Column, Table

from lumos.exports.tables import Export, as_numpy, field_text
from lumos.flags import flag_metadata

__all__ = ["as_astropy", "write_csv", "write_ecsv"]

#: Rows of ECSV that are put into words at once; a number takes ten times its memory then.
_AT_ONCE = 5000


def write_csv(export: Export, path: Path) -> None:
    """Write a table as CSV: names in the first line, lists as one column for each entry, ``NAME_1`` and so on.

    Parameters
    ----------
    export : Export
        The table.
    path : Path
        File to write; units and meanings are lost.
    """
    fields = []
    for item in export.schema:
        if pa.types.is_fixed_size_list(item.type):
            fields += [pa.field(f"{item.name}_{n + 1}", item.type.value_type) for n in range(item.type.list_size)]
        else:
            fields.append(pa.field(item.name, item.type))
    schema = pa.schema(fields)
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for table in export.tables():
            arrays: list[pa.Array] = []
            for item in table.schema:
                if pa.types.is_fixed_size_list(item.type):
                    arrays += [pa.array(column) for column in as_numpy(table, item.name).T]
                else:
                    arrays.append(table[item.name].combine_chunks())
            writer.write_table(pa.table(arrays, schema=schema))


def write_ecsv(export: Export, path: Path) -> None:
    """Write a table as ECSV, with units and meanings in its header.

    Parameters
    ----------
    export : Export
        The table.
    path : Path
        File to write.
    """
    with path.open("w", encoding="utf-8") as stream:
        for number, part in enumerate(batch for table in export.tables() for batch in table.to_batches(_AT_ONCE)):
            text = StringIO()
            as_astropy(pa.Table.from_batches([part])).write(text, format="ascii.ecsv")
            lines = text.getvalue().splitlines(keepends=True)
            # The header and the line of names stand in front of the first rows alone.
            start = 0 if number == 0 else 1 + sum(line.startswith("#") for line in lines)
            stream.writelines(lines[start:])


def as_astropy(table: pa.Table) -> Table:
    """Return rows as a table of astropy, with units, UCDs and meanings; units that it does not know are left out.

    Parameters
    ----------
    table : pyarrow.Table
        With n rows.

    Returns
    -------
    astropy.table.Table
        With n rows; lists are columns of shape (n, k). Bits of flags are in ``meta``.
    """
    from astropy.units import Unit  # noqa: PLC0415

    columns = []
    for item in table.schema:
        try:
            unit = Unit(field_text(item, "unit"))
        except ValueError:
            unit = None
        values = as_numpy(table, item.name)
        column = Column(values, item.name, unit=unit if str(unit) else None)
        column.description = field_text(item, "text") or None
        if field_text(item, "ucd"):
            column.meta["ucd"] = field_text(item, "ucd")
        columns.append(column)
    flags = {name: f"{spec['bit']}: {spec['text']}" for name, spec in flag_metadata().items()}
    return Table(columns, meta={"flags": flags}, copy=False)
