"""Aperture photometry: exact overlaps, the enclosed share, masked pixels, errors."""

from dataclasses import replace

import numpy as np
import pytest
import sep
import torch
from photutils.aperture import EllipticalAperture

from helpers.estimator_batches import gaussian_batch
from lumos.estimators import ESTIMATORS, aperture, elliptical_overlap
from lumos.estimators.aperture import _aperture_weights
from lumos.estimators.base import Ellipses
from lumos.flags import Flag

SHAPE = (40, 50)


def random_ellipses(n, seed=3):
    rng = np.random.default_rng(seed)
    semi_major = 10 ** rng.uniform(-1.5, 1.2, n)
    ratio = rng.uniform(0.02, 1.0, n)
    x, y = rng.uniform(-5, SHAPE[1] + 5, n), rng.uniform(-5, SHAPE[0] + 5, n)
    return x, y, semi_major, semi_major * ratio, rng.uniform(-np.pi, np.pi, n)


def overlaps(*parameters):
    return elliptical_overlap(*(torch.tensor(np.atleast_1d(p)) for p in parameters), SHAPE).numpy()


def test_overlap_equals_photutils():
    parameters = random_ellipses(300)
    ours = overlaps(*parameters)
    for share, (x, y, a, b, theta) in zip(ours, zip(*parameters, strict=True), strict=True):
        image = EllipticalAperture((x, y), a, b, theta=theta).to_mask(method="exact").to_image(SHAPE)
        expected = np.zeros(SHAPE) if image is None else image
        np.testing.assert_allclose(share, expected, atol=1e-6)


def test_weighted_sums_equal_sep():
    rng = np.random.default_rng(5)
    image = rng.normal(size=SHAPE)
    x, y, a, b, theta = random_ellipses(300, seed=6)
    # sep refuses centres off the image and angles beyond +-pi/2, and counts a whole pixel for an ellipse that
    # lies inside one pixel around its very centre: none of these positions is a whole number.
    x, y = rng.uniform(0, SHAPE[1] - 1, 300), rng.uniform(0, SHAPE[0] - 1, 300)
    theta = theta / 2
    expected, _, _ = sep.sum_ellipse(image, x, y, a, b, theta, r=1.0, subpix=0)
    sums = (overlaps(x, y, a, b, theta) * image).sum((1, 2))
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("semi_major", "semi_minor"),
    [(0.05, 0.05), (0.3, 0.01), (3.0, 3.0), (12.0, 0.05), (15.0, 7.0), (1e-3, 1e-3)],
    ids=["inside-one-pixel", "sliver-in-pixel", "circle", "needle", "large", "point"],
)
def test_overlap_sums_to_the_area_of_the_ellipse(semi_major, semi_minor):
    for x, y, theta in ((20.0, 20.0, 0.0), (20.5, 20.5, 0.3), (19.77, 20.31, -1.1), (20.0, 20.5, np.pi / 2)):
        share = overlaps(x, y, semi_major, semi_minor, theta)
        assert share.sum() == pytest.approx(np.pi * semi_major * semi_minor, rel=1e-6)
        assert share.min() >= 0
        assert share.max() <= 1


def test_ellipse_far_off_the_stamp_covers_nothing():
    assert overlaps(-30.0, 500.0, 8.0, 4.0, 0.3).sum() == 0


def test_angle_turns_from_x_towards_y():
    share = overlaps(20.0, 20.0, 8.0, 1.0, np.pi / 4)[0]
    assert share[23, 23] > 0.999
    assert share[17, 23] == 0


@pytest.mark.parametrize("fraction", [0.3, 0.625, 0.9])
def test_enclosed_share_is_the_fraction(fraction):
    batch, _ = gaussian_batch(64, noise=False)
    weights, truncated = _aperture_weights(batch, fraction)
    enclosed = (weights * batch.profile.flatten(1)).sum(1)
    np.testing.assert_allclose(enclosed.numpy(), fraction, atol=2e-3)
    assert not truncated.any()


def test_flux_without_noise_is_exact():
    batch, truth = gaussian_batch(64, noise=False, own_light=2e-4)
    # float32 pixels on a sky of 100: rounding of 4e-6 per pixel over ~40 pixels of a flux of 1000.
    np.testing.assert_allclose(aperture(batch).flux.numpy(), truth, rtol=1e-5)
    assert (aperture(batch).flags == 0).all()


def test_error_is_the_ccd_equation():
    batch, _ = gaussian_batch(8, noise=False, gain=2.0, sky=50.0)
    batch = replace(batch, background_err=torch.full((8,), 0.3))
    weights = _aperture_weights(batch, 0.625)[0].double().numpy()
    profile = batch.profile.flatten(1).double().numpy()
    share = (weights * profile).sum(1)
    variance = (weights**2 * (25.0 + 1000 / 2 * profile)).sum(1)
    level = (weights.sum(1) * 0.3) ** 2
    result = aperture(batch)
    np.testing.assert_allclose(result.flux_err.numpy(), np.sqrt(variance + level) / share, rtol=1e-5)
    sky = (weights**2 * 25.0).sum(1) + level
    np.testing.assert_allclose(result.noise.sky.numpy(), sky / (variance + level), rtol=1e-4)


def test_full_variance_map_gives_the_same_error_as_its_model():
    batch, _ = gaussian_batch(8, noise=False, per_pixel=True)
    full = replace(batch, variance=batch.sky_variance + 1000 * batch.profile, gain=torch.full((8,), torch.inf))
    expected, result = aperture(batch), aperture(full)
    np.testing.assert_allclose(result.flux_err, expected.flux_err, rtol=1e-4)
    np.testing.assert_allclose(result.noise.sky, expected.noise.sky, rtol=1e-3)


def test_object_at_the_stamp_edge_is_corrected_and_flagged():
    batch, truth = gaussian_batch(8, noise=False)
    shift = 29
    moved = replace(
        batch, x=batch.x + shift, data=batch.data.roll(shift, 2), profile=batch.profile.roll(shift, 2).contiguous()
    )
    # The far side of the roll: the light that wrapped round belongs to no stamp.
    data, profile = moved.data.clone(), moved.profile.clone()
    data[:, :, :15], profile[:, :, :15] = 100.0, 0.0
    result = aperture(replace(moved, data=data, profile=profile))
    assert (result.flags & int(Flag.TRUNCATED_PROFILE) != 0).all()
    np.testing.assert_allclose(result.flux.numpy(), truth, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
class TestEveryEstimator:
    """Laws that hold for all four."""

    def test_masked_light_is_corrected_and_flagged(self, name):
        batch, truth = gaussian_batch(16, noise=False)
        good = batch.good.clone()
        good[:, 32, 33] = False
        data = batch.data.clone()
        data[:, 32, 33] = 1e9
        result = ESTIMATORS[name](replace(batch, good=good, data=data))
        # 1e-4: float32 pixels; a masked pixel must not enter in any way.
        np.testing.assert_allclose(result.flux.numpy(), truth, rtol=1e-4)
        assert (result.flags & int(Flag.MASKED) != 0).any()
        assert (result.flags & int(Flag.TOO_MASKED) == 0).all()

    def test_too_much_masked_light_is_nan(self, name):
        batch, _ = gaussian_batch(16, noise=False)
        good = batch.good.clone()
        good[:, :31, :] = False
        result = ESTIMATORS[name](replace(batch, good=good))
        assert torch.isnan(result.flux).all()
        assert torch.isnan(result.flux_err).all()
        assert (result.flags & int(Flag.TOO_MASKED) != 0).all()

    def test_all_masked_is_nan(self, name):
        batch, _ = gaussian_batch(4, noise=False)
        result = ESTIMATORS[name](replace(batch, good=torch.zeros_like(batch.good)))
        assert torch.isnan(result.flux).all()
        assert (result.flags & int(Flag.MASKED_CENTRE) != 0).all()

    def test_masked_centre_is_flagged_only_within_3x3(self, name):
        batch, _ = gaussian_batch(1, noise=False)
        row, column = int(batch.y.round()), int(batch.x.round())
        for dy, dx, expected in ((0, 0, True), (1, -1, True), (2, 0, False), (0, -2, False)):
            good = batch.good.clone()
            good[:, row + dy, column + dx] = False
            flags = int(ESTIMATORS[name](replace(batch, good=good)).flags[0])
            assert bool(flags & Flag.MASKED_CENTRE) == expected

    def test_objects_without_profile_or_background_are_nan_and_spoil_no_other(self, name):
        batch, _ = gaussian_batch(16)
        expected = ESTIMATORS[name](batch).flux
        profile, background = batch.profile.clone(), batch.background.clone()
        profile[2], background[5] = torch.nan, torch.nan
        semi_major = batch.ellipses.semi_major.clone()
        semi_major[2] = torch.nan
        ellipses = Ellipses(semi_major, batch.ellipses.semi_minor, batch.ellipses.theta)
        result = ESTIMATORS[name](
            replace(batch, profile=profile, background=background, background_err=background, ellipses=ellipses)
        )
        others = torch.ones(16, dtype=torch.bool)
        others[[2, 5]] = False
        torch.testing.assert_close(result.flux[others], expected[others])
        assert torch.isnan(result.flux[2])
        if name == "optimal_free":
            torch.testing.assert_close(result.flux[5], expected[5])
        else:
            assert torch.isnan(result.flux[5])
            assert int(result.flags[5]) & Flag.BAD_BACKGROUND

    def test_result_does_not_depend_on_the_rest_of_the_batch(self, name):
        batch, _ = gaussian_batch(16)
        one = batch.take(slice(3, 4))
        torch.testing.assert_close(ESTIMATORS[name](one).flux[0], ESTIMATORS[name](batch).flux[3], rtol=2e-5, atol=1e-3)

    def test_empty_batch(self, name):
        batch, _ = gaussian_batch(2)
        empty = batch.take(slice(0, 0))
        result = ESTIMATORS[name](empty)
        assert result.flux.shape == (0,)
        assert result.flags.dtype == torch.int32

    def test_scaling_the_units_scales_the_flux(self, name):
        batch, _ = gaussian_batch(16)
        scale = 1e-3
        scaled = replace(
            batch,
            data=batch.data * scale,
            sky_variance=batch.sky_variance * scale**2,
            gain=batch.gain / scale,
            background=batch.background * scale,
        )
        first, second = ESTIMATORS[name](batch), ESTIMATORS[name](scaled)
        torch.testing.assert_close(second.flux / scale, first.flux, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(second.flux_err / scale, first.flux_err, rtol=1e-5, atol=0)

    def test_negative_flux_survives(self, name):
        batch, truth = gaussian_batch(32, flux=-150.0, noise=False)
        result = ESTIMATORS[name](batch)
        np.testing.assert_allclose(result.flux.numpy(), truth, rtol=1e-4)
        assert (result.flux_err > 0).all()
