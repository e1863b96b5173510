"""Every block of code in README and docs is read: commands and options that exist, Python, settings."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from lumos.cli import app
from lumos.config import parse_yaml
from lumos.photoz.templates import ModelSettings
from lumos.settings import Settings
from lumos.simulate.settings import SurveySimulation
from lumos.surveys import Survey
from lumos.training.settings import TrainSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("CONTRIBUTING.md"))]
BLOCKS = [
    (page.relative_to(ROOT).as_posix(), kind, text)
    for page in PAGES
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]
#: Commands named in running text.
INLINE = sorted(
    {name for page in PAGES for name in re.findall(r"`lumos ([a-z]+)\b[^`]*`", page.read_text(encoding="utf-8"))}
)


def of_kind(*kinds):
    chosen = [(page, text) for page, kind, text in BLOCKS if kind in kinds]
    return pytest.mark.parametrize(("page", "text"), chosen, ids=lambda part: part[:40])


def commands(text):
    """Yield the calls of lumos in a block of the shell, lines that go on joined."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] == ["lumos"] or words[:1] == [".venv/bin/lumos"]:
            yield words[1:]


def test_every_kind_is_known():
    assert {kind for _, kind, _ in BLOCKS} <= {"console", "python", "yaml", "sh"}
    assert len(BLOCKS) > 20


@of_kind("console", "sh")
def test_commands(page, text):
    group = typer.main.get_command(app)
    for words in commands(text):
        if "..." in words or words[0].startswith("-"):
            continue
        command = group.commands.get(words[0])
        assert command is not None, f"{page}: lumos {words[0]}"
        # Parses and refuses what does not exist; nothing is run.
        command.make_context(words[0], list(words[1:]))


def test_commands_in_running_text():
    group = typer.main.get_command(app)
    assert not set(INLINE) - set(group.commands)


@of_kind("python")
def test_python(page, text):
    ast.parse(text, page)


@of_kind("yaml")
def test_yaml(page, text):
    content = parse_yaml(text, page)
    for kind in (Settings, Survey, SurveySimulation, TrainSettings, ModelSettings):
        if set(content) <= set(kind.model_fields):
            needed = {"name": "a", "pool": {"simulate": "wide"}} if kind is TrainSettings else {}
            kind.model_validate(needed | yaml.safe_load(text))
            return
    raise AssertionError(f"{page}: no settings, survey, simulation, training run or set of models: {sorted(content)}")
