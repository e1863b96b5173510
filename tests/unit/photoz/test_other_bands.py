"""Fluxes of the same galaxies in other bands, from a table of their own."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumos.catalogs.schema import coadd_schema, to_arrow
from lumos.errors import LumosConfigError, LumosDataError
from lumos.photoz.fluxes import light_of, read_photometry
from lumos.photoz.models import build_grid
from lumos.photoz.run import Tables, photoz_run, read_redshifts
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models

MODELS = ("u", "NB455", "NB465", "r")


@pytest.fixture
def coadd(tmp_path):
    """Two objects in two narrow bands."""
    n, schema = 4, coadd_schema(["lumos"], "mixture", 2, {"prior": "none"})
    columns = {field.name: np.arange(n) + 1.0 for field in schema}
    flux = np.array([20.0, 10, 11, 21])
    columns |= {"object_id": np.array([9, 9, 4, 4]), "band": np.array(["NB465", "NB455", "NB455", "NB465"])}
    columns |= {"flux": flux, "flux_err": flux / 10, "pdf_weights": np.tile([0.7, 0.3], (n, 1))}
    columns |= {"pdf_means": flux[:, None] + [0, 1], "pdf_stds": flux[:, None] / [10, 5]}
    pq.write_table(to_arrow(columns, schema), tmp_path / "coadd.parquet")
    return tmp_path / "coadd.parquet"


def broad(tmp_path, **columns):
    """A wide table; object 4 is not in it, object 7 is in no other."""
    columns = {"object_id": [7, 9], "flux_r": [1.0, 30.0], "flux_r_err": [0.1, 3.0]} | columns
    pq.write_table(pa.table(columns), tmp_path / "broad.parquet")
    return str(tmp_path / "broad.parquet")


@pytest.mark.parametrize("likelihood", ["gaussian", "pdf"])
def test_bands_of_two_tables(coadd, tmp_path, likelihood):
    others = broad(tmp_path, flux_u=[2.0, 5.0], flux_u_err=[0.2, 0.5])
    settings = PhotozSettings(others=others, likelihood=likelihood, floor=0)
    found = read_photometry(coadd, MODELS, settings)
    assert found.bands == MODELS
    assert found.object_id.tolist() == [9, 4]
    np.testing.assert_allclose(found.flux, [[5, 10, 20, 30], [np.nan, 11, 21, np.nan]])
    np.testing.assert_allclose(found.flux_err, [[0.5, 1, 2, 3], [np.nan, 1.1, 2.1, np.nan]])
    assert found.usable(-2).tolist() == [[True] * 4, [False, True, True, False]]
    light, _, unit = light_of(found, settings)
    # In the fit the other bands are Gaussians of their flux and error.
    assert light.fluxes[3, 0] * unit[0] == pytest.approx(30)
    assert light.weights[3, 0] / unit[0] ** 2 == pytest.approx(1 / 9)
    assert light.weights[3, 1] == 0
    if likelihood == "pdf":
        at_flux = light.fluxes[:, :1]
        for band, model, chi2 in ((0, 4.0, 4.0), (3, 33.0, 1.0)):  # (4 - 5) / 0.5, (33 - 30) / 3
            other = at_flux.copy()
            other[band] = model / unit[0]
            change = [light.parabola(one, np.array([0])).value[0] for one in (other, at_flux)]
            assert change[0] - change[1] == pytest.approx(chi2, rel=1e-6)


def test_what_does_not_go_together_is_refused(coadd, tmp_path):
    def read(**columns):
        return read_photometry(coadd, MODELS, PhotozSettings(others=broad(tmp_path, **columns)))

    with pytest.raises(LumosDataError, match=r"broad.parquet: band 'NB455' is in the other table, too"):
        read(flux_NB455=[1.0, 2.0], flux_NB455_err=[1.0, 1.0])
    with pytest.raises(LumosDataError, match=r"broad.parquet: has fluxes of none of the 2 galaxies"):
        read(object_id=[1, 2])
    with pytest.raises(LumosDataError, match=r"broad.parquet: .*'y' is none of the models"):
        read(flux_y=[1.0, 2.0], flux_y_err=[1.0, 1.0])
    with pytest.raises(LumosDataError, match=r"nowhere.parquet: no such table"):
        read_photometry(coadd, MODELS, PhotozSettings(others="nowhere.parquet"))


def test_a_run_is_of_both_tables(tmp_path):
    grid = build_grid(load_models("analytic", ["redshifts={low: 0.1, high: 0.5, step: 0.01}"]))
    flux = 100 * grid.fluxes[0][10:20].sum(axis=1)
    names = np.array(grid.bands)
    for name, rows in (("narrow", grid.narrow), ("broad", ~grid.narrow)):
        columns = {f"flux_{band}": flux[:, at] for at, band in enumerate(names) if rows[at]}
        columns |= {f"flux_{band}_err": flux[:, at] / 30 for at, band in enumerate(names) if rows[at]}
        pq.write_table(pa.table({"object_id": np.arange(10)} | columns), tmp_path / f"{name}.parquet")
    settings = PhotozSettings(others=str(tmp_path / "broad.parquet"))
    photoz_run(Tables(tmp_path / "narrow.parquet"), grid, tmp_path / "pz", settings)
    table, _ = read_redshifts(tmp_path / "pz")
    assert set(table["n_bands"].to_pylist()) == {len(grid.bands)}
    np.testing.assert_allclose(table["zb"].to_numpy(), grid.redshifts[10:20], atol=0.005)
    # Other fluxes are another run.
    broader = pq.read_table(tmp_path / "broad.parquet").slice(0, 9)
    pq.write_table(broader, tmp_path / "broad.parquet")
    with pytest.raises(LumosConfigError, match="pz"):
        photoz_run(Tables(tmp_path / "narrow.parquet"), grid, tmp_path / "pz", settings)
