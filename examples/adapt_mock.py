"""Adapt a model to a simulated survey that differs from those that it was trained on, and compare with the truth.

Usage: ``python examples/adapt_mock.py OUT``. The survey has a PSF with wider wings (Moffat exponent 2.5 to 3, stated in
the header, where the training had 4.8), structure in the sky of 2 per cent, and sizes in the catalogue that err by
5 per cent. The model is ``paucam-mock``. Pairs of exposures and injected galaxies of one half of the sky train it; all
figures are of the other half: those of ``adapt.json``, and the PIT, bias and pulls of the survey's own galaxies.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lumos.adaptation.compare import figures_table
from lumos.adaptation.pairs import choose_pairs
from lumos.adaptation.run import adapt_model
from lumos.adaptation.settings import AdaptSettings
from lumos.catalogs.parent import read_parent, write_parent
from lumos.catalogs.schema import list_column
from lumos.files import read_json
from lumos.flags import UNUSABLE
from lumos.pdf import FluxPrior, GaussianMixture, posterior
from lumos.photometry.measured import open_run
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth
from lumos.validate.calibration import PdfMetrics, metrics_table, pdf_metrics

MODEL = "paucam-mock"
OVERRIDES = (
    "camera.shape=[1536,1536]",
    "exposures_per_band=6",
    "seed=11",
    "seeing.beta=[2.5,3.0]",
    "background.structure=[0.02,0.02]",
)
SIZE_ERROR = 0.05


def build(out: Path) -> tuple[list[Path], Path]:
    """Simulate the survey; return its exposures and a catalogue with errors of the sizes."""
    exposures = sorted(simulate_survey(load_simulation("paucam-mini", OVERRIDES), out, workers=2).exposures)
    catalog = out / "wrong_sizes.parquet"
    if not catalog.exists():
        parent = read_parent(out / "parent.parquet")
        error = np.exp(SIZE_ERROR * np.random.default_rng(12).standard_normal(len(parent)))
        write_parent(replace(parent, half_light_radius=parent.half_light_radius * error), catalog)
    return exposures, catalog


def measure(exposures: list[Path], catalog: Path, model: str, run: Path) -> None:
    """Measure the survey with a model."""
    settings = MeasureSettings(estimators=("optimal",), model=model)
    report = measure_run(exposures, catalog, run, load_survey("paucam"), settings, workers=2)
    assert not report.failed, report.failed


def population_prior(out: Path) -> FluxPrior:
    """Return the prior that the simulated galaxies follow."""
    table = pq.read_table(out / "truth.parquet")
    table = table.filter(table["in_catalog"])
    bands = np.array(table["band"].to_pylist())
    return FluxPrior.fit(table["flux"], table["ref_mag"], bands, sorted(set(bands)))


def against_truth(out: Path, run: Path, settings: AdaptSettings, prior: FluxPrior) -> PdfMetrics:
    """Return figures of the posteriors of single exposures on the held-out half of the sky."""
    table = read_shards(run)
    parts = choose_pairs(open_run(run), settings.n_pairs, settings.held_out, np.random.default_rng([settings.seed, 0]))
    usable = ((table["flags"].to_numpy() & int(UNUSABLE)) == 0) & parts.is_held_out(table["ra"].to_numpy())
    table = table.filter(usable)
    truth = look_up_truth(table, out / "truth.parquet")
    catalog = read_parent(out / "parent.parquet")
    order = np.argsort(catalog.object_id)
    place = np.searchsorted(catalog.object_id[order], table["object_id"].to_numpy())
    mags = catalog.ref_mag[order][place]
    likelihood = GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
    return pdf_metrics(posterior(likelihood, prior, mags, np.array(table["band"].to_pylist())), truth, "median")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    options = parser.parse_args()
    exposures, catalog = build(options.out)
    settings = AdaptSettings(n_pairs=8000, n_injected=8000, learning_rate=options.learning_rate)
    adapted = options.out / f"adapted_{options.learning_rate:g}"
    prior, results = population_prior(options.out), {}
    measure(exposures, catalog, MODEL, options.out / "run")
    results["before"] = against_truth(options.out, options.out / "run", settings, prior)
    print(adapt_model(MODEL, options.out / "run", adapted, settings, force=True))
    run = options.out / f"run_{adapted.name}"
    measure(exposures, catalog, str(adapted), run)
    results["after"] = against_truth(options.out, run, settings, prior)
    report = read_json(adapted / "adapt.json")
    print(f"\nheld-out half, {report['held_out']['n_pairs']} pairs, {sum(report['held_out']['n_injected'])} injected")
    print(figures_table(report["held_out"]))
    print("\nits own galaxies against the truth, likelihoods × prior of the simulation, single exposures")
    print(metrics_table(results))
    print("beyond the limits:", "; ".join(report["excesses"]) or "nothing")


if __name__ == "__main__":
    main()
