"""Settings of an API call: given ones with the changes of keywords."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lumos.config import StageSettings, validated
from lumos.errors import LumosValueError
from lumos.settings import Settings, load_settings

__all__ = ["give_settings"]

Stage = TypeVar("Stage", bound=StageSettings)


def give_settings(kind: type[Stage], stage: str, settings: object, changes: Mapping[str, object]) -> Stage:
    """Return the settings of a stage.

    Parameters
    ----------
    kind : type
        Their class.
    stage : str
        Name of the stage.
    settings : str, Path, mapping, StageSettings or None
        YAML file of all stages, settings of this stage, or those of all.
    changes : mapping
        Fields that differ, by name; what is nested may be a mapping.

    Returns
    -------
    StageSettings
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If a key or value is not allowed; the message lists what is.
    LumosValueError
        If ``settings`` is something else.
    """
    if settings is None:
        base = kind()
    elif isinstance(settings, kind):
        base = settings
    elif isinstance(settings, Mapping):
        base = validated(kind, dict(settings), f"lumos.{stage}: settings")
    elif isinstance(settings, Settings | str | Path):
        whole = settings if isinstance(settings, Settings) else load_settings(Path(settings))
        base = getattr(whole, stage)
    else:
        raise LumosValueError("settings", type(settings).__name__, f"a YAML file, a mapping or {kind.__name__}")
    return validated(kind, _merged(base.model_dump(), changes), f"lumos.{stage}") if changes else base


def _merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with some changed."""
    merged = dict(content)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
