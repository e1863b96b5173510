"""The joint fit of a scene against dense least squares, and what breaks catalogues."""

import numpy as np
import pytest
import torch

from lumos.profiles import Shapes, render
from lumos.profiles.scene import draw_stamps
from lumos.psfs import MoffatPsf
from lumos.scenes.draw import Profiles, SceneImage
from lumos.scenes.equations import local_errors, normal_equations
from lumos.scenes.fit import fit_scene
from lumos.scenes.groups import tile_groups
from lumos.scenes.tiles import Tiling, cut_pieces
from lumos.statistics import sigma68

PSF = MoffatPsf(np.array([4.0]), np.array([3.5]))
NOISE = 10.0


def galaxies(rng, n, side, low=0.0):
    x, y = rng.uniform(low, side - low, (2, n))
    return Shapes(
        x, y, rng.lognormal(0.6, 0.3, n), rng.uniform(0.5, 2, n), rng.uniform(0.3, 1, n), rng.uniform(0, 3, n)
    )


def drawn(shapes, rows, size):
    stamps, corners = draw_stamps(shapes.take(rows), PSF, size)
    return Profiles(rows, torch.from_numpy(stamps), corners)


def ring(shapes, rows, size):
    """Return what lies around stamps of half the size."""
    made, quarter = drawn(shapes, rows, size), size // 4
    made.stamps[:, quarter : quarter + size // 2, quarter : quarter + size // 2] = 0
    return made


def solve(shapes, data, *, good=None, variance=NOISE**2, gain=np.inf, **kind):
    n = len(shapes)
    good = np.ones(data.shape, bool) if good is None else good
    image = SceneImage(data.astype(np.float32), good, np.asarray(variance, np.float32), gain, **kind)
    everything = [drawn(shapes, np.arange(n), 60)] if n else []
    return fit_scene(image, everything, lambda rows, size: ring(shapes, rows, size), n)


def light_of(shapes, flux, side):
    return np.tensordot(flux, render(shapes, PSF, size=side, dtype=torch.float64).numpy(), 1)


def test_tiles_hold_the_image_and_pieces_the_profiles(rng):
    tiling = Tiling((70, 45))
    image = rng.normal(size=(70, 45)).astype(np.float32)
    np.testing.assert_array_equal(tiling.join(tiling.split(image)), image)
    stamps = torch.from_numpy(rng.uniform(0.1, 1, (9, 20, 20)).astype(np.float32))
    corners = np.column_stack([rng.integers(-25, 75, 9), rng.integers(-25, 50, 9)])
    pieces = cut_pieces(stamps, corners, np.arange(9), torch.zeros(9), tiling)
    seen = torch.zeros(tiling.n_tiles, 256).index_add_(0, pieces.tile, pieces.values)
    expected = np.zeros((170, 145))
    for stamp, (y, x) in zip(stamps.numpy(), corners + 50, strict=True):
        expected[y : y + 20, x : x + 20] += stamp
    np.testing.assert_allclose(tiling.join(seen), expected[50:120, 50:95], rtol=1e-6)


def test_equations_and_errors_are_those_of_dense_least_squares(rng):
    shapes, side = galaxies(rng, 40, 120), 120
    tiling = Tiling((side, side))
    made = drawn(shapes, np.arange(40), 240)
    pieces = cut_pieces(made.stamps, made.corners, made.rows, torch.zeros(40), tiling)
    pieces = pieces.take(torch.argsort(pieces.tile * 40 + pieces.owner))
    weights = rng.uniform(0.5, 2, (side, side)) * (rng.uniform(size=(side, side)) > 0.1)
    data = rng.normal(size=(side, side))
    equations = normal_equations(tile_groups(pieces, 40, tiling), tiling.split(weights), tiling.split(data), 40)
    profiles = render(shapes, PSF, size=side, dtype=torch.float64).numpy().reshape(40, -1)
    normal = (profiles * weights.ravel()) @ profiles.T
    scale = np.sqrt(np.diag(normal))
    np.testing.assert_allclose(equations.information, np.diag(normal), rtol=1e-4)
    np.testing.assert_allclose(equations.matrix.toarray(), normal / np.outer(scale, scale), atol=1e-4)
    inverse = np.linalg.inv(normal)
    expected = inverse @ (profiles @ (weights * data).ravel())
    error = np.sqrt(np.diag(inverse))
    np.testing.assert_allclose(equations.solve(np.zeros(40)), expected, atol=2e-3 * error.max())
    errors = local_errors(equations)
    np.testing.assert_allclose(errors.total, error, rtol=0.01)
    np.testing.assert_allclose(errors.alone, 1 / scale, rtol=1e-4)
    correlation = inverse / np.outer(error, error)
    for i in range(40):
        for j, found in zip(errors.ties[i], errors.correlation[i], strict=True):
            if j >= 0:
                assert found == pytest.approx(correlation[i, j], abs=0.02)


def test_crowded_fluxes_are_unbiased_with_true_errors(rng):
    side, n = 700, 1500
    shapes = galaxies(rng, n, side, low=-10)
    flux = NOISE * 10 * rng.pareto(1.2, n)
    light = np.zeros((side, side))
    for part in np.array_split(np.arange(n), 30):
        light += light_of(shapes.take(part), flux[part], side)
    y, x = np.mgrid[:side, :side]
    data = rng.poisson(light.clip(0)) + rng.normal(0, NOISE, light.shape) + 300 + 0.02 * x - 0.03 * y
    scene = solve(shapes, data, gain=1.0)
    inside = (shapes.x > 5) & (shapes.x < side - 6) & (shapes.y > 5) & (shapes.y < side - 6)
    fluxes = scene.fluxes.take(inside)
    pull = (fluxes.flux - flux[inside]) / fluxes.flux_err
    growth = fluxes.flux_err / fluxes.alone_err
    for low, high in ((1, 1.05), (1.05, 1.3), (1.3, 10)):
        some = pull[(growth >= low) & (growth < high)]
        assert len(some) > 100
        assert abs(np.median(some)) < 4 * 1.25 / np.sqrt(len(some))
        assert sigma68(some) == pytest.approx(1, abs=4 / np.sqrt(len(some)))
    assert np.mean(np.abs(pull) > 5) < 0.005


def test_neighbours_are_named_and_blends_measured(rng):
    shapes = Shapes.points(np.array([40.0, 46.0, 100.0]), np.array([60.0, 60.0, 60.0]))
    flux = np.array([2000.0, 8000.0, 4000.0])
    data = light_of(shapes, flux, 140) + rng.normal(0, NOISE, (140, 140))
    found = solve(shapes, data).fluxes
    assert found.neighbour[:2].tolist() == [1, 0]
    profiles = render(shapes, PSF, size=140).double().numpy()
    overlap = (profiles[0] * profiles[1]).sum() / (profiles[0] ** 2).sum()
    np.testing.assert_allclose(found.neighbour_light[0], overlap * 8000, rtol=0.05)
    np.testing.assert_allclose(found.blendedness[0], 4 * overlap / (1 + 4 * overlap), rtol=0.05)
    assert found.blendedness[2] < 0.01
    assert found.correlation[0] == pytest.approx(-overlap, abs=0.02)


def test_two_objects_at_one_place_share_their_flux_with_wide_errors(rng):
    shapes = Shapes.points(np.array([50.0, 50.0, 90.0]), np.array([50.0, 50.0, 90.0]))
    data = light_of(shapes, np.array([3000.0, 3000.0, 3000.0]), 130) + rng.normal(0, NOISE, (130, 130))
    found = solve(shapes, data).fluxes
    assert found.flux[0] == pytest.approx(found.flux[1], rel=1e-3)
    assert found.flux[:2].sum() == pytest.approx(6000, abs=5 * found.alone_err[0])
    assert (found.flux_err[:2] > 100 * found.alone_err[:2]).all()
    assert found.correlation[0] < -0.99
    assert found.flux_err[2] == pytest.approx(found.alone_err[2], rel=0.01)


def test_ten_thousand_objects_in_one_group(rng):
    n, side = 10_000, 600
    shapes = Shapes.points(*rng.uniform(0, side, (2, n)))
    found = solve(shapes, rng.normal(0, NOISE, (side, side))).fluxes
    assert np.isfinite(found.flux).all()
    pull = found.flux / found.flux_err
    assert sigma68(pull) == pytest.approx(1, abs=0.1)


def test_what_is_masked_or_off_the_image_tells_nothing(rng):
    shapes = Shapes.points(np.array([30.0, 70.0, 131.0, 400.0]), np.array([60.0, 60.0, 60.0, 60.0]))
    flux = np.array([3000.0, 3000.0, 30000.0, 3000.0])
    light = light_of(shapes, flux, 130)
    good = np.ones((130, 130), bool)
    good[:, :55] = False
    data = np.where(good, light + rng.normal(0, NOISE, (130, 130)), np.nan)
    found = solve(shapes, np.nan_to_num(data, nan=1e6), good=good)
    assert np.isnan(found.fluxes.flux[[0, 3]]).all()
    assert np.isfinite(found.light).all()
    assert found.fluxes.flux[1] == pytest.approx(3000, abs=5 * found.fluxes.flux_err[1])
    # Half of a bright star off the image is known by its other half.
    assert found.fluxes.flux[2] == pytest.approx(30000, abs=5 * found.fluxes.flux_err[2])
    nothing = solve(shapes, np.zeros((130, 130)), good=np.zeros((130, 130), bool))
    assert np.isnan(nothing.fluxes.flux).all()
    assert (nothing.light == 0).all()
    assert len(solve(shapes.take([]), rng.normal(0, NOISE, (130, 130))).fluxes) == 0


def test_a_cosmic_ray_is_not_explained_and_moves_no_flux(rng):
    shapes = Shapes.points(np.array([60.0]), np.array([60.0]))
    data = light_of(shapes, np.array([3000.0]), 120) + rng.normal(0, NOISE, (120, 120))
    clean = solve(shapes, data).fluxes
    data[58:64, 62] += 4000
    struck = solve(shapes, data)
    assert not struck.explained[58:64, 62].any()
    # Nothing but the ray and the core below it.
    y, x = np.nonzero(~struck.explained)
    assert np.hypot(x - 60, y - 60).max() < 8
    assert struck.fluxes.flux[0] == pytest.approx(clean.flux[0], abs=1.5 * clean.flux_err[0])


def test_a_variance_that_holds_the_objects_gives_the_errors_of_their_photons(rng):
    side, n = 400, 60
    shapes = galaxies(rng, n, side, low=30)
    flux = np.full(n, 30000.0)
    light = light_of(shapes, flux, side)
    gain = 2.5
    noise = np.sqrt(NOISE**2 + light.clip(0) / gain)
    data = light + noise * rng.normal(size=light.shape)
    with_map = solve(shapes, data, variance=noise**2, includes_objects=True).fluxes
    with_gain = solve(shapes, data, gain=gain).fluxes
    np.testing.assert_allclose(with_map.flux_err, with_gain.flux_err, rtol=0.03)
    assert np.abs(np.median((with_map.flux - flux) / with_map.flux_err)) < 0.6
    sky_only = solve(shapes, data).fluxes
    assert (with_map.flux_err > 1.3 * sky_only.flux_err).all()
