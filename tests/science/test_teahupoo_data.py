"""Simulated stamps against GalSim and against their own fluxes, on flat and on real backgrounds."""

import galsim
import numpy as np
import pytest
import torch
from astropy.io import fits

from helpers.background_pools import flat_pool
from helpers.fits_files import wcs_cards
from lumos.estimators import ESTIMATORS
from lumos.estimators.optimal import optimal_flux
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.profiles import Shapes
from lumos.profiles.reference import render_galsim
from lumos.psfs import MoffatPsf
from lumos.simulate.population import load_population
from lumos.sources.settings import PsfSettings
from lumos.surveys import load_survey
from lumos.teahupoo.settings import CatalogScatter, ProposalSettings, StampSettings
from lumos.teahupoo.simulated import simulate_stamps
from lumos.teahupoo.simulator import StampSimulator
from lumos.workflows.psf import make_psfs

pytestmark = pytest.mark.science

#: Stamps of the pull test: a mean pull is known to 1 / sqrt(N), its standard deviation to 1 / sqrt(2 N) = 0.005.
N, CHUNK = 20_000, 1000


def in_pixels(galaxies, pixel_scale, rng):
    """Return population galaxies on stamps of 60 px."""
    n = len(galaxies)
    x, y = 30 + rng.uniform(-0.5, 0.5, (2, n))
    radius, theta = galaxies.half_light_radius / pixel_scale, np.deg2rad(galaxies.position_angle)
    return Shapes(x, y, radius, galaxies.sersic_n, galaxies.axis_ratio, theta)


def sigma_68(values):
    low, high = np.percentile(values, [15.8655, 84.1345])
    return 0.5 * (high - low)


def test_optimal_weights_recover_the_flux_on_flat_sky(tmp_path, rng):
    pulls = {"known": [], "annulus": [], "free": []}
    # Errors of some 10 x 8 units of 4 electrons = 300 electrons: the own bias of weights that hold the measured
    # flux, -1 / (2 x 300), is far below the tolerance.
    for number in range(N // CHUNK):
        pool = flat_pool(tmp_path / str(number), rng, CHUNK, level=0.0, scatter=10.0, facts={"gain": 4.0})
        galaxies = load_population().draw(CHUNK, rng, (19.0, 23.0))
        flux = 10 ** (0.4 * (28.5 - galaxies.ref_mag))
        made = simulate_stamps(pool.take(np.arange(CHUNK)), in_pixels(galaxies, 0.25, rng), flux, rng)
        batch = made.to_batch()
        variance = batch.sky_variance + (made.flux / made.gain)[:, None, None] * batch.profile.clamp(min=0)
        found, error = optimal_flux(batch.data, batch.profile, variance, batch.good, torch.zeros(CHUNK))
        pulls["known"].append((found - made.flux) / error)
        for name, estimator in (("annulus", "optimal"), ("free", "optimal_free")):
            result = ESTIMATORS[estimator](batch)
            pulls[name].append((result.flux - made.flux) / result.flux_err)
        for path in (tmp_path / str(number)).iterdir():
            path.unlink()
    for name, values in pulls.items():
        pull = torch.cat(values).double().numpy()
        print(f"background {name}: mean {pull.mean():+.3f}, standard deviation {pull.std():.3f}")  # noqa: T201 - the figures of the docs
        assert abs(pull.mean()) < 4 / np.sqrt(N)
        assert abs(pull.std() - 1) < 0.02


def test_stamps_are_galsims_stamps_but_for_the_noise(tmp_path, rng):
    n = 400
    pool = flat_pool(tmp_path / "pool", rng, n, level=30.0, facts={"gain": 3.0})
    backgrounds = pool.take(np.arange(n))
    truth = in_pixels(load_population().draw(n, rng, (18.0, 22.0)), 0.25, rng)
    flux = 10 ** rng.uniform(2, 4.5, n)
    ours = simulate_stamps(backgrounds, truth, flux, rng).stamps.numpy().astype(np.float64)
    # The same galaxies drawn, and their photons counted, by GalSim.
    expected = render_galsim(
        truth,
        MoffatPsf(np.array([4.0]), np.array([3.5])),
        size=60,
        dtype=torch.float64,
    ).numpy()
    light = np.maximum(expected, 0) * flux[:, None, None]
    theirs = light * 3.0
    galsim.PoissonDeviate(5).generate_from_expectation(theirs)
    theirs = theirs / 3.0 + rng.normal(30, 5, light.shape)
    # Photons and sky of both: the difference has twice the variance of one, and no more.
    chi2 = ((ours - theirs) ** 2 / (2 * (light / 3.0 + 25.0))).mean(axis=(1, 2))
    # 3600 pixels each; Poisson's kurtosis adds little. The worst of 400 is within 5 sigma.
    assert abs(chi2.mean() - 1) < 4 * np.sqrt(2 / 3600 / n)
    assert np.abs(chi2 - 1).max() < 5 * np.sqrt(2 / 3600)
    assert chi2.std() == pytest.approx(np.sqrt(2 / 3600), rel=0.2)
    residual = (ours - 30 - light) / np.sqrt(light / 3.0 + 25.0)
    bright = light > 25.0
    assert abs(residual[bright].mean()) < 4 / np.sqrt(bright.sum())


def test_the_mean_stamp_has_galsims_flux_place_and_size(tmp_path, rng):
    n = 3000
    pool = flat_pool(tmp_path / "pool", rng, n, side=92, level=0.0, scatter=1.0, facts={"gain": 1.0})
    one = np.ones(n)
    truth = Shapes(30.3 * one, 29.6 * one, 3 * one, 1.0 * one, 0.6 * one, 0.8 * one)
    flux = 1e4
    made = simulate_stamps(pool.take(np.arange(n)), truth, flux * one, rng)
    mean = galsim.Image(made.stamps.double().mean(0).numpy().copy())
    psf = galsim.Moffat(3.5, fwhm=4.0)
    galaxy = galsim.Sersic(1.0, half_light_radius=3 * np.sqrt(0.6)).shear(q=0.6, beta=0.8 * galsim.radians)
    scene = galsim.Convolve(galaxy, psf).withFlux(flux)
    drawn = scene.drawImage(galsim.ImageD(60, 60, scale=1.0), center=galsim.PositionD(31.3, 30.6))
    ours, theirs = (galsim.hsm.FindAdaptiveMom(image) for image in (mean, drawn))
    # Signal-to-noise of the mean: photons sqrt(3e7), sky of 200 pixels sqrt(200 / 3000) of 1e4.
    noise = np.hypot(1 / np.sqrt(n * flux), np.sqrt(200 / n) / flux)
    assert ours.moments_amp == pytest.approx(theirs.moments_amp, rel=4 * noise + 1e-4)
    assert abs(ours.moments_centroid.x - theirs.moments_centroid.x) < 4 * 4 * noise + 1e-3
    assert abs(ours.moments_centroid.y - theirs.moments_centroid.y) < 4 * 4 * noise + 1e-3
    assert ours.moments_sigma == pytest.approx(theirs.moments_sigma, rel=4 * noise + 1e-3)
    assert ours.observed_shape.g1 == pytest.approx(theirs.observed_shape.g1, abs=4 * 2 * noise + 1e-3)
    assert ours.observed_shape.g2 == pytest.approx(theirs.observed_shape.g2, abs=4 * 2 * noise + 1e-3)


def pulls_on(pool, n, **settings):
    """Return pulls of optimal weights with the correlation of the noise, of stamps with a good answer."""
    source = StampSimulator(pool, load_population(), StampSettings(batch_size=500, **settings), 1)
    found = []
    for index in range(n // 500):
        made = source.batch(index)
        result = ESTIMATORS["optimal"](made.to_batch())
        factor = torch.from_numpy(pool.noise_factor(made.exposure, result.noise.area.nan_to_num(nan=1.0).numpy()))
        error = result.flux_err * (1 + result.noise.sky * (factor**2 - 1)).sqrt()
        found.append((result.flux - made.flux) / error)
    pull = torch.cat(found).double().numpy()
    return pull[np.isfinite(pull)]


def check_real_pool(pool):
    """Check what must hold on any real images; return the pulls."""
    stamps = pool.sample(np.random.default_rng(0), 300)
    assert np.isfinite(stamps.data).all()
    assert (stamps.sky_variance > 0).all()
    assert ((stamps.ccd_x_norm > 0) & (stamps.ccd_x_norm < 1)).all()
    assert (~stamps.good[:, 18:78, 18:78]).mean(axis=(1, 2)).max() <= 0.2
    pull = pulls_on(pool, 2000, flux_from="proposal", proposal=ProposalSettings(low=5, high=50))
    assert len(pull) > 1900
    return pull


@pytest.fixture(scope="module")
def vista(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vista")
    files = sorted((data_dir / "vista").glob("image_*.fits"))[:3]
    survey = load_survey("vircam")
    make_psfs(files, folder / "psf", survey, PsfSettings(model="moffat"))
    pools = {}
    for name, radius in (("any", 0.0), ("free", 8.0)):
        settings = BackgroundSettings(n_per_exposure=100, source_free_radius=radius)
        make_backgrounds(files, folder / name, survey, settings, psf_dir=folder / "psf")
        pools[name] = BackgroundPool.open(folder / name)
    return pools


def test_vista_backgrounds(vista):
    pool = vista["free"]
    assert len(pool) == 300
    assert pool.bands == ("H",)
    assert {exposure.noise_source for exposure in pool.exposures} == {"scatter"}
    pool.check_survey(load_survey("vircam"))
    # Noise is correlated: the factor of the matched filter is well above 1.
    assert (pool.noise_factor(np.arange(3), np.full(3, 30.0)) > 1.3).all()
    pull = check_real_pool(pool)
    # 300 backgrounds: sigma68 of a Gaussian is known to 0.05; faint light that is not detected comes on top.
    assert sigma_68(pull) == pytest.approx(1, abs=0.15)
    assert abs(np.median(pull)) < 0.3
    contaminated = pulls_on(vista["any"], 2000, flux_from="proposal", proposal=ProposalSettings(low=5, high=50))
    assert np.mean(np.abs(contaminated) > 5) > np.mean(np.abs(pull) > 5)


def test_vista_population_fluxes(vista):
    pool = vista["any"]
    source = StampSimulator(pool, load_population(), StampSettings(batch_size=1000), 3)
    made = source.batch(0)
    # i - H of galaxies is about 1 to 1.5 AB magnitudes.
    colour = made.ref_mag - (made.zeropoint - 2.5 * np.log10(made.flux.numpy()))
    assert 0.3 < np.median(colour) < 2.5


def test_sdss_backgrounds(data_dir, tmp_path):
    survey = load_survey("sdss")
    files = sorted((data_dir / "sdss").glob("frame-*.fits.bz2"))
    settings = BackgroundSettings(n_per_exposure=200, source_free_radius=8.0)
    report = make_backgrounds(files, tmp_path / "pool", survey, settings)
    assert report.n_stamps == 400
    pool = BackgroundPool.open(tmp_path / "pool")
    assert pool.bands == ("g", "i")
    pool.check_survey(survey)
    stamps = pool.sample(np.random.default_rng(1), 50)
    # Images of the PSF at each place, and a variance map.
    assert stamps.variance is not None
    assert sum(len(rows) for rows, _ in stamps.psfs) == 50
    assert all(not isinstance(psf, MoffatPsf) for _, psf in stamps.psfs)
    pull = check_real_pool(pool)
    # As for VISTA; 400 backgrounds.
    assert sigma_68(pull) == pytest.approx(1, abs=0.15)
    assert abs(np.median(pull)) < 0.3
    scatter = CatalogScatter(half_light_radius=0.1, psf_fwhm=0.05)
    made = StampSimulator(pool, load_population(), StampSettings(catalog_scatter=scatter), 1).batch(0)
    assert torch.isfinite(ESTIMATORS["optimal"](made.to_batch()).flux).float().mean() > 0.98


def test_kids_backgrounds(data_dir, tmp_path):
    # The KiDS cutouts have no header: scale (0.3 arcsec is near), place and PSF are put in here. Their zero point is
    # 0; they are brought to 30, since squares of weights of pixels of 1e-12 do not fit into float32.
    files = []
    for band, fwhm in (("r", 0.7), ("i", 0.8)):
        data = 1e12 * fits.getdata(data_dir / f"kids/{band}.fits")
        cards = {**wcs_cards(scale=0.3, crpix=(1300.5, 1300.5)), "FILTER": band, "MAGZPT": 30.0, "PSF_FWHM": fwhm}
        files.append(tmp_path / f"kids_{band}.fits")
        fits.PrimaryHDU(data.astype(">f4"), fits.Header(list(cards.items()))).writeto(files[-1])
    settings = BackgroundSettings(n_per_exposure=100)
    report = make_backgrounds(files, tmp_path / "pool", load_survey("generic"), settings)
    assert (report.n_stamps, report.refused) == (200, ())
    pool = BackgroundPool.open(tmp_path / "pool")
    check_real_pool(pool)
    # The gain is unknown: no photon noise, and estimators are told so.
    assert torch.isinf(StampSimulator(pool, load_population(), StampSettings(), 1).batch(0).gain).all()
