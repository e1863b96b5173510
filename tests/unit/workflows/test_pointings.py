"""Exposures of several parts of the sky: which make the catalogue, and what it then holds."""

from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from helpers.fits_files import SCALE, header
from helpers.shell import run_lumos
from lumos.catalogs.parent import read_parent
from lumos.errors import LumosConfigError, LumosDataError
from lumos.flags import Flag
from lumos.runs.shards import read_shards
from lumos.sources.settings import CatalogSettings
from lumos.surveys import load_survey
from lumos.workflows import everything
from lumos.workflows.catalog import make_catalog
from lumos.workflows.pointings import choose_pointings

SIDE = 200
GENERIC = load_survey("generic")
#: Places on the sky, in pixels of the first pointing: of 20, 2 lie where exposures at 0 and 160 overlap.
X, Y = np.meshgrid(np.arange(18.3, 360, 35), [50.6, 140.2])
PLACES = np.column_stack([X.ravel(), Y.ravel()])


@pytest.fixture
def expose(tmp_path, rng):
    """Return what writes an exposure: Gaussians of FWHM 3.2 px on a sky, its first column at a place of the sky."""
    folder = tmp_path / "images"
    folder.mkdir()

    def write(name, first, *, noise=5.0, flux=20_000.0, **cards):
        y, x = np.mgrid[:SIDE, :SIDE]
        data = rng.normal(100, noise, (SIDE, SIDE))
        for column, row in PLACES:
            distance2 = (x + first - column) ** 2 + (y - row) ** 2
            data += flux / (2 * np.pi * 1.36**2) * np.exp(-distance2 / (2 * 1.36**2))
        card = header(CRPIX1=100.5 - first, CRPIX2=100.5, **cards)
        fits.PrimaryHDU(data.astype(">f4"), card).writeto(folder / f"{name}.fits")
        return folder / f"{name}.fits"

    return write


def names(paths):
    return [path.stem for path in paths]


def test_each_part_of_the_sky_has_the_exposure_that_shows_most_of_it(expose, tmp_path):
    files = [expose("a1", 0), expose("a2", 3, flux=400.0), expose("a3", -4, flux=400.0)]
    files += [expose("b1", 160, flux=400.0), expose("b2", 163)]
    broken = tmp_path / "images" / "c.fits"
    broken.write_bytes(b"no image")
    found = choose_pointings([*files, broken], GENERIC, None)
    assert names(found.chosen) == ["a1", "b2"] or names(found.chosen) == ["b2", "a1"]
    # Three exposures show the sky of a1, two that of b2.
    assert names(found.measured) == ["a2", "a3", "b1", "b2", "c"]
    with pytest.raises(LumosDataError, match=r"c\.fits: not read; the warnings say why"):
        choose_pointings([broken], GENERIC, None)


def test_an_exposure_half_of_whose_sky_is_shown_needs_no_other(expose):
    dithered = [expose("d0", 0, flux=400.0), expose("d1", 80), expose("d2", 160, flux=400.0)]
    found = choose_pointings(dithered, GENERIC, None)
    assert names(found.chosen) == ["d1"]
    assert names(found.measured) == ["d0", "d2"]


def test_one_band_is_preferred_for_all_magnitudes(expose):
    files = [expose("r1", 0), expose("i2", 160, FILTER="i"), expose("r2", 161, flux=400.0)]
    found = choose_pointings(files, GENERIC, None)
    first = fits.getheader(files[0])["FILTER"]
    assert set(names(found.chosen)) == {"r1", "r2"} or names(found.chosen)[0] == "i2"
    alone = choose_pointings([files[0], files[1]], GENERIC, None)
    assert set(alone.bands) == {first, "i"}
    assert len(alone.measured) == 2


def test_a_catalogue_of_several_pointings_holds_each_object_once(expose, tmp_path):
    files, out = [expose("a", 0), expose("b", 160)], tmp_path / "c.parquet"
    text = make_catalog(files, out, GENERIC, CatalogSettings())
    catalog = read_parent(out)
    scale = SCALE / 3600
    x = 99.5 - (catalog.ra - 150.0) * np.cos(np.deg2rad(2.0)) / scale
    gap = np.hypot(x[:, None] - PLACES[:, 0], (99.5 + (catalog.dec - 2.0) / scale)[:, None] - PLACES[:, 1])
    assert ((gap < 0.5).sum(axis=0) == 1).all()
    assert len(set(catalog.object_id.tolist())) == len(catalog)
    assert set(catalog.made_from) == {"a", "b"}
    quality = pq.read_table(out.with_suffix(".quality.parquet"))
    from_a = np.array(quality["exposure_id"].to_pylist()) == "a"
    # Objects beyond an exposure come from the other.
    assert from_a[x < 155].all()
    assert not from_a[x > 205].any()
    assert (tmp_path / "c.a.png").is_file()
    assert (tmp_path / "c.b.png").is_file()
    assert make_catalog(files, out, GENERIC, CatalogSettings()) == f"{text} (finished before)"


def test_a_catalogue_of_which_a_part_fails_is_used_again_and_again(expose, tmp_path):
    broken = tmp_path / "images" / "c.fits"
    broken.write_bytes(b"no image")
    files, out = [expose("a", 0), expose("empty", 5000), broken], tmp_path / "c.parquet"
    content = []
    for _ in range(2):
        text = everything._make_catalog(files, out, GENERIC, CatalogSettings(), None, None)
        assert "2 of 3 CCDs are missing" in text
        assert "empty.fits: nothing detected" in text
        assert "c.fits" in text
        content.append(out.read_bytes())
    assert content[0] == content[1]
    with pytest.raises(LumosConfigError, match="settings differ"):
        everything._make_catalog(files, out, GENERIC, CatalogSettings(threshold=9.0), None, None)
    with pytest.raises(LumosDataError, match="nothing detected"):
        everything._make_catalog(files[1:2], tmp_path / "e.parquet", GENERIC, CatalogSettings(), None, None)
    assert not (tmp_path / "e.parquet").exists()


def test_one_command_measures_all_pointings(expose, tmp_path, monkeypatch, capsys):
    expose("a", 0), expose("b", 160)
    # What comes after the measurement is tested elsewhere.
    monkeypatch.setattr(everything, "validate_runs", Mock())
    monkeypatch.setattr(everything, "_inject", Mock(return_value="none injected"))
    few = ("--set", "measure.estimators=[optimal]")
    arguments = ("run", tmp_path / "images", "--survey", "generic", "--model", "none", "--out", tmp_path / "out", *few)
    assert run_lumos(monkeypatch, *arguments) == 0
    told = capsys.readouterr().out
    assert "--set 'measure.estimators=[optimal]' --set measure.model=null --out" in told
    table = read_shards(tmp_path / "out" / "run")
    assert min(table["exposure_id"].to_pylist().count(name) for name in "ab") >= 10
    assert np.isfinite(table["flux"].to_numpy()).mean() > 0.9
    assert ((table["flags"].to_numpy() & int(Flag.CATALOG_EXPOSURE)) > 0).all()
