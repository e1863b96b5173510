"""Fluxes of galaxies in many bands, from a coadd of Lumos or from any table of fluxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.formats import TableFile, open_table
from lumos.catalogs.identifiers import read_identifiers
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosDataError, foreign_reader
from lumos.files import json_in_metadata
from lumos.photoz.bcnz.likelihood import GaussianLight, Light, MixtureLight, StudentLight
from lumos.photoz.columns import FluxColumns, read_fluxes
from lumos.photoz.photometry import Photometry, join_bands
from lumos.photoz.settings import PhotozSettings

__all__ = ["Photometry", "light_of", "read_photometry"]

_PDF = ("pdf_weights", "pdf_means", "pdf_stds")
#: How the columns of a table with a row per object are named: of fluxes with their errors, or of magnitudes.
_WIDE = (
    ("flux_{}", ("flux_{}_err", "flux_err_{}", "flux_error_{}")),
    ("mag_{}", ("mag_{}_err", "mag_err_{}", "mag_error_{}")),
)


def light_of(photometry: Photometry, settings: PhotozSettings) -> tuple[Light, BoolArray, FloatArray]:
    """Prepare fluxes for the fit, each galaxy in units of its own light.

    The floor is added as in BCNz2: to the error in magnitudes, s = 2.5 log10(1 + 1 / SNR), in quadrature.

    Parameters
    ----------
    photometry : Photometry
        Fluxes of n galaxies.
    settings : PhotozSettings
        Likelihood, floor and smallest signal-to-noise ratio.

    Returns
    -------
    light : Light
        What the fit needs.
    usable : ndarray of bool, shape (n, n_bands)
        Fluxes that are used.
    unit : ndarray, shape (n,)
        Flux that is 1 in ``light``.

    Raises
    ------
    LumosDataError
        If likelihoods are asked for and there are none.
    """
    usable = photometry.usable(settings.min_snr)
    size = np.where(usable, np.abs(photometry.flux), 0.0)
    unit = size.max(axis=1)
    unit[unit == 0] = 1
    flux = np.where(usable, photometry.flux, 0.0)
    error = np.where(usable, photometry.flux_err, 1.0)
    more = _floor(flux, error, settings.floor)
    if settings.likelihood == "pdf":
        if photometry.mixture is None:
            raise LumosDataError("likelihood: got pdf, but the fluxes have no PDFs; allowed: gaussian, student")
        parts = np.where(usable[:, :, None, None], photometry.mixture, np.nan) / unit[:, None, None, None]
        shares, means, stds = np.moveaxis(parts, (2, 3, 1, 0), (0, 1, 2, 3))
        stds = np.hypot(stds, (more / unit[:, None]).T)
        return MixtureLight(shares * unit, means, stds), usable, unit
    error = np.hypot(error, more)
    weights = np.where(usable, (unit[:, None] / error) ** 2, 0.0).T.copy()
    fluxes = (flux / unit[:, None]).T.copy()
    if settings.likelihood == "student":
        return StudentLight(weights, fluxes, settings.freedom), usable, unit
    return GaussianLight(weights, fluxes), usable, unit


def _floor(flux: FloatArray, error: FloatArray, floor: float) -> FloatArray:
    """Return what is added in quadrature to errors for a floor in magnitudes."""
    size = np.abs(flux)
    share = np.divide(error, size, out=np.zeros_like(size), where=size > 0)
    with np.errstate(over="ignore"):
        wider = 10 ** (0.4 * np.hypot(2.5 * np.log10(1 + share), floor)) - 1
    more = np.sqrt(np.maximum(wider**2 - share**2, 0)) * size
    # Where a flux is lost in its error there is nothing to add.
    return np.where(share < 1e3, more, 0.0)


def read_photometry(path: Path, bands: Sequence[str], settings: PhotozSettings) -> Photometry:
    """Read fluxes from a coadd, a table with a row per object and band, or one with a row per object.

    Parameters
    ----------
    path : Path
        Table file. A row per object and band: ``object_id``, ``band``, the column ``settings.flux`` and its errors. A
        row per object: ``object_id``, and for each band ``flux_BAND`` and ``flux_BAND_err`` (or ``flux_err_BAND``,
        ``flux_error_BAND``), or AB magnitudes ``mag_BAND`` with errors likewise, which become nJy, as fluxes do whose
        unit the table says.
    bands : sequence of str
        Bands of the models.
    settings : PhotozSettings
        Names of bands and of the column of fluxes; likelihood; table of other bands.

    Returns
    -------
    Photometry
        In the bands of the models that the table has, in the order of the models.

    Raises
    ------
    LumosDataError
        If the file is missing or damaged, lacks a column, has a flux twice, fluxes of different units or a band that
        the models lack, or no PDFs where they are asked for.
    LumosConfigError
        If ``settings.bands`` names a band that the models or the table lack.
    """
    found = _read_one(path, bands, settings)
    if settings.others is None or not len(found):
        return found
    plain, path = {"likelihood": "gaussian", "flux": "flux", "bands": {}}, Path(settings.others)
    return join_bands(found, _read_one(path, bands, settings.model_copy(update=plain)), bands, path)


def _read_one(path: Path, bands: Sequence[str], settings: PhotozSettings) -> Photometry:
    table = open_table(path, "table of fluxes")
    if "object_id" not in table.names:
        raise LumosDataError(f"{path}: no column 'object_id'; the table has: {', '.join(table.names)}")
    if settings.likelihood == "pdf":
        _check_likelihoods(path)
    if "band" in table.names:
        return _read_long(table, bands, settings)
    if settings.likelihood == "pdf":
        raise LumosDataError(f"{path}: has no PDFs; allowed with --likelihood pdf: a coadd of `lumos coadd`")
    return _read_wide(table, bands, settings)


def _check_likelihoods(path: Path) -> None:
    """Refuse a table whose PDFs are missing, no mixtures, or hold a prior."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise LumosDataError(f"{path}: not Parquet; allowed with --likelihood pdf: a coadd of `lumos coadd`") from error
    if not set(_PDF) <= set(schema.names):
        raise LumosDataError(
            f"{path}: has no {_PDF[0]!r}; allowed with --likelihood pdf: a coadd with coadd.pdf=mixture"
        )
    found = json_in_metadata(path, schema.metadata, "lumos.provenance")
    provenance: dict[str, Any] = found if isinstance(found, dict) else {}
    model = provenance.get("model")
    # A product of posteriors has no prior of its own, but those of all exposures.
    is_posterior = isinstance(model, dict) and model.get("kind") == "posterior"
    prior = "that of the network" if is_posterior else provenance.get("prior", "unknown")
    if prior != "none":
        text = "its PDFs hold a prior of the flux, which would count in each band; coadd likelihoods with --prior none"
        raise LumosDataError(f"{path}: prior is {prior}: {text}, or use --likelihood gaussian")


def _chosen(path: Path, found: Sequence[str], models: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the band of the table for each band of the models that is used, in the order of the models."""
    wanted = dict(names) if names else {band: band for band in found}
    for band, model in wanted.items():
        if band not in found:
            raise LumosConfigError(f"photoz.bands: {band!r} is no band of {path}, allowed: {', '.join(found)}")
        if model not in models:
            text = f"{path}: band {band!r} is none of the models, allowed: {', '.join(models)}"
            raise LumosDataError(f"{text}; photoz.bands chooses and renames bands, as {{{band}: {models[0]}}}")
    back = {model: band for band, model in wanted.items()}
    if not back or len(back) < len(wanted):
        raise LumosConfigError(f"{path}: bands {wanted}, allowed: at least one, each band of the models once")
    return {model: back[model] for model in models if model in back}


def _integers(table: TableFile) -> IntArray:
    column = table.read("object_id")
    values = column.values
    if values.dtype.kind not in "iu":
        raise LumosDataError(f"{table.path}: column 'object_id' holds {values.dtype}, allowed: integers")
    bad = column.missing | (values > np.iinfo(np.int64).max)
    if bad.any():
        text = f"row {int(np.argmax(bad)) + 1} has no 'object_id' from -2^63 to 2^63 - 1"
        raise LumosDataError(f"{table.path}: {text}, {int(bad.sum())} rows in all")
    return values.astype(np.int64)


def _read_long(table: TableFile, models: Sequence[str], settings: PhotozSettings) -> Photometry:
    path = table.path
    objects, texts = _integers(table), table.read("band").values.astype(str)
    chosen = _chosen(path, sorted(set(texts.tolist())), models, settings.bands)
    place = {band: number for number, band in enumerate(chosen.values())}
    band = np.array([place.get(text, -1) for text in texts])
    kept = band >= 0
    # In the order of the table, so that neighbours on the sky stay together.
    unique, first, row = np.unique(objects[kept], return_index=True, return_inverse=True)
    order = np.argsort(first)
    row = np.argsort(order)[row]
    shape = (len(unique), len(place))
    at = np.ravel_multi_index((row, band[kept]), shape)
    if len(np.unique(at)) < len(at):
        twice = np.flatnonzero(np.bincount(at, minlength=1) > 1)[0]
        name = list(chosen.values())[twice % shape[1]]
        raise LumosDataError(f"{path}: object {unique[order][twice // shape[1]]} has two rows of band {name!r}")

    def spread(values: FloatArray) -> FloatArray:
        out = np.full((shape[0] * shape[1], *values.shape[1:]), np.nan)
        out[at] = values[kept]
        return out.reshape(*shape, *values.shape[1:])

    mixture = None
    if settings.likelihood == "pdf":
        with foreign_reader(f"{path}: damaged, its PDFs cannot be read"):
            parts = pq.read_table(path, columns=list(_PDF), page_checksum_verification=True)
            lists = [np.stack(parts[name].to_numpy(zero_copy_only=False)).astype(np.float64) for name in _PDF]
            mixture = spread(np.stack(lists, axis=1))
    named = "object_name" in table.names
    names = table.read("object_name").values.astype(str)[kept][first[order]] if named else None
    (flux, flux_err), *_ = read_fluxes(table, [FluxColumns(settings.flux, f"{settings.flux}_err")])
    return Photometry(unique[order], spread(flux), spread(flux_err), mixture, names, tuple(chosen))


def _read_wide(table: TableFile, models: Sequence[str], settings: PhotozSettings) -> Photometry:
    known: dict[str, FluxColumns] = {}
    for number, (values, errors) in enumerate(_WIDE):
        start = values.format("")
        for name in table.names:
            band = name.removeprefix(start)
            of_errors = next((text.format(band) for text in errors if text.format(band) in table.names), None)
            if name.startswith(start) and of_errors is not None:
                known.setdefault(band, FluxColumns(name, of_errors, magnitudes=number == 1))
    if not known:
        text = "no columns flux_BAND with flux_BAND_err, nor mag_BAND with mag_BAND_err"
        raise LumosDataError(f"{table.path}: {text}; the table has: {', '.join(table.names)}")
    chosen = _chosen(table.path, list(known), models, settings.bands)
    objects, names = read_identifiers(table, "object_id")
    pairs = read_fluxes(table, [known[band] for band in chosen.values()])
    flux, flux_err = np.stack([pair[0] for pair in pairs], axis=1), np.stack([pair[1] for pair in pairs], axis=1)
    return Photometry(objects, flux, flux_err, None, names, tuple(chosen))
