"""Galaxies with neighbours: bias, pulls and PIT with and without the joint fit of the scene.

Exposures are simulated with clustered galaxies, stars, a catalogue limit, scattered light and noise of any kind, then
measured with `lumos measure`. Errors are in units of the error of the joint fit with all neighbours free ("joint
Cramér-Rao error"), pulls in units of each estimator's own.

A model that was trained on scenes measures the joint run only.

Usage: ``python benchmarks/bench_scenes.py OUT [--galaxies 300] [--option KEY=VALUE ...]``.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree
from scipy.stats import kstest

from lumos.catalogs.parent import read_parent
from lumos.catalogs.schema import list_column
from lumos.flags import NAN_FLUX, UNUSABLE
from lumos.nets.checkpoint import read_config
from lumos.pdf import GaussianMixture
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.statistics import sigma68
from lumos.surveys import load_survey

#: Exposures by default; each option of the command line comes on top.
OPTIONS = (
    "bands=[NB625, NB785]",
    "camera.shape=[2048, 2048]",
    "exposures_per_band=2",
    "sky.mag_range=[17.5, 24]",
    "sky.catalog_limit=23.5",
    "sky.clustered=0.6",
    "camera.zeropoint_err=0",
)
#: Distance to the next catalogue neighbour in FWHM.
DISTANCES = (0, 0.5, 1, 1.5, 2, 3, np.inf)
#: Neighbours that make an object blended: within so many FWHM, or with so much light in errors.
NEAR, LIGHT = 2.0, 1.0


def simulate(out: Path, galaxies: float, options: list[str]) -> None:
    """Simulate the exposures, once."""
    if (out / "exposures").exists():
        return
    settings = load_simulation("paucam-mini", [*OPTIONS, f"sky.galaxies={galaxies}", *options])
    simulate_survey(settings, out, workers=2)


def measure(out: Path, scene: str, model: str | None) -> pa.Table:
    """Return the table of a run with or without the joint fit."""
    run = out / f"run_{scene}_{model or 'classical'}"
    settings = MeasureSettings(scene=scene, model=model)
    exposures = sorted((out / "exposures").rglob("*.fits*"))
    exposures = [path for path in exposures if not path.name.endswith((".mask.fits", ".weight.fits"))]
    measure_run(exposures, out / "parent.parquet", run, load_survey("paucam"), settings, workers=2)
    # Exposures stand in the order in which they were finished.
    return read_shards(run).sort_by([("exposure_id", "ascending"), ("object_id", "ascending")])


def true_fluxes(out: Path, table: pa.Table) -> np.ndarray:
    """Return the true flux of each row."""
    truth = {(row["object_id"], row["band"]): row["flux"] for row in pq.read_table(out / "truth.parquet").to_pylist()}
    keys = zip(table["object_id"].to_pylist(), table["band"].to_pylist(), strict=True)
    return np.array([truth[key] for key in keys])


def distances(out: Path, table: pa.Table) -> np.ndarray:
    """Return the distance of each row's object to the next one of the catalogue, in FWHM."""
    catalog = read_parent(out / "parent.parquet")
    plane = 3600 * np.column_stack([catalog.ra * np.cos(np.deg2rad(catalog.dec)), catalog.dec])
    nearest = dict(zip(catalog.object_id.tolist(), cKDTree(plane).query(plane, 2)[0][:, 1].tolist(), strict=True))
    arcsec = np.array([nearest[key] for key in table["object_id"].to_pylist()])
    return arcsec / table["psf_fwhm"].to_numpy()


def figures(flux: np.ndarray, error: np.ndarray, unit: np.ndarray, truth: np.ndarray, pit: np.ndarray) -> dict:
    """Return the figures of some rows."""
    pull = (flux - truth) / error
    return {
        "n": len(flux),
        "bias": float(np.median((flux - truth) / unit)),
        "scatter": float(sigma68((flux - truth) / unit)),
        "pull": float(sigma68(pull)),
        "beyond5": float(np.mean(np.abs(pull) > 5)),
        "ks": float(kstest(pit, "uniform").statistic),
    }


def judge(table: pa.Table, joint: pa.Table, truth: np.ndarray, near: np.ndarray, names: list[str]) -> dict:
    """Return the figures of all estimators by kind of row."""
    column = {name: joint[name].to_numpy() for name in ("contamination", "scene_flux_err", "flags")}
    fine = (column["flags"] & int(NAN_FLUX | UNUSABLE)) == 0
    blended = (near < NEAR) | (np.abs(column["contamination"]) > LIGHT)
    kinds = {"isolated": ~blended, "blended": blended}
    for low, high in pairwise(DISTANCES):
        kinds[f"{low:g}-{high:g} FWHM"] = (near >= low) & (near < high)
    result: dict = {}
    for name in names:
        flux, error = (table[f"{name}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
        if name == "lumos":
            parts = [list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")]
        else:
            parts = [np.ones((len(flux), 1)), flux[:, None], error[:, None]]
        known = fine & np.isfinite(flux) & np.isfinite(parts[0]).all(axis=1)
        pit = np.full(len(flux), np.nan)
        pit[known] = GaussianMixture(*(part[known] for part in parts)).cdf(truth[known][:, None])[:, 0]
        for kind, members in kinds.items():
            some = known & members
            if some.sum() >= 30:
                values = (values[some] for values in (flux, error, column["scene_flux_err"], truth, pit))
                result.setdefault(kind, {})[name] = figures(*values)
    return result


def show(title: str, result: dict) -> None:
    """Print a table."""
    print(f"\n## {title}\n")
    print("| rows | estimator | n | bias / CR error | scatter / CR error | pull | beyond 5σ | PIT-KS |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind, by_name in result.items():
        for name, f in by_name.items():
            errors = f"{f['bias']:+.3f} | {f['scatter']:.3f} | {f['pull']:.3f} | {f['beyond5']:.2%} | {f['ks']:.3f}"
            print(f"| {kind} | {name} | {f['n']} | {errors} |")


def main() -> None:
    """Simulate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--galaxies", type=float, default=300.0, help="of the catalogue per million pixels")
    parser.add_argument("--model", default="generic", help="shipped model or folder, or none")
    parser.add_argument("--option", action="append", default=[])
    args = parser.parse_args()
    simulate(args.out, args.galaxies, args.option)
    model = None if args.model == "none" else args.model
    on_scenes = model is not None and read_config(model).input_version == 2
    models = {"off": None if on_scenes else model, "joint": model}
    tables = {scene: measure(args.out, scene, one) for scene, one in models.items()}
    last = tables["joint"]
    truth, near = true_fluxes(args.out, last), distances(args.out, last)
    for scene, table in tables.items():
        names = list(MeasureSettings(model=models[scene]).all_estimators)
        result = judge(table, last, truth, near, names)
        (args.out / f"{scene}.json").write_text(json.dumps(result, indent=1))
        show(f"scene: {scene}", result)


if __name__ == "__main__":
    main()
