"""Whether the errors of fitted zero points are true: pulls of their differences in simulated overlaps.

Prints root mean square and sigma68 of (fitted - true difference) / error over all pairs of exposures, for few and many
places, unequal ones, outliers, scatter that the errors do not know, and scales that differ from place to place.

Run: ``python benchmarks/bench_zeropoints.py``
"""

import argparse
from dataclasses import dataclass

import numpy as np

from lumos.coadds.scales import fit_scales
from lumos.statistics import sigma68

#: Stated errors of the zero points, and scatter of the true ones.
STATED, TRUE = 0.05, 0.02


@dataclass(frozen=True)
class Case:
    """Exposures of one sky. Relative errors of the fluxes are 1 to 4 per cent."""

    exposures: int
    objects: int
    places: int
    outliers: float = 0.0
    """Share of rows that are off by some 50 per cent."""
    extra: float = 0.0
    """Scatter of each row that the errors do not know."""
    by_place: float = 0.0
    """Scatter of an exposure's scale from place to place."""
    unequal: bool = False
    """Some places have many objects, and an exposure covers some 60 per cent of them."""


CASES = {
    "5 places": Case(4, 60, 5),
    "10 places, 10 % outliers": Case(5, 150, 10, outliers=0.1),
    "10 places, 3 % extra scatter": Case(5, 150, 10, extra=0.03),
    "12 unequal places": Case(5, 200, 12, unequal=True),
    "5 places that differ by 1 %": Case(8, 100, 5, by_place=0.01),
    "25 places that differ by 1 %": Case(3, 300, 25, by_place=0.01),
}


def pulls(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Return the pulls of all differences between the exposures of one simulated sky."""
    n = case.exposures
    truth, brightness = TRUE * rng.standard_normal(n), rng.normal(5, 1, case.objects)
    share = rng.dirichlet(np.full(case.places, 1.0 if case.unequal else 50.0))
    place = rng.choice(case.places, case.objects, p=share)
    covered = np.ones((case.places, n), dtype=bool)
    if case.unequal:
        covered[3:] = rng.random((case.places - 3, n)) < 0.6
    objects, units = np.nonzero(covered[place])
    error = rng.uniform(0.01, 0.04, len(objects))
    y = brightness[objects] - truth[units] + np.hypot(error, case.extra) * rng.standard_normal(len(objects))
    y += case.by_place * rng.standard_normal((case.places, n))[place[objects], units]
    y += np.where(rng.random(len(y)) < case.outliers, 0.5 * rng.standard_normal(len(y)), 0.0)
    fit = fit_scales(y, error, objects, units, np.full(n, STATED), place[objects])
    first, second = np.triu_indices(n, 1)
    off, variance = fit.log_scale - truth, np.diag(fit.covariance)
    error = np.sqrt(variance[first] + variance[second] - 2 * fit.covariance[first, second])
    return (off[first] - off[second]) / error


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skies", type=int, default=300, help="simulated skies of each case")
    options = parser.parse_args()
    print(f"{'case':<30}{'exposures':>10}{'pull: rms':>11}{'sigma68':>9}")
    for number, (name, case) in enumerate(CASES.items()):
        rng = np.random.default_rng([1, number])
        values = np.concatenate([pulls(case, rng) for _ in range(options.skies)])
        print(f"{name:<30}{case.exposures:>10}{np.sqrt(np.mean(values**2)):>11.3f}{sigma68(values):>9.3f}", flush=True)


if __name__ == "__main__":
    main()
