"""Surveys as data: one YAML file each says how its exposures are read."""

from lumos.surveys.find import find_exposures, find_files
from lumos.surveys.header import HeaderCondition, HeaderEntry, HeaderMap, StateRule, Substitution
from lumos.surveys.load import load_survey, read_survey_text, shipped_surveys
from lumos.surveys.model import (
    Band,
    ImageLayout,
    MaskSource,
    NoiseSource,
    PsfSource,
    SkySource,
    Survey,
    VarianceSource,
    ZeropointRule,
)

__all__ = [
    "Band",
    "HeaderCondition",
    "HeaderEntry",
    "HeaderMap",
    "ImageLayout",
    "MaskSource",
    "NoiseSource",
    "PsfSource",
    "SkySource",
    "StateRule",
    "Substitution",
    "Survey",
    "VarianceSource",
    "ZeropointRule",
    "find_exposures",
    "find_files",
    "load_survey",
    "read_survey_text",
    "shipped_surveys",
]
