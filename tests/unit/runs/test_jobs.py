"""Job arrays: the jobs together do what the command does."""

import os
import subprocess

import pytest

from helpers.measured_runs import catalog_at, run, write_exposure
from helpers.shell import run_lumos
from lumos.catalogs.parent import write_parent
from lumos.errors import LumosConfigError, LumosValueError
from lumos.photometry.settings import MeasureSettings
from lumos.runs.jobs import write_jobs

FAST = MeasureSettings(estimators=("aperture",), noise={"correlation": "none"})


def submitted(jobs, system):
    """Return the numbers that a batch system would give to the jobs, from its file alone."""
    if system == "slurm":
        line = next(line for line in (jobs / "slurm.sh").read_text().splitlines() if "--array=" in line)
        first, last = line.rpartition("=")[2].split("-")
        return range(int(first), int(last) + 1)
    line = (jobs / "condor.sub").read_text().splitlines()[-1]
    return range(1, int(line.removeprefix("queue ")) + 1)


@pytest.mark.parametrize("system", ["slurm", "condor"])
def test_the_jobs_do_what_the_command_does(tmp_path, rng, monkeypatch, capsys, system):
    paths = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abc"]
    objects = catalog_at([100, 50], [100, 50])
    run(tmp_path, paths, objects, settings=FAST)
    words = ("measure", *paths, "--catalog", tmp_path / "parent.parquet", "--out", tmp_path / "jobs of it")
    settings = ("--set", "measure.noise.correlation=none", "--estimators", "aperture", "--driver", system)
    assert run_lumos(monkeypatch, *words, *settings, "--workers", 2) == 1
    assert "characters that batch systems split" in capsys.readouterr().err
    out = tmp_path / "array"
    words = (*words[:-1], out, *settings)
    assert run_lumos(monkeypatch, *words, "--workers", 2) == 0
    assert "2 jobs, 3 files" in capsys.readouterr().out
    assert not list(out.glob("part-*"))
    assert run_lumos(monkeypatch, "status", out) == 0
    assert "2 of 2 jobs have not begun, with 3 exposures: part-1, part-2" in capsys.readouterr().out
    for number in submitted(out / "jobs", system):
        variables = {**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}
        file = "slurm.sh" if system == "slurm" else "job.sh"
        subprocess.run(["/bin/sh", out / "jobs" / file, str(number)], check=True, env=variables, capture_output=True)
    made = {path.name: path.read_bytes() for path in out.glob("part-*/shards/*.parquet")}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "run" / "shards").iterdir()}
    assert run_lumos(monkeypatch, "status", out) == 0
    told = capsys.readouterr().out
    assert "part-1: 2 of 2 exposures done" in told
    assert "part-2: 1 of 1 exposures done" in told
    assert "begun" not in told
    # The same command again changes nothing; another number of jobs would measure twice.
    assert run_lumos(monkeypatch, *words, "--workers", 2) == 0
    assert run_lumos(monkeypatch, *words, "--workers", 3) == 1
    assert "holds the jobs of another command" in capsys.readouterr().err


def test_a_model_of_ones_own_is_found_from_any_folder(tmp_path, rng, monkeypatch, capsys):
    path = write_exposure(tmp_path / "a.fits", rng)
    write_parent(catalog_at([100], [100]), tmp_path / "parent.parquet")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ("measure", path, "--catalog", "parent.parquet", "--model", "mine", "--out", "out", "--driver", "slurm")
    assert run_lumos(monkeypatch, *words) == 0, capsys.readouterr().err
    assert f"measure.model={tmp_path / 'mine'}" in (tmp_path / "out/jobs/job.sh").read_text()


def test_more_jobs_than_files_and_none(tmp_path):
    files = [tmp_path / "a.fits", tmp_path / "b.fits"]
    write_parent(catalog_at([1], [1]), tmp_path / "parent.parquet")
    assert write_jobs("slurm", "measure", files, [], tmp_path / "out", n_jobs=100).startswith("2 jobs, 2 files")
    with pytest.raises(LumosValueError, match="workers: got 0, allowed: >= 1 job"):
        write_jobs("slurm", "measure", files, [], tmp_path / "none", n_jobs=0)
    with pytest.raises(LumosConfigError, match="another command"):
        write_jobs("slurm", "measure", files, ["--survey", "sdss"], tmp_path / "out", n_jobs=100)
