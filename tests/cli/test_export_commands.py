"""The commands that hand results on, as a shell runs them."""

import subprocess
import sys

from astropy.table import Table

from helpers.coadd_tables import write_coadd
from helpers.shell import run_lumos


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
