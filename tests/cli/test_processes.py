"""Real signals: ctrl-C and kills, and what is left of the worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lumos.runs.folder import read_manifest
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey

SMALL = Path(__file__).parents[1] / "small_survey.yaml"


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL), ["exposures_per_band=4"]), folder)
    return folder


def start(survey, out, workers):
    command = [sys.executable, "-m", "lumos", "measure", str(survey / "exposures"), "--out", str(out)]
    command += ["--catalog", str(survey / "parent.parquet"), "--workers", str(workers), "--log-file", f"{out}.log"]
    command += ["--estimators", "aperture", "--set", "measure.noise.correlation=none"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def session(process):
    """Return the processes of a session that are alive, but for the one that began it."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != process.pid:
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == process.pid and fields[0] != "Z":
                members.append(int(entry.name))
    return members


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def has_finished_one(run):
    """Tell whether an exposure is finished; the manifest is there before."""
    return (run / "manifest.json").exists() and any(one["status"] == "done" for one in read_manifest(run).values())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
@pytest.mark.parametrize("moment", ["while workers import", "after the first exposure"])
def test_ctrl_c_ends_everything_with_one_line(survey, tmp_path, moment):
    process = start(survey, tmp_path / "run", 2)
    if moment == "while workers import":
        # A helper of multiprocessing and two workers.
        wait_for(lambda: len(session(process)) >= 2)
    else:
        wait_for(lambda: has_finished_one(tmp_path / "run"))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in err.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert lines == ["lumos: interrupted; the same command continues"], err
    wait_for(lambda: not session(process), 10)
    assert not list((tmp_path / "run").rglob(".lumos-*"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_workers_do_not_outlive_their_parent(survey, tmp_path):
    process = start(survey, tmp_path / "run", 2)
    wait_for(lambda: has_finished_one(tmp_path / "run"))
    assert session(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not session(process), 15)
    log = (tmp_path / "run.log").read_text()
    assert f"measure {survey / 'exposures'}" in log
    # What the workers say is in it too.
    assert "r_001.fits detector 1: mask" in log
