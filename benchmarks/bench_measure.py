"""Cost of `lumos measure`, from pixels on disk to rows on disk, per galaxy and core, and its memory.

The paper's way is drawn and fitted for a few of the same galaxies in the same run: the profile on a
600 x 600 grid, then Nelder-Mead for the flux, then an aperture with a clipped annulus by photutils.

Run: ``python benchmarks/bench_measure.py --n-galaxies 4000``
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from photutils.aperture import CircularAnnulus, EllipticalAperture
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent))
from bench_render import draw_shapes, render_oversampled
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey

#: What is measured, by name: settings of `lumos measure`.
KINDS = {
    "classical": {},
    "network": {"estimators": (), "model": "generic"},
    "network, bfloat16": {"estimators": (), "model": "generic", "precision": "bfloat16"},
    "classical and network": {"model": "generic"},
}


def measure_in_process(folder: Path, n_exposures: int, kind: str, result) -> None:
    """Measure some exposures; report seconds, rows and the peak memory of this process in MB."""
    torch.set_num_threads(1)
    exposures = sorted((folder / "exposures").glob("*.fits"))[:n_exposures]
    out = folder / f"run_{n_exposures}_{kind.replace(', ', '_').replace(' ', '_')}"
    settings = MeasureSettings(**KINDS[kind])
    start = time.perf_counter()
    report = measure_run(exposures, folder / "parent.parquet", out, load_survey("paucam"), settings)
    seconds = time.perf_counter() - start
    # The peak that getrusage reports begins with the parent's; this one with the process's own start.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    result.put((seconds, report.n_rows, int(status.split("VmHWM:")[1].split()[0]) / 1024))


def run(folder: Path, n_exposures: int, kind: str) -> tuple[float, int, float]:
    """Measure in a process of its own, so that memory is that of the measurement alone."""
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=measure_in_process, args=(folder, n_exposures, kind, result))
    process.start()
    figures = result.get()
    process.join()
    return figures


def measure_as_paper(data: np.ndarray, n: int) -> float:
    """Return the seconds per galaxy of the paper's way on n stamps of an image."""
    shapes = draw_shapes(n)
    start = time.perf_counter()
    profiles = render_oversampled(shapes)
    for profile in profiles:
        stamp = data[400:460, 400:460].astype(np.float64)
        background, sky = 0.0, np.median(stamp)

        def chi2(parameters, stamp=stamp, profile=profile, sky=sky):
            model = parameters[0] * profile
            return float(np.sum((stamp - sky - model) ** 2 / np.maximum(model + sky, 1e-3)))

        minimize(chi2, [1000.0], method="Nelder-Mead")
        large = data[384:476, 384:476]
        mask = CircularAnnulus((46, 46), 30, 45).to_mask(method="center").get_values(large)
        background = sigma_clipped_stats(mask, sigma=3)[0]
        EllipticalAperture((46, 46), 4, 3, theta=0.3).do_photometry(large - background, method="exact")
    return (time.perf_counter() - start) / n


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-galaxies", type=int, default=4000, help="galaxies on each exposure of 2048 x 2048 pixels")
    parser.add_argument("--n-paper", type=int, default=20, help="galaxies measured the paper's way")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        density = arguments.n_galaxies / 2048**2 * 1e6
        overrides = ["camera.shape=[2048,2048]", f"sky.galaxies={density}", "bands=[NB685]", "exposures_per_band=4"]
        exposures = simulate_survey(load_simulation("paucam-mini", overrides), folder).exposures
        torch.set_num_threads(1)
        with fits.open(exposures[0]) as hdul:
            paper = measure_as_paper(np.asarray(hdul["SCI"].data, dtype=np.float32), arguments.n_paper)
        print(f"the paper's way, two estimators: {1e6 * paper:.0f} us per galaxy and core")
        print(f"{'lumos measure, all included':<30}{'us':>7}{'ratio':>8}{'MB, 1 exposure':>17}{'4 exposures':>14}")
        for kind in KINDS:
            one, four = run(folder, 1, kind), run(folder, 4, kind)
            ours = (four[0] - one[0]) / (four[1] - one[1])
            print(f"{kind:<30}{1e6 * ours:>7.0f}{paper / ours:>8.0f}{one[2]:>17.0f}{four[2]:>14.0f}", flush=True)


if __name__ == "__main__":
    main()
