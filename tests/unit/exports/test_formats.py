"""Every format is read back by the program it is for, with all numbers, texts, units and UCDs."""

import io
import sys
import warnings

import astropy.io.votable
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import qp
import tables_io
from astropy.io import fits
from astropy.table import Table
from astropy.units import Unit
from hats.io.validation import is_valid_catalog
from hats.pixel_math.partition_stats import generate_alignment
from scipy import stats

from helpers.coadd_tables import ABSENT, DARK, UNMEASURED, fluxes, write_coadd
from helpers.flux_runs import exposure, write_run
from lumos.catalogs.formats import read_columns
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError
from lumos.exports import hats as hats_room
from lumos.exports import source as source_room
from lumos.exports.points import point_tables
from lumos.exports.run import export_table
from lumos.exports.source import open_source
from lumos.exports.tables import as_numpy
from lumos.files import name_code
from lumos.flags import Flag


@pytest.fixture(params=["coadd", "run"])
def exported(request, tmp_path, monkeypatch):
    """Return a coadd or a run with texts as identifiers, and its table with magnitudes; rows come in pieces."""
    monkeypatch.setattr(source_room, "ROWS", 5)
    if request.param == "coadd":
        path = tmp_path / "c.parquet"
        write_coadd(path, names=True)
    else:
        objects = np.arange(7)
        names = np.array([f"{number:03d}" for number in objects], dtype=object)
        parts = [
            exposure(name, objects, 100.0 * objects, 5.0) | {"object_name": names, "flags": np.full(7, 8192)}
            for name in ("a", "long_b")
        ]
        path = write_run(tmp_path / "run", parts)
    tables = list(point_tables(open_source(path)))
    assert len(tables) > 1
    whole = {name: np.concatenate([as_numpy(table, name) for table in tables]) for name in tables[0].column_names}
    return path, whole, tables[0].schema


def same(found, expected):
    found = np.ma.asarray(found)
    # Empty texts of ECSV are read as masked; FITS has no lists of one.
    found = found.filled({"f": np.nan, "U": ""}.get(found.dtype.kind, found.fill_value))
    if found.dtype.kind == "S":
        found = np.char.decode(found)
    np.testing.assert_array_equal(found, expected[:, 0] if found.ndim < expected.ndim else expected)


def test_fits(exported, tmp_path):
    path, whole, schema = exported
    export_table(path, tmp_path / "a.fits", "fits")
    with fits.open(tmp_path / "a.fits") as hdul:
        hdul.verify("exception")
        rows, header = hdul[1].data, hdul[1].header
        for name, values in whole.items():
            same(rows[name], values)
        for number, item in enumerate(schema, start=1):
            assert header[f"TTYPE{number}"] == item.name
            assert Unit(header.get(f"TUNIT{number}", "")) == Unit(item.metadata[b"unit"].decode())
            assert header[f"TUCD{number}"] == item.metadata[b"ucd"].decode()
        assert header["FLAG13"] == "NEIGHBOUR"
    assert (tmp_path / "a.fits").stat().st_size % 2880 == 0


def test_votable(exported, tmp_path):
    path, whole, schema = exported
    export_table(path, tmp_path / "a.xml", "votable")
    report = io.StringIO()
    assert astropy.io.votable.validate(tmp_path / "a.xml", report), report.getvalue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        votable = astropy.io.votable.parse(tmp_path / "a.xml", verify="exception").get_first_table()
    for name, values in whole.items():
        same(votable.array[name], values)
    for item in votable.fields:
        metadata = schema.field(item.name).metadata
        assert item.ucd == metadata[b"ucd"].decode()
        assert Unit(str(item.unit or "")) == Unit(metadata[b"unit"].decode())
    (frame,) = votable._votable.resources[0].coordinate_systems
    assert frame.system == "ICRS"
    assert votable.get_field_by_id_or_name("ra").ref == frame.ID


def test_csv(exported, tmp_path):
    path, whole, schema = exported
    export_table(path, tmp_path / "a.csv", "csv")
    texts = {item.name: "string" for item in schema if str(item.type) == "string"}
    read = pyarrow.csv.ConvertOptions(column_types=texts)
    table = pyarrow.csv.read_csv(tmp_path / "a.csv", convert_options=read)
    for name, values in whole.items():
        if values.ndim == 1:
            found = table[name].to_numpy(zero_copy_only=False)
            same(found.astype(values.dtype), values)
        else:
            parts = [table[f"{name}_{number + 1}"].to_numpy() for number in range(values.shape[1])]
            same(np.stack(parts, axis=1).astype(np.float32), values)


def test_ecsv(exported, tmp_path):
    path, whole, schema = exported
    export_table(path, tmp_path / "a.ecsv", "ecsv")
    table = Table.read(tmp_path / "a.ecsv")
    for name, values in whole.items():
        same(table[name], values)
        assert Unit(str(table[name].unit or "")) == Unit(schema.field(name).metadata[b"unit"].decode())
    assert table["object_name"].dtype.kind == "U"
    assert table.meta["flags"]["NEIGHBOUR"].startswith("8192: ")


def test_all_of_these_are_read_by_lumos(exported, tmp_path):
    path, whole, _ = exported
    for suffix, name in ((".fits", "fits"), (".xml", "votable"), (".ecsv", "ecsv"), (".csv", "csv")):
        export_table(path, tmp_path / f"a{suffix}", name)
        found = read_columns(tmp_path / f"a{suffix}")
        same(found["object_id"], whole["object_id"])
        np.testing.assert_array_equal(found["flux"].astype(np.float32), whole["flux"])


def test_qp(exported, tmp_path, caplog):
    path, whole, _ = exported
    export_table(path, tmp_path / "a.hdf5", "qp")
    ensemble = qp.read(tmp_path / "a.hdf5")
    there = np.isfinite(whole["pdf_means"]).all(axis=1)
    assert ensemble.npdf == there.sum()
    lost = int((~there).sum())
    assert (f"{lost} of {len(there)} rows have no PDF" in caplog.text) == (lost > 0)
    for name in ("object_id", "object_name", "band"):
        same(ensemble.ancil[name], whole[name][there])
    assert set(ensemble.ancil["flux_unit"].tolist()) == {"nJy"}
    flux = np.array([50.0, 300.0])
    parts = (whole[f"pdf_{part}"][there].astype(float)[:, None, :] for part in ("weights", "means", "stds"))
    weights, means, stds = parts
    expected = (weights * stats.norm.cdf(flux[None, :, None], means, stds)).sum(axis=2)
    np.testing.assert_allclose(ensemble.cdf(flux), expected, atol=1e-6)
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file.attrs["flux_unit"] == "nJy"


def test_qp_of_a_coadd_on_nodes(tmp_path):
    mixture = write_coadd(tmp_path / "c.parquet", form="grid")
    export_table(tmp_path / "c.parquet", tmp_path / "a.hdf5", "qp")
    ensemble = qp.read(tmp_path / "a.hdf5")
    there = np.isfinite(mixture.quantile(0.5))
    median = mixture.quantile(0.5)[there]
    np.testing.assert_allclose(np.diag(ensemble.cdf(median)), 0.5, atol=0.01)
    assert (ensemble.ancil["pdf_fit_err"] < 0.02).all()


def test_rail(tmp_path, monkeypatch):
    monkeypatch.setattr(source_room, "ROWS", 4)
    write_coadd(tmp_path / "c.parquet", names=True)
    export_table(tmp_path / "c.parquet", tmp_path / "a.hdf5", "rail")
    group = tables_io.read(tmp_path / "a.hdf5")["photometry"]
    flux, error = fluxes(6)
    flux[ABSENT, 2] = error[ABSENT, 2] = np.nan
    assert group["object_id"].tolist() == list(range(100, 106))
    assert group["object_name"].tolist()[1] == b"J11+01a"
    for number, band in enumerate("gri"):
        np.testing.assert_allclose(group[f"flux_{band}_lsst"], flux[:, number], rtol=1e-6)
        with np.errstate(invalid="ignore"):
            magnitude = 31.4 - 2.5 * np.log10(flux[:, number])
        bright = flux[:, number] > 0
        np.testing.assert_allclose(group[f"mag_{band}_lsst"][bright], magnitude[bright], rtol=1e-6)
        expected = 1.0857362 * error[bright, number] / flux[bright, number]
        np.testing.assert_allclose(group[f"mag_err_{band}_lsst"][bright], expected, rtol=1e-5)
    assert group["mag_g_lsst"][DARK] == group["mag_err_g_lsst"][DARK] == 99
    assert group["mag_r_lsst"][UNMEASURED] == group["mag_i_lsst"][ABSENT] == -99
    assert group["flux_g_lsst"][DARK] == -100


@pytest.mark.filterwarnings("ignore")  # of what lsdb calls in pandas and dask
def test_hats(exported, tmp_path, monkeypatch):
    import lsdb  # noqa: PLC0415 - where its warnings are ignored

    path, whole, schema = exported
    monkeypatch.setattr(hats_room, "_MOST_ROWS", 6)
    export_table(path, tmp_path / "cat", "hats")
    assert is_valid_catalog(tmp_path / "cat", strict=True)
    assert not list(tmp_path.rglob("*.part"))
    catalog = lsdb.open_catalog(tmp_path / "cat", columns="all")
    assert len(catalog.get_healpix_pixels()) > 1
    frame = catalog.compute()
    assert len(frame) == len(whole["object_id"])
    keys = [(row, name) for row, name in zip(frame["object_id"], frame["band"], strict=True)]
    place = {}
    for row, key in enumerate(zip(whole["object_id"].tolist(), whole["band"].tolist(), strict=True)):
        place.setdefault(key, []).append(row)
    order = [place[key].pop(0) for key in keys]
    np.testing.assert_array_equal(frame["object_name"].to_numpy(dtype=object), whole["object_name"][order])
    np.testing.assert_array_equal(frame["ra"].to_numpy(), whole["ra"][order])
    near = catalog.cone_search(ra=float(whole["ra"][0]), dec=float(whole["dec"][0]), radius_arcsec=2).compute()
    assert set(near["object_id"]) == {whole["object_id"][0]}
    stored = pq.read_schema(next((tmp_path / "cat/dataset").rglob("Npix=*.parquet")))
    assert stored.field("flux").metadata[b"unit"] == b"nJy"
    assert set(schema.names) <= set(stored.names)


def test_what_a_killed_command_left_of_hats_is_removed(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    left = tmp_path / f".lumos-{name_code(tmp_path / 'cat')}-0123456789abcdef.part"
    (left / "dataset").mkdir(parents=True)
    export_table(tmp_path / "c.parquet", tmp_path / "cat", "hats")
    assert is_valid_catalog(tmp_path / "cat", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.parquet", "cat"]


def test_rail_says_what_has_no_row_and_which_bands_are_its_own(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    names = pa.array([{"g": "g", "r": "riz", "i": "VIS"}[band] for band in table["band"].to_pylist()])
    place = table.schema.names.index("band")
    pq.write_table(table.set_column(place, table.schema.field("band"), names), tmp_path / "c.parquet")
    export_table(tmp_path / "c.parquet", tmp_path / "a.hdf5", "rail")
    with h5py.File(tmp_path / "a.hdf5") as file:
        found = {name: values[:] for name, values in file["photometry"].items()}
    assert {name for name in found if name.startswith("flux_err")} == {
        "flux_err_g_lsst",
        "flux_err_riz",
        "flux_err_VIS",
    }
    assert found["flags_VIS"][ABSENT] == int(Flag.NO_EXPOSURE)
    assert found["flags_VIS"][0] == int(Flag.NEIGHBOUR)
    # A band whose name FITS cannot hold.
    names = pa.array([band.replace("VIS", "Hα") for band in names.to_pylist()])
    pq.write_table(table.set_column(place, table.schema.field("band"), names), tmp_path / "c.parquet")
    with pytest.raises(LumosDataError, match="FITS holds ASCII names only, not 'Hα_cModelFlux'"):
        export_table(tmp_path / "c.parquet", tmp_path / "a.fits", "lsst")


def test_partitions_are_those_of_hats(rng):
    counts = np.where(rng.random(12 * 4**3) < 0.3, rng.integers(1, 40, 12 * 4**3), 0)
    order, pixel = hats_room.partition_pixels(counts, 60)
    for number, expected in enumerate(generate_alignment(counts, highest_order=3, threshold=60)):
        if expected is not None:
            assert (order[number], pixel[number]) == tuple(expected[:2])


def test_bad_calls(tmp_path):
    path, out = tmp_path / "c.parquet", tmp_path / "a.fits"
    write_coadd(path)
    with pytest.raises(LumosValueError, match=r"format: got 'xls', allowed: fits, votable"):
        export_table(path, out, "xls")
    with pytest.raises(LumosConfigError, match=r"a.fits: votable is written to a file that ends in .xml or .vot"):
        export_table(path, out, "votable")
    with pytest.raises(LumosConfigError, match="no such folder"):
        export_table(path, tmp_path / "no/a.fits", "fits")
    for options, words in (({"bands": ["g"]}, "--bands: fits"), ({"colours": True}, "--colours: not with lsst")):
        with pytest.raises(LumosConfigError, match=words):
            export_table(path, out, "lsst" if "colours" in options else "fits", **options)
    out.write_text("mine")
    with pytest.raises(LumosConfigError, match=r"a.fits: exists"):
        export_table(path, out, "fits")
    assert out.read_text() == "mine"
    (tmp_path / "folder").mkdir()
    with pytest.raises(LumosConfigError, match="exists"):
        export_table(path, tmp_path / "folder", "hats")


def test_nothing_is_left_of_an_export_that_failed(tmp_path):
    write_coadd(tmp_path / "c.parquet", names=True)
    table = pq.read_table(tmp_path / "c.parquet")
    names = table["object_name"].to_pylist()
    foreign = table.set_column(1, table.schema.field(1), [["é" + name for name in names]])
    pq.write_table(foreign, tmp_path / "d.parquet")
    with pytest.raises(LumosDataError, match=r"FITS holds ASCII texts only, object_name has"):
        export_table(tmp_path / "d.parquet", tmp_path / "a.fits", "fits")
    export_table(tmp_path / "d.parquet", tmp_path / "a.xml", "votable")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xml", "c.parquet", "d.parquet"]
    found = astropy.io.votable.parse_single_table(tmp_path / "a.xml").array["object_name"]
    assert found.tolist() == ["é" + name for name in names]


@pytest.mark.parametrize(("name", "suffix"), [("qp", ".hdf5"), ("fits", ".fits")])
def test_a_coadd_without_pdfs(tmp_path, name, suffix):
    write_coadd(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    pq.write_table(table.drop_columns(["pdf_weights"]), tmp_path / "d.parquet")
    with pytest.raises(LumosDataError, match="has no columns of PDFs"):
        export_table(tmp_path / "d.parquet", tmp_path / f"a{suffix}", name)
    assert not (tmp_path / f"a{suffix}").exists()


@pytest.mark.parametrize(("name", "package", "extra"), [("qp", "qp", "qp"), ("rail", "h5py", "rail")])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, name, package, extra):
    write_coadd(tmp_path / "c.parquet")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LumosError, match=rf"needs the package .*pip install 'lumos-photometry\[{extra}\]'"):
        export_table(tmp_path / "c.parquet", tmp_path / "a.hdf5", name)


def test_flags_of_the_rows_are_there(exported, tmp_path):
    path, whole, _ = exported
    export_table(path, tmp_path / "a.fits", "fits")
    with fits.open(tmp_path / "a.fits") as hdul:
        assert (hdul[1].data["flags"] & int(Flag.NEIGHBOUR) > 0).sum() == (whole["flags"] & 8192 > 0).sum() > 0
