"""Fluxes of galaxies in several bands, and those of two tables together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.rows import SHARED, Rowwise

__all__ = ["Photometry", "join_bands"]


@dataclass(frozen=True, eq=False, repr=False)
class Photometry(Rowwise):
    """Fluxes of n galaxies in several bands.

    Parameters
    ----------
    object_id : ndarray of int, shape (n,)
        Identifiers.
    flux, flux_err : ndarray, shape (n, n_bands)
        Fluxes and errors of one unit; NaN where nothing was measured.
    mixture : ndarray, shape (n, n_bands, 3, K), or None
        Weights, means and standard deviations of the components of the flux likelihoods.
    object_name : ndarray of str, shape (n,), or None
        Identifiers where these are texts.
    bands : tuple of str
        Names.
    """

    object_id: IntArray
    flux: FloatArray
    flux_err: FloatArray
    mixture: FloatArray | None = None
    object_name: AnyArray | None = None
    bands: tuple[str, ...] = field(default=(), metadata=SHARED)

    def scaled(self, factors: FloatArray) -> "Photometry":
        """Return fluxes, errors and PDFs times a factor for each band.

        Parameters
        ----------
        factors : ndarray, shape (n_bands,)
            Above 0.

        Returns
        -------
        Photometry
            Of the same galaxies.
        """
        mixture = self.mixture
        if mixture is not None:
            mixture = mixture.copy()
            mixture[:, :, 1:] *= factors[:, None, None]
        return replace(self, flux=self.flux * factors, flux_err=self.flux_err * factors, mixture=mixture)

    def usable(self, min_snr: float) -> BoolArray:
        """Tell which fluxes can be used.

        Parameters
        ----------
        min_snr : float
            Smallest signal-to-noise ratio.

        Returns
        -------
        ndarray of bool, shape (n, n_bands)
            Finite fluxes with an error above 0 and that signal-to-noise ratio, and with a likelihood if there are any.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            good = np.isfinite(self.flux) & np.isfinite(self.flux_err) & (self.flux_err > 0)
            good &= self.flux / self.flux_err >= min_snr
        if self.mixture is not None:
            good &= np.isfinite(self.mixture).all(axis=(2, 3)) & (self.mixture[:, :, 2] > 0).all(axis=2)
        return good


def join_bands(first: Photometry, others: Photometry, models: Sequence[str], source: Path) -> Photometry:
    """Add the fluxes of another table, in other bands, to those of galaxies.

    Parameters
    ----------
    first : Photometry
        The galaxies.
    others : Photometry
        Fluxes in other bands, of any galaxies; those that are not in ``first`` are left out.
    models : sequence of str
        Bands of the models, whose order is kept.
    source : Path
        Where ``others`` come from, for messages.

    Returns
    -------
    Photometry
        Of the galaxies of ``first``; NaN where ``others`` have none. Where ``first`` has flux PDFs, those of the others
        are Gaussians.

    Raises
    ------
    LumosDataError
        If a band is in both, or ``others`` have none of the galaxies.
    """
    both = [band for band in others.bands if band in first.bands]
    if both:
        raise LumosDataError(f"{source}: band {both[0]!r} is in the other table, too; allowed: each band in one")
    order = np.argsort(others.object_id, kind="stable")
    place = order[np.searchsorted(others.object_id, first.object_id, sorter=order).clip(max=len(order) - 1)]
    found = others.object_id[place] == first.object_id
    if not found.any():
        raise LumosDataError(f"{source}: has fluxes of none of the {len(first)} galaxies")
    flux, flux_err = (np.where(found[:, None], one[place], np.nan) for one in (others.flux, others.flux_err))
    bands = (*first.bands, *others.bands)
    chosen = [bands.index(band) for band in models if band in bands]
    mixture = first.mixture
    if mixture is not None:
        # One Gaussian; the other components have no weight.
        more = np.stack([np.ones_like(flux), flux, flux_err], axis=2)[..., None].repeat(mixture.shape[3], axis=3)
        more[:, :, 0, 1:] = 0
        mixture = np.concatenate([mixture, more], axis=1)[:, chosen]
    return replace(
        first,
        flux=np.concatenate([first.flux, flux], axis=1)[:, chosen],
        flux_err=np.concatenate([first.flux_err, flux_err], axis=1)[:, chosen],
        mixture=mixture,
        bands=tuple(bands[number] for number in chosen),
    )
