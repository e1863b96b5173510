"""Adapt ``generic`` to five VISTA exposures of one sky, to see whether agreement makes it more accurate.

Usage: ``python examples/adapt_vista.py DATA OUT``, where DATA holds ``image_1.fits`` … ``image_5.fits``. Pairs of
exposures and injected galaxies of one half of the sky train it, all figures are of the other half. The paper's preset
with both losses, with the injected galaxies alone, and with these weighted four times. Each is written, whatever the
guards say, and what they say is printed. The exposure that the catalogue was made from takes no part: faint objects
are in it where its noise made them bright. The run is left in ``OUT/run``.
"""

import argparse
from pathlib import Path

from vista_repeats import prepare

from lumos.adaptation.compare import figures_table
from lumos.adaptation.run import adapt_model
from lumos.adaptation.settings import AdaptSettings
from lumos.files import read_json
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.surveys import load_survey

#: Weights of the injected galaxies and of the pairs.
WEIGHTS = {"both losses": (1.0, 1.0), "injected galaxies alone": (1.0, 0.0), "injected galaxies four times": (4.0, 1.0)}


def main() -> None:
    """Print the figures of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    out = options.out
    images, catalog = prepare(options.data, out)
    settings = MeasureSettings(estimators=("aperture", "optimal"), model="generic")
    measure_run(images, catalog, out / "run", load_survey("vircam"), settings, psf_dir=out / "psf", workers=2)
    for name, (supervised, unsupervised) in WEIGHTS.items():
        weights = {"supervised_weight": supervised, "unsupervised_weight": unsupervised}
        adapted = out / name.replace(" ", "_")
        adapt_model("generic", out / "run", adapted, AdaptSettings(n_injected=8000, **weights), force=True)
        report = read_json(adapted / "adapt.json")
        figures = report["held_out"]
        print(f"\n{name}: {figures['n_pairs']} pairs, {sum(figures['n_injected'])} injected on the held-out half")
        print(figures_table(figures))
        for moment in ("before", "after"):
            bins = ", ".join(f"{value:.2f}" for value in figures[moment]["difference_sigma68_bins"])
            print(f"{moment}: σ68 of D, faintest to brightest quarter: {bins}")
        print("beyond the limits:", "; ".join(report["excesses"]) or "nothing", flush=True)


if __name__ == "__main__":
    main()
