"""Trails of satellites: what is found, and what is none."""

import numpy as np
import pytest

from lumos.images.trails import find_trails

SHAPE = (480, 620)


def trail(shape, angle, peak, fwhm=4.0, through=(0.45, 0.55), part=(-np.inf, np.inf)):
    """A Gaussian ridge through a point, between two distances from it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = y - through[0] * shape[0], x - through[1] * shape[1]
    off, along = x * np.sin(angle) - y * np.cos(angle), x * np.cos(angle) + y * np.sin(angle)
    ridge = peak * np.exp(-4 * np.log(2) * (off / fwhm) ** 2)
    return np.where((along > part[0]) & (along < part[1]), ridge, 0.0)


def search(image, good=None, variance=1.0):
    good = np.ones(image.shape, dtype=np.bool_) if good is None else good
    return find_trails(image.astype(np.float32), np.full(image.shape, variance, dtype=np.float32), good)


@pytest.mark.parametrize("degrees", [0, 17, 45, 61, 90, 118, 135, 170])
@pytest.mark.parametrize("peak", [1.0, 20.0])
def test_a_trail_at_any_angle_is_masked(degrees, peak):
    light = trail(SHAPE, np.radians(degrees), peak)
    found = search(light + np.random.default_rng(degrees).normal(size=SHAPE))
    assert light[~found].sum() < 0.03 * light.sum()
    assert np.mean(found & (light < 1e-3 * peak)) < 0.03


def test_units_and_sky_do_not_matter():
    rng = np.random.default_rng(3)
    image = trail(SHAPE, 0.6, 2.0) + rng.normal(size=SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    plain = search(image)
    assert plain.any()
    assert np.mean(plain ^ search(1e-3 * image, variance=1e-6)) < 1e-3
    assert np.mean(plain ^ search(image + 300 + 0.05 * x - 0.03 * y)) < 0.01


def test_a_trail_that_ends_on_the_image_is_masked_where_it_is():
    light = trail(SHAPE, 0.4, 3.0, part=(-np.inf, 20.0))
    found = search(light + np.random.default_rng(4).normal(size=SHAPE))
    assert light[~found].sum() < 0.1 * light.sum()
    assert not found[:, -100:].any()


def test_two_trails_and_masked_pixels():
    light = trail(SHAPE, 0.4, 3.0) + trail(SHAPE, 2.0, 1.5, through=(0.5, 0.3))
    image = light + np.random.default_rng(5).normal(size=SHAPE)
    good = np.ones(SHAPE, dtype=np.bool_)
    good[100:180, 200:400] = False
    image[~good] = np.nan
    found = search(image, good)
    assert light[good & ~found].sum() < 0.03 * light[good].sum()


def no_lines(kind):
    rng = np.random.default_rng(6)
    image = rng.normal(size=SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    if kind == "stars":
        columns, rows, fluxes = (
            rng.uniform(0, SHAPE[1], 300),
            rng.uniform(0, SHAPE[0], 300),
            10 ** rng.uniform(0, 4, 300),
        )
        for column, row, flux in zip(columns, rows, fluxes, strict=True):
            image += flux * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8)
    if kind == "amplifiers":
        image += np.where(x > 300, 2.0, 0.0)
    if kind == "vignetting":
        image -= 5 * np.hypot(x - 310, y - 240) / 300
    if kind == "halo":
        image += 20 / (1 + np.hypot(x - 200, y - 150) / 20) ** 2
    if kind == "correlated":
        image += np.roll(image, 1, axis=0) + np.roll(image, 1, axis=1)
    return image


@pytest.mark.parametrize("kind", ["noise", "stars", "amplifiers", "vignetting", "halo", "correlated"])
def test_what_is_no_line_is_not_masked(kind):
    assert not search(no_lines(kind)).any()


@pytest.mark.parametrize("shape", [(40, 40), (1, 900), (300, 300)])
def test_images_in_which_no_line_can_be_found(shape):
    assert not search(np.zeros(shape)).any()
    assert not search(np.full(shape, np.nan)).any()
    assert not search(np.zeros(shape), np.zeros(shape, dtype=np.bool_)).any()
    assert not search(np.random.default_rng(1).normal(size=shape), variance=0.0).any()
