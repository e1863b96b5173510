import numpy as np
import pytest
from scipy.stats import norm

from lumos.errors import LumosShapeError
from lumos.photoz.estimates import RedshiftPdf, quality
from lumos.validate.redshifts import redshift_metrics

Z = 0.01 + 0.001 * np.arange(1191)


def gaussian(mean, sigma, redshifts=Z):
    mean, sigma = np.broadcast_arrays(np.atleast_1d(mean), np.atleast_1d(sigma))
    return RedshiftPdf.of(redshifts, norm.logpdf(redshifts[:, None], mean, sigma))


def test_estimates_of_a_gaussian():
    pdf = gaussian([0.4, 0.7123], [0.01, 0.03])
    np.testing.assert_allclose(pdf.best()[0], [0.4, 0.7123], atol=1e-6)
    np.testing.assert_allclose(pdf.mean(), [0.4, 0.7123], atol=1e-6)
    levels = [0.01, 0.16, 0.5, 0.99]
    wanted = norm.ppf(levels, np.array([[0.4], [0.7123]]), np.array([[0.01], [0.03]]))
    np.testing.assert_allclose(pdf.quantiles(levels), wanted, atol=1e-4)
    window = 0.01 * np.array([1.4, 1.7123])
    np.testing.assert_allclose(
        pdf.odds(np.array([0.4, 0.7123]), 0.01), 2 * norm.cdf(window / [0.01, 0.03]) - 1, atol=1e-3
    )
    np.testing.assert_allclose(pdf.cdf([0.41, 0.7123]), [norm.cdf(1), 0.5], atol=1e-3)


def test_crps_of_a_gaussian():
    """Closed form of Gneiting & Raftery 2007."""
    pdf = gaussian(0.5, 0.02)
    for redshift in (0.5, 0.47, 0.6):
        t = (redshift - 0.5) / 0.02
        wanted = 0.02 * (t * (2 * norm.cdf(t) - 1) + 2 * norm.pdf(t) - 1 / np.sqrt(np.pi))
        assert pdf.crps(np.array([redshift]))[0] == pytest.approx(wanted, rel=1e-3)


def test_all_weight_in_one_cell():
    density = np.full((len(Z), 1), -np.inf)
    density[500] = 0
    pdf = RedshiftPdf.of(Z, density)
    assert pdf.best()[0][0] == Z[500]
    np.testing.assert_allclose(pdf.quantiles([0.01, 0.5, 0.99])[0], Z[500] + 0.001 * np.array([-0.49, 0, 0.49]))
    assert pdf.odds(pdf.best()[0], 0.01)[0] == pytest.approx(1)


def test_two_peaks_have_quantiles_in_the_peaks():
    density = np.logaddexp(norm.logpdf(Z, 0.3, 0.005), norm.logpdf(Z, 0.9, 0.005))[:, None]
    found = RedshiftPdf.of(Z, density).quantiles([0.25, 0.75])[0]
    np.testing.assert_allclose(found, [0.3, 0.9], atol=1e-3)


def test_uneven_grids_are_weighed_by_their_cells():
    """p(z) is a density: points that are closer do not weigh more."""
    redshifts = np.r_[np.arange(0.1, 0.5, 0.001), np.arange(0.5, 1.0, 0.01)]
    pdf = RedshiftPdf.of(redshifts, np.zeros((len(redshifts), 1)))
    low, high = pdf.quantiles([0.25, 0.75])[0]
    assert low == pytest.approx(0.1 + 0.25 * 0.89, abs=0.01)
    assert high == pytest.approx(0.1 + 0.75 * 0.89, abs=0.01)


def test_galaxies_without_a_redshift_stay_nan():
    pdf = RedshiftPdf(Z, np.full((2, len(Z)), np.nan))
    for values in (pdf.best()[0], pdf.mean(), pdf.cdf([0.3, 0.4]), pdf.quantiles([0.5])[:, 0]):
        assert np.isnan(values).all()


def test_shapes_are_checked():
    with pytest.raises(LumosShapeError, match=r"p\(z\)"):
        RedshiftPdf(Z, np.ones((3, 5)))


def test_quality_is_chi2_per_band_times_width_over_odds():
    found = quality(np.array([43.0]), np.array([0.01]), np.array([0.5]), np.array([46]))
    assert found[0] == pytest.approx(1.0 * 0.02 / 0.5)


def test_metrics_of_true_and_of_too_narrow_pdfs():
    rng = np.random.default_rng(1)
    redshift, sigma = rng.uniform(0.2, 1, 1500), 0.01
    seen = redshift + sigma * rng.normal(size=1500)
    true, narrow = (redshift_metrics(seen, gaussian(seen, width), redshift) for width in (sigma, sigma / 3))
    dx = (seen - redshift) / (1 + redshift)
    assert true.sigma68 == pytest.approx(np.std(dx), rel=0.1)
    assert true.outliers == np.mean(np.abs(dx) > 0.02)
    assert true.pit_ks < 0.05
    assert narrow.pit_ks > 0.2
    assert true.crps < narrow.crps
    assert abs(true.bias) < 0.001
