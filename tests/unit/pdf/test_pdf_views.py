"""Magnitudes, upper limits and pictures of flux PDFs, against closed forms."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm, truncnorm

from lumos.errors import LumosValueError
from lumos.pdf import GaussianMixture, GridPdf, TruncatedMixture

MEANS, STDS = np.array([1000.0, 40.0, 20.0, -50.0, np.nan]), np.array([100.0, 30.0, 30.0, 20.0, 1.0])
GAUSSIAN = GaussianMixture(np.ones((5, 1)), MEANS[:, None], STDS[:, None])
LEVELS = np.array([norm.cdf([-1.0, 0.0, 1.0])]).T


def grid():
    nodes = MEANS[:, None] + STDS[:, None] * np.linspace(-6, 6, 2001)
    return GridPdf(nodes, -0.5 * np.linspace(-6, 6, 2001) ** 2 + 0 * nodes)


@pytest.mark.parametrize("pdf", [GAUSSIAN, grid()], ids=["mixture", "grid"])
def test_magnitudes_of_gaussians(pdf):
    magnitude, plus, minus = pdf.magnitude()
    flux = MEANS + STDS * norm.ppf(LEVELS)
    # The median of the last two is no magnitude; the third's lower end is none, so it may be arbitrarily faint.
    np.testing.assert_array_equal(np.isfinite(magnitude), [True, True, True, False, False])
    np.testing.assert_array_equal(np.isfinite(plus), [True, True, False, False, False])
    np.testing.assert_array_equal(np.isfinite(minus), np.isfinite(magnitude))
    np.testing.assert_allclose(magnitude[:3], 31.4 - 2.5 * np.log10(MEANS[:3]), atol=1e-5)
    np.testing.assert_allclose(plus[:2], 2.5 * np.log10((flux[1] / flux[0])[:2]), atol=1e-3)
    np.testing.assert_allclose(minus[:3], 2.5 * np.log10((flux[2] / flux[1])[:3]), atol=1e-3)
    assert (plus[:2] > minus[:2]).all()
    np.testing.assert_allclose(pdf.magnitude(27.0).value[:3], magnitude[:3] - 4.4, atol=1e-12)


def test_fluxes_that_cannot_be_negative_have_magnitudes():
    pdf = TruncatedMixture([[1.0]], [[-5.0]], [[10.0]])
    flux = truncnorm.ppf(LEVELS[:, 0], 0.5, np.inf, loc=-5, scale=10)
    magnitude, plus, minus = (values[0] for values in pdf.magnitude())
    expected = 31.4 - 2.5 * np.log10(flux)
    np.testing.assert_allclose([magnitude + plus, magnitude, magnitude - minus], expected, rtol=1e-9)


def test_upper_limits():
    np.testing.assert_allclose(GAUSSIAN.upper_limit()[:4], (MEANS + STDS * norm.ppf(0.95))[:4])
    assert np.isnan(GAUSSIAN.upper_limit(0.5)[4])
    for bad in (0, 1, 95, np.nan):
        with pytest.raises(LumosValueError, match=rf"upper limit: got {bad}, allowed: above 0 and below 1"):
            GAUSSIAN.upper_limit(bad)


def test_pictures():
    axes = Figure().add_subplot()
    assert GAUSSIAN.plot(1, axes, unit="image unit") is axes
    flux, density = axes.lines[0].get_data()
    assert axes.get_xlabel() == "flux / image unit"
    np.testing.assert_allclose(density, norm.pdf(flux, 40, 30), rtol=1e-9)
    np.testing.assert_allclose([flux[0], flux[-1]], 40 + 30 * norm.ppf([0.001, 0.999]))
    inside = axes.collections[0].get_datalim(axes.transData)
    np.testing.assert_allclose([inside.x0, inside.x1], [10, 70], rtol=1e-6)
    np.testing.assert_allclose(axes.collections[1].get_segments()[0][:, 0], 40)
    # A bad object has no PDF, and says so; a row that is not there is refused.
    empty = Figure().add_subplot()
    assert GAUSSIAN.plot(-1, empty).get_title() == "no PDF"
    assert not empty.lines
    with pytest.raises(LumosValueError, match="row of a PDF: got 5, allowed: -5 to 4"):
        GAUSSIAN.plot(5, empty)
    with pytest.raises(LumosValueError, match="row of a PDF: got 0, allowed: none, there are no rows"):
        GAUSSIAN.take(slice(0)).plot(0, empty)


def test_pictures_go_to_the_current_axes():
    plt.switch_backend("Agg")
    assert GAUSSIAN.plot() is GAUSSIAN.plot(1)
    assert len(plt.gca().lines) == 2
    plt.close()


@pytest.mark.parametrize("pdf", [GAUSSIAN, grid()], ids=["mixture", "grid"])
def test_how_pdfs_look_in_a_notebook(pdf):
    many = pdf.take(np.tile(np.arange(5), 2))
    assert repr(many) == f"{type(pdf).__name__} of 10 rows, medians 1000, 40, 20, -50, nan, ..."
    assert repr(pdf.take([0])).endswith("of 1 row, medians 1000")
    assert repr(pdf.take(slice(0))).endswith("of 0 rows")
    text = many._repr_html_()
    assert text.count("<tr>") == 6
    assert "<td>900</td><td>1000</td><td>1100</td>" in text
