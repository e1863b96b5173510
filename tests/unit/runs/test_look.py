"""Runs seen from outside: their journal, how far they are, and what is damaged in them."""

import json

import pyarrow.parquet as pq
import pytest

from helpers.measured_runs import catalog_at, run, write_exposure
from helpers.shell import run_lumos
from lumos.catalogs.tables import write_table
from lumos.errors import LumosDataError
from lumos.photometry import run as module
from lumos.photometry.settings import MeasureSettings
from lumos.runs.folder import RunFolder, begin_folder, read_manifest
from lumos.runs.look import check_run, look_at_run

OBJECTS = catalog_at([100, 50], [100, 50])
FAST = MeasureSettings(estimators=("aperture",), noise={"correlation": "none"})


def done(name):
    return {"status": "done", "file": f"/{name}.fits", "inputs": {}, "shard": f"shards/{name}.parquet", "sha256": "0"}


def killed(out, names, entered):
    """Leave a folder as a killed command does: its journal is not in the manifest."""
    folder = RunFolder(out)
    folder.begin(set(), {name: out / f"{name}.fits" for name in names}, {})
    for name in entered:
        folder.enter(name, done(name))
    return folder


def test_what_a_killed_command_entered_counts(tmp_path):
    killed(tmp_path, "abc", "ab")
    assert json.loads((tmp_path / "manifest.json").read_text())["exposures"] == {}
    assert read_manifest(tmp_path) == {"a": done("a"), "b": done("b")}
    # The next command writes it into the manifest.
    with begin_folder(tmp_path, "measure", {}) as folder:
        folder.begin({"a", "b"}, {"c": tmp_path / "c.fits"}, {})
        assert not (tmp_path / "manifest.jsonl").exists()
        folder.enter("c", done("c"))
    assert not (tmp_path / "manifest.jsonl").exists()
    assert set(json.loads((tmp_path / "manifest.json").read_text())["exposures"]) == set("abc")


def test_lines_that_were_cut_off_or_belong_to_an_older_manifest_do_not_count(tmp_path):
    killed(tmp_path, "abc", "ab")
    journal = tmp_path / "manifest.jsonl"
    text = journal.read_text()
    for cut in range(len(text)):
        journal.write_text(text[:cut])
        assert list(read_manifest(tmp_path)) == list("ab")[: text[:cut].count("\n")]
    # A kill between the writing of the manifest and the removal of the journal.
    folder = RunFolder(tmp_path)
    folder.begin(set(), {"a": tmp_path / "a.fits"}, {})
    before = read_manifest(tmp_path)
    journal.write_text(text)
    assert read_manifest(tmp_path) == before
    journal.write_text(text + "{no json\n" + text)
    with pytest.raises(LumosDataError, match=r"manifest.jsonl: damaged, line 3"):
        read_manifest(tmp_path)


def test_a_run_tells_how_far_it_is(tmp_path, rng, monkeypatch, capsys):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abc"]
    paths[1].write_bytes(b"nothing")
    measure, seen = module.measure_exposure, []

    def looks(*arguments):
        seen.append(look_at_run(tmp_path / "run"))
        return measure(*arguments)

    monkeypatch.setattr(module, "measure_exposure", looks)
    run(tmp_path, paths, OBJECTS, settings=FAST)
    first, second = seen
    assert (first.asked, first.done, list(first.failed), first.ended) == (3, 0, ["b.fits"], 0)
    assert first.holder.startswith("process ")
    assert first.seconds_left != first.seconds_left
    assert (second.done, second.n_rows, second.ended) == (1, 2, 1)
    assert second.seconds_left == pytest.approx(second.seconds)
    after = look_at_run(tmp_path / "run")
    assert (after.done, after.holder, after.seconds_left) == (2, None, 0.0)
    assert run_lumos(monkeypatch, "status", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert "2 of 3 exposures done, 4 rows; 1 failed" in out
    assert "b.fits: " in out


def test_a_run_is_verified_and_mended(tmp_path, rng, monkeypatch, capsys):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abcde"]
    run(tmp_path, paths, OBJECTS, settings=FAST)
    assert check_run(tmp_path / "run") == {}
    shards = tmp_path / "run" / "shards"
    whole = {path.name: path.read_bytes() for path in shards.iterdir()}
    content = bytearray((shards / "a.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (shards / "a.parquet").write_bytes(content)
    (shards / "b.parquet").unlink()
    write_table([pq.read_table(shards / "c.parquet").slice(0, 1)], shards / "c.parquet")
    (shards / "strange.parquet").write_bytes(content)
    paths[4].touch()
    wrong = check_run(tmp_path / "run")
    assert {name.rpartition("/")[2]: reason.partition(" ")[0] for name, reason in wrong.items()} == {
        "a.parquet": "sha256",
        "b.parquet": f"{shards}/b.parquet:",
        "c.parquet": "sha256",
        "e.fits": "changed",
        "strange.parquet": "not",
    }
    assert run_lumos(monkeypatch, "check", tmp_path / "run") == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 5
    assert "5 faults" in told.err
    (shards / "strange.parquet").unlink()
    report = run(tmp_path, paths, OBJECTS, settings=FAST)
    assert report.done == ("a", "b", "c", "e")
    assert check_run(tmp_path / "run") == {}
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == whole


@pytest.mark.parametrize("command", ["status", "check"])
def test_another_folder_is_refused(tmp_path, monkeypatch, capsys, command):
    assert run_lumos(monkeypatch, command, tmp_path) == 1
    assert "manifest.json" in capsys.readouterr().err
