"""Catalogues that hold fluxes in place of magnitudes, radii in pixels, or no sizes at all."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table

from lumos.api.arguments import give_parent
from lumos.catalogs.mapped import map_catalog, write_mapped
from lumos.catalogs.parent import read_parent
from lumos.errors import LumosConfigError, LumosDataError
from lumos.photometry.settings import CatalogColumns
from lumos.settings import load_settings

MAGNITUDES = np.array([20.0, 22.5, 24.0])


def table(**columns):
    return Table({"object_id": [1, 2, 3], "ra": [10.0, 10.1, 10.2], "dec": [1.0, 1.1, 1.2], **columns})


def shapes(radius):
    return {"half_light_radius": radius, "sersic_n": [1.0] * 3}


@pytest.mark.parametrize(
    ("unit", "zeropoint", "suffix"),
    [("nJy", 31.4, ".fits"), ("uJy", 23.9, ".ecsv"), ("Jy", 8.9, ".fits"), ("1e-6 Jy", 23.9, ".ecsv")],
)
def test_fluxes_with_a_unit(tmp_path, unit, zeropoint, suffix):
    content = table(flux=10 ** (-0.4 * (MAGNITUDES - zeropoint)) * u.Unit(unit))
    path = tmp_path / f"a{suffix}"
    content.write(path)
    catalog = read_parent(path, {"ref_mag": "flux"})
    np.testing.assert_allclose(catalog.ref_mag, MAGNITUDES, atol=1e-9)


@pytest.mark.parametrize(("unit", "zeropoint"), [("nanomaggy", 22.5), ("zp 26", 26.0), ("ZP 30", 30.0), ("nJy", 31.4)])
def test_fluxes_of_a_file_without_units(tmp_path, unit, zeropoint):
    flux = 10 ** (-0.4 * (MAGNITUDES - zeropoint))
    table(FLUX_I=flux).write(tmp_path / "a.csv")
    settings = CatalogColumns(columns={"ref_mag": "FLUX_I"}, units={"ref_mag": unit})
    np.testing.assert_allclose(settings.read(tmp_path / "a.csv").ref_mag, MAGNITUDES, atol=1e-9)


def test_fluxes_that_have_no_magnitude(tmp_path):
    table(f=[100.0, 0.0, -5.0]).write(tmp_path / "a.csv")
    catalog = read_parent(tmp_path / "a.csv", {"ref_mag": "f"}, units={"ref_mag": "nJy"})
    assert np.isfinite(catalog.ref_mag).tolist() == [True, False, False]


def test_magnitudes_stay_what_they_are(tmp_path):
    table(mag=MAGNITUDES).write(tmp_path / "a.csv")
    for units in ({}, {"ref_mag": "mag"}, {"ref_mag": "mag(AB)"}):
        assert read_parent(tmp_path / "a.csv", {"ref_mag": "mag"}, units=units).ref_mag.tolist() == MAGNITUDES.tolist()


@pytest.mark.parametrize("unit", ["pix", "pixel"])
def test_radii_in_pixels(tmp_path, unit):
    content = table(r50=np.array([1.0, 2.0, 4.0]) * u.pix, **shapes([0.0] * 3))
    content.remove_column("half_light_radius")
    content["r50"].unit = unit
    content["half_light_radius_err"] = [0.1, 0.2, 0.4]
    content.write(tmp_path / "a.ecsv")
    columns = {"half_light_radius": "r50"}
    with pytest.raises(LumosDataError, match=r"'r50' .* is in 'pix', say how large one is, as measure.catalog.units"):
        read_parent(tmp_path / "a.ecsv", columns)
    size = {"half_light_radius": "0.263 arcsec", "half_light_radius_err": "0.263 arcsec"}
    catalog = CatalogColumns(columns=columns, units=size).read(tmp_path / "a.ecsv")
    np.testing.assert_allclose(catalog.half_light_radius, [0.263, 0.526, 1.052])
    np.testing.assert_allclose(catalog.half_light_radius_err, [0.0263, 0.0526, 0.1052])


def test_radii_in_arcsec_and_other_angles(tmp_path):
    table(**shapes([1.0, 2.0, 4.0])).write(tmp_path / "a.csv")
    assert read_parent(tmp_path / "a.csv").half_light_radius.tolist() == [1, 2, 4]
    minutes = read_parent(tmp_path / "a.csv", units={"half_light_radius": "arcmin"})
    np.testing.assert_allclose(minutes.half_light_radius, [60, 120, 240])


def test_one_size_for_all_in_pixels(tmp_path):
    table().write(tmp_path / "a.csv")
    columns = {"half_light_radius": 3.0, "sersic_n": 1.0}
    catalog = read_parent(tmp_path / "a.csv", columns, units={"half_light_radius": "0.2 arcsec"})
    np.testing.assert_allclose(catalog.half_light_radius, 0.6)


def test_without_sizes(tmp_path, caplog):
    table(flux=[10.0, 20.0, 30.0]).write(tmp_path / "a.csv")
    catalog = read_parent(tmp_path / "a.csv", {"ref_mag": "flux"}, units={"ref_mag": "uJy"})
    assert catalog.is_point.all()
    assert catalog.shape_ok.all()
    assert "all objects are measured as point sources" in caplog.text
    # Sizes of some only: the others are flagged, not taken for points.
    table(**shapes([1.0, np.nan, 0.0])).write(tmp_path / "b.ecsv")
    some = read_parent(tmp_path / "b.ecsv")
    assert some.shape_ok.tolist() == [True, False, True]
    assert some.is_point.tolist() == [False, False, True]


def test_processes_share_what_was_converted(tmp_path):
    table(flux=[10.0, 20.0, 30.0]).write(tmp_path / "a.csv")
    catalog = read_parent(tmp_path / "a.csv", {"ref_mag": "flux"}, units={"ref_mag": "uJy"})
    write_mapped(catalog, tmp_path / "mapped")
    np.testing.assert_array_equal(map_catalog(tmp_path / "mapped").ref_mag, catalog.ref_mag)


def test_tables_in_memory():
    content = QTable({"ra": [10.0] * 3 * u.deg, "dec": [1.0] * 3 * u.deg, "ref_mag": [1.0, 10.0, 100.0] * u.uJy})
    np.testing.assert_allclose(give_parent(content, CatalogColumns()).ref_mag, [23.9, 21.4, 18.9], atol=1e-9)


@pytest.mark.parametrize("unit", ["kpc", "zp", "zp many", "zp 99", "zp nan", "counts", "W"])
def test_a_unit_that_is_no_flux(tmp_path, unit):
    table(flux=[10.0, 20.0, 30.0]).write(tmp_path / "a.csv")
    with pytest.raises(
        LumosDataError, match=rf"a.csv: column 'flux' \(ref_mag\) is in '{unit}', allowed: AB magnitudes"
    ):
        read_parent(tmp_path / "a.csv", {"ref_mag": "flux"}, units={"ref_mag": unit})


def test_units_of_a_column_that_does_not_exist(tmp_path):
    table().write(tmp_path / "a.csv")
    with pytest.raises(LumosConfigError, match=r"units of columns: unknown column 'mag', allowed: object_id, ra"):
        read_parent(tmp_path / "a.csv", units={"mag": "nJy"})


def test_settings_of_a_survey_like_des(tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text(
        "measure:\n  catalog:\n"
        "    columns: {object_id: COADD_ID, ref_mag: FLUX_I, half_light_radius: R50, sersic_n: 1.0}\n"
        "    units: {ref_mag: zp 30, half_light_radius: 0.263 arcsec}\n"
    )
    content = table(FLUX_I=10 ** (-0.4 * (MAGNITUDES - 30)), R50=[1.0, 2.0, 3.0])
    content.rename_column("object_id", "COADD_ID")
    content["COADD_ID"] = ["a 1", "a 2", "a 3"]
    content.write(tmp_path / "a.fits")
    catalog = load_settings(config, []).measure.catalog.read(tmp_path / "a.fits")
    np.testing.assert_allclose(catalog.ref_mag, MAGNITUDES, atol=1e-9)
    np.testing.assert_allclose(catalog.half_light_radius, [0.263, 0.526, 0.789])
    assert catalog.object_name.tolist() == ["a 1", "a 2", "a 3"]
