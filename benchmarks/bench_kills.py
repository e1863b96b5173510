"""Commands killed at random moments, again and again: what is left in the end is that of undisturbed ones.

Each round starts a command, kills it with all its processes (SIGKILL) after a random part of the time that it takes
undisturbed, and starts it again until it ends by itself.

Usage: ``python benchmarks/bench_kills.py OUT [--kills 300]``.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SURVEY = ["paucam-field", "--set", "bands=[NB585]", "--set", "exposures_per_band=8", "--set", "camera.detectors=1"]
MEASURE = ["--survey", "paucam", "--model", "generic", "--workers", "2"]


def words(name: str, whole: Path, out: Path) -> list[str]:
    """Return a command that writes ``out`` from what earlier commands wrote into ``whole``."""
    made = {
        "simulate": [*SURVEY, "--set", "camera.shape=[400,400]", "--workers", "2"],
        "measure": [str(whole / "simulate/exposures"), "--catalog", str(whole / "simulate/parent.parquet"), *MEASURE],
        "coadd.parquet": [str(whole / "measure"), "--prior", "none", "--set", "coadd.rows_at_once=50"],
    }
    return [name.removesuffix(".parquet"), *made[name], "--out", str(out / name)]


def main() -> None:
    """Print, for each command, seconds undisturbed, kills, rounds, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=300)
    arguments = parser.parse_args()
    whole, disturbed = (arguments.out.resolve() / name for name in ("whole", "disturbed"))
    chance = random.Random(1)  # noqa: S311
    print(f"{'command':<16}{'s':>6}{'kills':>7}{'rounds':>8}  differences")
    for name in ("simulate", "measure", "coadd.parquet"):
        start = time.monotonic()
        assert start_and_kill(words(name, whole, whole), None)
        seconds = time.monotonic() - start
        kills = rounds = 0
        differences: list[str] = []
        while kills < arguments.kills / 3:
            shutil.rmtree(disturbed, ignore_errors=True)
            disturbed.mkdir()
            while not start_and_kill(words(name, whole, disturbed), chance.uniform(0, seconds)):
                kills += 1
            rounds += 1
            differences += compare(whole / name, disturbed / name)
        print(f"{name:<16}{seconds:>6.1f}{kills:>7}{rounds:>8}  {', '.join(differences) or 'none'}", flush=True)


def start_and_kill(command: list[str], seconds: float | None) -> bool:
    """Start a command, kill it after some seconds, and return whether it had ended by itself before."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "lumos", *command, "--quiet"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, text = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        raise SystemExit(f"{command}: {text.decode()}")
    return True


def compare(whole: Path, disturbed: Path) -> list[str]:
    """Return files that differ, are missing, or should not be there; manifests hold times, and are left out."""
    if whole.is_file():
        left = [path.name for path in disturbed.parent.iterdir() if path.name.startswith((".", "coadd.parts"))]
        return left + ([] if whole.read_bytes() == disturbed.read_bytes() else [whole.name])
    names = {path.relative_to(folder) for folder in (whole, disturbed) for path in folder.rglob("*") if path.is_file()}
    return [
        str(name)
        for name in sorted(names)
        if name.name != "manifest.json"
        and not ((whole / name).is_file() and (disturbed / name).is_file() and same(whole / name, disturbed / name))
    ]


def same(one: Path, other: Path) -> bool:
    """Return whether two files hold the same bytes."""
    return one.read_bytes() == other.read_bytes()


if __name__ == "__main__":
    main()
