"""`lumos init` and `lumos run` as a user types them, on files that nobody described."""

from pathlib import Path

import numpy as np
import pytest

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
