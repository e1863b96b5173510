"""Batched least-squares fits of a model image with a free flux and a free constant background."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["ModelFit", "Parameters", "fit_models"]

#: From parameters, shape (n, p), and the rows they belong to, shape (n,), to images of unit flux, (n, h, w).
Model = Callable[[Tensor, Tensor], Tensor]

#: Levenberg-Marquardt damping: start, and factors after a better and a worse step.
_DAMPING, _BETTER, _WORSE = 1e-2, 0.2, 8.0


@dataclass(frozen=True)
class Parameters:
    """What a fit may vary.

    Parameters
    ----------
    start : tensor, shape (n, p), float64
        Where each fit starts.
    steps : tensor, shape (p,)
        Steps of the numerical derivatives.
    lower, upper : tensor, shape (p,)
        Bounds that no parameter may leave.
    prior_std : tensor, shape (n, p)
        Width of the Gaussian prior about ``start``; ``inf`` where there is none, 0 where fixed.
    """

    start: Tensor
    steps: Tensor
    lower: Tensor
    upper: Tensor
    prior_std: Tensor


@dataclass(frozen=True)
class ModelFit:
    """Result of a batch of fits.

    Parameters
    ----------
    parameters : tensor, shape (n, p)
        Parameters that fit best, their prior included.
    flux, flux_err, background : tensor, shape (n,)
        Best linear coefficients; the error holds the parameters fixed.
    chi2 : tensor, shape (n,)
        Chi-square without the prior.
    n_pixels : tensor, shape (n,)
        Pixels with weight.
    residual : tensor, shape (n, h, w)
        Data less model in units of the pixel error; 0 where a pixel is not used.
    """

    parameters: Tensor
    flux: Tensor
    flux_err: Tensor
    background: Tensor
    chi2: Tensor
    n_pixels: Tensor
    residual: Tensor


@dataclass(frozen=True)
class _State:
    """Linear solution at given parameters; all in units of the pixel error."""

    image: Tensor
    residual: Tensor
    basis: Tensor
    normal: Tensor
    coefficients: Tensor
    cost: Tensor


def fit_models(data: Tensor, ivar: Tensor, model: Model, parameters: Parameters, n_iterations: int = 12) -> ModelFit:
    """Fit every stamp by Levenberg-Marquardt, flux and background eliminated exactly at each step.

    Parameters
    ----------
    data : tensor, shape (n, h, w)
        Pixels of n stamps, to be fitted.
    ivar : tensor, shape (n, h, w)
        Inverse variance, 0 where a pixel is not used.
    model : callable
        Draws the images of unit flux.
    parameters : Parameters
        Start, bounds, priors.
    n_iterations : int, optional
        Steps of every fit.

    Returns
    -------
    ModelFit
        One entry per stamp.

    Notes
    -----
    The derivatives are projected orthogonally to the linear part (variable projection in the
    approximation of Kaufman, 1975, BIT 15, 49).
    """
    root = ivar.double().sqrt().flatten(1)
    target = data.double().flatten(1) * root
    point = parameters.start.clone()
    state = _solve(model, point, _all(point), target, root)
    damping = torch.full((len(point),), _DAMPING, dtype=torch.float64)
    free = parameters.prior_std > 0
    precision = torch.where(free, parameters.prior_std, torch.inf) ** -2
    cost = state.cost + (precision * (point - parameters.start) ** 2).sum(1)
    for _ in range(n_iterations):
        jacobian = _jacobian(model, point, state, parameters, root) * free[:, :, None]
        normal = jacobian @ jacobian.transpose(1, 2) + torch.diag_embed(precision)
        gradient = (jacobian @ state.residual[:, :, None])[:, :, 0] - precision * (point - parameters.start)
        scale = torch.diagonal(normal, dim1=1, dim2=2).clamp(min=1e-12)
        damped = normal + torch.diag_embed(scale * damping[:, None] + (~free).double())
        move = torch.linalg.solve(damped, gradient) * free
        trial = torch.minimum(torch.maximum(point + move, parameters.lower), parameters.upper)
        trial_state = _solve(model, trial, _all(trial), target, root)
        trial_cost = trial_state.cost + (precision * (trial - parameters.start) ** 2).sum(1)
        better = trial_cost < cost
        point = torch.where(better[:, None], trial, point)
        cost = torch.where(better, trial_cost, cost)
        state = _choose(better, trial_state, state)
        damping = (damping * torch.where(better, _BETTER, _WORSE)).clamp(1e-9, 1e6)
    inverse = torch.linalg.inv(state.normal)
    return ModelFit(
        parameters=point,
        flux=state.coefficients[:, 0],
        flux_err=inverse[:, 0, 0].sqrt(),
        background=state.coefficients[:, 1],
        chi2=state.cost,
        n_pixels=(root > 0).sum(1),
        residual=state.residual.reshape(data.shape),
    )


def _all(point: Tensor) -> Tensor:
    return torch.arange(len(point))


def _solve(model: Model, point: Tensor, rows: Tensor, target: Tensor, root: Tensor) -> _State:
    """Solve for flux and background at given parameters."""
    image = model(point, rows).double().flatten(1)
    basis = torch.stack([image * root, root], dim=1)
    # A floor far below the data's information keeps a stamp without a single usable pixel solvable.
    normal = basis @ basis.transpose(1, 2) + 1e-30 * torch.eye(2, dtype=torch.float64)
    coefficients = torch.linalg.solve(normal, basis @ target[:, :, None])[:, :, 0]
    residual = target - (coefficients[:, :, None] * basis).sum(1)
    return _State(image, residual, basis, normal, coefficients, (residual**2).sum(1))


def _jacobian(model: Model, point: Tensor, state: _State, parameters: Parameters, root: Tensor) -> Tensor:
    """Return derivatives of the model, shape (n, p, pixels), with the linear part projected out."""
    columns = []
    for number in range(point.shape[1]):
        step = parameters.steps[number]
        # Step inwards from an upper bound, so that no image is drawn beyond it.
        sign = torch.where(point[:, number] + step > parameters.upper[number], -1.0, 1.0)
        moved = point.clone()
        moved[:, number] += sign * step
        change = (model(moved, _all(point)).double().flatten(1) - state.image) * (sign / step)[:, None]
        columns.append(change * state.coefficients[:, :1] * root)
    jacobian = torch.stack(columns, dim=1)
    overlap = jacobian @ state.basis.transpose(1, 2)
    shares = torch.linalg.solve(state.normal, overlap.transpose(1, 2)).transpose(1, 2)
    projected: Tensor = jacobian - shares @ state.basis
    return projected


def _choose(better: Tensor, new: _State, old: _State) -> _State:
    """Take the new state where it is better."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return _State(**{field.name: pick(getattr(new, field.name), getattr(old, field.name)) for field in fields(_State)})
