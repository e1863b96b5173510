"""Synthetic fluxes against closed forms, astropy's units, and SDSS's own."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.spectra.curves import Curve, read_curve
from lumos.spectra.passbands import PASSBANDS, PAUCAM_PASSBANDS
from lumos.spectra.synthetic import per_frequency, synthetic_fluxes

TRIANGLE = Curve(np.array([500.0, 510.0, 540.0]), np.array([0.0, 0.7, 0.0]))
BOX = Curve(np.array([600.0, 660.0]), np.array([0.3, 0.3]))


def test_a_flat_spectrum_has_its_flux_in_every_band():
    wavelength = np.linspace(400, 900, 700)
    curves = [TRIANGLE, BOX, Curve.of(PAUCAM_PASSBANDS["NB685"]), Curve.of(PASSBANDS["r"])]
    flux, error = synthetic_fluxes(wavelength, np.full((2, 700), 7.0), curves)
    np.testing.assert_allclose(flux, 7.0, rtol=1e-12)
    assert (error == 0).all()


def test_power_laws_have_the_closed_form():
    wavelength = np.arange(550.0, 700.0, 0.05)
    for power in (-3, 1, 2):
        flux, _ = synthetic_fluxes(wavelength, wavelength[None] ** power, [BOX])
        expected = (660.0**power - 600.0**power) / power / np.log(660 / 600)
        assert flux[0, 0] == pytest.approx(expected, rel=1e-6)


def test_per_wavelength_flat_gives_the_pivot():
    # A flux constant per unit wavelength has f_lambda pivot^2 / c, pivot^2 = int T l dl / int T / l dl.
    fine = np.linspace(500, 540, 400_001)
    height = np.interp(fine, TRIANGLE.wavelength, TRIANGLE.response)
    pivot2 = np.trapezoid(height * fine, fine) / np.trapezoid(height / fine, fine)
    wavelength = np.arange(480.0, 560.0, 0.02)
    flux, _ = synthetic_fluxes(wavelength, per_frequency(wavelength, np.ones((1, len(wavelength)))), [TRIANGLE])
    unit = 1e-17 * u.erg / u.s / u.cm**2 / u.AA
    expected = (1 * unit).to_value(u.nJy, u.spectral_density(np.sqrt(pivot2) * u.nm))
    assert flux[0, 0] == pytest.approx(expected, rel=1e-6)


def test_coarse_pixels_share_what_lies_on_their_edges():
    # Pixels of 7 nm: means over pixels of a line in wavelength, which the sum must keep.
    edges = np.arange(480.0, 570.0, 7.0)
    middle = (edges[1:] + edges[:-1]) / 2
    share = TRIANGLE.share(edges)
    assert share.sum() == pytest.approx(1, abs=1e-12)
    fine = np.linspace(500, 540, 400_001)
    weight = np.interp(fine, TRIANGLE.wavelength, TRIANGLE.response) / fine
    expected = np.histogram(fine, edges, weights=weight)[0] / weight.sum()
    np.testing.assert_allclose(share, expected, atol=1e-4)
    assert len(middle) == len(share)


def test_errors_are_those_of_noise_drawn_again(rng):
    wavelength = np.arange(590.0, 670.0, 0.5)
    error = np.linspace(1.0, 3.0, len(wavelength))
    noise = error * rng.standard_normal((20_000, len(wavelength)))
    flux, stated = synthetic_fluxes(wavelength, 10 + noise, [BOX], np.broadcast_to(error, noise.shape))
    assert np.std(flux) == pytest.approx(stated[0, 0], rel=0.03)
    assert np.mean(flux) == pytest.approx(10, abs=5 * stated[0, 0] / np.sqrt(20_000))


def test_bad_pixels_do_not_count_and_much_of_them_gives_nothing():
    wavelength = np.arange(590.0, 670.0, 0.5)
    flux = np.full((3, len(wavelength)), 4.0)
    flux[0, 60] = np.nan
    flux[1, 60:70] = np.nan
    error = np.ones_like(flux)
    error[0, 61] = np.inf
    found, _ = synthetic_fluxes(wavelength, flux, [BOX, TRIANGLE], error)
    assert found[0, 0] == pytest.approx(4)
    assert np.isnan(found[1, 0])
    assert np.isnan(found[:, 1]).all()  # outside the spectrum


@pytest.mark.parametrize(
    ("wavelength", "response", "error"),
    [
        ([1.0, 2.0], [1.0], LumosShapeError),
        ([2.0, 1.0], [1.0, 1.0], LumosValueError),
        ([0.0, 1.0], [1.0, 1.0], LumosValueError),
        ([1.0, 2.0], [-1.0, 1.0], LumosValueError),
        ([1.0, 2.0], [0.0, 0.0], LumosValueError),
        ([1.0, 2.0], [np.nan, 1.0], LumosValueError),
    ],
)
def test_no_curves(wavelength, response, error):
    with pytest.raises(error, match="filter curve"):
        Curve(np.array(wavelength), np.array(response))


def test_bad_spectra_are_refused():
    with pytest.raises(LumosShapeError):
        synthetic_fluxes(np.arange(1.0, 5.0), np.ones((2, 3)), [BOX])
    with pytest.raises(LumosValueError, match="increasing"):
        synthetic_fluxes(np.array([2.0, 1.0]), np.ones((2, 2)), [BOX])


def test_curves_are_read_with_their_unit(tmp_path):
    path = tmp_path / "curve.ecsv"
    QTable({"wavelength": [5000.0, 5100.0, 5400.0] * u.AA, "response": [0.0, 0.7, 0.0]}).write(path)
    np.testing.assert_allclose(read_curve(path).wavelength, TRIANGLE.wavelength)
    QTable({"wavelength": [5000.0, 5100.0], "response": [0.0, 0.7]}).write(tmp_path / "no_unit.ecsv")
    QTable({"wavelength": [5000.0, 4000.0] * u.AA, "response": [0.0, 0.7]}).write(tmp_path / "falls.ecsv")
    (tmp_path / "none.ecsv").write_text("no table")
    for name in ("no_unit", "falls", "none", "missing"):
        with pytest.raises(LumosDataError, match=name):
            read_curve(tmp_path / f"{name}.ecsv")


def test_sdss_spectra_have_the_fluxes_that_sdss_states(data_dir):
    folder = data_dir / "photoz"
    curves = [read_curve(folder / "speclite" / f"sdss2010-{band}.ecsv") for band in "gri"]
    paths = sorted((folder / "sdss_spectra").glob("spec-*.fits"))
    assert len(paths) == 4
    for path in paths:
        with fits.open(path) as hdus:
            wavelength = 10.0 ** hdus[1].data["loglam"].astype(float) / 10
            spectrum = per_frequency(wavelength, hdus[1].data["flux"].astype(float)[None])
            stated = hdus[2].data["SPECTROFLUX"][0][1:4].astype(float)
        maggies = synthetic_fluxes(wavelength, spectrum, curves)[0][0] / 3630.78
        # SDSS sums over its older curves.
        assert (np.abs(maggies / stated - 1) < [0.002, 0.002, 0.01]).all()
