"""Writing whole or not at all, flags in any kind of column, and which exposures are meant."""

import os
import stat

import astropy.table
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError, one_line
from lumos.files import list_changes, read_json, whole_file, write_atomic, write_json
from lumos.flags import Flag, has_flag
from lumos.runs.locks import lock_file, lock_folder, locked
from lumos.surveys import find_exposures, load_survey


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "before")

    def fail():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_replaced_and_never_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    for name in ("a.json", "a.json.part"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "a.json").is_symlink()
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_umask_is_respected(tmp_path, umask):
    before = os.umask(umask)
    try:
        # safetensors makes files that only their owner can read.
        with whole_file(tmp_path / "a.safetensors") as temporary:
            save_file({"a": torch.zeros(2)}, temporary)
        write_atomic(tmp_path / "b", "")
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_locks(tmp_path):
    with lock_folder(tmp_path / "a"), lock_file(tmp_path / "a.parquet"), lock_file(tmp_path / "b.parquet"):
        for lock in (lambda: lock_folder(tmp_path / "a"), lambda: lock_file(tmp_path / "a.parquet")):
            with pytest.raises(LumosError, match=rf"process {os.getpid()} on .*wait for its end"), lock():
                pass
    # A folder that was made for nothing is gone; one that was there is not.
    assert list(tmp_path.iterdir()) == []
    with lock_folder(tmp_path):
        (tmp_path / "mine").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lumos-lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), lock_folder(tmp_path):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_function_holds_the_lock_of_its_output(tmp_path):
    @locked(lock_file)
    def nested(name, out):
        """Call itself."""
        return nested(name, out=out)

    with pytest.raises(LumosError, match="a: another lumos command writes here"):
        nested("x", tmp_path / "a")
    assert nested.__doc__ == "Call itself."
    assert list(tmp_path.iterdir()) == []


def test_unfinished_files_of_others_are_kept(tmp_path):
    with lock_file(tmp_path / "a"), whole_file(tmp_path / "a") as first:
        with lock_file(tmp_path / "b"):
            assert first.exists()
        first.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000, ""])
def test_damaged_json(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(LumosDataError, match=r"a\.json: (missing or damaged|holds list)"):
        read_json(tmp_path / "a.json")


def test_changes_are_listed_by_key():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": None, "gone": True}
    after = {"a": {"b": 2, "c": [1, 2]}, "d": "x" * 100, "new": 0}
    expected = ["a.b: 1 -> 2", f"d: null -> {'x' * 77}...", "new: nothing -> 0", "gone: true -> nothing"]
    assert list_changes(before, after) == expected
    assert list_changes(before, before) == []


def test_errors_in_one_line():
    assert one_line(ValueError("a\n b")) == "ValueError: a b"
    assert one_line(LumosValueError("a", 1, "2")) == "a: got 1, allowed: 2"


@pytest.mark.parametrize("kind", [np.asarray, pa.chunked_array, pa.array, astropy.table.Column, list])
def test_flags_of_any_column(kind):
    values = np.array([0, 4, 8, 12, 8388608], dtype=np.int32)
    column = kind([values]) if kind is pa.chunked_array else kind(values)
    np.testing.assert_array_equal(has_flag(column, Flag.MASKED), [False, True, False, True, False])
    np.testing.assert_array_equal(has_flag(column, Flag.MASKED | Flag.CATALOG_EXPOSURE), [0, 1, 0, 1, 1])


def test_exposures_of_folders_patterns_and_lists(tmp_path, caplog):
    caplog.set_level("INFO")
    decam = load_survey("decam")
    names = [f"c4d_{night}_{kind}_r_v1.fits.fz" for night in (1, 2) for kind in ("ooi", "ood", "oow")]
    for name in (*names, "notes.txt", ".hidden.fits", "b.FIT", "list.txt"):
        (tmp_path / name).touch()
    images = [tmp_path / name for name in names if "ooi" in name]
    assert find_exposures([tmp_path], decam) == [tmp_path / "b.FIT", *images]
    assert "4 masks, weights and other companions" in caplog.text
    assert find_exposures([str(tmp_path / "*_1_*.fz")], decam) == images[:1]
    assert find_exposures(sorted(tmp_path.glob("*.fz")), decam) == images
    # A mask alone is what is asked for.
    assert find_exposures([tmp_path / names[1]], decam) == [tmp_path / names[1]]
    lines = ["# the second night", "", f"  {tmp_path}/c4d_2*", str(images[1]), str(tmp_path / "missing.fits")]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert find_exposures([f"@{tmp_path}/list.txt"], decam) == [images[1], tmp_path / "missing.fits"]
    (tmp_path / "[odd].fits").touch()
    assert find_exposures([tmp_path / "[odd].fits"], decam) == [tmp_path / "[odd].fits"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for argument, message in {
        str(empty): "empty: no FITS file in this folder",
        f"{tmp_path}/x*": r"x\*: no file matches",
    }.items():
        with pytest.raises(LumosDataError, match=message):
            find_exposures([argument], decam)
    (tmp_path / "list.txt").write_text("@list.txt")
    with pytest.raises(LumosDataError, match="no list in a list"):
        find_exposures([f"@{tmp_path}/list.txt"], decam)
    with pytest.raises(LumosConfigError, match="none: cannot be read"):
        find_exposures(["@none"], decam)
