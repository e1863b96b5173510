"""Metrics, charts and the page of `lumos validate`: closed forms, few rows, hostile names, other truths."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

from lumos.errors import LumosDataError
from lumos.photometry.measured import open_run
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.report.page import Page, write_page
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.statistics import sigma68
from lumos.surveys import load_survey
from lumos.validate.evidence.charts import known_charts
from lumos.validate.evidence.gallery import choose_exhibits
from lumos.validate.evidence.known import KnownFluxes, PullRows, read_known
from lumos.validate.evidence.metrics import Metric, flag_metrics, known_metrics, objects_again
from lumos.validate.evidence.pulls import figures_by_kind, pull_figures
from lumos.workflows.validate import validate_runs

SMALL = Path(__file__).parents[2] / "small_survey.yaml"


def known_rows(n, rng, *, width=1.0, shift=0.0, near=0.3):
    """Return Gaussian fluxes whose errors are too small by a factor, and off by a shift in errors."""
    truth = np.exp(rng.uniform(0, 6, n))
    pull = shift + width * rng.standard_normal(n)
    rows = PullRows(truth + pull, np.ones(n), pull, norm.cdf(-pull))
    nothing = np.full(n, np.nan)
    by = {
        "neighbour": np.where(rng.uniform(size=n) < near, 1.0, 5.0),
        "contamination": np.zeros(n),
        "psf_fwhm": rng.uniform(0.8, 1.2, n),
        "half_light_radius": rng.uniform(0.1, 1, n),
        "x": nothing,
    }
    return KnownFluxes(
        np.arange(n), *[np.full(n, name) for name in ("a", "1", "r", "")], truth, np.zeros(n, dtype=np.int64), by,
        {"optimal": rows},
    )  # fmt: skip


def by_key(metrics):
    return {metric.key: metric for metric in metrics}


def test_true_errors_pass_and_wrong_ones_fail(rng):
    good = by_key(known_metrics(known_rows(4000, rng), "optimal", rng))
    assert all(metric.passed for metric in good.values())
    # The error of σ68 of n Gaussians is 1.19 / sqrt(2 n).
    assert good["pull"].error == pytest.approx(1.19 / np.sqrt(8000), rel=0.3)
    assert good["bias"].error == pytest.approx(1.25 / np.sqrt(4000), rel=0.3)
    wide = by_key(known_metrics(known_rows(4000, rng, width=1.3), "optimal", rng))
    assert wide["pull"].value == pytest.approx(1.3, abs=0.06)
    failed = {key for key, metric in wide.items() if metric.passed is False}
    assert {"pull", "within50", "within68", "within95", "pit_ks", "near_pull"} <= failed
    assert wide["within68"].value == pytest.approx(2 * norm.cdf(1 / 1.3) - 1, abs=0.03)
    off = by_key(known_metrics(known_rows(4000, rng, shift=0.5), "optimal", rng))
    assert off["bias"].passed is False
    assert off["pull"].passed
    assert off["pit_ks"].value == pytest.approx(2 * norm.cdf(0.25) - 1, abs=0.03)


def test_few_rows_are_said_and_not_judged(rng):
    few = known_metrics(known_rows(20, rng), "optimal", rng)
    assert all(metric.passed is None and np.isnan(metric.value) for metric in few)
    assert few[0].as_dict()["value"] is None
    assert known_charts(known_rows(20, rng), ["optimal"], rng)[0].series == ()
    assert np.isnan(pull_figures(np.zeros(29), np.full(29, 0.5)).pull)
    lost = known_rows(300, rng)
    nothing = np.full(300, np.nan)
    empty = KnownFluxes(**{**vars(lost), "estimators": {"optimal": PullRows(nothing, nothing, nothing, nothing)}})
    assert all(metric.passed is None for metric in known_metrics(empty, "optimal", rng))
    assert pull_figures(nothing, nothing).n_lost == 300


def test_repeated_objects_are_one(rng):
    values = rng.standard_normal(2000)
    once = objects_again(np.arange(2000), lambda i: float(np.mean(values[i])), rng)
    # Four equal rows of each object say no more than one.
    owner, four = np.repeat(np.arange(2000), 4), np.repeat(values, 4)
    assert objects_again(owner, lambda i: float(np.mean(four[i])), rng) == pytest.approx(once, rel=0.25)
    assert np.isnan(objects_again(np.arange(9), lambda i: float(len(i)), rng))


def test_charts_hold_the_numbers(rng):
    known = known_rows(4000, rng, width=1.2)
    charts = {chart.key: chart for chart in known_charts(known, ["optimal"], rng)}
    assert {"pit", "coverage", "flux_bias", "flux_scatter", "pull_magnitude", "pull_psf_fwhm"} <= set(charts)
    width = charts["pull_magnitude"].series[1]
    np.testing.assert_allclose(width.y, 1.2, atol=0.15)
    assert np.mean(charts["pit"].series[0].y) == pytest.approx(1)
    assert min(charts["coverage"].series[0].y) == pytest.approx(-0.08, abs=0.03)
    # All of one place, or of no known place: no bins.
    assert "pull_x" not in charts


def test_flags_are_counted():
    metrics, shares = flag_metrics(np.array([0, 1, 1, 3]), np.array([1.0, np.nan, 2, 3]))
    assert by_key(metrics)["lost"].value == 0.25
    assert sorted(shares.values()) == [0.25, 0.75]
    assert np.isnan(by_key(flag_metrics(np.zeros(0, dtype=int), np.zeros(0))[0])["lost"].value)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.outside = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.outside += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]


def test_hostile_names_are_text(tmp_path, rng):
    evil = "<script>alert(1)</script>\"'&"
    metrics = [Metric("a", evil, 1.0, 0.1, 0.0, 2.0, 50), Metric("b", "fails", 9.0, 0.1, 0.0, 2.0, 50)]
    charts = known_charts(known_rows(400, rng), ["optimal"], rng)
    named = [type(charts[0])(**{**vars(charts[0]), "title": evil, "x_label": evil, "text": evil})]
    write_page(tmp_path / "a.html", Page(evil, metrics, named, tables={evil: evil}, facts={evil: evil}))
    text = (tmp_path / "a.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert "script" not in tags.found
    assert tags.found.count("svg") == 1
    assert not tags.outside
    assert "1 of 2 requirements are not met" in text
    write_page(tmp_path / "b.html", Page("empty", [], []))
    assert "Too few rows" in (tmp_path / "b.html").read_text()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL)), folder)
    settings = MeasureSettings(estimators=("optimal", "aperture"))
    exposures = sorted((folder / "exposures").glob("*.fits"))
    measure_run(exposures, folder / "parent.parquet", folder / "run", load_survey("generic"), settings)
    return folder


def test_runs_are_judged_with_and_without_truth(measured, tmp_path):
    metrics = by_key(validate_runs([measured / "run"], tmp_path / "out", truth=measured / "truth.parquet").metrics)
    assert 0.8 < metrics["pull"].value < 1.6
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [one["key"] for one in stored] == list(metrics)
    assert json.loads((tmp_path / "out" / "charts.json").read_text())[0]["key"] == "pit"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "NaN" not in (tmp_path / "out" / "charts.json").read_text()
    assert "optimal" in page
    assert page.count("data:image/png;base64,") == 1
    known, run = read_known([measured / "run"], measured / "truth.parquet"), open_run(measured / "run")
    exhibits = choose_exhibits(run, known)
    assert len(exhibits) == 9
    assert [one.title.split(":")[0] for one in exhibits] == ["best"] * 3 + ["middle"] * 3 + ["worst"] * 3
    off = [abs(float(one.title.split("off by ")[1].split()[0])) for one in exhibits]
    assert max(off[:3]) <= min(off[6:])
    for one in exhibits:
        # What is left of the galaxy is noise; the PDF holds all probability.
        left = one.images["what is left"]
        assert sigma68(left[22:38, 22:38][np.isfinite(left[22:38, 22:38])]) < 2
        np.testing.assert_allclose(
            one.images["stamp"] - one.images["scene"], left, atol=1e-3 * np.nanmax(np.abs(one.images["stamp"]))
        )
        assert np.trapezoid(one.density, one.flux) == pytest.approx(1, abs=0.01)
    alone = by_key(validate_runs([measured / "run"], tmp_path / "alone").metrics)
    assert set(alone) == {"lost", "outside", "repeats"}
    assert 0.7 < alone["repeats"].value < 1.4
    figures = figures_by_kind(read_known([measured / "run"], measured / "truth.parquet"))
    assert set(figures) == {"optimal", "aperture"}


def test_truth_of_other_objects_is_refused(measured, tmp_path):
    pq.write_table(pa.table({"object_id": [10**9], "flux": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(LumosDataError, match=r"other\.parquet: none of its objects was measured"):
        validate_runs([measured / "run"], tmp_path / "out", truth=tmp_path / "other.parquet")
    pq.write_table(pa.table({"object_id": [1], "mag": [1.0]}), tmp_path / "bare.parquet")
    with pytest.raises(LumosDataError, match=r"bare\.parquet: no column 'flux'"):
        validate_runs([measured / "run"], tmp_path / "out", truth=tmp_path / "bare.parquet")
    with pytest.raises(LumosDataError, match="not a run"):
        validate_runs([tmp_path], tmp_path / "out")
