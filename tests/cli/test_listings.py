"""`lumos settings`: its YAML is the defaults, its schemas take what the commands take and refuse what they refuse."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from helpers.shell import run_lumos
from lumos.config import shipped_text, validated
from lumos.errors import LumosConfigError
from lumos.settings import Settings, load_settings, load_simulation
from lumos.simulate.settings import shipped_presets
from lumos.surveys import Survey, read_survey_text, shipped_surveys
from lumos.workflows.listings import SCHEMAS, list_schema, list_settings

SURVEY = yaml.safe_load("""
name: mycam
text: My camera
bands: [g, r]
flux_unit: electron
sky_subtracted: false
header: {band: [FILTER], detector: {keys: [CCDNUM], default: "0"}}
""")


@pytest.fixture(scope="module")
def validators():
    made = {kind: Draft202012Validator(json.loads(list_schema(kind))) for kind in SCHEMAS}
    for one in made.values():
        one.check_schema(one.schema)
    return made


def plain_yaml(text):
    """Read YAML as an editor does, to which dates are texts."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


def test_settings_as_printed_are_the_defaults(tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(list_settings(None), encoding="utf-8")
    assert load_settings(file) == Settings()
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == Settings().model_dump(mode="json")


def test_every_setting_has_a_comment_above_it():
    lines = list_settings(None).splitlines()
    keys = [number for number, line in enumerate(lines) if not line.lstrip().startswith("#")]
    assert len(keys) > 100
    assert [lines[number] for number in keys if not lines[number - 1].lstrip().startswith("# ")] == []
    assert max(map(len, lines)) <= 120


def test_one_stage(monkeypatch, capsys):
    assert run_lumos(monkeypatch, "settings", "psf") == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"psf": Settings().psf.model_dump(mode="json")}


def test_schema_of_settings(validators, monkeypatch, capsys):
    assert run_lumos(monkeypatch, "settings", "--json-schema", "settings") == 0
    assert json.loads(capsys.readouterr().out) == validators["settings"].schema
    assert validators["settings"].is_valid(plain_yaml(list_settings(None)))
    assert validators["settings"].is_valid({"measure": {"stamp_size": 80}})


@pytest.mark.parametrize("name", shipped_surveys())
def test_schema_takes_shipped_surveys(validators, name):
    assert list(validators["survey"].iter_errors(plain_yaml(read_survey_text(name)))) == []


@pytest.mark.parametrize("name", shipped_presets())
def test_schema_takes_simulations(validators, name):
    assert validators["simulation"].is_valid(load_simulation(name).model_dump(mode="json"))
    text = shipped_text("lumos.simulate", "presets", "preset", name)
    assert list(validators["simulation"].iter_errors(plain_yaml(text))) == []


@pytest.mark.parametrize("bands", ["any", ["g", "r"], {"g": {"wavelength": 475}, "r": None}])
def test_schema_takes_each_way_to_list_bands(validators, bands):
    content = {**SURVEY, "bands": bands}
    assert Survey.model_validate(content)
    assert validators["survey"].is_valid(content)


BAD = [
    ("settings", {"measur": {}}),
    ("settings", {"measure": {"stamp": 60}}),
    ("settings", {"measure": {"stamp_size": 10}}),
    ("settings", {"measure": {"stamp_size": "large"}}),
    ("settings", {"coadd": {"pdf": "histogram"}}),
    ("survey", {key: value for key, value in SURVEY.items() if key != "header"}),
    ("survey", {**SURVEY, "pixel_scale": -1}),
    ("survey", {**SURVEY, "header": {"band": "FILTER"}}),
    ("survey", {**SURVEY, "bands": "all"}),
    ("survey", {**SURVEY, "name": "my cam"}),
    ("simulation", {"survey": "paucam", "bands": ["NB455"], "camera": {"depth": 3}}),
    ("simulation", {"survey": "paucam", "bands": ["NB455"], "camera": {"gain": [1, 2, 3]}}),
]


@pytest.mark.parametrize(("kind", "content"), BAD)
def test_schema_refuses_what_the_command_refuses(validators, kind, content):
    assert not validators[kind].is_valid(content)
    with pytest.raises(LumosConfigError):
        validated(SCHEMAS[kind], content, "file.yaml")


def test_texts_of_schemas_are_plain():
    for kind in SCHEMAS:
        assert "``" not in list_schema(kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "stage: got 'nothing', allowed: measure, coadd, photoz, catalog, psf"),
        (["--json-schema", "camera"], "--json-schema: got 'camera', allowed: settings, survey, simulation"),
        (["measure", "--json-schema", "survey"], "give either a stage, or --json-schema"),
    ],
)
def test_bad_calls(monkeypatch, capsys, arguments, message):
    assert run_lumos(monkeypatch, "settings", *arguments) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err
