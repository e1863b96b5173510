"""What spoils pixels and what it does to fluxes: Fig. 15 and section 6.1.4 of the paper, on simulated exposures.

Each row has one kind of artefact and none of the others: cosmic rays of which a fifth are not in the mask, a satellite
on every exposure, crosstalk ghosts of every saturated star, hot pixels and dead columns, saturated stars with bleed
trails, strong scattered light. *Flagged* are rows without a usable flux. Of the others: σ68 of the pulls, share beyond
5 errors. *Told*: of fluxes that are off by more than 5 errors, those that some flag tells; *false*: rows above a
signal-to-noise ratio of 10 that are not off, and are called unlike the training.

Usage: ``python benchmarks/artefacts.py OUT [--model generic]``.
"""

import argparse
from pathlib import Path

import numpy as np

from lumos.flags import UNUSABLE, Flag
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.statistics import sigma68
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth

BASE = (
    "bands=[NB625, NB785]",
    "states=[after]",
    "camera.shape=[1536, 1536]",
    "exposures_per_band=3",
    "sky.galaxies=900",
    "sky.catalog_limit=23.0",
    "sky.mag_range=[17.5, 23.0]",
    "camera.zeropoint_err=0",
    "artefacts.cosmic_rays=0",
    "artefacts.satellites=0",
    "artefacts.ghosts=0",
    "artefacts.hot_pixels=0",
    "artefacts.dead_columns=0",
    "sky.star_mag_range=[17, 22]",
    "background.scattered_light={after: [0.0, 0.0]}",
)
KINDS = {
    "none": (),
    "cosmic rays": ("artefacts.cosmic_rays=150",),
    "satellites": ("artefacts.satellites=1",),
    "saturated stars": ("sky.star_mag_range=[11, 22]", "sky.stars=250"),
    "ghosts": ("sky.star_mag_range=[11, 22]", "sky.stars=250", "artefacts.ghosts=1", "artefacts.ghost_level=0.01"),
    "hot pixels, dead columns": ("artefacts.hot_pixels=400", "artefacts.dead_columns=10"),
    "scattered light": ("background.scattered_light={after: [0.15, 0.35]}",),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="generic")
    args = parser.parse_args()
    settings = MeasureSettings(estimators=("aperture", "optimal"), model=args.model)
    print("| artefact | rows | flagged | estimator | pull | beyond 5σ | told | false |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind, changes in KINDS.items():
        folder = args.out / kind.replace(" ", "_").replace(",", "")
        simulation = load_simulation("paucam-mini", [*BASE, *changes])
        exposures = simulate_survey(simulation, folder, workers=2).exposures
        survey = load_survey("paucam")
        measure_run(exposures, folder / "parent.parquet", folder / "run", survey, settings, workers=2)
        table = read_shards(folder / "run")
        truth, flags = look_up_truth(table, folder / "truth.parquet"), table["flags"].to_numpy()
        unusable, outside = (flags & int(UNUSABLE)) > 0, (flags & int(Flag.OUT_OF_DOMAIN)) > 0
        # Masked light, edges and stamps unlike the training tell; a neighbour that is fitted does not.
        tells = (flags & ~int(Flag.NEIGHBOUR)) > 0
        for name in settings.all_estimators:
            flux, error = (table[f"{name}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
            known = np.isfinite(flux) & (error > 0)
            pull = np.where(known, (flux - truth) / np.where(known, error, 1), np.nan)
            kept = known & ~unusable
            off = known & (np.abs(pull) > 5)
            fine = kept & ~off & (truth > 10 * error)
            told = f"{np.mean(tells[off]):.0%} of {off.sum()}" if off.any() else "none"
            print(
                f"| {kind} | {len(flux)} | {np.mean(~kept):.1%} | {name} | {sigma68(pull[kept]):.2f} "
                f"| {np.mean(off[kept]):.2%} | {told} | {np.mean(outside[fine]):.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
