"""Commands as a shell runs them."""

import logging
import sys

import pytest

from lumos.cli import main


def run_lumos(monkeypatch, *arguments) -> int:
    """Run the command; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["lumos", *map(str, arguments)])
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        # The process of a command ends with it; this one goes on to other tests.
        root.setLevel(level)
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
    return stop.value.code
