"""Pictures of flux PDFs beside the stamps that they were measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lumos.conventions import AnyArray
from lumos.pdf import FluxPdf
from lumos.report.pictures import show_image

__all__ = ["PdfPanel", "draw_curves", "draw_pdfs"]


@dataclass(frozen=True)
class PdfPanel:
    """One galaxy on one exposure.

    Parameters
    ----------
    title : str
        What it is.
    stamp : float array, shape (size, size)
        Pixels around the galaxy, image units.
    pdfs : mapping of FluxPdf
        PDFs of one row each, in nJy, by the name of what made them.
    truth : float or None
        True flux in nJy.
    """

    title: str
    stamp: AnyArray
    pdfs: Mapping[str, FluxPdf]
    truth: float | None = None


def draw_pdfs(path: Path, panels: Sequence[PdfPanel], n_columns: int = 4) -> None:
    """Draw stamps with the flux PDFs measured on them.

    Parameters
    ----------
    path : Path
        PNG file to write.
    panels : sequence of PdfPanel
        Galaxies to draw, one panel each.
    n_columns : int, optional
        Galaxies side by side.
    """
    n_lines = -(-len(panels) // n_columns)
    figure = Figure(figsize=(3.4 * n_columns, 4.3 * n_lines), layout="constrained")
    grid = figure.subplots(2 * n_lines, n_columns, squeeze=False, height_ratios=[1, 0.85] * n_lines)
    for axes in grid.flat:
        axes.set_visible(False)
    for number, panel in enumerate(panels):
        line, column = divmod(number, n_columns)
        image, curve = grid[2 * line, column], grid[2 * line + 1, column]
        image.set_visible(True)
        curve.set_visible(True)
        show_image(panel.stamp, image).set(title=panel.title, xticks=[], yticks=[])
        draw_curves(panel.pdfs, curve)
        if panel.truth is not None:
            curve.axvline(panel.truth, color="black", lw=1, ls="--", label="truth")
        if number == 0:
            curve.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=100)


def draw_curves(pdfs: Mapping[str, FluxPdf], axes: Axes, unit: str = "nJy") -> None:
    """Draw PDFs of one flux over each other.

    Parameters
    ----------
    pdfs : mapping of FluxPdf
        One or more, of one row each, by the name of what made them.
    axes : matplotlib Axes
        Where to draw.
    unit : str, optional
        Of the fluxes.
    """
    ends = np.array([pdf.quantile(np.array([[0.002, 0.998]]))[0] for pdf in pdfs.values()])
    flux = np.linspace(ends[:, 0].min(), ends[:, 1].max(), 600)
    for name, pdf in pdfs.items():
        axes.plot(flux, pdf.pdf(flux[None])[0], lw=1.4, label=name)
    axes.set(xlabel=f"flux ({unit})", yticks=[], xlim=(flux[0], flux[-1]), ylim=(0, None))
    axes.locator_params(axis="x", nbins=4)
