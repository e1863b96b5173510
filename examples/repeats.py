"""Do the errors of a finished run hold? Repeats of every estimator and band, and two estimators side by side.

Usage: ``python examples/repeats.py RUN [--out DIR]``. Nothing but the run is read, and the catalogue it was made with.
"""

import argparse
from pathlib import Path

import numpy as np

from lumos.report.repeats import draw_comparison, draw_repeats
from lumos.validate.comparison import Comparison, compare_estimators, format_comparison
from lumos.validate.repeats import Repeats, repeat_table
from lumos.validate.repeats_table import format_repeats
from lumos.validate.shards import run_estimators, shards_by_band


def tables(
    run: Path,
    edges: np.ndarray,
    pair: tuple[str, str] | None = None,
    zeropoints: Path | None = None,
    catalog: Path | None = None,
) -> tuple[tuple[Repeats, ...], Comparison | None]:
    """Return the repeats of a run, and the comparison of two estimators: by default the last with the first."""
    repeats = repeat_table(run, edges, zeropoints=zeropoints)
    names = run_estimators(shards_by_band(run))
    if pair is None and len(names) > 1:
        pair = names[-1], names[0]
    return repeats, None if pair is None else compare_estimators(run, *pair, catalog=catalog)


def main() -> None:
    """Print the tables and draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, help="folder for repeats.png and comparison.png")
    parser.add_argument("--edges", type=float, nargs="+", default=list(range(16, 27)), help="bins of AB magnitude")
    parser.add_argument("--pair", nargs=2, help="estimators to compare, first over second")
    parser.add_argument("--zeropoints", type=Path, help="table of zero points, where the images have none")
    parser.add_argument("--catalog", type=Path, help="parent catalogue, where the run no longer finds it")
    arguments = parser.parse_args()
    pair = tuple(arguments.pair) if arguments.pair else None
    repeats, comparison = tables(
        arguments.run, np.array(arguments.edges), pair, arguments.zeropoints, arguments.catalog
    )
    print(format_repeats(repeats))
    if comparison is not None:
        print(f"\n{format_comparison(comparison)}")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        draw_repeats(arguments.out / "repeats.png", repeats)
        if comparison is not None:
            draw_comparison(arguments.out / "comparison.png", comparison)


if __name__ == "__main__":
    main()
