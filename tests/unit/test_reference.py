"""The reference pages equal what the code says, and the tables that are written have the columns that they list."""

import importlib.util
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def reference():
    specification = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_pages_are_those_that_the_code_makes(reference):
    pages = reference.pages()
    assert sorted(pages) == sorted(path.name for path in reference.FOLDER.iterdir())
    for name, text in pages.items():
        assert (reference.FOLDER / name).read_text(encoding="utf-8") == text, f"{name}: run python docs/reference.py"


def test_every_key_says_what_it_means(reference):
    for name, text in reference.pages().items():
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert len(rows) > 5, name
        assert [row for row in rows if row.endswith("|  |")] == [], name


def test_written_tables_have_the_columns_of_the_page(reference, tmp_path):
    simulate_survey(
        load_simulation(str(DOCS.parent / "tests" / "small_survey.yaml"), ["camera.shape=[128,128]"]), tmp_path
    )
    schema = yaml.safe_load(reference.SCHEMA.read_text(encoding="utf-8"))
    for name in ("truth", "exposures"):
        assert pq.read_schema(tmp_path / f"{name}.parquet").names == list(schema[name])


def test_links_of_the_pages_lead_somewhere():
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"
