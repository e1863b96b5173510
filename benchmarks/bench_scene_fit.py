"""Cost of the joint fit of a scene per galaxy, of a network per stamp, and of a training stamp.

The scene: galaxies at random places of 2048 x 2048 pixels, white noise, a sky that is not flat. Drawing the profiles,
which measuring needs anyway, is timed apart. The pulls of the fit stand beside.

Usage: ``python benchmarks/bench_scene_fit.py [--threads 1]``.
"""

import argparse
import time

import numpy as np
import torch

from lumos.nets.checkpoint import load_model
from lumos.nets.inputs import NetworkInputs
from lumos.profiles.scene import draw_light, draw_stamps
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf
from lumos.scenes.draw import Profiles, SceneImage
from lumos.scenes.fit import fit_scene
from lumos.settings import load_training
from lumos.simulate.population import load_population
from lumos.statistics import sigma68
from lumos.training.frames import draw_frame, frame_inputs

SIDE, NOISE = 2048, 10.0
PSF = MoffatPsf(np.array([4.0]), np.array([3.5]))


def fit(n: int, rng: np.random.Generator) -> None:
    """Print the cost of the fit of n galaxies."""
    x, y = rng.uniform(-20, SIDE + 20, (2, n))
    shapes = Shapes(
        x, y, rng.lognormal(0.8, 0.5, n), rng.uniform(0.5, 4, n), rng.uniform(0.2, 1, n), rng.uniform(0, np.pi, n)
    )
    flux = 200 * np.exp(0.92 * rng.exponential(1.2, n))
    light = draw_light(shapes, flux, PSF, (SIDE, SIDE), NOISE).clip(0)
    sky = 100 + 20 * np.sin(np.arange(SIDE) / 300)[:, None]
    data = (rng.poisson(light) + rng.normal(0, NOISE, light.shape) + sky).astype(np.float32)
    image = SceneImage(data, np.ones(data.shape, bool), np.float32([[NOISE**2]]), 1.0)
    drawing = 0.0

    def draw(rows: np.ndarray, size: int) -> Profiles:
        nonlocal drawing
        began = time.perf_counter()
        stamps, corners = draw_stamps(shapes.take(rows), PSF, size)
        drawing += time.perf_counter() - began
        return Profiles(rows, torch.from_numpy(stamps), corners)

    def ring(rows: np.ndarray, size: int) -> Profiles:
        made, quarter = draw(rows, size), size // 4
        made.stamps[:, quarter : quarter + size // 2, quarter : quarter + size // 2] = 0
        return made

    best, drawn = np.inf, 0.0
    for _ in range(3):
        drawing, began = 0.0, time.perf_counter()
        batches = (draw(rows, 60) for rows in np.array_split(np.arange(n), -(-n // 512)))
        fluxes = fit_scene(image, batches, ring, n).fluxes
        seconds = time.perf_counter() - began - drawing
        if seconds < best:
            best, drawn = seconds, drawing
    inside = (x > 0) & (x < SIDE) & (y > 0) & (y < SIDE)
    pull = ((fluxes.flux - flux) / fluxes.flux_err)[inside & np.isfinite(fluxes.flux)]
    cost = f"drawing {1e6 * drawn / n:.0f} us, fit {1e6 * best / n:.0f} us per galaxy"
    print(f"{n} galaxies: {cost}; pulls: median {np.median(pull):+.3f}, sigma68 {sigma68(pull):.3f}", flush=True)


def network(name: str) -> None:
    """Print the cost of a shipped network."""
    model, n = load_model(name), 256
    n_channels, n_scalars = model.network.n_channels, model.network.n_scalars
    inputs = NetworkInputs(
        images=torch.randn(n, n_channels, 60, 60),
        scalars=torch.randn(n, n_scalars),
        index=torch.zeros(n, 2, dtype=torch.int64),
        centre=torch.zeros(n),
        unit=torch.ones(n),
        widening=torch.zeros(n),
        usable=torch.ones(n, dtype=torch.bool),
    )
    costs = []
    for bfloat16 in (False, True):
        times = []
        for _ in range(8):
            began = time.perf_counter()
            model.predict(inputs, bfloat16=bfloat16)
            times.append(time.perf_counter() - began)
        costs.append(1e6 * min(times) / n)
    print(f"network {name}: {costs[0]:.0f} us per stamp, {costs[1]:.0f} in bfloat16", flush=True)


def frames(number: int) -> None:
    """Print the rate of training stamps."""
    population, stamps, model = load_population(), load_training("generic").stamps, load_model("generic")
    made, began = 0, time.perf_counter()
    for seed in range(number):
        made += len(frame_inputs(draw_frame(population, stamps, np.random.default_rng(seed)), model)[1])
    print(f"training: {made / (time.perf_counter() - began):.0f} stamps per second, joint fit included")


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    for n in (4000, 12_000):
        fit(n, np.random.default_rng(3))
    for name in ("generic", "paucam-mock"):
        network(name)
    frames(16)


if __name__ == "__main__":
    main()
