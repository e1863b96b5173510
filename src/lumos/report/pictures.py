"""Pictures of a made catalogue and of a fitted PSF."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.statistics import SUMMARY_LEVELS

__all__ = ["draw_catalog", "draw_psf", "show_image"]


def show_image(data: AnyArray, axes: Axes) -> Axes:
    """Draw an image with a stretch that shows both sky and cores.

    Parameters
    ----------
    data : float array, shape (ny, nx)
        Pixels of the image; NaN is left white.
    axes : matplotlib Axes
        Where to draw.

    Returns
    -------
    matplotlib Axes
        The same axes, in pixel coordinates.
    """
    sample = data[np.isfinite(data)]
    low, middle, high = np.quantile(sample, SUMMARY_LEVELS)
    sigma = max((high - low) / 2, 1e-30)
    axes.imshow(np.arcsinh((data - middle) / (2 * sigma)), origin="lower", cmap="gray_r", vmin=-1, vmax=4)
    return axes


def draw_catalog(
    path: Path,
    data: AnyArray,
    ellipses: tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray],
    sizes: tuple[FloatArray, FloatArray, FloatArray],
    doubtful: BoolArray,
) -> None:
    """Draw the detections on the image, and size against magnitude.

    Parameters
    ----------
    path : Path
        PNG file to write.
    data : float array, shape (ny, nx)
        Pixels of the image; NaN is left white.
    ellipses : tuple of float arrays, shape (n,)
        x, y, semi-major and semi-minor axis in pixels, angle in radians.
    sizes : tuple of float arrays, shape (n,)
        Magnitude, half-light radius in arcsec and signal-to-noise ratio of each object.
    doubtful : bool array, shape (n,)
        Objects whose shape or position is not to be relied on; drawn in another colour.
    """
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    image_axes, size_axes = figure.subplots(1, 2, width_ratios=[1.2, 1])
    show_image(data, image_axes)
    x, y, semi_major, semi_minor, theta = ellipses
    magnitude, radius_arcsec, snr = sizes
    image_axes.add_collection(
        EllipseCollection(
            4 * semi_major,
            4 * semi_minor,
            np.degrees(theta),
            units="xy",
            offsets=np.column_stack([x, y]),
            offset_transform=image_axes.transData,
            facecolors="none",
            edgecolors=np.where(doubtful, "tab:orange", "tab:red").tolist(),
            linewidths=0.6,
        )
    )
    image_axes.set(xlabel="x (px)", ylabel="y (px)", title=f"{len(x)} objects (ellipses: 2 half-light radii)")
    image_axes.text(0.01, 0.01, f"orange: {doubtful.sum()} doubtful shapes", transform=image_axes.transAxes)
    size_axes.plot(magnitude[doubtful], radius_arcsec[doubtful], "o", ms=5, mfc="none", color="tab:orange", lw=0)
    points = size_axes.scatter(magnitude, radius_arcsec, c=np.log10(np.maximum(snr, 1)), s=6, cmap="viridis")
    figure.colorbar(points, ax=size_axes, label="log₁₀ signal-to-noise ratio")
    size_axes.set(xlabel="magnitude", ylabel="half-light radius (arcsec)", yscale="log", title="deconvolved size")
    figure.savefig(path, dpi=110, format="png")


def draw_psf(
    path: Path,
    pixels: tuple[FloatArray, FloatArray],
    models: Mapping[str, tuple[FloatArray, FloatArray]],
    residuals: Mapping[str, FloatArray],
    stars: tuple[FloatArray, FloatArray],
    title: str,
) -> None:
    """Draw the stars' radial profile with the models, their widths against brightness, and what the models leave.

    Parameters
    ----------
    path : Path
        PNG file to write.
    pixels : tuple of float arrays, shape (m,)
        Distance from the centre in pixels and pixel value over flux, of all pixels of all stars.
    models : mapping of str to tuple of float arrays, shape (k,)
        Distance and value per pixel of flux 1, of each model.
    residuals : mapping of str to float array, shape (size, size)
        Mean of stars less model, over flux, of each model; all are drawn with one scale.
    stars : tuple of float arrays, shape (n,)
        Signal-to-noise ratio and FWHM in arcsec of each star.
    title : str
        Title of the figure.
    """
    figure = Figure(figsize=(11 + 4.2 * len(residuals), 4.4), layout="constrained")
    profile_axes, width_axes, *residual_axes = figure.subplots(1, 2 + len(residuals))
    radius, profile = pixels
    profile_axes.plot(radius, profile, ".", ms=2, color="0.6", label="pixels of the stars")
    for (name, (distance, value)), colour in zip(models.items(), ("tab:red", "tab:blue"), strict=False):
        profile_axes.plot(distance, value, ".", ms=2, color=colour, label=name)
    edges = np.arange(0, 15.5, 0.5)
    groups = [profile[(radius >= low) & (radius < low + 0.5)] for low in edges[:-1]]
    medians = [np.median(group) if len(group) else np.nan for group in groups]
    profile_axes.plot(edges[:-1] + 0.25, medians, "o", ms=4, color="black", label="median")
    highest = max(float(np.max(value)) for _, value in models.values())
    profile_axes.set(
        xlabel="distance from the centre (px)",
        ylabel="share of the flux per pixel",
        yscale="log",
        ylim=(1e-5, 1.5 * highest),
        xlim=(0, 15),
    )
    profile_axes.legend(frameon=False, loc="upper right")
    width_axes.plot(*stars, "o", ms=3)
    width_axes.axhline(float(np.median(stars[1])), color="tab:red", lw=1)
    width_axes.set(xlabel="signal-to-noise ratio", ylabel="FWHM (arcsec)", xscale="log")
    limit = max((float(np.nanmax(np.abs(image))) for image in residuals.values()), default=1.0)
    for axes, (name, image) in zip(residual_axes, residuals.items(), strict=True):
        half = (len(image) - 1) / 2 + 0.5
        drawn = axes.imshow(
            image, origin="lower", extent=(-half, half, -half, half), cmap="RdBu_r", vmin=-limit, vmax=limit
        )
        axes.set(xlabel="x (px)", ylabel="y (px)", title=f"held-out stars less {name}")
        figure.colorbar(drawn, ax=axes, label="mean, share of the flux per pixel", shrink=0.8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110, format="png")
