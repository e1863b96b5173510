"""Reads one damaged input after the other in a process of its own, with little memory and time, and watches it."""

import gc
import os
import resource
import shutil
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from fuzzing.mutations import mutate
from lumos.errors import LumosError, one_line

__all__ = ["Fault", "Kind", "Tally", "damaged", "fuzz", "judge", "watch"]

#: Seconds of CPU in which an input must be read, of waiting, and memory beyond that of the idle process, bytes.
SECONDS, WAITING, MEMORY = 10.0, 60.0, 2**31
#: What a process does when it runs code that it read, or calls home.
_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn", "pickle.find_class")
_CALLS = ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request", "http.client.connect")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate")
#: Where a process may read: what is installed, and what the system tells of itself.
_READABLE = (
    "/usr",
    "/lib",
    "/etc/ssl",
    "/etc/localtime",
    "/etc/mime.types",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/urandom",
)


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Parameters
    ----------
    files : list of dict
        Valid inputs: content by name.
    read : callable
        Reads the folder in which an input lies; raises AssertionError where what it returns is no sane result.
    spoil : tuple of str, optional
        Endings of the files that are damaged; by default all.
    """

    files: list[dict[str, bytes]]
    read: Callable[[Path], object]
    spoil: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Fault:
    """An input that was neither read nor refused as it should be.

    Parameters
    ----------
    number : int
        Of the input; with seed and kind it is made again.
    what, trace : str
        In a line, and at length.
    """

    number: int
    what: str
    trace: str


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    tried: int = 0
    refused: int = 0
    accepted: int = 0


class TooSlowError(BaseException):
    """Raised in the midst of reading; no reader may catch it."""


def damaged(kind: Kind, name: str, seed: int, number: int, folder: Path) -> None:
    """Write one input into an empty folder."""
    random = Random(f"{name} {seed} {number}")  # noqa: S311
    files = random.choice(kind.files)
    targets = [one for one in files if one.endswith(kind.spoil)]
    chosen = {random.choice(targets)} if targets else set()
    # The first input of each kind is whole.
    for one, content in files.items():
        path = folder / one
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutate(one, content, random) if one in chosen and number else content)


class Watch:
    """Notes what the process opens, runs and changes outside of its folder."""

    def __init__(self, folder: Path) -> None:
        self._inside = (str(folder), *map(str, {Path(sys.prefix), Path(sys.prefix).resolve(), *map(Path, sys.path)}))
        self._own = str(folder)
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event in _RUNS or event in _CALLS:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in _CHANGES or event == "open":
            self._file(event, arguments)

    def _file(self, event: str, arguments: tuple[object, ...]) -> None:
        self.on = False
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike):
            text = os.path.realpath(os.fsdecode(path))
            if event == "open" and len(arguments) > 2:
                flags = arguments[2]
                written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            else:
                written = True
            allowed = (self._own,) if written else (*self._inside, *_READABLE)
            if not text.startswith(allowed) and "__pycache__" not in text and text != "/dev/null":
                self.seen.append(f"{event} {'writes' if written else 'reads'} {text}")
        self.on = True


_WATCHES: dict[str, Watch] = {}


def watch(folder: Path) -> Watch:
    """Return the watch over a folder; an audit hook cannot be removed, so that there is one for each."""
    return _WATCHES.setdefault(str(folder), Watch(folder))


def judge(kind: Kind, folder: Path, guard: Watch) -> tuple[str, str, str]:
    """Read one input; return ``accepted``, ``refused`` or ``fault``, what it is in a line, and the trace."""
    guard.seen.clear()
    guard.on = True
    try:
        kind.read(folder)
        verdict = ("accepted", "", "")
    except LumosError as error:
        guard.on = False
        clear = ("refused", one_line(error), "")
        verdict = clear if _is_clear(error) else ("fault", f"unclear: {one_line(error)!r:.300}", _trace())
        if _ran_out(error):
            verdict = ("fault", "memory", _trace())
    except TooSlowError:
        verdict = ("fault", f"takes more than {SECONDS:g} s", _trace())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what readers raise is what is looked for
        what = "memory" if _ran_out(error) else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        verdict = ("fault", what, _trace())
    finally:
        guard.on = False
    if guard.seen:
        return "fault", f"does what it must not: {guard.seen[0]}", "\n".join(guard.seen)
    return verdict


def _is_clear(error: LumosError) -> bool:
    """Tell whether an error can be printed as a line of a log."""
    text = str(error)
    return 10 < len(text) < 5000 and "object at 0x" not in text


def _ran_out(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trace() -> str:
    return traceback.format_exc()[-4000:]


def fuzz(name: str, kind: Kind, numbers: range, seed: int, folder: Path, tally: Tally) -> Iterator[Fault]:
    """Read many inputs of one kind, and yield those that show a fault.

    Parameters
    ----------
    name : str
        Of the kind.
    kind : Kind
        What is read.
    numbers : range
        Of the inputs.
    seed : int
        Of the damage.
    folder : Path
        Where the inputs lie, one at a time; beside it a file that nobody may touch.
    tally : Tally
        Counted here.

    Yields
    ------
    Fault
        One for each input.
    """
    begin = numbers.start
    while begin < numbers.stop:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _read_all(name, kind, range(begin, numbers.stop), seed, folder, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            while head := stream.read(12):
                verdict, length = struct.unpack("<iq", head)
                what, _, trace = stream.read(length).decode().partition("\n")
                tally.tried += 1
                tally.accepted += verdict == 1
                tally.refused += verdict == 0
                begin += 1
                if verdict == 2:
                    yield Fault(begin - 1, what, trace)
        _, status = os.waitpid(child, 0)
        if status:
            tally.tried += 1
            yield Fault(begin, f"killed its process (signal {status & 127}, exit code {status >> 8})", "")
            begin += 1


def _read_all(name: str, kind: Kind, numbers: range, seed: int, folder: Path, pipe: int) -> None:
    """Read the inputs in this process, and never return."""
    guard = watch(folder)
    own = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whoever does not come back to Python is ended by the system, some CPU seconds later.
    signal.signal(signal.SIGALRM, _too_slow)
    signal.signal(signal.SIGPROF, _too_slow)
    os.environ["TMPDIR"] = str(folder)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        damaged(kind, name, seed, number, folder)
        os.chdir(folder)
        signal.setitimer(signal.ITIMER_REAL, WAITING)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + 3 * SECONDS) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        verdict, what, trace = judge(kind, folder, guard)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if any(folder.parent.rglob("CANARY")):
            verdict, what = "fault", "runs code of the file"
        if number == 0 and verdict == "refused":
            verdict, what = "fault", f"refuses what is whole: {what}"
        text = f"{what}\n{trace}".encode()
        os.write(pipe, struct.pack("<iq", ("refused", "accepted", "fault").index(verdict), len(text)) + text)
        if number % 200 == 0:
            gc.collect()
    os._exit(0)


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError


def as_mapping(folder: Path) -> Mapping[str, bytes]:
    """Return the files of a folder by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
