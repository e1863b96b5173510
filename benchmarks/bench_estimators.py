"""Time of the flux estimators per galaxy, on one thread, next to sep, photutils and Nelder-Mead.

Run ``python benchmarks/bench_estimators.py``. All figures of a run share the same stamps and the same load of the
machine, so that the ratios mean something where the times do not. Batches of 128 to 256 stamps are
fastest: the buffers of larger ones go back to the system after each step, and fetching them again costs more than
the arithmetic.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import sep
import torch
from astropy.stats import sigma_clipped_stats
from photutils.aperture import CircularAnnulus, EllipticalAperture
from scipy.optimize import minimize

from lumos.background.annulus import annulus_background
from lumos.background.geometry import STANDARD_GEOMETRY
from lumos.estimators import ESTIMATORS, Ellipses, StampBatch

STAMP = 60
LARGE = 92
SKY = 100.0
REPEATS = 5


def make_batch(n: int, rng: np.random.Generator) -> StampBatch:
    """Return n elliptical Moffat profiles with Poisson noise on a flat sky, with a variance per pixel."""
    x, y = 29.5 + rng.uniform(-0.5, 0.5, (2, n))
    sigma, ratio, theta = rng.uniform(1.5, 3.5, n), rng.uniform(0.5, 1, n), rng.uniform(-1.5, 1.5, n)
    step = np.arange(STAMP)
    dx, dy = step[None, None, :] - x[:, None, None], step[None, :, None] - y[:, None, None]
    cos, sin = np.cos(theta)[:, None, None], np.sin(theta)[:, None, None]
    scale = sigma[:, None, None]
    radius2 = ((dx * cos + dy * sin) / scale) ** 2 + ((dy * cos - dx * sin) / (scale * ratio[:, None, None])) ** 2
    # beta = 2.5: wings as galaxies have them (a Gaussian's underflow, which is slow).
    profile = 1.5 / (np.pi * (2 * sigma) ** 2 * ratio)[:, None, None] * (1 + radius2 / 4) ** -2.5
    data = rng.poisson(SKY + 1500 * profile)
    half_light = 2 * sigma * np.sqrt(2 ** (1 / 1.5) - 1)

    def tensor(values: object) -> torch.Tensor:
        return torch.tensor(np.broadcast_to(values, (n,)) if np.ndim(values) < 2 else values, dtype=torch.float32)

    return StampBatch(
        data=tensor(data),
        good=torch.ones((n, STAMP, STAMP), dtype=torch.bool),
        sky_variance=tensor(np.full((n, STAMP, STAMP), SKY)),
        gain=tensor(1.0),
        profile=tensor(profile),
        x=tensor(x),
        y=tensor(y),
        ellipses=Ellipses(tensor(half_light), tensor(half_light * ratio), tensor(theta)),
        background=tensor(SKY),
        background_err=tensor(0.17),
        own_light=tensor(1e-6),
    )


def best_time(function: Callable[[], object], n: int, repeats: int = REPEATS) -> float:
    """Return the best time in microseconds per galaxy, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e6 * min(times) / n


def sep_apertures(batch: StampBatch) -> None:
    """Sum each ellipse with sep, one call per stamp as for separate cutouts."""
    ellipses = batch.ellipses
    for i in range(len(batch)):
        a, b, theta = (float(t[i]) for t in (ellipses.semi_major, ellipses.semi_minor, ellipses.theta))
        sep.sum_ellipse(batch.data[i].numpy(), batch.x[i : i + 1], batch.y[i : i + 1], a, b, theta, subpix=0, var=SKY)


def photutils_apertures(batch: StampBatch, n: int) -> None:
    """Sum n ellipses with photutils, one aperture per stamp."""
    ellipses = batch.ellipses
    for i in range(n):
        a, b, theta = (float(t[i]) for t in (ellipses.semi_major, ellipses.semi_minor, ellipses.theta))
        aperture = EllipticalAperture((float(batch.x[i]), float(batch.y[i])), a, b, theta=theta)
        aperture.do_photometry(batch.data[i].numpy(), method="exact")


def nelder_mead_fits(batch: StampBatch, n: int) -> None:
    """Fit n amplitudes as the paper does, with scipy's default tolerances."""
    for i in range(n):
        data, profile = batch.data[i].double().numpy() - SKY, batch.profile[i].double().numpy()

        def chi_square(flux: np.ndarray, data: np.ndarray = data, profile: np.ndarray = profile) -> float:
            return float(np.sum((data - flux[0] * profile) ** 2 / (SKY + flux[0] * profile)))

        minimize(chi_square, [1500.0], method="Nelder-Mead")


def astropy_annuli(data: torch.Tensor, centre: torch.Tensor, n: int) -> None:
    """Clip n annuli with astropy on the pixels of photutils' annulus."""
    for i in range(n):
        position = (float(centre[i]), float(centre[i]))
        annulus = CircularAnnulus(position, 30, 45).to_mask(method="center").to_image((LARGE, LARGE))
        sigma_clipped_stats(data[i].numpy()[annulus > 0], sigma=3.0)


def main() -> None:
    """Run all and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-galaxies", type=int, default=512)
    n = parser.parse_args().n_galaxies
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    batch = make_batch(n, rng)
    large = torch.tensor(rng.normal(SKY, 10, (n, LARGE, LARGE)), dtype=torch.float32)
    good = torch.ones_like(large, dtype=torch.bool)
    centre = torch.tensor(rng.uniform(45, 46, n), dtype=torch.float32)
    few = min(n, 64)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, 1 thread; torch {torch.__version__}; {n} stamps of {STAMP} px"
    )
    ours = {name: best_time(lambda e=estimator: e(batch), n) for name, estimator in ESTIMATORS.items()}
    ours["annulus"] = best_time(lambda: annulus_background(large, good, centre, centre, *STANDARD_GEOMETRY.annulus), n)
    others = {
        "aperture": {
            "sep": best_time(lambda: sep_apertures(batch), n),
            "photutils": best_time(lambda: photutils_apertures(batch, few), few, 2),
        },
        "profile_fit": {"scipy Nelder-Mead": best_time(lambda: nelder_mead_fits(batch, few), few, 2)},
        "annulus": {"photutils + astropy": best_time(lambda: astropy_annuli(large, centre, few), few, 2)},
    }
    for name, microseconds in ours.items():
        print(f"{name:13s} {microseconds:7.1f} us per galaxy")
        for other, reference in others.get(name, {}).items():
            print(f"    {other:20s} {reference:9.1f} us, {reference / microseconds:7.1f} times as long")


if __name__ == "__main__":
    main()
