"""Pictures of galaxies: what was measured, what was subtracted, what is left, and the PDF."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lumos.conventions import FloatArray
from lumos.validate.evidence.gallery import Exhibit

__all__ = ["DARKEST", "draw_noise_units", "gallery_png"]

#: Range of the images in units of the sky's noise, and pixels of the middle that are shown.
_RANGE, _SIDE = (-4.0, 12.0), 60
#: Value of the darkest colour.
DARKEST = _RANGE[0]


def gallery_png(exhibits: Sequence[Exhibit]) -> str:
    """Draw galaxies, one in a row.

    Parameters
    ----------
    exhibits : sequence of Exhibit
        At least one.

    Returns
    -------
    str
        PNG as a data URI.
    """
    n_columns = len(exhibits[0].images) + 1
    figure = Figure(figsize=(2.3 * n_columns + 1.2, 2.55 * len(exhibits)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(exhibits), n_columns, squeeze=False, width_ratios=[1] * (n_columns - 1) + [1.5])
    for number, (line, exhibit) in enumerate(zip(grid, exhibits, strict=True)):
        for axes, (name, image) in zip(line, exhibit.images.items(), strict=False):
            draw_noise_units(image, axes)
            if number == 0:
                axes.text(0.04, 0.04, name, transform=axes.transAxes, fontsize=9, color="white")
        line[0].set_title(exhibit.title, fontsize=9, loc="left")
        _draw_pdf(exhibit, line[-1], first=number == 0)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=80)
    return "data:image/png;base64," + b64encode(out.getvalue()).decode("ascii")


def draw_noise_units(image: FloatArray, axes: Axes, top: float = _RANGE[1]) -> None:
    """Draw the middle of an image in units of the sky's noise; pixels without a value are blue.

    Parameters
    ----------
    image : float array, shape (size, size)
        NaN where pixels are masked.
    axes : matplotlib Axes
        Where to draw.
    top : float, optional
        Value of the brightest colour.
    """
    low = max(0, (image.shape[0] - _SIDE) // 2)
    middle = image[low : low + _SIDE, low : low + _SIDE]
    colours = colormaps["magma"].with_extremes(bad="#6f9fc8")
    # In the pixels of the whole image.
    first, last = low - 0.5, low + len(middle) - 0.5
    extent = (first, last, first, last)
    axes.imshow(middle, origin="lower", extent=extent, vmin=_RANGE[0], vmax=top, cmap=colours, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _draw_pdf(exhibit: Exhibit, axes: Axes, *, first: bool) -> None:
    axes.plot(exhibit.flux, exhibit.density, color="#2B86C5", linewidth=1.5, label="PDF")
    for component in exhibit.components:
        axes.plot(exhibit.flux, component, color="#2B86C5", linewidth=0.6, alpha=0.5)
    top = float(np.max(exhibit.density))
    axes.axvline(exhibit.truth, color="black", linewidth=1, linestyle="--", label="truth")
    marks = {"aperture": "s", "profile_fit": "^", "optimal": "o", "optimal_free": "v", "scene": "D"}
    inside = {name: flux for name, flux in exhibit.fluxes.items() if name in marks}
    for number, (name, flux) in enumerate(inside.items()):
        if exhibit.flux[0] <= flux <= exhibit.flux[-1]:
            axes.plot(flux, (0.08 + 0.09 * number) * top, marks[name], color="#D55E00", markersize=4, label=name)
    axes.set(yticks=[], ylim=(0, 1.1 * top), xlim=(exhibit.flux[0], exhibit.flux[-1]))
    axes.tick_params(labelsize=7)
    axes.set_xlabel(f"flux ({exhibit.unit})", fontsize=7)
    axes.locator_params(axis="x", nbins=4)
    if first:
        axes.legend(frameon=False, fontsize=6, loc="upper left")
