"""Mock catalogues: true redshifts and fluxes of galaxies like those of simulated images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosValueError
from lumos.rows import SHARED, Rowwise
from lumos.simulate.population import Galaxies
from lumos.spectra.curves import Curve
from lumos.spectra.dust import DustLaw
from lumos.spectra.lines import LINES
from lumos.spectra.passbands import REFERENCE_PASSBAND, Passband
from lumos.spectra.redshifted import fluxes_of_each, line_fluxes, redshifted_fluxes
from lumos.spectra.sed import LINE_WAVELENGTHS
from lumos.spectra.templates import Template

__all__ = ["MockCatalog", "TemplateSpectra", "draw_mock"]

#: Step of the points of mock spectra in the natural logarithm of the wavelength.
_STEP = 0.0004
#: Galaxies whose spectra are in memory at a time.
_CHUNK = 500
#: Rest wavelengths in nm between which the colour of a template is measured.
_BLUE, _RED = Passband(350.0, 60.0), Passband(620.0, 60.0)
#: What each line of the simulated galaxies stands for: lines and their shares.
_SPLIT: dict[str, dict[str, float]] = {
    "OII": {"OII3727": 0.42, "OII3730": 0.58},
    "Hbeta": {"Hbeta": 1.0},
    "OIII": {"OIII4960": 0.25, "OIII5008": 0.75},
    "Halpha": {"Halpha": 0.687, "NII6550": 0.072, "NII6585": 0.241},
}


@dataclass(frozen=True, eq=False, repr=False)
class MockCatalog(Rowwise):
    """Galaxies with their true fluxes.

    Parameters
    ----------
    redshift, ref_mag : float array, shape (n,)
        Redshift; AB magnitude in the reference band.
    reddening : float array, shape (n,)
        E(B−V) of the dust that was put before a template, mag.
    template : str array, shape (n,)
        Template whose share is largest; empty where the spectrum is the simulated galaxy's own.
    flux : float array, shape (n, n_bands)
        Noiseless fluxes, nJy.
    bands : tuple of str
        Names of the bands.
    """

    redshift: FloatArray
    ref_mag: FloatArray
    reddening: FloatArray
    template: np.ndarray
    flux: FloatArray
    bands: tuple[str, ...] = field(metadata=SHARED)


@dataclass(frozen=True)
class TemplateSpectra:
    """How a mock makes spectra of templates.

    Parameters
    ----------
    templates : mapping of Template
        By name; they are sorted by colour, so that the reddest galaxies have the reddest templates.
    mixed : bool, optional
        Mix the two templates that are next to a galaxy's colour; else take the nearest as it is.
    lines : bool, optional
        Add the emission lines of the simulated galaxy; not for templates that have lines.
    law : DustLaw, optional
        Dust put before the templates.
    mean_reddening : float, optional
        Mean of the exponential distribution of E(B−V) of the bluest galaxies, mag; it falls to 0 towards the reddest.
    scatter : float, optional
        Scatter of a galaxy's place among the templates, as a share of their number.

    Raises
    ------
    LumosValueError
        If there are fewer than two templates, or a number is negative.
    """

    templates: Mapping[str, Template]
    mixed: bool = True
    lines: bool = True
    law: DustLaw | None = None
    mean_reddening: float = 0.1
    scatter: float = 0.05

    def __post_init__(self) -> None:
        if len(self.templates) < 2:
            raise LumosValueError("templates of a mock", len(self.templates), "two or more")
        for name in ("mean_reddening", "scatter"):
            if not 0 <= getattr(self, name) < np.inf:
                raise LumosValueError(f"{name} of a mock", getattr(self, name), "finite, at least 0")


@dataclass(frozen=True)
class _Spectra:
    """Spectra of galaxies on common points, with what is reported of them."""

    wavelength: FloatArray
    flux: FloatArray
    reddening: FloatArray
    template: np.ndarray
    lines: FloatArray
    line_fluxes: FloatArray


def draw_mock(
    galaxies: Galaxies,
    curves: Mapping[str, Curve],
    rng: np.random.Generator,
    spectra: TemplateSpectra | None = None,
) -> MockCatalog:
    """Give simulated galaxies their fluxes through response curves.

    Parameters
    ----------
    galaxies : Galaxies
        Of :meth:`lumos.simulate.population.Population.draw`: their magnitudes, redshifts,
        colours and lines are kept.
    curves : mapping of Curve
        By band.
    rng : numpy.random.Generator
        The same state gives the same mock; not touched where ``spectra`` is None.
    spectra : TemplateSpectra, optional
        Templates from which the spectra are made. None: the spectra of the simulated galaxies themselves, with which
        images are simulated.

    Returns
    -------
    MockCatalog
        In the order of ``galaxies``.

    Raises
    ------
    LumosValueError
        If there are no bands, or a band looks beyond the ends of the templates.
    """
    if not curves:
        raise LumosValueError("bands of a mock", 0, "one or more")
    seen = [*curves.values(), Curve.of(REFERENCE_PASSBAND)]
    make = None if spectra is None else _Maker.of(galaxies, spectra, rng)
    flux = np.empty((len(galaxies), len(seen)))
    reddening, template = np.zeros(len(galaxies)), np.zeros(len(galaxies), dtype=object)
    for start in range(0, len(galaxies), _CHUNK):
        rows = slice(start, start + _CHUNK)
        part = galaxies.take(rows)
        made = _own(part) if make is None else make.rows(part, rows)
        flux[rows] = _fluxes(made, part.redshift, seen)
        reddening[rows], template[rows] = made.reddening, made.template
    magnitude = galaxies.ref_mag - galaxies.ref_mag_error
    scale = 10 ** (0.4 * (AB_ZEROPOINT_NJY - magnitude)) / flux[:, -1]
    return MockCatalog(
        redshift=galaxies.redshift,
        ref_mag=galaxies.ref_mag,
        reddening=reddening,
        template=template.astype(str),
        flux=flux[:, :-1] * scale[:, None],
        bands=tuple(curves),
    )


def _fluxes(made: _Spectra, redshift: FloatArray, curves: Sequence[Curve]) -> FloatArray:
    """Return fluxes, each galaxy at its own redshift, shape (n, n_bands)."""
    continuum = fluxes_of_each(made.wavelength, made.flux, curves, redshift)
    # The continuum keeps its height, per wavelength, so that observed equivalent widths grow with 1 + z.
    return continuum + line_fluxes(made.lines, made.line_fluxes * (1 + redshift[:, None]), curves, redshift)


def _lines(galaxies: Galaxies, wavelength: FloatArray, flux: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return rest wavelengths (n_lines,) and fluxes (n, n_lines) of lines on given continua (n, m)."""
    names = [(kind, name, share) for kind in LINE_WAVELENGTHS for name, share in _SPLIT[kind].items()]
    rest = np.array([LINES[name] for _, name, _ in names])
    share = np.array([share for _, _, share in names])
    width = galaxies.line_widths[:, [list(LINE_WAVELENGTHS).index(kind) for kind, _, _ in names]]
    place = np.clip(np.searchsorted(wavelength, rest), 0, len(wavelength) - 1)
    # Per Å times nm: ten times as much in units of the continuum times Å.
    return rest, 10 * flux[:, place] * width * share


def _own(galaxies: Galaxies) -> _Spectra:
    """Return the spectra of simulated galaxies, the lines where the simulation of images has them."""
    wavelength = np.exp(np.arange(np.log(30.0), np.log(4000.0), 4 * _STEP))
    flux = galaxies.sed.continuum(galaxies.sed_latents, wavelength) / wavelength**2
    rest = np.array(list(LINE_WAVELENGTHS.values()))
    at_lines = galaxies.sed.continuum(galaxies.sed_latents, rest) / rest**2
    n = len(galaxies)
    names = np.full(n, "", dtype=object)
    return _Spectra(wavelength, flux, np.zeros(n), names, rest, 10 * at_lines * galaxies.line_widths)


@dataclass(frozen=True)
class _Maker:
    """Spectra made of templates: places among them and reddenings of all galaxies are drawn at once."""

    spectra: TemplateSpectra
    names: tuple[str, ...]
    wavelength: FloatArray
    table: FloatArray
    place: FloatArray
    reddening: FloatArray

    @classmethod
    def of(cls, galaxies: Galaxies, spectra: TemplateSpectra, rng: np.random.Generator) -> "_Maker":
        """Sort templates by colour and draw places and reddenings."""
        names = sorted(spectra.templates, key=lambda name: _colour(name, spectra.templates[name]))
        templates = [spectra.templates[name] for name in names]
        low, high = (max(t.wavelength[0] for t in templates), min(t.wavelength[-1] for t in templates))
        wavelength = np.exp(np.arange(np.log(low) + 1e-9, np.log(high), _STEP))
        table = np.stack([np.interp(wavelength, t.wavelength, t.flux) for t in templates])
        table /= table.mean(axis=1, keepdims=True)
        n = len(galaxies)
        # Rank in colour, from red to blue.
        rank = (np.argsort(np.argsort(galaxies.sed_latents[:, 1])) + 0.5) / max(n, 1)
        place = np.clip(rank + spectra.scatter * rng.standard_normal(n), 0, 1) * (len(names) - 1)
        drawn = rng.exponential(1.0, n) * spectra.mean_reddening * rank
        reddening = np.zeros(n) if spectra.law is None else drawn
        return cls(spectra, tuple(names), wavelength, table, place, reddening)

    def rows(self, galaxies: Galaxies, rows: slice) -> _Spectra:
        """Return spectra of some of the galaxies."""
        place, reddening = self.place[rows], self.reddening[rows]
        nearest = np.rint(place).astype(np.intp)
        if self.spectra.mixed:
            first = np.minimum(place.astype(np.intp), len(self.names) - 2)
            share = (place - first)[:, None]
            flux = (1 - share) * self.table[first] + share * self.table[first + 1]
        else:
            flux = self.table[nearest]
        law = self.spectra.law
        # Dust dims the lines with the continuum, so that equivalent widths stay.
        if law is not None:
            flux = flux * 10 ** (-0.4 * reddening[:, None] * np.interp(self.wavelength, law.wavelength, law.k))
        rest, lines = _lines(galaxies, self.wavelength, flux)
        if not self.spectra.lines:
            lines = np.zeros_like(lines)
        return _Spectra(self.wavelength, flux, reddening, np.array(self.names, dtype=object)[nearest], rest, lines)


def _colour(name: str, template: Template) -> float:
    """Return how blue a template is: the ratio of its fluxes at 350 and 620 nm at rest."""
    curves = [Curve.of(_BLUE), Curve.of(_RED)]
    try:
        blue, red = redshifted_fluxes(template.wavelength, template.flux[None], curves, np.zeros(1))[0, 0]
    except LumosValueError as error:
        raise LumosValueError(f"template {name!r} of a mock", str(error), "300 to 660 nm at rest") from error
    return float(blue / red)
