"""Stages of RAIL: the redshifts of `lumos photoz`, and the PDFs of a coadd, as pz-rail-base hands them on."""

import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.coadd_tables import write_coadd
from lumos.photoz.fluxes import Photometry
from lumos.photoz.models import build_grid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.photoz.zeropoints import fit_factors

pytest.importorskip("rail.estimation.estimator", reason="pz-rail-base is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "rail" / "src"))
import rail.estimation.algos

rail.estimation.algos.__path__.append(str(Path(__file__).parents[2] / "rail" / "src" / "rail" / "estimation" / "algos"))
from rail.estimation.algos.lumos import LumosCoadd, LumosEstimator, LumosInformer, _photometry  # noqa: E402

BANDS = ("u", "g", "r", "i", "z")
STEP = "redshifts={low: 0.1, high: 0.9, step: 0.01}"
N = 60
COLUMNS = {"bands": [f"mag_{b}" for b in BANDS], "err_bands": [f"mag_err_{b}" for b in BANDS]}


@pytest.fixture(scope="module")
def galaxies():
    grid = build_grid(load_models("analytic", [STEP])).in_bands(BANDS)
    rng = np.random.default_rng(2)
    place = rng.integers(5, len(grid.redshifts) - 5, N)
    models = grid.fluxes[0]
    flux = 1e4 * np.stack([rng.uniform(0.3, 1, models.shape[1]) @ models[z] for z in place])
    return grid, flux * (1 + 0.02 * rng.normal(size=flux.shape)), 0.02 * flux, grid.redshifts[place]


def test_redshifts_are_those_of_lumos(galaxies):
    grid, flux, error, redshift = galaxies
    flux = flux.copy()
    # One galaxy was hardly seen.
    flux[3, 1:] = np.nan
    data = {f"mag_{b}": flux[:, i] for i, b in enumerate(BANDS)} | {"redshift": redshift}
    data |= {f"mag_err_{b}": error[:, i] for i, b in enumerate(BANDS)}
    options = {"hdf5_groupname": "", "output_mode": "return", "flux_units": True, **COLUMNS}
    informer = LumosInformer.make_stage(
        name="informer", templates="analytic", overrides=[STEP], model_bands=list(BANDS), **options
    )
    model = informer.inform(data)
    estimator = LumosEstimator.make_stage(name="estimator", model=model, chunk_size=N, **options)
    found = estimator.estimate(data).data
    wanted = redshift_rows(Photometry(np.arange(N), flux, error, bands=grid.bands), grid, PhotozSettings())
    seen = np.arange(N) != 3
    assert found.npdf == N
    np.testing.assert_array_equal(found.ancil["zmode"], wanted["zb"])
    # Straight between the redshifts instead of constant in their cells: the same at these, up to the normalisation.
    np.testing.assert_allclose(found.pdf(grid.redshifts)[seen], wanted["pz"][seen], rtol=0.1, atol=1e-3)
    assert np.isnan(found.ancil["zmode"][3])
    assert found.ancil["flags"][3] > 0
    np.testing.assert_array_equal(found.ancil["redshift"], redshift)


def test_magnitudes_become_fluxes():
    data = {f"mag_{b}": np.array([22.0, 99.0, np.nan]) for b in BANDS}
    data |= {f"mag_err_{b}": np.array([0.1, 99.0, 0.1]) for b in BANDS}
    stage = LumosEstimator.make_stage(name="columns", model="none", **COLUMNS)
    seen = _photometry(data, stage.config, BANDS)
    assert seen.flux[0, 0] == pytest.approx(10 ** (-0.4 * (22 - 31.4)))
    assert seen.flux_err[0, 0] == pytest.approx(seen.flux[0, 0] * 0.0921034)
    assert not seen.usable(-2)[1:].any()


def test_zero_points_are_found_with_spectra(galaxies):
    grid, flux, error, redshift = galaxies
    wrong = np.array([1.0, 1.2, 1.0, 1.0, 1.0])
    data = {f"mag_{b}": flux[:, i] * wrong[i] for i, b in enumerate(BANDS)}
    data |= {f"mag_err_{b}": error[:, i] * wrong[i] for i, b in enumerate(BANDS)} | {"redshift": redshift}
    informer = LumosInformer.make_stage(
        name="calibrated", hdf5_groupname="", output_mode="return", templates="analytic", overrides=[STEP],
        model_bands=list(BANDS), flux_units=True, calibrate="spectra", settings=["floor=0.01"], **COLUMNS,
    )  # fmt: skip
    model = informer.inform(data).data
    seen = Photometry(np.arange(N), flux * wrong, error * wrong, bands=grid.bands)
    settings = PhotozSettings(floor=0.01, calibrate="spectra")
    np.testing.assert_allclose(model["factors"], fit_factors(seen, grid, settings, redshift).factor, rtol=1e-9)
    assert model["factors"][1] < 0.97 * np.median(model["factors"])
    assert model["settings"]["floor"] == 0.01


def test_a_coadd_is_handed_on_with_its_pdfs(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    stage = LumosCoadd.make_stage(name="coadd", coadd=str(tmp_path / "c.parquet"), output_mode="return")
    table, pdfs = stage()
    assert table.data["object_id"].tolist() == list(range(100, 106))
    assert pdfs.data.npdf > 0
    assert {str(unit) for unit in pdfs.data.ancil["flux_unit"]} == {"nJy"}
