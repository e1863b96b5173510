"""Injected fluxes through `lumos measure`: pulls of isolated galaxies on simulated exposures without artefacts.

Usage: ``python benchmarks/exposure_pulls.py OUT``.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from lumos.background.settings import NoiseSettings
from lumos.catalogs.parent import read_parent
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey

OPTIONS = (
    "bands=[NB685, NB785]",
    "camera.shape=[1536, 1536]",
    "exposures_per_band=24",
    "dither=60",
    "sky.galaxies=45",
    "sky.mag_range=[17.5, 21]",
    "sky.catalog_limit=21",
    "sky.stars=0",
    "sky.clustered=0",
    "seeing.variation=0",
    "camera.zeropoint_err=0",
    "background.gradient=0",
    "background.scattered_light={}",
    "artefacts={cosmic_rays: 0, satellites: 0, hot_pixels: 0, dead_columns: 0}",
)
#: Nearest neighbour of an isolated galaxy, pixels.
ALONE = 60


def pulls(out: Path) -> dict[str, np.ndarray]:
    """Return (f - f0) / sigma of isolated galaxies by estimator."""
    report = simulate_survey(load_simulation("paucam-mini", list(OPTIONS)), out, workers=2)
    settings = MeasureSettings(noise=NoiseSettings(correlation="none"))
    measure_run(report.exposures, out / "parent.parquet", out / "run", load_survey("paucam"), settings, workers=2)
    table = read_shards(out / "run")
    truth = {(row["object_id"], row["band"]): row["flux"] for row in pq.read_table(out / "truth.parquet").to_pylist()}
    keys = zip(table["object_id"].to_pylist(), table["band"].to_pylist(), strict=True)
    true_flux = np.array([truth[key] for key in keys])
    catalog = read_parent(out / "parent.parquet")
    plane = 3600 / 0.263 * np.column_stack([catalog.ra * np.cos(np.deg2rad(catalog.dec)), catalog.dec])
    alone = catalog.object_id[cKDTree(plane).query(plane, 2)[0][:, 1] > ALONE]
    use = (table["flags"].to_numpy() == 0) & np.isin(table["object_id"].to_numpy(), alone)
    return {
        name: (table[f"{name}_flux"].to_numpy()[use] - true_flux[use]) / table[f"{name}_flux_err"].to_numpy()[use]
        for name in settings.estimators
    }


def main() -> None:
    """Print mean and standard deviation of the pulls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    for name, values in pulls(parser.parse_args().out).items():
        n = len(values)
        print(
            f"{name:14}n {n}  mean {values.mean():+.3f} ± {1 / np.sqrt(n):.3f}  "
            f"standard deviation {values.std():.3f} ± {1 / np.sqrt(2 * n):.3f}"
        )


if __name__ == "__main__":
    main()
