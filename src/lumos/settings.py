"""The settings of all stages: one YAML file, overridden by ``--set stage.field=value``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from lumos.errors import LumosConfigError
from lumos.files import parse_yaml, read_text
from lumos.measure.background_settings import BackgroundSettings
from lumos.measure.settings import CatalogSettings, CoaddSettings, MeasureSettings, PsfSettings
from lumos.simulate.settings import SurveySimulation, read_simulation
from lumos.training.adapt_settings import AdaptSettings
from lumos.training.settings import TrainSettings, read_training

__all__ = ["Settings", "load_settings", "load_simulation", "load_training"]

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Settings of every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: MeasureSettings = MeasureSettings()
    coadd: CoaddSettings = CoaddSettings()
    catalog: CatalogSettings = CatalogSettings()
    psf: PsfSettings = PsfSettings()
    backgrounds: BackgroundSettings = BackgroundSettings()
    adapt: AdaptSettings = AdaptSettings()


def load_settings(config: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read settings from a YAML file and apply overrides.

    Parameters
    ----------
    config : Path, optional
        YAML file with a mapping per stage.
    overrides : sequence of str, optional
        Each ``stage.field=value``, the value in YAML.

    Returns
    -------
    Settings
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If the file cannot be read, or a key or value is not allowed; the message lists what is.
    """
    content: dict[str, Any] = {}
    source = "--set"
    if config is not None:
        source = str(config)
        loaded = parse_yaml(read_text(config), config)
        if loaded is not None and not isinstance(loaded, dict):
            raise LumosConfigError(f"{config}: holds {type(loaded).__name__}, allowed: a mapping per stage")
        content = loaded or {}
    for override in overrides:
        _apply(content, override)
    return _validated(Settings, content, source)


def load_simulation(name_or_path: str, overrides: Sequence[str] = ()) -> SurveySimulation:
    """Read the description of a simulated survey and apply overrides.

    Parameters
    ----------
    name_or_path : str
        Name of a preset, or the path of a YAML file.
    overrides : sequence of str, optional
        Each ``field=value`` or ``group.field=value``, the value in YAML.

    Returns
    -------
    SurveySimulation
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If there is no such preset or file, or a key or value is not allowed; the message lists what is.
    """
    content = read_simulation(name_or_path)
    for override in overrides:
        _apply(content, override)
    return _validated(SurveySimulation, content, name_or_path)


def load_training(name_or_path: str, overrides: Sequence[str] = ()) -> TrainSettings:
    """Read the description of a training run and apply overrides.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped run, or the path of a YAML file.
    overrides : sequence of str, optional
        Each ``field=value`` or ``group.field=value``, the value in YAML.

    Returns
    -------
    TrainSettings
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If there is no such run or file, or a key or value is not allowed; the message lists what is.
    """
    content = read_training(name_or_path)
    for override in overrides:
        _apply(content, override)
    return _validated(TrainSettings, content, name_or_path)


def _validated(model: type[Model], content: dict[str, Any], source: str) -> Model:
    """Check content against a model; the first problem becomes one line."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        keys = _allowed_keys(model, first["loc"]) if first["type"] == "extra_forbidden" else []
        allowed = f"; allowed: {', '.join(keys)}" if keys else ""
        plain = {"extra_forbidden": "no such key", "tuple_type": "must be a list, as [a, b]"}
        text = plain.get(first["type"], first["msg"])
        if {"header", "flux_unit"} & set(content):
            text += " (is this a survey file? give it with --survey)"
        elif first["type"] == "extra_forbidden" and len(first["loc"]) == 1 and source == "--set":
            text += " (write stage.field=value, as measure.stamp_size=40)"
        raise LumosConfigError(f"{source}: {where}: {text}{allowed}") from error


def _apply(content: dict[str, Any], override: str) -> None:
    """Put one ``stage.field=value`` into the nested content."""
    key, equals, value = override.partition("=")
    path = key.split(".")
    if not equals or not all(path):
        raise LumosConfigError(f"--set {override!r}: allowed: stage.field=value")
    for name in path[:-1]:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise LumosConfigError(f"--set {override!r}: {name!r} is a value, not a group of settings")
    content[path[-1]] = parse_yaml(value, f"--set {override[:200]!r}")


def _allowed_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed beside the one at ``location``."""
    for name in location[:-1]:
        model = get_type_hints(model)[str(name)]
    return sorted(model.model_fields)
