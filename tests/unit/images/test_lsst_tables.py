"""Tables of ExposureF files: PSF, band and photometric calibration, each held against what wrote it."""

import json

import numpy as np
import pytest
from astropy.io import fits
from numpy.polynomial import chebyshev

from helpers.fits_files import wcs_cards
from helpers.lsst_files import ORIGIN, kernel, part_of, psfex, write_exposuref
from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosDataError
from lumos.flags import Flag
from lumos.images import pixel_to_sky, read_exposure
from lumos.images.lsst.cells import CellModel
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.surveys import load_survey

SHAPE = (80, 100)
X = np.array([3.2, 50.0, 96.4])
Y = np.array([70.1, 40.0, 2.0])


def gaussian(sigma, size=21, ratio=1.0):
    """Return an image that tells x from y."""
    y, x = np.mgrid[:size, :size] - size // 2
    image = np.exp(-(x**2 + (y / ratio) ** 2) / (2 * sigma**2))
    return image / image.sum()


def read(path, survey="lsst"):
    (exposure,) = read_exposure(path, load_survey(survey))
    return exposure


def written(tmp_path, objects, roles=None, data=None, **cards):
    roles = {"PSF_ID": 1} if roles is None else roles
    cards = {"FILTER": "i_06", **cards}
    return write_exposuref(tmp_path / "visit.fits", np.zeros(SHAPE) if data is None else data, objects, roles, **cards)


@pytest.mark.parametrize("dot", ["_", "."])
def test_psfex_tables_give_the_stars_of_the_image(tmp_path, dot):
    """Stars are drawn with the polynomial of the whole image's pixels; the PSF at each star is its pixels."""
    terms = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2))
    rng = np.random.default_rng(3)
    basis = np.stack([gaussian(2.0, ratio=1.4), *(0.1 * gaussian(s, ratio=0.7) for s in rng.uniform(1.5, 3, 5))])
    offset, scale = (1024.0, 2036.0), (900.0, 1800.0)
    data = np.zeros(SHAPE)
    places = np.array([(15, 20), (80, 15), (50, 60)])
    for x, y in places:
        u, v = (x + ORIGIN[0] - offset[0]) / scale[0], (y + ORIGIN[1] - offset[1]) / scale[1]
        star = sum(u**i * v**j * image for (i, j), image in zip(terms, basis, strict=True))
        data[y - 10 : y + 11, x - 10 : x + 11] += 500 * star / star.sum()
    objects = {7: ("PsfexPsf", psfex(basis, 2, offset, scale))}
    exposure = read(written(tmp_path, objects, {"ARCHIVE_ID_PSF": 7}, data, dot=dot))
    images = exposure.psf.at(*places.T.astype(float)).images
    for (x, y), image in zip(places, images, strict=True):
        np.testing.assert_allclose(image, exposure.data[y - 10 : y + 11, x - 10 : x + 11] / 500, atol=2e-6)
    np.testing.assert_allclose(images.sum(axis=(1, 2)), 1, atol=1e-5)
    assert np.isnan(exposure.psf.fwhm_at(np.array([-30.0]), np.array([10.0]))).all()
    assert exposure.provenance["psf"] == "PsfexPsf"
    assert exposure.files == (exposure.path,)


@pytest.mark.parametrize("kind", ["Chebyshev1Function2D", "PolynomialFunction2D"])
@pytest.mark.parametrize("name", ["PcaPsf", "KernelPsf"])
def test_principal_components_of_stars(tmp_path, kind, name):
    rng = np.random.default_rng(4)
    basis = np.stack([gaussian(s, ratio=1.3) for s in (1.8, 2.5, 3.1)])
    box = np.array([[250.0, 1100.0], [450.0, 1300.0]])
    coefficients = rng.uniform(0.5, 1.0, (3, 6))
    coefficients[:, 1:] *= 0.1 * rng.normal(size=(3, 5))
    if "Cheb" not in kind:
        coefficients *= [1, 2e-3, 1e-3, 1e-5, 1e-6, 1e-6]
    objects = {1: (name, [{"kernel": 2, "averagePosition_x": 0.0, "averagePosition_y": 0.0}])}
    objects[2] = (
        "LinearCombinationKernel",
        [
            {key: value for key, value in kernel(basis[0]).items() if key != "image"}
            | {"components": np.array([3, 4, 5]), "spatialfunctions": np.array([6, 7, 8])}
        ],
    )
    limits = {"min_x": box[0, 0], "min_y": box[0, 1], "max_x": box[1, 0], "max_y": box[1, 1]} if "Cheb" in kind else {}
    for number, image, terms in zip(range(3), basis, coefficients, strict=True):
        objects[3 + number] = ("FixedKernel", [kernel(image)])
        objects[6 + number] = (kind, [{"coefficients": terms, **limits}])
    psf = read(written(tmp_path, objects)).psf
    images = psf.at(X, Y).images
    for x, y, image in zip(X + ORIGIN[0], Y + ORIGIN[1], images, strict=True):
        if "Cheb" in kind:
            u, v = 2 * (x - 250) / 200 - 1, 2 * (y - 1100) / 200 - 1
            one = [chebyshev.chebval(u, [0] * i + [1]) * chebyshev.chebval(v, [0] * j + [1]) for i, j in ORDER]
        else:
            one = [x**i * y**j for i, j in ORDER]
        expected = np.tensordot(coefficients @ np.array(one), basis, axes=1)
        np.testing.assert_allclose(image, expected / expected.sum(), atol=1e-7)


#: Powers of x and y in the order in which the pipelines store coefficients.
ORDER = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))


def test_kernels_that_do_not_vary(tmp_path):
    image = gaussian(2.2, ratio=1.2)
    one = {1: ("KernelPsf", [{"kernel": 2}]), 2: ("FixedKernel", [kernel(image)])}
    np.testing.assert_allclose(read(written(tmp_path, one)).psf.image, image, atol=1e-7)
    other = gaussian(4.0)
    row = {key: value for key, value in kernel(image).items() if key != "image"}
    row |= {"components": np.array([2, 3]), "amplitudes": np.array([3.0, 1.0])}
    two = {1: ("KernelPsf", [{"kernel": 4}]), 2: one[2], 3: ("FixedKernel", [kernel(other)])}
    two[4] = ("LinearCombinationKernel", [row])
    (tmp_path / "two").mkdir()
    np.testing.assert_allclose(read(written(tmp_path / "two", two)).psf.image, (3 * image + other) / 4, atol=1e-7)


def test_gaussians(tmp_path):
    one = {1: ("SingleGaussianPsf", [{"dimensions_x": 31, "dimensions_y": 31, "sigma": 2.5}])}
    psf = read(written(tmp_path, one)).psf
    assert psf.fwhm_at(X, Y) == pytest.approx([2.5 * 2.35482] * 3, rel=2e-3)
    row = {"dimensions_x": 41, "dimensions_y": 41, "sigma1": 2.0, "sigma2": 4.0, "b": 0.1}
    (tmp_path / "two").mkdir()
    psf = read(written(tmp_path / "two", {1: ("DoubleGaussianPsf", [row])})).psf
    # Light goes as peak times sigma squared.
    expected = (gaussian(2.0, 41) * 4 + 0.1 * 16 * gaussian(4.0, 41)) / 5.6
    np.testing.assert_allclose(psf.image, expected / expected.sum(), atol=1e-5)


@pytest.mark.parametrize("name", ["CoaddPsf", "PiffPsf", "WarpedPsf"])
def test_psfs_that_fits_alone_does_not_tell(tmp_path, name):
    exposure = read(written(tmp_path, {1: (name, [{"bytes": 1}])}))
    assert exposure.psf is None
    assert exposure.provenance["psf"].startswith(f"none: the file's PSF is a {name}")
    assert "`lumos psf` fits one" in exposure.provenance["psf"]
    (tmp_path / "none").mkdir()
    none = read(written(tmp_path / "none", {1: (name, [{"bytes": 1}])}, {}))
    assert "nor a PSF in the tables" in none.provenance["psf"]


def test_a_stamp_beside_the_file_comes_first(tmp_path):
    path = written(tmp_path, {1: ("SingleGaussianPsf", [{"dimensions_x": 31, "dimensions_y": 31, "sigma": 2.5}])})
    fits.PrimaryHDU(gaussian(1.0)).writeto(tmp_path / "visit_psf.fits")
    np.testing.assert_allclose(read(path).psf.image, gaussian(1.0), atol=1e-6)


@pytest.mark.parametrize(
    ("objects", "match"),
    [
        ({1: ("KernelPsf", [{"kernel": 9}])}, "object 9 is nothing, allowed: FixedKernel, LinearCombinationKernel"),
        ({1: ("KernelPsf", [{"colonel": 9}])}, r"no column 'kernel', there are \['colonel'\]"),
        (
            {1: ("KernelPsf", [{"kernel": 2}]), 2: ("FixedKernel", [kernel(np.ones((4, 5)))])},
            r"kernel of 5 x 4 px, centre \[2, 2\], 20 numbers, allowed: odd sides",
        ),
        ({1: ("PsfexPsf", [{"ndim": 2}])}, "PsfexPsf has 1 tables"),
        ({1: ("PsfexPsf", psfex(np.ones((2, 5, 5)), 1, (0, 0), (1, 1)))}, "50 numbers, 3 terms of 5 x 5, allowed"),
        ({1: ("PsfexPsf", psfex(np.ones((1, 5, 5)), 0, (0, 0), (1, 0)))}, "allowed: one polynomial in x and y"),
        ({1: ("SingleGaussianPsf", [{"dimensions_x": 31, "dimensions_y": 31, "sigma": 0.0}])}, "allowed: above 0"),
        ({1: ("SingleGaussianPsf", [{"dimensions_x": 30, "dimensions_y": 31, "sigma": 1.0}])}, "odd"),
    ],
)
def test_damaged_tables_are_refused_by_name(tmp_path, objects, match):
    with pytest.raises(LumosDataError, match=rf"visit\.fits: .*{match}"):
        read(written(tmp_path, objects))


def test_an_index_that_names_missing_rows(tmp_path):
    path = written(tmp_path, {1: ("SingleGaussianPsf", [{"dimensions_x": 31, "dimensions_y": 31, "sigma": 2.5}])})
    with fits.open(path, mode="update") as hdul:
        hdul[4].data["row0"] = 3
    with pytest.raises(LumosDataError, match=r"object 1 \(SingleGaussianPsf\): no row 3 in table 1"):
        read(path)


def calibration(**changes):
    row = {"calibrationMean": 57.54, "calibrationErr": 0.53, "field": 0, "version": 1, **changes}
    return ("PhotoCalib", [row])


@pytest.mark.parametrize("survey", ["lsst", "hsc"])
def test_photometric_calibration_and_band(tmp_path, survey, monkeypatch):
    label = ("FilterLabel", [{"band": "i", "physical": "HSC-I2"}])
    roles = {"PHOTOCALIB_ID": 2, "ARCHIVE_ID_FILTER": 3}
    survey = load_survey(survey)
    monkeypatch.setattr(type(survey), "pixel_scale", None, raising=False)
    path = written(tmp_path, {2: calibration(), 3: label}, roles, FILTER=None)
    (exposure,) = read_exposure(path, survey.model_copy(update={"pixel_scale": None}))
    assert exposure.band == "i"
    # 1 count is 57.54 nJy.
    assert 10 ** (0.4 * (31.4 - exposure.zeropoint)) == pytest.approx(57.54, rel=1e-9)
    if survey.name == "hsc":
        assert exposure.zeropoint_err == pytest.approx(1.0857 * 0.53 / 57.54, rel=1e-3)


def test_calibrations_that_vary_or_are_none(tmp_path, caplog):
    for number, (row, text, factor) in enumerate(
        [
            (calibration(field=5), "varies over the image; its mean, 57.54 nJy per count, is used", 57.54),
            (calibration(calibrationMean=0.0), "counts as unknown", 1.0),
            (calibration(version=0), "version 0 ", 1.0),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        exposure = read(written(tmp_path / str(number), {2: row}, {"PHOTOCALIB_ID": 2}))
        assert text in caplog.messages[-1]
        assert 10 ** (0.4 * (31.4 - exposure.zeropoint)) == pytest.approx(factor, rel=1e-9)


def cells(tmp_path, images, *, start=(128, 0), tree=None, cell=(30, 20)):
    """Write a part of a coadd of cells, whose first cell in the file begins at (90, 0)."""
    width, height = cell
    grid = {"bbox": {"y": {"start": 0, "stop": 200}, "x": {"start": 0, "stop": 300}}, "cell_shape": [height, width]}
    rows, columns = images.shape[:2]
    box = {"y": {"start": 0, "stop": height * rows}, "x": {"start": 90, "stop": 90 + width * columns}}
    tree = {"psf": {"bounds": {"grid": grid, "bbox": box}}} if tree is None else tree
    text = np.frombuffer(json.dumps(tree).encode(), np.uint8)
    header = fits.Header(wcs_cards(scale=0.2) | part_of(start))
    names = ("NO_DATA", "INTERPOLATED", "COSMIC_RAY", "SATURATED")
    mask = fits.Header({f"MSKN{bit:04d}": name for bit, name in enumerate(names)})
    flat = np.zeros((40, 60), np.float32)
    hdus = [
        fits.PrimaryHDU(header=fits.Header({"DATAMODL": "https://images.lsst.io/schemas/cell_coadd-1.0.0"})),
        fits.ImageHDU(flat, header, name="IMAGE"),
        fits.ImageHDU(flat.astype(np.int32), mask, name="MASK"),
        fits.ImageHDU(flat + 1, name="VARIANCE"),
        fits.ImageHDU(flat + 0.25, name="NOISE_REALIZATIONS/0"),
        fits.ImageHDU(images, name="PSF"),
        fits.BinTableHDU.from_columns([fits.Column("JSON", "PB()", array=np.array([text], object))], name="JSON"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "coadd_1_g.fits")
    return tmp_path / "coadd_1_g.fits"


def test_each_cell_has_its_psf(tmp_path):
    images = np.stack([gaussian(s) for s in (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)]).reshape(2, 3, 21, 21)
    images[1, 2] = np.nan
    exposure = read(cells(tmp_path, images))
    # The image begins at pixel 128 of the coadd, in the middle of the second cell (120 to 149).
    x, y = np.array([0.0, 21.4, 21.6, 51.4, 51.6, 0.0, 0.0, -9.0, 55.0]), np.array([0, 0, 0, 0, 0, 19.4, 19.6, 0, 30.0])
    found = exposure.psf.at(x, y).images
    sigmas = [2.0, 2.0, 2.5, 2.5, None, 2.0, 3.5, 1.5, None]
    for image, sigma in zip(found, sigmas, strict=True):
        np.testing.assert_allclose(image, np.nan if sigma is None else gaussian(sigma), atol=1e-7)
    assert (exposure.noise_realization == 0.25).all()
    assert exposure.provenance["psf"] == "2 x 3 cells"
    assert exposure.provenance["noise"] == "coadd_1_g.fits[NOISE_REALIZATIONS/0]"


def test_grids_that_are_not_those_of_the_psfs(tmp_path):
    tree = {"psf": {"bounds": {"grid": {"cell_shape": [20, 30]}, "bbox": {"x": {"start": 0, "stop": 90}}}}}
    with pytest.raises(LumosDataError, match=r"coadd_1_g\.fits: cannot be read.*KeyError: 'y'"):
        read(cells(tmp_path, np.ones((2, 3, 5, 5)), tree=tree))
    tree["psf"]["bounds"]["bbox"]["y"] = {"start": 0, "stop": 60}
    (tmp_path / "b").mkdir()
    with pytest.raises(LumosDataError, match=r"PSFs of \(2, 3\) cells, the grid has \(3\.0, 3\.0\)"):
        read(cells(tmp_path / "b", np.ones((2, 3, 5, 5)), tree=tree))
    (tmp_path / "c").mkdir()
    with pytest.raises(LumosDataError, match="none of 6 cells has a PSF"):
        read(cells(tmp_path / "c", np.full((2, 3, 5, 5), np.nan)))
    (tmp_path / "d").mkdir()
    exposure = read(cells(tmp_path / "d", np.stack([gaussian(2.0)] * 6).reshape(2, 3, 21, 21), tree={}))
    assert "mean of cells" in exposure.provenance["psf"]
    assert not isinstance(exposure.psf, CellModel)


@pytest.mark.parametrize("scene", ["joint", "off"])
def test_galaxies_of_a_coadd_are_measured_with_their_cells_psf(tmp_path, scene):
    """Two stars of one flux in cells of different PSFs; a third lies in a cell without one."""
    sigmas = (1.5, 3.0)
    images = np.full((1, 3, 31, 31), np.nan)
    images[0, 0], images[0, 1] = (gaussian(sigma, 31) for sigma in sigmas)
    path = cells(tmp_path, images, start=(90, 0), cell=(80, 120))
    with fits.open(path, mode="update") as hdul:
        noise = np.random.default_rng(6).normal(0, 1, (120, 240)).astype(np.float32)
        for x, sigma in ((40, 1.5), (120, 3.0), (200, 1.5)):
            noise[45:76, x - 15 : x + 16] += 5000 * gaussian(sigma, 31)
        hdul["IMAGE"].data = noise
        for name in ("MASK", "VARIANCE", "NOISE_REALIZATIONS/0"):
            hdul[name].data = np.resize(hdul[name].data, noise.shape)
        hdul["NOISE_REALIZATIONS/0"].data = np.random.default_rng(8).normal(0, 1, noise.shape).astype(np.float32)
    exposure = read(path)
    ra, dec = pixel_to_sky(exposure.wcs, np.array([40.0, 120.0, 200.0]), np.full(3, 60.0))
    one = np.ones(3)
    catalog = ParentCatalog(np.arange(3), ra, dec, 0 * one, one, one, 0 * one, np.nan * one)
    table = measure_exposure(exposure, catalog, MeasureSettings(estimators=("profile_fit", "optimal"), scene=scene))
    for estimator in ("profile_fit", "optimal"):
        flux = table[f"{estimator}_flux"].to_numpy()
        np.testing.assert_allclose(flux[:2], 5000, rtol=0.02)
        assert np.isnan(flux[2])
    assert ((table["flags"].to_numpy() & int(Flag.NO_PSF)) != 0).tolist() == [False, False, True]
    np.testing.assert_allclose(table["psf_fwhm"].to_numpy()[:2], 0.2 * 2.3548 * np.array(sigmas), rtol=0.02)
