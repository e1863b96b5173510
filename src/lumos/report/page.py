"""The page of evidence: one file of HTML that opens anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from lumos.files import write_atomic
from lumos.report.charts import chart_svg
from lumos.validate.evidence.chart import Chart, MapChart
from lumos.validate.evidence.metrics import Metric

__all__ = ["Page", "write_page"]

#: The page may load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_GALLERY, _SOURCE = "Galaxies", "Where this comes from"
_GALLERY_TEXT = (
    "The best, middle and worst galaxies of one exposure. From the left: what was observed, what was fitted, "
)
_GALLERY_TEXT += "neighbours taken away, what is left, all in units of the sky's noise with masked pixels in blue; and "
_GALLERY_TEXT += "the PDF with its components, the truth (dashed) and the fluxes of the other estimators."
#: Mark, word and class of a verdict.
_MARKS = {None: ("–", "too few rows", "soft"), True: ("✓", "met", "pass"), False: ("✗", "not met", "fail")}
_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c1e21;--soft:#5c636b;--line:#d8dce1;--good:#0b6e4f;--bad:#b3261e;
--link:#0b57d0}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e9ecef;
--soft:#a7afb7;--line:#363c43;--good:#6fd3a8;--bad:#ff9d94;--link:#8ab4f8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;
background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}
p{max-width:46rem}.soft{color:var(--soft)}
.verdict{border-left:.4rem solid var(--line);padding:.4rem 1rem;font-size:1.1rem}
.verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
.scroll{overflow-x:auto}
td{overflow-wrap:anywhere}
pre{font-size:.85rem}
table{border-collapse:collapse;min-width:100%}
td.n{overflow-wrap:normal}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
nav ul{columns:2 18rem;padding-left:1.2rem}
a{color:var(--link)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1.5rem}
img{min-width:44rem;max-width:100%}
figure{margin:0}figure svg{width:100%;height:auto;color:var(--ink)}
figcaption{font-size:.9rem;color:var(--soft)}figcaption b{color:var(--ink)}
@media(max-width:40rem){td,th{padding:.3rem .25rem;font-size:.85rem}.rows{display:none}pre{font-size:.72rem}}
@media print{body{max-width:none;font-size:12px}nav{display:none}h2{break-after:avoid}tr{break-inside:avoid}
.charts{grid-template-columns:1fr 1fr}figure{break-inside:avoid}}
"""


@dataclass(frozen=True)
class Page:
    """A page of evidence.

    Parameters
    ----------
    title : str
        Heading.
    metrics : sequence of Metric
        What is judged; the verdict stands first.
    charts : mapping of sequence of Chart and MapChart
        What is drawn, by heading.
    gallery : str, optional
        Picture of galaxies, as a data URI.
    tables : mapping, optional
        Text tables by heading.
    notes : mapping, optional
        What a reader sees in a table, by its heading.
    facts : mapping, optional
        Where it all comes from.
    gallery_text : str, optional
        What a reader sees in the picture.
    """

    title: str
    metrics: Sequence[Metric]
    charts: Mapping[str, Sequence[Chart | MapChart]]
    gallery: str | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    gallery_text: str = _GALLERY_TEXT


def write_page(path: Path, page: Page) -> None:
    """Write a page of evidence.

    Parameters
    ----------
    path : Path
        File to write.
    page : Page
        What it shows.

    Notes
    -----
    Whatever stands in names and headers is text here: nothing of it is taken for HTML.
    """
    title, metrics, charts, gallery = page.title, page.metrics, page.charts, page.gallery
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<main><h1>{escape(title)}</h1>",
        _verdict(metrics),
        _metric_table(metrics),
    ]
    headings = [*charts, *([] if gallery is None else [_GALLERY]), *page.tables, *([_SOURCE] if page.facts else [])]
    links = (f'<li><a href="#s{number}">{escape(name)}</a></li>' for number, name in enumerate(headings))
    parts.append(f"<nav><ul>{''.join(links)}</ul></nav>")
    heads = iter(f'<h2 id="s{number}">{escape(name)}</h2>' for number, name in enumerate(headings))
    for some in charts.values():
        parts.append(f'{next(heads)}<div class="charts">')
        parts += [_figure(chart) for chart in some]
        parts.append("</div>")
    if gallery is not None:
        picture = f'<img src="{gallery}" alt="Some of the galaxies">'
        parts.append(f'{next(heads)}<p class="soft">{escape(page.gallery_text)}</p>')
        parts.append(f'<div class="scroll" tabindex="0">{picture}</div>')
    for heading, text in page.tables.items():
        note = f'<p class="soft">{escape(page.notes[heading])}</p>' if heading in page.notes else ""
        parts.append(f'{next(heads)}{note}<div class="scroll"><pre tabindex="0">{escape(text)}</pre></div>')
    if page.facts:
        rows = "".join(
            f"<tr><th scope=row>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in page.facts.items()
        )
        parts.append(f'{next(heads)}<div class="scroll" tabindex="0"><table>{rows}</table></div>')
    parts.append("</main></body></html>")
    write_atomic(path, "\n".join(parts) + "\n")


def _verdict(metrics: Sequence[Metric]) -> str:
    judged = [metric for metric in metrics if metric.passed is not None]
    failed = [metric for metric in judged if not metric.passed]
    if not judged:
        return '<p class="verdict">Too few rows to judge anything.</p>'
    if not failed:
        return f'<p class="verdict good">All {len(judged)} requirements are met.</p>'
    worst = "; ".join(escape(metric.text) for metric in failed[:3])
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f'<p class="verdict bad">{len(failed)} of {len(judged)} requirements are not met: {worst}{more}.</p>'


def _metric_table(metrics: Sequence[Metric]) -> str:
    head = '<tr><th scope="col"></th><th scope="col">What</th><th scope="col" class="n">Found</th>'
    head += '<th scope="col" class="n">Required</th><th scope="col" class="n rows">Rows</th></tr>'
    rows = []
    for metric in metrics:
        known = np.isfinite(metric.value)
        found = f"{metric.value:.3g}" if known else "–"
        if known and np.isfinite(metric.error) and metric.error > 0:
            found += f" ± {metric.error:.1g}"
        mark, word, kind = _MARKS[metric.passed]
        rows.append(
            f'<tr><td><span class="{kind}" role="img" aria-label="{word}" title="{word}">{mark}</span></td>'
            f'<td>{escape(metric.text)}</td><td class="n">{found}</td>'
            f'<td class="n">{metric.low:g} to {metric.high:g}</td><td class="n rows">{metric.n}</td></tr>'
        )
    return f'<div class="scroll" tabindex="0"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _figure(chart: Chart | MapChart) -> str:
    svg = chart_svg(chart).replace("<svg", f'<svg role="img" aria-label="{escape(chart.title)}"', 1)
    return f"<figure>{svg}<figcaption><b>{escape(chart.title)}.</b> {escape(chart.text)}</figcaption></figure>"
