"""Valid inputs of every kind, small: made by the builders of the tests, and cut from real files where there are any."""

import contextlib
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from astropy.io import fits
from astropy.table import Table

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))

from fuzzing import checks  # noqa: E402
from fuzzing.sandbox import Kind, as_mapping  # noqa: E402
from helpers.coadd_tables import write_coadd  # noqa: E402
from helpers.fits_files import header, image, write_mef, write_simple  # noqa: E402
from helpers.flux_runs import exposure, write_run  # noqa: E402
from lumos.nets.checkpoint import save_model  # noqa: E402
from lumos.pdf import FluxPrior  # noqa: E402
from lumos.runs.folder import begin_folder  # noqa: E402
from lumos.surveys import read_survey_text, shipped_surveys  # noqa: E402
from unit.images import test_psf, test_sdss  # noqa: E402
from unit.nets.test_checkpoint import new_model  # noqa: E402
from unit.surveys import test_units_of_cameras as cameras  # noqa: E402

__all__ = ["kinds"]

SHAPE = (36, 44)
Files = dict[str, bytes]
#: Real exposures by survey: where, and what goes with them.
_REAL = {
    "decam": ("legacypipe/testcase3/images/decam/CP/V4.8.2a/*/c4d_150329_083320_oo?_r_ls9.N11.fits", "_ooi_"),
    "lsst": ("cameras/lsstcam_coadd/*.fits", "deep"),
    "hsc": ("cameras/hsc_calexp/*.fits", "HSC"),
    "hst": ("cameras/hst_wfc3/*dwarf*.fits.gz", "galaxy_f105w.fits"),
    "vircam": ("vista/image_1.fits", "image"),
    "generic": ("cameras/spitzer_irac/*.fits", "spitzer"),
}


@contextlib.contextmanager
def _small() -> Iterator[None]:
    """Let the builders of the tests make small images."""
    before = test_sdss.NY, test_sdss.NX, cameras.SHAPE, test_sdss.PLANES
    test_sdss.NY, test_sdss.NX, cameras.SHAPE = 40, 48, SHAPE
    test_sdss.PLANES = ("INTERP", "SATUR", "NOTCHECKED", "CR", "GHOST")
    try:
        yield
    finally:
        test_sdss.NY, test_sdss.NX, cameras.SHAPE, test_sdss.PLANES = before


def _made(build: Callable[[Path], object]) -> tuple[Files, str]:
    """Return the files that a builder writes, and the name of the one that it returns."""
    with TemporaryDirectory() as folder, _small(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = build(Path(folder))
        return dict(as_mapping(Path(folder))), path.name if isinstance(path, Path) else ""


def _generic(folder: Path) -> Path:
    mask = np.zeros((30, 40), np.int16)
    mask[3, 4:9] = 1
    return write_mef(folder / "a.fits", {"MASK": mask, "VAR": np.full((30, 40), 4.0, ">f4")})


def _packed(folder: Path) -> Path:
    hdus = [fits.CompImageHDU(image(), header(), name="SCI", compression_type="RICE_1")]
    hdus.append(fits.CompImageHDU(np.zeros((30, 40), np.int16), name="MASK", compression_type="PLIO_1"))
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "a.fits", checksum=True)
    return folder / "a.fits"


def _paucam(folder: Path) -> Path:
    cards = {"FILTER": "NB585", "CCDNUM": 3, "EXPID": "e17", "CAMSTATE": "after"}
    return write_mef(folder / "a.fits", {"MASK": np.zeros((30, 40), np.int16)}, **cards, **_scaled(0.263))


def _scaled(scale: float) -> dict[str, float]:
    return {"CD1_1": -scale / 3600, "CD2_2": scale / 3600}


def _sdss(folder: Path) -> Path:
    test_sdss.write_photofield(folder)
    test_sdss.write_spans(folder, {"SATUR": [[(3, 4, 9)]], "CR": [[(5, 1, 2)]]}, (40, 48))
    test_sdss.write_psfield(folder)
    return test_sdss.write_frame(folder)


def _camera(name: str) -> Callable[[Path], Path]:
    noise = np.random.default_rng(7).normal(10, 2, SHAPE)
    return lambda folder: cameras.CAMERAS[name](folder, noise)


def _real(name: str, data: Path) -> Iterator[tuple[Files, str]]:
    """Yield small cutouts of real exposures with what goes with them."""
    pattern, first = _REAL[name]
    files = sorted(data.glob(pattern))[:4]

    def build(folder: Path) -> Path:
        if name == "hsc":
            # The file holds neither band nor calibration; the pipeline puts them into its name, and a stamp beside it.
            _cut(files[0], folder / "calexp-HSC-I-9813-4,4.fits")
            return folder / "calexp-HSC-I-9813-4,4.fits"
        for path in files:
            _cut(path, folder / path.name)
        if name == "decam":
            shutil.copy(next(data.glob("legacypipe/testcase3/calib/**/*083320*N11-psfex.fits")), folder)
        return folder / next(path.name for path in files if first in path.name and "rms" not in path.name)

    if files:
        yield _made(build)


def _cut(path: Path, out: Path, side: int = 40) -> None:
    if path.stat().st_size < 170_000 and path.suffix != ".gz":
        shutil.copy(path, out)
        return
    with fits.open(path) as hdul:
        hdus = []
        for number, hdu in enumerate(hdul):
            if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2 and min(hdu.data.shape) > side:
                kind = fits.PrimaryHDU if number == 0 else type(hdu)
                hdus.append(kind(hdu.data[:side, :side], hdu.header))
            else:
                hdus.append(hdu)
        fits.HDUList(hdus).writeto(out, output_verify="silentfix")


def _exposures(data: Path | None) -> Iterator[tuple[str, Kind]]:
    builders: dict[str, list[Callable[[Path], Path]]] = {
        "generic": [_generic, _packed],
        "paucam": [_paucam],
        "sdss": [_sdss],
        **{name: [_camera(name)] for name in cameras.CAMERAS},
    }
    for name in sorted({*builders, *_REAL}):
        found = [_made(build) for build in builders.get(name, [])]
        found += _real(name, data) if data is not None and name in _REAL and name != "generic" else []
        # Files that are read by one name are one kind.
        for image_name in sorted({one for _, one in found}):
            files = [content for content, one in found if one == image_name]
            kind = Kind(files, checks.exposures(name, image_name), (".fits", ".fit", ".gz", ".fz"))
            yield f"FITS {name}{'' if image_name == found[0][1] else ' (real)'}", kind
    plain = [_made(_generic)[0], _made(lambda folder: write_simple(folder / "a.fits"))[0]]
    if data is not None:
        plain += [{"a.fits": one} for files, _ in _real("generic", data) for one in files.values()]
    yield "FITS, camera described", Kind(plain, checks.camera)


def _psfs() -> Iterator[tuple[str, Kind]]:
    basis = test_psf.psfex_basis(2)[:, 10:-10, 10:-10] if hasattr(test_psf, "psfex_basis") else np.ones((6, 9, 9))
    psfex, _ = _made(lambda folder: test_psf.write_psfex(folder / "a.psf", basis.astype(np.float32), 2))
    yield "PSF: PSFEx", Kind([psfex], checks.psf("a.psf", "psfex"))
    field, name = _made(test_sdss.write_psfield)
    yield "PSF: psField", Kind([field], checks.psf(name, "sdss"))
    stamp, _ = _made(lambda folder: cameras.psf_file(folder / "a.fits"))
    yield "PSF: stamp", Kind([stamp], checks.psf("a.fits", "stamp"))
    rows = {"exposure_id": ["a", "b"], "detector": ["1", "1"], "fwhm_arcsec": [0.8, 0.9], "beta": [3.5, 2.8]}
    for ending in ("parquet", "ecsv"):
        files = [_table(rows | {"includes_pixel": [True, False]}, f"psf.{ending}"), _table(rows, f"psf.{ending}")]
        yield f"PSF table ({ending})", Kind(files, checks.psf(f"psf.{ending}", "table"))


def _table(columns: dict[str, object], name: str) -> Files:
    """Return a table in the format of its name."""

    def write(folder: Path) -> None:
        if name.endswith(".parquet"):
            pq.write_table(pa.table(columns), folder / name, compression="zstd", write_page_checksum=True)
        else:
            kind = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "xml": "votable"}.get(name.split(".")[1], "fits")
            Table(columns).write(folder / name, format=kind)

    return _made(write)[0]


def _likelihoods(folder: Path) -> None:
    """Write a coadd of likelihoods."""
    write_coadd(folder / "a.parquet")
    table = pq.read_table(folder / "a.parquet")
    metadata = table.schema.metadata | {b"lumos.provenance": json.dumps({"prior": "none"}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "a.parquet", write_page_checksum=True)


def _catalogues() -> Iterator[tuple[str, Kind]]:
    columns: dict[str, object] = {
        "object_id": [3, 1, 7],
        "ra": [150.0, 150.001, 149.999],
        "dec": [2.0, 2.001, 1.999],
        "half_light_radius": [0.5, 0.0, 1.5],
        "sersic_n": [1.0, 1.0, 4.0],
        "axis_ratio": [0.7, 1.0, 0.3],
        "position_angle": [30.0, 0.0, 120.0],
        "ref_mag": [21.0, 18.5, 23.0],
    }
    texts = columns | {"object_id": ["J1", "<b>x</b>", "$(id)"]}
    for name in ("parent.parquet", "parent.csv", "parent.fits", "parent.fits.gz", "parent.ecsv", "parent.xml"):
        files = [_table(one, name) for one in (columns, texts)]
        yield f"catalogue ({name.partition('.')[2]})", Kind(files, checks.parent(name))
    wide = {
        "object_id": [1, 2],
        **{f"flux_{band}{end}": [9.0, 4.0] for band in "gri" for end in ("", "_err")},
        "z": [0.3, 0.4],
    }
    long = {"object_id": [1, 1, 2], "band": ["g", "r", "g"], "flux": [3.0, 4.0, 5.0], "flux_err": [1.0, 1.0, 1.0]}
    for ending in ("parquet", "csv", "ecsv", "fits"):
        files = [_table(wide, f"a.{ending}"), _table(long | {"redshift": [0.1, 0.1, 0.2]}, f"a.{ending}")]
        yield f"photo-z table ({ending})", Kind(files, checks.fluxes(f"a.{ending}"))
    made, _ = _made(lambda folder: write_coadd(folder / "coadd.parquet"))
    yield "coadd", Kind([made], checks.coadd)
    likelihoods, _ = _made(_likelihoods)
    yield "photo-z of a coadd", Kind([likelihoods], checks.fluxes("a.parquet", "pdf"))
    points = {"exposure_id": ["a", "b"], "zeropoint": [25.0, 26.0], "zeropoint_err": [0.1, 0.1]}
    yield "zero points", Kind([_table(points, "a.csv")], checks.side_table("zeropoints", "a.csv"))
    known = {"object_id": [1, 2], "band": ["g", "r"], "flux": [1.0, 2.0], "flux_err": [0.1, 0.1]}
    yield "reference fluxes", Kind([_table(known, "a.csv")], checks.side_table("reference", "a.csv"))
    rng = np.random.default_rng(1)
    prior = FluxPrior.fit(rng.lognormal(4, 1, 400), rng.uniform(18, 24, 400), rng.integers(0, 2, 400), ("g", "r"))
    content = {"prior.json": json.dumps(prior.to_dict()).encode()}
    yield "prior", Kind([content], checks.side_table("prior", "prior.json"))


def _texts() -> Iterator[tuple[str, Kind]]:
    surveys = [{"a.yaml": read_survey_text(name).encode()} for name in shipped_surveys()]
    yield "survey YAML", Kind(surveys, checks.settings("survey", "a.yaml"))
    text = "measure: {estimators: [aperture], stamp_size: 40, noise: {correlation: none}}\ncoadd: {pdf: mixture}\n"
    more = "measure:\n  catalog:\n    columns: {ref_mag: mag_i, sersic_n: 1.0}\n    units: {ref_mag: zp 26}\n"
    yield (
        "settings YAML",
        Kind([{"a.yaml": text.encode()}, {"a.yaml": more.encode()}], checks.settings("all", "a.yaml")),
    )
    lines = "measure.stamp_size=40\naperture.fraction=0.5\nmeasure.catalog.columns={ref_mag: mag_i}\n"
    yield "--set", Kind([{"a.txt": lines.encode()}], checks.settings("set", "a.txt"))
    source = TESTS.parent / "src/lumos"
    for which, folder in (("simulation", "simulate/presets"), ("training", "training/runs")):
        files = [{"a.yaml": path.read_bytes()} for path in sorted((source / folder).glob("*.yaml"))]
        yield f"{which} YAML", Kind(files, checks.settings(which, "a.yaml"))
    models = {
        "bands": [{"names": ["a", "b"], "path": "{name}.txt", "unit": "nm"}],
        "templates": [{"names": ["t"], "path": "{name}.dat", "unit": "Angstrom"}],
        "laws": {"c": {"formula": "calzetti"}},
        "runs": [{"name": "x", "templates": ["t"], "laws": ["c"], "reddenings": [0.1]}],
    }
    spectrum = "\n".join(f"{1000 + 500 * i} {1 + i % 3}" for i in range(30)).encode()
    curve = b"# nm\n" + b"\n".join(b"%d %d" % (500 + i, i % 20) for i in range(40))
    files = {"a.yaml": yaml.safe_dump(models).encode(), "a.txt": curve, "b.txt": curve, "t.dat": spectrum}
    yield "photo-z models YAML", Kind([files], checks.settings("models", "a.yaml"))
    yield "curve (text)", Kind([{"a.txt": curve}], checks.curves("a.txt", "curve"))
    table = _table({"wavelength": [500.0, 510.0, 520.0], "response": [0.0, 1.0, 0.0]}, "a.ecsv")
    table = {"a.ecsv": table["a.ecsv"].replace(b"name: wavelength,", b"name: wavelength, unit: nm,")}
    yield "curve (ecsv)", Kind([table], checks.curves("a.ecsv", "curve"))
    inner = {"a": {"wavelength": [500.0, 510.0, 520.0], "response": [0.0, 1.0, 0.0], "wav_units": "nm"}}
    yield "curve (json)", Kind([{"a.json": json.dumps(inner).encode()}], checks.curves("a.json", "curve"))
    yield "template (text)", Kind([{"a.dat": spectrum}], checks.curves("a.dat", "template"))
    archive, _ = _made(lambda folder: np.savez(folder / "a.npz", s__wave=np.arange(900, 990.0), s__flam=np.ones(90)))
    yield "template (npz)", Kind([archive], checks.curves("a.npz", "template"))
    yield "dust law", Kind([{"a.dat": spectrum}], checks.curves("a.dat", "law"))


def _folders() -> Iterator[tuple[str, Kind]]:
    made, _ = _made(lambda folder: save_model(new_model(), folder / "model", "# small\n"))
    yield "model folder", Kind([made], checks.model)
    right, _ = _made(lambda folder: save_model(new_model(), folder / "model", "# small\n"))
    yield "model with its digest", Kind([right], checks.signed_model)

    def begun(folder: Path) -> None:
        write_run(folder / "run", [exposure(f"e{k}", np.arange(4), np.ones(4), 0.1) for k in range(2)])
        identity = yaml.safe_load((folder / "run/settings.yaml").read_text())
        (folder / "identity").write_text(json.dumps(identity))
        with begin_folder(folder / "run", "measure", identity, "shards") as run:
            run.begin({"e1"}, {"e0": folder / "e0.fits"}, {"/x/e7.fits": "no such file"})
            run.enter("e0", {"status": "failed", "file": "/x/e0.fits", "reason": "<b>x</b>"})
            kept = {name: (folder / "run" / name).read_bytes() for name in ("manifest.jsonl", "manifest.json")}
        for name, content in kept.items():
            (folder / "run" / name).write_bytes(content)

    yield "run folder", Kind([_made(begun)[0]], checks.run_folder, (".json", ".jsonl", ".parquet", ".yaml"))

    def stamps(folder: Path) -> None:
        from helpers.background_pools import new_stamps, write_pool  # noqa: PLC0415

        write_pool(folder / "pool", ({}, new_stamps(np.ones((3, 96, 96)))), ({"exposure_id": "b"}, None))

    yield "background pool", Kind([_made(stamps)[0]], checks.pool, (".json", ".parquet", ".npy"))

    def field(folder: Path) -> None:
        write_simple(folder / "a.fits", image((120, 140)), CRPIX1=70.5, CRPIX2=60.5, EXPID="e1", DETECTOR="1")
        (folder / "parent.csv").write_text(
            "object_id,ra,dec,half_light_radius,sersic_n,axis_ratio,position_angle,ref_mag\n"
            "1,150.0,2.0,0.5,1,0.7,30,21\n2,150.001,2.0005,0.4,1,0.7,30,21\n3,150.003,2.003,0.0,1,1,0,20\n"
        )

    yield "measure", Kind([_made(field)[0]], checks.measured)


def kinds(data: Path | None) -> dict[str, Kind]:
    """Return every kind of input by its name.

    Parameters
    ----------
    data : Path or None
        Folder of real survey files, for cutouts of them.

    Returns
    -------
    dict of Kind
        Each with one valid input or more.
    """
    return dict([*_exposures(data), *_psfs(), *_catalogues(), *_texts(), *_folders()])
