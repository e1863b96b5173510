"""Time of the flux PDFs on one core: quantiles of many mixtures, next to plain bisection and scipy's brentq.

Bisection works on the same rows, all at once and in the same chunks, to the same accuracy; brentq one row at a time on
a few of them. All figures are of one run, so that their ratios mean something.

Run: ``OMP_NUM_THREADS=1 python benchmarks/bench_pdf.py --n-rows 1000000``
"""

import argparse
import platform
import time
import tracemalloc

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from lumos.pdf import GaussianMixture, TruncatedMixture
from lumos.pdf.base import row_chunks

LEVEL = 0.16
N_COMPONENTS = 5


def make_parameters(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw weights, means and standard deviations: signal to noise from -3 to 30, widths that differ by up to 100."""
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.ones(N_COMPONENTS), n)
    centre = rng.uniform(-3, 30, (n, 1))
    return weights, centre + rng.normal(0, 3, weights.shape), 10 ** rng.uniform(-1, 1, weights.shape)


def bisect(pdf: GaussianMixture, level: float) -> np.ndarray:
    """Halve a bracket of 8 standard deviations around all means until it is 1e-9 of the narrowest one."""
    out = np.empty(len(pdf))
    for rows in row_chunks(len(pdf), N_COMPONENTS):
        weights, means, stds = pdf.weights[rows], pdf.means[rows], pdf.stds[rows]
        low, high = (means - 8 * stds).min(axis=1), (means + 8 * stds).max(axis=1)
        for _ in range(int(np.ceil(np.log2(np.max((high - low) / (1e-9 * stds.min(axis=1))))))):
            middle = (low + high) / 2
            below = (weights * ndtr((middle[:, None] - means) / stds)).sum(axis=1) < level
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        out[rows] = (low + high) / 2
    return out


def solve_rows(pdf: GaussianMixture, level: float, n: int) -> np.ndarray:
    """Call brentq for the first n rows."""

    def excess(flux, row):
        return (pdf.weights[row] * ndtr((flux - pdf.means[row]) / pdf.stds[row])).sum() - level

    return np.array(
        [
            brentq(
                excess,
                (pdf.means[row] - 8 * pdf.stds[row]).min(),
                (pdf.means[row] + 8 * pdf.stds[row]).max(),
                args=(row,),
                xtol=1e-9 * pdf.stds[row].min(),
            )
            for row in range(n)
        ]
    )


def timed(call) -> tuple[float, np.ndarray]:
    """Return the seconds of a call and its answer."""
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def peak_memory(pdf: GaussianMixture, n: int) -> float:
    """Return the memory in MB that quantiles of n rows take while they run, without the answer."""
    part = pdf.take(slice(0, n))
    tracemalloc.start()
    part.quantile(LEVEL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - 8 * n) / 2**20


def report(name: str, seconds: float, n: int) -> None:
    """Print one line."""
    print(f"{name:44s} {seconds:8.2f} s for {n:8d} rows  {seconds / n * 1e6:9.3f} µs per row")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-rows", type=int, default=1_000_000)
    parser.add_argument("--n-brentq", type=int, default=2_000)
    args = parser.parse_args()
    n = args.n_rows
    few = min(args.n_brentq, n)
    print(f"{platform.machine()}, numpy {np.__version__}, {N_COMPONENTS} components, level {LEVEL}")
    parameters = make_parameters(n)
    pdf = GaussianMixture(*parameters)
    seconds, fluxes = timed(lambda: pdf.quantile(LEVEL))
    report("GaussianMixture.quantile", seconds, n)
    for size in (n // 10, n):
        print(f"  peak memory beyond the parameters and the answer: {peak_memory(pdf, size):.0f} MB for {size} rows")
    print(f"  largest error of the probability: {np.abs(pdf.cdf(fluxes) - LEVEL).max():.1e}")
    cut = TruncatedMixture(*parameters)
    seconds_cut, cut_fluxes = timed(lambda: cut.quantile(LEVEL))
    report("TruncatedMixture.quantile", seconds_cut, n)
    print(f"  largest error of the probability: {np.abs(cut.cdf(cut_fluxes) - LEVEL).max():.1e}")
    part = pdf.take(slice(0, max(n // 10, 1)))
    seconds_plain, plain = timed(lambda: bisect(part, LEVEL))
    report("plain bisection, same accuracy", seconds_plain, len(part))
    std = part.std()
    print(f"  largest difference: {np.max(np.abs(plain - fluxes[: len(part)]) / std):.1e} std")
    seconds_row, rows = timed(lambda: solve_rows(pdf, LEVEL, few))
    report("scipy brentq, row by row", seconds_row, few)
    print(f"  largest difference: {np.max(np.abs(rows - fluxes[:few]) / std[:few]):.1e} std")
    ratios = seconds_plain / len(part) * n / seconds, seconds_row / few * n / seconds
    print(f"faster than bisection {ratios[0]:.1f} x, than brentq {ratios[1]:.0f} x")
    for name in ("peak", "sigma68", "mean", "variance"):
        for kind, mixtures in (("GaussianMixture", part), ("TruncatedMixture", cut.take(slice(0, len(part))))):
            report(f"{kind}.{name}", timed(getattr(mixtures, name))[0], len(part))


if __name__ == "__main__":
    main()
