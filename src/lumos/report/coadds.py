"""Pictures of coadds: the PDFs of the exposures with that of their coadd, and whether coadds are true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lumos.conventions import FloatArray
from lumos.pdf import FluxPdf
from lumos.validate.calibration import PdfMetrics

__all__ = ["CoaddPanel", "draw_coadds"]


@dataclass(frozen=True)
class CoaddPanel:
    """One galaxy in one band.

    Parameters
    ----------
    title : str
        What it is.
    exposures : FluxPdf
        PDF of each exposure, nJy.
    coadds : mapping of FluxPdf
        Coadded PDFs of one row each, by the name of how they were made.
    truth : float or None
        True flux in nJy.
    """

    title: str
    exposures: FluxPdf
    coadds: Mapping[str, FluxPdf]
    truth: float | None = None


def draw_coadds(path: Path, panels: Sequence[CoaddPanel], metrics: Mapping[str, Mapping[str, PdfMetrics]]) -> None:
    """Draw galaxies' PDFs (the paper's Fig. 17), and below them the PIT of coadds.

    Parameters
    ----------
    path : Path
        PNG file to write.
    panels : sequence of CoaddPanel
        Galaxies, side by side.
    metrics : mapping
        One histogram each by title; in it, figures by the name of how the coadds were made.
    """
    n_columns = max(len(panels), len(metrics))
    figure = Figure(figsize=(4.3 * n_columns, 7.2), layout="constrained")
    grid = figure.subplots(2, n_columns, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, panel in zip(grid[0], panels, strict=False):
        axes.set_visible(True)
        _draw_panel(axes, panel)
    for axes, (title, results) in zip(grid[1], metrics.items(), strict=False):
        axes.set_visible(True)
        edges = np.linspace(0, 1, len(next(iter(results.values())).pit_histogram) + 1)
        for name, result in results.items():
            density = result.pit_histogram / max(result.n, 1) * (len(edges) - 1)
            axes.stairs(density, edges, lw=1.6, label=f"{name}: KS {result.pit_ks:.3f}")
        axes.axhline(1, color="grey", lw=1, ls=":")
        axes.set(title=title, xlabel="PIT", ylabel="density", xlim=(0, 1), ylim=(0, None))
        axes.legend(frameon=False, fontsize="small")
    grid[0, 0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=100)


def _draw_panel(axes: Axes, panel: CoaddPanel) -> None:
    pdfs = list(panel.coadds.values())
    ends = np.concatenate([panel.exposures.quantile(np.array([[0.1, 0.9]])), *(_ends(pdf) for pdf in pdfs)])
    flux = np.linspace(ends[:, 0].min(), ends[:, 1].max(), 800)
    for number, curve in enumerate(panel.exposures.pdf(flux[None])):
        axes.plot(flux, curve, lw=0.9, ls="--", label="exposures" if number == 0 else None)
    curves = [pdf.pdf(flux[None])[0] for pdf in pdfs]
    for name, curve, colour in zip(panel.coadds, curves, ("black", "tab:red", "tab:blue"), strict=False):
        axes.plot(flux, curve, lw=1.8, color=colour, label=name)
    if panel.truth is not None:
        axes.axvline(panel.truth, color="tab:green", lw=1.4, label="truth")
    # Spikes are cut off: they would flatten all else.
    top = min(1.1 * max(curve.max() for curve in curves), 2.5 * curves[0].max())
    axes.set(title=panel.title, xlabel="flux (nJy)", yticks=[], xlim=(flux[0], flux[-1]), ylim=(0, top))
    axes.locator_params(axis="x", nbins=5)


def _ends(pdf: FluxPdf) -> FloatArray:
    return pdf.quantile(np.array([[0.002, 0.998]]))
