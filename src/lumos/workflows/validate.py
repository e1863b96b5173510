"""The command ``lumos validate``: what speaks for and against the fluxes of runs, as numbers and as a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos import __version__
from lumos.coadds.read import read_coadd
from lumos.errors import LumosDataError, LumosValueError
from lumos.files import write_atomic
from lumos.injection.run import injected_runs
from lumos.photometry.measured import MeasuredRun, open_run
from lumos.report.gallery import gallery_png
from lumos.report.page import Page, write_page
from lumos.runs.locks import lock_folder, locked
from lumos.runs.shards import read_shards
from lumos.validate.evidence.agreement import (
    comparison_charts,
    read_pairs,
    repeat_charts,
    repeat_metric,
    repeat_table,
)
from lumos.validate.evidence.chart import Chart, MapChart
from lumos.validate.evidence.charts import bias_charts, calibration_charts, group_charts, sky_charts
from lumos.validate.evidence.coadded import COADD, read_known_coadd
from lumos.validate.evidence.colours import colour_charts, object_fluxes
from lumos.validate.evidence.flagged import flag_metrics, flag_table, recall_metrics, recall_table
from lumos.validate.evidence.gallery import choose_exhibits
from lumos.validate.evidence.known import KnownFluxes, match_truth, read_known
from lumos.validate.evidence.maps import pull_map
from lumos.validate.evidence.metrics import Metric, known_metrics
from lumos.validate.evidence.pulls import figures_by_kind, format_figures, sky_table

__all__ = ["KNOWN", "validate_runs"]

#: Heading of the table of known fluxes.
KNOWN = "Known fluxes, by estimator, place and signal-to-noise ratio"
_COADDS = "Coadds of known fluxes"
_SKY = "Fluxes where nothing is"
_RECALL = "Do flags find the wrong fluxes?"
_FLAGS = "Flags"
_REPEATS = "Repeats: differences of two exposures over their error"
_FLUX = ("flux", "flux_err")
_TITLE = "Are these fluxes true?"
_FIGURES = (
    "bias/σ: median of (flux - truth) / error, 0 if true; pull: its width, 1; in 68 %, in 95 %: truths inside that "
)
_FIGURES += (
    "part of the PDF; PIT-KS: distance of the PIT from uniform, 0; > 5σ: off by more than five errors; - stands "
)
_FIGURES += (
    "for fewer than 30 fluxes; lost have no usable flux. S/N is the true flux over the error of optimal weights."
)
_NOTES = {
    KNOWN: _FIGURES,
    _COADDS: _FIGURES,
    _SKY: "The true flux is 0 here. The mean weighs fluxes with their inverse variances.",
    _RECALL: "Flags are good if they find wrong fluxes and leave good ones alone. Some forbid the use of a flux, "
    "others only doubt it.",
    _FLAGS: "A row may have several.",
    _REPEATS: "D is the difference over its error: median, width (1 if errors are true), half the 95 % range, and the "
    "share of pairs that differ by more than 3 and 5 errors.",
}


@dataclass
class _Evidence:
    """What the page will show."""

    metrics: list[Metric] = field(default_factory=list)
    charts: dict[str, list[Chart | MapChart]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    def add(self, section: str, charts: Sequence[Chart | MapChart]) -> None:
        """Put charts into a section; without any there is none."""
        if charts:
            self.charts.setdefault(section, []).extend(charts)


@locked(lock_folder)
def validate_runs(
    runs: Sequence[Path],
    out: Path,
    *,
    truth: Path | None = None,
    injected: Path | None = None,
    coadd: Path | None = None,
    seed: int = 0,
) -> Page:
    """Judge the fluxes of runs and write ``metrics.json``, ``charts.json`` and ``report.html``.

    Parameters
    ----------
    runs : sequence of Path
        Folders that ``lumos measure`` wrote, of one set of estimators; or one that ``lumos inject`` wrote.
    out : Path
        Folder to write.
    truth : Path, optional
        Table of true fluxes; without it, repeats, flags and colours are all that there is.
    injected : Path, optional
        Folder that ``lumos inject`` wrote: known fluxes on the exposures of the runs.
    coadd : Path, optional
        Coadd of the runs, judged as they are.
    seed : int, optional
        Of the objects that are drawn again for errors.

    Returns
    -------
    Page
        What it shows.

    Raises
    ------
    LumosValueError
        If there is no run, or both ``truth`` and ``injected`` are given.
    LumosDataError
        If a folder is no run, runs have other estimators, or the truth is of other objects.
    """
    if not runs:
        raise LumosValueError("runs", 0, "at least one folder that lumos measure wrote")
    if truth is not None and injected is not None:
        raise LumosValueError("truth", str(truth), "none where --injected is given")
    rounds: Sequence[Path] = () if injected is None else injected_runs(injected)
    if injected is not None and not rounds:
        raise LumosDataError(f"{injected}: not a folder of `lumos inject`, or none of its rounds is measured")
    if truth is None and injected is None and len(runs) == 1:
        # The folder of injections itself: its rounds are the runs.
        rounds = injected_runs(runs[0])
        runs, truth = (rounds, runs[0] / "truth.parquet") if rounds else (runs, None)
    # Injected galaxies are in their own runs, not in those that are judged beside them.
    own_truth = truth
    if injected is not None:
        truth = injected / "truth.parquet"
    opened = _open(runs)
    names = _estimators(opened[0])
    bands = _bands(opened[0])
    rng = np.random.default_rng(seed)
    found = _Evidence(facts=_facts(opened, truth, coadd))
    exhibits = []
    if truth is not None:
        where = rounds or runs
        judged = _open(where)
        known = read_known(where, truth)
        _add_known(found, known, _estimators(judged[0]), bands, rng)
        found.facts["fluxes that are known"] = len(known)
        exhibits = choose_exhibits(judged[0], known)
    columns = ["object_id", "band", "flags", "flux", *(f"{name}_{part}" for name in names for part in _FLUX)]
    rows = pa.concat_tables([read_shards(run, columns) for run in runs])
    found.facts["rows"] = len(rows)
    flags, flux = rows["flags"].to_numpy(), rows["flux"].to_numpy()
    found.metrics += flag_metrics(flags, flux)
    found.tables[_FLAGS] = flag_table(flags)
    _add_agreement(found, opened[0], names, bands, rng)
    if coadd is not None and own_truth is not None:
        _add_coadd(found, read_known_coadd(coadd, own_truth, opened[0]), bands, rng)
    _add_colours(found, opened[0], rows if coadd is None else read_coadd(coadd)[0], bands, own_truth, coadd is not None)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "metrics.json", json.dumps([metric.as_dict() for metric in found.metrics], indent=1) + "\n")
    charts = [{"section": name, **asdict(chart)} for name, some in found.charts.items() for chart in some]
    write_atomic(out / "charts.json", json.dumps(_plain(charts), indent=1) + "\n")
    gallery = gallery_png(exhibits) if exhibits else None
    page = Page(_TITLE, found.metrics, found.charts, gallery, found.tables, _NOTES, found.facts)
    write_page(out / "report.html", page)
    return page


def _open(runs: Sequence[Path]) -> list[MeasuredRun]:
    """Open runs, which must have the same estimators."""
    opened = [open_run(run) for run in runs]
    names = _estimators(opened[0])
    other = next((run for run in opened if _estimators(run) != names), None)
    if other is not None:
        raise LumosDataError(f"{other.path}: estimators {_estimators(other)}; {runs[0]}: {names}")
    return opened


def _estimators(run: MeasuredRun) -> list[str]:
    """Return the estimators of a run, its default first."""
    first = run.settings.default_estimator
    return [first, *(name for name in run.settings.all_estimators if name != first)]


def _bands(run: MeasuredRun) -> list[str]:
    """Return the bands of a run by wavelength, those of unknown wavelength last."""
    found = set(read_shards(run.path, ["band"])["band"].to_pylist())
    passbands = {band: run.survey.passband(band) for band in found}
    return sorted(found, key=lambda band: (np.inf if (one := passbands[band]) is None else one.wavelength, band))


def _add_known(
    found: _Evidence, known: KnownFluxes, names: Sequence[str], bands: Sequence[str], rng: np.random.Generator
) -> None:
    """Add what known fluxes tell."""
    found.metrics += known_metrics(known, names[0], rng)
    found.metrics += recall_metrics(known, names[0])
    estimators = {name: known.estimators[name] for name in names}
    found.add("PDFs and errors", [*calibration_charts(estimators), *sky_charts(known, names)])
    found.add("Bias and scatter", bias_charts(known, names, bands, rng))
    found.add(f"Errors of {names[0]} by band, galaxy, place and neighbour", group_charts(known, names[0], bands, rng))
    found.add("On the CCD", pull_map(known, names))
    found.tables[KNOWN] = format_figures(figures_by_kind(known))
    if sky := sky_table(known, names):
        found.tables[_SKY] = sky
    found.tables[_RECALL] = recall_table(known, names)


def _add_coadd(found: _Evidence, known: KnownFluxes, bands: Sequence[str], rng: np.random.Generator) -> None:
    """Add what a coadd's known fluxes tell: the same figures as of the exposures'."""
    found.metrics += known_metrics(known, COADD, rng, "coadd")
    names = list(known.estimators)
    found.add(
        "Coadds",
        [
            chart.of_coadd()
            for chart in (
                *calibration_charts(known.estimators),
                *bias_charts(known, names, bands, rng),
                *group_charts(known, COADD, bands, rng),
            )
        ],
    )
    found.tables[_COADDS] = format_figures(figures_by_kind(known))


def _add_agreement(
    found: _Evidence, run: MeasuredRun, names: Sequence[str], bands: Sequence[str], rng: np.random.Generator
) -> None:
    """Add how exposures and estimators agree, for which no truth is needed."""
    pairs = read_pairs(run, names)
    if names[0] in pairs:
        found.metrics.append(repeat_metric(pairs[names[0]], rng))
        found.add("Repeats: do exposures agree?", repeat_charts(pairs, bands, rng))
        found.tables[_REPEATS] = repeat_table(pairs, rng)
    found.add("Estimators beside each other", comparison_charts(run, names, bands))


def _add_colours(
    found: _Evidence,
    run: MeasuredRun,
    table: pa.Table,
    bands: Sequence[str],
    truth: Path | None,
    is_coadd: bool,
) -> None:
    """Add colours of galaxies, of the coadd where there is one."""
    names = {name: (f"{name}_flux", f"{name}_flux_err") for name in _estimators(run)}
    names = {name: columns for name, columns in names.items() if set(columns) <= set(table.column_names)}
    if is_coadd:
        means = {f"mean of {name}": columns for name, columns in names.items()}
        names = {COADD: ("flux_median", "flux_sigma68"), **means}
    known = None
    if truth is not None:
        rows, flux, _ = match_truth(table, truth)
        known = np.full(len(table), np.nan)
        known[rows] = flux
    fluxes = object_fluxes(table, names, bands, known)
    objects, magnitudes = run.read_magnitudes()
    at = np.searchsorted(objects, fluxes.object_id).clip(max=len(objects) - 1)
    found.add("Colours", colour_charts(fluxes, np.where(objects[at] == fluxes.object_id, magnitudes[at], np.nan)))


def _facts(runs: Sequence[MeasuredRun], truth: Path | None, coadd: Path | None) -> dict[str, object]:
    first = runs[0]
    return {
        "runs": ", ".join(str(run.path) for run in runs),
        "exposures": sum(len(run.finished) for run in runs),
        "survey": first.survey.name,
        "catalogue": first.catalog_path,
        "sha256 of the catalogue": first.catalog_sha256,
        "model": "none" if first.model is None else f"{first.model['name']} ({first.model['sha256'][:12]})",
        "truth": "none" if truth is None else truth,
        "coadd": "none" if coadd is None else coadd,
        "lumos": __version__,
    }


def _plain(value: object) -> object:
    """Return data that JSON can hold: null for NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
