"""`lumos init` and `lumos run` as a user types them, on files that nobody described."""

from pathlib import Path

import numpy as np
import pytest

from helpers.fits_files import write_simple
from helpers.shell import run_lumos
from lumos.coadds.read import read_coadd
from lumos.flags import Flag
from lumos.photoz.run import read_redshifts
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey

SMALL = Path(__file__).parents[1] / "small_survey.yaml"
FEW = ("--set", "inject.rounds=1", "--set", "inject.n_per_ccd=20", "--set", "measure.estimators=[aperture,optimal]")
#: One band is enough for a redshift here, which nobody should believe.
REDSHIFTS = ("--photoz", "analytic", "--set", "photoz.min_bands=1")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    changes = ("exposures_per_band=3", "camera.shape=[500, 500]", "sky.stars=250", "sky.star_mag_range=[17.5, 20]")
    simulate_survey(load_simulation(str(SMALL), changes), folder)
    return folder / "exposures"


def test_one_command_does_everything_and_goes_on(images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run_lumos(monkeypatch, "run", images, "--out", out, "--workers", 1, *FEW, *REDSHIFTS) == 0
    told = capsys.readouterr().out
    for name in ("survey.yaml", "catalog.parquet", "run/manifest.json", "coadd.parquet", "report/report.html"):
        assert (out / name).is_file(), name
    assert (out / "inject" / "report" / "report.html").is_file()
    table = read_shards(out / "run")
    exposures = set(table["exposure_id"].to_pylist())
    left_out = {path.stem for path in images.glob("*.fits")} - exposures
    # The catalogue's own exposure is not measured, since its band has two more.
    assert len(left_out) == 1
    assert f"{left_out.pop()}.fits is not measured" in told
    flags = table["flags"].to_numpy()
    assert not (flags & int(Flag.CATALOG_EXPOSURE)).any()
    good = np.isfinite(table["flux"].to_numpy())
    assert good.mean() > 0.9
    coadd, _ = read_coadd(out / "coadd.parquet")
    assert set(coadd["band"].to_pylist()) == set(table["band"].to_pylist()) == {"r"}
    redshifts, pdf = read_redshifts(out / "redshifts")
    assert set(redshifts["object_id"].to_pylist()) == set(coadd["object_id"].to_pylist())
    assert np.isfinite(pdf.density).all(axis=1).mean() > 0.5
    # The coadd of so few objects has no prior, so that it serves for redshifts as it is.
    assert f"lumos photoz {out}/coadd.parquet --templates analytic --out {out}/redshifts" in told
    assert told.count("\n  lumos ") == 8 - ("PSFs: the survey's own" in told)
    # Again: everything is finished.
    files = [out / "coadd.parquet", *(out / "redshifts" / "shards").iterdir()]
    before = [path.stat().st_mtime_ns for path in files]
    assert run_lumos(monkeypatch, "run", images, "--out", out, "--workers", 1, *FEW, *REDSHIFTS) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    assert "galaxies, finished before" in capsys.readouterr().out


def test_what_cannot_be_run_is_said(images, tmp_path, monkeypatch, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    assert run_lumos(monkeypatch, "run", tmp_path / "notes", "--out", tmp_path / "a") == 1
    assert "no FITS file in this folder" in capsys.readouterr().err
    assert run_lumos(monkeypatch, "run", "memory://nowhere/a.fits", "--out", tmp_path / "a") == 1
    assert "error: memory://nowhere/a.fits: no such file" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert run_lumos(monkeypatch, "run", images, "--out", tmp_path / "b", "--catalog", tmp_path / "no.parquet") == 1
    assert "no such parent catalogue" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert run_lumos(monkeypatch, "run", images, "--out", tmp_path / "b", "--photoz", "nothing") == 1
    assert "nothing" in capsys.readouterr().err
    assert run_lumos(monkeypatch, "run", images, "--out", tmp_path / "b", "--data", tmp_path) == 1
    assert "--data: is for redshifts, needs --photoz" in capsys.readouterr().err
    missing = ("--photoz", "analytic", "--spec-z", tmp_path / "no.csv")
    assert run_lumos(monkeypatch, "run", images, "--out", tmp_path / "b", *missing) == 1
    assert "no such table of known redshifts" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert run_lumos(monkeypatch, "init", images, "--out", tmp_path / "cam.yaml") == 0
    assert "exposures; read with --survey" in capsys.readouterr().out


def test_bad_folders_and_catalogues_are_said_and_leave_nothing_half_written(tmp_path, monkeypatch, capsys):
    out, two, sky = tmp_path / "out", tmp_path / "two", tmp_path / "sky"
    for folder in (two, sky):
        folder.mkdir()
    write_simple(two / "a.fits", INSTRUME="ONE")
    write_simple(two / "b.fits", INSTRUME="TWO")
    assert run_lumos(monkeypatch, "run", two, "--out", out) == 1
    assert "several cameras (a.fits: ONE; b.fits: TWO)" in capsys.readouterr().err
    assert not out.exists()
    (tmp_path / "night2").mkdir()
    again = write_simple(tmp_path / "night2" / "a.fits", INSTRUME="ONE")
    assert run_lumos(monkeypatch, "run", two / "a.fits", again, "--survey", "generic", "--out", out) == 1
    assert "both are exposure 'a'; identifiers must differ: rename a file, or set header" in capsys.readouterr().err
    assert not out.exists()
    rng = np.random.default_rng(1)
    image = write_simple(sky / "a.fits", rng.normal(100, 5, (200, 200)).astype(">f4"))
    far = tmp_path / "far.csv"
    far.write_text("object_id,ra,dec\n1,10.0,-40.0\n")
    arguments = ("run", image, "--survey", "generic", "--model", "none", "--catalog", far, "--out", out)
    assert run_lumos(monkeypatch, *arguments) == 1
    assert f"{far}: no object lies on any of the exposures" in capsys.readouterr().err
    assert not list(out.rglob("*.part"))
    assert not (out / "coadd.parquet").exists()
    arguments = ("run", image, "--survey", "generic", "--model", "none", "--out", tmp_path / "none")
    assert run_lumos(monkeypatch, *arguments) == 1
    assert "a.fits: nothing detected above 3.5 times the pixel scatter" in capsys.readouterr().err
    assert not (tmp_path / "none" / "catalog.parquet").exists()
