"""Headers of simulated exposures."""

import numpy as np
from astropy.io import fits

from lumos.simulate.plan import PlannedExposure, detector_wcs
from lumos.simulate.readable import survey_of
from lumos.simulate.settings import SurveySimulation
from lumos.simulate.truth import header_zeropoint

__all__ = ["image_header", "primary_header"]


def primary_header(exposure: PlannedExposure) -> fits.Header:
    """Return the header of the primary extension.

    Parameters
    ----------
    exposure : PlannedExposure
        The exposure.

    Returns
    -------
    astropy.io.fits.Header
        What is the same for all detectors.
    """
    header = fits.Header()
    header["EXPID"] = exposure.exposure_id
    header["FILTER"] = exposure.band
    header["EXPTIME"] = (exposure.exposure_time, "seconds")
    header["DATE-OBS"] = exposure.day.isoformat()
    if exposure.state:
        header["CAMSTATE"] = exposure.state
    header["MASKTYPE"] = ("LUMOS", "MASK holds the canonical planes")
    return header


def _per_second(settings: SurveySimulation) -> str:
    return " per second" if survey_of(settings.survey).zeropoint_per_second else ""


def image_header(settings: SurveySimulation, exposure: PlannedExposure, detector: int) -> fits.Header:
    """Return the header of the image of one detector.

    Parameters
    ----------
    settings : SurveySimulation
        Description of the survey.
    exposure : PlannedExposure
        The exposure.
    detector : int
        Number of the detector, 0 or more.

    Returns
    -------
    astropy.io.fits.Header
        WCS, band, gain, zero point, PSF.
    """
    header = detector_wcs(settings, exposure, detector).to_header()
    fwhm, beta = exposure.image_psf
    for key, value, text in (
        ("FILTER", exposure.band, ""),
        ("EXPTIME", exposure.exposure_time, "seconds"),
        ("CCDNUM", detector + 1, "detector"),
        ("DETECTOR", str(detector + 1), "detector"),
        ("GAIN", exposure.gain, "electrons per image unit"),
        ("RDNOISE", exposure.read_noise, "electrons per pixel"),
        ("ZEROPT", header_zeropoint(settings, exposure), "AB mag of 1 image unit" + _per_second(settings)),
        ("ZPERR", exposure.zeropoint_err, "its error"),
        ("PSF_FWHM", fwhm, "arcsec, Moffat, at the centre"),
        ("PSFBETA", beta, "Moffat exponent"),
        ("PSFPIXEL", False, "the Moffat is that before the pixel's response"),
        # A full pixel is exactly at this level, rounded as the pixels are.
        ("SATURATE", float(np.float32(exposure.saturation / exposure.gain)), "image units"),
    ):
        header[key] = (value, text)
    return header
