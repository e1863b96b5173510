"""Survey files: the shipped ones parse, wrong ones are refused with what is allowed."""

from pathlib import Path

import pytest
import yaml

from lumos.errors import LumosConfigError
from lumos.flags import MaskPlane
from lumos.spectra.passbands import PASSBANDS, Passband
from lumos.surveys import Survey, load_survey, shipped_surveys

MINIMAL = {"name": "mine", "text": "x", "bands": ["r"], "flux_unit": "count", "sky_subtracted": True}
HEADER = {"band": ["FILTER"]}


def write(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "header": HEADER, **changes}))
    return path


@pytest.mark.parametrize(
    "name", ["decam", "generic", "hsc", "hst", "jwst", "legacysurvey", "lsst", "paucam", "sdss", "vircam", "ztf"]
)
def test_shipped_surveys_parse_under_their_own_name(name):
    survey = load_survey(name)
    assert survey.name == name
    assert name in shipped_surveys()
    for source in survey.mask:
        assert set(source.planes) <= {plane.name for plane in MaskPlane}


def test_paucam_has_forty_bands_in_five_trays():
    bands = load_survey("paucam").bands
    assert list(bands) == [f"NB{w}" for w in range(455, 846, 10)]
    times = [bands[f"NB{w}"].exposure_time for w in (455, 535, 615, 695, 775, 845)]
    assert times == [70, 80, 90, 110, 130, 130]
    assert load_survey("paucam").states.names == ("before", "after")


def test_passbands_are_the_surveys_own_else_the_common_ones_of_that_name(tmp_path):
    assert load_survey("vircam").passband("Ks") == PASSBANDS["Ks"]
    assert load_survey("decam").passband("z") == Passband(926.0, 152.0)
    assert load_survey("paucam").passband("NB685") == PASSBANDS["NB685"]
    bands = {"r": {}, "i": {"wavelength": 780.0}, "K": {"wavelength": 640.0}, "L": {"wavelength": 3800.0}}
    survey = load_survey(write(tmp_path, bands=bands))
    assert survey.passband("r") == PASSBANDS["r"]
    assert survey.passband("i") == Passband(780.0, PASSBANDS["i"].width)
    # Of this name another band is known; of the others nothing.
    assert [survey.passband(name) for name in ("K", "L", "z")] == [None, None, None]


def test_a_new_survey_needs_no_code(tmp_path):
    survey = load_survey(write(tmp_path, mask=[{"kind": "bits", "extension": ["DQ"], "planes": {"SATURATED": [4]}}]))
    assert isinstance(survey, Survey)
    assert survey.mask[0].planes == {"SATURATED": (4,)}
    with pytest.raises(ValueError, match="frozen"):
        survey.name = "other"


def test_unknown_survey_lists_the_shipped_ones():
    with pytest.raises(
        LumosConfigError,
        match=r"'sdsss'.*decam, generic, hsc, hst, jwst, legacysurvey, lsst, paucam, sdss, vircam, ztf",
    ):
        load_survey("sdsss")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"pixelscale": 1.0}, r"mine\.yaml: unknown key 'pixelscale', allowed: .*pixel_scale"),
        ({"header": {"band": ["F"], "zp": ["Z"]}}, r"unknown key 'header\.zp', allowed: .*zeropoint"),
        ({"header": {"band": {"key": "F"}}}, r"unknown key 'header\.band\.key', allowed: .*keys"),
        ({"bands": {"r": {"wave": 1}}}, r"unknown key 'bands\.r\.wave', allowed: exposure_time, wavelength, width"),
        (
            {"bands": {"r": {"width": 9, "wavelength": 8}}},
            r"bands\.r: width 9\.0 needs a wavelength above it, got 8",
        ),
        ({"mask": [{"kind": "bits", "plane": {}}]}, r"unknown key 'mask\.0\.plane', allowed: .*planes"),
        ({"mask": [{"kind": "bits", "planes": {"SATUR": [1]}}]}, r"SATUR.*SATURATED"),
        ({"mask": [{"kind": "bits", "planes": {"BAD": [3]}}]}, "powers of two"),
        ({"mask": [{"kind": "names", "planes": {"BAD": [3]}}]}, "takes values of type str"),
        ({"mask": [{"kind": "bit"}]}, "'bits', 'codes'"),
        ({"variance": [{"extension": ["WT"]}]}, r"missing key 'variance\.0\.kind'"),
        ({"header": {"band": {"keys": ["F"], "pattern": "("}}}, "not a regular expression"),
        ({"states": {"names": ["a"], "starts": {"b": "2016-01-01"}}}, "starts names the states"),
        ({"states": {"names": ["a", "b", "c"], "starts": {"b": "2016-01-01"}}}, "every state but the earliest"),
        ({"pixel_scale": -1.0}, "pixel_scale: got -1.0"),
        ({"psf": {"kind": "header", "beta": 0.5}}, r"psf\.beta: got 0.5"),
    ],
)
def test_wrong_keys_and_values_are_refused_with_what_is_allowed(tmp_path, changes, match):
    with pytest.raises(LumosConfigError, match=match) as caught:
        load_survey(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "name: a\nname: b\n"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(LumosConfigError, match=r"bad\.yaml"):
        load_survey(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(LumosConfigError, match=r"none\.yaml"):
        load_survey(tmp_path / "none.yaml")
