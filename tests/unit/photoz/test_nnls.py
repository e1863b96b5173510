import numpy as np
import pytest
from scipy.optimize import nnls

from lumos.errors import LumosShapeError
from lumos.photoz.bcnz.nnls import solve_multiplicative, solve_nonnegative, triangle


def problems(n, n_components, snr, seed):
    """Smooth, nearly collinear components, one of a single band and one without any light."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, 46)
    models = np.stack([np.exp(-slope * x) + 0.02 * rng.random(46) for slope in np.linspace(-1, 3, n_components)])
    models[-1], models[-2] = 0, np.arange(46) == 20
    truth = rng.exponential(size=(n, n_components)) * (rng.random((n, n_components)) < 0.4)
    flux = truth @ models
    error = flux.mean(axis=1, keepdims=True) / snr + 1e-3
    flux = flux + error * rng.normal(size=flux.shape)
    weights = np.broadcast_to(error**-2.0, flux.shape)
    row, column = np.tril_indices(n_components)
    gram = np.einsum("nb,pb->pn", weights, models[row] * models[column])
    return models, flux, weights, (gram, models @ (weights * flux).T, (weights * flux**2).sum(axis=1))


@pytest.mark.parametrize(("n_components", "snr"), [(2, 10), (6, 5), (10, 50), (12, 300)])
def test_exact_amplitudes_are_those_of_scipy(n_components, snr):
    models, flux, weights, equations = problems(150, n_components, snr, seed=n_components)
    fit = solve_nonnegative(*equations)
    chi2 = [nnls(models.T * np.sqrt(w)[:, None], f * np.sqrt(w))[1] ** 2 for f, w in zip(flux, weights, strict=True)]
    # The norm has some 1e7 times the rounding of a float at these signal-to-noise ratios.
    assert np.abs(fit.chi2 - chi2).max() < 1e-8 * max(1, (snr / 50) ** 2)
    assert (fit.amplitudes >= 0).all()
    direct = (weights * (flux - fit.amplitudes.T @ models) ** 2).sum(axis=1)
    np.testing.assert_allclose(direct, fit.chi2, rtol=0, atol=1e-7 * max(1, (snr / 50) ** 2))
    assert (fit.amplitudes[-1] == 0).all()


def test_the_solution_fulfils_the_conditions_of_kuhn_and_tucker():
    _, _, _, (gram, projection, norm) = problems(2000, 9, 20, seed=1)
    fit = solve_nonnegative(gram, projection, norm)
    full = gram[triangle(9)]
    gradient = np.einsum("stn,tn->sn", full, fit.amplitudes) - projection
    size = np.sqrt(full[range(9), range(9)] * norm) + 1e-30
    assert (np.abs(gradient / size)[fit.positive] < 1e-9).all()
    assert (gradient / size > -1e-7).all()
    assert (fit.amplitudes[~fit.positive] == 0).all()


def test_the_tableau_holds_the_inverse_of_the_components_in_the_fit():
    _, _, _, (gram, projection, norm) = problems(30, 6, 20, seed=2)
    fit = solve_nonnegative(gram, projection, norm)
    full, left = gram[triangle(6)], fit.tableau[triangle(6)]
    for n in range(30):
        inside = np.flatnonzero(fit.positive[:, n])
        part = np.ix_(inside, inside)
        np.testing.assert_allclose(-left[..., n][part] @ full[..., n][part], np.eye(len(inside)), atol=1e-6)


def test_negative_fluxes_have_no_light():
    gram, projection = np.ones((1, 3)), np.array([[-1.0, 0.0, 2.0]])
    fit = solve_nonnegative(gram, projection, np.array([1.0, 1.0, 4.0]))
    np.testing.assert_allclose(fit.amplitudes, [[0, 0, 2]])
    np.testing.assert_allclose(fit.chi2, [1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(solve_multiplicative(gram, projection, np.ones(3), 50).amplitudes, [[0, 0, 2]])


def test_multiplicative_updates_approach_the_exact_solution_from_above():
    _, _, _, equations = problems(20, 6, 10, seed=3)
    exact = solve_nonnegative(*equations).chi2
    few, many = (solve_multiplicative(*equations, n_iterations=n).chi2 for n in (30, 30_000))
    assert (few >= exact - 1e-6).all()
    assert (many <= few + 1e-6).all()
    assert np.median(many - exact) < 0.05 < np.median(few - exact)


def test_equal_components_share_one_amplitude():
    gram = np.array([[1.0], [1.0], [1.0]])
    fit = solve_nonnegative(gram, np.array([[3.0], [3.0]]), np.array([9.0]))
    assert fit.amplitudes.sum() == pytest.approx(3)
    assert fit.chi2[0] == pytest.approx(0, abs=1e-12)


def test_shapes_must_belong_together():
    with pytest.raises(LumosShapeError, match="projection"):
        solve_nonnegative(np.ones((3, 4)), np.ones((3, 4)), np.ones(4))
