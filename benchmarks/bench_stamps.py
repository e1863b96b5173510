"""Simulated stamps per second on one thread: ours, the paper's way of drawing, and GalSim's, in one run.

All put galaxies with a PSF of their own on the same backgrounds of 60 x 60 px (cut from 96 x 96), with photon noise.
The paper's way draws each galaxy on 600 x 600 points; see ``bench_render.py``.

Run: ``python benchmarks/bench_stamps.py --n-batches 5``
"""

import argparse
import platform
import resource
import tempfile
import time
from dataclasses import fields
from pathlib import Path

import galsim
import numpy as np
import torch

from bench_render import render_oversampled
from lumos.pools.pool import BackgroundPool
from lumos.pools.writer import NewStamps, PoolWriter
from lumos.profiles import Shapes
from lumos.profiles.reference import render_galsim
from lumos.psfs import MoffatPsf
from lumos.simulate.population import load_population
from lumos.teahupoo.settings import CatalogScatter, StampSettings
from lumos.teahupoo.simulator import StampSimulator

SIDE, SIZE = 96, 60
SCATTER = CatalogScatter(half_light_radius=0.1, sersic_n=0.2, axis_ratio=0.05, angle=5, centre=0.1, psf_fwhm=0.03)


def make_pool(folder: Path, n_exposures: int, n_stamps: int) -> BackgroundPool:
    """Write a pool of flat noisy backgrounds, each exposure with its PSF and band."""
    rng = np.random.default_rng(1)
    writer = PoolWriter(folder / "pool", SIDE, {})
    for number in range(n_exposures):
        fwhm = rng.uniform(3, 6, n_stamps)
        stamps = NewStamps(
            data=rng.normal(60, 6, (n_stamps, SIDE, SIDE)).astype(np.float32),
            mask=np.zeros((n_stamps, SIDE, SIDE), dtype=np.uint8),
            sky_variance=np.full(n_stamps, 36.0),
            x=rng.uniform(0, 2047, n_stamps),
            y=rng.uniform(0, 4095, n_stamps),
            ccd_shape=(4096, 2048),
            psf=MoffatPsf(fwhm, np.full(n_stamps, 4.765)),
            psf_fwhm=fwhm,
        )
        facts = {
            "exposure_id": str(number),
            "detector": "1",
            "survey": "paucam",
            "band": f"NB{455 + 10 * (number % 40)}",
            "state": "",
            "gain": 1.0,
            "zeropoint": 28.5,
            "exposure_time": 90.0,
            "pixel_scale": 0.263,
            "noise_source": "scatter",
            "correlation": None,
            "status": "used",
        }
        writer.add(str(number), [(facts, stamps)])
    writer.finish({}, [facts for entry in writer.entries for facts in entry["exposures"]])
    return BackgroundPool.open(folder / "pool")


def time_ours(pool: BackgroundPool, n_batches: int, *, annulus: bool, device: str, settings: StampSettings) -> float:
    """Return milliseconds per stamp, best of three."""
    source = StampSimulator(pool, load_population(), settings, 1, device=device)
    source.batch(0)  # tables are made once per process
    times = []
    for repeat in range(3):
        start = time.perf_counter()
        for index in range(n_batches):
            made = source.batch(1 + repeat * n_batches + index)
            if annulus:
                made.to_batch()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / n_batches / settings.batch_size)
    return 1e3 * min(times)


def time_others(pool: BackgroundPool, n_stamps: int) -> dict[str, float]:
    """Return milliseconds per stamp of drawing galaxy by galaxy, with the same noise and backgrounds."""
    made = StampSimulator(pool, load_population(), StampSettings(batch_size=n_stamps), 1).batch(0)
    truth, backgrounds = made.truth, pool.sample(np.random.default_rng(2), n_stamps)
    psf = MoffatPsf(made.psf_fwhm, np.full(n_stamps, 4.765))
    rng = np.random.default_rng(3)

    def finish(images: np.ndarray) -> None:
        electrons = rng.poisson(np.maximum(images, 0) * np.abs(made.flux.numpy())[:, None, None])
        _ = electrons + backgrounds.data[:, 18:78, 18:78]

    times = {}
    start = time.perf_counter()
    finish(render_oversampled(truth))
    times["paper, 600 x 600, one PSF"] = time.perf_counter() - start
    start = time.perf_counter()
    finish(render_galsim(truth, psf, size=SIZE).numpy())
    times["GalSim, as exact as ours"] = time.perf_counter() - start
    start = time.perf_counter()
    finish(draw_galsim(truth, made.psf_fwhm))
    times["GalSim, its defaults"] = time.perf_counter() - start
    return {name: 1e3 * value / n_stamps for name, value in times.items()}


def draw_galsim(shapes: Shapes, fwhm: np.ndarray) -> np.ndarray:
    """Draw with GalSim's usual accuracy; indices are rounded to 0.1, since each new one costs a table."""
    images = np.empty((len(fwhm), SIZE, SIZE))
    columns = (getattr(shapes, field.name) for field in fields(shapes))
    for i, (x, y, radius, index, q, theta) in enumerate(zip(*columns, strict=True)):
        galaxy = galsim.Sersic(round(index, 1), half_light_radius=radius * np.sqrt(q))
        galaxy = galaxy.shear(q=q, beta=theta * galsim.radians)
        scene = galsim.Convolve(galaxy, galsim.Moffat(4.765, fwhm=fwhm[i]))
        scene.drawImage(galsim.ImageD(images[i], scale=1.0), center=galsim.PositionD(x + 1, y + 1))
    return images


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-batches", type=int, default=2, help="batches of 1024 stamps for ours")
    parser.add_argument("--n-slow", type=int, default=40, help="stamps for the others")
    parser.add_argument("--n-exposures", type=int, default=40, help="exposures of the pool, 100 stamps each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}, device {options.device}"
    )
    with tempfile.TemporaryDirectory() as folder:
        pool = make_pool(Path(folder), options.n_exposures, 100)
        rows = {}
        for name, settings in (
            ("population, true catalogue", StampSettings()),
            ("proposal, true catalogue", StampSettings(flux_from="proposal")),
            ("proposal, wrong catalogue", StampSettings(flux_from="proposal", catalog_scatter=SCATTER)),
        ):
            for annulus in (False, True):
                label = f"{name}{', annulus' if annulus else ''}"
                arguments = {"annulus": annulus, "device": options.device, "settings": settings}
                rows[label] = time_ours(pool, options.n_batches, **arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows |= time_others(pool, options.n_slow)
    print(f"{'':42}{'ms per stamp':>14}{'per second':>12}")
    for name, milliseconds in rows.items():
        print(f"{name:42}{milliseconds:14.3f}{1e3 / milliseconds:12.0f}")
    print(
        f"largest memory before the others: {peak:.0f} MB, of which {SIDE**2 * 5 * len(pool) / 1e6:.0f} MB mapped pool"
    )


if __name__ == "__main__":
    main()
