"""Settings: the base of every settings class, one reader of YAML, ``--set``, and errors that name what is allowed."""

import types
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumos.errors import LumosConfigError, one_line
from lumos.files import read_text

__all__ = [
    "Count",
    "NotNegative",
    "Positive",
    "Seed",
    "StageSettings",
    "apply_override",
    "parse_yaml",
    "read_shipped_yaml",
    "read_yaml",
    "shipped_text",
    "shipped_yaml",
    "validated",
]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Model = TypeVar("Model", bound=BaseModel)

#: Values that a YAML file may hold, each alias counted as what it stands for.
_MOST_VALUES = 1_000_000
#: What pydantic says of a value, in words of the file.
_PLAIN = {"tuple_type": "must be a list, as [a, b]"}


class StageSettings(BaseModel):
    """Base of settings: immutable, unknown keys and infinite numbers refused, fields described by their docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


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


def parse_yaml(text: str, source: object) -> Any:  # noqa: ANN401
    """Parse YAML.

    Parameters
    ----------
    text : str
        YAML.
    source : object
        Where it comes from, for messages.

    Returns
    -------
    object
        Plain data.

    Raises
    ------
    LumosConfigError
        If it is not YAML, gives a key twice, is nested too deep, or its aliases make it larger than a million values.
    """
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except RecursionError as error:
        raise LumosConfigError(f"{source}: cannot be read (nested too deep)") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        # A date of the 13th month is a ValueError.
        raise LumosConfigError(f"{source}: cannot be read, not YAML ({one_line(error)[:500]})") from error
    # Aliases of aliases, or one of what it stands in, are small in a file and without end for who walks through them.
    left, seen = [content], 0
    while left:
        item, seen = left.pop(), seen + 1
        if seen > _MOST_VALUES:
            raise LumosConfigError(f"{source}: its aliases stand for more than the {_MOST_VALUES} values allowed")
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
    return content


def read_yaml(path: Path, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Parameters
    ----------
    path : Path
        The file.
    may_be_empty : bool, optional
        Take a file without content for an empty mapping.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    LumosConfigError
        If it cannot be read, is damaged, or holds something else.
    """
    return _mapping(read_text(path), path, may_be_empty=may_be_empty)


def _mapping(text: str, source: object, *, may_be_empty: bool = False) -> dict[str, Any]:
    content = parse_yaml(text, source)
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        what = "nothing" if content is None else type(content).__name__
        raise LumosConfigError(f"{source}: holds {what}, allowed: a mapping")
    return content


def shipped_yaml(package: str, folder: str = "") -> tuple[str, ...]:
    """Return the names of the YAML files of a folder that comes with the package.

    Parameters
    ----------
    package : str
        Import name of the package.
    folder : str, optional
        Folder in it; by default its own.

    Returns
    -------
    tuple of str
        Sorted names, without ending.
    """
    names = (item.name for item in resources.files(package).joinpath(folder).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read_shipped_yaml(package: str, folder: str, what: str, name_or_path: str | Path) -> dict[str, object]:
    """Read a mapping from a YAML file that comes with the package, or from the user's own.

    Parameters
    ----------
    package, folder, what, name_or_path : str
        As of :func:`shipped_text`.

    Returns
    -------
    dict
        Content of the file.

    Raises
    ------
    LumosConfigError
        If there is none of that name (the shipped ones are listed), or the file cannot be read or holds no mapping.
    """
    return _mapping(shipped_text(package, folder, what, name_or_path), name_or_path)


def shipped_text(package: str, folder: str, what: str, name_or_path: str | Path) -> str:
    """Return the text of a YAML file that comes with the package, or of the user's own.

    Parameters
    ----------
    package, folder : str
        Where the shipped files are.
    what : str
        What one is, for messages.
    name_or_path : str or Path
        Name of a shipped one, or the path of a file (ending in ``.yaml`` or ``.yml``).

    Returns
    -------
    str
        YAML, not parsed.

    Raises
    ------
    LumosConfigError
        If there is none of that name (the shipped ones are listed), or the file cannot be read.
    """
    names, name = shipped_yaml(package, folder), str(name_or_path)
    if name in names:
        return resources.files(package).joinpath(folder, f"{name}.yaml").read_text(encoding="utf-8")
    if name.endswith((".yaml", ".yml")):
        return read_text(Path(name_or_path))
    raise LumosConfigError(f"unknown {what} {name!r}, allowed: {', '.join(names)}, or the path of a YAML file")


def apply_override(content: dict[str, Any], override: str) -> None:
    """Put one ``--set stage.field=value`` into settings.

    Parameters
    ----------
    content : dict
        Nested settings; changed.
    override : str
        ``field=value`` or ``group.field=value``, the value in YAML.

    Raises
    ------
    LumosConfigError
        If it is not of that form, or names a value as if it were a group.
    """
    key, equals, value = override.partition("=")
    path = key.split(".")
    if not equals or not all(path):
        raise LumosConfigError(f"--set {override!r}: allowed: stage.field=value")
    for name in path[:-1]:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise LumosConfigError(f"--set {override!r}: {name!r} is a value, not a group of settings")
    content[path[-1]] = parse_yaml(value, f"--set {override[:200]!r}")


def validated(model: type[Model], content: object, source: object, hint: str = "") -> Model:
    """Check plain data against a settings class.

    Parameters
    ----------
    model : type
        The class.
    content : object
        Plain data.
    source : object
        Where it comes from, for messages.
    hint : str, optional
        Added to the message.

    Returns
    -------
    BaseModel
        The settings.

    Raises
    ------
    LumosConfigError
        If a key or value is wrong; each is named, with the keys that are allowed beside it.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(model, dict(item)) for item in error.errors()[:10])
        raise LumosConfigError(f"{source}: {problems}{hint}") from error


def _describe(model: type[BaseModel], problem: dict[str, Any]) -> str:
    """Describe one problem in one line."""
    keys, level = _follow(model, problem["loc"])
    where, allowed = ".".join(keys), ", ".join(level)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}, allowed: {allowed}"
    if problem["type"] == "missing":
        return f"missing key {where!r}, keys here: {allowed}"
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}" if where else str(problem["ctx"]["error"])
    return f"{where}: got {problem['input']!r:.200}, {_PLAIN.get(problem['type'], problem['msg'])}"


def _follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Return the keys of a file that lead to ``location``, and the keys that are allowed on its last level."""
    level: Any = model
    keys: list[str] = []
    for number, part in enumerate(location):
        models = _models(level)
        tagged = [here for here in models if part in _tags(here)]
        if len(models) > 1 and tagged:
            # Which of several models it is, which is not a key of the file.
            level = tagged[0]
            continue
        keys.append(str(part))
        if number == len(location) - 1:
            break
        known = models[0].model_fields if models else {}
        level = known[str(part)].annotation if part in known else _item(level)
    models = _models(level)
    return keys, sorted(name for name, field in models[0].model_fields.items() if not field.exclude) if models else []


def _models(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401
    """Return the models behind an annotation, looking through unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {Union, types.UnionType}:
        return [model for item in get_args(annotation) for model in _models(item)]
    return []


def _tags(model: type[BaseModel]) -> list[object]:
    """Return the values by which a model is told from others."""
    return [field.default for field in model.model_fields.values() if field.exclude]


def _item(annotation: Any) -> Any:  # noqa: ANN401
    """Return the type of the items of a tuple or of the values of a mapping."""
    arguments = [item for item in get_args(annotation) if item is not Ellipsis]
    return arguments[-1] if arguments else None
