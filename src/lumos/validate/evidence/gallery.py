"""Galaxies to look at: the best, middle and worst of an exposure whose fluxes are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.flags import flag_names
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.photometry.measured import MeasuredRun
from lumos.photometry.views import measured_ccd, view_stamp
from lumos.runs.shards import read_shard
from lumos.validate.evidence.known import KnownFluxes
from lumos.validate.evidence.pdfs import cut_rows, pdf_columns, row_pdfs

__all__ = ["Exhibit", "choose_exhibits", "pdf_curves"]

#: Galaxies of each kind, and the middle of a Gaussian's absolute pulls.
_EACH, _MIDDLE = 3, 0.674


@dataclass(frozen=True)
class Exhibit:
    """One galaxy on one exposure.

    Parameters
    ----------
    title : str
        Which it is, and how far off.
    images : mapping of float array, shape (size, size)
        By name, in units of the sky's noise; NaN where pixels are masked.
    flux, density : float array, shape (n,)
        Its PDF, in the unit of the truth.
    components : float array, shape (k, n)
        Densities of the components, which sum to the PDF.
    truth : float
        True flux.
    fluxes : mapping of float
        Measured fluxes by estimator.
    unit : str
        Of all fluxes.
    """

    title: str
    images: Mapping[str, FloatArray]
    flux: FloatArray
    density: FloatArray
    components: FloatArray
    truth: float
    fluxes: Mapping[str, float]
    unit: str


def choose_exhibits(run: MeasuredRun, known: KnownFluxes) -> list[Exhibit]:
    """Choose galaxies of one exposure and cut out what their fluxes were measured on.

    Parameters
    ----------
    run : MeasuredRun
        A run.
    known : KnownFluxes
        Its rows, or those of several runs.

    Returns
    -------
    list of Exhibit
        Three with the smallest error above a signal-to-noise ratio of 10, three in the middle, three with the largest;
        fewer where there are fewer. Empty if the exposure cannot be read any more.
    """
    name = run.settings.default_estimator
    finished = run.finished
    here = np.isin(known.exposure, list(finished)) & np.isfinite(known.estimators[name].pull)
    places, counts = np.unique(known.exposure[here], return_counts=True)
    if not len(places):
        return []
    chosen = str(places[np.argmax(counts)])
    path = Path(finished[chosen]["file"])
    if not path.is_file():
        return []
    for exposure in read_exposure(path, run.survey, psf_dir=run.psf_dir):
        rows = np.flatnonzero(here & (known.exposure == chosen) & (known.detector == exposure.detector))
        table = read_shard(run.path / finished[chosen]["shard"])
        measured = set(table["object_id"].to_numpy().tolist())
        rows = rows[[int(one) in measured for one in known.object_id[rows]]]
        if len(rows):
            return _exhibits(run, exposure, known, _best_and_worst(known, name, rows))
    return []


def _best_and_worst(known: KnownFluxes, name: str, rows: IntArray) -> dict[str, IntArray]:
    off = np.abs(known.estimators[name].pull[rows])
    bright = known.truth[rows] > 10 * known.estimators[name].flux_err[rows]
    best = rows[np.argsort(np.where(bright, off, np.inf), kind="stable")][: min(_EACH, int(bright.sum()))]
    middle = rows[np.argsort(np.abs(off - _MIDDLE), kind="stable")][:_EACH]
    worst = rows[np.argsort(-off, kind="stable")][:_EACH]
    return {"best": best, "middle": middle, "worst": worst}


def _exhibits(run: MeasuredRun, exposure: Exposure, known: KnownFluxes, kinds: Mapping[str, IntArray]) -> list[Exhibit]:
    """Cut out the galaxies as they were measured."""
    ccd = measured_ccd(run, exposure)
    table = read_shard(run.path / run.finished[exposure.exposure_id]["shard"])
    numbers = {int(one): row for row, one in enumerate(ccd.objects.catalog.object_id)}
    lines = {
        int(one): row
        for row, (one, detector) in enumerate(
            zip(table["object_id"].to_pylist(), table["detector"].to_pylist(), strict=True)
        )
        if detector == exposure.detector
    }
    exhibits = []
    flux_unit = "nJy" if np.isfinite(exposure.zeropoint) else "image units"
    for kind, rows in kinds.items():
        for row in rows:
            key = int(known.object_id[row])
            if key not in numbers or key not in lines:
                continue
            line = table.slice(lines[key], 1)
            found = {name: float(of.flux[row]) for name, of in known.estimators.items() if np.isfinite(of.flux[row])}
            default = run.settings.default_estimator
            view = view_stamp(ccd, numbers[key], found.get(default, 0.0))
            assert view is not None  # it was measured
            masked = np.where(view.good, 1.0, np.nan)
            images = {
                "stamp": view.pixels * masked,
                "scene": view.neighbours + view.model,
                "neighbours taken away": (view.pixels - view.neighbours) * masked,
                "what is left": view.residual * masked,
            }
            title = f"{kind}: {_title(known, int(row), default)}"
            cut = bool(cut_rows(run, known.by["ref_mag"][row : row + 1])[0])
            pdf = pdf_curves(pdf_columns(line), float(known.truth[row]), cut=cut)
            exhibits.append(Exhibit(title, images, *pdf, float(known.truth[row]), found, flux_unit))
    return exhibits


def _title(known: KnownFluxes, row: int, name: str) -> str:
    flags = [one for one in flag_names(int(known.flags[row])) if one not in ("NEIGHBOUR", "NO_ZEROPOINT")]
    off = f"off by {known.estimators[name].pull[row]:+.1f} errors"
    return ", ".join([str(known.object_id[row]), str(known.band[row]), off, *flags])


def pdf_curves(
    parts: tuple[FloatArray, FloatArray, FloatArray], truth: float, *, cut: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the curves of one PDF.

    Parameters
    ----------
    parts : tuple of three float array, each of shape (1, k)
        Weights, means, standard deviations.
    truth : float
        Flux that the curves reach.
    cut : bool
        Whether components are cut at flux 0.

    Returns
    -------
    flux, density : float array, shape (n,)
        The PDF.
    components : float array, shape (k, n)
        Densities of the components, which sum to it.
    """
    weights = parts[0][0]
    pdf = row_pdfs(parts, cut)
    centre, spread = float(pdf.mean()[0]), float(np.sqrt(pdf.variance()[0]))
    low, high = min(centre - 4 * spread, truth - spread), max(centre + 4 * spread, truth + spread)
    flux = np.linspace(low, high, 300)
    if cut and low < 0 < high:
        # The edge stands upright.
        flux = np.sort(np.append(flux, [-1e-6 * spread, 0.0]))
    turned = tuple(part[0][:, None] for part in parts)
    components = weights[:, None] * row_pdfs((np.ones_like(turned[0]), *turned[1:]), cut).pdf(flux[None])
    return flux, components.sum(axis=0), components
