"""Tables with the column names, zero points and sentinels of Rubin, PAUS and DES."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, FloatArray
from lumos.errors import LumosDataError
from lumos.exports.formats import FAILED, PIXEL_FLAGS, RUBIN_FLAGS
from lumos.exports.source import Source
from lumos.exports.tables import Export, as_arrow, identity_fields, wide_of
from lumos.exports.wide import Objects, wide_batches
from lumos.flags import Flag

__all__ = ["des_export", "lsst_export", "magnitudes", "paus_export", "refuse_uncalibrated"]

#: AB magnitudes of 1 unit of flux.
PAUS_ZEROPOINT, DES_ZEROPOINT = 26.0, 30.0
#: Magnitude, and its error, of a flux that is not above 0; any number of a band in which an object was not measured.
UNDETECTED, UNOBSERVED = 99.0, -9999.0
#: Columns of one band: ending of the name, type, unit, UCD and meaning.
_Band = tuple[str, pa.DataType, str, str, str]


@dataclass(frozen=True)
class _Layout:
    """Columns of each band.

    Parameters
    ----------
    columns : sequence of tuple
        Ending of the name, type, unit, UCD and meaning.
    name : str
        How the name is put together of ``{band}``, or ``{capital}``, and ``{end}``.
    fill : callable
        Returns the values of each column, shape (n, n_bands).
    needed : sequence of str
        Columns of the coadd that it needs.
    """

    columns: Sequence[_Band]
    name: str
    fill: Callable[[Objects], list[AnyArray]]
    needed: Sequence[str]

    def name_of(self, band: str, end: str) -> str:
        """Return the name of a column."""
        return self.name.format(band=band, capital=band.upper(), end=end)


def refuse_uncalibrated(source: Source, what: str) -> None:
    """Refuse fluxes without a zero point.

    Parameters
    ----------
    source : Source
        What is exported.
    what : str
        Name of the format, for messages.

    Raises
    ------
    LumosDataError
        If they are in image units.
    """
    if source.flux_unit != "nJy":
        text = f"fluxes are in {source.flux_unit}s, {what} holds calibrated ones"
        raise LumosDataError(f"{source.path}: {text}; `lumos coadd --zeropoints TABLE` takes zero points")


def magnitudes(flux: FloatArray, flux_err: FloatArray, zeropoint: float) -> tuple[FloatArray, FloatArray]:
    """Return magnitudes and their errors as catalogues without PDFs have them.

    Parameters
    ----------
    flux, flux_err : float array, shape (n,) or (n, b)
        nJy.
    zeropoint : float
        AB magnitude of 1 nJy.

    Returns
    -------
    magnitude, magnitude_err : float array of the same shape
        The error is 2.5 / ln 10 times that of the flux over the flux. Both are ``UNDETECTED`` where the flux is not
        above 0, NaN where it is unknown.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = zeropoint - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
        error = 2.5 / np.log(10) * flux_err / flux
    dark = flux <= 0
    return np.where(dark, UNDETECTED, magnitude), np.where(dark, UNDETECTED, error)


def lsst_export(source: Source, bands: Sequence[str] | None) -> Export:
    """Return a table as Rubin's ForcedSource (of a run) or Object (of a coadd), fluxes in nJy.

    Parameters
    ----------
    source : Source
        What is exported.
    bands : sequence of str or None
        Bands of a coadd; None: all.

    Returns
    -------
    Export
        One row per object and CCD, or per object.
    """
    refuse_uncalibrated(source, "lsst")
    names = {"object_id": "objectId", "object_name": "objectName"}
    place = {"ra": "coord_ra", "dec": "coord_dec"}
    if not source.is_coadd:
        names |= {"exposure_id": "visit", "detector": "detector", "band": "band"} | place
        kept = names | {"flux": "psfFlux", "flux_err": "psfFluxErr", "flags": "lumosFlags"}
        return _renamed(source, kept, 1.0, "nJy", _rubin_flags)
    columns: list[_Band] = [
        ("cModelFlux", pa.float32(), "nJy", "phot.flux", "flux of the galaxy's profile"),
        ("cModelFluxErr", pa.float32(), "nJy", "stat.error;phot.flux", "its 1-sigma error"),
        ("cModel_flag", pa.bool_(), "", "meta.code.error", "no flux, or one that is not to be used"),
        ("inputCount", pa.int32(), "", "meta.number;obs.exposure", "exposures that were used"),
        ("lumosFlags", pa.int32(), "", "meta.code.qual", "flag bits of Lumos"),
    ]

    def fill(objects: Objects) -> list[AnyArray]:
        flags = np.nan_to_num(objects.numbers("flags"), nan=float(Flag.NO_EXPOSURE)).astype(np.int64)
        flux = objects.numbers("flux")
        failed = np.isnan(flux) | ((flags & int(RUBIN_FLAGS["cModel_flag"])) != 0)
        return [flux, objects.numbers("flux_err"), failed, np.nan_to_num(objects.numbers("n_exposures")), flags]

    chosen = wide_of(source, bands, "lsst")
    needed = ("flux", "flux_err", "flags", "n_exposures")
    return _wide(source, chosen, names | place, _Layout(columns, "{band}_{end}", fill, needed))


def paus_export(source: Source, bands: Sequence[str] | None) -> Export:
    """Return a table as PAUS has forced photometry (of a run) or its photo-z codes read coadds, zero point 26.

    Parameters
    ----------
    source : Source
        What is exported.
    bands : sequence of str or None
        Bands of a coadd; None: all.

    Returns
    -------
    Export
        One row per object and CCD, or per object.
    """
    refuse_uncalibrated(source, "paus")
    factor = 10 ** (0.4 * (PAUS_ZEROPOINT - AB_ZEROPOINT_NJY))
    names = {"object_id": "ref_id", "object_name": "object_name"}
    place = {"ra": "ra", "dec": "dec"}
    if not source.is_coadd:
        names |= {"exposure_id": "image_id", "detector": "ccd", "band": "band"} | place
        return _renamed(source, names | {"flux": "flux", "flux_err": "flux_error", "flags": "flag"}, factor, "")
    columns: list[_Band] = [
        ("flux", pa.float32(), "", "phot.flux", "flux, AB magnitude 26 is 1"),
        ("flux_error", pa.float32(), "", "stat.error;phot.flux", "its 1-sigma error"),
    ]

    def fill(objects: Objects) -> list[AnyArray]:
        return [factor * objects.numbers("flux"), factor * objects.numbers("flux_err")]

    chosen = wide_of(source, bands, "paus")
    needed = ("flux", "flux_err")
    return _wide(source, chosen, names | place, _Layout(columns, "{end}_{band}", fill, needed))


def des_export(source: Source, bands: Sequence[str] | None) -> Export:
    """Return a table as DES has its coadd catalogues: fluxes and magnitudes of zero point 30, with sentinels.

    Parameters
    ----------
    source : Source
        A coadd.
    bands : sequence of str or None
        Which; None: all.

    Returns
    -------
    Export
        One row per object.
    """
    refuse_uncalibrated(source, "des")
    factor = 10 ** (0.4 * (DES_ZEROPOINT - AB_ZEROPOINT_NJY))
    columns: list[_Band] = [
        ("FLUX", pa.float32(), "", "phot.flux", "flux, AB magnitude 30 is 1; -9999 where not measured"),
        ("FLUXERR", pa.float32(), "", "stat.error;phot.flux", "its 1-sigma error; -9999 where not measured"),
        ("MAG", pa.float32(), "mag", "phot.mag", "AB magnitude; 99 where the flux is not above 0, -9999: not measured"),
        ("MAGERR", pa.float32(), "mag", "stat.error;phot.mag", "its error; 99 and -9999 as of the magnitude"),
        ("FLAGS", pa.int32(), "", "meta.code.qual", "flag bits of Lumos"),
    ]

    def fill(objects: Objects) -> list[AnyArray]:
        flux, error = objects.numbers("flux"), objects.numbers("flux_err")
        values = [factor * flux, factor * error, *magnitudes(flux, error, AB_ZEROPOINT_NJY)]
        flags = np.nan_to_num(objects.numbers("flags"), nan=float(Flag.NO_EXPOSURE)).astype(np.int64)
        return [*(np.where(np.isnan(one), UNOBSERVED, one) for one in values), flags]

    chosen = wide_of(source, bands, "des")
    if len({band.upper() for band in chosen}) < len(chosen):
        text = f"bands {', '.join(chosen)} are not told apart in capitals, as des has them"
        raise LumosDataError(f"{source.path}: {text}; choose with --bands")
    names = {"object_id": "COADD_OBJECT_ID", "object_name": "OBJECT_NAME", "ra": "RA", "dec": "DEC"}
    needed = ("flux", "flux_err", "flags")
    return _wide(source, chosen, names, _Layout(columns, "{end}_{capital}", fill, needed))


def _rubin_flags(flags: AnyArray) -> dict[str, AnyArray]:
    """Return the flags of a ForcedSource."""
    found = {name: (flags & int(bit)) != 0 for name, bit in PIXEL_FLAGS.items()}
    return {"psfFlux_flag": (flags & int(FAILED)) != 0} | found


def _renamed(
    source: Source,
    names: dict[str, str],
    factor: float,
    unit: str,
    decode: Callable[[AnyArray], dict[str, AnyArray]] = lambda _: {},
) -> Export:
    """Return the rows of a run with other names, fluxes times a factor, and columns that are decoded from the flags."""
    fields = []
    for own, item in identity_fields(source, names):
        is_flux = own in {"flux", "flux_err"}
        fields.append((own, item.with_metadata({**item.metadata, b"unit": unit.encode()}) if is_flux else item))
    more = [
        pa.field(name, pa.bool_(), metadata={"unit": "", "ucd": "meta.code.error", "text": "from the flag bits"})
        for name in decode(np.zeros(1, dtype=np.int64))
    ]
    schema = pa.schema([*(item for _, item in fields), *more], metadata=source.schema.metadata)

    def tables() -> Iterator[pa.Table]:
        for table in source.batches([own for own, _ in fields]):
            columns = {item.name: table[own].combine_chunks() for own, item in fields}
            for own in ("flux", "flux_err"):
                columns[names[own]] = factor * table[own].to_numpy().astype(np.float64)
            yield as_arrow(columns | decode(table["flags"].to_numpy()), schema)

    texts = {item.name: own for own, item in fields if pa.types.is_string(item.type)}
    return Export(source, schema, tables, texts)


def _wide(source: Source, bands: Sequence[str], names: dict[str, str], layout: _Layout) -> Export:
    """Return one row per object, some columns for each band."""
    identity = identity_fields(source, names)
    fields = [
        pa.field(layout.name_of(band, end), kind, metadata={"unit": unit, "ucd": ucd, "text": f"{band}: {text}"})
        for band in bands
        for end, kind, unit, ucd, text in layout.columns
    ]
    schema = pa.schema([*(item for _, item in identity), *fields], metadata=source.schema.metadata)

    def tables() -> Iterator[pa.Table]:
        for objects in wide_batches(source, bands, layout.needed):
            found = {item.name: objects.identity(own) for own, item in identity}
            values = layout.fill(objects)
            for number, band in enumerate(bands):
                for (end, kind, *_), one in zip(layout.columns, values, strict=True):
                    whole = one[:, number].astype(np.int64) if pa.types.is_integer(kind) else one[:, number]
                    found[layout.name_of(band, end)] = whole
            yield as_arrow(found, schema)

    texts = {item.name: own for own, item in identity if pa.types.is_string(item.type)}
    return Export(source, schema, tables, texts)
