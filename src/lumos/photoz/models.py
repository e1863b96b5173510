"""Model fluxes on a grid of redshifts: the templates, dust laws and emission lines of a set of runs, seen through bands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError

__all__ = ["ModelGrid"]


@dataclass(frozen=True)
class ModelGrid:
    """Fluxes of the components of each run on a grid of redshifts.

    A galaxy is fitted by a sum of a run's components with amplitudes of at least 0; runs are alternatives.

    Parameters
    ----------
    redshifts : float array, shape (n_z,)
        Increasing.
    bands : tuple of str
        Names of the bands.
    narrow : bool array, shape (n_bands,)
        Which bands are narrow: the free scale between narrow and broad bands acts on them.
    runs : tuple of str
        Names of the runs.
    fluxes : tuple of float array, shape (n_z, n_components, n_bands)
        One per run, per unit frequency, at least 0; the largest value of each component is 1, or all are 0 where no
        band sees it at any redshift.
    components : tuple of tuple of str
        Names of each run's components.

    Raises
    ------
    LumosShapeError
        If the shapes do not go together.
    LumosValueError
        If redshifts do not increase, names are given twice, or a flux is negative or not finite.
    """

    redshifts: FloatArray
    bands: tuple[str, ...]
    narrow: BoolArray
    runs: tuple[str, ...]
    fluxes: tuple[FloatArray, ...]
    components: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        n_z, n_bands = len(self.redshifts), len(self.bands)
        shapes = [flux.shape for flux in self.fluxes]
        wanted = [(n_z, len(names), n_bands) for names in self.components]
        if shapes != wanted or len(self.runs) != len(shapes) or self.narrow.shape != (n_bands,):
            raise LumosShapeError("fluxes of a model grid", shapes, f"{wanted} for {len(self.runs)} runs")
        if not np.isfinite(self.redshifts).all() or not (np.diff(self.redshifts) > 0).all():
            raise LumosValueError("redshifts of a model grid", self.redshifts[:3].tolist(), "finite, increasing")
        for names in (self.bands, self.runs, *self.components):
            if len(set(names)) < len(names):
                raise LumosValueError("names of a model grid", names, "each once")
        for run, flux in zip(self.runs, self.fluxes, strict=True):
            if not np.isfinite(flux).all() or (flux < 0).any():
                raise LumosValueError(f"fluxes of run {run!r}", float(flux.min()), "finite, at least 0")

    def take(self, index: IntArray | slice) -> "ModelGrid":
        """Return the grid at some of its redshifts.

        Parameters
        ----------
        index : int array or slice
            Which redshifts, increasing: ``slice(None, None, 5)`` is a grid five times coarser.

        Returns
        -------
        ModelGrid
            With the same scaling of the components.
        """
        return replace(self, redshifts=self.redshifts[index], fluxes=tuple(flux[index] for flux in self.fluxes))

    def nearest(self, redshifts: FloatArray) -> IntArray:
        """Return the places of the grid that are nearest to redshifts.

        Parameters
        ----------
        redshifts : float array, shape (n,)
            Finite; beyond the grid its end is the nearest.

        Returns
        -------
        int array, shape (n,)
            Indices into ``redshifts`` of the grid.
        """
        middles = (self.redshifts[1:] + self.redshifts[:-1]) / 2
        return np.asarray(np.searchsorted(middles, redshifts), dtype=np.int64)

    def at(self, redshifts: FloatArray) -> "ModelGrid":
        """Return the grid at the places nearest to redshifts.

        Parameters
        ----------
        redshifts : float array, shape (n,)
            Finite, in any order; a place of the grid is taken once.

        Returns
        -------
        ModelGrid
            At redshifts of this grid, increasing.
        """
        return self.take(np.unique(self.nearest(redshifts)))

    def in_bands(self, bands: Sequence[str]) -> "ModelGrid":
        """Return the grid in some of its bands.

        Parameters
        ----------
        bands : sequence of str
            Names, in the order that is wanted.

        Returns
        -------
        ModelGrid
            With the same scaling of the components.

        Raises
        ------
        LumosValueError
            If the grid lacks a band.
        """
        unknown = [band for band in bands if band not in self.bands]
        if unknown:
            raise LumosValueError("band", unknown[0], f"bands of the models: {', '.join(self.bands)}")
        index = [self.bands.index(band) for band in bands]
        fluxes = tuple(np.ascontiguousarray(flux[..., index]) for flux in self.fluxes)
        return replace(self, bands=tuple(bands), narrow=self.narrow[index], fluxes=fluxes)
