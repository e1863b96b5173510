"""Feeds damaged and hostile files to every reader, and tells what was neither read sanely nor refused clearly.

An input is one valid file or folder with one file of it damaged, by seed. A fault is an exception that is no
LumosError, a result that is not sane, more than 10 s, more than 2 GiB of memory, a file opened, written or removed
outside of the input's folder, a process or connection started, or code of the file that ran.

Usage: ``python benchmarks/fuzz.py OUT [--inputs 100000] [--seed 1] [--only NAME]``; one input again:
``python benchmarks/fuzz.py OUT --only NAME --number 17``, which leaves its files in ``OUT``.
"""

import argparse
import os
import shutil
import time
from pathlib import Path

from fuzzing.sandbox import Tally, damaged, fuzz
from fuzzing.seeds import kinds

DATA = Path(os.environ.get("LUMOS_DATA", Path(__file__).parents[2] / "shared" / "data"))
#: How often inputs of a kind that takes long are tried, against the others.
SHARES = {"FITS": 0.25, "measure": 0.05, "model": 0.3, "PSF:": 0.6, "catalogue (xml)": 0.5}


def main() -> None:
    """Print the table and write the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds whose names contain this")
    parser.add_argument("--number", type=int, help="one input, read in this process")
    arguments = parser.parse_args()
    out, box = arguments.out.resolve(), arguments.out.resolve() / "box" / "input"
    out.mkdir(parents=True, exist_ok=True)
    found = {name: kind for name, kind in kinds(DATA if DATA.is_dir() else None).items() if arguments.only in name}
    if arguments.number is not None:
        name, kind = next(iter(found.items()))
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir(parents=True)
        damaged(kind, name, arguments.seed, arguments.number, box)
        os.chdir(box)
        kind.read(box)
        return
    shares = {name: next((one for start, one in SHARES.items() if name.startswith(start)), 1.0) for name in found}
    total, faults = Tally(), 0
    print(f"{'kind of input':<28}{'tried':>8}{'refused':>9}{'accepted':>9}{'faults':>8}{'per s':>7}", flush=True)
    for name, kind in found.items():
        n, tally, start, own = round(arguments.inputs * shares[name] / sum(shares.values())), Tally(), time.monotonic(), 0
        for fault in fuzz(name, kind, range(n), arguments.seed, box, tally):
            own += 1
            with (out / "faults.txt").open("a", encoding="utf-8") as stream:
                again = f"--only '{name}' --seed {arguments.seed} --number {fault.number}"
                stream.write(f"{name}: {fault.what}\n  {again}\n{fault.trace}\n\n")
        speed = tally.tried / (time.monotonic() - start)
        print(f"{name:<28}{tally.tried:>8}{tally.refused:>9}{tally.accepted:>9}{own:>8}{speed:>7.0f}", flush=True)
        faults += own
        for field in ("tried", "refused", "accepted"):
            setattr(total, field, getattr(total, field) + getattr(tally, field))
    print(f"{'all':<28}{total.tried:>8}{total.refused:>9}{total.accepted:>9}{faults:>8}")


if __name__ == "__main__":
    main()
