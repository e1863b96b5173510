"""Labelled stamps whose noise-free background is known, and the population's own prior of their fluxes.

Two sets. ``contaminated``: galaxies on random places of simulated PAUCam exposures with all that spoils them
(neighbours, stars, scattered light, gradients, cosmic rays, ghosts, satellites). ``clean``: the same with nothing but
a constant sky. Galaxies, magnitudes and bands follow the population. The exposures are those of the training pools
with another seed. ``bench_fluxes.py`` makes them and prints what methods say of them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, Float32Array, FloatArray
from lumos.errors import LumosValueError
from lumos.images.stamps import cut_stamps
from lumos.pdf import FluxPrior, LogPrior, catalogue_prior
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import expose_known, simulate_survey
from lumos.simulate.field import draw_field
from lumos.simulate.plan import plan_exposures
from lumos.simulate.population import load_population
from lumos.simulate.settings import SurveySimulation
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.surveys import load_survey
from lumos.teahupoo.flux_prior import PopulationPrior
from lumos.teahupoo.settings import StampSettings
from lumos.teahupoo.simulated import SimulatedStamps
from lumos.teahupoo.simulator import StampSimulator

__all__ = ["KINDS", "MAG_RANGE", "LimitSet", "Priors", "build_limit_set", "learn_priors", "log_prior_of", "prior_of"]

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

    @cached_property
    def exact_error(self) -> FloatArray:
        """Return the error of the flux where everything else is known, image units, shape (n,): no one's is smaller."""
        return self.error_at(self.truth)

    def error_at(self, flux: FloatArray) -> FloatArray:
        """Return the exact error that fluxes of shape (n,) would have."""
        profile = self.stamps.profile.double().numpy()
        light = np.maximum(flux, 0)[:, None, None] * profile
        variance = self.variance + light / self.stamps.gain.double().numpy()[:, None, None]
        return np.asarray((self.good * profile**2 / variance).sum((1, 2)) ** -0.5)

    @property
    def neighbours(self) -> FloatArray:
        """Return what other light adds to the flux under optimal weights, in units of the exact error, shape (n,)."""
        profile, good = self.stamps.profile.double().numpy(), self.good
        size = profile.shape[1]
        y, x = np.mgrid[:size, :size] - size // 2
        rim = (np.hypot(y, x) > 0.4 * size) & good
        level = np.nanmedian(np.where(rim, self.expected, np.nan), axis=(1, 2))
        weight = good * profile / self.variance
        return np.asarray((weight * (self.expected - level[:, None, None])).sum((1, 2)) * self.exact_error)

    def groups(self, expected: FloatArray) -> dict[str, AnyArray]:
        """Return groups of stamps: where pixels decide and where the prior does, bands, neighbours.

        By the signal-to-noise ratio of fluxes that the catalogue leads to expect: chosen by their true fluxes, no
        group would have uniform PIT values.
        """
        snr, wave = expected / self.error_at(expected), np.array([int(band[2:]) for band in self.pool.bands])
        wave = wave[self.stamps.band]
        found = {"all": snr > -np.inf, "S/N < 1.5": snr < 1.5, "S/N 1.5-5": (snr >= 1.5) & (snr < 5)}
        found |= {"S/N > 5": snr >= 5}
        found |= {f"{low}-{low + 100} nm": (wave > low) & (wave < low + 100) for low in (450, 550, 650, 750)}
        if self.kind == "contaminated":
            light = np.abs(self.neighbours)
            found |= {"neighbours < 0.3": light < 0.3, "neighbours 0.3-1": (light >= 0.3) & (light < 1)}
            found |= {"neighbours 1-3": (light >= 1) & (light < 3), "neighbours > 3": light >= 3}
        return found

    @property
    def nanojansky(self) -> FloatArray:
        """Return the flux in nJy of one image unit, shape (n,)."""
        return np.asarray(10 ** (0.4 * (AB_ZEROPOINT_NJY - self.stamps.zeropoint)))


@dataclass(frozen=True)
class Priors:
    """Densities of the flux given what a catalogue says.

    Parameters
    ----------
    exact : PopulationPrior
        Given band, magnitude, size, index and axis ratio: all that estimators are told.
    blind : FluxPrior
        Given band and magnitude alone, as ``lumos coadd`` learns it.
    """

    exact: PopulationPrior
    blind: FluxPrior


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


def learn_priors(bands: tuple[str, ...], folder: Path) -> Priors:
    """Return the densities of the flux in the simulated population, or read again what an earlier call left."""
    population, passbands = load_population(), {band: PAUCAM_PASSBANDS[band] for band in bands}
    kept = folder / "priors.json"
    if not kept.exists():
        exact = PopulationPrior.learn(population, passbands, MAG_RANGE)
        galaxies = population.draw(5_000, np.random.default_rng(1000), MAG_RANGE)
        flux = galaxies.band_flux(list(passbands.values()))
        band = np.broadcast_to(np.arange(len(bands)), flux.shape)
        blind = FluxPrior.fit(flux.ravel(), np.repeat(galaxies.ref_mag, len(bands)), band.ravel(), bands)
        kept.write_text(json.dumps([prior.to_dict() for prior in (exact.discs, exact.spheroids, blind)]))
    discs, spheroids, blind = (FluxPrior.from_dict(content) for content in json.loads(kept.read_text()))
    if discs.bands != bands:
        raise LumosValueError(f"bands of {kept}", discs.bands, bands)
    return Priors(PopulationPrior(population, discs, spheroids), blind)


def prior_of(
    stamps: SimulatedStamps, pool: BackgroundPool, priors: Priors, *, shape: bool = True
) -> tuple[LogPrior, FloatArray]:
    """Return the prior of the stamps' galaxies as arguments of ``product``, nJy, given what their catalogue says."""
    scale = np.array([exposure.pixel_scale for exposure in pool.exposures])[stamps.exposure]
    band, mag, seen = stamps.band.astype(np.int64), stamps.ref_mag, stamps.catalog
    if not shape:
        return catalogue_prior(priors.blind, mag, band)
    return priors.exact.given(band, mag, seen.half_light_radius * scale, seen.sersic_n, seen.axis_ratio)


def log_prior_of(made: LimitSet, priors: Priors, *, shape: bool = True) -> Callable[[FloatArray], FloatArray]:
    """Return the logarithm of the prior's density for fluxes in image units, shape (n, m)."""
    log_prior, _ = prior_of(made.stamps, made.pool, priors, shape=shape)
    unit, rows = made.nanojansky[:, None], np.arange(len(made.stamps))
    return lambda flux: log_prior(flux * unit, rows)
