"""Fig. 11, 22 and 23: colours."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.coadds.read import read_coadd, table_pdf
from lumos.conventions import FloatArray, IntArray
from lumos.flags import UNUSABLE
from lumos.pdf import FluxPdf, colour
from lumos.photometry.settings import NETWORK
from lumos.runs.shards import read_shards
from lumos.statistics import LEVELS_95, pit_ks, sigma68
from lumos.validate.accuracy import look_up_truth
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.paper.entry import Entry, Table, percent
from lumos.validate.studies.survey import StudySurvey

__all__ = ["colour_entries"]

#: Colour of Fig. 11, where the survey has it; faintest galaxies.
_ELEVEN, _FAINTEST = ("NB785", "NB795"), 22.5
_CLASSICAL = ("aperture", "optimal")
_PAPER_11 = "Width of the histogram of NB785 − NB795: σ68 0.26 by MEMBA (aperture), 0.19 by Lumos; σ95 0.74 and 0.41."
_PAPER_22 = (
    "Nine and all colours: Lumos narrower than the aperture in all, σ68 by 30–40 % (15 % in the bluest bands), σ95 by "
    "30–70 %."
)
_OURS_11 = (
    "Galaxies of i < 22.5, colours of point estimates where both fluxes are above 0; *without* is the share of the "
    "others. A narrow histogram is no proof of good fluxes: a prior alone has the narrowest. So the width of the true "
    "colours stands in the table, and σ68 of measured minus true. The last lines have the medians of colour PDFs "
    "(`lumos.pdf.colour`), with the distance of the PIT of the true colours from uniform. They take the errors of both "
    "bands as independent. Those of likelihoods are; with a prior they are not: what makes a galaxy brighter than the "
    "prior expects in one band does so in the next, and colour PDFs with a prior of single bands are too wide."
)
_OURS_22 = "Width over that of the aperture, minus 1, in neighbouring bands of single exposures."

Colours = Mapping[str, tuple[FloatArray, FloatArray]]


def colour_entries(survey: StudySurvey, model: str) -> list[Entry]:
    """Return Fig. 11, and 22 with 23.

    Parameters
    ----------
    survey : StudySurvey
        Measured with a model.
    model : str
        Name of the model.

    Returns
    -------
    list of Entry
        Two.
    """
    name = Path(model).name
    field = survey.field()
    bright = field.object_id[field.in_catalog & (field.galaxies.ref_mag < _FAINTEST)]
    run, (coadd, pdf) = _first_exposures(survey), read_coadd(survey.coadd)
    bands = survey.simulation.bands
    pairs = [(bands[i], bands[i + 1]) for i in range(len(bands) - 1)]
    eleven = _ELEVEN if _ELEVEN in pairs else pairs[len(pairs) // 2]
    columns = {**{one: f"{one}_flux" for one in _CLASSICAL}, name: f"{NETWORK}_flux"}
    tables = {"single exposure": (run, columns), "coadd": (coadd, columns | {f"{name} × prior": "flux_median"})}
    rows, charts = [], []
    for what, (table, names) in tables.items():
        truth = look_up_truth(table, survey.truth)
        for one, (measured, true) in _colours(table, truth, names, eleven, bright).items():
            rows.append((what, one, *_widths(measured, true), ""))
            if what == "single exposure":
                charts.append(_histogram(one, measured))
    true = _true(run, look_up_truth(run, survey.truth), eleven, bright)
    rows.append(("", "true", *_widths(true, true), ""))
    charts.append(_histogram("true", true))
    for what, table, pdfs in ((name, run, table_pdf(run)), (f"{name} × prior", coadd, pdf)):
        rows.append(_pdf_row(what, (table, pdfs), look_up_truth(table, survey.truth), eleven, bright))
    title = f"{eleven[0]} − {eleven[1]}"
    head = ("of", "estimator", "galaxies", "without", "σ68", "σ95", "σ68 of measured − true", "PIT-KS")
    panel = Panel("density", tuple(charts))
    chart = Chart("fig11", f"Fig. 11: {title}", "Single exposures.", f"{title}, mag", (panel,), steps=True)
    first = Entry(
        ("Fig. 11",), f"colour {title}", len(true), _PAPER_11, _OURS_11, (Table(head, tuple(rows)),), (chart,)
    )
    return [first, _twentytwo(run, survey, columns, pairs, bright)]


def _first_exposures(survey: StudySurvey) -> pa.Table:
    """Return the first usable row of each object and band."""
    run = read_shards(survey.run)
    keys = ["object_id", "band", "exposure_id"]
    run = run.filter(pa.array((run["flags"].to_numpy() & int(UNUSABLE)) == 0)).sort_by([(k, "ascending") for k in keys])
    objects, bands = run["object_id"].to_numpy(), np.array(run["band"].to_pylist())
    new = np.ones(len(run), dtype=np.bool_)
    new[1:] = (objects[1:] != objects[:-1]) | (bands[1:] != bands[:-1])
    return run.filter(pa.array(new))


def _matched(table: pa.Table, pair: tuple[str, str], objects: IntArray) -> tuple[IntArray, IntArray]:
    """Return the rows of the objects that have both bands."""
    band, of = np.array(table["band"].to_pylist()), table["object_id"].to_numpy()
    rows = [np.flatnonzero((band == name) & np.isin(of, objects)) for name in pair]
    _, first, second = np.intersect1d(of[rows[0]], of[rows[1]], return_indices=True)
    return rows[0][first], rows[1][second]


def _colour_of(flux: FloatArray, rows: tuple[IntArray, IntArray]) -> FloatArray:
    first, second = (np.where(flux[some] > 0, flux[some], np.nan) for some in rows)
    return np.asarray(-2.5 * np.log10(first / second))


def _true(table: pa.Table, truth: FloatArray, pair: tuple[str, str], objects: IntArray) -> FloatArray:
    return _colour_of(truth, _matched(table, pair, objects))


def _colours(
    table: pa.Table, truth: FloatArray, names: Mapping[str, str], pair: tuple[str, str], objects: IntArray
) -> Colours:
    """Return measured and true colours by estimator, NaN where a flux is not above 0."""
    rows = _matched(table, pair, objects)
    true = _colour_of(truth, rows)
    return {name: (_colour_of(table[column].to_numpy().astype(float), rows), true) for name, column in names.items()}


def _widths(measured: FloatArray, true: FloatArray) -> tuple[str, ...]:
    good = np.isfinite(measured)
    n, without = len(measured), float(np.mean(~good)) if len(measured) else float("nan")
    off = sigma68((measured - true)[good])
    return str(n), f"{without:.1%}", f"{sigma68(measured[good]):.3f}", f"{_sigma95(measured[good]):.3f}", f"{off:.3f}"


def _sigma95(values: FloatArray) -> float:
    if not len(values):
        return float("nan")
    low, high = np.quantile(values, LEVELS_95)
    return float(high - low) / 2


def _histogram(name: str, values: FloatArray) -> Series:
    edges = np.linspace(-1, 1, 41)
    counts = np.histogram(values[np.isfinite(values)], edges, density=True)[0]
    return Series(name, tuple(((edges[1:] + edges[:-1]) / 2).tolist()), tuple(counts.tolist()))


def _pdf_row(
    name: str, measured: tuple[pa.Table, FluxPdf], truth: FloatArray, pair: tuple[str, str], objects: IntArray
) -> tuple[str, ...]:
    table, pdf = measured
    rows = _matched(table, pair, objects)
    colours = colour(*(pdf.take(some) for some in rows))
    true = _colour_of(truth, rows)
    pit = colours.pdf.cdf(true)
    # Where the middle half holds more than half, PDFs are too wide.
    middle, distance = np.mean(np.abs(pit[np.isfinite(pit)] - 0.5) < 0.25), pit_ks(pit)[0]
    what = "coadd" if name.endswith("× prior") else "single exposure"
    cells = _widths(colours.pdf.quantile(0.5), true)
    return (what, f"{name}, colour PDFs", *cells, f"{distance:.3f}, {middle:.0%} in the middle half")


def _twentytwo(
    run: pa.Table, survey: StudySurvey, columns: Mapping[str, str], pairs: list[tuple[str, str]], objects: IntArray
) -> Entry:
    truth, gains = look_up_truth(run, survey.truth), []
    for pair in pairs:
        found = _colours(run, truth, columns, pair, objects)
        widths = {n: [f(one[np.isfinite(one)]) for f in (sigma68, _sigma95)] for n, (one, _) in found.items()}
        gains.append([[widths[n][k] / widths["aperture"][k] - 1 for k in (0, 1)] for n in list(columns)[1:]])
    values = np.array(gains).reshape(len(pairs), len(columns) - 1, 2)
    places = tuple((float(a.removeprefix("NB")) + float(b.removeprefix("NB"))) / 2 for a, b in pairs)
    series, rows = [], []
    for number, name in enumerate(list(columns)[1:]):
        for k, width in enumerate(("σ68", "σ95")):
            one = values[:, number, k]
            series.append(Series(f"{name}, {width}", places, tuple(one.tolist())))
            rows.append(
                (
                    name,
                    width,
                    percent(float(np.median(one))),
                    f"{percent(float(one.min()))} … {percent(float(one.max()))}",
                )
            )
    chart = Chart(
        "fig23",
        "Fig. 23: widths of colours",
        "Over that of the aperture, minus 1.",
        "wavelength, nm",
        (Panel("relative width", tuple(series), (0.0,)),),
    )
    table = Table(("estimator", "width", f"median of {len(pairs)} colours", "range"), tuple(rows))
    names = ("Fig. 22", "Fig. 23")
    galaxies = len(np.unique(run["object_id"].to_numpy()[np.isin(run["object_id"].to_numpy(), objects)]))
    return Entry(names, "widths of all colours", galaxies, _PAPER_22, _OURS_22, (table,), (chart,))
