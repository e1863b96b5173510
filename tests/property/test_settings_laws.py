"""Laws that every settings class obeys."""

import json
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from pydantic import BaseModel, ValidationError

import lumos
from lumos.config import StageSettings
from lumos.surveys import load_survey

for module in walk_packages([str(Path(lumos.__file__).parent)], "lumos."):
    if not module.name.endswith("__main__"):
        import_module(module.name)


def classes(base=StageSettings):
    """Yield every settings class of the package."""
    for one in base.__subclasses__():
        if one.__module__.startswith("lumos."):
            yield one
            yield from classes(one)


EVERY = sorted(set(classes()), key=lambda one: f"{one.__module__}.{one.__name__}")
#: What those need that have fields without a default.
NEEDED = {
    "Survey": load_survey("generic").model_dump(),
    "TrainSettings": {"name": "a", "pool": {"simulate": "wide"}, "stamps": {"flux_from": "proposal"}},
    "PoolSettings": {"simulate": "wide"},
    "LawSource": {"formula": "calzetti"},
    "TemplateSource": {"closed_forms": {"a": (1.0, 0.0, 0.0, 0.0, 0.0)}},
    "ModelConfig": {"name": "a", "architecture": "residual", "kind": "likelihood"},
}


def make(cls, **more):
    """Return settings with defaults where there are any."""
    return cls.model_validate(NEEDED.get(cls.__name__, {}) | more)


def can_be_made(cls):
    """Tell whether a class needs nothing else."""
    return cls.__name__ in NEEDED or not any(item.is_required() for item in cls.model_fields.values())


def test_there_are_many():
    assert len(EVERY) > 25
    assert sum(map(can_be_made, EVERY)) > 20
    # Nothing that pydantic reads stands outside.
    outside = [one for one in BaseModel.__subclasses__() if one.__module__.startswith("lumos.")]
    assert outside == [StageSettings]


@pytest.mark.parametrize("cls", EVERY, ids=lambda one: one.__name__)
def test_fields_are_described(cls):
    for name, item in cls.model_fields.items():
        if cls.__name__ != "Settings":
            assert item.description, name
            assert len(item.description.split()) > 1, f"{name}: {item.description}"


@pytest.mark.parametrize("cls", [one for one in EVERY if can_be_made(one)], ids=lambda one: one.__name__)
def test_settings(cls):
    made = make(cls)
    # What is written is read as the same.
    assert cls.model_validate(json.loads(made.model_dump_json())) == made
    with pytest.raises(ValidationError, match="Extra inputs"):
        make(cls, nothing_of_the_kind=1)
    if cls.model_fields:
        name = next(iter(cls.model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, getattr(made, name))
    for name, item in cls.model_fields.items():
        if item.annotation is float:
            for value in ("inf", "nan"):
                with pytest.raises(ValidationError):
                    make(cls, **{name: float(value)})
