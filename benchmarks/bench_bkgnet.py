"""The background of BKGnet against that of the annulus: its scatter, its errors, the fluxes, and the place on the CCD.

The background: sigma68 and median of (level - true sky) in units of the noise of a pixel, and sigma68 over the stated
error. The true sky is the simulation's image without noise and without stars and galaxies, so that the light of what no
catalogue has counts as an error, for all alike. Fluxes: sigma68 of (flux - truth) over the error that the annulus
gives, and of the pulls; galaxies alone (no ``NEIGHBOUR``), pixels usable.

``measured`` judges a model on exposures with other skies and patterns of scattered light than those of its training;
``place`` trains two models on one pool, with and without band, camera state and place on the CCD, whose patterns are
those of the exposures it then judges them on: the same camera with other fields, other noise and another strength of
the light.

Run: ``python benchmarks/bench_bkgnet.py OUT [--model bkgnet] [--only measured|place]``
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.flags import UNUSABLE, Flag
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation, load_training
from lumos.simulate.exposures import expose_known, simulate_survey
from lumos.simulate.field import draw_field, field_light
from lumos.simulate.plan import plan_exposures
from lumos.simulate.settings import SurveySimulation
from lumos.statistics import sigma68
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth
from lumos.workflows.train import train_model

#: What the true sky cannot have.
CLEAN = ("artefacts.ghosts=0", "artefacts.cosmic_rays=0", "artefacts.satellites=0", "camera.zeropoint_err=0")
LAYOUT = ("camera.detectors=1", "camera.shape=[2048, 1024]")
BANDS = ("NB455", "NB505", "NB555", "NB605", "NB655", "NB705", "NB755", "NB805")
#: The camera of the study of places.
CAMERA = ("bands=[NB605, NB805]", "seed=77", "camera.detectors=1", "camera.shape=[1024, 1024]")
#: Half the side in pixels of the square whose mean is the sky of an object.
HALF = 8
#: S/N that parts the bright from the faint, pixels that part the edge of the CCD from its middle.
BRIGHT, EDGE = 10.0, 100.0
ANNULUS = "annulus"


@dataclass(frozen=True)
class Measured:
    """Rows of galaxies that several backgrounds were measured for.

    Parameters
    ----------
    level, level_err : dict of float array, shape (n,)
        Background minus the true sky, and its stated error, by its source; units of the noise of a pixel.
    off, pull : dict of float array, shape (n,)
        Flux of the aperture minus truth over the annulus' error, and over its own, by the background's source.
    snr, edge : float array, shape (n,)
        True flux over the annulus' error; distance from the edge of the CCD, pixels.
    band, state : array, shape (n,)
        Of the exposure.
    """

    level: Mapping[str, FloatArray]
    level_err: Mapping[str, FloatArray]
    off: Mapping[str, FloatArray]
    pull: Mapping[str, FloatArray]
    snr: FloatArray
    edge: FloatArray
    band: np.ndarray
    state: np.ndarray


def true_skies(settings: SurveySimulation) -> dict[str, tuple[FloatArray, FloatArray, float]]:
    """Return by exposure the sky, the noise of its pixels, in electrons, and nJy per electron."""
    skies = {}
    for exposure in plan_exposures(settings):
        field = draw_field(settings, exposure)
        known = expose_known(settings, exposure, 0, field)
        light, _, _ = field_light(settings, exposure, 0, field)
        sky = known.expected * exposure.gain - light
        noise = np.sqrt(np.maximum(sky, 0) + exposure.read_noise**2)
        skies[exposure.exposure_id] = (sky, noise, 10 ** (0.4 * (AB_ZEROPOINT_NJY - exposure.electrons_zeropoint)))
    return skies


def measure(folder: Path, settings: SurveySimulation, models: Mapping[str, str]) -> Measured:
    """Simulate a survey, measure it with each background, and compare with the truth."""
    exposures = sorted(simulate_survey(settings, folder).exposures)
    tables = {}
    for name, model in {ANNULUS: ANNULUS, **models}.items():
        options = {"aperture": {"background": model}}
        run = MeasureSettings(estimators=("aperture",), options=options)
        measure_run(exposures, folder / "parent.parquet", folder / f"run-{name}", load_survey("paucam"), run)
        tables[name] = read_shards(folder / f"run-{name}")
    first = tables[ANNULUS]
    truth = look_up_truth(first, folder / "truth.parquet")
    skies = true_skies(settings)
    x, y = (first[axis].to_numpy() for axis in ("x", "y"))
    names = first["exposure_id"].to_numpy(zero_copy_only=False)
    sky, noise = np.empty(len(x)), np.empty(len(x))
    for row, name in enumerate(names):
        image, scatter, unit = skies[name]
        at = tuple(slice(max(round(v) - HALF, 0), round(v) + HALF + 1) for v in (y[row], x[row]))
        sky[row], noise[row] = image[at].mean() * unit, np.median(scatter[at]) * unit
    bad = int(UNUSABLE | Flag.NEIGHBOUR | Flag.EDGE | Flag.DOUBTFUL_SHAPE)
    good = np.ones(len(x), dtype=bool)
    flux, error, level, level_err = {}, {}, {}, {}
    for name, table in tables.items():
        own = "background" if name == ANNULUS else "aperture_background"
        flux[name], error[name] = (table[f"aperture_{part}"].to_numpy() for part in ("flux", "flux_err"))
        level[name] = (table[own].to_numpy() - sky) / noise
        level_err[name] = table[f"{own}_err"].to_numpy() / noise
        good &= ((table["flags"].to_numpy() & bad) == 0) & np.isfinite(flux[name])
        told = ((table["flags"].to_numpy() & int(Flag.ANNULUS_BACKGROUND)) != 0).mean()
        if name != ANNULUS:
            print(f"{name}: cannot tell {told:.1%} of the objects, which have the annulus")
    ny, nx = settings.camera.shape
    edge = np.minimum.reduce([x, y, nx - 1 - x, ny - 1 - y])
    return Measured(
        {name: values[good] for name, values in level.items()},
        {name: values[good] for name, values in level_err.items()},
        {name: ((values - truth) / error[ANNULUS])[good] for name, values in flux.items()},
        {name: ((values - truth) / error[name])[good] for name, values in flux.items()},
        (truth / error[ANNULUS])[good],
        edge[good],
        first["band"].to_numpy(zero_copy_only=False)[good],
        first["state"].to_numpy(zero_copy_only=False)[good],
    )


def print_table(title: str, found: Measured, parts: Mapping[str, np.ndarray]) -> None:
    """Print the figures of parts of the rows."""
    print(f"\n{title}")
    print(f"{'':22} {'n':>6} {'background':>14}    level   median   pull    flux    gain   pull")
    for part, rows in parts.items():
        if rows.sum() < 50:
            continue
        base = sigma68(found.off[ANNULUS][rows])
        for name, level in found.level.items():
            scatter = sigma68(found.off[name][rows])
            print(
                f"{part:22} {rows.sum():6d} {name:>14} {sigma68(level[rows]):8.4f} {np.median(level[rows]):+8.4f} "
                f"{sigma68((level / found.level_err[name])[rows]):6.2f} {scatter:7.3f} {1 - scatter / base:7.1%} "
                f"{sigma68(found.pull[name][rows]):6.2f}"
            )


def states_of(found: Measured) -> dict[str, np.ndarray]:
    """Return the rows of each camera state, near the edge of the CCD and away from it."""
    parts = {}
    for state in np.unique(found.state):
        here = found.state == state
        parts[f"{state}, edge"] = here & (found.edge < EDGE)
        parts[f"{state}, middle"] = here & (found.edge >= EDGE)
    return parts


def report(found: Measured) -> None:
    """Print all tables of a set of exposures."""
    every = np.ones(len(found.snr), dtype=bool)
    print_table("by place and camera state", found, {"all": every, **states_of(found)})
    states = {state: found.state == state for state in np.unique(found.state)}
    bright = {f"{state}, S/N > {BRIGHT:g}": here & (found.snr > BRIGHT) for state, here in states.items()}
    faint = {f"{state}, S/N < 3": here & (found.snr < 3) for state, here in states.items()}
    print_table("by signal-to-noise ratio", found, bright | faint)
    bands = {f"{band} before": (found.band == band) & (found.state == "before") for band in np.unique(found.band)}
    print_table("by band, before the intervention", found, bands)
    gains = {
        name: [1 - sigma68(found.off[name][rows]) / sigma68(found.off[ANNULUS][rows]) for rows in bands.values()]
        for name in found.off
        if name != ANNULUS
    }
    for name, values in gains.items():
        print(
            f"{name}: flux scatter smaller by {np.mean(values):.1%} in the mean of the bands, at most {max(values):.1%}"
        )


def measured(out: Path, model: str) -> None:
    """Judge a model on exposures with patterns that its training did not have, and on waves in the sky beside."""
    for name, bands, changes in (
        ("as the preset has it", BANDS, ()),
        ("waves of 2 % of the sky", BANDS[1::2], ("background.structure=0.02",)),
    ):
        which = (f"bands=[{', '.join(bands)}]", "exposures_per_band=2", "seed=901")
        settings = load_simulation("paucam-field", [*which, *LAYOUT, *CLEAN, *changes])
        print(f"\n# Scattered light {name}")
        report(measure(out / name.split()[0], settings, {"bkgnet": model}))


def place(out: Path, n_stamps: int) -> None:
    """Train with and without the place on the CCD, and judge on other exposures of the same camera."""
    empty = (*CAMERA, "exposures_per_band=6", "sky.galaxies=1", "sky.stars=0", "artefacts.satellites=0")
    pool = f"pool.overrides=[{', '.join(map(repr, empty))}]"
    models = {}
    for name, changes in {
        "without place": ("per_band=false",),
        "with place": ("per_band=true", "network.position=true"),
    }.items():
        folder = out / name.replace(" ", "-")
        source: Sequence[str] = (pool,)
        if models:
            # One pool for both.
            source = ("pool.simulate=null", "pool.overrides=[]", f"pool.paths=[{out / 'without-place' / 'pool'}]")
        run = load_training("bkgnet", [*source, f"n_stamps={n_stamps}", f"name={folder.name}", *changes])
        print(train_model(run, folder))
        models[name.split()[0]] = str(folder)
    # In another order, so that no exposure has the strength, the seeing and the sky of one of the training.
    settings = load_simulation("paucam-field", [*CAMERA, "bands=[NB805, NB605]", "exposures_per_band=4", *CLEAN])
    print("\n# The place on the CCD")
    report(measure(out / "place", settings, models))


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for exposures, runs and models")
    parser.add_argument("--model", default="bkgnet", help="name or folder")
    parser.add_argument("--only", choices=("measured", "place"))
    parser.add_argument("--stamps", type=int, default=60_000, help="for each model of the study of places")
    arguments = parser.parse_args()
    if arguments.only != "place":
        measured(arguments.out, arguments.model)
    if arguments.only != "measured":
        place(arguments.out, arguments.stamps)


if __name__ == "__main__":
    main()
