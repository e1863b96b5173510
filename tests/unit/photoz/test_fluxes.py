"""Tables of fluxes as they come, and what is wrong with some."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from lumos.catalogs.schema import coadd_schema, to_arrow
from lumos.errors import LumosConfigError, LumosDataError
from lumos.photoz.fluxes import Photometry, light_of, read_photometry
from lumos.photoz.settings import PhotozSettings

BANDS = ("NB455", "NB465", "r")
SETTINGS = PhotozSettings()


def write(tmp_path, columns, metadata=None):
    path = tmp_path / "fluxes.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def coadd(tmp_path, prior="none", model=None):
    """Two objects; the second lacks a band, the bands are not in the order of the models."""
    schema = coadd_schema(["lumos"], "mixture", 2, {"prior": prior, "model": model})
    n = 5
    columns = {field.name: np.arange(n) + 1.0 for field in schema}
    columns |= {
        "object_id": np.array([9, 9, 9, 4, 4]),
        "band": np.array(["r", "NB465", "NB455", "NB455", "r"]),
        "flux": np.array([30.0, 20, 10, 11, 31]),
        "flux_err": np.array([3.0, 2, 1, 1.1, 3.1]),
        "pdf_weights": np.tile([0.7, 0.3], (n, 1)),
        "pdf_means": np.array([30.0, 20, 10, 11, 31])[:, None] + [0, 1],
        "pdf_stds": np.array([3.0, 2, 1, 1.1, 3.1])[:, None] * [1, 2],
    }
    path = tmp_path / "coadd.parquet"
    pq.write_table(to_arrow(columns, schema), path)
    return path


def test_a_coadd_is_read_into_the_order_of_the_models(tmp_path):
    found = read_photometry(coadd(tmp_path), BANDS, PhotozSettings(likelihood="pdf"))
    assert found.bands == BANDS
    assert found.object_id.tolist() == [9, 4]
    np.testing.assert_allclose(found.flux, [[10, 20, 30], [11, np.nan, 31]])
    np.testing.assert_allclose(found.mixture[1, 2], [[0.7, 0.3], [31, 32], [3.1, 6.2]], rtol=1e-6)
    assert np.isnan(found.mixture[1, 1]).all()
    assert found.usable(-2).tolist() == [[True] * 3, [True, False, True]]
    light, _, unit = light_of(found, PhotozSettings(likelihood="pdf", floor=0))
    # The mean and the width of a mixture, in units of the largest flux.
    mean = 0.7 * 10 + 0.3 * 11
    variance = 0.7 * (1 + (10 - mean) ** 2) + 0.3 * (4 + (11 - mean) ** 2)
    assert light.fluxes[0, 0] * unit[0] == pytest.approx(mean)
    assert light.weights[0, 0] / unit[0] ** 2 == pytest.approx(1 / variance)
    assert light.weights[1, 1] == 0
    assert read_photometry(coadd(tmp_path), BANDS, SETTINGS).mixture is None


def test_posteriors_are_refused_as_likelihoods(tmp_path):
    path = coadd(tmp_path, prior="catalog")
    with pytest.raises(LumosDataError, match=r"coadd.parquet: prior is catalog.*--prior none"):
        read_photometry(path, BANDS, PhotozSettings(likelihood="pdf"))
    assert len(read_photometry(path, BANDS, SETTINGS)) == 2
    # The product of a network's posteriors, to which `lumos coadd --product naive` added no other prior.
    path = coadd(tmp_path, model={"kind": "posterior"})
    with pytest.raises(LumosDataError, match=r"prior is that of the network"):
        read_photometry(path, BANDS, PhotozSettings(likelihood="pdf"))
    assert coadd(tmp_path, model={"kind": "likelihood"}).exists()
    assert len(read_photometry(path, BANDS, PhotozSettings(likelihood="pdf"))) == 2


def test_tables_without_pdfs_are_refused_as_likelihoods(tmp_path):
    path = write(tmp_path, {"object_id": [1], "flux_r": [1.0], "flux_r_err": [0.1]})
    with pytest.raises(LumosDataError, match=r"fluxes.parquet: has no 'pdf_weights'.*coadd"):
        read_photometry(path, BANDS, PhotozSettings(likelihood="pdf"))
    csv = tmp_path / "fluxes.csv"
    csv.write_text("object_id,flux_r,flux_r_err\n1,2,3\n")
    with pytest.raises(LumosDataError, match="not Parquet"):
        read_photometry(csv, BANDS, PhotozSettings(likelihood="pdf"))
    no_pdf = Photometry(np.array([1]), np.ones((1, 3)), np.ones((1, 3)), bands=BANDS)
    with pytest.raises(LumosDataError, match="got pdf"):
        light_of(no_pdf, PhotozSettings(likelihood="pdf"))


@pytest.mark.parametrize("error", ["flux_{}_err", "flux_err_{}", "flux_error_{}"])
def test_wide_tables(tmp_path, error):
    path = write(
        tmp_path,
        {"object_id": [3, 4], "flux_r": [1.0, None], error.format("r"): [0.1, 0.2]}
        | {"flux_NB455": [5.0, 6.0], error.format("NB455"): [0.5, 0.6], "ra": [1.0, 2.0]},
    )
    found = read_photometry(path, BANDS, SETTINGS)
    assert found.bands == ("NB455", "r")
    np.testing.assert_allclose(found.flux, [[5, 1], [6, np.nan]])
    np.testing.assert_allclose(found.flux_err, [[0.5, 0.1], [0.6, 0.2]])


def test_magnitudes_become_fluxes(tmp_path):
    path = write(tmp_path, {"object_id": [1, 2], "mag_r_lsst": [21.4, 99.0], "mag_err_r_lsst": [0.1, 99.0]})
    found = read_photometry(path, BANDS, PhotozSettings(bands={"r_lsst": "r"}))
    assert found.flux[0, 0] == pytest.approx(1e4)
    assert found.flux_err[0, 0] == pytest.approx(1e4 * 0.1 * np.log(10) / 2.5)
    assert np.isnan(found.flux[1, 0])


def test_columns_of_different_units_become_one(tmp_path):
    """All are AB magnitude 21.4, which is 10 uJy: the flux is the same in each band."""
    path = tmp_path / "fluxes.ecsv"
    table = Table(
        {"object_id": [1], "flux_r": [10.0], "flux_r_err": [0.1], "flux_NB455": [1e4], "flux_NB455_err": [0.1]}
    )
    for name, unit in (("flux_r", "uJy"), ("flux_NB455", "nJy"), ("flux_NB455_err", "uJy")):
        table[name].unit = unit
    table["mag_NB465"], table["mag_NB465_err"] = [21.4], [0.01]
    table["mag_NB465"].unit = "mag(AB)"
    table.write(path)
    found = read_photometry(path, BANDS, SETTINGS)
    np.testing.assert_allclose(found.flux, [[1e4, 1e4, 1e4]])
    np.testing.assert_allclose(found.flux_err, [[100, 1e4 * 0.01 * np.log(10) / 2.5, 100]])
    long = Table({"object_id": [1], "band": ["r"], "flux": [10.0], "flux_err": [100.0]}, units={"flux_err": "nJy"})
    long["flux"].unit = "uJy"
    long.write(path, overwrite=True)
    found = read_photometry(path, BANDS, SETTINGS)
    assert found.flux[0, 0] / found.flux_err[0, 0] == pytest.approx(100)


@pytest.mark.parametrize(
    ("columns", "units", "match"),
    [
        (("flux_r", "flux_NB455"), {"flux_r": "nJy"}, "'flux_NB455' gives fluxes without a unit, 'flux_r' nJy"),
        (("flux_r", "mag_NB455"), {}, "'mag_NB455' gives nJy, 'flux_r' fluxes without a unit"),
        (("flux_r",), {"flux_r": "mag"}, "column 'flux_r' is in 'mag', allowed: fluxes"),
        (("mag_r",), {"mag_r": "mag(ST)"}, r"column 'mag_r' is in 'mag\(ST\)', allowed: AB magnitudes"),
        (("flux_r", "flux_NB455"), {"flux_r": "ct", "flux_NB455": "ct / s"}, "gives ct"),
    ],
)
def test_units_that_do_not_go_together_are_refused(tmp_path, columns, units, match):
    path = tmp_path / "fluxes.ecsv"
    table = Table({"object_id": [1]} | {name: [20.0] for one in columns for name in (one, f"{one}_err")}, units=units)
    table.write(path)
    with pytest.raises(LumosDataError, match=match):
        read_photometry(path, BANDS, SETTINGS)


def test_one_unit_that_is_none_of_flux_stays(tmp_path):
    path = tmp_path / "fluxes.ecsv"
    names = ["flux_r", "flux_r_err", "flux_NB455", "flux_NB455_err"]
    Table({"object_id": [1]} | {name: [20.0] for name in names}, units=dict.fromkeys(names, "ct")).write(path)
    assert read_photometry(path, BANDS, SETTINGS).flux.tolist() == [[20.0, 20.0]]


def test_texts_as_identifiers(tmp_path):
    path = write(tmp_path, {"object_id": ["a", "b"], "flux_r": [1.0, 2.0], "flux_r_err": [0.1, 0.2]})
    assert read_photometry(path, BANDS, SETTINGS).object_name.tolist() == ["a", "b"]


def test_bad_tables_are_named(tmp_path):
    good = {"object_id": [1], "flux_r": [1.0], "flux_r_err": [0.1]}
    for columns, text in (
        ({"flux_r": [1.0], "flux_r_err": [0.1]}, "no column 'object_id'"),
        ({"object_id": [1], "flux_r": [1.0]}, "no columns flux_BAND with flux_BAND_err"),
        (good | {"flux_K": [1.0], "flux_K_err": [0.1]}, "band 'K' is none of the models, allowed: NB455"),
        (good | {"flux_r": ["x"]}, "column 'flux_r' holds"),
        ({"object_id": [1, 1], "band": ["r", "r"], "flux": [1.0, 2], "flux_err": [1.0, 1]}, "object 1 has two rows"),
        ({"object_id": [1], "band": ["r"], "flux_err": [1.0]}, "no column 'flux'"),
        (
            {"object_id": pa.array([1, None]), "band": ["r", "r"], "flux": [1.0, 2], "flux_err": [1.0, 1]},
            "row 2 has no",
        ),
        ({"object_id": np.array([2**63], np.uint64), "band": ["r"], "flux": [1.0], "flux_err": [1.0]}, "row 1 has no"),
        ({"object_id": [1.5], "band": ["r"], "flux": [1.0], "flux_err": [1.0]}, "allowed: integers"),
    ):
        with pytest.raises(LumosDataError, match=text):
            read_photometry(write(tmp_path, columns), BANDS, SETTINGS)
    with pytest.raises(LumosDataError, match="no such table of fluxes"):
        read_photometry(tmp_path / "no.parquet", BANDS, SETTINGS)
    with pytest.raises(LumosConfigError, match=r"photoz.bands: 'x' is no band of .*, allowed: r"):
        read_photometry(write(tmp_path, good), BANDS, PhotozSettings(bands={"x": "r"}))


def test_unusable_fluxes():
    flux = np.array([[1.0, np.nan, 5.0, -9.0, 2.0, 3.0]])
    error = np.array([[0.1, 0.1, 0.0, 1.0, np.inf, -1.0]])
    found = Photometry(np.array([1]), flux, error, bands=tuple("abcdef"))
    assert found.usable(-2).tolist() == [[True, False, False, False, False, False]]
    light, _, _ = light_of(found, SETTINGS)
    assert np.isfinite(light.fluxes).all()
    assert (light.weights[1:] == 0).all()


def test_the_floor_is_that_of_magnitudes():
    """At infinite SNR the error is the floor, at low SNR it changes nothing."""
    found = Photometry(np.array([1]), np.array([[100.0, 100.0, 1e-9]]), np.array([[1e-6, 1000.0, 1.0]]), bands=BANDS)
    light, _, unit = light_of(found, PhotozSettings(floor=0.03))
    error = unit[0] / np.sqrt(light.weights[:, 0])
    np.testing.assert_allclose(error, [100 * (10 ** (0.4 * 0.03) - 1), 1000, 1], rtol=3e-3)


def test_scaling_takes_pdfs_along(tmp_path):
    found = read_photometry(coadd(tmp_path), BANDS, PhotozSettings(likelihood="pdf"))
    scaled = found.scaled(np.array([2.0, 3, 1]))
    np.testing.assert_allclose(scaled.flux[0], [20, 60, 30])
    np.testing.assert_allclose(scaled.mixture[0, 0], [[0.7, 0.3], [20, 22], [2, 4]], rtol=1e-6)
    assert json.dumps(scaled.bands) == json.dumps(BANDS)
