"""Deepz learns from mixtures of templates, before it sees galaxies with known redshifts."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray
from lumos.errors import LumosConfigError
from lumos.nets.losses import mixture_nll
from lumos.photoz.deepz.model import DeepzConfig, DeepzModel
from lumos.photoz.deepz.network import CompactNetwork, DeepzNetwork
from lumos.photoz.deepz.settings import DeepzSettings, PretrainSettings
from lumos.photoz.models import ModelGrid
from lumos.threads import one_thread

__all__ = ["draw_mixtures", "pretrain"]

#: Told after each epoch: epochs done, epochs in all, and how good the network is.
Told = Callable[[int, int, str], None]
#: Mean of the exponential distribution of what lines are over the mean continuum, in the band that sees most of them:
#: an equivalent width of 30 Angstrom in bands of 100 Angstrom, or of 1000.
_NARROW_LINES, _BROAD_LINES = 0.3, 0.03
#: Concentration of the Dirichlet distribution of the shares of templates: below 1, few of a run have most of the light.
_CONCENTRATION = 0.5
#: Smallest error of a flux ratio.
_LEAST_ERROR = 1e-3
#: What the compact network learns from: ranges of the signal-to-noise ratio in narrow bands, of how much deeper broad
#: bands are, and of errors of zero points; scatter of depths between bands, natural logarithm; share of outliers.
_NARROW_SNR, _DEEPER, _ZERO, _UNEVEN, _OUTLIERS = (1.0, 60.0), (2.0, 15.0), (0.005, 0.06), 0.3, 0.01
#: Share of the mixtures that are kept back to measure the network.
_HELD = 0.02


def draw_mixtures(
    grid: ModelGrid, lines: Collection[str], n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw galaxies from models: even in runs and in redshift, shares of templates from a Dirichlet distribution.

    Parameters
    ----------
    grid : ModelGrid
        Model fluxes.
    lines : collection of str
        Which components are emission lines.
    n : int
        Number of galaxies.
    rng : numpy.random.Generator
        The same state gives the same galaxies.

    Returns
    -------
    fluxes : ndarray, shape (n, n_bands)
        Without noise, of any unit.
    redshifts : ndarray, shape (n,)
        Between the first and the last of the grid; model fluxes are interpolated.
    """
    fluxes, run = np.empty((n, len(grid.bands))), rng.integers(0, len(grid.runs), n)
    redshifts = rng.uniform(grid.redshifts[0], grid.redshifts[-1], n)
    place = np.searchsorted(grid.redshifts, redshifts, side="right").clip(1, len(grid.redshifts) - 1) - 1
    part = (redshifts - grid.redshifts[place]) / (grid.redshifts[place + 1] - grid.redshifts[place])
    scale = _NARROW_LINES if grid.narrow.any() else _BROAD_LINES
    for number, (models, names) in enumerate(zip(grid.fluxes, grid.components, strict=True)):
        rows = np.flatnonzero(run == number)
        is_line = np.array([name in lines for name in names])
        at, share = place[rows], part[rows, None, None]
        seen = (1 - share) * models[at] + share * models[at + 1]
        amplitudes = np.zeros((len(rows), len(names)))
        amplitudes[:, ~is_line] = rng.dirichlet(np.full((~is_line).sum(), _CONCENTRATION), len(rows))
        continuum = np.einsum("ns,nsb->nb", amplitudes, seen)
        amplitudes[:, is_line] = rng.exponential(scale, (len(rows), is_line.sum())) * continuum.mean(axis=1)[:, None]
        fluxes[rows] = np.einsum("ns,nsb->nb", amplitudes, seen)
    return fluxes, redshifts


def pretrain(
    grid: ModelGrid, lines: Collection[str], settings: DeepzSettings, name: str, *, told: Told | None = None
) -> DeepzModel:
    """Train a network on mixtures of templates.

    The loss is that of p(z), minus the logarithm of the density at the true redshift, and that of the autoencoder, the
    mean distance of what the decoder makes from what the encoder saw, in errors.

    Parameters
    ----------
    grid : ModelGrid
        Model fluxes in the bands of the network, at the redshifts of its p(z).
    lines : collection of str
        Which components are emission lines.
    settings : DeepzSettings
        Settings.
    name : str
        Of the network.
    told : callable, optional
        Told after each epoch.

    Returns
    -------
    DeepzModel
        The network.

    Raises
    ------
    LumosConfigError
        If the reference band is none of the models.
    """
    how = settings.pretrain
    if how.reference not in grid.bands:
        text = f"got {how.reference!r}, allowed: {', '.join(grid.bands)}"
        raise LumosConfigError(f"photoz.deepz.pretrain.reference: {text}")
    rng = np.random.default_rng([settings.seed, 0])
    reference = grid.bands.index(how.reference)
    fluxes, redshifts = _usable(*draw_mixtures(grid, lines, how.galaxies, rng), reference, settings)
    snr = torch.from_numpy(np.where(grid.narrow, how.narrow_snr, how.broad_snr)).float()
    narrow, depths = torch.from_numpy(grid.narrow), how.network.kind == "compact"
    data = _Mixtures(
        torch.from_numpy(fluxes).float(), torch.from_numpy(redshifts).float(), snr, narrow, reference, depths
    )
    n_held = max(int(_HELD * len(fluxes)), 2)
    with one_thread():
        torch.manual_seed(settings.seed)
        config = DeepzConfig(
            name=name,
            stage="pretrained",
            bands=grid.bands,
            narrow=tuple(grid.narrow.tolist()),
            reference=how.reference,
            redshifts=tuple(grid.redshifts.tolist()),
            ratios=tuple(np.median(fluxes / fluxes[:, [reference]], axis=0).tolist()),
            network=how.network,
        )
        model = DeepzModel.create(config)
        figures = _fit(model, data, n_held, settings, told)
    model.network.eval()
    more = {"training": {"pretrain": how.model_dump(mode="json", exclude={"network"}), **figures}}
    return DeepzModel(config.model_copy(update=more), model.network, model.trained_on)


def _usable(
    fluxes: FloatArray, redshifts: FloatArray, reference: int, settings: DeepzSettings
) -> tuple[FloatArray, FloatArray]:
    """Leave out mixtures with extreme colours."""
    unit = fluxes[:, [reference]]
    good = (unit[:, 0] > 0) & (fluxes <= settings.max_ratio * unit).all(axis=1)
    return fluxes[good], redshifts[good]


@dataclass(frozen=True)
class _Mixtures:
    """Galaxies without noise, which get it anew each time they are seen."""

    fluxes: Tensor
    redshifts: Tensor
    snr: Tensor
    narrow: Tensor
    reference: int
    depths: bool

    def noisy(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return ratios with noise, and their errors; NaN where a band is missing."""
        if self.depths:
            return self._of_any_depth(self.fluxes[rows])
        return self._of_one_depth(self.fluxes[rows])

    def _of_one_depth(self, fluxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the published network learns from: the same signal-to-noise ratio everywhere."""
        seen = fluxes * (1 + torch.randn(fluxes.shape) / self.snr)
        unit = self.reference
        errors = fluxes / fluxes[:, unit, None] / self.snr
        return seen / seen[:, unit, None], errors.clamp(min=_LEAST_ERROR)

    def _of_any_depth(self, fluxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the compact network learns from: galaxies of any brightness, outliers, missing bands."""

        def between(low: float, high: float) -> Tensor:
            return low * (high / low) ** torch.rand(len(fluxes), 1)

        light = fluxes.mean(dim=1, keepdim=True)
        narrow = light / between(*_NARROW_SNR)
        errors = torch.where(self.narrow, narrow, narrow / between(*_DEEPER)) * torch.exp(
            _UNEVEN * torch.randn(fluxes.shape)
        )
        # Photons of the galaxy itself, and zero points.
        errors = torch.hypot(
            errors * (1 + fluxes / light * torch.rand(len(fluxes), 1)).sqrt(), between(*_ZERO) * fluxes
        )
        wide = torch.where((torch.rand(fluxes.shape) < _OUTLIERS) & self.narrow, 10.0, 1.0)
        seen = fluxes + wide * errors * torch.randn(fluxes.shape)
        unit = seen[:, self.reference, None].clamp(min=0.1 * light)
        gone = torch.rand(fluxes.shape) < 0.5 * torch.rand(len(fluxes), 1) ** 4
        gone[:, self.reference] = False
        return (seen / unit).masked_fill(gone, torch.nan), (errors / unit).masked_fill(gone, torch.nan)


def _loss(network: DeepzNetwork | CompactNetwork, data: _Mixtures, rows: Tensor) -> Tensor:
    ratios, errors = data.noisy(rows)
    if isinstance(network, CompactNetwork):
        return mixture_nll(network(ratios, errors), data.redshifts[rows]).mean()
    mixture, features = network.with_features(ratios)
    distance: Tensor = ((network.decoder(features) - ratios).abs() / errors).mean()
    return distance + mixture_nll(mixture, data.redshifts[rows]).mean()


def _fit(
    model: DeepzModel, data: _Mixtures, n_held: int, settings: DeepzSettings, told: Told | None
) -> dict[str, float]:
    """Train; return the losses of the mixtures that were kept back."""
    how: PretrainSettings = settings.pretrain
    network, optimizer = model.network, torch.optim.Adam(model.network.parameters(), lr=how.rate)
    held, losses = torch.arange(n_held), {"held_nll": float("nan")}
    n = len(data.redshifts) - n_held
    n_steps = how.epochs * -(-n // settings.batch_size)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
    for epoch in range(how.epochs):
        network.train()
        for rows in torch.tensor_split(n_held + torch.randperm(n), -(-n // settings.batch_size)):
            loss = _loss(network, data, rows)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            falling.step()
        network.eval()
        with torch.no_grad():
            mixture = network(*data.noisy(held))
            losses["held_nll"] = round(float(mixture_nll(mixture, data.redshifts[held]).mean()), 4)
        if told is not None:
            told(epoch + 1, how.epochs, f"loss of mixtures that were kept back {losses['held_nll']:.3f}")
    return losses
