"""The picture of one object: what it was measured on in each exposure, and all of its PDFs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from lumos.conventions import AnyArray
from lumos.flags import MaskPlane
from lumos.pdf import FluxPdf
from lumos.photometry.views import StampView
from lumos.report.gallery import DARKEST, draw_noise_units
from lumos.report.pdfs import draw_curves

__all__ = ["ObjectRow", "draw_object"]

#: Bands side by side below the stamps; width of the picture and height of a line of stamps, inches.
_BANDS, _WIDTH, _LINE = 4, 14.0, 2.7
#: Heights of the title and of the panels below, inches.
_HEAD, _BELOW = 0.45, 3.0
#: Values of the brightest colour for a faint object, and for the brightest.
_FAINT, _BRIGHT = 5.0, 200.0
#: Colours of pixels without a plane and of planes, the lowest on top.
_GOOD = "#f4f4f4"
_PLANES = ("#d62728", "#ff7f0e", "#1f77b4", "#7f7f7f", "#bcbd22", "#9fd3a5", "#e377c2", "#9467bd")


@dataclass(frozen=True)
class ObjectRow:
    """An object on one CCD of one exposure.

    Parameters
    ----------
    title : str
        Exposure, flux and flags.
    name : str
        Short name of the exposure.
    band : str
        Band.
    view : StampView or None
        Its stamp; None where there is none, or where it is not shown.
    why : str
        Why there is no stamp; empty where none is asked for.
    pdf : FluxPdf or None
        Its PDF, one row; None where it has none.
    """

    title: str
    name: str
    band: str
    view: StampView | None
    why: str
    pdf: FluxPdf | None


def draw_object(
    path: Path, title: str, rows: Sequence[ObjectRow], coadds: Mapping[str, FluxPdf], unit: str = "nJy"
) -> None:
    """Draw an object: a line of pictures for each exposure, then a panel for each band with all PDFs.

    Parameters
    ----------
    path : Path
        PNG file to write.
    title : str
        Which object it is.
    rows : sequence of ObjectRow
        At least one; those with a stamp, or with a reason for having none, have a line.
    coadds : mapping of FluxPdf
        PDF of the coadd, one row, by band.
    unit : str, optional
        Of the fluxes.
    """
    lines = [row for row in rows if row.view is not None or row.why]
    bands = list(dict.fromkeys(row.band for row in rows))
    n_below = -(-len(bands) // _BANDS)
    heights = [_HEAD, *([_LINE] * len(lines)), *([_BELOW] * n_below)]
    figure = Figure(figsize=(_WIDTH, sum(heights)), facecolor="white")
    head, *parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    head.suptitle(title, fontsize=13, x=0.01, y=0.75, ha="left", parse_math=False)
    for row, part in zip(lines, parts, strict=False):
        _draw_line(row, coadds.get(row.band), part, unit)
    for number in range(n_below):
        place = {"left": 0.01, "right": 0.985, "top": 0.9, "bottom": 0.17, "wspace": 0.06}
        panels = parts[len(lines) + number].subplots(1, _BANDS, squeeze=False, gridspec_kw=place)[0]
        for axes in panels:
            axes.set_visible(False)
        for band, axes in zip(bands[number * _BANDS : (number + 1) * _BANDS], panels, strict=False):
            axes.set_visible(True)
            _draw_band(band, [row for row in rows if row.band == band], coadds.get(band), axes, unit)
    figure.savefig(path, dpi=90, format="png")


def _draw_line(row: ObjectRow, coadd: FluxPdf | None, part: SubFigure, unit: str) -> None:
    """Draw the stamp of one exposure, what it is made of, its mask and its PDF."""
    part.suptitle(row.title, fontsize=10, x=0.01, y=0.985, ha="left", parse_math=False)
    place = {"left": 0.01, "right": 0.985, "top": 0.84, "bottom": 0.13, "wspace": 0.06}
    axes = part.subplots(1, 6, width_ratios=[1, 1, 1, 1, 1, 1.5], gridspec_kw=place)
    view = row.view
    if view is None:
        for one in axes[:5]:
            one.set_visible(False)
        axes[0].set_visible(True)
        axes[0].set_axis_off()
        axes[0].text(0, 0.5, row.why, fontsize=9, transform=axes[0].transAxes, va="center", parse_math=False)
    else:
        images = {
            "stamp": np.where(view.good, view.pixels, np.nan),
            "model": view.model,
            "residual": np.where(view.good, view.residual, np.nan),
            "neighbours": view.neighbours,
        }
        # What is left of a bright object is looked at in units of the noise, as that of a faint one.
        top = float(np.clip(np.max(view.model + view.neighbours, initial=0.0), _FAINT, _BRIGHT))
        for one, (name, image) in zip(axes, images.items(), strict=False):
            highest = _FAINT if name == "residual" else top
            draw_noise_units(image, one, highest)
            _mark(view.x, view.y, one)
            one.set_title(f"{name} ({DARKEST:.0f} to {highest:.0f} σ)", fontsize=8)
        _draw_mask(view.mask, axes[4])
    _draw_pdfs({row.name: row.pdf, "coadd": coadd}, axes[5], unit)


def _draw_mask(mask: AnyArray, axes: Axes) -> None:
    """Draw which planes are set, the lowest of each pixel, and name them."""
    lowest = np.zeros(mask.shape, dtype=np.int64)
    patches: list[Artist] = []
    for number, plane in reversed(list(enumerate(MaskPlane, start=1))):
        there = (mask & int(plane)) != 0
        lowest[there] = number
        if there.any():
            patches.insert(0, Patch(color=_PLANES[number - 1], label=str(plane.name)))
    axes.imshow(lowest, origin="lower", cmap=ListedColormap([_GOOD, *_PLANES]), vmin=-0.5, vmax=len(_PLANES) + 0.5)
    axes.set(xticks=[], yticks=[])
    axes.set_title("mask" if patches else "mask: nothing", fontsize=8)
    if patches:
        place = (0.0, -0.01)
        axes.legend(handles=patches, fontsize=6, loc="upper left", bbox_to_anchor=place, ncols=3, frameon=False)


def _mark(x: float, y: float, axes: Axes) -> None:
    """Point at the object without hiding it."""
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        axes.plot(
            [x + 7 * dx, x + 12 * dx], [y + 7 * dy, y + 12 * dy], color="#7fd4c1", lw=1, scalex=False, scaley=False
        )


def _draw_band(band: str, rows: Sequence[ObjectRow], coadd: FluxPdf | None, axes: Axes, unit: str) -> None:
    """Draw the PDFs of all exposures of a band, and that of the coadd."""
    _draw_pdfs({row.name: row.pdf for row in rows} | {"coadd": coadd}, axes, unit)
    axes.set_title(f"{band}: {len(rows)} exposure{'s' if len(rows) > 1 else ''}", fontsize=9, parse_math=False)


def _draw_pdfs(pdfs: Mapping[str, FluxPdf | None], axes: Axes, unit: str) -> None:
    known = {name: pdf for name, pdf in pdfs.items() if pdf is not None}
    axes.tick_params(labelsize=7)
    if not known:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no PDF", ha="center", transform=axes.transAxes)
        return
    draw_curves(known, axes, unit)
    axes.xaxis.label.set_fontsize(8)
    if "coadd" in known:
        axes.lines[-1].set(color="black", linewidth=2)
    for text in axes.legend(frameon=False, fontsize=6).get_texts():
        text.set_parse_math(False)
