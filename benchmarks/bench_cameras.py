"""Ten cameras and formats that go through ``lumos run`` as they are, and sep on the same pixels.

For each: seconds; questions that the files left open; rows and those with a flux; the median ratio, over bright
isolated sources, of Lumos fluxes to the light that sep finds in a wide circle above a ring around it; and, where
exposures repeat, σ68 of their differences D over what their errors say (1: true errors).

Usage: ``python benchmarks/bench_cameras.py DATA OUT [--only NAME ...]``. DATA holds the images as CAMERAS names them.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import sep
from astropy.io import fits
from astropy.stats import sigma_clip

from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.flags import Flag, good_pixels, has_flag
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.photometry.measured import open_run
from lumos.runs.shards import read_shards

CAMERAS = {
    "HSC ExposureF": "cameras/hsc_calexp",
    "LSSTCam coadd": "cameras/lsstcam_coadd",
    "HST WFC3": "cameras/hst_wfc3",
    "Spitzer IRAC": "cameras/spitzer_irac",
    "DECam, bare": "cameras/decam_plain",
    "VISTA": "vista",
    "SDSS": "sdss",
    "DECam, CP": "legacypipe/testcase3/images/decam/**/*_oo?_*",
    "90Prime": "legacypipe/mzlsbass3/images/90prime/**/*_oo?_*",
    "KiDS, own WCS": "kids",
}
#: Sources whose flux is compared: so many times their error, and nothing wrong with their pixels or neighbourhood.
BRIGHT = 100.0
WRONG = (
    Flag.MASKED
    | Flag.SATURATED
    | Flag.NEIGHBOUR
    | Flag.EDGE
    | Flag.OFF_DATA
    | Flag.HIDDEN_SOURCE
    | Flag.CATALOG_MISMATCH
)
WRONG |= Flag.TRUNCATED_PROFILE | Flag.BAD_SHAPE
ESTIMATORS = ("aperture", "scene", "lumos")
#: Radii of the circles, FWHM: what is light and what is sky around a star is a matter of the circle.
CIRCLES = (3.0, 5.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=list(CAMERAS), choices=list(CAMERAS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'camera':<18}{'s':>6}{'open':>6}{'rows':>7}{'fluxes':>7}{'bright':>7}", end="")
    columns = [f"{name} {circle:.0f}" for circle in CIRCLES for name in ESTIMATORS]
    print("".join(f"{name:>12}" for name in columns) + f"{'D':>7}", flush=True)
    for name in arguments.only:
        out = arguments.out / name.replace(" ", "_").replace(",", "")
        images = arguments.data / CAMERAS[name]
        print(f"{name:<18}" + row(with_wcs(images, out) if name.startswith("KiDS") else images, out), flush=True)


def row(images: Path, out: Path) -> str:
    """Run one camera, and return its row."""
    start = time.monotonic()
    command = [sys.executable, "-m", "lumos", "run", str(images), "--out", str(out), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.monotonic() - start
    if done.returncode:
        return f"{seconds:>6.0f}  {done.stderr.strip().splitlines()[-1]}"
    questions = sum(line.startswith("  ? ") for line in done.stdout.splitlines())
    table = read_shards(out / "run")
    with_flux = np.isfinite(table["flux"].to_numpy().astype(float)).sum()
    n, ratios = against_sep(table, out)
    text = "".join(f"{ratio:>12.3f}" for ratio in ratios)
    return f"{seconds:>6.0f}{questions:>6}{len(table):>7}{with_flux:>7}{n:>7}{text}{repeats(out):>7}"


def against_sep(table: pa.Table, out: Path) -> tuple[int, list[float]]:
    """Return how many sources are compared, and the median ratio for each circle and estimator."""
    run = open_run(out / "run")
    parents = run.read_catalog()
    radius = dict(zip(parents.object_id.tolist(), parents.half_light_radius.tolist(), strict=True))
    ratios = [np.empty((0, len(CIRCLES) * len(ESTIMATORS)))]
    for entry in run.finished.values():
        for exposure in read_exposure(Path(entry["file"]), run.survey, psf_dir=run.psf_dir):
            names = (
                table["exposure_id"].to_numpy(zero_copy_only=False),
                table["detector"].to_numpy(zero_copy_only=False),
            )
            rows = table.filter((names[0] == exposure.exposure_id) & (names[1] == exposure.detector))
            sizes = np.array([radius[name] for name in rows["object_id"].to_pylist()]) / exposure.pixel_scale
            ratios.append(_ratios(rows, exposure, sizes))
    found = np.concatenate(ratios)
    return len(found), [float(np.nanmedian(column)) if len(found) else np.nan for column in found.T]


def _ratios(rows: pa.Table, exposure: Exposure, sizes: np.ndarray) -> np.ndarray:
    """Return Lumos's fluxes over sep's for bright isolated small sources, shape (n, 6)."""
    value = {
        name: rows[name].to_numpy().astype(float) for name in ("x", "y", "psf_fwhm", "optimal_flux", "optimal_flux_err")
    }
    x, y, fwhm = value["x"], value["y"], value["psf_fwhm"] / exposure.pixel_scale
    wide = max(CIRCLES) * np.hypot(fwhm, 2 * sizes)
    alone = value["optimal_flux"] > BRIGHT * value["optimal_flux_err"]
    alone &= (sizes < fwhm / 2) & ~has_flag(rows["flags"].to_numpy(), WRONG) & (rows["blendedness"].to_numpy() < 0.01)
    alone &= np.minimum(np.minimum(x, exposure.shape[1] - 1 - x), np.minimum(y, exposure.shape[0] - 1 - y)) > 1.6 * wide
    x, y, wide = x[alone], y[alone], wide[alone]
    data, bad = np.ascontiguousarray(exposure.data, dtype=np.float64), ~good_pixels(exposure.mask)
    unit = 10 ** (0.4 * (AB_ZEROPOINT_NJY - exposure.zeropoint)) if np.isfinite(exposure.zeropoint) else 1.0
    ours = [rows[f"{name}_flux"].to_numpy().astype(float)[alone] / unit for name in ESTIMATORS]
    ratios = []
    for circle in CIRCLES:
        radius = wide * circle / max(CIRCLES)
        total, _, _ = sep.sum_circle(data, x, y, radius, mask=bad, subpix=0)
        ring = [sky_around(data, bad, *place) for place in zip(x, y, radius, strict=True)]
        ratios += [flux / (total - np.pi * radius**2 * np.array(ring)) for flux in ours]
    return np.stack(ratios, axis=1)


def sky_around(data: np.ndarray, bad: np.ndarray, x: float, y: float, radius: float) -> float:
    """Return the clipped median of the good pixels in a ring."""
    rows, columns = np.indices(data.shape)
    distance = np.hypot(columns - x, rows - y)
    ring = data[(distance > 1.1 * radius) & (distance < 1.6 * radius) & ~bad & np.isfinite(data)]
    return float(np.median(sigma_clip(ring, 3.0, masked=False))) if ring.size else np.nan


def repeats(out: Path) -> str:
    """Return σ68 of the differences between exposures, of the run's page."""
    metrics = json.loads((out / "report/metrics.json").read_text())
    found = [
        metric["value"] for metric in metrics if metric["key"].startswith("repeats") and metric["value"] is not None
    ]
    return f"{found[0]:.2f}" if found else "-"


def with_wcs(images: Path, out: Path) -> Path:
    """Write images of a header that says nothing anew with a WCS, as their user would; return their folder."""
    folder = out.parent / "kids_with_wcs"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("r", "i"):
        data = fits.getdata(images / f"{name}.fits")
        header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 180.0, "CRVAL2": 0.0})
        header.update(
            {"CRPIX1": data.shape[1] / 2, "CRPIX2": data.shape[0] / 2, "CD1_1": -0.2 / 3600, "CD2_2": 0.2 / 3600}
        )
        header.update({"FILTER": name, "MAGZPT": 0.0})
        fits.PrimaryHDU(data, header).writeto(folder / f"{name}.fits", overwrite=True)
    return folder


if __name__ == "__main__":
    main()
