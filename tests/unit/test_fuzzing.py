"""A short share of ``benchmarks/fuzz.py``: seeded damage of every kind of input, read under its limits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumos.config import parse_yaml
from lumos.errors import LumosError, one_line
from lumos.pdf import FluxPrior
from lumos.runs.folder import read_manifest
from lumos.settings import load_settings

ROOT = Path(__file__).parents[2]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits the memory of a process by /proc")
def test_damaged_input_is_read_sanely_or_refused(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), str(tmp_path), "--inputs", "700", "--seed", "7"]
    # Without the real files, which not everybody has.
    environment = os.environ | {"LUMOS_DATA": "/nonexistent", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    faults = tmp_path / "faults.txt"
    assert done.returncode == 0, done.stdout + done.stderr + (faults.read_text() if faults.exists() else "")
    (last,) = re.findall(r"^all +(\d+) +(\d+) +(\d+) +(\d+)", done.stdout, re.MULTILINE)
    tried, refused, accepted, wrong = map(int, last)
    assert (tried, wrong) == (refused + accepted, 0)
    assert tried > 600
    # Damage that nobody notices would be none, and whole files that are refused would hide what is behind.
    assert refused > 300
    assert accepted > 60


def refusal(call) -> str:
    """Return the line with which a call is refused; nothing where it is not."""
    try:
        call()
    except LumosError as error:
        return one_line(error)
    return ""


@QUICK
@given(st.text(max_size=60))
def test_any_text_is_yaml_or_refused(text):
    reason = refusal(lambda: parse_yaml(text, "a.yaml"))
    assert not reason or reason.startswith("a.yaml: ")


@QUICK
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_override_is_taken_or_refused(key, value):
    for text in (f"{key}={value}", f"measure.{key}={value}", f"measure.stamp_size={value}", key):
        assert len(refusal(lambda text=text: load_settings(None, [text]))) < 4100


@QUICK
@given(st.dictionaries(st.sampled_from(["bands", "knots", "nodes", "log_density"]), VALUES, min_size=4))
def test_any_prior_is_refused(content):
    with pytest.raises(LumosError):
        FluxPrior.from_dict(content)


@QUICK
@given(entry=VALUES, name=st.text(max_size=5))
def test_any_manifest_is_read_or_refused(tmp_path_factory, entry, name):
    folder = tmp_path_factory.mktemp("run")
    (folder / "manifest.json").write_text(json.dumps({"exposures": {name: entry}, "waiting": entry}))
    reason = refusal(lambda: read_manifest(folder))
    assert not reason or str(folder) in reason
