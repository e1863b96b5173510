"""What comes with the package, as text: models, surveys, flags, settings, schemas of files."""

import json
import textwrap
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from lumos.errors import LumosValueError
from lumos.exports.formats import RUBIN_FLAGS
from lumos.flags import FLAG_TEXT, Flag
from lumos.settings import Settings
from lumos.simulate.settings import SurveySimulation
from lumos.surveys import Survey, load_survey, read_survey_text, shipped_surveys

__all__ = ["SCHEMAS", "list_flags", "list_models", "list_schema", "list_settings", "list_surveys"]

#: Kinds of YAML files that have a schema.
SCHEMAS: dict[str, type[BaseModel]] = {"settings": Settings, "survey": Survey, "simulation": SurveySimulation}


def list_models(name: str | None) -> str:
    """List the shipped models.

    Parameters
    ----------
    name : str or None
        A model, or a model folder, to show the card of.

    Returns
    -------
    str
        A line for each, or the card.

    Raises
    ------
    LumosConfigError
        If there is no such model.
    """
    from lumos.nets.bkgnet_model import BackgroundConfig  # noqa: PLC0415 (torch)
    from lumos.nets.checkpoint import find_model, read_config, read_description, shipped_models  # noqa: PLC0415

    if name is not None:
        return (find_model(name) / "README.md").read_text(encoding="utf-8")
    lines = []
    for shipped in shipped_models():
        config = read_config(shipped)
        bands = f"{len(config.bands)} bands" if config.bands else "any band"
        lines.append(f"{shipped}: {config.architecture}, {config.kind}, {bands}, PIT-KS {config.metrics['pit_ks']:.3f}")
    for shipped in shipped_models(of="background"):
        background = read_description(shipped, BackgroundConfig, "background")
        bands = f"{len(background.bands)} bands" if background.bands else "any band"
        figures = f"scatter {background.metrics['scatter']:.3f} (annulus {background.metrics['annulus_scatter']:.3f})"
        lines.append(f"{shipped}: {background.architecture}, background, {bands}, {figures} of the pixel noise")
    return "\n".join(lines)


def list_surveys(name: str | None) -> str:
    """List the shipped surveys.

    Parameters
    ----------
    name : str or None
        A survey to show the file of.

    Returns
    -------
    str
        A line for each, or the file.

    Raises
    ------
    LumosConfigError
        If there is no such survey.
    """
    if name is not None:
        return read_survey_text(name).rstrip()
    lines = []
    for shipped in shipped_surveys():
        survey = load_survey(shipped)
        bands = "any band" if survey.other_bands else f"{len(survey.bands)} bands"
        lines.append(f"{shipped}: {survey.text}; {bands}, PSF from {survey.psf.kind}")
    return "\n".join(lines)


def list_flags(value: str | None) -> str:
    """List flags with their bits and meanings.

    Parameters
    ----------
    value : str or None
        Number of a ``flags`` column: those set in it. Name of a flag, or of a column of flags that ``lumos export``
        writes with Rubin's names: the flags that set it. None: all.

    Returns
    -------
    str
        A line for each; one that says so where the number is 0.

    Raises
    ------
    LumosValueError
        If the number holds bits that are no flag, or there is no such name.
    """
    chosen = list(Flag) if value is None else list(_flags_of(value))
    if not chosen:
        return "0: no flag is set"
    return "\n".join(f"{int(flag):>8} {flag.name}: {FLAG_TEXT[flag]}" for flag in chosen)


def list_settings(stage: str | None) -> str:
    """List the settings with their defaults, as a YAML file that ``--config`` takes.

    Parameters
    ----------
    stage : str or None
        Only this stage; None: all.

    Returns
    -------
    str
        YAML; above each key a comment says what it means.

    Raises
    ------
    LumosValueError
        If there is no such stage.
    """
    stages = [name for name in Settings.model_fields if stage in {None, name}]
    if not stages:
        raise LumosValueError("stage", stage, ", ".join(Settings.model_fields))
    defaults = Settings()
    lines: list[str] = []
    for name in stages:
        values: BaseModel = getattr(defaults, name)
        lines += [*_comment(values.__doc__ or "", ""), f"{name}:", *_commented(values, "  ")]
    return "\n".join(lines)


def _commented(values: BaseModel, indent: str) -> Iterator[str]:
    """Yield the lines of one level of settings."""
    plain = values.model_dump(mode="json")
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        yield from _comment(field.description or "", indent)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _commented(value, indent + "  ")
        else:
            text = yaml.safe_dump(plain[name], default_flow_style=True, width=10_000, allow_unicode=True)
            # YAML ends a document that is one plain value with "...".
            yield f"{indent}{name}: " + text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> list[str]:
    """Return the first paragraph of a description as lines of a comment."""
    first = " ".join(text.split("\n\n", maxsplit=1)[0].split()).replace("``", "`")
    return textwrap.wrap(first, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def list_schema(kind: str) -> str:
    """Return the JSON schema of a kind of YAML file, by which editors complete and check keys and values.

    Parameters
    ----------
    kind : str
        One of :data:`SCHEMAS`.

    Returns
    -------
    str
        JSON schema of draft 2020-12. Rules that join several keys are not in it; the commands check those.

    Raises
    ------
    LumosValueError
        If there is no such kind.
    """
    if kind not in SCHEMAS:
        raise LumosValueError("--json-schema", kind, ", ".join(SCHEMAS))
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[kind].model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False).replace("``", "`")


def _flags_of(value: str) -> Flag:
    """Return the flags that a number or a name stands for."""
    # Of a band, as g_cModel_flag.
    exported = next((flag for name, flag in RUBIN_FLAGS.items() if value == name or value.endswith(f"_{name}")), None)
    if exported is not None:
        return exported
    if value.upper() in Flag.__members__:
        return Flag[value.upper()]
    try:
        number = int(value)
    except ValueError:
        names = ", ".join([*Flag.__members__, *RUBIN_FLAGS])
        raise LumosValueError("flags", value, f"a number, or one of {names}") from None
    if not 0 <= number < 2 * max(Flag):
        raise LumosValueError("flags", number, f"0 to {2 * max(Flag) - 1}")
    return Flag(number)
