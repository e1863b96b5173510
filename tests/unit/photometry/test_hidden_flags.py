"""Flags of fluxes that hold the light of something else."""

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from helpers.fits_files import wcs_cards
from lumos.catalogs.parent import ParentCatalog
from lumos.flags import Flag, has_flag
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.hidden import doubtful_fluxes
from lumos.photometry.settings import MeasureSettings
from lumos.profiles import Shapes, render

SHAPE, SCATTER = (320, 320), 2.0


def field(rng, flux, star_flux, star_distance, ref_mag):
    """Return an exposure of galaxies with a star each beside them, and its catalogue: the galaxies, then the stars."""
    x, y = (v.ravel() + rng.uniform(-0.5, 0.5, v.size) for v in np.meshgrid(*(np.arange(30, 300, 52.0),) * 2))
    n, psf = len(x), MoffatModel(3.8, 3.5)
    angle = rng.uniform(0, 2 * np.pi, n)
    x, y = (np.concatenate([v, v + star_distance * f(angle)]) for v, f in ((x, np.cos), (y, np.sin)))
    flux, radius, one = np.concatenate([flux, star_flux]), np.repeat([3.0, 0.0], n), np.ones(2 * n)
    light = render(Shapes(x, y, radius, one, one, 0 * one), psf.at(x, y), size=SHAPE).numpy()
    data = (rng.normal(0, SCATTER, SHAPE) + (light * flux[:, None, None]).sum(0)).astype(np.float32)
    wcs = WCS(Header(wcs_cards()))
    exposure = Exposure(
        "e", "1", "test", "r", "", data, np.zeros(SHAPE, np.int32), wcs, 0.25, psf,
        variance=np.full(SHAPE, SCATTER**2, np.float32), zeropoint=27.0,
    )  # fmt: skip
    ra, dec = wcs.all_pix2world(x, y, 0)
    return exposure, ParentCatalog(np.arange(2 * n), ra, dec, radius * 0.25, one, one, 0 * one, ref_mag)


def flags_of(exposure, catalog, **changes):
    settings = MeasureSettings.model_validate({"noise": {"correlation": "none"}, **changes})
    return measure_exposure(exposure, catalog, settings)["flags"].to_numpy()[:36]


@pytest.mark.parametrize("estimator", ["optimal", "aperture"])
def test_a_star_in_no_catalogue_is_told_and_one_in_it_is_not(rng, estimator):
    bright = np.arange(36) % 2 == 0
    exposure, catalog = field(rng, np.full(36, 1500.0), 3000.0 * bright, 6.0, np.full(72, np.nan))
    galaxies, stars = np.arange(36), 36 + np.flatnonzero(bright)
    told = has_flag(flags_of(exposure, catalog.take(galaxies), estimators=[estimator]), Flag.HIDDEN_SOURCE)
    np.testing.assert_array_equal(told, bright)
    listed = flags_of(exposure, catalog.take(np.concatenate([galaxies, stars])), estimators=[estimator])
    assert not has_flag(listed, Flag.HIDDEN_SOURCE).any()


def test_a_star_at_the_same_place_is_told_by_the_catalogue(rng):
    # No magnitude is known of six; the colours of the others scatter about one that is far from that of the catalogue.
    flux = 1500 * np.exp(rng.normal(0, 0.3, 36))
    ref_mag = np.concatenate([-2.5 * np.log10(1500 * np.exp(rng.normal(0, 0.1, 36))) + 24.0, np.full(36, np.nan)])
    ref_mag[30:36] = np.nan
    hidden = np.arange(36) % 6 == 1
    exposure, catalog = field(rng, flux, 15000.0 * hidden, 0.0, ref_mag)
    flags = flags_of(exposure, catalog.take(np.arange(36)), estimators=["optimal"])
    np.testing.assert_array_equal(has_flag(flags, Flag.CATALOG_MISMATCH), hidden & (np.arange(36) < 30))


def test_few_or_odd_magnitudes_tell_nothing():
    n = 40
    columns = {
        "flux": np.full(n, 100.0), "flux_err": np.ones(n), "flags": np.zeros(n, dtype=np.int64),
        "flux_without_hidden": np.full(n, np.nan),
    }  # fmt: skip
    columns["flux"][:2] = 5000.0, np.nan
    magnitude = np.full(n, -5.0)
    expected = np.where(np.arange(n) == 0, int(Flag.CATALOG_MISMATCH), 0)
    np.testing.assert_array_equal(doubtful_fluxes(columns, magnitude), expected)
    few = np.where(np.arange(n) < 19, magnitude, np.nan)
    assert (doubtful_fluxes(columns, few) == 0).all()
    # Faint objects have no colours.
    faint = columns | {"flux_err": np.full(n, 50.0)}
    assert (doubtful_fluxes(faint, magnitude) == 0).all()
    nothing = {name: values[:0] for name, values in columns.items()}
    assert len(doubtful_fluxes(nothing, magnitude[:0])) == 0


def test_a_hidden_source_counts_by_the_errors_of_the_flux():
    columns = {
        "flux": np.array([100.0, 100.0, 100.0, 1000.0, np.nan]), "flux_err": np.array([10.0, 40.0, 10.0, 1.0, np.nan]),
        "flags": np.zeros(5, dtype=np.int64), "flux_without_hidden": np.array([60.0, 60.0, np.nan, 850.0, 1.0]),
    }  # fmt: skip
    told = has_flag(doubtful_fluxes(columns, np.full(5, np.nan)), Flag.HIDDEN_SOURCE)
    # Knots of a galaxy may hold 15 % of its flux.
    assert told.tolist() == [True, False, False, False, False]
