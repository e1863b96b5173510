"""WCSs of other frames than ICRS: catalogue positions and angles are transformed, unknown frames are refused."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits

from helpers.fits_files import wcs_cards
from lumos.errors import LumosDataError
from lumos.images import celestial_wcs, pixel_jacobian, pixel_to_sky, position_angle_to_pixel, sky_to_pixel

SHAPE = (1000, 800)
PATH = Path("x.fits")
GALACTIC = {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRVAL1": 18.0, "CRVAL2": 0.0}
FK4 = {"RADESYS": "FK4", "EQUINOX": 1950.0}
# Equatorial cards, and what they mean by the FITS standard.
FRAMES = [
    (GALACTIC, "galactic", {}),
    (GALACTIC | {"RADESYS": "FK5", "EQUINOX": 2000.0}, "galactic", {}),
    (FK4, "fk4", {"equinox": "B1950"}),
    (FK4 | {"MJD-OBS": 44000.0}, "fk4", {"equinox": "B1950", "obstime": "J1979.345"}),
    ({"EQUINOX": 1950.0}, "fk4", {"equinox": "B1950"}),
    ({"RADESYS": "FK4-NO-E", "EQUINOX": 1950.0}, "fk4noeterms", {"equinox": "B1950"}),
    ({"RADESYS": "FK5", "EQUINOX": 1975.0}, "fk5", {"equinox": "J1975"}),
    ({"EQUINOX": 1991.25}, "fk5", {"equinox": "J1991.25"}),
    ({"RADESYS": "ICRS", "EQUINOX": 1950.0}, "icrs", {}),
    ({"EQUINOX": 2000.0}, "icrs", {}),
    ({"RADESYS": "FK5"}, "icrs", {}),
]


def build(**cards: object):
    header = fits.Header(list((wcs_cards(crpix=(400.5, 500.5), ra=150.0, dec=40.0) | cards).items()))
    return celestial_wcs(header, PATH, SHAPE)


@pytest.mark.parametrize(("cards", "frame", "options"), FRAMES)
def test_positions_and_angles_are_those_of_icrs(cards, frame, options, rng):
    wcs = build(**cards)
    x, y = rng.uniform(0, 799, 30), rng.uniform(0, 999, 30)
    truth = SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg", frame=frame, **options).icrs
    found = SkyCoord(*pixel_to_sky(wcs, x, y), unit="deg")
    # A milliarcsecond, a 250th of a pixel.
    assert found.separation(truth).arcsec.max() < 1e-3
    x_found, y_found, inside = sky_to_pixel(wcs, truth.ra.deg, truth.dec.deg, SHAPE)
    assert inside.all()
    assert np.hypot(x_found - x, y_found - y).max() < 2e-3
    # A step along a position angle of ICRS, through the image's own frame.
    pa = rng.uniform(0, 360, 30)
    there = truth.directional_offset_by(pa * units.deg, 0.05 * units.arcsec).transform_to(
        SkyCoord(0, 0, unit="deg", frame=frame, **options).frame.replicate_without_data()
    )
    step = np.array(wcs.all_world2pix(there.spherical.lon.deg, there.spherical.lat.deg, 0)) - np.array([x, y])
    theta = position_angle_to_pixel(wcs, truth.ra.deg, truth.dec.deg, pa)
    assert np.abs(np.angle(np.exp(1j * (theta - np.arctan2(step[1], step[0]))))).max() < 2e-4
    # The area of a pixel is the same in every frame that turns the sky (the E terms of FK4 stretch it by 1e-4).
    area = np.abs(np.linalg.det(pixel_jacobian(wcs, x, y)))
    assert np.abs(area / 0.25**2 - 1).max() < 4e-4


def test_the_galactic_centre():
    # IAU 1958 in J2000: 17h45m37.22s -28d56m10.2s.
    wcs = build(**GALACTIC | {"CRVAL1": 0.0, "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"})
    ra, dec = pixel_to_sky(wcs, np.array([399.5]), np.array([499.5]))
    assert ra[0] == pytest.approx(266.40508, abs=1e-4)
    assert dec[0] == pytest.approx(-28.93617, abs=1e-4)
    # The Galactic plane runs at position angle 31.4 degrees there, and longitude grows to the left.
    theta = position_angle_to_pixel(wcs, ra, dec, np.array([0.0]))
    assert np.degrees(theta[0]) == pytest.approx(180 - 31.4, abs=0.1)


def test_fk5_of_2000_stays_within_its_promise():
    wcs = build(RADESYS="FK5", EQUINOX=2000.0)
    ra, dec = wcs.all_pix2world([0.0, 799.0], [0.0, 999.0], 0)
    assert np.array_equal(pixel_to_sky(wcs, np.array([0.0, 799.0]), np.array([0.0, 999.0])), [ra, dec])
    difference = SkyCoord(ra, dec, unit="deg", frame="fk5").icrs.separation(SkyCoord(ra, dec, unit="deg"))
    assert 0.01 < difference.arcsec.max() < 0.032


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, r"coordinates 'ELON', allowed: equatorial .* or Galactic"),
        ({"CTYPE1": "SLON-TAN", "CTYPE2": "SLAT-TAN"}, "coordinates 'SLON', allowed"),
        ({"CTYPE1": "TLON-TAN", "CTYPE2": "TLAT-TAN"}, "coordinates 'TLON', allowed"),
        ({"RADESYS": "GAPPT", "EQUINOX": 2010.0}, "RADESYS 'GAPPT', allowed"),
    ],
)
def test_other_frames_are_refused_by_name(cards, match):
    with pytest.raises(LumosDataError, match=match) as caught:
        build(**cards)
    assert str(caught.value).startswith("x.fits: the WCS has ")


def raw_header(**cards: str) -> fits.Header:
    """Return a header with cards exactly as given, malformed ones too."""
    text = "".join(card.image for card in fits.Header(list(wcs_cards().items())).cards if card.keyword not in cards)
    text += "".join(f"{key:<8}= {value}".ljust(80) for key, value in cards.items())
    return fits.Header.fromstring((text + "END".ljust(80)).ljust(2880))


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"CRPIX1": "8 0.5"}, "CRPIX1: the header card cannot be read"),
        ({"CRPIX1": "150,1"}, "CRPIX1: the header card cannot be read"),
        ({"CRVAL1": "1.2.3"}, "CRVAL1: the header card cannot be read"),
        ({"CRPIX1": "'8 0.5   '"}, "CRPIX1 is '8 0.5', allowed: a number"),
        ({"CRPIX2": "'150,1   '"}, "CRPIX2 is '150,1', allowed: a number"),
        ({"CD1_1": "'-6.9E-05'"}, "CD1_1 is '-6.9E-05', allowed: a number"),
        ({"CRPIX1": "T"}, "CRPIX1 is True, allowed: a number"),
        ({"CTYPE1": "12"}, "CTYPE1 is 12, allowed: text"),
        ({"CUNIT1": "deg"}, "CUNIT1: the header card cannot be read"),
        ({"EQUINOX": "J2000"}, "EQUINOX: the header card cannot be read"),
        ({"A_0_2": "1,5"}, "A_0_2: the header card cannot be read"),
    ],
)
def test_cards_of_the_wcs_that_cannot_be_read_are_refused(cards, match):
    with pytest.raises(LumosDataError, match=match) as caught:
        celestial_wcs(raw_header(**cards), PATH, (30, 40))
    assert str(caught.value).startswith("x.fits: ")


def test_malformed_cards_of_no_use_do_not_matter():
    header = raw_header(AIRMASS="1.2.3", CRPIX1A="8 0.5")
    celestial_wcs(header, PATH, (30, 40))
    # Reading the WCS has not turned the malformed card into text.
    with pytest.raises(fits.VerifyError):
        header["AIRMASS"]
