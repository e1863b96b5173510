"""Surveys as data: one YAML file each says how its exposures are read."""

from lumos.surveys.load import load_survey, shipped_surveys
from lumos.surveys.model import (
    Band,
    HeaderCondition,
    HeaderEntry,
    HeaderMap,
    ImageLayout,
    MaskSource,
    PsfSource,
    SkySource,
    StateRule,
    Substitution,
    Survey,
    VarianceSource,
)

__all__ = [
    "Band",
    "HeaderCondition",
    "HeaderEntry",
    "HeaderMap",
    "ImageLayout",
    "MaskSource",
    "PsfSource",
    "SkySource",
    "StateRule",
    "Substitution",
    "Survey",
    "VarianceSource",
    "load_survey",
    "shipped_surveys",
]
