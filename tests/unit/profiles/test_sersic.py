"""The renderer against closed forms, its own symmetries and bad input."""

import numpy as np
import pytest
import torch
from scipy import integrate, special

from lumos.errors import LumosShapeError, LumosValueError
from lumos.profiles import Shapes, render
from lumos.profiles.grids import plan_grids
from lumos.profiles.objects import check_objects
from lumos.profiles.transforms import moffat_table, sersic_b, sersic_table
from lumos.psfs import MoffatPsf, PixelPsf

# Errors of the renderer, from the cut-off in wavenumber and the table, in units of a stamp's peak.
PEAK_TOL = 1e-4


def moffat(fwhm=4.0, beta=3.5):
    return MoffatPsf(np.atleast_1d(np.asarray(fwhm, float)), np.atleast_1d(np.asarray(beta, float)))


def draw(radius=3.0, n=1.0, q=1.0, theta=0.0, x=29.5, y=29.5, psf=None, size=60, **kwargs):
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (x, y, radius, n, q, theta)))
    return render(Shapes(*columns), psf or moffat(), size=size, **kwargs)


def assert_close(image, expected, tolerance=PEAK_TOL):
    image, expected = np.asarray(image), np.asarray(expected)
    error = np.abs(image - expected).max(axis=(-2, -1)) / expected.max(axis=(-2, -1))
    assert error.max() < tolerance


def moffat_image(x, y, size, fwhm, beta, *, sampling=1.0, pixel=True):
    """Integrate a Moffat over pixels (Gauss-Legendre, 6 nodes per axis: exact to 1e-9 for these widths)."""
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)
    nodes, weights = np.polynomial.legendre.leggauss(6) if pixel else (np.zeros(1), np.full(1, 2.0))
    dx = sampling * np.arange(size)[:, None] - x + nodes / 2
    dy = sampling * np.arange(size)[:, None] - y + nodes / 2
    r2 = dy[:, :, None, None] ** 2 + dx[None, None] ** 2
    image = (beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta
    return np.einsum("yaxb,a,b->yx", image, weights / 2, weights / 2)


def moments(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    flux = image.sum()
    x0, y0 = (image * x).sum() / flux, (image * y).sum() / flux
    xx, yy, xy = ((image * a * b).sum() / flux for a, b in ((x - x0, x - x0), (y - y0, y - y0), (x - x0, y - y0)))
    return x0, y0, xx, yy, xy


def test_a_wide_stamp_holds_all_the_light():
    # Beyond 150 px lies (1 + (150/3.7)^2)^-2.5 = 1e-8 of the PSF and less of these galaxies.
    flux = draw([0, 1, 4, 4], [1, 0.3, 0.5, 1.5], [1, 0.05, 0.5, 0.3], x=150, y=150, size=301).sum((1, 2))
    np.testing.assert_allclose(flux, 1, atol=5e-5)


def test_a_point_source_is_the_psf():
    for fwhm, beta in ((1.5, 2.5), (4.0, 4.765), (8.0, 3.0)):
        image = draw(0, n=np.nan, x=28.7, y=31.2, psf=moffat(fwhm, beta))[0]
        # 6 nodes per pixel integrate the sharpest of these to 1e-6.
        assert_close(image, moffat_image(28.7, 31.2, 60, fwhm, beta))


def test_gaussian_galaxy_in_a_nearly_gaussian_psf():
    # n = 0.5 is a Gaussian of sigma = r / sqrt(2 ln 2); a Moffat of beta -> infinity is one of FWHM / 2.3548.
    sigma2 = 3.0**2 / (2 * np.log(2)) + (4.0 / (2 * np.sqrt(2 * np.log(2)))) ** 2
    edges = (np.arange(61) - 0.5 - 29.2) / np.sqrt(2 * sigma2)
    line = np.diff(special.erf(edges)) / 2
    image = draw(3.0, n=0.5, x=29.2, y=29.2, psf=moffat(4.0, 1e6))[0]
    assert_close(image, np.outer(line, line))


def test_second_moments_give_axis_ratio_and_angle():
    # Moments of the convolved image are those of the galaxy plus an isotropic term of PSF and pixel; for a
    # Gaussian galaxy the major axis has variance r^2 / (2 ln 2), the minor q^2 times that. In a stamp of 120 px the
    # Gaussian PSF loses nothing.
    radius, q, theta = 5.0, 0.4, 0.6
    image = draw(radius, 0.5, q, theta, x=58.3, y=61.1, psf=moffat(3.0, 1e6), size=120)[0].numpy().astype(float)
    x0, y0, xx, yy, xy = moments(image)
    assert abs(x0 - 58.3) < 1e-3
    assert abs(y0 - 61.1) < 1e-3
    excess = radius**2 / (2 * np.log(2)) * (1 - q**2)
    # 1e-5 of the peak in each of the pixels at distances of up to 60 px sets the tolerance.
    assert abs(xx - yy - excess * np.cos(2 * theta)) < 0.02
    assert abs(2 * xy - excess * np.sin(2 * theta)) < 0.02


def test_x_is_the_last_axis_and_the_angle_turns_from_x_to_y():
    image = draw(6.0, 1.0, 0.2, 0.3, x=40.0, y=12.0, size=(40, 80))[0].numpy()
    assert image.shape == (40, 80)
    assert np.unravel_index(image.argmax(), image.shape) == (12, 40)
    # Along (cos, sin)(0.3) the galaxy is brighter than along its mirror image.
    step_x, step_y = round(10 * np.cos(0.3)), round(10 * np.sin(0.3))
    assert image[12 + step_y, 40 + step_x] > 2 * image[12 - step_y, 40 + step_x]


def test_the_half_light_radius_encloses_half_the_light():
    # From the table itself: light within R is R int J1(kR) F(k) dk, here checked through the real-space closed form.
    for n in (0.3, 0.8, 2.5, 6.2):
        b = sersic_b(np.array([n]))[0]
        norm = integrate.quad(lambda t, n=n: t ** (2 * n - 1) * np.exp(-t), 0, np.inf)[0]
        assert abs(integrate.quad(lambda t, n=n: t ** (2 * n - 1) * np.exp(-t), 0, b)[0] / norm - 0.5) < 1e-8
    # And from a stamp: a round galaxy much larger than PSF and pixel, counted within the circle; its sharpest pixels
    # on the rim make 1 / (2 pi r) errors of a fraction of their light.
    image = draw(20.0, 0.8, x=100, y=100, psf=moffat(1.0, 5.0), size=201)[0].numpy()
    y, x = np.mgrid[:201, :201]
    assert abs(image[np.hypot(x - 100, y - 100) < 20].sum() - 0.5) < 0.005


@pytest.mark.parametrize("n", [0.3, 0.5, 1.0, 2.5])
def test_sersic_transform_against_quadrature(n):
    # Direct Hankel integral in t = b r^(1/n), feasible where it oscillates slowly.
    b = sersic_b(np.array([n]))[0]
    table = sersic_table()
    row = table.rows(torch.tensor([np.log(n)], dtype=torch.float64))[0].numpy()
    knots = np.sqrt(np.maximum(np.exp(2 * np.linspace(np.log(0.02), np.log(4000), len(row))) - 0.02**2, 0))
    for i in np.searchsorted(knots, [0.1, 1.0, 4.0]):
        value = integrate.quad(
            lambda t, k=knots[i]: t ** (2 * n - 1) * np.exp(-t) * special.j0(k * (t / b) ** n), 0, 60, limit=500
        )[0]
        assert abs(row[i] - value / special.gamma(2 * n)) < 1e-6


def test_exponential_and_moffat_transforms_have_their_closed_forms():
    knots = np.sqrt(np.maximum(np.exp(2 * np.linspace(np.log(0.02), np.log(4000), 1536)) - 0.02**2, 0))
    b = sersic_b(np.array([1.0]))[0]
    row = sersic_table().rows(torch.zeros(1, dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(row, (1 + (knots / b) ** 2) ** -1.5, atol=1e-6)
    # Moffat beta = 1.5: exp(-k alpha); between the rows of the table, so its interpolation is in the tolerance.
    row = moffat_table().rows(torch.tensor([1 / 1.5], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(row, np.exp(-knots * 0.5 / np.sqrt(2 ** (1 / 1.5) - 1)), atol=1e-5)


def test_per_object_and_shared_psf_agree(rng):
    n = 12
    shape = rng.uniform(0.5, 9, n), rng.uniform(0.3, 6.2, n), rng.uniform(0.05, 1, n), rng.uniform(0, 3, n)
    one = draw(*shape, psf=moffat(3.3, 4.1))
    many = draw(*shape, psf=moffat(np.full(n, 3.3), np.full(n, 4.1)))
    assert_close(many, one, 1e-5)
    images = rng.normal(0, 1e-4, (1, 21, 21)) + moffat_image(10, 10, 21, 3.3, 4.1)
    one = draw(*shape, psf=PixelPsf(images))
    many = draw(*shape, psf=PixelPsf(np.repeat(images, n, 0)))
    assert_close(many, one, 1e-5)


def test_a_stamp_does_not_depend_on_the_others(rng):
    n = 40
    shape = rng.uniform(0, 12, n), rng.uniform(0.3, 6.2, n), rng.uniform(0.05, 1, n), rng.uniform(0, 3, n)
    fwhm = rng.uniform(2, 8, n)
    together = draw(*shape, psf=moffat(fwhm, np.full(n, 3.0)))
    for i in (0, 17, 39):
        alone = draw(*(column[i] for column in shape), psf=moffat(fwhm[i], 3.0))
        # Only the rounding of float32 sums of some thousand terms may differ.
        assert_close(alone[0], together[i], 1e-5)
    assert torch.equal(together, draw(*shape, psf=moffat(fwhm, np.full(n, 3.0))))


@pytest.mark.parametrize("includes_pixel", [True, False])
@pytest.mark.parametrize("sampling", [1.0, 0.5])
def test_an_image_of_a_moffat_draws_as_the_moffat(includes_pixel, sampling):
    size = round(100 / sampling) + 1
    psf = moffat_image(50, 50, size, 4.5, 4.765, sampling=sampling, pixel=includes_pixel)
    image_psf = PixelPsf(psf[None] / psf.sum(), sampling, includes_pixel)
    shape = {"radius": [0, 2, 8], "n": [1, 0.7, 4], "q": [1, 0.3, 0.6], "theta": 0.5, "x": 28.6, "y": 30.3}
    # The samples of this PSF alias 2e-5 of its peak, and the image is cut off at 2e-4.
    assert_close(draw(**shape, psf=image_psf), draw(**shape, psf=moffat(4.5, 4.765)), 3e-4)


def test_an_asymmetric_psf_image_keeps_its_orientation():
    # A PSF with a lobe at +3 px in x and one at +2 px in y, drawn at a pixel centre, is itself.
    psf = np.zeros((41, 41))
    for x, y, flux in ((20, 20, 0.6), (23, 20, 0.3), (20, 22, 0.1)):
        psf += flux * moffat_image(x, y, 41, 3.5, 4.0)
    psf /= psf.sum()
    image = draw(0, x=25, y=22, psf=PixelPsf(psf[None]), size=(50, 60))[0].numpy()
    assert_close(image[2:43, 5:46], psf, 1e-3)


def test_centres_near_and_far_from_the_stamp():
    # What is drawn for a centre off the stamp is part of what a larger stamp shows.
    shape = {"radius": 5.0, "n": 3.0, "q": 0.4, "theta": 0.7}
    whole = draw(**shape, x=150, y=100, size=301)[0]
    part = draw(**shape, x=-30, y=40, size=60)[0]
    np.testing.assert_allclose(part, whole[60:120, 180:240], atol=2e-5 * float(whole.max()))
    # A distance at which only the wings are drawn, against the same by the grid.
    grid = draw(radius=40.0, n=3.0, q=0.4, theta=0.7, x=-160, y=30, size=60)[0]
    wings = draw(radius=40.0, n=3.0, q=0.4, theta=0.7, x=-220, y=30, size=(60, 60))[0]
    assert plan_grids(
        check_objects(Shapes(np.array([-220.0]), *np.ones((5, 1))), moffat()), moffat(), (60, 60)
    ).distant.tolist() == [0]
    wide = draw(radius=40.0, n=3.0, q=0.4, theta=0.7, x=-160, y=30, size=(60, 120))[0]
    assert_close(wings, wide[:, 60:], 5e-3)
    assert_close(grid, wide[:, :60], 1e-3)


def test_unknown_psfs_give_nan_stamps():
    image = draw([3, 3], psf=moffat([4, np.nan], [3, 3]))
    assert torch.isfinite(image[0]).all()
    assert torch.isnan(image[1]).all()
    images = np.stack([moffat_image(10, 10, 21, 3.3, 4.1), np.full((21, 21), np.nan)])
    image = draw([3, 3], psf=PixelPsf(images))
    assert torch.isfinite(image[0]).all()
    assert torch.isnan(image[1]).all()


def test_types_sizes_and_inputs():
    assert draw(size=33).dtype == torch.float32
    single, double = draw(4, 4, 0.3, 1.0), draw(4, 4, 0.3, 1.0, dtype=torch.float64)
    assert double.dtype == torch.float64
    assert_close(single, double, 1e-5)
    assert draw(size=(7, 12)).shape == (1, 7, 12)
    empty = np.empty(0)
    assert render(Shapes(*[empty] * 6), moffat(), size=60).shape == (0, 60, 60)
    of_single_precision = [np.array([v], np.float32) for v in (29.5, 29.5, 4, 4, 0.3, 1.0)]
    assert_close(render(Shapes(*of_single_precision), moffat(), size=60), single, 1e-6)
    # The ends of the ranges as float32 rounds them are inside.
    ends = [np.array([v], np.float32) for v in (29.5, 29.5, 4, 6.2, 0.05, 1.0)]
    assert torch.isfinite(render(Shapes(*ends), moffat(), size=60)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1}, "half-light radius"),
        ({"radius": np.nan}, "half-light radius"),
        ({"radius": np.inf}, "half-light radius"),
        ({"n": 0.2}, "Sérsic index"),
        ({"n": 7}, "Sérsic index"),
        ({"n": np.nan}, "Sérsic index"),
        ({"q": 0.01}, "axis ratio"),
        ({"q": 1.1}, "axis ratio"),
        ({"theta": np.nan}, "angle"),
        ({"x": np.inf}, "x of the centre"),
        ({"y": np.nan}, "y of the centre"),
        ({"size": 0}, "stamp size"),
        ({"dtype": torch.float16}, "type of the stamps"),
    ],
)
def test_bad_values_are_refused(change, message):
    with pytest.raises(LumosValueError, match=message):
        draw(**change)


def test_bad_lengths_are_refused():
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(LumosShapeError, match=r"shapes of galaxies: .*'axis_ratio': \(2,\).*, allowed: equal"):
        Shapes(one, one, one, one, two, one)
    with pytest.raises(LumosShapeError, match="shapes of galaxies"):
        Shapes(*[np.ones((1, 1))] * 6)
    with pytest.raises(LumosShapeError, match="number of PSFs: got 2, allowed: 1 or the number of objects, 1"):
        draw(psf=moffat([3, 4], [3, 3]))


def test_shapes_move_and_points_are_points():
    columns = [np.array([k + 1.0, k + 2.0]) for k in range(6)]
    moved = Shapes(*columns).at(np.array([30.0, 31.0]), np.array([32.0, 33.0]))
    assert [moved.x.tolist(), moved.y.tolist()] == [[30, 31], [32, 33]]
    assert [getattr(moved, name).tolist() for name in ("half_light_radius", "sersic_n", "axis_ratio", "theta")] == [
        column.tolist() for column in columns[2:]
    ]
    stars = Shapes.points(np.array([29.5]), np.array([28.5]))
    np.testing.assert_array_equal(render(stars, moffat(), size=60), draw(0.0, x=29.5, y=28.5))
