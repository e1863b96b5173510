"""The survey through which simulated exposures are read.

Simulated files have one layout: an image and a mask of canonical planes for each detector, simple keywords, the sky
in the pixels. A survey that expects another gets a file of its own beside the exposures, with the same name, bands,
camera states and unit of the zero point.
"""

from functools import cache
from pathlib import Path

import yaml

from lumos.files import write_atomic
from lumos.surveys import Survey, load_survey
from lumos.surveys.header import HeaderEntry

__all__ = ["readable_survey", "survey_name", "survey_of", "write_survey"]

#: Of the mask that simulated exposures carry.
_MASK_CARD = "MASKTYPE"


@cache
def survey_of(name_or_path: str) -> Survey:
    """Return a survey, read once per process.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped survey, or the path of a YAML file.

    Returns
    -------
    Survey
        The survey that is simulated.

    Raises
    ------
    LumosConfigError
        If there is no such survey, or its file is wrong.
    """
    return load_survey(name_or_path)


def _has_layout(survey: Survey) -> bool:
    """Tell whether a survey reads the layout of simulated files."""
    return any(mask.when is not None and mask.when.key == _MASK_CARD for mask in survey.mask)


def readable_survey(name_or_path: str) -> Survey:
    """Return the survey that reads the simulated exposures of another.

    Parameters
    ----------
    name_or_path : str
        Survey that is simulated.

    Returns
    -------
    Survey
        The same where it reads the layout of simulated files.
    """
    survey, layout = survey_of(name_or_path), survey_of("generic")
    if _has_layout(survey):
        return survey
    keys = layout.header.model_copy(
        update={
            "gain": survey.header.gain if not survey.header.gain.keys else layout.header.gain,
            "state": HeaderEntry(keys=("CAMSTATE",)),
            "date": HeaderEntry(keys=("DATE-OBS",)),
        }
    )
    same = ("name", "bands", "other_bands", "states", "pixel_scale", "pixel_scale_tolerance", "zeropoint_per_second")
    facts = {name: getattr(survey, name) for name in same}
    unit = survey.flux_unit
    return layout.model_copy(
        update={**facts, "text": f"Simulated exposures of {survey.name}", "flux_unit": unit, "header": keys}
    )


def survey_name(name_or_path: str, out: Path) -> str:
    """Return what ``--survey`` must be given to read simulated exposures.

    Parameters
    ----------
    name_or_path : str
        Survey that is simulated.
    out : Path
        Folder of the simulation.

    Returns
    -------
    str
        Name or path of the survey, or of the file beside the exposures.
    """
    return name_or_path if _has_layout(survey_of(name_or_path)) else str(out / "survey.yaml")


def write_survey(name_or_path: str, out: Path) -> None:
    """Write the file of the survey that reads simulated exposures, where it is another than the one simulated.

    Parameters
    ----------
    name_or_path : str
        Survey that is simulated.
    out : Path
        Folder of the simulation.
    """
    if _has_layout(survey_of(name_or_path)):
        return
    content = readable_survey(name_or_path).model_dump(mode="json", exclude_defaults=True)
    header = f"# Reads the simulated exposures of {name_or_path}.\n"
    write_atomic(out / "survey.yaml", header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
