"""What each convention of the models is worth in redshift.

Usage: ``python benchmarks/photoz_conventions.py DATA [GALAXIES]``. DATA holds what the runs ``eriksen2019`` need and
``brown2014/brown2014_900_12000A.npz``, real spectra of galaxies.

The real spectra are the mock: none of the models is made of them. Each galaxy is fitted near its true redshift with
all runs; printed are the median of (z_fit - z_true) / (1 + z_true), its error, and its half-width sigma68.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from lumos.photoz.mock import MockCatalog, TemplateSpectra, draw_mock
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.templates import ModelSettings, load_models
from lumos.simulate.population import load_population
from lumos.spectra import lines
from lumos.spectra.curves import Curve
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.spectra.templates import list_templates, read_template
from lumos.spectra.wavelengths import refractive_index
from lumos.statistics import sigma68

#: Signal-to-noise ratio of every band, and how far from the truth is searched.
RATIO, REACH = 30.0, 0.012


def mock(data: Path, curves: dict[str, Curve], galaxies: int, medium: str) -> MockCatalog:
    """Draw galaxies with real spectra."""
    rng = np.random.default_rng(1)
    drawn = load_population().draw(4 * galaxies, rng, (18.0, 22.5))
    kept = drawn.take((drawn.redshift > 0.05) & (drawn.redshift < 1.1)).take(slice(galaxies))
    path = data / "brown2014" / "brown2014_900_12000A.npz"
    spectra = {name: read_template(path, "Angstrom", medium, name=name) for name in list_templates(path)}
    return draw_mock(kept, curves, rng, TemplateSpectra(spectra, mixed=False, lines=False))


def fit(grid: ModelGrid, catalog: MockCatalog) -> np.ndarray:
    """Return the shifts of the best redshifts near the true ones."""
    rng = np.random.default_rng(2)
    shifts = []
    for z, flux in zip(catalog.redshift, catalog.flux, strict=True):
        seen = flux * (1 + rng.standard_normal(len(flux)) / RATIO)
        weight = RATIO / np.abs(seen)
        near = np.flatnonzero(np.abs(grid.redshifts - z) < REACH * (1 + z))
        chi2 = [min(nnls((run[k] * weight).T, seen * weight)[1] for run in grid.fluxes) ** 2 for k in near]
        shifts.append((grid.redshifts[near[int(np.argmin(chi2))]] - z) / (1 + z))
    return np.array(shifts)


def in_air(settings: ModelSettings) -> ModelSettings:
    """Read the templates as in air."""
    sources = tuple(source.model_copy(update={"medium": "air"}) for source in settings.templates)
    return settings.model_copy(update={"templates": sources})


def with_lines(change: Callable[[float], float], build: Callable[[], ModelGrid]) -> ModelGrid:
    """Build a grid with other wavelengths of the lines."""
    kept = dict(lines.LINES)
    try:
        lines.LINES.update({name: change(wavelength) for name, wavelength in kept.items()})
        return build()
    finally:
        lines.LINES.update(kept)


def old_lines(wavelength: float) -> float:
    """Return wavelengths in air, [OII] as one line at 372.68 nm."""
    air = wavelength / float(refractive_index(np.array(wavelength)))
    return 372.68 if 372 < wavelength < 374 else air


def unweighted(grid: ModelGrid, settings: ModelSettings, curves: Mapping[str, Curve]) -> ModelGrid:
    """Leave out of the lines the factor of their observed wavelength, which counts photons."""
    sets = settings.line_sets()
    centres = np.array([curve.mean_wavelength for curve in curves.values()])
    fluxes = []
    for names, run in zip(grid.components, grid.fluxes, strict=True):
        changed = run.copy()
        for place, name in enumerate(names):
            if name in sets:
                # In each band the line that it sees lies at the band's wavelength.
                changed[:, place] *= 500.0 / centres
        fluxes.append(changed)
    return replace(grid, fluxes=tuple(fluxes))


def main(data: Path, galaxies: int) -> None:
    """Print the table."""
    settings = load_models("eriksen2019")
    curves = settings.curves(data)
    truth, vacuum = (mock(data, curves, galaxies, medium) for medium in ("air", "vacuum"))
    grid = build_grid(settings, data)

    def show(what: str, models: ModelGrid, catalog: MockCatalog = truth) -> None:
        shifts = fit(models, catalog)
        error = 1.25 * sigma68(shifts) / np.sqrt(len(shifts))
        print(f"{what:<62}{1e4 * np.median(shifts):>7.1f} ± {1e4 * error:.1f}{1e4 * sigma68(shifts):>9.1f}", flush=True)

    print(f"{galaxies} galaxies, 1e-4:{'':<41}median{'':<8}sigma68")
    show("as shipped", grid)
    show("grid of 0.004", grid.take(slice(None, None, 4)))
    show("spectra of the mock taken as in vacuum", grid, vacuum)
    show("templates taken as in air", build_grid(in_air(settings), data))
    show("lines in air, [OII] at 372.68 nm", with_lines(old_lines, lambda: build_grid(settings, data)))
    show("lines without the factor of their wavelength", unweighted(grid, settings, curves))
    shifted = {
        name: Curve(curve.wavelength + PAUCAM_PASSBANDS[name].wavelength - curve.mean_wavelength, curve.response)
        for name, curve in curves.items()
        if name in PAUCAM_PASSBANDS
    }
    show("narrow bands moved to the wavelengths of their names", build_grid(settings, data, shifted))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
