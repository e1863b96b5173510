"""The page on photometric redshifts: what ``lumos validate`` and ``lumos photoz --spec-z`` write."""

import json
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lumos import __version__
from lumos.catalogs.parent import ParentCatalog
from lumos.config import read_yaml
from lumos.files import write_atomic
from lumos.report.page import Page, write_page
from lumos.validate.known_redshifts import KnownRedshifts, read_known_redshifts, redshift_table
from lumos.validate.redshift_charts import group_charts, judge_redshifts, pdf_charts, redshift_charts
from lumos.validate.redshifts import format_redshifts

__all__ = ["redshift_page", "validate_redshifts"]

_TITLE = "Are these redshifts true?"
_TABLE = "Redshifts, by quality and by what galaxies are"
_NOTE = (
    "dz is (zb - z) / (1 + z). sigma68: half its 68 % range; bias: its median; outliers: |dz| above 0.02 (eq. 23 of "
)
_NOTE += "the paper); PIT-KS: distance of the PIT from uniform; CRPS: mean distance of p(z) from the known redshift. "
_NOTE += "Thirds hold equally many galaxies."
_PICTURE = "redshifts.png"
_GALLERY = (
    "Galaxies from the brightest to the faintest. Left, fluxes with their errors, blue in narrow bands and red in "
)
_GALLERY += "broad ones, and the best model (black). Right, p(z), and the known redshift (dashed)."


def validate_redshifts(
    run: Path, out: Path, truth: Path, *, catalog: ParentCatalog | None = None, seed: int = 0
) -> Page:
    """Judge the redshifts of a run and write ``metrics.json``, ``charts.json`` and ``report.html``.

    Parameters
    ----------
    run : Path
        Folder that ``lumos photoz`` wrote.
    out : Path
        Folder to write.
    truth : Path
        Table of known redshifts, see :func:`lumos.validate.known_redshifts.read_known_redshifts`.
    catalog : ParentCatalog, optional
        Magnitudes and shapes of the galaxies.
    seed : int, optional
        Of the galaxies that are drawn again for errors.

    Returns
    -------
    Page
        What it shows.

    Raises
    ------
    LumosDataError
        If a table cannot be used, or none of its galaxies is in the run.
    """
    known = read_known_redshifts(run, truth, catalog)
    page = redshift_page(run, known, truth, seed)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "metrics.json", json.dumps([metric.as_dict() for metric in page.metrics], indent=1) + "\n")
    charts = [{"section": name, **asdict(chart)} for name, some in page.charts.items() for chart in some]
    write_atomic(out / "charts.json", json.dumps(charts, indent=1) + "\n")
    write_page(out / "report.html", page)
    return page


def redshift_page(run: Path, known: KnownRedshifts, truth: Path, seed: int = 0) -> Page:
    """Return the page on the redshifts of a run.

    Parameters
    ----------
    run : Path
        Folder that ``lumos photoz`` wrote.
    known : KnownRedshifts
        Its galaxies whose redshifts are known.
    truth : Path
        Where these come from.
    seed : int, optional
        Of the galaxies that are drawn again for errors.

    Returns
    -------
    Page
        What it shows.
    """
    rng = np.random.default_rng(seed)
    sections = {
        "Redshifts": redshift_charts(known, rng),
        "p(z)": pdf_charts(known),
        "By magnitude, size, shape and redshift": group_charts(known, rng),
    }
    charts = {name: some for name, some in sections.items() if some}
    metrics = judge_redshifts(known, rng)
    picture = run / _PICTURE
    gallery = "data:image/png;base64," + b64encode(picture.read_bytes()).decode("ascii") if picture.is_file() else None
    facts = {"run": run, **_made_from(run), "known redshifts": truth, "galaxies": len(known), "lumos": __version__}
    tables = {_TABLE: format_redshifts(redshift_table(known))}
    return Page(_TITLE, metrics, charts, gallery, tables, {_TABLE: _NOTE}, facts, _GALLERY)


def _made_from(run: Path) -> dict[str, object]:
    settings = read_yaml(run / "settings.yaml")
    table, photoz = settings.get("table"), settings.get("photoz")
    facts: dict[str, object] = {}
    if isinstance(table, dict):
        facts["fluxes"] = table.get("path", "")
    if isinstance(photoz, dict):
        facts |= {name: photoz[name] for name in ("likelihood", "calibrate", "floor") if name in photoz}
    return facts
