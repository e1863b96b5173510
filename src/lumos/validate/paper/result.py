"""What a study leaves in the folder of the suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lumos.errors import LumosDataError
from lumos.files import read_json, write_json
from lumos.validate.paper.entry import Entry
from lumos.validate.paper.settings import STUDIES, Study

__all__ = ["StudyResult", "read_results"]


@dataclass(frozen=True)
class StudyResult:
    """A finished study.

    Parameters
    ----------
    study : Study
        Its name; it lies in ``STUDY.json``.
    made_with : mapping
        Version, model and settings: plain data, by which a rerun knows that it is finished.
    seconds : int
        How long it took.
    entries : tuple of Entry
        Figures.
    """

    study: Study
    made_with: Mapping[str, object]
    seconds: int
    entries: tuple[Entry, ...]

    def write(self, out: Path) -> None:
        """Write it.

        Parameters
        ----------
        out : Path
            Folder of the suite.
        """
        entries = [entry.as_dict() for entry in self.entries]
        write_json(
            out / f"{self.study}.json", {"made_with": dict(self.made_with), "seconds": self.seconds, "entries": entries}
        )


def read_results(out: Path) -> dict[Study, StudyResult]:
    """Read the finished studies of a folder.

    Parameters
    ----------
    out : Path
        Folder of the suite.

    Returns
    -------
    dict
        By name, in the order in which they are made.

    Raises
    ------
    LumosDataError
        If a file is damaged.
    """
    found: dict[Study, StudyResult] = {}
    for study in STUDIES:
        path = out / f"{study}.json"
        if not path.exists():
            continue
        content = read_json(path)
        try:
            entries = tuple(Entry.from_dict(one) for one in content["entries"])
            found[study] = StudyResult(study, dict(content["made_with"]), int(content["seconds"]), entries)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LumosDataError(f"{path}: damaged ({error!r}); without it the study is made again") from error
    return found
