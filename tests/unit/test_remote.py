"""Files elsewhere: copied once, cut out row by row, measured as local ones; what cannot be reached is named."""

import io
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from helpers.fits_files import header, image, wcs_cards, write_simple
from helpers.lsst_files import part_of
from lumos.cli import app
from lumos.errors import LumosDataError, LumosError
from lumos.images import read_exposure
from lumos.remote import is_remote, list_remote, local_copy
from lumos.surveys import find_exposures, find_files, load_survey

FITS = re.compile(r"\.fits$")
COUNTED = {"bytes": 0}


class CountingFile(io.BytesIO):
    """A file that counts what is read of it."""

    def read(self, size=-1):
        found = super().read(size)
        COUNTED["bytes"] += len(found)
        return found

    def readinto(self, target):
        n = super().readinto(target)
        COUNTED["bytes"] += n
        return n


class CountingFileSystem(MemoryFileSystem):
    """A place that knows how much is read of it."""

    protocol = "counting"
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).replace("counting://", "memory://"))

    def _open(self, path, mode="rb", **kwargs):
        return CountingFile(self.store[path].getvalue()) if mode == "rb" else super()._open(path, mode, **kwargs)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Return an empty place in memory; copies lie below the test's folder."""
    monkeypatch.setenv("LUMOS_CACHE", str(tmp_path / "cache"))
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    CountingFileSystem.store.clear()
    MemoryFileSystem.store.clear()
    COUNTED["bytes"] = 0
    return fsspec.filesystem("memory")


def put(place, name, hdus):
    buffer = io.BytesIO()
    (hdus if isinstance(hdus, fits.HDUList) else fits.HDUList([hdus])).writeto(buffer)
    place.pipe_file(name, buffer.getvalue())


def test_names_of_files_elsewhere(tmp_path):
    assert all(is_remote(one) for one in ("s3://bucket/a.fits", "https:/host/a.fits", "memory://a/b.fits"))
    assert not any(is_remote(one) for one in ("/data/a.fits", "a.fits", "C:/a.fits", "night[1]/a.fits", "@list"))
    path = write_simple(tmp_path / "a.fits")
    assert local_copy(path) == path
    assert local_copy(f"file://{path}").read_bytes() == path.read_bytes()


def test_a_copy_is_made_once_and_again_when_the_file_changed(place):
    put(place, "/night/a.fits", fits.PrimaryHDU(image(), header()))
    one = local_copy("memory://night/a.fits")
    stamp = one.stat().st_mtime_ns
    assert np.array_equal(fits.getdata(one), image())
    assert local_copy("memory:/night/a.fits") == one
    assert one.stat().st_mtime_ns == stamp
    put(place, "/night/a.fits", fits.PrimaryHDU(image(seed=2), header()))
    assert local_copy("memory://night/a.fits") == one
    assert np.array_equal(fits.getdata(one), image(seed=2))


def test_exposures_come_with_their_companions(place, tmp_path):
    for name in ("a_r.fits", "b_r.fits"):
        put(place, f"/night/{name}", fits.PrimaryHDU(image(), header()))
    put(place, "/night/a_r.var.fits", fits.PrimaryHDU(np.full((30, 40), 9.0)))
    place.pipe_file("/night/notes.txt", b"clouds")
    text = "name: s\ntext: t\nbands: [r]\nflux_unit: ADU\nsky_subtracted: true\nheader: {band: [FILTER]}\n"
    text += "variance: [{kind: variance, sidecar: [{find: '\\.fits$', replace: '.var.fits'}]}]\n"
    (tmp_path / "s.yaml").write_text(text)
    survey = load_survey(tmp_path / "s.yaml")
    for given in ("memory://night/a_r.fits", "memory://night", "memory://night/*_r.fits"):
        files = find_exposures([given], survey)
        assert [path.name for path in files][:1] == ["a_r.fits"]
        (exposure,) = read_exposure(files[0], survey)
        assert (exposure.variance == 9).all()
    assert [path.name for path in files] == ["a_r.fits", "b_r.fits"]
    (cut,) = find_exposures(["memory://night/a_r.fits[5:25,10:30]"], survey)
    (exposure,) = read_exposure(cut, survey)
    assert np.array_equal(exposure.data, image()[10:30, 5:25])
    assert exposure.variance.shape == (20, 20)
    assert exposure.exposure_id == "x5-25_y10-30_a_r"
    assert list_remote("memory://night", FITS) == [f"memory:///night/{one}.fits" for one in ("a_r", "a_r.var", "b_r")]


@pytest.mark.parametrize("compressed", [False, True])
def test_only_the_rows_of_a_cutout_are_read(compressed):
    place = fsspec.filesystem("counting")
    data = np.random.default_rng(1).normal(size=(2000, 1000)).astype(np.float32)
    cards = fits.Header({**wcs_cards(), **part_of((70, 80)), "FILTER": "r", "MAGZPT": 27.0, "NEXTEND": 3})
    make = {"compression_type": "GZIP_1", "quantize_level": 0} if compressed else {}
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    flags = np.zeros(data.shape, np.uint16)
    flags[1210, 330] = 40000
    psf = fits.ImageHDU(np.ones((2, 2, 5, 5), np.float32), name="PSF")
    hdus = [fits.PrimaryHDU(), kind(data, cards, name="SCI", **make), fits.ImageHDU(flags, name="MASK"), psf]
    put(place, "/deep/mosaic.fits", fits.HDUList(hdus))
    size = place.info("/deep/mosaic.fits")["size"]
    path = local_copy("counting://deep/mosaic.fits[300:380,1200:1250]")
    assert COUNTED["bytes"] < 0.1 * size
    with fits.open(path) as hdul:
        assert np.array_equal(hdul["SCI"].data, data[1200:1250, 300:380])
        assert np.array_equal(hdul["MASK"].data, flags[1200:1250, 300:380])
        assert hdul["PSF"].shape == (2, 2, 5, 5)
        cut = hdul["SCI"].header
        assert (cut["CRVAL1A"] + 1 - cut["CRPIX1A"], cut["CRVAL2A"] + 1 - cut["CRPIX2A"]) == (370, 1280)
        sky = WCS(cut).pixel_to_world(30, 10)
    assert sky.separation(WCS(cards, naxis=2, key=" ").pixel_to_world(330, 1210)).arcsec < 1e-6
    (exposure,) = read_exposure(path, load_survey("generic"))
    assert exposure.mask[10, 30] == 1
    read = COUNTED["bytes"]
    assert local_copy("counting://deep/mosaic.fits[300:380,1200:1250]") == path
    assert COUNTED["bytes"] == read


def test_the_psf_of_a_whole_image_goes_with_its_cutouts(place):
    """ZTF's is an image of 25 x 25 pixels, the cutout lies beyond them."""
    psf = np.exp(-0.5 * ((np.indices((25, 25)) - 12) ** 2).sum(axis=0) / 2**2).astype(np.float32)
    put(place, "/ztf_1_sciimg.fits", fits.PrimaryHDU(np.ones((300, 300), np.float32)))
    put(place, "/ztf_1_mskimg.fits", fits.PrimaryHDU(np.zeros((300, 300), np.int16)))
    put(place, "/ztf_1_sciimgdaopsfcent.fits", fits.PrimaryHDU(psf))
    (path,) = find_exposures(["memory://ztf_1_sciimg.fits[100:200,50:150]"], load_survey("ztf"))
    assert fits.getdata(path).shape == fits.getdata(path.with_name(path.name.replace("_sci", "_msk"))).shape
    assert np.array_equal(fits.getdata(path.with_name(path.name.replace("sciimg", "sciimgdaopsfcent"))), psf)


def test_cutouts_that_cannot_be(place):
    put(place, "/a.fits", fits.PrimaryHDU(image(), header()))
    put(place, "/t.fits", fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]))
    place.pipe_file("/a.fits.gz", b"\x1f\x8b")
    place.pipe_file("/bad.fits", b"SIMPLE  =" + bytes(100))
    for name, match in (
        ("a.fits[0:41,0:5]", r"a\.fits\[0:41,0:5\]: the image has 40 x 30 pixels"),
        ("a.fits[5:5,0:5]", "40 x 30 pixels"),
        ("t.fits[0:5,0:5]", "no two-dimensional image to cut from"),
        ("a.fits.gz[0:5,0:5]", "no part of a packed file can be read, give the whole"),
        ("bad.fits[0:5,0:5]", r"bad\.fits\[0:5,0:5\]: cannot be reached or read"),
    ):
        with pytest.raises(LumosDataError, match=match):
            local_copy(f"memory://{name}")
    assert not [path for path in (local_copy("memory://a.fits").parent).iterdir() if path.suffix == ".part"]


def test_what_cannot_be_reached_is_named(place, monkeypatch):
    put(place, "/night/a.fits", fits.PrimaryHDU(image(), header()))
    for name, match in (
        ("memory://night/b.fits", r"^memory://night/b\.fits: no such file$"),
        ("memory://nowhere", r"^memory://nowhere: no such file$"),
        ("memory://night/*.fit", "no FITS file matches"),
        ("nonsense://a/b.fits", r"nonsense://a/b\.fits: cannot be reached or read \(ValueError: Protocol not known"),
        ("http://127.0.0.1:9/b.fits", r"http://127\.0\.0\.1:9/b\.fits: cannot be reached or read"),
    ):
        with pytest.raises(LumosDataError, match=match):
            find_files([name])
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(LumosError, match=r"s3://bucket/a\.fits: .*pip install 'lumos-photometry\[remote\]'"):
        local_copy("s3://bucket/a.fits")


@pytest.fixture
def server(place):
    """Serve the files of the memory over http, parts of them too, and keep what was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            if not place.exists(self.path):
                self.send_error(404)
                return
            content = place.cat_file(self.path)
            part = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(part[1]), int(part[2] or len(content) - 1)) if part else (0, len(content) - 1)
            body = content[first : last + 1]
            self.send_response(206 if part else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            if part:
                self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                asked.append(len(body))
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_an_exposure_on_a_web_server_is_measured_as_a_local_one(place, server, tmp_path):
    url, asked = server
    rng = np.random.default_rng(5)
    data = rng.normal(0, 1, (400, 300)).astype(np.float32)
    data[199:202, 149:152] += 500.0
    cards = header(**wcs_cards(crpix=(150.5, 200.5)))
    put(place, "/a.fits", fits.PrimaryHDU(data, cards))
    table = "object_id,ra,dec,half_light_radius,sersic_n,axis_ratio,position_angle,ref_mag\n"
    place.pipe_file("/cat.csv", (table + "1,150.0,2.0,0.3,1.0,1.0,0.0,20\n").encode())
    (tmp_path / "a.fits").write_bytes(place.cat_file("/a.fits"))
    (tmp_path / "cat.csv").write_bytes(place.cat_file("/cat.csv"))
    common = ["--estimators", "aperture", "--set", 'measure.scene="off"', "--out"]
    fluxes = []
    for name, where in (("there", url), ("here", str(tmp_path))):
        run = tmp_path / name
        arguments = ["measure", f"{where}/a.fits", "--catalog", f"{where}/cat.csv", *common, str(run)]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        fluxes.append(pq.read_table(run / "shards/a.parquet")["aperture_flux"].to_pylist())
    assert fluxes[0] == fluxes[1]
    assert np.isfinite(fluxes[0]).all()
    n_asked = len(asked)
    again = CliRunner().invoke(
        app, ["measure", f"{url}/a.fits", "--catalog", f"{url}/cat.csv", *common, str(tmp_path / "there")]
    )
    assert "0 exposures measured, 1 finished before" in again.output
    # Copies of unchanged files are not made anew: nothing of a size was sent.
    assert sum(asked[n_asked:]) < 100
    with pytest.raises(LumosDataError, match=r"/b\.fits: no such file"):
        local_copy(f"{url}/b.fits")
    for missing in (f"{url}/b.fits", f"{url}/a.fits[0:900,0:5]"):
        arguments = ["measure", missing, "--catalog", f"{url}/cat.csv", *common, str(tmp_path / "none")]
        assert isinstance(CliRunner().invoke(app, arguments).exception, LumosDataError)
        assert not (tmp_path / "none").exists()
