"""Cost of one galaxy image, on one thread: ours, GalSim's and the paper's way, in one run.

The paper's way is 60 x 60 pixels drawn on a 600 x 600 grid, convolved with a Moffat of 400 x 400 samples and
binned by 10.

Run: ``python benchmarks/bench_render.py --n-sources 2000``
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from lumos.profiles import Shapes, render
from lumos.profiles.reference import render_galsim
from lumos.profiles.transforms import moffat_alpha, moffat_table, sersic_b, sersic_table
from lumos.psfs import MoffatPsf

SIZE = 60
OVERSAMPLING = 10
FWHM, BETA = 4.5, 4.765


def draw_shapes(n_sources: int) -> Shapes:
    """Draw a survey-like population."""
    rng = np.random.default_rng(1)
    columns = (
        np.exp(rng.normal(np.log(3), 0.5, n_sources)).clip(0.5, 20),
        np.exp(rng.normal(np.log(1.3), 0.6, n_sources)).clip(0.3, 6.2),
        rng.uniform(0.1, 1, n_sources),
        rng.uniform(-np.pi, np.pi, n_sources),
    )
    return Shapes(*((SIZE - 1) / 2 + rng.uniform(-0.5, 0.5, (2, n_sources))), *columns)


def render_oversampled(shapes: Shapes) -> NDArray[np.float64]:
    """Draw galaxies as the paper describes it."""
    half = (OVERSAMPLING - 1) / 2
    fine = np.arange(SIZE * OVERSAMPLING) - half
    # "same" cuts the full convolution so that sample 199 of 400 is the kernel's centre.
    reach = np.arange(400) - 199
    alpha = OVERSAMPLING * FWHM * float(moffat_alpha(np.array(BETA)))
    moffat = (1 + (reach[:, None] ** 2 + reach**2) / alpha**2) ** -BETA
    moffat /= moffat.sum()
    images = np.empty((len(shapes), SIZE, SIZE))
    columns = (getattr(shapes, field.name) for field in fields(shapes))
    for i, (x, y, radius, index, q, theta) in enumerate(zip(*columns, strict=True)):
        dx, dy = fine / OVERSAMPLING - x, (fine / OVERSAMPLING - y)[:, None]
        major = dx * np.cos(theta) + dy * np.sin(theta)
        minor = (dy * np.cos(theta) - dx * np.sin(theta)) / q
        r = np.hypot(major, minor) / radius
        galaxy = np.exp(-sersic_b(np.array(index)) * (r ** (1 / index) - 1))
        blurred = scipy.signal.fftconvolve(galaxy, moffat, mode="same")
        images[i] = blurred.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING).sum((1, 3))
    return images / images.sum((1, 2), keepdims=True)


def best_time(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of some wall times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(n_sources: int) -> list[tuple[str, float]]:
    """Return what was drawn and its milliseconds per galaxy."""
    shapes = draw_shapes(n_sources)
    one = np.ones(1)
    shared = MoffatPsf(FWHM * one, BETA * one)
    rng = np.random.default_rng(2)
    each = MoffatPsf(rng.uniform(3, 6, n_sources), rng.uniform(2.5, 5, n_sources))
    sersic_table.cache_clear()
    moffat_table.cache_clear()
    first = best_time(lambda: (sersic_table(), moffat_table()), 1)
    print(f"tables, once per process: {first:.2f} s")
    rows = [
        ("lumos, one Moffat", 1e3 / n_sources * best_time(lambda: render(shapes, shared, size=SIZE), 3)),
        ("lumos, a Moffat each", 1e3 / n_sources * best_time(lambda: render(shapes, each, size=SIZE), 3)),
    ]
    n_slow = max(1, n_sources // 50)
    few = shapes.take(slice(n_slow))
    slow: dict[str, Callable[[], object]] = {
        "GalSim, new indices": lambda: render_galsim(few, shared, size=SIZE),
        "GalSim, warm": lambda: render_galsim(few, shared, size=SIZE),
        "paper, 600 x 600": lambda: render_oversampled(few),
    }
    rows.extend((name, 1e3 / n_slow * best_time(function, 1)) for name, function in slow.items())
    print_errors(few, shared)
    return rows


def print_errors(shapes: Shapes, psf: MoffatPsf) -> None:
    """Print how far ours and the paper's images are from GalSim's."""
    truth = render_galsim(shapes, psf, size=SIZE, dtype=torch.float64).numpy()
    images = {
        "lumos": render(shapes, psf, size=SIZE).numpy(),
        # These are normalised to the stamp, not to the whole plane.
        "paper": render_oversampled(shapes) * truth.sum((1, 2), keepdims=True),
    }
    for name, image in images.items():
        error = np.abs(image - truth).max((1, 2)) / truth.max((1, 2))
        print(f"worst pixel over the peak, {name} against GalSim: median {np.median(error):.1e}, max {error.max():.1e}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-sources", type=int, default=2000, help="galaxies for ours; a fiftieth for the others")
    n_sources = parser.parse_args().n_sources
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}, {n_sources} galaxies of {SIZE} x {SIZE} px, FWHM {FWHM} px"
    )
    rows = measure(n_sources)
    print(f"{'':24}{'ms per galaxy':>14}{'ratio':>10}")
    for name, milliseconds in rows:
        print(f"{name:24}{milliseconds:14.3f}{milliseconds / rows[0][1]:10.1f}")


if __name__ == "__main__":
    main()
