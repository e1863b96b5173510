"""Whether `lumos measure` stays flat with many exposures, and gains from workers.

Memory and time of 10 and of many tiny exposures (96 x 96 pixels, 5 objects), which are nearly all overhead; then the
time of some larger exposures with one worker and with two. Each run is a command of its own.

Run: ``python benchmarks/bench_scale.py``; some 3 minutes on two idle cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from lumos.catalogs.parent import ParentCatalog, write_parent

SCALE = 0.25 / 3600
SETTINGS = ["--survey=generic", "--set=measure.estimators=[aperture,optimal]", "--quiet"]


def make_exposures(folder: Path, n: int, side: int, n_objects: int) -> list[str]:
    """Write exposures of one field and its catalogue; return the words of the command that measures them."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    x, y = rng.uniform(20, side - 20, (2, n_objects))
    cards = {"FILTER": "r", "EXPTIME": 100.0, "GAIN": 2.0, "RDNOISE": 5.0, "MAGZPT": 27.0, "PSF_FWHM": 0.8}
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1.0, "CRPIX2": 1.0, "CRVAL1": 150.0, "CRVAL2": 0.0}
    wcs |= {"CD1_1": -SCALE, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": SCALE, "CUNIT1": "deg", "CUNIT2": "deg"}
    image, window = np.full((side, side), 100.0), np.arange(-12, 13)
    light = 2000 / (2 * np.pi * 4) * np.exp(-0.5 * (window[:, None] ** 2 + window**2) / 4)
    for column, row in zip(x.round().astype(int), y.round().astype(int), strict=True):
        image[row - 12 : row + 13, column - 12 : column + 13] += light
    for number in range(n):
        data = rng.normal(image, np.sqrt(image / 2 + 25)).astype(">f4")
        header = fits.Header([*cards.items(), ("PSFPIXEL", False), *wcs.items()])
        fits.PrimaryHDU(data, header).writeto(folder / f"e{number:05d}.fits")
    one = np.ones(n_objects)
    ra, dec = 150 - x.round() * SCALE, y.round() * SCALE
    catalog = ParentCatalog(np.arange(n_objects), ra, dec, 0 * one + 0.4, one, one, 0 * one, 0 * one + 21)
    write_parent(catalog, folder / "parent.parquet")
    return ["measure", str(folder), f"--catalog={folder / 'parent.parquet'}", *SETTINGS]


def run(words: list[str], out: Path, workers: int) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory, MB."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "lumos", *words, f"--out={out}", f"--workers={workers}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Print memory, overhead and what a second worker brings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=1000, help="tiny exposures")
    parser.add_argument("--larger", type=int, default=40, help="exposures of 1024 x 1024 pixels and 800 objects")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), []
        for n in (10, options.many):
            seconds, memory = run(make_exposures(folder / f"tiny{n}", n, 96, 5), folder / f"run{n}", 1)
            found.append(seconds)
            print(f"{n:>5} exposures of 96 x 96 pixels, 5 objects: {seconds:6.1f} s, peak {memory:.0f} MB", flush=True)
        each = 1e3 * (found[1] - found[0]) / (options.many - 10)
        print(f"{each:.0f} ms per tiny exposure, all included; start {found[0] - 0.01 * each:.1f} s")
        words = make_exposures(folder / "larger", options.larger, 1024, 800)
        times = [run(words, folder / f"larger{workers}", workers)[0] for workers in (1, 2)]
        text = ", ".join(f"{one:.1f} s" for one in times)
        print(
            f"{options.larger} exposures, 800 objects, 1 and 2 workers: {text}; {times[0] / times[1]:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
