"""What a page on redshifts holds: figures that are known beforehand, of p(z) that are true and that are not."""

import numpy as np
import pytest
from scipy.stats import norm

from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.run import is_redshift_run
from lumos.validate.known_redshifts import known_redshifts, redshift_table
from lumos.validate.redshift_charts import group_charts, judge_redshifts, pdf_charts, redshift_charts
from lumos.validate.redshifts import format_redshifts, redshift_metrics

N = 900
GRID = np.arange(0.05, 1.3, 0.002)
KEYS = {"bias", "within50", "within68", "within95", "pit_ks", "outliers", "quality"}


def galaxies(stated=1.0, shift=0.0, n=N):
    """Redshifts with Gaussian errors, small for half of the galaxies, that p(z) states right or `stated` times."""
    rng = np.random.default_rng(3)
    redshift = rng.uniform(0.3, 1.0, n)
    sigma = rng.choice([0.004, 0.02], n) * (1 + redshift)
    seen = redshift + sigma * rng.normal(size=n)
    density = norm.pdf(GRID, seen[:, None], stated * sigma[:, None])
    pdf = RedshiftPdf(GRID, density / (density.sum(axis=1, keepdims=True) * 0.002))
    by = {"ref_mag": rng.uniform(18, 23, n), "sersic_n": rng.uniform(0.5, 4, n), "half_light_radius": np.full(n, 0.3)}
    return known_redshifts(np.arange(n), pdf, seen + shift * (1 + redshift), sigma, redshift, by)


def verdicts(known):
    return {metric.key: metric.passed for metric in judge_redshifts(known, np.random.default_rng(1))}


def test_true_pdfs_are_praised():
    known = galaxies()
    assert verdicts(known) == dict.fromkeys(KEYS, True)
    # p(z) promises as many outliers as there are: P(|Gaussian of 0.02| > 0.02) for half of the galaxies.
    assert known.doubt.mean() == pytest.approx(np.mean(np.abs(known.dx) > 0.02), abs=0.03)
    assert known.doubt.mean() == pytest.approx(norm.sf(1), abs=0.02)


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"stated": 0.4}, {"within50", "within68", "within95", "pit_ks", "outliers"}),
        ({"stated": 2.5}, {"within50", "within68", "within95", "pit_ks", "outliers"}),
        ({"shift": 0.004}, {"bias"}),
    ],
)
def test_what_is_wrong_fails(changes, failing):
    found = verdicts(galaxies(**changes))
    assert {key for key, passed in found.items() if not passed} == failing


def test_qualities_that_mean_nothing_fail():
    known = galaxies()
    rng = np.random.default_rng(5)
    shuffled = known.take(np.arange(N))
    object.__setattr__(shuffled, "qz", rng.permutation(known.qz) + 1e-6 * rng.random(N))
    assert verdicts(shuffled)["quality"] is False


def test_the_table_agrees_with_the_figures_of_all():
    known = galaxies()
    table = redshift_table(known)
    density = norm.pdf(GRID, known.zb[:, None], known.qz[:, None])
    pdf = RedshiftPdf(GRID, density / (density.sum(axis=1, keepdims=True) * 0.002))
    assert table["all"] == redshift_metrics(known.zb, pdf, known.redshift)
    assert table["best half by Qz"].sigma68 < 0.5 * table["all"].sigma68
    for text in ("z ", "mag ", "n "):
        thirds = [one.n for name, one in table.items() if name.startswith(text)]
        assert thirds == [300, 300, 300]
    # All radii are equal: one group would be all.
    assert not [name for name in table if name.startswith("radius")]
    assert format_redshifts(table).count("\n") == len(table)


def test_charts_show_the_figures_of_their_galaxies():
    known = galaxies()
    every = [*redshift_charts(known, rng()), *pdf_charts(known), *group_charts(known, rng())]
    charts = {chart.key: chart for chart in every}
    assert set(charts) == {
        *("redshifts", "redshift_quality", "redshift_pit", "redshift_coverage"),
        *(f"{kind}_by_{name}" for kind in ("redshift", "pz") for name in ("ref_mag", "sersic_n", "redshift")),
    }
    width, outliers, bias = charts["redshift_by_ref_mag"].panels
    brightest = np.argsort(known.by["ref_mag"])[: N // 8]
    dx = known.dx[brightest]
    assert outliers.series[0].y[0] == pytest.approx(100 * np.mean(np.abs(dx) > 0.02), abs=1)
    assert bias.series[0].y[0] == pytest.approx(np.median(dx), abs=1e-3)
    assert [series.name for series in width.series] == ["all", "best half by Qz"]
    assert max(width.series[1].y) < min(width.series[0].y)
    # The cut at half is the better half, the one at 100 % all galaxies.
    cut = charts["redshift_quality"].panels[0].series[0]
    table = redshift_table(known)
    assert cut.y[-1] == pytest.approx(table["all"].sigma68)
    assert sum(len(series.x) for series in charts["redshifts"].series if series.dots) == N


def rng():
    return np.random.default_rng(7)


def test_few_galaxies_are_not_judged():
    known = galaxies(n=12)
    assert set(verdicts(known).values()) == {None}
    assert not redshift_charts(known, rng())
    assert not group_charts(known, rng())
    assert not pdf_charts(known)
    assert redshift_table(known)["all"].n == 12
    nobody = known.take(np.zeros(0, dtype=int))
    assert redshift_table(nobody)["all"].n == 0
    assert set(verdicts(nobody).values()) == {None}


def test_a_folder_of_another_command_is_none_of_redshifts(tmp_path):
    assert not is_redshift_run(tmp_path)
    (tmp_path / "settings.yaml").write_text(
        "# The resolved settings of this run, written by `lumos measure`.\nphotoz: 1\n"
    )
    assert not is_redshift_run(tmp_path)
