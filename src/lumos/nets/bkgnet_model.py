"""Models of backgrounds: a BKGnet with its description, what it makes of stamps, its folder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lumos.errors import LumosDataError, LumosShapeError
from lumos.estimators import StampBatch
from lumos.estimators.optimal import optimal
from lumos.nets.bkgnet import BackgroundInputs, BackgroundNetwork, background_inputs, elliptical_hole
from lumos.nets.checkpoint import read_description, read_weights, write_folder
from lumos.nets.estimator import bin_stamps
from lumos.nets.model import StampConfig
from lumos.nets.settings import BkgnetSettings
from lumos.rows import Rowwise

__all__ = ["BackgroundConfig", "BackgroundModel", "Backgrounds", "load_background_model", "save_background_model"]


class BackgroundConfig(StampConfig):
    """Description of a model of backgrounds: ``config.json`` of its folder."""

    architecture: Literal["bkgnet"] = "bkgnet"
    """Which network."""
    network: BkgnetSettings = BkgnetSettings()
    """Settings of the network."""


@dataclass(frozen=True)
class Backgrounds(Rowwise):
    """Backgrounds of n objects.

    Parameters
    ----------
    level, level_err : tensor, shape (n,)
        Per pixel and its error for noise without correlation, image units; NaN where the network cannot tell.
    """

    level: Tensor
    level_err: Tensor


@dataclass(frozen=True)
class BackgroundModel:
    """A network of backgrounds and its description.

    Parameters
    ----------
    config : BackgroundConfig
        What it is.
    network : BackgroundNetwork
        The network; see :meth:`create` for an untrained one.
    """

    config: BackgroundConfig
    network: BackgroundNetwork

    @classmethod
    def create(cls, config: BackgroundConfig) -> "BackgroundModel":
        """Make an untrained model.

        Parameters
        ----------
        config : BackgroundConfig
            What it shall be.

        Returns
        -------
        BackgroundModel
            With the weights that torch's global generator gives.
        """
        n_states = max(1, len(config.bands)) * max(1, len(config.states))
        return cls(config, BackgroundNetwork(config.network, n_states))

    def inputs(self, batch: StampBatch) -> BackgroundInputs:
        """Prepare stamps that objects are measured on.

        Parameters
        ----------
        batch : StampBatch
            n objects with a context; stamps of a multiple of the model's size are binned to it.

        Returns
        -------
        BackgroundInputs
            Of n objects, in units of binned pixels.

        Raises
        ------
        LumosShapeError
            If the stamps are of another size.
        LumosDataError
            If the model does not know the band or camera state, or there is no context.
        """
        context, size = batch.context, batch.data.shape[1]
        if context is None:
            raise LumosDataError(f"model {self.config.name!r} needs band, camera state and place of each object")
        if size % self.config.stamp_size or batch.data.shape[1] != batch.data.shape[2]:
            allowed = f"{self.config.stamp_size} x {self.config.stamp_size} px or a multiple"
            raise LumosShapeError("stamps", tuple(batch.data.shape[1:]), allowed)
        own = _own_flux(batch)
        batch = bin_stamps(batch, size // self.config.stamp_size)
        hole = elliptical_hole((batch.data.shape[1], batch.data.shape[2]), batch.x, batch.y, batch.ellipses)
        band, state = self.config.rows_of(context.band, context.state)
        row = (band or 0) * max(1, len(self.config.states)) + (state or 0)
        return background_inputs(
            batch.data - own[:, None, None] * batch.profile,
            batch.good & ~hole,
            batch.sky_variance,
            batch.background - own * batch.own_light,
            batch.background_err,
            torch.stack([context.ccd_x, context.ccd_y], 1),
            torch.full((len(batch),), row),
        )

    @torch.no_grad()
    def predict(self, inputs: BackgroundInputs, *, batch_size: int = 512) -> Backgrounds:
        """Return the backgrounds of stamps.

        Parameters
        ----------
        inputs : BackgroundInputs
            n objects.
        batch_size : int
            Objects at a time.

        Returns
        -------
        Backgrounds
            Image units of the pixels of the inputs; NaN where the network cannot tell: there is no annulus, too little
            is seen, or the stamp is outside the domain of the training.
        """
        self.network.eval()
        known = inputs.usable.clone()
        for name, values in inputs.properties().items():
            low, high = self.config.domain.get(name, (-torch.inf, torch.inf))
            known &= (values >= low) & (values <= high)
        levels, errors = [], []
        for start in range(0, max(1, len(inputs)), batch_size):
            some = inputs.take(slice(start, start + batch_size))
            level, log_err = self.network(some)
            levels.append(some.centre + some.unit * level)
            errors.append(some.unit * log_err.exp())
        return Backgrounds(*(torch.cat(part).masked_fill(~known, torch.nan) for part in (levels, errors)))

    def replace_background(self, batch: StampBatch) -> tuple[StampBatch, Tensor]:
        """Put the model's backgrounds into stamps.

        Parameters
        ----------
        batch : StampBatch
            n objects with a context.

        Returns
        -------
        batch : StampBatch
            With its level and error; the annulus' where the model cannot tell.
        known : tensor, shape (n,), bool
            Where it can.

        Raises
        ------
        LumosShapeError, LumosDataError
            As of :meth:`inputs`.
        """
        found = self.predict(self.inputs(batch))
        area = (batch.data.shape[1] // self.config.stamp_size) ** 2
        known = torch.isfinite(found.level)
        changed = replace(
            batch,
            background=torch.where(known, found.level / area, batch.background),
            background_err=torch.where(known, found.level_err / area, batch.background_err),
            own_light=torch.where(known, 0.0, batch.own_light),
        )
        return changed, known


def _own_flux(batch: StampBatch) -> Tensor:
    """Return the flux with which objects are taken off their stamps: what lies outside the mask shall be sky.

    Parameters
    ----------
    batch : StampBatch
        n objects.

    Returns
    -------
    tensor, shape (n,)
        The joint flux where neighbours have been subtracted with it, else that of optimal weights; 0 where unknown.
    """
    cleaned = batch.scene is not None and batch.scene.is_cleaned
    flux = batch.scene.flux if cleaned and batch.scene is not None else optimal(batch).flux
    return flux.nan_to_num(posinf=0.0, neginf=0.0)


def save_background_model(model: BackgroundModel, folder: Path, card: str, *, half: bool = False) -> BackgroundConfig:
    """Write a model folder.

    Parameters
    ----------
    model : BackgroundModel
        What to write.
    folder, card, half
        As of :func:`lumos.nets.checkpoint.write_folder`.

    Returns
    -------
    BackgroundConfig
        The description with the digest.
    """
    return write_folder(model.network.state_dict(), model.config, folder, card, half=half)


def load_background_model(name_or_path: str) -> BackgroundModel:
    """Read a model of backgrounds and verify it.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped model, or a folder.

    Returns
    -------
    BackgroundModel
        Ready to use, on the CPU.

    Raises
    ------
    LumosConfigError
        If there is no such model, or it predicts fluxes.
    LumosDataError
        If it is damaged.
    """
    config = read_description(name_or_path, BackgroundConfig, "background")
    model = BackgroundModel.create(config)
    read_weights(name_or_path, config, model.network.load_state_dict)
    model.network.eval()
    return model
