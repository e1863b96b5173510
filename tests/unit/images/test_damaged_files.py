"""Damaged, cut off, hostile and inconsistent FITS files: every one is refused by name, quickly, or warned about."""

import bz2
import gzip
import io
import logging
import lzma
import os
import re
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import yaml
from astropy.io import fits

from helpers.fits_files import header, image, write_mef, write_simple
from lumos import scan
from lumos.errors import LumosConfigError, LumosDataError
from lumos.images import list_detectors, read_exposure
from lumos.surveys import load_survey

GENERIC = load_survey("generic")


def strict(tmp_path):
    path = tmp_path / "strict.yaml"
    content = {"name": "strict", "text": "x", "bands": ["r"], "flux_unit": "count", "sky_subtracted": True}
    content |= {"header": {"band": ["FILTER"], "detector": {"keys": ["DETECTOR"], "default": "0"}}}
    content |= {"image": {"checksum": "require"}, "mask": [{"kind": "nonzero", "extension": ["MASK"]}]}
    path.write_text(yaml.safe_dump(content))
    return load_survey(path)


def read_all(path, survey=GENERIC):
    return list(read_exposure(path, survey))


def block(*cards: str) -> bytes:
    return "".join(f"{card:<80}" for card in (*cards, "END")).encode().ljust(2880)


def primary(**changes: object) -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": -32, "NAXIS": 2, "NAXIS1": 4, "NAXIS2": 4} | changes
    return block(*(f"{key:<8}= {value:>20}" for key, value in cards.items() if value is not None))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (primary(NAXIS=2**63 - 1), f"NAXIS is {2**63 - 1}, allowed: 0 to 999"),
        (primary(NAXIS=10**8), "NAXIS is 100000000, allowed: 0 to 999"),
        (primary(NAXIS=-1), "NAXIS is -1, allowed: 0 to 999"),
        (primary(NAXIS1=-4), r"image of \[-4, 4\] pixels, allowed: none negative"),
        (primary(NAXIS2=None), "no NAXIS2 card"),
        (primary(NAXIS1="4.5"), "NAXIS1 is '4.5', allowed: an integer"),
        (primary(BITPIX=7), "BITPIX is 7, allowed"),
        (primary(BITPIX=None), "no BITPIX card"),
        (primary(TFIELDS=10**9), "TFIELDS is 1000000000, allowed: 0 to 999"),
        (primary(PCOUNT=-1), "PCOUNT is -1"),
        (primary(GROUPS="T", NAXIS1=0, GCOUNT=1), "random groups, allowed: images and tables"),
        (b"SIMPLE  =                    T".ljust(2880), "no END card"),
        (b"", "empty file"),
        (primary().replace(b"BITPIX  =                  -32", b"END".ljust(30)), "no BITPIX card"),
        (block("SIMPLE  =                    T", "BITPIX  =                  -32"), "no NAXIS card"),
    ],
)
def test_headers_that_cannot_be_are_refused_at_once(tmp_path, content, match):
    path = tmp_path / "odd.fits"
    path.write_bytes(content + bytes(2880) if content else b"")
    begin = time.perf_counter()
    with pytest.raises(LumosDataError, match=match) as caught:
        read_all(path)
    assert time.perf_counter() - begin < 5
    assert str(caught.value).startswith(str(path))


def raw_card(path, key: str, value: str, *, compressed: bool):
    """Write an image one of whose cards stands in the file exactly as given."""
    cards = header(**{key: None, "DUMMY": "placeholder"})
    hdu = fits.CompImageHDU(image(), cards) if compressed else fits.ImageHDU(image(), cards)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    content = path.read_bytes()
    start = content.index(b"DUMMY   = 'placeholder'")
    path.write_bytes(content[:start] + f"{key:<8}= {value}".ljust(80).encode() + content[start + 80 :])
    return path


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("EXPTIME", "1.2.3", "EXPTIME: the header card cannot be read"),
        ("FILTER", "1.2.3", "FILTER: the header card cannot be read"),
        ("GAIN", "2,5", "GAIN: the header card cannot be read"),
        ("MAGZPT", "abc", "MAGZPT: the header card cannot be read"),
        ("EXPID", "'abc", "EXPID: the header card cannot be read"),
        ("CRPIX1", "150,1", "CRPIX1: the header card cannot be read"),
        ("CTYPE1", "RA---TAN", "CTYPE1: the header card cannot be read"),
        ("EXTNAME", "1.2.3", r"can\w* be read"),
        ("EXTVER", "'abc'", "EXTVER 'abc', allowed: text, integer"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_malformed_cards_that_count_are_refused(tmp_path, key, value, match, compressed):
    path = raw_card(tmp_path / "a.fits", key, value, compressed=compressed)
    with pytest.raises(LumosDataError, match=match) as caught:
        read_all(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"RDNOISE": -5.0}, "read noise is -5.0, allowed: 0 or more, finite"),
        ({"RDNOISE": "inf"}, "read noise is inf, allowed: 0 or more, finite"),
        ({"GAIN": "inf"}, "gain is inf, allowed: positive"),
        ({"EXPTIME": "inf"}, "exposure time is inf, allowed: positive"),
        ({"FILTER": "()"}, r"band '\(\)', allowed: a name with 1 to 40 letters"),
        ({"FILTER": "x" * 41}, "allowed: a name with 1 to 40 letters"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, cards, match):
    with pytest.raises(LumosDataError, match=match) as caught:
        read_all(write_simple(tmp_path / "a.fits", **cards))
    assert str(caught.value).startswith(str(tmp_path / "a.fits"))


def two_ccds(path, **cards: object):
    hdus = [fits.PrimaryHDU(header=fits.Header(list(cards.items())))]
    for k in (1, 2):
        hdus.append(fits.ImageHDU(image(seed=k), header(DETECTOR=f"C{k}"), name="SCI", ver=k))
        hdus.append(fits.ImageHDU(np.zeros((30, 40), np.int16), name="MASK", ver=k))
    fits.HDUList(hdus).writeto(path)
    with fits.open(path) as hdul:
        return [hdul.fileinfo(k)["hdrLoc"] for k in range(5)]


def test_a_mask_that_other_ccds_have_must_be_there(tmp_path):
    starts = two_ccds(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes((tmp_path / "a.fits").read_bytes()[: starts[4]])
    exposures = read_exposure(tmp_path / "b.fits", GENERIC)
    assert next(exposures).detector == "C1"
    with pytest.raises(LumosDataError, match=r"b\.fits\[3\]: no extension MASK of version 2, versions: \[1\]"):
        next(exposures)


def test_images_that_share_a_mask_are_refused(tmp_path):
    hdus = [fits.ImageHDU(image(seed=k), header(DETECTOR=f"C{k}"), name=f"SCI{k}") for k in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *hdus, fits.ImageHDU(np.zeros((30, 40), np.int16), name="MASK")]).writeto(
        tmp_path / "a.fits"
    )
    with pytest.raises(LumosDataError, match="2 images share the extension MASK, allowed: one each, paired by EXTVER"):
        read_all(tmp_path / "a.fits")


def test_extensions_that_are_announced_must_be_there(tmp_path, caplog):
    starts = two_ccds(tmp_path / "a.fits", NEXTEND=4)
    assert len(read_all(tmp_path / "a.fits")) == 2
    content = (tmp_path / "a.fits").read_bytes()
    for number in (3, 4):
        cut = tmp_path / f"cut{number}.fits"
        cut.write_bytes(content[: starts[number]])
        with pytest.raises(LumosDataError, match=rf"NEXTEND announces 4 extensions, the file has {number - 1} \(cut"):
            list_detectors(cut, GENERIC)
    # One image with the header of a file of more is what cutouts look like.
    cutout = tmp_path / "cutout.fits"
    cutout.write_bytes(content[: starts[2]])
    with caplog.at_level(logging.WARNING):
        assert len(read_all(cutout)) == 1
        assert len(read_all(cutout)) == 1
    assert [record.message for record in caplog.records] == [
        f"{cutout}: NEXTEND announces 4 extensions, the file has 1: a cutout, or cut off"
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_an_extension_that_is_cut_off_or_broken_is_noticed(tmp_path, compressed):
    path = tmp_path / "a.fits"
    make = fits.CompImageHDU if compressed else fits.ImageHDU
    hdus = [make(image(), header(), name="SCI"), make(np.ones((30, 40), np.int16), name="MASK")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    content = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdul:
        start, data = hdul.fileinfo(2)["hdrLoc"], hdul.fileinfo(2)["datLoc"]
    assert len(read_all(path)) == 1
    broken = {
        "header cut": (content[: start + 100], r"no END card"),
        "data cut": (content[: data + 10], r"truncated|cannot be read"),
        "no keyword": (content[:start] + b"YTENSION" + content[start + 8 :], r"the last \d+ bytes are no extension"),
        "kind": (
            content[:start] + b"XTENSION= 'IMAGF   '" + content[start + 20 :],
            "XTENSION is 'IMAGF', allowed: A3DTABLE",
        ),
        "zeros": (content[:start] + bytes(2880) + content[start + 2880 :], r"the last \d+ bytes are no extension"),
    }
    if compressed:
        place = content.index(b"ZIMAGE", start)
        broken["no image"] = content[:place] + b"YIMAGE" + content[place + 6 :], "compressed image without ZIMAGE = T"
    for name, (changed, match) in broken.items():
        path.write_bytes(changed)
        with pytest.raises(LumosDataError, match=match) as caught:
            pytest.fail(f"{name}: {read_all(path)}")
        assert "a.fits" in str(caught.value)
    path.write_bytes(content + bytes(28800))
    assert len(read_all(path)) == 1


def packed(kind: str, content: bytes) -> bytes:
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.fits", content)
        return buffer.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](content)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_packed_bombs_are_refused_at_the_limit(tmp_path, monkeypatch, kind):
    limit = 2**22
    monkeypatch.setattr(scan, "MAX_UNPACKED", limit)
    good = write_simple(tmp_path / "good.fits").read_bytes()
    path = tmp_path / f"a.fits.{kind}"
    path.write_bytes(packed(kind, good))
    assert len(read_all(path)) == 1
    for content, match in (
        (bytes(2 * limit), r"does not hold a FITS file"),
        (good + bytes(8 * limit), rf"unpacks to more than the {limit} bytes allowed, unpack it first"),
        (good + bytes(limit // 2), r"the last \d+ bytes are no extension"),
    ):
        path.write_bytes(packed(kind, content))
        tracemalloc.start()
        with pytest.raises(LumosDataError, match=match):
            read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5 * limit
    path.write_bytes(packed(kind, good)[:-200])
    with pytest.raises(LumosDataError, match="cannot be unpacked"):
        read_all(path)


def test_other_packers_and_archives_of_several_files_are_refused(tmp_path):
    (tmp_path / "a.fits.Z").write_bytes(b"\x1f\x9d\x90" + bytes(100))
    with pytest.raises(LumosDataError, match=r"packed with compress \(\.Z\), allowed: gz, bz2, xz, zip"):
        read_all(tmp_path / "a.fits.Z")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.fits", b"")
        archive.writestr("b.fits", b"")
    with pytest.raises(LumosDataError, match="a zip of 2 files, allowed: 1"):
        read_all(tmp_path / "a.zip")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.fits", tmp_path):
        with pytest.raises(LumosDataError, match="no regular file"):
            read_all(path)
    with pytest.raises(LumosConfigError, match=r"pipe\.yaml: cannot be read \(no regular file\)"):
        load_survey(tmp_path / "pipe.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 3000)
    with pytest.raises(LumosConfigError, match="nested too deep"):
        load_survey(tmp_path / "deep.yaml")
    (tmp_path / "large.yaml").write_text("#" * 10_000_001)
    with pytest.raises(LumosConfigError, match="bytes, allowed: up to"):
        load_survey(tmp_path / "large.yaml")


@pytest.mark.parametrize("kind", ["plain", "compressed", "gz"])
def test_every_flipped_bit_is_caught_where_checksums_are_required(tmp_path, kind, rng):
    make = fits.CompImageHDU if kind == "compressed" else fits.ImageHDU
    path = tmp_path / "a.fits"
    hdus = [make(image((8, 9)), header(), name="SCI"), make(np.zeros((8, 9), np.int16), name="MASK")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, checksum=True)
    content = path.read_bytes()
    survey = strict(tmp_path)
    assert len(read_all(path, survey)) == 1
    damaged = tmp_path / "b.fits"
    keywords = [match.start() for match in re.finditer(b"CHECKSUM=", content)]
    assert len(keywords) == 3
    places = [*keywords, *rng.integers(0, len(content), 150)]
    for number, place in enumerate(places):
        changed = bytearray(content)
        changed[place] ^= 1 << (number % 8)
        damaged.write_bytes(gzip.compress(changed) if kind == "gz" else changed)
        with pytest.raises(LumosDataError):
            pytest.fail(f"bit {number % 8} of byte {place}: {read_all(damaged, survey)}")


def test_stale_checksums_are_a_warning_and_can_be_ignored(tmp_path, caplog):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(image(), header()).writeto(path, checksum=True)
    content = bytearray(path.read_bytes())
    content[2880 * 2 + 3] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert len(read_all(path)) == 1
        assert len(read_all(path)) == 1
    assert [record.message for record in caplog.records] == [
        f"{path}: DATASUM of HDU 0, CHECKSUM of HDU 0 failed: changed since it was written, or damaged"
    ]
    with pytest.raises(LumosDataError, match="DATASUM of HDU 0, CHECKSUM of HDU 0 failed, the survey's"):
        read_all(path, strict(tmp_path))
    caplog.clear()
    ignored = GENERIC.model_copy(update={"image": GENERIC.image.model_copy(update={"checksum": "ignore"})})
    other = path.rename(tmp_path / "b.fits")
    assert len(read_all(other, ignored)) == 1
    assert not caplog.records
    with pytest.raises(LumosDataError, match=r"c\.fits: no CHECKSUM in HDU 0, the survey's image.checksum"):
        read_all(write_simple(tmp_path / "c.fits"), strict(tmp_path))


def test_degenerate_axes_are_dropped_and_cubes_are_no_exposures(tmp_path):
    fits.PrimaryHDU(image()[None], header()).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(np.zeros((2, 30, 40), np.float32), header()).writeto(tmp_path / "b.fits")
    (exposure,) = read_all(tmp_path / "a.fits")
    assert np.array_equal(exposure.data, image().astype(np.float32))
    with pytest.raises(LumosDataError, match="no image for survey generic"):
        read_all(tmp_path / "b.fits")
    mef = write_mef(tmp_path / "c.fits", {"MASK": np.ones((1, 30, 40), np.int16)})
    (exposure,) = read_all(mef)
    assert (exposure.mask == 1).all()


@pytest.mark.parametrize(("flag", "method"), [(1, None), (0, 99)])
def test_a_zip_with_a_password_or_of_its_own_method_is_refused_by_name(tmp_path, flag, method):
    path = tmp_path / "a.fits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.fits", b"SIMPLE" * 100)
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(magic) + place
        content[start] |= flag
        if method is not None:
            content[start + 2] = method
    path.write_bytes(content)
    with pytest.raises(LumosDataError, match=r"a\.fits\.zip: cannot be unpacked"):
        read_all(path)
