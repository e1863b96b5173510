"""Cameras that nobody prepared for: a survey file of a few lines, and fluxes that sep finds on the same pixels."""

import shutil
from dataclasses import dataclass

import galsim
import numpy as np
import pytest
import sep
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.optimize import brentq

from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosDataError
from lumos.flags import Flag, MaskPlane
from lumos.images import MoffatModel, read_exposure
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.surveys import load_survey

pytestmark = [pytest.mark.science, pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")]

SPITZER = """
name: irac
text: Spitzer IRAC mosaic of GLIMPSE
bands: [I1, I2, I3, I4]
flux_unit: MJy/sr
sky_subtracted: false
header:
  band: {keys: [CHNLNUM], aliases: {"1": I1, "2": I2, "3": I3, "4": I4}}
  exposure_time: [EXPTIME]
  psf_fwhm: {default: 1.9}
zeropoint: {kind: mjysr}
psf: {kind: header, beta: 2.5}
"""
DECAM = """
name: plain
text: DECam images with nothing but pixels and WCS; electrons, calibrated elsewhere
bands: [g, r, z]
flux_unit: electron
sky_subtracted: false
header:
  band: {keys: [], file_pattern: '_([grz])$', required: true}
  gain: {default: 1.0}
  exposure_time: [EXPTIME]
  psf_fwhm: {default: 1.0}
zeropoint: {offset: 0.0}
psf: {kind: header}
"""


@dataclass(frozen=True)
class Case:
    """An exposure, and its pixels, WCS and zero point read by other means."""

    exposure: object
    data: np.ndarray
    wcs: WCS
    zeropoint: float


def read_one(path, survey):
    (exposure,) = read_exposure(path, survey)
    return exposure


def of_text(tmp_path, text):
    assert len(text.strip().splitlines()) <= 15
    (tmp_path / "survey.yaml").write_text(text)
    return load_survey(tmp_path / "survey.yaml")


def hsc(cameras, tmp_path):
    # The file holds neither band nor calibration; its name and a stamp stand beside it as the pipeline writes them.
    path = tmp_path / "calexp-HSC-I-9813-4,4.fits"
    shutil.copy(cameras / "hsc_calexp/HSC-0908120-056-small.fits", path)
    stamp = galsim.Moffat(beta=3.5, fwhm=4.2).drawImage(nx=41, ny=41, scale=1.0).array
    fits.PrimaryHDU(stamp).writeto(tmp_path / "calexp-HSC-I-9813-4,4_psf.fits")
    with fits.open(path) as hdul:
        return Case(read_one(path, load_survey("hsc")), hdul[1].data, WCS(hdul[1].header), np.nan)


def lsst(cameras, tmp_path):
    del tmp_path
    path = cameras / "lsstcam_coadd/deep_coadd_5428_76_g.fits"
    with fits.open(path) as hdul:
        return Case(read_one(path, load_survey("lsst")), hdul["IMAGE"].data, WCS(hdul["IMAGE"].header), 31.4)


def hst(cameras, tmp_path):
    for name in ("dwarf_galaxy_f105w", "dwarf_galaxy_f105w_rms"):
        shutil.copy(cameras / f"hst_wfc3/abell_2744_{name}.fits.gz", tmp_path)
    # 50 x 50 pixels, centred on (24, 24).
    fits.PrimaryHDU(fits.getdata(cameras / "hst_wfc3/f105w_psf.fits.gz")[:49, :49]).writeto(tmp_path / "psf_F105W.fits")
    path = tmp_path / "abell_2744_dwarf_galaxy_f105w.fits.gz"
    with fits.open(path) as hdul:
        header = hdul[0].header
        # The AB zero point that STScI tabulates for WFC3/IR F105W is 26.2689 (formula: ACS data handbook).
        zeropoint = -2.5 * np.log10(header["PHOTFLAM"]) - 5 * np.log10(header["PHOTPLAM"]) - 2.408
        return Case(read_one(path, load_survey("hst")), hdul[0].data, WCS(header), zeropoint)


def spitzer(cameras, tmp_path):
    path = cameras / "spitzer_irac/spitzer_example_image.fits"
    with fits.open(path) as hdul:
        zeropoint = -2.5 * np.log10(1e6 * np.deg2rad(1.2 / 3600) ** 2 / 3631)
        return Case(read_one(path, of_text(tmp_path, SPITZER)), hdul[0].data, WCS(hdul[0].header), zeropoint)


def decam(cameras, tmp_path):
    path = cameras / "decam_plain/img_r.fits"
    with fits.open(path) as hdul:
        return Case(read_one(path, of_text(tmp_path, DECAM)), hdul[0].data, WCS(hdul[0].header), np.nan)


def native(data):
    return np.ascontiguousarray(data, dtype=np.float64)


def detections(data):
    """Return pixel positions of the sources that sep finds, away from the edges."""
    data = np.where(np.isfinite(data), data, np.nanmedian(data))
    sky = sep.Background(data, bw=32, bh=32)
    found = sep.extract(data - sky.back(), 5.0, err=sky.globalrms)
    inside = (np.minimum(found["x"], found["y"]) > 10) & (found["x"] < data.shape[1] - 11)
    inside &= found["y"] < data.shape[0] - 11
    found = found[inside]
    found = found[np.argsort(found["flux"])[::-1][:150]]
    return found["x"], found["y"]


def measured(exposure, catalog):
    table = measure_exposure(exposure, catalog, MeasureSettings(estimators=("aperture",), scene="off"))
    names = ("object_id", "x", "y", "aperture_flux", "background", "flags")
    return {name: table[name].to_numpy() for name in names}


def catalog_at(sky, radius):
    n = len(sky)
    one = np.ones(n)
    return ParentCatalog(np.arange(n), sky.ra.deg, sky.dec.deg, radius * one, one, one, 0 * one, np.nan * one)


def model_image(exposure, radius_px):
    """Draw the disk that is measured, of total flux 1, with GalSim."""
    disk = galsim.Exponential(half_light_radius=radius_px)
    if isinstance(exposure.psf, MoffatModel):
        psf, method = galsim.Moffat(exposure.psf.beta, fwhm=exposure.psf.fwhm), "auto"
    else:
        image = galsim.Image(np.asarray(exposure.psf.image, dtype=np.float64), scale=1.0)
        psf, method = galsim.InterpolatedImage(image, flux=1.0), "no_pixel"
    return galsim.Convolve(disk, psf).drawImage(nx=101, ny=101, scale=1.0, method=method)


@pytest.mark.parametrize("camera", [hsc, hst, spitzer, decam])
def test_fluxes_agree_with_sep_on_the_same_pixels(data_dir, tmp_path, camera):
    case = camera(data_dir / "cameras", tmp_path)
    exposure, data = case.exposure, native(case.data)
    assert exposure.shape == data.shape
    assert np.isnan(exposure.zeropoint) == np.isnan(case.zeropoint)
    if np.isfinite(case.zeropoint):
        assert exposure.zeropoint == pytest.approx(case.zeropoint, abs=1e-3)
    x, y = detections(data)
    sky = case.wcs.pixel_to_world(x, y).icrs
    rows = measured(exposure, catalog_at(sky, 2.0 * exposure.pixel_scale))
    assert np.array_equal(rows["object_id"], np.arange(len(x)))
    # FK5 of equinox 2000 is read as ICRS: at most 0.032 arcsec.
    assert np.hypot(rows["x"] - x, rows["y"] - y).max() < 0.032 / exposure.pixel_scale + 2e-3
    unit = 10 ** (0.4 * (31.4 - case.zeropoint)) if np.isfinite(case.zeropoint) else 1.0
    model = model_image(exposure, 2.0)
    light = native(model.array)
    radius = brentq(lambda r: sep.sum_circle(light, [50.0], [50.0], r, subpix=0)[0][0] - 0.625, 1.0, 40.0)
    total, _, _ = sep.sum_circle(data, rows["x"], rows["y"], radius, subpix=0)
    flux = (total - np.pi * radius**2 * rows["background"] / unit) / 0.625 * unit
    # The annulus holds a little of the object's own light, which the estimator takes into account.
    bad = Flag.MASKED | Flag.SATURATED | Flag.MASKED_CENTRE | Flag.TOO_MASKED | Flag.EDGE | Flag.OFF_DATA
    good = (rows["flags"] & int(bad)) == 0
    assert good.sum() >= 3
    relative = (rows["aperture_flux"] / flux - 1)[good]
    assert abs(np.median(relative)) < 0.003
    assert np.abs(relative).max() < 0.01
    assert bool((rows["flags"] & int(Flag.NO_ZEROPOINT) != 0).all()) == np.isnan(case.zeropoint)


def test_irac_fluxes_are_those_of_the_published_catalogue(data_dir, tmp_path):
    case = spitzer(data_dir / "cameras", tmp_path)
    table = Table.read(data_dir / "cameras/spitzer_irac/spitzer_example_catalog.xml")
    sky = SkyCoord(table["l"], table["b"], unit="deg", frame="galactic").icrs
    published = np.ma.filled(np.asarray(table["f4_5"], dtype=np.float64), np.nan) * 1e6
    chosen = np.isfinite(published) & (published > 2e7)
    rows = measured(case.exposure, catalog_at(sky[chosen], 0.3))
    ratio = rows["aperture_flux"] / published[chosen][rows["object_id"]]
    assert np.isfinite(ratio).sum() > 20
    # A Moffat stands in for IRAC's PSF, whose wings hold some 10 % of the light. Found: 1.05.
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.1)


def test_masks_and_noise_of_lsst_and_hsc(data_dir, tmp_path):
    # One cell of 32 x 32 pixels has data, with pixels in disorder: what can be tested is what is read.
    case = lsst(data_dir / "cameras", tmp_path)
    exposure = case.exposure
    finite = np.isfinite(case.data)
    assert np.array_equal(exposure.data[finite], case.data[finite])
    assert (exposure.zeropoint, exposure.exposure_id) == (31.4, "deep_coadd_5428_76_g")
    with fits.open(exposure.path) as hdul:
        planes, variance, cells = hdul["MASK"].data, hdul["VARIANCE"].data, hdul["PSF"].data
    assert exposure.band == "g"
    for name, bit in (("NO_DATA", 1), ("SUSPECT", 2), ("COSMIC_RAY", 4), ("SATURATED", 8)):
        assert np.array_equal((exposure.mask & MaskPlane[name]) != 0, (planes & bit) != 0)
    good = (variance > 0) & np.isfinite(variance)
    assert good.sum() > 900
    assert np.array_equal(exposure.variance[good], variance[good])
    assert np.array_equal((exposure.mask & MaskPlane.NO_VARIANCE) != 0, ~good)
    # Of four cells one has a PSF; the moments of the one exposure in it stand among the provenance.
    x, y = np.array([16.0, 16.0, 48.0]), np.array([48.0, 16.0, 48.0])
    images = exposure.psf.at(x, y).images
    assert np.allclose(images[0], cells[1, 0] / cells[1, 0].sum(), atol=1e-7)
    assert np.isnan(images[1:]).all()
    with fits.open(exposure.path) as hdul:
        row = hdul["PROVENANCE/CONTRIBUTIONS"].data[0]
        drawn = hdul["NOISE_REALIZATIONS/0"].data
    sigma = (row["psf_shape_xx"] * row["psf_shape_yy"] - row["psf_shape_xy"] ** 2) ** 0.25
    moments = galsim.hsm.FindAdaptiveMom(galsim.Image(images[0].astype(np.float64)))
    assert moments.moments_sigma == pytest.approx(sigma, rel=2e-3)
    # The noise that the pipeline drew is that of its variance.
    assert np.array_equal(exposure.noise_realization[finite], drawn[finite])
    good &= exposure.mask == 0
    assert np.std(drawn[good] / np.sqrt(variance[good])) == pytest.approx(1, abs=0.05)
    exposure = hsc(data_dir / "cameras", tmp_path).exposure
    assert (exposure.band, exposure.exposure_id) == ("i", "calexp-HSC-I-9813-4-4")
    assert np.isnan(exposure.exposure_time)
    with pytest.raises(
        LumosDataError,
        match="no band in the header, keys tried: ARCHIVE BAND, ARCHIVE FILTER, FILTER, FILTER01; nor in",
    ):
        read_one(data_dir / "cameras/hsc_calexp/HSC-0908120-056-small.fits", load_survey("hsc"))
