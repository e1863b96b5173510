"""PSFs measured on pixels, pixels that are not square, point sources, and what is said where there is no PSF."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from scipy.optimize import least_squares

from helpers.fits_files import header
from lumos.catalogs.parent import ParentCatalog, read_parent
from lumos.errors import LumosDataError, LumosValueError
from lumos.estimators import ESTIMATORS
from lumos.flags import Flag
from lumos.images import MoffatModel, read_exposure
from lumos.images.psf.models import fwhm_on_pixels, moffat_stamp
from lumos.images.psf.width import image_fwhm
from lumos.nets.checkpoint import shipped_models
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.profiles import Shapes, render
from lumos.psfs import MoffatPsf, PixelPsf, moffat_before_pixel, moffat_on_pixels
from lumos.surveys import load_survey

ONE, ZERO = np.ones(1), np.zeros(1)


def drawn(psf, x=40.0, y=40.0, radius=0.0, size=81):
    """Return one round exponential galaxy, or a star, of flux 1."""
    shapes = Shapes(x * ONE, y * ONE, radius * ONE, ONE, ONE, ZERO)
    return render(shapes, psf, size=size, dtype=torch.float64)[0].numpy()


def moffat(fwhm, beta):
    return MoffatPsf(np.array([fwhm]), np.array([beta]))


def fitted(image, start):
    """Fit a Moffat to the values at the centres of the pixels, as programs that measure the seeing do."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    inner = np.s_[25:56, 25:56]

    def rest(point):
        peak, fwhm, x, y, beta = point
        radius2 = (columns - x) ** 2 + (rows - y) ** 2
        model = peak * (1 + 4 * (2 ** (1 / beta) - 1) * radius2 / fwhm**2) ** -beta
        return ((model - image)[inner] / image.max()).ravel()

    return least_squares(rest, [image.max(), *start]).x[[1, 4]]


@pytest.mark.parametrize("beta", [2.5, 4.765])
@pytest.mark.parametrize("before", [2.0, 2.7, 3.7])
def test_seeing_of_stars_on_pixels_gives_their_fluxes(rng, before, beta):
    places = 40 + rng.uniform(-0.5, 0.5, (5, 2))
    seen = np.mean(
        [fitted(drawn(moffat(before, beta), x, y), [before + 0.2, x, y, beta]) for x, y in places], axis=0
    )  # fmt: skip
    assert 2.1 < seen[0] < 3.9
    known = moffat_before_pixel(float(seen[0]), beta)
    fit = moffat_before_pixel(float(seen[0]), float(seen[1]), beta_on_pixels=True)
    for radius in (0.0, 1.0):
        truth = drawn(moffat(before, beta), radius=radius)
        for shape in (known, fit):
            model = drawn(moffat(*shape), radius=radius)
            assert abs((truth * model).sum() / (model**2).sum() - 1) < 0.003, (radius, shape)
        # Taken for the PSF before the pixel, the same seeing makes fluxes too large by far more.
        wrong = drawn(moffat(float(seen[0]), beta), radius=radius)
        assert (truth * wrong).sum() / (wrong**2).sum() > 1.01


@pytest.mark.parametrize("beta", [1.5, 3.0, 4.765, 20.0])
def test_the_way_to_the_pixel_leads_back(beta):
    for fwhm in (1.0, 1.6, 3.0, 8.0, 50.0):
        seen, seen_beta = moffat_on_pixels(fwhm, beta)
        assert seen > fwhm
        assert moffat_before_pixel(seen, beta)[0] == pytest.approx(fwhm, abs=1e-5)
        if fwhm > 1.5:
            assert moffat_before_pixel(seen, seen_beta, beta_on_pixels=True) == pytest.approx((fwhm, beta), rel=1e-4)
    with pytest.raises(LumosValueError, match=r"the pixel included: got 1\.0, allowed: >= 1\.\d+"):
        moffat_before_pixel(1.0, beta)


def write(path, seed=1, data=None, shape=(120, 120), **cards):
    pixels = np.random.default_rng(seed).normal(100, 5, shape) if data is None else data
    fits.PrimaryHDU(pixels.astype(">f4"), header(CRPIX1=60.5, CRPIX2=60.5, **cards)).writeto(path)
    return path


def read(path, survey=None, psf_dir=None):
    return next(read_exposure(path, survey or load_survey("generic"), psf_dir=psf_dir))


@pytest.mark.parametrize(
    ("cards", "before"),
    [
        ({"PSFPIXEL": None}, moffat_before_pixel(3.2, 4.765)),
        ({"PSFPIXEL": True}, moffat_before_pixel(3.2, 4.765)),
        ({"PSFPIXEL": True, "PSFBETA": 3.0}, moffat_before_pixel(3.2, 3.0, beta_on_pixels=True)),
        ({"PSFPIXEL": False, "PSFBETA": 3.0}, (3.2, 3.0)),
    ],
)
def test_a_header_says_whether_its_psf_holds_the_pixel(tmp_path, cards, before):
    model = read(write(tmp_path / "a.fits", **cards)).psf
    assert (model.fwhm, model.beta) == pytest.approx(before, rel=1e-5)
    # Tables say what seeing programs see.
    own = model.fwhm_at(ZERO, ZERO)
    seen = 3.2 if cards["PSFPIXEL"] is not False else moffat_on_pixels(3.2, 3.0)[0]
    assert fwhm_on_pixels(model, own)[0] == pytest.approx(seen, rel=1e-5)


@pytest.mark.parametrize(("stated", "on_pixels"), [(None, True), (True, True), (False, False)])
def test_a_table_says_whether_its_psf_holds_the_pixel(tmp_path, stated, on_pixels):
    row = {"exposure_id": "a", "detector": "0", "fwhm_arcsec": 0.8, "beta": 3.0}
    row |= {} if stated is None else {"includes_pixel": stated}
    (tmp_path / "psf").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "psf" / "psf.parquet")
    model = read(write(tmp_path / "a.fits"), psf_dir=tmp_path / "psf").psf
    expected = moffat_before_pixel(3.2, 3.0, beta_on_pixels=True) if on_pixels else (3.2, 3.0)
    assert (model.fwhm, model.beta) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"PSFPIXEL": "maybe"}, r"a\.fits: PSFPIXEL: 'maybe' is not logical, allowed: T or F"),
    ],
)
def test_a_psf_that_can_be_none_is_an_error(tmp_path, cards, message):
    with pytest.raises(LumosDataError, match=message):
        read(write(tmp_path / "a.fits", **cards))


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"PSF_FWHM": 20}, r"none: .*PSF FWHM is 80 px, allowed: at most 60 px"),
        ({"PSF_FWHM": 1e4}, r"none: .*PSF FWHM is 4e\+04 px, allowed: at most 60 px"),
        ({"PSFBETA": 0.0}, r"none: .*Moffat beta: got 0\.0"),
        ({"PSFBETA": -1.0}, r"none: .*Moffat beta: got -1\.0"),
        ({"PSF_FWHM": 0.2, "PSFPIXEL": None}, r"none: .*PSF FWHM in pixels, the pixel included: got 0\.8.*>= 1\.\d"),
        ({"PSFBETA": 1.1}, r"none: .*Moffat beta: got 1\.1"),
    ],
)
def test_an_image_whose_header_knows_no_usable_psf_is_read(tmp_path, cards, message):
    exposure = read(write(tmp_path / "a.fits", **cards))
    assert exposure.psf is None
    assert re.match(message, exposure.provenance["psf"])


def test_an_exponent_beyond_what_can_be_told_from_a_gaussian_is_one():
    assert moffat_on_pixels(4.0, 500.0)[0] == pytest.approx(moffat_on_pixels(4.0, 100.0)[0], rel=0.01)


def test_what_was_looked_for_is_said_where_there_is_no_psf(tmp_path):
    path, empty, catalog = write(tmp_path / "a.fits", PSF_FWHM=None), tmp_path / "psf", catalogue([60], [60])
    empty.mkdir()
    survey = load_survey("generic")

    def message(survey, psf_dir=None):
        with pytest.raises(LumosDataError, match=r"a\.fits: no PSF is known: ") as caught:
            measure_exposure(read(path, survey, psf_dir), catalog, MeasureSettings())
        return str(caught.value).split("no PSF is known: ")[1].removesuffix("; `lumos psf` makes one, --psf reads it")

    def of(**psf):
        return survey.model_copy(update={"psf": survey.psf.model_copy(update=psf)})

    assert message(survey) == "no FWHM in the header, keys tried: PSF_FWHM, SEEING"
    write(tmp_path / "b.fits", PSF_FWHM=-1.0).rename(path)
    assert message(survey) == "the header's FWHM is -1, keys tried: PSF_FWHM, SEEING"
    assert message(of(kind="psfex", files=("{stem}.psf", "x-{band}.psf")), empty) == (
        f"no psfex file in {empty}, tried: a.psf, x-r.psf"
    )
    assert message(of(kind="table"), empty) == (
        f"survey generic ships no PSF, and {empty} has no psf.parquet or psf.ecsv (`lumos psf`)"
    )
    rows = [{"exposure_id": name, "detector": "0", "fwhm_arcsec": 0.8, "beta": 3.0} for name in "bcde"]
    pq.write_table(pa.Table.from_pylist(rows), empty / "psf.parquet")
    assert message(survey, empty) == (
        f"no row for exposure a, detector 0 in {empty}/psf.parquet, which has 4: b 0, c 0, d 0, ..."
    )
    rows[0] |= {"exposure_id": "a", "fwhm_arcsec": float("nan")}
    pq.write_table(pa.Table.from_pylist(rows), empty / "psf.parquet")
    assert message(survey, empty) == f"{empty}/psf.parquet: FWHM nan arcsec, beta 3.0 for exposure a, detector 0"


def catalogue(x, y, *, scale=(0.25, 0.25), **columns):
    """Return a catalogue of objects at pixels of the images of `write`."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(x)
    values = {
        "object_id": np.arange(n),
        "ra": 150.0 - (x - 59.5) * scale[0] / 3600 / np.cos(np.deg2rad(2.0)),
        "dec": 2.0 + (y - 59.5) * scale[1] / 3600,
        "half_light_radius": np.full(n, 0.6),
        "sersic_n": np.ones(n),
        "axis_ratio": np.ones(n),
        "position_angle": np.zeros(n),
        "ref_mag": np.full(n, 19.0),
    }
    return ParentCatalog(**(values | columns))


def blocks(fine, step_x, step_y):
    """Sum blocks of fine pixels."""
    height, width = fine.shape
    return fine.reshape(height // step_y, step_y, width // step_x, step_x).sum((1, 3))


@pytest.mark.parametrize("turn", [0.0, 35.0])
@pytest.mark.parametrize(("radius", "ratio", "angle"), [(0.0, 1.0, 0.0), (0.7, 0.3, 20.0), (0.5, 0.6, 80.0)])
def test_pixels_that_are_not_square(tmp_path, rng, radius, ratio, angle, turn):
    # Pixels of 0.30 x 0.24 arcsec, made of 5 x 4 square ones of 0.06 arcsec on which all is drawn.
    fine, n = 0.06, 120
    x, y = 60.2, 59.6
    psf = moffat(1.0 / fine, 3.5)
    # North is up and east is left before the turn of the sky: an angle from +x is 90 degrees more than the angle.
    theta = np.deg2rad(90 + angle - turn)
    centre = (5 * (x + 0.5) - 0.5) * ONE, (4 * (y + 0.5) - 0.5) * ONE
    shapes = Shapes(*centre, radius / fine * ONE, 1.5 * ONE, ratio * ONE, theta * ONE)
    light = render(shapes, psf, size=(4 * n, 5 * n))[0].numpy()
    data = 1e5 * blocks(light, 5, 4) + rng.normal(0, 0.01, (n, n))
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    # Columns: steps of one pixel along x and y on the sky (east, north), turned.
    matrix = np.array([[cos, sin], [-sin, cos]]) @ np.diag([-0.30, 0.24]) / 3600
    cards = {f"CD{i + 1}_{j + 1}": matrix[i, j] for i in (0, 1) for j in (0, 1)}
    path = write(tmp_path / "a.fits", data=data, PSF_FWHM=1.0, PSFBETA=3.5, MAGZPT=31.4, **cards)
    exposure = read(path)
    ra, dec = exposure.wcs.all_pix2world([x], [y], 0)
    catalog = catalogue(
        [x], [y], half_light_radius=radius * ONE, sersic_n=1.5 * ONE, axis_ratio=ratio * ONE, position_angle=angle * ONE
    )
    catalog.ra[:], catalog.dec[:] = ra, dec
    settings = MeasureSettings(estimators=("aperture", "optimal"), noise={"correlation": "none", "source": "scatter"})
    table = measure_exposure(exposure, catalog, settings)
    for name in ("aperture", "optimal"):
        assert table[f"{name}_flux"][0].as_py() == pytest.approx(1e5, rel=1e-3), name


def test_the_image_of_a_moffat_on_square_pixels_is_the_moffat():
    for fwhm, beta in ((2.2, 4.765), (4.0, 2.5)):
        stamp = moffat_stamp(MoffatModel(fwhm, beta), np.eye(2))
        for radius in (0.0, 2.0):
            image, reference = drawn(stamp.at(ZERO, ZERO), radius=radius), drawn(moffat(fwhm, beta), radius=radius)
            assert np.abs(image - reference).max() < 5e-4 * reference.max()
        # Before the pixel, and after it.
        assert stamp.fwhm_at(ZERO, ZERO)[0] == pytest.approx(fwhm, rel=0.01)
        star = PixelPsf(drawn(moffat(fwhm, beta))[None])
        assert fwhm_on_pixels(stamp, ONE)[0] == pytest.approx(image_fwhm(star)[0], rel=0.02)


@pytest.mark.parametrize("default", [*ESTIMATORS, *shipped_models()])
def test_a_radius_of_0_is_a_point_source(tmp_path, rng, default):
    model = None if default in ESTIMATORS else default
    x, y, flux = np.array([60.3, 180.2]), np.array([60.4, 59.7]), 4000.0
    light = render(Shapes.points(x, y), moffat(3.2, 4.765), size=(120, 240))
    data = rng.normal(100, 5, (120, 240)) + flux * light.sum(0).numpy()
    survey, cards = load_survey("generic"), {"MAGZPT": 31.4}
    if model and model.startswith("paucam"):
        survey = survey.model_copy(update={"bands": {"NB685": survey.bands["r"]}})
        cards["FILTER"] = "NB685"
    exposure = read(write(tmp_path / "a.fits", data=data, **cards), survey)
    if model and model.startswith("paucam"):
        exposure = replace(exposure, state="after")
    nothing = np.full(2, np.nan)
    catalog = catalogue(
        x, y, half_light_radius=np.zeros(2), sersic_n=np.array([99.0, np.nan]), axis_ratio=nothing.copy(),
        position_angle=nothing.copy(), ref_mag=np.full(2, 31.4 - 2.5 * np.log10(flux)),
    )  # fmt: skip
    estimators = () if model else (default,)
    settings = MeasureSettings(estimators=estimators, model=model, noise={"correlation": "none"})
    table = measure_exposure(exposure, catalog, settings)
    assert (table["flags"].to_numpy() & ~int(Flag.OUT_OF_DOMAIN) == 0).all()
    pull = (table["flux"].to_numpy() - flux) / table["flux_err"].to_numpy()
    assert (np.abs(pull) < 4).all()
    # A star of S/N above 30, not a star measured as something wider.
    assert (np.abs(table["flux"].to_numpy() / flux - 1) < 0.1).all()


def test_circularised_radii_of_point_sources(tmp_path):
    lines = "object_id,ra,dec,half_light_radius,sersic_n,axis_ratio,position_angle\n1,150,2,0,,,\n2,150,2,1,1,0.25,0\n"
    (tmp_path / "parent.csv").write_text(lines)
    catalog = read_parent(tmp_path / "parent.csv", radius="circularised")
    assert catalog.half_light_radius.tolist() == [0.0, 2.0]
    assert catalog.shape_ok.tolist() == [True, True]


@pytest.mark.parametrize("radius", [1e300, 1e5, 70.0])
def test_a_radius_that_no_stamp_holds_is_a_bad_shape(tmp_path, radius):
    table = measure_exposure(
        read(write(tmp_path / "a.fits")), catalogue([60, 60], [60, 30], half_light_radius=np.array([radius, 0.5])),
        MeasureSettings(),
    )  # fmt: skip
    flags = table["flags"].to_numpy()
    assert ((flags & int(Flag.BAD_SHAPE)) != 0).tolist() == [True, False]
    assert np.isnan(table["flux"].to_numpy()).tolist() == [True, False]
