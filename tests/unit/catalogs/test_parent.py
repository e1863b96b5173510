"""Parent catalogues: every format, the column map, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from lumos.catalogs.parent import COLUMNS, read_parent, write_parent
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError

VALUES = {
    "object_id": np.array([7, 3, 11]),
    "ra": np.array([10.0, 10.1, 10.2]),
    "dec": np.array([-5.0, -5.1, -5.2]),
    "half_light_radius": np.array([0.5, 1.0, 2.0]),
    "sersic_n": np.array([1.0, 4.0, 0.5]),
    "axis_ratio": np.array([1.0, 0.25, 0.5]),
    "position_angle": np.array([0.0, 45.0, 170.0]),
    "ref_mag": np.array([20.0, 21.0, np.nan]),
}


def write(path, values):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(values), path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(pa.table(values), path)
    else:
        Table(values).write(path, format="fits" if path.suffix == ".fits" else "ascii.ecsv")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits", ".ecsv"])
def test_every_format_gives_the_same_catalogue(tmp_path, suffix):
    catalog = read_parent(write(tmp_path / f"parent{suffix}", VALUES))
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(catalog, name), VALUES[name])
        assert getattr(catalog, name).dtype.isnative


def test_written_catalogue_reads_back(tmp_path):
    catalog = read_parent(write(tmp_path / "a.csv", VALUES))
    write_parent(catalog, tmp_path / "b.parquet")
    again = read_parent(tmp_path / "b.parquet")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(catalog, name))


def test_column_map_renames_and_fills_constants(tmp_path):
    values = {("NUMBER" if name == "object_id" else name): column for name, column in VALUES.items()}
    del values["sersic_n"]
    catalog = read_parent(write(tmp_path / "a.csv", values), {"object_id": "NUMBER", "sersic_n": 2.5})
    np.testing.assert_array_equal(catalog.object_id, VALUES["object_id"])
    np.testing.assert_array_equal(catalog.sersic_n, 2.5)


def test_circularised_radius_becomes_the_major_axis(tmp_path):
    catalog = read_parent(write(tmp_path / "a.csv", VALUES), radius="circularised")
    np.testing.assert_allclose(catalog.half_light_radius, [0.5, 2.0, 2.0 * 2**0.5])


def test_missing_magnitude_is_nan_and_bad_shapes_are_told(tmp_path):
    values = {name: column.copy() for name, column in VALUES.items() if name != "ref_mag"}
    values["half_light_radius"] = np.array([0.5, -0.1, np.nan])
    catalog = read_parent(write(tmp_path / "a.csv", values))
    assert np.isnan(catalog.ref_mag).all()
    assert catalog.shape_ok.tolist() == [True, False, False]


def test_magnitudes_that_mean_unknown_are_nan(tmp_path, caplog):
    values = {name: column.copy() for name, column in VALUES.items()} | {"ref_mag": np.array([21.5, -99.0, 99.0])}
    np.testing.assert_array_equal(read_parent(write(tmp_path / "a.csv", values)).ref_mag, [21.5, np.nan, np.nan])
    assert "ref_mag of 2 objects, the first -99, counts as unknown, allowed: above 0 and below 40" in caplog.text


@pytest.mark.parametrize(
    ("column", "value"), [("sersic_n", 0.29), ("sersic_n", 6.3), ("axis_ratio", 0.04), ("axis_ratio", 1.01)]
)
def test_shapes_out_of_range_are_told(tmp_path, column, value):
    values = {name: array.copy() for name, array in VALUES.items()}
    values[column][1] = value
    assert read_parent(write(tmp_path / "a.csv", values)).shape_ok.tolist() == [True, False, True]


def test_a_position_without_a_number_warns_and_stays(tmp_path, caplog):
    values = {name: array.copy() for name, array in VALUES.items()}
    values["ra"][0] = np.nan
    assert len(read_parent(write(tmp_path / "a.parquet", values))) == 3
    assert "1 objects without a finite position" in caplog.text


def test_missing_file(tmp_path):
    with pytest.raises(LumosDataError, match=r"none\.csv: no such"):
        read_parent(tmp_path / "none.csv")


def test_duplicate_identifiers(tmp_path):
    values = VALUES | {"object_id": np.array([7, 3, 7])}
    with pytest.raises(LumosDataError, match=r"a\.csv.*repeat, the first is 7"):
        read_parent(write(tmp_path / "a.csv", values))


def test_identifiers_that_are_no_integers(tmp_path):
    values = VALUES | {"object_id": np.array([7.0, 3.5, 8.0])}
    with pytest.raises(LumosDataError, match="float64, allowed: integers"):
        read_parent(write(tmp_path / "a.csv", values))


def test_missing_column_names_those_that_exist(tmp_path):
    values = {name: column for name, column in VALUES.items() if name != "axis_ratio"}
    with pytest.raises(LumosDataError, match=r"no column 'axis_ratio'.*sersic_n"):
        read_parent(write(tmp_path / "a.csv", values))


def test_text_column(tmp_path):
    with pytest.raises(LumosDataError, match="allowed: numbers"):
        read_parent(write(tmp_path / "a.csv", VALUES | {"ra": np.array(["a", "b", "c"])}))


def test_empty_catalogue(tmp_path):
    with pytest.raises(LumosDataError, match="no rows"):
        read_parent(write(tmp_path / "a.parquet", {name: column[:0] for name, column in VALUES.items()}))


@pytest.mark.parametrize(("name", "content"), [("a.parquet", b"PAR1 no"), ("a.fits", b"SIMPLE"), ("a.ecsv", b"\x00")])
def test_damaged_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LumosDataError, match=rf"{name}.*(cannot be read|damaged)"):
        read_parent(tmp_path / name)


def test_unknown_format_and_column_map(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"")
    with pytest.raises(LumosDataError, match=r"unknown table format '\.xyz'"):
        read_parent(tmp_path / "a.xyz")
    with pytest.raises(LumosConfigError, match="unknown column 'radius'"):
        read_parent(write(tmp_path / "a.csv", VALUES), {"radius": "r"})
    with pytest.raises(LumosConfigError, match="must name a column"):
        read_parent(tmp_path / "a.csv", {"object_id": 1.0})
    with pytest.raises(LumosValueError, match="allowed: 'major' or 'circularised'"):
        read_parent(tmp_path / "a.csv", radius="minor")
