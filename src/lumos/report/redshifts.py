"""Pictures of photometric redshifts: p(z), and the best model over the fluxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lumos.conventions import BoolArray, FloatArray
from lumos.files import whole_file

__all__ = ["RedshiftExhibit", "draw_redshifts"]


@dataclass(frozen=True, eq=False)
class RedshiftExhibit:
    """A galaxy to be drawn.

    Parameters
    ----------
    title : str
        What is written above it.
    bands : tuple of str
        Names, in the order in which they are drawn.
    flux, flux_err, model : ndarray, shape (n_bands,)
        Fluxes, NaN where there is none, errors, and the best model, of one unit.
    narrow : ndarray of bool, shape (n_bands,)
        Which bands are narrow.
    redshifts, density : ndarray, shape (n_z,)
        p(z).
    known : float
        Known redshift; NaN where there is none.
    """

    title: str
    bands: tuple[str, ...]
    flux: FloatArray
    flux_err: FloatArray
    model: FloatArray
    narrow: BoolArray
    redshifts: FloatArray
    density: FloatArray
    known: float = float("nan")


def draw_redshifts(path: Path, exhibits: Sequence[RedshiftExhibit]) -> None:
    """Draw galaxies, one in a row: fluxes with the best model, and p(z).

    Parameters
    ----------
    path : Path
        PNG file to write.
    exhibits : sequence of RedshiftExhibit
        At least one.
    """
    figure = Figure(figsize=(12, 2.4 * len(exhibits) + 0.4), layout="constrained", facecolor="white")
    for line, exhibit in zip(
        figure.subplots(len(exhibits), 2, squeeze=False, width_ratios=[2, 1]), exhibits, strict=True
    ):
        _draw_fluxes(exhibit, line[0])
        _draw_density(exhibit, line[1])
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def _draw_fluxes(exhibit: RedshiftExhibit, axes: Axes) -> None:
    place = np.arange(len(exhibit.bands))
    axes.axhline(0, color="0.8", linewidth=0.8)
    for kind, colour in ((exhibit.narrow, "#2B86C5"), (~exhibit.narrow, "#D55E00")):
        axes.errorbar(
            place[kind], exhibit.flux[kind], exhibit.flux_err[kind], fmt="o", ms=3, linewidth=0.8, color=colour
        )
        axes.plot(place[kind], exhibit.model[kind], "_", ms=7, color="black")
    some = place[:: max(len(place) // 12, 1)]
    axes.set_xticks(some, [exhibit.bands[number] for number in some], fontsize=7)
    axes.set_ylabel("flux", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_title(exhibit.title, fontsize=9, loc="left", parse_math=False)


def _draw_density(exhibit: RedshiftExhibit, axes: Axes) -> None:
    axes.plot(exhibit.redshifts, exhibit.density, drawstyle="steps-mid", color="#2B86C5", linewidth=1)
    if np.isfinite(exhibit.known):
        axes.axvline(exhibit.known, color="black", linewidth=1, linestyle="--")
    weight = exhibit.density > 1e-3 * exhibit.density.max()
    seen = exhibit.redshifts[weight]
    pad = 0.3 * (seen[-1] - seen[0]) + 0.01
    axes.set(xlim=(seen[0] - pad, seen[-1] + pad), yticks=[])
    axes.set_xlabel("z", fontsize=8)
    axes.tick_params(labelsize=7)
