"""Pictures of simulations: images side by side, distributions beside real ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lumos.conventions import AnyArray, FloatArray
from lumos.report.pictures import show_image

__all__ = ["draw_distributions", "draw_images"]


def draw_images(path: Path, images: Mapping[str, AnyArray], columns: int = 4, width: float = 3.0) -> None:
    """Draw images side by side, each with its own stretch.

    Parameters
    ----------
    path : Path
        PNG file to write.
    images : mapping
        Images of shape (ny, nx) by title.
    columns : int, optional
        Images in a row.
    width : float, optional
        Width of an image in inches.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(width * columns, 1.08 * width * rows), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(rows, columns, squeeze=False).flat, images.items(), strict=False):
        show_image(image, axes)
        axes.set_title(title, fontsize="medium")
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def draw_distributions(path: Path, quantities: Mapping[str, Mapping[str, FloatArray]]) -> None:
    """Draw normalised histograms of simulated and real samples.

    Parameters
    ----------
    path : Path
        PNG file to write.
    quantities : mapping
        For each axis label, samples by name; the first is filled, the others are steps.
    """
    figure = Figure(figsize=(3.6 * len(quantities), 3.2), layout="constrained")
    for axes, (label, samples) in zip(
        figure.subplots(1, len(quantities), squeeze=False)[0], quantities.items(), strict=True
    ):
        low, high = np.quantile(np.concatenate(list(samples.values())), [0.002, 0.998])
        edges = np.linspace(low, high, 25)
        for number, (name, values) in enumerate(samples.items()):
            style = {"histtype": "stepfilled", "alpha": 0.35} if number == 0 else {"histtype": "step", "lw": 1.5}
            axes.hist(values, edges, density=True, label=f"{name} ({len(values)})", **style)
        axes.set(xlabel=label, yticks=[])
        axes.legend(frameon=False, fontsize="x-small")
    figure.savefig(path, dpi=110)
