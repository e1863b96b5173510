"""The command ``lumos validate``: what speaks for and against the fluxes of runs, as numbers and as a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lumos import __version__
from lumos.errors import LumosDataError, LumosValueError
from lumos.files import write_atomic
from lumos.photometry.measured import MeasuredRun, open_run
from lumos.report.gallery import gallery_png
from lumos.report.page import Page, write_page
from lumos.runs.locks import lock_folder, locked
from lumos.runs.shards import read_shards
from lumos.validate.evidence.charts import Chart, Series, known_charts
from lumos.validate.evidence.gallery import choose_exhibits
from lumos.validate.evidence.known import read_known
from lumos.validate.evidence.metrics import Metric, flag_metrics, known_metrics
from lumos.validate.evidence.pulls import figures_by_kind, format_figures
from lumos.validate.repeats import Repeats, repeat_table

__all__ = ["KNOWN", "validate_runs"]

#: Heading of the table of known fluxes.
KNOWN = "Known fluxes, by estimator, place and signal-to-noise ratio"
#: Magnitudes of the bins of repeats.
_EDGES = np.arange(14.0, 28.01, 1.0)
#: Most bands that a chart of repeats shows one by one.
_MOST_BANDS = 7


@locked(lock_folder)
def validate_runs(
    runs: Sequence[Path], out: Path, *, truth: Path | None = None, title: str = "Are these fluxes true?", seed: int = 0
) -> Page:
    """Judge the fluxes of runs and write ``metrics.json``, ``charts.json`` and ``report.html``.

    Parameters
    ----------
    runs : sequence of Path
        Folders that ``lumos measure`` or ``lumos inject`` wrote, of one set of estimators.
    out : Path
        Folder to write.
    truth : Path, optional
        Table of true fluxes; without it repeats and flags are all that there is.
    title : str, optional
        Heading of the page.
    seed : int, optional
        Of the objects that are drawn again for errors.

    Returns
    -------
    Page
        What it shows.

    Raises
    ------
    LumosValueError
        If there is no run.
    LumosDataError
        If a folder is no run, runs have other estimators, or the truth is of other objects.
    """
    if not runs:
        raise LumosValueError("runs", 0, "at least one folder that lumos measure wrote")
    opened = [open_run(run) for run in runs]
    name, names = opened[0].settings.default_estimator, opened[0].settings.all_estimators
    other = next((run for run in opened if run.settings.all_estimators != names), None)
    if other is not None:
        raise LumosDataError(f"{other.path}: estimators {', '.join(other.settings.all_estimators)}; {runs[0]}: {names}")
    rng = np.random.default_rng(seed)
    metrics: list[Metric] = []
    charts: list[Chart] = []
    tables: dict[str, str] = {}
    if truth is not None:
        known = read_known(runs, truth)
        shown = [name, *(one for one in names if one != name)]
        metrics += known_metrics(known, name, rng)
        charts += known_charts(known, shown, rng)
        tables[KNOWN] = format_figures(figures_by_kind(known))
    rows = [read_shards(run, ["flags", "flux"]) for run in runs]
    flags, flux = (np.concatenate([part[column].to_numpy() for part in rows]) for column in ("flags", "flux"))
    counted, shares = flag_metrics(flags, flux)
    metrics += counted
    tables["Flags"] = "\n".join(f"{flag:<20}{share:>8.2%}" for flag, share in shares.items()) or "none"
    if truth is None:
        repeats = _repeats(opened[0], name)
        if repeats:
            metrics.append(_repeat_metric(repeats))
            charts.append(_repeat_chart(repeats))
    exhibits = [] if truth is None else choose_exhibits(opened[0], known)
    gallery = gallery_png(exhibits) if exhibits else None
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "metrics.json", json.dumps([metric.as_dict() for metric in metrics], indent=1) + "\n")
    write_atomic(out / "charts.json", json.dumps(_plain([asdict(chart) for chart in charts]), indent=1) + "\n")
    facts = _facts(opened, truth, len(flags))
    page = Page(title, metrics, charts, gallery, tables, facts)
    write_page(out / "report.html", page)
    return page


def _repeats(run: MeasuredRun, name: str) -> list[Repeats]:
    """Return the repeats of a run's default estimator; none where no object has two measurements."""
    try:
        return list(repeat_table(run.path, _EDGES, estimators=[name]))
    except LumosDataError:
        return []


def _repeat_metric(repeats: Sequence[Repeats]) -> Metric:
    """Return the width of D of all bands together."""
    text = "Exposures of one object agree within their errors: width of D"
    pairs = np.array([one.overall.n_pairs[0] for one in repeats], dtype=np.float64)
    widths, errors = (
        np.array([getattr(one.overall, what)[0] for one in repeats]) for what in ("sigma68", "sigma68_err")
    )
    good = np.isfinite(widths) & np.isfinite(errors)
    if not good.any():
        return Metric("repeats", text, float("nan"), float("nan"), 0.9, 1.1, int(pairs.sum()))
    share = pairs[good] / pairs[good].sum()
    error = float(np.sqrt(np.sum((share * errors[good]) ** 2)))
    return Metric("repeats", text, float(np.sum(share * widths[good])), error, 0.9, 1.1, int(pairs.sum()))


def _repeat_chart(repeats: Sequence[Repeats]) -> Chart:
    series = []
    for one in repeats[:_MOST_BANDS]:
        good = np.flatnonzero(np.isfinite(one.difference.sigma68_err))
        middles = (one.edges[1:] + one.edges[:-1])[good] / 2
        values, errors = one.difference.sigma68[good], one.difference.sigma68_err[good]
        series.append(Series(one.band, *(tuple(float(v) for v in column) for column in (middles, values, errors))))
    text = "Half the 68 % range of (f1 - f2) / sqrt(s1² + s2²) of pairs of exposures (Fig. 12 of the paper): 1 where "
    text += "errors are true. What all exposures share, as wrong shapes, does not show."
    if len(repeats) > _MOST_BANDS:
        text += f" The first {_MOST_BANDS} of {len(repeats)} bands."
    return Chart("repeats", "Repeats", text, "magnitude of the mean flux (AB)", "width of D", tuple(series), 1.0)


def _facts(runs: Sequence[MeasuredRun], truth: Path | None, n_rows: int) -> dict[str, object]:
    first = runs[0]
    return {
        "runs": ", ".join(str(run.path) for run in runs),
        "rows": n_rows,
        "exposures": sum(len(run.finished) for run in runs),
        "survey": first.survey.name,
        "catalogue": first.catalog_path,
        "sha256 of the catalogue": first.catalog_sha256,
        "model": "none" if first.model is None else f"{first.model['name']} ({first.model['sha256'][:12]})",
        "truth": "none" if truth is None else truth,
        "lumos": __version__,
    }


def _plain(value: object) -> object:
    """Return data that JSON can hold: null for NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
