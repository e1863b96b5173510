"""What all commands share at the terminal: log, progress, ctrl-C."""

import inspect
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lumos import __version__

__all__ = ["Interrupted", "interruptible", "list_failures", "show_progress", "with_log_options"]

#: Options of every command that works.
_LOGGING = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Log only warnings and errors.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Log more, with times.")],
    "log_file": Annotated[Path | None, typer.Option("--log-file", help="Write everything, with times, to this file.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show tracebacks, and all that --verbose shows.")],
}

#: Most failed exposures that a message names, and most characters of each reason.
_MOST_NAMED, _MOST_CHARACTERS = 5, 300

log = logging.getLogger("lumos")


class Interrupted(BaseException):
    """The user pressed ctrl-C."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Make ctrl-C raise :class:`Interrupted` while the context lasts.

    Yields
    ------
    None
        While it does.
    """
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(*_: object) -> NoReturn:
    # Ctrl-C a second time ends this process at once; its workers end with it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise Interrupted


def with_log_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the log, which is set up before the command runs.

    Parameters
    ----------
    function : callable
        The command.

    Returns
    -------
    callable
        It, with four options more.
    """

    @wraps(function)
    def run(**arguments: Any) -> None:  # noqa: ANN401
        _start_logging(**{name: arguments.pop(name) for name in _LOGGING})
        function(**arguments)

    parameters = list(inspect.signature(function).parameters.values())
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_LOGGING[name])
        for name, default in (("quiet", False), ("verbose", False), ("log_file", None), ("debug", False))
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**function.__annotations__, **_LOGGING}
    return run


def _start_logging(*, quiet: bool, verbose: bool, log_file: Path | None, debug: bool) -> None:
    level = logging.DEBUG if debug or verbose else logging.WARNING if quiet else logging.INFO
    with_times = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(level)
    console.setFormatter(with_times if debug or verbose else logging.Formatter("%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        handlers[-1].setFormatter(with_times)
    logging.basicConfig(level=level if log_file is None else logging.DEBUG, handlers=handlers, force=True)
    for chatty in ("matplotlib", "PIL", "fontTools"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if log_file is not None:
        log.debug("lumos %s: %s", __version__, " ".join(sys.argv[1:]))


@contextmanager
def show_progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show how far a command is: a bar on a terminal, a line per item in a log.

    Parameters
    ----------
    title : str
        Of the command.

    Yields
    ------
    callable
        To be told items done, items in all, and the name of the last one.
    """
    log.info("%s: starting", title)
    console_level = logging.getLogger().handlers[0].level
    if console_level != logging.INFO or not sys.stderr.isatty():
        yield lambda done, total, name: log.info("%s %d/%d %s", title, done, total, name)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=f"{title} {name}")


def list_failures(reasons: Sequence[str], n: int, where: Path) -> str:
    """Return what is said of failed exposures.

    Parameters
    ----------
    reasons : sequence of str
        Of each that failed.
    n : int
        Exposures in all.
    where : Path
        File that holds all reasons.

    Returns
    -------
    str
        A few reasons, and where the others are.
    """
    lines = [reason if len(reason) <= _MOST_CHARACTERS else f"{reason[:_MOST_CHARACTERS]}..." for reason in reasons]
    if len(lines) == 1:
        return f"1 of {n} exposures failed: {lines[0]}"
    more = [f"and {len(lines) - _MOST_NAMED} more, see {where}"] if len(lines) > _MOST_NAMED else []
    return "\n  ".join([f"{len(lines)} of {n} exposures failed:", *lines[:_MOST_NAMED], *more])
