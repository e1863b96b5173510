"""What machines do to a run: full and read-only disks, folders that vanish, inputs that are no files."""

import os
import resource
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from helpers.measured_runs import catalog_at, run, write_exposure
from helpers.shell import run_lumos
from lumos.errors import LumosDataError, LumosError
from lumos.files import write_atomic
from lumos.photometry import run as module
from lumos.photometry.settings import MeasureSettings
from lumos.runs.locks import lock_folder
from lumos.runs.look import check_run
from lumos.runs.shards import read_shards

OBJECTS = catalog_at([100, 50], [100, 50])
MANY = catalog_at(*np.random.default_rng(2).uniform(40, 160, (2, 400)))
FAST = MeasureSettings(estimators=("aperture",), noise={"correlation": "none"}, scene="off")


@contextmanager
def disk(path, options):
    """Mount a disk in memory."""
    path.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.decode()}")
    try:
        yield path
    finally:
        subprocess.run([umount, "-l", path], check=True)


def left(folder):
    """Return what is unfinished in a folder."""
    return [path.name for path in folder.rglob(".lumos-*")]


def test_a_full_disk_is_the_failure_of_an_exposure_and_the_next_command_goes_on(tmp_path, rng):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    whole = run(tmp_path, paths, MANY, settings=FAST, out="whole")
    with disk(tmp_path / "disk", "size=48k") as full:
        assert sum(path.stat().st_size for path in (tmp_path / "whole/shards").iterdir()) > 48 * 1024
        report = run(tmp_path, paths, MANY, settings=FAST, out="disk/run")
        assert report.failed
        for path, reason in report.failed.items():
            assert reason.startswith(f"{path}: ")
            assert "No space left on device" in reason
            assert "\n" not in reason
        assert not left(full)
        assert all("failed: " in text for text in check_run(full / "run").values())
        subprocess.run([shutil.which("mount"), "-o", "remount,size=8m", full], check=True)
        again = run(tmp_path, paths, MANY, settings=FAST, out="disk/run")
        assert (again.failed, again.n_rows) == ({}, whole.n_rows)
        for path in (tmp_path / "whole/shards").iterdir():
            assert path.read_bytes() == (full / "run/shards" / path.name).read_bytes()


def test_a_disk_without_room_for_a_manifest(tmp_path, rng, monkeypatch, capsys):
    path = write_exposure(tmp_path / "a.fits", rng)
    run(tmp_path, [path], OBJECTS, settings=FAST, out="whole")
    with disk(tmp_path / "disk", "size=16k") as full:
        (full / "ballast").write_bytes(bytes(12 * 1024))
        words = ["measure", path, "--catalog", tmp_path / "parent.parquet", "--out", full / "run"]
        assert run_lumos(monkeypatch, *words, "--estimators", "aperture", "--quiet") == 1
        error = capsys.readouterr().err.strip()
        assert error.startswith("lumos: error: ")
        assert "No space left on device" in error
        assert "\n" not in error
        assert not left(full)
        assert not [one for one in (full / "run").rglob("*.json") if not one.read_text()]
        (full / "ballast").unlink()
        subprocess.run([shutil.which("mount"), "-o", "remount,size=8m", full], check=True)
        assert run_lumos(monkeypatch, *words, "--estimators", "aperture", "--quiet") == 0
        assert read_shards(full / "run").num_rows == 2


def test_files_beyond_a_limit_are_not_left_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError, match="File too large"):
            write_atomic(tmp_path / "a.txt", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_is_said_in_one_line(tmp_path, rng, monkeypatch, capsys):
    path = write_exposure(tmp_path / "a.fits", rng)
    run(tmp_path, [path], OBJECTS, settings=FAST, out="whole")
    words = ["measure", path, "--catalog", tmp_path / "parent.parquet", "--estimators", "aperture", "--quiet"]
    with disk(tmp_path / "disk", "size=1m") as folder:
        assert run_lumos(monkeypatch, *words, "--out", folder / "run") == 0
        subprocess.run([shutil.which("mount"), "-o", "remount,ro", folder], check=True)
        for out in ("run", "new"):
            capsys.readouterr()
            assert run_lumos(monkeypatch, *words, "--out", folder / out) == 1
            error = capsys.readouterr().err.strip()
            assert error.startswith("lumos: error: ")
            assert "Read-only file system" in error
            assert "\n" not in error
        # What was finished there is still read and verified.
        assert check_run(folder / "run") == {}


def test_a_file_in_the_place_of_a_folder(tmp_path, rng, monkeypatch, capsys):
    path = write_exposure(tmp_path / "a.fits", rng)
    run(tmp_path, [path], OBJECTS, settings=FAST, out="whole")
    words = ["measure", path, "--catalog", tmp_path / "parent.parquet", "--estimators", "aperture", "--quiet"]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "shards").write_text("mine")
    for out in ("file", "file/run", "run"):
        assert run_lumos(monkeypatch, *words, "--out", tmp_path / out) == 1
        error = capsys.readouterr().err.strip()
        assert error.startswith("lumos: error: ")
        assert str(tmp_path / out.partition("/")[0]) in error
        assert "\n" not in error
    assert (tmp_path / "file").read_text() == (tmp_path / "run" / "shards").read_text() == "mine"
    assert not left(tmp_path)


def test_a_folder_that_is_deleted_meanwhile_ends_the_run(tmp_path, rng, monkeypatch):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    measure = module.measure_exposure

    def delete(*arguments):
        shutil.rmtree(tmp_path / "run")
        return measure(*arguments)

    monkeypatch.setattr(module, "measure_exposure", delete)
    with pytest.raises(OSError, match="No such file or directory"):
        run(tmp_path, paths, OBJECTS, settings=FAST)
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    assert run(tmp_path, paths, OBJECTS, settings=FAST).done == ("a", "b")


def test_inputs_that_vanish_or_are_no_files(tmp_path, rng, monkeypatch):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abc"]
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "device.fits").symlink_to("/dev/zero")
    (tmp_path / "loop.fits").symlink_to(tmp_path / "loop.fits")
    (tmp_path / "folder.fits").mkdir()
    odd = [tmp_path / f"{name}.fits" for name in ("pipe", "device", "loop", "folder")]
    identify = module.read_exposure_id

    def vanish(path, survey):
        name = identify(path, survey)
        if path.name == "b.fits":
            path.unlink()
        return name

    monkeypatch.setattr(module, "read_exposure_id", vanish)
    report = run(tmp_path, [*paths, *odd], OBJECTS, settings=FAST)
    assert report.done == ("a", "c")
    assert set(report.failed) == {str(path) for path in (paths[1], *odd)}
    for path, reason in report.failed.items():
        assert reason.startswith(path)
        assert "such file" in reason or "no regular file" in reason
    monkeypatch.undo()
    write_exposure(paths[1], rng)
    assert run(tmp_path, paths, OBJECTS, settings=FAST).done == ("b",)


def test_an_input_that_may_not_be_read(tmp_path, rng, monkeypatch):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    # Root may read everything: what open() says to others is said here.
    opened = Path.open

    def refuse(self, *arguments, **options):
        if self.name == "b.fits":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    report = run(tmp_path, paths, OBJECTS, settings=FAST)
    assert report.done == ("a",)
    assert "Permission denied" in report.failed[str(paths[1])]
    monkeypatch.undo()
    assert run(tmp_path, paths, OBJECTS, settings=FAST).done == ("b",)


@pytest.mark.parametrize("name", ["parent.parquet", "parent.csv", "parent.fits", "parent.ecsv", "parent.xml"])
def test_catalogues_that_are_pipes_are_not_waited_for(tmp_path, rng, name):
    path = write_exposure(tmp_path / "a.fits", rng)
    os.mkfifo(tmp_path / name)
    with pytest.raises(LumosDataError, match=rf"{name}: no such parent catalogue"):
        run(tmp_path, [path], tmp_path / name, settings=FAST)
    assert not (tmp_path / "run").exists()


def test_what_a_killed_worker_was_writing_is_removed_when_the_others_are_done(tmp_path):
    with lock_folder(tmp_path / "run", "shards"):
        (tmp_path / "run" / "shards").mkdir()
        (tmp_path / "run" / "shards" / ".lumos-00000000-1.part").touch()
    assert not left(tmp_path)


def test_an_exposure_that_hangs_is_given_up_and_measured_by_the_next_command(tmp_path, rng, monkeypatch, capsys):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    run(tmp_path, paths[:1], OBJECTS, settings=FAST, out="whole")
    words = ["measure", *paths, "--catalog", tmp_path / "parent.parquet", "--estimators", "aperture", "--quiet"]
    words += ["--out", tmp_path / "run", "--workers", "2"]
    # No process gets as far as an exposure in so short a time.
    assert run_lumos(monkeypatch, *words, "--timeout", "0.2") == 1
    error = capsys.readouterr().err
    assert "b.fits: not done after 0.2 s, twice" in error
    assert run_lumos(monkeypatch, *words, "--timeout", "300") == 0
    assert read_shards(tmp_path / "run").num_rows == 4
    assert run_lumos(monkeypatch, *words, "--timeout", "5", "--driver", "dask") == 1
    assert "--timeout 5: allowed with --driver local" in capsys.readouterr().err


def test_a_second_run_is_refused_while_the_first_is_stopped(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    with (
        lock_folder(tmp_path / "run"),
        pytest.raises(LumosError, match=r"run: another lumos command writes here \(process \d+ on "),
    ):
        run(tmp_path, [path], OBJECTS, settings=FAST)
    assert run(tmp_path, [path], OBJECTS, settings=FAST).done == ("a",)
