"""Empirical PSFs against stars of known flux whose PSF is no Moffat, and Moffats where stars are Moffats."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.special import erf

import lumos
from helpers.fits_files import header
from lumos.errors import LumosDataError, LumosError
from lumos.flags import MaskPlane
from lumos.images.psf.psfex import PsfexModel, load_psfex
from lumos.images.reader import read_exposure
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf
from lumos.sources.choice import choose_psf
from lumos.sources.settings import PsfSettings
from lumos.sources.star_pixels import StarPixels, fit_at_stars
from lumos.surveys import load_survey
from lumos.workflows.psf import make_psfs

SIDE, NOISE, STAMP = 640, 5.0, 61
GENERIC = load_survey("generic")


def pixel_gaussian(offset, sigma):
    """Integrate a Gaussian over pixels at offsets from its centre, in closed form."""
    edge = np.sqrt(2) * sigma
    return 0.5 * (erf((offset + 0.5) / edge) - erf((offset - 0.5) / edge))


def double_gaussian(x, y, dx, dy):
    """Return a double Gaussian on pixels whose core widens along x and is longer along y at large y."""
    core = 1.05 + 0.12 * x / SIDE
    narrow = pixel_gaussian(dx, core) * pixel_gaussian(dy, core * (1 + 0.08 * y / SIDE))
    return 0.85 * narrow + 0.15 * pixel_gaussian(dx, 4.0) * pixel_gaussian(dy, 4.0)


def moffat(_x, _y, dx, dy):
    """Return a Moffat on pixels, the same everywhere."""
    psf = MoffatPsf(np.array([2.8]), np.array([3.2]))
    return render(Shapes.points(-dx[:, :1].ravel()[:1], -dy[:1].ravel()[:1]), psf, size=STAMP).numpy()[0]


def draw(rng, profile, fluxes, x, y, noise=NOISE):
    image = rng.normal(0, noise, (SIDE, SIDE)) if noise else np.zeros((SIDE, SIDE))
    for flux, column, row in zip(fluxes, x, y, strict=True):
        first = np.rint([column, row]).astype(int) - STAMP // 2
        dx, dy = first[0] + np.arange(STAMP) - column, first[1] + np.arange(STAMP) - row
        stamp = flux * profile(column, row, dx[None, :], dy[:, None])
        low, high = np.maximum(first, 0), np.minimum(first + STAMP, SIDE)
        inside = tuple(slice(low[k] - first[k], high[k] - first[k]) for k in (1, 0))
        image[low[1] : high[1], low[0] : high[0]] += stamp[inside]
    return image


def places(rng, side=9):
    grid = np.linspace(40, SIDE - 40, side)
    x, y = (axis.ravel() + rng.uniform(-6, 6, side**2) for axis in np.meshgrid(grid, grid))
    return x, y


def stars_in(path, rng, profile):
    """Write an image of 81 stars, one of them much brighter, so that the others are far from the brightest pixel."""
    x, y = places(rng)
    fluxes = 10 ** rng.uniform(4.2, 5.2, len(x))
    fluxes[0] = 4e5
    data = draw(rng, profile, fluxes, x, y).astype(">f4")
    fits.PrimaryHDU(data, header(CRPIX1=320.5, CRPIX2=320.5)).writeto(path)
    return path


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory):
    """Return the file with the stars of the double Gaussian, the folder that `lumos psf` makes of it, and its line."""
    folder = tmp_path_factory.mktemp("stars")
    path = stars_in(folder / "a.fits", np.random.default_rng(5), double_gaussian)
    return path, folder / "psf", make_psfs([path], folder / "psf", GENERIC, PsfSettings(max_degree=1))


def flux_bias(rng, profile, psf_at):
    """Return (measured - true) / true of bright stars without noise, at places that no star of the fit had."""
    x, y = places(rng, 5)
    image = draw(rng, profile, np.full(len(x), 1e5), x, y, noise=0.0)
    first = np.stack([np.rint(x), np.rint(y)]).astype(int) - 20
    stamps = np.stack([image[row : row + 41, column : column + 41] for column, row in first.T])
    stars = StarPixels(stamps, np.ones_like(stamps), x - first[0], y - first[1], x, y)
    return fit_at_stars(stars, psf_at(x, y)).flux.numpy() / 1e5 - 1


def test_a_double_gaussian_that_varies_gets_an_empirical_psf(rng, gaussians):
    exposure = next(read_exposure(gaussians[0], GENERIC))
    chosen = choose_psf(exposure, PsfSettings(max_degree=1))
    assert chosen.model is not None
    assert chosen.model.degree == 1
    assert chosen.p_value < 1e-6
    assert chosen.held_empirical.chi2.mean() < 1.1 < chosen.held_moffat.chi2.mean()
    bias = flux_bias(rng, double_gaussian, chosen.model.at)
    assert abs(np.median(bias)) < 0.003
    assert np.abs(bias).max() < 0.03
    # The Moffat shows that the bound can be missed.
    fit = chosen.moffat
    with_moffat = flux_bias(rng, double_gaussian, lambda *_: MoffatPsf(np.array([fit.fwhm]), np.array([fit.beta])))
    assert abs(np.median(with_moffat)) > 0.02
    # The residuals of held-out stars are those that the picture shows.
    held = [np.nanmax(np.abs(one.residual)) for one in (chosen.held_moffat, chosen.held_empirical)]
    assert held[1] < 0.2 * held[0]
    assert not chosen.undersampled
    # The PSF lies on its middle sample, wherever on the CCD: positions and fluxes of catalogues depend on it.
    ends = np.array([60.0, 320.0, 580.0])
    for image in chosen.model.at(ends, ends[::-1]).images:
        offset = chosen.model.sampling * (np.arange(len(image)) - len(image) // 2)
        weight = np.exp(-np.add.outer(offset**2, offset**2) / 4) * image
        assert abs((weight * offset).sum() / weight.sum()) < 0.015
        assert abs((weight.T * offset).sum() / weight.sum()) < 0.015


def test_moffat_stars_lose_nothing(rng, tmp_path):
    exposure = next(read_exposure(stars_in(tmp_path / "m.fits", rng, moffat), GENERIC))
    chosen = choose_psf(exposure, PsfSettings(max_degree=0))
    if chosen.model is None:
        fit = chosen.moffat
        bias = flux_bias(rng, moffat, lambda *_: MoffatPsf(np.array([fit.fwhm]), np.array([fit.beta])))
        assert "a Moffat" in chosen.summary()
    else:
        bias = flux_bias(rng, moffat, chosen.model.at)
    assert abs(np.median(bias)) < 0.003
    forced = choose_psf(exposure, PsfSettings(model="empirical", max_degree=0))
    assert forced.model is not None
    assert np.abs(flux_bias(rng, moffat, forced.model.at)).max() < 0.006
    plain = choose_psf(exposure, PsfSettings(model="moffat"))
    assert plain.model is None
    assert plain.moffat.fwhm == chosen.moffat.fwhm


def test_few_stars_get_a_moffat(gaussians):
    exposure = next(read_exposure(gaussians[0], GENERIC))
    few = replace(exposure, data=exposure.data.copy(), mask=exposure.mask.copy())
    few.mask[130:] = MaskPlane.BAD
    chosen = choose_psf(few, PsfSettings(max_stars=8))
    assert (chosen.model, chosen.degree, chosen.held_moffat) == (None, -1, None)
    assert chosen.summary() == f"a Moffat, {len(chosen.moffat.x)} stars, not compared with another"
    with pytest.raises(LumosDataError, match=r"a\.fits: [78] stars for an empirical PSF, allowed: at least 10"):
        choose_psf(few, PsfSettings(max_stars=8, model="empirical"))


def test_bad_input_has_a_clear_line(rng, gaussians, caplog, tmp_path):
    exposure = next(read_exposure(gaussians[0], GENERIC))
    saturated = replace(exposure, mask=np.where(exposure.data > 200, MaskPlane.SATURATED, 0).astype(np.int32))
    lost = r"a\.fits: 0 usable stars, allowed: at least 5 \(of \d+ detections .*\d+ are saturated or masked"
    with pytest.raises(LumosDataError, match=lost):
        choose_psf(saturated, PsfSettings())
    empty = replace(exposure, data=rng.normal(0, NOISE, (SIDE, SIDE)).astype(np.float32))
    with pytest.raises(LumosDataError, match=r"a\.fits: (nothing detected above 3|0 usable stars, allowed)"):
        choose_psf(empty, PsfSettings())

    def sharp(_x, _y, dx, dy):
        return pixel_gaussian(dx, 0.45) * pixel_gaussian(dy, 0.45)

    path = stars_in(tmp_path / "s.fits", rng, sharp)
    with caplog.at_level(logging.WARNING):
        make_psfs([path], tmp_path / "psf", GENERIC, PsfSettings(model="moffat"))
    assert "undersampled: stars on pixels have a FWHM of 1." in caplog.text
    assert pq.read_table(tmp_path / "psf" / "psf.parquet")["undersampled"].to_pylist() == [True]


def test_what_is_written_is_read_and_measured_with(rng, gaussians, tmp_path):
    path, made, text = gaussians
    assert text.endswith("psf.parquet: 1 PSFs, 1 of them empirical")
    folder = shutil.copytree(made, tmp_path / "psf")
    row = pq.read_table(folder / "psf.parquet").to_pylist()[0]
    assert (row["model"], row["file"], row["undersampled"]) == ("empirical", "a_0.psf", False)
    assert row["chi2_empirical"] < row["chi2_moffat"]
    assert row["p_value"] < 0.01
    assert (folder / "a_0.png").read_bytes()[1:4] == b"PNG"
    exposure = next(read_exposure(path, GENERIC, psf_dir=folder))
    assert isinstance(exposure.psf, PsfexModel)
    assert exposure.provenance["psf"] == "a_0.psf, named in psf.parquet"
    assert abs(np.median(flux_bias(rng, double_gaussian, exposure.psf.at))) < 0.003
    # The Python API takes the table that it returns.
    table = lumos.psf([path], folder, survey="generic", max_degree=0)
    assert table["file"][0] == str(folder / "a_0.psf")
    exposure = next(read_exposure(path, GENERIC, psf_dir=folder))
    middle = np.array([300.0])
    stars = Table({"object_id": [1], "ra": [150.0], "dec": [2.0], "half_light_radius": [0.0], "sersic_n": [1.0]})
    measured = lumos.measure([path], stars, psf=table, estimators=["optimal"])
    assert measured["psf_fwhm"][0] == pytest.approx(
        exposure.psf.fwhm_at(middle, middle)[0] * exposure.pixel_scale, rel=0.02
    )
    # A file that is named must be there, beside the table.
    (folder / "a_0.psf").unlink()
    with pytest.raises(LumosError, match=r"a_0\.psf"):
        next(read_exposure(path, GENERIC, psf_dir=folder))
    pq.write_table(pa.Table.from_pylist([{**row, "file": "../a_0.psf"}]), folder / "psf.parquet")
    with pytest.raises(LumosError, match=r"file '\.\./a_0\.psf', allowed: the name of a file in the table's folder"):
        next(read_exposure(path, GENERIC, psf_dir=folder))


def test_the_file_is_one_of_psfex(gaussians):
    """GalSim's reader, which knows nothing of ours, draws the same PSF."""
    galsim = pytest.importorskip("galsim")
    des = pytest.importorskip("galsim.des")
    folder = gaussians[1]
    ours = load_psfex(folder / "a_0.psf", (SIDE, SIDE))
    theirs = des.DES_PSFEx(str(folder / "a_0.psf"))
    place = np.array([120.0]), np.array([500.0])
    drawn = theirs.getPSF(galsim.PositionD(121.0, 501.0)).drawImage(nx=31, ny=31, scale=1.0, method="no_pixel").array
    own = render(Shapes.points(np.array([15.0]), np.array([15.0])), ours.at(*place), size=31).numpy()[0]
    np.testing.assert_allclose(drawn / drawn.sum(), own / own.sum(), atol=5e-4 * own.max())
