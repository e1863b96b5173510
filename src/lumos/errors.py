"""The exceptions of the package.

A bad *call* raises one of these, at the door, with the value that was given and what is allowed.
A bad *object* never raises: it gets NaN and a bit of :mod:`lumos.flags`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "LumosConfigError",
    "LumosDataError",
    "LumosError",
    "LumosShapeError",
    "LumosValueError",
    "WorkerDiedError",
    "foreign_reader",
    "one_line",
]


#: Letters of a message, and of a library's own in it; a file may hold names and values of any length.
_LONGEST, _LONGEST_REASON = 4000, 300


class LumosError(RuntimeError):
    """Base class: anything that the package refuses to do."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text) - _LONGEST} letters more)"


class LumosValueError(LumosError, ValueError):
    """An argument has a value that is not allowed.

    Parameters
    ----------
    what : str
        What the argument is.
    value : object
        The value that was given.
    allowed : object
        What is allowed, in words or as a collection.
    """

    def __init__(self, what: str, value: object, allowed: object) -> None:
        self.value = value
        self.allowed = allowed
        super().__init__(f"{what}: got {value!r}, allowed: {allowed}")


class LumosShapeError(LumosValueError):
    """An array has the wrong shape."""


class LumosConfigError(LumosError, ValueError):
    """A settings or survey file is wrong (unknown key, wrong type, missing entry)."""


class LumosDataError(LumosError, ValueError):
    """A data file is missing, damaged or lacks what is needed; the message names the file."""


class WorkerDiedError(LumosError):
    """A worker process died of its task, most likely because there was no memory for it."""


def one_line(error: BaseException) -> str:
    """Return an error as one line of text.

    Parameters
    ----------
    error : BaseException
        Any error.

    Returns
    -------
    str
        The message; before it the type, unless it is a :class:`LumosError`, which needs no type.
    """
    text = re.sub(r" (object )?at 0x[0-9a-f]+", "", " ".join(str(error).split()))
    return text if isinstance(error, LumosError) else f"{type(error).__name__}: {text}"


@contextmanager
def foreign_reader(what: str) -> Iterator[None]:
    """Turn whatever the reader of a library stumbles over into an error that names the file.

    Parameters
    ----------
    what : str
        File, and what is wrong with it, as ``a.csv: no table``.

    Yields
    ------
    None
        While the file is read.

    Raises
    ------
    LumosDataError
        Where anything but memory goes wrong; what is a :class:`lumos.errors.LumosError` already is passed on.
    """
    try:
        yield
    except (LumosError, MemoryError):
        raise
    except Exception as error:
        # Readers of damaged files raise a dozen classes without a common base.
        raise LumosDataError(f"{what} ({one_line(error)[:_LONGEST_REASON]})") from error
