"""Zero points that need arithmetic, open band names, noise maps: each against its closed form."""

import math

import numpy as np
import pytest
import yaml
from astropy import units

from helpers.fits_files import write_mef, write_simple
from lumos.errors import LumosConfigError, LumosDataError
from lumos.images import read_exposure
from lumos.surveys import load_survey

BASE = {"name": "mine", "text": "x", "bands": ["r", "J"], "flux_unit": "count", "sky_subtracted": True}


def survey_of(tmp_path, entries: dict, **changes: object):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(BASE | {"header": {"band": ["FILTER"], **entries}} | changes))
    return load_survey(path)


def read_one(path, survey):
    (exposure,) = read_exposure(path, survey)
    return exposure


#: A pixel of the test images, sr.
AREA = (0.25 * units.arcsec).to_value(units.rad) ** 2


@pytest.mark.parametrize(
    ("rule", "entries", "cards", "one_unit"),
    [
        # What one image unit is, with its own units; astropy turns it into an AB magnitude.
        ({"kind": "magnitude"}, {"zeropoint": ["ZP"]}, {"ZP": 25.0}, 25.0 * units.ABmag),
        ({"kind": "fluxmag0"}, {"zeropoint": ["F0"]}, {"F0": 6.3e10}, 3630.7805 / 6.3e10 * units.Jy),
        (
            {"kind": "photflam"},
            {"zeropoint": ["PHOTFLAM"], "pivot": ["PHOTPLAM"]},
            {"PHOTFLAM": 3.0386574e-20, "PHOTPLAM": 10551.047},
            (3.0386574e-20 * units.erg / units.s / units.cm**2 / units.AA).to(
                units.Jy, units.spectral_density(10551.047 * units.AA)
            ),
        ),
        ({"kind": "photfnu"}, {"zeropoint": ["PHOTFNU"]}, {"PHOTFNU": 1.1283712e-07}, 1.1283712e-07 * units.Jy),
        ({"kind": "mjysr"}, {}, {}, (units.MJy / units.sr * AREA * units.sr).to(units.Jy)),
        ({"kind": "mjysr"}, {"pixel_area": ["PIXAR_SR"]}, {"PIXAR_SR": 1.5e-12}, 1.5e-6 * units.Jy),
    ],
)
def test_zero_points_are_the_ab_magnitude_of_one_unit(tmp_path, rule, entries, cards, one_unit):
    path = write_simple(tmp_path / "a.fits", MAGZPT=None, **cards)
    expected = one_unit.to_value(units.ABmag)
    # 31.4 for 1 nJy is rounded: AB magnitudes of 3631 Jy differ from it by 6e-5.
    assert read_one(path, survey_of(tmp_path, entries, zeropoint=rule)).zeropoint == pytest.approx(expected, abs=1e-4)
    survey = survey_of(tmp_path, entries, zeropoint=rule | {"offset": {"r": 0.14, "J": 0.91}})
    assert read_one(path, survey).zeropoint == pytest.approx(expected + 0.14, abs=1e-4)
    survey = survey_of(tmp_path, entries, zeropoint=rule | {"offset": -0.2})
    assert read_one(path, survey).zeropoint == pytest.approx(expected - 0.2, abs=1e-4)
    entries = entries | {"exposure_time": ["EXPTIME"]}
    survey = survey_of(tmp_path, entries, zeropoint=rule, zeropoint_per_second=True)
    assert read_one(path, survey).zeropoint == pytest.approx(expected + 5.0, abs=1e-4)  # 100 s


def test_a_point_source_in_surface_brightness_gets_its_flux(tmp_path):
    # 5 microJy spread over some pixels: the sum of pixels in MJy/sr, with the zero point, is 5000 nJy.
    data = np.zeros((30, 40))
    data[10:13, 20:22] = 5e-6 / 6 / (AREA * 1e6)
    exposure = read_one(write_simple(tmp_path / "a.fits", data), survey_of(tmp_path, {}, zeropoint={"kind": "mjysr"}))
    flux = exposure.data.sum(dtype=np.float64) * 10 ** (0.4 * (31.4 - exposure.zeropoint))
    assert flux == pytest.approx(5000, rel=1e-6)


def test_the_error_of_fluxmag0_becomes_magnitudes(tmp_path):
    entries = {"zeropoint": ["F0"], "zeropoint_err": ["F0ERR"]}
    survey = survey_of(tmp_path, entries, zeropoint={"kind": "fluxmag0"})
    exposure = read_one(write_simple(tmp_path / "a.fits", F0=1e10, F0ERR=2e8), survey)
    assert exposure.zeropoint == pytest.approx(25.0, abs=1e-12)
    assert exposure.zeropoint_err == pytest.approx((math.log10(1.01) - math.log10(0.99)) * 2.5, rel=1e-3)


@pytest.mark.parametrize(
    ("rule", "entries", "cards", "match"),
    [
        ("fluxmag0", {"zeropoint": ["F0"]}, {"F0": 0.0}, r"zero point \(fluxmag0\) is 0.0, allowed: positive"),
        ("photflam", {"zeropoint": ["F"], "pivot": ["P"]}, {"F": 1e-19}, "no pivot wavelength .* keys tried: P"),
        ("photflam", {"zeropoint": ["F"], "pivot": ["P"]}, {"F": 1e-19, "P": -1.0}, "pivot wavelength is -1.0"),
        (
            "mjysr",
            {"pixel_area": ["PIXAR_SR"]},
            {"PIXAR_SR": 9.3e-14},
            r"solid angle of a pixel is 9.3e-14 sr, allowed: 1\.469\d+e-12 \(the WCS's\) within 10 %",
        ),
    ],
)
def test_numbers_that_make_no_zero_point_are_refused(tmp_path, rule, entries, cards, match):
    path = write_simple(tmp_path / "a.fits", **cards)
    with pytest.raises(LumosDataError, match=match):
        read_one(path, survey_of(tmp_path, entries, zeropoint={"kind": rule}))


def test_values_that_mean_unknown_count_as_absent(tmp_path):
    entries = {"zeropoint": {"keys": ["F0", "F1"], "missing": [0, "-99"]}, "exposure_time": {"keys": ["EXPTIME"]}}
    survey = survey_of(tmp_path, entries, zeropoint={"kind": "fluxmag0"})
    assert np.isnan(read_one(write_simple(tmp_path / "a.fits", F0=0.0, F1=-99), survey).zeropoint)
    assert read_one(write_simple(tmp_path / "b.fits", F0=0.0, F1=1e10), survey).zeropoint == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"zeropoint": {"offset": {"q": 1.0}}}, r"zeropoint.offset names the bands \['q'\], bands has \['r', 'J'\]"),
        ({"zeropoint": {"kind": "photflam"}}, "needs header.pivot"),
        ({"zeropoint": {"kind": "mag"}}, r"zeropoint\.kind: got 'mag'"),
        ({"bands": []}, "no bands, allowed: at least one, or 'any'"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(tmp_path, changes, match):
    with pytest.raises(LumosConfigError, match=match):
        survey_of(tmp_path, {"zeropoint": ["ZP"]}, **changes)
    with pytest.raises(LumosConfigError, match=r"header\.zeropoint is not used by zeropoint\.kind 'mjysr'"):
        survey_of(tmp_path, {"zeropoint": ["ZP"]}, zeropoint={"kind": "mjysr"})


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("F200W", "F200W"),
        ("Z", "Z"),
        ("HSC-I", "HSC-I"),
        ("r.MP9601", "r_MP9601"),
        ("z DECam SDSS c0004 9260.0", "z_DECam_SDSS_c0004_9260_0"),
        ("  H  )", "H"),
        ("../../etc", "etc"),
    ],
)
def test_generic_takes_any_filter_under_a_safe_name(tmp_path, name, band):
    assert read_one(write_simple(tmp_path / "a.fits", FILTER=name), load_survey("generic")).band == band
    assert read_one(tmp_path / "a.fits", survey_of(tmp_path, {}, bands="any")).band == band
    with pytest.raises(LumosDataError, match=r"unknown band .* for survey mine, allowed: r, J"):
        read_one(tmp_path / "a.fits", survey_of(tmp_path, {}))


def test_a_band_from_the_file_name(tmp_path):
    survey = survey_of(
        tmp_path, {"band": {"keys": ["BAND"], "file_pattern": "_([a-z])$", "aliases": {"j": "J"}, "required": True}}
    )
    assert read_one(write_simple(tmp_path / "img_r.fits"), survey).band == "r"
    assert read_one(write_simple(tmp_path / "img_j.fits"), survey).band == "J"
    assert read_one(write_simple(tmp_path / "odd_j.fits", BAND="r"), survey).band == "r"
    with pytest.raises(LumosDataError, match=r"no band .*, keys tried: BAND; nor in the file name by '_\(\[a-z\]\)\$'"):
        read_one(write_simple(tmp_path / "img.fits"), survey)


@pytest.mark.parametrize("name", ["ERR", "RMS", "SIGMA"])
def test_sigma_images_are_squared(tmp_path, name):
    plane = np.full((30, 40), 3.0, dtype=">f4")
    plane[0, :4] = 0.0, -1.0, np.nan, np.inf
    exposure = read_one(write_mef(tmp_path / "a.fits", {name: plane}), load_survey("generic"))
    assert exposure.variance[5, 5] == 9.0
    assert np.argwhere(exposure.mask).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_every_file_that_was_read_is_named(tmp_path):
    sidecars = {kind: [{"find": "_sci", "replace": f"_{kind}"}] for kind in ("msk", "rms", "sky", "psf")}
    survey = survey_of(
        tmp_path,
        {},
        mask=[{"kind": "nonzero", "sidecar": sidecars["msk"]}],
        variance=[{"kind": "rms", "sidecar": sidecars["rms"]}],
        sky=[{"sidecar": sidecars["sky"]}],
        psf={"kind": "stamp", "sidecar": sidecars["psf"]},
    )
    path = write_simple(tmp_path / "a_sci.fits")
    for kind in ("rms", "sky"):
        write_simple(tmp_path / f"a_{kind}.fits", np.ones((30, 40), np.float32))
    write_simple(tmp_path / "a_msk.fits", np.zeros((30, 40), np.int16))
    write_simple(tmp_path / "a_psf.fits", np.ones((5, 5), np.float32))
    exposure = read_one(path, survey)
    names = [f"a_{kind}.fits" for kind in ("msk", "psf", "rms", "sci", "sky")]
    assert [item.name for item in exposure.files] == names
    assert sorted(exposure.provenance["files"]) == names
