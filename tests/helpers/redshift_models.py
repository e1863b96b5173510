"""A small grid of models with narrow and broad bands, and galaxies made of it."""

import numpy as np

from lumos.photoz.fluxes import Photometry
from lumos.photoz.models import ModelGrid

N_NARROW, N_BROAD = 20, 4


def small_grid(n_z: int = 120, step: float = 0.005) -> ModelGrid:
    """Two runs: smooth spectra with a break that moves through the bands, and the same with an emission line."""
    redshifts = 0.1 + step * np.arange(n_z)
    wavelength = np.r_[np.linspace(450, 850, N_NARROW), np.linspace(400, 900, N_BROAD)]
    width = np.r_[np.full(N_NARROW, 15.0), np.full(N_BROAD, 60.0)]
    narrow = np.arange(N_NARROW + N_BROAD) < N_NARROW

    def edge(at, steep):
        return 1 / (1 + np.exp(-(wavelength - at) / steep))

    runs: dict[str, list] = {"quiet": [], "lines": []}
    for z in redshifts:
        rest = wavelength / (1 + z)
        jump = edge(400 * (1 + z), width)
        red, blue = 0.1 + 0.9 * jump * (rest / 550), 0.4 + 0.6 * jump * (300 / rest)
        flat = 0.7 + 0.2 * jump
        line = np.exp(-0.5 * ((wavelength - 372.7 * (1 + z)) / width) ** 2) * 15 / width
        runs["quiet"].append([red, flat])
        runs["lines"].append([flat, blue, line])
    return ModelGrid(
        redshifts=redshifts,
        bands=tuple([f"N{i}" for i in range(N_NARROW)] + [f"B{i}" for i in range(N_BROAD)]),
        narrow=narrow,
        runs=tuple(runs),
        fluxes=tuple(np.array(values) for values in runs.values()),
        components=(("red", "flat"), ("flat", "blue", "line")),
    )


def small_galaxies(grid: ModelGrid, n: int, snr: float, seed: int, scale: float = 1.0) -> tuple[Photometry, np.ndarray]:
    """Galaxies of that grid with Gaussian noise, and their places on it."""
    rng = np.random.default_rng(seed)
    place = rng.integers(5, len(grid.redshifts) - 5, n)
    flux = np.empty((n, len(grid.bands)))
    for galaxy in range(n):
        models = grid.fluxes[galaxy % len(grid.runs)][place[galaxy]]
        flux[galaxy] = rng.uniform(0.2, 1, len(models)) @ models
    flux *= 100 * np.where(grid.narrow, scale, 1.0)
    error = flux / snr
    return Photometry(np.arange(n) + 7, flux + error * rng.normal(size=flux.shape), error, bands=grid.bands), place
