"""Model folders: weights, description and card; verified when read, and never a pickle."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lumos.config import validated
from lumos.errors import LumosConfigError, LumosDataError
from lumos.files import file_sha256, read_json, whole_file, write_atomic
from lumos.nets.domain import DomainNetwork
from lumos.nets.model import FluxModel, ModelConfig, NetworkConfig

__all__ = [
    "BACKGROUND",
    "REDSHIFT",
    "Kind",
    "find_model",
    "load_model",
    "read_config",
    "read_description",
    "read_weights",
    "save_model",
    "shipped_models",
    "write_folder",
]

_WEIGHTS, _CONFIG, _CARD = "model.safetensors", "config.json", "README.md"
#: Names of the tensors that tell stamps unlike the training ones begin with this.
_DOMAIN = "domain."
#: Architectures of models that predict backgrounds, and redshifts (:mod:`lumos.photoz.deepz`); others predict fluxes.
BACKGROUND, REDSHIFT = "bkgnet", "deepz"
#: What a model predicts.
Kind = Literal["flux", "background", "redshift"]
#: Where a model of each kind is named.
_PLACES: dict[Kind, str] = {
    "flux": "measure.model",
    "background": "measure.options.aperture.background",
    "redshift": "`lumos photoz --method deepz --model`",
}
#: A settings class of what a model's description says.
Description = TypeVar("Description", bound=NetworkConfig)


def shipped_models(*, of: Kind = "flux") -> tuple[str, ...]:
    """Return the names of the models that come with the package.

    Parameters
    ----------
    of : {"flux", "background", "redshift"}
        What they predict.

    Returns
    -------
    tuple of str
        Sorted names.
    """
    folder = _shipped_folder()
    names = sorted(item.name for item in folder.iterdir() if (item / _CONFIG).is_file()) if folder.is_dir() else []
    return tuple(name for name in names if _predicts(folder / name) == of)


def _predicts(folder: Path) -> Kind:
    kinds: dict[str, Kind] = {BACKGROUND: "background", REDSHIFT: "redshift"}
    return kinds.get(str(read_json(folder / _CONFIG).get("architecture")), "flux")


def _shipped_folder() -> Path:
    # As a package on disk: safetensors maps the file.
    return Path(str(resources.files("lumos"))) / "models"


def save_model(model: FluxModel, folder: Path, card: str, *, half: bool = False) -> ModelConfig:
    """Write a model folder.

    Parameters
    ----------
    model : FluxModel
        What to write.
    folder, card, half
        As of :func:`write_folder`.

    Returns
    -------
    ModelConfig
        The description with the digest.
    """
    tensors = dict(model.network.state_dict())
    if model.domain is not None:
        tensors |= {_DOMAIN + name: value for name, value in model.domain.state_dict().items()}
    return write_folder(tensors, model.config, folder, card, half=half)


def write_folder(
    tensors: Mapping[str, torch.Tensor], config: Description, folder: Path, card: str, *, half: bool = False
) -> Description:
    """Write a model folder: ``model.safetensors``, ``config.json`` with the digest of the weights, ``README.md``.

    Parameters
    ----------
    tensors : mapping
        The weights.
    config : StampConfig
        The description.
    folder : Path
        Where; made if needed.
    card : str
        Text of ``README.md``.
    half : bool, optional
        Keep weights in half precision; they are single again when read.

    Returns
    -------
    NetworkConfig
        The description with the digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    with whole_file(folder / _WEIGHTS) as temporary:
        save_file(tensors, temporary)
    config = config.model_copy(update={"sha256": file_sha256(folder / _WEIGHTS)})
    write_atomic(folder / _CARD, card)
    write_atomic(folder / _CONFIG, config.model_dump_json(indent=1) + "\n")
    return config


def find_model(name_or_path: str) -> Path:
    """Return the folder of a model.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped model, or a folder.

    Returns
    -------
    Path
        Folder with ``config.json``.

    Raises
    ------
    LumosConfigError
        If there is no such model; the shipped ones are listed.
    """
    shipped = _shipped_folder() / name_or_path
    if shipped.parent == _shipped_folder() and (shipped / _CONFIG).is_file():
        return shipped
    folder = Path(name_or_path)
    if not (folder / _CONFIG).is_file():
        allowed = ", ".join(sorted(shipped_models() + shipped_models(of="background")))
        raise LumosConfigError(f"no model {name_or_path!r}, allowed: {allowed}, or a folder with {_CONFIG}")
    return folder


def read_config(name_or_path: str) -> ModelConfig:
    """Read the description of a model.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped model, or a folder.

    Returns
    -------
    ModelConfig
        The description.

    Raises
    ------
    LumosConfigError
        If there is no such model, or it predicts backgrounds.
    LumosDataError
        If the description is damaged, or names an architecture that this version does not have.
    """
    return read_description(name_or_path, ModelConfig, "flux")


def read_description(name_or_path: str, kind: type[Description], of: Kind) -> Description:
    """Read the description of a model of one kind.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped model, or a folder.
    kind : type
        Class of the description.
    of : {"flux", "background", "redshift"}
        What the model must predict.

    Returns
    -------
    NetworkConfig
        The description.

    Raises
    ------
    LumosConfigError
        If there is no such model, or it predicts something else.
    LumosDataError
        If the description is damaged.
    """
    folder = find_model(name_or_path)
    found = _predicts(folder)
    if found != of:
        allowed = ", ".join([*shipped_models(of=of), f"a folder with {_CONFIG} of such a model"])
        text = f"model {name_or_path!r} predicts a {found}, for {_PLACES[found]}, not a {of}"
        raise LumosConfigError(f"{text}, allowed: {allowed}")
    try:
        return validated(kind, read_json(folder / _CONFIG), folder / _CONFIG)
    except LumosConfigError as error:
        raise LumosDataError(str(error)) from error


def load_model(name_or_path: str) -> FluxModel:
    """Read a model and verify it.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped model, or a folder.

    Returns
    -------
    FluxModel
        Ready to use, on the CPU.

    Raises
    ------
    LumosConfigError
        If there is no such model.
    LumosDataError
        If the weights differ from the digest in the description, are truncated, do not fit the network, or are
        not finite.
    """
    config = read_config(name_or_path)
    model = FluxModel.create(config)
    domain: DomainNetwork | None = None

    def put(tensors: dict[str, torch.Tensor]) -> None:
        nonlocal domain
        own = {name: value for name, value in tensors.items() if not name.startswith(_DOMAIN)}
        model.network.load_state_dict(own)
        domain = _domain({name: tensors[name] for name in tensors.keys() - own.keys()})

    read_weights(name_or_path, config, put)
    model.network.eval()
    return replace(model, domain=domain)


def read_weights(name_or_path: str, config: NetworkConfig, put: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Read the weights of a model and verify them.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped model, or a folder.
    config : StampConfig
        Its description.
    put : callable
        Puts the tensors, by their names, into the network.

    Raises
    ------
    LumosDataError
        As of :func:`load_model`.
    """
    path = find_model(name_or_path) / _WEIGHTS
    if file_sha256(path) != config.sha256:
        raise LumosDataError(f"{path}: sha256 differs from that in {_CONFIG}: changed, truncated, or of another model")
    try:
        tensors = load_file(path)
        put(tensors)
    except (SafetensorError, RuntimeError, LumosConfigError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LumosDataError(f"{path}: does not fit architecture {config.architecture!r} ({reason})") from error
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise LumosDataError(f"{path}: {bad[0]} holds values that are not finite, allowed: finite weights")


def _domain(tensors: dict[str, torch.Tensor]) -> DomainNetwork | None:
    """Return the network of the domain; None for models without one."""
    if not tensors:
        return None
    named = {name.removeprefix(_DOMAIN): value for name, value in tensors.items()}
    n_areas = len(named["areas"]) if "areas" in named else 1
    domain = DomainNetwork(len(named["knots"]) if "knots" in named else 2, n_areas)
    # Models made before answers were compared by place have neither a network for that nor a table by area.
    same = {name: value for name, value in domain.state_dict().items() if name.startswith("norm.") or name == "areas"}
    if "table" in named and named["table"].ndim == 2:
        named["table"] = named["table"][None]
    domain.load_state_dict(same | named)
    return domain.eval()
