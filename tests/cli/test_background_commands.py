"""`lumos measure` with the background of a model, and what `lumos models` says of it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from helpers.shell import run_lumos
from lumos.flags import Flag
from lumos.nets.checkpoint import shipped_models
from lumos.runs.shards import read_shards, shard_paths
from lumos.settings import load_settings, load_simulation
from lumos.simulate.exposures import simulate_survey

SMALL = Path(__file__).parents[1] / "small_survey.yaml"
COLUMNS = ("aperture_background", "aperture_background_err")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL)), folder)
    return folder


def lumos(monkeypatch, capsys, *arguments):
    """Run the command as a shell does; return exit code, output and errors."""
    code = run_lumos(monkeypatch, *arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call(survey, out, *overrides):
    exposure = min((survey / "exposures").glob("*.fits"))
    sets = [word for one in overrides for word in ("--set", one)]
    how = ("--catalog", survey / "parent.parquet", "--out", out)
    return ("measure", exposure, *how, "--set", "measure.estimators=[aperture, optimal]", *sets)


def test_measure_with_the_background_of_a_model(monkeypatch, capsys, tmp_path, survey):
    code, _, err = lumos(monkeypatch, capsys, *call(survey, tmp_path / "annulus"))
    assert code == 0, err
    code, _, err = lumos(monkeypatch, capsys, *call(survey, tmp_path / "run", "aperture.background=bkgnet"))
    assert code == 0, err
    before, after = read_shards(tmp_path / "annulus"), read_shards(tmp_path / "run")
    assert set(after.column_names) - set(before.column_names) == set(COLUMNS)
    table = {name: after[name].to_numpy() for name in (*COLUMNS, "background", "background_err", "flags")}
    told = (table["flags"] & int(Flag.ANNULUS_BACKGROUND)) != 0
    finite = np.isfinite(table["background"])
    assert (finite & ~told).sum() > 30
    assert told.mean() < 0.2
    # Near that of the annulus, but not it; where the model cannot tell, it.
    moved = (table["aperture_background"] - table["background"]) / table["background_err"]
    assert (moved[finite & ~told] != 0).all()
    assert np.median(np.abs(moved[finite & ~told])) < 3
    assert (moved[finite & told] == 0).all()
    assert (table["aperture_background_err"][finite] > 0).all()
    # Other estimators keep the annulus.
    np.testing.assert_array_equal(after["optimal_flux"].to_numpy(), before["optimal_flux"].to_numpy())
    changed = after["aperture_flux"].to_numpy() != before["aperture_flux"].to_numpy()
    assert changed[finite & ~told].mean() > 0.9
    settings = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert settings["background_models"]["aperture"]["name"] == "bkgnet"
    assert "background_models" not in yaml.safe_load((tmp_path / "annulus" / "settings.yaml").read_text())
    schema = pq.read_schema(shard_paths(tmp_path / "run")[0])
    assert schema.field("aperture_background").metadata[b"unit"] == b"nJy/pix"
    assert b"background_models" in schema.metadata[b"lumos.provenance"]
    code, out, _ = lumos(monkeypatch, capsys, *call(survey, tmp_path / "run", "aperture.background=bkgnet"))
    assert code == 0
    assert "0 exposures measured, 1 finished before" in out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["aperture.background=none"], "no model 'none', allowed: bkgnet"),
        (["aperture.background=generic"], "model 'generic' predicts a flux, for measure.model, not a background"),
        (["measure.model=bkgnet"], "model 'bkgnet' predicts a background"),
        (["aperture.background=bkgnet", "measure.stamp_size=50"], "was trained on stamps of 60 px"),
        (["measure.estimators=[optimal_free]", "optimal_free.background=bkgnet"], "unknown key 'background'"),
        (["aperture.depth=1"], "unknown key 'depth', allowed: background, fraction"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(monkeypatch, capsys, tmp_path, survey, overrides, message):
    code, _, err = lumos(monkeypatch, capsys, *call(survey, tmp_path / "run", *overrides))
    assert code == 1
    assert message in err
    assert not (tmp_path / "run").exists()


def test_options_of_estimators_have_a_short_name():
    short, long = (load_settings(None, [f"{way}aperture.fraction=0.5"]) for way in ("", "measure.options."))
    assert short == long
    assert short.measure.options == {"aperture": {"fraction": 0.5}}


def test_models_shows_its_card(monkeypatch, capsys):
    code, out, _ = lumos(monkeypatch, capsys, "models")
    assert code == 0
    names = [line.split(":")[0] for line in out.splitlines()]
    assert names == [*shipped_models(), *shipped_models(of="background")]
    assert "bkgnet: bkgnet, background, any band, scatter 0.0" in out
    code, out, _ = lumos(monkeypatch, capsys, "models", "bkgnet")
    assert code == 0
    assert "Made by `lumos train bkgnet`." in out
