"""Settings of Deepz, its networks and their training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lumos.config import Count, NotNegative, Positive, Seed, StageSettings

__all__ = ["DeepzSettings", "DeepzSizes", "PretrainSettings"]


class DeepzSizes(StageSettings):
    """Which network, and its sizes, by default those of Eriksen et al. 2020."""

    kind: Literal["published", "compact"] = "published"
    """published: autoencoder and mixture density network, for galaxies with all bands. compact: a smaller network that
    also sees errors and takes missing bands; of the sizes it has ``hidden``, ``depth`` and ``components``."""
    hidden: Count = 250
    """Width of the layers."""
    features: Count = 10
    """Features that the autoencoder finds."""
    coder_depth: Count = 5
    """Blocks of the encoder, and of the decoder."""
    first: Count = 400
    """Width of the first layer of the mixture density network."""
    depth: Count = 10
    """Its blocks with dropout."""
    plain_depth: Count = 3
    """Its blocks without dropout."""
    components: Count = 10
    """Gaussians of p(z)."""


class PretrainSettings(StageSettings):
    """Settings of ``lumos photoz-pretrain``."""

    reference: str = "i"
    """Band by whose flux the others are divided."""
    galaxies: Annotated[int, Field(ge=1000)] = 50_000
    """Mixtures of templates that are drawn."""
    epochs: Count = 10
    """Times that training goes through them, each time with other noise."""
    rate: Positive = 1e-3
    """Learning rate at the start; it falls to 0, which 50 000 mixtures need and the 1 000 000 of the paper did not."""
    narrow_snr: Positive = 10.0
    """Signal-to-noise ratio in narrow bands."""
    broad_snr: Positive = 35.0
    """Signal-to-noise ratio in broad bands."""
    network: DeepzSizes = DeepzSizes()
    """Sizes of the network."""


class DeepzSettings(StageSettings):
    """Settings of Deepz: of training on known redshifts, and in ``pretrain`` of training on templates."""

    pretrain: PretrainSettings = PretrainSettings()
    """Training on mixtures of templates."""

    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the galaxies with known redshifts; each is predicted by a network that was trained on the others."""
    splits: Count = 1
    """Ways in which they are parted; p(z) is the mean over them."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Probability with which an exposure is in a coadd of training; each batch has other coadds."""
    batch_size: Annotated[int, Field(ge=2)] = 500
    """Galaxies of a step, of both trainings."""
    epochs: tuple[Seed, ...] = (25, 50, 50, 50)
    """Times that training goes through the galaxies, with each learning rate; in the paper four times as many."""
    rates: tuple[Positive, ...] = (1e-3, 1e-4, 1e-5, 1e-6)
    """Learning rates, one after the other."""
    weight_decay: NotNegative = 1e-4
    """Weight decay."""
    max_ratio: Positive = 10.0
    """A galaxy with a larger ratio of a flux to the flux in the reference band is not learned from."""
    seed: Seed = 0
    """Of mixtures, folds, coadds, order and dropout."""

    @model_validator(mode="after")
    def _an_epoch_for_each_rate(self) -> Self:
        if len(self.epochs) != len(self.rates) or not any(self.epochs):
            text = "as many epochs as rates, and one or more above 0"
            raise ValueError(f"epochs {list(self.epochs)} and rates {list(self.rates)}, allowed: {text}")
        return self
