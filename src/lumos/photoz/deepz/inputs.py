"""What Deepz sees of galaxies: fluxes over the flux in a reference band, and those of their exposures."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lumos.catalogs.formats import open_table
from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.errors import LumosDataError
from lumos.photoz.fluxes import Photometry
from lumos.photoz.settings import PhotozSettings
from lumos.rows import SHARED, Rowwise
from lumos.runs.folder import MANIFEST
from lumos.runs.shards import read_shards, shard_paths

__all__ = ["Exposures", "flux_ratios", "random_coadds", "read_exposures"]

#: Range of the median of (mean of the exposures) / (coadd) in a band.
_AGREE = (0.5, 2.0)


def flux_ratios(photometry: Photometry, reference: str) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return fluxes over the flux in the reference band.

    Parameters
    ----------
    photometry : Photometry
        Fluxes of n galaxies.
    reference : str
        One of its bands.

    Returns
    -------
    ratios, errors : ndarray, shape (n, n_bands)
        With errors over the same flux; NaN where there is no flux or error, or the flux in the reference band is not
        above 0.
    usable : ndarray of bool, shape (n, n_bands)
        Finite fluxes with an error above 0.
    """
    usable = photometry.usable(-np.inf)
    unit = photometry.flux[:, [photometry.bands.index(reference)]]
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = usable & (unit > 0)
        ratios, errors = (np.where(seen, one / unit, np.nan) for one in (photometry.flux, photometry.flux_err))
    return ratios, errors, usable


@dataclass(frozen=True, eq=False, repr=False)
class Exposures(Rowwise):
    """Fluxes of the single exposures of n galaxies.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (n, n_bands, n_exposures)
        Fluxes and errors in the unit of the coadds; NaN where there is no exposure.
    bands : tuple of str
        Names.
    """

    flux: FloatArray
    flux_err: FloatArray
    bands: tuple[str, ...] = field(metadata=SHARED)

    def weights(self) -> FloatArray:
        """Return inverse variances.

        Returns
        -------
        ndarray, shape (n, n_bands, n_exposures)
            0 where a flux cannot be used.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            good = np.isfinite(self.flux) & np.isfinite(self.flux_err) & (self.flux_err > 0)
            return np.where(good, self.flux_err**-2.0, 0.0)

    def means(self) -> FloatArray:
        """Return the inverse-variance means of all exposures.

        Returns
        -------
        ndarray, shape (n, n_bands)
            NaN where there is none.
        """
        weights = self.weights()
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.where(weights > 0, weights * np.nan_to_num(self.flux), 0).sum(axis=2)
            return np.asarray(total / weights.sum(axis=2))


def random_coadds(
    coadds: tuple[Tensor, Tensor], exposures: Tensor, weights: Tensor, keep: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return coadds of random subsets of exposures: inverse-variance means of those that are kept.

    Parameters
    ----------
    coadds : tuple of tensor, shape (n, n_bands)
        Values and errors that stay where a band has no exposures.
    exposures, weights : tensor, shape (n, n_bands, n_exposures)
        Values and their inverse variances, 0 where there is no exposure.
    keep : float
        Probability with which an exposure is kept; of those of a band one is kept always.
    generator : torch.Generator
        Of the choice.

    Returns
    -------
    tuple of tensor, shape (n, n_bands)
        Values of the coadds, and errors.
    """
    drawn = torch.rand(exposures.shape, generator=generator).masked_fill(weights == 0, 2.0)
    # The one with the smallest number is kept always: where any is below `keep` it would have been anyway.
    kept = (drawn < keep) | (drawn == drawn.amin(dim=2, keepdim=True))
    weights = torch.where(kept, weights, 0.0)
    total = weights.sum(dim=2)
    safe = torch.where(total > 0, total, 1.0)
    mean = (weights * exposures).sum(dim=2) / safe
    return torch.where(total > 0, mean, coadds[0]), torch.where(total > 0, safe**-0.5, coadds[1])


def read_exposures(path: Path, photometry: Photometry, settings: PhotozSettings) -> Exposures:
    """Read the fluxes of single exposures.

    Parameters
    ----------
    path : Path
        Run of ``lumos measure``, or a table with ``object_id``, ``band``, the column ``settings.flux`` and its errors,
        and a row for each exposure.
    photometry : Photometry
        The galaxies, and their coadds.
    settings : PhotozSettings
        Names of bands and of the column of fluxes.

    Returns
    -------
    Exposures
        Of these galaxies, in their bands; those of other objects and bands are left out.

    Raises
    ------
    LumosDataError
        If it cannot be read, lacks a column, has none of the galaxies, or its fluxes have another unit than the coadds.
    """
    columns = ("object_id", "band", settings.flux, f"{settings.flux}_err")
    names = settings.bands or {band: band for band in photometry.bands}
    values = _read(path, columns)
    objects = values["object_id"].astype(np.int64)
    order = np.argsort(photometry.object_id, kind="stable")
    at = np.searchsorted(photometry.object_id[order], objects).clip(max=len(photometry) - 1)
    row = order[at]
    places = {name: photometry.bands.index(band) for name, band in names.items() if band in photometry.bands}
    band = np.array([places.get(name, -1) for name in values["band"].astype(str)])
    chosen = (photometry.object_id[row] == objects) & (band >= 0)
    if not chosen.any():
        raise LumosDataError(f"{path}: has exposures of none of the {len(photometry)} galaxies in their bands")
    cell = (row * len(photometry.bands) + band)[chosen]
    # Number each exposure within its object and band.
    by_cell = np.argsort(cell, kind="stable")
    starts = np.r_[True, np.diff(cell[by_cell]) > 0]
    number = np.arange(len(cell)) - np.maximum.accumulate(np.where(starts, np.arange(len(cell)), 0))
    shape = (len(photometry) * len(photometry.bands), int(number.max()) + 1)
    flux, flux_err = np.full(shape, np.nan), np.full(shape, np.nan)
    for out, name in ((flux, columns[2]), (flux_err, columns[3])):
        out[cell[by_cell], number] = values[name].astype(np.float64)[chosen][by_cell]
    whole = (len(photometry), len(photometry.bands), -1)
    found = Exposures(flux.reshape(whole), flux_err.reshape(whole), photometry.bands)
    _check_units(path, found, photometry)
    return found


def _read(path: Path, columns: tuple[str, ...]) -> dict[str, AnyArray]:
    if path.is_dir():
        if not (path / MANIFEST).exists():
            raise LumosDataError(f"{path}: no run in it (exposures)")
        there = set(pq.read_schema(shard_paths(path)[0]).names)
        missing = [name for name in columns if name not in there]
        if missing:
            raise LumosDataError(f"{path}: no column {missing[0]!r} in the run, needed: {', '.join(columns)}")
        run = read_shards(path, columns)
        return {name: run[name].to_numpy() for name in columns}
    table = open_table(path, "table of exposures")
    for name in columns:
        if name not in table.names:
            raise LumosDataError(f"{path}: no column {name!r}; the table has: {', '.join(table.names)}")
    read = {name: table.read(name) for name in columns}
    values = {name: np.where(one.missing, np.nan, one.values) for name, one in read.items() if name in columns[2:]}
    return {"object_id": read["object_id"].values, "band": read["band"].values} | values


def _check_units(path: Path, exposures: Exposures, photometry: Photometry) -> None:
    """Refuse exposures whose mean is not the coadd."""
    means = exposures.means()
    bright = photometry.usable(3.0) & np.isfinite(means)
    for number, band in enumerate(photometry.bands):
        rows = bright[:, number]
        if rows.any():
            ratio = float(np.median(means[rows, number] / photometry.flux[rows, number]))
            if not _AGREE[0] <= ratio <= _AGREE[1]:
                text = f"mean flux of the exposures is {ratio:.3g} times that of the coadds, allowed: the same unit"
                raise LumosDataError(f"{path}: band {band!r}: {text}")
