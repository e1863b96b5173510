"""Every estimator measures objects of size 0 with the PSF itself; references: photutils, a closed form."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from photutils.psf import ImagePSF, PSFPhotometry
from scipy.special import erf

import lumos
from helpers.fits_files import header
from helpers.measured_runs import SHAPE, catalog_at
from lumos.catalogs.parent import parent_table
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.estimators import ESTIMATORS

X = np.array([40.3, 110.0, 175.45, 60.2, 150.7])
Y = np.array([45.1, 60.5, 50.25, 150.9, 140.0])
FLUX = np.array([2e5, 1e5, 3e5, 1e5, 2e5])


def pixel_gaussian(offset, sigma):
    """Integrate a Gaussian over pixels at offsets from its centre, in closed form."""
    edge = np.sqrt(2) * sigma
    return 0.5 * (erf((offset + 0.5) / edge) - erf((offset - 0.5) / edge))


def star(x, y, shape):
    """Return a PSF of two Gaussians, elongated, on pixels; no Moffat."""
    dx, dy = np.arange(shape[1]) - x, np.arange(shape[0])[:, None] - y
    core = pixel_gaussian(dx, 1.3) * pixel_gaussian(dy, 1.6)
    return 0.9 * core + 0.1 * pixel_gaussian(dx, 3.0) * pixel_gaussian(dy, 3.0)


@pytest.fixture
def exposure(tmp_path, rng):
    data = rng.normal(100, 5, SHAPE) + sum(flux * star(x, y, SHAPE) for flux, x, y in zip(FLUX, X, Y, strict=True))
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(data.astype(">f4"), header(CRPIX1=110.5, CRPIX2=100.5)).writeto(path)
    return path, data


def test_every_estimator_measures_a_point_with_the_psf(exposure):
    path, data = exposure
    points = catalog_at(X, Y, half_light_radius=np.zeros(len(X)))
    psf = star(20.0, 20.0, (41, 41))
    names = sorted(ESTIMATORS)
    got = lumos.measure([path], parent_table(points), psf=psf, estimators=names, model="generic")
    true = FLUX * 10 ** (0.4 * (AB_ZEROPOINT_NJY - 27.0))
    for name in names:
        np.testing.assert_allclose(got[f"{name}_flux"], true, rtol=2e-3, err_msg=name)
    # The network sees the same profile; it learns from noise, and is not that exact.
    np.testing.assert_allclose(got["lumos_flux"], true, rtol=0.03)
    # photutils, with the same image as its PSF.
    start = Table({"x": X, "y": Y, "flux": FLUX})
    model = ImagePSF(psf, x_0=20, y_0=20)
    fitted = PSFPhotometry(model, (15, 15))(data - 100, init_params=start)["flux_fit"]
    np.testing.assert_allclose(got["optimal_flux"] / true, np.asarray(fitted) / FLUX, rtol=3e-3)


def test_a_point_is_no_galaxy(exposure):
    """A galaxy of the size of the PSF is another profile, so that the first test can fail."""
    path, _ = exposure
    galaxies = catalog_at(X, Y, half_light_radius=np.full(len(X), 0.8))
    got = lumos.measure([path], parent_table(galaxies), psf=star(20.0, 20.0, (41, 41)), estimators=["optimal"])
    true = FLUX * 10 ** (0.4 * (AB_ZEROPOINT_NJY - 27.0))
    assert (np.asarray(got["optimal_flux"] / true) > 1.03).all()
