"""The losses against numerical integration, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.special import erfcx, log_ndtr, logsumexp

from lumos.errors import LumosShapeError
from lumos.nets.losses import likelihood_nll, likelihood_overlap_nll, mixture_nll, overlap_nll, paper_nll, truncated_nll
from lumos.nets.mdn import MixtureOutput
from lumos.teahupoo.draws import FluxProposal

PROPOSAL = FluxProposal()


def random_mixture(n, seed, k=3, *, means=(-4, 8), log_stds=(-1.5, 1.0)):
    """Mixtures in double precision that require gradients."""
    rng = np.random.default_rng(seed)
    log_weights = torch.log_softmax(torch.from_numpy(rng.normal(size=(n, k))), dim=1)
    tables = (log_weights, rng.uniform(*means, (n, k)), np.exp(rng.uniform(*log_stds, (n, k))))
    return MixtureOutput(*(torch.as_tensor(table).requires_grad_() for table in tables))


def single(mean, std, dtype=torch.float64):
    values = [torch.tensor([[value]], dtype=dtype) for value in (0.0, mean, std)]
    return MixtureOutput(*(value.requires_grad_() for value in values))


def arrays(mixture, row):
    return [table[row].detach().numpy() for table in (mixture.log_weights.exp(), mixture.means, mixture.stds)]


def density(mixture, row, flux, *, truncated):
    """Density of one row by scipy; eq. 7, or eq. 9-10."""
    weights, means, stds = arrays(mixture, row)
    if truncated:
        return np.sum(weights * stats.truncnorm.pdf(flux, -means / stds, np.inf, means, stds))
    return np.sum(weights * stats.norm.pdf(flux, means, stds))


def repeated(mixture, row, n):
    return MixtureOutput(
        *(table[row].expand(n, -1) for table in (mixture.log_weights, mixture.means, mixture.stds)),
    )


def log_proposal(flux):
    return PROPOSAL.log_prob(flux, torch.ones((), dtype=flux.dtype))


def pixel_nll(mixture, flux):
    """Loss of likelihoods in the unit of the proposal."""
    return likelihood_nll(mixture, flux, PROPOSAL, torch.ones_like(flux))


LOSSES = {"mixture": mixture_nll, "truncated": truncated_nll}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_minus_log_of_the_density(name):
    mixture = random_mixture(40, 1)
    flux = np.random.default_rng(2).uniform(0, 10, 40)
    expected = [-np.log(density(mixture, row, flux[row], truncated=name == "truncated")) for row in range(40)]
    # Both sides are closed forms in double precision.
    assert LOSSES[name](mixture, torch.from_numpy(flux)).detach().numpy() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_density_integrates_to_one(name):
    mixture = random_mixture(20, 3)
    # Narrowest width 0.22, widest 2.7: 20 000 intervals of 0.003 to 12 standard deviations beyond the outermost mean.
    # On the half-line the trapezoidal rule errs by step^2 / 12 times the slope at 0, at most 1 / 0.22^2: 1e-5.
    flux = torch.linspace(0 if name == "truncated" else -37, 41, 26_001, dtype=torch.float64)
    for row in range(20):
        values = torch.exp(-LOSSES[name](repeated(mixture, row, len(flux)), flux).detach())
        assert torch.trapezoid(values, flux).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_the_loss(name):
    mixture = random_mixture(6, 4, log_stds=(-0.7, 0.7))
    flux = torch.linspace(0.1, 6, 6, dtype=torch.float64, requires_grad=True)

    def loss(log_weights, means, stds, flux):
        return LOSSES[name](MixtureOutput(log_weights, means, stds), flux)

    assert torch.autograd.gradcheck(loss, (mixture.log_weights, mixture.means, mixture.stds, flux))


def test_truncation_is_differentiated_through_the_mean():
    mean, std, flux = 0.4, 1.5, 2.0
    mixture = single(mean, std)
    truncated_nll(mixture, torch.tensor([flux], dtype=torch.float64)).sum().backward()
    plain = -(flux - mean) / std**2
    hazard = stats.norm.pdf(mean / std) / stats.norm.cdf(mean / std) / std
    assert hazard > 0.3  # what a detached normalisation would lose
    assert mixture.means.grad.item() == pytest.approx(plain + hazard, abs=1e-12)


@pytest.mark.parametrize("ratio", [-30.0, -1000.0, -20000.0])
def test_truncated_loss_far_below_zero_in_single_precision(ratio):
    std, flux = 0.5, 0.01
    mixture = single(ratio * std, std, torch.float32)
    loss = truncated_nll(mixture, torch.tensor([flux], dtype=torch.float32))
    loss.sum().backward()
    # N(f; mu, s) / Phi(c) = sqrt(2 / pi) / s exp(-z^2 / 2 + z c) / erfcx(-c / sqrt 2), with z = f / s and c = mu / s.
    z = flux / std
    expected = 0.5 * z**2 - z * ratio + np.log(std * np.sqrt(np.pi / 2) * erfcx(-ratio / np.sqrt(2)))
    # The flux is rounded to 1 in 2^24, and so is the loss.
    assert loss.item() == pytest.approx(expected, abs=2 * 2**-24 * (abs(z * ratio) + abs(expected)))
    # dL/dmu = [phi(c) / Phi(c) + c - z] / s, where phi / Phi = -c - 1 / c to 2 in |c|^3. As above, z carries 2^-24, and
    # the digits that c loses in double precision are 2^-53 |c|.
    slope = (-1 / ratio - z) / std
    tolerance = 2 * 2**-24 * (abs(slope) + z) + 3 * abs(ratio) ** -3 + 8 * 2**-53 * abs(ratio)
    assert mixture.means.grad.item() == pytest.approx(slope, abs=tolerance / std)
    assert torch.isfinite(mixture.stds.grad).all()


@pytest.mark.parametrize("ratio", [-1e4, -40.0, 40.0, 1e4])
def test_gradients_are_finite_for_extreme_means(ratio):
    mixture = single(ratio, 1.0, torch.float32)
    truncated_nll(mixture, torch.tensor([1.0])).sum().backward()
    overlap_nll(mixture, single(2.0, 1.0, torch.float32), truncated=True).sum().backward()
    for table in (mixture.log_weights, mixture.means, mixture.stds):
        assert torch.isfinite(table.grad).all()


def test_negative_flux_has_no_density_above_zero():
    mixture = single(1.0, 1.0)
    loss = truncated_nll(mixture, torch.tensor([-0.1], dtype=torch.float64))
    loss.sum().backward()
    assert loss.item() == np.inf
    assert mixture.means.grad.item() == 0


def test_paper_nll_splits_at_the_magnitude():
    mixture = random_mixture(4, 5, means=(-2, 2))
    flux = torch.tensor([0.5, 1.0, 2.0, 0.2], dtype=torch.float64)
    ref_mag = torch.tensor([20.4999, 20.5, 23.0, np.nan], dtype=torch.float64)
    plain, cut = mixture_nll(mixture, flux), truncated_nll(mixture, flux)
    assert (plain - cut).abs().min() > 1e-3
    assert torch.equal(paper_nll(mixture, flux, ref_mag), torch.cat([plain[:1], cut[1:]]))
    assert torch.equal(paper_nll(mixture, flux, ref_mag, split=22.0), torch.cat([plain[:2], cut[2:]]))


def test_a_bright_object_may_have_a_negative_flux():
    mixture = random_mixture(1, 6)
    loss = paper_nll(mixture, torch.tensor([-0.3], dtype=torch.float64), torch.tensor([19.0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(mixture.means.grad).all()


@pytest.mark.parametrize("truncated", [True, False])
def test_overlap_is_the_integral_of_the_product(truncated):
    a, b = random_mixture(30, 7, k=3), random_mixture(30, 8, k=2)
    found = overlap_nll(a, b, truncated=truncated).detach().numpy()
    for row in range(30):
        inner = np.concatenate([arrays(a, row)[1], arrays(b, row)[1]])

        def product(flux, row=row):
            return density(a, row, flux, truncated=truncated) * density(b, row, flux, truncated=truncated)

        # 12 standard deviations (at most 2.7) beyond the outermost mean (8).
        low, high = (0.0, 41.0) if truncated else (-37.0, 41.0)
        points = np.unique(inner.clip(low, high))
        integral, _ = quad(product, low, high, points=points, limit=400, epsabs=0, epsrel=1e-8)
        assert found[row] == pytest.approx(-np.log(integral), abs=1e-6)


def test_overlap_of_components_far_below_zero():
    # Cut so far below 0 both PDFs are exponentials of rates r = |mu| / s^2 to 1 in (mu / s)^2; they overlap by
    # r1 r2 / (r1 + r2), here with relative corrections below 1 / 100^2 each.
    a, b = single(-100.0, 1.0, torch.float32), single(-200.0, 2.0, torch.float32)
    assert overlap_nll(a, b, truncated=True).item() == pytest.approx(-np.log(100 * 50 / 150), abs=3e-4)


@pytest.mark.parametrize("truncated", [True, False])
def test_overlap_is_symmetric_and_differentiable(truncated):
    a, b = random_mixture(4, 9, k=2, log_stds=(-0.5, 0.7)), random_mixture(4, 10, k=3, log_stds=(-0.5, 0.7))
    there, back = overlap_nll(a, b, truncated=truncated), overlap_nll(b, a, truncated=truncated)
    assert torch.allclose(there, back, rtol=0, atol=1e-12)

    def loss(*tables):
        return overlap_nll(MixtureOutput(*tables[:3]), MixtureOutput(*tables[3:]), truncated=truncated)

    tables = [getattr(mixture, name) for mixture in (a, b) for name in ("log_weights", "means", "stds")]
    assert torch.autograd.gradcheck(loss, tables)


# In flux errors: the lower soft end from without to within, the plateau, and the upper soft end (from 1640 to 2440).
@pytest.mark.parametrize("mean", [-12.5, -10.0, -7.5, -3.0, 0.0, 6.0, 50.0, 1000.0, 1700.0, 2300.0])
@pytest.mark.parametrize("std", [0.5, 1.0, 2.0, 3.0, 10.0, 100.0, 1000.0])
def test_evidence_against_adaptive_quadrature(mean, std):
    mixture, flux = single(mean, std), torch.tensor([mean + 0.3 * std], dtype=torch.float64)

    def integrand(value):
        log_pi = log_proposal(torch.tensor([value], dtype=torch.float64)).item()
        return np.exp(log_pi - 0.5 * ((value - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))

    # The proposal ends well within these; where it is a tenth of a component, quad must be told of its peak at 0.
    low, high = max(mean - 12 * std, -60.0), min(mean + 12 * std, 9000.0)
    points = [point for point in (mean, -10.0, 0.0, 10.0, 100.0) if low < point < high]
    evidence, _ = quad(integrand, low, high, points=points, limit=400, epsabs=0, epsrel=1e-7)
    expected = mixture_nll(mixture, flux) - log_proposal(flux) + np.log(evidence)
    assert pixel_nll(mixture, flux).item() == pytest.approx(expected.item(), abs=1e-3)


def test_units_and_origin_of_the_likelihood_loss():
    mixture, flux = random_mixture(6, 17), torch.linspace(-3, 9, 6, dtype=torch.float64)
    scale, origin = torch.full_like(flux, 4.0), torch.full_like(flux, 20.0)
    moved = likelihood_nll(mixture, flux, PROPOSAL, scale, origin)
    # The same in units of the proposal, counted from its zero; a density per unit is 4 times one per quarter unit.
    same = pixel_nll(mixture.scaled(1 / scale, origin / scale), (flux + origin) / scale) + torch.log(scale)
    assert torch.allclose(moved, same, rtol=0, atol=1e-12)


def test_posterior_under_the_proposal_integrates_to_one():
    mixture = random_mixture(12, 11, means=(-14, 40), log_stds=(-0.7, 1.1))
    # 12 standard deviations of 3 beyond the means, steps of 0.01 where the narrowest width is 0.5.
    flux = torch.linspace(-50, 76, 12_601, dtype=torch.float64)
    for row in range(12):
        values = torch.exp(-pixel_nll(repeated(mixture, row, len(flux)), flux).detach())
        assert torch.trapezoid(values, flux).item() == pytest.approx(1, abs=1e-3)


def test_gradient_of_the_likelihood_loss():
    mixture = random_mixture(5, 12, k=2, means=(-13, 20), log_stds=(-0.7, 0.7))
    flux = torch.linspace(-9, 15, 5, dtype=torch.float64)

    def loss(log_weights, means, stds):
        return pixel_nll(MixtureOutput(log_weights, means, stds), flux)

    assert torch.autograd.gradcheck(loss, (mixture.log_weights, mixture.means, mixture.stds))


@pytest.mark.parametrize("mean", [-1e6, -300.0, 1e5, 1e8])
def test_likelihood_loss_is_finite_far_outside_the_proposal(mean):
    mixture = single(mean, 3.0, torch.float32)
    loss = pixel_nll(mixture, torch.tensor([0.0]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(mixture.means.grad).all()
    assert torch.isfinite(mixture.stds.grad).all()
    # Both l at the true flux and Z draw the mean towards the proposal from outside; that of l alone is (mu - f) / s^2.
    assert mixture.means.grad.item() * mean > 0


def fit(loss, data, flux):
    """Shift and logarithm of the width of one Gaussian about the data, by Newton-like descent."""
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=40, line_search_fn="strong_wolfe")
    zeros = torch.zeros(len(data), 1, dtype=torch.float64)

    def closure():
        optimizer.zero_grad()
        mixture = MixtureOutput(zeros, (data + parameters[0])[:, None], zeros + parameters[1].exp())
        value = loss(mixture, flux).mean()
        value.backward()
        return value

    optimizer.step(closure)
    return parameters.detach().numpy()


def standard_errors(data):
    """Return those of shift and log width, by numerical integration over each posterior.

    The score of the loss at the truth is (x, x^2) less its posterior mean, with x = f - d, so the Fisher matrix is the
    posterior covariance of (x, x^2), summed over the data. Without the proposal it is [[1, 0], [0, 2]] each.
    """
    x = np.linspace(-8, 8, 801)
    log_posterior = -0.5 * x**2 + log_proposal(data[:, None] + torch.from_numpy(x)).numpy()
    posterior = np.exp(log_posterior - logsumexp(log_posterior, axis=1, keepdims=True))
    first, second, third, fourth = (posterior @ x**power for power in (1, 2, 3, 4))
    cross = np.sum(third - first * second)
    fisher = np.array([[np.sum(second - first**2), cross], [cross, np.sum(fourth - second**2)]])
    return np.sqrt(np.diag(np.linalg.inv(fisher)))


# The proposal falls as 1 / F: its slope, and so the shift of the posterior, is largest, -0.1, for a flux of 5 errors.
# At the lower soft end it rises within one error, and the posterior is shifted upwards and narrower.
@pytest.mark.parametrize(("low", "high"), [(3.0, 8.0), (-np.inf, -9.0)])
def test_likelihood_loss_recovers_the_noise_and_not_the_posterior(low, high):
    rng = np.random.default_rng(13)
    flux = PROPOSAL.draw(150_000, rng)
    data = flux + rng.standard_normal(len(flux))
    chosen = (data > low) & (data < high)  # a choice by the data leaves p(f | d) as it is
    data, flux = (torch.from_numpy(values[chosen][:8000]) for values in (data, flux))
    found = fit(pixel_nll, data, flux)
    errors = standard_errors(data)
    # The likelihood is N(d; f, 1), so shift and log width are 0, within 4 standard errors of the Monte Carlo draws.
    assert np.all(np.abs(found) < 4 * errors)
    shift, _ = fit(mixture_nll, data, flux)  # 1 / sqrt(n) is the standard error where the posterior has width 1
    assert abs(shift) > 7 / np.sqrt(len(data))
    assert np.sign(shift) == (-1 if low > 0 else 1)


def test_shapes_that_would_broadcast_are_refused():
    mixture, flux = random_mixture(3, 14), torch.ones(3)
    for loss in (mixture_nll, truncated_nll, pixel_nll):
        with pytest.raises(LumosShapeError, match=r"true fluxes.*\(3, 1\).*\(3,\)"):
            loss(mixture, flux[:, None])
    with pytest.raises(LumosShapeError, match="reference magnitudes"):
        paper_nll(mixture, flux, torch.ones(1))
    with pytest.raises(LumosShapeError, match="second exposure: got 2, allowed: 3"):
        overlap_nll(mixture, random_mixture(2, 15), truncated=True)


def test_losses_keep_the_precision_of_the_mixture():
    mixture = single(1.0, 1.0, torch.float32)
    flux = torch.ones(1)
    for loss in (
        mixture_nll(mixture, flux),
        truncated_nll(mixture, flux),
        overlap_nll(mixture, mixture, truncated=True),
        pixel_nll(mixture, flux),
    ):
        assert loss.dtype == torch.float32
    # One Gaussian at its mean, cut at -1 standard deviation.
    expected = 0.5 * np.log(2 * np.pi) + log_ndtr(1.0)
    assert truncated_nll(mixture, flux).item() == pytest.approx(expected, abs=1e-6)


def both_on_grid(a, b, row, scale, origin):
    """Numerator and denominators of the likelihoods' overlap, integrated over the proposal's own variable."""
    t = np.linspace(-6, 9, 400_001)
    flux = scale * PROPOSAL.softening * np.sinh(t)
    pi = np.exp(PROPOSAL.log_prob(torch.from_numpy(flux), torch.full((1,), scale, dtype=torch.float64)).numpy())
    measure = pi * scale * PROPOSAL.softening * np.cosh(t) * (t[1] - t[0])
    one, two = (
        np.sum(
            arrays(mixture, row)[0][:, None]
            * stats.norm.pdf(flux - origin, arrays(mixture, row)[1][:, None], arrays(mixture, row)[2][:, None]),
            axis=0,
        )
        for mixture in (a, b)
    )
    return (one * two * measure).sum(), (one * measure).sum(), (two * measure).sum()


@pytest.mark.parametrize("brightness", [0.0, 5.0, 40.0, 600.0])
def test_likelihood_overlap_against_numerical_integration(brightness):
    a, b = random_mixture(6, 31, means=(-3, 3)), random_mixture(6, 32, k=5, means=(-3, 3))
    scale, origin = np.array([0.7, 1.0, 1.3, 0.5, 2.0, 1.0]), brightness * np.linspace(0.8, 1.2, 6)
    loss = likelihood_overlap_nll(a, b, PROPOSAL, torch.from_numpy(scale), torch.from_numpy(origin))
    for row in range(6):
        both, one, two = both_on_grid(a, b, row, scale[row], origin[row])
        # Each of the three integrals is good to 1e-3 (Notes of likelihood_nll).
        assert loss[row].item() == pytest.approx(-np.log(both / (one * two)), abs=3e-3)


def test_likelihood_overlap_does_not_reward_shrinking():
    """A common factor of all fluxes is no better agreement; eq. 11 itself prefers smaller ones."""
    a, b = (random_mixture(8, seed, means=(300, 320), log_stds=(1.0, 1.5)) for seed in (33, 34))
    scale = torch.ones(8, dtype=torch.float64)

    def shrunk(mixture):
        return mixture.scaled(0.5 * scale, 0 * scale)

    before = likelihood_overlap_nll(a, b, PROPOSAL, scale)
    after = likelihood_overlap_nll(shrunk(a), shrunk(b), PROPOSAL, scale)
    # Far above the softening the density is as 1/flux up to (softening / flux)^2 = 1e-3, on both sides of the fraction.
    assert (after - before).abs().max() < 3e-3
    plain = overlap_nll(shrunk(a), shrunk(b), truncated=False) - overlap_nll(a, b, truncated=False)
    assert torch.allclose(plain, torch.full_like(plain, -np.log(2)), atol=1e-9)


def test_likelihood_overlap_is_symmetric_and_reaches_every_parameter():
    a, b = random_mixture(5, 35), random_mixture(5, 36)
    scale = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    loss = likelihood_overlap_nll(a, b, PROPOSAL, scale)
    assert torch.allclose(loss, likelihood_overlap_nll(b, a, PROPOSAL, scale), atol=1e-9)
    gradients = torch.autograd.grad(loss.sum(), [*a.parameters, *b.parameters])
    assert all(torch.isfinite(gradient).all() and (gradient != 0).any() for gradient in gradients)
    with pytest.raises(LumosShapeError, match="objects of the second exposure: got 4, allowed: 5"):
        likelihood_overlap_nll(a, random_mixture(4, 37), PROPOSAL, scale)
    with pytest.raises(LumosShapeError, match="units of the proposal"):
        likelihood_overlap_nll(a, b, PROPOSAL, scale[:3])


@pytest.mark.parametrize("flux", [0.0, 3e4, -5e3])
def test_likelihood_overlap_has_finite_gradients_far_away(flux):
    """Exposures that contradict each other, and fluxes beyond the proposal."""
    a, b = (single(flux + shift, 1.0, torch.float32) for shift in (-200.0, 200.0))
    loss = likelihood_overlap_nll(a, b, PROPOSAL, torch.ones(1))
    gradients = torch.autograd.grad(loss.sum(), [a.means, a.stds, b.means, b.stds])
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    # They are pulled towards each other.
    assert gradients[0] < 0 < gradients[2]
