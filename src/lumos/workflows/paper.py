"""``lumos validate --suite paper``: each figure, table and number of the paper beside ours."""

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from lumos import __version__
from lumos.photometry.network import model_facts
from lumos.report.paper import format_goals, write_paper
from lumos.runs.locks import lock_folder, locked
from lumos.validate.paper.artefacts import artefact_entries
from lumos.validate.paper.blends import blend_entries
from lumos.validate.paper.catalogs import catalog_entries
from lumos.validate.paper.colours import colour_entries
from lumos.validate.paper.entry import Entry
from lumos.validate.paper.exposures import exposure_entries
from lumos.validate.paper.fluxes import flux_entries
from lumos.validate.paper.pdfs import pdf_entries
from lumos.validate.paper.result import StudyResult, read_results
from lumos.validate.paper.rows import SurveyRows, read_rows
from lumos.validate.paper.settings import STUDIES, PaperSettings, Study
from lumos.validate.paper.spectra import spectra_entries
from lumos.validate.studies.artefacts import artefacts
from lumos.validate.studies.blends import blends
from lumos.validate.studies.robustness import robustness
from lumos.validate.studies.survey import StudySurvey, make_survey

__all__ = ["make_paper"]

Progress = Callable[[int, int, str], None]


class _Suite:
    """The studies, of which some share a survey that is made when it is first needed."""

    def __init__(self, out: Path, settings: PaperSettings, workers: int) -> None:
        self.out, self.settings, self.workers = out, settings, workers
        self.model = settings.models[0]
        self.makers: dict[Study, Callable[[], list[Entry]]] = {
            "robustness": lambda: catalog_entries(robustness(self.model), self.model),
            "fluxes": lambda: flux_entries(self.survey, self.rows, self.model) + pdf_entries(self.survey, self.rows),
            "exposures": lambda: exposure_entries(self.survey, self.rows, self.model),
            "colours": lambda: colour_entries(self.survey, self.model),
            "spectra": lambda: spectra_entries(self.survey, self.model),
            "artefacts": self._artefacts,
            "blends": self._blends,
        }

    @cached_property
    def survey(self) -> StudySurvey:
        """The simulated survey."""
        s = self.settings
        bands = "all" if s.survey_bands is None else "-".join(s.survey_bands)
        folder = self.out / f"survey-{s.survey_side}-{s.survey_exposures}-{bands}"
        sizes = {"side": s.survey_side, "exposures": s.survey_exposures}
        return make_survey(folder, self.model, bands=s.survey_bands, workers=self.workers, **sizes)

    @cached_property
    def rows(self) -> SurveyRows:
        """Rows of the survey."""
        return read_rows(self.survey, self.model)

    def _artefacts(self) -> list[Entry]:
        folder, side = self.out / f"artefacts-{self.settings.artefact_side}", self.settings.artefact_side
        return artefact_entries(artefacts(folder, self.model, side=side, workers=self.workers), self.model)

    def _blends(self) -> list[Entry]:
        s = self.settings
        made = blends(s.models, side=s.blend_side, repeats=s.blend_repeats, pairs=s.blend_pairs)
        return blend_entries(made, s.models)

    def made_with(self, study: Study) -> dict[str, object]:
        """Return what a finished study must agree with."""
        prefix = {"blends": "blend_", "artefacts": "artefact_", "robustness": "robustness_"}.get(study, "survey_")
        sizes = self.settings.model_dump(mode="json")
        models = self.settings.models if study == "blends" else self.settings.models[:1]
        return {
            "lumos": __version__,
            "models": [model_facts(model) for model in models],
            "settings": {key: value for key, value in sizes.items() if key.startswith(prefix)},
        }


@locked(lock_folder)
def make_paper(out: Path, settings: PaperSettings, *, workers: int = 1, progress: Progress | None = None) -> str:
    """Make the figures, tables and numbers of the paper, and write ``paper.md``.

    Parameters
    ----------
    out : Path
        Folder. Each study writes its ``STUDY.json`` as it ends; the same call goes on with the others. A study that
        was made with another model, version or size is made again.
    settings : PaperSettings
        Which studies, how large.
    workers : int, optional
        Processes that simulate and measure.
    progress : callable, optional
        Told after each study.

    Returns
    -------
    str
        Goals, and where the page is.

    Raises
    ------
    LumosConfigError
        If there is no such model or band.
    LumosDataError
        If a study cannot be made, or a file of the folder is damaged.
    """
    suite = _Suite(out, settings, workers)
    asked = [study for study in STUDIES if study in settings.studies]
    made_with = {study: suite.made_with(study) for study in asked}
    out.mkdir(parents=True, exist_ok=True)
    for number, study in enumerate(asked):
        known = read_results(out).get(study)
        if known is None or known.made_with != made_with[study]:
            start = time.monotonic()
            entries = tuple(suite.makers[study]())
            StudyResult(study, made_with[study], round(time.monotonic() - start), entries).write(out)
        write_paper(out, read_results(out))
        if progress is not None:
            progress(number + 1, len(asked), study)
    metrics = [metric for one in read_results(out).values() for entry in one.entries for metric in entry.metrics]
    return f"{format_goals(metrics)}\n{out / 'paper.md'}".strip()
