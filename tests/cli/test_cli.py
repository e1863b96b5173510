"""The command line: help without heavy imports, commands end to end, one clear line for a bad call."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer.main
import yaml
from astropy.table import QTable
from typer.testing import CliRunner

from helpers.shell import run_lumos
from lumos import __version__
from lumos.catalogs.parent import read_parent
from lumos.cli import app, main
from lumos.flags import Flag
from lumos.images import read_exposure, sky_to_pixel
from lumos.nets.checkpoint import shipped_models
from lumos.runs.shards import read_shards
from lumos.settings import Settings, load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import Survey, load_survey, shipped_surveys

COMMANDS = sorted(typer.main.get_command(app).commands)
SMALL = Path(__file__).parents[1] / "small_survey.yaml"


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL)), folder)
    return folder


def lumos(monkeypatch, capsys, *arguments):
    """Run the command as a shell does; return exit code, output and errors."""
    code = run_lumos(monkeypatch, *arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv = ['lumos', *sys.argv[1:]]\n"
        "from lumos.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'astropy', 'scipy', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "Usage" in result.stdout
    assert "HEAVY []" in result.stdout


def test_version_and_unknown_command():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == __version__
    assert CliRunner().invoke(app, ["fly"]).exit_code == 2


def test_measure(monkeypatch, capsys, tmp_path, survey):
    exposures = sorted((survey / "exposures").glob("*.fits"))
    arguments = ("measure", *exposures, "--catalog", survey / "parent.parquet", "--out", tmp_path / "run")
    options = ("--estimators", "aperture,optimal", "--set", "measure.stamp_size=48", "--workers", 2)
    code, out, err = lumos(monkeypatch, capsys, *arguments, *options)
    assert code == 0, err
    assert "2 exposures measured, 0 finished before, 0 failed" in out
    assert "INFO measure 2/2" in err
    table = read_shards(tmp_path / "run")
    assert {"aperture_flux", "optimal_flux"} <= set(table.column_names)
    assert "profile_fit_flux" not in table.column_names
    truth = read_parent(survey / "parent.parquet")
    images = [next(read_exposure(exposure, load_survey("generic"))) for exposure in exposures]
    on = [sky_to_pixel(image.wcs, truth.ra, truth.dec, image.shape)[2].sum() for image in images]
    assert table.num_rows == sum(on) > 200
    code, out, _ = lumos(monkeypatch, capsys, *arguments, *options)
    assert code == 0
    assert "0 exposures measured, 2 finished before" in out


def test_measure_reports_a_failing_exposure(monkeypatch, capsys, tmp_path, survey):
    good = survey / "exposures" / "r_001.fits"
    arguments = ("--catalog", survey / "parent.parquet", "--out", tmp_path / "run")
    code, out, err = lumos(monkeypatch, capsys, "measure", good, tmp_path / "no.fits", *arguments)
    assert code == 1
    assert "1 exposures measured, 0 finished before, 1 failed" in out
    assert err.count("no such file") == 1
    assert f"lumos: error: 1 of 2 exposures failed: {tmp_path / 'no.fits'}: no such file" in err
    assert read_shards(tmp_path / "run").num_rows > 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--survey", "nowhere"], "nowhere"),
        (["--estimators", "magic"], "unknown estimator 'magic', allowed: aperture, profile_fit, optimal"),
        (["--set", "measure.stamp=1"], "allowed: annulus_inner"),
        (["--config", "none.yaml"], "none.yaml: cannot be read"),
        (["--psf", "nowhere"], "nowhere: no such folder"),
        (["--workers", "0"], "workers: got 0, allowed: >= 1"),
    ],
)
def test_bad_calls_end_with_one_line(monkeypatch, capsys, tmp_path, survey, options, message):
    exposure = survey / "exposures" / "r_001.fits"
    arguments = ("measure", exposure, "--catalog", survey / "parent.parquet", "--out", tmp_path / "run", *options)
    code, _, err = lumos(monkeypatch, capsys, *arguments)
    assert code == 1
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("lumos: error: ")
    assert message in err.strip().splitlines()[-1]


def test_many_failures_are_told_once_and_briefly(monkeypatch, capsys, tmp_path, survey):
    good = survey / "exposures" / "r_001.fits"
    missing = [tmp_path / f"{number}.fits" for number in range(7)]
    options = ("--estimators", "aperture", "--set", "measure.noise.correlation=none", "--catalog")
    run = tmp_path / "run"
    code, _, err = lumos(
        monkeypatch, capsys, "measure", good, *missing, *options, survey / "parent.parquet", "--out", run
    )
    assert code == 1
    lines = err[err.index("lumos: error") :].splitlines()
    assert lines == [
        "lumos: error: 7 of 8 exposures failed:",
        *(f"  {path}: no such file" for path in missing[:5]),
        f"  and 2 more, see {run / 'manifest.json'}",
    ]
    assert err.count("no such file") == 5


def test_nothing_slow_is_imported_before_the_arguments_are_checked(tmp_path):
    code = (
        "import sys\n"
        "from lumos.cli import main\n"
        "for call in sys.argv[1:]:\n"
        "    sys.argv = ['lumos', 'measure', *call.split(), '--out', 'run']\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'astropy', 'scipy', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    (tmp_path / "a.fits").touch()
    calls = {
        "a.fits --catalog none.csv --survey nowhere": "unknown survey 'nowhere'",
        "a.fits --catalog none.csv": "none.csv: no such parent catalogue",
        "b.fits c.fits --catalog a.fits": "b.fits: no such file, nor any of 1 others",
        "a.fits --catalog a.fits --psf none": "none: no such folder (PSF files)",
        "a.fits --catalog a.fits --set measure.stamp=1": "unknown key 'measure.stamp', allowed: annulus_inner",
    }
    command = [sys.executable, "-c", code, *calls]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    for line, message in zip(result.stderr.splitlines(), calls.values(), strict=True):
        assert message in line
    assert result.stdout == "HEAVY []\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_module_surveys_and_flags(monkeypatch, capsys):
    result = subprocess.run([sys.executable, "-m", "lumos", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == __version__
    code, out, _ = lumos(monkeypatch, capsys, "surveys")
    assert (code, [line.split(":")[0] for line in out.splitlines()]) == (0, list(shipped_surveys()))
    shown = lumos(monkeypatch, capsys, "surveys", "vircam")[1]
    assert Survey.model_validate(yaml.safe_load(shown)) == load_survey("vircam")
    assert "unknown survey 'none', allowed: decam" in lumos(monkeypatch, capsys, "surveys", "none")[2]
    lines = lumos(monkeypatch, capsys, "flags")[1].splitlines()
    assert [line.split()[:2] for line in lines] == [[str(int(flag)), f"{flag.name}:"] for flag in Flag]
    assert [line.split()[1] for line in lumos(monkeypatch, capsys, "flags", "9")[1].splitlines()] == [
        "EDGE:",
        "MASKED_CENTRE:",
    ]
    assert "flags: got 999999999, allowed: 0 to" in lumos(monkeypatch, capsys, "flags", "999999999")[2]


def test_quiet_and_verbose(monkeypatch, capsys, tmp_path, survey):
    asked = ("sky", survey / "parent.parquet", "--n", 20, "--out", tmp_path / "a.parquet")
    assert "INFO sky: starting" in lumos(monkeypatch, capsys, *asked)[2]
    code, _, err = lumos(monkeypatch, capsys, *asked)
    assert (code, err.strip().endswith("a.parquet: exists; give a new --out, or --overwrite")) == (1, True)
    code, out, err = lumos(monkeypatch, capsys, *asked, "--overwrite", "-q", "--log-file", tmp_path / "log")
    assert (code, out, err) == (0, f"{tmp_path / 'a.parquet'}: 20 empty positions\n", "")
    log = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO sky: starting", log[1])
    assert "--overwrite -q --log-file" in log[0]
    code, _, err = lumos(monkeypatch, capsys, *asked, "--overwrite", "-v")
    assert re.match(r"\d{4}-\d\d-\d\d .* INFO sky: starting", err)
    assert "seed: got -1, allowed: >= 0" in lumos(monkeypatch, capsys, *asked, "--overwrite", "--seed", -1)[2]


def test_debug_shows_the_traceback(monkeypatch, tmp_path, survey):
    exposure = survey / "exposures" / "r_001.fits"
    arguments = ["measure", str(exposure), "--catalog", "none.csv", "--out", str(tmp_path), "--debug"]
    monkeypatch.setattr(sys, "argv", ["lumos", *arguments])
    with pytest.raises(ValueError, match=r"none\.csv: no such parent catalogue"):
        main()


def test_objects_on_no_exposure(monkeypatch, capsys, tmp_path, survey):
    (tmp_path / "far.csv").write_text(
        "object_id,ra,dec,half_light_radius,sersic_n,axis_ratio,position_angle\n1,10,10,1,1,1,0\n"
    )
    exposure = survey / "exposures" / "r_001.fits"
    arguments = ("measure", exposure, "--catalog", tmp_path / "far.csv", "--out", tmp_path / "run")
    code, _, err = lumos(monkeypatch, capsys, *arguments)
    assert code == 1
    assert "no object lies on any of the exposures" in err


def test_psf_then_catalog(monkeypatch, capsys, tmp_path, survey):
    exposure = survey / "exposures" / "r_001.fits"
    code, _, err = lumos(monkeypatch, capsys, "psf", exposure, "--out", tmp_path / "psf")
    assert code == 0, err
    row = pq.read_table(tmp_path / "psf" / "psf.parquet").to_pylist()[0]
    assert (row["exposure_id"], row["includes_pixel"]) == ("r_001", False)
    assert (tmp_path / "psf" / "r_001_1.png").read_bytes()[1:4] == b"PNG"
    assert pq.read_table(tmp_path / "psf" / "psf.quality.parquet").num_rows == row["n_stars"]
    code, out, err = lumos(
        monkeypatch, capsys, "catalog", exposure, "--psf", tmp_path / "psf", "--out", tmp_path / "made.parquet"
    )
    assert code == 0, err
    made = read_parent(tmp_path / "made.parquet")
    assert f"{len(made)} objects" in out
    assert out.rstrip().endswith(f"quality table {tmp_path}/made.quality.parquet, picture {tmp_path}/made.png")
    assert made.shape_ok.all()
    assert (tmp_path / "made.png").read_bytes()[1:4] == b"PNG"
    assert pq.read_table(tmp_path / "made.quality.parquet").num_rows == len(made)
    assert f"quality table {tmp_path / 'made.quality.parquet'}, picture {tmp_path / 'made.png'}" in out
    assert "INFO catalog " in err
    again = ("catalog", exposure, "--psf", tmp_path / "psf", "--out", tmp_path / "made.parquet")
    code, out, _ = lumos(monkeypatch, capsys, *again)
    assert code == 0
    assert "(finished before)" in out
    code, _, err = lumos(monkeypatch, capsys, *again, "--set", "catalog.min_area=9")
    assert code == 1
    assert (
        "made.parquet: holds another result of `lumos catalog` (settings differ); give a new --out, or overwrite it"
        in err
    )
    # The bright galaxies of the truth are found where they are: the faintest of these has a signal-to-noise
    # ratio of 15, good for 0.1 arcsec. One or two lie before a brighter star or galaxy.
    truth = read_parent(survey / "parent.parquet")
    image = next(read_exposure(exposure, load_survey("generic")))
    inside = sky_to_pixel(image.wcs, truth.ra, truth.dec, image.shape)[2]
    bright = truth.take(inside & (truth.ref_mag < 20.5))
    gap = np.hypot((made.ra[:, None] - bright.ra) * np.cos(np.deg2rad(2.2)), made.dec[:, None] - bright.dec) * 3600
    assert len(bright) >= 5
    assert np.mean(gap.min(axis=0) < 0.5) > 0.75


def test_psf_without_stars(monkeypatch, capsys, tmp_path, survey):
    exposure = survey / "exposures" / "r_001.fits"
    code, _, err = lumos(monkeypatch, capsys, "psf", exposure, "--out", tmp_path, "--set", "psf.min_snr=1e9")
    assert code == 1
    assert "r_001.fits: 0 usable stars, allowed: at least 5" in err


def test_simulate(monkeypatch, capsys, tmp_path):
    options = ("simulate", SMALL, "--out", tmp_path / "mock", "--set", "camera.shape=[128, 128]", "--workers", 2)
    code, out, err = lumos(monkeypatch, capsys, *options)
    assert code == 0, err
    assert "2 exposures simulated, 0 finished before" in out
    assert "--survey generic" in out
    assert "INFO simulate 2/2" in err
    code, out, _ = lumos(monkeypatch, capsys, *options)
    assert code == 0
    assert "0 exposures simulated, 2 finished before" in out
    code, _, err = lumos(monkeypatch, capsys, *options, "--set", "seed=2")
    assert code == 1
    assert "results of other settings (simulate.seed: " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown preset 'nothing', allowed: paucam-field, paucam-mini, wide, or the path of a YAML file"),
        (["none.yaml"], "none.yaml: cannot be read"),
        (["wide", "--set", "camera.depth=3"], "unknown key 'camera.depth', allowed: detectors"),
        (["wide", "--set", "bands=[F1]"], "no passband of 'F1' is known for survey generic"),
        (["wide", "--workers", "0"], "workers: got 0, allowed: >= 1"),
        (["paucam-mini", "--set", "seeing.fwhm_limits=[0.7, 9]", "--set", "seeing.fwhm=8"], "PSF FWHM of NB455_before"),
    ],
)
def test_bad_simulations_end_with_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    code, _, err = lumos(monkeypatch, capsys, "simulate", *arguments, "--out", tmp_path / "mock")
    assert code == 1
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("lumos: error: ")
    assert message in err.strip().splitlines()[-1]
    assert not (tmp_path / "mock").exists()


TRAIN = """
name: tiny
network: {channels: [4, 6, 8], blocks: [0, 0, 0], hidden: 16}
pool: {simulate: %s, overrides: [seed=3], n_per_exposure: 20}
stamps: {flux_from: proposal, batch_size: 64}
n_stamps: 128
n_validation: 64
validate_every: 64
weights: float16
device: cpu
optimizer: {batch_size: 32}
"""


def test_train_then_measure_with_the_model(monkeypatch, capsys, tmp_path, survey):
    run = tmp_path / "tiny.yaml"
    run.write_text(TRAIN % SMALL)
    code, out, err = lumos(monkeypatch, capsys, "train", run, "--out", tmp_path / "model")
    assert code == 0, err
    assert "tiny, 128 stamps" in out
    assert "validation loss" in err
    again = lumos(monkeypatch, capsys, "train", run, "--out", tmp_path / "model")
    assert again[1] == out
    code, card, _ = lumos(monkeypatch, capsys, "models", tmp_path / "model")
    assert code == 0
    assert "# tiny" in card
    assert "## Training domain" in card
    exposure = min((survey / "exposures").glob("*.fits"))
    arguments = ("measure", exposure, "--catalog", survey / "parent.parquet", "--out", tmp_path / "run")
    code, _, err = lumos(monkeypatch, capsys, *arguments, "--estimators", "optimal", "--model", tmp_path / "model")
    assert code == 0, err
    table = read_shards(tmp_path / "run")
    columns = {name: table[name].to_numpy() for name in ("flux", "flux_q50", "lumos_flux", "optimal_flux", "ood_score")}
    np.testing.assert_array_equal(columns["flux"], columns["lumos_flux"])
    np.testing.assert_array_equal(columns["flux"], columns["flux_q50"])
    finite = np.isfinite(columns["optimal_flux"])
    assert finite.mean() > 0.9
    np.testing.assert_array_equal(np.isfinite(columns["lumos_flux"]), finite)
    np.testing.assert_array_equal(np.isfinite(columns["ood_score"]), finite)
    assert table.schema.field("pdf_means").type.list_size == 5
    changed = tmp_path / "model" / "model.safetensors"
    changed.write_bytes(changed.read_bytes()[:-4] + b"abcd")
    (tmp_path / "model" / "config.json").touch()
    code, _, err = lumos(monkeypatch, capsys, *arguments[:-1], tmp_path / "other", "--model", tmp_path / "model")
    assert code == 1
    assert "sha256 differs" in err


def test_models_lists_what_is_shipped(monkeypatch, capsys):
    code, out, _ = lumos(monkeypatch, capsys, "models")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [*shipped_models(), *shipped_models(of="background")]
    code, _, err = lumos(monkeypatch, capsys, "models", "none")
    assert code == 1
    assert "no model 'none', allowed:" in err


def test_demo(monkeypatch, capsys, tmp_path):
    code, out, err = lumos(monkeypatch, capsys, "demo", "--out", tmp_path / "demo")
    assert code == 0, err
    assert (tmp_path / "demo" / "accuracy.png").read_bytes()[1:4] == b"PNG"
    manifest = json.loads((tmp_path / "demo" / "run" / "manifest.json").read_text())
    assert {entry["status"] for entry in manifest["exposures"].values()} == {"done"}
    assert (tmp_path / "demo" / "pdfs.png").read_bytes()[1:4] == b"PNG"
    rows = [line.split() for line in out.splitlines() if line.startswith(("aperture ", "optimal ", "lumos "))]
    assert len(rows) == 15
    for row in rows:
        n, bias, scatter, spread = int(row[2]), float(row[3]), float(row[4]), float(row[6])
        # Blends widen the pulls, most among the few bright galaxies, each of which counts a dozen times.
        assert n > 40
        assert abs(bias) < 5 * scatter / np.sqrt(n)
        # The network's PDFs hold catalogue errors of a few per cent, which this catalogue does not have.
        assert (0.6 if row[0] == "lumos" else 0.85) < spread < 1.6
    code, again, _ = lumos(monkeypatch, capsys, "demo", "--out", tmp_path / "demo")
    assert code == 0
    assert again == out
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run_recipes(tmp_path)
    run_readme_and_api(tmp_path)


def run_blocks(page):
    """Run the blocks of Python of a page one after the other, beside the demonstration that they use."""
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    plt.close("all")
    return text, blocks, names


def run_readme_and_api(folder):
    names = run_blocks("README.md")[2]
    assert (folder / "flux_pdf.png").read_bytes()[1:4] == b"PNG"
    assert 0 < names["minus"][names["row"]] < names["plus"][names["row"]] < 0.2
    names = run_blocks("docs/api.md")[2]
    # The image in memory, without its file's header, is near what the header says.
    run = read_shards(folder / "demo" / "run", ["object_id", "exposure_id", "optimal_flux", "optimal_flux_err"])
    here = run.filter(pc.equal(run["exposure_id"], "NB785_before_001"))
    table = names["table"]
    assert table["object_id"].tolist() == here["object_id"].to_pylist()
    pull = (table["optimal_flux"] - here["optimal_flux"].to_numpy()) / here["optimal_flux_err"].to_numpy()
    assert abs(np.nanmedian(pull)) < 0.1
    assert len(names["good"]) == len(names["draws"]) > 100


def run_recipes(folder):
    recipes, blocks, names = run_blocks("docs/recipes.md")
    assert len(blocks) == recipes.count("\n## ") - 1  # the last is a block of YAML
    assert (folder / "pdf.png").read_bytes()[1:4] == b"PNG"
    assert str(QTable.read(folder / "coadd.vot")["flux"].unit) == "nJy"
    low, median, high = names["pdf"].quantile(np.array([[0.158655, 0.5, 0.841345]]))[names["row"]]
    errors = names["plus"][names["row"]], names["minus"][names["row"]]
    np.testing.assert_allclose(errors, 2.5 * np.log10([median / low, high / median]), rtol=1e-3)
    assert (names["limit"] > names["pdf"].quantile([[0.5]])[:, 0])[np.isfinite(names["limit"])].all()
    yaml_blocks = re.findall(r"```yaml\n(.*?)```", recipes, re.DOTALL)
    assert Settings.model_validate(yaml.safe_load(yaml_blocks[0])).measure.catalog.radius == "circularised"


def test_coadd_and_sky(survey, tmp_path, monkeypatch, capsys):
    exposures, parent = sorted((survey / "exposures").glob("*.fits")), survey / "parent.parquet"
    common = (*exposures, "--survey", "generic", "--estimators", "optimal")
    run, positions = tmp_path / "run", tmp_path / "positions.parquet"
    assert lumos(monkeypatch, capsys, "measure", *common, "--catalog", parent, "--out", run)[0] == 0
    made = lumos(monkeypatch, capsys, "sky", parent, "--out", positions, "--n", 400, "--min-distance", 2)
    assert made[:2] == (0, f"{positions}: 400 empty positions\n")
    for asked in (("sky", parent), ("catalog", exposures[0])):
        code, _, err = lumos(monkeypatch, capsys, *asked, "--out", tmp_path / "x.fits")
        assert (code, err.strip().endswith("x.fits', allowed: a name that ends in .parquet")) == (1, True)
    assert not (tmp_path / "x.fits").exists()
    sky = tmp_path / "sky"
    assert lumos(monkeypatch, capsys, "measure", *common, "--catalog", positions, "--out", sky)[0] == 0
    asked = ("coadd", tmp_path / "run", "--out", tmp_path / "c.parquet", "--prior", "none", "--sky", sky)
    code, out, err = lumos(monkeypatch, capsys, *asked)
    assert (code, "objects and bands" in out) == (0, True), err
    table = pq.read_table(tmp_path / "c.parquet")
    measured = read_shards(tmp_path / "run", ["object_id", "band"])
    expected = set(zip(measured["object_id"].to_pylist(), measured["band"].to_pylist(), strict=True))
    assert sorted(zip(table["object_id"].to_pylist(), table["band"].to_pylist(), strict=True)) == sorted(expected)
    code, out, _ = lumos(monkeypatch, capsys, *asked)
    assert (code, out.strip().endswith("finished before")) == (0, True)
    code, _, err = lumos(monkeypatch, capsys, *asked[:-4], "--prior", "best")
    assert code == 1
    assert "best" in err
