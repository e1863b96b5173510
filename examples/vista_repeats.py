"""Five VISTA exposures of one sky: make PSFs and a catalogue, measure, and compare the exposures with each other.

Usage: ``python examples/vista_repeats.py DATA OUT``, where DATA holds ``image_1.fits`` … ``image_5.fits``.
Nothing but the images is needed: PSFs come from their stars, the catalogue from the sharpest of them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.catalogs.parent import ParentCatalog, read_parent, write_parent
from lumos.measure.run import measure_run
from lumos.measure.settings import NETWORK, CatalogSettings, MeasureSettings, NoiseSettings, PsfSettings
from lumos.surveys import load_survey
from lumos.validate.repeats import Repeats, fit_relative_floor, run_repeats
from lumos.workflows import make_catalog, make_psfs

EDGES = np.array([15.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0])
#: Brighter than this the sky's noise is not what limits a measurement.
BRIGHT = 19.0


@dataclass(frozen=True)
class Comparison:
    """Repeats of the objects of one half of the sky: optimal weights with errors of three kinds, and the network."""

    white: Repeats
    correlated: Repeats
    full: Repeats
    network: Repeats
    floor: float
    """Relative error in ``full``, found on the other half."""


def half(catalog: ParentCatalog, *, east: bool) -> ParentCatalog:
    """Return the objects of one half of the sky."""
    return catalog[(catalog.ra >= np.median(catalog.ra)) == east]


def compare(data: Path, out: Path, model: str = "generic") -> dict[str, Comparison]:
    """Measure each half of the sky with the relative error found on the other."""
    images, survey = sorted(data.glob("image_*.fits")), load_survey("vircam")
    if not (out / "parent.parquet").exists():
        make_psfs(images, out / "psf", survey, PsfSettings())
        make_catalog(images[2], out / "parent.parquet", survey, CatalogSettings(), psf_dir=out / "psf")
    whole = read_parent(out / "parent.parquet")

    def repeats(side: str, kind: str, estimator: str = "optimal", **noise: object) -> Repeats:
        parent, run = out / f"{side}.parquet", out / f"{side}_{kind}"
        if not parent.exists():
            write_parent(half(whole, east=side == "east"), parent)
        settings = MeasureSettings(
            estimators=("optimal",),
            model=model if estimator == NETWORK else None,
            noise=NoiseSettings.model_validate(noise),
        )
        report = measure_run(images, parent, run, survey, settings, psf_dir=out / "psf", workers=2)
        assert not report.failed, report.failed
        return run_repeats(run, estimator, "H", EDGES)

    sides = ("east", "west")
    white = {side: repeats(side, "white", correlation="none") for side in sides}
    correlated = {side: repeats(side, "correlated") for side in sides}
    floors = {
        side: round(fit_relative_floor(correlated[other], BRIGHT), 4)
        for side, other in zip(sides, reversed(sides), strict=True)
    }
    full = {side: repeats(side, "full", relative_floor=floors[side]) for side in sides}
    network = {side: repeats(side, "network", NETWORK) for side in sides}
    return {side: Comparison(white[side], correlated[side], full[side], network[side], floors[side]) for side in sides}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="generic", help="shipped model or model folder")
    arguments = parser.parse_args()
    for side, result in compare(arguments.data, arguments.out, arguments.model).items():
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


if __name__ == "__main__":
    main()
