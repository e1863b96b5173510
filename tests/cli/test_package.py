"""The package: a wheel that holds what the source holds, runs from elsewhere, and says what it is; the conda recipe."""

import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import lumos

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Packages that conda calls by another name.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignore)
    # Tests lie beside the package where it is built, and must stay out of it.
    shutil.copytree(ROOT / "tests" / "helpers", source / "tests" / "helpers", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def installed(wheel):
    target = wheel.parent / "installed"
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", target, wheel)
    return target


def run(installed, *command):
    """Run a command in an empty folder, with the installed wheel before everything else."""
    (installed.parent / "elsewhere").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=installed.parent / "elsewhere", env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_wheel_holds_the_source_and_nothing_else(wheel):
    package = ROOT / "src" / "lumos"
    files = {path.relative_to(ROOT / "src").as_posix() for path in package.rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
        models = sum(one.file_size for one in archive.infolist() if one.filename.startswith("lumos/models/"))
    assert names == expected
    assert {"lumos/py.typed", "lumos/surveys/generic.yaml", "lumos/models/generic/model.safetensors"} <= names
    assert models < 15e6
    assert wheel.stat().st_size < 15e6


def test_metadata(metadata):
    project = PROJECT["project"]
    assert metadata["Name"] == project["name"]
    assert metadata["Version"] == lumos.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    versions = [one for one in metadata.get_all("Classifier") if one.startswith("Programming Language :: Python :: 3.")]
    assert [one.rpartition(" ")[2] for one in versions] == ["3.11", "3.12", "3.13"]
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    plain = [one.replace(" ", "") for one in metadata.get_all("Requires-Dist") if "extra" not in one]
    assert sorted(plain) == sorted(project["dependencies"])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata.get_all("Project-URL")


def test_extras_that_messages_name_exist():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    named = {part.split("]")[0] for text in sources for part in text.split("lumos-photometry[")[1:]}
    # Packages of exported formats are looked up, and their extras stand in that call.
    named.discard("{extra}")
    found = {extra for text in sources for extra in re.findall(r'optional\("[\w.]+", "(\w+)"', text)}
    assert found
    named |= found
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_commands_run_from_the_wheel(installed):
    where = run(installed, sys.executable, "-c", "import lumos; print(lumos.__file__)")
    assert Path(where.strip()).parent == installed / "lumos"
    # The script that pip writes, and the module.
    assert run(installed, str(installed / "bin" / "lumos"), "--version").strip() == lumos.__version__
    command = (sys.executable, "-m", "lumos")
    shipped = [line.split(":")[0] for line in run(installed, *command, "surveys").splitlines()]
    assert shipped == sorted(path.stem for path in (ROOT / "src/lumos/surveys").glob("*.yaml"))
    models = {line.split(":")[0] for line in run(installed, *command, "models").splitlines()}
    assert models == {path.name for path in (ROOT / "src/lumos/models").iterdir() if path.is_dir()}


def test_models_of_the_wheel_are_whole(installed):
    code = (
        "from lumos.nets.checkpoint import load_model, shipped_models\n"
        "print(*[type(load_model(name)).__name__ for name in shipped_models()])"
    )
    assert len(run(installed, sys.executable, "-c", code).split()) == 3


def test_conda_recipe():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    project = PROJECT["project"]
    assert recipe["context"]["version"] == lumos.__version__
    assert recipe["package"]["name"] == project["name"]
    wanted = {one.replace(">=", " >=") for one in (f"python{project['requires-python']}", *project["dependencies"])}
    renamed = {" ".join([CONDA_NAMES.get(one.split()[0], one.split()[0]), *one.split()[1:]]) for one in wanted}
    assert set(recipe["requirements"]["run"]) == renamed
    built = {one.replace(">=", " >=") for one in PROJECT["build-system"]["requires"]}
    assert set(recipe["requirements"]["host"]) == built | {"pip", f"python {project['requires-python']}"}
    entries = recipe["build"]["python"]["entry_points"]
    assert entries == [f"{name} = {target}" for name, target in project["scripts"].items()]
    about = recipe["about"]
    assert (about["license"], about["summary"]) == (project["license"], project["description"])
