"""What readers return, looked at: finite where nothing is flagged, of shapes that agree, with names that are safe."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lumos.cameras.describe import describe_camera
from lumos.catalogs.formats import open_table
from lumos.catalogs.parent import read_parent
from lumos.coadds.calibrate_read import read_reference, read_zeropoints
from lumos.coadds.read import read_coadd
from lumos.errors import LumosError
from lumos.exports.source import open_source
from lumos.files import read_json
from lumos.images import load_psfex, read_exposure
from lumos.images.psf.models import load_stamp_psf
from lumos.images.psf.sdss import load_psfield
from lumos.images.psf.table import read_psf_table
from lumos.images.reader import list_detectors, read_exposure_id
from lumos.nets.checkpoint import load_model
from lumos.pdf import FluxPrior
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.photoz.fluxes import read_photometry
from lumos.photoz.run import match_redshifts
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.pools.pool import BackgroundPool
from lumos.runs.folder import begin_folder
from lumos.runs.look import check_run, look_at_run
from lumos.runs.shards import read_shards
from lumos.settings import load_settings, load_simulation, load_training
from lumos.spectra.curves import read_curve
from lumos.spectra.dust import read_law
from lumos.spectra.templates import list_templates, read_template
from lumos.surveys import load_survey

Read = Callable[[Path], object]
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")
BANDS = ("g", "r", "i")


def exposures(survey: str, image: str) -> Read:
    """Return what reads an image and looks at its pixels, WCS, PSF and names."""
    layout = load_survey(survey)

    def read(folder: Path) -> None:
        path = folder / image
        for made in read_exposure(path, layout):
            check_exposure(made)
        assert all(_SAFE.fullmatch(name) for name in [read_exposure_id(path, layout), *list_detectors(path, layout)])

    return read


def check_exposure(made: object) -> None:
    """Raise AssertionError where an exposure is no sane one."""
    shape = made.data.shape
    assert made.data.dtype == np.float32, "pixels that are not finite"
    assert np.isfinite(made.data).all(), "pixels that are not finite"
    assert made.mask.shape == shape, "mask of another shape"
    assert _SAFE.fullmatch(made.exposure_id), "unsafe name"
    assert _SAFE.fullmatch(made.detector), "unsafe name"
    assert len(made.band) <= 40, "unsafe band"
    assert not set(made.band) & set("/\\<>&\0\n"), "unsafe band"
    good = made.mask == 0
    if made.variance is not None:
        assert made.variance.shape == shape, "variance of another shape"
        assert (np.isfinite(made.variance) & (made.variance > 0))[good].all(), "no variance, and no flag"
    assert np.isfinite(made.pixel_scale), "pixel scale"
    assert made.pixel_scale > 0, "pixel scale"
    assert not np.isinf(made.zeropoint), "infinite zero point or gain"
    assert not np.isinf(made.gain), "infinite zero point or gain"
    ra, dec = (np.atleast_1d(one) for one in made.wcs.wcs_pix2world([[1.0, 1.0]], 1)[0])
    assert np.isfinite(ra).all(), "WCS without a position"
    assert np.isfinite(dec).all(), "WCS without a position"
    if made.psf is not None:
        check_psf(made.psf, shape)


def check_psf(model: object, shape: tuple[int, int]) -> None:
    """Raise AssertionError where a PSF is neither of unit flux nor NaN."""
    x, y = np.array([(shape[1] - 1) / 2, 1e6]), np.array([(shape[0] - 1) / 2, -1e6])
    found = model.at(x, y)
    width = model.fwhm_at(x[:1], y[:1])
    assert not np.isinf(width).any(), "FWHM"
    assert not (width <= 0).any(), "FWHM"
    images = getattr(found, "images", None)
    if images is not None:
        total = np.asarray(images, dtype=np.float64).sum(axis=(1, 2))
        assert (np.isnan(total) | (np.abs(total - 1) < 1e-3)).all(), f"PSF that sums to {total.tolist()}"


def psf(name: str, kind: str) -> Read:
    """Return what reads a PSF file of one kind."""
    shape = (100, 100)

    def read(folder: Path) -> None:
        path = folder / name
        if kind == "table":
            rows = read_psf_table(path)
            assert all(isinstance(row.fwhm, float) for row in rows.values())
        elif kind == "psfex":
            check_psf(load_psfex(path, shape), shape)
        elif kind == "sdss":
            check_psf(load_psfield(path, "g", shape), shape)
        else:
            check_psf(load_stamp_psf(path), shape)

    return read


def parent(name: str) -> Read:
    """Return what reads a parent catalogue and looks at its columns."""

    def read(folder: Path) -> None:
        table = read_parent(folder / name)
        n = len(table.object_id)
        assert n, "identifiers that repeat"
        assert len(np.unique(table.object_id)) == n, "identifiers that repeat"
        for column in ("ra", "dec", "half_light_radius", "sersic_n", "axis_ratio", "position_angle", "ref_mag"):
            values = getattr(table, column)
            assert values.shape == (n,), column
            assert values.dtype == np.float64, column
        near = table.take(np.arange(min(n, 3)))
        assert len(near.object_id) == min(n, 3)

    return read


def settings(which: str, name: str) -> Read:
    """Return what reads settings of one kind."""

    def read(folder: Path) -> None:
        path = folder / name
        if which == "survey":
            load_survey(path)
        elif which == "simulation":
            load_simulation(str(path))
        elif which == "training":
            load_training(str(path))
        elif which == "models":
            found = load_models(str(path))
            found.curves(folder)
            found.spectra(folder)
        elif which == "set":
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            load_settings(None, [line for line in lines if line])
        else:
            load_settings(path)

    return read


def model(folder: Path) -> None:
    """Read a model."""
    found = load_model(str(folder / "model"))
    assert all(
        bool(value.isfinite().all()) for value in found.network.state_dict().values() if value.is_floating_point()
    )


def signed_model(folder: Path) -> None:
    """Read a model whose description names the digest of the weights as they are."""
    path = folder / "model" / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["sha256"] = hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
        path.write_text(json.dumps(content), encoding="utf-8")
    except (ValueError, TypeError, OSError, RecursionError):
        pass
    model(folder)


def run_folder(folder: Path) -> None:
    """Look at a run, verify it, read it, and begin it again; whatever is damaged may be refused, by each."""
    run, refused = folder / "run", None
    for look in (look_at_run, check_run, read_shards, _open, _continue):
        try:
            look(run)
        except LumosError as error:
            refused = error
    if refused is not None:
        raise refused


def _open(run: Path) -> None:
    assert open_source(run, finished=True).flux_unit == "nJy"


def _continue(run: Path) -> None:
    identity = json.loads((run.parent / "identity").read_text(encoding="utf-8"))
    with begin_folder(run, "measure", identity, "shards") as begun:
        begun.is_finished("e1", run / "e1.fits")


def coadd(folder: Path) -> None:
    """Read a coadd and its PDFs."""
    table, pdf = read_coadd(folder / "coadd.parquet")
    assert len(table) == len(pdf), "PDFs of another length"


def pool(folder: Path) -> None:
    """Open a pool of backgrounds and take a stamp."""
    found = BackgroundPool.open(folder / "pool")
    assert found.take(np.arange(min(len(found), 2))).data.shape[1:] == (found.side, found.side)


def curves(name: str, kind: str) -> Read:
    """Return what reads response curves, templates or dust laws."""

    def read(folder: Path) -> None:
        path = folder / name
        if kind == "curve":
            found = read_curve(path, None if path.suffix == ".ecsv" else "nm", "vacuum", "photon", "a")
            assert np.isfinite(found.response).all()
            assert found.mean_wavelength > 0
        elif kind == "law":
            assert np.isfinite(read_law(path).k).all()
        else:
            inner = list_templates(path)[0] if path.suffix == ".npz" and list_templates(path) else None
            found = read_template(path, "Angstrom", "air", "wavelength", inner)
            assert np.isfinite(found.flux).all()
            assert (np.diff(found.wavelength) > 0).all()

    return read


def fluxes(name: str, likelihood: str = "gaussian") -> Read:
    """Return what reads fluxes for photometric redshifts, and known redshifts from the same table."""

    def read(folder: Path) -> None:
        found = read_photometry(folder / name, BANDS, PhotozSettings(likelihood=likelihood))
        assert found.flux.shape == found.flux_err.shape == (len(found.object_id), len(found.bands))
        found.usable(0.0)
        if "band" not in open_table(folder / name).names:
            match_redshifts(folder / name, found.object_id)

    return read


def side_table(which: str, name: str) -> Read:
    """Return what reads a table of zero points, a reference catalogue or a prior."""

    def read(folder: Path) -> None:
        path = folder / name
        if which == "prior":
            found = FluxPrior.from_dict(read_json(path))
            assert np.isfinite(found.log_pdf(np.array([[10.0]]), np.array([21.0]), np.array([0]))).all()
        else:
            (read_zeropoints if which == "zeropoints" else read_reference)(path)

    return read


def camera(folder: Path) -> None:
    """Describe the camera of an image, and read the image by the description."""
    path = next(iter(sorted(folder.glob("*.fit*"))))
    made = describe_camera([path])
    if not made.questions:
        (folder / "made.yaml").write_text(made.text, encoding="utf-8")
        load_survey(folder / "made.yaml")


def measured(folder: Path) -> None:
    """Measure an exposure with its catalogue: all that is written lies in the output folder, and is whole."""
    quick = MeasureSettings(estimators=("aperture",), scene="off")
    before = {path.name for path in folder.iterdir()}
    report = measure_run([folder / "a.fits"], folder / "parent.csv", folder / "run", load_survey("generic"), quick)
    assert {path.name for path in folder.iterdir()} == before | {"run"}, "files beside the output folder"
    for reason in report.failed.values():
        assert "\n" not in reason, f"unclear: {reason:.300}"
        assert "Error:" not in reason.replace("LumosError:", ""), f"unclear: {reason:.300}"
    if report.done:
        table = read_shards(folder / "run")
        flux, flags = table["flux"].to_numpy(), table["flags"].to_numpy()
        assert np.isfinite(flux[flags == 0]).all(), "no flux, and no flag"
        assert not np.isinf(flux).any(), "infinite flux"
        assert not np.isinf(table["flux_err"].to_numpy()).any(), "infinite flux"
