"""Columns of parent catalogues: units, frames, names, identifiers, and what is missing."""

import hashlib
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from lumos.catalogs import identifiers
from lumos.catalogs.columns import COLUMN_TEXT, COLUMNS, ERROR_COLUMNS
from lumos.catalogs.formats import open_table, read_columns
from lumos.catalogs.parent import read_parent, write_parent
from lumos.errors import LumosConfigError, LumosDataError
from lumos.flags import CatalogFlag

SUFFIXES = (".fits", ".ecsv", ".vot", ".parquet")


def table():
    """Three objects in the standard units."""
    return Table(
        {
            "object_id": np.array([7, 3, 11]),
            "ra": np.array([10.0, 10.1, 350.2]),
            "dec": np.array([-5.0, -5.1, 5.2]),
            "half_light_radius": np.array([0.5, 1.0, 2.0]),
            "sersic_n": np.array([1.0, 4.0, 0.5]),
            "axis_ratio": np.array([1.0, 0.25, 0.5]),
            "position_angle": np.array([0.0, 45.0, 170.0]),
            "ref_mag": np.array([20.0, 21.0, 22.0]),
        }
    )


def write(path, content):
    formats = {".fits": "fits", ".ecsv": "ascii.ecsv", ".vot": "votable", ".csv": "ascii.csv", ".parquet": "parquet"}
    content.write(path, format=formats[path.suffix], overwrite=True)
    return path


ANGLES = [
    ("half_light_radius", "arcmin"),
    ("half_light_radius", "deg"),
    ("ra", "rad"),
    ("dec", "arcsec"),
    ("position_angle", "rad"),
]


# FITS and VOTable have no unit for hours of angle.
@pytest.mark.parametrize(
    ("name", "unit", "suffix"),
    [(*angle, suffix) for angle in ANGLES for suffix in SUFFIXES]
    + [("ra", "hourangle", ".ecsv"), ("ra", "hourangle", ".parquet")],
)
def test_angles_are_converted(tmp_path, suffix, name, unit):
    content = table()
    standard = content[name].data.copy()
    content[name] = Angle(standard, COLUMNS[name]).to_value(unit)
    content[name].unit = unit
    catalog = read_parent(write(tmp_path / f"a{suffix}", content))
    np.testing.assert_allclose(getattr(catalog, name), standard, rtol=1e-14, atol=1e-13)


def test_units_in_the_fields_of_parquet(tmp_path):
    plain = {name: np.asarray(table()[name]) for name in COLUMNS}
    plain["half_light_radius"] = plain["half_light_radius"] / 60
    schema = [pa.field(name, pa.array(column).type) for name, column in plain.items()]
    schema[3] = schema[3].with_metadata({"unit": "arcmin"})
    pq.write_table(pa.table(plain, schema=pa.schema(schema)), tmp_path / "a.parquet")
    np.testing.assert_allclose(read_parent(tmp_path / "a.parquet").half_light_radius, [0.5, 1, 2])


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        (
            "half_light_radius",
            u.kpc,
            r"a\.ecsv: column 'half_light_radius' .*'kpc', which is no angle; allowed: deg",
        ),
        ("half_light_radius", u.pix, "in 'pix', say how large one is"),
        ("ra", u.hour, "column 'ra' .* in 'h', which is no angle; allowed: .*hourangle"),
        ("ref_mag", u.W, "in 'W', allowed: AB magnitudes"),
        ("ref_mag", u.STmag, r"in 'mag\(ST\)', allowed: AB magnitudes"),
        ("sersic_n", u.arcsec, "in 'arcsec', allowed: a number without unit"),
    ],
)
def test_units_that_measure_something_else(tmp_path, name, unit, message):
    content = table()
    content[name].unit = unit
    with pytest.raises(LumosDataError, match=message):
        read_parent(write(tmp_path / "a.ecsv", content))


@pytest.mark.parametrize("text", ["degrees", "Deg", "arcseconds", "ABmag", "AB magnitude", "arcsec, major axis"])
def test_spellings_of_units(tmp_path, text):
    name = "ref_mag" if "AB" in text else "half_light_radius" if "arcsec" in text else "ra"
    plain = {column: np.asarray(table()[column]) for column in COLUMNS}
    schema = pa.schema([pa.field(column, pa.array(values).type) for column, values in plain.items()])
    number = schema.get_field_index(name)
    schema = schema.set(number, schema.field(number).with_metadata({"unit": text}))
    pq.write_table(pa.table(plain, schema=schema), tmp_path / "a.parquet")
    np.testing.assert_array_equal(getattr(read_parent(tmp_path / "a.parquet"), name), plain[name])


def test_per_cent_of_an_axis_ratio(tmp_path):
    content = table()
    content["axis_ratio"] = content["axis_ratio"] * 100
    content["axis_ratio"].unit = u.percent
    np.testing.assert_allclose(read_parent(write(tmp_path / "a.ecsv", content)).axis_ratio, [1, 0.25, 0.5])


@pytest.mark.parametrize(
    ("meta", "ok"),
    [
        ({"RADESYS": "FK4"}, False),
        ({"RADESYS": "FK5", "EQUINOX": 1950.0}, False),
        ({"RADESYS": "FK5", "EQUINOX": 2000.0}, True),
        ({"RADESYS": "ICRS"}, True),
    ],
)
def test_frames(tmp_path, meta, ok):
    content = table()
    content.meta.update(meta)
    for suffix in (".fits", ".ecsv"):
        path = write(tmp_path / f"a{suffix}", content)
        if ok:
            assert len(read_parent(path)) == 3
        else:
            with pytest.raises(LumosDataError, match="allowed: ICRS, or FK5 of equinox 2000"):
                read_parent(path)


VOTABLE = """<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>{coosys}<TABLE>
<FIELD name="ra" datatype="double" unit="deg"/><FIELD name="dec" datatype="double" unit="deg"/>
<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"""
ROWS = "<TABLEDATA><TR><TD>10.0</TD><TD>-5.0</TD></TR></TABLEDATA>"


def test_frames_of_votables(tmp_path):
    path = tmp_path / "a.vot"
    path.write_text(VOTABLE.format(coosys='<COOSYS ID="a" system="eq_FK4" equinox="B1950"/>', data=ROWS))
    with pytest.raises(LumosDataError, match=r"a\.vot: its positions are in 'eq_FK4 B1950', allowed: ICRS"):
        read_parent(path)
    # Archives add Galactic coordinates beside the equatorial ones.
    both = '<COOSYS ID="a" system="ICRS"/><COOSYS ID="b" system="galactic"/>'
    path.write_text(VOTABLE.format(coosys=both, data=ROWS))
    assert read_parent(path).ra.tolist() == [10.0]


@pytest.mark.parametrize(
    "stream",
    [
        '<BINARY><STREAM href="{}"/></BINARY>',
        '<BINARY2><STREAM encoding="gzip" href="{}"/></BINARY2>',
        '<FITS><STREAM href="{}"></STREAM></FITS>',
    ],
)
@pytest.mark.parametrize("address", ["http://localhost:9/rows", "file://{}/rows"])
def test_votables_with_rows_elsewhere_are_refused_and_nothing_is_opened(tmp_path, monkeypatch, stream, address):
    opened = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: opened.append((args, kwargs)))
    (tmp_path / "rows").write_bytes(b"secret")
    path = tmp_path / "a.vot"
    path.write_text(VOTABLE.format(coosys="", data=stream.format(address.format(tmp_path))))
    with pytest.raises(LumosDataError, match=r"a\.vot: its rows lie in '(http|file).*', which is not opened; allowed"):
        read_parent(path)
    assert opened == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_values_of_every_format(tmp_path, suffix):
    content = table()
    content["half_light_radius"] = MaskedColumn(content["half_light_radius"], mask=[False, True, False])
    content["sersic_n"] = MaskedColumn([1, 4, 2], mask=[False, False, True])
    catalog = read_parent(write(tmp_path / f"a{suffix}", content))
    np.testing.assert_array_equal(catalog.half_light_radius, [0.5, np.nan, 2.0])
    np.testing.assert_array_equal(catalog.sersic_n, [1, 4, np.nan])
    assert catalog.shape_ok.tolist() == [True, False, False]
    content["object_id"] = MaskedColumn(content["object_id"], mask=[False, True, False])
    with pytest.raises(LumosDataError, match=f"a{suffix}: row 2 has no 'object_id'.*1 rows in all"):
        read_parent(write(tmp_path / f"a{suffix}", content))


def test_nulls_of_parquet_keep_long_identifiers_exact(tmp_path):
    plain = {name: table()[name].tolist() for name in COLUMNS} | {"half_light_radius": [1.0, None, 2.0]}
    plain["object_id"] = [2**62 + 1, 2**62 + 2, 2**62 + 3]
    pq.write_table(pa.table(plain), tmp_path / "a.parquet")
    catalog = read_parent(tmp_path / "a.parquet")
    assert catalog.object_id.tolist() == plain["object_id"]
    assert np.isnan(catalog.half_light_radius).tolist() == [False, True, False]
    plain["object_id"][2] = None
    pq.write_table(pa.table(plain), tmp_path / "a.parquet")
    with pytest.raises(LumosDataError, match="row 3 has no 'object_id'"):
        read_parent(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet"])
def test_identifiers_above_63_bits(tmp_path, suffix):
    content = table()
    content["object_id"] = np.array([1, 2**63 + 5, 3], dtype=np.uint64)
    with pytest.raises(LumosDataError, match=r"row 2: 'object_id' is 9223372036854775813, allowed: up to 2\^63 - 1"):
        read_parent(write(tmp_path / f"a{suffix}", content))
    content["object_id"] = np.array([1, 2**63 - 1, 3], dtype=np.uint64)
    assert read_parent(write(tmp_path / f"a{suffix}", content)).object_id[1] == 2**63 - 1


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".csv"])
def test_texts_are_identifiers(tmp_path, suffix):
    content = table()
    content["object_id"] = ["NGC 1", "J0042+41", "µ-3"] if suffix not in {".fits", ".vot"} else ["NGC 1", "J0042", "c"]
    catalog = read_parent(write(tmp_path / f"a{suffix}", content))
    assert catalog.object_name.tolist() == content["object_id"].tolist()
    digest = hashlib.sha256(b"NGC 1").digest()
    assert catalog.object_id[0] == int.from_bytes(digest[:8], "big") // 2
    assert (catalog.object_id >= 0).all()
    # And the text survives being written, beside the same number.
    write_parent(catalog, tmp_path / "b.parquet")
    again = read_parent(tmp_path / "b.parquet")
    assert again.object_name.tolist() == catalog.object_name.tolist()
    np.testing.assert_array_equal(again.object_id, catalog.object_id)
    assert again.take(np.array([2, 0])).object_name.tolist() == catalog.object_name[[2, 0]].tolist()


def test_texts_that_are_no_identifiers(tmp_path, monkeypatch):
    content = table()
    content["object_id"] = ["a", "b", "a"]
    with pytest.raises(LumosDataError, match="1 values repeat, the first is a"):
        read_parent(write(tmp_path / "a.csv", content))
    content["object_id"] = ["a", " ", "c"]
    with pytest.raises(LumosDataError, match="row 2 has no 'object_id'"):
        read_parent(write(tmp_path / "a.ecsv", content))
    content["object_id"] = ["a", "b", "c"]

    class Same:
        @staticmethod
        def sha256(_):
            return hashlib.new("sha256", b"")

    monkeypatch.setattr(identifiers, "hashlib", Same)
    with pytest.raises(LumosDataError, match="two texts have the same 63-bit digest"):
        read_parent(write(tmp_path / "a.ecsv", content))


def test_errors_of_shapes(tmp_path, caplog):
    content = table()
    content["half_light_radius_err"] = [0.1, -1.0, np.nan]
    content["wobble"] = [0.05, 0.06, 1e9]
    path = write(tmp_path / "a.parquet", content)
    catalog = read_parent(path, {"position_err": "wobble", "axis_ratio_err": 0.02})
    np.testing.assert_array_equal(catalog.half_light_radius_err, [0.1, np.nan, np.nan])
    np.testing.assert_array_equal(catalog.position_err, [0.05, 0.06, 1e9])
    assert (catalog.axis_ratio_err == 0.02).all()
    assert catalog.sersic_n_err is None
    assert "half_light_radius_err are negative and count as unknown" in caplog.text
    write_parent(catalog, tmp_path / "b.parquet")
    np.testing.assert_array_equal(read_parent(tmp_path / "b.parquet").position_err, [0.05, 0.06, 1e9])
    with pytest.raises(LumosDataError, match="no column 'no' for 'sersic_n_err'"):
        read_parent(path, {"sersic_n_err": "no"})


def test_bare_positions_are_point_sources_with_row_numbers(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        catalog = read_parent(write(tmp_path / "a.csv", table()[["ra", "dec"]]))
    assert catalog.object_id.tolist() == [1, 2, 3]
    for name, value in (("half_light_radius", 0), ("sersic_n", 1), ("axis_ratio", 1), ("position_angle", 0)):
        assert getattr(catalog, name).tolist() == [value] * 3
    assert np.isnan(catalog.ref_mag).all()
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert "a.csv: no column of shapes: all objects are measured as point sources" in texts[0]
    assert "a.csv: no object_id: rows are numbered from 1" in texts[1]


def test_round_objects(tmp_path, caplog):
    content = table()
    content.remove_columns(["axis_ratio", "position_angle"])
    catalog = read_parent(write(tmp_path / "a.csv", content))
    assert catalog.axis_ratio.tolist() == [1, 1, 1]
    assert catalog.position_angle.tolist() == [0, 0, 0]
    assert "no axis_ratio and position_angle: all objects are taken to be round" in caplog.text


@pytest.mark.parametrize(
    "absent", [("sersic_n",), ("half_light_radius",), ("position_angle",), ("sersic_n", "axis_ratio")]
)
def test_some_columns_of_shapes_are_not_enough(tmp_path, absent):
    content = table()
    content.remove_columns(list(absent))
    names = ", ".join(map(repr, absent))
    with pytest.raises(LumosDataError, match=f"no column {names}; columns of other names, or one number for all rows"):
        read_parent(write(tmp_path / "a.csv", content))


def test_names_are_matched_without_regard_to_case(tmp_path):
    content = table()
    content.rename_columns(["ra", "dec", "half_light_radius"], ["RA", "Dec", "HALF_LIGHT_RADIUS"])
    catalog = read_parent(write(tmp_path / "a.ecsv", content))
    np.testing.assert_array_equal(catalog.half_light_radius, content["HALF_LIGHT_RADIUS"])
    content["Ra"] = content["RA"]
    with pytest.raises(LumosDataError, match=r"column 'ra' could be 'RA' or 'Ra'; say which in measure\.cat"):
        read_parent(write(tmp_path / "a.ecsv", content))
    # The exact name wins, and so does a map.
    content["ra"] = content["RA"] + 1
    np.testing.assert_array_equal(read_parent(write(tmp_path / "a.ecsv", content)).ra, content["RA"] + 1)
    np.testing.assert_array_equal(read_parent(tmp_path / "a.ecsv", {"ra": "RA"}).ra, content["RA"])


def test_names_of_other_programs_are_suggested(tmp_path, caplog):
    content = table()
    content.rename_columns(["ra", "dec"], ["ALPHA_J2000", "DELTA_J2000"])
    with pytest.raises(
        LumosDataError,
        match=r"no column 'ra', 'dec'; perhaps .*columns=\{ra: ALPHA_J2000, dec: DELTA_J2000\}'; .*the file has",
    ):
        read_parent(write(tmp_path / "a.csv", content))
    content = table()[["object_id", "ra", "dec", "half_light_radius"]]
    content.rename_columns(["object_id", "half_light_radius"], ["NUMBER", "FLUX_RADIUS"])
    read_parent(write(tmp_path / "a.csv", content))
    assert "all objects are measured as point sources" in caplog.text
    assert "numbered from 1 (perhaps --set 'measure.catalog.columns={object_id: NUMBER}')" in caplog.text
    with pytest.raises(LumosDataError, match="no column 'R50' for 'half_light_radius'; the file has: NUMBER, ra"):
        read_parent(tmp_path / "a.csv", {"half_light_radius": "R50"})
    with pytest.raises(LumosConfigError, match="object_id must name a column"):
        read_parent(tmp_path / "a.csv", {"object_id": 3})


def test_flags_and_exposures_of_a_made_catalogue_are_kept_and_no_other_flags_are_read(tmp_path):
    content = table()
    content["flags"] = [1, 2, 3]
    path = write(tmp_path / "a.parquet", content)
    catalog = read_parent(path, made_from=["e1"])
    assert catalog.flags is None
    assert catalog.made_from == ("e1",)
    flags = np.array([0, int(CatalogFlag.EDGE), int(CatalogFlag.SATURATED)])
    made = replace(catalog, flags=flags, made_from=("e1", "e2"))
    write_parent(made, tmp_path / "b.parquet")
    again = read_parent(tmp_path / "b.parquet", made_from=["e3", "e1"])
    np.testing.assert_array_equal(again.flags, flags)
    assert again.made_from == ("e1", "e2", "e3")
    assert not list(tmp_path.glob("*.part*"))


def test_several_tables_and_arrays_per_row(tmp_path, caplog):
    first = fits.table_to_hdu(table())
    first.name = "OBJECTS"
    first.columns.add_col(fits.Column("pdf", "3D", array=np.ones((3, 3))))
    fits.HDUList([fits.PrimaryHDU(), first, fits.table_to_hdu(Table({"x": [1]}))]).writeto(tmp_path / "a.fits")
    assert len(read_parent(tmp_path / "a.fits")) == 3
    assert "holds 2 tables, the first ('OBJECTS') is read" in caplog.text
    assert "pdf" not in open_table(tmp_path / "a.fits").names
    fits.PrimaryHDU(np.ones((2, 2))).writeto(tmp_path / "b.fits")
    with pytest.raises(LumosDataError, match=r"b\.fits: holds no table"):
        read_parent(tmp_path / "b.fits")


def test_a_flipped_bit_under_a_checksum_is_told(tmp_path, caplog):
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table())]).writeto(path, checksum=True)
    read_parent(path)
    assert caplog.text == ""
    content = bytearray(path.read_bytes())
    content[-2880 + 10] ^= 1
    path.write_bytes(content)
    read_parent(path)
    assert "a.fits: Datasum verification failed" in caplog.text
    assert "was changed after it was written, or is damaged" in caplog.text


ECSV = """# %ECSV 1.0
# ---
# datatype:
# - {{name: ra, datatype: float64}}
# - {{name: dec, datatype: float64}}
# - {{name: t, datatype: float64}}
# meta: !!omap
# - __serialized_columns__:
#     t: {{__class__: {kind}, value: !astropy.table.SerializedColumn {{name: t}}}}
ra dec t
10.0 -5.0 1.0
"""


@pytest.mark.parametrize("kind", ["astropy.time.core.Time", "astropy.units.Nothing", "os.system", "[]"])
def test_serialised_classes_end_in_an_error_that_names_the_file(tmp_path, kind):
    (tmp_path / "a.ecsv").write_text(ECSV.format(kind=kind))
    with pytest.raises(LumosDataError, match=r"a\.ecsv: cannot be read as a table"):
        read_parent(tmp_path / "a.ecsv")


def test_columns_that_are_no_arrays_are_left_out(tmp_path):
    content = table()
    content["when"] = Time([50000.0, 50001.0, 50002.0], format="mjd")
    assert "when" not in read_columns(write(tmp_path / "a.ecsv", content))
    assert len(read_parent(tmp_path / "a.ecsv")) == 3


def test_missing_numbers_of_any_table_are_nan(tmp_path):
    pq.write_table(pa.table({"a": [1, None], "b": ["x", None], "c": [1.5, None]}), tmp_path / "a.parquet")
    columns = read_columns(tmp_path / "a.parquet")
    np.testing.assert_array_equal(columns["a"], [1, np.nan])
    np.testing.assert_array_equal(columns["c"], [1.5, np.nan])
    assert columns["b"].tolist() == ["x", None]


def test_every_column_has_a_rule():
    assert set(COLUMN_TEXT) == {*COLUMNS, *ERROR_COLUMNS}
