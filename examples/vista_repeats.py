"""Five VISTA exposures of one sky: make PSFs and a catalogue, measure, and compare the exposures with each other.

Usage: ``python examples/vista_repeats.py DATA OUT``, where DATA holds ``image_1.fits`` … ``image_5.fits``.
Nothing but the images is needed: PSFs come from their stars, the catalogue from the sharpest of them, which takes no
part in the comparison: faint objects are in the catalogue where this exposure's noise made them bright.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.background.settings import NoiseSettings
from lumos.catalogs.parent import ParentCatalog, read_parent, write_parent
from lumos.photometry.run import measure_run
from lumos.photometry.settings import NETWORK, MeasureSettings
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.surveys import load_survey
from lumos.validate.repeats import Repeats, run_repeats
from lumos.validate.repeats_table import fit_relative_floor
from lumos.workflows.catalog import make_catalog
from lumos.workflows.psf import make_psfs

EDGES = np.array([15.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0])
#: Brighter than this the sky's noise is not what limits a measurement.
BRIGHT = 19.0
#: Classical estimators, and under the name of its columns the network.
ESTIMATORS = ("aperture", "profile_fit", "optimal", "optimal_free")
NAMES = ("image_1.fits", "image_2.fits", "image_3.fits", "image_4.fits", "image_5.fits")
#: The sharpest exposure, from which the catalogue is made.
SHARPEST = "image_3.fits"


@dataclass(frozen=True)
class Comparison:
    """Repeats of the objects of one half of the sky: optimal weights with errors of three kinds, and all estimators."""

    white: Repeats
    correlated: Repeats
    full: Repeats
    network: Repeats
    floor: float
    """Relative error in ``full``, found on the other half."""
    quarters: dict[str, Repeats]
    """By estimator, in four bins with equally many objects, brightest first; classical errors hold the floor."""


def prepare(data: Path, out: Path, psf: str = "moffat") -> tuple[list[Path], Path]:
    """Make PSFs and catalogue; return the exposures to compare and the catalogue."""
    missing = [name for name in NAMES if not (data / name).is_file()]
    if missing:
        raise SystemExit(f"{data}: no {missing[0]}, needed: {', '.join(NAMES)}")
    catalog, survey = out / "parent.parquet", load_survey("vircam")
    if not catalog.exists():
        make_psfs([data / name for name in NAMES], out / "psf", survey, PsfSettings(model=psf))
        make_catalog(data / SHARPEST, catalog, survey, CatalogSettings(), psf_dir=out / "psf")
    return [data / name for name in NAMES if name != SHARPEST], catalog


def half(catalog: ParentCatalog, *, east: bool) -> ParentCatalog:
    """Return the objects of one half of the sky."""
    return catalog.take((catalog.ra >= np.median(catalog.ra)) == east)


def compare(data: Path, out: Path, model: str = "generic", psf: str = "moffat") -> dict[str, Comparison]:
    """Measure each half of the sky with the relative error found on the other."""
    images, catalog = prepare(data, out, psf)
    whole, survey, sides = read_parent(catalog), load_survey("vircam"), ("east", "west")
    for side in sides:
        if not (out / f"{side}.parquet").exists():
            write_parent(half(whole, east=side == "east"), out / f"{side}.parquet")

    def run(side: str, kind: str, *names: str, network: bool = False, **noise: object) -> Path:
        settings = MeasureSettings(
            estimators=names, model=model if network else None, noise=NoiseSettings.model_validate(noise)
        )
        folder = out / f"{side}_{kind}"
        report = measure_run(images, out / f"{side}.parquet", folder, survey, settings, psf_dir=out / "psf", workers=2)
        assert not report.failed, report.failed
        return folder

    def repeats(side: str, kind: str, **noise: object) -> Repeats:
        return run_repeats(run(side, kind, "optimal", **noise), "optimal", "H", EDGES)

    white = {side: repeats(side, "white", correlation="none") for side in sides}
    correlated = {side: repeats(side, "correlated") for side in sides}
    made = {}
    for side, other in zip(sides, reversed(sides), strict=True):
        floor = round(fit_relative_floor(correlated[other], BRIGHT), 4)
        full = run(side, "full", *ESTIMATORS, relative_floor=floor)
        network = run(side, "network", "optimal", network=True)
        magnitudes = read_parent(out / f"{side}.parquet").ref_mag
        edges = np.array([0.0, *np.quantile(magnitudes, [0.25, 0.5, 0.75]), 40.0])
        quarters = {name: run_repeats(full, name, "H", edges) for name in ESTIMATORS}
        quarters[model] = run_repeats(network, NETWORK, "H", edges)
        of_all = run_repeats(full, "optimal", "H", EDGES), run_repeats(network, NETWORK, "H", EDGES)
        made[side] = Comparison(white[side], correlated[side], *of_all, floor, quarters)
    return made


def print_side(side: str, result: Comparison) -> None:
    """Print the figures of one half of the sky."""
    print(f"\n{side}ern half of the sky; relative error found on the other half: {result.floor:.4f}")
    scales = zip(result.full.exposure_id, result.full.scales, result.full.scales_err, strict=True)
    print("flux scales:", ", ".join(f"{name} {scale:.4f} ± {error:.4f}" for name, scale, error in scales))
    print(
        f"{'magnitude':>10}{'pairs':>7}{'scatter':>9}{'white':>8}{'correl.':>9}{'+ floor':>9}"
        f"{'network: scatter':>18}{'D':>7}   (σ68 of D)"
    )
    for number, n in enumerate(result.full.difference.n_pairs):
        low, high = EDGES[number : number + 2]
        spreads = [kind.difference.sigma68[number] for kind in (result.white, result.correlated, result.full)]
        columns = (
            f"{result.full.relative_scatter[number]:>9.3f}{spreads[0]:>8.2f}{spreads[1]:>9.2f}{spreads[2]:>9.2f}"
            f"{result.network.relative_scatter[number]:>18.3f}{result.network.difference.sigma68[number]:>7.2f}"
        )
        print(f"{f'{low:.0f}-{high:.0f}':>10}{n:>7}{columns}")
    edges = next(iter(result.quarters.values())).edges[1:-1]
    print(f"quarters by magnitude, faintest first, edges {', '.join(f'{edge:.2f}' for edge in edges[::-1])}")
    print(f"{'estimator':>14}{'σ68 of D':>28}{'median of D':>32}{'error of the median':>28}")
    for name, repeats in result.quarters.items():
        found = repeats.difference
        columns = [
            "".join(f"{value:>{7}.2f}" for value in values[::-1])
            for values in (found.sigma68, found.median, found.median_err)
        ]
        print(f"{name:>14}{'    '.join(columns)}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="generic", help="shipped model or model folder")
    parser.add_argument(
        "--psf", default="moffat", choices=["moffat", "auto"], help="auto: empirical where stars prefer it"
    )
    arguments = parser.parse_args()
    for side, result in compare(arguments.data, arguments.out, arguments.model, arguments.psf).items():
        print_side(side, result)


if __name__ == "__main__":
    main()
