"""Figures of the paper beside ours: they survive JSON, are complete, and say what the studies found."""

import json

import numpy as np
import pytest

from lumos.errors import LumosDataError
from lumos.report.paper import format_goals
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.metrics import Metric
from lumos.validate.paper.blends import blend_entries
from lumos.validate.paper.catalogs import catalog_entries
from lumos.validate.paper.contents import CONTENTS
from lumos.validate.paper.entry import Entry, Table, percent
from lumos.validate.paper.result import StudyResult, read_results
from lumos.validate.paper.settings import STUDIES
from lumos.validate.studies.blends import CASES, Blends, Targets
from lumos.validate.studies.robustness import PARAMETERS, Robustness

NAN = float("nan")


def entry():
    series = (Series("a", (1.0, 2.0), (3.0, NAN), (0.1, 0.2)),)
    chart = Chart("fig99", "Fig. 99", "Text.", "x", (Panel("y", series, (1.0,)),))
    metric = Metric("key", "words", NAN, 0.1, 0.0, 1.0, 5)
    table = Table(("a", "b"), (("1", "2|3"),))
    return Entry(("Fig. 99",), "title", 7, "paper", "ours", (table,), (chart,), (metric,), {"n": np.arange(2)})


def test_entries_survive_json(tmp_path):
    StudyResult("spectra", {"lumos": "1"}, 3, (entry(),)).write(tmp_path)
    text = (tmp_path / "spectra.json").read_text()
    assert "NaN" not in text
    back = read_results(tmp_path)["spectra"]
    (one,) = back.entries
    assert (back.made_with, back.seconds) == ({"lumos": "1"}, 3)
    assert one.charts[0].series[0].y[0] == 3.0
    assert np.isnan(one.charts[0].series[0].y[1])
    assert np.isnan(one.metrics[0].value)
    assert one.metrics[0].passed is None
    assert one.tables == entry().tables
    assert one.as_dict() == entry().as_dict()
    assert json.loads(text)["entries"][0]["data"] == {"n": [0, 1]}


@pytest.mark.parametrize("text", ['{"made_with": {}}', '{"made_with": {}, "seconds": 1, "entries": [{"names": 3}]}'])
def test_damaged_results_are_named(tmp_path, text):
    (tmp_path / "blends.json").write_text(text)
    with pytest.raises(LumosDataError, match=r"blends\.json: damaged"):
        read_results(tmp_path)


def test_tables_are_markdown():
    assert entry().tables[0].markdown() == "| a | b |\n| --- | --- |\n| 1 | 2\\|3 |"
    assert (percent(0.0123, 0.004), percent(-0.5), percent(NAN)) == ("+1.2% ± 0.4%", "-50.0%", "–")


def test_no_figure_of_the_paper_is_left_out():
    assert {f"Fig. {number}" for number in range(1, 26)} | {"Table 1"} <= set(CONTENTS)
    for _, study, reason in CONTENTS.values():
        assert (study in STUDIES) != bool(reason)


def blended(bias, pull, rng, n=20_000):
    """Targets that are off by a known amount beyond 1 FWHM, and much more below."""
    distance = rng.uniform(0, 6, n)
    error = 0.1
    relative = np.where(distance < 1, 5.0, bias) + error * pull * rng.standard_normal(n)
    targets = Targets(relative, relative / error, rng.uniform(size=n))
    offsets = {case: dict.fromkeys(("aperture", "scene", "generic"), targets) for case in CASES}
    curve = {case: {name: np.array([[0.1, 0.01], [0.2, 0.01]]) for name in of} for case, of in offsets.items()}
    return Blends(distance, offsets, np.array([20.0, 21.0]), np.array([1.0, 2.0]), curve, curve, 3)


@pytest.mark.parametrize(("bias", "pull", "passed"), [(0.01, 1.0, (True, True)), (0.03, 1.2, (False, False))])
def test_goals_of_blends_are_judged_beyond_one_fwhm(rng, bias, pull, passed):
    eight, nine = blend_entries(blended(bias, pull, rng), ["generic"])
    goals = {metric.key: metric.passed for metric in eight.metrics}
    assert (goals["blends_generic_1_inf_bias"], goals["blends_generic_1_inf_pull"]) == passed
    assert (goals["blends_scene_2_3_bias"], goals["blends_scene_2_3_pull"]) == passed
    assert not any("_0_" in key or "aperture" in key for key in goals)
    assert eight.galaxies == 20_000
    assert nine.galaxies == 3 * 4
    assert nine.tables[0].rows[0][2] == "+10.0% ± 1.0%"


def test_few_targets_are_not_judged(rng):
    eight, _ = blend_entries(blended(0.5, 1.0, rng, n=40), ["generic"])
    assert {metric.passed for metric in eight.metrics if metric.n < 30} == {None}


def test_table_of_wrong_catalogues_has_the_papers_beside():
    values = dict(zip(PARAMETERS, (15.0, 123.0, 11.0, 55.0, 0.25), strict=True))
    study = Robustness(values, dict.fromkeys(PARAMETERS, 0.5), dict.fromkeys(PARAMETERS, 0.05))
    table, correlations = catalog_entries({"aperture": study, "lumos": study}, "/models/mine")
    assert table.tables[0].rows[0] == (
        "aperture", "15 % (21), 0.050", "123 % (59), 0.050", "11 % (19), 0.050", "55 % (1), 0.050", "0.2 % (1), 0.050",
    )  # fmt: skip
    assert table.tables[0].rows[1][0] == "mine"
    assert table.tables[0].rows[1][-1] == "0.2 % (–), 0.050"
    assert correlations.tables[0].rows[0][1] == "+0.50"


def test_goals_are_met_missed_or_within_errors():
    def line(value, error):
        return format_goals([Metric("key", "bias", value, error, -0.02, 0.02, 100)])

    assert line(0.01, 0.005) == "met: bias 0.010 ± 0.005; goal -0.02 to 0.02"
    assert line(0.03, 0.006).startswith("met within two errors: bias 0.030 ± 0.006")
    assert line(0.03, 0.004).startswith("NOT MET")
    assert line(0.03, NAN) == "NOT MET: bias 0.030; goal -0.02 to 0.02"
    assert line(NAN, NAN).startswith("too few")
