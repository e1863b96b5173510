"""`lumos adapt` from the run to the model folder, on a small simulated survey."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.shell import run_lumos
from lumos.nets.checkpoint import load_model
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey

SMALL = Path(__file__).parents[1] / "small_survey.yaml"
FEW = ("--set", "adapt.n_injected=200", "--set", "adapt.epochs=30")
#: Agreement alone, fast: the shortest way to agree is to be wrong together.
ALONE = ("--set", "adapt.supervised_weight=0", "--set", "adapt.learning_rate=2e-3")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL)), folder)
    exposures = sorted((folder / "exposures").glob("*.fits"))
    settings = MeasureSettings(estimators=("optimal",))
    for name, some in (("run", exposures), ("single", exposures[:1])):
        measure_run(some, folder / "parent.parquet", folder / name, load_survey("generic"), settings)
    return folder


def lumos(monkeypatch, capsys, *arguments):
    """Run the command as a shell does; return exit code, output and the last line of its errors."""
    code = run_lumos(monkeypatch, *arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err.strip().splitlines()[-1:]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['lumos', 'adapt', '--help']\n"
        "from lumos.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'astropy', 'scipy', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--force" in result.stdout
    assert "HEAVY []" in result.stdout


def test_adapt(monkeypatch, capsys, tmp_path, survey):
    out = tmp_path / "adapted"
    arguments = ("adapt", "generic", "--run", survey / "run", "--out", out, *FEW)
    with monkeypatch.context() as patch:
        # Killed when it has written the weights, it begins anew.
        patch.setattr("lumos.nets.checkpoint.write_atomic", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert lumos(patch, capsys, *arguments)[::2] == (130, ["lumos: interrupted; the same command continues"])
    assert not json.loads((out / "adapt.json").read_text())["written"]
    assert (out / "model.safetensors").exists()
    code, text, err = lumos(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert "on held-out sky sigma68 of differences" in text
    report = json.loads((out / "adapt.json").read_text())
    assert report["written"]
    assert report["excesses"] == []
    assert report["curve"][-1]["unsupervised"] < report["curve"][0]["unsupervised"]
    assert len(report["curve"]) == 30
    old, new = load_model("generic"), load_model(str(out))
    assert new.config.name == "generic-adapted"
    assert new.config.training["settings"] == old.config.training["settings"]
    facts = new.config.training["adapted"]
    assert facts["from"] == {"name": "generic", "sha256": old.config.sha256}
    assert facts["exposures"] == ["r_001", "r_002"]
    assert facts["settings"]["epochs"] == 30
    # The last linear layer alone has changed, by no more than Adam's steps.
    steps = 15 * 1e-5 + 15 * 1e-6
    before, after = old.network.state_dict(), new.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    assert max(float((before[name] - after[name]).abs().max()) for name in changed) < 1.5 * steps
    card = (out / "README.md").read_text()
    assert "## Training domain" in card
    assert "## Adapted to 2 exposures" in card
    assert "| PIT-KS of injected galaxies |" in card
    written = (out / "model.safetensors").stat().st_mtime_ns
    code, text, _ = lumos(monkeypatch, capsys, *arguments)
    assert (code, text.strip()) == (0, f"{out}: finished before")
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    code, _, (line,) = lumos(monkeypatch, capsys, *arguments, "--set", "adapt.seed=5")
    assert code == 1
    assert line == f"lumos: error: {out}: holds the results of other settings (adapt.seed: 1 -> 5); give a new --out"


def test_agreement_that_is_not_accuracy_is_refused_unless_forced(monkeypatch, capsys, tmp_path, survey):
    out = tmp_path / "adapted"
    arguments = ("adapt", "generic", "--run", survey / "run", "--out", out, *FEW, *ALONE)
    code, _, (line,) = lumos(monkeypatch, capsys, *arguments)
    assert code == 1
    assert line.startswith(f"lumos: error: {out}: not adapted (--force writes the model all the same): ")
    assert re.search(r"the PIT-KS of (\d+ )?injected galaxies .*grows by", line)
    assert sorted(path.name for path in out.iterdir()) == ["adapt.json", "settings.yaml"]
    report = json.loads((out / "adapt.json").read_text())
    assert not report["written"]
    # What it was asked to do it did: held-out exposures agree better, as far as their loss tells.
    held = report["held_out"]
    assert held["after"]["unsupervised_loss"] < held["before"]["unsupervised_loss"]
    # And the PDFs got worse, as agreement without known fluxes makes them.
    assert held["after"]["pit_ks"] > held["before"]["pit_ks"] + 0.03
    code, text, err = lumos(monkeypatch, capsys, *arguments, "--force")
    assert code == 0, err
    assert text.rstrip().endswith("; forced")
    assert json.loads((out / "adapt.json").read_text())["held_out"] == held
    assert load_model(str(out)).config.metrics["pit_ks"] == pytest.approx(held["after"]["pit_ks"])


def moved(survey, folder):
    """A copy of the run whose inputs lie in ``folder``."""
    shutil.copytree(survey / "run", folder / "run")
    for name in ("settings.yaml", "manifest.json"):
        path = folder / "run" / name
        path.write_text(path.read_text().replace(str(survey), str(folder)))
    shutil.copytree(survey / "exposures", folder / "exposures")
    shutil.copy(survey / "parent.parquet", folder)
    return folder / "run"


def test_inputs_that_are_gone_are_named(monkeypatch, capsys, tmp_path, survey):
    run = moved(survey, tmp_path)
    arguments = ("adapt", "generic", "--run", run, "--out", tmp_path / "out", *FEW)
    (tmp_path / "exposures" / "r_002.fits").unlink()
    code, _, (line,) = lumos(monkeypatch, capsys, *arguments)
    assert code == 1
    assert line == f"lumos: error: {tmp_path / 'exposures' / 'r_002.fits'}: no such file"
    (tmp_path / "parent.parquet").write_bytes((tmp_path / "parent.parquet").read_bytes() + b" ")
    code, _, (line,) = lumos(monkeypatch, capsys, *arguments)
    assert code == 1
    assert f"{tmp_path / 'parent.parquet'}: changed since {run} was measured" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "run", "options", "message"),
    [
        ("generic", "single", (), "no object was measured in two exposures of one band"),
        ("paucam-mock-posterior", "run", (), "does not know band 'r', allowed: NB455"),
        ("generic", "exposures", (), "not a run of `lumos measure`"),
        ("none", "run", (), "no model 'none', allowed: bkgnet, generic"),
        (
            "generic",
            "run",
            ("--set", "adapt.layers=last"),
            "adapt.layers: got 'last', Input should be 'head', 'dense' or 'all'",
        ),
        ("generic", "run", ("--set", "adapt.rate=1"), "allowed: batch_size, epochs"),
    ],
)
def test_bad_calls_end_with_one_line(monkeypatch, capsys, tmp_path, survey, model, run, options, message):
    arguments = ("adapt", model, "--run", survey / run, "--out", tmp_path / "out", *FEW, *options)
    code, _, (line,) = lumos(monkeypatch, capsys, *arguments)
    assert code == 1
    assert line.startswith("lumos: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
