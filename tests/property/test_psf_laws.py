"""Laws that every PSF model obeys, on a CCD of 200 x 300 pixels."""

import numpy as np
import pytest

from lumos.images.psf.models import MoffatModel, StampModel
from lumos.images.psf.psfex import PsfexModel
from lumos.images.psf.sdss import SdssKlModel
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf

SHAPE = (200, 300)
FWHM = 3.0


def gaussian(fwhm, side=41):
    y, x = np.mgrid[:side, :side] - side // 2
    return np.exp(-4 * np.log(2) * (x**2 + y**2) / fwhm**2)


#: Each has a FWHM of 3 pixels; those that vary are wider on the right.
MODELS = {
    "moffat": MoffatModel(FWHM, 4.8),
    "stamp": StampModel(gaussian(FWHM)),
    "oversampled stamp": StampModel(gaussian(2 * FWHM, 81), sampling=0.5),
    "stamp before the pixel": StampModel(gaussian(FWHM), includes_pixel=False),
    "psfex": PsfexModel(
        np.stack([gaussian(FWHM), 0.02 * gaussian(5), 0 * gaussian(5)]), 1, (150.0, 100.0), (150.0, 100.0), 1.0, SHAPE
    ),
    "sdss": SdssKlModel(np.stack([gaussian(FWHM), 0.02 * gaussian(5)]), np.array([[[1.0, 0.0]], [[0.0, 5.0]]]), SHAPE),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def stars(model, x, y, size=61):
    """Draw stars of unit flux at the places, shape (n, size, size), with the corner of each stamp."""
    corner = np.stack([np.rint(x), np.rint(y)]).astype(int) - size // 2
    images = render(Shapes.points(x - corner[0], y - corner[1]), model.at(x, y), size=size)
    return images.numpy(), corner


def test_stars_have_unit_light_at_their_place(model):
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, SHAPE[1] - 1, 20), rng.uniform(0, SHAPE[0] - 1, 20)
    images, corner = stars(model, x, y)
    np.testing.assert_allclose(images.sum((1, 2)), 1, atol=0.01)
    pixels = np.arange(images.shape[1])
    total = images.sum((1, 2))
    np.testing.assert_allclose((images.sum(1) * pixels).sum(1) / total + corner[0], x, atol=0.01)
    np.testing.assert_allclose((images.sum(2) * pixels).sum(1) / total + corner[1], y, atol=0.01)


def test_a_place_has_one_psf(model):
    x, y = np.array([10.0, 200.0, 77.7]), np.array([150.0, 20.0, 99.9])
    together, _ = stars(model, x, y)
    for row in range(3):
        alone, _ = stars(model, x[row : row + 1], y[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-7)


def test_width(model):
    x, y = np.array([30.0, 150.0, 270.0]), np.full(3, 100.0)
    width = model.fwhm_at(x, y)
    assert width.shape == (3,)
    np.testing.assert_allclose(width, FWHM, rtol=0.05)
    assert (np.diff(width) >= 0).all()


def test_unknown_places_are_nan_or_the_psf_is_the_same_everywhere(model):
    psf = model.at(np.array([50.0, 5000.0]), np.array([50.0, 50.0]))
    width = model.fwhm_at(np.array([50.0, 5000.0]), np.array([50.0, 50.0]))
    assert np.isfinite(width[0])
    if isinstance(psf, MoffatPsf) or len(psf.images) == 1:
        assert width[0] == width[1]
    else:
        assert np.isnan(width[1])
        assert np.isnan(psf.images[1]).all()
