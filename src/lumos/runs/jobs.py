"""Job arrays: one command cut into jobs that a batch system runs, each with an output folder of its own."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lumos.errors import LumosConfigError, LumosValueError
from lumos.files import read_text, write_atomic

__all__ = ["BATCH_SYSTEMS", "job_parts", "write_jobs"]

_SLURM = """#!/bin/sh
#SBATCH --job-name=lumos-{command}
#SBATCH --array=1-{n}
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --output={jobs}/%a.log
exec {jobs}/job.sh "$SLURM_ARRAY_TASK_ID"
"""
_CONDOR = """executable = {jobs}/job.sh
arguments = $INT(number)
number = $(Process) + 1
request_cpus = 1
request_memory = 2GB
output = {jobs}/$INT(number).log
error = {jobs}/$INT(number).log
log = {jobs}/condor.log
queue {n}
"""
_JOB = """#!/bin/sh
# Job $1 of {n}. Given again it does only what is left.
OMP_NUM_THREADS=1; export OMP_NUM_THREADS
exec {python} -m lumos {command} @{jobs}/"$1".list {words} --out {out}/part-"$1"
"""
#: Batch systems: their file, its content, and the command that takes it.
BATCH_SYSTEMS = {"slurm": ("slurm.sh", _SLURM, "sbatch"), "condor": ("condor.sub", _CONDOR, "condor_submit")}


def write_jobs(
    system: str, command: str, files: Sequence[Path], words: Sequence[object], out: Path, *, n_jobs: int
) -> str:
    """Write the files of a job array.

    Parameters
    ----------
    system : str
        ``slurm`` or ``condor``.
    command : str
        Of ``lumos``, which takes ``@list`` of files and ``--out``.
    files : sequence of Path
        Its input files, shared out evenly.
    words : sequence
        Its other words.
    out : Path
        Folder: ``jobs`` in it gets the files, job N writes ``part-N``.
    n_jobs : int
        Number of jobs; fewer files make fewer jobs.

    Returns
    -------
    str
        What to do next.

    Raises
    ------
    LumosValueError
        If there is no job.
    LumosConfigError
        If the folder holds the jobs of another command, or a path has a blank or quote, which batch systems split.
    """
    if n_jobs < 1:
        raise LumosValueError("workers", n_jobs, ">= 1 job")
    out, jobs = out.resolve(), out.resolve() / "jobs"
    if shlex.quote(str(jobs)) != str(jobs):
        raise LumosConfigError(f"{jobs}: has characters that batch systems split; give another --out")
    n = min(n_jobs, len(files))
    name, text, submit = BATCH_SYSTEMS[system]
    facts = {"n": n, "jobs": jobs, "out": out, "command": command, "python": shlex.quote(sys.executable)}
    content = {
        "job.sh": _JOB.format(**facts, words=shlex.join(map(str, words))),
        name: text.format(**facts),
        **{f"{part + 1}.list": "\n".join(map(str, files[part::n])) + "\n" for part in range(n)},
    }
    # Another number of jobs would give exposures to other parts, which would be measured twice.
    if jobs.exists() and any(_differs(jobs / file, one) for file, one in content.items()):
        raise LumosConfigError(f"{jobs}: holds the jobs of another command; give a new --out")
    jobs.mkdir(parents=True, exist_ok=True)
    for file, one in content.items():
        write_atomic(jobs / file, one)
    (jobs / "job.sh").chmod(0o755)
    parts = f"{out}/part-*"
    then = [f"{submit} {jobs / name}", f"lumos status {out}", f"lumos coadd {parts} --out COADD.parquet"]
    return "\n  ".join([f"{n} jobs, {len(files)} files", *then])


def job_parts(out: Path) -> dict[Path, int]:
    """Return the folders that the jobs of an array write, begun or not, with the number of files of each.

    Parameters
    ----------
    out : Path
        Folder that was given to :func:`write_jobs`.

    Returns
    -------
    dict
        In the order of the jobs; empty where the folder holds no jobs.
    """
    lists = sorted((out / "jobs").glob("*.list"), key=lambda path: (len(path.stem), path.stem))
    return {out / f"part-{path.stem}": len(read_text(path).splitlines()) for path in lists}


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or read_text(path) != text
