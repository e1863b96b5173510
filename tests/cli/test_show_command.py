"""The picture of one object, as a shell makes it."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread

from helpers.measured_runs import catalog_at, run, write_exposure
from helpers.shell import run_lumos
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CalibrateSettings, CoaddSettings
from lumos.errors import LumosDataError
from lumos.pdf import GaussianMixture
from lumos.photometry.measured import open_run
from lumos.photometry.settings import MeasureSettings
from lumos.report import objects as pictures
from lumos.workflows import show

X, Y = [60.0, 68.0, 150.0], [60.0, 64.0, 120.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("show"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "a.png"


def make_run(tmp_path):
    rng, paths = np.random.default_rng(4), []
    for name in ("a", "b"):

        def spoil(data):
            ny, nx = np.indices(data.shape)
            for x, y in zip(X, Y, strict=True):
                data += 4000 * np.exp(-((nx - x) ** 2 + (ny - y) ** 2) / 4) / (4 * np.pi)

        paths.append(write_exposure(tmp_path / f"{name}.fits", rng, spoil=spoil, EXPID=name))
    shape = np.array([0.0, 0.0, 0.5])
    names = np.array(["north", "south", "west"])
    broken = np.array([0.7, 0.7, np.nan])
    catalog = catalog_at(X, Y, half_light_radius=shape, axis_ratio=broken, object_name=names)
    run(tmp_path, paths, catalog, settings=MeasureSettings(estimators=("optimal",)))
    settings = CoaddSettings(
        prior="none", calibrate=CalibrateSettings(fit=False, assumed_err=0.001), repeat_errors=False
    )
    coadd_run([tmp_path / "run"], tmp_path / "coadd.parquet", settings)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """Return what is drawn, which is drawn all the same."""
    calls = []
    draw = pictures.draw_object

    def spy(path, title, rows, coadds, unit="nJy"):
        calls.append((title, rows, coadds, unit))
        draw(path, title, rows, coadds, unit)

    monkeypatch.setattr("lumos.workflows.show.draw_object", spy)
    return calls


def test_show(folder, out, drawn, monkeypatch, capsys):
    options = ("--coadd", folder / "coadd.parquet", "--out", out)
    assert run_lumos(monkeypatch, "show", folder / "run", "--object", "north", *options) == 0
    assert capsys.readouterr().out == f"{out}: object north, 2 stamps of 2 rows\n"
    ((title, rows, coadds, unit),) = drawn
    assert title.startswith("north   RA 150.0")
    assert [row.name for row in rows] == ["a", "b"]
    assert "neighbour 2 at 2.2″" in rows[0].title
    assert unit == "nJy"
    # The coadd is narrower than each exposure, and lies between them.
    (coadd,) = coadds.values()
    assert coadd.sigma68()[0] < min(row.pdf.sigma68()[0] for row in rows)
    medians = sorted(row.pdf.quantile(0.5)[0] for row in rows)
    assert medians[0] < coadd.quantile(0.5)[0] < medians[1]
    height, width, _ = imread(out).shape
    # A line of stamps for each exposure, one of PDFs for the band.
    assert (height, width) == pytest.approx((90 * (0.45 + 2 * 2.7 + 3), 90 * 14), abs=1.1)
    # By its number it is the same object.
    number = ("--object", "1", "--most", "1", "--out", out.with_name("b.png"))
    assert run_lumos(monkeypatch, "show", folder / "run", *number) == 0
    title, rows, coadds, _ = drawn[1]
    assert title.startswith("north")
    assert [row.view is None for row in rows] == [False, True]
    assert coadds == {}


def test_what_cannot_be_shown_is_said(tmp_path, out, drawn, monkeypatch, capsys):
    folder = make_run(tmp_path)
    (folder / "a.fits").rename(folder / "moved.fits")
    (folder / "b.fits").write_text("nothing")
    assert run_lumos(monkeypatch, "show", folder / "run", "--object", "south", "--out", out) == 0
    assert f"{folder / 'b.fits'}: changed since the run measured it" in capsys.readouterr().err
    ((_, rows, _, _),) = drawn
    assert [row.view for row in rows] == [None, None]
    assert "a.fits is no longer there" in rows[0].why
    assert "b.fits" in rows[1].why
    assert all(row.pdf is not None for row in rows)


def test_an_object_without_a_shape(folder, out, drawn, monkeypatch):
    assert run_lumos(monkeypatch, "show", folder / "run", "--object", "west", "--out", out) == 0
    ((_, rows, _, _),) = drawn
    assert {(row.view, row.why, row.pdf) for row in rows} == {(None, "no shape or no PSF: no stamp", None)}
    assert "no flux" in rows[0].title
    assert "BAD_SHAPE" in rows[0].title


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--object", "east"), "run: no object 'east' in it; it has, for example, north, south, west"),
        (("--object", "²"), "no object '²' in it"),
        (("--object", "9999999999999999999"), "no object '9999999999999999999' in it"),
        (("--object", "north", "--band", "u"), "band of object north: got 'u', allowed: "),
        (("--object", "north", "--out", "a.jpg"), "a.jpg: a picture is written to a file that ends in .png"),
        (("--object", "north", "--out", "there.png"), "there.png: exists; give a new --out"),
        (("--object", "north", "--coadd", "none.parquet"), "none.parquet: no such coadd"),
        (("--object", "north", "--coadd", "run/shards/a.parquet"), "this is no coadd"),
    ],
)
def test_bad_calls(folder, monkeypatch, capsys, options, words):
    monkeypatch.chdir(folder)
    (folder / "there.png").write_text("mine")
    out = () if "--out" in options else ("--out", "new.png")
    assert run_lumos(monkeypatch, "show", "run", *options, *out) == 1
    assert words in capsys.readouterr().err
    assert not (folder / "new.png").exists()
    assert (folder / "there.png").read_text() == "mine"


def test_what_is_no_run(tmp_path, monkeypatch, capsys):
    assert run_lumos(monkeypatch, "show", tmp_path, "--object", "1", "--out", tmp_path / "a.png") == 1
    assert "manifest.json: no such run of `lumos measure`" in capsys.readouterr().err
    # The folder of `lumos run` holds that of its measurement.
    (tmp_path / "all" / "run").mkdir(parents=True)
    for name in ("manifest.json", "settings.yaml"):
        (tmp_path / "all" / "run" / name).write_text("{}")
    assert run_lumos(monkeypatch, "show", tmp_path / "all", "--object", 1, "--out", tmp_path / "a.png") == 1
    where = f"that of `lumos run` is {tmp_path / 'all' / 'run'}"
    assert where in capsys.readouterr().err
    with pytest.raises(LumosDataError, match=where):
        open_run(tmp_path / "all")


def test_texts_are_drawn_as_they_are(out):
    """Two dollar signs are no formula, nor is a name with a backslash between them."""
    pdf = GaussianMixture([[1.0]], [[5.0]], [[1.0]])
    row = pictures.ObjectRow(r"x $\ab$ y", r"e$\ab$", r"$\ab$", None, r"/data/$\ab$.fits is no longer there", pdf)
    pictures.draw_object(out, r"$\ab$", [row], {})
    assert imread(out).shape[1] == 90 * 14


def test_two_ccds_of_one_exposure_have_two_names():
    rows = [pa.table({"exposure_id": [one], "detector": [ccd]}) for one, ccd in (("a", "1"), ("a", "2"), ("b", "1"))]
    assert show._names(rows) == ["a 1", "a 2", "b"]
