"""Settings: YAML, overrides, and what is refused."""

import os
from pathlib import Path

import pytest

from lumos.errors import LumosConfigError
from lumos.settings import Settings, load_settings, load_simulation, load_training
from lumos.surveys import load_survey


def test_defaults():
    assert load_settings() == Settings()


def test_file_and_overrides(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("measure:\n  stamp_size: 80\n  noise: {correlation: none}\n")
    settings = load_settings(path, ["measure.noise.seed=3", "measure.estimators=[aperture]", "psf.min_stars=2"])
    assert settings.measure.stamp_size == 80
    assert (settings.measure.noise.correlation, settings.measure.noise.seed) == ("none", 3)
    assert settings.measure.estimators == ("aperture",)
    assert settings.psf.min_stars == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("measure.stamp=80", r"measure\.stamp', allowed: .*stamp_size"),
        ("nothing.a=1", r"unknown key 'nothing', allowed: .*catalog, coadd, inject, measure, paper, photoz, psf"),
        ("measure.noise.sigma=1", r"measure\.noise\.sigma', allowed: correlation, relative_floor, seed, source"),
        ("measure.stamp_size=big", r"measure\.stamp_size: .*integer"),
        ("measure.stamp_size=61", "multiple of 2"),
        ("measure.stamp_size", "allowed: stage.field=value"),
        ("measure.stamp_size=[", "not YAML"),
        ("measure.stamp_size.more=1", r"measure\.stamp_size: .*integer"),
        ("measure.catalog.radius=minor", "'major' or 'circularised'"),
        ("measure.annulus_inner=50", r"annulus_inner=50 must be less than annulus_outer=45"),
        ("measure.annulus_inner=44.9", r"annulus of 44\.9 to 45 px has 28 pixels, allowed: 200 or more"),
        ("measure.annulus_outer=.inf", r"measure\.annulus_outer: .*finite"),
        ("measure.annulus_inner=.nan", r"measure\.annulus_inner: .*finite"),
        ("measure.annulus_outer=501", r"measure\.annulus_outer: .*500"),
        ("measure.max_stamp_size=40", r"max_stamp_size=40 must be at least stamp_size=60"),
        ("measure.noise.seed=-1", r"measure\.noise\.seed: .*greater than or equal to 0"),
        ("backgrounds.seed=-1", r"backgrounds\.seed: .*greater than or equal to 0"),
        ("backgrounds.annulus_inner=50", r"annulus_inner=50 must be less than annulus_outer=45"),
        ("backgrounds.max_psf_fwhm=.inf", r"backgrounds\.max_psf_fwhm: .*finite"),
        ("coadd.shared_flux_err=.inf", r"coadd\.shared_flux_err: .*finite"),
        ("adapt.learning_rate=.inf", "finite number"),
        ("measure.stamp_size=" + "[" * 5000, "nested too deep"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(LumosConfigError, match=message):
        load_settings(None, [override])


def test_wrong_files(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(LumosConfigError, match=r"a\.yaml: cannot be read"):
        load_settings(path)
    path.write_text("- 1\n")
    with pytest.raises(LumosConfigError, match="holds list"):
        load_settings(path)
    path.write_text("measure: [")
    with pytest.raises(LumosConfigError, match="cannot be read"):
        load_settings(path)
    path.write_bytes(b"measure: {model: caf\xe9}")
    with pytest.raises(LumosConfigError, match=r"a\.yaml: cannot be read \(not UTF-8, byte 20\)"):
        load_settings(path)
    path.write_text("measure: " + "[" * 10_000)
    with pytest.raises(LumosConfigError, match=r"a\.yaml: cannot be read \(nested too deep\)"):
        load_settings(path)
    path.write_bytes(b"#" * 10_000_001)
    with pytest.raises(LumosConfigError, match="10000001 bytes, allowed: up to 10000000"):
        load_settings(path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_read(tmp_path, kind):
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "a.yaml"
        os.mkfifo(path)
    for read in (load_settings, load_survey, load_simulation, load_training):
        name = tmp_path / "link.yaml"
        name.unlink(missing_ok=True)
        name.symlink_to(path)
        with pytest.raises(LumosConfigError, match=r"link\.yaml: cannot be read \(no regular file\)"):
            read(name if read in (load_settings, load_survey) else str(name))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda path: load_settings(Path(path)), "measure: {stamp_size: 60, stamp_size: 40}"),
        (load_survey, "text: a\ntext: b"),
        (load_simulation, "seed: 1\nseed: 2"),
        (load_training, "name: a\nname: b"),
        (lambda _: load_settings(None, ["measure={default: a, default: b}"]), ""),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path, read, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(LumosConfigError, match="is given twice"):
        read(str(path))


def test_values_that_no_sky_has_are_refused():
    with pytest.raises(LumosConfigError, match=r"sky\.centre\.1: .*less than or equal to 90"):
        load_simulation("wide", ["sky.centre=[0, 95]"])
    with pytest.raises(LumosConfigError, match=r"sky\.centre\.0: .*less than 360"):
        load_simulation("wide", ["sky.centre=[-.inf, 0]", "sky.centre=[400, 0]"])
    with pytest.raises(LumosConfigError, match=r"seed: .*greater than or equal to 0"):
        load_simulation("wide", ["seed=-1"])
    with pytest.raises(LumosConfigError, match="finite number"):
        load_simulation("wide", ["sky.catalog_limit=.inf"])


@pytest.mark.parametrize("word", ["off", '"off"', "false"])
def test_a_bare_off_is_not_false(word):
    assert load_settings(None, [f"measure.scene={word}"]).measure.scene == "off"
    with pytest.raises(LumosConfigError, match=r"measure\.scene"):
        load_settings(None, ["measure.scene=true"])
