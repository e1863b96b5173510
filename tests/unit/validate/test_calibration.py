"""PDF metrics against closed forms of Gaussian toys."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf import GaussianMixture
from lumos.statistics import pit_ks
from lumos.validate.calibration import binned_pdf_metrics, metrics_table, pdf_metrics

N = 20_000
SIGMA = 5.0
#: A Kolmogorov distance is above 1.95 / sqrt(n) in 1 of 1000 samples.
KS_BOUND = 1.95 / np.sqrt(N)


def gaussians(mean, std):
    mean = np.asarray(mean, dtype=float)[:, None]
    return GaussianMixture(np.ones_like(mean), mean, np.full_like(mean, std))


@pytest.fixture
def toy(rng):
    """Measured and true fluxes: with a flat prior, N(measured, SIGMA) is the right posterior."""
    measured = rng.uniform(80, 120, N)
    return measured, measured + rng.normal(0, SIGMA, N)


@pytest.mark.parametrize("point", ["peak", "median", "mean"])
def test_correct_pdfs_pass(toy, point):
    measured, truth = toy
    result = pdf_metrics(gaussians(measured, SIGMA), truth, point)
    assert (result.n, result.n_lost) == (N, 0)
    assert result.pit_ks < KS_BOUND
    assert result.pit_p > 1e-3
    # The score is minus the entropy; ln p varies by chi-squared / 2, with a standard deviation of sqrt(1 / 2).
    assert abs(result.log_score + stats.norm(0, SIGMA).entropy()) < 4 * np.sqrt(0.5 / N)
    # Errors of 1.25 and 1.19 / sqrt(n) (quantiles).
    assert abs(result.pull_sigma68 - 1) < 5 * 1.19 / np.sqrt(N)
    assert abs(result.pull_median) < 5 * 1.25 / np.sqrt(N)
    relative = (measured - truth) / truth
    assert_allclose(result.bias, np.median(relative), rtol=1e-6)
    assert_allclose(result.scatter, stats.iqr(relative, rng=(15.865525, 84.134475)) / 2, rtol=1e-6)
    # Multinomial bins: standard deviation sqrt(n p (1 - p)).
    assert result.pit_histogram.sum() == N
    assert np.abs(result.pit_histogram - N / 20).max() < 5 * np.sqrt(N * 0.05 * 0.95)


def test_too_narrow_pdfs_are_caught(toy):
    measured, truth = toy
    result = pdf_metrics(gaussians(measured, 0.8 * SIGMA), truth)
    # Phi(z) and Phi(0.8 z) differ most where phi(z) = 0.8 phi(0.8 z): z^2 = 2 ln(1 / 0.8) / (1 - 0.64).
    z = np.sqrt(2 * np.log(1 / 0.8) / 0.36)
    assert abs(result.pit_ks - (stats.norm.cdf(z) - stats.norm.cdf(0.8 * z))) < KS_BOUND
    assert result.pit_ks > 2 * KS_BOUND
    assert result.pit_p < 1e-6
    assert abs(result.pull_sigma68 - 1.25) < 1.25 * 5 * 1.19 / np.sqrt(N)
    # Truths pile up at both ends.
    assert result.pit_histogram[[0, -1]].min() > 1.3 * N / 20
    # The loss of score is the divergence of the two Gaussians: -ln(1/0.8) + (1/0.64 - 1) / 2.
    right = pdf_metrics(gaussians(measured, SIGMA), truth)
    loss = (1 / 0.64 - 1) / 2 - np.log(1 / 0.8)
    assert abs(right.log_score - result.log_score - loss) < 4 * (1 / 0.64 - 1) * np.sqrt(0.5 / N)


def test_shifted_pdfs_show_in_bias_and_pull(toy):
    measured, truth = toy
    result = pdf_metrics(gaussians(measured + 2 * SIGMA, SIGMA), truth)
    assert abs(result.pull_median - 2) < 5 * 1.25 / np.sqrt(N)
    assert result.bias > 0.08
    # All of Phi(z - 2) to Phi(z): 2 Phi(1) - 1 at most.
    assert abs(result.pit_ks - (2 * stats.norm.cdf(1) - 1)) < KS_BOUND


def test_skewed_pdfs_have_different_points():
    pdf = GaussianMixture([[0.7, 0.3]], [[10.0, 14.0]], [[1.0, 4.0]])
    found = {point: pdf_metrics(pdf, [10.0], point).bias for point in ("peak", "median", "mean")}
    assert_allclose(found["mean"], 0.12, rtol=1e-12)
    assert_allclose(found["median"], pdf.quantile(0.5)[0] / 10 - 1, rtol=1e-12)
    assert_allclose(found["peak"], pdf.peak()[0] / 10 - 1, rtol=1e-12)
    assert found["peak"] < found["median"] < found["mean"]


def test_bad_rows_are_left_out_and_counted():
    pdf = gaussians([1.0, np.nan, 3.0, 4.0, 5.0], 1.0)
    result = pdf_metrics(pdf, [1.0, 1.0, np.nan, 0.0, 5.0])
    assert (result.n, result.n_lost) == (3, 2)
    # The true flux of 0 counts, but has no relative error.
    assert result.bias == 0
    assert result.pull_sigma68 > 0
    none = pdf_metrics(pdf, np.full(5, np.nan))
    assert (none.n, none.n_lost, none.pit_histogram.sum()) == (0, 5, 0)
    assert np.isnan([none.pit_ks, none.pit_p, none.log_score, none.bias, none.scatter, none.pull_sigma68]).all()


def test_bins_are_the_metrics_of_their_rows(toy):
    measured, truth = toy
    size, pdf = np.linspace(0, 4, N), gaussians(measured, SIGMA)
    size[7] = np.nan
    bins = binned_pdf_metrics(pdf, truth, size, [0, 1, 3, 4, 9, 10])
    assert [entry.n for entry in bins][3:] == [1, 0]
    assert sum(entry.n for entry in bins) == N - 1
    inside = (size >= 1) & (size < 3)
    alone = pdf_metrics(pdf.take(inside), truth[inside])
    for name in ("n", "n_lost", "pit_ks", "pit_p", "log_score", "bias", "scatter", "pull_median", "pull_sigma68"):
        assert getattr(bins[1], name) == getattr(alone, name)
    assert np.isnan(bins[4].pit_ks)


def test_pit_ks_is_the_largest_distance():
    # Steps of the empirical distribution at 0.2, 0.4, 0.9: largest distance 2/3 - 0.4 or 0.9 - 2/3.
    distance, probability = pit_ks([0.9, np.nan, 0.2, 0.4])
    assert_allclose(distance, 2 / 3 - 0.4, rtol=1e-12)
    assert probability > 0.9
    assert np.isnan(pit_ks([np.nan])).all()


def test_table_is_aligned(toy):
    measured, truth = toy
    result = pdf_metrics(gaussians(measured, SIGMA), truth)
    empty = pdf_metrics(gaussians([], SIGMA), [])
    lines = metrics_table({"posterior": result, "none": empty}).split("\n")
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split()[:4] == ["n", "lost", "PIT-KS", "p"]
    assert lines[1].split()[:2] == ["posterior", str(N)]
    assert f"{result.pit_ks:.4f}" in lines[1]
    assert "nan" in lines[2]


def test_bad_input_is_refused(toy):
    measured, truth = toy
    pdf = gaussians(measured, SIGMA)
    with pytest.raises(LumosShapeError, match="true flux"):
        pdf_metrics(pdf, truth[:-1])
    with pytest.raises(LumosValueError, match="point of the PDF: got 'mode'"):
        pdf_metrics(pdf, truth, "mode")
    with pytest.raises(LumosShapeError, match="values to bin by"):
        binned_pdf_metrics(pdf, truth, truth[:3], [0, 1])
    with pytest.raises(LumosShapeError, match="edges of the bins"):
        binned_pdf_metrics(pdf, truth, truth, [0])
    with pytest.raises(LumosValueError, match="edges of the bins"):
        binned_pdf_metrics(pdf, truth, truth, [1, 0])
    with pytest.raises(LumosValueError, match=r"PIT: got 1\.5"):
        pit_ks([0.5, 1.5])
