"""Damaged and hostile files that once were faults: each is refused in a line that names it, or read as it should be."""

import bz2
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from helpers.background_pools import new_stamps, write_pool
from helpers.coadd_tables import write_coadd
from helpers.fits_files import header, write_simple
from lumos.catalogs.formats import Column, TableFile, open_table
from lumos.catalogs.parent import read_parent
from lumos.coadds.calibrate_read import read_reference, read_zeropoints
from lumos.coadds.read import read_coadd
from lumos.config import parse_yaml
from lumos.errors import LumosConfigError, LumosDataError, LumosError
from lumos.files import file_stamp
from lumos.images import read_exposure
from lumos.images.lsst.archive import pixel_origin
from lumos.images.psf.models import load_stamp_psf
from lumos.images.psf.psfex import PsfexModel, load_psfex, write_psfex
from lumos.images.psf.table import read_psf_table
from lumos.pdf import FluxPrior
from lumos.photoz.fluxes import read_photometry
from lumos.photoz.settings import PhotozSettings
from lumos.pools.pool import BackgroundPool
from lumos.runs.folder import RunFolder, read_manifest
from lumos.runs.look import look_at_run
from lumos.spectra import templates
from lumos.spectra.curves import read_curve
from lumos.spectra.templates import list_templates, read_template
from lumos.surveys import load_survey


def test_aliases_of_aliases_are_refused_before_anyone_walks_through_them():
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for one, before in zip("bcdefgh", "abcdefg", strict=True):
        lines.append(f"{one}: &{one} [{','.join([f'*{before}'] * 9)}]")
    for text in ("\n".join(lines), "&x [*x]", "bands: &x {r: *x}"):
        with pytest.raises(LumosConfigError, match=r"a\.yaml: its aliases stand for more than the 1000000 values"):
            parse_yaml(text, "a.yaml")
    # An alias or two is how survey files are written.
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: *a", "a.yaml") == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}


@pytest.mark.parametrize("text", ["a: 1" + "0" * 5000, "!!python/object/apply:os.system ['false']", "{[]: 1}"])
def test_values_that_yaml_cannot_hold(text):
    with pytest.raises(LumosConfigError, match=r"a\.yaml: cannot be read"):
        parse_yaml(text, "a.yaml")


def test_messages_end_somewhere(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"bands: [{', '.join('{}' for _ in range(5000))}]\nname: {'b' * 100_000}\n{'c' * 50_000}: 1\n")
    with pytest.raises(LumosConfigError) as caught:
        load_survey(path)
    assert len(str(caught.value)) < 4100
    assert "letters more)" in str(LumosError("x" * 5000))


def test_a_bomb_behind_a_catalogue_is_refused_at_once(tmp_path):
    Table({"ra": [1.0], "dec": [2.0]}).write(tmp_path / "a.fits")
    path = tmp_path / "parent.fits"
    path.write_bytes(bz2.compress((tmp_path / "a.fits").read_bytes() + bytes(50_000_000)))
    with pytest.raises(LumosDataError, match=r"parent\.fits: damaged: the last \d+ bytes are no extension"):
        read_parent(path)


@pytest.mark.parametrize("kind", ["fits.gz", "fits"])
def test_packed_catalogues_are_read(tmp_path, kind):
    Table({"object_id": [1, 2], "ra": [1.0, 3.0], "dec": [2.0, 4.0]}).write(tmp_path / f"a.{kind}")
    assert read_parent(tmp_path / f"a.{kind}").dec.tolist() == [2.0, 4.0]


def test_psf_images_of_huge_numbers(tmp_path):
    stamp = np.zeros((5, 5), np.float32)
    stamp[1:4, 1:4] = 3e38
    fits.PrimaryHDU(stamp).writeto(tmp_path / "a.fits")
    # Their sum is beyond float32, each ninth of it is not.
    assert load_stamp_psf(tmp_path / "a.fits").image[2, 2] == pytest.approx(1 / 9)
    # A sum that is lost in the rounding of its terms.
    stamp[1:4, 1:4] = [[3e38, -1.1e38, -1.9e38], [2.3e38, -1.7e38, -0.6e38], [1e30, 1e30, 1e30]]
    fits.PrimaryHDU(stamp).writeto(tmp_path / "b.fits")
    with pytest.raises(LumosDataError, match=r"b\.fits: PSF image: it"):
        load_stamp_psf(tmp_path / "b.fits")


@pytest.mark.parametrize(("before", "after"), [("name: beta,", "nome: beta,"), ("datatype: float64", "x: y")])
def test_damaged_headers_of_psf_tables(tmp_path, before, after):
    table = Table({"exposure_id": ["a"], "detector": ["1"], "fwhm_arcsec": [0.8], "beta": [3.5]})
    table.write(tmp_path / "psf.ecsv", format="ascii.ecsv")
    text = (tmp_path / "psf.ecsv").read_text()
    assert before in text
    (tmp_path / "psf.ecsv").write_text(text.replace(before, after, 1))
    with pytest.raises(LumosDataError, match=r"psf\.ecsv: cannot read the PSF table"):
        read_psf_table(tmp_path / "psf.ecsv")


def test_pixels_that_are_needles(tmp_path):
    cards = {"FILTER": "NB585", "CCDNUM": 1, "CAMSTATE": "after", "CD1_1": -0.263e2 / 3600, "CD2_2": 0.263e-2 / 3600}
    path = write_simple(tmp_path / "a.fits", **cards)
    (exposure,) = read_exposure(path, load_survey("paucam"))
    assert exposure.psf is None
    assert "pixels 1e+04 times as long as wide, too much for an image" in exposure.provenance["psf"]


@pytest.mark.parametrize("value", ["/etc/passwd", True])
def test_origins_that_are_no_numbers(tmp_path, value):
    with pytest.raises(LumosDataError, match=r"a\.fits: LTV1 is .*, allowed: a finite number"):
        pixel_origin(header(LTV1=value) if value is not True else fits.Header([("LTV1", "x")]), tmp_path / "a.fits")
    assert pixel_origin(header(LTV1=-3, LTV2=-4.5), tmp_path) == (3.0, 4.5)


def test_texts_in_the_place_of_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("exposure_id,zeropoint\na,25/0\n")
    with pytest.raises(LumosDataError, match=r"a\.csv: column 'zeropoint' holds no numbers"):
        read_zeropoints(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("ra,dec,band,flux,flux_err\nx,2,g,1,1\n")
    with pytest.raises(LumosDataError, match=r"b\.csv: column 'ra' holds no numbers"):
        read_reference(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("ra,dec,band,flux,flux_err\nnan,2,g,1,1\n3,2,g,1,1\n")
    assert read_reference(tmp_path / "c.csv")["g"]["ra"].tolist() == [3.0]


@pytest.mark.parametrize("change", [{"bands": None}, {"nodes": [[1.0], [1.0, 2.0]]}, {"knots": {"a": 1}}])
def test_damaged_priors(change):
    rng = np.random.default_rng(1)
    prior = FluxPrior.fit(rng.lognormal(4, 1, 400), rng.uniform(18, 24, 400), rng.integers(0, 2, 400), ("g", "r"))
    content = json.loads(json.dumps(prior.to_dict()))
    assert FluxPrior.from_dict(content).bands == ("g", "r")
    with pytest.raises(LumosDataError, match="prior: "):
        FluxPrior.from_dict(content | change)


def test_columns_that_a_table_does_not_hold_as_it_says(tmp_path):
    wrong = TableFile(tmp_path / "a.parquet", ("a",), 3, lambda _: Column(np.zeros(2), np.zeros(2, dtype=bool)))
    with pytest.raises(LumosDataError, match=r"a\.parquet: damaged: column 'a' of shape \(2,\), allowed: .* 3 rows"):
        wrong.read("a")


def test_texts_that_are_no_utf8_are_texts(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"object_id,band,ra,dec\nJ1,\xe7,1,2\nJ2,g,1,2\n")
    assert open_table(tmp_path / "a.csv").read("band").values.tolist() == ["\ufffd", "g"]
    assert read_parent(tmp_path / "a.csv").object_name.tolist() == ["J1", "J2"]


def test_columns_of_no_type_are_left_out(tmp_path):
    Table({"ra": [1.0], "dec": [2.0], "band": ["g"]}).write(tmp_path / "a.ecsv")
    text = (tmp_path / "a.ecsv").read_text()
    assert "name: band, datatype: string" in text
    (tmp_path / "a.ecsv").write_text(text.replace("name: band, datatype: string", "name: band, datatype: []"))
    assert set(open_table(tmp_path / "a.ecsv").names) <= {"ra", "dec", "band"}
    assert open_table(tmp_path / "a.ecsv").names == ("ra", "dec")


@pytest.mark.parametrize("tile", [None, (1, 40), (30, 40)])
def test_compressed_images_that_claim_more_than_their_tiles(tmp_path, tile):
    hdu = fits.CompImageHDU(np.zeros((30, 40), np.float32), header(), name="SCI", tile_shape=tile)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    assert len(list(read_exposure(tmp_path / "a.fits", load_survey("generic")))) == 1
    content = (tmp_path / "a.fits").read_bytes()
    claims = {"ZNAXIS1": 30_000, "ZNAXIS2": 30_000}
    for cards, match in (
        (claims, r"damaged: compressed image of \[30000, 30000\] pixels in tiles of"),
        ({"ZTILE2": 0}, "damaged: compressed image"),
        (claims | {"ZTILE1": 30_000, "ZTILE2": 30_000, "NAXIS2": 1}, r"\d+ bytes, too few to be one|truncated"),
    ):
        changed = content
        for key, value in cards.items():
            at = changed.index(f"{key:<8}=".encode(), 2880)
            changed = changed[:at] + f"{key:<8}= {value:>20}".ljust(80).encode() + changed[at + 80 :]
        (tmp_path / "b.fits").write_bytes(changed)
        with pytest.raises(LumosDataError, match=match):
            list(read_exposure(tmp_path / "b.fits", load_survey("generic")))


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ([1], "'asked' is"),
        ({"exposures": "many"}, "'asked' counts"),
        ({"todo": -1}, "'asked' counts"),
        ({"begun": "yesterday"}, "'asked' began at 'yesterday'"),
        ({"begun": 7}, "'asked' began at 7"),
    ],
)
def test_what_a_manifest_says_that_was_asked_for(tmp_path, asked, match):
    (tmp_path / "manifest.json").write_text(json.dumps({"exposures": {}, "asked": asked}))
    with pytest.raises(LumosDataError, match=rf"manifest\.json: damaged, {match}"):
        look_at_run(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"exposures": {}, "asked": {"begun": "2026-01-01T00:00:00"}}))
    assert look_at_run(tmp_path).asked == 0


@pytest.mark.parametrize("text", ["[", "{}", '[["a"]]', "[" * 100_000])
def test_metadata_that_are_no_json(tmp_path, text):
    table = pa.table({"ra": [1.0], "dec": [2.0]}, metadata={"lumos.made_from": text})
    pq.write_table(table, tmp_path / "a.parquet")
    if text == "{}":
        assert read_parent(tmp_path / "a.parquet").made_from == ()
        return
    with pytest.raises(LumosDataError, match=r"a\.parquet: damaged metadata, lumos\.made_from is no"):
        read_parent(tmp_path / "a.parquet")


def test_units_of_a_curve_that_are_no_text(tmp_path):
    curve = {"wavelength": [500.0, 510.0], "response": [1.0, 1.0], "wav_units": {"a": 1}}
    (tmp_path / "a.json").write_text(json.dumps({"a": curve}))
    with pytest.raises(LumosDataError, match=r"a\.json: wav_units of a is \{'a': 1\}, allowed: nm or Angstrom or um"):
        read_curve(tmp_path / "a.json", None, "vacuum", "photon", "a")


def test_archives_of_templates_that_are_damaged_bombs_or_pipes(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    for content in (b"", b"PK\x03\x04" + bytes(30)):
        path.write_bytes(content)
        with pytest.raises(LumosDataError, match=r"a\.npz: no archive of templates"):
            list_templates(path)
    np.savez(path, s__wave=np.arange(900, 990.0), s__flam=np.ones(90))
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = -1
        while (at := content.find(magic, at + 1)) >= 0:
            content[at + place] = 99
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(LumosDataError, match=r"b\.npz: no archive of templates \(NotImplementedError"):
        read_template(tmp_path / "b.npz", "nm", name="s")
    monkeypatch.setattr(templates, "_LARGEST", 1000)
    with pytest.raises(LumosDataError, match=r"a\.npz: unpacks to \d+ bytes, allowed: at most 1000"):
        list_templates(path)
    os.mkfifo(tmp_path / "c.npz")
    with pytest.raises(LumosDataError, match=r"c\.npz: missing or no regular file"):
        list_templates(tmp_path / "c.npz")


def test_coadds_whose_columns_are_of_another_kind(tmp_path):
    write_coadd(tmp_path / "coadd.parquet")
    table = pq.read_table(tmp_path / "coadd.parquet")
    weights = pa.array(table["pdf_weights"].to_pylist(), type=pa.list_(pa.float32()))
    place = table.column_names.index("pdf_weights")
    pq.write_table(table.set_column(place, "pdf_weights", weights), tmp_path / "a.parquet")
    pq.write_table(table.drop_columns("pdf_means"), tmp_path / "b.parquet")
    for name in "ab":
        with pytest.raises(LumosDataError, match=rf"{name}\.parquet: damaged, its PDFs cannot be read"):
            read_coadd(tmp_path / f"{name}.parquet")


def test_names_of_columns_that_are_no_utf8(tmp_path):
    write_coadd(tmp_path / "coadd.parquet")
    pq.write_table(pq.read_table(tmp_path / "coadd.parquet"), tmp_path / "b.parquet", store_schema=False)
    content = (tmp_path / "b.parquet").read_bytes()
    assert b"n_exposures" in content
    (tmp_path / "a.parquet").write_bytes(content.replace(b"n_exposures", b"n_\xc0xposures"))
    with pytest.raises(LumosDataError, match=r"a\.parquet: damaged or missing shard"):
        read_coadd(tmp_path / "a.parquet")


def test_how_often_a_manifest_was_written(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"exposures": {}, "generation": [1]}))
    with pytest.raises(
        LumosDataError, match=r"manifest\.json: damaged, 'generation' is \[1\], allowed: a whole number"
    ):
        RunFolder(tmp_path)
    assert file_stamp(tmp_path / "a\0b") is None


@pytest.mark.parametrize(("name", "content"), [("data.npy", b""), ("pool.json", None)])
def test_damaged_pools(tmp_path, name, content):
    write_pool(tmp_path / "pool", ({}, new_stamps(np.ones((3, 96, 96)))))
    path = next((tmp_path / "pool").glob(name if content is not None else "*.json"))
    if content is None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"exposures": 7}))
    else:
        path.write_bytes(content)
    with pytest.raises(LumosDataError, match="pool"):
        BackgroundPool.open(tmp_path / "pool")


def test_entries_of_a_manifest_whose_status_is_no_text(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"exposures": {"a": {"status": ["done"]}}}))
    with pytest.raises(LumosDataError, match=r"manifest\.json: damaged, a: allowed: a mapping with status"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("number", [1, 3, 2**62])
def test_psfex_polynomials_in_too_many_variables(tmp_path, number):
    model = PsfexModel(np.ones((1, 5, 5)), 0, (0.0, 0.0), (1.0, 1.0), 1.0, (100, 100))
    write_psfex(tmp_path / "a.psf", model, {})
    assert load_psfex(tmp_path / "a.psf", (100, 100)).degree == 0
    write_psfex(tmp_path / "a.psf", model, {"POLNAXIS": number})
    with pytest.raises(LumosDataError, match=rf"a\.psf: PSFEx polynomial in {number} variables, allowed: X_IMAGE"):
        load_psfex(tmp_path / "a.psf", (100, 100))


def test_numbers_of_a_wcs_that_no_float_holds(tmp_path):
    path = write_simple(tmp_path / "a.fits", DUMMY="placeholder", CRVAL1=None)
    content = path.read_bytes()
    at = content.index(b"DUMMY   = ")
    path.write_bytes(content[:at] + f"CRVAL1  = {10**30}".ljust(80).encode() + content[at + 80 :])
    with pytest.raises(LumosDataError, match=r"a\.fits: the WCS|a\.fits: CRVAL1 is 10+, allowed: finite|a\.fits: WCS"):
        list(read_exposure(path, load_survey("generic")))
    path.write_bytes(content[:at] + f"CRVAL1  = {'9' * 68}".ljust(80).encode() + content[at + 80 :])
    with pytest.raises(LumosDataError, match=r"a\.fits: "):
        list(read_exposure(path, load_survey("generic")))


def test_pdfs_of_a_coadd_that_are_damaged(tmp_path):
    write_coadd(tmp_path / "coadd.parquet")
    table = pq.read_table(tmp_path / "coadd.parquet")
    metadata = table.schema.metadata | {b"lumos.provenance": b'{"prior": "none"}'}
    path = tmp_path / "a.parquet"
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True, compression="none")
    settings = PhotozSettings(likelihood="pdf")
    assert read_photometry(path, ("g", "r", "i"), settings).mixture is not None
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(0).column(flat_index(path, "pdf_means")).data_page_offset
    content[place + 60] ^= 4
    path.write_bytes(content)
    with pytest.raises(LumosDataError, match=r"a\.parquet: damaged, its PDFs cannot be read"):
        read_photometry(path, ("g", "r", "i"), settings)


def flat_index(path, name):
    """Return the number of a column among those that the file stores."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    return next(k for k in range(group.num_columns) if group.column(k).path_in_schema.startswith(name))
