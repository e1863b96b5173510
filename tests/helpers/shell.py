"""Commands as a shell runs them."""

import sys

import pytest

from lumos.cli import main


def run_lumos(monkeypatch, *arguments) -> int:
    """Run the command; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["lumos", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code
