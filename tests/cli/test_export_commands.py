"""The commands that hand results on, as a shell runs them."""

import subprocess
import sys

import pytest
from astropy.table import Table

from helpers.coadd_tables import write_coadd
from helpers.shell import run_lumos
from lumos.flags import NAN_FLUX, UNUSABLE, Flag


def test_export(monkeypatch, tmp_path, capsys):
    write_coadd(tmp_path / "c.parquet", names=True)
    out = tmp_path / "a.fits"
    assert run_lumos(monkeypatch, "export", tmp_path / "c.parquet", "--out", out, "--format", "fits") == 0
    assert capsys.readouterr().out == f"{out}: 17 rows of {tmp_path / 'c.parquet'} as fits\n"
    assert len(Table.read(out)) == 17
    again = ("export", tmp_path / "c.parquet", "--out", out, "--format", "fits")
    assert run_lumos(monkeypatch, *again) == 1
    assert "a.fits: exists" in capsys.readouterr().err
    colours = ("--out", tmp_path / "b.ecsv", "--format", "ecsv", "--colours", "--bands", "i, g")
    assert run_lumos(monkeypatch, "export", tmp_path / "c.parquet", *colours) == 0
    assert "i_g_colour" in Table.read(tmp_path / "b.ecsv").colnames


def test_a_wrong_format_is_told_before_anything_is_loaded(tmp_path):
    code = (
        "import sys; from lumos.cli import main; sys.argv = ['lumos', 'export', 'x', '--out', 'a', '--format', 'xls']\n"
        "try: main()\nfinally: print('astropy' in sys.modules or 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert found.stdout.strip() == "False"
    assert "format: got 'xls', allowed: fits, votable, csv, ecsv, lsst, paus, des, qp, hats, rail" in found.stderr


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("0", ["no"]),
        ("8193", ["EDGE:", "NEIGHBOUR:"]),
        ("edge", ["EDGE:"]),
        ("pixelFlags_saturated", ["SATURATED:"]),
        ("psfFlux_flag", [f"{flag.name}:" for flag in Flag if flag & (NAN_FLUX | UNUSABLE)]),
    ],
)
def test_flags_are_decoded(monkeypatch, capsys, value, names):
    assert run_lumos(monkeypatch, "flags", value) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == names


def test_flags_of_exported_rows_are_those_of_their_decoded_columns(monkeypatch, tmp_path, capsys):
    write_coadd(tmp_path / "c.parquet")
    options = ("--out", tmp_path / "a.fits", "--format", "lsst")
    assert run_lumos(monkeypatch, "export", tmp_path / "c.parquet", *options) == 0
    table = Table.read(tmp_path / "a.fits")
    capsys.readouterr()
    assert run_lumos(monkeypatch, "flags", "r_cModel_flag") == 0
    behind = {line.split()[1].rstrip(":") for line in capsys.readouterr().out.splitlines()}
    for flags, failed in zip(table["r_lumosFlags"], table["r_cModel_flag"], strict=True):
        assert run_lumos(monkeypatch, "flags", flags) == 0
        found = {line.split()[1].rstrip(":") for line in capsys.readouterr().out.splitlines()}
        assert bool(found & behind) == failed


def test_a_flag_that_does_not_exist(monkeypatch, capsys):
    assert run_lumos(monkeypatch, "flags", "BRIGHT") == 1
    assert "flags: got 'BRIGHT', allowed: a number, or one of EDGE, OFF_DATA" in capsys.readouterr().err
