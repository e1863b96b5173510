"""The engine of `lumos photoz` against eazy-py: one sum of templates, without prior, at the same redshifts."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.templates import load_models

pytest.importorskip("eazy", reason="eazy is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from photoz_eazy import dense, eazy_chi2, eazy_models, lumos_chi2, lumos_models

REDSHIFTS = np.arange(0.1, 0.9, 0.05)
BANDS = ("u", "g", "r", "i", "z", "NB455", "NB515", "NB575", "NB635", "NB695", "NB755", "NB815")
N = 25
pytestmark = pytest.mark.filterwarnings("ignore")  # of eazy-py's own


@pytest.fixture(scope="module")
def galaxies():
    models = load_models("analytic")
    spectra = dict(list(models.spectra(Path()).items())[:4])
    every = models.curves(Path())
    spectra, curves = dense(spectra, {band: every[band] for band in BANDS}, REDSHIFTS, step=0.002)
    grid = lumos_models(spectra, curves, REDSHIFTS)
    rng = np.random.default_rng(4)
    place = rng.integers(len(REDSHIFTS), size=N)
    flux = 100 * np.stack([rng.uniform(0, 1, len(spectra)) @ grid.fluxes[0][z] for z in place])
    error = flux / 20
    # Two fluxes are missing, one is far below zero.
    error[0, 3] = error[1, 7] = -1.0
    flux = flux + np.abs(error) * rng.normal(size=flux.shape)
    flux[2, 0] = -3 * error[2, 0]
    return spectra, curves, grid, flux, error


def test_fits_of_the_same_models_are_the_same(galaxies):
    *_, grid, flux, error = galaxies
    ours, theirs = lumos_chi2(grid, flux, error), eazy_chi2(grid.fluxes[0], flux, error, np.zeros((len(REDSHIFTS), 12)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)


def test_models_and_redshifts_are_the_same(galaxies):
    spectra, curves, grid, flux, error = galaxies
    models = eazy_models(spectra, list(curves.values()), REDSHIFTS)
    # Each is known up to a factor for each redshift and template.
    shapes = [one / one.sum(axis=2, keepdims=True) for one in (grid.fluxes[0], models)]
    np.testing.assert_allclose(*shapes, rtol=2e-3)
    ours, theirs = lumos_chi2(grid, flux, error), eazy_chi2(models, flux, error, np.zeros((len(REDSHIFTS), 12)))
    np.testing.assert_allclose(ours, theirs, rtol=5e-3, atol=0.05)
    assert np.median(np.abs(ours - theirs) / np.maximum(theirs, 1)) < 1e-3
    zb = [RedshiftPdf.of(REDSHIFTS, -one / 2).best()[0] for one in (ours, theirs)]
    np.testing.assert_allclose(*zb, atol=2e-3)
