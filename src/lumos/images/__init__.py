"""Exposures: readers, masks, WCS, PSF models and stamps."""

from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel, PsfModel, StampModel, load_stamp_psf
from lumos.images.psf.psfex import PsfexModel, load_psfex
from lumos.images.psf.sdss import SdssKlModel, load_psfield
from lumos.images.psf.table import read_psf_table
from lumos.images.psf.width import image_fwhm
from lumos.images.read_wcs import celestial_wcs
from lumos.images.reader import list_detectors, read_exposure
from lumos.images.stamps import Stamps, cut_stamps
from lumos.images.wcs import pixel_jacobian, pixel_scale_at, pixel_to_sky, position_angle_to_pixel, sky_to_pixel

__all__ = [
    "Exposure",
    "MoffatModel",
    "PsfModel",
    "PsfexModel",
    "SdssKlModel",
    "StampModel",
    "Stamps",
    "celestial_wcs",
    "cut_stamps",
    "image_fwhm",
    "list_detectors",
    "load_psfex",
    "load_psfield",
    "load_stamp_psf",
    "pixel_jacobian",
    "pixel_scale_at",
    "pixel_to_sky",
    "position_angle_to_pixel",
    "read_exposure",
    "read_psf_table",
    "sky_to_pixel",
]
