"""`measure` end to end on exposures that GalSim drew: positions, angles, units, errors."""

import galsim
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from lumos.catalogs.parent import ParentCatalog, write_parent
from lumos.flags import Flag
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.psfs import moffat_on_pixels
from lumos.runs.shards import read_shard, read_shards
from lumos.surveys import load_survey

pytestmark = pytest.mark.science

SIDE, STEP, ZEROPOINT, GAIN, SKY, FWHM = 840, 120, 27.0, 3.0, 400.0, 0.9
ESTIMATORS = ("aperture", "profile_fit", "optimal", "optimal_free")


def draw_exposure(path, rng, *, noise, rotation, parity=1):
    """Draw 49 galaxies far apart with GalSim, in sky coordinates; return catalogue and fluxes in image units."""
    angle = np.deg2rad(rotation)
    scale = 0.3 / 3600
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cd = np.diag([-scale * parity, scale]) @ turn
    header = fits.Header(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 210.0, "CRVAL2": 40.0}
        | {"CRPIX1": 400.0, "CRPIX2": 430.0, "CUNIT1": "deg", "CUNIT2": "deg"}
        | {f"CD{i + 1}_{j + 1}": cd[i, j] for i in (0, 1) for j in (0, 1)}
        | {"FILTER": "r", "GAIN": GAIN, "RDNOISE": 0.0, "MAGZPT": ZEROPOINT, "PSF_FWHM": FWHM, "EXPTIME": 1.0}
        | {"PSFPIXEL": False}
    )
    wcs = galsim.FitsWCS(header=header)
    image = galsim.ImageD(SIDE, SIDE, wcs=wcs)
    n = (SIDE // STEP) ** 2
    index = rng.choice([0.5, 1.0, 1.5, 2.5, 4.0], n)
    radius, ratio, pa = rng.uniform(0.3, 1.2, n), rng.uniform(0.2, 1, n), rng.uniform(0, 180, n)
    flux = 10 ** rng.uniform(3.8, 5, n)
    psf = galsim.Moffat(beta=4.765, fwhm=FWHM)
    ra, dec = np.empty(n), np.empty(n)
    for number in range(n):
        row, column = divmod(number, SIDE // STEP)
        # GalSim counts pixels from 1.
        position = galsim.PositionD(*(np.array([column, row]) * STEP + STEP / 2 + rng.uniform(-3, 3, 2)))
        sky = wcs.toWorld(position)
        ra[number], dec[number] = sky.ra.deg, sky.dec.deg
        galaxy = galsim.Sersic(n=index[number], half_light_radius=radius[number] * np.sqrt(ratio[number]), flux=1.0)
        # GalSim's u axis points west: an angle from north to east is 90 degrees ahead of it.
        galaxy = galaxy.shear(q=ratio[number], beta=(pa[number] + 90) * galsim.degrees)
        stamp = galsim.Convolve(galaxy, psf).drawImage(
            nx=STEP, ny=STEP, wcs=wcs.local(position), center=position, dtype=float
        )
        both = stamp.bounds & image.bounds
        image[both] += flux[number] * stamp[both]
    data = image.array + SKY
    # A sky without any scatter is no sky: the annulus refuses it. This much moves no flux by 1e-4.
    data = rng.poisson(data * GAIN) / GAIN if noise else data + rng.normal(0, 0.01, data.shape)
    fits.PrimaryHDU(data.astype(np.float32), header).writeto(path)
    catalog = ParentCatalog(np.arange(100, 100 + n), ra, dec, radius, index, ratio, pa, np.full(n, np.nan))
    return catalog, flux


def measure(tmp_path, paths, catalog, **settings):
    write_parent(catalog, tmp_path / "parent.parquet")
    report = measure_run(
        paths, tmp_path / "parent.parquet", tmp_path / "run", load_survey("generic"), MeasureSettings(**settings)
    )
    assert not report.failed
    return read_shards(tmp_path / "run")


@pytest.mark.parametrize(("rotation", "parity"), [(0, 1), (37, 1), (200, -1)])
def test_fluxes_without_noise(tmp_path, rng, rotation, parity):
    catalog, flux = draw_exposure(tmp_path / "a.fits", rng, noise=False, rotation=rotation, parity=parity)
    table = measure(
        tmp_path, [tmp_path / "a.fits"], catalog, estimators=("aperture", "optimal"), noise={"source": "gain"}
    )
    np.testing.assert_array_equal(table["object_id"].to_numpy(), catalog.object_id)
    unit = 10 ** (0.4 * (31.4 - ZEROPOINT))
    for name in ("aperture", "optimal"):
        ratio = table[f"{name}_flux"].to_numpy() / (flux * unit)
        # A wrong angle costs 10 % at an axis ratio of 0.2, half a pixel 3 %. What is left over is the light
        # in the wings of n = 4 beyond the 120 pixels that GalSim drew, which the annulus would hold.
        assert abs(np.median(ratio) - 1) < 1e-3
        assert np.abs(ratio - 1).max() < 6e-3


def test_pulls_and_flags_with_noise(tmp_path, rng):
    paths, catalogs, fluxes = [], [], []
    for number in range(6):
        paths.append(tmp_path / f"e{number}.fits")
        catalog, flux = draw_exposure(paths[-1], rng, noise=True, rotation=12 * number)
        (tmp_path / f"r{number}").mkdir()
        catalogs.append(measure(tmp_path / f"r{number}", [paths[-1]], catalog))
        fluxes.append(flux * 10 ** (0.4 * (31.4 - ZEROPOINT)))
    truth = np.concatenate(fluxes)
    for name in ESTIMATORS:
        flux = np.concatenate([table[f"{name}_flux"].to_numpy() for table in catalogs])
        error = np.concatenate([table[f"{name}_flux_err"].to_numpy() for table in catalogs])
        pull = (flux - truth) / error
        # 294 pulls: the mean has an error of 0.058, the standard deviation one of 0.041; the paper's fit
        # is biased by its chi-square (see its docstring), by less than half a sigma here.
        assert abs(pull.mean()) < (0.6 if name == "profile_fit" else 4 * 0.058)
        assert abs(pull.std() - 1) < 4 * 0.041
    flags = np.concatenate([table["flags"].to_numpy() for table in catalogs])
    assert (flags & ~int(Flag.TRUNCATED_PROFILE) == 0).all()


def test_units_and_metadata(tmp_path, rng):
    catalog, _ = draw_exposure(tmp_path / "a.fits", rng, noise=True, rotation=0)
    measure(tmp_path, [tmp_path / "a.fits"], catalog)
    path = tmp_path / "run" / "shards" / "a.parquet"
    table = read_shard(path)
    assert pq.read_schema(path).field("flux").metadata[b"unit"] == b"nJy"
    np.testing.assert_array_equal(table["flux"], table["optimal_flux"])
    np.testing.assert_array_equal(table["flux"], np.stack(table["pdf_means"].to_numpy())[:, 0])
    # The ends of a Gaussian's central 68 % are its standard deviation from the mean.
    width = table["flux_q84"].to_numpy() - table["flux_q16"].to_numpy()
    np.testing.assert_allclose(width, 2 * table["flux_err"].to_numpy(), rtol=2e-3)
    np.testing.assert_array_equal(table["flux_q50"], table["flux"])
    # As stars on pixels of 0.3 arcsec show it.
    np.testing.assert_allclose(table["psf_fwhm"], 0.3 * moffat_on_pixels(FWHM / 0.3, 4.765)[0], rtol=1e-5)
    # The sky is 400 image units; an annulus of 3500 pixels knows it to 0.2 image units.
    level = table["background"].to_numpy() / 10 ** (0.4 * (31.4 - ZEROPOINT))
    assert np.abs(level - SKY).max() < 1.0
