"""Reading exposures: formats, calibration, and every bad input by name."""

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from helpers.fits_files import header, image, write_mef, write_simple
from lumos.errors import LumosDataError
from lumos.flags import MaskPlane
from lumos.images import MoffatModel, StampModel, list_detectors, read_exposure
from lumos.images.reader import read_exposure_id
from lumos.psfs import moffat_on_pixels
from lumos.surveys import load_survey

GENERIC = load_survey("generic")


def read_one(path, survey=GENERIC, **options):
    exposures = list(read_exposure(path, survey, **options))
    assert len(exposures) == 1
    return exposures[0]


def custom(tmp_path: Path, **changes: object):
    base = {"name": "mine", "text": "x", "bands": ["r"], "flux_unit": "count", "sky_subtracted": True}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**base, "header": {"band": ["FILTER"]}, **changes}))
    return load_survey(path)


def test_a_simple_image_is_read_native_with_its_calibration(tmp_path):
    exposure = read_one(write_simple(tmp_path / "night-1.fits"))
    assert exposure.data.dtype == np.dtype(np.float32)
    assert exposure.data.dtype.isnative
    assert exposure.data.flags.c_contiguous
    assert np.array_equal(exposure.data, image().astype(np.float32))
    assert (exposure.exposure_id, exposure.detector, exposure.band, exposure.state) == ("night-1", "0", "r", "")
    assert (exposure.gain, exposure.read_noise, exposure.exposure_time, exposure.zeropoint) == (2.0, 5.0, 100.0, 27.0)
    assert exposure.pixel_scale == pytest.approx(0.25, rel=1e-6)
    assert isinstance(exposure.psf, MoffatModel)
    assert exposure.psf.fwhm == pytest.approx(0.8 / 0.25, rel=1e-6)
    assert exposure.mask.dtype == np.int32
    assert not exposure.mask.any()
    assert exposure.variance is None
    assert len(exposure.provenance["files"]["night-1.fits"]) == 64


@pytest.mark.parametrize("kind", ["gz", "bz2", "fz", "scaled"])
def test_compressed_and_scaled_images_hold_the_same_pixels(tmp_path, kind):
    data = np.rint(image()).astype(np.float32)
    plain = write_simple(tmp_path / "a.fits", data.astype(">f4"))
    if kind == "gz":
        path = tmp_path / "b.fits.gz"
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif kind == "bz2":
        path = tmp_path / "b.fits.bz2"
        path.write_bytes(bz2.compress(plain.read_bytes()))
    elif kind == "fz":
        path = tmp_path / "b.fits.fz"
        hdu = fits.CompImageHDU(data.astype(np.int32), header(), compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    else:
        path = tmp_path / "b.fits"
        hdu = fits.PrimaryHDU(data.astype(np.uint16), header())  # BZERO 32768
        hdu.writeto(path)
    exposure = read_one(path)
    assert np.array_equal(exposure.data, data)
    assert exposure.exposure_id == "b"


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [("VAR", [4.0, 9.0], [4.0, 9.0]), ("IVAR", [0.25, 0.5], [4.0, 2.0])],
)
def test_variance_and_inverse_variance_extensions(tmp_path, name, values, expected):
    plane = np.full((30, 40), values[0], dtype=">f4")
    plane[5, 7] = values[1]
    exposure = read_one(write_mef(tmp_path / "a.fits", {name: plane}))
    assert exposure.variance[0, 0] == pytest.approx(expected[0])
    assert exposure.variance[5, 7] == pytest.approx(expected[1])


def test_relative_weight_is_scaled_to_the_scatter(tmp_path):
    rng = np.random.default_rng(5)
    weight = rng.uniform(1.0, 4.0, (200, 200))
    data = rng.normal(0.0, 3.0, (200, 200)) / np.sqrt(weight)
    sci = fits.ImageHDU(data.astype(">f4"), header(CRPIX1=100.5, CRPIX2=100.5), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), sci, fits.ImageHDU(weight.astype(">f4"), name="WEIGHT")]).writeto(
        tmp_path / "a.fits"
    )
    exposure = read_one(tmp_path / "a.fits")
    # The clipped scatter of N Gaussians has a relative error of about 1 / sqrt(2 N) = 0.4 %; five of those and the
    # clipping's own 1 %, twice as much for the variance.
    assert np.median(exposure.variance * weight) == pytest.approx(9.0, rel=0.06)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["VAR", "IVAR"])
def test_variance_that_is_not_positive_and_finite_is_masked(tmp_path, name, bad):
    plane = np.ones((30, 40), dtype=">f4")
    plane[3, 4] = bad
    exposure = read_one(write_mef(tmp_path / "a.fits", {name: plane}))
    assert exposure.mask[3, 4] == MaskPlane.NO_VARIANCE
    assert (exposure.mask != 0).sum() == 1
    assert np.isfinite(exposure.variance).all()


def test_pixels_that_are_not_finite_are_masked_and_zero(tmp_path):
    data = image()
    data[2, 3], data[4, 5] = np.nan, -np.inf
    exposure = read_one(write_simple(tmp_path / "a.fits", data))
    assert exposure.mask[2, 3] == exposure.mask[4, 5] == MaskPlane.NON_FINITE
    assert (exposure.mask != 0).sum() == 2
    assert exposure.data[2, 3] == exposure.data[4, 5] == 0
    assert np.isfinite(exposure.data).all()


def test_saturated_pixels_are_masked(tmp_path):
    data = image()
    data[2, 3] = 5000.0
    exposure = read_one(write_simple(tmp_path / "a.fits", data, SATURATE=4000.0))
    assert exposure.mask[2, 3] == MaskPlane.SATURATED
    assert (exposure.mask != 0).sum() == 1


def write_mosaic(path, detectors=("A", "B", "C")):
    hdus = [fits.PrimaryHDU(header=fits.Header([("FILTER", "r"), ("EXPTIME", 10.0)]))]
    for k, name in enumerate(detectors):
        cards = header(FILTER=None, DETECTOR=name)
        hdus.append(fits.ImageHDU(image(seed=k), cards, name="SCI", ver=k + 1))
        plane = np.zeros((30, 40), np.int32)
        plane[k, k] = 1
        hdus.append(fits.ImageHDU(plane, name="MASK", ver=k + 1))
    fits.HDUList(hdus).writeto(path)
    return path


def test_a_mosaic_gives_one_exposure_per_ccd_each_with_its_own_mask(tmp_path):
    path = write_mosaic(tmp_path / "m.fits")
    assert list_detectors(path, GENERIC) == ["A", "B", "C"]
    exposures = list(read_exposure(path, GENERIC))
    assert [exposure.detector for exposure in exposures] == ["A", "B", "C"]
    for k, exposure in enumerate(exposures):
        assert np.array_equal(exposure.data, image(seed=k).astype(np.float32))
        assert np.argwhere(exposure.mask).tolist() == [[k, k]]
    assert read_one(path, detector="B").detector == "B"
    with pytest.raises(LumosDataError, match=r"no detector 'D', the file has: A, B, C"):
        read_one(path, detector="D")


def test_two_images_of_one_detector_are_refused(tmp_path):
    with pytest.raises(LumosDataError, match="two images of detector 'A'"):
        list_detectors(write_mosaic(tmp_path / "m.fits", ("A", "A")), GENERIC)


def test_sidecars_follow_the_file_name(tmp_path):
    survey = custom(
        tmp_path,
        mask=[{"kind": "nonzero", "sidecar": [{"find": "_sci", "replace": "_msk"}], "required": True}],
        variance=[{"kind": "mask01", "sidecar": [{"find": "_sci", "replace": "_wht"}]}],
    )
    path = write_simple(tmp_path / "x_sci.fits")
    with pytest.raises(LumosDataError, match=r"x_sci\.fits: no mask found, tried: x_msk\.fits"):
        read_one(path, survey)
    plane = np.zeros((30, 40), np.int16)
    plane[1, 2] = 7
    fits.PrimaryHDU(plane).writeto(tmp_path / "x_msk.fits")
    weight = np.ones((30, 40), np.int16)
    weight[3, 4] = 0
    fits.PrimaryHDU(weight).writeto(tmp_path / "x_wht.fits")
    exposure = read_one(path, survey)
    assert np.argwhere(exposure.mask == MaskPlane.BAD).tolist() == [[1, 2], [3, 4]]
    assert exposure.variance is None
    assert set(exposure.provenance["files"]) == {"x_sci.fits", "x_msk.fits", "x_wht.fits"}


def test_zero_point_per_second(tmp_path):
    survey = custom(
        tmp_path,
        zeropoint_per_second=True,
        header={"band": ["FILTER"], "zeropoint": ["ZP"], "exposure_time": ["EXPTIME"]},
    )
    # 100 counts in 100 s are 1 per second, of magnitude ZP: so 1 count has ZP + 5.
    assert read_one(write_simple(tmp_path / "a.fits", ZP=26.0), survey).zeropoint == pytest.approx(31.0, abs=1e-12)
    with pytest.raises(LumosDataError, match=r"per second.*EXPTIME"):
        read_one(write_simple(tmp_path / "b.fits", ZP=26.0, EXPTIME=None), survey)


def test_unknown_zero_point_and_gain_are_nan(tmp_path):
    exposure = read_one(write_simple(tmp_path / "a.fits", MAGZPT=None, GAIN=None, PSF_FWHM=None))
    assert np.isnan(exposure.zeropoint)
    assert np.isnan(exposure.gain)
    assert exposure.psf is None


@pytest.mark.parametrize(("date", "state"), [("2015-11-03T22:00:00", "before"), ("2017-01-01", "after")])
def test_paucam_state_follows_the_date(tmp_path, date, state):
    path = write_simple(
        tmp_path / "a.fits", FILTER="NB685", CCDNUM=4, CD1_1=-0.263 / 3600, CD2_2=0.263 / 3600, **{"DATE-OBS": date}
    )
    exposure = read_one(path, load_survey("paucam"))
    assert (exposure.state, exposure.band, exposure.detector) == (state, "NB685", "4")


def test_psf_stamp_and_table(tmp_path):
    survey = custom(tmp_path, psf={"kind": "stamp", "files": ["{stem}-psf.fits"]})
    path = write_simple(tmp_path / "a.fits")
    fits.PrimaryHDU(np.ones((5, 7), dtype=">f4")).writeto(tmp_path / "a-psf.fits")
    model = read_one(path, survey).psf
    assert isinstance(model, StampModel)
    assert model.image.sum() == pytest.approx(1.0, abs=1e-6)
    folder = tmp_path / "psf"
    folder.mkdir()
    text = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: exposure_id, datatype: string}\n"
    text += "# - {name: detector, datatype: string}\n# - {name: fwhm_arcsec, datatype: float64}\n"
    text += "# - {name: beta, datatype: float64}\nexposure_id detector fwhm_arcsec beta\na 0 1.0 3.5\n"
    (folder / "psf.ecsv").write_text(text)
    model = read_one(path, survey, psf_dir=folder).psf
    assert isinstance(model, MoffatModel)
    # The table does not say; a survey's PSFs are those of stars on pixels.
    assert moffat_on_pixels(model.fwhm, model.beta) == (pytest.approx(4.0), pytest.approx(3.5))
    with pytest.raises(LumosDataError, match="no such folder"):
        read_exposure(path, survey, psf_dir=tmp_path / "none")


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"FILTER": None}, r"no band in the header, keys tried: BAND, FILTER"),
        ({"EXPID": "../../etc/passwd"}, "not safe as a file name"),
        ({"EXPID": "a..b"}, "not safe as a file name"),
        ({"EXPID": "a b"}, "not safe as a file name"),
        ({"EXPID": "x" * 60 + "/y"}, "not safe as a file name"),
        ({"DETECTOR": "/abs"}, "not safe as a file name"),
        ({"GAIN": 0.0}, "gain is 0.0, allowed: positive"),
        ({"EXPTIME": -1.0}, "exposure time is -1.0, allowed: positive"),
        ({"MAGZPT": "unknown"}, "'unknown' is not a number"),
        ({"CTYPE1": None, "CTYPE2": None}, "no celestial WCS"),
        ({"CD2_2": 0.0}, "singular"),
        ({"A_ORDER": 2, "A_2_0": 1e-5}, "SIP coefficients.*without '-SIP'"),
    ],
)
def test_bad_headers_are_refused(tmp_path, cards, match):
    path = write_simple(tmp_path / "bad.fits", **cards)
    with pytest.raises(LumosDataError, match=match) as caught:
        read_one(path)
    assert "bad.fits" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pixel_scale_of_another_camera_is_refused(tmp_path):
    survey = custom(tmp_path, pixel_scale=0.3)
    with pytest.raises(LumosDataError, match=r'pixel scale of the WCS is 0\.25", allowed: 0\.3 within 3 %'):
        read_one(write_simple(tmp_path / "a.fits"), survey)


@pytest.mark.parametrize("name", ["MASK", "VAR"])
def test_companions_of_another_shape_are_refused(tmp_path, name):
    path = write_mef(tmp_path / "a.fits", {name: np.ones((30, 39), np.int16)})
    with pytest.raises(LumosDataError, match=r"a\.fits\[\w+\]: \w+ of shape \(30, 39\), image of shape \(30, 40\)"):
        read_one(path)


@pytest.mark.parametrize("keep", [100, 2880, 2880 + 100, 2880 + 2880])
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_truncated_files_are_refused(tmp_path, keep, suffix):
    content = write_simple(tmp_path / "a.fits", image((60, 60))).read_bytes()
    path = tmp_path / f"cut.fits{suffix}"
    if suffix:
        packed = gzip.compress(content) if suffix == ".gz" else bz2.compress(content)
        path.write_bytes(packed[: len(packed) * keep // len(content)])
    else:
        path.write_bytes(content[:keep])
    with pytest.raises(LumosDataError, match=r"cut\.fits"):
        read_one(path)


def test_an_absurd_size_is_refused_before_anything_is_allocated(tmp_path):
    cards = [f"{k:<8}= {v:>20}" for k, v in (("SIMPLE", "T"), ("BITPIX", -32), ("NAXIS", 2))]
    cards += [f"{k:<8}= {999999:>20}" for k in ("NAXIS1", "NAXIS2")] + ["END"]
    path = tmp_path / "huge.fits"
    path.write_bytes("".join(f"{card:<80}" for card in cards).ljust(2880).encode() + bytes(2880))
    with pytest.raises(LumosDataError, match=r"huge\.fits\[0\]: image of \[999999, 999999\] pixels, allowed"):
        read_one(path)


@pytest.mark.parametrize("content", [b"", b"not a FITS file" * 500])
def test_what_is_no_fits_file_is_refused(tmp_path, content):
    path = tmp_path / "junk.fits"
    path.write_bytes(content)
    with pytest.raises(LumosDataError, match=r"junk\.fits"):
        read_one(path)
    with pytest.raises(LumosDataError, match=r"none\.fits: no such file"):
        read_exposure(tmp_path / "none.fits", GENERIC)


def test_a_file_without_images_is_refused(tmp_path):
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(LumosDataError, match=r"empty\.fits: no image for survey generic"):
        read_one(tmp_path / "empty.fits")


def test_a_state_keyword_must_name_a_state(tmp_path):
    cards = {"FILTER": "NB685", "CCDNUM": 4, "CD1_1": -0.263 / 3600, "CD2_2": 0.263 / 3600}
    survey = load_survey("paucam")
    with pytest.raises(LumosDataError, match="unknown camera state 'broken', allowed: before, after"):
        read_one(write_simple(tmp_path / "a.fits", CAMSTATE="broken", **cards), survey)
    with pytest.raises(LumosDataError, match="no camera state in the header, keys tried: CAMSTATE, DATE-OBS"):
        read_one(write_simple(tmp_path / "b.fits", **cards), survey)


def test_psf_patterns_are_checked(tmp_path):
    path = write_simple(tmp_path / "a.fits")
    with pytest.raises(LumosDataError, match=r"PSF pattern '\{visit\}.fits': 'visit', allowed: exposure_id, detector"):
        read_one(path, custom(tmp_path, psf={"kind": "psfex", "files": ["{visit}.fits"]}))
    with pytest.raises(LumosDataError, match=r"PSF pattern '/psfs/\{stem\}.psf': absolute, allowed: relative to"):
        read_one(path, custom(tmp_path, psf={"kind": "psfex", "files": ["/psfs/{stem}.psf"]}))
    # A width of 10^9 would fill the memory.
    for pattern in ("{stem:>1000000000}.psf", "{stem!r}.psf"):
        with pytest.raises(LumosDataError, match="a format after the name, allowed: exposure_id, detector"):
            read_one(path, custom(tmp_path, psf={"kind": "psfex", "files": [pattern]}))
    for name in ("a-1.psf", "a-2.psf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(LumosDataError, match=r"2 PSF files match 'a-\*\.psf'"):
        read_one(path, custom(tmp_path, psf={"kind": "psfex", "files": ["{stem}-*.psf"]}))


def test_exposures_are_read_one_at_a_time(tmp_path):
    exposures = read_exposure(write_mosaic(tmp_path / "m.fits"), GENERIC)
    assert next(exposures).detector == "A"
    exposures.close()  # a reader that stops early leaves no open file behind (an error in these tests)


@pytest.mark.parametrize("zeropoint", [99.0, -99.0, -999.0, 50.1, -10.1])
def test_a_zeropoint_that_can_be_none_counts_as_unknown(tmp_path, caplog, zeropoint):
    exposure = read_one(write_simple(tmp_path / "a.fits", MAGZPT=zeropoint))
    assert np.isnan(exposure.zeropoint)
    assert f"a.fits: zero point {zeropoint:g} counts as unknown, allowed: -10 to 50" in caplog.text


def test_a_name_of_a_file_becomes_a_safe_identifier(tmp_path):
    for name, safe in (("my image (1).fits.gz", "my_image_1_"), ("calexp-9813-4,4.fits", "calexp-9813-4-4")):
        write_simple(tmp_path / name)
        assert read_exposure_id(tmp_path / name, load_survey("generic")) == safe
