"""Metrics, charts and the page of `lumos validate`: closed forms, few rows, hostile names, other truths."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from scipy.stats import norm

from lumos.errors import LumosDataError
from lumos.photometry.measured import open_run
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.report.page import Page, write_page
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.statistics import sigma68
from lumos.surveys import load_survey
from lumos.validate.evidence.again import objects_again
from lumos.validate.evidence.chart import MapChart
from lumos.validate.evidence.charts import bias_charts, calibration_charts, group_charts, sky_charts
from lumos.validate.evidence.flagged import flag_metrics, flag_table, recall_metrics, recall_table
from lumos.validate.evidence.gallery import choose_exhibits
from lumos.validate.evidence.known import KnownFluxes, PullRows, read_known
from lumos.validate.evidence.maps import pull_map
from lumos.validate.evidence.metrics import Metric, known_metrics
from lumos.validate.evidence.pulls import figures_by_kind, pull_figures
from lumos.workflows.validate import validate_runs

SMALL = Path(__file__).parents[2] / "small_survey.yaml"


def known_rows(n, rng, *, width=1.0, shift=0.0, near=0.3):
    """Return Gaussian fluxes whose errors are too small by a factor, and off by a shift in errors."""
    truth = np.exp(rng.uniform(0, 6, n))
    pull = shift + width * rng.standard_normal(n)
    rows = PullRows(truth + pull, np.ones(n), pull, norm.cdf(-pull), pull)
    nothing = np.full(n, np.nan)
    by = {
        "signal": truth,
        "neighbour": np.where(rng.uniform(size=n) < near, 1.0, 5.0),
        "contamination": np.zeros(n),
        "psf_fwhm": rng.uniform(0.8, 1.2, n),
        "half_light_radius": rng.uniform(0.1, 1, n),
        "x": nothing,
        "y": nothing,
    }
    return KnownFluxes(
        np.arange(n), *[np.full(n, name) for name in ("a", "1", "r", "")], truth, np.zeros(n, dtype=np.int64), by,
        {"optimal": rows},
    )  # fmt: skip


def all_charts(known, rng, bands=("r",)):
    names = list(known.estimators)
    charts = [*calibration_charts(known.estimators), *bias_charts(known, names, bands, rng)]
    charts += [*group_charts(known, names[0], bands, rng), *sky_charts(known, names), *pull_map(known, names)]
    return {chart.key: chart for chart in charts}


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
    assert all_charts(known_rows(20, rng), rng) == {}
    assert np.isnan(pull_figures(np.zeros(29), np.full(29, 0.5)).pull)
    lost = known_rows(300, rng)
    nothing = np.full(300, np.nan)
    empty = KnownFluxes(**{**vars(lost), "estimators": {"optimal": PullRows(*[nothing] * 5)}})
    assert all(metric.passed is None for metric in known_metrics(empty, "optimal", rng))
    assert pull_figures(nothing, nothing).n_lost == 300


def test_repeated_objects_are_one(rng):
    values = rng.standard_normal(2000)
    once = objects_again(np.arange(2000), lambda i: [float(np.mean(values[i]))], rng)[0]
    assert once == pytest.approx(1 / np.sqrt(2000), rel=0.25)
    # Four equal rows of each object say no more than one.
    owner, four = np.repeat(np.arange(2000), 4), np.repeat(values, 4)
    again = objects_again(owner, lambda i: [float(np.mean(four[i])), float(len(i))], rng)
    assert again[0] == pytest.approx(once, rel=0.25)
    assert again[1] == 0
    assert np.isnan(objects_again(np.arange(9), lambda i: [float(len(i))], rng)).all()
    # Of unequal numbers of rows the total varies.
    owner = np.repeat(np.arange(100), np.arange(100) % 3 + 1)[::-1]
    assert objects_again(owner, lambda i: [float(len(i))], rng)[0] == pytest.approx(10 * np.sqrt(2 / 3), rel=0.3)


def test_charts_hold_the_numbers(rng):
    known = known_rows(4000, rng, width=1.2)
    charts = all_charts(known, rng)
    assert {"pit", "coverage", "bias_magnitude", "pull_magnitude", "pull_psf_fwhm", "pull_signal"} <= set(charts)
    pull, coverage, distance = charts["pull_magnitude"].panels
    np.testing.assert_allclose(pull.series[1].y, 1.2, atol=0.15)
    for series, share in zip(coverage.series, (0.5, 0.6827, 0.95), strict=True):
        expected = 100 * (2 * norm.cdf(norm.ppf(0.5 + share / 2) / 1.2) - 1 - share)
        np.testing.assert_allclose(series.y, expected, atol=4 * max(series.error))
    # The largest distance between a Gaussian of width 1.2 and one of width 1.
    grid = np.linspace(-4, 4, 999)
    wide = np.max(np.abs(norm.cdf(grid) - norm.cdf(grid / 1.2)))
    assert np.mean(distance.series[0].y) > wide
    assert distance.series[1].y[0] == pytest.approx(1.358 / np.sqrt(500), rel=0.02)
    bias, scatter = charts["bias_magnitude"].panels
    # Errors are 1, fluxes 1 to 400: the scatter in per cent follows the magnitude.
    flux = 10 ** (0.4 * (31.4 - np.array(scatter.series[0].x)))
    np.testing.assert_allclose(scatter.series[0].y, 120 / flux, rtol=0.35)
    assert abs(bias.series[0].y[0]) < 1
    assert np.mean(charts["pit"].series[0].y) == pytest.approx(1)
    assert min(charts["coverage"].series[0].y) == pytest.approx(-8, abs=3)
    # All of one place, or of no known place: no bins. One band: nothing to compare.
    assert not {"pull_x", "pull_band", "pull_map"} & set(charts)


def test_groups_do_not_select_by_noise(rng):
    known = known_rows(20000, rng)
    for chart in group_charts(known, "optimal", ["r"], rng):
        median, width = chart.panels[0].series
        # In bins of the true flux noise has no side.
        assert np.max(np.abs(median.y)) < 5 * max(median.error), chart.key
        assert np.max(np.abs(np.array(width.y) - 1)) < 5 * max(width.error), chart.key


def test_bands_keep_their_order(rng):
    known = known_rows(900, rng)
    known = KnownFluxes(**{**vars(known), "band": np.array(["z", "g", "u"])[np.arange(900) % 3]})
    charts = all_charts(known, rng, bands=("u", "g", "z", "y"))
    assert charts["pull_band"].ticks == ("u", "g", "z")
    assert charts["bias_band"].panels[0].series[0].x == (0.0, 1.0, 2.0)


def test_maps_show_where_fluxes_are_off(rng):
    known = known_rows(20000, rng)
    x, y = rng.uniform(0, 2000, (2, 20000))
    rows = known.estimators["optimal"]
    off = PullRows(rows.flux, rows.flux_err, rows.pull + (x > 1000), rows.pit, rows.pull)
    known = KnownFluxes(**{**vars(known), "by": {**known.by, "x": x, "y": y}, "estimators": {"optimal": off}})
    (chart,) = pull_map(known, ["optimal"])
    cells = np.array(chart.maps["optimal"], dtype=float)
    assert cells.shape == (8, 8)
    np.testing.assert_allclose(cells[:, :4].mean(), 0, atol=0.05)
    np.testing.assert_allclose(cells[:, 4:].mean(), 1, atol=0.05)
    assert pull_map(known.take(np.arange(100)), ["optimal"]) == []
    # A corner without fluxes has no value.
    bare = known.take(np.flatnonzero((x > 500) | (y > 500)))
    assert pull_map(bare, ["optimal"])[0].maps["optimal"][0][0] is None


def test_places_of_nothing_are_judged_by_themselves(rng):
    known = known_rows(2000, rng)
    assert "sky_bias" not in by_key(known_metrics(known, "optimal", rng))
    truth = np.where(np.arange(2000) < 500, 0.0, known.truth)
    pull = known.estimators["optimal"].pull + 0.5 * (truth == 0)
    rows = PullRows(truth + pull, np.ones(2000), pull, norm.cdf(-pull), pull)
    by = {**known.by, "signal": truth}
    known = KnownFluxes(**{**vars(known), "truth": truth, "by": by, "estimators": {"optimal": rows}})
    found = by_key(known_metrics(known, "optimal", rng))
    assert found["sky_bias"].passed is False
    assert found["sky_bias"].value == pytest.approx(0.5, abs=0.2)
    assert found["sky_bias"].n == 500
    chart = all_charts(known, rng)["sky"]
    x, density = np.array(chart.series[0].x), np.array(chart.series[0].y)
    assert np.sum(x * density) / np.sum(density) == pytest.approx(0.5, abs=0.15)
    kinds = figures_by_kind(known)["optimal"]
    assert kinds["true flux 0"].n == 500
    # They are no faint galaxies.
    assert kinds["S/N < 3"].n == np.sum((truth > 0) & (known.by["signal"] < 3))


def test_flags_are_judged_by_what_they_find(rng):
    known = known_rows(2000, rng)
    number = np.arange(2000)
    pull = np.where(number < 40, 9.0, known.estimators["optimal"].pull)
    # Cosmic rays: 30 of 40 wrong ones, and every tenth of the rest.
    flags = np.where((number < 30) | ((number >= 40) & (number % 10 == 0)), 64, 0)
    rows = PullRows(*[np.where(flags > 0, np.nan, one) for one in (pull, pull, pull, norm.cdf(-pull))], pull)
    signal = np.where(number < 1000, 50.0, 2.0)
    known = KnownFluxes(
        **{**vars(known), "flags": flags, "by": {**known.by, "signal": signal}, "estimators": {"optimal": rows}}
    )
    (metric,) = recall_metrics(known, "optimal")
    good = int(np.sum((number < 1000) & (np.abs(pull) < 3)))
    false = int(np.sum((number < 1000) & (np.abs(pull) < 3) & (flags > 0)))
    assert metric.n == good
    assert metric.value == pytest.approx(false / good)
    line = recall_table(known, ["optimal"]).splitlines()[2].split()
    assert line[4:7] == ["40", "30", "(75.0%)"]
    assert line[7:9] == [str(good), str(false)]
    assert "too few" in recall_table(known.take(np.arange(50, 60)), ["optimal"])
    assert recall_metrics(known.take(np.arange(20)), "optimal")[0].passed is None


def test_flags_are_counted():
    metrics = by_key(flag_metrics(np.array([0, 1, 65, 3]), np.array([1.0, np.nan, 2, 3])))
    assert metrics["lost"].value == 0.25
    assert metrics["flagged"].value == 0.5
    lines = [line.split() for line in flag_table(np.array([0, 1, 65, 3])).splitlines()[1:]]
    assert lines == [
        ["EDGE", "3", "75.00%"], ["OFF_DATA", "1", "25.00%"], ["COSMIC_RAY", "1", "25.00%"], ["none", "1", "25.00%"]
    ]  # fmt: skip
    assert np.isnan(by_key(flag_metrics(np.zeros(0, dtype=int), np.zeros(0)))["lost"].value)
    assert flag_table(np.zeros(0, dtype=int)) == "no rows"


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
    known = known_rows(400, rng)
    chart = all_charts(known, rng)["pull_magnitude"]
    panels = tuple(replace(panel, label=evil, series=panel.series) for panel in chart.panels)
    named = replace(chart, title=evil, x_label=evil, text=evil, panels=panels, ticks=(evil, "$x^2$", "_b"))
    many = MapChart("m", evil, evil, evil, 0.0, (0.0, 1.0, 2.0), (0.0, 1.0), {evil: ((1.0, None),)}, 1.0)
    page = Page(evil, metrics, {evil: [named, many]}, None, tables={evil: evil}, facts={evil: evil})
    write_page(tmp_path / "a.html", page)
    text = (tmp_path / "a.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert "script" not in tags.found
    assert tags.found.count("svg") == 2
    assert not tags.outside
    assert "$x^2$" in text
    assert "1 of 2 requirements are not met" in text
    write_page(tmp_path / "b.html", Page("empty", [], {}))
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
    assert set(alone) == {"lost", "flagged", "outside", "repeats"}
    assert {"repeats_distribution", "ratios"} <= {
        one["key"] for one in json.loads((tmp_path / "alone" / "charts.json").read_text())
    }
    assert 0.7 < alone["repeats"].value < 1.4
    figures = figures_by_kind(read_known([measured / "run"], measured / "truth.parquet"))
    assert set(figures) == {"optimal", "aperture"}


def test_hostile_names_of_a_run_are_text(measured, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    folder = tmp_path / evil.replace("/", "")
    folder.mkdir()
    for path in (measured / "exposures").glob("*.fits"):
        with fits.open(path) as hdus:
            for hdu in hdus[:2]:
                hdu.header["FILTER"] = "<b>r</b>"
            hdus.writeto(folder / f"<script>{path.name}", checksum=True)
    table = pq.read_table(measured / "parent.parquet")
    names = pa.array([f"{evil}{number}" for number in table["object_id"].to_pylist()])
    at = table.column_names.index("object_id")
    pq.write_table(table.set_column(at, "object_id", names), folder / "<u>parent.parquet")
    survey = load_survey("generic")
    exposures = sorted(folder.glob("*.fits"))
    measure_run(
        exposures, folder / "<u>parent.parquet", folder / "run", survey, MeasureSettings(estimators=("optimal",))
    )
    rows = read_shards(folder / "run", ["object_id", "band", "flux"])
    assert set(rows["band"].to_pylist()) == {"b_r_b"}
    pq.write_table(rows, folder / "truth.parquet")
    page = validate_runs([folder / "run"], tmp_path / "out", truth=folder / "truth.parquet")
    assert page.gallery is not None
    tags = Tags()
    tags.feed((tmp_path / "out" / "report.html").read_text())
    assert not {"script", "u"} & set(tags.found)
    # The gallery, and nothing from outside.
    assert tags.found.count("img") == 1
    assert all(one.startswith("data:image/png") for one in tags.outside)


def test_truth_of_other_objects_is_refused(measured, tmp_path):
    pq.write_table(pa.table({"object_id": [10**9], "flux": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(LumosDataError, match=r"other\.parquet: none of its objects was measured"):
        validate_runs([measured / "run"], tmp_path / "out", truth=tmp_path / "other.parquet")
    pq.write_table(pa.table({"object_id": [1], "mag": [1.0]}), tmp_path / "bare.parquet")
    with pytest.raises(LumosDataError, match=r"bare\.parquet: no column 'flux'"):
        validate_runs([measured / "run"], tmp_path / "out", truth=tmp_path / "bare.parquet")
    with pytest.raises(LumosDataError, match="not a run"):
        validate_runs([tmp_path], tmp_path / "out")
