"""Known fluxes in groups: by band, and by what a galaxy, its surroundings and its exposure are.

No quantity holds the measured flux: groups of it would select by noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, BoolArray, FloatArray, IntArray
from lumos.flags import Flag
from lumos.validate.evidence.again import FEWEST
from lumos.validate.evidence.known import KnownFluxes

__all__ = ["Grouping", "equal_bins", "groupings", "true_magnitude"]

#: Bins with equally many rows.
_BINS = 8
#: Light of neighbours that counts, errors of the flux.
_LEAST_LIGHT = 0.05
#: Quantities: name, label, whether the axis is logarithmic.
_QUANTITIES: tuple[tuple[str, str, bool], ...] = (
    ("magnitude", "true magnitude (AB)", False),
    ("signal", "true signal-to-noise ratio", True),
    ("half_light_radius", "half-light radius (arcsec)", True),
    ("sersic_n", "Sérsic index n", True),
    ("axis_ratio", "axis ratio b/a", False),
    ("psf_fwhm", "FWHM of the PSF (arcsec)", False),
    ("x", "x on the CCD (px)", False),
    ("y", "y on the CCD (px)", False),
    ("neighbour", "distance of the next neighbour (FWHM of the PSF)", True),
    ("neighbour_mag", "catalogue magnitude of the next neighbour", False),
    ("contamination", "light of the neighbours (errors of the flux)", True),
)


@dataclass(frozen=True)
class Grouping:
    """Rows in groups of one quantity.

    Parameters
    ----------
    key, label : str
        Name for programs and for readers, with the unit.
    groups : list of int array
        Numbers of the rows of each group.
    places : tuple of float
        Median of the quantity in each; numbers from 0 on for names.
    names : tuple of str
        Names of the groups; empty where the quantity is a number.
    log : bool
        Whether the axis is logarithmic.
    """

    key: str
    label: str
    groups: list[IntArray]
    places: tuple[float, ...]
    names: tuple[str, ...] = ()
    log: bool = False


def groupings(known: KnownFluxes, usable: BoolArray, bands: Sequence[str]) -> list[Grouping]:
    """Sort rows into groups.

    Parameters
    ----------
    known : KnownFluxes
        n rows.
    usable : bool array, shape (n,)
        Rows that count.
    bands : sequence of str
        Bands in their order.

    Returns
    -------
    list of Grouping
        Bands first, where there are two or more; then all quantities that fill two bins of 30 rows.
    """
    found = []
    by_band = {band: np.flatnonzero(usable & (known.band == band)) for band in bands}
    filled = {band: rows for band, rows in by_band.items() if len(rows) >= FEWEST}
    if len(filled) > 1:
        places = tuple(float(number) for number in range(len(filled)))
        found.append(Grouping("band", "band", list(filled.values()), places, tuple(filled)))
    values = {**known.by, "magnitude": true_magnitude(known.truth)}
    if "contamination" in values:
        light = values["contamination"]
        # Less light than this is none.
        values["contamination"] = np.where(light > _LEAST_LIGHT, light, np.nan)
    for key, name, log in _QUANTITIES:
        if key not in values:
            continue
        label = name
        if key == "magnitude" and (known.flags & int(Flag.NO_ZEROPOINT)).any():
            label = f"true magnitude (image units, zero point {AB_ZEROPOINT_NJY:g})"
        groups = equal_bins(values[key], usable & ((values[key] > 0) | (not log)))
        if len(groups) > 1:
            places = tuple(float(np.median(values[key][rows])) for rows in groups)
            found.append(Grouping(key, label, groups, places, log=log))
    return found


def true_magnitude(flux: FloatArray) -> FloatArray:
    """Return AB magnitudes of true fluxes.

    Parameters
    ----------
    flux : float array, shape (n,)
        nJy.

    Returns
    -------
    float array, shape (n,)
        NaN where the flux is not above 0.
    """
    return np.asarray(AB_ZEROPOINT_NJY - 2.5 * np.log10(np.where(flux > 0, flux, np.nan)))


def equal_bins(values: FloatArray, usable: BoolArray) -> list[IntArray]:
    """Return rows in bins of equally many; equal values stay together.

    Parameters
    ----------
    values : float array, shape (n,)
        What to sort by; NaN is in no bin.
    usable : bool array, shape (n,)
        Rows that count.

    Returns
    -------
    list of int array
        Numbers of the rows of each bin, 30 or more; empty where they do not fill two.
    """
    rows = np.flatnonzero(usable & np.isfinite(values))
    n = min(_BINS, len(rows) // FEWEST)
    if n < 2:
        return []
    edges = np.unique(np.quantile(values[rows], np.linspace(0, 1, n + 1)[1:-1]))
    number = np.searchsorted(edges, values[rows], side="right")
    parts = [rows[number == one] for one in range(len(edges) + 1)]
    return [part for part in parts if len(part) >= FEWEST]
