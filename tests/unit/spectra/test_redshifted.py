"""Fluxes of redshifted spectra against closed forms, quadrature and speclite."""

from itertools import pairwise

import numpy as np
import pytest
from astropy import units as u
from scipy.integrate import quad

from lumos.errors import LumosShapeError, LumosValueError
from lumos.spectra.curves import Curve, read_curve
from lumos.spectra.igm import madau_transmission
from lumos.spectra.passbands import PASSBANDS, PAUCAM_PASSBANDS
from lumos.spectra.redshifted import band_weights, fluxes_of_each, line_fluxes, redshifted_fluxes
from lumos.spectra.synthetic import per_frequency, synthetic_fluxes
from lumos.spectra.templates import Template, read_template

TRIANGLE = Curve(np.array([500.0, 510.0, 540.0]), np.array([0.0, 0.7, 0.0]))
BOX = Curve(np.array([600.0, 660.0]), np.array([0.3, 0.3]))
NARROW = Curve.of(PAUCAM_PASSBANDS["NB685"])


@pytest.fixture
def rough(rng):
    """Return a spectrum with a random value at each of unevenly spaced points."""
    wavelength = np.sort(rng.uniform(200, 900, 300))
    return Template(np.array([100.0, *wavelength, 1000.0]), rng.uniform(0, 2, 302))


def by_quadrature(curve, template, z, factor=lambda _: 1.0):
    """Integrate piece by piece between all points of the curve and the spectrum."""
    points = np.union1d(curve.wavelength, template.wavelength * (1 + z))
    points = points[(points >= curve.limits[0]) & (points <= curve.limits[1])]

    def photons(x):
        flux = np.interp(x / (1 + z), template.wavelength, template.flux)
        return x * np.interp(x, curve.wavelength, curve.response) * flux * factor(x)

    def reference(x):
        return np.interp(x, curve.wavelength, curve.response) / x

    above, below = (sum(quad(f, a, b)[0] for a, b in pairwise(points)) for f in (photons, reference))
    return above / below


def test_every_point_of_a_rough_spectrum_counts_as_in_quadrature(rough):
    redshifts = np.array([0.0, 0.1234, 0.9, 1.7])
    found = redshifted_fluxes(rough.wavelength, rough.flux[None], [TRIANGLE, BOX], redshifts)
    assert found.shape == (4, 1, 2)
    unit = per_frequency(np.ones(1), np.ones(1), unit=1.0)[0]
    for place, z in enumerate(redshifts):
        for band, curve in enumerate((TRIANGLE, BOX)):
            expected = unit * by_quadrature(curve, rough, z)
            assert found[place, 0, band] == pytest.approx(expected, rel=1e-9)


def test_a_spectrum_flat_in_wavelength_has_the_flux_at_the_pivot():
    found = redshifted_fluxes(np.array([100.0, 900.0]), np.ones((1, 2)), [TRIANGLE, NARROW], np.array([0.0, 0.6]))
    for band, curve in enumerate((TRIANGLE, NARROW)):
        unit = 1 * u.erg / u.s / u.cm**2 / u.AA
        expected = unit.to_value(u.nJy, u.spectral_density(curve.pivot_wavelength * u.nm))
        np.testing.assert_allclose(found[:, 0, band], expected, rtol=1e-6)


def test_fluxes_do_not_depend_on_the_sampling_of_the_curve(rough):
    redshifts = np.linspace(0, 1, 21)
    points = np.union1d(TRIANGLE.wavelength, np.linspace(500, 540, 4321))
    same = [TRIANGLE, Curve(points, TRIANGLE.at(points))]
    found = redshifted_fluxes(rough.wavelength, rough.flux[None], same, redshifts)
    np.testing.assert_allclose(found[..., 1], found[..., 0], rtol=1e-10)
    # A smooth band, tabulated every 0.25 nm and ten times finer.
    band, smooth = PASSBANDS["r"], Template(np.linspace(200, 900, 2000), np.linspace(1, 3, 2000) ** 2)
    tables = [Curve(grid, band.response(grid)) for grid in (np.arange(520, 724, 0.25), np.arange(520, 724, 0.025))]
    found = redshifted_fluxes(smooth.wavelength, smooth.flux[None], tables, redshifts)
    np.testing.assert_allclose(found[..., 1], found[..., 0], rtol=1e-4)


def test_pixels_of_an_observed_spectrum_give_the_same_as_its_template(rough):
    # The other way round: redshift the spectrum onto fine pixels first.
    pixels = np.arange(400.0, 900.0, 0.01)
    for z in (0.0, 0.33, 0.8):
        flux = np.interp(pixels / (1 + z), rough.wavelength, rough.flux)
        expected, _ = synthetic_fluxes(pixels, per_frequency(pixels, flux[None], unit=1.0), [TRIANGLE, NARROW])
        found = redshifted_fluxes(rough.wavelength, rough.flux[None], [TRIANGLE, NARROW], np.array([z]))
        np.testing.assert_allclose(found[0, 0], expected[0], rtol=1e-4)


def test_a_line_is_the_limit_of_a_narrow_profile():
    rest, z = 500.824, np.linspace(0.3, 0.42, 37)
    found = line_fluxes(np.array([rest]), np.array([3.0]), [NARROW, PASSBAND_R], z)
    sigma = 0.001
    wavelength = np.concatenate([[1.0], rest + sigma * np.linspace(-7, 7, 2001), [9000.0]])
    profile = np.exp(-0.5 * ((wavelength - rest) / sigma) ** 2)
    profile[[0, 1, -2, -1]] = 0
    # As observed, a line of unit flux per Å: broadening by 1 + z lowers it.
    profile *= 3.0 / np.trapezoid(profile, 10 * wavelength)
    for place, at in enumerate(z):
        flux = redshifted_fluxes(wavelength, profile[None] / (1 + at), [NARROW, PASSBAND_R], np.array([at]))[0, 0]
        np.testing.assert_allclose(found[place], flux, rtol=1e-4, atol=1e-6 * found.max())


PASSBAND_R = Curve.of(PASSBANDS["r"])


def test_lines_of_one_flux_grow_with_their_observed_wavelength():
    flat = Curve(np.array([300.0, 1000.0]), np.array([1.0, 1.0]))
    found = line_fluxes(np.array([372.8]), np.ones(1), [flat], np.array([0.0, 1.0]))
    # Of as many ergs, twice the wavelength has twice the photons.
    assert found[1, 0] / found[0, 0] == pytest.approx(2.0, rel=1e-12)
    # erg / s / cm² over the width of the band in frequency.
    width = (1 / 300.0 - 1 / 1000.0) * 2.99792458e17
    mean = 372.8 * np.log(1000 / 300) ** -1 * (1 / 300.0 - 1 / 1000.0)
    assert found[0, 0] == pytest.approx(mean / width / 1e-32, rel=1e-12)


def test_each_at_its_own_redshift_is_the_diagonal(rough, rng):
    spectra, redshifts = rng.uniform(0, 1, (7, 302)), rng.uniform(0, 1.5, 7)
    every = redshifted_fluxes(rough.wavelength, spectra, [TRIANGLE, BOX], redshifts)
    each = fluxes_of_each(rough.wavelength, spectra, [TRIANGLE, BOX], redshifts)
    np.testing.assert_allclose(each, every[np.arange(7), np.arange(7)], rtol=1e-12)
    with pytest.raises(LumosShapeError, match=r"\(7,\)"):
        fluxes_of_each(rough.wavelength, spectra, [TRIANGLE], redshifts[:3])


def test_gas_dims_the_flux_that_it_takes():
    z = 3.4
    blue = Template(np.linspace(80, 400, 30_000), np.ones(30_000))
    found = redshifted_fluxes(blue.wavelength, blue.flux[None], [TRIANGLE], np.array([z]), madau_transmission)
    clear = redshifted_fluxes(blue.wavelength, blue.flux[None], [TRIANGLE], np.array([z]))
    fine = np.linspace(500, 540, 400_001)
    weight = fine * TRIANGLE.at(fine)
    expected = (weight * madau_transmission(fine, np.full(len(fine), z))).sum() / weight.sum()
    assert expected < 0.9
    assert found[0, 0, 0] / clear[0, 0, 0] == pytest.approx(expected, rel=1e-3)


def test_the_gas_follows_madau():
    # Lyman alpha alone just below it: tau = 0.0036 (1 + z)^3.46; nothing redward of it.
    z = np.array([2.0, 3.0, 3.0])
    wavelength = np.array([121.6 * 3 - 0.1, 121.6 * 4 - 0.1, 121.6 * 4 + 0.1])
    found = madau_transmission(wavelength, z)
    np.testing.assert_allclose(found[:2], np.exp(-0.0036 * (wavelength[:2] / 121.6) ** 3.46), rtol=1e-12)
    assert found[2] == 1
    below = madau_transmission(np.array([88.0, 91.1]) * 4.5, np.full(2, 3.5))
    assert below[0] < below[1] < madau_transmission(np.array([91.3 * 4.5]), np.array([3.5]))[0]
    assert (madau_transmission(np.linspace(1, 2000, 500), np.full(500, 6.0)) >= 0).all()


@pytest.mark.parametrize("band", ["u", "g", "r", "i", "z"])
def test_speclite_finds_the_same_fluxes(band, data_dir):
    filters = pytest.importorskip("speclite.filters")
    folder = data_dir / "photoz"
    template = read_template(folder / "lephare-data" / "sed" / "COSMOS_SED" / "SB4_A_0.sed", "Angstrom")
    curve = read_curve(folder / "speclite" / f"sdss2010-{band}.ecsv")
    theirs = filters.load_filter(f"sdss2010-{band}")
    # Their sum over the few points of the curve makes the flux of the AB standard; made finer it is right.
    fine = np.arange(curve.limits[0], curve.limits[1], 0.05) * 10
    dense = filters.FilterResponse(
        fine * u.AA, curve.at(fine / 10) * ends(fine), {"group_name": "dense", "band_name": band}
    )
    for z in (0.0, 0.4, 1.1):
        observed = np.arange(2500.0, 12_000.0, 0.5)
        flux = np.interp(observed / 10 / (1 + z), template.wavelength, template.flux)
        found = redshifted_fluxes(template.wavelength, template.flux[None], [curve], np.array([z]))[0, 0, 0]
        for filter_, close in ((dense, 1e-4), (theirs, 6e-4)):
            maggies = filter_.get_ab_maggies(flux * u.erg / u.s / u.cm**2 / u.AA, observed * u.AA)
            assert found / 3630.78e9 == pytest.approx(maggies, rel=close)


def ends(points):
    """Return 1, and 0 at both ends, as speclite wants it."""
    return np.where((points == points[0]) | (points == points[-1]), 0.0, 1.0)


def test_bands_that_look_beyond_a_spectrum_are_named():
    with pytest.raises(
        LumosValueError, match=r"500 to 800 nm.*250 to 270 nm at rest, for a band of 500 to 540 at z = 1"
    ):
        redshifted_fluxes(np.array([500.0, 800.0]), np.ones((1, 2)), [TRIANGLE], np.array([0.0, 1.0]))
    # No overlap at all, on either side.
    for wavelength in ([10.0, 20.0], [5000.0, 9000.0]):
        with pytest.raises(LumosValueError, match="at least 500 to 540 nm"):
            band_weights(TRIANGLE, np.array(wavelength), np.zeros(1))


@pytest.mark.parametrize(
    ("wavelength", "flux", "redshifts", "error"),
    [
        ([1.0, 2.0], [[1.0, 1.0, 1.0]], [0.0], LumosShapeError),
        ([2.0, 1.0], [[1.0, 1.0]], [0.0], LumosValueError),
        ([1.0, np.nan], [[1.0, 1.0]], [0.0], LumosValueError),
        ([100.0, 900.0], [[1.0, 1.0]], [-1.0], LumosValueError),
        ([100.0, 900.0], [[1.0, 1.0]], [np.nan], LumosValueError),
    ],
)
def test_bad_input_is_refused(wavelength, flux, redshifts, error):
    with pytest.raises(error):
        redshifted_fluxes(np.array(wavelength), np.array(flux), [BOX], np.array(redshifts))
