"""`lumos catalog` and `lumos psf` on images that GalSim drew."""

from dataclasses import replace
from pathlib import Path

import galsim
import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosDataError
from lumos.flags import CatalogFlag, MaskPlane
from lumos.images import sky_to_pixel
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.sources import shapes
from lumos.sources.completeness import measure_completeness
from lumos.sources.detect import detect
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.sources.shapes import make_parent_catalog
from lumos.sources.stars import fit_star_psf

pytestmark = pytest.mark.science
SCALE, STEP, ROWS, NOISE = 0.3, 70, 9, 3.0
#: As `lumos catalog` searches.
SEARCH = {"threshold": CatalogSettings().threshold, "min_area": CatalogSettings().min_area}


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


def field(rng, correlated, side=700, n=200):
    """Round exponential galaxies at random places; return exposure, places, fluxes and their signal-to-noise ratios."""
    fwhm, beta, radius = 3.0, 3.5, 1.5
    profile = galsim.Convolve(galsim.Exponential(half_light_radius=radius), galsim.Moffat(beta=beta, fwhm=fwhm))
    noise = rng.standard_normal((side, side))
    if correlated:
        noise = gaussian_filter(noise, 0.8, mode="wrap")
        noise /= noise.std()
    image = galsim.Image(side, side, dtype=float)
    # Of the flux that is measured with the true profile in independent noise of this scatter.
    unit = np.asarray(profile.drawImage(nx=48, ny=48, scale=1.0, dtype=float).array)
    error = NOISE / np.sqrt((unit**2).sum())
    snr = np.exp(rng.uniform(np.log(2.0), np.log(100.0), n))
    places = rng.uniform(20, side - 20, (n, 2))
    for (x, y), flux in zip(places, snr * error, strict=True):
        stamp = profile.withFlux(flux).drawImage(
            nx=48, ny=48, scale=1.0, center=galsim.PositionD(x + 1, y + 1), dtype=float
        )
        overlap = stamp.bounds & image.bounds
        image[overlap] += stamp[overlap]
    return exposure_of(image.array + NOISE * noise + 50, fwhm, beta), places, snr * error, snr


@pytest.mark.parametrize("correlated", [False, True])
def test_what_is_found_is_real_and_what_is_bright_is_found(rng, correlated):
    exposure, places, flux, snr = field(rng, correlated)
    found = detect(exposure, **SEARCH)
    distance = np.hypot(found.x[:, None] - places[:, 0], found.y[:, None] - places[:, 1])
    # Galaxies that another one outshines within 10 px are blends, no matter how deep the search.
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1)) + 1e3 * np.eye(len(places))
    alone = ~((apart < 10) & (flux > flux[:, None])).any(axis=1)
    # Noise with such a correlation doubles the errors on this scale.
    bright = alone & (snr > (20 if correlated else 10))
    assert bright.sum() > 50
    assert np.mean(distance.min(axis=0)[bright] < 2) > 0.97
    n_false = int((distance.min(axis=1) > 3).sum())
    assert n_false < 0.05 * len(found)
    # The negative image foretells the number of false ones.
    assert abs(n_false - found.n_false) < 8


def test_the_completeness_is_that_of_the_true_galaxies(rng):
    made, truth = [], []
    for _ in range(3):
        exposure, places, flux, _ = field(rng, correlated=False)
        found = detect(exposure, **SEARCH)
        distance = np.hypot(found.x[:, None] - places[:, 0], found.y[:, None] - places[:, 1])
        truth.append((flux, distance.min(axis=0) < 2))
        made.append(measure_completeness(exposure, CatalogSettings(), 1.5, rng))
    flux, is_found = (np.concatenate(parts) for parts in zip(*truth, strict=True))
    middle = np.median([item.flux_50 for item in made])
    assert min(item.n for item in made) > 150
    assert np.mean([item.bright for item in made]) > 0.9
    # 600 galaxies: a share near one half is known to 0.06 from those within a fifth of the limit.
    near = np.abs(np.log(flux / middle)) < 0.2
    assert near.sum() > 40
    assert 0.3 < is_found[near].mean() < 0.7
    assert is_found[flux > 2 * middle].mean() > 0.9
    assert is_found[flux < 0.5 * middle].mean() < 0.1


def test_a_real_image_is_searched_as_deep_as_by_sep(data_dir):
    data = np.ascontiguousarray(fits.getdata(data_dir / "kids" / "r.fits")[:1300, :1300], dtype=np.float32) * 1e12
    background = sep.Background(data, bw=64, bh=64)
    reference = sep.extract(data - background.back(), 1.5, err=background.globalrms, minarea=5)
    snr = reference["flux"] / (background.globalrms * np.sqrt(reference["npix"]))
    found = detect(exposure_of(data, 2.4, 2.0), **SEARCH)
    distance = np.hypot(reference["x"][:, None] - found.x, reference["y"][:, None] - found.y).min(axis=1)
    assert (snr > 10).sum() > 400
    assert np.mean(distance[snr > 10] < 2) > 0.98
    assert np.mean(distance[(snr > 10) & (snr < 20)] < 2) > 0.98
    assert found.n_false < 0.03 * len(found)


def test_positions_stay_on_the_image_and_doubtful_shapes_are_flagged(rng):
    side = 400
    places = np.array([[1.0, 100.0], [200.0, 398.5], [100.0, 200.0], [250.0, 200.0], [258.0, 204.0], [330.0, 330.0]])
    psf = galsim.Moffat(beta=3.5, fwhm=3.0)
    galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=2.5), psf)
    image = galsim.Image(side, side, dtype=float)
    for number, (x, y) in enumerate(places):
        profile = (psf if number == 2 else galaxy).withFlux(3e6 if number == 2 else 2e4)
        stamp = profile.drawImage(nx=200, ny=200, scale=1.0, center=galsim.PositionD(x + 1, y + 1), dtype=float)
        overlap = stamp.bounds & image.bounds
        image[overlap] += stamp[overlap]
    data = image.array + rng.normal(50, NOISE, (side, side))
    # The detector is full at 20 000: the star has a flat top that no header tells.
    exposure = exposure_of(np.minimum(data, 20_000), 3.0, 3.5)
    made = make_parent_catalog(exposure, CatalogSettings())
    assert ((made.x >= -0.5) & (made.x < side - 0.5) & (made.y >= -0.5) & (made.y < side - 0.5)).all()
    nearest = np.hypot(made.x - places[:, :1], made.y - places[:, 1:]).argmin(axis=1)
    flags = made.flags[nearest]
    assert flags[0] & CatalogFlag.EDGE
    assert flags[1] & CatalogFlag.EDGE
    assert flags[2] & CatalogFlag.POOR_FIT
    assert flags[3] & CatalogFlag.BLENDED
    assert flags[5] == 0
    assert made.doubtful[nearest].tolist() == [True, True, True, False, False, False]
    # With a mask the same star is told by its pixels.
    mask = np.where(data > 20_000, int(MaskPlane.SATURATED), 0).astype(np.int32)
    masked = make_parent_catalog(replace(exposure, mask=mask), CatalogSettings())
    star = np.hypot(masked.x - 100, masked.y - 200).argmin()
    assert masked.flags[star] & CatalogFlag.SATURATED
    assert masked.flags[star] & CatalogFlag.MASKED
    assert masked.catalog.made_from == ("e",)


def test_stars_are_points(rng):
    psf = galsim.Moffat(beta=3.5, fwhm=3.0)
    data, centres = draw(rng, [psf.withFlux(flux) for flux in np.geomspace(2e3, 1e5, ROWS**2)])
    made = make_parent_catalog(exposure_of(data, 3.0, 3.5), CatalogSettings())
    nearest = np.hypot(made.x[:, None] - centres[:, 0], made.y[:, None] - centres[:, 1]).argmin(axis=0)
    is_point = (made.flags[nearest] & int(CatalogFlag.POINT_SOURCE)) > 0
    assert is_point[-60:].mean() > 0.9
    point = made.catalog.take(nearest[is_point])
    assert (point.half_light_radius < 0.1 * SCALE).all()
    assert (point.axis_ratio == 1).all()


def test_a_centre_that_strays_stays_at_the_detection(rng, monkeypatch):
    exposure, _, _, _ = field(rng, correlated=False, side=300, n=30)
    found = detect(exposure, **SEARCH)
    whole = shapes._fit

    def astray(work, rows, *, fixed_centre=False, progress=None):
        fits_ = whole(work, rows, fixed_centre=fixed_centre, progress=progress)
        if fixed_centre:
            assert (fits_.point[:, 4:] == 0).all()
            return fits_
        point = fits_.point.copy()
        point[0, 4:] = 2.9, 0.0
        return replace(fits_, point=point, flux=np.where(np.arange(len(rows)) == 1, -1.0, fits_.flux))

    monkeypatch.setattr(shapes, "_fit", astray)
    made = make_parent_catalog(exposure, CatalogSettings())
    assert made.flags[0] & CatalogFlag.CENTRE_KEPT
    assert (made.x[0], made.y[0]) == (found.x[0], found.y[0])
    # A fit without positive flux gives way to the detection too, flux included.
    assert made.flags[1] & CatalogFlag.FIT_FAILED
    assert (made.x[1], made.y[1], made.flux[1]) == (found.x[1], found.y[1], found.flux[1])
    assert np.isfinite(made.catalog.ref_mag).all()
