"""Catalogues and PSFs from files: several CCDs, what failed, what is there already, and what is written."""

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from helpers.fits_files import SCALE, header
from lumos.catalogs.parent import read_parent
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError
from lumos.flags import Flag, MaskPlane, catalog_flag_metadata, good_pixels
from lumos.images.psf.models import MoffatModel
from lumos.images.reader import read_exposure
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.sources.shapes import make_parent_catalog
from lumos.sources.stars import fit_star_psf
from lumos.surveys import load_survey
from lumos.workflows import catalog as workflow
from lumos.workflows.catalog import make_catalog
from lumos.workflows.psf import make_psfs

SIDE, SHIFT = 200, 160
GENERIC = load_survey("generic")
#: Places in the pixels of the first CCD; the second begins at x = 160, so that three lie on both.
PLACES = np.array(
    [
        (30.2, 40.7),
        (80.5, 150.1),
        (120.9, 60.3),
        (175.4, 50.6),
        (180.2, 120.8),
        (185.7, 170.3),
        (250.1, 90.2),
        (300.6, 150.5),
    ]
)


def ccd(rng, first, places=PLACES, flux=20_000.0):
    """Draw round Gaussians of FWHM 3.2 px on a sky."""
    y, x = np.mgrid[:SIDE, :SIDE]
    data = rng.normal(100, 5, (SIDE, SIDE))
    for column, row in places:
        data += flux / (2 * np.pi * 1.36**2) * np.exp(-((x + first - column) ** 2 + (y - row) ** 2) / (2 * 1.36**2))
    return data.astype(">f4")


def write(path, images, **cards):
    """Write CCDs one beside the other, by name and first column."""
    hdus = [
        fits.ImageHDU(data, header(CRPIX1=100.5 - first, CRPIX2=100.5, DETECTOR=name, **cards))
        for name, (first, data) in images.items()
    ]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path


@pytest.fixture
def mosaic(tmp_path, rng):
    return write(tmp_path / "m.fits", {"A1": (0, ccd(rng, 0)), "A2": (SHIFT, ccd(rng, SHIFT))})


@pytest.fixture
def single(tmp_path, rng):
    return write(tmp_path / "m.fits", {"A1": (0, ccd(rng, 0))})


def positions(catalog):
    scale = SCALE / 3600
    x = 99.5 - (catalog.ra - 150.0) * np.cos(np.deg2rad(2.0)) / scale
    return np.column_stack([x, 99.5 + (catalog.dec - 2.0) / scale])


def test_a_catalogue_of_several_ccds_holds_each_object_once(tmp_path, mosaic):
    told = []
    out = tmp_path / "made" / "c.parquet"
    text = make_catalog(mosaic, out, GENERIC, CatalogSettings(), progress=lambda *args: told.append(args))
    catalog = read_parent(out)
    gap = np.hypot(*(positions(catalog)[:, None] - PLACES).transpose(2, 0, 1))
    assert ((gap < 0.5).sum(axis=0) == 1).all()
    assert len(set(catalog.object_id.tolist())) == len(catalog)
    assert catalog.made_from == ("m",)
    assert f"{out}: {len(catalog)} objects" in text
    assert "CCD A2: of " in text
    assert "galaxies put into the image, half are found at magnitude" in text
    assert str(out.with_suffix(".quality.parquet")) in text
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "c.A1.png", "c.A2.png", "c.parquet", "c.quality.parquet",
    ]  # fmt: skip
    assert told[0][0] == told[0][1] >= 6
    quality = pq.read_table(out.with_suffix(".quality.parquet"))
    assert quality["object_id"].to_pylist() == catalog.object_id.tolist()
    assert set(quality["detector"].to_pylist()) == {"A1", "A2"}
    metadata = pq.read_metadata(out).metadata
    assert json.loads(metadata[b"lumos.catalog_flags"]) == catalog_flag_metadata()
    complete = json.loads(metadata[b"lumos.provenance"])["completeness"]["A1"]
    # In noise of 5 per pixel a galaxy as small as these needs a flux of some 150 to be seen.
    assert 60 < complete["flux_50"] < 400
    assert complete["mag_50"] == pytest.approx(27.0 - 2.5 * np.log10(complete["flux_50"]))
    assert complete["bright"] > 0.9


def test_measured_rows_know_their_catalogue(tmp_path, single):
    make_catalog(single, tmp_path / "c.parquet", GENERIC, CatalogSettings())
    measure_run([single], tmp_path / "c.parquet", tmp_path / "run", GENERIC, MeasureSettings(estimators=("optimal",)))
    flags = read_shards(tmp_path / "run")["flags"].to_numpy()
    assert ((flags & int(Flag.CATALOG_EXPOSURE)) > 0).all()


def test_what_is_there_is_not_made_again_and_nothing_else_is_replaced(tmp_path, single, monkeypatch):
    out = tmp_path / "c.parquet"
    first = make_catalog(single, out, GENERIC, CatalogSettings())
    content = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "make_parent_catalog", None)
        assert make_catalog(single, out, GENERIC, CatalogSettings()) == f"{first} (finished before)"
    with pytest.raises(
        LumosConfigError, match=r"c\.parquet: holds another result of `lumos catalog` \(settings differ\); give a new"
    ):
        make_catalog(single, out, GENERIC, CatalogSettings(threshold=8.0))
    assert out.read_bytes() == content
    make_catalog(single, out, GENERIC, CatalogSettings(threshold=8.0), overwrite=True)
    assert out.read_bytes() != content
    for name in ("text.parquet", "table.parquet"):
        (tmp_path / name).write_bytes(
            b"mine" if name == "text.parquet" else (tmp_path / "c.quality.parquet").read_bytes()
        )
        with pytest.raises(LumosConfigError, match="was not made by `lumos catalog`; give a new --out"):
            make_catalog(single, tmp_path / name, GENERIC, CatalogSettings())
    with pytest.raises(LumosValueError, match=r"a name that ends in \.parquet"):
        make_catalog(single, tmp_path / "c.fits", GENERIC, CatalogSettings())


def test_a_killed_command_leaves_no_half_catalogue(tmp_path, single, monkeypatch):
    out = tmp_path / "made" / "c.parquet"
    for name in ("draw_catalog", "write_parent"):
        with monkeypatch.context() as patch:
            patch.setattr(workflow, name, Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                make_catalog(single, out, GENERIC, CatalogSettings())
        assert not out.exists()
        assert not list(out.parent.glob("*.part"))
    assert "(finished before)" not in make_catalog(single, out, GENERIC, CatalogSettings())


def test_a_ccd_without_objects_is_told_and_the_others_are_written(tmp_path, rng):
    images = {"A1": (0, ccd(rng, 0)), "A2": (SHIFT, np.full((SIDE, SIDE), 7.0, dtype=">f4"))}
    image, out = write(tmp_path / "m.fits", images), tmp_path / "c.parquet"
    for _ in range(2):
        with pytest.raises(LumosError, match=r"1 of 2 CCDs are missing: detector A2: .*nothing detected above 3\.5"):
            make_catalog(image, out, GENERIC, CatalogSettings())
    assert len(read_parent(out)) >= 6
    empty = write(tmp_path / "e.fits", {"A2": images["A2"]})
    with pytest.raises(LumosDataError, match=r"^[^ ]*e\.fits: nothing detected"):
        make_catalog(empty, tmp_path / "e.parquet", GENERIC, CatalogSettings())
    assert not (tmp_path / "e.parquet").exists()


def test_no_zero_point_gives_limits_in_image_units(tmp_path, rng):
    image = write(tmp_path / "m.fits", {"A1": (0, ccd(rng, 0))}, MAGZPT=None)
    text = make_catalog(image, tmp_path / "c.parquet", GENERIC, CatalogSettings())
    assert "half are found at flux " in text
    assert np.isnan(read_parent(tmp_path / "c.parquet").ref_mag).all()
    assert (tmp_path / "c.png").read_bytes()[1:4] == b"PNG"


def test_one_ccd_with_few_stars_does_not_end_the_others(tmp_path, rng):
    grid = np.array([(x + 0.3, y + 0.6) for x in range(30, 190, 35) for y in range(30, 190, 35)], dtype=float)
    few = {"A1": (0, ccd(rng, 0, grid[:2])), "A2": (0, ccd(rng, 0, grid)), "A3": (0, ccd(rng, 0, grid))}
    # A bright star, so that the others are far from the brightest pixel.
    for _, data in few.values():
        data[100, 100] += 30_000
    image = write(tmp_path / "m.fits", few)
    lost = r"of 3 detections 1 are near the brightest pixel value, which may be saturation"
    message = rf"m\.fits: 2 usable stars, allowed: at least 5 \({lost}\) \(detector A1\)"
    with pytest.raises(LumosError, match=message):
        make_psfs([image], tmp_path / "psf", GENERIC, PsfSettings())
    rows = pq.read_table(tmp_path / "psf" / "psf.parquet").to_pylist()
    assert [row["detector"] for row in rows] == ["A2", "A3"]


def test_suspect_pixels_are_used_and_others_are_not(tmp_path, rng):
    grid = np.array([(x + 0.3, y + 0.6) for x in range(30, 190, 35) for y in range(30, 190, 35)], dtype=float)
    data = ccd(rng, 0, grid)
    # A bright star, so that the others are far from the brightest pixel.
    data[100, 100] += 30_000
    path = write(tmp_path / "m.fits", {"A1": (0, data)})
    plain = replace(next(read_exposure(path, GENERIC)), psf=MoffatModel(3.2, 4.765))
    suspect = replace(plain, mask=np.full_like(plain.mask, MaskPlane.SUSPECT))
    stars = [fit_star_psf(exposure, PsfSettings()) for exposure in (plain, suspect)]
    made = [make_parent_catalog(exposure, CatalogSettings()) for exposure in (plain, suspect)]
    np.testing.assert_array_equal(stars[0].star_fwhm, stars[1].star_fwhm)
    assert len(made[0].catalog) >= 4
    np.testing.assert_array_equal(made[0].catalog.half_light_radius, made[1].catalog.half_light_radius)
    np.testing.assert_array_equal(made[0].flags, made[1].flags)
    for kind in (np.uint8, np.int16, np.int32, np.int64):
        planes = np.array([0, 32, 1, 33, 64], dtype=kind)
        np.testing.assert_array_equal(good_pixels(planes), [True, True, False, False, False])
