"""The settings of all stages: one YAML file, overridden by ``--set stage.field=value``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lumos.errors import LumosConfigError
from lumos.measure.settings import CatalogSettings, MeasureSettings, PsfSettings

__all__ = ["Settings", "load_settings"]


class Settings(BaseModel):
    """Settings of every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: MeasureSettings = MeasureSettings()
    catalog: CatalogSettings = CatalogSettings()
    psf: PsfSettings = PsfSettings()


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
        try:
            loaded = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise LumosConfigError(f"{config}: cannot be read ({' '.join(str(error).split())})") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise LumosConfigError(f"{config}: holds {type(loaded).__name__}, allowed: a mapping per stage")
        content = loaded or {}
    for override in overrides:
        _apply(content, override)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        allowed = f"; allowed: {', '.join(_allowed_keys(first['loc']))}" if first["type"] == "extra_forbidden" else ""
        raise LumosConfigError(f"{source}: {where}: {first['msg']}{allowed}") from error


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
    try:
        content[path[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise LumosConfigError(f"--set {override!r}: the value is not YAML") from error


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed beside the one at ``location``."""
    model: type[BaseModel] = Settings
    for name in location[:-1]:
        model = get_type_hints(model)[str(name)]
    return sorted(model.model_fields)
