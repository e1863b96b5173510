"""What a survey costs, from rates that are measured: cores, hours, bytes and files.

Rates are those of the benchmark page unless others are given.

Usage: ``python benchmarks/plan_survey.py [--rows 1e10] [--per-exposure 4000] ...``
"""

import argparse
import math

#: Most entries of one folder that file systems list without trouble.
MOST_FILES = 100_000


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e10, help="measurements: one object in one exposure and CCD")
    parser.add_argument("--per-exposure", type=float, default=4000, help="rows of one exposure")
    parser.add_argument("--per-coadd", type=float, default=10, help="exposures of one object and band")
    parser.add_argument("--measure-us", type=float, default=2465, help="microseconds per row and core, lumos measure")
    parser.add_argument("--coadd-us", type=float, default=100, help="microseconds per row and core, lumos coadd")
    parser.add_argument("--region", type=float, default=1e8, help="rows of one coadd")
    parser.add_argument("--start-s", type=float, default=10, help="seconds until a job measures its first exposure")
    parser.add_argument("--shard-bytes", type=float, default=105, help="bytes per row of a shard")
    parser.add_argument("--coadd-bytes", type=float, default=83, help="bytes per row of a coadd")
    parser.add_argument("--hours", type=float, default=24, help="by when measuring shall be done")
    parser.add_argument("--memory", type=float, default=1.0, help="GB of one job")
    options = parser.parse_args()
    exposures = math.ceil(options.rows / options.per_exposure)
    core_hours = options.rows * options.measure_us / 3.6e9
    # Each job begins once; a second tells how much of a job is not its start.
    jobs = math.ceil(core_hours / (options.hours - options.start_s / 3600))
    coadds = options.rows / options.per_coadd
    lines = {
        "rows": f"{options.rows:.1e}",
        "exposures": f"{exposures:,}",
        "coadds (object and band)": f"{coadds:.1e}",
        "measure, core hours": f"{core_hours:,.0f}",
        f"jobs of one core, done in {options.hours:g} hours": f"{jobs:,}, {options.memory * jobs:,.0f} GB of memory",
        "coadd, core hours": f"{options.rows * options.coadd_us / 3.6e9:,.0f}",
        f"regions of {options.region:.0e} rows, a coadd each": f"{math.ceil(options.rows / options.region):,}",
        "shards": f"{options.rows * options.shard_bytes / 1e12:.2f} TB, {exposures:,} files",
        "coadds": f"{coadds * options.coadd_bytes / 1e12:.2f} TB",
        "exposures per job": f"{exposures / jobs:,.0f}: files in part-N/shards, allowed: {MOST_FILES:,}",
        "folders part-N": f"{jobs:,}",
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")
    if exposures / jobs > MOST_FILES or jobs > MOST_FILES:
        raise SystemExit(f"more than {MOST_FILES:,} files in a folder: take more --workers, or several --out")


if __name__ == "__main__":
    main()
