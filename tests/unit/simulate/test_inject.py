"""Injected galaxies: their light, their noise, their places."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.wcs import WCS

from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.flags import MaskPlane
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.images.stamps import cut_stamps
from lumos.profiles import Shapes, render
from lumos.profiles.reference import render_galsim
from lumos.simulate.inject import draw_positions, inject

GAIN, SKY = 2.0, 3.0
PSF = MoffatModel(3.2, 3.5)


def blank(rng, shape=(300, 320), **changes):
    data = rng.normal(100, SKY, shape).astype(np.float32)
    exposure = Exposure(
        exposure_id="a",
        detector="1",
        survey="generic",
        band="r",
        state="",
        data=data,
        mask=np.zeros(shape, dtype=np.int32),
        wcs=WCS(naxis=2),
        pixel_scale=0.3,
        psf=PSF,
        gain=GAIN,
        path=Path("a.fits"),
    )
    return replace(exposure, **changes)


def shapes(x, y, radius=2.5):
    one = np.ones(len(x))
    return Shapes(np.asarray(x), np.asarray(y), radius * one, 1.3 * one, 0.6 * one, 0.5 * one)


def test_differences_are_profile_times_flux(rng):
    pytest.importorskip("galsim")
    exposure = blank(rng, gain=float("nan"))
    # One in the middle, one whose light leaves the image; a negative flux.
    some, flux = shapes([150.3, 4.6, 250.0], [140.8, 200.2, 60.4]), np.array([4e4, 2e4, -1e4])
    full = inject(exposure, some, flux, rng)
    unit = render_galsim(some, PSF.at(some.x, some.y), size=exposure.shape, dtype=torch.float64).numpy()
    expected = np.tensordot(flux, unit, 1)
    # The renderer is good to 1e-3 of the peak (its own tests); beyond 64 px nothing is drawn: below 1e-5 of the flux.
    limit = 2e-3 * np.abs(flux).max() * unit.max() + 1e-5 * np.abs(flux).max()
    assert np.abs(full.data.astype(float) - exposure.data - expected).max() < limit
    assert abs((full.data.astype(float) - exposure.data).sum() - expected.sum()) < 0.005 * np.abs(flux).sum()
    assert full.mask is exposure.mask
    assert full.variance is None


def test_flux_is_recovered_within_its_noise(rng):
    # Nothing near the edge, where a stamp of 60 px would leave the image.
    mask = np.full((1000, 1000), int(MaskPlane.BAD), dtype=np.int32)
    mask[32:-32, 32:-32] = 0
    exposure = blank(rng, shape=(1000, 1000), mask=mask)
    x, y = draw_positions(exposure, 150, rng, (np.zeros(0), np.zeros(0)))
    some, flux = shapes(x, y), np.full(len(x), 2000.0)
    full = inject(exposure, some, flux, rng)
    stamps = cut_stamps(full.data, x, y, 60)
    profile = render(some.at(stamps.x, stamps.y), PSF.at(x, y), size=60).numpy().astype(float)
    # Optimal weights for the noise that is there, the background known.
    variance = SKY**2 + 2000 * profile / GAIN
    power = (profile**2 / variance).sum((1, 2))
    pull = ((stamps.data - 100) * profile / variance).sum((1, 2)) / np.sqrt(power) - 2000 * np.sqrt(power)
    # Pulls are normal deviates: mean 0 and variance 1 within four of their errors.
    assert abs(pull.mean()) < 4 / np.sqrt(len(x))
    assert abs(pull.var() - 1) < 4 * np.sqrt(2 / len(x))


def test_photons_have_their_variance(rng):
    quiet = blank(rng, data=np.zeros((300, 320), dtype=np.float32))
    some, flux = shapes([150.0], [140.0]), np.array([1e5])
    light = inject(replace(quiet, gain=float("nan")), some, flux, rng).data.astype(float)
    seen = np.array([inject(quiet, some, flux, rng).data for _ in range(40)]) - light
    bright = light > 50
    # The mean of (noise^2 g / light) over n pixels and draws is 1 within sqrt(2 / n).
    ratio = (seen[:, bright] ** 2 * GAIN / light[bright]).mean()
    assert abs(ratio - 1) < 4 * np.sqrt(2 / (40 * bright.sum()))


def test_a_variance_map_with_sources_grows_by_the_light(rng):
    shape = (300, 320)
    exposure = blank(rng, variance=np.full(shape, 9.0, dtype=np.float32), variance_includes_sources=True)
    some, flux = shapes([150.0], [140.0]), np.array([1e5])
    light = inject(replace(exposure, gain=float("nan")), some, flux, rng).data.astype(float) - exposure.data
    full = inject(exposure, some, flux, rng)
    # Pixels are kept in single precision: 1e-5 of the light and of the sky.
    assert np.allclose(full.variance, 9 + np.maximum(light, 0) / GAIN, rtol=1e-4, atol=1e-3)
    apart = replace(exposure, variance_includes_sources=False)
    assert inject(apart, some, flux, rng).variance is exposure.variance


def test_places_are_usable_and_far_from_each_other_and_the_catalogue(rng):
    mask = np.zeros((300, 320), dtype=np.int32)
    mask[:, :100] = int(MaskPlane.SATURATED)
    mask[200:] |= int(MaskPlane.SUSPECT)
    exposure = blank(rng, mask=mask)
    objects = rng.uniform(0, 300, (2, 200))
    x, y = draw_positions(exposure, 500, rng, (objects[0], objects[1]), distance=25.0)
    assert 20 < len(x) < 500
    assert x.min() > 99.4
    assert y.max() > 200
    gaps = np.hypot(x[:, None] - x, y[:, None] - y)[~np.eye(len(x), dtype=bool)]
    assert gaps.min() >= 25
    assert np.hypot(x[:, None] - objects[0], y[:, None] - objects[1]).min() > 2 * 3.2
    same = draw_positions(exposure, 7, np.random.default_rng(3), (objects[0], objects[1]))
    again = draw_positions(exposure, 7, np.random.default_rng(3), (objects[0], objects[1]))
    assert np.array_equal(same, again)
    assert len(same[0]) <= 7
    masked = replace(exposure, mask=np.full_like(mask, int(MaskPlane.BAD)))
    assert len(draw_positions(masked, 5, rng, (objects[0], objects[1]))[0]) == 0


def test_bad_calls(rng):
    exposure, some = blank(rng), shapes([150.0], [140.0])
    with pytest.raises(LumosDataError, match=r"a\.fits: no PSF is known"):
        inject(replace(exposure, psf=None), some, np.ones(1), rng)
    with pytest.raises(LumosDataError, match="no PSF is known"):
        draw_positions(replace(exposure, psf=None), 1, rng, (np.zeros(0), np.zeros(0)))
    with pytest.raises(LumosShapeError, match="fluxes to inject"):
        inject(exposure, some, np.ones(2), rng)
    with pytest.raises(LumosValueError, match="flux to inject: got nan, allowed: finite"):
        inject(exposure, some, np.array([np.nan]), rng)
    with pytest.raises(LumosValueError, match="number and distance"):
        draw_positions(exposure, 1, rng, (np.zeros(0), np.zeros(0)), distance=0.0)
