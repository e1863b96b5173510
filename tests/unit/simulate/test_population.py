"""The simulated galaxy population, its spectra and the camera's noise."""

import numpy as np
import pytest
from scipy.stats import gengamma, kstest

from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosValueError
from lumos.simulate.instrument import load_instrument
from lumos.simulate.morphology import PIVOT_MAG
from lumos.simulate.population import load_population
from lumos.spectra.passbands import PAUCAM_PASSBANDS, REFERENCE_PASSBAND, Passband
from lumos.spectra.sed import LINE_WAVELENGTHS, continuum_basis

NARROW = list(PAUCAM_PASSBANDS.values())
BROAD = [Passband(475.0, 130.0), Passband(622.0, 130.0), Passband(905.0, 150.0), Passband(1650.0, 300.0)]


@pytest.fixture(scope="module")
def population():
    return load_population()


@pytest.fixture(scope="module")
def galaxies(population):
    return population.draw(20_000, np.random.default_rng(5))


def test_same_seed_gives_the_same_galaxies(population):
    one, two, other = (population.draw(500, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.half_light_radius, two.half_light_radius)
    assert np.array_equal(one.band_flux(NARROW), two.band_flux(NARROW))
    assert not np.array_equal(one.ref_mag, other.ref_mag)


def test_values_lie_where_the_renderer_can_draw_them(galaxies):
    assert len(galaxies) == 20_000
    assert ((galaxies.sersic_n >= 0.3) & (galaxies.sersic_n <= 6.2)).all()
    assert ((galaxies.axis_ratio >= 0.05) & (galaxies.axis_ratio <= 1)).all()
    assert ((galaxies.half_light_radius >= 0.05) & (galaxies.half_light_radius <= 8)).all()
    assert ((galaxies.position_angle >= 0) & (galaxies.position_angle < 180)).all()
    assert ((galaxies.redshift > 0) & (galaxies.redshift <= 2.5)).all()
    flux = galaxies.band_flux([*NARROW, *BROAD])
    assert flux.shape == (20_000, 44)
    assert np.isfinite(flux).all()
    assert (flux > 0).all()


@pytest.mark.parametrize("limits", [(17.5, 23.0), (20.0, 20.5), (15.0, 25.0)])
def test_counts_follow_their_slope_between_the_limits(population, limits, rng):
    mag = population.draw(5000, rng, limits).ref_mag
    slope = population.count_slope

    def share_brighter(m):
        counts = 10 ** (slope * (np.array([limits[0], limits[1]]) - limits[0]))
        return (10 ** (slope * (m - limits[0])) - counts[0]) / (counts[1] - counts[0])

    assert kstest(mag, share_brighter).pvalue > 1e-3


@pytest.mark.parametrize("mag", [18.0, 21.5, 23.0])
def test_redshifts_follow_their_closed_form(population, mag, rng):
    law = population.redshift
    drawn = population.draw_at(np.full(5000, mag), rng).redshift
    scale = law["scale"] * np.exp(law["growth"] * (mag - PIVOT_MAG))
    # A generalised gamma distribution: z^(a c - 1) exp(-(z/scale)^c).
    expected = gengamma((law["alpha"] + 1) / law["beta"], law["beta"], scale=scale)
    assert kstest(drawn, expected.cdf).pvalue > 1e-3


def test_shapes_follow_their_component(population, rng):
    n, above = 40_000, 1.0
    drawn = population.draw_at(np.full(n, PIVOT_MAG + above), rng)
    share = 1 / (1 + np.exp(-population.spheroid[0] - population.spheroid[1] * above))
    # Binomial scatter, 4 sigma.
    assert abs(drawn.is_spheroid.mean() - share) < 4 * np.sqrt(share * (1 - share) / n)
    for kind, part in enumerate(population.components):
        chosen = drawn.take(drawn.is_spheroid == bool(kind))
        # The size is hardly correlated with what is cut off, a few per cent of n and q: 0.02 covers the shift of the
        # median, beside 4 sigma of the sample.
        median = np.median(np.log(chosen.half_light_radius))
        tolerance = 0.02 + 4 * 1.25 * np.sqrt(part.covariance[0, 0] / len(chosen))
        assert abs(median - part.mean[0] - part.slope[0] * above) < tolerance


def test_reference_band_gives_the_profiles_magnitude(galaxies):
    magnitude = AB_ZEROPOINT_NJY - 2.5 * np.log10(galaxies.band_flux([REFERENCE_PASSBAND])[:, 0])
    assert magnitude == pytest.approx(galaxies.ref_mag - galaxies.ref_mag_error, abs=1e-9)
    # 20 000 draws: the standard deviation is known to 0.5 %.
    assert galaxies.ref_mag_error.std() == pytest.approx(load_population().ref_mag_std, rel=0.02)


def test_a_galaxy_does_not_depend_on_the_others(galaxies):
    flux, some = galaxies.band_flux(BROAD), np.array([3, 4999, 12_345])
    assert np.array_equal(galaxies.take(some).band_flux(BROAD), flux[some])
    assert np.array_equal(galaxies.take(some).band_flux(BROAD[1:2])[:, 0], flux[some, 1])


def integrated_flux(galaxies, number, bands):
    """Return photon-weighted means of the spectrum of one galaxy, its lines Gaussians of 0.1 nm, on a fine grid."""
    wave = np.arange(300.0, 2100.0, 0.02)
    family, z = galaxies.sed, galaxies.redshift[number]
    rest = wave / (1 + z)
    spectrum = np.exp(continuum_basis(np.log(rest / 400)) @ (galaxies.sed_latents[number] @ family.modes))
    continuum = spectrum.copy()
    for line, width in zip(LINE_WAVELENGTHS.values(), galaxies.line_widths[number], strict=True):
        level = np.interp(line, rest, continuum)
        spectrum += level * width * np.exp(-0.5 * ((rest - line) / 0.1) ** 2) / (0.1 * np.sqrt(2 * np.pi))
    response = [band.response(wave) / wave for band in bands]
    return np.array([np.sum(spectrum * r) / np.sum(r) for r in response])


def test_band_fluxes_are_integrals_of_the_spectrum(galaxies):
    bands = [*NARROW, *BROAD, REFERENCE_PASSBAND]
    flux = galaxies.take(slice(12)).band_flux(bands)
    for number in range(12):
        expected = integrated_flux(galaxies, number, bands)
        ratio = flux[number] / expected
        error = ratio / np.median(ratio) - 1
        # One node per narrow band: the curvature of the continuum over 13 nm costs up to 0.5 % at the break. On the
        # edge of a band, where the response falls by half in 1 nm, the width of a line counts: up to 1.5 %.
        assert np.median(np.abs(error)) < 1.5e-3
        assert np.abs(error).max() < 0.02


def test_a_line_shows_in_its_band_alone(population):
    latents = np.array([[1.0, 0.5, 0.0, 0.0]])
    redshift = np.array([785.0 / LINE_WAVELENGTHS["Halpha"] - 1])
    widths = np.array([[0.0, 0.0, 0.0, 5.0]])
    with_line, without = (population.sed.mean_flux(latents, w, redshift, NARROW)[0] for w in (widths, 0 * widths))
    number = list(PAUCAM_PASSBANDS).index("NB785")
    # Observed width over the band's, 5 nm (1 + z) / 13 nm, the line at the top of the response.
    assert with_line[number] / without[number] - 1 == pytest.approx(5.0 * (1 + redshift[0]) / 13.0, rel=0.02)
    others = np.delete(np.arange(40), number)
    assert with_line[others] == pytest.approx(without[others], rel=0.03)


def test_colours_are_like_those_of_galaxies(galaxies):
    magnitude = -2.5 * np.log10(galaxies.band_flux([*NARROW, *BROAD]))
    near = np.abs(galaxies.redshift - 0.5) < 0.1
    g_r = magnitude[:, 40] - magnitude[:, 41]
    # Red-sequence and star-forming galaxies at z = 0.5: g - r of 1.7 and 0.7-1.0.
    assert 1.5 < np.median(g_r[near & galaxies.is_spheroid]) < 1.9
    assert 0.6 < np.median(g_r[near & ~galaxies.is_spheroid]) < 1.2
    colours = magnitude[:, :40] + AB_ZEROPOINT_NJY - galaxies.ref_mag[:, None]
    correlation = np.corrcoef(colours.T)
    neighbours = np.diagonal(correlation, 1)
    # Clear of the reference band, where colours are small and emission lines count, neighbours move as one.
    assert neighbours[:20].min() > 0.95
    assert neighbours.min() > 0.5
    assert correlation[0, 39] < 0.5
    # The scatter given i grows away from the reference band.
    assert colours[:, 0].std() > 2 * colours[:, 33].std()


def test_zero_point_and_sky_of_the_camera():
    camera = load_instrument()
    peak = camera.zeropoint(camera.peak_wavelength)
    assert peak == camera.zeropoint_peak
    assert camera.zeropoint(485.0) == pytest.approx(peak - camera.zeropoint_loss)
    # A pixel of sky at 685 nm as the magnitude that it has.
    magnitude = camera.zeropoint(685.0) - 2.5 * np.log10(camera.sky_rate(685.0) / camera.pixel_scale**2)
    assert magnitude == pytest.approx(camera.sky_brightness)
    rates = [camera.sky_rate(band.wavelength) for band in NARROW]
    assert (np.diff(rates) > 0).all()


def test_no_galaxies_is_no_error(population, rng):
    none = population.draw(0, rng)
    assert len(none) == 0
    assert none.band_flux(NARROW).shape == (0, 40)
    assert population.draw(3, rng).band_flux([]).shape == (3, 0)


@pytest.mark.parametrize("limits", [(23.0, 17.5), (20.0, 20.0), (np.nan, 23.0), (17.0, np.inf)])
def test_bad_magnitude_limits_are_refused(population, limits, rng):
    with pytest.raises(LumosValueError, match="range of the reference magnitude"):
        population.draw(10, rng, limits)


def test_bad_numbers_are_refused(population, rng):
    with pytest.raises(LumosValueError, match="number of galaxies"):
        population.draw(-1, rng)
    with pytest.raises(LumosValueError, match="reference magnitude: got nan"):
        population.draw_at(np.array([20.0, np.nan]), rng)


@pytest.mark.parametrize("width", [0.0, -1.0, 700.0, np.nan])
def test_bad_bands_are_refused(width):
    with pytest.raises(LumosValueError, match="width of a passband"):
        Passband(685.0, width)
