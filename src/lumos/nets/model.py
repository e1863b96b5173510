"""A network with all that is needed to use it: what it was trained for, its inputs and the unit of its output."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from lumos.background.geometry import StampGeometry
from lumos.config import Count, Positive, StageSettings
from lumos.conventions import BoolArray, FloatArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.estimators import StampBatch
from lumos.estimators.base import NoiseFactor
from lumos.nets.domain import DomainNetwork
from lumos.nets.domain_box import box_score
from lumos.nets.inputs import NetworkInputs, SideInputs, residual_inputs
from lumos.nets.mdn import MixtureHead, MixtureOutput
from lumos.nets.paper import PaperNetwork, paper_inputs
from lumos.nets.residual import ResidualNetwork
from lumos.nets.settings import Architecture, NetworkOwner, PaperSettings, ResidualSettings

__all__ = ["FluxModel", "ModelConfig", "NetworkConfig", "StampConfig"]


class NetworkConfig(StageSettings):
    """What the description of any model says."""

    name: str
    """Name of the model."""
    architecture: str
    """Which network."""
    sha256: str = ""
    """Digest of the weights' file."""


class StampConfig(NetworkConfig):
    """What the description of any model of stamps says."""

    bands: tuple[str, ...] = ()
    """Bands that it was trained on, in the order of its embedding; none: any band."""
    states: tuple[str, ...] = ()
    """Camera states, in the order of its embedding; none: any state."""
    stamp_size: Count = 60
    """Side of its stamps in pixels."""
    annulus_inner: Positive = 30.0
    """Inner radius of the background annulus of its stamps in pixels."""
    annulus_outer: Positive = 45.0
    """Outer radius of the background annulus of its stamps in pixels."""
    domain: dict[str, tuple[float, float]] = {}
    """Range of each property of the training stamps."""
    training: dict[str, object] = {}
    """The run that made it."""
    metrics: dict[str, float] = {}
    """What was measured on validation stamps."""

    @property
    def geometry(self) -> StampGeometry:
        """Return the stamp and annulus that it was trained on."""
        return StampGeometry(self.stamp_size, self.annulus_inner, self.annulus_outer)

    def check_geometry(self, geometry: StampGeometry) -> None:
        """Refuse stamps that the model does not know.

        Parameters
        ----------
        geometry : StampGeometry
            Stamp and annulus of a run.

        Raises
        ------
        LumosConfigError
            If they are not a whole number of times those of the model's training.
        """
        if not geometry.is_multiple_of(self.geometry):
            trained = f"model {self.name!r} was trained on {self.geometry}"
            raise LumosConfigError(f"{trained}; the run has {geometry}, allowed: the same, or all a multiple of it")

    def rows_of(self, band: str, state: str) -> tuple[int | None, int | None]:
        """Return the rows of the embeddings for the objects of an exposure.

        Parameters
        ----------
        band, state : str
            Of the exposure.

        Returns
        -------
        band, state : int or None
            None where the model takes any.

        Raises
        ------
        LumosDataError
            If the model was not trained on the band or the state.
        """
        rows = []
        for what, name, known in (("band", band, self.bands), ("state", state, self.states)):
            if known and name not in known:
                raise LumosDataError(f"model {self.name!r} does not know {what} {name!r}, allowed: {', '.join(known)}")
            rows.append(known.index(name) if known else None)
        return rows[0], rows[1]


class ModelConfig(NetworkOwner, StampConfig):
    """Description of a model: ``config.json`` of its folder."""

    architecture: Architecture
    """Which network."""
    kind: Literal["likelihood", "posterior"]
    """Whether its PDFs are the pixels' likelihood, or hold the training fluxes' distribution as a prior."""
    input_version: Literal[1, 2] = 1
    """What its inputs are: 1: stamps, 2: stamps without their neighbours, and what the joint fit of the scene says."""
    profile_image: bool = True
    """Whether the network sees the image of the profile."""
    cut_from: float | None = None
    """Reference magnitude from which components are cut at flux 0; null: never."""

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        on_scenes = isinstance(self.network, ResidualSettings) and self.network.scene
        if on_scenes != (self.input_version == 2):
            raise ValueError(f"input_version={self.input_version} does not fit network.scene={on_scenes}")
        return self

    @property
    def position(self) -> bool:
        """Return whether the place on the CCD is an input."""
        return self.network.position

    @property
    def reference(self) -> bool:
        """Return whether the catalogue's magnitude is an input."""
        return self.network.reference


@dataclass(frozen=True)
class FluxModel:
    """A network and its description.

    Parameters
    ----------
    config : ModelConfig
        What it is.
    network : torch.nn.Module
        The network; see :meth:`create` for an untrained one.
    domain : DomainNetwork, optional
        Tells stamps that are unlike the training ones.
    """

    config: ModelConfig
    network: nn.Module
    domain: DomainNetwork | None = None

    @classmethod
    def create(cls, config: ModelConfig) -> "FluxModel":
        """Make an untrained model.

        Parameters
        ----------
        config : ModelConfig
            What it shall be.

        Returns
        -------
        FluxModel
            With the weights that torch's global generator gives.
        """
        n_bands, n_states = max(1, len(config.bands)), max(1, len(config.states))
        if isinstance(config.network, PaperSettings):
            network: nn.Module = PaperNetwork(n_states=n_bands * n_states, **config.network.model_dump())
        else:
            network = ResidualNetwork(config.network, n_bands=n_bands, n_states=n_states)
        return cls(config, network)

    @property
    def n_components(self) -> int:
        """Return the number of Gaussians of its PDFs."""
        head = self.network.get_submodule("head")
        assert isinstance(head, MixtureHead)
        return head.n_components

    def inputs(self, batch: StampBatch, side: SideInputs, noise_factor: NoiseFactor | None = None) -> NetworkInputs:
        """Prepare stamps for the network.

        Parameters
        ----------
        batch : StampBatch
            n objects.
        side : SideInputs
            What else is known of them.
        noise_factor : callable, optional
            Correlation of the pixels' noise.

        Returns
        -------
        NetworkInputs
            Of n objects.
        """
        config = self.config
        if config.architecture == "paper":
            n_states = max(1, len(config.states))
            return paper_inputs(batch, side, n_states=n_states, profile_image=config.profile_image)
        inputs = residual_inputs(
            batch,
            side,
            noise_factor,
            position=config.position,
            reference=config.reference,
            scene=config.input_version == 2,
        )
        if not config.profile_image:
            inputs.images[:, 1:3] = 0
        return inputs

    @torch.no_grad()
    def predict(self, inputs: NetworkInputs, *, batch_size: int = 256, bfloat16: bool = False) -> MixtureOutput:
        """Return the flux PDFs of stamps.

        Parameters
        ----------
        inputs : NetworkInputs
            n objects.
        batch_size : int
            Objects at a time; more than a few hundred do not fit into a processor's cache.
        bfloat16 : bool
            Compute the convolutions in bfloat16.

        Returns
        -------
        MixtureOutput
            In image units; NaN for objects that cannot be measured.
        """
        self.network.eval()
        parts = []
        for start in range(0, max(1, len(inputs)), batch_size):
            some = inputs.take(slice(start, start + batch_size))
            with torch.autocast(some.images.device.type, torch.bfloat16, enabled=bfloat16):
                output: MixtureOutput = self.network(some.images, some.scalars, some.index)
            output = output.scaled(some.unit, some.centre).widened(some.widening)
            parts.append([value.masked_fill(~some.usable[:, None], torch.nan) for value in output.parameters])
        return MixtureOutput(*(torch.cat(values) for values in zip(*parts, strict=True)))

    @torch.no_grad()
    def ood_score(self, inputs: NetworkInputs, output: MixtureOutput) -> Tensor:
        """Return how far stamps lie from the training domain.

        Parameters
        ----------
        inputs : NetworkInputs
            n objects.
        output : MixtureOutput
            Their PDFs, from :meth:`predict`.

        Returns
        -------
        tensor, shape (n,)
            Above 1 is outside; NaN for objects that cannot be measured, and where the model has no domain.
        """
        score = torch.full_like(inputs.unit, torch.nan)
        if self.config.domain:
            score = box_score(inputs, self.config.architecture, self.config.domain)
        if self.domain is not None:
            # Inside the box its distances say nothing.
            score = torch.where(score > 1, score, 0.0)
            score = torch.maximum(score, self.domain.score(inputs, output))
        return score.masked_fill(~inputs.usable, torch.nan)

    def is_cut(self, ref_mag: FloatArray | None, n: int) -> BoolArray:
        """Return which PDFs have their components cut at flux 0.

        Parameters
        ----------
        ref_mag : float array, shape (n,), or None
            Reference magnitudes.
        n : int
            Number of objects.

        Returns
        -------
        bool array, shape (n,)
            True for cut ones.
        """
        if self.config.cut_from is None or ref_mag is None:
            return np.zeros(n, dtype=np.bool_)
        return np.asarray(~(np.asarray(ref_mag) < self.config.cut_from))
