"""Real exposures of SDSS, VISTA, DECam, 90prime and Mosaic-3 through the readers."""

import galsim
import galsim.des
import numpy as np
import pytest
import yaml
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from lumos.flags import MaskPlane
from lumos.images import PsfexModel, load_psfex, read_exposure, sky_to_pixel
from lumos.images.psf.sdss import SdssKlModel
from lumos.surveys import load_survey

pytestmark = pytest.mark.science
DECAM = "legacypipe/testcase3/images/decam/CP/V4.8.2a"


def read_one(path, survey, **options):
    exposures = list(read_exposure(path, survey, **options))
    assert len(exposures) == 1
    return exposures[0]


def mad_scatter(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


@pytest.fixture(scope="module")
def frames(data_dir):
    survey = load_survey("sdss")
    return {band: read_one(data_dir / f"sdss/frame-{band}-000094-1-0012.fits.bz2", survey) for band in "gi"}


@pytest.fixture(scope="module")
def photo_objects(data_dir):
    with fits.open(data_dir / "sdss/photoObj-000094-1-0012.fits") as hdul:
        return Table(hdul[1].data)


@pytest.mark.parametrize("band", ["g", "i"])
def test_sdss_frames(frames, band):
    exposure = frames[band]
    assert exposure.shape == (1489, 2048)
    assert (exposure.band, exposure.detector, exposure.zeropoint) == (band, "1", 22.5)
    assert exposure.pixel_scale == pytest.approx(0.396, rel=2e-3)
    assert np.isfinite(exposure.data).all()
    assert len(exposure.provenance["files"]) == 4
    # Gain of the camera column over nanomaggies per DN, both from the survey's own tables.
    assert exposure.gain == pytest.approx({"g": 3.32 / 0.00318618, "i": 5.165 / 0.0068883}[band], rel=0.01)


@pytest.mark.parametrize("band", ["g", "i"])
def test_sdss_variance_is_the_scatter_of_the_blank_sky(frames, band):
    exposure = frames[band]
    # Boxes of 9 x 9 pixels without a source pixel above 5 sigma, scattering about their own mean.
    data = exposure.data[: 1489 // 9 * 9, : 2048 // 9 * 9] / np.sqrt(
        exposure.variance[: 1489 // 9 * 9, : 2048 // 9 * 9]
    )
    boxes = data.reshape(165, 9, 227, 9).swapaxes(1, 2).reshape(-1, 81)
    blank = boxes[boxes.max(axis=1) < 5.0]
    assert len(blank) > 0.9 * len(boxes)
    left = (np.arange(165 * 227) % 227 < 113)[boxes.max(axis=1) < 5.0]
    # The two amplifiers of i differ by 14 % from each other before they are matched to the pixels.
    for half in (left, ~left):
        assert np.sqrt(np.mean(np.var(blank[half], axis=1, ddof=1))) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("band", "index"), [("g", 1), ("i", 3)])
def test_sdss_psf_has_the_moments_that_photo_measured(frames, photo_objects, band, index):
    model = frames[band].psf
    assert isinstance(model, SdssKlModel)
    width = np.asarray(photo_objects["M_RR_CC_PSF"][:, index], dtype=np.float64)
    chosen = np.flatnonzero(width > 0)[::25]
    # SDSS counts pixels from 0.5 at the centre of the first.
    x = np.asarray(photo_objects["COLC"][chosen, index], dtype=np.float64) - 0.5
    y = np.asarray(photo_objects["ROWC"][chosen, index], dtype=np.float64) - 0.5
    images = model.at(x, y).images.astype(np.float64)
    sigma = np.array([galsim.hsm.FindAdaptiveMom(galsim.Image(image)).moments_sigma for image in images])
    ratio = 2 * sigma**2 / width[chosen]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.01)
    # The PSF varies by 2 % (g) and more over the frame; a swap of rows and columns would show.
    assert np.std(ratio) < 0.01
    fwhm = np.median(sigma) * 2.3548 * 0.396
    assert fwhm == pytest.approx({"g": 1.61, "i": 1.53}[band], rel=0.02)
    # The half-maximum width is smaller than that of the Gaussian with the same moments: the PSF has wings.
    half_maximum = np.nanmedian(model.fwhm_at(x, y)) * 0.396
    assert 0.90 < half_maximum / fwhm < 1.0


@pytest.mark.parametrize("band", ["g", "i"])
def test_sdss_saturated_pixels_are_bright_and_few(frames, band):
    exposure = frames[band]
    saturated = (exposure.mask & MaskPlane.SATURATED) != 0
    assert 10 < saturated.sum() < 5000
    assert np.median(exposure.data[saturated]) > 100 * np.sqrt(np.median(exposure.variance))
    # Cosmic rays were interpolated by the survey: a few hundred pixels, not more.
    assert 0 < ((exposure.mask & MaskPlane.COSMIC_RAY) != 0).mean() < 2e-3


def test_sdss_positions_agree_with_photo(frames, photo_objects):
    exposure = frames["i"]
    ra, dec = np.asarray(photo_objects["RA"], float), np.asarray(photo_objects["DEC"], float)
    x, y, inside = sky_to_pixel(exposure.wcs, ra, dec, exposure.shape)
    assert inside.mean() > 0.95
    dx = x - (np.asarray(photo_objects["COLC"][:, 3], float) - 0.5)
    dy = y - (np.asarray(photo_objects["ROWC"][:, 3], float) - 0.5)
    bright = inside & (np.asarray(photo_objects["PSFMAG"][:, 3], float) < 20)
    # The linear WCS of a frame leaves out distortions of about 0.1 px; a pixel convention would be off by 0.5.
    assert np.abs(np.median(dx[bright])) < 0.2
    assert np.abs(np.median(dy[bright])) < 0.2


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_vista_exposures(data_dir, number):
    exposure = read_one(data_dir / f"vista/image_{number}.fits", load_survey("vircam"))
    assert (exposure.band, exposure.detector, exposure.exposure_id) == ("H", "13", f"image_{number}")
    assert exposure.zeropoint == 30.0
    assert 0 < exposure.zeropoint_err < 0.1
    assert np.isnan(exposure.gain)
    assert exposure.variance is None
    assert exposure.psf is None
    assert exposure.sky_subtracted
    assert abs(np.median(exposure.data)) < 0.5 * mad_scatter(exposure.data)
    # All five show the same sky (a ZPN projection far off its centre).
    _, _, inside = sky_to_pixel(exposure.wcs, np.array([36.896]), np.array([-5.191]), exposure.shape)
    assert inside.all()


def test_vista_sources_coincide(data_dir):
    survey = load_survey("vircam")
    first, second = (read_one(data_dir / f"vista/image_{number}.fits", survey) for number in (1, 2))
    y, x = np.unravel_index(np.argmax(first.data[300:1500, 300:1500]), (1200, 1200))
    ra, dec = first.wcs.all_pix2world([x + 300.0], [y + 300.0], 0)
    x_2, y_2, inside = sky_to_pixel(second.wcs, ra, dec, second.shape)
    assert inside.all()
    column, row = round(x_2[0]), round(y_2[0])
    window = second.data[row - 8 : row + 9, column - 8 : column + 9]
    peak_y, peak_x = np.unravel_index(np.argmax(window), window.shape)
    assert np.hypot(peak_x - 8, peak_y - 8) <= 2.0


def decam_images(data_dir):
    return sorted((data_dir / DECAM).glob("**/*_ooi_*.fits"))


def test_decam_cutouts_with_masks_weights_and_psfex(data_dir):
    survey = load_survey("decam")
    ccds = Table.read(data_dir / "legacypipe/testcase3/survey-ccds-1.fits.gz")
    paths = decam_images(data_dir)
    assert len(paths) == 8
    for path in paths:
        exposure = read_one(path, survey, psf_dir=data_dir / "legacypipe/testcase3/calib")
        row = ccds[[str(name).endswith(path.name) for name in ccds["image_filename"]]][0]
        assert (exposure.exposure_id, exposure.detector) == (str(row["expnum"]), row["ccdname"])
        assert exposure.band == row["filter"]
        assert exposure.exposure_time == pytest.approx(float(row["exptime"]))
        assert exposure.shape == (row["height"], row["width"])
        assert not exposure.mask.any()
        assert exposure.variance_includes_sources
        # Sky and read-out noise of the faint half, in ADU: (sky / gain + (read noise / gain)^2).
        faint = exposure.data < np.median(exposure.data)
        sky = np.median(exposure.data[faint])
        expected = sky / exposure.gain + (exposure.read_noise / exposure.gain) ** 2
        assert np.median(exposure.variance[faint]) == pytest.approx(expected, rel=0.2)
        assert isinstance(exposure.psf, PsfexModel)
        centre = np.array([exposure.shape[1] / 2]), np.array([exposure.shape[0] / 2])
        # The header's FWHM is SExtractor's median over the CCD, of Gaussian fits to bright stars.
        assert exposure.psf.fwhm_at(*centre)[0] == pytest.approx(float(row["fwhm"]), rel=0.15)
        assert np.isnan(exposure.zeropoint)
        sky_position = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
        centre_position = exposure.wcs.pixel_to_world(*centre)[0]
        assert centre_position.separation(sky_position).arcsec < 60.0


def test_90prime_and_mosaic_need_a_survey_file_only(data_dir, tmp_path):
    camera = {
        "name": "legacy-north",
        "text": "90prime and Mosaic-3 through the community pipeline",
        "bands": ["g", "r", "z"],
        "flux_unit": "ADU per second",
        "sky_subtracted": False,
        "header": {
            "band": {"keys": ["FILTER"], "pattern": "^(bok|)([grz])", "aliases": {}},
            "detector": ["CCDNAME"],
            "exposure_time": ["EXPTIME"],
            "gain": ["GAIN"],
        },
        "mask": [{"kind": "nonzero", "sidecar": [{"find": "_ooi_", "replace": "_ood_"}], "required": True}],
        "variance": [{"kind": "ivar", "sidecar": [{"find": "_ooi_", "replace": "_oow_"}], "required": True}],
    }
    camera["header"]["band"] = {"keys": ["FILTER"], "pattern": "^(?:bok)?([grz])"}
    (tmp_path / "north.yaml").write_text(yaml.safe_dump(camera))
    survey = load_survey(tmp_path / "north.yaml")
    paths = sorted((data_dir / "legacypipe/mzlsbass3/images").glob("**/*_ooi_*.fits"))
    assert len(paths) == 8
    for path in paths:
        exposure = read_one(path, survey)
        assert exposure.band in path.name.split("_ooi_")[1]
        scale = 0.4533 if path.name.startswith("ksb") else 0.2596
        assert exposure.pixel_scale == pytest.approx(scale, rel=0.01)
        # Few sources: the weights describe the pixels.
        assert mad_scatter(exposure.data) == pytest.approx(np.sqrt(np.median(exposure.variance)), rel=0.15)


def complete_copy(path, folder):
    """Write a copy of a PSFEx file with the cards that GalSim insists on; the numbers stay."""
    with fits.open(path) as hdul:
        table = hdul[1]
        size, n_terms = table.data["psf_mask"].shape[-1], table.header["PSFAXIS3"]
        extra = {"POLNAXIS": 2, "PSFNAXIS": 3, "PSFAXIS1": size, "PSFAXIS2": size, "PSFAXIS3": n_terms}
        table.header.update(extra)
        copy = folder / path.name
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(copy)
    return copy


def test_real_psfex_models_agree_with_galsim(data_dir, tmp_path):
    paths = sorted((data_dir / "legacypipe/mzlsbass3/calib").glob("*/psfex/**/*.fits"))
    assert len(paths) == 8
    shape = (4096, 4096)
    x, y = np.array([10.0, 2000.0, 30.0, 4000.5]), np.array([20.0, 1000.5, 3900.0, 4090.0])
    for path in paths:
        model, reference = load_psfex(path, shape), galsim.des.DES_PSFEx(str(complete_copy(path, tmp_path)))
        images = model.at(x, y).images
        for k in range(len(x)):
            expected = reference.getPSFArray(galsim.PositionD(x[k] + 1, y[k] + 1))
            expected = expected / expected.sum()
            assert np.abs(images[k] - expected).max() < 1e-6 * expected.max()
            # One pixel's shift of the position (0-based against 1-based) must be visible to this test.
            shifted = reference.getPSFArray(galsim.PositionD(x[k], y[k]))
            assert np.abs(images[k] - shifted / shifted.sum()).max() > 1e-6 * expected.max()
