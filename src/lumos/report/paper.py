"""The page of the paper's figures beside ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lumos.files import write_atomic
from lumos.report.charts import INK, chart_svg
from lumos.validate.evidence.chart import Chart
from lumos.validate.evidence.metrics import Metric
from lumos.validate.paper.contents import CONTENTS
from lumos.validate.paper.entry import Entry
from lumos.validate.paper.result import StudyResult
from lumos.validate.paper.settings import Study

__all__ = ["format_goals", "write_paper"]

_HEAD = """# The paper's figures beside ours

Cabayol et al., *The PAU Survey: Estimating galaxy photometry with deep learning*, arXiv:2104.02778.
Made by `lumos validate --suite paper`. PAUS exposures are not public: all images here are simulated.

| study | made with | seconds |
| --- | --- | --- |
"""


def write_paper(out: Path, results: Mapping[Study, StudyResult]) -> None:
    """Write ``paper.md`` and its pictures.

    Parameters
    ----------
    out : Path
        Folder.
    results : mapping
        Finished studies. Figures of the others are listed, with the study that makes them or why none does.
    """
    entries = {name: entry for one in results.values() for entry in one.entries for name in entry.names}
    lines = [_HEAD + "\n".join(f"| {one.study} | {_flat(one.made_with)} | {one.seconds} |" for one in results.values())]
    shown: set[str] = set()
    for name, (title, study, reason) in CONTENTS.items():
        if name in shown:
            continue
        if name in entries:
            shown |= set(entries[name].names)
            lines.append(_section(entries[name], out))
        else:
            text = (
                f"Not in this suite: {reason}." if study is None else f"Not made yet: `--set paper.studies=[{study}]`."
            )
            lines.append(f"## {name}: {title}\n\n{text}")
    write_atomic(out / "paper.md", "\n\n".join(lines) + "\n")


def format_goals(metrics: Sequence[Metric]) -> str:
    """Return goals as lines of text, with the errors of their values.

    Parameters
    ----------
    metrics : sequence of Metric
        What was judged.

    Returns
    -------
    str
        Whether each is met, by its value or only within two errors of it; words, value and range.
    """
    return "\n".join(map(_goal, metrics))


def _goal(one: Metric) -> str:
    words = {None: "too few", True: "met within two errors", False: "NOT MET"}
    verdict = "met" if one.low <= one.value <= one.high else words[one.passed]
    error = f" ± {one.error:.3f}" if np.isfinite(one.error) else ""
    return f"{verdict}: {one.text} {one.value:.3f}{error}; goal {one.low:g} to {one.high:g}"


def _flat(content: object) -> str:
    """Return plain data as words."""
    if isinstance(content, Mapping):
        return ", ".join(f"{key} {_flat(value)}" for key, value in content.items() if value not in (None, {}))
    if isinstance(content, list | tuple):
        return "; ".join(map(_flat, content))
    text = str(content)
    # The beginning of a digest is enough.
    return text[:8] if len(text) == 64 and text.isalnum() else text


def _section(entry: Entry, out: Path) -> str:
    parts = [
        f"## {', '.join(entry.names)}: {entry.title}",
        f"**Paper.** {entry.paper}",
        f"**Ours**, {entry.galaxies} galaxies. {entry.ours}",
    ]
    parts += [table.markdown() for table in entry.tables]
    parts += [f"![{chart.title}]({_draw(chart, out)})" for chart in entry.charts]
    if entry.metrics:
        parts.append("\n".join(f"- {line}" for line in format_goals(entry.metrics).splitlines()))
    return "\n\n".join(parts)


def _draw(chart: Chart, out: Path) -> str:
    """Write a chart as a picture on white; return its name."""
    svg = chart_svg(chart).replace("currentColor", INK).replace("<svg", '<svg style="background:#fff"', 1)
    write_atomic(out / f"{chart.key}.svg", svg)
    return f"{chart.key}.svg"
