"""Shards on disk: whole or not at all, verified when read."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumos.catalogs.schema import measure_schema
from lumos.catalogs.tables import write_table
from lumos.errors import LumosDataError
from lumos.files import file_sha256, read_json, write_json
from lumos.flags import FLAG_TEXT, MASK_TEXT, Flag, MaskPlane, flag_names
from lumos.runs.shards import read_shard, read_shards

SCHEMA = measure_schema(["aperture", "optimal"], "nJy", 2, {"run": 1})


def table(n=3):
    columns = []
    for field in SCHEMA:
        if pa.types.is_fixed_size_list(field.type):
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * n, "f4")), 2))
        elif pa.types.is_string(field.type):
            columns.append(pa.array(["a"] * n))
        else:
            columns.append(pa.array(np.arange(n), type=field.type, safe=False))
    return pa.table(columns, schema=SCHEMA)


def test_schema_has_units_meanings_and_the_flag_registry():
    names = SCHEMA.names
    assert names[:5] == ["object_id", "exposure_id", "detector", "band", "state"]
    assert {"aperture_flux", "aperture_flux_err", "optimal_flux", "optimal_flux_err"} <= set(names)
    assert SCHEMA.field("flux").metadata[b"unit"] == b"nJy"
    assert SCHEMA.field("background").metadata[b"unit"] == b"nJy/pix"
    assert SCHEMA.field("optimal_flux").metadata[b"text"] == b"flux by optimal"
    assert SCHEMA.field("pdf_means").type == pa.list_(pa.float32(), 2)
    assert all({b"unit", b"ucd", b"text"} <= set(field.metadata) for field in SCHEMA)
    registry = json.loads(SCHEMA.metadata[b"lumos.flags"])
    assert registry["TOO_MASKED"] == {"bit": 16, "text": FLAG_TEXT[Flag.TOO_MASKED]}


def test_every_bit_has_one_meaning():
    assert set(FLAG_TEXT) == set(Flag)
    assert set(MASK_TEXT) == set(MaskPlane)
    assert all(int(flag).bit_count() == 1 and flag < 2**31 for flag in Flag)
    assert flag_names(Flag.EDGE | Flag.NO_PSF) == ["EDGE", "NO_PSF"]


def test_shard_reads_back(tmp_path):
    assert write_table([table(3), table(2)], tmp_path / "a.parquet") == 5
    back = read_shard(tmp_path / "a.parquet")
    assert back.schema.metadata == SCHEMA.metadata
    assert back.schema.field("flux").metadata[b"unit"] == b"nJy"
    assert back.equals(pa.concat_tables([table(3), table(2)]))
    assert read_shard(tmp_path / "a.parquet", ["flags"]).num_columns == 1


def test_measured_numbers_take_few_bytes_and_come_back_as_they_are(tmp_path, rng):
    n = 4000
    values = rng.lognormal(7, 1, (n, 5)).astype("f4")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 5)
    one = pa.table({"flux": values[:, 0], "ra": 150 + rng.random(n), "band": ["g"] * n, "pdf_means": lists})
    write_table([one], tmp_path / "ours.parquet")
    pq.write_table(one, tmp_path / "plain.parquet", compression="zstd")
    assert pq.read_table(tmp_path / "ours.parquet").equals(one)
    sizes = [(tmp_path / f"{name}.parquet").stat().st_size for name in ("ours", "plain")]
    assert sizes[0] < 0.8 * sizes[1]
    # Six numbers of 4 bytes and one of 8, of which the last bytes are noise.
    assert sizes[0] / n < 28


def test_failing_writer_leaves_no_file(tmp_path):
    def tables():
        yield table()
        raise LumosDataError("broken exposure")

    with pytest.raises(LumosDataError, match="broken exposure"):
        write_table(tables(), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LumosDataError, match="nothing to write"):
        write_table([], tmp_path / "a.parquet")


def test_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.parquet"
    write_table([table(5000)], path)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(LumosDataError, match=r"a\.parquet: damaged"):
        read_shard(path)


def test_truncated_missing_and_foreign_files(tmp_path):
    path = tmp_path / "a.parquet"
    write_table([table()], path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LumosDataError, match="damaged or missing"):
        read_shard(path)
    with pytest.raises(LumosDataError, match="damaged or missing"):
        read_shard(tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(LumosDataError, match="schema version none"):
        read_shard(path)


def test_run_is_read_through_its_manifest(tmp_path):
    (tmp_path / "shards").mkdir()
    shard = tmp_path / "shards" / "a.parquet"
    write_table([table(4)], shard)
    entry = {"status": "done", "shard": "shards/a.parquet", "sha256": file_sha256(shard)}
    write_json(tmp_path / "manifest.json", {"exposures": {"a": entry, "b": {"status": "failed"}}})
    assert read_shards(tmp_path, ["flags", "x"]).num_rows == 4
    write_json(tmp_path / "manifest.json", {"exposures": {"a": entry | {"sha256": "0"}}})
    with pytest.raises(LumosDataError, match="sha256 differs"):
        read_shards(tmp_path)
    write_json(tmp_path / "manifest.json", {"exposures": {}})
    with pytest.raises(LumosDataError, match="no finished exposure"):
        read_shards(tmp_path)


def test_json_that_is_no_mapping(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(LumosDataError, match="holds list"):
        read_json(tmp_path / "a.json")
    with pytest.raises(LumosDataError, match="missing or damaged"):
        read_json(tmp_path / "b.json")
    with pytest.raises(LumosDataError, match="cannot be read"):
        file_sha256(tmp_path / "b.json")
