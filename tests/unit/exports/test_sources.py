"""Which runs and coadds are exported, and what is said of the others."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.coadd_tables import write_coadd
from helpers.flux_runs import exposure, write_run
from lumos.errors import LumosDataError, LumosValueError
from lumos.exports.source import open_source
from lumos.exports.wide import choose_bands, wide_batches
from lumos.files import file_sha256
from lumos.runs.folder import RunFolder, begin_folder, read_waiting


def run_of(folder, **columns):
    objects = np.arange(4)
    return write_run(folder, [exposure(name, objects, np.full(4, 100.0), 5.0, **columns) for name in ("a", "b")])


def test_bands_are_sorted_by_wavelength(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    source = open_source(tmp_path / "c.parquet")
    assert source.bands == ("g", "r", "i")
    assert choose_bands(source, ["i", "g"]) == ("i", "g")
    for wrong in (["u"], ["g", "g"], []):
        with pytest.raises(LumosValueError, match=r"bands: got .*each once, of g, r, i"):
            choose_bands(source, wrong)


@pytest.mark.parametrize("batches", [1, 4, 17])
def test_wide_rows_do_not_depend_on_how_the_file_is_cut(tmp_path, batches):
    write_coadd(tmp_path / "c.parquet", n=6, batches=batches)
    source = open_source(tmp_path / "c.parquet")
    parts = list(wide_batches(source, ("g", "r", "i"), ("flux",)))
    table = pq.read_table(tmp_path / "c.parquet").to_pylist()
    known = {(row["object_id"], row["band"]): row["flux"] for row in table}
    found = np.concatenate([part.numbers("flux") for part in parts])
    objects = np.concatenate([part.identity("object_id").to_numpy() for part in parts])
    assert objects.tolist() == sorted({row["object_id"] for row in table})
    for line, number in zip(found, objects, strict=True):
        expected = [known.get((number, band), np.nan) for band in ("g", "r", "i")]
        np.testing.assert_allclose(line, expected)


def test_rows_that_do_not_follow_each_other(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    order = np.argsort(table["band"].to_numpy(zero_copy_only=False), kind="stable")
    pq.write_table(table.take(pa.array(order)), tmp_path / "d.parquet")
    source = open_source(tmp_path / "d.parquet")
    with pytest.raises(LumosDataError, match=r"rows of object 100 do not follow each other"):
        list(wide_batches(source, ("g",), ("flux",)))


def test_two_rows_of_one_object_and_band(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    pq.write_table(pa.concat_tables([table.slice(0, 1), table]), tmp_path / "d.parquet")
    with pytest.raises(LumosDataError, match=r"object 100 has two rows in band 'g'"):
        list(wide_batches(open_source(tmp_path / "d.parquet"), ("g",), ("flux",)))


def test_what_is_neither_run_nor_coadd(tmp_path):
    with pytest.raises(LumosDataError, match="no such run or coadd"):
        open_source(tmp_path / "none")
    with pytest.raises(LumosDataError, match="not a run of `lumos measure`"):
        open_source(tmp_path)
    (tmp_path / "a.parquet").write_text("nothing")
    with pytest.raises(LumosDataError, match="neither a run nor a coadd, or damaged"):
        open_source(tmp_path / "a.parquet")
    run = run_of(tmp_path / "run")
    with pytest.raises(LumosDataError, match=r"no column 'n_exposures', this is no coadd"):
        open_source(run / "shards/a.parquet")


def test_failed_exposures(tmp_path):
    run = run_of(tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["exposures"]["b"] = {"status": "failed", "file": "b.fits", "reason": "no WCS"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LumosDataError, match=r"1 exposures failed \(b\); finish it .*--finished"):
        open_source(run)
    assert open_source(run, finished=True).n_rows == 4


def test_interrupted_run(tmp_path):
    run = run_of(tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"waiting": ["c", "d", "e", "f"]}))
    with pytest.raises(LumosDataError, match=r"4 exposures not measured yet \(c, d, e, ...\)"):
        open_source(run)
    assert open_source(run, finished=True).n_rows == 8
    (run / "manifest.json").write_text(json.dumps(manifest | {"waiting": 3}))
    with pytest.raises(LumosDataError, match="'waiting' is 3"):
        open_source(run)


def test_what_a_run_waits_for(tmp_path):
    paths = {name: tmp_path / f"{name}.fits" for name in ("a", "b")}
    failure = {"status": "failed", "file": "a.fits", "reason": "why"}
    with begin_folder(tmp_path / "run", "measure", {}) as folder:
        folder.begin(set(), paths, {})
        assert read_waiting(tmp_path / "run") == ["a", "b"]
        folder.enter("a", failure)
        assert read_waiting(tmp_path / "run") == ["b"]
    # Interrupted; then continued with the failed one alone, and brought to its end.
    again = RunFolder(tmp_path / "run")
    again.begin(set(), {"a": paths["a"]}, {})
    assert read_waiting(tmp_path / "run") == ["a"]
    again.enter("a", failure)
    assert read_waiting(tmp_path / "run") == []
    again.close()
    assert "waiting" not in json.loads((tmp_path / "run/manifest.json").read_text())


def test_mixed_units(tmp_path):
    objects, flux = np.arange(4), np.full(4, 100.0)
    parts = [
        exposure("a", objects, flux, 5.0),
        exposure("b", objects, flux, 5.0, zeropoint=np.nan),
    ]
    with pytest.raises(LumosDataError, match=r"1 of 2 exposures have no zero point \(as b\)"):
        open_source(write_run(tmp_path / "run", parts))
    bare = write_run(tmp_path / "bare", [exposure("a", objects, flux, 5.0, zeropoint=np.nan)])
    assert open_source(bare).flux_unit == "image unit"


def test_pdfs_that_are_cut(tmp_path):
    run = run_of(tmp_path / "run")
    for path in (run / "shards").iterdir():
        table = pq.read_table(path)
        facts = json.dumps({"model": {"name": "m", "cut_from": 22.5}}).encode()
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"lumos.provenance": facts}), path)
    manifest = json.loads((run / "manifest.json").read_text())
    for name, entry in manifest["exposures"].items():
        entry["sha256"] = file_sha256(run / f"shards/{name}.parquet")
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LumosDataError, match=r"cut at flux 0 from magnitude 22.5 on"):
        open_source(run).pdf_columns()
