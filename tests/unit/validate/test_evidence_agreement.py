"""Evidence of a page that needs no truth: repeats, estimators beside each other, colours; and coadds."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import norm

from helpers.flux_runs import exposure, write_run
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosDataError, LumosValueError
from lumos.flags import Flag
from lumos.pdf import GaussianMixture, TruncatedMixture
from lumos.photometry.measured import open_run
from lumos.statistics import pit_ks, sigma68
from lumos.surveys import load_survey
from lumos.validate.evidence.agreement import comparison_charts, read_pairs, repeat_charts, repeat_metric, repeat_table
from lumos.validate.evidence.coadded import COADD, read_known_coadd
from lumos.validate.evidence.colours import ObjectFluxes, colour_charts
from lumos.validate.evidence.gallery import pdf_curves
from lumos.validate.evidence.known import read_known
from lumos.validate.evidence.pdfs import cut_rows
from lumos.workflows.validate import validate_runs

N = 600
MODEL = {"name": "any", "kind": "likelihood", "sha256": "0" * 64, "cut_from": None}


def make_run(folder, rng, *, width=1.0, bands=("r", "g"), catalog_exposure=None, model=None, spoil=None):
    """Return a run of three exposures a band, the true fluxes, and the catalogue's magnitudes.

    ``lumos`` fluxes have half the noise of ``optimal`` ones.
    """
    ref_mag = rng.uniform(19, 23, N)
    truth = {band: 10 ** (0.4 * (31.4 - ref_mag)) * (1 + number) for number, band in enumerate(bands)}
    parts = []
    for band in bands:
        for turn in range(3):
            error = 0.2 * np.median(truth[band])
            flux = truth[band] + width * error * rng.standard_normal(N)
            name = f"{band}_{turn}"
            flags = int(Flag.CATALOG_EXPOSURE) if name == catalog_exposure else 0
            one = exposure(name, np.arange(N), flux, error, band=band, flags=flags)
            one["x"], one["y"] = rng.uniform(0, 2000, (2, N))
            one["lumos_flux"] = truth[band] + 0.5 * error * rng.standard_normal(N)
            one["lumos_flux_err"] = np.full(N, 0.5 * error)
            if name == catalog_exposure:
                one["optimal_flux"] = one["optimal_flux"] + 50 * error
            if spoil is not None:
                spoil(one)
            parts.append(one)
    run = write_run(folder / "run", parts, ref_mag, model=model)
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    settings |= {"survey": load_survey("generic").model_dump(mode="json"), "psf": None}
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))
    table = {
        "object_id": np.tile(np.arange(N), len(bands)),
        "band": np.repeat(bands, N),
        "flux": np.concatenate([truth[band] for band in bands]),
    }
    pq.write_table(pa.table(table), folder / "truth.parquet")
    return run, truth, ref_mag


@pytest.mark.parametrize("width", [1.0, 1.5])
def test_repeats_tell_the_width_of_errors(tmp_path, rng, width):
    run = open_run(make_run(tmp_path, rng, width=width)[0])
    pairs = read_pairs(run, ["optimal"])
    assert len(pairs["optimal"].difference) == 2 * 3 * N
    metric = repeat_metric(pairs["optimal"], rng)
    assert abs(metric.value - width) < 4 * metric.error
    assert 0.005 < metric.error < 0.05
    assert metric.passed is (width == 1.0)
    charts = {chart.key: chart for chart in repeat_charts(pairs, ["g", "r"], rng)}
    assert set(charts) == {"repeats_magnitude", "repeats_band", "repeats_distribution", "repeats_map"}
    assert charts["repeats_band"].ticks == ("g", "r")
    spread, tails = charts["repeats_magnitude"].panels
    assert np.max(np.abs(np.array(spread.series[0].y) - width) / spread.series[0].error) < 4
    # By chance 0.27 % of pairs differ by more than 3 errors, or 4.6 % of those half as wide again.
    assert np.mean(tails.series[0].y) == pytest.approx(4.55 if width > 1 else 0.27, abs=1)
    x, density = np.array(charts["repeats_distribution"].series[0].x), charts["repeats_distribution"].series[0].y
    assert np.sqrt(np.nansum(density * x**2) / np.nansum(density)) == pytest.approx(width, rel=0.1)
    cells = np.array(charts["repeats_map"].maps["optimal"], dtype=float)
    assert np.mean(cells) == pytest.approx(width, abs=0.05)
    assert repeat_table(pairs, rng).splitlines()[1].split()[:3] == ["optimal", str(6 * N), str(N)]


def test_the_exposure_of_the_catalogue_takes_no_part(tmp_path, rng):
    run = open_run(make_run(tmp_path, rng, catalog_exposure="g_1")[0])
    pairs = read_pairs(run, ["optimal"])["optimal"]
    assert (pairs.band == "g").sum() == N
    assert (pairs.band == "r").sum() == 3 * N
    assert sigma68(pairs.difference) < 1.2


def test_one_exposure_has_no_repeats(tmp_path, rng):
    error = np.ones(N)
    run = write_run(tmp_path / "run", [exposure("a", np.arange(N), rng.standard_normal(N) + 50, error)])
    assert read_pairs(open_run(run), ["optimal"]) == {}


def test_estimators_are_compared(tmp_path, rng):
    run = open_run(make_run(tmp_path, rng, model=MODEL)[0])
    charts = {chart.key: chart for chart in comparison_charts(run, ["lumos", "optimal"], ["g", "r"])}
    flux, error = charts["ratios"].panels
    np.testing.assert_allclose(flux.series[0].y, 1, atol=0.1)
    np.testing.assert_allclose(error.series[0].y, 0.5, atol=0.01)
    first, second = charts["signal_band"].series
    assert (first.name, second.name) == ("lumos", "optimal")
    np.testing.assert_allclose(np.array(first.y) / second.y, 2, atol=0.15)
    assert comparison_charts(run, ["optimal"], ["g", "r"]) == []


def fluxes_of(rng, error, *, shift=0.0, truth=True, n=4000):
    flux = np.column_stack([np.full(n, 100.0), np.full(n, 200.0)])
    noise = error * rng.standard_normal((n, 2)) + shift * np.array([error, 0])
    known = flux if truth else np.full_like(flux, np.nan)
    return ObjectFluxes(np.arange(n), ("g", "r"), {"a": (flux + noise, np.full((n, 2), error))}, known)


def test_widths_of_colours_are_those_of_their_noise(rng):
    charts = {chart.key: chart for chart in colour_charts(fluxes_of(rng, 2.0), np.full(4000, np.nan))}
    width = charts["colours"].panels[0].series[0].y[0]
    assert width == pytest.approx(2.5 / np.log(10) * np.hypot(0.02, 0.01), rel=0.05)
    assert charts["colours"].panels[1].series[0].y[0] == pytest.approx(1.96 * width, rel=0.07)
    x, density = np.array(charts["colour_g-r"].series[0].x), np.array(charts["colour_g-r"].series[0].y)
    assert np.sum(x * density) / density.sum() == pytest.approx(2.5 * np.log10(2), abs=0.005)
    median, spread = charts["colour_pulls"].panels
    assert median.series[0].y[0] == pytest.approx(0, abs=0.06)
    assert spread.series[0].y[0] == pytest.approx(1, abs=0.05)
    assert "colour_pulls" not in {one.key for one in colour_charts(fluxes_of(rng, 2.0, truth=False), np.zeros(4000))}


def test_faint_colours_are_not_selected(rng):
    charts = {chart.key: chart for chart in colour_charts(fluxes_of(rng, 120.0), np.full(4000, np.nan))}
    # A fifth of the blue fluxes is below 0: the range reaches colours without end.
    assert np.isnan(charts["colours"].panels[0].series[0].y[0])
    median, spread = charts["colour_pulls"].panels
    assert median.series[0].y[0] == pytest.approx(0, abs=0.06)
    assert spread.series[0].y[0] == pytest.approx(1, abs=0.05)
    shifted = {chart.key: chart for chart in colour_charts(fluxes_of(rng, 120.0, shift=1.0), np.full(4000, np.nan))}
    # Of the blue flux alone, whose error is 1 / hypot(1, 1/2) of all.
    assert shifted["colour_pulls"].panels[0].series[0].y[0] == pytest.approx(1 / np.hypot(1, 0.5), abs=0.06)
    few = ObjectFluxes(
        *[getattr(fluxes_of(rng, 2.0, n=20), name) for name in ("object_id", "bands", "fluxes", "truth")]
    )
    assert colour_charts(few, np.full(20, np.nan)) == []


def test_coadds_are_judged_like_exposures(tmp_path, rng):
    run, truth, _ = make_run(tmp_path, rng)
    coadd = tmp_path / "coadd.parquet"
    coadd_run([run], coadd, CoaddSettings(prior="none", repeat_errors=False))
    known = read_known_coadd(coadd, tmp_path / "truth.parquet", open_run(run))
    assert set(known.estimators) == {COADD, "mean of optimal"}
    for name, rows in known.estimators.items():
        assert sigma68(rows.pull) == pytest.approx(1, abs=0.1), name
        assert np.mean(np.abs(rows.pit - 0.5) < 0.34) == pytest.approx(0.68, abs=0.05), name
    # Three exposures: an error that is smaller by the root of 3.
    error = 0.2 * np.median(truth["g"]) / np.sqrt(3)
    assert np.median(known.estimators[COADD].flux_err[known.band == "g"]) == pytest.approx(error, rel=0.1)
    page = validate_runs([run], tmp_path / "out", truth=tmp_path / "truth.parquet", coadd=coadd)
    keys = [metric.key for metric in page.metrics]
    assert {"bias", "coadd_bias", "coadd_pull", "repeats"} <= set(keys)
    charts = json.loads((tmp_path / "out" / "charts.json").read_text())
    assert {"coadd_pit", "coadd_pull_band", "coadd_bias_magnitude"} <= {one["key"] for one in charts}
    assert next(one for one in charts if one["key"] == "colours")["panels"][0]["series"][0]["name"] == COADD
    # Without truth its colours are shown.
    page = validate_runs([run], tmp_path / "alone", coadd=coadd)
    assert "Colours" in page.charts
    assert "coadd_bias" not in {metric.key for metric in page.metrics}


def test_coadds_of_other_objects_are_refused(tmp_path, rng):
    run, *_ = make_run(tmp_path, rng)
    coadd = tmp_path / "coadd.parquet"
    coadd_run([run], coadd, CoaddSettings(prior="none", repeat_errors=False))
    pq.write_table(pa.table({"object_id": [10**6], "flux": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(LumosDataError, match=r"other\.parquet: none of its objects is in .*coadd\.parquet"):
        read_known_coadd(coadd, tmp_path / "other.parquet", open_run(run))
    (tmp_path / "second").mkdir()
    write_run(tmp_path / "second" / "run", [exposure("a", np.arange(5), np.ones(5), 1.0)], np.full(5, 22.0))
    with pytest.raises(LumosDataError, match=r"object_id \d+ is not in the catalogue of .*second.run"):
        read_known_coadd(coadd, tmp_path / "truth.parquet", open_run(tmp_path / "second" / "run"))
    with pytest.raises(LumosDataError, match="this is no coadd"):
        validate_runs([run], tmp_path / "out", coadd=next((run / "shards").glob("*.parquet")))


def test_a_run_without_any_flux_gives_a_page(tmp_path, rng):
    nothing = np.full(N, np.nan)

    def spoil(one):
        for name in one:
            if name.startswith(("optimal", "lumos", "pdf", "flux")):
                one[name] = nothing if one[name].ndim == 1 else nothing[:, None]
        one["flags"] = np.full(N, int(Flag.TOO_MASKED))
        one["x"] = one["y"] = nothing

    run, *_ = make_run(tmp_path, rng, spoil=spoil)
    for truth in (None, tmp_path / "truth.parquet"):
        page = validate_runs([run], tmp_path / "out", truth=truth)
        judged = {metric.key: metric.passed for metric in page.metrics}
        assert judged.pop("lost") is False
        assert judged.pop("flagged") is False
        judged.pop("outside")
        assert set(judged.values()) <= {None}
        assert page.charts == {}
        assert page.gallery is None
        text = (tmp_path / "out" / "metrics.json").read_text()
        assert "NaN" not in text
        json.loads(text)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"object_id": ["a", "b"], "flux": [1.0, 2.0]}, "column 'object_id' is of type string"),
        ({"object_id": [1, 2], "flux": ["1", "2"]}, "column 'flux' is of type string"),
        ({"object_id": [1, 2]}, "no column 'flux'"),
    ],
)
def test_tables_that_hold_no_truth_are_named(tmp_path, rng, columns, message):
    run, *_ = make_run(tmp_path, rng)
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(LumosDataError, match=rf"bad\.parquet: {message}"):
        validate_runs([run], tmp_path / "out", truth=tmp_path / "bad.parquet")


def test_contradicting_sources_of_truth_are_refused(tmp_path, rng):
    run, *_ = make_run(tmp_path, rng)
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(LumosDataError, match=r"text\.parquet: not a Parquet table"):
        validate_runs([run], tmp_path / "out", truth=tmp_path / "text.parquet")
    with pytest.raises(LumosValueError, match="none where --injected is given"):
        validate_runs([run], tmp_path / "out", truth=tmp_path / "truth.parquet", injected=tmp_path)
    with pytest.raises(LumosDataError, match="not a folder of `lumos inject`"):
        validate_runs([run], tmp_path / "out", injected=tmp_path / "run")
    with pytest.raises(LumosValueError, match="at least one folder"):
        validate_runs([], tmp_path / "out")


def test_cut_pdfs_are_cut_on_the_page(tmp_path, rng):
    # Fluxes of an exponential-like law, as components below 0 that are cut at 0 are.
    mean, std, n = -100.0, 100.0, 4000
    cut = TruncatedMixture(np.ones((n, 1)), np.full((n, 1), mean), np.full((n, 1), std))
    truth = cut.quantile(rng.uniform(size=(n, 1)))[:, 0]
    one = exposure("a", np.arange(n), np.full(n, 40.0), 40.0)
    one["pdf_means"], one["pdf_stds"] = np.full((n, 1), mean), np.full((n, 1), std)
    # The first half is brighter than the magnitude from which the model cuts.
    ref_mag = np.where(np.arange(n) < n // 2, 20.0, 22.0)
    run = write_run(tmp_path / "run", [one], ref_mag, model=MODEL | {"cut_from": 20.5})
    pq.write_table(pa.table({"object_id": np.arange(n), "flux": truth}), tmp_path / "truth.parquet")
    known = read_known([run], tmp_path / "truth.parquet")
    pit = known.estimators["lumos"].pit
    assert pit_ks(pit[n // 2 :])[0] < 1.63 / np.sqrt(n / 2)
    # As if it were uncut, all truths are in the upper sixth.
    assert pit[: n // 2].min() > 0.84
    # Estimators beside the network are never cut.
    np.testing.assert_allclose(known.estimators["optimal"].pit, norm.cdf((truth - 40) / 40), atol=1e-5)
    np.testing.assert_array_equal(cut_rows(open_run(run), np.array([20.0, 20.5, np.nan])), [False, True, True])


@pytest.mark.parametrize("cut", [False, True])
def test_curves_of_the_gallery_hold_all_probability(cut):
    parts = (np.array([[0.3, 0.7]]), np.array([[-20.0, 60.0]]), np.array([[30.0, 25.0]]))
    flux, density, components = pdf_curves(parts, 50.0, cut=cut)
    assert np.trapezoid(density, flux) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(components.sum(axis=0), density)
    # Each component keeps its weight when it is cut.
    np.testing.assert_allclose(np.trapezoid(components, flux, axis=1), parts[0][0], atol=0.01)
    expected = TruncatedMixture(*parts) if cut else GaussianMixture(*parts)
    np.testing.assert_allclose(density, expected.pdf(flux[None])[0])
    assert (density[flux < 0].max() == 0) == cut
