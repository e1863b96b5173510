"""Ten cameras and formats that go through ``lumos run`` as they are, and sep on the same pixels.

For each: seconds of one core; questions that the files left open; rows and those with a flux; how many bright
isolated sources are compared; the median ratio of Lumos fluxes to those of sep, with its error; and, where exposures
repeat, σ68 of their differences D over what their errors say (1: true errors).

sep sums the pixels in circles around its own centres, over the sky in a ring. What it finds is compared in two ways:

- in circles of radius 1, 3 and 5 FWHM, each over the share of the light that the catalogue's profile, convolved with
  the PSF, puts into the circle, less what it puts into the ring. The first compares photometry, centres and sky; the
  others compare, beside the sky, the wings of the PSF with those of the image.
- ``all 5``: as it is, as if a circle of 5 FWHM held all light. How far from 1 this is is a matter of how far the PSF of
  a survey reaches, and no error of either side.

FWHM: that of the source, hypot(FWHM of the PSF, 2 half-light radii).

Other estimators, and the injection test at the end of ``lumos run``, of which nothing is shown here, are left out or
kept small.

Usage: ``python benchmarks/bench_cameras.py DATA OUT [--only NAME ...]``. DATA holds the images as CAMERAS names them.
Cameras that are finished in OUT are not run again.
"""

import argparse
import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import sep
import torch
from astropy.io import fits
from astropy.stats import sigma_clip

from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.flags import Flag, good_pixels, has_flag
from lumos.images.exposure import Exposure
from lumos.images.reader import read_exposure
from lumos.photometry.measured import open_run
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.profiles.sersic import render
from lumos.runs.shards import read_shards
from lumos.statistics import sigma68

CAMERAS = {
    "HSC ExposureF": "cameras/hsc_calexp",
    "LSSTCam coadd": "cameras/lsstcam_coadd",
    "HST WFC3": "cameras/hst_wfc3",
    "Spitzer IRAC": "cameras/spitzer_irac",
    "DECam, bare": "cameras/decam_plain",
    "VISTA": "vista/image_[123].fits",
    "SDSS": "sdss",
    "DECam, CP": "legacypipe/testcase3/images/decam/**/*_oo?_*",
    "90Prime": "legacypipe/mzlsbass3/images/90prime/**/*_oo?_*",
    "KiDS, own WCS": "kids",
}
#: Sources whose flux is compared: so many times their error, and nothing wrong with their pixels or neighbourhood.
BRIGHT = 50.0
WRONG = (
    Flag.MASKED
    | Flag.SATURATED
    | Flag.NEIGHBOUR
    | Flag.OFF_DATA
    | Flag.HIDDEN_SOURCE
    | Flag.CATALOG_MISMATCH
    | Flag.TRUNCATED_PROFILE
    | Flag.BAD_SHAPE
)
ESTIMATORS = ("aperture", "scene", "lumos")
#: Where the rings of the sky begin and end around circles of radius 1 and of others, all in FWHM.
CORE, WIDE = (2.5, 4.0), {3.0: (3.3, 4.8), 5.0: (5.5, 8.0)}
#: Fewest sources of a median.
FEWEST = 3
#: Nothing but the estimators that are compared, and few injected galaxies.
FEW = (
    "--set",
    "measure.estimators=[aperture,optimal,scene]",
    "--set",
    "inject.rounds=1",
    "--set",
    "inject.n_per_ccd=20",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=list(CAMERAS), choices=list(CAMERAS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'camera':<18}{'CPU s':>6}{'open':>6}{'rows':>7}{'fluxes':>7}{'bright':>7}", end="")
    columns = [f"{name} 1" for name in ESTIMATORS] + [f"aperture {circle:.0f}" for circle in WIDE] + ["all 5"]
    print("".join(f"{name:>16}" for name in columns) + f"{'D':>7}", flush=True)
    for name in arguments.only:
        out = arguments.out / name.replace(" ", "_").replace(",", "")
        images = arguments.data / CAMERAS[name]
        print(f"{name:<18}" + row(with_wcs(images, out) if name.startswith("KiDS") else images, out), flush=True)


def row(images: Path, out: Path) -> str:
    """Run one camera, and return its row."""
    done = out / "bench.json"
    if not done.exists():
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        command = [sys.executable, "-m", "lumos", "run", str(images), "--out", str(out), "--quiet", *FEW]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if ended.returncode:
            return f"  {ended.stderr.strip().splitlines()[-1]}"
        questions = sum(line.startswith("  ? ") for line in ended.stdout.splitlines())
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        done.write_text(json.dumps({"cpu": cpu, "questions": questions}))
    told = json.loads(done.read_text())
    # A run that was stopped and goes on reads its survey file as it stands; the questions are in it.
    questions = max(told["questions"], (out / "survey.yaml").read_text().count("# ? "))
    table = read_shards(out / "run")
    with_flux = np.isfinite(table["flux"].to_numpy().astype(float)).sum()
    n, ratios = against_sep(table, out)
    text = "".join(f"{ratio:>16}" for ratio in ratios)
    return f"{told['cpu']:>6.0f}{questions:>6}{len(table):>7}{with_flux:>7}{n:>7}{text}{repeats(out):>7}"


def against_sep(table: pa.Table, out: Path) -> tuple[int, list[str]]:
    """Return how many sources are compared, and the median ratio in each column, with its error."""
    run = open_run(out / "run")
    parents = run.read_catalog()
    ratios = [np.empty((0, len(ESTIMATORS) + len(WIDE) + 1))]
    for entry in run.finished.values():
        for exposure in read_exposure(Path(entry["file"]), run.survey, psf_dir=run.psf_dir):
            names = [table[name].to_numpy(zero_copy_only=False) for name in ("exposure_id", "detector")]
            rows = table.filter((names[0] == exposure.exposure_id) & (names[1] == exposure.detector))
            ratios.append(_ratios(rows, exposure, place_objects(exposure, parents, run.settings)))
    found = np.concatenate(ratios)
    return len(found), [_median(column) for column in found.T]


def _median(ratios: np.ndarray) -> str:
    """Return a median and its error from the scatter."""
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) < FEWEST:
        return "-"
    return f"{np.median(ratios):.3f}±{1.2533 * sigma68(ratios) / np.sqrt(len(ratios)):.3f}"


def _ratios(rows: pa.Table, exposure: Exposure, placed: PlacedObjects) -> np.ndarray:
    """Return Lumos's fluxes over sep's for bright isolated sources, shape (n, columns)."""
    order = {name: number for number, name in enumerate(placed.catalog.object_id.tolist())}
    placed = placed.take(np.array([order[name] for name in rows["object_id"].to_pylist()], dtype=int))
    fwhm = np.hypot(placed.psf_fwhm, 2 * placed.half_light_radius)
    flux, error = (rows[name].to_numpy().astype(float) for name in ("optimal_flux", "optimal_flux_err"))
    alone = (flux > BRIGHT * error) & ~has_flag(rows["flags"].to_numpy(), WRONG)
    alone &= rows["blendedness"].to_numpy() < 0.01
    placed, fwhm, rows = placed.take(alone), fwhm[alone], rows.filter(alone)
    data, bad = np.ascontiguousarray(exposure.data, dtype=np.float64), ~good_pixels(exposure.mask)
    clean = np.where(bad, 0, data - np.median(data[~bad]))
    x, y, _ = sep.winpos(clean, placed.x, placed.y, fwhm / 2.355, mask=bad)
    unit = 10 ** (0.4 * (AB_ZEROPOINT_NJY - exposure.zeropoint)) if np.isfinite(exposure.zeropoint) else 1.0
    ours = {name: rows[f"{name}_flux"].to_numpy().astype(float) / unit for name in ESTIMATORS}
    columns = []
    for circle, ring in {1.0: CORE, **WIDE}.items():
        sums = np.array([light(data, bad, (x[i], y[i]), fwhm[i], circle, ring) for i in range(len(placed))])
        share = np.array([share_of(placed.take([i]), exposure, fwhm[i], circle, ring) for i in range(len(placed))])
        columns += [ours[name] * share / sums for name in (ESTIMATORS if circle == 1 else ESTIMATORS[:1])]
    return np.stack([*columns, ours["aperture"] / sums], axis=1)


def light(
    data: np.ndarray, bad: np.ndarray, place: tuple[float, float], fwhm: float, circle: float, ring: tuple[float, float]
) -> float:
    """Return the light in a circle over the sky in a ring; NaN where the circle is not wholly on good pixels."""
    first = [max(0, int(middle - ring[1] * fwhm) - 1) for middle in place]
    reach = int(2 * ring[1] * fwhm) + 4
    window = slice(first[1], first[1] + reach), slice(first[0], first[0] + reach)
    data, bad, (x, y) = np.ascontiguousarray(data[window]), np.ascontiguousarray(bad[window]), np.subtract(place, first)
    total, _, flag = sep.sum_circle(data, [x], [y], circle * fwhm, mask=bad, subpix=0)
    rows, columns = np.indices(data.shape)
    distance = np.hypot(columns - x, rows - y) / fwhm
    around = (distance > ring[0]) & (distance < ring[1])
    sky = data[around & ~bad & np.isfinite(data)]
    if flag[0] or sky.size < 0.5 * np.pi * (ring[1] ** 2 - ring[0] ** 2) * fwhm**2:
        return np.nan
    return float(total[0] - np.pi * (circle * fwhm) ** 2 * np.median(sigma_clip(sky, 3.0, masked=False)))


def share_of(one: PlacedObjects, exposure: Exposure, fwhm: float, circle: float, ring: tuple[float, float]) -> float:
    """Return the share of the model's light that :func:`light` finds."""
    half = int(np.ceil(ring[1] * fwhm)) + 2
    x, y = half + one.x % 1, half + one.y % 1
    drawn = render(one.at(x, y), exposure.psf.at(one.x, one.y), size=2 * half + 1, dtype=torch.float64)
    image = drawn[0].numpy()
    return light(image, np.zeros(image.shape, dtype=bool), (float(x[0]), float(y[0])), fwhm, circle, ring)


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
