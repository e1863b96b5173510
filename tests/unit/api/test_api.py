"""The Python API: objects at hand are measured as files are; calls that do not fit are refused by name."""

import doctest
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.table import QTable, Table
from astropy.wcs import WCS

import lumos
from helpers.measured_runs import SHAPE, catalog_at, write_exposure
from lumos.api import arguments, fluxes, tables
from lumos.catalogs.parent import parent_table, read_parent, write_parent
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosShapeError, LumosValueError
from lumos.flags import Flag
from lumos.images import MoffatModel, read_exposure
from lumos.pdf import base, colours, views
from lumos.photometry.settings import MeasureSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey

FAST = {"estimators": ["optimal", "aperture"], "noise": {"correlation": "none"}}
CATALOG = catalog_at([60, 100, 150, 205], [60, 100, 50, 120])


def light(data):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for x0, y0, flux in ((60, 60, 4000), (100, 100, 20000), (150, 50, 900)):
        data += flux / (2 * np.pi * 9) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 18)


@pytest.fixture
def path(tmp_path, rng):
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[98:100, 102] = 1
    extensions = {"MASK": mask, "VAR": rng.uniform(20, 30, SHAPE).astype(np.float32)}
    return write_exposure(tmp_path / "a.fits", rng, extensions=extensions, spoil=light, EXPID="a", SATURATE=1e4)


def at_hand(path, **changes):
    """Return a file's image, mask and variance as astropy hands them out."""
    image = CCDData.read(path, unit="adu", hdu_mask="MASK", hdu_uncertainty=None)
    variance = VarianceUncertainty(fits.getdata(path, "VAR"))
    parts = {"data": image.data, "mask": image.mask, "uncertainty": variance, "wcs": image.wcs, "meta": image.meta}
    parts |= {"unit": "adu"} | changes
    psf = parts.pop("psf", None)
    return CCDData(**parts, psf=psf)


def same(one, two, leave_out=()):
    """Refuse two tables that differ in a bit."""
    assert one.column_names == two.column_names
    for name in set(one.column_names) - set(leave_out):
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_import_is_light_and_names_the_api():
    code = (
        "import sys, lumos\n"
        "heavy = {'numpy', 'torch', 'astropy', 'scipy', 'pyarrow', 'matplotlib', 'lumos.api'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(set(lumos.__all__) <= set(dir(lumos)), lumos.measure.__module__)\n"
        "try: lumos.fly\n"
        "except AttributeError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "[]",
        "True lumos.api.fluxes",
        f"module 'lumos' has no attribute 'fly', allowed: {', '.join(lumos.__all__)}",
    ]


def test_what_is_in_memory_is_measured_as_what_is_on_disk(path, tmp_path):
    write_parent(CATALOG, tmp_path / "parent.parquet")
    on_disk = lumos.measure(path, tmp_path / "parent.parquet", out=tmp_path / "run", **FAST)
    assert (len(on_disk), on_disk.path, dict(on_disk.failed)) == (4, tmp_path / "run", {})
    same(on_disk, lumos.read_run(tmp_path / "run"))
    files = set(tmp_path.rglob("*"))
    for images in (
        str(path),
        [path],
        at_hand(path),
        [at_hand(path)],
        next(read_exposure(path, load_survey("generic"))),
    ):
        for catalog in (CATALOG, parent_table(CATALOG), tmp_path / "parent.parquet"):
            in_memory = lumos.measure(images, catalog, **FAST)
            assert in_memory.path is None
            same(in_memory, on_disk)
    assert set(tmp_path.rglob("*")) == files
    assert np.isfinite(on_disk["flux"]).sum() >= 3
    assert (on_disk["flags"] & int(Flag.MASKED)).any()


def test_units_of_a_catalogue_are_honoured(path):
    expected = lumos.measure(path, CATALOG, **FAST)
    plain = {name: getattr(CATALOG, name) for name in ("object_id", "sersic_n", "axis_ratio")}
    table = QTable(
        {
            **plain,
            "ra": (CATALOG.ra * u.deg).to(u.rad),
            "dec": CATALOG.dec * 60 * u.arcmin,
            "half_light_radius": CATALOG.half_light_radius * 1000 * u.mas,
            "position_angle": CATALOG.position_angle * u.deg,
            "ref_mag": CATALOG.ref_mag * u.ABmag,
        }
    )
    for one in (table, Table(table)):
        got = lumos.measure(path, one, **FAST)
        np.testing.assert_allclose(got["flux"], expected["flux"], rtol=1e-5)
        np.testing.assert_array_equal(got["object_id"], expected["object_id"])
    table.rename_column("ra", "ALPHA")
    got = lumos.measure(path, table, settings={"catalog": {"columns": {"ra": "ALPHA"}}}, **FAST)
    np.testing.assert_allclose(got["flux"], expected["flux"], rtol=1e-5)
    table.rename_column("ALPHA", "ra")
    masked = Table(table, masked=True)
    masked["half_light_radius"].mask = [False, True, False, False]
    flags = lumos.measure(path, masked, **FAST)["flags"]
    assert (((flags & int(Flag.BAD_SHAPE)) != 0) == [False, True, False, False]).all()


def test_catalogues_that_cannot_be(path, caplog):
    shapes = {name: getattr(CATALOG, name) for name in ("ra", "dec", "half_light_radius")}
    with pytest.raises(LumosDataError, match="catalog: no column 'sersic_n', 'position_angle'; columns of"):
        lumos.measure(path, Table(shapes | {"axis_ratio": CATALOG.axis_ratio}), **FAST)
    with pytest.raises(
        LumosDataError, match=r"'half_light_radius' \(half_light_radius\) is in 'kpc', which is no angle"
    ):
        lumos.measure(path, QTable(shapes | {"half_light_radius": np.ones(4) * u.kpc, "sersic_n": np.ones(4)}), **FAST)
    with pytest.raises(LumosShapeError, match=r"catalog: sersic_n: got \(2,\), allowed: \(4,\) as object_id"):
        lumos.measure(path, replace(CATALOG, sersic_n=np.ones(2)), **FAST)
    with pytest.raises(LumosValueError, match=r"catalog: got 'dict', allowed: a path, an astropy Table"):
        lumos.measure(path, shapes, **FAST)
    # Bare positions are point sources, and that is said.
    points = lumos.measure(path, Table({name: shapes[name] for name in ("ra", "dec")}), **FAST)
    assert "catalog: no column of shapes: all objects are measured as point sources" in caplog.text
    assert np.isfinite(points["flux"]).sum() >= 3


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_uncertainties_of_each_kind_and_unit(path, kind):
    expected = lumos.measure(at_hand(path), CATALOG, **FAST)
    variance = fits.getdata(path, "VAR").astype(np.float64)
    power = {StdDevUncertainty: 0.5, VarianceUncertainty: 1.0, InverseVariance: -1.0}[kind]
    # In thousandths of the image's unit.
    unit = u.Unit(0.001 * u.adu) ** (2 * power)
    got = lumos.measure(at_hand(path, uncertainty=kind(1e6**power * variance**power, unit=unit)), CATALOG, **FAST)
    np.testing.assert_allclose(got["flux_err"], expected["flux_err"], rtol=1e-5)


def test_units_of_flux_give_the_zero_point(path):
    image = at_hand(path)
    expected = lumos.measure(image, CATALOG, **FAST)
    # The header's zero point is 27: one unit is 10^(0.4 * 4.4) nJy.
    header = image.meta.copy()
    del header["MAGZPT"]
    factor = 10 ** (0.4 * 4.4)
    pixel = (0.25 * u.arcsec) ** 2

    for unit in (u.nJy, u.uJy, u.nJy / u.pix, u.MJy / u.sr):
        one = u.nJy.to(unit) if unit.is_equivalent(u.nJy) else None
        if one is None:
            one = 1.0 if unit == u.nJy / u.pix else (1 * u.nJy / pixel).to_value(unit)
        scale = factor * one
        uncertainty = VarianceUncertainty(fits.getdata(path, "VAR") * scale**2)
        changed = {"data": image.data * scale, "unit": unit, "uncertainty": uncertainty, "meta": header}
        header["SATURATE"], header["GAIN"] = 1e4 * scale, 2 / scale
        got = lumos.measure(at_hand(path, **changed), CATALOG, **FAST)
        assert got.unit("flux") == "nJy"
        np.testing.assert_allclose(got["flux"], expected["flux"], rtol=2e-3)
        assert not (got["flags"] & int(Flag.NO_ZEROPOINT)).any()
    text = r"image_1: the header's zero point is 27\.0000, that of the unit nJy 31\.4000, allowed: the same"
    with pytest.raises(LumosDataError, match=text):
        lumos.measure(at_hand(path, unit="nJy"), CATALOG, **FAST)
    for unit in (u.K, u.m**2, u.ABmag, u.Unit("erg / (s cm2 AA)")):
        with pytest.raises(
            LumosDataError, match=r"image_1: the unit of its pixels is '.+', allowed: adu, electron, ct"
        ):
            lumos.measure(at_hand(path, unit=unit, uncertainty=None), CATALOG, **FAST)


def test_pixels_in_electrons_have_the_gain_1(path):
    exposures = {}
    for unit in ("adu", "electron", "electron / s"):
        image = at_hand(path, unit=unit, uncertainty=None)
        (exposures[unit],) = arguments.give_images(image, load_survey("generic"), None)[0].read()
    assert [one.gain for one in exposures.values()] == [2.0, 1.0, 100.0]


def test_images_without_a_zero_point_stay_in_their_unit(path, caplog):
    header = at_hand(path).meta.copy()
    del header["MAGZPT"]
    bare = at_hand(path, meta=header)
    header_b = header.copy()
    header_b["EXPID"], header_b["MAGZPT"] = "b", 27.0
    both = lumos.measure([bare, at_hand(path, meta=header_b)], CATALOG, **FAST)
    assert both.unit("flux") == "image unit or nJy"
    assert both.to_qtable()["flux"].unit is None
    assert both.select(both["exposure_id"] == "a").unit("flux") == "image unit or nJy"
    assert lumos.measure(bare, CATALOG, **FAST).unit("flux_err") == "image unit"
    assert len(both.pdf) == 8
    assert "the PDFs of these rows are in 'image unit or nJy'" in caplog.text


def test_psfs_at_hand(path):
    header = at_hand(path).meta.copy()
    del header["PSF_FWHM"]
    bare = at_hand(path, meta=header)
    with pytest.raises(LumosDataError, match=r"image_1: no PSF is known: no FWHM in the header, keys tried: PSF_FWHM"):
        lumos.measure(bare, CATALOG, **FAST)
    # 0.8 arcsec before the pixel, as the header says it.
    expected = lumos.measure(path, CATALOG, **FAST)
    given = {
        "model": MoffatModel(0.8 / 0.25, 4.765),
        "table": QTable({"exposure_id": ["a"], "detector": ["0"], "fwhm_arcsec": [800] * u.mas, "beta": [4.765],
                         "includes_pixel": [False]}),
    }  # fmt: skip
    for psf in given.values():
        np.testing.assert_allclose(lumos.measure(bare, CATALOG, psf=psf, **FAST)["flux"], expected["flux"], rtol=1e-4)
        np.testing.assert_allclose(lumos.measure(path, CATALOG, psf=psf, **FAST)["flux"], expected["flux"], rtol=1e-4)
    on_pixels = write_copy(path, PSFPIXEL=True, PSF_FWHM=0.85)
    expected = lumos.measure(on_pixels, CATALOG, **FAST)
    for psf in (0.85, 0.85 * u.arcsec, 850 * u.mas):
        same(lumos.measure(on_pixels, CATALOG, psf=psf, **FAST), expected)
    y, x = np.mgrid[-15:16, -15:16]
    picture = np.exp(-(x**2 + y**2) / 6)
    one = lumos.measure(bare, CATALOG, psf=picture, **FAST)
    same(lumos.measure(at_hand(path, psf=picture), CATALOG, **FAST), one)
    assert one["psf_fwhm"][0] == pytest.approx(0.25 * 2.3548 * np.sqrt(3), rel=0.01)


def write_copy(path, **cards):
    copy = path.with_name("copy.fits")
    with fits.open(path) as hdul:
        hdul[0].header.update(cards)
        hdul.writeto(copy, overwrite=True)
    return copy


@pytest.mark.parametrize(
    ("psf", "message"),
    [
        ("nowhere", "nowhere: no such folder"),
        (-1.0, r"psf: got -1\.0, allowed: a FWHM above 0, arcsec"),
        (3 * u.s, r"psf: got <Quantity 3\. s>, allowed: a FWHM in arcsec or another angle"),
        (np.ones((4, 5)), r"PSF image: got \(4, 5\), allowed: \(odd height, odd width\)"),
        ({"fwhm": 1}, r"psf: got 'dict', allowed: a FWHM in arcsec, an image, a table"),
        (1000.0, r"PSF FWHM is 4000 px, allowed: at most 60 px"),
        (
            Table({"exposure_id": ["b"], "detector": ["0"], "fwhm_arcsec": [1.0], "beta": [3.0]}),
            "no row for exposure a",
        ),
        (
            QTable({"exposure_id": ["a"], "detector": ["0"], "fwhm_arcsec": [1.0] * u.pix, "beta": [3.0]}),
            "psf: column 'fwhm_arcsec' is in 'pix', allowed: arcsec or another angle",
        ),
        (Table({"exposure_id": ["b"], "beta": [3.0]}), r"psf: PSF table lacks \['detector', 'fwhm_arcsec'\]"),
    ],
)
def test_psfs_that_cannot_be(path, psf, message):
    with pytest.raises(LumosError, match=message):
        lumos.measure(at_hand(path), CATALOG, psf=psf, **FAST)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"uncertainty": StdDevUncertainty(np.ones((3, 3)))}, LumosShapeError, r"image_1: uncertainty: got \(3, 3\)"),
        (
            {"uncertainty": UnknownUncertainty(np.ones(SHAPE))},
            LumosDataError,
            "uncertainty is UnknownUncertainty, allow",
        ),
        ({"data": np.zeros((2, *SHAPE))}, LumosShapeError, r"image_1: image: got \(2, 200, 220\), allowed: two axes"),
        ({"data": np.zeros(SHAPE, dtype=complex)}, LumosDataError, "the image holds complex128, allowed: real numbers"),
        ({"wcs": None}, LumosDataError, r"image_1: its WCS is NoneType, allowed: astropy\.wcs\.WCS"),
        ({"wcs": WCS(naxis=2)}, LumosDataError, "image_1: its WCS is not celestial of two axes"),
        ({"meta": {}}, LumosDataError, "image_1: no band in the header, keys tried: BAND, FILTER"),
        (
            {"meta": {"filter": "r", "gain": 2 * u.electron}},
            LumosDataError,
            r"image_1: GAIN is <Quantity 2\. electron>",
        ),
        ({"meta": {"filter": "r", "gain": -2}}, LumosDataError, r"image_1: gain is -2\.0, allowed: positive"),
    ],
)
def test_images_whose_parts_do_not_fit(path, changes, kind, message):
    if "data" in changes:
        changes |= {"mask": None, "uncertainty": None}
    with pytest.raises(kind, match=message):
        lumos.measure(at_hand(path, **changes), CATALOG, **FAST)


def test_a_mask_of_another_image(path):
    image = at_hand(path)
    # Astropy refuses it too, where it looks.
    image._mask = np.zeros((5, 5), dtype=bool)
    with pytest.raises(LumosShapeError, match=r"image_1: mask: got \(5, 5\), allowed: \(200, 220\) of the image"):
        lumos.measure(image, CATALOG, **FAST)


def test_a_wcs_of_another_image(path):
    image = at_hand(path)
    assert image.wcs.pixel_shape == SHAPE[::-1]
    part = CCDData(image.data[:100], unit="adu", wcs=image.wcs, meta=image.meta)
    with pytest.raises(LumosShapeError, match=r"image_1: WCS, of an image: got \(200, 220\), allowed: \(100, 220\)"):
        lumos.measure(part, CATALOG, **FAST)
    # A slice takes its WCS along.
    whole, cut = (lumos.measure(one, CATALOG, **FAST) for one in (image, image[10:, 5:]))
    np.testing.assert_allclose(cut["x"], whole["x"] - 5, atol=1e-6)
    np.testing.assert_allclose(cut["y"], whole["y"] - 10, atol=1e-6)
    np.testing.assert_allclose(cut["aperture_flux"][:3], whole["aperture_flux"][:3], rtol=0.05)


def test_meta_may_be_any_mapping(path):
    meta = {"Filter": "r", "gain": np.float32(2), "magzpt": 27.0, "psf_fwhm": 0.8, "PSFPIXEL": False, "notes": [1, 2]}
    meta |= {"saturate": 1e4, "expid": "a", "exptime": float("nan"), "an impossible key": None}
    got, expected = (lumos.measure(one, CATALOG, **FAST) for one in (at_hand(path, meta=meta), path))
    for name in ("flux", "flux_err", "flags", "band", "exposure_id"):
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": np.zeros((5, 5), dtype=np.int32)}, r"a: mask: got \(5, 5\), allowed: \(200, 220\) of the image"),
        ({"variance": np.zeros((5, 5))}, r"a: variance: got \(5, 5\)"),
        ({"sky": np.zeros(7)}, r"a: sky: got \(7,\)"),
        ({"mask": np.zeros(SHAPE)}, "a: mask holds float64, allowed: integers or truth values"),
        ({"pixel_scale": 0.5}, r"a: pixel_scale is 0\.5, allowed: 0\.25 arcsec \(the WCS's\) within 3 %"),
    ],
)
def test_exposures_whose_parts_do_not_fit(path, changes, message):
    exposure = next(read_exposure(path, load_survey("generic")))
    with pytest.raises(LumosError, match=message):
        lumos.measure(replace(exposure, path=Path(), **changes), CATALOG, **FAST)


def test_calls_that_do_not_fit(path, tmp_path):
    image = at_hand(path)
    table = lumos.measure(image, CATALOG, **FAST)
    for call, message in {
        lambda: lumos.measure([], CATALOG): "images: got 0, allowed: at least one",
        lambda: lumos.measure([image, path], CATALOG): "images: got 'paths and objects together'",
        lambda: lumos.measure(
            [image, image], CATALOG, **FAST
        ): "image_1 and image_2: both are exposure 'a', detector '0'",
        lambda: lumos.measure(image.data, CATALOG): "image_1: got 'ndarray', allowed: a path, an astropy CCDData",
        lambda: lumos.measure(image, CATALOG, out=tmp_path / "run"): "images: got 'CCDData', allowed: a path",
        lambda: lumos.measure(path, CATALOG, out=tmp_path / "run"): "catalog, where out is given: got 'ParentCatalog'",
        lambda: lumos.measure(path, "c", psf=1.0, out=tmp_path / "run"): "psf, where out is given: got 'float'",
        lambda: lumos.measure(path, CATALOG, workers=2): "workers: got 2, allowed: 1 where no out is given",
        lambda: lumos.measure(
            path, CATALOG, stampsize=60
        ): "lumos.measure: unknown key 'stampsize', allowed: annulus_in",
        lambda: lumos.measure(path, CATALOG, noise={"sauce": 1}): "lumos.measure: unknown key 'noise.sauce'",
        lambda: lumos.measure(
            path, CATALOG, settings=3
        ): "settings: got 'int', allowed: a YAML file, a mapping or Meas",
        lambda: lumos.measure(path, CATALOG, settings={"a": 1}): "lumos.measure: settings: unknown key 'a'",
        lambda: lumos.measure(path, CATALOG, survey="moon"): "unknown survey 'moon', allowed: decam",
        lambda: lumos.measure(path, CATALOG, survey=3): "survey: got 'int', allowed: a name, a YAML file",
        lambda: lumos.measure(path, CATALOG, estimators="magic"): "unknown estimator 'magic', allowed: aperture",
        lambda: lumos.measure(path, CATALOG, model="none"): "no model 'none', allowed:",
        lambda: lumos.coadd(table): "runs: got 'FluxTable of 4 rows",
        lambda: lumos.read_run(3): "run: got 'int', allowed: a path",
        lambda: lumos.catalog([image, replace_id(image, "b")]): "image: got 2, allowed: one image",
        lambda: table["flax"]: "column: got 'flax', allowed: object_id",
        lambda: table.unit("flax"): "column: got 'flax'",
        lambda: table.select([True]): r"rows: got (1,), allowed: (4,), or a list of row numbers",
        lambda: table.select([9]): "rows: got 9, allowed: 0 to 3",
        lambda: table.select(["a"]): "rows: got '<U1', allowed: truth values or row numbers",
    }.items():
        with pytest.raises(LumosError, match=re.escape(message)):
            call()
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        lumos.measure(path)
    assert not (tmp_path / "run").exists()


def replace_id(image, name):
    meta = image.meta.copy()
    meta["EXPID"] = name
    return CCDData(image.data, unit="adu", wcs=image.wcs, meta=meta)


def test_one_bad_file_does_not_stop_the_others(path, tmp_path, caplog):
    write_parent(CATALOG, tmp_path / "parent.parquet")
    missing = tmp_path / "no.fits"
    for out in (None, tmp_path / "run"):
        caplog.clear()
        table = lumos.measure([missing, path], tmp_path / "parent.parquet", out=out, **FAST)
        assert (len(table), dict(table.failed)) == (4, {str(missing): f"{missing}: no such file"})
        assert f"failed: {missing}: no such file" in caplog.text
        assert "1 exposures failed" in repr(table)
        with pytest.raises(LumosError, match=r"no\.fits: no such file"):
            lumos.measure(missing, tmp_path / "parent.parquet", out=out and tmp_path / "other", **FAST)
    far = lumos.measure(at_hand(path), catalog_at([5000], [5000]), **FAST)
    assert len(far) == len(far.pdf) == 0
    assert "image_1: no object of the catalogue lies on this exposure" in caplog.text


def test_settings_in_each_form(path, tmp_path):
    (tmp_path / "mine.yaml").write_text("measure: {estimators: [aperture], noise: {correlation: none}, stamp_size: 48}")
    settings = MeasureSettings(estimators=("aperture",), noise={"correlation": "none"}, stamp_size=48)
    mapping = {"estimators": ["aperture"], "noise": {"correlation": "none"}, "stamp_size": 48}
    expected = lumos.measure(path, CATALOG, **mapping)
    for one in (settings, mapping, tmp_path / "mine.yaml"):
        same(lumos.measure(path, CATALOG, settings=one), expected)
    # A change of one nested setting keeps those beside it.
    floored = lumos.measure(path, CATALOG, settings=settings, noise={"relative_floor": 0.1})
    np.testing.assert_array_equal(floored["flux"], expected["flux"])
    assert (floored["flux_err"] > expected["flux_err"])[np.isfinite(expected["flux"])].all()


def test_table_of_fluxes(path, monkeypatch):
    table = lumos.measure(path, CATALOG, **FAST)
    assert "flux" in table
    assert table.to_arrow().num_rows == 4
    quantities = table.to_qtable()
    for name, unit in {"flux": "nJy", "ra": "deg", "x": "pix", "zeropoint": "mag", "background": "nJy / pix"}.items():
        assert str(quantities[name].unit) == unit
        np.testing.assert_array_equal(quantities[name].value, table[name])
    assert quantities["flags"].dtype == np.int32
    assert quantities["pdf_means"].shape == (4, 1)
    assert quantities["flux"].to(u.uJy)[1].value == pytest.approx(table["flux"][1] / 1000)
    some = table.select([1, 0])
    assert some["object_id"].tolist() == [2, 1]
    assert (some.unit("flux"), some.path) == ("nJy", None)
    np.testing.assert_array_equal(some.pdf.quantile(0.5), table.pdf.quantile(0.5)[[1, 0]])
    assert len(table.select([])) == 0
    text = table._repr_html_()
    assert "FluxTable of 4 rows" in text
    assert "<i>nJy</i>" in text
    assert "MASKED" in text
    assert repr(table).endswith("columns, in memory")
    evil = pa.table({"band": ["<script>"]})
    assert "&lt;script&gt;" in tables.FluxTable(evil)._repr_html_()
    with pytest.raises(LumosDataError, match="no column 'pdf_weights': read the table with its PDFs"):
        _ = tables.FluxTable(evil).pdf
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LumosError, match="to_pandas needs pandas"):
        table.to_pandas()


def test_pdfs_that_are_partly_cut_are_not_taken_for_whole_ones(path):
    table = lumos.measure(path, CATALOG, **FAST).table
    metadata = table.schema.metadata | {b"lumos.provenance": b'{"model": {"name": "old", "cut_from": 22.5}}'}
    with pytest.raises(LumosDataError, match=r"model 'old' are cut at flux 0 from magnitude 22\.5.*allowed: a coadd"):
        _ = tables.FluxTable(table.replace_schema_metadata(metadata)).pdf


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(Path(__file__).parents[2] / "small_survey.yaml")), folder)
    return folder


def test_runs_and_coadds(survey, tmp_path):
    run = lumos.measure(survey / "exposures", survey / "parent.parquet", out=tmp_path / "run", **FAST)
    assert set(run["exposure_id"]) == {"r_001", "r_002"}
    few = lumos.read_run(tmp_path / "run", columns=["object_id", "flux"])
    np.testing.assert_array_equal(few["flux"], run["flux"])
    with pytest.raises(LumosValueError, match="column: got 'flax', allowed: object_id"):
        lumos.read_run(tmp_path / "run", columns=["flax"])
    kept = lumos.coadd(run, tmp_path / "c.parquet", prior="none")
    assert kept.path == tmp_path / "c.parquet"
    for other in (lumos.read_coadd(tmp_path / "c.parquet"), lumos.coadd([tmp_path / "run"], prior="none")):
        same(other, kept)
    assert len(kept.pdf) == len(kept) == len(np.unique(run["object_id"]))
    grid = lumos.coadd(run, prior="none", pdf="grid")
    np.testing.assert_allclose(grid.pdf.quantile(0.5), kept.pdf.quantile(0.5), atol=0.1 * np.nanmax(kept["flux_err"]))
    with pytest.raises(LumosConfigError, match=r"lumos\.coadd: unknown key 'prio', allowed: "):
        lumos.coadd(run, prio="none")
    with pytest.raises(LumosValueError, match="zeropoints: got 'Table', allowed: a path"):
        lumos.coadd(run, zeropoints=Table())
    with pytest.raises(LumosValueError, match="runs: got 'FluxTable of"):
        lumos.coadd(run.select([0, 1]))


def test_psf_and_catalogue_of_images_at_hand(survey, tmp_path):
    files = sorted((survey / "exposures").glob("*.fits"))
    exposures = [next(read_exposure(file, load_survey("generic"))) for file in files]
    psfs = lumos.psf(exposures)
    assert psfs["exposure_id"].tolist() == ["r_001", "r_002"]
    assert str(psfs["fwhm_arcsec"].unit) == "arcsec"
    # Empirical PSFs are files.
    on_disk = lumos.psf(files, tmp_path / "psf", model="moffat")
    for name in psfs.colnames:
        np.testing.assert_array_equal(psfs[name], on_disk[name])
    made = lumos.catalog(replace(exposures[0], psf=None), psf=psfs)
    assert {name: str(made[name].unit) for name in ("ra", "half_light_radius", "ref_mag")} == {
        "ra": "deg",
        "half_light_radius": "arcsec",
        "ref_mag": "mag(AB)",
    }
    kept = lumos.catalog(files[0], tmp_path / "made.parquet", psf=tmp_path / "psf")
    for name in made.colnames:
        np.testing.assert_array_equal(made[name], kept[name])
    # What the catalogue knows of itself goes along: the exposure that it was made from is flagged.
    tables = [lumos.measure(exposures, one, **FAST) for one in (made, read_parent(tmp_path / "made.parquet"))]
    same(*tables)
    is_first = tables[0]["exposure_id"] == "r_001"
    np.testing.assert_array_equal((tables[0]["flags"] & int(Flag.CATALOG_EXPOSURE)) != 0, is_first)
    # One CCD without stars does not stop the others.
    few = lumos.psf([files[0], tmp_path / "no.fits"])
    assert few["exposure_id"].tolist() == ["r_001"]
    with pytest.raises(LumosError, match=r"r_001\.fits: 0 usable stars, allowed: at least 5"):
        lumos.psf(files[0], min_snr=1e9)
    with pytest.raises(LumosError, match="0 usable stars"):
        lumos.psf(exposures[0], min_snr=1e9)


def test_examples_run(survey, monkeypatch, caplog):
    monkeypatch.chdir(survey)
    caplog.set_level(logging.ERROR)
    for module, fewest in ((fluxes, 8), (tables, 8), (base, 5), (views, 5), (colours, 6)):
        result = doctest.testmod(module)
        assert result.failed == 0
        assert result.attempted >= fewest
