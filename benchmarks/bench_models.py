"""Two models on one simulated PAUCam survey that neither was trained on: bias, scatter, pulls, PIT, by kind of galaxy.

Bias and scatter are the median and σ68 of (median of the PDF - truth) over the error of optimal weights; groups are by
the true flux over that error. *Outside*: called unlike the training.

Usage: ``python benchmarks/bench_models.py OUT``.
"""

import argparse
from pathlib import Path

import numpy as np

from lumos.catalogs.schema import list_column
from lumos.flags import UNUSABLE, Flag, has_flag
from lumos.pdf import GaussianMixture
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.statistics import pit_ks, sigma68
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth

SURVEY = (
    "bands=[NB475,NB585,NB695,NB805]",
    "fields=separate",
    "exposures_per_band=2",
    "camera.detectors=1",
    "camera.shape=[2048, 1024]",
    "seed=977",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=["generic", "paucam-mock"])
    arguments = parser.parse_args()
    out = arguments.out
    exposures = simulate_survey(load_simulation("paucam-field", SURVEY), out, workers=2).exposures
    print(f"{'model':<14}{'galaxies':<18}{'n':>6}{'bias':>8}{'scatter':>9}{'optimal':>9}{'pull':>7}{'KS':>7}", end="")
    print(f"{'> 5σ':>8}{'outside':>9}")
    for model in arguments.models:
        run = out / f"run_{Path(model).name}"
        settings = MeasureSettings(estimators=("optimal",), model=model)
        measure_run(exposures, out / "parent.parquet", run, load_survey("paucam"), settings, workers=2)
        table = read_shards(run)
        truth, flags = look_up_truth(table, out / "truth.parquet"), table["flags"].to_numpy()
        pdf = GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
        optimal, error = (table[f"optimal_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
        median = pdf.quantile(0.5)
        pull, pit = (median - truth) / pdf.sigma68(), pdf.pit(truth)
        usable = ~has_flag(flags, UNUSABLE) & np.isfinite(median) & np.isfinite(truth)
        blended, signal = has_flag(flags, Flag.NEIGHBOUR), truth / error
        for name, some in {
            "S/N < 5": usable & ~blended & (signal < 5),
            "S/N 5-20": usable & ~blended & (signal >= 5) & (signal < 20),
            "S/N > 20": usable & ~blended & (signal >= 20),
            "with a neighbour": usable & blended,
        }.items():
            off, simple = ((median - truth) / error)[some], ((optimal - truth) / error)[some]
            print(
                f"{Path(model).name:<14}{name:<18}{some.sum():>6}{np.median(off):>+8.3f}{sigma68(off):>9.3f}"
                f"{sigma68(simple):>9.3f}{sigma68(pull[some]):>7.3f}{pit_ks(pit[some])[0]:>7.3f}"
                f"{np.mean(np.abs(pull[some]) > 5):>8.2%}{np.mean(has_flag(flags[some], Flag.OUT_OF_DOMAIN)):>9.2%}"
            )


if __name__ == "__main__":
    main()
