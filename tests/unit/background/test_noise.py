"""The measured correlation of the noise: white and smoothed noise, sources, too little sky."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io.fits import Header
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from helpers.fits_files import wcs_cards
from lumos.background.correlation import (
    DEFAULT_RADII,
    CorrelatedNoise,
    apply_correlation,
    measure_correlation,
    source_free,
)
from lumos.background.noise import exposure_noise, pixel_noise
from lumos.background.settings import NoiseSettings
from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosShapeError, LumosValueError
from lumos.estimators import Measurement, NoiseShare, elliptical_overlap
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings

ANNULUS = (30.0, 45.0)


def smoothing_kernel(sigma):
    row, column = np.mgrid[-8:9, -8:9]
    kernel = np.exp(-0.5 * (row**2 + column**2) / sigma**2)
    return kernel / kernel.sum()


def expected_factor(kernel, radius, annulus_radii=(30, 45)):
    """Return the exact factor: noise of aperture minus area x annulus mean, over independent pixels'."""
    inner, outer = annulus_radii
    side = 2 * outer + 31
    middle = side // 2
    centre, size = torch.full((1,), float(middle)), torch.full((1,), radius)
    overlap = elliptical_overlap(centre, centre, size, size, torch.zeros(1), (side, side))[0].numpy()
    row, column = np.mgrid[:side, :side] - middle
    annulus = ((row**2 + column**2 >= inner**2) & (row**2 + column**2 < outer**2)).astype(float)
    weights = overlap - overlap.sum() * annulus / annulus.sum()
    smoothed = (fftconvolve(weights, kernel) ** 2).sum() / (kernel**2).sum()
    return np.sqrt(smoothed / ((overlap**2).sum() + overlap.sum() ** 2 / annulus.sum()))


def test_white_noise_has_factor_one():
    rng = np.random.default_rng(10)
    image = rng.normal(50.0, 7.0, (1500, 1500)).astype(np.float32)
    noise = measure_correlation(image, np.ones(image.shape, bool), 49.0, rng=rng, annulus=ANNULUS, n_apertures=8000)
    # Half the 16-84 % interval of 8000 values scatters by 0.87 / sqrt(8000) = 1.0 %: 0.03 is three of these,
    # for eight radii that share most of their positions.
    np.testing.assert_allclose(noise.factors[:8], 1.0, atol=0.03)
    # Fewer apertures of 11 to 20 pixels fit side by side: 1800 of the largest, 2.1 %.
    np.testing.assert_allclose(noise.factors[8:], 1.0, atol=0.06)
    assert noise.reason == ""
    assert len(noise.areas) == len(DEFAULT_RADII)
    assert (np.diff(noise.areas) > 0).all()


@pytest.mark.parametrize("sigma", [0.5, 0.8])
def test_smoothed_noise_has_the_closed_form_factor(sigma):
    rng = np.random.default_rng(2)
    kernel = smoothing_kernel(sigma)
    image = fftconvolve(rng.normal(0, 10, (1600, 1600)), kernel, mode="valid").astype(np.float32)
    variance = np.full(image.shape, 100 * (kernel**2).sum())
    noise = measure_correlation(image, np.ones(image.shape, bool), variance, rng=rng, annulus=ANNULUS, n_apertures=4000)
    expected = [expected_factor(kernel, radius) for radius in DEFAULT_RADII]
    assert expected[-1] > 1.5
    np.testing.assert_allclose(noise.factors, expected, rtol=0.05)


def test_sources_and_bad_pixels_are_kept_out():
    rng = np.random.default_rng(3)
    image = rng.normal(0, 5, (1000, 1000)).astype(np.float32)
    row, column = np.mgrid[-12:13, -12:13]
    star = 3e3 * np.exp(-0.5 * (row**2 + column**2) / 2**2)
    for y, x in rng.integers(12, 987, (200, 2)):
        image[y - 12 : y + 13, x - 12 : x + 13] += star.astype(np.float32)
    good = np.ones(image.shape, bool)
    good[:, 300:320] = False
    image[:, 300:320] = 1e6
    good[600:700] = False
    image[600:700] = 0
    noise = measure_correlation(image, good, 25.0, rng=rng, annulus=ANNULUS, n_apertures=4000)
    # 1.4 % of statistics at the small radii and twice that where apertures are fewer.
    np.testing.assert_allclose(noise.factors, 1.0, atol=0.07)


def test_large_apertures_may_hold_sources():
    rng = np.random.default_rng(8)
    kernel = smoothing_kernel(0.8)
    image = fftconvolve(rng.normal(0, 10, (1400, 1400)), kernel, mode="valid").astype(np.float32)
    variance = 100 * float((kernel**2).sum())
    # A source every 60 pixels along both axes: no wholly blank aperture of 28 pixels and more.
    for y in range(30, 1360, 60):
        for x in range(30, 1360, 60):
            image[y - 2 : y + 3, x - 2 : x + 3] += 300
    good = np.ones(image.shape, bool)
    noise = measure_correlation(
        image, good, variance, rng=rng, annulus=(60.0, 90.0), radii=(8.0, 20.0, 30.0), n_apertures=600
    )
    assert len(noise.factors) == 3
    assert (noise.n_apertures > 200).all()
    # Less than the whole of the largest aperture is left: sources of 13 x 13 pixels with what surrounds them.
    assert 0.8 * np.pi * 30**2 < noise.areas[2] < 0.99 * np.pi * 30**2
    expected = [expected_factor(kernel, radius, (60, 90)) for radius in (8.0, 20.0, 30.0)]
    np.testing.assert_allclose(noise.factors, expected, rtol=0.1)


def test_large_galaxies_get_the_noise_of_their_size():
    rng = np.random.default_rng(9)
    side = 700
    # Structure of 12 px beside white noise: nothing at a pixel, much over a galaxy.
    waves = gaussian_filter(rng.normal(0, 1, (side, side)), 12)
    image = (rng.normal(0, 5, (side, side)) + 0.6 * waves / waves.std()).astype(np.float32)
    exposure = Exposure(
        "e", "1", "test", "r", "", image, np.zeros(image.shape, np.int32),
        WCS(Header(wcs_cards(crpix=(350.5, 350.5)))), 0.25, MoffatModel(3.0, 3.5),
        variance=np.full(image.shape, 25.0, np.float32), zeropoint=27.0,
    )  # fmt: skip
    x, y = rng.uniform(100, side - 100, (2, 400))
    ra, dec = exposure.wcs.all_pix2world(x, y, 0)
    one = np.ones(len(x))
    noise_of = {}
    for radius in (9.0, 18.0):
        catalog = ParentCatalog(np.arange(len(x)), ra, dec, radius * 0.25 * one, one, one, 0 * one, np.nan * one)
        table = measure_exposure(exposure, catalog, MeasureSettings(estimators=("optimal",)))
        pull = table["flux"].to_numpy() / table["flux_err"].to_numpy()
        # As many galaxies as could lie side by side make fewer than 400 independent pulls.
        low, high = np.percentile(pull, [15.87, 84.13])
        assert (high - low) / 2 == pytest.approx(1.0, abs=0.2)
        noise_of[radius] = json.loads(table.schema.metadata[b"lumos.provenance"])["noise_correlation_larger"]
    assert noise_of[9.0] == {}
    assert list(noise_of[18.0]) == ["120"]


def test_the_runs_annulus_is_that_of_the_blank_apertures():
    rng = np.random.default_rng(12)
    kernel = smoothing_kernel(1.5)
    image = fftconvolve(rng.normal(0, 1, (1200, 1200)), kernel, mode="same").astype(np.float32)
    exposure = Exposure(
        "e", "1", "test", "r", "", image, np.zeros(image.shape, np.int32), WCS(Header(wcs_cards())), 0.25, None,
        variance=np.full(image.shape, (kernel**2).sum(), np.float32),
    )  # fmt: skip
    # The largest apertures, of 20 px, reach beyond this annulus.
    settings = NoiseSettings()
    measured = exposure_noise(exposure, pixel_noise(exposure, settings), settings, (9.0, 16.0)).correlation
    expected = [expected_factor(kernel, radius, (9, 16)) for radius in (3.0, 5.0, 8.0)]
    np.testing.assert_allclose(measured.factors[[3, 5, 7]], expected, rtol=0.08)


@pytest.mark.parametrize("with_sources", [True, False])
def test_a_realisation_of_the_noise_tells_its_correlation(with_sources):
    """Sources too faint to be found make the image's own pixels scatter more than its noise does."""
    rng = np.random.default_rng(13)
    kernel = smoothing_kernel(0.8)
    draw = lambda: fftconvolve(rng.normal(0, 10, (900, 900)), kernel, mode="same").astype(np.float32)  # noqa: E731
    faint = np.zeros((900, 900))
    faint[rng.integers(0, 900, 9000), rng.integers(0, 900, 9000)] = 300.0
    image = (draw() + gaussian_filter(faint, 2.5)).astype(np.float32)
    exposure = Exposure(
        "e", "1", "test", "r", "", image, np.zeros(image.shape, np.int32), WCS(Header(wcs_cards())), 0.25, None,
        variance=np.full(image.shape, 100 * (kernel**2).sum(), np.float32), variance_includes_sources=with_sources,
    )  # fmt: skip
    settings = NoiseSettings()
    pixels = pixel_noise(exposure, settings)
    drawn = draw()
    drawn[:40, :40] = np.nan
    known = exposure_noise(replace(exposure, noise_realization=drawn), pixels, settings, ANNULUS).correlation
    unknown = exposure_noise(exposure, pixels, settings, ANNULUS).correlation
    expected = np.array([expected_factor(kernel, radius) for radius in DEFAULT_RADII[:8]])
    np.testing.assert_allclose(known.factors[:8], expected, rtol=0.08)
    assert (unknown.factors[4:8] > 1.15 * expected[4:]).all()


def test_source_free_finds_a_source_and_its_surroundings():
    rng = np.random.default_rng(4)
    image = rng.normal(0, 1, (200, 200)).astype(np.float32)
    image[100:105, 50:55] += 50
    blank = source_free(image, np.ones(image.shape, bool))
    assert not blank[97:108, 47:58].any()
    assert blank.mean() > 0.95


def test_measured_factor_includes_a_wrong_variance():
    rng = np.random.default_rng(5)
    image = rng.normal(0, 6, (800, 800)).astype(np.float32)
    noise = measure_correlation(image, np.ones(image.shape, bool), 9.0, rng=rng, annulus=ANNULUS, radii=(1.5, 2.0))
    # The aperture's own noise doubles; the annulus, whose error is measured, adds next to nothing here.
    np.testing.assert_allclose(noise.factors, 2.0, rtol=0.08)


@pytest.mark.parametrize("case", ["small", "all-bad", "constant", "no-variance"])
def test_too_little_sky_gives_factor_one_and_a_reason(case, caplog):
    rng = np.random.default_rng(6)
    image = rng.normal(0, 1, (41, 51) if case == "small" else (300, 300)).astype(np.float32)
    good = np.ones(image.shape, bool)
    variance = 1.0
    if case == "all-bad":
        good[:] = False
    elif case == "constant":
        image[:] = 3.0
    elif case == "no-variance":
        variance = np.nan
    with caplog.at_level(logging.WARNING):
        noise = measure_correlation(image, good, variance, rng=rng, annulus=ANNULUS, min_apertures=1000)
    assert noise.factors.tolist() == [1.0]
    assert "fewer than 1000 blank apertures" in noise.reason
    assert noise.reason in caplog.text


def test_factor_is_interpolated_in_log_area_and_constant_outside():
    noise = CorrelatedNoise(np.array([4.0, 16.0, 64.0]), np.array([1.0, 1.4, 1.6]), np.array([500, 500, 500]))
    np.testing.assert_allclose(noise.factor_at(np.array([1.0, 4.0, 8.0, 32.0, 1e5])), [1.0, 1.0, 1.2, 1.5, 1.6])
    assert np.isnan(noise.factor_at(np.array([np.nan])))[0]
    assert noise.summary()["factors"] == [1.0, 1.4, 1.6]


def test_only_the_sky_part_of_an_error_grows():
    result = Measurement(
        flux=torch.tensor([5.0, 6.0, torch.nan]),
        flux_err=torch.tensor([2.0, 2.0, torch.nan]),
        flags=torch.zeros(3, dtype=torch.int32),
        noise=NoiseShare(torch.tensor([16.0, 16.0, torch.nan]), torch.tensor([1.0, 0.25, torch.nan])),
    )
    noise = CorrelatedNoise(np.array([1.0, 100.0]), np.array([1.5, 1.5]), np.array([500, 500]))
    grown = apply_correlation(result, noise)
    # Variances 4 = 4 sky and 4 = 1 sky + 3 source: 9 and 2.25 + 3.
    torch.testing.assert_close(grown.flux_err[:2], torch.tensor([3.0, 5.25**0.5]))
    torch.testing.assert_close(grown.noise.sky[:2], torch.tensor([1.0, 2.25 / 5.25]))
    torch.testing.assert_close(grown.flux[:2], result.flux[:2])
    assert torch.isnan(grown.flux_err[2])
    assert apply_correlation(replace(result, noise=None), noise).flux_err is result.flux_err


def test_same_seed_gives_the_same_factors():
    image = np.random.default_rng(7).normal(0, 1, (400, 400)).astype(np.float32)
    good = np.ones(image.shape, bool)
    first, second = (
        measure_correlation(image, good, 1.0, rng=np.random.default_rng(8), annulus=ANNULUS) for _ in range(2)
    )
    np.testing.assert_array_equal(first.factors, second.factors)


def test_bad_calls_are_refused():
    rng = np.random.default_rng(0)
    image = np.zeros((50, 50), np.float32)
    with pytest.raises(LumosShapeError, match="image and mask"):
        measure_correlation(image, np.ones((50, 49), bool), 1.0, rng=rng, annulus=ANNULUS)
    with pytest.raises(LumosValueError, match="radii"):
        measure_correlation(image, np.ones((50, 50), bool), 1.0, rng=rng, annulus=ANNULUS, radii=(0.0,))
    with pytest.raises(LumosValueError, match="min_apertures"):
        measure_correlation(image, np.ones((50, 50), bool), 1.0, rng=rng, annulus=ANNULUS, min_apertures=1)
