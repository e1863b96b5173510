"""How good are the fluxes? Networks, classical estimators and the limits, on the same stamps with the same prior.

Prints, for clean and contaminated stamps, the table of ``limit_stamps.py`` with every network in it; the ratios that
the goals name; PIT and pulls of the networks in bins of magnitude, size, PSF and place on the CCD; errors of the
catalogue's parameters; and coadds of five exposures.

Run: ``python benchmarks/bench_fluxes.py --folder /somewhere --models paucam-mock paucam-mock-posterior``
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

from limit_stamps import (
    KINDS,
    MAG_RANGE,
    LimitSet,
    Prediction,
    build_limit_set,
    classical_predictions,
    limit_predictions,
    population_prior,
    table,
)
from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.nets.checkpoint import load_model, shipped_models
from lumos.nets.inputs import NetworkInputs
from lumos.nets.model import FluxModel
from lumos.pdf import FluxPdf, FluxPrior, GaussianMixture, posterior
from lumos.pdf.coadd import catalogue_prior, product
from lumos.simulate.backgrounds import BackgroundPool
from lumos.simulate.population import load_population
from lumos.simulate.sed import PAUCAM_PASSBANDS
from lumos.simulate.stamp_settings import CatalogScatter, StampSettings
from lumos.simulate.stamp_simulator import StampSimulator
from lumos.simulate.stamps import GalaxyProfiles, SimulatedStamps, simulate_stamps
from lumos.training.data import describe_inputs
from lumos.validate.calibration import binned_pdf_metrics, metrics_table, pdf_metrics

#: Edges of the bins in which PDFs must be true.
BINS = {
    "magnitude": np.array([17.5, 20.0, 21.0, 21.75, 22.25, 22.6, 23.0]),
    "half-light radius (px)": np.array([0.0, 1.2, 1.8, 2.6, 20.0]),
    "PSF FWHM (px)": np.array([0.0, 3.3, 3.8, 4.4, 12.0]),
    "CCD x": np.array([0.0, 0.08, 0.3, 0.7, 0.92, 1.0]),
    "CCD y": np.array([0.0, 0.08, 0.3, 0.7, 0.92, 1.0]),
    "sub-pixel x": np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
}
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
    prior: FluxPrior

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
        mag, band = (self.gather(lambda stamps, name=name: getattr(stamps, name)) for name in ("ref_mag", "band"))
        return posterior(self.mixture, self.prior, mag, band.astype(np.int64))

    def predictions(self) -> dict[str, Prediction]:
        """Return what goes into the table, image units."""
        name, factor = self.model.config.name, 1 / self.unit
        if self.model.config.kind == "posterior":
            return {name: Prediction.of_pdf(self.mixture.scale(factor))}
        own = self.mixture.scale(factor)
        likelihood = Prediction({"peak": own.peak(), "median": own.quantile(0.5)})
        return {name: likelihood, f"{name} x prior": Prediction.of_pdf(self.posterior.scale(factor))}


def print_ratios(predictions: dict[str, Prediction], made: LimitSet) -> None:
    """Print scatter over that of the references which the goals name; the lower of peak and median of each."""

    def scatter(name: str) -> float:
        values = []
        for flux in predictions[name].points.values():
            low, high = np.nanquantile((flux - made.truth) / made.truth, [0.16, 0.84])
            values.append((high - low) / 2)
        return float(min(values))

    references = ["optimal", "matched filter x prior", "exact, background known", "exact, level unknown", "prior alone"]
    references.append("optimal, background known")
    print(f"\n{made.kind}: scatter over that of {', '.join(references)}")
    for name in predictions:
        print(f"  {name:28}" + "".join(f"{scatter(name) / scatter(reference):8.3f}" for reference in references))


def print_bins(measured: Measured) -> None:
    """Print PIT and pulls over all stamps and in bins of what should not matter."""
    values: dict[str, Callable[[SimulatedStamps], FloatArray]] = {
        "magnitude": lambda stamps: stamps.ref_mag,
        "half-light radius (px)": lambda stamps: stamps.truth.half_light_radius,
        "PSF FWHM (px)": lambda stamps: stamps.psf_fwhm,
        "CCD x": lambda stamps: stamps.ccd_x_norm,
        "CCD y": lambda stamps: stamps.ccd_y_norm,
        "sub-pixel x": lambda stamps: stamps.truth.x % 1,
    }
    print(f"\n{measured.model.config.name}, posteriors, catalogue errors as in training; points are medians")
    results = {"all": pdf_metrics(measured.posterior, measured.truth, "median")}
    for name, edges in BINS.items():
        bins = binned_pdf_metrics(measured.posterior, measured.truth, measured.gather(values[name]), edges, "median")
        labels = [f"{name} {low:g}-{high:g}" for low, high in pairwise(edges)]
        results |= dict(zip(labels, bins, strict=True))
    print(metrics_table(results), flush=True)


def print_catalog_errors(models: list[FluxModel], made: LimitSet, prior: FluxPrior, n: int) -> None:
    """Print how PDFs fare when the catalogue is wrong."""
    for model in models:
        results = {}
        for name, errors in ERRORS.items():
            settings = StampSettings(batch_size=n, mag_range=MAG_RANGE, catalog_scatter=CatalogScatter(**errors))
            stamps = StampSimulator(made.pool, load_population(), settings, 30).batch(0)
            measured = Measured(model, [stamps], made.pool, prior)
            results[name] = pdf_metrics(measured.posterior, measured.truth, "median")
        print(f"\n{model.config.name}, catalogue parameters with errors")
        print(metrics_table(results), flush=True)


def repeated_stamps(pool: BackgroundPool, n: int, n_exposures: int, seed: int) -> list[SimulatedStamps]:
    """Return the same n galaxies, each in one band, on the backgrounds of several exposures."""
    rng = np.random.default_rng(seed)
    galaxies = load_population().draw(n, rng, MAG_RANGE)
    band = rng.integers(len(pool.bands), size=n)
    every = galaxies.band_flux([PAUCAM_PASSBANDS[name] for name in pool.bands])
    flux = every[np.arange(n), band]
    rows_of = [np.flatnonzero(pool.band == number) for number in range(len(pool.bands))]
    made = []
    for _ in range(n_exposures):
        backgrounds = pool.take(np.array([rng.choice(rows_of[number]) for number in band]))
        x, y = 30 + rng.uniform(-0.5, 0.5, (2, n))
        truth = GalaxyProfiles(
            half_light_radius=galaxies.half_light_radius / backgrounds.pixel_scale,
            sersic_n=galaxies.sersic_n,
            axis_ratio=galaxies.axis_ratio,
            theta=np.deg2rad(galaxies.position_angle),
            x=x,
            y=y,
        )
        image_flux = flux * 10 ** (0.4 * (backgrounds.zeropoint - AB_ZEROPOINT_NJY))
        made.append(simulate_stamps(backgrounds, truth, image_flux, rng, ref_mag=galaxies.ref_mag))
    return made


def print_coadds(models: list[FluxModel], made: LimitSet, prior: FluxPrior, n: int, n_exposures: int = 5) -> None:
    """Print PIT and pulls of the product of likelihoods with the prior once, and of the product of posteriors."""
    repeats = repeated_stamps(made.pool, n, n_exposures, 40)
    mag, band = repeats[0].ref_mag, repeats[0].band.astype(np.int64)
    index = np.tile(np.arange(n), n_exposures)
    results = {}
    for model in models:
        measured = Measured(model, repeats, made.pool, prior)
        truth = measured.truth[:n]
        if model.config.kind == "likelihood":
            pdf, _ = product(measured.mixture, index, n, *catalogue_prior(prior, mag, band))
            results[f"{model.config.name}: likelihoods x prior once"] = pdf_metrics(pdf, truth, "median")
        naive, _ = product(measured.posterior, index, n)
        results[f"{model.config.name}: product of posteriors"] = pdf_metrics(naive, truth, "median")
    print(f"\nCoadds of {n_exposures} exposures, {n} galaxies")
    print(metrics_table(results), flush=True)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where exposures are kept")
    parser.add_argument("--models", nargs="+", default=list(shipped_models()), help="names or folders")
    parser.add_argument("--n", type=int, default=4000, help="stamps of each kind")
    parser.add_argument("--n-batches", type=int, default=3, help="batches of that many stamps for PIT and bins")
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    models = [load_model(name) for name in options.models]
    if any(model.config.cut_from is not None for model in models):
        parser.error("--models: PDFs that are cut at flux 0 for some galaxies only are not compared here")
    prior = None
    for kind in KINDS:
        made = build_limit_set(kind, options.n, options.seed, options.folder)
        prior = prior or population_prior(made.pool.bands)
        predictions = classical_predictions(made) | limit_predictions(made, prior)
        for model in models:
            predictions |= Measured(model, [made.stamps], made.pool, prior).predictions()
        print(table(made, predictions), flush=True)
        print_ratios(predictions, made)
        if kind == "contaminated":
            # The prior knows magnitude and band alone; whether PDFs are true at each size is up to it, too.
            exact, radius = predictions["exact, background known"].pdf, made.stamps.truth.half_light_radius
            bins = binned_pdf_metrics(exact, made.truth, radius, BINS["half-light radius (px)"], "median")
            labels = [f"exact, radius {low:g}-{high:g} px" for low, high in pairwise(BINS["half-light radius (px)"])]
            print("\n" + metrics_table(dict(zip(labels, bins, strict=True))), flush=True)
        if kind == "contaminated":
            for model in models:
                # PDFs hold the errors of the catalogue that training knew.
                scatter = model.config.training["settings"]["stamps"]["catalog_scatter"]
                drawing = StampSettings(batch_size=options.n, mag_range=MAG_RANGE, catalog_scatter=scatter)
                source = StampSimulator(made.pool, load_population(), drawing, options.seed + 1)
                batches = [source.batch(number) for number in range(options.n_batches)]
                print_bins(Measured(model, batches, made.pool, prior))
            print_catalog_errors(models, made, prior, options.n)
            print_coadds(models, made, prior, options.n)


if __name__ == "__main__":
    main()
