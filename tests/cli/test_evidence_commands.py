"""`lumos inject` and `lumos validate` as a user types them."""

import json
from pathlib import Path

import pytest

from helpers.shell import run_lumos
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey

SMALL = Path(__file__).parents[1] / "small_survey.yaml"
FEW = ("--set", "inject.rounds=2", "--set", "inject.n_per_ccd=50", "--set", "inject.distance=35")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL)), folder)
    settings = MeasureSettings(estimators=("optimal",))
    exposures = sorted((folder / "exposures").glob("*.fits"))
    measure_run(exposures, folder / "parent.parquet", folder / "run", load_survey("generic"), settings)
    return folder


def test_a_run_is_tried_and_judged(survey, tmp_path, monkeypatch, capsys):
    assert run_lumos(monkeypatch, "inject", "--run", survey / "run", "--out", tmp_path / "in", *FEW) == 0
    out = capsys.readouterr().out
    assert "place: beside" in out
    assert "aperture" not in out  # the run has one estimator
    assert "galaxies in 2 rounds" in out
    metrics = json.loads((tmp_path / "in" / "report" / "metrics.json").read_text())
    assert {"bias", "pull", "lost"} <= {metric["key"] for metric in metrics}
    assert run_lumos(monkeypatch, "validate", tmp_path / "in", "--out", tmp_path / "again") == 0
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == metrics
    assert "report.html" in capsys.readouterr().out
    capsys.readouterr()
    # Known fluxes of the injections, beside the run's own repeats.
    both = tmp_path / "both"
    assert run_lumos(monkeypatch, "validate", survey / "run", "--injected", tmp_path / "in", "--out", both) == 0
    found = {metric["key"]: metric for metric in json.loads((both / "metrics.json").read_text())}
    assert found["bias"]["n"] == next(metric["n"] for metric in metrics if metric["key"] == "bias")
    assert found["lost"]["n"] < next(metric["n"] for metric in metrics if metric["key"] == "lost")
    assert "Fluxes are right on average" in capsys.readouterr().out
    truth = survey / "truth.parquet"
    assert run_lumos(monkeypatch, "validate", survey / "run", "--truth", truth, "--out", tmp_path / "true") == 0


def test_exposures_and_a_catalogue_do_as_well(survey, tmp_path, monkeypatch, capsys):
    exposures, catalog = survey / "exposures", survey / "parent.parquet"
    assert run_lumos(monkeypatch, "inject", exposures, "--catalog", catalog, "--out", tmp_path / "in", *FEW[:4]) == 0
    assert "aperture" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inject", "--out", "o"), "either exposures and --catalog, or --run"),
        (("inject", "a.fits", "--out", "o"), "either exposures and --catalog, or --run"),
        (
            ("inject", "a.fits", "--catalog", "c", "--run", "r", "--out", "o"),
            "either exposures and --catalog, or --run",
        ),
        (("inject", "--run", "nothing", "--out", "o"), "not a run of"),
        (("validate", "nothing", "--out", "o"), "not a run of"),
        (("validate", "run", "--truth", "none.parquet", "--out", "o"), "no such table of true fluxes"),
        (("validate", "run", "--injected", "nothing", "--out", "o"), "not a folder of `lumos inject`"),
        (("inject", "--run", "r", "--out", "o", "--set", "inject.n=3"), "unknown key 'inject.n'"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_lumos(monkeypatch, *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("RUN", "--suite", "paper"),
        ("--suite", "article"),
        ("--suite", "paper", "--truth", "truth.parquet"),
    ],
)
def test_either_runs_or_the_suite(arguments, tmp_path, monkeypatch, capsys):
    assert run_lumos(monkeypatch, "validate", *arguments, "--out", tmp_path / "out") == 1
    assert "either runs, or --suite paper" in capsys.readouterr().err


def test_settings_of_the_suite_are_checked(tmp_path, monkeypatch, capsys):
    arguments = ("validate", "--suite", "paper", "--out", tmp_path, "--set")
    for override, told in (("paper.studies=[photoz]", "robustness"), ("paper.side=3", "survey_side")):
        assert run_lumos(monkeypatch, *arguments, override) == 1
        assert told in capsys.readouterr().err
