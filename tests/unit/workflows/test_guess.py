"""Exposures without stars: a run goes on with a PSF that is guessed, and says so."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from helpers.fits_files import header
from helpers.shell import run_lumos
from lumos.images.psf.table import read_psf_table
from lumos.runs.shards import read_shards
from lumos.surveys import Survey, load_survey
from lumos.workflows.psf import guess_psfs

SURVEY = Survey.model_validate({**load_survey("generic").model_dump(mode="json"), "psf": {"kind": "table"}})


def write(path, rng, fwhm, n):
    """Write an image of round Gaussian sources."""
    y, x = np.mgrid[:200, :220]
    data = rng.normal(100, 5, (200, 220))
    for x0, y0 in rng.uniform(15, 185, (n, 2)):
        data += 8e3 / fwhm**2 * np.exp(-4 * np.log(2) * ((x - x0) ** 2 + (y - y0) ** 2) / fwhm**2)
    cards = header(CRPIX1=110.5, CRPIX2=100.5, PSF_FWHM=None, PSFPIXEL=None)
    fits.PrimaryHDU(data.astype(">f4"), cards).writeto(path)
    return path


def test_the_sharpest_sources_tell_the_width(tmp_path, rng):
    files = [write(tmp_path / "a.fits", rng, 5.0, 12), write(tmp_path / "b.fits", rng, 5.0, 0)]
    told = guess_psfs(files, SURVEY, tmp_path / "psf")
    rows = read_psf_table(tmp_path / "psf" / "psf.parquet")
    assert rows["a", "0"].fwhm == pytest.approx(5.0 * 0.25, rel=0.1)
    assert rows["b", "0"].fwhm == pytest.approx(rows["a", "0"].fwhm)
    assert rows["a", "0"].includes_pixel
    assert "a.fits: too few stars" in told[0]
    assert "that of the sharpest sources of the others" in told[1]
    # What is known stays as it is.
    assert guess_psfs(files, SURVEY, tmp_path / "psf") == []
    assert pq.read_metadata(tmp_path / "psf" / "psf.parquet").num_rows == 2


def test_a_run_without_stars_goes_on(tmp_path, rng, monkeypatch, capsys):
    path = write(tmp_path / "a.fits", rng, 5.0, 3)
    assert run_lumos(monkeypatch, "run", path, "--out", tmp_path / "out", "--set", "inject.rounds=1") == 0
    out = capsys.readouterr().out
    assert "? " in out
    assert "a FWHM of 2.50 px is taken, as many cameras have" in out
    assert len(read_shards(tmp_path / "out" / "run")) == 3
