"""Write the reference pages from the code, so that they cannot differ from it.

Usage: ``python docs/reference.py`` writes ``docs/reference/*.md``. A test compares the pages with what this makes.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
import yaml
from pydantic import BaseModel

import lumos
from lumos.catalogs import parent
from lumos.catalogs.columns import COLUMN_TEXT, COLUMNS
from lumos.cli import app
from lumos.estimators import ESTIMATORS
from lumos.flags import CATALOG_FLAG_TEXT, FLAG_TEXT, MASK_TEXT, PHOTOZ_FLAG_TEXT
from lumos.photoz.templates import ModelSettings
from lumos.settings import Settings
from lumos.simulate.settings import SurveySimulation
from lumos.surveys import Survey
from lumos.training.settings import BackgroundTraining, TrainSettings

FOLDER = Path(__file__).parent / "reference"
SCHEMA = Path(inspect.getfile(parent)).with_name("schema.yaml")
#: What each table of ``schema.yaml`` is, in the order of the page.
TABLES = {
    "measure": "`RUN/shards/*.parquet`, written by `lumos measure`: one row per object, exposure and CCD",
    "coadd": "`COADD.parquet`, written by `lumos coadd`: one row per object and band",
    "export": "added to the columns of a run or a coadd by `lumos export`",
    "colours": "written by `lumos export --colours`: one row per object, `{pair}` as `g_r`",
    "photoz": "`PZ/shards/*.parquet`, written by `lumos photoz`: one row per galaxy",
    "zeropoints": "`COADD.zeropoints.parquet`, written by `lumos coadd`: one row per exposure and CCD",
    "zeropoints_input": "the table of `lumos coadd --zeropoints`",
    "reference": "the table of `lumos coadd --reference`: objects of known flux",
    "psf": "`PSF/psf.parquet`, written by `lumos psf`, read by `--psf PSF`: one row per exposure and CCD",
    "truth": "`SURVEY/truth.parquet`, written by `lumos simulate`: one row per object and band",
    "exposures": "`SURVEY/exposures.parquet`, written by `lumos simulate`: one row per exposure",
}
#: Modules of the Python reference, and what they are for.
MODULES = {
    "lumos": "From images to fluxes.",
    "lumos.api": "The table that these functions return.",
    "lumos.pdf": "PDFs of many objects at once. Fluxes are nJy, or whatever unit the PDF was made in.",
    "lumos.flags": "The bits of `flags` and of masks; [their meanings](flags.md).",
    "lumos.errors": "What is raised. Catch `LumosError` for all of them.",
    "lumos.surveys": "Survey files; [their keys](survey-files.md).",
    "lumos.images": "Exposures, PSF models, stamps, sky and pixel coordinates.",
    "lumos.runs.shards": "The rows of runs that do not fit into memory.",
    "lumos.profiles": "Sérsic profiles, convolved with a PSF.",
    "lumos.estimators.base": "For [an estimator of your own](../../CONTRIBUTING.md).",
}
#: JSON schema's words for bounds, and ours.
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤", "multipleOf": "multiple of"}
TYPES = {
    "object": "mapping",
    "number": "number",
    "integer": "integer",
    "string": "text",
    "boolean": "true, false",
    "null": "null",
}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    return {
        "columns.md": columns_page(),
        "commands.md": commands_page(),
        "flags.md": flags_page(),
        "model-sets.md": levels_page("Sets of model runs", ModelSettings, MODEL_TEXT),
        "python.md": python_page(),
        "settings.md": settings_page(),
        "survey-files.md": levels_page("Survey files", Survey, SURVEY_TEXT),
        "simulated-surveys.md": model_page("Descriptions of simulated surveys", SurveySimulation, SIMULATION_TEXT),
        "training-runs.md": training_page(),
    }


MODEL_TEXT = (
    "Keys of the YAML file that says of which curves, templates, dust and lines the models of photometric redshifts "
    "are made; [curves and templates](../templates.md)."
)
SURVEY_TEXT = (
    "Keys of the YAML file of `--survey`; [how to write one](../surveys.md), "
    "[with an editor that completes them](../terminal.md#settings-and-survey-files-in-an-editor)."
)
SIMULATION_TEXT = (
    "Keys of the YAML file of `lumos simulate`, each of which `--set` can change; [simulations](../simulation.md)."
)
TRAINING_TEXT = "Keys of the YAML file of `lumos train`, each of which `--set` can change; [networks](../models.md)."


def columns_page() -> str:
    """Return the columns of every table that is read or written."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    lines = [
        "# Columns of tables",
        "",
        "`{flux}` is nJy, or the image's own unit where no zero point is known (`NO_ZEROPOINT`); `{estimator}` stands",
        "for each estimator of the run; `[n]` is a list, one entry for each Gaussian or node of the PDF.",
        "Each Parquet file says the same of itself in the metadata of its columns (`unit`, `ucd`, `text`).",
        "",
        "## The parent catalogue",
        "",
        "Parquet, CSV, FITS, ECSV or VOTable, by the suffix.",
        "Units are those that the file states, converted to these; without one these are taken. Names are matched",
        "exactly, else without regard to case; `measure.catalog.columns` gives another name, or a number for all rows.",
        "",
        *table(
            ("column", "unit", "meaning"), ((f"`{name}`", unit, COLUMN_TEXT[name]) for name, unit in COLUMNS.items())
        ),
    ]
    for name, what in TABLES.items():
        rows = (
            (f"`{column}`", spec["type"].replace("{n}", "n"), spec["unit"].replace("{flux}", "`{flux}`"), spec["text"])
            for column, spec in schema[name].items()
        )
        lines += ["", f"## {name}", "", what + ".", "", *table(("column", "type", "unit", "meaning"), rows)]
    return finish(lines)


def flags_page() -> str:
    """Return the bits of rows, of pixels, and of catalogues."""
    lines = ["# Flags"]
    for title, text, registry in (
        ("Rows", "A row's `flags` are the sum of these bits; every file that has them holds this list.", FLAG_TEXT),
        ("Pixels", "Planes of masks; a survey's own bits are mapped onto these.", MASK_TEXT),
        ("Redshifts", "The column `flags` of `lumos photoz`.", PHOTOZ_FLAG_TEXT),
        ("Catalogues", "The column `flags` of a catalogue by `lumos catalog`.", CATALOG_FLAG_TEXT),
    ):
        rows = ((str(int(bit)), f"`{bit.name}`", meaning) for bit, meaning in registry.items())
        lines += ["", f"## {title}", "", text, "", *table(("bit", "name", "meaning"), rows)]
    return finish(lines)


def commands_page() -> str:
    """Return every command with its arguments and options."""
    lines = ["# Commands", "", "`lumos COMMAND --help` prints the same."]
    for name, command in sorted(typer.main.get_command(app).commands.items()):
        lines += ["", f"## lumos {name}", "", one_paragraph(command.help or ""), ""]
        rows = []
        for option in command.params:
            option_name = (
                f"`{', '.join(option.opts)}`" if option.param_type_name == "option" else f"`{option.name.upper()}`"
            )
            plain_default = option.default is None or option.default is False or option.default == ()
            default = "" if plain_default or callable(option.default) else option.default
            note = "required" if option.required else f"`{default}`" if default != "" else ""
            rows.append((option_name, note, option.help or ""))
        lines += table(("argument", "default", "meaning"), rows)
    return finish(lines)


def python_page() -> str:
    """Return the public names of each module: a table to read anywhere, and what Sphinx makes the whole text from."""
    text = (
        "What the package offers to your own code; [how to](../api.md), [recipes](../recipes.md). `help(NAME)` prints",
        "the same as the site of these pages.",
    )
    lines = ["# Python reference", "", *text]
    for module_name, what in MODULES.items():
        module = importlib.import_module(module_name)
        names = [name for name in module.__all__ if module is lumos or name not in lumos.__all__]
        members = {name: member for name in names if is_documented(member := getattr(module, name))}
        rows = ((f"`{name}`", one_paragraph(member.__doc__ or "")) for name, member in members.items())
        lines += ["", f"## {module_name}", "", what, "", *table(("name", "what it is"), rows), ""]
        lines += ["```{eval-rst}", f".. currentmodule:: {module_name}"]
        for name, member in members.items():
            # The keys of settings have pages of their own.
            members_too = inspect.isclass(member) and not issubclass(member, BaseModel)
            lines += [f".. auto{'class' if inspect.isclass(member) else 'function'}:: {name}"]
            lines += ["   :members:"] if members_too else []
        lines += ["```"]
    return finish(lines)


def is_documented(member: object) -> bool:
    """Tell whether something has a docstring of its own: a class or a function, not a constant or an alias."""
    return inspect.isclass(member) or inspect.isfunction(member)


def settings_page() -> str:
    """Return the settings of every stage."""
    commands = typer.main.get_command(app).commands
    takers = [f"`{name}`" for name, one in sorted(commands.items()) if any("--config" in p.opts for p in one.params)]
    lines = [
        "# Settings",
        "",
        f"{', '.join(takers[:-1])} and {takers[-1]} take `--config FILE.yaml`, with a",
        "mapping for each stage, and `--set stage.field=value`; `simulate` and `train` take `--set` alone, with",
        "the keys of [simulated surveys](simulated-surveys.md) and [training runs](training-runs.md).",
        "What a run used stands in its `settings.yaml`. A key that does not exist is refused, with those that do.",
        "`lumos settings` prints all of them as YAML; [editors](../terminal.md#settings-and-survey-files-in-an-editor)",
        "complete and check them.",
    ]
    for stage, field in Settings.model_fields.items():
        model: Any = field.annotation
        lines += ["", f"## {stage}", "", one_paragraph(model.__doc__ or ""), "", *table(HEADER, model_rows(model))]
    lines += [
        "",
        "## Options of single estimators",
        "",
        "As `measure.options.ESTIMATOR.key`; `--set` takes `ESTIMATOR.key` too:",
        "",
    ]
    rows = [
        (f"`{one.name}.{name.strip('`')}`", *rest)
        for one in ESTIMATORS.values()
        for name, *rest in model_rows(one.options)
    ]
    return finish([*lines, *table(HEADER, rows)])


#: A longer default is left to the code.
LONGEST = 60
HEADER = ("key", "allowed", "default", "meaning")


def model_page(title: str, model: type[BaseModel], text: str) -> str:
    """Return the keys of one kind of YAML file, named from the top as `--set` does."""
    return finish([f"# {title}", "", text, "", *table(HEADER, model_rows(model))])


def training_page() -> str:
    """Return the keys of the runs of networks of fluxes, and of backgrounds."""
    rows = table(HEADER, model_rows(BackgroundTraining))
    text = "Keys of a run with `architecture: bkgnet`; [backgrounds](../background.md)."
    return finish(
        [model_page("Training runs", TrainSettings, TRAINING_TEXT), "## Networks of backgrounds", "", text, "", *rows]
    )


def levels_page(title: str, model: type[BaseModel], text: str) -> str:
    """Return the keys of one kind of YAML file, a section for each level that a key may hold."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    lines = [f"# {title}", "", text, "", *table(HEADER, level_rows(schema, definitions))]
    for name, level in definitions.items():
        if "properties" in level:
            lines += ["", f"## {name}", "", one_paragraph(level.get("description", "")), ""]
            lines += table(HEADER, level_rows(level, definitions))
    return finish(lines)


def level_rows(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of one level alone; keys that hold a level name its section."""
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        default = plain(field.get("default"))
        note = "required" if name in required else f"`{default}`" if len(default) <= LONGEST else ""
        yield f"`{name}`", allowed_values(field, definitions), note, meaning(field, definitions)


def model_rows(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each key of a model and of the models in it, named from the top."""
    schema = model.model_json_schema()
    yield from schema_rows(schema, schema.get("$defs", {}), "")


def schema_rows(
    schema: dict[str, Any], definitions: dict[str, Any], prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of one level of a JSON schema."""
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        inner, many = inner_level(field, definitions)
        several = field.get("discriminator", {})
        below = inner or several
        default = "required" if name in required else "" if below else f"`{plain(field.get('default'))}`"
        allowed = "keys below" if below else allowed_values(field, definitions)
        yield f"`{prefix}{name}`", allowed, default, meaning(field, definitions)
        if inner is not None:
            yield from schema_rows(inner, definitions, f"{prefix}{name}{many}.")
        for value, reference in several.get("mapping", {}).items():
            level = definitions[reference.rpartition("/")[2]]
            keys = {key: part for key, part in level["properties"].items() if key != several["propertyName"]}
            for key, *rest, text in schema_rows({"properties": keys}, definitions, f"{prefix}{name}."):
                yield key, *rest, f"Of {several['propertyName']} `{value}`: {text}"


def inner_level(field: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the schema of a key that is a level of its own, and how its name goes on."""
    for part in (field, *field.get("anyOf", []), *field.get("allOf", [])):
        for many, place in (("", part), ("[]", part.get("items")), (".NAME", part.get("additionalProperties"))):
            if isinstance(place, dict) and "$ref" in place:
                level = definitions[place["$ref"].rpartition("/")[2]]
                if "properties" in level:
                    return level, many
    return None, ""


def meaning(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return what a key means; pydantic drops a text that is also that of the level which the key holds."""
    level = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
    return one_paragraph(field.get("description", level.get("description", "")))


def allowed_values(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return in words what a key may be."""
    if "$ref" in field:
        level = definitions[field["$ref"].rpartition("/")[2]]
        return (
            f"[{level['title']}](#{level['title'].lower()})"
            if "properties" in level
            else allowed_values(level, definitions)
        )
    for key in ("anyOf", "allOf"):
        if key in field:
            return " or ".join(dict.fromkeys(allowed_values(part, definitions) for part in field[key]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{plain(value)}`" for value in field.get("enum", [field.get("const")]))
    kind = field.get("type", "anything")
    if kind == "array":
        items = field.get("items") or {}
        places = field.get("prefixItems")
        words = (
            ", ".join(allowed_values(item, definitions) for item in places)
            if places
            else allowed_values(items, definitions)
        )
        return f"list of {words}"
    values = field.get("additionalProperties")
    if isinstance(values, dict):
        return f"mapping to {allowed_values(values, definitions)}"
    bounds = [f"{word} {field[key]:g}" for key, word in BOUNDS.items() if key in field]
    if "pattern" in field:
        bounds.append(f"like `{field['pattern']}`".replace("|", "\\|"))
    return " ".join([TYPES.get(kind, kind), ", ".join(bounds)]).strip()


def plain(value: object) -> str:
    """Return a default as it stands in YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    return text.replace("|", "\\|")


def one_paragraph(text: str) -> str:
    """Return a docstring's first paragraph on one line, code in single backticks."""
    first = inspect.cleandoc(text).split("\n\n")[0]
    return re.sub(r":\w+:`[~.\w]*?\.?(\w+)`", r"`\1`", " ".join(first.split()).replace("``", "`")).replace("|", "\\|")


def table(header: tuple[str, ...], rows: Any) -> list[str]:  # noqa: ANN401
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def finish(lines: list[str]) -> str:
    """Return a page with the note that it is generated."""
    note = "<!-- Written by `python docs/reference.py` from the code; do not edit. -->"
    return "\n".join([note, *lines]) + "\n"


if __name__ == "__main__":
    main()
