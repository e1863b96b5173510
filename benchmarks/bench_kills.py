"""Commands killed at every write and at random moments: what is left in the end is that of undisturbed ones.

Each command first runs undisturbed and its changes of files are counted: files opened for writing, put on disk (fsync),
renamed, removed, folders made and removed. Then it is started anew once for each of these (or for ``--writes`` of them,
spread evenly), kills itself with SIGKILL there, and is started again until it ends by itself. Then it is killed from
outside after random times, again and again, also while it mends what an earlier kill left. Each start is a process that
is forked from one with all libraries loaded, so that it costs no import.

Usage: ``python benchmarks/bench_kills.py OUT [--kills 300] [--writes 40] [--only measure coadd.parquet]``.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

import lumos.coadds.run
import lumos.exports.run
import lumos.injection.run
import lumos.photoz.deepz.run
import lumos.photoz.run
import lumos.settings
import lumos.simulate.exposures
import lumos.workflows.catalog
import lumos.workflows.photoz
import lumos.workflows.psf
import lumos.workflows.train
import lumos.workflows.validate  # noqa: F401 (imported before the forks)
from lumos.cli import main as lumos_main
from lumos.photoz.models import build_grid
from lumos.photoz.templates import load_models

SURVEY = ["paucam-field", "--set=bands=[NB585]", "--set=exposures_per_band=2", "--set=camera.detectors=1"]
SURVEY += ["--set=camera.shape=[240,240]", "--set=sky.stars=4000"]
PSF = ["--survey=paucam", "--set=psf.min_stars=1", "--set=psf.max_stars=3", "--set=psf.model=moffat"]
SHARDS = ["--set=photoz.shard=100"]
TEMPLATES = """
redshifts: {low: 0.1, high: 0.9, step: 0.02}
bands: [{names: [u, g, r, i, z]}]
templates:
- closed_forms: {red: [2.429, 9.636, 3.654, 1.777, 0.043], blue: [0.344, -1.467, 0.501, 0.651, 0.559]}
runs: [{name: quiet, templates: [red, blue]}]
"""
TRAINING = {
    "name": "small",
    "text": "Small",
    "network": {"channels": [4, 6, 8], "blocks": [0, 0, 0], "hidden": 16},
    "pool": {
        "simulate": "paucam-field",
        "overrides": ["bands=[NB585]", "exposures_per_band=2", "camera.detectors=1", "camera.shape=[400,400]"],
        "n_per_exposure": 30,
    },
    "stamps": {"flux_from": "proposal", "batch_size": 64},
    "n_stamps": 256,
    "n_validation": 64,
    "validate_every": 64,
    "optimizer": {"batch_size": 64},
}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


def commands(given: Path) -> dict[str, list[str]]:
    """Return the words of each command, by the name of what it writes; most take what an earlier one left in ``given``.

    ``run`` is for those after it and is not killed: ``measure`` is the same without a network, which is slow.
    """
    parent, exposures = f"--catalog={given / 'simulate/parent.parquet'}", str(given / "simulate/exposures")
    first, run = str(next((given / "simulate").glob("exposures/*"), "")), str(given / "run")
    fast = ["--survey=paucam", "--set=measure.estimators=[aperture]"]
    return {
        "simulate": ["simulate", *SURVEY],
        "psf": ["psf", first, *PSF],
        "catalog.parquet": ["catalog", first, "--survey=paucam"],
        "measure": ["measure", exposures, parent, *fast],
        "run": ["measure", exposures, parent, "--survey=paucam", "--model=generic"],
        "coadd.parquet": ["coadd", run, "--prior=none", "--set=coadd.rows_at_once=20"],
        "export": ["export", str(given / "coadd.parquet"), "--format=hats"],
        "inject": ["inject", exposures, parent, *fast, "--set=inject.rounds=2"],
        "validate": ["validate", run, f"--coadd={given / 'coadd.parquet'}"],
        "photoz": ["photoz", str(given / "fluxes.parquet"), f"--templates={given / 'templates.yaml'}", *SHARDS],
        "train": ["train", str(given / "train.yaml")],
    }


def make_inputs(given: Path) -> None:
    """Write the tables and settings that no command makes."""
    (given / "templates.yaml").write_text(TEMPLATES)
    (given / "train.yaml").write_text(yaml.safe_dump(TRAINING))
    grid, rng = build_grid(load_models(given / "templates.yaml")), np.random.default_rng(1)
    flux = 1000 * np.stack([rng.uniform(0.3, 1, 2) @ grid.fluxes[0][z] for z in rng.integers(0, 40, 400)])
    columns = {"object_id": np.arange(len(flux))}
    for number, band in enumerate(grid.bands):
        columns |= {f"flux_{band}": flux[:, number], f"flux_err_{band}": flux[:, number] / 40}
    pq.write_table(pa.table(columns), given / "fluxes.parquet")


class Changes:
    """Counts changes of files in this process, and kills it before the one that is asked for.

    Parameters
    ----------
    last : int
        That one, counted from 1; 0: none.
    """

    def __init__(self, last: int) -> None:
        self.n, self._last, self._fsync = 0, last, os.fsync
        os.fsync = self._after_fsync
        sys.addaudithook(self._hear)

    def _after_fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._count()

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES:
            self._count()
        elif event == "open" and arguments[0] != os.devnull:
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._count()

    def _count(self) -> None:
        self.n += 1
        if self.n == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def start(words: list[str], *, change: int = 0, seconds: float | None = None) -> int:
    """Start a command in a process of its own, to be killed at a change of files or after some seconds.

    Returns
    -------
    int
        How many changes of files it made, if it ended by itself; 0 if it was killed.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        run_here(words, change, writing)
    os.close(writing)
    if seconds is not None:
        pause = time.monotonic() + seconds
        while time.monotonic() < pause and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
        os.kill(process, signal.SIGKILL)
    with os.fdopen(reading) as stream:
        told = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if told:
        return int(told)
    if status == -signal.SIGKILL:
        return 0
    raise SystemExit(f"{' '.join(words)}: exit code {status}")


def run_here(words: list[str], change: int, told: int) -> None:
    """Run a command in this process and end it."""
    code: object = 1
    with contextlib.suppress(BaseException):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        # Warnings of a simulation of few stars; errors are told by the exit code.
        os.dup2(nowhere, 2)
        sys.argv = ["lumos", *words, "--quiet"]
        changes = Changes(change)
        try:
            lumos_main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        if code == 0:
            os.write(told, str(changes.n).encode())
    os._exit(int(code) if isinstance(code, int) else 1)


def clear(folder: Path) -> None:
    """Make a folder empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def content(folder: Path) -> dict[str, object]:
    """Return what is in the files of a folder, by name; without times and the count of starts."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = None
        elif path.name == "manifest.json":
            entries = json.loads(path.read_text())["exposures"]
            timeless = {"inputs": None, "seconds": None}
            found[name] = {key: {**one, **timeless} for key, one in entries.items()}
        else:
            found[name] = [line for line in path.read_bytes().split(b"\n") if b"hats_creation_date" not in line]
    return found


def differences(whole: dict[str, object], now: dict[str, object]) -> list[str]:
    """Return the names of files that differ, are missing, or should not be there."""
    return sorted(name for name in whole | now if name not in whole or name not in now or whole[name] != now[name])


def disturb(words: list[str], work: Path, n_kills: int, n_writes: int, name: str) -> bool:
    """Kill a command again and again; print a line and return whether all was as undisturbed."""
    clear(work)
    began = time.monotonic()
    n = start(words)
    seconds, whole = time.monotonic() - began, content(work)
    wrong: dict[str, int] = {}
    counts = {"writes": 0, "moments": 0}
    chance = random.Random(1)  # noqa: S311

    def finish() -> None:
        # An export that is there is whole, and is not made again.
        while not (name == "export" and (work / name).exists()) and not start(words):
            pass
        for file in differences(whole, content(work)):
            wrong[file] = wrong.get(file, 0) + 1

    for change in sorted({round(one) for one in np.linspace(1, n, min(n, n_writes))}):
        clear(work)
        if not start(words, change=change):
            counts["writes"] += 1
        finish()
    while counts["writes"] + counts["moments"] < n_kills:
        clear(work)
        while not start(words, seconds=chance.uniform(0, seconds)):
            counts["moments"] += 1
        finish()
    text = ", ".join(f"{file} ({times})" for file, times in wrong.items()) or "none"
    print(f"{name:<16}{seconds:>6.1f}{n:>9}{counts['writes']:>9}{counts['moments']:>9}  {text}", flush=True)
    return not wrong


def main() -> None:
    """Print, for each command, seconds undisturbed, changes of files, kills, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--writes", type=int, default=40, help="most changes of files at which each is killed")
    parser.add_argument("--only", nargs="+", default=None)
    options = parser.parse_args()
    given, work = (options.out.resolve() / name for name in ("given", "work"))
    given.mkdir(parents=True, exist_ok=True)
    make_inputs(given)
    print(f"{'command':<16}{'s':>6}{'changes':>9}{'at them':>9}{'random':>9}  differences", flush=True)
    names = options.only or [name for name in commands(given) if name != "run"]
    good = True
    for name in commands(given):
        words = commands(given)[name]
        others_need = name in {"simulate", "run", "coadd.parquet"}
        if others_need and not (given / name).exists() and not start([*words, f"--out={given / name}"]):
            raise SystemExit(f"{name}: failed")
        if name in names:
            n_kills = options.kills // len(names)
            good &= disturb([*words, f"--out={work / name}"], work, n_kills, options.writes, name)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
