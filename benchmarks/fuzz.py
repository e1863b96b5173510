"""Feeds damaged and hostile files to every reader, and tells what was neither read sanely nor refused clearly.

An input is one valid file or folder with one file of it damaged, by seed. A fault is an exception that is no
LumosError, a result that is not sane, more than 10 s, more than 2 GiB of memory, a file opened, written or removed
outside of the input's folder, a process or connection started, or code of the file that ran.

Usage: ``python benchmarks/fuzz.py OUT [--inputs 100000] [--seed 1] [--only PATTERN]``. The inputs that were faults once
more: ``python benchmarks/fuzz.py OUT2 --again OUT/faults.txt``. One input, read in this process, its files left in
``OUT``: ``python benchmarks/fuzz.py OUT --only PATTERN --number 17``.
"""

import argparse
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from fuzzing.sandbox import Fault, Kind, Tally, damaged, fuzz
from fuzzing.seeds import kinds

DATA = Path(os.environ.get("LUMOS_DATA", Path(__file__).parents[2] / "shared" / "data"))
#: How often inputs of a kind that takes long are tried, against the others.
SHARES = {
    "FITS": 0.15,
    "measure": 0.03,
    "model": 0.1,
    "PSF:": 0.4,
    "catalogue (xml)": 0.3,
    "survey": 0.05,
    "photo-z models": 0.1,
}
SHARES |= {"settings": 0.3, "simulation": 0.1, "training": 0.15, "background": 0.4}


def main() -> None:
    """Print the table and write the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds whose names match this regular expression")
    parser.add_argument("--again", type=Path, help="only inputs that a file of faults names")
    parser.add_argument("--number", type=int, help="one input, read in this process")
    arguments = parser.parse_args()
    out, box = arguments.out.resolve(), arguments.out.resolve() / "box" / "input"
    out.mkdir(parents=True, exist_ok=True)
    found = {
        name: kind for name, kind in kinds(DATA if DATA.is_dir() else None).items() if re.search(arguments.only, name)
    }
    known = arguments.again.read_text(encoding="utf-8") if arguments.again else None
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
        n, tally, start, own = (
            round(arguments.inputs * shares[name] / sum(shares.values())),
            Tally(),
            time.monotonic(),
            0,
        )
        numbers = [range(n)] if known is None else _named(name, known)
        for fault in _all(name, kind, numbers, arguments.seed, box, tally):
            own += 1
            with (out / "faults.txt").open("a", encoding="utf-8") as stream:
                again = f"--only '^{re.escape(name)}$' --seed {arguments.seed} --number {fault.number}"
                stream.write(f"{name}: {fault.what}\n  {again}\n{fault.trace}\n\n")
        if not tally.tried:
            continue
        speed = tally.tried / (time.monotonic() - start)
        print(f"{name:<28}{tally.tried:>8}{tally.refused:>9}{tally.accepted:>9}{own:>8}{speed:>7.0f}", flush=True)
        faults += own
        for field in ("tried", "refused", "accepted"):
            setattr(total, field, getattr(total, field) + getattr(tally, field))
    print(f"{'all':<28}{total.tried:>8}{total.refused:>9}{total.accepted:>9}{faults:>8}")
    if faults:
        raise SystemExit(f"{faults} faults, see {out / 'faults.txt'}")


def _named(name: str, known: str) -> list[range]:
    """Return the inputs of a kind that a file of faults names."""
    found = re.findall(rf"--only '\^{re.escape(re.escape(name))}\$' --seed \d+ --number (\d+)", known)
    return [range(int(number), int(number) + 1) for number in found]


def _all(name: str, kind: Kind, numbers: list[range], seed: int, box: Path, tally: Tally) -> Iterator[Fault]:
    for some in numbers:
        yield from fuzz(name, kind, some, seed, box, tally)


if __name__ == "__main__":
    main()
