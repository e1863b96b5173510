"""Neighbours: the contamination that catalogue and profiles predict is that of drawn scenes, and decides the flag."""

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from helpers.fits_files import wcs_cards
from lumos.catalogs.parent import ParentCatalog
from lumos.flags import Flag
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.neighbours import has_neighbour
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.profiles import Shapes, render
from lumos.psfs import MoffatPsf

SETTINGS = MeasureSettings(estimators=("optimal",), noise={"correlation": "none"})
FWHM, BETA, ZEROPOINT, SHAPE = 3.8, 3.5, 27.0, (200, 200)


def scene(rng, x, y, magnitude, *, radius=3.0, zeropoint=ZEROPOINT, known=True, scatter=2.0, drawn_at=ZEROPOINT):
    """Return an exposure with galaxies drawn onto noise, its catalogue, and the fluxes in image units."""
    x, y, magnitude = (np.asarray(v, dtype=float) for v in (x, y, magnitude))
    one, psf = np.ones(len(x)), MoffatModel(FWHM, BETA)
    radius = radius * one
    flux = 10 ** (-0.4 * (magnitude - drawn_at))
    light = render(Shapes(x, y, radius, one, one, 0 * one), psf.at(x, y), size=SHAPE).numpy()
    data = (rng.normal(0, scatter, SHAPE) + (light * flux[:, None, None]).sum(0)).astype(np.float32)
    wcs = WCS(Header(wcs_cards()))
    made = Exposure(
        "e", "1", "test", "r", "", data, np.zeros(SHAPE, np.int32), wcs, 0.25, psf,
        variance=np.full(SHAPE, scatter**2, np.float32), zeropoint=zeropoint,
    )  # fmt: skip
    ra, dec = wcs.all_pix2world(x, y, 0)
    ref_mag = magnitude if known else np.nan * one
    catalog = ParentCatalog(np.arange(len(x)), ra, dec, radius * 0.25, one, one, 0 * one, ref_mag)
    return made, catalog, flux


def flagged(exposure, catalog):
    table = measure_exposure(exposure, catalog, SETTINGS)
    return (table["flags"].to_numpy() & int(Flag.NEIGHBOUR)) != 0, table


def test_a_bright_neighbour_is_flagged_and_a_faint_one_is_not(rng):
    x, y = [100.0, 108.0], [100.0, 100.0]
    exposure, catalog, flux = scene(rng, x, y, [21.0, 19.0], scatter=0.5)
    found, table = flagged(exposure, catalog)
    excess = table["flux"].to_numpy() / flux / 10 ** (0.4 * (31.4 - ZEROPOINT)) - 1
    # The light of the brighter one is half of what is measured of the fainter.
    assert excess[0] > 0.5
    assert found[0]
    found, table = flagged(*scene(rng, x, y, [19.0, 24.0])[:2])
    assert found.tolist() == [False, True]
    # Far enough away, neither.
    assert not flagged(*scene(rng, [60.0, 140.0], y, [21.0, 19.0])[0:2])[0].any()


def test_a_neighbour_just_off_the_image_counts(rng):
    exposure, catalog, _ = scene(rng, [196.0, 203.0], [100.0, 100.0], [21.5, 18.0])
    found, table = flagged(exposure, catalog)
    assert table["object_id"].to_pylist() == [0]
    assert found.tolist() == [True]


def test_without_magnitudes_distance_and_both_sizes_decide(rng):
    # Half-light radii of the blurred profiles: 3.7 px for a radius of 3, 12.2 px for one of 12.
    for radius, distance, expected in ((3.0, 10.0, True), (3.0, 13.0, False), ([3.0, 12.0], 20.0, True)):
        made = scene(rng, [90.0, 90.0 + distance], [100.0, 100.0], [21.0, 21.0], radius=np.array(radius), known=False)
        assert flagged(*made[:2])[0].tolist() == [expected] * 2, (radius, distance)


def test_without_a_zeropoint_the_colour_of_the_exposure_decides(rng):
    x, y = (values.ravel().astype(float) for values in np.meshgrid([30, 77, 124, 171], [30, 100, 170]))
    x, y = np.append(x, 85.0), np.append(y, 30.0)
    magnitude = np.append(np.full(12, 20.0), 17.5)
    magnitude[1] = 21.0
    # The header's zero point is absent, or makes every neighbour a thousand times too faint: the pixels know better.
    for zeropoint in (np.nan, ZEROPOINT - 7.5):
        found, _ = flagged(*scene(rng, x, y, magnitude, zeropoint=zeropoint)[:2])
        assert np.flatnonzero(found).tolist() == [1]
    # Two objects are no measure of a colour: without a zero point their distance of 8 px decides.
    exposure, catalog, _ = scene(rng, [100.0, 108.0], [100.0, 100.0], [19.0, 24.0], zeropoint=np.nan)
    assert flagged(exposure, catalog)[0].tolist() == [True, True]


def test_an_unmeasured_object_is_judged_by_distance(rng):
    exposure, catalog, _ = scene(rng, [100.0, 108.0, 160.0], [100.0, 100.0, 100.0], [21.0, 21.0, 21.0])
    around = place_objects(exposure, catalog, SETTINGS)
    psf, unknown = exposure.psf.at(np.zeros(1), np.zeros(1)), np.full(3, np.nan)
    found = has_neighbour(around, np.arange(3), unknown, unknown, psf, in_njy=True)
    assert found.tolist() == [True, True, False]


@pytest.mark.parametrize("beta", [2.5, 4.765])
def test_predicted_contamination_is_that_of_drawn_profiles(rng, beta):
    n = 120
    radius, ratio, theta = rng.uniform(0, 6, 2 * n), rng.uniform(0.2, 1, 2 * n), rng.uniform(0, np.pi, 2 * n)
    index = np.exp(rng.uniform(np.log(0.5), np.log(4), 2 * n))
    radius[::9] = 0.0
    x, y = 60 + rng.uniform(-0.5, 0.5, (2, 2 * n))
    distance, angle = rng.uniform(2, 22, n), rng.uniform(0, 2 * np.pi, n)
    x[n:], y[n:] = x[:n] + distance * np.cos(angle), y[:n] + distance * np.sin(angle)
    psf = MoffatPsf(np.array([FWHM]), np.array([beta]))
    drawn = render(Shapes(x, y, radius, index, ratio, theta), psf, size=120).double().numpy()
    light = (drawn[:n] * drawn[n:]).sum((1, 2)) / (drawn[:n] ** 2).sum((1, 2))
    one, nothing = np.ones(2), np.zeros(2)
    wrong = 0
    for pair in range(n):
        if light[pair] < 1e-3:
            continue
        both = np.array([pair, pair + n])
        catalog = ParentCatalog(np.arange(2), *[nothing] * 6, 31.4 * one)
        around = PlacedObjects(
            x[both], y[both], radius[both], index[both], ratio[both], theta[both], catalog, FWHM * one,
            *[one] * 3, nothing.astype(int),
        )  # fmt: skip
        # The neighbour has a flux of 1, so that its light is the contamination; 20 % more or less decides.
        for factor, expected in ((0.8, True), (1.25, False)):
            error = np.array([2 * light[pair] * factor])
            found = has_neighbour(around, np.array([0]), np.zeros(1), error, psf, in_njy=True)
            wrong += found[0] != expected
    assert wrong <= 0.05 * n
