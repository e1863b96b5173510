"""The description of a training run: what ``lumos train`` reads, and the runs that come with the package."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lumos.config import Count, NotNegative, Positive, Seed, StageSettings, read_shipped_yaml, shipped_yaml
from lumos.nets.settings import BkgnetSettings, NetworkOwner, ResidualSettings
from lumos.teahupoo.settings import StampSettings

__all__ = [
    "LEAST_SIDE",
    "BackgroundTraining",
    "OptimizerSettings",
    "PoolSettings",
    "TrainSettings",
    "read_training",
    "shipped_runs",
]

#: Least side of backgrounds for frames, pixels: stamps at their edge are not used.
LEAST_SIDE = 240


class PoolSettings(StageSettings):
    """Where the background stamps come from: pools on disk, or a simulated survey that is made first."""

    paths: tuple[Path, ...] = ()
    """Folders that ``lumos backgrounds`` made."""
    simulate: str | None = None
    """Preset or YAML file of a survey to simulate."""
    overrides: tuple[str, ...] = ()
    """Changes of that survey, each ``group.field=value``."""
    n_per_exposure: Count = 200
    """Number of stamps cut from each CCD."""
    side: Annotated[int, Field(ge=20, le=1000, multiple_of=2)] = 96
    """Side of the stored stamps; from larger ones a stamp is cut at a random place each time it is used."""
    max_scatter_ratio: Annotated[float, Field(gt=1)] = 3.0
    """A CCD of the survey is refused as by ``backgrounds.max_scatter_ratio``."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == (self.simulate is not None):
            raise ValueError("give either paths or simulate")
        return self


class OptimizerSettings(StageSettings):
    """How the weights are fitted."""

    batch_size: Count = 256
    """Number of stamps in a training step."""
    passes: Count = 1
    """How often the stamps of a simulated batch are learnt from, each time in another order and turned anew."""
    learning_rate: Positive = 1e-3
    """Largest learning rate."""
    schedule: Literal["cosine", "step"] = "cosine"
    """Fall to nearly 0 along a cosine after a short rise, or by a factor of 10 at each of ``step_at``."""
    step_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Shares of the run after which the rate falls."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the run over which the rate rises."""
    weight_decay: NotNegative = 1e-4
    """Weight decay of the optimiser AdamW; 0 makes it Adam."""
    clip: NotNegative = 1.0
    """Largest norm of the gradient; 0: none."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights; 0: none."""


class TrainSettings(NetworkOwner):
    """A training run."""

    name: str
    """Name of the model."""
    text: str = ""
    """What the model is, in a sentence; for its card."""
    kind: Literal["likelihood", "posterior"] = "likelihood"
    """What the PDFs are; fluxes come from the proposal density or from the population accordingly."""
    per_band: bool = False
    """Whether band and camera state are inputs."""
    profile_image: bool = True
    """Whether the network sees the image of the profile."""
    cut_from: float | None = None
    """Reference magnitude from which components are cut at flux 0 (eq. 10 of the paper)."""
    start: str | None = None
    """Model, a shipped one or a folder, whose weights training starts from; its network may only be given less."""
    pool: PoolSettings | None = None
    """Where the background stamps come from; null: frames full of galaxies, for networks on scenes."""
    stamps: StampSettings = StampSettings()
    """How stamps are simulated."""
    n_stamps: Count = 1_000_000
    """Number of stamps that training sees in all."""
    n_distinct: Seed = 0
    """Number of different stamps, after which they repeat; 0: every stamp is new."""
    flips: bool = False
    """Mirror and turn stamps at random; must be false if the place on the CCD is an input."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """How the weights are fitted."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's convolutions."""
    weights: Literal["float32", "float16"] = "float32"
    """How the trained weights are rounded and kept."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to simulate and train; auto takes a GPU if there is one."""
    workers: Seed = 0
    """Processes that simulate, on the CPU; 0: the training process itself."""
    n_validation: Count = 8192
    """Stamps of the validation set, from exposures that training does not see."""
    validate_every: Count = 100_000
    """Stamps between two validations; the run can be resumed from each."""
    seed: Seed = 1
    """Seed of weights, stamps and turns."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        proposed = self.stamps.flux_from == "proposal"
        if proposed != (self.kind == "likelihood"):
            wanted = "proposal" if self.kind == "likelihood" else "population"
            raise ValueError(f"kind={self.kind} needs stamps.flux_from={wanted}")
        on_scenes = isinstance(self.network, ResidualSettings) and self.network.scene
        if self.pool is None and not on_scenes:
            raise ValueError("network.scene must be true where there is no pool")
        if self.pool is None and (self.kind != "likelihood" or self.per_band):
            raise ValueError("frames, which a run without a pool has, are for likelihoods of any band")
        if self.pool is not None and self.pool.simulate is not None and on_scenes and self.pool.side < LEAST_SIDE:
            allowed = f"allowed with network.scene: {LEAST_SIDE} or more"
            raise ValueError(f"pool.side={self.pool.side} is too small for frames, {allowed}")
        if self.flips and self.network.position:
            raise ValueError("flips must be false where the place on the CCD is an input")
        return self


class BackgroundTraining(StageSettings):
    """A training run of a network that predicts backgrounds."""

    architecture: Literal["bkgnet"]
    """Tells such a run from one of a network of fluxes."""
    name: str
    """Name of the model."""
    text: str = ""
    """What the model is, in a sentence; for its card."""
    per_band: bool = False
    """Whether band and camera state are inputs."""
    network: BkgnetSettings = BkgnetSettings()
    """Settings of the network."""
    pool: PoolSettings
    """Where the background stamps come from; each time one is used, a stamp is cut from it at a random place."""
    half_light_radius: tuple[Positive, Positive] = (1.5, 10.0)
    """Range of the half-light radii, in pixels along the major axis, of the objects that are masked in training."""
    sources: NotNegative = 0.0
    """Sources that no catalogue has, per million pixels, put on the stamps; the truth is the sky without them."""
    source_flux: tuple[Positive, Positive] = (5.0, 10_000.0)
    """Range of their total fluxes, in units of the noise of a pixel."""
    gradient: NotNegative = 0.0
    """Scatter of gradients that are added to stamps, along x and y, in units of the noise of a pixel per pixel; each
    stamp has a random share of it."""
    n_stamps: Count = 250_000
    """Number of stamps that training sees in all."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """How the weights are fitted."""
    weights: Literal["float32", "float16"] = "float16"
    """How the trained weights are rounded and kept."""
    n_validation: Count = 8192
    """Stamps of the validation set, from exposures that training does not see."""
    validate_every: Count = 50_000
    """Stamps between two validations; the run can be resumed from each."""
    seed: Seed = 1
    """Seed of weights, stamps and turns."""


def shipped_runs() -> tuple[str, ...]:
    """Return the names of the training runs that come with the package.

    Returns
    -------
    tuple of str
        Names for ``lumos train``, sorted.
    """
    return shipped_yaml("lumos.training", "runs")


def read_training(name_or_path: str) -> dict[str, object]:
    """Read the description of a training run, unchecked.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped run, or the path of a YAML file (ending in ``.yaml`` or ``.yml``).

    Returns
    -------
    dict
        Content of the file. Where it names another run as ``base``, that one's content with this one's on top.

    Raises
    ------
    LumosConfigError
        If there is no such run (they are listed) or the file cannot be read or holds no mapping.
    """
    content = read_shipped_yaml("lumos.training", "runs", "training run", name_or_path)
    base = content.pop("base", None)
    if base is None:
        return content
    merged: dict[str, object] = _merged(read_training(str(base)), content)
    return merged


def _merged(base: dict[str, object], top: dict[str, Any]) -> dict[str, Any]:
    """Return nested mappings with the values of ``top`` in place of those of ``base``.

    A network of another architecture takes other arguments: what ``top`` says of it stands alone.
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and not (key == "network" and "architecture" in top):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged
