"""How good are the fluxes? Networks, classical estimators and the limits, on the same stamps with the same prior.

Prints, for clean and contaminated stamps, the tables of ``limit_tables.py`` with every network in it: pixels alone and
with the prior, over all stamps and where pixels decide (S/N > 5), by band and by what neighbours add; PIT by size; PIT
and pulls of the networks' posteriors in bins of magnitude, size, PSF and band; pulls where the catalogue is wrong.
Coadds and the place on the CCD need one field that many exposures share: ``bench_one_field.py``.

Run: ``python benchmarks/bench_fluxes.py --folder /somewhere`` (the folder keeps exposures and prior for the next run)
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from limit_stamps import KINDS, MAG_RANGE, LimitSet, Priors, build_limit_set, learn_priors, prior_of
from limit_tables import BOUND, Prediction, classical_predictions, group_tables, limit_predictions, table
from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.estimators import ESTIMATORS
from lumos.nets.checkpoint import load_model, shipped_models
from lumos.nets.inputs import NetworkInputs
from lumos.nets.model import FluxModel
from lumos.pdf import FluxPdf, GaussianMixture, GridPdf, product
from lumos.pools.pool import BackgroundPool
from lumos.simulate.population import load_population
from lumos.statistics import sigma68
from lumos.teahupoo.settings import CatalogScatter, ProposalSettings, StampSettings
from lumos.teahupoo.simulated import SimulatedStamps
from lumos.teahupoo.simulator import StampSimulator
from lumos.training.data import describe_inputs
from lumos.validate.calibration import binned_pdf_metrics, metrics_table, pdf_metrics

#: Edges of the bins in which PDFs must be true.
BINS = {
    "magnitude": np.array([17.5, 20.0, 21.0, 21.75, 22.25, 22.6, 23.0]),
    "half-light radius (px)": np.array([0.0, 1.2, 1.8, 2.6, 20.0]),
    "PSF FWHM (px)": np.array([0.0, 3.3, 3.8, 4.4, 12.0]),
    "sub-pixel x": np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    "wavelength (nm)": np.array([450.0, 550.0, 650.0, 750.0, 850.0]),
}
#: Fluxes over their errors at which errors of the catalogue are tried.
BRIGHT = (30, 100)
#: Catalogue errors of 10 per cent, one parameter at a time and all together.
ERRORS = {
    "no errors": {},
    "half-light radius 10 %": {"half_light_radius": 0.1},
    "Sersic index 10 %": {"sersic_n": 0.1},
    "axis ratio 0.1": {"axis_ratio": 0.1},
    "PSF FWHM 10 %": {"psf_fwhm": 0.1},
    "all of them": {"half_light_radius": 0.1, "sersic_n": 0.1, "axis_ratio": 0.1, "psf_fwhm": 0.1},
}


@dataclass(frozen=True)
class Measured:
    """What a network says of batches of stamps, in nJy."""

    model: FluxModel
    batches: list[SimulatedStamps]
    pool: BackgroundPool
    priors: Priors | None = None

    def gather(self, values: Callable[[SimulatedStamps], FloatArray]) -> FloatArray:
        """Return a quantity of all stamps."""
        return np.concatenate([values(stamps) for stamps in self.batches])

    @cached_property
    def unit(self) -> FloatArray:
        """Return the flux in nJy of an image unit."""
        return self.gather(lambda stamps: 10 ** (0.4 * (AB_ZEROPOINT_NJY - stamps.zeropoint)))

    @property
    def truth(self) -> FloatArray:
        """Return the true fluxes in nJy."""
        return self.gather(lambda stamps: stamps.flux.double().numpy()) * self.unit

    @cached_property
    def mixture(self) -> GaussianMixture:
        """Return the network's own PDFs."""
        inputs = NetworkInputs.concatenate(
            describe_inputs(stamps, self.model, self.pool).inputs for stamps in self.batches
        )
        log_weights, means, stds = (part.double().numpy() for part in self.model.predict(inputs).parameters)
        return GaussianMixture(np.exp(log_weights), means, stds).scale(self.unit)

    @cached_property
    def posterior(self) -> FluxPdf:
        """Return the posteriors: the network's own, or its likelihoods with the prior."""
        if self.model.config.kind == "posterior":
            return self.mixture
        assert self.priors is not None
        parts, start = [], 0
        for stamps in self.batches:
            rows = np.arange(len(stamps))
            likelihood = self.mixture.take(slice(start, start + len(rows)))
            pdf, _ = product(likelihood, rows, len(rows), *prior_of(stamps, self.pool, self.priors))
            parts.append(pdf)
            start += len(rows)
        nodes, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("nodes", "log_density"))
        return GridPdf(nodes, values)

    def predictions(self) -> dict[str, Prediction]:
        """Return what goes into the table, image units."""
        name, factor = self.model.config.name, 1 / self.unit
        own = self.mixture.scale(factor)
        if self.model.config.kind == "posterior":
            return {name: Prediction.of_pdf(own)}
        likelihood = Prediction({"flux": own.quantile(0.5)}, error=own.sigma68())
        return {name: likelihood, f"{name} x prior": Prediction.of_pdf(self.posterior.scale(factor))}


def print_bins(measured: Measured) -> None:
    """Print PIT and pulls over all stamps and in bins of what should not matter."""
    wave = np.array([int(band[2:]) for band in measured.pool.bands])
    values: dict[str, Callable[[SimulatedStamps], FloatArray]] = {
        "magnitude": lambda stamps: stamps.ref_mag,
        "half-light radius (px)": lambda stamps: stamps.truth.half_light_radius,
        "PSF FWHM (px)": lambda stamps: stamps.psf_fwhm,
        "sub-pixel x": lambda stamps: stamps.truth.x % 1,
        "wavelength (nm)": lambda stamps: wave[stamps.band],
    }
    print(f"\n{measured.model.config.name}, posteriors, catalogue errors as in training; points are medians")
    pdf, truth = measured.posterior, measured.truth
    results = {"all": pdf_metrics(pdf, truth, "median")}
    for name, edges in BINS.items():
        bins = binned_pdf_metrics(pdf, truth, measured.gather(values[name]), edges, "median")
        labels = [f"{name} {low:g}-{high:g}" for low, high in pairwise(edges)]
        results |= dict(zip(labels, bins, strict=True))
    each = np.arange(wave.min(), wave.max() + 11, 10) - 5.0
    bands = binned_pdf_metrics(pdf, truth, measured.gather(values["wavelength (nm)"]), each, "median")
    worst = max(bands, key=lambda band: band.pit_ks)
    results[f"worst of {len(bands)} bands, NB{wave[bands.index(worst)]}"] = worst
    print(metrics_table(results), flush=True)


def print_catalog_errors(models: list[FluxModel], pool: BackgroundPool, n: int) -> None:
    """Print pulls of pixel likelihoods when the catalogue is wrong: clean stamps, fluxes of 30 and 100 sky errors."""
    print("\nPixels alone, clean stamps, errors of the catalogue: median and sigma68 of (f - f0) / (own error)")
    names = ["optimal", *(model.config.name for model in models)]
    print(f"{'':30}" + "".join(f"{f'{name}, S/N {snr}':>24}" for snr in BRIGHT for name in names))
    for title, errors in ERRORS.items():
        figures = []
        for snr in BRIGHT:
            proposal = ProposalSettings(low=snr - 0.5, high=snr + 0.5, edge=0.001)
            settings = StampSettings(
                batch_size=n,
                mag_range=MAG_RANGE,
                flux_from="proposal",
                proposal=proposal,
                catalog_scatter=CatalogScatter(**errors),
            )
            stamps = StampSimulator(pool, load_population(), settings, 30).batch(0)
            measured = ESTIMATORS["optimal"](stamps.to_batch())
            difference = (measured.flux - stamps.flux) / measured.flux_err
            figures.append(difference.double().numpy())
            for model in models:
                network = Measured(model, [stamps], pool)
                figures.append((network.mixture.quantile(0.5) - network.truth) / network.mixture.sigma68())
        cells = [f"{np.nanmedian(pull):+.2f} {sigma68(pull[np.isfinite(pull)]):.3f}" for pull in figures]
        print(f"{title:30}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where exposures are kept")
    parser.add_argument("--models", nargs="*", default=list(shipped_models()), help="names or folders")
    parser.add_argument("--n", type=int, default=4000, help="stamps of each kind")
    parser.add_argument("--n-batches", type=int, default=3, help="batches of that many stamps for PIT and bins")
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    models = [load_model(name) for name in options.models]
    if any(model.config.cut_from is not None for model in models):
        parser.error("--models: PDFs that are cut at flux 0 for some galaxies only are not compared here")
    likelihoods = [model for model in models if model.config.kind == "likelihood"]
    priors = None
    for kind in KINDS:
        made = build_limit_set(kind, options.n, options.seed, options.folder)
        priors = priors or learn_priors(made.pool.bands, options.folder)
        predictions = classical_predictions(made) | limit_predictions(made, priors)
        for model in models:
            predictions |= Measured(model, [made.stamps], made.pool, priors).predictions()
        print(table(made, predictions))
        print(group_tables(made, predictions), flush=True)
        print_sizes(made, predictions)
        if kind == "contaminated":
            for model in models:
                # PDFs hold the errors of the catalogue that training knew.
                scatter = model.config.training["settings"]["stamps"]["catalog_scatter"]
                drawing = StampSettings(batch_size=options.n, mag_range=MAG_RANGE, catalog_scatter=scatter)
                source = StampSimulator(made.pool, load_population(), drawing, options.seed + 1)
                batches = [source.batch(number) for number in range(options.n_batches)]
                print_bins(Measured(model, batches, made.pool, priors))
        else:
            print_catalog_errors(likelihoods, made.pool, options.n // 2)


def print_sizes(made: LimitSet, predictions: dict[str, Prediction]) -> None:
    """Print the PIT of exact posteriors by size: uniform where the prior knows the shape."""
    edges, radius, results = BINS["half-light radius (px)"], made.stamps.truth.half_light_radius, {}
    for name in (BOUND, "exact, shape unknown"):
        bins = binned_pdf_metrics(predictions[name].pdf, made.truth, radius, edges, "median")
        results |= {f"{name}, r {low:g}-{high:g}": one for (low, high), one in zip(pairwise(edges), bins, strict=True)}
    print(f"\n{made.kind}, by half-light radius in pixels\n" + metrics_table(results), flush=True)


if __name__ == "__main__":
    main()
