"""Mock catalogues: their fluxes against the simulation of images, their noise against what they state."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.errors import LumosShapeError, LumosValueError
from lumos.photoz.mock import TemplateSpectra, draw_mock
from lumos.photoz.mock_noise import APPENDIX_D, MockNoise, depth_errors, observe
from lumos.photoz.templates import load_models
from lumos.simulate.population import load_population
from lumos.spectra.curves import Curve
from lumos.spectra.dust import calzetti_law
from lumos.spectra.passbands import PASSBANDS, PAUCAM_PASSBANDS, REFERENCE_PASSBAND, Passband
from lumos.spectra.templates import Template, list_templates, read_template
from lumos.statistics import pit_ks, sigma68

BANDS = {name: PASSBANDS[name] for name in ("u", "NB455", "NB545", "NB685", "NB845", "g", "r", "i")}
CURVES = {name: Curve.of(band) for name, band in BANDS.items()}
NARROW = np.array([name.startswith("NB") for name in BANDS])


@pytest.fixture(scope="module")
def galaxies():
    return load_population().draw(1500, np.random.default_rng(7), (18.0, 23.0))


@pytest.fixture(scope="module")
def templates():
    return load_models("analytic").spectra(Path())


def test_a_mock_has_the_fluxes_with_which_images_are_simulated(galaxies, rng):
    mock = draw_mock(galaxies, CURVES, rng)
    # Images take narrow bands at their centre: lines near the edges of a band differ, the others do not.
    ratio = mock.flux / galaxies.band_flux(list(BANDS.values()))
    np.testing.assert_allclose(np.median(ratio, axis=0), 1.0, atol=0.004)
    assert np.percentile(np.abs(ratio - 1), 90) < 0.02
    assert mock.bands == tuple(BANDS)
    np.testing.assert_array_equal(mock.redshift, galaxies.redshift)
    assert (mock.template == "").all()


def test_magnitudes_are_those_of_the_galaxies(galaxies, templates, rng):
    reference = {"reference": Curve.of(REFERENCE_PASSBAND)}
    for spectra in (None, TemplateSpectra(templates, law=calzetti_law())):
        mock = draw_mock(galaxies, reference, rng, spectra)
        magnitude = AB_ZEROPOINT_NJY - 2.5 * np.log10(mock.flux[:, 0])
        np.testing.assert_allclose(magnitude, galaxies.ref_mag - galaxies.ref_mag_error, atol=1e-9)


def test_red_galaxies_have_red_templates_and_little_dust(galaxies, templates, rng):
    mock = draw_mock(galaxies, CURVES, rng, TemplateSpectra(templates, law=calzetti_law(), mean_reddening=0.2))
    red = galaxies.sed_latents[:, 1] < np.quantile(galaxies.sed_latents[:, 1], 0.2)
    assert {name[0] for name in mock.template[red]} <= set("ABC")
    assert mock.reddening[red].mean() < 0.05
    assert 0.1 < mock.reddening[~red].mean() < 0.2
    plain = draw_mock(galaxies, CURVES, rng, TemplateSpectra(templates))
    assert (plain.reddening == 0).all()
    again = draw_mock(galaxies, CURVES, np.random.default_rng(3), TemplateSpectra(templates))
    same = draw_mock(galaxies, CURVES, np.random.default_rng(3), TemplateSpectra(templates))
    np.testing.assert_array_equal(again.flux, same.flux)


def test_dust_reddens_as_its_law_says(galaxies, rng):
    # Of a spectrum flat in frequency, seen at z = 0 in bands so narrow that the law is straight in them.
    flat = Template(np.geomspace(50.0, 3000.0, 4000), np.geomspace(50.0, 3000.0, 4000) ** -2.0)
    law, here = calzetti_law(), galaxies.take(galaxies.redshift < 0.2)
    bands = {name: Curve.of(Passband(centre, 1.0)) for name, centre in (("blue", 400.0), ("red", 700.0))}
    spectra = TemplateSpectra({"a": flat, "b": flat}, lines=False, law=law, mean_reddening=0.3)
    mock = draw_mock(here, bands, rng, spectra)
    colour = -2.5 * np.log10(mock.flux[:, 0] / mock.flux[:, 1])
    k = [np.interp(centre / (1 + mock.redshift), law.wavelength, law.k) for centre in (400.0, 700.0)]
    np.testing.assert_allclose(colour, mock.reddening * (k[0] - k[1]), atol=2e-3)


def test_lines_have_the_equivalent_widths_of_the_galaxies(galaxies, rng):
    flat = Template(np.geomspace(50.0, 3000.0, 4000), np.ones(4000))
    sparse = galaxies.take((galaxies.redshift > 0.31) & (galaxies.redshift < 0.36))
    # Halpha at these redshifts is in this band and no other line.
    band, reference = Passband(870.0, 120.0), Curve.of(REFERENCE_PASSBAND)
    curve = Curve.of(band)
    with_lines, without = (
        draw_mock(sparse, {"x": curve, "i": reference}, rng, TemplateSpectra({"a": flat, "b": flat}, lines=lines))
        for lines in (True, False)
    )
    excess = with_lines.flux[:, 0] / with_lines.flux[:, 1] * without.flux[:, 1] / without.flux[:, 0]
    # [OIII] and Hbeta lie at 637 to 681 nm in the reference band's edge: compare those that do not matter.
    observed_width = sparse.line_widths[:, 3] * (1 + sparse.redshift)
    per_photon = curve.at(656.85 * (1 + sparse.redshift)) * 656.85 * (1 + sparse.redshift)
    expected = 1 + observed_width * per_photon / curve.all_photons
    np.testing.assert_allclose(np.median((excess - 1) / (expected - 1)), 1.0, atol=0.03)


def test_lines_are_as_bright_as_in_images(galaxies, rng):
    """Narrow bands of a mock without and with lines, beside those of images, which take bands at their centres."""
    dark = replace(galaxies, line_widths=np.zeros_like(galaxies.line_widths))
    bands, curves = {}, {}
    for number in range(455, 850, 10):
        name = f"NB{number}"
        bands[name], curves[name] = PASSBANDS[name], Curve.of(PASSBANDS[name])
    mock = draw_mock(galaxies, curves, rng).flux / draw_mock(dark, curves, rng).flux
    images = galaxies.band_flux(list(bands.values())) / dark.band_flux(list(bands.values()))
    bright = images > 1.2
    assert bright.sum() > 500
    ratio = (mock[bright] - 1) / (images[bright] - 1)
    np.testing.assert_allclose(np.median(ratio), 1.0, atol=0.02)
    far = np.broadcast_to(galaxies.redshift[:, None] > 0.6, images.shape)[bright]
    np.testing.assert_allclose(np.median(ratio[far]), 1.0, atol=0.02)


def test_templates_of_a_mock_must_serve(galaxies, templates, rng):
    one = {"A": templates["A"]}
    short = {"a": Template(np.array([400.0, 500.0]), np.ones(2)), "b": templates["A"]}
    with pytest.raises(LumosValueError, match="got 1, allowed: two or more"):
        TemplateSpectra(one)
    with pytest.raises(LumosValueError, match="mean_reddening"):
        TemplateSpectra(templates, mean_reddening=-0.1)
    with pytest.raises(LumosValueError, match="template 'a' of a mock"):
        draw_mock(galaxies, CURVES, rng, TemplateSpectra(short))
    with pytest.raises(LumosValueError, match="bands of a mock"):
        draw_mock(galaxies, {}, rng)


def observed(name, n=4000, snr=5.0, seed=1):
    rng = np.random.default_rng(seed)
    flux = np.exp(rng.normal(5, 1, (n, 8)))
    return flux, observe(flux, flux / snr, NARROW, rng, APPENDIX_D[name])


def test_perfect_photometry_and_zero_points_state_their_errors():
    for name in ("perfect", "zeropoints"):
        flux, seen = observed(name, snr=30.0)
        pull = (seen.flux - flux) / seen.flux_err
        assert sigma68(pull) == pytest.approx(1.0, abs=0.015)
        assert np.std(pull) == pytest.approx(1.0, abs=0.02)
        assert abs(np.mean(pull)) < 0.03
    # 4 % over the root of 5 exposures, beside photon noise; broad bands have none of it.
    np.testing.assert_allclose(
        np.median(seen.flux_err / flux, axis=0), np.where(NARROW, np.hypot(1 / 30, 0.04 / 5**0.5), 1 / 30), rtol=0.02
    )
    assert seen.exposure_flux.shape == (4000, 8, 5)
    single = (seen.exposure_flux - flux[..., None]) / seen.exposure_flux_err
    assert np.std(single) == pytest.approx(1.0, abs=0.02)


def test_errors_that_are_not_stated_make_tails():
    flux, extra = observed("extra", snr=30.0)
    pull = ((extra.flux - flux) / extra.flux_err)[:, NARROW]
    # Variances over f²: photons, zero points and, in a fifth of the exposures, 20 % more.
    stated = 1 / 900 + 0.04**2 / 5
    assert np.std(pull) == pytest.approx(np.sqrt(1 + 0.2 * 0.2**2 / 5 / stated), rel=0.03)
    flux, outliers = observed("outliers")
    pull = (outliers.flux - flux) / outliers.flux_err
    far = np.abs(pull) > 5
    assert far[:, NARROW].mean() == pytest.approx(0.015 * 0.617, rel=0.2)
    assert not far[:, ~NARROW].any()
    # 1.5 % of 40 bands: 45 % of the galaxies have at least one, as in the paper.
    assert pytest.approx(0.45, abs=0.01) == 1 - (1 - 0.015) ** 40


@pytest.mark.parametrize("name", list(APPENDIX_D))
def test_honest_pdfs_are_uniform_in_pit(name):
    flux, seen = observed(name, n=6000, snr=20.0)
    honest = seen.pdfs()
    assert len(honest) == flux.size
    pit = np.asarray(honest.pit(flux.reshape(-1))).reshape(flux.shape)
    tails = (np.abs(pit - 0.5) > 0.4995).mean(axis=0)
    assert pit_ks(pit[:, NARROW].reshape(-1))[0] < 0.012
    assert (tails < 0.004).all()
    if name in {"extra", "outliers", "both"}:
        plain = np.asarray(seen.pdfs(honest=False).pit(flux.reshape(-1))).reshape(flux.shape)
        assert ((np.abs(plain - 0.5) > 0.4995).mean(axis=0)[NARROW] > 0.008).all()


def test_depths_give_the_ratios_that_they_name():
    magnitude = np.array([18.4, 20.5, 21.0, 22.35])
    flux = 10 ** (0.4 * (AB_ZEROPOINT_NJY - magnitude))[:, None]
    ratio = (flux / depth_errors(flux, np.array([21.0])))[:, 0]
    # Single exposures of PAUS in NB685: 25.6, 5.8 and 1.4.
    np.testing.assert_allclose(ratio[[0, 1, 3]], [25.6, 5.8, 1.4], rtol=0.12)
    faint = 10 ** (0.4 * (AB_ZEROPOINT_NJY - np.full((1, 1), 26.0)))
    np.testing.assert_allclose(faint / depth_errors(faint, np.array([26.0])), 5.0, rtol=0.01)
    assert depth_errors(-flux, np.array([21.0])).min() > 0
    with pytest.raises(LumosShapeError):
        depth_errors(flux, np.array([21.0, 22.0]))


def test_noise_that_cannot_be_is_refused(rng):
    for wrong in ({"exposures": 0}, {"zeropoint_err": -0.1}, {"extra_share": 1.5}, {"outlier_share": np.nan}):
        with pytest.raises(LumosValueError):
            MockNoise(**wrong)
    flux = np.ones((2, 8))
    with pytest.raises(LumosShapeError):
        observe(flux, flux[:, :3], NARROW, rng, MockNoise())
    for bad in (np.nan, 0.0):
        with pytest.raises(LumosValueError):
            observe(flux, np.where(np.arange(8) == 3, bad, 1.0) * flux, NARROW, rng, MockNoise())


def test_real_spectra_make_a_mock_that_is_not_of_the_models(data_dir, galaxies, rng):
    path = data_dir / "photoz" / "brown2014" / "brown2014_900_12000A.npz"
    real = {name: read_template(path, "Angstrom", "air", name=name) for name in list_templates(path)}
    assert len(real) == 129
    near = galaxies.take(galaxies.redshift < 1.2)
    mock = draw_mock(near, CURVES, rng, TemplateSpectra(real, mixed=False, lines=False))
    assert (mock.flux > 0).all()
    assert len(set(mock.template)) > 80
    own = draw_mock(near, CURVES, rng)
    # Their colours are like those of the population, not the same.
    names = list(BANDS)
    blue_red = [np.log(m.flux[:, names.index("g")] / m.flux[:, names.index("i")]) for m in (mock, own)]
    assert np.corrcoef(*blue_red)[0, 1] > 0.5
    assert sigma68(blue_red[0] - blue_red[1]) > 0.05


def test_narrow_bands_of_the_package_are_those_of_the_analytic_set():
    assert load_models("analytic").bands[0].names == tuple(PAUCAM_PASSBANDS)
