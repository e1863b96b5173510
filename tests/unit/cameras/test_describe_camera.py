"""A camera's files describe it: units, zero points, weights, masks, bands, CCDs; what they leave open is asked."""

import re

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.io import fits

from helpers.fits_files import wcs_cards
from helpers.lsst_files import kernel, write_exposuref
from lumos.cameras.describe import describe_camera
from lumos.cameras.layout import companion_of, read_layout
from lumos.cameras.pixels import measure_pixels, tell_weight
from lumos.errors import LumosConfigError, LumosDataError
from lumos.images.reader import read_exposure
from lumos.surveys import load_survey
from lumos.workflows.init import make_survey

SHAPE = (200, 240)
#: AB magnitude of 1e-19 erg/s/cm2/Angstrom at 8000 Angstrom.
HST = (1e-19 * u.erg / u.s / u.cm**2 / u.AA).to(u.ABmag, u.spectral_density(8000 * u.AA)).value


def pixels(rng, *, sky=0.0, sigma=3.0, fwhm=3.0, n_stars=30, flux=2e4):
    """Return noise with stars in it."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    data = rng.normal(sky, sigma, SHAPE)
    width = fwhm / 2.3548
    for x0, y0 in rng.uniform(12, [SHAPE[1] - 12, SHAPE[0] - 12], (n_stars, 2)):
        data += flux / (2 * np.pi * width**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2))
    return data.astype(np.float32)


def write(path, data, extensions=(), **cards):
    header = fits.Header([(key.replace("__", " "), value) for key, value in {**wcs_cards(), **cards}.items()])
    if not extensions:
        fits.PrimaryHDU(data, header).writeto(path)
    else:
        first = fits.ImageHDU(data, header, name=extensions[0])
        more = [fits.ImageHDU(image, name=name) for name, image in extensions[1:]]
        fits.HDUList([fits.PrimaryHDU(), first, *more]).writeto(path)
    return path


def described(tmp_path, files, name=None):
    """Return the content of the survey file, its exposure as it reads it, and the questions."""
    camera = describe_camera(files, name)
    path = tmp_path / "described.yaml"
    path.write_text(camera.text)
    exposure = next(iter(read_exposure(camera.exposures[0], load_survey(path))))
    return yaml.safe_load(camera.text), exposure, camera.questions


@pytest.mark.parametrize(
    ("cards", "zeropoint", "gain"),
    [
        ({"BUNIT": "ADU", "MAGZERO": 25.3, "GAIN": 1.7}, 25.3, 1.7),
        ({"BUNIT": "nJy", "GAIN": 1.7}, 31.4, np.nan),
        ({"BUNIT": "mJy"}, 16.4, np.nan),
        ({"BUNIT": "nanomaggy"}, 22.5, np.nan),
        # A pixel of 0.25 arcsec: 1 MJy/sr is 1.469e-6 Jy in it.
        ({"BUNIT": "MJy/sr"}, 8.9 - 2.5 * np.log10(1e6 * (0.25 / 206264.806) ** 2), np.nan),
        ({"BUNIT": "ELECTRONS/S", "PHOTFLAM": 1e-19, "PHOTPLAM": 8000.0}, HST, 120.0),
        ({"BUNIT": "ELECTRONS", "PHOTFLAM": 1e-19, "PHOTPLAM": 8000.0}, HST + 2.5 * np.log10(120), 1.0),
        ({"FLUXMAG0": 1e10}, 25.0, np.nan),
        ({"BUNIT": "ADU", "MAGZERO": 99.0}, np.nan, np.nan),
    ],
    ids=["ADU", "nJy", "mJy", "nanomaggy", "MJy/sr", "e/s", "e", "FLUXMAG0", "unknown"],
)
def test_units_and_zero_points(tmp_path, rng, cards, zeropoint, gain):
    path = write(tmp_path / "one.fits", pixels(rng), FILTER="r", EXPTIME=120.0, **cards)
    _, exposure, questions = described(tmp_path, [path])
    np.testing.assert_allclose(exposure.zeropoint, zeropoint, atol=2e-3)
    np.testing.assert_allclose(exposure.gain, gain)
    assert exposure.exposure_time == 120
    assert any("gain" in question for question in questions) == np.isnan(gain)
    assert any("no zero point" in question for question in questions) == np.isnan(zeropoint)


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("wht", lambda v: 1 / v, "ivar"),
        ("wht", lambda v: 17.0 / v, "relative_weight"),
        ("weight", np.sqrt, "rms"),
        ("var", lambda v: v, "variance"),
        ("rms", np.sqrt, "rms"),
        ("ivar", lambda v: 1 / v, "ivar"),
        ("wht", lambda v: (v > 0).astype(np.float32), "mask01"),
        # A variance in another unit is none.
        ("var", lambda v: 40 * v, None),
    ],
)
@pytest.mark.parametrize("beside", [True, False], ids=["file", "extension"])
def test_what_a_weight_holds_is_told_by_the_pixels(tmp_path, rng, name, make, kind, beside):
    sigma = np.linspace(2, 6, SHAPE[1], dtype=np.float32)[None, :] * np.ones((SHAPE[0], 1), dtype=np.float32)
    data = pixels(rng, sigma=1.0) * 0 + rng.normal(0, sigma).astype(np.float32)
    weight = make(sigma**2).astype(np.float32)
    cards = {"FILTER": "r", "BUNIT": "nJy"}
    if beside:
        path = write(tmp_path / "field_r_sci.fits", data, **cards)
        fits.PrimaryHDU(weight).writeto(tmp_path / f"field_r_{name}.fits")
    else:
        path = write(tmp_path / "field_r_sci.fits", data, ["SCI", (name.upper(), weight)], **cards)
    content, exposure, questions = described(tmp_path, [path])
    if kind is None:
        assert "variance" not in content
        assert any("what does it hold" in question for question in questions)
        return
    assert content["variance"][0]["kind"] == kind
    assert kind in exposure.provenance["variance"]
    if kind != "mask01":
        np.testing.assert_allclose(np.median(exposure.variance / sigma**2), 1, rtol=0.1)


def test_a_variance_with_the_photons_of_sources_says_so(rng):
    data = pixels(rng, sigma=3.0, flux=1e5)
    with_sources = (9 + np.clip(data, 0, None) / 2).astype(np.float32)
    assert tell_weight(data, with_sources, "variance").includes_sources
    assert not tell_weight(data, np.full(SHAPE, 9.0, dtype=np.float32), "variance").includes_sources


def test_a_gain_is_held_against_the_sky(tmp_path, rng):
    """Counts of gain 2 on a sky of 800 have a variance of 400."""
    data = pixels(rng, sky=800.0, sigma=20.0)
    path = write(tmp_path / "one.fits", data, FILTER="r", BUNIT="ADU", MAGZERO=25.0, GAIN=2.0, EXPTIME=1.0)
    told = re.search(r"is (\S+) electrons per unit, which agrees", describe_camera([path]).text)
    assert float(told[1]) == pytest.approx(2, rel=0.05)
    wrong = write(tmp_path / "two.fits", data, FILTER="r", BUNIT="ADU", MAGZERO=25.0, GAIN=9.0, EXPTIME=1.0)
    text = describe_camera([wrong]).text
    assert "does not agree" in text
    assert not yaml.safe_load(text)["sky_subtracted"]


def test_bands_come_from_keywords_then_from_file_names(tmp_path, rng):
    named = write(tmp_path / "a_r.fits", pixels(rng), FILTER="i.MP9703", BUNIT="nJy")
    assert described(tmp_path, [named])[1].band == "i_MP9703"
    words = write(tmp_path / "b_r.fits", pixels(rng), FILTER="zd DECam k1038", BUNIT="nJy")
    assert described(tmp_path, [words])[1].band == "zd"
    files = [write(tmp_path / f"img_{band}.fits", pixels(rng), FILTER="(H  )", BUNIT="nJy") for band in "gr"]
    content, exposure, questions = described(tmp_path, files)
    assert exposure.band == "g"
    assert "file_pattern" in content["header"]["band"]
    assert any("file names" in question for question in questions)
    nothing = write(tmp_path / "plain.fits", pixels(rng), BUNIT="nJy")
    _, exposure, questions = described(tmp_path, [nothing])
    assert exposure.band == "unknown"
    assert any("which band" in question for question in questions)


def test_the_ccds_of_a_file_are_told_apart(tmp_path, rng):
    hdus = [fits.PrimaryHDU()]
    for name in ("N1", "N2"):
        header = fits.Header([*wcs_cards().items(), ("FILTER", "r"), ("BUNIT", "nJy")])
        hdus.append(fits.ImageHDU(pixels(rng), header, name=name))
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    camera = describe_camera([tmp_path / "two.fits"])
    (tmp_path / "s.yaml").write_text(camera.text)
    assert [one.detector for one in read_exposure(tmp_path / "two.fits", load_survey(tmp_path / "s.yaml"))] == [
        "N1",
        "N2",
    ]


def test_files_of_one_ccd_each_are_all_read(tmp_path, rng):
    paths = [write(tmp_path / f"{name}.fits", pixels(rng), (name,), FILTER="r") for name in ("ccd2", "ccd3")]
    content, _, _ = described(tmp_path, paths)
    assert content["image"]["extensions"] == ["CCD2", "CCD3"]
    survey = load_survey(tmp_path / "described.yaml")
    for path in paths:
        assert len(list(read_exposure(path, survey))) == 1


def test_masks_with_named_planes_are_translated(tmp_path, rng):
    data, mask = pixels(rng), np.zeros(SHAPE, dtype=np.int32)
    mask[3, 4], mask[5, 6], mask[7, 8] = 1, 2, 32
    path = write(tmp_path / "one.fits", data, ["SCI", ("MASK", mask)], FILTER="r", BUNIT="nJy")
    with fits.open(path, mode="update") as hdul:
        for bit, name in enumerate(["BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED"]):
            hdul["MASK"].header[f"HIERARCH MP_{name}"] = bit
    _, exposure, _ = described(tmp_path, [path])
    assert (exposure.mask[3, 4], exposure.mask[5, 6], exposure.mask[7, 8]) == (1, 2, 0)
    bare = write(tmp_path / "bare.fits", data, ["SCI", ("DQ", mask)], FILTER="r", BUNIT="nJy")
    _, exposure, questions = described(tmp_path, [bare])
    assert exposure.mask[7, 8] == 1
    assert any("values of the mask" in question for question in questions)


def test_saturation_shows_as_a_plateau(tmp_path, rng):
    data = np.minimum(pixels(rng, flux=3e6), 60_000).astype(np.float32)
    path = write(tmp_path / "one.fits", data, FILTER="r", BUNIT="ADU", MAGZERO=25.0, GAIN=1.0, EXPTIME=1.0)
    _, exposure, questions = described(tmp_path, [path])
    assert any("saturation" in question for question in questions)
    assert (exposure.mask[data == 60_000] == 2).all()
    assert not (exposure.mask[data < 59_000] & 2).any()


def test_the_width_of_stars_decides_the_unit_of_a_seeing(tmp_path, rng):
    data = pixels(rng, fwhm=3.2)
    assert measure_pixels(data).fwhm == pytest.approx(3.2, rel=0.12)
    for value, unit in ((0.8, "arcsec"), (3.2, "pixel")):
        path = write(tmp_path / f"{unit}.fits", data, FILTER="r", BUNIT="nJy", SEEING=value)
        content, exposure, _ = described(tmp_path, [path])
        assert content["psf"] == {"kind": "header", "unit": unit}
        assert exposure.psf is not None
    wrong = write(tmp_path / "wrong.fits", data, FILTER="r", BUNIT="nJy", SEEING=17.0)
    assert described(tmp_path, [wrong])[0]["psf"] == {"kind": "table"}


@pytest.mark.parametrize(
    ("name", "exposure", "role"),
    [
        ("a.weight.fits", "a.fits", "weight"),
        ("a_wht.fits.fz", "a_sci.fits.fz", "weight"),
        ("x_oow_r.fits", "x_ooi_r.fits", "weight"),
        ("x_ood_r.fits", "x_ooi_r.fits", "mask"),
        ("a_rms.fits", "a.fits", "rms"),
        ("a-psf.fits", "a.fits", "psf"),
        ("b.fits", "a.fits", None),
        ("a_2.fits", "a_1.fits", None),
    ],
)
def test_companions_by_name(tmp_path, name, exposure, role):
    found = companion_of(tmp_path / name, [tmp_path / exposure, tmp_path / name])
    assert (None if found is None else found[1]) == role


def test_files_of_other_roles_and_damaged_ones_do_not_stop_it(tmp_path, rng):
    write(tmp_path / "a.fits", pixels(rng), FILTER="r", BUNIT="nJy")
    (tmp_path / "0_broken.fits").write_bytes(b"SIMPLE  =                    T" + bytes(100))
    fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(tmp_path / "cube.fits")
    message = make_survey([tmp_path], tmp_path / "cam.yaml", name="mycam")
    assert "described from 1 exposures" in message
    assert load_survey(tmp_path / "cam.yaml").name == "mycam"


def test_what_cannot_be_described_is_refused_and_nothing_is_written(tmp_path, rng):
    out = tmp_path / "cam.yaml"
    one = write(tmp_path / "a.fits", pixels(rng), FILTER="r", INSTRUME="ONE")
    two = write(tmp_path / "b.fits", pixels(rng), FILTER="r", INSTRUME="TWO")
    with pytest.raises(LumosDataError, match=r"several cameras \(a\.fits: ONE; b\.fits: TWO\)"):
        make_survey([one, two], out)
    fits.PrimaryHDU(pixels(rng)).writeto(tmp_path / "bare.fits")
    with pytest.raises(LumosDataError, match=r"bare\.fits: no celestial WCS.*astrometry\.net"):
        make_survey([tmp_path / "bare.fits"], out)
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]).writeto(tmp_path / "table.fits")
    with pytest.raises(LumosDataError, match=r"table\.fits: no two-dimensional image"):
        make_survey([tmp_path / "table.fits"], out)
    with pytest.raises(LumosConfigError, match="not the name of a survey file"):
        make_survey([one], tmp_path / "cam.txt")
    nano = write(tmp_path / "nano.fits", pixels(rng), FILTER="r", BUNIT="nJy")
    counts = write(tmp_path / "counts.fits", pixels(rng), FILTER="r", BUNIT="ADU")
    with pytest.raises(LumosDataError, match=r"several units \(BUNIT: nano\.fits: nJy; counts\.fits: ADU\), allowed"):
        make_survey([nano, counts], out)
    with pytest.raises(LumosDataError, match=r"several units \(BUNIT: nano\.fits: nJy; c\.fits: none\), allowed"):
        make_survey([nano, write(tmp_path / "c.fits", pixels(rng), FILTER="r")], out)
    assert not out.exists()
    make_survey([nano], tmp_path / "deep" / "nano.yaml")
    with pytest.raises(LumosDataError, match=r"counts\.fits: its pixels are in ADU, allowed: nJy \(survey mycamera\)"):
        next(iter(read_exposure(counts, load_survey(tmp_path / "deep" / "nano.yaml"))))
    make_survey([one], out)
    with pytest.raises(LumosConfigError, match="exists"):
        make_survey([one], out)


def test_images_without_a_wcs_are_left_out_where_others_have_one(tmp_path, rng, caplog):
    image = write(tmp_path / "b.fits", pixels(rng), FILTER="r", BUNIT="nJy")
    fits.PrimaryHDU(np.ones((21, 21))).writeto(tmp_path / "a.fits")
    camera = describe_camera([tmp_path / "a.fits", image])
    assert camera.exposures == (image,)
    assert "a.fits: no WCS, left out" in caplog.text


def test_cutouts_of_several_bands_without_names(tmp_path, rng):
    """The viewer of the Legacy Surveys writes image and inverse variance of each band, told by keywords alone."""
    hdus = [fits.PrimaryHDU()]
    for band in "gr":
        for kind, data in (("image", pixels(rng)), ("invvar", np.full(SHAPE, 1 / 9, np.float32))):
            hdus.append(fits.ImageHDU(data, fits.Header(wcs_cards() | {"BAND": band, "IMAGETYP": kind})))
    fits.HDUList(hdus).writeto(tmp_path / "cutout.fits")
    content, exposure, questions = described(tmp_path, [tmp_path / "cutout.fits"])
    assert (content["image"]["extensions"], exposure.band) == ([1], "g")
    np.testing.assert_allclose(exposure.variance, 9, rtol=1e-5)
    assert any("images 3 of a file have no names" in question for question in questions)


def test_the_tables_of_an_exposuref_tell_band_calibration_and_psf(tmp_path, rng):
    y, x = np.mgrid[:15, :15] - 7
    objects = {
        1: ("KernelPsf", [{"kernel": 2}]),
        2: ("FixedKernel", [kernel(np.exp(-(x**2 + y**2) / 8.0))]),
        3: ("PhotoCalib", [{"calibrationMean": 20.0, "calibrationErr": 0.1, "field": 0, "version": 1}]),
        4: ("FilterLabel", [{"band": "N419", "physical": "N419 DECam"}]),
    }
    roles = {"PSF_ID": 1, "PHOTOCALIB_ID": 3, "ARCHIVE_ID_FILTER": 4, "INSTRUME": "Some Camera"}
    path = write_exposuref(tmp_path / "calexp.fits", pixels(rng), objects, roles, variance=9.0)
    content, exposure, _ = described(tmp_path, [path], "mine")
    assert content["psf"] == {"kind": "lsst"}
    assert exposure.psf.fwhm_at(np.zeros(1), np.zeros(1))[0] == pytest.approx(2 * 2.3548, rel=0.01)
    assert exposure.band == "N419"
    assert 10 ** (0.4 * (31.4 - exposure.zeropoint)) == pytest.approx(20, rel=1e-9)


def test_a_shipped_survey_is_recognised(tmp_path, rng):
    cards = {"TELESCOP": "HST", "PHOTFLAM": 1e-19, "PHOTPLAM": 8000.0, "EXPTIME": 100.0, "FILTER": "F814W"}
    path = write(tmp_path / "hst_drz_sci.fits", pixels(rng), BUNIT="ELECTRONS/S", **cards)
    camera = describe_camera([path])
    assert camera.known == "hst"
    counts = write(tmp_path / "counts_drz_sci.fits", pixels(rng), BUNIT="ELECTRONS", **cards)
    with pytest.raises(LumosDataError, match=r"pixels are in ELECTRONS, allowed: electron/s \(survey hst\).*--name"):
        next(iter(read_exposure(counts, load_survey("hst"))))
    assert describe_camera([path], "mine").known is None


def test_an_image_of_nans_is_described(tmp_path):
    path = write(tmp_path / "nan.fits", np.full(SHAPE, np.nan, dtype=np.float32), FILTER="r", BUNIT="nJy")
    camera = describe_camera([path])
    assert any("too few pixels" in question for question in camera.questions)
    assert read_layout(path).of_role("science")
