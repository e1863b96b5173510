"""Artefacts: each has the shape, the strength and the mask that it claims."""

import numpy as np
import pytest

from lumos.flags import MaskPlane
from lumos.simulate.artefacts import (
    crosstalk_ghosts,
    resample,
    resampled_psf,
    satellite_trail,
    scattered_light,
    sky_shape,
)
from lumos.simulate.pixels import add_cosmic_rays, add_defects, saturate
from lumos.simulate.settings import ArtefactSettings


def blank(shape=(100, 80), level=0.0):
    return np.full(shape, level), np.zeros(shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(512, 512), (512, 256)])
def test_scattered_light_lies_along_two_edges(shape):
    for seed in range(3):
        pattern = scattered_light(shape, np.random.default_rng(seed))
        assert pattern.shape == shape
        assert (pattern >= 0).all()
        # The narrowest front falls by e in 0.04 x 0.6 of the side, the brightness along an edge is 0.5 to 1.
        edges = sorted([pattern[:4].mean(), pattern[-4:].mean(), pattern[:, :4].mean(), pattern[:, -4:].mean()])
        assert edges[2] > 0.15
        assert edges[3] > 0.3
        middle = tuple(slice(n * 3 // 8, n * 5 // 8) for n in shape)
        # Widest front: exp(-0.375 / (0.09 x 1.4)) = 0.05 for each of two edges.
        assert pattern[middle].max() < 0.11
        steps = [np.abs(np.diff(pattern, axis=axis)).max() for axis in (0, 1)]
        assert max(steps) < 0.3


def test_scattered_light_belongs_to_the_detector_not_to_the_pixels():
    one, fine = (scattered_light((n, n), np.random.default_rng(3)) for n in (64, 128))
    assert np.abs(fine.reshape(64, 2, 64, 2).mean(axis=(1, 3)) - one).max() < 0.05


def test_sky_shape(rng):
    assert np.array_equal(sky_shape((40, 30), 0.0, 0.0, rng), np.ones((40, 30)))
    tilted = sky_shape((200, 100), 0.1, 0.0, rng)
    assert tilted.mean() == pytest.approx(1, abs=0.001)
    plane = tilted[0, 0] + tilted[-1, -1] - tilted[0, -1] - tilted[-1, 0]
    assert abs(plane) < 1e-12
    assert np.ptp(tilted) > 0.01
    # Root mean square as asked: six waves of random phase over about two wavelengths scatter it by some 30 %.
    structure = [sky_shape((1200, 1200), 0.0, 0.05, rng).std() for _ in range(8)]
    assert np.mean(structure) == pytest.approx(0.05, rel=0.2)
    assert sky_shape((1200, 1200), 0.0, 5.0, rng).min() == 0.05


def test_cosmic_rays(rng):
    image, mask = blank((400, 300))
    n = add_cosmic_rays(image, mask, 200.0, 0.25, rng)
    # Poisson: 200 +- 14.
    assert abs(n - 200) < 60
    hit, found = image > 0, mask == int(MaskPlane.COSMIC_RAY)
    assert set(np.unique(mask)) == {0, int(MaskPlane.COSMIC_RAY)}
    assert hit[found].all()
    # Shares of pixels scatter more than shares of rays: lengths differ; 0.25 +- 0.03 x 1.4.
    assert (hit & ~found).sum() / hit.sum() == pytest.approx(0.25, abs=0.15)
    image, mask = blank()
    assert add_cosmic_rays(image, mask, 0.0, 0.2, rng) == 0
    assert not image.any()
    image, mask = blank()
    add_cosmic_rays(image, mask, 30.0, 1.0, rng)
    assert image.any()
    assert not mask.any()


def test_saturation_conserves_charge_along_columns():
    image, mask = blank((100, 80), 10.0)
    image[40:44, 20] = [1000.0, 5300.0, 1000.0, 2000.0]
    image[60, 50] = 999.0
    image[99, 70] = 3000.0
    saturate(image, mask, 1000.0, 50)
    assert image.max() == 1000.0
    assert (mask[40:44, 20] == int(MaskPlane.SATURATED)).all()
    assert mask[60, 50] == 0
    # 5300 electrons beyond the well fill ceil(5.3) = 6 pixels, three on each side.
    bleed = np.flatnonzero(mask[:, 20] == int(MaskPlane.BLEED))
    assert bleed.tolist() == [37, 38, 39, 44, 45, 46]
    assert (image[bleed, 20] == 1000.0).all()
    # At the edge the charge leaves the detector.
    assert np.flatnonzero(mask[:, 70] == int(MaskPlane.BLEED)).tolist() == [98]
    assert np.count_nonzero(mask) == 4 + 6 + 2
    image[10, 10] = 1e9
    saturate(image, mask, 1000.0, 20)
    assert np.count_nonzero(mask[:, 10] == int(MaskPlane.BLEED)) == 10 + 10


def test_nothing_saturated():
    image, mask = blank(level=5.0)
    saturate(image, mask, 1000.0, 50)
    assert (image == 5.0).all()
    assert not mask.any()


def test_ghosts_mirror_saturated_stars(rng):
    light, _ = blank((90, 120))
    light[30, 25], light[30, 26], light[70, 60] = 1e6, 2e4, 4e4
    before = light.copy()
    stars = np.array([25.2, 60.0]), np.array([29.8, 70.0])
    n = crosstalk_ghosts(light, *stars, 5e4, ArtefactSettings(ghosts=1.0, ghost_level=0.01), rng)
    assert n == 1
    added = light - before
    assert added[30, 119 - 25] == pytest.approx(500)  # the electronics see 5e4 of 1e6
    assert added[30, 119 - 26] == pytest.approx(200)
    assert added.sum() == pytest.approx(700 + 0.01 * 4e4 * (added[70, 59] > 0))
    assert crosstalk_ghosts(before, *stars, 5e4, ArtefactSettings(ghosts=0.0, ghost_level=0.01), rng) == 0


def test_satellite_trail(rng):
    trail = satellite_trail((200, 300), 100.0, 4.0, rng)
    assert 30 * 0.8 < trail.max() <= 300
    # A line of width 4 across the image: area length x 1.064 FWHM, at least 20 pixels long (10 % from the edge).
    assert trail.sum() / trail.max() > 20 * 4
    y, x = np.nonzero(trail > trail.max() / 2)
    cloud = np.column_stack([x, y]) - [x.mean(), y.mean()]
    assert np.linalg.svd(cloud, compute_uv=False)[1] / np.sqrt(len(x)) < 4.0 / np.sqrt(12) * 1.1


def test_resampling_correlates_the_noise(rng):
    light, noise = rng.uniform(size=(600, 600)), rng.standard_normal((600, 600))
    assert resample(light, noise, 0.0) == (light, noise)
    _, smooth = resample(light, noise, 0.6)
    r = np.mean(smooth[:, 1:] * smooth[:, :-1]) / smooth.var()
    weights = np.exp(-(np.arange(-6, 7) ** 2) / (2 * 0.6**2))
    weights /= weights.sum()
    # 1 / sqrt(N) = 0.0017, enlarged by the correlation to less than twice that.
    assert r == pytest.approx((weights[1:] * weights[:-1]).sum() / (weights**2).sum(), abs=4 * 0.0033)
    assert r > 0.4
    # The relative scatter of a variance is sqrt(2 / N), over the fewer independent pixels that there are: 0.5 %.
    assert smooth.var() == pytest.approx((weights**2).sum() ** 2, rel=0.02)
    assert smooth.sum() == pytest.approx(noise.sum())


def test_resampling_smooths_the_light_and_keeps_it():
    light = np.zeros((31, 31))
    light[15, 12] = 1000.0
    smooth, _ = resample(light, light, 0.7)
    x = np.arange(31)
    assert smooth.sum() == pytest.approx(1000)
    assert (smooth * x).sum() / 1000 == pytest.approx(12)
    # A Gaussian that is sampled, and cut at four sigma, has the variance of the whole one to 0.3 %.
    assert (smooth * (x - 12) ** 2).sum() / 1000 == pytest.approx(0.49, rel=3e-3)
    # Beyond the edge lies what lies at the edge, not what lies at the other one.
    light = np.zeros((31, 31))
    light[:, 30] = 1.0
    assert resample(light, light, 0.7)[0][:, :10].max() == 0


def test_a_gaussian_psf_stays_one():
    # An exponent of 500 is a Gaussian to 0.2 % of the FWHM; variances add.
    fwhm, beta = resampled_psf(3.0, 500.0, 0.8)
    assert fwhm == pytest.approx(np.hypot(3.0, 0.8 * np.sqrt(8 * np.log(2))), rel=2e-3)
    assert beta > 100
    assert resampled_psf(3.0, 3.5, 0.0) == (3.0, 3.5)


def test_defects_are_the_detectors_own():
    maps = []
    for level in (100.0, 200.0):
        image, mask = blank((300, 200), level)
        add_defects(image, mask, 500.0, 3.0, np.random.default_rng(4))
        assert set(np.unique(mask)) == {0, int(MaskPlane.BAD)}
        assert ((image != level) == (mask != 0)).all()
        assert (image[mask != 0] >= 0).all()
        maps.append(mask)
    assert np.array_equal(*maps)
    # 500 per million of 60 000 pixels are 30 +- 5.5.
    assert (maps[0] != 0).sum() > 10
