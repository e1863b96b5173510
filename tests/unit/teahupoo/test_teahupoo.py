"""Simulated stamps: where the galaxy is, whose PSF it has, its photon noise, fluxes, and what the catalogue says."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import scipy.stats
import torch
from astropy.wcs import WCS
from scipy.integrate import quad

from helpers.background_pools import flat_pool, new_stamps, write_pool
from helpers.fits_files import wcs_cards
from lumos.background.geometry import StampGeometry
from lumos.background.settings import NoiseSettings
from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosConfigError, LumosDataError, LumosShapeError, LumosValueError
from lumos.estimators import ESTIMATORS
from lumos.flags import MaskPlane
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.images.psf.width import image_fwhm
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.pools.pool import BackgroundPool
from lumos.profiles import Shapes, render
from lumos.profiles.reference import render_galsim
from lumos.psfs import MoffatPsf, PixelPsf
from lumos.simulate.population import load_population
from lumos.spectra.passbands import PASSBANDS, Passband, find_passbands
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.fluxes import pool_passbands
from lumos.teahupoo.settings import CatalogScatter, ProposalSettings, StampSettings
from lumos.teahupoo.simulated import simulate_stamps
from lumos.teahupoo.simulator import StampSimulator, perturb_catalog

MOFFAT = MoffatPsf(np.array([4.0]), np.array([3.5]))


def draw_profiles(rng, n, size=60):
    x, y = size // 2 + rng.uniform(-0.5, 0.5, (2, n))
    return Shapes(
        half_light_radius=rng.uniform(0.5, 6, n),
        sersic_n=rng.uniform(0.5, 4, n),
        axis_ratio=rng.uniform(0.2, 1, n),
        theta=rng.uniform(0, np.pi, n),
        x=x,
        y=y,
    )


def simulator(pool, seed=1, **settings):
    return StampSimulator(pool, load_population(), StampSettings(batch_size=32, **settings), seed)


@pytest.fixture
def empty(tmp_path):
    """Return 40 backgrounds of 0 without a known gain, of all kinds of PSF: only the galaxies remain."""
    rng = np.random.default_rng(5)
    one, zero = np.ones(10), np.zeros(10)
    fwhm = rng.uniform(3, 6, 10)
    images = render(Shapes.points(zero + 15, zero + 15), MoffatPsf(fwhm, 3 * one), size=31).numpy()
    images /= images.sum((1, 2), keepdims=True)
    data, gainless = np.zeros((10, 96, 96)), {"gain": None}
    path = write_pool(
        tmp_path / "empty",
        (gainless, new_stamps(data, psf=MoffatPsf(fwhm, rng.uniform(2, 5, 10)), psf_fwhm=fwhm)),
        (gainless, new_stamps(data)),
        (gainless, new_stamps(data, psf=PixelPsf(images), psf_fwhm=fwhm)),
        (gainless, new_stamps(data, psf=PixelPsf(images[:1]), psf_fwhm=fwhm[0])),
    )
    return BackgroundPool.open(path)


def test_galaxies_are_galsims_with_the_psf_of_their_background(empty, rng):
    rows = rng.permutation(40)
    backgrounds = empty.take(rows)
    truth, flux = draw_profiles(rng, 40), rng.uniform(10, 1000, 40)
    made = simulate_stamps(backgrounds, truth, flux, rng)
    assert made.data.shape == (40, 96, 96)
    for members, psf in backgrounds.psfs:
        some = truth.at(truth.x + 18, truth.y + 18).take(members)
        expected = render_galsim(some, psf, size=96).numpy() * flux[members][:, None, None]
        error = np.abs(made.data.numpy()[members] - expected).max((1, 2)) / expected.max((1, 2))
        # The renderer's own accuracy; PSF images are interpolated differently.
        assert error.max() < (3e-4 if isinstance(psf, MoffatPsf) else 3e-3)
    np.testing.assert_allclose(made.profile.numpy() * flux[:, None, None], made.stamps.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(made.psf_fwhm, empty.psf_fwhm[rows])
    assert torch.isinf(made.gain).all()


def test_the_galaxy_sits_on_the_middle_pixel_plus_its_shift(empty, rng):
    truth = draw_profiles(rng, 40)
    # The centroid of a round, compact profile is its centre.
    round_ones = Shapes(truth.x, truth.y, np.full(40, 1.0), np.ones(40), np.ones(40), np.zeros(40))
    made = simulate_stamps(empty.take(np.arange(40)), round_ones, np.ones(40), rng)
    light = made.data.numpy()[:, 18:78, 18:78].astype(np.float64)
    y, x = np.mgrid[:60, :60]
    near = np.hypot(x - 30, y - 30) < 25
    light = light * near / (light * near).sum((1, 2), keepdims=True)
    # PSF images were drawn with one centre; wings that the circle cuts off askew move the centroid by 0.01.
    np.testing.assert_allclose((light * x).sum((1, 2)), truth.x, atol=0.03)
    np.testing.assert_allclose((light * y).sum((1, 2)), truth.y, atol=0.03)


def test_photon_noise_is_poisson_of_the_galaxy_alone(tmp_path, rng):
    n = 4000
    path = write_pool(tmp_path / "pool", ({"gain": 4.0}, new_stamps(np.full((1, 92, 92), 50.0))))
    backgrounds = BackgroundPool.open(path).take(np.zeros(n, dtype=int))
    one = np.ones(n)
    truth = Shapes(30.2 * one, 29.9 * one, 2 * one, one, 0.7 * one, 0.3 * one)
    flux = 500.0
    made = simulate_stamps(backgrounds, truth, flux * one, rng)
    noise = made.stamps.numpy().astype(np.float64) - 50.0
    mean = flux * made.profile[0].numpy().astype(np.float64)
    bright = mean > 0.25  # one electron
    deviation = (noise.mean(0) - mean)[bright] / np.sqrt(mean[bright] / 4 / n)
    # Some 300 pixels: 4 sigma and more is rare; the mean square scatters by (2 / 300)^(1/2).
    assert np.abs(deviation).max() < 5
    assert abs((deviation**2).mean() - 1) < 4 * np.sqrt(2 / bright.sum())
    # Variance F m / g; the scatter of a variance is (2 / n)^(1/2), and Poisson's a little more.
    ratio = noise.var(0)[bright] / (mean[bright] / 4)
    assert abs(ratio.mean() - 1) < 4 * np.sqrt(3 / n / bright.sum())
    assert np.abs(ratio - 1).max() < 6 * np.sqrt(3 / n)
    # Pixels do not know of each other: the sum has the variance of the sum.
    assert noise.sum((1, 2)).var() == pytest.approx(mean.sum() / 4, rel=5 * np.sqrt(2 / n))
    # Electrons are whole numbers.
    electrons = noise * 4
    np.testing.assert_allclose(electrons, np.rint(electrons), atol=1e-3)


def test_negative_fluxes_take_the_profile_away_without_noise(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, 64)
    backgrounds = pool.take(np.arange(64))
    made = simulate_stamps(backgrounds, draw_profiles(rng, 64), FluxProposal(-60, -20, 1.0, 0.1), rng)
    assert (made.flux < 0).all()
    difference = made.stamps - torch.from_numpy(backgrounds.data[:, 18:78, 18:78])
    np.testing.assert_allclose(difference, made.flux[:, None, None] * made.profile, atol=2e-4)


def test_flux_scale_is_the_error_of_the_matched_filter(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, 32, level=0.0)
    made = simulate_stamps(pool.take(np.arange(32)), draw_profiles(rng, 32), np.zeros(32), rng)
    expected = 5 / np.sqrt((made.profile.numpy().astype(np.float64) ** 2).sum((1, 2)))
    np.testing.assert_allclose(made.flux_scale, expected, rtol=1e-5)


def test_masks_and_variance_maps_go_with_the_stamps(tmp_path, rng):
    mask = np.zeros((2, 96, 96), dtype=np.int32)
    mask[0, 40, 50] = MaskPlane.SATURATED
    mask[0, 41, 50] = MaskPlane.SUSPECT
    variance = rng.uniform(20, 30, (2, 96, 96)).astype(np.float32)
    variance[0, 40, 50] = 0
    noise = rng.normal(0, 5, (2, 96, 96))
    path = write_pool(tmp_path / "pool", ({}, new_stamps(noise, mask=mask, variance=variance)), ({}, new_stamps(noise)))
    made = simulate_stamps(BackgroundPool.open(path).take(np.arange(4)), draw_profiles(rng, 4), np.ones(4), rng)
    batch = made.to_batch()
    assert (~batch.good).nonzero().tolist() == [[0, 22, 32]]
    assert made.good.shape == (4, 96, 96)
    expected = variance[:, 18:78, 18:78].copy()
    expected[0, 22, 32] = 25.0  # any finite value does where the pixel is masked
    np.testing.assert_array_equal(made.sky_variance[:2], expected)
    np.testing.assert_array_equal(made.sky_variance[2:], 25.0)
    assert torch.isfinite(ESTIMATORS["optimal"](batch).flux).all()


def test_estimators_see_what_measure_shows_them(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, 6, level=20.0, facts={"gain": None})
    made = simulate_stamps(pool.take(np.arange(6)), draw_profiles(rng, 6), rng.uniform(500, 2000, 6), rng)
    results = {name: ESTIMATORS[name](made.to_batch()) for name in ("aperture", "optimal", "profile_fit")}
    wcs = WCS(wcs_cards(crpix=(48.5, 48.5)))
    for i in range(6):
        x, y = made.truth.x[i] + 18, made.truth.y[i] + 18
        ra, dec = wcs.all_pix2world(x, y, 0)
        catalog = ParentCatalog(
            object_id=np.array([1]),
            ra=np.array([float(ra)]),
            dec=np.array([float(dec)]),
            half_light_radius=0.25 * made.truth.half_light_radius[i : i + 1],
            sersic_n=made.truth.sersic_n[i : i + 1],
            axis_ratio=made.truth.axis_ratio[i : i + 1],
            # North is up and east is left: the angle from +x to +y is 90 degrees ahead of that from north to east.
            position_angle=np.rad2deg(made.truth.theta[i : i + 1]) - 90.0,
            ref_mag=np.array([20.0]),
        )
        exposure = Exposure(
            exposure_id="a",
            detector="1",
            survey="generic",
            band="r",
            state="",
            data=made.data[i].numpy(),
            mask=np.zeros((96, 96), dtype=np.int32),
            wcs=wcs,
            pixel_scale=0.25,
            psf=MoffatModel(4.0, 3.5),
        )
        settings = MeasureSettings(
            noise=NoiseSettings(correlation="none"),
            scene="off",
            stamp_size=60,
            max_stamp_size=60,
            estimators=tuple(results),
        )
        row = measure_exposure(exposure, catalog, settings)
        for name, result in results.items():
            error = float(result.flux_err[i])
            # The scatter in the annulus holds the galaxy's wings here, not in the pool: 1 % of an error.
            assert abs(row[f"{name}_flux"][0].as_py() - float(result.flux[i])) < 0.02 * error
            assert row[f"{name}_flux_err"][0].as_py() == pytest.approx(error, rel=0.05)


def test_batches_are_the_same_for_a_seed_and_a_number(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng)
    settings = {"catalog_scatter": CatalogScatter(centre=0.1), "flux_from": "proposal"}
    one, other = (simulator(pool, **settings) for _ in range(2))
    other.batch(7)
    assert torch.equal(one.batch(3).data, other.batch(3).data)
    assert torch.equal(one.batch(3).profile, other.batch(3).profile)
    assert not torch.equal(one.batch(3).data, one.batch(4).data)
    assert not torch.equal(one.batch(3).data, simulator(pool, seed=2, **settings).batch(3).data)


def test_batches_are_the_same_in_every_process(tmp_path, rng):
    torch.set_num_threads(1)
    source = simulator(flat_pool(tmp_path / "pool", rng), flux_from="proposal")
    with ProcessPoolExecutor(2, get_context("spawn")) as workers:
        made = list(workers.map(data_of_batch, [source] * 4, range(4)))
    for index, (data, flux) in enumerate(made):
        here = source.batch(index)
        # Threads of another number add products in another order.
        np.testing.assert_allclose(data, here.data, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(flux, here.flux, rtol=1e-5)


def data_of_batch(source, index):
    batch = source.batch(index)
    return batch.data.numpy(), batch.flux.numpy()


def test_population_fluxes_are_those_of_the_stamps_band_and_zero_point(tmp_path, rng):
    stamps = new_stamps(rng.normal(0, 5, (8, 96, 96)))
    path = write_pool(
        tmp_path / "pool",
        ({"band": "r", "zeropoint": 27.0}, stamps),
        ({"band": "i", "zeropoint": 24.5}, stamps),
    )
    pool = BackgroundPool.open(path)
    source = StampSimulator(pool, load_population(), StampSettings(batch_size=4000, mag_range=(20, 20.1)), 1)
    made = source.batch(0)
    magnitude = made.zeropoint - 2.5 * np.log10(made.flux.numpy())
    assert (made.ref_mag >= 20).all()
    # The passband of i is nearly that of the reference magnitude, which scatters about the profile's by 0.1 mag.
    in_i = made.band == pool.bands.index("i")
    assert abs(np.median((magnitude - made.ref_mag)[in_i])) < 0.03
    assert np.std((magnitude - made.ref_mag)[in_i]) < 0.2
    # Galaxies are redder than AB: r - i from 0 to 1.
    assert 0.1 < np.median((magnitude - made.ref_mag)[~in_i]) < 1
    assert set(np.unique(made.zeropoint[in_i])) == {24.5}


def test_flux_clip_is_in_electrons_per_second(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, facts={"gain": 4.0, "exposure_time": 50.0})
    made = simulator(pool, flux_clip=(20.0, 60.0)).batch(0)
    rate = made.flux.numpy() * 4 / 50
    assert rate.min() == pytest.approx(20, rel=1e-6)
    assert rate.max() == pytest.approx(60, rel=1e-6)
    assert ((rate > 20.01) & (rate < 59.99)).any()


def test_shapes_are_the_populations_in_pixels(tmp_path, rng):
    made = simulator(flat_pool(tmp_path / "pool", rng, facts={"pixel_scale": 0.5})).batch(0)
    same = simulator(flat_pool(tmp_path / "same", rng, facts={"pixel_scale": 0.25})).batch(0)
    np.testing.assert_allclose(2 * made.truth.half_light_radius, same.truth.half_light_radius)
    for axis in (made.truth.x, made.truth.y):
        assert (np.abs(axis - 30) <= 0.5).all()
        assert np.std(axis) == pytest.approx(12**-0.5, abs=0.1)
    assert made.catalog is made.truth


def test_rows_restrict_the_backgrounds(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, side=92)
    source = StampSimulator(pool, load_population(), StampSettings(), 1, rows=np.array([5]))
    assert (source.batch(0).ccd_x_norm == pool.take(np.array([5])).ccd_x_norm).all()


def test_crops_are_parts_of_the_stamps_at_their_places(tmp_path, rng):
    ramp = np.arange(40)[None, :, None] * 1000.0 + np.arange(40)[None, None] + np.zeros((50, 1, 1))
    ccd = (400, 600)
    whole = BackgroundPool.open(write_pool(tmp_path / "pool", ({}, new_stamps(ramp, variance=ramp + 1, ccd=ccd)))).take(
        np.arange(50)
    )
    part = whole.crop(30, rng)
    assert part.data.shape == part.mask.shape == part.variance.shape == (50, 30, 30)
    y, x = np.divmod(part.data[:, 0, 0], 1000)
    assert set(x) == set(y) == set(range(11))  # all 11 offsets, missed by one of 50 draws each once in 10 runs; seeded
    np.testing.assert_array_equal(part.data[:, 7, 4], part.data[:, 0, 0] + 7004)
    np.testing.assert_array_equal(part.variance, part.data + 1)
    # Middle pixels: 20 of the whole stamp, 15 of the part, so x + 15 - 20 to the right.
    np.testing.assert_allclose(part.ccd_x, whole.ccd_x + x - 5)
    np.testing.assert_allclose(part.ccd_x_norm, (part.ccd_x + 0.5) / ccd[1])
    np.testing.assert_allclose(part.ccd_y_norm, (part.ccd_y + 0.5) / ccd[0])
    assert part.crop(30, rng).data.tolist() == part.data.tolist()


@pytest.mark.parametrize("proposal", [FluxProposal(), FluxProposal(-2, 3, 0.5, 1.0), FluxProposal(10, 20, 1, 0.01)])
def test_the_proposal_is_a_density_and_its_draws_follow_it(proposal, rng):
    scale = 7.0

    def density(flux):
        return float(torch.exp(proposal.log_prob(torch.tensor([flux], dtype=torch.float64), torch.tensor([scale]))))

    # Integrated over t, where it is smooth: dF = scale (softening^2 + s^2)^(1/2) dt.
    def in_t(t):
        return density(scale * proposal.softening * np.sinh(t)) * scale * proposal.softening * np.cosh(t)

    ends = np.arcsinh(np.array([proposal.low, proposal.high]) / proposal.softening)
    start, stop = ends + np.array([-9, 9]) * proposal.edge
    assert quad(in_t, start, stop, points=ends, limit=200)[0] == pytest.approx(1, abs=1e-6)
    flux = scale * proposal.draw(20_000, rng)
    t = np.arcsinh(flux / scale / proposal.softening)
    grid = np.linspace(start, stop, 4001)
    steps = np.array([in_t(value) for value in grid])
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (steps[1:] + steps[:-1]) * np.diff(grid))])
    # Kolmogorov-Smirnov: a right sampler fails one time in 10 000.
    assert scipy.stats.kstest(t, lambda value: np.interp(value, grid, cumulative)).pvalue > 1e-4


def test_the_proposals_logarithm_is_finite_everywhere():
    proposal = FluxProposal()
    flux = torch.tensor([-1e6, -100.0, 0.0, 100.0, 1e5, 1e8])
    log_prob = proposal.log_prob(flux, torch.ones(6))
    assert torch.isfinite(log_prob).all()
    assert log_prob.dtype == torch.float32
    # On the plateau: 1 / [(t1 - t0) (a^2 + s^2)^(1/2)].
    width = np.arcsinh(400) - np.arcsinh(-2)
    np.testing.assert_allclose(log_prob[2:4].exp(), 1 / width / np.hypot(5, [0, 100]), rtol=1e-5)
    # A change of unit changes the density by its factor.
    np.testing.assert_allclose(proposal.log_prob(10 * flux, torch.tensor(10.0)), log_prob - np.log(10), rtol=1e-4)


def test_proposed_fluxes_do_not_know_the_magnitude(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng)
    proposal = ProposalSettings(low=-5, high=50)
    settings = StampSettings(batch_size=4000, flux_from="proposal", proposal=proposal)
    made = StampSimulator(pool, load_population(), settings, 1).batch(0)
    t = np.arcsinh((made.flux / made.flux_scale).numpy() / 5)
    assert abs(scipy.stats.spearmanr(t, made.ref_mag).statistic) < 4 / np.sqrt(4000)
    assert abs(t.mean() - 0.5 * (np.arcsinh(-1) + np.arcsinh(10))) < 4 * t.std() / np.sqrt(4000)


def test_catalogues_scatter_as_they_are_told(rng):
    n = 20_000
    one = np.ones(n)
    truth = Shapes(30.1 * one, 29.8 * one, 3 * one, 1.5 * one, 0.5 * one, 0.2 * one)
    scatter = CatalogScatter(
        half_light_radius=0.1, sersic_n=0.2, axis_ratio=0.08, angle=5.0, centre=0.15, psf_fwhm=0.03
    )
    catalog, psf_scale = perturb_catalog(truth, scatter, rng)
    deviations = {
        "half_light_radius": np.log(catalog.half_light_radius / 3),
        "sersic_n": np.log(catalog.sersic_n / 1.5),
        "axis_ratio": catalog.axis_ratio - 0.5,
        "angle": np.rad2deg(catalog.theta - 0.2),
        "centre": catalog.x - 30.1,
        "psf_fwhm": np.log(psf_scale),
        "y": catalog.y - 29.8,
    }
    for name, values in deviations.items():
        sigma = getattr(scatter, "centre" if name == "y" else name)
        assert abs(values.mean()) < 4 * sigma / np.sqrt(n)
        assert values.std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * n))
    # No two errors are the same deviate.
    assert np.abs(np.corrcoef(list(deviations.values())) - np.eye(7)).max() < 5 / np.sqrt(n)
    wild, _ = perturb_catalog(truth, CatalogScatter(sersic_n=3.0, axis_ratio=2.0), rng)
    assert (wild.sersic_n.min(), wild.sersic_n.max()) == (0.3, 6.2)
    assert (wild.axis_ratio.min(), wild.axis_ratio.max()) == (0.05, 1.0)


def test_the_profile_is_the_catalogues_and_the_galaxy_the_truth(empty):
    scatter = CatalogScatter(half_light_radius=0.2, axis_ratio=0.1, centre=0.3, psf_fwhm=0.1)
    made = StampSimulator(
        empty, load_population(), StampSettings(catalog_scatter=scatter), 1, rows=np.arange(20)
    ).batch(0)
    beta = np.array(betas(empty, made))
    for profiles, fwhm, image in (
        (made.truth, made.psf_fwhm, made.stamps / made.flux[:, None, None]),
        (made.catalog, made.catalog_psf_fwhm, made.profile),
    ):
        expected = render(profiles, MoffatPsf(fwhm, beta), size=60)
        error = (image - expected).abs().amax((1, 2)) / expected.amax((1, 2))
        assert float(error.max()) < 3e-4
    assert np.std(np.log(made.catalog_psf_fwhm / made.psf_fwhm)) == pytest.approx(0.1, rel=0.2)
    assert made.to_batch().profile is made.profile


def betas(pool, made):
    """Return the Moffat exponent of each stamp, found by its exposure and FWHM."""
    every = pool.take(np.arange(20))
    (rows, psf) = every.psfs[0]
    found = {(every.exposure[row], every.psf_fwhm[row]): psf.beta[row] for row in rows}
    return [found[key] for key in zip(made.exposure, made.psf_fwhm, strict=True)]


def test_psf_images_become_as_wide_as_they_are_told(empty, rng):
    rows = np.arange(20, 40)
    scale = np.linspace(0.8, 1.2, 20)
    one = np.ones(20)
    point = Shapes.points(30 * one, 30 * one)
    made = simulate_stamps(empty.take(rows), point, one, rng, psf_scale=scale)
    drawn = made.profile.numpy()[:, 15:46, 15:46]
    # The pixel's own width does not scale; it is 1 % of that of the narrowest PSF.
    found = image_fwhm(PixelPsf(drawn))
    np.testing.assert_allclose(found / image_fwhm(PixelPsf(made.stamps.numpy()[:, 15:46, 15:46])), scale, rtol=0.02)
    np.testing.assert_allclose(made.profile.sum((1, 2)), 1, atol=0.01)


def test_bad_calls_are_refused(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, 4)
    backgrounds, truth = pool.take(np.arange(4)), draw_profiles(rng, 4)
    for flux in (np.array([1, -1, 1, 1.0]), np.array([1, np.nan, 1, 1]), np.array([np.inf, 1, 1, 1])):
        with pytest.raises(LumosValueError, match=r"flux in image units: got .*, allowed: finite, 0 or more"):
            simulate_stamps(backgrounds, truth, flux, rng)
    with pytest.raises(LumosShapeError, match="fluxes for the background stamps"):
        simulate_stamps(backgrounds, truth, np.ones(3), rng)
    with pytest.raises(LumosShapeError, match="galaxies for the background stamps"):
        simulate_stamps(backgrounds, draw_profiles(rng, 3), np.ones(3), rng)
    with pytest.raises(LumosDataError, match="side 96 px; stamps of 60 px with an annulus of 30 to 50 px need 102"):
        simulate_stamps(backgrounds, truth, np.ones(4), rng, geometry=StampGeometry(outer=50.0))
    with pytest.raises(LumosDataError, match="side 96 px; stamps of 100 px with an annulus of 30 to 45 px need 100"):
        simulate_stamps(backgrounds, truth, np.ones(4), rng, geometry=StampGeometry(100))
    wide = flat_pool(tmp_path / "wide", rng, 4, psf_fwhm=31.0)
    with pytest.raises(LumosDataError, match="PSF of FWHM 31 px, allowed: up to half of the stamp's side, 60 px"):
        simulate_stamps(wide.take(np.arange(4)), truth, np.ones(4), rng)
    for arguments in ((5, 5), (np.nan, 5), (0, np.inf)):
        with pytest.raises(LumosValueError, match="ends of the flux proposal"):
            FluxProposal(*arguments)
    with pytest.raises(LumosValueError, match="softening and edge"):
        FluxProposal(softening=0)


def test_a_simulator_refuses_at_the_door(tmp_path, rng):
    def pool(name, **facts):
        return flat_pool(tmp_path / name, rng, 4, facts=facts)

    with pytest.raises(LumosDataError, match="exposure a detector 1: no zeropoint, which flux_from=population needs"):
        simulator(pool("zeropoint", zeropoint=None))
    simulator(pool("enough", zeropoint=None), flux_from="proposal").batch(0)
    with pytest.raises(LumosDataError, match="no gain, exposure_time"):
        simulator(pool("clip", gain=None, exposure_time=None), flux_clip=(0, 1000))
    with pytest.raises(LumosConfigError, match=r"no passband of \['F814W'\] is known"):
        simulator(pool("band", band="F814W"))
    assert find_passbands(("F814W",), {"F814W": (814.0, 150.0)})["F814W"].width == 150.0
    simulator(pool("given", band="F814W"), passbands={"F814W": (814.0, 150.0)}).batch(0)
    # The exposure's own comes before that of its name, and one that is given before both.
    own = pool("own", band="r", wavelength=642.0, width=148.0)
    assert pool_passbands(own, StampSettings()) == [Passband(642.0, 148.0)]
    assert pool_passbands(pool("none", band="r", wavelength=None), StampSettings()) == [PASSBANDS["r"]]
    assert pool_passbands(own, StampSettings(passbands={"r": (600.0, 90.0)})) == [Passband(600.0, 90.0)]
    with pytest.raises(LumosDataError, match="pool with a PSF of FWHM 31 px"):
        simulator(flat_pool(tmp_path / "wide", rng, 4, psf_fwhm=31.0))
    with pytest.raises(LumosDataError, match="pool of stamps of side 90 px, stamp and annulus need 92"):
        simulator(flat_pool(tmp_path / "small", rng, 4, side=90))
    good = pool("good")
    with pytest.raises(LumosValueError, match="seed: got -1"):
        simulator(good, seed=-1)
    with pytest.raises(LumosValueError, match="number of the batch: got -1"):
        simulator(good).batch(-1)
    with pytest.raises(LumosValueError, match="background stamps to draw from"):
        StampSimulator(good, load_population(), StampSettings(), 1, rows=np.array([], dtype=int))


@pytest.mark.parametrize(
    "bad",
    [
        {"flux_clip": (5, 5)},
        {"flux_clip": (-1, 5)},
        {"annulus_inner": 50},
        {"proposal": {"low": 1, "high": 0}},
    ],
)
def test_settings_that_do_not_fit(bad):
    with pytest.raises(ValueError, match="must be"):
        StampSettings(**bad)
