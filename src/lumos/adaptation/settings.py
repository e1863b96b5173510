"""Settings of ``lumos adapt``."""

from typing import Annotated, Literal

from pydantic import Field

from lumos.config import Count, NotNegative, Positive, Seed, StageSettings

__all__ = ["AdaptSettings"]


class AdaptSettings(StageSettings):
    """How a model is adapted to the exposures of a run; the defaults of the training are those of the paper."""

    layers: Literal["head", "dense", "all"] = "head"
    """What is trained: the last linear layer, all dense layers, or all layers (58 kB of memory per stamp)."""
    supervised_weight: NotNegative = 1.0
    """Weight of the loss of injected galaxies, whose fluxes are known."""
    unsupervised_weight: NotNegative = 1.0
    """Weight of the loss of pairs of exposures, whose fluxes must agree."""
    epochs: Count = 100
    """Passes through the larger of the two sets, pairs and injected galaxies."""
    learning_rate: Positive = 1e-5
    """Learning rate of the optimiser Adam."""
    step_at: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the epochs after which the rate falls by a factor of 10; 1: never."""
    batch_size: Count = 500
    """Number of pairs, and of injected galaxies, in a training step."""
    n_pairs: Count = 20_000
    """Largest number of pairs of exposures for training, and for the test."""
    n_injected: Count = 20_000
    """Galaxies to inject for training and test together, as far as the exposures have room."""
    injection_rounds: Count = 20
    """How often galaxies are injected into one CCD at most, each time at new places."""
    injection_distance: Positive = 60.0
    """Smallest distance between galaxies that are injected at the same time, pixels."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the sky that is held out: it only tests the model."""
    max_bias_change: NotNegative = 0.01
    """The median relative bias of injected galaxies, in bins of signal-to-noise ratio, may grow by this plus twice its
    sampling error."""
    max_pit_change: NotNegative = 0.01
    """The Kolmogorov-Smirnov distance of the injected galaxies' PIT from uniform may grow by this; in bins of
    signal-to-noise ratio, those below 5 included, by this plus twice its sampling error."""
    max_pull_change: NotNegative = 0.05
    """In every bin of signal-to-noise ratio, those below 5 included, the injected galaxies' bias in units of the error,
    and the departure of the width of their pulls from 1, may grow by this plus twice its sampling error."""
    seed: Seed = 1
    """Seed of pairs, injections and the order of training."""
