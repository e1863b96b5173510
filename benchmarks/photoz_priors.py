"""What limits redshifts of narrow bands alone: templates, a prior of the redshift, a power of p(z).

Run: ``python benchmarks/photoz_priors.py DATA [--n 150] [--keep FOLDER]``; DATA as of ``bench_photoz.py``, whose mocks
these are: real spectra, and spectra mixed of the models' templates. The prior n(z | magnitude) is that of the other
galaxies' true redshifts, or found from p(z) by expectation-maximisation; Gaussians of 0.4 mag and 0.05 (1 + z) smooth
it. ``--keep`` keeps fits.
"""

import argparse
from pathlib import Path

import numpy as np

from bench_photoz import make_mock
from lumos.conventions import FloatArray
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.validate.redshifts import redshift_metrics
from photoz_real import HEAD, SETTINGS, line, pairs_for
from photoz_sets import dc2

#: Scatter in magnitude and redshift of the galaxies that a prior is made of, and the share that is flat.
_MAGNITUDE, _REDSHIFT, _FLAT = 0.4, 0.05, 0.02


def fits(kept: Path | None, data: Path, snr: int, n: int, *, own: bool) -> dict[str, FloatArray]:
    """Return p(z), true redshifts, magnitudes and the grid of a mock in narrow bands."""
    path = None if kept is None else kept / f"snr_{int(own)}_{snr}.npz"
    if path is not None and path.exists():
        return dict(np.load(path))
    grid: ModelGrid = build_grid(load_models("eriksen2019"), data)
    mock, alone = make_mock(data, n, own=own), grid.in_bands([b for b in grid.bands if b.startswith("NB")])
    flux, rng = mock.flux[:, grid.narrow], np.random.default_rng(snr)
    seen = Photometry(np.arange(n), flux * (1 + rng.normal(size=flux.shape) / snr), flux / snr, bands=alone.bands)
    rows = redshift_rows(seen, alone, PhotozSettings(floor=0.0))
    found = {"pz": np.asarray(rows["pz"]), "z": mock.redshift, "mag": mock.ref_mag, "grid": grid.redshifts}
    if path is not None:
        np.savez(path, **found)
    return found


def prior(mass: FloatArray, magnitude: FloatArray, grid: FloatArray, *, others: bool) -> FloatArray:
    """Return n(z | magnitude) of each galaxy, shape (n, n_z), from the probabilities of all or of all others."""
    weight = np.exp(-0.5 * ((magnitude[:, None] - magnitude) / _MAGNITUDE) ** 2)
    if others:
        np.fill_diagonal(weight, 0.0)
    kernel = np.exp(-0.5 * ((grid[:, None] - grid) / (_REDSHIFT * (1 + grid))) ** 2)
    found = weight @ mass @ (kernel / kernel.sum(axis=0)).T
    return (1 - _FLAT) * found / found.sum(axis=1, keepdims=True) + _FLAT / len(grid)


def report(name: str, density: FloatArray, some: dict[str, FloatArray]) -> None:
    """Print one line."""
    with np.errstate(divide="ignore"):
        pdf = RedshiftPdf.of(some["grid"], np.log(density).T)
    found = redshift_metrics(pdf.best()[0], pdf, some["z"])
    print(
        f"{name:<40}{found.n:>5}{found.sigma68:>9.4f}{found.bias:>+10.5f}{found.outliers:>9.1%}{found.pit_ks:>8.3f}"
        f"{found.crps:>9.4f}",
        flush=True,
    )


def on_dc2(data: Path, n: int) -> None:
    """Print the same for the DC2 mock and mixtures of two templates; the prior is that of the training set."""
    train, test = dc2(data, n, "training"), dc2(data, n, "validation")
    grid = build_grid(pairs_for(test.curves, "redshifts={low: 0.01, high: 3.0, step: 0.01}"), data, test.curves)
    rows = redshift_rows(test.photometry, grid, SETTINGS)
    good = np.isfinite(rows["zb"])
    flat, qz, z = np.asarray(rows["pz"])[good], np.asarray(rows["qz"])[good], test.redshift[good]
    known = np.zeros((len(train.redshift), len(grid.redshifts)))
    known[np.arange(len(known)), np.abs(grid.redshifts - train.redshift[:, None]).argmin(axis=1)] = 1
    magnitudes = [-2.5 * np.log10(one.photometry.flux[:, 3]) for one in (train, test)]
    both = np.concatenate([magnitudes[1][good], magnitudes[0]])
    # The galaxies that are judged have no weight in their prior.
    mass = np.concatenate([np.zeros_like(flat), known])
    learned = prior(mass, both, grid.redshifts, others=True)[: len(flat)]
    print(HEAD)
    for name, density in (("DC2, flat", flat), ("  prior of the training set", flat * learned)):
        with np.errstate(divide="ignore"):
            pdf = RedshiftPdf.of(grid.redshifts, np.log(density).T)
        line(name, pdf.best()[0], qz, pdf, z, 0.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--n", type=int, default=150, help="galaxies")
    parser.add_argument("--keep", type=Path, help="folder of fits")
    options = parser.parse_args()
    print(f"{'':<40}{'n':>5}{'sigma68':>9}{'bias':>10}{'outliers':>9}{'PIT-KS':>8}{'CRPS':>9}")
    for own in (False, True):
        for snr in (30, 10, 5):
            some = fits(options.keep, options.data, snr, options.n, own=own)
            flat, grid, magnitude = some["pz"], some["grid"], some["mag"]
            report(f"{'own templates' if own else 'real spectra'}, SNR {snr}", flat, some)
            true = np.zeros_like(flat)
            true[np.arange(len(flat)), np.abs(grid - some["z"][:, None]).argmin(axis=1)] = 1
            report("  prior of the others' redshifts", flat * prior(true, magnitude, grid, others=True), some)
            mass = flat / flat.sum(axis=1, keepdims=True)
            for _ in range(8):
                mass = flat * prior(mass, magnitude, grid, others=False)
                mass /= mass.sum(axis=1, keepdims=True)
            report("  prior of the p(z) themselves", mass, some)
            report("  p(z) to the power of 0.7", flat**0.7, some)
    on_dc2(options.data, 4 * options.n)


if __name__ == "__main__":
    main()
