"""The suite of the paper's figures on a small survey: complete, right, continued, and honest about what is missing."""

import re
from pathlib import Path

import numpy as np
import pytest

from lumos.errors import LumosConfigError
from lumos.runs.shards import read_shards
from lumos.validate.accuracy import look_up_truth
from lumos.validate.paper.contents import CONTENTS
from lumos.validate.paper.result import read_results
from lumos.validate.paper.settings import PaperSettings
from lumos.workflows import paper
from lumos.workflows.paper import make_paper

SETTINGS = PaperSettings(
    studies=("fluxes", "exposures", "colours", "spectra"),
    survey_side=320,
    survey_bands=("NB625", "NB785", "NB795"),
    survey_exposures=2,
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    return out, make_paper(out, SETTINGS)


def test_the_page_has_every_figure_and_its_pictures(suite):
    out, _ = suite
    page = (out / "paper.md").read_text()
    headings = ", ".join(re.findall(r"^## (.*?):", page, re.MULTILINE)).split(", ")
    assert sorted(headings) == sorted(CONTENTS)
    for name in ("blends", "robustness", "artefacts"):
        assert f"Not made yet: `--set paper.studies=[{name}]`." in page
    # Redshifts have commands of their own.
    for command in ("benchmarks/pixels_to_redshift.py", "benchmarks/bench_photoz.py"):
        assert page.count(command) == 2
        assert (Path(__file__).parents[3] / command).is_file()
    pictures = re.findall(r"\]\((.*?\.svg)\)", page)
    assert len(pictures) > 8
    for name in pictures:
        assert (out / name).read_text().startswith("<svg")


def test_studies_make_the_figures_that_the_contents_say(suite):
    for study, result in read_results(suite[0]).items():
        names = {name for entry in result.entries for name in entry.names}
        assert names == {name for name, (_, by, _) in CONTENTS.items() if by == study}
        assert all(entry.galaxies > 0 for entry in result.entries)


def test_fig_7_is_what_the_run_says(suite):
    out, _ = suite
    (folder,) = out.glob("survey-*")
    run = read_shards(folder / "run")
    relative = run["optimal_flux"].to_numpy().astype(float) / look_up_truth(run, folder / "truth.parquet") - 1
    (entry,) = [one for one in read_results(out)["fluxes"].entries if one.names == ("Fig. 7",)]
    found = entry.data["bias, error, scatter, error"]["optimal"]["all"]
    # The run has some rows that flags leave out.
    assert found[0] == pytest.approx(np.nanmedian(relative), abs=0.02)
    assert found[2] == pytest.approx(np.diff(np.nanquantile(relative, [0.16, 0.84]))[0] / 2, rel=0.1)
    priors = entry.data["bias, error, scatter, error"]
    assert priors["generic × prior"]["all"][2] < 0.6 * priors["generic"]["all"][2]


def test_truth_agrees_with_the_spectra_and_wrong_fluxes_would_not(suite):
    (entry,) = read_results(suite[0])["spectra"].entries
    true = entry.data["true fluxes"]
    assert abs(true["bias"]) < 0.05
    assert true["scatter"] < 0.15


def test_a_rerun_makes_what_is_missing_and_nothing_else(suite, monkeypatch):
    out, text = suite
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(paper, "make_survey", refuse)
    assert make_paper(out, SETTINGS) == text
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.json")} == before
    # Another size is another study.
    with pytest.raises(AssertionError, match="made again"):
        make_paper(out, SETTINGS.model_copy(update={"survey_side": 330}))


def test_unknown_models_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(LumosConfigError, match="nosuch"):
        make_paper(tmp_path / "out", SETTINGS.model_copy(update={"models": ("nosuch",)}))
    assert not list(tmp_path.glob("out/survey*"))
