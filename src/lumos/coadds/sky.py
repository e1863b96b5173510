"""Empty sky as a catalogue: what is measured where the parent catalogue has no object tells what lies below it.

Galaxies below the limit of the catalogue, and the background that they raise, are the same in every exposure. No
repeat shows them, and they do not average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.spatial import cKDTree

from lumos.catalogs.parent import ParentCatalog, write_parent
from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.images.wcs import unit_vectors
from lumos.photometry.settings import CatalogColumns
from lumos.runs.locks import lock_file, locked
from lumos.statistics import sigma68

__all__ = ["SkyLevels", "make_sky", "sky_catalog", "sky_levels"]

#: A position lies within this of an object of the catalogue, arcsec: so it lies where the exposures are.
_FARTHEST = 60.0
_ROUNDS = 50
#: Fewer coadds of a band tell its levels to worse than a tenth of their errors.
_FEWEST = 100


@dataclass(frozen=True)
class SkyLevels:
    """What is measured where there is nothing, nJy, by name of the estimator (``pdf`` for the PDF).

    Parameters
    ----------
    offset, excess : mapping of float array, shape (n_bands,)
        Median flux; error that brings the scatter of the fluxes to what their errors say, with that of the median in
        quadrature. Without an entry 0.
    """

    offset: Mapping[str, FloatArray] = field(default_factory=dict)
    excess: Mapping[str, FloatArray] = field(default_factory=dict)

    def of(self, name: str, band: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the levels for coadds.

        Parameters
        ----------
        name : str
            Estimator, or ``pdf``.
        band : int array, shape (n,)
            Index of the band of each coadd.

        Returns
        -------
        offset, excess : float array, shape (n,)
            Median flux at empty positions and unexplained scatter, nJy.
        """
        zero = np.zeros(len(band))
        if name not in self.offset:
            return zero, zero
        return self.offset[name][band], self.excess[name][band]


def sky_levels(columns: Mapping[str, AnyArray], bands: Sequence[str], estimators: Sequence[str]) -> SkyLevels:
    """Find the levels of the sky from coadds at empty positions.

    Parameters
    ----------
    columns : mapping
        Columns of such coadds, made without a prior.
    bands, estimators : sequence of str
        Names of the bands, and of the run's estimators.

    Returns
    -------
    SkyLevels
        Of the PDFs and of each estimator.

    Raises
    ------
    LumosDataError
        If a band has fewer than 100 positions.
    """
    names = {"pdf": ("flux_median", "flux_sigma68")}
    names |= {name: (f"{name}_flux", f"{name}_flux_err") for name in estimators}
    offset = {name: np.zeros(len(bands)) for name in names}
    excess = {name: np.zeros(len(bands)) for name in names}
    for number, band in enumerate(bands):
        for name, (flux, error) in names.items():
            rows = (columns["band"] == band) & np.isfinite(columns[flux]) & np.isfinite(columns[error])
            if rows.sum() < _FEWEST:
                raise LumosDataError(f"sky: {rows.sum()} positions in band {band}, needed: {_FEWEST}")
            offset[name][number], excess[name][number] = _level(columns[flux][rows], columns[error][rows])
    return SkyLevels(offset, excess)


def _level(flux: FloatArray, error: FloatArray) -> tuple[float, float]:
    """Return the median, and the error that is missing, that of the median included."""
    middle = float(np.median(flux))
    scatter = sigma68(flux)
    middle_err = 1.2533 * scatter / np.sqrt(len(flux))

    def surplus(missing: float) -> float:
        return sigma68((flux - middle) / np.hypot(error, missing)) - 1

    missing = 0.0 if surplus(0.0) <= 0 else float(brentq(surplus, 0.0, 4 * scatter))
    return middle, float(np.hypot(missing, middle_err))


def sky_catalog(parent: ParentCatalog, n: int, min_distance: float, rng: np.random.Generator) -> ParentCatalog:
    """Return positions without an object, with the shapes and magnitudes of objects drawn from a catalogue.

    Parameters
    ----------
    parent : ParentCatalog
        Objects to keep away from.
    n : int
        Number of positions.
    min_distance : float
        Arcsec from a position to the nearest object, and to the nearest other position.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ParentCatalog
        n positions, at random places up to 60 arcsec from random objects; identifiers are negative.

    Raises
    ------
    LumosValueError
        If a number is out of range.
    LumosDataError
        If the catalogue has no object with a shape, or leaves no room for so many positions.
    """
    if n < 1 or not 0 < min_distance < _FARTHEST:
        raise LumosValueError("positions and distance", (n, min_distance), f"at least 1, and 0 to {_FARTHEST:g} arcsec")
    usable = np.flatnonzero(parent.shape_ok & np.isfinite(parent.ra + parent.dec))
    if not len(usable):
        raise LumosDataError("sky: the catalogue has no object with a position and a shape")
    here = parent.take(usable)
    tree = cKDTree(unit_vectors(here.ra, here.dec))
    limit = np.deg2rad(min_distance / 3600)
    ra, dec = np.zeros(0), np.zeros(0)
    for _ in range(_ROUNDS):
        if len(ra) >= n:
            break
        centre = rng.integers(len(here), size=4 * n)
        radius, angle = _FARTHEST / 3600 * np.sqrt(rng.uniform(size=4 * n)), rng.uniform(0, 2 * np.pi, 4 * n)
        new_dec = here.dec[centre] + radius * np.sin(angle)
        new_ra = here.ra[centre] + radius * np.cos(angle) / np.maximum(np.cos(np.deg2rad(here.dec[centre])), 1e-3)
        free = tree.query(unit_vectors(new_ra, new_dec))[0] > limit
        ra, dec = np.concatenate([ra, new_ra[free]]), np.concatenate([dec, new_dec[free]])
        # Of two that are close to each other the later one goes.
        pairs = cKDTree(unit_vectors(ra, dec)).query_pairs(limit, output_type="ndarray")
        keep = np.setdiff1d(np.arange(len(ra)), pairs.max(axis=1) if len(pairs) else [])
        ra, dec = ra[keep], dec[keep]
    if len(ra) < n:
        raise LumosDataError(f"sky: room for {len(ra)} of {n} positions {min_distance:g} arcsec from everything else")
    like = here.take(rng.integers(len(here), size=n))
    return ParentCatalog(
        object_id=-np.arange(1, n + 1),
        ra=np.mod(ra[:n], 360.0),
        dec=dec[:n],
        half_light_radius=like.half_light_radius,
        sersic_n=like.sersic_n,
        axis_ratio=like.axis_ratio,
        position_angle=like.position_angle,
        ref_mag=like.ref_mag,
    )


@locked(lock_file)
def make_sky(
    catalog: Path, out: Path, columns: CatalogColumns, *, n: int = 2000, min_distance: float = 3.0, seed: int = 0
) -> str:
    """Write a catalogue of empty positions.

    Parameters
    ----------
    catalog : Path
        Catalogue whose objects are avoided.
    out : Path
        Output catalogue, Parquet.
    columns : CatalogColumns
        How to read the parent catalogue.
    n : int, optional
        Number of positions.
    min_distance : float, optional
        Least distance to the nearest object, arcsec.
    seed : int, optional
        Seed of the positions.

    Returns
    -------
    str
        One line for the user.

    Raises
    ------
    LumosValueError
        If a number is not allowed.
    LumosDataError
        If the catalogue cannot be read or has no room for so many positions.
    """
    if seed < 0:
        raise LumosValueError("seed", seed, ">= 0")
    parent = columns.read(catalog)
    write_parent(sky_catalog(parent, n, min_distance, np.random.default_rng(seed)), out)
    return f"{out}: {n} empty positions"
