"""Settings of the networks, one class per architecture."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lumos.config import Count, Seed, StageSettings

__all__ = ["Architecture", "BkgnetSettings", "NetworkOwner", "PaperSettings", "ResidualSettings"]

Architecture = Literal["residual", "paper"]


class ResidualSettings(StageSettings):
    """Settings of the residual network, see :class:`lumos.nets.residual.ResidualNetwork`."""

    architecture: Literal["residual"] = Field("residual", exclude=True, repr=False)
    """Stands beside these settings in a file, not among them."""
    channels: tuple[Count, Count, Count] = (24, 48, 96)
    """Channels after the stem and after each of the two strides."""
    blocks: tuple[Seed, Seed, Seed] = (0, 1, 1)
    """Residual blocks at each of the three scales."""
    hidden: Count = 128
    """Width of the two dense layers."""
    n_components: Count = 5
    """Gaussians of the mixture."""
    embedding_dim: Count = 8
    """Length of the embeddings of band and camera state."""
    position: bool = False
    """Whether the place on the CCD is an input."""
    reference: bool = False
    """Whether the catalogue's reference flux is an input."""
    scene: bool = False
    """Whether the light of the neighbours, what the joint fit says of them, and the errors of the shapes are inputs."""
    fovea: bool = False
    """Whether only the middle of the stamps is seen pixel by pixel, and the whole in blocks of 3 x 3."""


class PaperSettings(StageSettings):
    """Settings of the paper's network, see :class:`lumos.nets.paper.PaperNetwork`."""

    #: It always sees the place on the CCD and the catalogue's magnitude.
    position: ClassVar[bool] = True
    reference: ClassVar[bool] = True

    architecture: Literal["paper"] = Field("paper", exclude=True, repr=False)
    """Stands beside these settings in a file, not among them."""
    n_components: Count = 5
    """Gaussians of the mixture."""
    embedding_dim: Count = 10
    """Length of the embedding of band and camera state."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the dense layers' activations that training sets to 0."""


class BkgnetSettings(StageSettings):
    """Settings of the network of backgrounds, see :class:`lumos.nets.bkgnet.BackgroundNetwork`."""

    channels: tuple[Count, Count, Count] = (16, 32, 48)
    """Channels of the three convolutions."""
    hidden: Count = 96
    """Width of the dense layers."""
    embedding_dim: Count = 10
    """Length of the embedding of band and camera state."""
    position: bool = False
    """Whether the place on the CCD is an input."""


class NetworkOwner(StageSettings):
    """What has an architecture, and the settings of that architecture and no other."""

    architecture: Architecture = "residual"
    """Which network."""
    network: Annotated[ResidualSettings | PaperSettings, Field(discriminator="architecture")] = ResidualSettings()
    """Settings of the network."""

    @model_validator(mode="before")
    @classmethod
    def _name_architecture(cls, value: Any) -> Any:  # noqa: ANN401
        """Tell the network's settings which architecture they are of."""
        if not isinstance(value, dict):
            return value
        name, network = value.get("architecture", "residual"), value.get("network", {})
        if name not in ("residual", "paper"):
            return {key: item for key, item in value.items() if key != "network"}
        if isinstance(network, ResidualSettings | PaperSettings):
            network = network.model_dump()
        elif isinstance(network, dict) and "architecture" in network:
            raise ValueError("network.architecture: architecture stands beside network, not in it")
        return {**value, "network": {**network, "architecture": name} if isinstance(network, dict) else network}
