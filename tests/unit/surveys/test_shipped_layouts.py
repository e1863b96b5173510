"""The shipped surveys of JWST, HST, HSC and LSST read files laid out as their archives publish them."""

import numpy as np
import pytest
from astropy.io import fits

from helpers.fits_files import image, wcs_cards, write_simple
from lumos.errors import LumosDataError
from lumos.flags import MaskPlane
from lumos.images import StampModel, load_stamp_psf, read_exposure
from lumos.surveys import load_survey

SHAPE = (30, 40)


def plane(value, dtype=">f4"):
    return np.full(SHAPE, value, dtype=dtype)


def write(path, primary: dict, extensions: list, make=fits.ImageHDU):
    hdus = [fits.PrimaryHDU(header=fits.Header(list(primary.items())))]
    hdus += [make(data, fits.Header(list({"EXTNAME": name, **cards}.items()))) for name, data, cards in extensions]
    fits.HDUList(hdus).writeto(path)
    return path


def read_one(path, survey):
    (exposure,) = read_exposure(path, load_survey(survey))
    return exposure


def write_i2d(path, **primary: object):
    cards = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "MULTIPLE", "FILTER": "F200W", "PUPIL": "CLEAR"}
    cards |= {"EFFEXPTM": 1868.0, "NEXTEND": 9} | primary
    scale = 0.0307
    sci = wcs_cards(scale=scale) | {"BUNIT": "MJy/sr", "RADESYS": "ICRS", "PHOTMJSR": 1.6, "XPOSURE": 1868.0}
    sci |= {"PIXAR_SR": (np.deg2rad(scale / 3600)) ** 2, "PIXAR_A2": scale**2}
    data = image()
    data[3, 4] = np.nan
    write(
        path,
        cards,
        [
            ("SCI", data, sci),
            ("ERR", plane(0.02), {"BUNIT": "MJy/sr"}),
            ("CON", np.ones((1, *SHAPE), np.int32), {}),
            ("WHT", plane(2500.0), {}),
            ("VAR_POISSON", plane(1e-4), {}),
            ("VAR_RNOISE", plane(2e-4), {}),
            ("VAR_FLAT", plane(1e-4), {}),
        ],
    )
    with fits.open(path, mode="append") as hdul:
        hdul.append(fits.BinTableHDU.from_columns([fits.Column("FILENAME", "8A", array=["a", "b"])], name="HDRTAB"))
        hdul.append(fits.BinTableHDU.from_columns([fits.Column("ASDF_METADATA", "4B")], nrows=1, name="ASDF"))
    return path


def test_jwst_mosaics(tmp_path):
    write_simple(tmp_path / "psf_F200W.fits", np.ones((5, 5), np.float32))
    path = write_i2d(tmp_path / "jw01_nircam_f200w_i2d.fits")
    exposure = read_one(path, "jwst")
    assert (exposure.band, exposure.exposure_id, exposure.detector) == ("F200W", "jw01_nircam_f200w_i2d", "MULTIPLE")
    assert exposure.exposure_time == 1868.0
    assert np.allclose(exposure.variance[0], 0.02**2)
    assert exposure.variance_includes_sources
    assert np.argwhere(exposure.mask).tolist() == [[3, 4]]
    # 1 MJy/sr in a pixel of 0.0307 arcsec is 22.15 nJy: AB 28.04, as tabulated for that scale (28.02 at 0.031).
    assert 10 ** (0.4 * (31.4 - exposure.zeropoint)) == pytest.approx(23.5044 * 0.0307**2 * 1e3, rel=1e-4)
    assert isinstance(exposure.psf, StampModel)
    assert {item.name for item in exposure.files} == {path.name, "psf_F200W.fits"}


def test_a_narrow_filter_stands_in_the_pupil_wheel(tmp_path):
    assert read_one(write_i2d(tmp_path / "a.fits", FILTER="F150W2", PUPIL="F162M"), "jwst").band == "F162M"


def test_hubble_drizzled_images(tmp_path):
    primary = {"FILTER1": "CLEAR1L", "FILTER2": "F814W", "EXPTIME": 2000.0, "NEXTEND": 3}
    sci = wcs_cards(scale=0.05) | {"PHOTFLAM": 7.0486e-20, "PHOTPLAM": 8045.0, "BUNIT": "ELECTRONS/S"}
    weight = plane(2000.0)
    weight[1, 2] = 0.0
    path = tmp_path / "j8xi_drc.fits"
    write(path, primary, [("SCI", image(), sci), ("WHT", weight, {}), ("CTX", plane(1, np.int32), {})])
    exposure = read_one(path, "hst")
    assert (exposure.band, exposure.gain) == ("F814W", 2000.0)
    # The AB zero point that STScI gives for ACS/WFC F814W with these two cards: 25.943.
    assert exposure.zeropoint == pytest.approx(25.943, abs=2e-3)
    assert np.argwhere(exposure.mask == MaskPlane.NO_VARIANCE).tolist() == [[1, 2]]
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(np.std(image()), rel=0.05)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("make", [fits.ImageHDU, fits.CompImageHDU])
def test_exposures_of_the_lsst_pipelines(tmp_path, named, make):
    names = ("IMAGE", "MASK", "VARIANCE") if named else ("", "", "")
    mask = plane(0, np.int32)
    mask[0, :6] = 1 << np.arange(6)
    planes = {"MP_BAD": 0, "MP_SAT": 1, "MP_INTRP": 2, "MP_CR": 3, "MP_EDGE": 4, "MP_DET": 5}
    planes |= {"HIERARCH MP_SUSPECT": 7, "HIERARCH MP_NO_DATA": 8}
    scale = {"scale": 0.168}
    extensions = [
        (names[0], image(), wcs_cards(**scale)),
        (names[1], mask, planes),
        (names[2], plane(4.0), {}),
        ("ARCHIVE", plane(0.0), {}),
    ]
    extensions = [(name or f"X{number}", *rest) for number, (name, *rest) in enumerate(extensions)]
    primary = {"FILTER": "HSC-I2", "EXPTIME": 200.0, "FLUXMAG0": 6.3e10, "HIERARCH FLUXMAG0ERR": 6.3e8}
    path = write(tmp_path / "calexp-HSC-I2-9813-4,4.fits", primary, extensions, make)
    exposure = read_one(path, "hsc")
    assert (exposure.band, exposure.exposure_id) == ("i", "calexp-HSC-I2-9813-4-4")
    assert exposure.zeropoint == pytest.approx(26.998, abs=1e-3)
    assert exposure.zeropoint_err == pytest.approx(0.010857, rel=1e-3)
    assert exposure.mask[0, :7].tolist() == [1, 2, 32, 4, 32, 0, 0]
    assert (exposure.variance == 4.0).all()
    # In nJy, and with a filter of the other camera.
    path = write(tmp_path / "visit_image.fits", {"FILTER": "i_06", "EXPTIME": 30.0}, extensions, make)
    exposure = read_one(path, "lsst")
    assert (exposure.band, exposure.zeropoint) == ("i", 31.4)
    assert exposure.mask[0, :7].tolist() == [1, 2, 32, 4, 32, 0, 0]
    cut = tmp_path / "cut_i.fits"
    write(cut, {"FILTER": "i_06"}, extensions[:2], make)
    with pytest.raises(LumosDataError, match=r"cut_i\.fits: no variance found, tried: VARIANCE, 3"):
        read_one(cut, "lsst")


def test_cell_coadds_with_a_psf_for_each_cell(tmp_path):
    cells = np.full((2, 2, 5, 5), np.nan)
    cells[0, 1], cells[1, 0] = 2.0, np.eye(5)
    mask = plane(0, np.int32)
    mask[0, :3] = 1, 2, 8
    planes = {"MSKN0000": "NO_DATA", "MSKN0001": "INTERPOLATED", "MSKN0002": "COSMIC_RAY", "MSKN0003": "SATURATED"}
    extensions = [
        ("IMAGE", image(), wcs_cards(scale=0.2)),
        ("MASK", mask, planes),
        ("VARIANCE", plane(1.0), {}),
        ("NOISE_REALIZATIONS/0", plane(0.0), {}),
        ("PSF", cells, {}),
    ]
    primary = {"DATAMODL": "https://images.lsst.io/schemas/cell_coadd-1.0.0"}
    path = write(tmp_path / "deep_coadd_5428_76_g.fits", primary, extensions)
    exposure = read_one(path, "lsst")
    assert exposure.band == "g"
    assert exposure.mask[0, :4].tolist() == [8, 32, 2, 0]
    assert np.allclose(exposure.psf.image, (np.full((5, 5), 0.04) + np.eye(5) / 5) / 2)
    assert exposure.files == (path,)
    extensions[-1] = ("PSF", np.full((2, 2, 5, 5), np.nan), {})
    path = write(tmp_path / "empty_g.fits", primary, extensions)
    with pytest.raises(LumosDataError, match=r"empty_g\.fits\[PSF\]: none of 4 cells has a PSF"):
        read_one(path, "lsst")
    path = write(tmp_path / "none_g.fits", primary, extensions[:-1])
    assert read_one(path, "lsst").psf is None
    with pytest.raises(LumosDataError, match=r"none_g\.fits: no image extension 'PSF' for the PSF"):
        load_stamp_psf(path, extension="PSF")
