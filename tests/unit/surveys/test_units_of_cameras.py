"""The same stars in the units and layouts of many cameras: recognised by their headers, read with the same fluxes."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS

from helpers.fits_files import wcs_cards
from helpers.lsst_files import kernel, write_exposuref
from lumos.cameras.describe import describe_camera
from lumos.catalogs.parent import ParentCatalog
from lumos.flags import Flag, MaskPlane
from lumos.images import pixel_to_sky, read_exposure
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.surveys import load_survey, read_survey_text
from lumos.surveys.units import unit_of

SHAPE = (160, 200)
X, Y = np.array([60.3, 140.8, 100.0]), np.array([50.0, 60.4, 115.2])
#: Fluxes of the stars, nJy, and the noise of a pixel.
FLUX, SIGMA = np.array([40_000.0, 5_000.0, 1_500.0]), 2.0
NAN = (3, 4)


def gaussian(x, y, shape, sigma=2.0):
    """Return a Gaussian whose samples sum to 1."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    image = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
    return image / image.sum()


PSF = gaussian(15, 15, (31, 31)).astype(np.float32)
STARS = sum(flux * gaussian(x, y, SHAPE) for x, y, flux in zip(X, Y, FLUX, strict=True))


def sky_image(seed=7):
    """Return stars and noise, nJy."""
    return STARS + np.random.default_rng(seed).normal(0, SIGMA, SHAPE)


def cards(scale, **more):
    return fits.Header({**wcs_cards(scale=scale, crpix=(100.5, 80.5)), **more})


def write(path, *hdus):
    fits.HDUList(list(hdus)).writeto(path)
    return path


def psf_file(path):
    fits.PrimaryHDU(PSF).writeto(path)


def jwst(folder, njy):
    """Stage 3 of the JWST pipeline: SCI, ERR, CON, WHT, VAR_*, all MJy/sr."""
    psf_file(folder / "psf_F200W.fits")
    scale = 0.0307 * u.arcsec
    unit = (1 * u.nJy / scale**2).to_value(u.MJy / u.sr)
    primary = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "MULTIPLE", "FILTER": "F200W", "PUPIL": "CLEAR"}
    sci = cards(0.0307, BUNIT="MJy/sr", PIXAR_SR=(scale**2).to_value(u.sr), PIXAR_A2=scale.value**2, XPOSURE=1868.0)
    data = (njy * unit).astype(">f4")
    data[NAN] = np.nan
    flat = np.ones(SHAPE, ">f4")
    return write(
        folder / "jw01345_nircam_f200w_i2d.fits",
        fits.PrimaryHDU(header=fits.Header(primary)),
        fits.ImageHDU(data, sci, name="SCI"),
        fits.ImageHDU(SIGMA * unit * flat, fits.Header({"BUNIT": "MJy/sr"}), name="ERR"),
        fits.ImageHDU(np.ones((1, *SHAPE), np.int32), name="CON"),
        fits.ImageHDU(1868 * flat, name="WHT"),
        fits.ImageHDU(flat, name="VAR_POISSON"),
    )


def hst(folder, njy):
    """Drizzlepac: SCI in electrons per second, WHT the exposure time, CTX."""
    psf_file(folder / "psf_F814W.fits")
    flam, pivot = 7.0486e-20, 8045.0
    one = (flam * u.erg / u.s / u.cm**2 / u.AA).to_value(u.nJy, u.spectral_density(pivot * u.AA))
    primary = {"TELESCOP": "HST", "INSTRUME": "ACS", "FILTER1": "CLEAR1L", "FILTER2": "F814W", "EXPTIME": 2028.0}
    primary |= {"PHOTFLAM": flam, "PHOTPLAM": pivot}
    sci = cards(0.05, BUNIT="ELECTRONS/S", PHOTFLAM=flam, PHOTPLAM=pivot)
    return write(
        folder / "j8xi0x010_drc.fits",
        fits.PrimaryHDU(header=fits.Header(primary)),
        fits.ImageHDU((njy / one).astype(">f4"), sci, name="SCI"),
        fits.ImageHDU(np.full(SHAPE, 2028.0, ">f4"), name="WHT"),
        fits.ImageHDU(np.ones(SHAPE, np.int32), name="CTX"),
    )


def rubin(folder, njy):
    """An ExposureF in counts, its PhotoCalib, FilterLabel and PSF in tables."""
    objects = {
        1: ("KernelPsf", [{"kernel": 2}]),
        2: ("FixedKernel", [kernel(PSF.astype(float))]),
        3: ("PhotoCalib", [{"calibrationMean": 57.5, "calibrationErr": 0.5, "field": 0, "version": 1}]),
        4: ("FilterLabel", [{"band": "i", "physical": "i_06"}]),
    }
    roles = {"PSF_ID": 1, "PHOTOCALIB_ID": 3, "ARCHIVE_ID_FILTER": 4, "INSTRUME": "LSSTComCam"}
    return write_exposuref(folder / "visit.fits", njy / 57.5, objects, roles, variance=(SIGMA / 57.5) ** 2)


def legacysurvey(folder, njy):
    """legacypipe: compressed image and invvar in nanomaggies, one maskbits file of all bands."""
    nmgy = njy / (3631 * u.Jy).to_value(u.nJy) * 1e9
    head = cards(0.262, BRICK="0591m305", FILTER="r", MAGZERO=22.5, MAGSYS="AB", BUNIT="nanomaggy")
    for kind, data in (("image", nmgy), ("invvar", np.full(SHAPE, (3631.0 / SIGMA) ** 2))):
        head["IMTYPE"] = kind
        hdu = fits.CompImageHDU(data.astype(np.float32), head, compression_type="RICE_1", quantize_level=-1e-6)
        hdu = hdu if kind == "image" else fits.CompImageHDU(data.astype(np.float32), head, compression_type="GZIP_1")
        write(folder / f"legacysurvey-0591m305-{kind}-r.fits.fz", fits.PrimaryHDU(), hdu)
    bits = np.zeros(SHAPE, np.int32)
    bits[0, :4] = 8, 64, 2, 4
    masks = (fits.CompImageHDU(bits, name="MASKBITS"), fits.CompImageHDU(bits, name="WISEM1"))
    write(folder / "legacysurvey-0591m305-maskbits.fits.fz", fits.PrimaryHDU(), *masks)
    psf_file(folder / "legacysurvey-0591m305-image-r_psf.fits")
    return folder / "legacysurvey-0591m305-image-r.fits.fz"


def ztf(folder, njy):
    """IPAC: DN with the sky, a mask of bits, the PSF in the middle, AB zero point of the exposure."""
    zeropoint = 26.2
    one = (zeropoint * u.ABmag).to_value(u.nJy)
    stem = "ztf_20200924431759_000655_zr_c13_o_q3_sci"
    head = cards(1.012, TELESCOP="P48", INSTRUME="ZTF/MOSAIC", FILTER="ZTF_r", EXPTIME=30.0, GAIN=6.2, READNOI=10.0)
    head.update({"MAGZP": zeropoint, "MAGZPUNC": 1e-4, "SATURATE": 54325.0, "RCID": 50})
    bits = np.zeros(SHAPE, np.int16)
    bits[0, :4] = 256, 2048, 4096, 2
    write(folder / f"{stem}img.fits", fits.PrimaryHDU((njy / one + 250).astype(np.float32), head))
    write(folder / f"{stem.removesuffix('_sci')}_mskimg.fits", fits.PrimaryHDU(bits, head))
    psf_file(folder / f"{stem}imgdaopsfcent.fits")
    return folder / f"{stem}img.fits"


CAMERAS = {"jwst": jwst, "hst": hst, "lsst": rubin, "legacysurvey": legacysurvey, "ztf": ztf}


def measured(exposure):
    """Return the aperture fluxes of the stars, nJy, and the median background."""
    ra, dec = pixel_to_sky(exposure.wcs, X, Y)
    one = np.ones(len(X))
    catalog = ParentCatalog(np.arange(len(X)), ra, dec, 0 * one, one, one, 0 * one, np.nan * one)
    table = measure_exposure(exposure, catalog, MeasureSettings(estimators=("aperture",), scene="off"))
    assert not (table["flags"].to_numpy() & int(Flag.NO_ZEROPOINT)).any()
    return table["aperture_flux"].to_numpy(), table["aperture_flux_err"].to_numpy()


@pytest.mark.parametrize("name", sorted(CAMERAS))
def test_stars_have_the_same_flux_in_every_cameras_units(tmp_path, name):
    path = CAMERAS[name](tmp_path, sky_image())
    described = describe_camera([path])
    assert described.known == name
    assert read_survey_text(name) in described.text
    (exposure,) = read_exposure(path, load_survey(name))
    assert exposure.psf is not None
    flux, error = measured(exposure)
    np.testing.assert_allclose(flux, FLUX, rtol=4e-3, atol=30)
    assert (np.abs(flux - FLUX) < 5 * error + 4e-3 * FLUX).all()
    # The noise in nJy is that of the pixels, within what each camera's kind of weight can tell.
    scale = 10 ** (0.4 * (31.4 - exposure.zeropoint))
    if exposure.variance is not None:
        assert np.sqrt(np.median(exposure.variance)) * scale == pytest.approx(SIGMA, rel=0.05)
    if name == "jwst":
        assert np.argwhere(exposure.mask & int(MaskPlane.NON_FINITE)).tolist() == [list(NAN)]
    if name == "legacysurvey":
        assert exposure.mask[0, :5].tolist() == [2, 1, 0, 0, 0]
    if name == "ztf":
        assert exposure.mask[0, :5].tolist() == [2, 0, 1, 0, 0]
        assert (exposure.band, exposure.detector, exposure.gain) == ("r", "50", 6.2)


@pytest.mark.parametrize("unit", [u.nJy, u.Jy, u.MJy / u.sr, u.nmgy])
@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_images_that_ccddata_wrote(tmp_path, unit, kind):
    scale = 0.25 * u.arcsec
    whole = u.nJy if unit != u.MJy / u.sr else u.nJy / scale**2
    one = 1e-9 / 3631 * 1e9 if unit == u.nmgy else (1 * whole).to_value(unit)
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    mask = np.zeros(SHAPE, bool)
    mask[5, 6] = True
    values = np.full(SHAPE, (SIGMA * one) ** power)
    head = cards(0.25, FILTER="r", EXPTIME=60.0)
    data = CCDData(sky_image() * one, unit=unit, wcs=WCS(head), meta=head, mask=mask, uncertainty=kind(values), psf=PSF)
    data.write(tmp_path / "image.fits")
    (exposure,) = read_exposure(tmp_path / "image.fits", load_survey("generic"))
    assert exposure.provenance["psf"] == "stamp"
    assert exposure.mask[5, 6] == MaskPlane.BAD
    assert (exposure.mask != 0).sum() == 1
    np.testing.assert_allclose(exposure.variance, (SIGMA * one) ** 2, rtol=1e-5)
    np.testing.assert_allclose(measured(exposure)[0], FLUX, rtol=4e-3, atol=30)


@pytest.mark.parametrize("kind", ["uint16", "int16", "int32", "scaled", "uint8", "float64", "int64", "blank"])
def test_pixels_of_every_type(tmp_path, kind):
    """Integers, unsigned ones (BZERO) and scaled ones (BSCALE) hold the values that were written."""
    steps = np.random.default_rng(1).integers(0, 200, SHAPE)
    head = cards(0.25, FILTER="r", MAGZPT=27.0)
    if kind == "scaled":
        hdu = fits.PrimaryHDU(0.25 * steps - 7, head)
        hdu.scale("int16", bscale=0.25, bzero=-7)
    elif kind == "blank":
        head["BLANK"] = -99
        hdu = fits.PrimaryHDU(steps.astype(np.int16), head)
        hdu.data[4, 5] = -99
    else:
        hdu = fits.PrimaryHDU(steps.astype(kind) + np.array(32768 if kind == "uint16" else 0).astype(kind), head)
    hdu.writeto(tmp_path / "a.fits")
    (exposure,) = read_exposure(tmp_path / "a.fits", load_survey("generic"))
    expected = 0.25 * steps - 7 if kind == "scaled" else steps + (32768.0 if kind == "uint16" else 0.0)
    good = np.ones(SHAPE, bool)
    if kind == "blank":
        good[4, 5] = False
        assert exposure.mask[4, 5] == MaskPlane.NON_FINITE
    assert np.array_equal(exposure.data[good], expected[good].astype(np.float32))
    assert exposure.data.dtype == np.float32


def test_galactic_images_are_read_with_the_same_positions(tmp_path):
    head = cards(0.25, FILTER="r", BUNIT="nJy", PSF_FWHM=4.7 * 0.25)
    head.update({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 236.8, "CRVAL2": 42.1})
    fits.PrimaryHDU(sky_image(), head).writeto(tmp_path / "a.fits")
    (exposure,) = read_exposure(tmp_path / "a.fits", load_survey("generic"))
    there = WCS(head).pixel_to_world(X, Y).icrs
    ra, dec = pixel_to_sky(exposure.wcs, X, Y)
    np.testing.assert_allclose([ra, dec], [there.ra.deg, there.dec.deg], atol=1e-9)
    flux = measured(exposure)[0]
    # A Moffat of the right width stands in for a Gaussian.
    np.testing.assert_allclose(flux / FLUX, np.median(flux / FLUX), rtol=0.02, atol=0.02)


def test_units_that_tell_no_zero_point_leave_it_open(tmp_path):
    for number, unit in enumerate(["ADU", "electron/s", "nonsense", "Jy/beam/foo"]):
        path = tmp_path / f"{number}.fits"
        fits.PrimaryHDU(sky_image(), cards(0.25, FILTER="r", BUNIT=unit)).writeto(path)
        (exposure,) = read_exposure(path, load_survey("generic"))
        assert np.isnan(exposure.zeropoint)
    fits.PrimaryHDU(sky_image(), cards(0.25, FILTER="r", BUNIT="nJy", MAGZPT=30.0)).writeto(tmp_path / "b.fits")
    (exposure,) = read_exposure(tmp_path / "b.fits", load_survey("generic"))
    assert exposure.zeropoint == 30.0


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("mJy", 16.4),
        ("MJy/sr", "mjysr"),
        ("MJy / sr", "mjysr"),
        ("MJY/SR", "mjysr"),
        ("mJy/sr", "other"),
        ("mJy / sr", "other"),
        ("MJy", "other"),
        ("MJY", "other"),
    ],
)
def test_milli_and_mega_are_told_apart(text, rule):
    """What astropy reads as 1e-3 Jy is never taken as 1e6 Jy, nor the other way round."""
    assert unit_of(text)[1] == rule
