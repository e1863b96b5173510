"""Model fluxes on a grid of redshifts: templates, dust and emission lines seen through bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosShapeError, LumosValueError
from lumos.photoz.templates import ModelSettings, RunSettings
from lumos.spectra.curves import Curve
from lumos.spectra.dust import DustLaw
from lumos.spectra.igm import madau_transmission
from lumos.spectra.lines import LineSet
from lumos.spectra.redshifted import line_fluxes, redshifted_fluxes
from lumos.spectra.templates import Template

__all__ = ["ModelGrid", "build_grid"]


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


def build_grid(
    settings: ModelSettings, data: Path | None = None, curves: Mapping[str, Curve] | None = None
) -> ModelGrid:
    """Compute the model fluxes of a set of runs.

    Parameters
    ----------
    settings : ModelSettings
        Bands, templates, dust laws, lines, runs and redshifts, see :func:`lumos.photoz.templates.load_models`.
    data : Path, optional
        Folder from which the paths in the settings start; by default the working folder.
    curves : mapping of Curve, optional
        Curves by band that replace those of the settings.

    Returns
    -------
    ModelGrid
        Photon-counting AB fluxes, each component scaled to a maximum of 1.

    Raises
    ------
    LumosError
        If a file cannot be read, a curve of an unknown band is given, or a band looks beyond the ends of a template.
    """
    folder = Path() if data is None else data
    bands = [band for source in settings.bands for band in source.names]
    unknown = [band for band in curves or {} if band not in bands]
    if unknown:
        raise LumosConfigError(f"curve of band {unknown[0]!r}, allowed: {', '.join(bands)}")
    missing = [source for source in settings.bands if not set(source.names) <= set(curves or {})]
    read = {band: curve for source in missing for band, curve in source.read(folder).items()} | dict(curves or {})
    seen = [read[band] for band in bands]
    parts = _Parts(settings.spectra(folder), {n: law.read(folder) for n, law in settings.laws.items()})
    single = [one for run in settings.runs for one in _single_runs(run)]
    redshifts = settings.redshifts.values()
    continua = _continua(single, parts, seen, redshifts, igm=settings.igm)
    lines = settings.line_sets()
    fluxes = []
    for one, continuum in zip(single, continua, strict=True):
        dimmed = [_line_set(lines[name], parts.law(one), one.reddening, seen, redshifts) for name in one.run.lines]
        fluxes.append(_scaled(np.concatenate([continuum, *dimmed], axis=1)))
    return ModelGrid(
        redshifts=redshifts,
        bands=tuple(bands),
        narrow=np.array([source.narrow for source in settings.bands for _ in source.names]),
        runs=tuple(one.name for one in single),
        fluxes=tuple(fluxes),
        components=tuple((*one.run.templates, *one.run.lines) for one in single),
    )


@dataclass(frozen=True)
class _SingleRun:
    """A run behind one dust law and reddening."""

    run: RunSettings
    law: str | None
    reddening: float

    @property
    def name(self) -> str:
        return self.run.name if self.law is None else f"{self.run.name}_{self.law}_{self.reddening:g}"


@dataclass(frozen=True)
class _Parts:
    """What runs are made of."""

    templates: dict[str, Template]
    laws: dict[str, DustLaw]

    def law(self, run: _SingleRun) -> DustLaw | None:
        return None if run.law is None else self.laws[run.law]


def _single_runs(run: RunSettings) -> list[_SingleRun]:
    if not run.laws:
        return [_SingleRun(run, None, 0.0)]
    return [_SingleRun(run, law, reddening) for law in run.laws for reddening in run.reddenings]


def _continua(
    runs: Sequence[_SingleRun], parts: _Parts, curves: Sequence[Curve], redshifts: FloatArray, *, igm: bool
) -> list[FloatArray]:
    """Return the fluxes of the templates of each run, shape (n_z, n_templates, n_bands)."""
    wanted = [(number, name) for number, one in enumerate(runs) for name in one.run.templates]
    spectra = []
    for number, name in wanted:
        template, law = parts.templates[name], parts.law(runs[number])
        if law is not None:
            template = template.on(law.wavelength)
            dimmed = template.flux * law.transmission(template.wavelength, runs[number].reddening)
            template = Template(template.wavelength, dimmed)
        spectra.append(template)
    # Spectra on the same points share their weights.
    groups: dict[bytes, list[int]] = {}
    for place, template in enumerate(spectra):
        groups.setdefault(template.wavelength.tobytes(), []).append(place)
    found = np.empty((len(redshifts), len(spectra), len(curves)))
    for places in groups.values():
        stack = np.stack([spectra[place].flux for place in places])
        transmission = madau_transmission if igm else None
        try:
            found[:, places] = redshifted_fluxes(spectra[places[0]].wavelength, stack, curves, redshifts, transmission)
        except LumosValueError as error:
            raise LumosConfigError(f"template {wanted[places[0]][1]!r}: {error}") from error
    counts = np.cumsum([len(one.run.templates) for one in runs])
    return np.split(found, counts[:-1], axis=1)


def _line_set(
    lines: LineSet, law: DustLaw | None, reddening: float, curves: Sequence[Curve], redshifts: FloatArray
) -> FloatArray:
    """Return the fluxes of a set of lines, shape (n_z, 1, n_bands)."""
    return line_fluxes(lines.wavelength, lines.behind(law, reddening), curves, redshifts)[:, None]


def _scaled(fluxes: FloatArray) -> FloatArray:
    """Scale each component to a maximum of 1; one that no band sees stays 0."""
    largest = fluxes.max(axis=(0, 2), keepdims=True)
    return np.ascontiguousarray(fluxes / np.where(largest > 0, largest, 1.0))
