"""Fixtures that all tests share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("LUMOS_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real survey images; the tests that need them are skipped where there are none."""
    if not DATA.is_dir():
        pytest.skip(f"no real survey data at {DATA} (set LUMOS_DATA)")
    return DATA


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a seeded generator: every test draws the same numbers every time."""
    return np.random.default_rng(20210406)


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """Take off what a command put on the log: its streams are closed when the test ends."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in before]
