"""Load a survey by name or from a YAML file, with errors that name the file, the key and what is allowed."""

import types
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from lumos.errors import LumosConfigError
from lumos.files import parse_yaml, read_text
from lumos.surveys.model import Survey

__all__ = ["load_survey", "read_survey_text", "shipped_surveys"]


def shipped_surveys() -> tuple[str, ...]:
    """Return the names of the surveys that come with the package.

    Returns
    -------
    tuple of str
        Sorted names.
    """
    folder = resources.files("lumos.surveys")
    return tuple(sorted(item.name[: -len(".yaml")] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_survey(name_or_path: str | Path) -> Survey:
    """Return a survey by its name, or read one from a YAML file.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped survey, or the path of a YAML file (ending in ``.yaml`` or ``.yml``).

    Returns
    -------
    Survey
        Checked and immutable.

    Raises
    ------
    LumosConfigError
        If there is no such survey (the shipped ones are listed), the file is not YAML, or a key or value
        is wrong (the file, the key and the allowed keys are named).
    """
    return _parse(read_survey_text(name_or_path), str(name_or_path))


def read_survey_text(name_or_path: str | Path) -> str:
    """Return the text of a survey file.

    Parameters
    ----------
    name_or_path : str or Path
        As of :func:`load_survey`.

    Returns
    -------
    str
        YAML, unchecked.

    Raises
    ------
    LumosConfigError
        If there is no such survey, or the file cannot be read.
    """
    text = str(name_or_path)
    if text in shipped_surveys():
        return resources.files("lumos.surveys").joinpath(f"{text}.yaml").read_text(encoding="utf-8")
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        shipped = ", ".join(shipped_surveys())
        raise LumosConfigError(f"unknown survey {text!r}, allowed: {shipped}, or the path of a YAML file")
    return read_text(path)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping after checking its keys."""
        seen = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(content: str, source: str) -> Survey:
    """Parse YAML text into a survey; every problem becomes one LumosConfigError."""
    data = parse_yaml(content, source, _UniqueKeyLoader)
    if not isinstance(data, dict):
        raise LumosConfigError(f"{source}: a survey file is a mapping, got {type(data).__name__}")
    try:
        return Survey.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_describe(dict(item)) for item in error.errors())
        raise LumosConfigError(f"{source}: {problems}") from error


def _describe(problem: dict[str, Any]) -> str:
    """Describe one pydantic error in one line."""
    where = ".".join(str(part) for part in problem["loc"])
    allowed = ", ".join(_allowed_keys(problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}, allowed here: {allowed}"
    if problem["type"] == "missing":
        return f"missing key {where!r}, keys here: {allowed}"
    return f"{where}: got {problem['input']!r}, {problem['msg']}"


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the level that holds ``location``."""
    level: Any = Survey
    for part in location[:-1]:
        model = _as_model(level)
        level = (
            model.model_fields[part].annotation if model is not None and part in model.model_fields else _item(level)
        )
    model = _as_model(level)
    return sorted(model.model_fields) if model is not None else []


def _as_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    """Return the model behind an annotation, looking through unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, types.UnionType}:
        models = [model for item in get_args(annotation) if (model := _as_model(item)) is not None]
        return models[0] if models else None
    return None


def _item(annotation: Any) -> Any:  # noqa: ANN401
    """Return the type of the items of a tuple or of the values of a mapping."""
    arguments = [item for item in get_args(annotation) if item is not Ellipsis]
    return arguments[-1] if arguments else None
