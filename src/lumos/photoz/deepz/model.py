"""A network of Deepz with what it was trained on, and its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.nets.checkpoint import read_description, read_weights, write_folder
from lumos.nets.model import NetworkConfig
from lumos.photoz.deepz.network import CompactNetwork, DeepzNetwork
from lumos.photoz.deepz.settings import DeepzSizes

__all__ = ["NETWORKS", "DeepzConfig", "DeepzModel", "load_deepz", "save_deepz"]

#: Folder of the networks in the output of ``lumos photoz``.
NETWORKS = "networks"
_TRAINED_ON = "trained_on"
#: Largest factor between the median flux ratios of a table and those of the training.
_MOST_FROM_TRAINING = 50.0


class DeepzConfig(NetworkConfig):
    """Description of a network: ``config.json`` of its folder."""

    architecture: Literal["deepz"] = "deepz"
    """Which network."""
    stage: Literal["pretrained", "trained"]
    """pretrained: on mixtures of templates alone. trained: also on galaxies with known redshifts."""
    bands: tuple[str, ...]
    """Bands, in the order of its inputs."""
    narrow: tuple[bool, ...]
    """Which are narrow."""
    reference: str
    """Band by whose flux the others are divided."""
    redshifts: tuple[float, ...]
    """At which p(z) is given."""
    ratios: tuple[float, ...]
    """Median flux ratio of the template mixtures in each band."""
    network: DeepzSizes = DeepzSizes()
    """Sizes of its layers."""
    training: dict[str, object] = {}
    """What made it."""


@dataclass(frozen=True, eq=False)
class DeepzModel:
    """A network and its description.

    Parameters
    ----------
    config : DeepzConfig
        What it is.
    network : DeepzNetwork or CompactNetwork
        The network.
    trained_on : ndarray of int, shape (m,)
        Identifiers of the galaxies that it was trained on, sorted.
    """

    config: DeepzConfig
    network: DeepzNetwork | CompactNetwork
    trained_on: IntArray

    @classmethod
    def create(cls, config: DeepzConfig) -> "DeepzModel":
        """Make an untrained network.

        Parameters
        ----------
        config : DeepzConfig
            What it shall be.

        Returns
        -------
        DeepzModel
            With the weights that torch's global generator gives.
        """
        kind = DeepzNetwork if config.network.kind == "published" else CompactNetwork
        return cls(config, kind(len(config.bands), config.network), np.zeros(0, dtype=np.int64))

    @property
    def redshifts(self) -> FloatArray:
        """Return the redshifts at which p(z) is given."""
        return np.array(self.config.redshifts)

    def takes(self, ratios: FloatArray, min_bands: int) -> BoolArray:
        """Tell of which galaxies the network can say anything.

        Parameters
        ----------
        ratios : ndarray, shape (n, n_bands)
            Flux ratios; NaN where there is none.
        min_bands : int
            Bands that a galaxy needs where bands may be missing.

        Returns
        -------
        ndarray of bool, shape (n,)
            Those with all bands, or with so many if the network is compact.
        """
        seen = np.isfinite(ratios).sum(axis=1)
        needed = len(self.config.bands) if self.config.network.kind == "published" else min_bands
        return np.asarray(seen >= needed)

    def check_bands(self, bands: Sequence[str], source: Path) -> None:
        """Refuse fluxes that lack a band of the network.

        Parameters
        ----------
        bands : sequence of str
            That there are.
        source : Path
            Where they come from, for messages.

        Raises
        ------
        LumosDataError
            If a band that it was trained on is missing.
        """
        config = self.config
        missing = [band for band in config.bands if band not in bands]
        if missing:
            text = f"no band {missing[0]!r}, which the network {config.name!r} was trained on"
            raise LumosDataError(f"{source}: {text}, needed: {', '.join(config.bands)}")

    def check_units(self, ratios: FloatArray, source: Path) -> None:
        """Refuse bands whose fluxes have another unit than those of the reference band.

        Parameters
        ----------
        ratios : ndarray, shape (n, n_bands)
            Flux ratios in the bands of the network; NaN is left out.
        source : Path
            Where they come from, for messages.

        Raises
        ------
        LumosDataError
            If the median ratio in a band is more than 50 times that of the template mixtures, or less than 1/50.
        """
        config = self.config
        for number, band in enumerate(config.bands):
            seen = ratios[np.isfinite(ratios[:, number]), number]
            # A band in which half the galaxies show no light says nothing of its unit.
            if not len(seen) or not np.median(seen) > 0:
                continue
            factor = float(np.median(seen)) / config.ratios[number]
            if not 1 / _MOST_FROM_TRAINING < factor < _MOST_FROM_TRAINING:
                text = f"fluxes over those in {config.reference!r} are {factor:.3g} times those of training"
                raise LumosDataError(f"{source}: band {band!r}: {text}, allowed: the same unit in all bands")


def save_deepz(model: DeepzModel, folder: Path) -> DeepzModel:
    """Write the folder of a network.

    Parameters
    ----------
    model : DeepzModel
        What to write.
    folder : Path
        Where; made if needed.

    Returns
    -------
    DeepzModel
        With the digest of the weights in its description.
    """
    tensors = dict(model.network.state_dict()) | {_TRAINED_ON: torch.as_tensor(model.trained_on)}
    config = write_folder(tensors, model.config, folder, _card(model))
    return DeepzModel(config, model.network, model.trained_on)


def load_deepz(folder: Path) -> tuple[DeepzModel, ...]:
    """Read the networks of a folder.

    Parameters
    ----------
    folder : Path
        Of one network, or output of ``lumos photoz --method deepz``, of which all networks are read.

    Returns
    -------
    tuple of DeepzModel
        One or more, for the same bands and redshifts, on the CPU.

    Raises
    ------
    LumosConfigError
        If there is none, or it predicts something else.
    LumosDataError
        If one is damaged, or they do not go together.
    """
    several = sorted((folder / NETWORKS).glob("*/config.json"))
    folders = [path.parent for path in several] if several else [folder]
    if not several and not (folder / "config.json").is_file():
        text = "allowed: what `lumos photoz-pretrain` or `lumos photoz --method deepz` wrote"
        raise LumosConfigError(f"{folder}: no network in it, {text}")
    models = tuple(_load(one) for one in folders)
    first = models[0].config
    for model in models[1:]:
        for what in ("bands", "reference", "redshifts", "stage"):
            if getattr(model.config, what) != getattr(first, what):
                raise LumosDataError(f"{folder}: networks with different {what}, allowed: those of one run")
    return models


def _load(folder: Path) -> DeepzModel:
    config = read_description(str(folder), DeepzConfig, "redshift")
    model = DeepzModel.create(config)
    seen: list[torch.Tensor] = []

    def put(tensors: dict[str, torch.Tensor]) -> None:
        model.network.load_state_dict({name: value for name, value in tensors.items() if name != _TRAINED_ON})
        if _TRAINED_ON not in tensors:
            raise RuntimeError(f"no tensor {_TRAINED_ON!r}")
        seen.append(tensors[_TRAINED_ON])

    read_weights(str(folder), config, put)
    model.network.eval()
    return DeepzModel(config, model.network, seen[0].numpy())


def _card(model: DeepzModel) -> str:
    config, n = model.config, len(model.trained_on)
    made = "mixtures of templates" + (f", then on {n} galaxies with known redshifts" if n else " alone")
    return "\n".join(
        [
            f"# {config.name}",
            "",
            f"Deepz: photometric redshifts from fluxes over the flux in {config.reference}, {config.redshifts[0]:g} to",
            f"{config.redshifts[-1]:g}; trained on {made}. Bands: {', '.join(config.bands)}.",
            "",
        ]
    )
