"""Catalogues that processes share, and the objects near an exposure."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from helpers.fits_files import write_simple
from lumos.catalogs import parent as parent_module
from lumos.catalogs.mapped import map_catalog, write_mapped
from lumos.catalogs.parent import ParentCatalog
from lumos.images import read_exposure, sky_to_pixel
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import catalog_near
from lumos.photometry.settings import MeasureSettings
from lumos.surveys import load_survey


def sphere(rng, n, **more):
    shape = {"half_light_radius": np.ones(n), "sersic_n": np.ones(n), "axis_ratio": np.ones(n)}
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    facts = {
        "object_id": np.arange(n),
        "ra": ra,
        "dec": dec,
        "position_angle": np.zeros(n),
        "ref_mag": np.full(n, 20.0),
    }
    return ParentCatalog(**(facts | shape | more))


@pytest.mark.parametrize(
    ("ra", "dec", "radius"), [(0.1, 10.0, 5.0), (120.0, 89.0, 4.0), (300.0, -88.0, 10.0), (50.0, 0.0, 100.0)]
)
def test_near_is_within_a_circle(rng, monkeypatch, ra, dec, radius):
    monkeypatch.setattr(parent_module, "_AT_ONCE", 7000)
    catalog = sphere(rng, 20_000)
    catalog.ra[7] = np.nan
    distance = SkyCoord(catalog.ra, catalog.dec, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).deg
    near = catalog.near(ra, dec, radius)
    assert near.object_id.tolist() == np.flatnonzero(distance <= radius).tolist()
    assert len(near) > 10


def test_a_mapped_catalogue_is_the_same(rng, tmp_path):
    names = np.array([f"µ {number}" for number in range(300)])
    catalog = sphere(rng, 300, object_name=names, flags=np.arange(300), made_from=("a", "b"))
    write_mapped(catalog, tmp_path / "map")
    mapped = map_catalog(tmp_path / "map")
    assert mapped.made_from == ("a", "b")
    assert isinstance(mapped.ra, np.memmap)
    near = mapped.near(180.0, 0.0, 90.0)
    assert not isinstance(near.ra, np.memmap)
    rows = near.object_id
    assert 100 < len(rows) < 200
    for name in ("ra", "half_light_radius", "object_name", "flags"):
        np.testing.assert_array_equal(getattr(near, name), getattr(catalog, name)[rows])
    write_mapped(sphere(rng, 3), tmp_path / "plain")
    assert map_catalog(tmp_path / "plain").object_name is None


@pytest.fixture
def exposure(tmp_path, rng):
    path = write_simple(tmp_path / "a.fits", rng.normal(100, 5, (200, 220)).astype(">f4"), CRPIX1=110.5, CRPIX2=100.5)
    return next(iter(read_exposure(path, load_survey("generic"))))


def test_what_lies_near_an_exposure_is_all_that_it_needs(rng, exposure, tmp_path):
    n = 40_000
    catalog = sphere(rng, n, ra=150 + rng.uniform(-0.3, 0.3, n), dec=2 + rng.uniform(-0.3, 0.3, n))
    write_mapped(catalog, tmp_path / "map")
    near = catalog_near(exposure, map_catalog(tmp_path / "map"))
    inside = sky_to_pixel(exposure.wcs, catalog.ra, catalog.dec, exposure.shape, margin=1000)[2]
    assert np.isin(catalog.object_id[inside], near.object_id).all()
    assert inside.sum() <= len(near) < 0.6 * n
    settings = MeasureSettings(estimators=("optimal",))
    whole, part = measure_exposure(exposure, catalog, settings), measure_exposure(exposure, near, settings)
    assert whole.num_rows > 10
    for name in ("object_id", "x", "y", "optimal_flux", "optimal_flux_err", "flags"):
        np.testing.assert_array_equal(whole[name].to_numpy(), part[name].to_numpy())
