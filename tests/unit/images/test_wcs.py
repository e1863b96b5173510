"""Sky and pixels: angles, footprints, and WCSs that are refused."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits

from helpers.fits_files import wcs_cards
from lumos.errors import LumosDataError
from lumos.images import celestial_wcs, pixel_jacobian, pixel_scale_at, position_angle_to_pixel, sky_to_pixel

SHAPE = (1000, 800)
PATH = Path("x.fits")


def build(shape=SHAPE, angle=0.0, flip=False, **options):
    """Return a TAN WCS whose y axis is rotated by ``angle`` from north."""
    cards = wcs_cards(crpix=(400.5, 500.5), **options)
    scale, c, s = 0.25 / 3600, np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    east = 1 if flip else -1
    cards |= {"CD1_1": east * scale * c, "CD1_2": -east * scale * s, "CD2_1": scale * s, "CD2_2": scale * c}
    return celestial_wcs(fits.Header(list(cards.items())), PATH, shape)


def test_position_angle_of_a_north_up_image():
    # East is to the left: north (PA 0) is +y, east (PA 90) is -x.
    theta = position_angle_to_pixel(build(), np.full(3, 150.0), np.full(3, 2.0), np.array([0.0, 90.0, 45.0]))
    expected = np.deg2rad([90.0, 180.0, 135.0])
    assert np.abs(np.angle(np.exp(1j * (theta - expected)))).max() < 1e-6


@pytest.mark.parametrize("dec", [2.0, 60.0, 89.5])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0.0, 33.0, 170.0])
def test_position_angle_agrees_with_a_step_on_the_sky(dec, flip, angle, rng):
    wcs = build(dec=dec, angle=angle, flip=flip)
    x, y, pa = rng.uniform(0, 800, 20), rng.uniform(0, 1000, 20), rng.uniform(0, 360, 20)
    ra_0, dec_0 = wcs.all_pix2world(x, y, 0)
    there = SkyCoord(ra_0, dec_0, unit="deg").directional_offset_by(pa * units.deg, 0.05 * units.arcsec)
    x_1, y_1 = wcs.all_world2pix(there.ra.deg, there.dec.deg, 0)
    expected = np.arctan2(y_1 - y, x_1 - x)
    theta = position_angle_to_pixel(wcs, ra_0, dec_0, pa)
    # A step of 0.2 px is known to some 1e-9 px near the pole.
    assert np.abs(np.angle(np.exp(1j * (theta - expected)))).max() < 1e-5


def test_jacobian_and_scale():
    wcs = build(angle=30.0)
    jacobian = pixel_jacobian(wcs, np.array([399.5]), np.array([499.5]))[0]
    assert np.linalg.det(jacobian) == pytest.approx(-(0.25**2), rel=1e-6)
    assert pixel_scale_at(wcs, SHAPE) == pytest.approx(0.25, rel=1e-6)


def test_sky_to_pixel_inverts_and_marks_the_footprint(rng):
    wcs = build(dec=60.0)
    x, y = rng.uniform(-50, 850, 500), rng.uniform(-50, 1050, 500)
    ra, dec = wcs.all_pix2world(x, y, 0)
    x_found, y_found, inside = sky_to_pixel(wcs, ra, dec, SHAPE)
    expected = (x >= -0.5) & (x < 799.5) & (y >= -0.5) & (y < 999.5)
    assert np.array_equal(inside, expected)
    assert 0.5 < expected.mean() < 1.0
    assert np.abs(x_found - x)[expected].max() < 1e-3
    assert np.abs(y_found - y)[expected].max() < 1e-3
    assert sky_to_pixel(wcs, ra, dec, SHAPE, margin=51.0)[2].all()


def test_footprint_across_right_ascension_zero(rng):
    wcs = build(ra=0.0)
    x, y = rng.uniform(0, 799, 50), rng.uniform(0, 999, 50)
    ra, dec = wcs.all_pix2world(x, y, 0)
    assert sky_to_pixel(wcs, ra % 360.0, dec, SHAPE)[2].all()
    assert sky_to_pixel(wcs, ra % 360.0 - 360.0, dec, SHAPE)[2].all()


def test_objects_far_away_are_never_inside():
    # A tangent plane shows the antipode at the same pixel.
    ra = np.array([330.0, 330.0, 240.0, 60.0, 150.0, 150.0, np.nan, 150.0, np.inf])
    dec = np.array([-2.0, -2.001, 0.0, 0.0, 89.0, -88.0, 2.0, np.nan, 2.0])
    x, y, inside = sky_to_pixel(build(), ra, dec, SHAPE, margin=30.0)
    assert not inside.any()
    assert np.isnan(x).all()
    assert np.isnan(y).all()
    assert sky_to_pixel(build(), np.empty(0), np.empty(0), SHAPE)[2].shape == (0,)


def test_distant_objects_are_outside_for_every_projection():
    ra, dec = np.meshgrid(np.arange(0.0, 360.0, 10.0), np.arange(-90.0, 91.0, 10.0))
    for projection in ("TAN", "ZEA", "SIN", "CAR"):
        wcs = build(projection=projection)
        assert not sky_to_pixel(wcs, ra.ravel() + 0.5, np.clip(dec.ravel() + 0.5, -90, 90), SHAPE)[2].any()


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"CTYPE1": "PIXEL", "CTYPE2": "PIXEL"}, "no celestial WCS"),
        ({"CTYPE1": None, "CTYPE2": None}, "no celestial WCS"),
        ({"CD1_1": 0.0}, "singular"),
        ({"CD1_1": 1e-5, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 1e-5}, "singular"),
        ({"A_ORDER": 2, "B_ORDER": 2, "A_0_2": 1e-6}, "SIP coefficients"),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CD1_1": -5.0, "CD2_2": 5.0}, "gives no sky position"),
    ],
)
def test_bad_wcs(cards, match):
    header = fits.Header([(k, v) for k, v in {**wcs_cards(), **cards}.items() if v is not None])
    with pytest.raises(LumosDataError, match=match) as caught:
        celestial_wcs(header, PATH, (30, 40))
    assert str(caught.value).startswith("x.fits: ")


def test_empty_header_is_refused():
    with pytest.raises(LumosDataError, match="no celestial WCS"):
        celestial_wcs(fits.Header(), PATH, (30, 40))


def test_announced_sip_is_used_and_a_wild_one_refused():
    cards = wcs_cards() | {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2}
    mild = fits.Header(list((cards | {"A_2_0": 1e-4}).items()))
    wcs = celestial_wcs(mild, PATH, (30, 40))
    ra, dec = wcs.all_pix2world([0.0], [0.0], 0)
    x, _, inside = sky_to_pixel(wcs, ra, dec, (30, 40))
    assert inside.all()
    assert abs(x[0]) < 1e-3
    # The distortion turns back within the image: two pixels share one sky position.
    wild = fits.Header(list((cards | {"A_2_0": 0.2}).items()))
    with pytest.raises(LumosDataError, match="not invertible"):
        celestial_wcs(wild, PATH, (30, 40))
