"""How well could fluxes be measured at all? Labelled stamps whose noise-free background is known, and their limits.

Two sets. ``contaminated``: galaxies on random places of simulated PAUCam exposures with all that spoils them
(neighbours, stars, scattered light, gradients, cosmic rays, ghosts, satellites). ``clean``: the same with nothing but
a constant sky. Galaxies, magnitudes and bands follow the population, and the prior of every PDF is the density of the
flux given magnitude and band in that population. The exposures are those of the training pools with another seed.

The table has the scatter sigma68 of (f - f0) / f0 over all, faint (i > 22) and bright (i < 20.5) galaxies, its median,
and for PDFs the Kolmogorov-Smirnov distance of the PIT from uniform and the mean of ln(p(f0) f0), of which each galaxy
counts at least -20 (a truth outside the nodes has no probability). "known" and "level unknown" hold the true expected
background, contaminants included; in the contaminated set the second has a free constant beside it.

Run: ``python benchmarks/limit_stamps.py --folder /somewhere`` (the folder keeps the exposures for the next run)
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kstest

from lumos.conventions import AB_ZEROPOINT_NJY, Float32Array, FloatArray
from lumos.errors import LumosValueError
from lumos.estimators import ESTIMATORS
from lumos.images.stamps import cut_stamps
from lumos.measure.background_settings import BackgroundSettings
from lumos.measure.backgrounds import make_backgrounds
from lumos.pdf.base import FluxPdf
from lumos.pdf.prior import FluxPrior
from lumos.settings import load_simulation
from lumos.simulate.backgrounds import BackgroundPool
from lumos.simulate.exposures import expose_known, simulate_survey
from lumos.simulate.plan import plan_exposures
from lumos.simulate.population import load_population
from lumos.simulate.scene import draw_field
from lumos.simulate.sed import PAUCAM_PASSBANDS
from lumos.simulate.settings import SurveySimulation
from lumos.simulate.stamp_settings import StampSettings
from lumos.simulate.stamp_simulator import StampSimulator
from lumos.simulate.stamps import SimulatedStamps
from lumos.surveys import load_survey
from lumos.validate.limits import grid_posterior, matched_filter_posterior, prior_only
from lumos.validate.statistics import sigma68

__all__ = [
    "KINDS",
    "LimitSet",
    "Prediction",
    "build_limit_set",
    "classical_predictions",
    "limit_predictions",
    "log_prior_of",
    "population_prior",
    "table",
]

#: As the training pools; one exposure of each of the 40 bands in each of the two states, each of its own field.
_SURVEY = ("fields=separate", "exposures_per_band=2", "camera.detectors=1", "camera.shape=[2048,1024]")
_NOTHING = (
    "sky.galaxies=1e-6",
    "sky.stars=0",
    "background.gradient=0",
    "background.scattered_light={}",
    *(f"artefacts.{name}=0" for name in ("cosmic_rays", "satellites", "ghosts", "hot_pixels", "dead_columns")),
)
KINDS = {"contaminated": _SURVEY, "clean": _SURVEY + _NOTHING}
MAG_RANGE = (17.5, 23.0)
_LEAST_SCORE = -20.0


@dataclass(frozen=True)
class LimitSet:
    """n labelled stamps with all that the simulation knows of their background.

    Parameters
    ----------
    kind : str
        ``contaminated`` or ``clean``.
    stamps : SimulatedStamps
        What estimators and networks get, and the truth.
    expected : float32 array, shape (n, size, size)
        Background of the small stamps without noise, contaminants included, where pixels are good; image units.
    variance : float32 array, shape (n, size, size)
        True variance of the noise without the galaxy's own photons; image units squared.
    pool : BackgroundPool
        Backgrounds that the stamps were drawn from.
    """

    kind: str
    stamps: SimulatedStamps
    expected: Float32Array
    variance: Float32Array
    pool: BackgroundPool

    @property
    def good(self) -> np.ndarray:
        """Return the usable pixels of the small stamps, bool array of shape (n, size, size)."""
        return self.stamps.good[:, self.stamps.inner, self.stamps.inner].numpy()

    @property
    def truth(self) -> FloatArray:
        """Return the true fluxes, image units, shape (n,)."""
        return self.stamps.flux.double().numpy()

    @property
    def nanojansky(self) -> FloatArray:
        """Return the flux in nJy of one image unit, shape (n,)."""
        return np.asarray(10 ** (0.4 * (AB_ZEROPOINT_NJY - self.stamps.zeropoint)))


@dataclass(frozen=True)
class Prediction:
    """What one method says about the fluxes.

    Parameters
    ----------
    points : dict of float array, shape (n,)
        Point estimates by name, image units.
    pdf : FluxPdf or None
        The PDFs, image units.
    """

    points: dict[str, FloatArray]
    pdf: FluxPdf | None = None

    @classmethod
    def of_pdf(cls, pdf: FluxPdf) -> "Prediction":
        """Return PDFs with their peaks and medians as point estimates."""
        return cls({"peak": pdf.peak(), "median": pdf.quantile(0.5)}, pdf)


def build_limit_set(kind: str, n: int, seed: int, folder: Path, *, workers: int = 1) -> LimitSet:
    """Make labelled stamps, or read again what an earlier call left in the folder.

    Parameters
    ----------
    kind : str
        ``contaminated`` or ``clean``.
    n : int
        How many stamps.
    seed : int
        Of exposures, places and galaxies; another than that of the training pools (1).
    folder : Path
        Keeps exposures, pool and expected backgrounds; of one seed.
    workers : int
        Processes that make exposures.

    Returns
    -------
    LimitSet
        The stamps.
    """
    if kind not in KINDS:
        raise LumosValueError("kind of stamps", kind, ", ".join(KINDS))
    settings = load_simulation("paucam-field", [*KINDS[kind], f"seed={seed}"])
    home = folder / f"{kind}-{seed}"
    exposures = simulate_survey(settings, home / "survey", workers=workers).exposures
    # Twice as many places as stamps that are drawn from them, so that few are drawn twice.
    cutting = BackgroundSettings(seed=seed, n_per_exposure=max(20, -(-2 * n // len(exposures))))
    pool_path = home / f"pool-{cutting.n_per_exposure}"
    make_backgrounds(exposures, pool_path, load_survey(settings.survey), cutting)
    pool = BackgroundPool.open(pool_path)
    drawing = StampSettings(batch_size=n, mag_range=MAG_RANGE)
    stamps = StampSimulator(pool, load_population(), drawing, seed).batch(0)
    kept = home / f"expected-{n}.npz"
    if not kept.exists():
        expected, variance = _expected(settings, pool, stamps)
        np.savez(kept, expected=expected, variance=variance)
    with np.load(kept) as arrays:
        expected, variance = arrays["expected"], arrays["variance"]
    made = LimitSet(kind, stamps, expected, variance, pool)
    _check_alignment(made)
    return made


def _expected(
    settings: SurveySimulation, pool: BackgroundPool, stamps: SimulatedStamps
) -> tuple[Float32Array, Float32Array]:
    """Make the exposures again, with their expectation, and cut it where the stamps were cut."""
    rows, columns = settings.camera.shape
    x, y = np.rint(stamps.ccd_x_norm * columns - 0.5), np.rint(stamps.ccd_y_norm * rows - 0.5)
    size = stamps.profile.shape[1]
    expected, variance = (np.empty((len(stamps), size, size), dtype=np.float32) for _ in range(2))
    plan = {exposure.exposure_id: exposure for exposure in plan_exposures(settings)}
    for number in np.unique(stamps.exposure):
        here = np.flatnonzero(stamps.exposure == number)
        exposure = plan[pool.exposures[number].exposure_id]
        known = expose_known(settings, exposure, 0, draw_field(settings, exposure))
        cut = cut_stamps(known.expected, x[here], y[here], size, variance=known.variance)
        assert cut.variance is not None
        # Outside the image, where every pixel is masked, any variance above 0 serves.
        expected[here], variance[here] = cut.data, np.where(cut.variance > 0, cut.variance, 1)
    return expected, variance


def _check_alignment(made: LimitSet) -> None:
    """Refuse an expectation that is not that of the stamps: the noise must have its variance."""
    good = made.good
    light = made.truth[:, None, None] * made.stamps.profile.numpy()
    gain = made.stamps.gain.double().numpy()[:, None, None]
    noise = (made.stamps.stamps.numpy() - made.expected - light)[good]
    chi2 = np.mean(noise**2 / (made.variance + np.maximum(light, 0) / gain)[good])
    # The mean over all pixels of n stamps; twice the error that Gaussian noise has leaves room for Poisson's.
    if not abs(chi2 - 1) < 20 / np.sqrt(good.sum()):
        raise LumosValueError(f"chi2 per pixel of the {made.kind} stamps", float(chi2), "1")


def population_prior(bands: tuple[str, ...], *, n: int = 5_000, seed: int = 1000) -> FluxPrior:
    """Return the density of the flux given magnitude and band of the simulated population.

    Parameters
    ----------
    bands : tuple of str
        PAUCam bands.
    n : int
        Galaxies drawn, each in every band.
    seed : int
        Of the draws.

    Returns
    -------
    FluxPrior
        In nJy.
    """
    galaxies = load_population().draw(n, np.random.default_rng(seed), MAG_RANGE)
    flux = galaxies.band_flux([PAUCAM_PASSBANDS[band] for band in bands])
    band = np.broadcast_to(np.arange(len(bands)), flux.shape)
    return FluxPrior.fit(flux.ravel(), np.repeat(galaxies.ref_mag, len(bands)), band.ravel(), bands)


def log_prior_of(made: LimitSet, prior: FluxPrior) -> Callable[[FloatArray], FloatArray]:
    """Return the logarithm of the prior's density for fluxes in image units, shape (n, m)."""
    unit, mag, band = made.nanojansky[:, None], made.stamps.ref_mag, made.stamps.band

    def log_prior(flux: FloatArray) -> FloatArray:
        return prior.log_pdf(flux * unit, mag, band)

    return log_prior


def classical_predictions(made: LimitSet) -> dict[str, Prediction]:
    """Return what every classical estimator measures."""
    batch = made.stamps.to_batch()
    known = replace(
        batch,
        data=batch.data - torch.from_numpy(made.expected),
        sky_variance=torch.from_numpy(made.variance),
        background=torch.zeros_like(batch.background),
        own_light=torch.zeros_like(batch.own_light),
    )
    results = {name: estimator(batch) for name, estimator in ESTIMATORS.items()}
    # The likelihood's own peak, no prior: the floor of what a pixel likelihood can reach.
    results["optimal, background known"] = ESTIMATORS["optimal"](known)
    results["optimal, level unknown"] = ESTIMATORS["optimal_free"](known)
    return {name: Prediction({"flux": result.flux.double().numpy()}) for name, result in results.items()}


def limit_predictions(made: LimitSet, prior: FluxPrior) -> dict[str, Prediction]:
    """Return the PDFs to compare with, all with the same prior; times are printed."""
    stamps, log_prior = made.stamps, log_prior_of(made, prior)
    measured = ESTIMATORS["optimal"](stamps.to_batch())
    reference = 10 ** (0.4 * (stamps.zeropoint - stamps.ref_mag))
    pixels = (stamps.stamps.numpy(), stamps.profile.numpy(), made.expected, made.variance, stamps.gain.numpy())

    def exact(*, free_level: bool) -> FluxPdf:
        return grid_posterior(*pixels, log_prior, good=made.good, free_level=free_level)

    methods = {
        "prior alone": lambda: prior_only(log_prior, reference),
        "matched filter x prior": lambda: matched_filter_posterior(
            measured.flux.double().numpy(), measured.flux_err.double().numpy(), log_prior
        ),
        "exact, background known": lambda: exact(free_level=False),
        "exact, level unknown": lambda: exact(free_level=True),
    }
    predictions = {}
    for name, method in methods.items():
        start = time.perf_counter()
        predictions[name] = Prediction.of_pdf(method())
        print(f"  {name}: {time.perf_counter() - start:.1f} s")
    return predictions


def table(made: LimitSet, predictions: dict[str, Prediction]) -> str:
    """Return the figures of all methods as text."""
    truth, mag = made.truth, made.stamps.ref_mag
    groups = {"all": mag < np.inf, "i > 22": mag > 22, "i < 20.5": mag < 20.5}
    heads = [*groups, "bias", "PIT-KS", "log score", "lost"]
    lines = [f"{made.kind}, {len(truth)} stamps", f"{'':26}{'point':8}" + "".join(f"{head:>10}" for head in heads)]
    for name, prediction in predictions.items():
        for point, flux in prediction.points.items():
            relative = (flux - truth) / truth
            finite = np.isfinite(relative)
            figures = [f"{sigma68(relative[finite & group]):10.4f}" for group in groups.values()]
            figures.append(f"{np.median(relative[finite]):+10.4f}")
            figures += _pdf_figures(prediction.pdf, truth)
            lines.append(f"{name:26}{point:8}" + "".join(figures) + f"{np.sum(~finite):10d}")
    lines.append(f"PIT-KS of a true PDF: below {1.95 / np.sqrt(len(truth)):.4f} in 999 of 1000 runs")
    return "\n".join(lines)


def _pdf_figures(pdf: FluxPdf | None, truth: FloatArray) -> list[str]:
    if pdf is None:
        return [f"{'':10}"] * 2
    pit = pdf.pit(truth)
    score = pdf.log_pdf(truth) + np.log(truth)
    score, finite = np.maximum(score, _LEAST_SCORE), np.isfinite(pit)
    return [f"{kstest(pit[finite], 'uniform').statistic:10.4f}", f"{np.mean(score[finite]):10.4f}"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where exposures are kept; by default nowhere")
    parser.add_argument("--n", type=int, default=4000, help="stamps of each kind")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="processes that make exposures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        prior = None
        for kind in KINDS:
            start = time.perf_counter()
            made = build_limit_set(kind, options.n, options.seed, folder, workers=options.workers)
            print(f"{kind}: stamps made in {time.perf_counter() - start:.0f} s")
            start = time.perf_counter()
            prior = prior or population_prior(made.pool.bands)
            print(f"  population's prior: {time.perf_counter() - start:.1f} s")
            predictions = classical_predictions(made) | limit_predictions(made, prior)
            print(table(made, predictions), flush=True)


if __name__ == "__main__":
    main()
