"""Load a survey by name or from a YAML file, with errors that name the file, the key and what is allowed."""

from pathlib import Path

from lumos.config import read_shipped_yaml, shipped_text, shipped_yaml, validated
from lumos.surveys.model import Survey

__all__ = ["load_survey", "read_survey_text", "shipped_surveys"]


def shipped_surveys() -> tuple[str, ...]:
    """Return the names of the surveys that come with the package.

    Returns
    -------
    tuple of str
        Names for ``--survey``, sorted.
    """
    return shipped_yaml("lumos.surveys")


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
    content = read_shipped_yaml("lumos.surveys", "", "survey", name_or_path)
    return validated(Survey, content, name_or_path)


def read_survey_text(name_or_path: str | Path) -> str:
    """Return the text of a survey file.

    Parameters
    ----------
    name_or_path : str or Path
        As of :func:`load_survey`.

    Returns
    -------
    str
        Content of the survey file (YAML), unchecked.

    Raises
    ------
    LumosConfigError
        If there is no such survey, or the file cannot be read.
    """
    return shipped_text("lumos.surveys", "", "survey", name_or_path)
