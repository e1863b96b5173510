"""SDSS companions: frame noise, fpM span masks and psField PSFs, on files made here."""

import numpy as np
import pytest
from astropy.io import fits

from helpers.fits_files import wcs_cards
from lumos.errors import LumosDataError
from lumos.flags import MaskPlane
from lumos.images import load_psfield, read_exposure
from lumos.images.sdss import read_span_mask
from lumos.psfs import PixelPsf
from lumos.surveys import load_survey

NY, NX = 200, 240
SKY, GAIN, DARK = 100.0, (1.6, 4.0, 4.7, 5.0, 4.7), (9.0, 2.0, 1.8, 7.8, 0.8)
PLANES = ("INTERP", "SATUR", "NOTCHECKED", "CR")


def write_frame(folder, *, noise_factor=1.0, sky_slope=0.0):
    """Write a g frame with a constant calibration of 0.5 nMgy per DN and a sky of SKY + slope * x DN."""
    rng = np.random.default_rng(8)
    x, y = np.arange(NX), np.arange(NY)
    sky = SKY + sky_slope * x
    sigma = np.sqrt(sky / GAIN[1] + DARK[1]) * 0.5 * noise_factor * np.ones((NY, 1))
    data = rng.normal(0.0, sigma).astype(">f4")
    cards = {"FILTER": "g", "CAMCOL": 1, "EXPTIME": "53.9", **wcs_cards(scale=0.396, crpix=(120.5, 100.5))}
    # The grid is 8 times coarser; its sample k sits at pixel 8 k + 3.5.
    grid = np.broadcast_to(SKY + sky_slope * (8 * np.arange(NX // 8) + 3.5), (NY // 8, NX // 8))
    columns = [
        fits.Column("ALLSKY", f"{grid.size}E", dim=f"({NX // 8},{NY // 8})", array=grid[None].astype(">f4")),
        fits.Column("XINTERP", f"{NX}E", array=((x - 3.5) / 8)[None].astype(">f4")),
        fits.Column("YINTERP", f"{NY}E", array=((y - 3.5) / 8)[None].astype(">f4")),
    ]
    astrometry = [fits.Column("FIELD", "J", array=[12]), fits.Column("FILTER", "A", array=["g"])]
    path = folder / "frame-g-000094-1-0012.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(data, fits.Header(list(cards.items()))),
            fits.ImageHDU(np.full(NX, 0.5, ">f4")),
            fits.BinTableHDU.from_columns(columns),
            fits.BinTableHDU.from_columns(astrometry),
        ]
    ).writeto(path)
    return path


def write_photofield(folder, field=12):
    columns = [
        fits.Column("FIELD", "J", array=[11, field]),
        fits.Column("GAIN", "5E", array=[[9.0] * 5, GAIN]),
        fits.Column("DARK_VARIANCE", "5E", array=[[9.0] * 5, DARK]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(folder / "photoField-000094-1.fits")


def write_spans(folder, planes, shape=(NY, NX)):
    """Write an fpM file; ``planes`` maps names to lists of objects, each a list of (row, first, last)."""
    primary = fits.PrimaryHDU(header=fits.Header([("MASKROWS", shape[0]), ("MASKCOLS", shape[1])]))
    hdus = [primary]
    for name in PLANES:
        objects = planes.get(name, [])
        spans = [np.frombuffer(np.array(item, dtype=">i2").tobytes(), dtype=np.uint8) for item in objects]
        columns = [
            fits.Column("nspan", "J", array=[len(item) for item in objects]),
            fits.Column("s", "PB()", array=np.array([*spans, None], dtype=object)[:-1]),
        ]
        hdus.append(fits.BinTableHDU.from_columns(columns, nrows=len(objects)))
    legend = [
        fits.Column("type", "31A", array=["S_MASKTYPE"] * len(PLANES)),
        fits.Column("name", "31A", array=[f"S_MASK_{name}" for name in PLANES]),
        fits.Column("value", "J", array=list(range(len(PLANES)))),
    ]
    hdus.append(fits.BinTableHDU.from_columns(legend))
    path = folder / "fpM-000094-g1-0012.fit"
    fits.HDUList(hdus).writeto(path)
    return path


def write_psfield(folder):
    """Write a psField whose g PSF is E0 + (0.1 + 0.2 r + 0.4 c + 0.8 r c) E1, r and c in thousands of pixels."""
    eigen = np.zeros((2, 5, 7), np.float32)
    eigen[0, 2, 3] = 1.0
    eigen[1, 2, 4] = 1.0
    coefficients = np.full((2, 5, 5), 1e-33, np.float32)
    coefficients[0, :2, :2] = [[1.0, 0.0], [0.0, 0.0]]
    coefficients[1, :2, :2] = [[0.1, 0.4], [0.2, 0.8]]
    columns = [
        fits.Column("nrow_b", "J", array=[2, 2]),
        fits.Column("ncol_b", "J", array=[2, 2]),
        fits.Column("c", "25E", dim="(5,5)", array=coefficients),
        fits.Column("RNROW", "J", array=[5, 5]),
        fits.Column("RNCOL", "J", array=[7, 7]),
        fits.Column("RROWS", "35E", array=eigen.reshape(2, 35)),
    ]
    tables = [fits.BinTableHDU.from_columns(columns) for _ in range(2)]
    path = folder / "psField-000094-1-0012.fit"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    return path


def read_one(path):
    (exposure,) = read_exposure(path, load_survey("sdss"))
    return exposure


def test_frame_noise_follows_the_formula(tmp_path):
    write_photofield(tmp_path)
    exposure = read_one(write_frame(tmp_path, sky_slope=0.5))
    sky = SKY + 0.5 * np.arange(NX)[4:-4]  # beyond the outermost grid points it is constant
    np.testing.assert_allclose(exposure.sky[:, 4:-4], np.broadcast_to(0.5 * sky, (NY, NX - 8)), rtol=1e-5)
    # Each half is scaled to the scatter of its 24 000 pixels: 0.8 % each, more than the other's by chance.
    expected = (sky / GAIN[1] + DARK[1]) * 0.25
    np.testing.assert_allclose(exposure.variance[5, 4:-4], expected, rtol=0.06)
    assert exposure.gain == pytest.approx(GAIN[1] / 0.5)
    assert exposure.read_noise == pytest.approx(np.sqrt(DARK[1]) * GAIN[1])
    assert not exposure.variance_includes_sources
    assert exposure.sky_subtracted
    assert (exposure.zeropoint, exposure.band, exposure.detector) == (22.5, "g", "1")
    assert exposure.exposure_time == pytest.approx(53.9)


def test_frame_noise_is_matched_to_the_pixels(tmp_path):
    write_photofield(tmp_path)
    exposure = read_one(write_frame(tmp_path, noise_factor=1.1))
    assert np.std(exposure.data / np.sqrt(exposure.variance)) == pytest.approx(1.0, abs=0.03)
    folder = tmp_path / "wild"
    folder.mkdir()
    write_photofield(folder)
    # Half as much again is no gain: the formula stands.
    exposure = read_one(write_frame(folder, noise_factor=1.5))
    assert np.std(exposure.data / np.sqrt(exposure.variance)) == pytest.approx(1.5, abs=0.03)


def test_a_frame_alone_has_no_noise_no_mask_and_no_psf(tmp_path):
    exposure = read_one(write_frame(tmp_path))
    assert exposure.variance is None
    assert exposure.psf is None
    assert not exposure.mask.any()
    assert np.isnan(exposure.gain)


def test_a_field_that_photofield_lacks_is_refused(tmp_path):
    write_photofield(tmp_path, field=13)
    with pytest.raises(LumosDataError, match=r"photoField-000094-1\.fits: 0 rows for field 12"):
        read_one(write_frame(tmp_path))


def test_span_masks_are_rows_and_inclusive_columns(tmp_path):
    planes = {
        "SATUR": [[(3, 10, 12), (4, 11, 11)], [(199, 0, 0)]],
        "CR": [[(4, 11, 13)]],
        "NOTCHECKED": [[(row, 0, NX - 1) for row in range(NY)]],
    }
    write_spans(tmp_path, {**planes, "INTERP": [[(7, 236, 239)]]})
    path = tmp_path / "fpM-000094-g1-0012.fit"
    mask = read_span_mask(path, {"SATURATED": ("SATUR",), "COSMIC_RAY": ("CR",), "SUSPECT": ("INTERP",)}, (NY, NX))
    saturated = np.argwhere(mask & MaskPlane.SATURATED).tolist()
    assert saturated == [[3, 10], [3, 11], [3, 12], [4, 11], [199, 0]]
    assert np.argwhere(mask & MaskPlane.COSMIC_RAY).tolist() == [[4, 11], [4, 12], [4, 13]]
    assert np.argwhere(mask & MaskPlane.SUSPECT).tolist() == [[7, 236], [7, 237], [7, 238], [7, 239]]
    with pytest.raises(LumosDataError, match=r"fpM.*no mask plane 'GHOST', it has \['CR', 'INTERP'"):
        read_span_mask(path, {"SUSPECT": ("GHOST",)}, (NY, NX))
    with pytest.raises(LumosDataError, match=r"fpM.*mask of shape \(200, 240\), image of shape \(200, 241\)"):
        read_span_mask(path, {"SATURATED": ("SATUR",)}, (NY, NX + 1))


def test_overlapping_objects_are_masked_once(tmp_path):
    path = write_spans(tmp_path, {"SATUR": [[(3, 10, 20)], [(3, 15, 25)]]})
    mask = read_span_mask(path, {"BAD": ("SATUR",)}, (NY, NX))
    assert np.flatnonzero(mask[3]).tolist() == list(range(10, 26))
    assert set(np.unique(mask)) == {0, 1}


def test_psfield_polynomial_of_row_and_column(tmp_path):
    model = load_psfield(write_psfield(tmp_path), "g", (NY, NX))
    x, y = np.array([99.5, 199.5]), np.array([49.5, 149.5])
    psf = model.at(x, y)
    assert isinstance(psf, PixelPsf)
    row, column = (y + 0.5) / 1000, (x + 0.5) / 1000
    ratio = 0.1 + 0.2 * row + 0.4 * column + 0.8 * row * column
    np.testing.assert_allclose(psf.images[:, 2, 4] / psf.images[:, 2, 3], ratio, rtol=1e-5)
    np.testing.assert_allclose(psf.images.sum(axis=(1, 2)), 1.0, rtol=1e-6)
    outside = model.at(np.array([-50.0, np.nan, 1e6]), np.array([10.0, 10.0, 10.0]))
    assert np.isnan(outside.images).all()


def test_bad_psfield_is_refused(tmp_path):
    path = write_psfield(tmp_path)
    with pytest.raises(LumosDataError, match=r"psField.*no PSF for band 'H', allowed: u, g, r, i, z"):
        load_psfield(path, "H", (NY, NX))
    with pytest.raises(LumosDataError, match=r"psField.*cannot be read"):
        load_psfield(path, "z", (NY, NX))  # the file holds u and g only
