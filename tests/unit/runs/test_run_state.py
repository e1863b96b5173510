"""What a run keeps of an earlier start: settings, manifest, fingerprints of its files, locks."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from helpers.measured_runs import SHAPE, catalog_at, run, write_exposure
from lumos.catalogs.parent import write_parent
from lumos.errors import LumosConfigError, LumosDataError, LumosError
from lumos.photometry import run as module
from lumos.photometry.measured import open_run
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.surveys import Survey, load_survey

OBJECTS = catalog_at([100, 50], [100, 50])
FAST = MeasureSettings(estimators=("aperture",), noise={"correlation": "none"})


def entries(folder):
    return json.loads((folder / "manifest.json").read_text())["exposures"]


def test_an_unforeseen_error_is_the_failure_of_one_exposure(tmp_path, rng, monkeypatch):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abc"]
    read, identify = module.read_exposure, module.read_exposure_id

    def fails(path, *arguments, **options):
        if path.name == "b.fits":
            raise AttributeError("'_ValidHDU' object\nhas no attribute 'shape'")
        return read(path, *arguments, **options)

    def fails_earlier(path, survey):
        if path.name == "c.fits":
            raise OverflowError("too large")
        return identify(path, survey)

    monkeypatch.setattr(module, "read_exposure", fails)
    monkeypatch.setattr(module, "read_exposure_id", fails_earlier)
    report = run(tmp_path, paths, OBJECTS, settings=FAST)
    assert report.done == ("a",)
    assert report.failed == {
        str(paths[1]): f"{paths[1]}: AttributeError: '_ValidHDU' object has no attribute 'shape'",
        str(paths[2]): f"{paths[2]}: OverflowError: too large",
    }
    assert {name: entry["status"] for name, entry in entries(tmp_path / "run").items()} == {
        "a": "done",
        "b": "failed",
        "c.fits": "failed",
    }


def test_two_runs_at_once_are_refused(tmp_path, rng, monkeypatch):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    measure = module.measure_exposure

    def second_start(*arguments):
        with pytest.raises(LumosError, match=r"run: another lumos command writes here \(process \d+ on .*\); wait for"):
            run(tmp_path, paths[1:], OBJECTS, settings=FAST)
        return measure(*arguments)

    monkeypatch.setattr(module, "measure_exposure", second_start)
    run(tmp_path, paths[:1], OBJECTS, settings=FAST)
    monkeypatch.undo()
    # A lock and an unfinished shard, as a kill leaves them, do not block.
    (tmp_path / "run" / ".lumos-lock").write_text("process 1 on elsewhere")
    (tmp_path / "run" / "shards" / ".lumos-00000000-0.part").touch()
    run(tmp_path, paths, OBJECTS, settings=FAST)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == [
        "a.parquet",
        "b.parquet",
        "manifest.json",
        "settings.yaml",
        "shards",
    ]


def masked(tmp_path, rng, names):
    """Write exposures, each with its mask and a PSF, in files of their own; return them and their survey."""
    entry = {"kind": "nonzero", "sidecar": [{"find": r"\.fits$", "replace": ".mask.fits"}]}
    survey = Survey.model_validate({**load_survey("generic").model_dump(mode="json"), "mask": [entry]})
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in names]
    for name in names:
        fits.PrimaryHDU(np.zeros(SHAPE, dtype=np.int16)).writeto(tmp_path / f"{name}.mask.fits")
    write_parent(OBJECTS, tmp_path / "parent.parquet")

    def start(files=paths, folder=tmp_path / "run"):
        return measure_run(files, tmp_path / "parent.parquet", folder, survey, FAST)

    return paths, start


def test_a_changed_companion_is_measured_again(tmp_path, rng):
    _paths, start = masked(tmp_path, rng, "ab")
    start()
    assert sorted(entries(tmp_path / "run")["a"]["inputs"]) == [str(tmp_path / "a.fits"), str(tmp_path / "a.mask.fits")]
    assert start().skipped == ("a", "b")
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[90:110, 90:110] = 1
    fits.PrimaryHDU(mask).writeto(tmp_path / "b.mask.fits", overwrite=True)
    report = start()
    assert (report.done, report.skipped) == (("b",), ("a",))
    flux = read_shards(tmp_path / "run")["flux"].to_numpy()
    np.testing.assert_array_equal(np.isnan(flux), [False, False, True, False])


def test_what_must_be_measured_again_does_not_count_meanwhile(tmp_path, rng, monkeypatch):
    _paths, start = masked(tmp_path, rng, "ab")
    start()
    for name in "ab":
        os.utime(tmp_path / f"{name}.mask.fits", ns=(1, 1))
    monkeypatch.setattr(module, "_measure_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        start()
    with pytest.raises(LumosDataError, match="no finished exposure"):
        read_shards(tmp_path / "run")
    assert "changed since it was finished" in entries(tmp_path / "run")["a"]["reason"]


def test_an_exposure_that_cannot_be_read_any_longer_does_not_count(tmp_path, rng):
    paths, start = masked(tmp_path, rng, "ab")
    start()
    whole = {path.name: path.read_bytes() for path in (tmp_path / "run" / "shards").iterdir()}
    away = tmp_path / "away"
    paths[1].rename(away)
    report = start()
    assert report.failed == {str(paths[1]): f"{paths[1]}: no such file"}
    assert report.n_rows == read_shards(tmp_path / "run").num_rows == 2
    assert {name: entry["status"] for name, entry in entries(tmp_path / "run").items()} == {"a": "done", "b": "failed"}
    # It comes back as it was, and nothing has been lost.
    away.rename(paths[1])
    assert start().skipped == ("a", "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "shards").iterdir()} == whole
    assert read_shards(tmp_path / "run").num_rows == 4


def test_moved_exposures_are_still_finished_and_relative_paths_are_found_from_anywhere(tmp_path, rng, monkeypatch):
    (tmp_path / "images").mkdir()
    write_exposure(tmp_path / "images" / "a.fits", rng)
    monkeypatch.chdir(tmp_path)
    run(tmp_path, [Path("images/a.fits")], OBJECTS, settings=FAST)
    monkeypatch.chdir("/")
    assert open_run(tmp_path / "run").finished["a"]["file"] == str(tmp_path / "images" / "a.fits")
    shutil.move(tmp_path / "images", tmp_path / "moved")
    assert run(tmp_path, [tmp_path / "moved" / "a.fits"], OBJECTS, settings=FAST).skipped == ("a",)
    assert open_run(tmp_path / "run").finished["a"]["file"] == str(tmp_path / "moved" / "a.fits")


def test_settings_that_measured_nothing_do_not_block_the_next_try(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng, GAIN=None)
    wrong = FAST.model_copy(update={"noise": FAST.noise.model_copy(update={"source": "gain"})})
    assert run(tmp_path, [path], OBJECTS, settings=wrong).failed
    assert run(tmp_path, [path], OBJECTS, settings=FAST).done == ("a",)
    assert "source: auto" in (tmp_path / "run" / "settings.yaml").read_text()
    with pytest.raises(
        LumosConfigError, match=r"results of other settings \(measure\.noise\.source: auto -> gain\); give"
    ):
        run(tmp_path, [path], OBJECTS, settings=wrong)


def test_differing_settings_are_named(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    run(tmp_path, [path], OBJECTS, settings=FAST)
    other = FAST.model_copy(update={"model": "generic", "max_stamp_size": 480})
    with pytest.raises(LumosConfigError) as caught:
        run(tmp_path, [path], OBJECTS, settings=other, survey="vircam")
    text = str(caught.value)
    assert "survey.name: generic -> vircam" in text
    assert "more); give a new --out" in text
    with pytest.raises(LumosConfigError) as caught:
        run(tmp_path, [path], OBJECTS, settings=other)
    text = str(caught.value)
    assert "(model: none -> generic, measure.model: null -> generic, measure.max_stamp_size: 240 -> 480); give" in text


def test_settings_of_another_command_are_not_replaced(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.yaml").write_text("simulate: {seed: 1}\n")
    with pytest.raises(LumosConfigError, match=r"settings\.yaml: not written by `lumos measure`"):
        run(tmp_path, [path], OBJECTS, settings=FAST)
    assert (tmp_path / "run" / "settings.yaml").read_text() == "simulate: {seed: 1}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds nothing, allowed: a mapping; remove it or give a new --out"),
        (b"- 1", "holds list, allowed: a mapping"),
        (b"a: \xff", "not UTF-8, byte 3"),
        (b"[" * 10_000, "nested too deep"),
        (b"a: [", "not YAML"),
    ],
)
def test_damaged_settings(tmp_path, rng, content, message):
    path = write_exposure(tmp_path / "a.fits", rng)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.yaml").write_bytes(content)
    with pytest.raises(LumosConfigError, match=rf"settings\.yaml: .*{message}"):
        run(tmp_path, [path], OBJECTS, settings=FAST)
    with pytest.raises(LumosDataError, match=r"not a run of `lumos measure`, or damaged"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_rows": "4"}, r"a\.n_rows: got '4', allowed: int"),
        ({"shard": 3}, r"a\.shard: got 3, allowed: str"),
        ({"shard": "/etc/passwd"}, r"a\.shard: got '/etc/passwd', allowed: a file in the run's folder"),
        ({"shard": "../x"}, "allowed: a file in the run's folder"),
        ({"sha256": None}, r"a\.sha256: got None, allowed: str"),
        ({"status": "maybe"}, "a: allowed: a mapping with status done or failed"),
        ({"inputs": []}, r"a\.inputs: got \[\], allowed: dict"),
        (None, r"'exposures' is list, allowed: a mapping"),
    ],
)
def test_damaged_manifests(tmp_path, rng, change, message):
    path = write_exposure(tmp_path / "a.fits", rng)
    run(tmp_path, [path], OBJECTS, settings=FAST)
    content = {"exposures": {"a": {**entries(tmp_path / "run")["a"], **(change or {})}} if change else []}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(content))
    for call in (lambda: run(tmp_path, [path], OBJECTS, settings=FAST), lambda: read_shards(tmp_path / "run")):
        with pytest.raises(LumosDataError, match=rf"manifest\.json: damaged, .*{message}"):
            call()


def test_links_at_known_names_are_replaced_not_followed(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run" / "shards").mkdir(parents=True)
    for name in ("manifest.json.part", "settings.yaml.part", "shards/a.parquet.part", "shards/a.parquet"):
        (tmp_path / "run" / name).symlink_to(victim)
    run(tmp_path, [path], OBJECTS, settings=FAST)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "run" / "shards" / "a.parquet").is_symlink()


def test_a_run_is_read_by_the_name_of_its_folder(tmp_path, rng, monkeypatch):
    run(tmp_path, [write_exposure(tmp_path / "a.fits", rng)], OBJECTS, settings=FAST)
    monkeypatch.chdir(tmp_path)
    assert read_shards("run", ["x"]) == read_shards(tmp_path / "run", ["x"])
    with pytest.raises(LumosDataError, match=r"nowhere/manifest\.json: missing or damaged \(No such file"):
        read_shards("nowhere")
