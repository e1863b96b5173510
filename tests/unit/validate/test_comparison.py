"""Two estimators of one run: ratios in closed form and by integration, what is left out, and the figures."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from helpers.flux_runs import exposure, write_catalog, write_run
from lumos.errors import LumosDataError, LumosValueError
from lumos.files import read_json
from lumos.flags import Flag
from lumos.report.repeats import draw_comparison, draw_repeats, plot_differences, plot_scatter
from lumos.validate.comparison import compare_estimators, format_comparison
from lumos.validate.repeats import HISTOGRAM_EDGES, repeat_table
from lumos.validate.repeats_table import mean_over_bands

EXAMPLE = Path(__file__).parents[3] / "examples" / "repeats.py"


def measured(rng, truth, snr, name="e0", **facts):
    """An exposure with independent noise for two estimators: `lumos` with half the error of `optimal`."""
    columns = exposure(name, np.arange(len(truth)), truth, truth / snr, **facts)
    for estimator, error in (("lumos", truth / snr / 2), ("optimal", truth / snr)):
        columns[f"{estimator}_flux"] = truth + error * rng.standard_normal(len(truth))
        columns[f"{estimator}_flux_err"] = error
    return columns


def test_ratios_of_known_fluxes(rng, tmp_path):
    n = 8000
    mag = rng.uniform(18, 23, n)
    truth = 10 ** (0.4 * (31.4 - mag))
    exposures = [measured(rng, truth, 100.0), measured(rng, 0.9 * truth, 50.0, "e1", band="r")]
    exposures[1]["lumos_flux"] *= 1.02
    result = compare_estimators(write_run(tmp_path / "run", exposures, mag, model="m"), "lumos", "optimal", n_bins=5)
    # Two measurements per object and bins of equal numbers of them: a fifth each, but for the edges' rows.
    assert result.by_magnitude.n.sum() == result.overall.n[0] == 2 * n
    assert np.abs(result.by_magnitude.n - 2 * n / 5).max() <= 4
    np.testing.assert_allclose(result.by_magnitude.error, 0.5, rtol=1e-5)
    assert result.by_magnitude.lower_error.tolist() == [1.0] * 5
    # Half of the ratios scatter about 1 by hypot(1, 0.5) / 100, half about 1.02 by twice that. Medians: the point
    # where the two distributions together reach one half; its error is below 0.017 * 1.25 / sqrt(3200) = 4e-4.
    narrow, wide = np.hypot(1, 0.5) / 100, np.hypot(1.02 * 0.5, 1.02) / 50

    def quantile(level):
        return brentq(lambda x: (norm.cdf((x - 1) / narrow) + norm.cdf((x - 1.02) / wide)) / 2 - level, 0.9, 1.1)

    assert (np.abs(result.by_magnitude.flux[:, 1] - quantile(0.5)) < 4 * 4e-4).all()
    # Outer quantiles are flatter: sqrt(0.16 * 0.84 / 16000) / density, at most 3e-4, of all.
    for column, level in enumerate(norm.cdf([-1, 0, 1])):
        assert abs(result.overall.flux[0, column] - quantile(level)) < 4 * 3e-4
    assert result.bands == ("i", "r")
    assert result.n.tolist() == [n, n]
    # Signal-to-noise ratios scatter by 1 about 100 and 50, twice that of the first: 1.25 / sqrt(8000) = 0.014.
    np.testing.assert_allclose(result.snr_second, [[99, 100, 101], [49, 50, 51]], atol=4 * 0.018)
    np.testing.assert_allclose(result.snr_first, [[199, 200, 201], [101, 102, 103]], atol=4 * 0.018)
    np.testing.assert_allclose(result.gain_of_medians, [2, 2.04], rtol=4 * 0.014 * np.sqrt(1.25) / 50)
    np.testing.assert_allclose(result.median_gain, [2, 2.04], rtol=4 * 1.25 * wide / np.sqrt(n))
    assert result.n_negative == 0
    text = format_comparison(result).splitlines()
    assert len(text) == 2 + 5 + 1 + 1 + 2 + 1
    assert "100.0%" in text[2]


def test_faint_ratios_are_low_but_not_the_ratio_of_medians(rng, tmp_path):
    n = 40_000
    columns = measured(rng, np.full(n, 1000.0), 1.0)
    columns["lumos_flux"] = 1000 * (1 + rng.standard_normal(n))
    run = write_run(tmp_path / "run", [columns], np.full(n, 24.0), model="m")
    result = compare_estimators(run, "lumos", "optimal")

    def below(ratio):
        """Return the share of ratios of two unit Gaussians about 1 below a value."""
        positive = quad(lambda f: norm.pdf(f - 1) * norm.cdf(ratio * f - 1), 0, 12)[0]
        return positive + quad(lambda f: norm.pdf(f - 1) * norm.sf(ratio * f - 1), -12, 0)[0]

    middle = brentq(lambda ratio: below(ratio) - 0.5, -2, 3)
    slope = (below(middle + 0.01) - below(middle - 0.01)) / 0.02
    assert middle < 0.8
    # All magnitudes are equal: one bin.
    assert len(result.edges) == 2
    assert result.by_magnitude.n.tolist() == [n]
    assert abs(result.by_magnitude.flux[0, 1] - middle) < 4 * 0.5 / np.sqrt(n) / slope
    # Two medians with errors of 1.25 / sqrt(n) each.
    assert abs(result.by_magnitude.flux_of_medians[0] - 1) < 4 * np.sqrt(2) * 1.25 / np.sqrt(n)
    expected = 1 - norm.cdf(1) ** 2
    assert abs(result.n_negative - n * expected) < 4 * np.sqrt(n * expected * (1 - expected))


def test_what_is_left_out_is_counted(rng, tmp_path):
    columns = measured(rng, np.full(20, 1e4), 50.0, flags=np.where(np.arange(20) < 2, int(Flag.SATURATED), 0))
    columns["lumos_flux"][[3, 4, 5]] = np.nan
    columns["optimal_flux"][[5, 6]] = np.nan
    columns["optimal_flux_err"][7] = 0
    mag = np.r_[np.full(10, 20.0), np.full(10, 21.0)]
    mag[19] = np.nan
    run = write_run(tmp_path / "run", [columns], mag, model="m")
    result = compare_estimators(run, "lumos", "optimal", edges=np.array([19.5, 20.5, 22.0, 23.0]))
    assert (result.n_flagged, result.n_only_first, result.n_only_second, result.n_neither) == (2, 2, 2, 1)
    # Without a magnitude in the catalogue it is among all, and in no bin.
    assert (result.by_magnitude.n.tolist(), result.overall.n.tolist()) == ([3, 9, 0], [13])
    assert np.isnan(result.by_magnitude.flux[2]).all()
    assert np.isnan(result.by_magnitude.lower_error[2])
    assert "2 flagged, 2 by lumos only, 2 by optimal only, 1 by neither" in format_comparison(result)


def test_bad_calls(rng, tmp_path):
    truth = np.full(20, 1e4)
    run = write_run(tmp_path / "run", [measured(rng, truth, 50.0)], np.full(20, 20.0), model="m")
    with pytest.raises(LumosValueError, match="estimator: got 'psf', allowed: optimal, lumos"):
        compare_estimators(run, "lumos", "psf")
    with pytest.raises(LumosValueError, match="another than 'lumos'"):
        compare_estimators(run, "lumos", "lumos")
    with pytest.raises(LumosValueError, match="number of bins: got 0"):
        compare_estimators(run, "lumos", "optimal", n_bins=0)
    with pytest.raises(LumosValueError, match="edges"):
        compare_estimators(run, "lumos", "optimal", edges=np.array([2.0, 1.0]))
    parent = tmp_path / "parent.parquet"
    moved = parent.rename(tmp_path / "moved.parquet")
    with pytest.raises(LumosDataError, match="no such parent catalogue"):
        compare_estimators(run, "lumos", "optimal")
    assert compare_estimators(run, "lumos", "optimal", catalog=moved).overall.n[0] == 20
    write_catalog(parent, np.full(20, 21.0))
    with pytest.raises(LumosDataError, match="sha256 differs"):
        compare_estimators(run, "lumos", "optimal")
    (run / "settings.yaml").write_text("a: 1")
    with pytest.raises(LumosDataError, match="not a run of"):
        compare_estimators(run, "lumos", "optimal")


def test_nothing_in_common_and_catalogues_that_do_not_fit(rng, tmp_path):
    columns = measured(rng, np.full(20, 1e4), 50.0)
    columns["lumos_flux"][:] = np.nan
    run = write_run(tmp_path / "a" / "run", [columns], np.full(20, 20.0), model="m")
    with pytest.raises(LumosDataError, match="no measurement is usable in both"):
        compare_estimators(run, "lumos", "optimal")
    columns = measured(rng, np.full(20, 1e4), 50.0)
    run = write_run(tmp_path / "b" / "run", [columns], np.full(19, 20.0), model="m")
    with pytest.raises(LumosDataError, match="lacks object_id 19"):
        compare_estimators(run, "lumos", "optimal")
    run = write_run(tmp_path / "c" / "run", [columns], np.full(20, np.nan), model="m")
    with pytest.raises(LumosDataError, match="no object has a magnitude"):
        compare_estimators(run, "lumos", "optimal")


@pytest.fixture
def run(rng, tmp_path):
    mag = rng.uniform(18, 22, 300)
    truth = 10 ** (0.4 * (31.4 - mag))
    made = [measured(rng, truth, 20.0, f"{band}{k}", band=band) for band in "ir" for k in range(2)]
    return write_run(tmp_path / "run", made, mag, model="m")


def test_figures_show_the_results(run, tmp_path):
    results = repeat_table(run, np.array([18.0, 20.0, 22.0]))
    draw_repeats(tmp_path / "repeats.png", results)
    draw_comparison(tmp_path / "comparison.png", compare_estimators(run, "lumos", "optimal", n_bins=3))
    assert all((tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in ("repeats", "comparison"))
    from matplotlib.figure import Figure  # noqa: PLC0415

    axes = Figure().subplots(1, 2)
    scatter, distribution = plot_scatter(results, axes[0]), plot_differences(results, axes[1])
    curve = next(line for line in scatter.containers if line.get_label() == "lumos")
    expected = mean_over_bands([result for result in results if result.estimator == "lumos"])[0]
    np.testing.assert_allclose(curve[0].get_ydata(), expected)
    for patch in distribution.patches:
        # Each is a density over cells of equal width.
        assert patch.get_data().values.sum() * np.diff(HISTOGRAM_EDGES)[0] == pytest.approx(1)


def test_example_prints_and_draws(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["repeats.py", str(run), "--out", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    text = capsys.readouterr().out
    n_exposures = len(read_json(run / "manifest.json")["exposures"])
    assert n_exposures == 4
    assert "lumos / optimal" in text
    assert text.count("with mean flux <= 0") == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"repeats.png", "comparison.png"}
