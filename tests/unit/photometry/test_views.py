"""Stamps as they were measured add up to the pixels of the exposure."""

import numpy as np
import pytest
from astropy.io import fits

from helpers.measured_runs import catalog_at, run, write_exposure
from lumos.flags import MaskPlane
from lumos.images.reader import read_exposure
from lumos.photometry.measured import open_run
from lumos.photometry.settings import MeasureSettings
from lumos.photometry.views import measured_ccd, view_stamp
from lumos.runs.shards import read_shards

#: A galaxy with a bright neighbour.
X, Y = [110.0, 118.0], [100.0, 104.0]


def star(shape, x, y, fwhm=3.2, beta=4.765):
    """Return a Moffat of flux 1, averaged over pixels."""
    core = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    fine = (np.arange(7) - 3) / 7
    ny, nx = np.indices(shape)
    light = np.zeros(shape)
    for dy in fine:
        for dx in fine:
            r2 = (nx + dx - x) ** 2 + (ny + dy - y) ** 2
            light += (1 + r2 / core**2) ** -beta / 49
    return light * (beta - 1) / (np.pi * core**2)


@pytest.fixture
def measured(tmp_path, rng):
    def spoil(data):
        for x, y, flux in zip(X, Y, (4000.0, 9000.0), strict=True):
            data += flux * star(data.shape, x, y)
        data[90, 112] = np.nan

    path = write_exposure(tmp_path / "a.fits", rng, spoil=spoil)
    catalog = catalog_at(X, Y, half_light_radius=np.zeros(2))
    run(tmp_path, [path], catalog, settings=MeasureSettings(estimators=("optimal",)))
    return open_run(tmp_path / "run")


def test_a_stamp_is_model_neighbours_and_residual(measured):
    (exposure,) = read_exposure(measured.path.parent / "a.fits", measured.survey)
    ccd = measured_ccd(measured, exposure)
    table = read_shards(measured.path)
    flux = float(table["flux"][0].as_py())
    view = view_stamp(ccd, 0, flux)
    assert view.pixels.shape == (60, 60)
    np.testing.assert_allclose(view.model + view.neighbours + view.residual, view.pixels)
    # The pixels are those of the file: the noise is 5, the sky 100.
    data = fits.getdata(measured.path.parent / "a.fits")
    first_x, first_y = round(110 - view.x), round(100 - view.y)
    cut = data[first_y : first_y + 60, first_x : first_x + 60]
    away = view.neighbours < 0.1
    good = view.good & away
    np.testing.assert_allclose(view.pixels[good], (cut[good] - 100) / 5, rtol=0.1, atol=0.15)
    assert not view.good[90 - first_y, 112 - first_x]
    assert view.mask[90 - first_y, 112 - first_x] & int(MaskPlane.NON_FINITE)
    # What is left has the width of the noise, also under both galaxies.
    middle = view.residual[20:50, 20:50][view.good[20:50, 20:50]]
    assert middle.std() == pytest.approx(1, abs=0.12)
    unit = 10 ** (0.4 * (31.4 - exposure.zeropoint))
    assert 5 * view.model.sum() == pytest.approx(flux / unit, rel=0.1)
    brightest = np.unravel_index(np.argmax(view.neighbours), view.neighbours.shape)
    assert brightest == (104 - first_y, 118 - first_x)
    assert view_stamp(ccd, 0, 2 * flux).model.sum() == pytest.approx(2 * view.model.sum())


def test_an_object_without_shape_has_no_stamp(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    catalog = catalog_at([60.0], [60.0], axis_ratio=np.array([np.nan]))
    run(tmp_path, [path], catalog, settings=MeasureSettings(estimators=("optimal",)))
    measured = open_run(tmp_path / "run")
    (exposure,) = read_exposure(path, measured.survey)
    assert view_stamp(measured_ccd(measured, exposure), 0, 1.0) is None
