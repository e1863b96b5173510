"""PSF models: widths, PSFEx against GalSim, files that are refused."""

from dataclasses import replace

import galsim
import galsim.des
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.images import MoffatModel, StampModel, image_fwhm, load_psfex, load_stamp_psf, read_psf_table
from lumos.images.psf.psfex import PsfexModel
from lumos.images.psf.table import TableRow
from lumos.psfs import MoffatPsf, PixelPsf

SHAPE = (4096, 2048)
ZERO = np.zeros(1)


def moffat(fwhm, beta, size=51, scale=1.0):
    """Return a Moffat sampled at pixel centres (no pixel response), from the formula itself."""
    r = np.hypot(*np.mgrid[:size, :size] - size // 2) * scale
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    values = (1 + (r / alpha) ** 2) ** -beta
    return values / values.sum()


@pytest.mark.parametrize("beta", [2.5, 4.765])
@pytest.mark.parametrize("fwhm", [2.5, 3.0, 4.3, 7.0])
def test_image_fwhm_of_moffats(fwhm, beta):
    assert StampModel(moffat(fwhm, beta)).fwhm_at(ZERO, ZERO)[0] == pytest.approx(fwhm, rel=0.01)
    half = StampModel(moffat(fwhm, beta, size=101, scale=0.5), sampling=0.5)
    assert half.fwhm_at(ZERO, ZERO)[0] == pytest.approx(fwhm, rel=0.01)


def test_image_fwhm_of_an_elongated_gaussian_lies_between_its_axes():
    y, x = np.mgrid[:51, :51] - 25
    image = np.exp(-0.5 * ((x / 2.0) ** 2 + (y / 1.6) ** 2))
    measured = StampModel(image).fwhm_at(ZERO, ZERO)[0]
    assert 1.6 * 2.3548 < measured < 2.0 * 2.3548
    assert measured == pytest.approx(np.sqrt(1.6 * 2.0) * 2.3548, rel=0.02)


def test_image_fwhm_is_nan_for_an_unknown_psf_and_for_one_that_never_falls():
    images = np.stack([moffat(3.0, 3.0), np.full((51, 51), np.nan), np.ones((51, 51))])
    measured = image_fwhm(PixelPsf(images))
    assert np.isfinite(measured[0])
    assert np.isnan(measured[1:]).all()


def test_moffat_model():
    model = MoffatModel(3.2, 4.765)
    psf = model.at(np.zeros(5), np.zeros(5))
    assert isinstance(psf, MoffatPsf)
    assert (psf.fwhm.tolist(), psf.beta.tolist()) == ([3.2], [4.765])
    assert model.fwhm_at(np.zeros(5), np.zeros(5)).tolist() == [3.2] * 5
    with pytest.raises(LumosValueError, match="FWHM"):
        MoffatModel(0.0, 4.0)
    with pytest.raises(LumosValueError, match="beta"):
        MoffatModel(3.0, 1.0)


def test_stamp_model_is_normalised_and_checked(tmp_path):
    path = tmp_path / "psf.fits"
    fits.PrimaryHDU((5 * moffat(3.0, 3.0)).astype(">f4")).writeto(path)
    psf = load_stamp_psf(path, sampling=0.5).at(np.zeros(3), np.zeros(3))
    assert psf.images.shape == (1, 51, 51)
    assert psf.images.sum() == pytest.approx(1.0, abs=1e-6)
    assert psf.sampling == 0.5
    with pytest.raises(LumosShapeError):
        StampModel(np.ones((4, 5)))
    fits.PrimaryHDU(np.ones((4, 5), ">f4")).writeto(tmp_path / "even.fits")
    with pytest.raises(LumosDataError, match=r"even\.fits"):
        load_stamp_psf(tmp_path / "even.fits")
    for name, value in (("zero", 0.0), ("nan", np.nan)):
        fits.PrimaryHDU(np.full((5, 5), value, ">f4")).writeto(tmp_path / f"{name}.fits")
        with pytest.raises(LumosDataError, match=rf"{name}\.fits.*positive and finite"):
            load_stamp_psf(tmp_path / f"{name}.fits")


@pytest.mark.parametrize("kind", ["parquet", "ecsv"])
def test_psf_table(tmp_path, kind):
    path = tmp_path / f"psf.{kind}"
    columns = {
        "exposure_id": ["a", "b", "c"],
        "detector": ["1", "1", "1"],
        "fwhm_arcsec": [1.0, float("nan"), -1.0],
        "beta": [3.0, 3.0, 3.0],
    }
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        names = [
            f"# - {{name: {n}, datatype: {'float64' if n in {'fwhm_arcsec', 'beta'} else 'string'}}}" for n in columns
        ]
        rows = [" ".join(str(columns[n][k]) for n in columns) for k in range(3)]
        path.write_text("\n".join(["# %ECSV 1.0", "# ---", "# datatype:", *names, " ".join(columns), *rows]) + "\n")
    rows = read_psf_table(path)
    assert rows["a", "1"] == TableRow(1.0, 3.0, None)
    assert np.isnan(rows["b", "1"].fwhm)
    assert rows["c", "1"].fwhm == -1.0
    assert ("a", "2") not in rows


def test_a_flipped_bit_in_a_psf_table_is_noticed(tmp_path):
    path = tmp_path / "psf.parquet"
    columns = {"exposure_id": ["a", "b"], "detector": ["1", "1"], "fwhm_arcsec": [0.7, 0.8], "beta": [3.0, 3.1]}
    pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = path.read_bytes()
    place = content.index(np.array([0.7, 0.8]).tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    with pytest.raises(LumosDataError, match=r"psf\.parquet: cannot read the PSF table \(.*CRC"):
        read_psf_table(path)


def test_bad_psf_tables_are_refused(tmp_path):
    path = tmp_path / "psf.parquet"
    pq.write_table(pa.table({"exposure_id": ["a"], "fwhm": [1.0]}), path)
    with pytest.raises(LumosDataError, match=r"psf\.parquet: PSF table lacks \['detector', 'fwhm_arcsec', 'beta'\]"):
        read_psf_table(path)
    row = {"exposure_id": ["a", "a"], "detector": ["1", "1"], "fwhm_arcsec": [1.0, 1.0], "beta": [3.0, 3.0]}
    pq.write_table(pa.table(row), path)
    with pytest.raises(LumosDataError, match="two rows for exposure a, detector 1"):
        read_psf_table(path)
    row = {"exposure_id": ["a"], "detector": ["1"], "fwhm_arcsec": [1.0], "beta": [3.0], "includes_pixel": ["maybe"]}
    pq.write_table(pa.table(row), path)
    with pytest.raises(LumosDataError, match=r"psf\.parquet: includes_pixel is 'maybe', allowed: true or false"):
        read_psf_table(path)
    path.write_bytes(b"junk")
    with pytest.raises(LumosDataError, match=r"psf\.parquet: cannot read"):
        read_psf_table(path)


def psfex_basis(degree=2, size=25, seed=3):
    """Return PSF_MASK: a Moffat and small perturbations of it."""
    n_terms = (degree + 1) * (degree + 2) // 2
    basis = (
        np.random.default_rng(seed).normal(0, 0.01, (n_terms, size, size))
        * moffat(3, 3, size)
        / moffat(3, 3, size).max()
    )
    basis[0] = moffat(4.0, 3.0, size)
    return basis.astype(np.float32)


def write_psfex(path, basis, degree=2, **cards):
    size = basis.shape[1]
    column = fits.Column("PSF_MASK", f"{basis.size}E", dim=f"({size},{size},{len(basis)})", array=basis[None])
    header = {
        "LOADED": 100, "ACCEPTED": 90, "CHI2": 1.0, "POLNAXIS": 2, "POLGRP1": 1, "POLNAME1": "X_IMAGE",
        "POLZERO1": 1000.5, "POLSCAL1": 2000.0, "POLGRP2": 1, "POLNAME2": "Y_IMAGE", "POLZERO2": 2050.25,
        "POLSCAL2": 4000.0, "POLNGRP": 1, "POLDEG1": degree, "PSF_FWHM": 3.0, "PSF_SAMP": 0.8, "PSFNAXIS": 3,
        "PSFAXIS1": size, "PSFAXIS2": size, "PSFAXIS3": len(basis), **cards,
    }  # fmt: skip
    header = fits.Header([(key, value) for key, value in header.items() if value is not None])
    fits.BinTableHDU.from_columns([column], header=header, name="PSF_DATA").writeto(path)
    return path


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_psfex_agrees_with_galsim(tmp_path, degree, rng):
    path = write_psfex(tmp_path / "a.psf", psfex_basis(degree), degree)
    model, reference = load_psfex(path, SHAPE), galsim.des.DES_PSFEx(str(path))
    x, y = rng.uniform(0, 2047, 10), rng.uniform(0, 4095, 10)
    psf = model.at(x, y)
    assert (psf.sampling, psf.includes_pixel) == (0.8, True)
    for k in range(10):
        # Pixel positions are 1-based in PSFEx and in GalSim.
        expected = reference.getPSFArray(galsim.PositionD(x[k] + 1, y[k] + 1))
        expected = expected / expected.sum()
        assert np.abs(psf.images[k if degree else 0] - expected).max() < 1e-6 * expected.max()


def test_psfex_terms_run_over_x_first(tmp_path):
    basis = np.zeros((6, 5, 5), np.float32)
    basis[0, 2, 2] = 1.0
    basis[1, 2, 3] = 1.0  # grows with x
    model = load_psfex(write_psfex(tmp_path / "a.psf", basis), SHAPE)
    # At X = POLZERO1 + POLSCAL1 / 2 (1-based) the second image counts half the first: 1/3 against 2/3.
    image = model.at(np.array([1000.5 + 1000.0 - 1.0]), np.array([3000.0])).images[0]
    assert image[2, 3] == pytest.approx(1 / 3, abs=1e-6)
    assert image[2, 2] == pytest.approx(2 / 3, abs=1e-6)


def test_psfex_is_nan_outside_the_ccd(tmp_path):
    model = load_psfex(write_psfex(tmp_path / "a.psf", psfex_basis()), SHAPE)
    x = np.array([1e6, -50.0, 1000.0, 1000.0, np.nan, -5.0, 1000.0])
    y = np.array([1e6, 100.0, 4200.0, -50.0, 100.0, 100.0, 4100.0])
    known = np.isfinite(model.at(x, y).images).all(axis=(1, 2))
    assert known.tolist() == [False] * 5 + [True] * 2
    assert np.isfinite(model.fwhm_at(x, y)).tolist() == known.tolist()
    assert model.at(np.empty(0), np.empty(0)).images.shape == (0, 25, 25)


def write_rows(path, basis, rows):
    """Write the row format of the Legacy Surveys: one CCD per row, polynomial in columns."""
    n = len(rows)
    columns = [
        fits.Column("expnum", "K", array=[row[0] for row in rows]),
        fits.Column("ccdname", "4A", array=[row[1] for row in rows]),
        fits.Column("psf_samp", "D", array=[0.8] * n),
        fits.Column("polnaxis", "K", array=[2] * n),
        fits.Column("polngrp", "K", array=[1] * n),
        fits.Column("poldeg1", "K", array=[2] * n),
        fits.Column("psf_mask", f"{basis[0].size}E", dim="(25,25,6)", array=basis),
    ]
    text = {"polname1": "X_IMAGE", "polname2": "Y_IMAGE"}
    columns += [fits.Column(name, "7A", array=[value] * n) for name, value in text.items()]
    numbers = {"polzero1": 1000.5, "polzero2": 2050.25, "polscal1": 2000.0, "polscal2": 4000.0}
    columns += [fits.Column(name, "D", array=[value] * n) for name, value in numbers.items()]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


def test_psfex_rows_are_picked_by_exposure_and_ccd(tmp_path):
    bases = np.stack([psfex_basis(seed=seed) for seed in (1, 2, 3)])
    path = write_rows(tmp_path / "rows.fits", bases, [(7, "N4"), (7, "S29"), (8, "N4")])
    x, y = np.array([100.0]), np.array([200.0])
    for k, (exposure_id, detector) in enumerate((("7", "N4"), ("7", "S29"), ("8", "N4"))):
        model = load_psfex(path, SHAPE, exposure_id=exposure_id, detector=detector)
        reference = load_psfex(write_psfex(tmp_path / f"{k}.psf", bases[k]), SHAPE)
        np.testing.assert_array_equal(model.at(x, y).images, reference.at(x, y).images)
    for wanted in ({"exposure_id": "9", "detector": "N4"}, {"exposure_id": "7"}, {}):
        with pytest.raises(LumosDataError, match=r"rows\.fits: \d of 3 PSFEx rows match"):
            load_psfex(path, SHAPE, **wanted)


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"POLNAME1": "MAG_AUTO"}, "MAG_AUTO"),
        ({"POLDEG1": 3}, "degree 3 needs 10"),
        ({"PSF_SAMP": 0.0}, "PSF_SAMP 0.0"),
        ({"PSF_SAMP": None}, "lacks 'PSF_SAMP'"),
        ({"POLSCAL1": 0.0}, "POLSCAL"),
    ],
)
def test_bad_psfex_models_are_refused(tmp_path, cards, match):
    path = write_psfex(tmp_path / "bad.psf", psfex_basis(), **cards)
    with pytest.raises(LumosDataError, match=rf"bad\.psf.*{match}"):
        load_psfex(path, SHAPE)


def test_a_file_that_is_no_psfex_model_is_refused(tmp_path):
    fits.PrimaryHDU(np.ones((5, 5), ">f4")).writeto(tmp_path / "image.fits")
    with pytest.raises(LumosDataError, match=r"image\.fits: not a PSFEx model"):
        load_psfex(tmp_path / "image.fits", SHAPE)
    (tmp_path / "junk.psf").write_bytes(b"junk" * 1000)
    with pytest.raises(LumosDataError, match=r"junk\.psf"):
        load_psfex(tmp_path / "junk.psf", SHAPE)


def test_widths_of_no_and_of_many_objects(rng):
    image = rng.normal(0, 1e-3, (3, 15, 15))
    image[0] += np.exp(-(np.hypot(*np.mgrid[-7:8, -7:8]) ** 2) / 8)
    model = PsfexModel(image, 1, (50.0, 50.0), (50.0, 50.0), 1.0, (100, 100))
    x, y = rng.uniform(-20, 120, (2, 700))
    found = model.fwhm_at(x, y)
    np.testing.assert_array_equal(found, [model.fwhm_at(x[[k]], y[[k]])[0] for k in range(len(x))])
    assert np.isnan(found).any()
    flat = replace(model, basis=image[:1], degree=0)
    np.testing.assert_allclose(flat.fwhm_at(x, y), image_fwhm(flat.at(x, y)))
    for empty in (model, flat):
        assert empty.fwhm_at(x[:0], y[:0]).shape == (0,)
    assert image_fwhm(PixelPsf(np.empty((0, 15, 15)))).shape == (0,)
