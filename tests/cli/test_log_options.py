"""Every command: the options of its log do what they say, and a bad call ends with one line that says what is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from helpers.shell import run_lumos
from lumos.cli import app

COMMANDS = typer.main.get_command(app).commands
SMALL = Path(__file__).parents[1] / "small_survey.yaml"
LOG_OPTIONS = {"--quiet", "--verbose", "--log-file", "--debug"}
LISTINGS = {"flags": "EDGE", "models": "generic", "settings": "measure:", "surveys": "generic"}


@pytest.fixture
def lumos(monkeypatch, capsys):
    """Run a command as a shell does; return exit code, output and errors."""

    def run(*arguments):
        code = run_lumos(monkeypatch, *arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_the_options_of_the_log(name):
    assert {option for one in COMMANDS[name].params for option in one.opts} >= LOG_OPTIONS


@pytest.mark.parametrize("name", sorted(LISTINGS))
@pytest.mark.parametrize("option", ["-q", "-v", None])
def test_listings_print_what_they_list_and_nothing_else(lumos, name, option):
    code, out, err = lumos(name, *([] if option is None else [option]))
    assert (code, err) == (0, "")
    assert LISTINGS[name] in out


def test_quiet_and_verbose(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = ("simulate", SMALL, "--set", "camera.shape=[64,64]", "--out")
    assert run_lumos(monkeypatch, *asked, "quiet", "-q", "--workers", 2) == 0
    quiet = capfd.readouterr()  # of worker processes too
    assert (quiet.err, quiet.out.count("\n")) == ("", 1)
    assert run_lumos(monkeypatch, *asked, "verbose", "-v") == 0
    verbose = capfd.readouterr()
    assert verbose.out == quiet.out.replace("quiet", "verbose")
    lines = verbose.err.splitlines()
    assert sum("INFO simulate " in line for line in lines) == 2
    assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", line)] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_unknown_options_and_missing_arguments(lumos, name):
    code, out, err = lumos(name, "--no-such-option")
    assert (code, out) == (2, "")
    assert "No such option" in err
    needed = [one for one in COMMANDS[name].params if one.required]
    if needed:
        code, out, err = lumos(name)
        assert (code, out) == (2, "")
        assert "Missing" in err


#: A bad call of each command, and what the last line must say.
BAD = [
    ("adapt", ["generic", "--run", "none", "--out", "model"], "none: not a run of `lumos measure`"),
    ("backgrounds", ["none.fits", "--out", "pool"], "none.fits: no such file"),
    ("backgrounds", ["a.fits", "--out", "pool", "--set", "backgrounds.side=-1"], "backgrounds.side: got -1"),
    ("catalog", ["none.fits", "--out", "c.parquet"], "none.fits: no such file"),
    ("catalog", ["a.fits", "--out", "c.csv"], "allowed: a name that ends in .parquet"),
    ("coadd", ["none", "--out", "c.parquet"], "none/manifest.json: no such run of `lumos measure`"),
    ("demo", ["--out", "d", "--workers", "0"], "workers: got 0, allowed: >= 1"),
    ("flags", ["-7"], None),
    ("flags", ["999999999"], "flags: got 999999999, allowed: 0 to"),
    ("init", ["none", "--out", "c.yaml"], "none: no such file"),
    ("init", ["a.fits", "--out", "c.yaml"], "a.fits[0]: truncated or damaged"),
    ("inject", ["--out", "i"], "give either exposures and --catalog, or --run"),
    ("inject", ["--run", "none", "--out", "i"], "none: not a run of `lumos measure`"),
    ("measure", ["none.fits", "--catalog", "a.fits", "--out", "r"], "none.fits: no such file"),
    ("models", ["no-model"], "no model 'no-model', allowed: bkgnet, generic"),
    ("psf", ["none.fits", "--out", "p"], "none.fits: no such file"),
    ("run", ["none", "--out", "r"], "none: no such file"),
    ("run", ["a.fits", "--out", "r", "--model", "no-model"], "no model 'no-model', allowed: bkgnet, generic"),
    ("run", ["a.fits", "--out", "r", "--survey", "nowhere"], "unknown survey 'nowhere', allowed: decam"),
    ("settings", ["nothing"], "stage: got 'nothing', allowed: measure"),
    ("simulate", ["none.yaml", "--out", "s"], "none.yaml: cannot be read"),
    ("sky", ["none.parquet", "--out", "s.parquet"], "none.parquet: no such parent catalogue"),
    ("surveys", ["nowhere"], "unknown survey 'nowhere', allowed: decam"),
    ("train", ["none.yaml", "--out", "m"], "none.yaml: cannot be read"),
    ("train", ["no-run", "--out", "m"], "unknown training run 'no-run', allowed: bkgnet"),
    ("validate", ["--out", "v"], "give either runs, or --suite paper"),
    ("validate", ["none", "--out", "v"], "none: not a run of `lumos measure`"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_calls_end_with_one_line_and_write_nothing(lumos, tmp_path, monkeypatch, name, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.fits").write_bytes(b"SIMPLE  =")  # damaged
    code, out, err = lumos(name, *arguments)
    if message is None:  # an option, to the shell
        assert code == 2
        return
    last = err.strip().splitlines()[-1]
    assert (code, out) == (1, "")
    assert last.startswith("lumos: error: ")
    assert message in last
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_every_command_has_a_bad_call():
    assert {name for name, *_ in BAD} >= set(LISTINGS) | {"measure", "coadd", "run", "init", "train", "validate"}


@pytest.mark.parametrize(
    ("words", "expected"), [("lumos mea", "measure"), ("lumos measure --cat", "--catalog"), ("lumos sett", "settings")]
)
def test_completion_completes_commands_and_options(words, expected):
    code = "from lumos.cli import app; app(prog_name='lumos')"
    asked = {"_LUMOS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert result.stdout.split() == [expected]


def test_the_log_file_has_the_call(lumos, tmp_path):
    assert lumos("settings", "psf", "--log-file", tmp_path / "log")[0] == 0
    assert "settings psf --log-file" in (tmp_path / "log").read_text(encoding="utf-8")
    assert lumos("settings", "psf", "--log-file", tmp_path / "none" / "log")[0] == 1


def test_schema_can_be_piped():
    command = [sys.executable, "-m", "lumos", "settings", "--json-schema", "survey", "-v"]
    assert json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["title"] == "Survey"
