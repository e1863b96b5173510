"""Columns, zero points and sentinels of Rubin, PAUS and DES, and colours, against numbers worked out by hand."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from helpers.coadd_tables import ABSENT, BANDS, DARK, UNMEASURED, fluxes, write_coadd
from helpers.flux_runs import exposure, write_run
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError
from lumos.exports import source as source_room
from lumos.exports.run import export_table
from lumos.flags import Flag
from lumos.pdf import GaussianMixture, colour, colour_moments


@pytest.fixture
def coadd(tmp_path, monkeypatch):
    monkeypatch.setattr(source_room, "ROWS", 5)
    write_coadd(tmp_path / "c.parquet", names=True)
    return tmp_path / "c.parquet"


def known():
    flux, error = fluxes(6)
    flux[ABSENT, 2] = error[ABSENT, 2] = np.nan
    return flux, error


def read(path, out, name, **options):
    export_table(path, out, name, **options)
    return Table.read(out)


def test_rubin_objects(coadd, tmp_path):
    table = read(coadd, tmp_path / "a.fits", "lsst")
    flux, error = known()
    assert table.colnames[:4] == ["objectId", "objectName", "coord_ra", "coord_dec"]
    assert table["objectName"].tolist()[5] == "J15+05a"
    for number, band in enumerate(BANDS):
        np.testing.assert_allclose(np.ma.filled(table[f"{band}_cModelFlux"], np.nan), flux[:, number], rtol=1e-6)
        np.testing.assert_allclose(np.ma.filled(table[f"{band}_cModelFluxErr"], np.nan), error[:, number], rtol=1e-6)
        np.testing.assert_array_equal(table[f"{band}_cModel_flag"], np.isnan(flux[:, number]))
        assert str(table[f"{band}_cModelFlux"].unit) == "nJy"
    assert table["g_inputCount"].tolist() == [4] * 6
    assert table["i_inputCount"][ABSENT] == 0
    assert table["i_lumosFlags"][ABSENT] == int(Flag.NO_EXPOSURE)


def test_rubin_forced_sources(tmp_path):
    flags = np.array([0, Flag.SATURATED, Flag.COSMIC_RAY, Flag.EDGE, Flag.OFF_DATA | Flag.MASKED, Flag.NEIGHBOUR])
    run = write_run(tmp_path / "run", [exposure("visit_7", np.arange(6), np.arange(6) * 10.0, 2.0, flags=flags)])
    table = read(run, tmp_path / "a.xml", "lsst")
    np.testing.assert_array_equal(table["psfFlux"], np.arange(6) * 10)
    assert str(table["psfFlux"].unit) == "nJy"
    assert set(table["visit"]) == {"visit_7"}
    expected = {
        "pixelFlags_saturated": [1],
        "pixelFlags_cr": [2],
        "pixelFlags_edge": [3],
        "pixelFlags_nodata": [4],
        "pixelFlags_bad": [4],
        "psfFlux_flag": [1, 2, 4],
    }
    for name, rows in expected.items():
        assert np.flatnonzero(table[name]).tolist() == rows, name
    assert table["lumosFlags"].tolist() == flags.tolist()


def test_paus(coadd, tmp_path):
    export_table(coadd, tmp_path / "a.parquet", "paus")
    table = pq.read_table(tmp_path / "a.parquet")
    flux, error = known()
    assert table["ref_id"].to_pylist() == list(range(100, 106))
    for number, band in enumerate(BANDS):
        # Magnitude 31.4 is 1 nJy, and 10^(-0.4 (31.4 - 26)) in these units.
        np.testing.assert_allclose(table[f"flux_{band}"].to_numpy(), flux[:, number] * 6.918310e-3, rtol=1e-6)
        np.testing.assert_allclose(table[f"flux_error_{band}"].to_numpy(), error[:, number] * 6.918310e-3, rtol=1e-6)
    assert table["object_name"].to_pylist()[2] == "J12+02a"
    assert table["flux_g"].to_numpy()[DARK] < 0


def test_paus_of_a_run(tmp_path):
    run = write_run(tmp_path / "run", [exposure(name, np.arange(4), 100.0 * np.arange(4), 2.0) for name in "ab"])
    export_table(run, tmp_path / "a.parquet", "paus")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["ref_id", "image_id", "ccd", "band", "ra", "dec", "flux", "flux_error", "flag"]
    np.testing.assert_allclose(table["flux"].to_numpy(), np.tile(np.arange(4), 2) * 0.6918310, rtol=1e-6)
    assert table["image_id"].to_pylist() == ["a"] * 4 + ["b"] * 4


def test_des(coadd, tmp_path):
    table = read(coadd, tmp_path / "a.fits", "des", bands=["i", "g", "r"])
    flux, error = known()
    assert [name for name in table.colnames if name.startswith("MAG_")] == ["MAG_I", "MAG_G", "MAG_R"]
    bright = (0, "G", 0)
    row, band, number = bright
    assert table[f"FLUX_{band}"][row] == pytest.approx(flux[row, number] * 10 ** (-0.56), rel=1e-6)
    assert table[f"MAG_{band}"][row] == pytest.approx(30 - 2.5 * np.log10(table[f"FLUX_{band}"][row]), abs=1e-5)
    expected = 1.0857362 * error[row, number] / flux[row, number]
    assert table[f"MAGERR_{band}"][row] == pytest.approx(expected, rel=1e-5)
    assert table["MAG_G"][DARK] == table["MAGERR_G"][DARK] == 99
    assert table["FLUX_G"][DARK] < 0
    for name in ("FLUX", "FLUXERR", "MAG", "MAGERR"):
        assert table[f"{name}_R"][UNMEASURED] == table[f"{name}_I"][ABSENT] == -9999
    assert table["FLAGS_I"][ABSENT] == int(Flag.NO_EXPOSURE)


@pytest.mark.parametrize("suffix", [".fits", ".xml", ".ecsv"])
def test_any_file_holds_the_same(coadd, tmp_path, suffix):
    export_table(coadd, tmp_path / "a.parquet", "des")
    first = pq.read_table(tmp_path / "a.parquet")
    other = read(coadd, tmp_path / f"b{suffix}", "des")
    assert other.colnames == first.column_names
    for name in first.column_names:
        assert first[name].to_pylist() == other[name].tolist(), name


def test_bands_in_capitals(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    bands = ["G" if band == "i" else band for band in table["band"].to_pylist()]
    pq.write_table(table.set_column(1, table.schema.field(1), [bands]), tmp_path / "d.parquet")
    with pytest.raises(LumosDataError, match="not told apart in capitals"):
        export_table(tmp_path / "d.parquet", tmp_path / "a.fits", "des")
    export_table(tmp_path / "d.parquet", tmp_path / "a.fits", "des", bands=["g", "r"])


@pytest.mark.parametrize(("name", "out"), [("des", "a.fits"), ("rail", "a.hdf5")])
def test_a_run_has_many_fluxes_of_a_band(tmp_path, name, out):
    run = write_run(tmp_path / "run", [exposure(name, np.arange(4), np.full(4, 9.0), 2.0) for name in "ab"])
    with pytest.raises(LumosDataError, match=rf"{name} has one row per object .*lumos coadd"):
        export_table(run, tmp_path / out, name)
    with pytest.raises(LumosDataError, match="table of colours has one row per object"):
        export_table(run, tmp_path / "b.fits", "fits", colours=True)
    with pytest.raises(LumosConfigError, match=r"--bands: lsst of .* holds all bands in one column"):
        export_table(run, tmp_path / "b.fits", "lsst", bands=["i"])


@pytest.mark.parametrize(
    ("name", "out"), [("lsst", "a.fits"), ("paus", "a.csv"), ("des", "a.fits"), ("rail", "a.hdf5")]
)
def test_fluxes_without_a_zero_point(tmp_path, name, out):
    run = write_run(tmp_path / "run", [exposure("a", np.arange(4), np.full(4, 9.0), 2.0, zeropoint=np.nan)])
    with pytest.raises(LumosDataError, match=rf"fluxes are in image units, {name} holds calibrated ones"):
        export_table(run, tmp_path / out, name)
    export_table(run, tmp_path / "plain.fits", "fits")
    table = Table.read(tmp_path / "plain.fits")
    assert table["flux"].unit is None
    assert np.isnan(np.ma.filled(table["magnitude"], np.nan)).all()


def test_colours_of_draws(rng):
    pdfs = [
        GaussianMixture([[0.6, 0.4]], [[100.0, 110.0]], [[4.0, 12.0]]),
        GaussianMixture([[1.0, 0.0]], [[250.0, 0.0]], [[30.0, 1.0]]),
        GaussianMixture([[0.5, 0.5]], [[40.0, 60.0]], [[8.0, 8.0]]),
    ]
    draws = np.stack([pdf.sample(rng, 400_000)[0] for pdf in pdfs])
    draws = -2.5 * np.log10(draws[:, (draws > 0).all(axis=0)])
    colours = draws[:-1] - draws[1:]
    mean, covariance = colour_moments(pdfs)
    np.testing.assert_allclose(mean[0], colours.mean(axis=1), atol=2e-3)
    np.testing.assert_allclose(covariance[0], np.cov(colours), rtol=0.02)
    assert covariance[0, 0, 1] < 0


def test_colours_of_narrow_gaussians():
    flux, error = np.array([100.0, 300.0, 500.0, 900.0]), np.array([1.0, 6.0, 5.0, 3.0])
    pdfs = [GaussianMixture([[1.0]], [[one]], [[err]]) for one, err in zip(flux, error, strict=True)]
    mean, covariance = colour_moments(pdfs)
    np.testing.assert_allclose(mean[0], -2.5 * np.log10(flux[:-1] / flux[1:]), atol=5e-4)
    # Of a flux with a small error the variance is (2.5 / ln 10 error / flux)^2; the matrix is D V D^T.
    difference = np.eye(3, 4) - np.eye(3, 4, k=1)
    expected = difference @ np.diag((1.0857362 * error / flux) ** 2) @ difference.T
    np.testing.assert_allclose(covariance[0], expected, rtol=2e-3, atol=1e-12)


def test_colours_that_cannot_be():
    good, bad = (GaussianMixture([[1.0]], [[value]], [[1.0]]) for value in (10.0, np.nan))
    mean, covariance = colour_moments([good, good, bad])
    assert np.isnan(mean).tolist() == [[False, True]]
    assert np.isnan(covariance).tolist() == [[[False, True], [True, True]]]
    with pytest.raises(LumosValueError, match="bands of colours: got 1"):
        colour_moments([good])


def test_colour_table(coadd, tmp_path):
    table = read(coadd, tmp_path / "a.fits", "fits", colours=True, bands=["g", "r", "i"])
    flux, error = known()
    row = 4
    pdfs = []
    for number in range(3):
        mean, std = flux[row, number], error[row, number]
        pdfs.append(GaussianMixture([[0.75, 0.25]], [[mean, mean + 10]], [[std, 2 * std]]))
    mean, covariance = colour_moments(pdfs)
    np.testing.assert_allclose([table["g_r_colour"][row], table["r_i_colour"][row]], mean[0], rtol=1e-4)
    np.testing.assert_allclose(table["covariance"][row].reshape(2, 2), covariance[0], rtol=1e-3)
    low, median, high = colour(pdfs[1], pdfs[2]).pdf.quantile([[0.15866, 0.5, 0.84134]])[0]
    found = [table[f"r_i_colour_{name}"][row] for name in ("q16", "median", "q84")]
    np.testing.assert_allclose(found, [low, median, high], atol=1e-3)
    assert table["g_r_without"][DARK] > 0.99
    # A band that is missing takes its own colours away and no others.
    assert np.isfinite(table["g_r_colour"][ABSENT])
    assert np.isnan(np.ma.filled(table["r_i_colour"], np.nan)[ABSENT])
    left = np.ma.filled(table["covariance"], np.nan)[ABSENT].reshape(2, 2)
    assert np.isfinite(left).tolist() == [[True, False], [False, False]]
    assert str(table["covariance"].unit) == "mag2"
    with pytest.raises(LumosDataError, match="colours need 2 bands or more, got g"):
        export_table(coadd, tmp_path / "b.fits", "fits", colours=True, bands=["g"])
