"""`lumos catalog` and `lumos psf` on images that GalSim drew."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.wcs import WCS

from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosDataError
from lumos.images import sky_to_pixel
from lumos.images.exposure import Exposure
from lumos.images.psf import MoffatModel
from lumos.measure.detect import make_parent_catalog
from lumos.measure.settings import CatalogSettings, PsfSettings
from lumos.measure.stars import fit_star_psf

pytestmark = pytest.mark.science
SCALE, STEP, ROWS, NOISE = 0.3, 70, 9, 3.0


def exposure_of(data, fwhm, beta):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, -20.0], [300.0, 300.0]
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = SCALE / 3600 * np.diag([-1.0, 1.0]) @ turn
    wcs.wcs.set()
    return Exposure(
        exposure_id="e", detector="0", survey="generic", band="r", state="", data=data.astype(np.float32),
        mask=np.zeros(data.shape, np.int32), wcs=wcs, pixel_scale=SCALE, psf=MoffatModel(fwhm, beta),
        zeropoint=27.0, path=Path("e.fits"),
    )  # fmt: skip


def draw(rng, profiles):
    """Draw profiles on a grid of cells with noise; return the image and the centres."""
    image = np.zeros((ROWS * STEP, ROWS * STEP))
    centres = []
    for number, profile in enumerate(profiles):
        row, column = divmod(number, ROWS)
        shift = rng.uniform(-0.5, 0.5, 2)
        # GalSim's centre of an even stamp lies between its pixels.
        stamp = profile.drawImage(nx=STEP, ny=STEP, scale=1.0, offset=shift, dtype=float).array
        image[row * STEP : (row + 1) * STEP, column * STEP : (column + 1) * STEP] += stamp
        centres.append((np.array([column, row]) + 0.5) * STEP - 0.5 + shift)
    return image + rng.normal(50, NOISE, image.shape), np.array(centres)


def test_shapes_are_recovered(rng):
    fwhm, beta, n = 3.2, 3.5, ROWS**2
    index = rng.choice([0.7, 1.0, 1.5, 2.5, 4.0], n)
    radius, ratio, angle = rng.uniform(2.0, 5.0, n), rng.uniform(0.3, 0.9, n), rng.uniform(0, np.pi, n)
    psf = galsim.Moffat(beta=beta, fwhm=fwhm)
    profiles = [
        galsim.Convolve(
            galsim.Sersic(n=index[i], half_light_radius=radius[i] * np.sqrt(ratio[i]), flux=30_000).shear(
                q=ratio[i], beta=angle[i] * galsim.radians
            ),
            psf,
        )
        for i in range(n)
    ]
    data, centres = draw(rng, profiles)
    exposure = exposure_of(data, fwhm, beta)
    made = make_parent_catalog(exposure, CatalogSettings(threshold=3.0))
    catalog: ParentCatalog = made.catalog
    x, y, _ = sky_to_pixel(exposure.wcs, catalog.ra, catalog.dec, exposure.shape)
    nearest = np.hypot(x[:, None] - centres[:, 0], y[:, None] - centres[:, 1])
    found, distance = nearest.argmin(axis=0), nearest.min(axis=0)
    # The flux is 150 to 300 times its error, so that centres are good to 0.02 px.
    assert np.median(distance) < 0.03
    assert distance.max() < 0.3
    size = catalog.half_light_radius[found] / SCALE / radius
    assert abs(np.median(size) - 1) < 0.02
    disc = index < 2
    assert np.abs(size[disc] - 1).max() < 0.1
    assert np.abs(catalog.axis_ratio[found] - ratio).max() < 0.12
    assert abs(np.median(catalog.axis_ratio[found] - ratio)) < 0.01
    # The image is turned by 25 degrees and east lies to the left: from +x to the angle of the sky.
    expected = np.degrees(angle) - 90 + 25
    turned = (catalog.position_angle[found] - expected + 90) % 180 - 90
    assert np.abs(turned[ratio < 0.8]).max() < 6
    assert np.abs(np.log(catalog.sersic_n[found][disc] / index[disc])).max() < 0.35
    flux = 10 ** (0.4 * (27.0 - catalog.ref_mag[found]))
    assert np.abs(flux[disc] / 30_000 - 1).max() < 0.05
    assert made.fitted_index[found].all()
    # The mesh takes the wings of this many bright objects for scatter: up to 7 % too much.
    assert 0.85 < np.median(made.reduced_chi2[found]) < 1.05


@pytest.mark.parametrize(("fwhm", "beta"), [(2.2, 2.7), (3.5, 4.765)])
def test_psf_is_recovered(rng, fwhm, beta):
    profiles = []
    for _ in range(ROWS**2):
        if rng.uniform() < 0.5:
            profile = galsim.Moffat(beta=beta, fwhm=fwhm, flux=10 ** rng.uniform(3.8, 4.8))
        else:
            galaxy = galsim.Sersic(n=1, half_light_radius=rng.uniform(1.5, 4), flux=10 ** rng.uniform(3.5, 4.8))
            profile = galsim.Convolve(galaxy, galsim.Moffat(beta=beta, fwhm=fwhm))
        profiles.append(profile)
    data, _ = draw(rng, profiles)
    fit = fit_star_psf(exposure_of(data, 9.0, 2.0), PsfSettings())
    assert 15 <= len(fit.x) <= 45
    assert abs(fit.fwhm / fwhm - 1) < 0.015
    assert abs(np.log(fit.beta / beta)) < 0.12
    assert fit.fwhm_err < 0.02 * fwhm


def test_empty_images_are_refused(rng):
    exposure = exposure_of(rng.normal(0, 1, (200, 200)), 3.0, 3.0)
    with pytest.raises(LumosDataError, match=r"e\.fits: nothing detected above 50"):
        make_parent_catalog(exposure, CatalogSettings(threshold=50))
    with pytest.raises(LumosDataError, match=r"e\.fits: (nothing detected|0 usable stars)"):
        fit_star_psf(exposure, PsfSettings())
