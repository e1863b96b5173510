"""`lumos photoz` as a user types it, on a table of galaxies made of the analytic templates."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.shell import run_lumos
from lumos.catalogs.schema import coadd_schema, to_arrow
from lumos.photoz.models import build_grid
from lumos.photoz.run import read_redshifts
from lumos.photoz.templates import load_models
from lumos.workflows import photoz

TEMPLATES = """
redshifts: {low: 0.1, high: 0.9, step: 0.004}
bands:
- {names: [NB455, NB495, NB535, NB575, NB615, NB655, NB695, NB735, NB775, NB815], narrow: true}
- names: [u, g, r, i, z]
templates:
- closed_forms: {red: [2.429, 9.636, 3.654, 1.777, 0.043], blue: [0.344, -1.467, 0.501, 0.651, 0.559]}
lines:
  lines: {OII3727: 0.42, OII3730: 0.58, Halpha: 1.77}
runs:
- {name: quiet, templates: [red, blue]}
- {name: lines, templates: [red, blue], lines: [lines]}
"""
N = 30


@pytest.fixture
def files(tmp_path):
    templates = tmp_path / "templates.yaml"
    templates.write_text(TEMPLATES)
    grid = build_grid(load_models(templates))
    rng = np.random.default_rng(3)
    place = rng.integers(5, len(grid.redshifts) - 5, N)
    flux = 1000 * np.stack([rng.uniform(0.3, 1, 3) @ grid.fluxes[1][z] for z in place])
    columns = {"object_id": np.arange(N)}
    for number, band in enumerate(grid.bands):
        error = flux[:, number] / 40
        columns |= {f"flux_{band}": flux[:, number] + error * rng.normal(size=N), f"flux_err_{band}": error}
    pq.write_table(pa.table(columns), tmp_path / "fluxes.parquet")
    spectra = pa.table({"object_id": np.arange(N), "redshift": grid.redshifts[place]})
    pq.write_table(spectra, tmp_path / "spectra.parquet")
    return tmp_path


def test_redshifts_figures_and_picture(files, monkeypatch, capsys):
    out = files / "pz"
    arguments = ("photoz", files / "fluxes.parquet", "--templates", files / "templates.yaml", "--out", out)
    arguments += ("--spec-z", files / "spectra.parquet", "--set", "photoz.shard=16", "--set", "photoz.floor=0")
    assert run_lumos(monkeypatch, *arguments) == 0
    told = capsys.readouterr().out
    assert "best half by Qz" in told
    assert f"{N} galaxies" in told
    figures = json.loads((out / "metrics.json").read_text())["all"]
    assert figures["n"] == N
    assert figures["sigma68"] < 0.006
    assert (out / "redshifts.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "report.html").read_text()
    assert "Are these redshifts true?" in page
    assert "data:image/png;base64" in page
    table, _ = read_redshifts(out)
    assert table["object_id"].to_pylist() == list(range(N))
    before = (out / "manifest.json").stat().st_mtime_ns
    assert run_lumos(monkeypatch, *arguments) == 0
    assert "finished before" in capsys.readouterr().out
    assert (out / "manifest.json").stat().st_mtime_ns == before


def test_redshifts_are_judged_with_a_catalogue(files, monkeypatch, capsys):
    """The truth may have a row for each band, as in a simulation, and the catalogue says how large galaxies are."""
    out, page = files / "pz", files / "report"
    arguments = ("photoz", files / "fluxes.parquet", "--templates", files / "templates.yaml", "--out", out)
    assert run_lumos(monkeypatch, *arguments, "--set", "photoz.floor=0") == 0
    assert not (out / "report.html").exists()
    rng = np.random.default_rng(6)
    columns = {"object_id": np.arange(N), "ra": np.full(N, 1.0), "dec": np.full(N, 2.0), "axis_ratio": np.ones(N)}
    columns |= {
        "half_light_radius": rng.uniform(0.3, 1, N),
        "sersic_n": rng.uniform(1, 4, N),
        "position_angle": np.zeros(N),
    }
    pq.write_table(pa.table(columns | {"ref_mag": rng.uniform(18, 22, N)}), files / "parent.parquet")
    spectra = pq.read_table(files / "spectra.parquet").to_pydict()
    truth = {name: np.repeat(values, 2) for name, values in spectra.items()} | {"band": ["u", "g"] * N}
    pq.write_table(pa.table(truth), files / "truth.parquet")
    judge = ("validate", out, "--out", page, "--truth", files / "truth.parquet")
    assert run_lumos(monkeypatch, *judge, "--catalog", files / "parent.parquet") == 0
    assert "The PIT is uniform" in capsys.readouterr().out
    metrics = {one["key"]: one for one in json.loads((page / "metrics.json").read_text())}
    assert metrics["pit_ks"]["n"] == N
    text = (page / "report.html").read_text()
    for part in ("mag 18.", "radius 0.", "n 1.", "z 0.", "Photometric redshifts", "Quality cuts"):
        assert part in text
    charts = {chart["key"] for chart in json.loads((page / "charts.json").read_text())}
    assert {"redshifts", "redshift_pit"} <= charts
    stranger = pa.table(columns | {"object_id": np.arange(N) + 5000, "ref_mag": np.ones(N)})
    pq.write_table(stranger, files / "strange.parquet")
    for wrong, message in (
        (("validate", out, "--out", page), "with --truth"),
        ((*judge, "--coadd", files / "fluxes.parquet"), "without --injected and --coadd"),
        ((*judge, "--catalog", files / "strange.parquet"), "none of its galaxies is in the catalogue"),
        ((*judge, "--catalog", files / "missing.parquet"), "missing.parquet"),
        (
            ("validate", files, "--out", page, "--catalog", files / "parent.parquet"),
            "is for a folder of `lumos photoz`",
        ),
    ):
        assert run_lumos(monkeypatch, *wrong) == 1
        assert message in capsys.readouterr().err


def test_qp_reads_what_is_exported(files, monkeypatch, capsys):
    qp = pytest.importorskip("qp", reason="qp is not installed")
    wide = pq.read_table(files / "fluxes.parquet").to_pydict()
    for name in wide:
        if name.startswith("flux_") and not name.startswith("flux_err"):
            wide[name][3] = float("nan")
    pq.write_table(pa.table(wide), files / "fluxes.parquet")
    out = files / "pz"
    arguments = ("photoz", files / "fluxes.parquet", "--templates", files / "templates.yaml", "--out", out)
    assert run_lumos(monkeypatch, *arguments, "--set", "photoz.floor=0", "--set", "photoz.shard=16") == 0
    capsys.readouterr()
    assert run_lumos(monkeypatch, "export", out, "--format", "qp", "--out", files / "pz.hdf5") == 0
    told = capsys.readouterr()
    assert "1 of 30 galaxies have no redshift" in told.err
    assert f"{N - 1} rows" in told.out
    ensemble = qp.read(str(files / "pz.hdf5"))
    table, pdf = read_redshifts(out)
    kept = np.arange(N) != 3
    assert ensemble.npdf == N - 1
    np.testing.assert_array_equal(ensemble.ancil["object_id"], np.arange(N)[kept])
    np.testing.assert_allclose(ensemble.ancil["zmode"], table["zb"].to_numpy()[kept])
    # Straight between the redshifts instead of constant in their cells: the same at these, up to the normalisation.
    np.testing.assert_allclose(ensemble.pdf(pdf.redshifts), pdf.density[kept], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(ensemble.median().ravel(), table["z_q50"].to_numpy()[kept], atol=0.004)
    assert run_lumos(monkeypatch, "export", out, "--format", "csv", "--out", files / "pz.csv") == 1
    assert "allowed: qp" in capsys.readouterr().err
    assert not (files / "pz.csv").exists()


def test_a_coadd_with_its_pdfs(files, monkeypatch, capsys):
    """PDFs know of outliers that Gaussians do not: their redshifts are better."""
    wide = pq.read_table(files / "fluxes.parquet")
    bands = [name.removeprefix("flux_err_") for name in wide.column_names if name.startswith("flux_err_")]
    flux, error = (np.stack([wide[f"{part}_{b}"] for b in bands], axis=1).ravel() for part in ("flux", "flux_err"))
    rng = np.random.default_rng(4)
    flux = flux + 12 * error * rng.normal(size=flux.shape) * (rng.random(flux.shape) < 0.06)
    schema = coadd_schema([], "mixture", 2, {"prior": "none"})
    columns = {field.name: np.ones(len(flux)) for field in schema}
    columns |= {"object_id": np.repeat(np.arange(N), len(bands)), "band": np.array(bands * N)}
    columns |= {"flux": flux, "flux_err": error, "pdf_weights": np.tile([0.94, 0.06], (len(flux), 1))}
    columns |= {"pdf_means": np.stack([flux, flux], 1), "pdf_stds": error[:, None] * [1, 12]}
    pq.write_table(to_arrow(columns, schema), files / "coadd.parquet")
    figures = {}
    for kind in ("gaussian", "pdf"):
        out = files / kind
        options = ("--templates", files / "templates.yaml", "--spec-z", files / "spectra.parquet", "--out", out)
        options += ("--likelihood", kind, "--set", "photoz.floor=0")
        assert run_lumos(monkeypatch, "photoz", files / "coadd.parquet", *options) == 0
        figures[kind] = json.loads((out / "metrics.json").read_text())["all"]
    capsys.readouterr()
    assert figures["pdf"]["crps"] < 0.7 * figures["gaussian"]["crps"]
    assert figures["pdf"]["sigma68"] < figures["gaussian"]["sigma68"]


def test_the_picture_shows_the_fluxes_that_were_fitted_and_the_names(files, monkeypatch, capsys):
    """Two bands are 20 % off; known redshifts put them right, also in the picture, whose fits have the table's chi2."""
    wide = pq.read_table(files / "fluxes.parquet").to_pydict()
    for name in ("flux_NB535", "flux_err_NB535", "flux_NB695", "flux_err_NB695"):
        wide[name] = 1.2 * np.array(wide[name])
    names = [f"J{number:02d}_$a$" for number in range(N)]
    pq.write_table(pa.table(wide | {"object_id": names}), files / "named.parquet")
    spectra = pq.read_table(files / "spectra.parquet").to_pydict()
    pq.write_table(pa.table(spectra | {"object_id": names}), files / "spectra.parquet")
    shown = []
    draw = photoz.draw_redshifts

    def spy(path, exhibits):
        shown.extend(exhibits)
        draw(path, exhibits)

    monkeypatch.setattr(photoz, "draw_redshifts", spy)
    options = ("--templates", files / "templates.yaml", "--spec-z", files / "spectra.parquet", "--out", files / "pz")
    options += ("--calibrate", "spectra", "--set", "photoz.calibrate_rounds=5")
    assert run_lumos(monkeypatch, "photoz", files / "named.parquet", *options) == 0
    capsys.readouterr()
    table, _ = read_redshifts(files / "pz")
    chi2 = dict(zip(table["object_name"].to_pylist(), table["chi2"].to_pylist(), strict=True))
    assert len(shown) == 6
    for exhibit in shown:
        name = exhibit.title.partition(":")[0]
        assert float(exhibit.title.partition("chi2 ")[2].partition(",")[0]) == pytest.approx(chi2[name], abs=3)
        off = exhibit.flux / exhibit.model
        assert off[exhibit.bands.index("NB535")] == pytest.approx(1, abs=0.1)


def test_what_is_wrong_is_said(files, monkeypatch, capsys):
    fluxes, templates = files / "fluxes.parquet", files / "templates.yaml"
    (files / "curves").mkdir()
    (files / "curves" / "K.txt").write_text("# wavelength nm\n2000 1\n")
    (files / "twice").mkdir()
    (files / "far").mkdir()
    # Of g, at 475 nm, in Angstrom that are called nm.
    curve = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: wavelength, unit: nm, datatype: float64}\n"
    curve += "# - {name: response, datatype: float64}\nwavelength response\n4000 1\n5500 1\n"
    for name in ("twice/g.ecsv", "twice/g.xml", "far/g.ecsv"):
        (files / name).write_text(curve)
    for number, (extra, text) in enumerate(
        (
            (("--likelihood", "pdf"), "has no 'pdf_weights'"),
            (("--likelihood", "cauchy"), "photoz.likelihood: got 'cauchy'"),
            (("--spec-z", files / "no.csv"), "no such table of known redshifts"),
            (("--calibrate", "spectra"), "needs a table of known redshifts (--spec-z)"),
            (("--curves", files / "curves"), "K.txt is the curve of no band, allowed: BAND.SUFFIX with NB455"),
            (("--curves", files / "no"), "no such folder (response curves)"),
            (("--curves", files / "twice"), "g.ecsv and g.xml, allowed: one curve for each band"),
            (("--curves", files / "far"), "g.ecsv: mean wavelength 4750 nm, band g lies at"),
            (("--set", "photoz.bands={u: U}"), "band 'u' is none of the models"),
        )
    ):
        out = files / f"out{number}"
        assert run_lumos(monkeypatch, "photoz", fluxes, "--templates", templates, "--out", out, *extra) == 1
        assert text in capsys.readouterr().err
        assert not (out / "shards").exists() or not list((out / "shards").iterdir())
    assert run_lumos(monkeypatch, "photoz", files / "no.csv", "--templates", "analytic", "--out", files / "x") == 1
    assert "no such table of fluxes" in capsys.readouterr().err


def test_networks_are_pretrained_trained_and_used(files, monkeypatch, capsys):
    fluxes, templates, network = files / "fluxes.parquet", files / "templates.yaml", files / "network"
    sizes = "{hidden: 24, coder_depth: 1, first: 24, depth: 1, plain_depth: 1, components: 3}"
    pretrain = ("photoz-pretrain", templates, "--out", network, "--set", f"photoz.deepz.pretrain.network={sizes}")
    pretrain += ("--set", "photoz.deepz.pretrain.galaxies=2000", "--set", "photoz.deepz.pretrain.epochs=3")
    assert run_lumos(monkeypatch, *pretrain) == 0
    assert "15 bands, 2000 mixtures of templates" in capsys.readouterr().out
    assert run_lumos(monkeypatch, *pretrain) == 1
    assert "is there already" in capsys.readouterr().err
    use = ("photoz", fluxes, "--method", "deepz", "--model", network, "--out")
    assert run_lumos(monkeypatch, *use, files / "pretrained") == 0
    assert "pretrained on mixtures of templates only" in capsys.readouterr().out
    short = ("--set", "photoz.deepz.epochs=[5]", "--set", "photoz.deepz.rates=[0.001]")
    spectra = ("--spec-z", files / "spectra.parquet", "--set", "photoz.deepz.splits=2")
    assert run_lumos(monkeypatch, *use, files / "trained", *spectra, *short) == 0
    told = capsys.readouterr().out
    assert "2 x 5 networks trained on 30 galaxies (no exposures: always the same coadds)" in told
    assert json.loads((files / "trained" / "metrics.json").read_text())["all"]["n"] == N
    assert len(list((files / "trained" / "networks").iterdir())) == 10
    table, pdf = read_redshifts(files / "trained")
    assert table.column_names == pq.read_schema(next((files / "trained" / "shards").iterdir())).names
    assert len(pdf.redshifts) == 201
    assert set(table["best_run"].to_pylist()) == {"network"}
    for number, (extra, text) in enumerate(
        (
            (("--method", "deepz"), "--method deepz needs --model"),
            (("--templates", templates, "--model", network), "--model is for --method deepz, got --method bcnz"),
            ((), "--method bcnz needs --templates"),
            ((*use[2:6], "--likelihood", "student"), "photoz.likelihood: got 'student', allowed with --method deepz"),
            ((*use[2:6], "--exposures", fluxes), "--exposures: nothing is trained"),
            (("--method", "deepz", "--model", files), "no network in it"),
        )
    ):
        out = files / f"refused{number}"
        assert run_lumos(monkeypatch, "photoz", fluxes, "--out", out, *extra) == 1
        assert text in capsys.readouterr().err
        assert not out.exists()
