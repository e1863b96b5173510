"""Small FITS files for the tests of the readers."""

from pathlib import Path

import numpy as np
from astropy.io import fits

#: ``generic`` pixel scale of these files, arcsec.
SCALE = 0.25


def wcs_cards(*, ra=150.0, dec=2.0, scale=SCALE, crpix=(20.5, 15.5), projection="TAN") -> dict:
    """Return the cards of a north-up, east-left WCS."""
    return {
        "CTYPE1": f"RA---{projection}",
        "CTYPE2": f"DEC--{projection}",
        "CRPIX1": crpix[0],
        "CRPIX2": crpix[1],
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CD1_1": -scale / 3600,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale / 3600,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
    }


def image(shape=(30, 40), seed=1) -> np.ndarray:
    """Return noise in FITS byte order."""
    return np.random.default_rng(seed).normal(10.0, 1.0, shape).astype(">f4")


def header(**cards: object) -> fits.Header:
    """Return a header that the ``generic`` survey reads; None removes a card."""
    default = {"FILTER": "r", "EXPTIME": 100.0, "GAIN": 2.0, "RDNOISE": 5.0, "MAGZPT": 27.0, "PSF_FWHM": 0.8}
    default["PSFPIXEL"] = False
    return fits.Header([(k, v) for k, v in {**default, **wcs_cards(), **cards}.items() if v is not None])


def write_simple(path: Path, data=None, **cards: object) -> Path:
    """Write one plain image."""
    fits.PrimaryHDU(image() if data is None else data, header(**cards)).writeto(path)
    return path


def write_mef(path: Path, extensions: dict, **cards: object) -> Path:
    """Write SCI and further extensions, with the header cards split between the primary and SCI."""
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image(), header(**cards), name="SCI")]
    hdus += [fits.ImageHDU(data, name=name) for name, data in extensions.items()]
    fits.HDUList(hdus).writeto(path)
    return path
